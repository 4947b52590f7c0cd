//! What comes when its agent has moved on. A `gt_done` ends the work on the bead that its run was for, or nothing; a receipt is written into that
//! bead, or nowhere; the end of a mayor's run does not end the next.

use super::world::World;
use super::world::rig;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::call::AgentCall;
use crate::message::call::BeadCall;
use crate::message::call::EvictionReceipt;
use crate::message::call::ReviewResult;
use crate::message::call::TownCall;
use crate::message::call::WorkCall;
use crate::message::effect::Outcome;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::container::ContainerAgentStatus;

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

/// Story: the second try of a bead was ignored until the bead failed, because the branch had been reviewed for the first.
#[test]
fn a_branch_whose_review_failed_is_submitted_again_by_who_names_its_bead() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    done(&mut world, &agent, Some(&bead), "fix/login");
    let first = world.newest(BeadType::MergeRequest).bead_id;
    let status = ReviewResult::Failed;
    world.done(Call::Work(WorkCall::CompleteReview {
        entry: first.clone(),
        status,
        message: "m".into(),
        commit: None,
    }));
    world.run(10 * MINUTE);
    let agent = world.bead(&bead).assignee_agent_bead_id.expect("it was dispatched again");
    assert_eq!(world.agent(&agent).current_hook_bead_id.as_ref(), Some(&bead));
    done(&mut world, &agent, Some(&bead), "fix/login");
    assert_eq!(world.status(&bead), BeadStatus::InReview);
    assert_ne!(world.newest(BeadType::MergeRequest).bead_id, first);
}

fn receipt(world: &mut World, agent: &AgentId, bead: &BeadId) {
    let receipt = EvictionReceipt { branch: "gt/toast/1".into(), ..EvictionReceipt::default() };
    let (agent, bead) = (agent.clone(), Some(bead.clone()));
    world.done(Call::Agent(AgentCall::EvictionContext { agent, bead, receipt }));
}

/// Story: what a drain found in an old worktree was written into the bead that its agent had got since, for good.
#[test]
fn a_receipt_of_earlier_work_is_not_written_into_the_next_bead() {
    let mut world = World::new();
    let (agent, first) = world.working();
    world.drain();
    world.close(&first);
    world.tick();
    let (second, slung) = world.sling("next");
    assert_eq!(slung.id, agent);
    receipt(&mut world, &agent, &first);
    assert_eq!((world.bead(&first).body, world.bead(&second.bead_id).body), (None, None));
}

#[test]
fn a_receipt_of_work_that_another_takes_up_reaches_it() {
    let mut world = World::new();
    let (agent, first, second) = moved_on(&mut world);
    receipt(&mut world, &agent, &first);
    assert!(world.bead(&first).body.unwrap().contains("gt/toast/1"));
    assert_eq!(world.bead(&second).body, None);
}

/// A mayor whose server died, and that is started again for the user's words before a tick took note.
fn mayor_started_again(end: impl Fn(&mut World, &AgentId)) -> (World, AgentId) {
    let mut world = World::new();
    let message = |text: &str| Call::Town(TownCall::MessageMayor { message: text.into(), model: None });
    world.call(message("hello"));
    let mayor = world.mayor();
    world.started_as(&mayor, Outcome::Done);
    world.now += SECOND;
    end(&mut world, &mayor);
    world.now += SECOND;
    world.call(message("more"));
    let key = world.owed("tell/").pop().expect("it seems to be there");
    world.take(Input::Outcome { key, outcome: Outcome::NotRunning });
    (world, mayor)
}

fn fails(world: &mut World, mayor: &AgentId) {
    let (agent, reason) = (Some(mayor.clone()), Some("stream error".into()));
    world.done(Call::Agent(AgentCall::Completed { agent, bead: None, success: false, reason }));
}

fn is_seen_failed(world: &mut World, mayor: &AgentId) {
    let status = ContainerAgentStatus::Failed;
    world.take(Input::Observed { agent: mayor.clone(), status, exit_reason: None });
}

/// Story: the words of the user were gone with the start that was owed for them.
#[test]
fn the_end_of_a_mayors_run_does_not_end_the_next_which_is_still_to_be_started() {
    for end in [fails, is_seen_failed] {
        // Told before the words came, or only after them.
        let (mut world, mayor) = mayor_started_again(end);
        end(&mut world, &mayor);
        world.tick();
        assert_eq!(world.agent(&mayor).status, AgentStatus::Working);
        assert_eq!(world.owed("start/").len(), 1);
        world.run(MINUTE);
        assert_eq!(world.started.last().unwrap().prompt, "more");
    }
}

#[test]
fn the_end_of_a_mayors_run_does_not_end_the_next_which_runs() {
    for end in [fails, is_seen_failed] {
        let (mut world, mayor) = mayor_started_again(end);
        world.started_as(&mayor, Outcome::Done);
        world.tick();
        assert_eq!(world.agent(&mayor).status, AgentStatus::Working);
        world.now += SECOND;
        end(&mut world, &mayor);
        world.tick();
        assert_eq!(world.agent(&mayor).status, AgentStatus::Idle, "that was its own end");
    }
}
