//! Work that is taken from its agent, and work that is not: only what an agent has on its hook goes back when the agent goes.

use super::world::World;
use super::world::effects;
use super::world::rig;
use super::world::starts;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::bead::NewBead;
use crate::message::call::AgentCall;
use crate::message::call::BeadCall;
use crate::message::call::ReviewResult;
use crate::message::call::WorkCall;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use crate::message::effect::PullRequestState;
use object_core::time::DAY;
use object_core::time::MINUTE;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;

const PR: &str = "https://github.com/o/r/pull/1";

fn submit(world: &mut World, bead: &BeadId, branch: &str, pr_url: Option<&str>) -> BeadId {
    let agent = world.polecat();
    let (bead, branch, pr_url) = (bead.clone(), branch.to_owned(), pr_url.map(str::to_owned));
    match world.call(Call::Work(WorkCall::SubmitReview { agent, bead, branch, pr_url, summary: None })) {
        Answer::Bead { bead } => bead.bead_id,
        other => panic!("{other:?}"),
    }
}

fn complete(world: &mut World, entry: &BeadId, status: ReviewResult) {
    let call = WorkCall::CompleteReview { entry: entry.clone(), status, message: "m".into(), commit: None };
    world.done(Call::Work(call));
}

fn delete(world: &mut World, bead: &BeadId) {
    world.call(Call::Bead(BeadCall::Delete { beads: vec![bead.clone()] }));
}

fn done(world: &mut World, agent: &AgentId, branch: &str) {
    let call = AgentCall::Done { agent: agent.clone(), bead: None, branch: branch.into(), pr_url: None, summary: None };
    world.done(Call::Agent(call));
    world.tick();
}

/// A refinery that looks at a pull request.
fn reviewing_pull_request(world: &mut World) -> (BeadId, BeadId, AgentId) {
    let issue = world.issue("a");
    let review = submit(world, &issue, "feature", Some(PR));
    world.set_status(&issue, BeadStatus::InReview);
    world.tick();
    let refinery = world.bead(&review).assignee_agent_bead_id.expect("it is reviewed");
    world.started_as(&refinery, Outcome::Done);
    (issue, review, refinery)
}

#[test]
fn when_agents_that_nobody_needed_for_a_day_are_deleted_their_pull_request_waits_on() {
    let mut world = World::new();
    let (issue, review, refinery) = world.in_review();
    let polecat = world.bead(&issue).assignee_agent_bead_id.unwrap();
    world.gt_done(&refinery, Some(PR));
    world.silence(&polecat, DAY + 1);
    world.silence(&refinery, DAY + 1);
    world.tick();
    assert_eq!(world.agents(), [], "both are gone");
    assert_eq!((world.status(&issue), world.status(&review)), (BeadStatus::InReview, BeadStatus::InProgress));
    assert_eq!((world.bead(&issue).assignee_agent_bead_id, world.bead(&review).assignee_agent_bead_id), (None, None));
    let outputs = world.tick_after(MINUTE);
    assert!(effects(&outputs).iter().any(|effect| matches!(effect, Effect::Poll { .. })), "it is looked at");
    assert_eq!(starts(&outputs), [], "and nobody does the work again");
}

#[test]
fn a_pull_request_whose_reviewer_is_deleted_at_work_is_reviewed_by_another() {
    let mut world = World::new();
    let (_, review, refinery) = reviewing_pull_request(&mut world);
    world.done(Call::Agent(AgentCall::Delete { agent: refinery.clone() }));
    assert_eq!(world.status(&review), BeadStatus::Open);
    world.tick();
    let next = world.bead(&review).assignee_agent_bead_id.unwrap();
    assert_ne!(next, refinery);
}

#[test]
fn a_refinery_that_says_twice_that_it_is_done_merges_no_pull_request() {
    let mut world = World::new();
    let (issue, review, refinery) = world.in_review();
    world.gt_done(&refinery, Some(PR));
    world.gt_done(&refinery, None);
    assert_eq!((world.status(&review), world.status(&issue)), (BeadStatus::InProgress, BeadStatus::InReview));
}

