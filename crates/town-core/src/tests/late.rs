//! A `gt_done` that comes when its agent has moved on: it ends the work on the bead that its run was for, or nothing.

use super::world::World;
use super::world::rig;
use crate::message::Answer;
use crate::message::Call;
use crate::message::call::AgentCall;
use crate::message::call::BeadCall;
use crate::message::call::ReviewResult;
use crate::message::call::WorkCall;
use crate::message::effect::Outcome;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;

/// Reported, and applied by a tick.
fn done(world: &mut World, agent: &AgentId, bead: Option<&BeadId>, branch: &str) {
    let (agent, bead, branch) = (agent.clone(), bead.cloned(), branch.to_owned());
    world.done(Call::Agent(AgentCall::Done { agent, bead, branch, pr_url: None, summary: None }));
    world.tick();
}

fn submit(world: &mut World, bead: &BeadId) -> BeadId {
    let (agent, bead, branch) = (world.polecat(), bead.clone(), "feature".to_owned());
    match world.call(Call::Work(WorkCall::SubmitReview { agent, bead, branch, pr_url: None, summary: None })) {
        Answer::Bead { bead } => bead.bead_id,
        other => panic!("{other:?}"),
    }
}

/// A polecat that was taken from its bead and has the next one.
fn moved_on(world: &mut World) -> (AgentId, BeadId, BeadId) {
    let (agent, first) = world.working();
    let second = world.issue("next");
    let other = world.polecat();
    world.call(Call::Bead(BeadCall::Reassign { bead: first.clone(), rig: rig("r1"), agent: other }));
    world.done(Call::Agent(AgentCall::Hook { agent: agent.clone(), bead: second.clone() }));
    world.tick();
    world.started_as(&agent, Outcome::Done);
    assert_eq!(world.status(&second), BeadStatus::InProgress);
    (agent, first, second)
}

/// A refinery whose review of a branch failed, and that has another review of the same branch.
fn reviewing_again(world: &mut World) -> (AgentId, BeadId, BeadId) {
    let issue = world.issue("a");
    let first = submit(world, &issue);
    world.set_status(&issue, BeadStatus::InReview);
    world.tick();
    let refinery = world.bead(&first).assignee_agent_bead_id.expect("it is reviewed");
    world.started_as(&refinery, Outcome::Done);
    let (entry, status) = (first.clone(), ReviewResult::Failed);
    world.done(Call::Work(WorkCall::CompleteReview { entry, status, message: "m".into(), commit: None }));
    let second = submit(world, &issue);
    world.tick();
    assert_eq!(world.bead(&second).assignee_agent_bead_id.as_ref(), Some(&refinery));
    (refinery, first, second)
}

/// The branch is one that the town does not know, so nothing but the bead tells that it is of other work.
#[test]
fn what_an_agent_says_late_of_its_last_bead_does_not_end_its_next() {
    let mut world = World::new();
    let (agent, first, second) = moved_on(&mut world);
    done(&mut world, &agent, Some(&first), "my-own");
    assert_eq!(world.status(&second), BeadStatus::InProgress);
    assert_eq!(world.agent(&agent).current_hook_bead_id.as_ref(), Some(&second));
    assert_eq!(world.beads_of(BeadType::MergeRequest), []);
    done(&mut world, &agent, Some(&second), "my-own");
    assert_eq!(world.status(&second), BeadStatus::InReview);
}

/// It merged the branch as it was for the first review: what has come to it since would count as merged, and nobody would look for it again.
#[test]
fn a_late_merge_of_a_branch_does_not_end_a_newer_review_of_it() {
    let mut world = World::new();
    let (refinery, first, second) = reviewing_again(&mut world);
    done(&mut world, &refinery, Some(&first), "feature");
    assert_eq!((world.status(&first), world.status(&second)), (BeadStatus::Failed, BeadStatus::InProgress));
    done(&mut world, &refinery, Some(&second), "feature");
    assert_eq!(world.status(&second), BeadStatus::Closed);
}

#[test]
fn a_refinery_that_lost_its_hook_is_believed_of_the_review_that_it_had_and_of_no_newer_one() {
    let mut world = World::new();
    let (refinery, first, second) = reviewing_again(&mut world);
    world.done(Call::Agent(AgentCall::Unhook { agent: refinery.clone() }));
    done(&mut world, &refinery, Some(&first), "feature");
    assert!(!world.status(&second).is_terminal());

    let mut world = World::new();
    let (refinery, _, second) = reviewing_again(&mut world);
    world.done(Call::Agent(AgentCall::Unhook { agent: refinery.clone() }));
    done(&mut world, &refinery, Some(&second), "feature");
    assert_eq!(world.status(&second), BeadStatus::Closed);
}

#[test]
fn a_container_that_does_not_tell_its_beads_is_believed_of_the_bead_on_the_hook() {
    let mut world = World::new();
    let (agent, _, second) = moved_on(&mut world);
    done(&mut world, &agent, None, "my-own");
    assert_eq!(world.status(&second), BeadStatus::InReview);
    let mut world = World::new();
    let (refinery, _, second) = reviewing_again(&mut world);
    done(&mut world, &refinery, None, "feature");
    assert_eq!(world.status(&second), BeadStatus::Closed);
}
