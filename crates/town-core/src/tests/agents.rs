//! Agents: registered, hooked, heard of, deleted.

use super::world::START;
use super::world::World;
use super::world::rig;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::Output;
use crate::message::bead::NewBead;
use crate::message::call::AgentCall;
use crate::message::call::BeadCall;
use crate::message::call::EvictionReceipt;
use crate::message::call::TownCall;
use crate::message::effect::Effect;
use database::Database;
use object_core::time::MINUTE;
use protocol::id::AgentId;
use protocol::town::Heartbeat;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;
use serde_json::json;

fn get_or_create(world: &mut World, role: Role, of_rig: Option<&str>) -> protocol::town::agent::Agent {
    match world.call(Call::Agent(AgentCall::GetOrCreate { role, rig: of_rig.map(rig) })) {
        Answer::Agent { agent } => *agent,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_is_registered_idle_with_its_rig_and_its_identity_is_its_own() {
    let mut world = World::new();
    let agent = world.polecat();
    let found = world.agent(&agent);
    assert_eq!(
        (found.status.clone(), found.rig_id, found.last_activity_at),
        (AgentStatus::Idle, Some(rig("r1")), None)
    );
    let again = AgentCall::Register { role: Role::Polecat, name: "x".into(), identity: found.identity, rig: None };
    assert!(matches!(world.refused(Call::Agent(again)), Refusal::IdentityTaken { .. }));
    let elsewhere = AgentCall::Get { agent: agent.clone(), rig: Some(rig("r2")) };
    assert_eq!(world.refused(Call::Agent(elsewhere)), Refusal::AgentNotFound { agent });
    assert_eq!(world.count("SELECT COUNT(*) FROM beads WHERE type = 'agent'"), 1);
}

#[test]
fn the_mayor_is_one_the_refinery_is_one_per_rig_and_a_polecat_is_whoever_is_free() {
    let mut world = World::new();
    world.add_rig("r2");
    let mayor = get_or_create(&mut world, Role::Mayor, None);
    assert_eq!((mayor.name.as_str(), mayor.identity.as_str()), ("mayor", "mayor-town0001"));
    assert_eq!(get_or_create(&mut world, Role::Mayor, Some("r1")).id, mayor.id);
    let refinery = get_or_create(&mut world, Role::Refinery, Some("r1"));
    assert_eq!(refinery.identity, "refinery-refinery-r1@town0001");
    assert_eq!(get_or_create(&mut world, Role::Refinery, Some("r1")).id, refinery.id);
    assert_ne!(get_or_create(&mut world, Role::Refinery, Some("r2")).id, refinery.id);
    let toast = get_or_create(&mut world, Role::Polecat, Some("r1"));
    assert_eq!((toast.name.as_str(), toast.identity.as_str()), ("Toast", "Toast-polecat-r1@town0001"));
    assert_eq!(get_or_create(&mut world, Role::Polecat, Some("r1")).id, toast.id);
    assert_eq!(get_or_create(&mut world, Role::Polecat, Some("r2")).name, "Maple", "names are the whole town's");
    let bead = world.issue("a");
    world.hook(&toast.id, &bead);
    assert_eq!(get_or_create(&mut world, Role::Polecat, Some("r1")).name, "Birch", "a hooked one is not free");
}

#[test]
fn when_all_names_are_taken_polecats_are_numbered() {
    let mut world = World::new();
    for n in 0..22 {
        let polecat = get_or_create(&mut world, Role::Polecat, Some("r1"));
        if n >= 20 {
            assert_eq!(polecat.name, format!("Polecat-{}", n + 1));
        }
        let bead = world.issue("a");
        world.hook(&polecat.id, &bead);
    }
}

#[test]
fn hooking_assigns_and_changes_no_status_and_again_is_fine() {
    let mut world = World::new();
    let (agent, bead) = (world.polecat(), world.issue("a"));
    for _ in 0..2 {
        world.hook(&agent, &bead);
    }
    let found = world.bead(&bead);
    assert_eq!((found.status, found.assignee_agent_bead_id), (BeadStatus::Open, Some(agent.clone())));
    let holder = world.agent(&agent);
    assert_eq!((holder.status, holder.current_hook_bead_id), (AgentStatus::Idle, Some(bead.clone())));
    let other = world.issue("b");
    let refusal = world.refused(Call::Agent(AgentCall::Hook { agent: agent.clone(), bead: other }));
    assert_eq!(refusal, Refusal::AlreadyHooked { agent: agent.clone(), hook: bead });
    assert!(refusal.to_string().contains("already hooked") && refusal.to_string().ends_with("Unhook first."));
    world.done(Call::Agent(AgentCall::Unhook { agent: agent.clone() }));
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);
}

#[test]
fn a_bead_that_another_takes_leaves_the_first_hook() {
    let mut world = World::new();
    let (first, second, bead) = (world.polecat(), world.polecat(), world.issue("a"));
    world.hook(&first, &bead);
    world.hook(&second, &bead);
    assert_eq!(world.agent(&first).current_hook_bead_id, None);
    assert_eq!(world.agent(&second).current_hook_bead_id, Some(bead.clone()));
    let call = BeadCall::Reassign { bead: bead.clone(), rig: rig("r1"), agent: first.clone() };
    assert!(matches!(world.call(Call::Bead(call)), Answer::Bead { .. }));
    assert_eq!(world.agent(&second).current_hook_bead_id, None);
    assert_eq!(world.bead(&bead).assignee_agent_bead_id, Some(first));
}

#[test]
fn what_is_no_work_cannot_be_hooked() {
    let mut world = World::new();
    let agent = world.polecat();
    for kind in [BeadType::Agent, BeadType::Convoy, BeadType::Escalation, BeadType::Message] {
        let bead = world.create(NewBead::new(kind, "x"));
        let refusal = world.refused(Call::Agent(AgentCall::Hook { agent: agent.clone(), bead }));
        assert!(matches!(refusal, Refusal::NotWorkable { .. }), "{kind:?}");
    }
    let labels = vec![label::TRIAGE_REQUEST.to_owned()];
    let request = world.create(NewBead { labels, ..NewBead::new(BeadType::Issue, "q") });
    let refusal = world.refused(Call::Agent(AgentCall::Hook { agent, bead: request }));
    assert!(refusal.to_string().contains("not workable"));
}

#[test]
fn a_heartbeat_revives_only_an_idle_agent_that_holds_work() {
    let mut world = World::new();
    let (agent, bead) = (world.polecat(), world.issue("a"));
    assert_eq!(world.beat(&agent, Heartbeat::default()), None);
    assert_eq!(world.agent(&agent).status, AgentStatus::Idle, "it holds nothing");
    assert_eq!(world.agent(&agent).last_activity_at, Some(START));
    world.hook(&agent, &bead);
    world.now += MINUTE;
    world.beat(&agent, Heartbeat { last_event_type: Some("x".into()), ..Heartbeat::default() });
    let found = world.agent(&agent);
    assert_eq!((found.status, found.last_activity_at), (AgentStatus::Working, Some(START + MINUTE)));
    for kept in [AgentStatus::Working, AgentStatus::Dead, AgentStatus::Other("exited".into())] {
        world.set_agent_status(&agent, &kept);
        world.beat(&agent, Heartbeat::default());
        assert_eq!(world.agent(&agent).status, kept);
    }
    let unknown = AgentId::parse("nobody").unwrap();
    assert_eq!(world.beat(&unknown, Heartbeat::default()), None, "no error");
}

#[test]
fn a_heartbeat_does_not_forget_what_it_does_not_tell() {
    let mut world = World::new();
    let (agent, bead) = (world.polecat(), world.issue("a"));
    world.hook(&agent, &bead);
    let at = "2026-01-01T00:00:00.000Z";
    let told = Heartbeat {
        last_event_type: Some("tool".into()),
        last_event_at: Some(at.into()),
        active_tools: vec!["bash".into()],
        ..Heartbeat::default()
    };
    world.beat(&agent, told);
    world.beat(&agent, Heartbeat { last_event_at: Some("nonsense".into()), ..Heartbeat::default() });
    let kept = format!(
        "SELECT COUNT(*) FROM agent_metadata WHERE last_event_type = 'tool' AND last_event_at = '{at}' AND active_tools = '[]'"
    );
    assert_eq!(world.count(&kept), 1);
}

#[test]
fn a_checkpoint_comes_back_and_nobody_has_none() {
    let mut world = World::new();
    let agent = world.polecat();
    let data = json!({"n": [1, 2]});
    world.done(Call::Agent(AgentCall::WriteCheckpoint { agent: agent.clone(), data: data.clone() }));
    let read = |agent| Call::Agent(AgentCall::ReadCheckpoint { agent });
    assert_eq!(world.call(read(agent)), Answer::Checkpoint { data: Some(data) });
    assert_eq!(world.call(read(AgentId::parse("nobody").unwrap())), Answer::Checkpoint { data: None });
}

#[test]
fn a_deleted_agent_leaves_its_work_to_others() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.done(Call::Agent(AgentCall::Delete { agent: agent.clone() }));
    let found = world.bead(&bead);
    assert_eq!((found.status, found.assignee_agent_bead_id), (BeadStatus::Open, None));
    assert_eq!(
        world.refused(Call::Agent(AgentCall::Get { agent: agent.clone(), rig: None })),
        Refusal::AgentNotFound { agent }
    );
}

