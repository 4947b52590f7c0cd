//! GUPP and GC: agents that hold work and do nothing, agents that nobody needs.

use super::world::World;
use super::world::effects;
use crate::message::effect::Effect;
use object_core::time::DAY;
use object_core::time::HOUR;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::NudgePriority;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;
use serde_json::json;

fn sources(world: &mut World, agent: &AgentId) -> Vec<String> {
    world.nudges(agent).into_iter().map(|nudge| nudge.source).collect()
}

fn requests(world: &mut World) -> Vec<Bead> {
    world.beads_of(BeadType::Issue).into_iter().filter(|bead| bead.has_label(label::TRIAGE_REQUEST)).collect()
}

#[test]
fn after_15_minutes_a_silent_agent_is_warned_once_an_hour() {
    let mut world = World::new();
    let (agent, _) = world.working();
    world.idle_events(&agent, 15 * MINUTE);
    world.tick();
    assert_eq!(sources(&mut world, &agent), Vec::<String>::new());
    world.idle_events(&agent, 15 * MINUTE + 1);
    let outputs = world.tick();
    assert!(effects(&outputs).iter().any(|effect| matches!(effect, Effect::Tell { .. })), "sent at once");
    assert_eq!(sources(&mut world, &agent), ["reconciler:warn"]);
    assert_eq!(world.nudges(&agent)[0].priority, NudgePriority::Urgent);
    world.idle_events(&agent, 20 * MINUTE);
    world.tick();
    assert_eq!(sources(&mut world, &agent).len(), 1);
    world.now += HOUR;
    world.idle_events(&agent, 20 * MINUTE);
    world.tick();
    assert_eq!(sources(&mut world, &agent).len(), 2);
    assert_eq!(requests(&mut world), []);
}

#[test]
fn an_agent_that_uses_a_tool_is_not_warned() {
    let mut world = World::new();
    let (agent, _) = world.working();
    world.idle_events(&agent, 20 * MINUTE);
    world.sql("UPDATE agent_metadata SET active_tools = '[\"bash\"]'", &[]);
    world.tick();
    assert_eq!(sources(&mut world, &agent), Vec::<String>::new());
}

#[test]
fn after_an_hour_triage_is_asked_and_after_two_the_agent_is_stopped() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.idle_events(&agent, HOUR + 1);
    world.tick();
    assert_eq!(sources(&mut world, &agent), ["reconciler:escalate"]);
    let asked = requests(&mut world);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].metadata["triage_type"], json!("stuck_agent"));
    assert_eq!(asked[0].metadata["options"], json!(["RESTART", "CLOSE_BEAD", "ESCALATE"]));
    assert_eq!(asked[0].metadata["hooked_bead_id"], json!(bead));
    assert_eq!(world.agent(&agent).status, AgentStatus::Working);
    world.idle_events(&agent, 2 * HOUR + 1);
    let outputs = world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Stalled);
    assert!(effects(&outputs).iter().any(|effect| matches!(effect, Effect::Stop { agent: who, .. } if *who == agent)));
    assert_eq!(requests(&mut world).len(), 1, "the same is not asked twice");
    world.idle_events(&agent, 3 * HOUR);
    assert!(
        !effects(&world.tick()).iter().any(|effect| matches!(effect, Effect::Stop { agent: who, .. } if *who == agent))
    );
}

#[test]
fn a_stalled_agent_gives_its_work_up_after_two_and_a_half_hours() {
    let mut world = World::new();
    let (agent, _) = world.working();
    world.idle_events(&agent, 2 * HOUR + 1);
    world.tick();
    world.now += 150 * MINUTE;
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Stalled);
    world.tick_after(1);
    let found = world.agent(&agent);
    assert_eq!((found.status, found.current_hook_bead_id), (AgentStatus::Idle, None));
}

#[test]
fn the_mayor_is_never_patrolled() {
    let mut world = World::new();
    let mayor = world.mayor();
    world.set_agent_status(&mayor, &AgentStatus::Working);
    world.silence(&mayor, 5 * HOUR);
    world.tick();
    assert_eq!(world.agent(&mayor).status, AgentStatus::Working);
    assert_eq!(sources(&mut world, &mayor), Vec::<String>::new());
}

#[test]
fn the_patrol_asks_at_most_five_questions() {
    let mut world = World::new();
    let agents: Vec<_> = (0..7).map(|_| world.working().0).collect();
    world.sql("DELETE FROM rigs", &[]);
    for agent in &agents {
        world.idle_events(agent, HOUR + 1);
    }
    world.tick();
    assert_eq!(requests(&mut world).len(), 5);
}

#[test]
fn an_agent_that_nobody_needed_for_a_day_is_deleted_and_a_new_one_is_not() {
    let mut world = World::new();
    let (old, fresh, hooked, mayor) = (world.polecat(), world.polecat(), world.polecat(), world.mayor());
    let refinery = world.register(Role::Refinery, "r1");
    let (convoy, beads) = world.convoy(&[&[]], None, true);
    let _ = convoy;
    world.hook(&hooked, &beads[0]);
    world.tick();
    assert_eq!(world.agents().len(), 5, "registered is not yet old");
    world.now += DAY;
    world.silence(&fresh, DAY - SECOND);
    world.silence(&hooked, 2 * DAY);
    world.tick_after(1);
    let left: Vec<_> = world.agents().into_iter().map(|agent| agent.id).collect();
    assert!(left.contains(&fresh) && left.contains(&hooked) && left.contains(&mayor), "{left:?}");
    assert!(!left.contains(&old) && !left.contains(&refinery));
}
