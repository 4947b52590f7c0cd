//! What the simulation found, each with its story.

use super::world::World;
use super::world::effects;
use super::world::starts;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::call::AgentCall;
use crate::message::call::BeadCall;
use crate::message::call::TownCall;
use crate::message::call::WorkCall;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::Heartbeat;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::convoy::MergeMode;

fn done(world: &mut World, agent: &AgentId, branch: &str) {
    let call = AgentCall::Done { agent: agent.clone(), bead: None, branch: branch.into(), pr_url: None, summary: None };
    world.done(Call::Agent(call));
    world.tick();
}

fn branch(world: &mut World, bead: &BeadId) -> String {
    world.bead(bead).text("work_branch").unwrap().to_owned()
}

/// The answer to `gt_done` was lost, so the agent said it again: by then it had its next bead, and that went into review with nothing done.
#[test]
fn what_an_agent_says_again_about_its_last_work_does_not_end_its_next() {
    let mut world = World::new();
    let (agent, first) = world.working();
    let of_first = branch(&mut world, &first);
    done(&mut world, &agent, &of_first);
    assert_eq!(world.status(&first), BeadStatus::InReview);
    let (second, next) = world.sling("next");
    assert_eq!(next.id, agent);
    world.started_as(&agent, Outcome::Done);
    done(&mut world, &agent, &of_first);
    assert_eq!(world.status(&second.bead_id), BeadStatus::InProgress);
    let own = branch(&mut world, &second.bead_id);
    done(&mut world, &agent, &own);
    assert_eq!(world.status(&second.bead_id), BeadStatus::InReview);
}

/// The report that the mayor waits was lost. It was taken for working ever after: the town ticked, and kept its container awake.
#[test]
fn a_mayor_that_was_silent_for_long_waits() {
    let mut world = World::new();
    let message = || Call::Town(TownCall::MessageMayor { message: "hello".into(), model: None });
    let Answer::MayorReached { reached } = world.call(message()) else { panic!() };
    let mayor = reached.agent_id;
    world.started_as(&mayor, Outcome::Done);
    world.idle_events(&mayor, 14 * MINUTE);
    world.tick();
    assert_eq!(world.agent(&mayor).status, AgentStatus::Working);
    world.idle_events(&mayor, 16 * MINUTE);
    world.tick();
    assert_eq!(world.agent(&mayor).status, AgentStatus::Waiting);
    world.call(message());
    world.beat(&mayor, Heartbeat::default());
    world.tick();
    assert_eq!(world.agent(&mayor).status, AgentStatus::Working, "it was asked something: its silence begins anew");
}

/// A person gave a bead to another agent. The first one was not told, and both worked in one worktree.
#[test]
fn who_loses_its_bead_to_another_is_stopped() {
    let mut world = World::new();
    let (first, bead) = world.working();
    let second = world.polecat();
    let rig = super::world::rig("r1");
    world.call(Call::Bead(BeadCall::Reassign { bead: bead.clone(), rig, agent: second }));
    let stops = |effects: &[Effect]| {
        effects.iter().any(|effect| matches!(effect, Effect::Stop { agent, .. } if *agent == first))
    };
    assert!(stops(&effects(&world.outputs)));
    let (first, _) = world.working();
    world.done(Call::Agent(AgentCall::Reset { agent: first.clone() }));
    assert!(
        effects(&world.outputs).iter().any(|effect| matches!(effect, Effect::Stop { agent, .. } if *agent == first))
    );
}

/// A container could not reach its town for minutes. The town gave a bead of it to another agent, in the same container, while the first worked on.
#[test]
fn who_is_taken_for_lost_is_stopped_before_its_bead_goes_to_another() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    let mut stopped = false;
    for _ in 0..10 {
        world.tick_after(MINUTE);
        stopped |= effects(&world.outputs)
            .iter()
            .any(|effect| matches!(effect, Effect::Stop { agent: of, .. } if *of == agent));
        if world.bead(&bead).assignee_agent_bead_id.as_ref() != Some(&agent) {
            break;
        }
    }
    assert!(stopped);
}