#[test]
fn a_refinery_without_a_hook_is_believed_only_of_the_branch_that_it_names() {
    let mut world = World::new();
    let issue = world.issue("a");
    let review = submit(&mut world, &issue, "feature", None);
    world.set_status(&issue, BeadStatus::InReview);
    world.tick();
    let refinery = world.bead(&review).assignee_agent_bead_id.unwrap();
    world.done(Call::Agent(AgentCall::Unhook { agent: refinery.clone() }));
    done(&mut world, &refinery, "of-an-earlier-review");
    assert_eq!((world.status(&review), world.status(&issue)), (BeadStatus::InProgress, BeadStatus::InReview));
    done(&mut world, &refinery, "feature");
    assert_eq!((world.status(&review), world.status(&issue)), (BeadStatus::Closed, BeadStatus::Closed));
}

#[test]
fn a_reviewer_is_stopped_when_its_review_ends_without_it() {
    type End = fn(&mut World, &BeadId, &BeadId);
    let ends: [(&str, End); 6] = [
        ("it was completed", |world, _, review| complete(world, review, ReviewResult::Merged)),
        ("it failed", |world, _, review| complete(world, review, ReviewResult::Failed)),
        ("it was cancelled", |world, _, review| {
            world.set_status(review, BeadStatus::Failed);
            world.tick();
        }),
        ("it was deleted", |world, _, review| delete(world, review)),
        ("a sibling was merged", |world, issue, _| {
            let sibling = submit(world, issue, "other", None);
            complete(world, &sibling, ReviewResult::Merged);
        }),
        ("its pull request was merged", |world, _, review| {
            world.tick_after(MINUTE);
            let key = format!("poll/{review}");
            world.take(Input::Outcome { key, outcome: Outcome::PullRequest(PullRequestState::Merged) });
            world.tick();
        }),
    ];
    for (name, end) in ends {
        let mut world = World::new();
        let (issue, review, refinery) = reviewing_pull_request(&mut world);
        end(&mut world, &issue, &review);
        assert_eq!(world.owed("stop/"), [format!("stop/{refinery}")], "{name}");
        assert_eq!(world.agent(&refinery).current_hook_bead_id, None, "{name}");
    }
}

#[test]
fn a_worker_is_stopped_when_its_bead_ends_without_it() {
    type End = fn(&mut World, &BeadId);
    let ends: [(&str, End); 3] = [
        ("closed", |world, bead| {
            world.close(bead);
            world.tick();
        }),
        ("deleted", delete),
        ("another's work for it was merged", |world, bead| {
            let review = submit(world, bead, "other", None);
            complete(world, &review, ReviewResult::Merged);
        }),
    ];
    for (name, end) in ends {
        let mut world = World::new();
        let (polecat, bead) = world.working();
        end(&mut world, &bead);
        assert_eq!(world.owed("stop/"), [format!("stop/{polecat}")], "{name}");
        assert_eq!(world.agent(&polecat).current_hook_bead_id, None, "{name}");
    }
}

#[test]
fn who_ends_its_own_work_is_not_stopped_in_its_last_turn() {
    let mut world = World::new();
    let (polecat, bead) = world.working();
    let close = BeadCall::SetStatus { bead: bead.clone(), status: BeadStatus::Closed, agent: polecat.to_string() };
    world.call(Call::Bead(close));
    world.tick();
    assert_eq!((world.status(&bead), world.agent(&polecat).current_hook_bead_id), (BeadStatus::Closed, None));
    assert_eq!(world.owed("stop/"), Vec::<String>::new());
    let (_, review, refinery) = world.in_review();
    world.gt_done(&refinery, None);
    assert_eq!(world.status(&review), BeadStatus::Closed);
    assert_eq!(world.owed("stop/"), Vec::<String>::new());
}

#[test]
fn an_issue_whose_last_unfinished_review_is_deleted_goes_back() {
    let mut world = World::new();
    let (issue, first, _) = world.in_review();
    let second = submit(&mut world, &issue, "other", None);
    delete(&mut world, &first);
    assert_eq!(world.status(&issue), BeadStatus::InReview, "another is left");
    delete(&mut world, &second);
    let found = world.bead(&issue);
    assert_eq!((found.status, found.assignee_agent_bead_id), (BeadStatus::Open, None));
}

#[test]
fn an_issue_in_review_without_any_review_goes_back_after_five_minutes() {
    let mut world = World::new();
    let bead = world.create(NewBead {
        rig: Some(rig("r1")),
        labels: vec!["gt:held".into()],
        ..NewBead::new(BeadType::Issue, "a")
    });
    world.set_status(&bead, BeadStatus::InReview);
    world.tick_after(5 * MINUTE);
    assert_eq!(world.status(&bead), BeadStatus::InReview);
    world.tick_after(1);
    assert_eq!(world.status(&bead), BeadStatus::Open);
}