#[test]
fn a_reset_opens_the_bead_with_fresh_counters() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.set_attempts(&bead, 4, 0);
    world.done(Call::Agent(AgentCall::Reset { agent: agent.clone() }));
    let found = world.bead(&bead);
    assert_eq!((found.status, found.dispatch_attempts, found.last_dispatch_attempt_at), (BeadStatus::Open, 0, None));
    let idle = world.agent(&agent);
    assert_eq!((idle.status, idle.current_hook_bead_id, idle.dispatch_attempts), (AgentStatus::Idle, None, 0));
}

#[test]
fn a_line_about_the_work_is_kept_with_the_bead_and_shown() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.facts.viewers = 1;
    world.done(Call::Agent(AgentCall::Say { agent: agent.clone(), message: "reading".into() }));
    assert!(world.outputs.iter().any(|output| matches!(output, crate::message::Output::Broadcast(_))));
    assert_eq!(world.agent(&agent).agent_status_message.as_deref(), Some("reading"));
    assert_eq!(world.history(&bead).last().unwrap().event_type.as_str(), "agent_status");
}

#[test]
fn where_evicted_work_was_saved_is_written_into_the_bead_once() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    let saved = || EvictionReceipt {
        branch: "gt/toast/1".into(),
        agent_name: "Toast".into(),
        saved_at: "2026-01-01T00:00:00.000Z".into(),
        ..EvictionReceipt::default()
    };
    let told = |agent: &AgentId, receipt| {
        Call::Agent(AgentCall::EvictionContext { agent: agent.clone(), bead: None, receipt })
    };
    world.done(told(&agent, saved()));
    let body = world.bead(&bead).body.unwrap();
    assert!(body.contains("gt/toast/1") && body.contains("Toast") && body.contains("2026-01-01"), "{body}");
    world.done(told(&agent, saved()));
    assert_eq!(world.bead(&bead).body, Some(body));
    let told_of = world.history(&bead).into_iter().filter(|event| event.event_type == BeadEventType::AgentExited);
    assert_eq!(told_of.count(), 1);
    let free = world.polecat();
    world.done(told(&free, saved()));
}