/// A stop could not be carried out at once and was still owed when the agent was sent again: its next try ended the new run.
#[test]
fn a_stop_that_is_still_owed_does_not_end_the_next_run() {
    let mut world = World::new();
    let (agent, _) = world.working();
    world.done(Call::Agent(AgentCall::Reset { agent: agent.clone() }));
    let stop = Effect::Stop { agent: agent.clone(), reason: "r".into() };
    world.take(Input::Outcome { key: stop.key(), outcome: Outcome::Failed { reason: "still running".into() } });
    world.tick();
    assert_eq!(starts(&world.outputs).len(), 1, "it is sent again");
    assert_eq!(world.count("SELECT COUNT(*) FROM owed WHERE key LIKE 'stop/%'"), 0);
}

/// A convoy was closed by force while a bead of it was in review. The review was merged later, and the convoy said 1 of 2 ever after.
#[test]
fn a_convoy_that_was_closed_counts_a_bead_when_its_review_ends() {
    for merges in [true, false] {
        let mut world = World::new();
        let (convoy, beads) = world.convoy(&[&[], &[]], Some(MergeMode::ReviewAndMerge), false);
        world.run(5 * SECOND);
        let agent = world.bead(&beads[0]).assignee_agent_bead_id.unwrap();
        world.gt_done(&agent, None);
        let review = world.newest(BeadType::MergeRequest);
        world.call(Call::Work(WorkCall::CloseConvoy { convoy: convoy.clone() }));
        assert_eq!(world.convoy_detail(&convoy).convoy.closed_beads, 1, "one is in review");
        if merges {
            world.gt_done(&review.assignee_agent_bead_id.unwrap(), None);
        } else {
            world.call(Call::Bead(BeadCall::Delete { beads: vec![review.bead_id] }));
        }
        assert_eq!(world.convoy_detail(&convoy).convoy.closed_beads, 2);
    }
}

/// An agent's turn was over and its next bead already under way when the report of its last run arrived. That took the new bead from its hook,
/// and the new run worked on for nobody.
#[test]
fn what_a_container_says_of_an_ended_run_does_not_end_the_next() {
    let mut world = World::new();
    let (agent, first) = world.working();
    let of_first = branch(&mut world, &first);
    done(&mut world, &agent, &of_first);
    let (second, next) = world.sling("next");
    assert_eq!(next.id, agent);
    world.started_as(&agent, Outcome::Done);
    let mut report = |bead: &BeadId| {
        world.now += 1;
        let (agent, bead) = (Some(agent.clone()), Some(bead.clone()));
        world.done(Call::Agent(AgentCall::Completed { agent, bead, success: true, reason: None }));
        world.tick();
        world.agent(&next.id)
    };
    let after_first = report(&first);
    assert_eq!(after_first.current_hook_bead_id.as_ref(), Some(&second.bead_id));
    assert_eq!(after_first.status, AgentStatus::Working);
    assert_eq!(report(&second.bead_id).current_hook_bead_id, None);
}

/// No word of an agent came through for a while, so it counted as idle. Then it was deleted, and its bead went to another beside it: it was not told,
/// and worked on.
#[test]
fn who_counts_as_idle_may_run_and_is_stopped_when_it_loses_its_bead() {
    let losses: [fn(&mut World, AgentId, BeadId); 3] = [
        |world, agent, _| world.done(Call::Agent(AgentCall::Delete { agent })),
        |world, agent, _| world.done(Call::Agent(AgentCall::Reset { agent })),
        |world, _, bead| {
            let (rig, agent) = (super::world::rig("r1"), world.polecat());
            world.call(Call::Bead(BeadCall::Reassign { bead, rig, agent }));
        },
    ];
    for loses in losses {
        let mut world = World::new();
        let (agent, bead) = world.working();
        world.set_agent_status(&agent, &AgentStatus::Idle);
        loses(&mut world, agent.clone(), bead);
        assert_eq!(world.owed(&format!("stop/{agent}")).len(), 1);
    }
}