#[test]
fn a_receipt_says_what_was_saved_and_what_was_not() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    let receipt = EvictionReceipt {
        branch: "gt/toast/1".into(),
        agent_name: "Toast".into(),
        saved_at: "2026-01-01T00:00:00.000Z".into(),
        commit: Some("abc123".into()),
        pushed: Some(false),
        reason: Some("the remote refused it".into()),
    };
    world.done(Call::Agent(AgentCall::EvictionContext { agent, bead: Some(bead.clone()), receipt }));
    let body = world.bead(&bead).body.unwrap();
    assert!(body.contains("did not reach branch `gt/toast/1` (commit abc123)"), "{body}");
    assert!(body.ends_with("Reason: the remote refused it"), "{body}");
    let event = world.history(&bead).into_iter().next_back().unwrap();
    assert_eq!(event.metadata["eviction_receipt"]["pushed"], false);
    assert_eq!(event.metadata["eviction_receipt"]["commit"], "abc123");
}

#[test]
fn an_agent_that_goes_with_its_rig_is_stopped_and_its_log_ends() {
    let mut world = World::new();
    let (agent, _) = world.working();
    let outputs = world.take(Input::Call(Call::Town(TownCall::RemoveRig { rig: rig("r1") })));
    let owed = |wanted: &Effect| {
        outputs.iter().any(|output| matches!(output, Output::Perform { effect, .. } if effect == wanted))
    };
    assert!(owed(&Effect::Forget { agent: agent.clone() }), "{outputs:?}");
    assert!(owed(&Effect::Stop { agent: agent.clone(), reason: "it was deleted".into() }), "{outputs:?}");
    assert!(world.db.query("SELECT 1 FROM beads", &[]).unwrap().is_empty());
}
