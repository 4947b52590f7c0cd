//! Reviews: submitted, decided, sent back; and the rules R1 to R7.

use super::world::World;
use super::world::effects;
use super::world::starts;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::Output;
use crate::message::call::AgentCall;
use crate::message::call::ReviewResult;
use crate::message::call::TownCall;
use crate::message::call::WorkCall;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use crate::message::effect::PullRequestState;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Prime;
use protocol::town::agent::Role;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use serde_json::json;

const PR: &str = "https://github.com/o/r/pull/1";

fn submit(world: &mut World, bead: &BeadId) -> BeadId {
    let agent = world.polecat();
    let call = WorkCall::SubmitReview {
        agent,
        bead: bead.clone(),
        branch: "feature".into(),
        pr_url: None,
        summary: Some("what".into()),
    };
    match world.call(Call::Work(call)) {
        Answer::Bead { bead } => bead.bead_id,
        other => panic!("{other:?}"),
    }
}

fn complete(world: &mut World, entry: &BeadId, status: ReviewResult) {
    let call =
        WorkCall::CompleteReview { entry: entry.clone(), status, message: "m".into(), commit: Some("abc".into()) };
    world.done(Call::Work(call));
}

fn request_changes(world: &mut World, agent: &AgentId) -> BeadId {
    let call = AgentCall::RequestChanges { agent: agent.clone(), feedback: "no".into(), files: vec!["a.rs".into()] };
    match world.call(Call::Agent(call)) {
        Answer::Bead { bead } => bead.bead_id,
        other => panic!("{other:?}"),
    }
}

/// A merge request that waits for its pull request.
fn with_pull_request(world: &mut World) -> (BeadId, BeadId) {
    let (issue, review, refinery) = world.in_review();
    world.gt_done(&refinery, Some(PR));
    (issue, review)
}

#[test]
fn a_submitted_review_is_an_open_merge_request_that_knows_its_source() {
    let mut world = World::new();
    let issue = world.issue("a");
    let review = submit(&mut world, &issue);
    let found = world.bead(&review);
    assert_eq!(
        (found.kind, found.status, found.title.as_str()),
        (BeadType::MergeRequest, BeadStatus::Open, "Review: feature")
    );
    assert_eq!((found.body.as_deref(), found.assignee_agent_bead_id), (Some("what"), None));
    assert_eq!(found.metadata["source_bead_id"], json!(issue));
    assert!(found.labels == ["gt:merge-request"]);
    let submitted = world.history(&issue).pop().unwrap();
    assert_eq!(
        (submitted.event_type, submitted.new_value.as_deref()),
        (BeadEventType::ReviewSubmitted, Some("feature"))
    );
}

#[test]
fn merged_closes_both_and_all_other_reviews_of_the_source_and_twice_is_once() {
    let mut world = World::new();
    let issue = world.issue("a");
    let (first, second) = (submit(&mut world, &issue), submit(&mut world, &issue));
    world.set_status(&first, BeadStatus::Failed);
    let third = submit(&mut world, &issue);
    complete(&mut world, &second, ReviewResult::Merged);
    complete(&mut world, &second, ReviewResult::Merged);
    for bead in [&issue, &first, &second, &third] {
        assert_eq!(world.status(bead), BeadStatus::Closed);
    }
    let completed =
        world.history(&issue).into_iter().filter(|event| event.event_type == BeadEventType::ReviewCompleted);
    assert_eq!(completed.count(), 1);
    assert_eq!(world.count("SELECT COUNT(*) FROM review_metadata WHERE merge_commit = 'abc'"), 1);
}

#[test]
fn a_failed_review_gives_the_source_back() {
    let mut world = World::new();
    let (issue, review, _) = world.in_review();
    assert_eq!(world.status(&issue), BeadStatus::InReview);
    complete(&mut world, &review, ReviewResult::Failed);
    let found = world.bead(&issue);
    assert_eq!((found.status, found.assignee_agent_bead_id), (BeadStatus::Open, None));
    assert_eq!(world.status(&review), BeadStatus::Failed);
    assert_eq!(world.beads_of(BeadType::Escalation), []);
}

#[test]
fn a_conflict_fails_the_review_gives_the_source_back_and_escalates() {
    let mut world = World::new();
    let (issue, review, _) = world.in_review();
    complete(&mut world, &review, ReviewResult::Conflict);
    assert_eq!((world.status(&review), world.status(&issue)), (BeadStatus::Failed, BeadStatus::Open));
    let escalation = world.newest(BeadType::Escalation);
    assert_eq!((escalation.title.as_str(), escalation.priority), ("Merge conflict: m", Priority::High));
    assert_eq!(
        (&escalation.metadata["conflict"], &escalation.metadata["source_bead_id"]),
        (&json!(true), &json!(issue))
    );
    assert_eq!(escalation.metadata["branch"], json!("gt/a/b"));
}

#[test]
fn the_whole_way_from_hook_to_merge() {
    let mut world = World::new();
    let (polecat, issue) = world.working();
    world.gt_done(&polecat, None);
    assert_eq!(world.status(&issue), BeadStatus::InReview);
    assert_eq!(world.bead(&issue).assignee_agent_bead_id, Some(polecat.clone()), "kept");
    assert_eq!(world.agent(&polecat).current_hook_bead_id, None);
    let review = world.newest(BeadType::MergeRequest);
    let refinery = review.assignee_agent_bead_id.clone().unwrap();
    assert_eq!((review.status, world.agent(&refinery).role), (BeadStatus::InProgress, Role::Refinery));
    let start = world.started.last().unwrap();
    assert_eq!((start.agent_id.clone(), start.branch.as_str()), (refinery.clone(), "gt/a/b"));
    assert_eq!(start.target_branch.as_deref(), Some("main"));
    assert!(start.system_prompt.as_ref().unwrap().contains("merge it into the target branch"));
    world.gt_done(&refinery, None);
    assert_eq!((world.status(&review.bead_id), world.status(&issue)), (BeadStatus::Closed, BeadStatus::Closed));
    assert_eq!(world.agent(&refinery).current_hook_bead_id, None);
    world.run(10 * MINUTE);
    assert_eq!(world.alarm, None, "and the town rests");
}

#[test]
fn a_refinery_with_a_pull_request_leaves_it_to_the_polls() {
    let mut world = World::new();
    let (issue, review) = with_pull_request(&mut world);
    let found = world.bead(&review);
    assert_eq!((found.status, &found.metadata["pr_url"]), (BeadStatus::InProgress, &json!(PR)));
    assert!(world.history(&review).iter().any(|event| event.event_type == BeadEventType::PrCreated));
    let polls = |outputs: &[Output]| effects(outputs).into_iter().filter(|e| matches!(e, Effect::Poll { .. })).count();
    assert_eq!(polls(&world.tick_after(59 * SECOND)), 0);
    assert_eq!(polls(&world.tick_after(SECOND)), 1, "R1");
    let key = format!("poll/{review}");
    world.take(Input::Outcome { key: key.clone(), outcome: Outcome::PullRequest(PullRequestState::Open) });
    assert_eq!(polls(&world.tick_after(30 * SECOND)), 0);
    assert_eq!(polls(&world.tick_after(30 * SECOND)), 1, "and again a minute later");
    world.take(Input::Outcome { key, outcome: Outcome::PullRequest(PullRequestState::Merged) });
    assert_eq!(world.status(&review), BeadStatus::InProgress, "a fact, applied by the tick");
    world.tick();
    assert_eq!((world.status(&review), world.status(&issue)), (BeadStatus::Closed, BeadStatus::Closed));
}

#[test]
fn a_pull_request_that_is_closed_without_merge_fails_the_review() {
    let mut world = World::new();
    let (issue, review) = with_pull_request(&mut world);
    world.tick_after(MINUTE);
    let key = format!("poll/{review}");
    world.take(Input::Outcome { key, outcome: Outcome::PullRequest(PullRequestState::Closed) });
    world.tick();
    assert_eq!(world.status(&review), BeadStatus::Failed);
    assert_ne!(world.status(&issue), BeadStatus::InReview);
}

#[test]
fn a_pull_request_that_is_no_https_url_fails_the_review() {
    let mut world = World::new();
    let (_, review, refinery) = world.in_review();
    world.gt_done(&refinery, Some("http://evil/1"));
    assert_eq!(world.status(&review), BeadStatus::Failed);
    assert!(world.history(&review).iter().any(|event| event.event_type == BeadEventType::PrCreationFailed));
}

#[test]
fn a_refinery_that_lost_its_hook_is_still_heard() {
    let mut world = World::new();
    let (issue, review, refinery) = world.in_review();
    world.done(Call::Agent(AgentCall::Unhook { agent: refinery.clone() }));
    world.gt_done(&refinery, None);
    assert_eq!((world.status(&review), world.status(&issue)), (BeadStatus::Closed, BeadStatus::Closed));
}

#[test]
fn the_end_of_a_refinerys_run_touches_neither_its_bead_nor_its_hook() {
    let mut world = World::new();
    let (_, review, refinery) = world.in_review();
    world.completed(Some(&refinery), false, None);
    assert_eq!(world.status(&review), BeadStatus::InProgress);
    assert_eq!(world.agent(&refinery).current_hook_bead_id, Some(review));
}

#[test]
fn requested_changes_are_rework_that_the_review_waits_for() {
    let mut world = World::new();
    let (issue, review, refinery) = world.in_review();
    let rework = request_changes(&mut world, &refinery);
    let found = world.bead(&rework);
    assert_eq!((found.title.as_str(), found.body.as_deref()), ("Rework: work", Some("no")));
    assert_eq!((found.parent_bead_id.clone(), found.has_label("gt:rework")), (Some(review.clone()), true));
    assert_eq!((&found.metadata["rework_for"], &found.metadata["branch"]), (&json!(issue), &json!("gt/a/b")));
    world.completed(Some(&refinery), true, None);
    world.set_agent_status(&refinery, &AgentStatus::Idle);
    world.tick();
    let worker = world.bead(&rework).assignee_agent_bead_id.unwrap();
    assert_eq!(world.started.last().unwrap().branch, "gt/a/b", "rework goes on with the same branch");
    let Answer::Prime { prime } = world.call(Call::Agent(AgentCall::Prime { agent: worker.clone() })) else { panic!() };
    let Prime { rework_context: Some(context), .. } = *prime else { panic!() };
    assert_eq!(
        (context.feedback.as_str(), context.files, context.original_bead_title.as_deref()),
        ("no", vec!["a.rs".to_owned()], Some("work"))
    );
    world.age_bead(&review, 31 * MINUTE);
    world.tick();
    assert_eq!(world.status(&review), BeadStatus::InProgress, "R2 leaves what waits for rework");
    world.gt_done(&worker, None);
    assert_eq!(world.status(&rework), BeadStatus::Closed, "without a review of its own");
    let refused = world.refused(Call::Agent(AgentCall::RequestChanges {
        agent: worker.clone(),
        feedback: "x".into(),
        files: vec![],
    }));
    assert_eq!(refused, Refusal::NotReviewing { agent: worker });
    world.set_attempts(&review, 1, 3 * MINUTE);
    let again = starts(&world.tick_after(5 * SECOND));
    assert_eq!(again.iter().map(|start| start.agent_id.clone()).collect::<Vec<_>>(), [refinery], "R6 looks again");
}

#[test]
fn rework_that_is_asked_for_again_waits_for_the_earlier_on_the_same_branch() {
    let mut world = World::new();
    let (_, review, refinery) = world.in_review();
    let first = request_changes(&mut world, &refinery);
    let second = request_changes(&mut world, &refinery);
    world.run(MINUTE);
    let worker = world.bead(&first).assignee_agent_bead_id.unwrap();
    assert_eq!((world.status(&first), world.status(&second)), (BeadStatus::InProgress, BeadStatus::Open));
    world.gt_done(&worker, None);
    world.run(MINUTE);
    assert_eq!((world.status(&first), world.status(&second)), (BeadStatus::Closed, BeadStatus::InProgress));
    assert_eq!(world.status(&review), BeadStatus::InProgress);
}

#[test]
fn r2_after_30_minutes_an_idle_reviewer_loses_the_review() {
    let mut world = World::new();
    let (_, review, refinery) = world.in_review();
    world.set_agent_status(&refinery, &AgentStatus::Idle);
    world.set_attempts(&review, 1, 0);
    world.age_bead(&review, 29 * MINUTE);
    world.tick();
    assert_eq!(world.status(&review), BeadStatus::InProgress);
    world.age_bead(&review, 31 * MINUTE);
    world.tick();
    assert_eq!(world.status(&review), BeadStatus::Open);
    assert_eq!(world.agent(&refinery).current_hook_bead_id, None);
}

#[test]
fn r3_after_2_minutes_a_review_without_reviewer_is_open_again() {
    let mut world = World::new();
    let issue = world.issue("a");
    let review = submit(&mut world, &issue);
    world.set_status(&review, BeadStatus::InProgress);
    world.close(&issue);
    world.age_bead(&review, 119 * SECOND);
    world.tick();
    assert_eq!(world.status(&review), BeadStatus::InProgress);
    world.age_bead(&review, 121 * SECOND);
    world.tick();
    assert_eq!(world.status(&review), BeadStatus::Open);
}

#[test]
fn r4_a_pull_request_that_nobody_polls_for_30_minutes_fails() {
    let mut world = World::new();
    let (_, review) = with_pull_request(&mut world);
    world.age_bead(&review, 31 * MINUTE);
    world.tick();
    assert_eq!(world.status(&review), BeadStatus::Failed);
}

#[test]
fn r5_makes_a_refinery_and_gives_it_the_oldest_review_one_at_a_time() {
    let mut world = World::new();
    let (a, b) = (world.issue("a"), world.issue("b"));
    let (first, second) = (submit(&mut world, &a), submit(&mut world, &b));
    world.close(&a);
    world.close(&b);
    world.tick();
    let refinery = world.bead(&first).assignee_agent_bead_id.unwrap();
    assert_eq!(world.agent(&refinery).role, Role::Refinery);
    assert_eq!((world.status(&first), world.status(&second)), (BeadStatus::InProgress, BeadStatus::Open));
    world.gt_done(&refinery, None);
    assert_eq!((world.status(&first), world.status(&second)), (BeadStatus::Closed, BeadStatus::InProgress));
    assert_eq!(world.bead(&second).assignee_agent_bead_id, Some(refinery), "the same one");
}

#[test]
fn r6_fails_the_review_past_the_cap_and_unhooks() {
    let mut world = World::new();
    let (issue, review, refinery) = world.in_review();
    world.set_agent_status(&refinery, &AgentStatus::Idle);
    world.set_attempts(&review, 5, 0);
    world.tick();
    assert_eq!(world.status(&review), BeadStatus::Failed);
    assert_eq!(world.agent(&refinery).current_hook_bead_id, None);
    assert_ne!(world.status(&issue), BeadStatus::InReview, "its source is not stuck");
}

#[test]
fn r7_stops_a_refinery_whose_review_is_over() {
    let mut world = World::new();
    let (_, review, refinery) = world.in_review();
    world.sql("UPDATE beads SET status = 'failed' WHERE bead_id = ?", &[review.as_str().into()]);
    let outputs = world.tick();
    assert!(effects(&outputs).iter().any(|effect| matches!(effect, Effect::Stop { agent, .. } if *agent == refinery)));
    assert_eq!(world.agent(&refinery).current_hook_bead_id, None);
}

#[test]
fn without_code_review_pull_requests_are_only_polled() {
    let mut world = World::new();
    let serde_json::Value::Object(changes) = json!({"refinery": {"code_review": false}}) else { panic!() };
    world.call(Call::Town(TownCall::UpdateConfig { changes }));
    let issue = world.issue("a");
    let agent = world.polecat();
    let call = WorkCall::SubmitReview {
        agent,
        bead: issue.clone(),
        branch: "b".into(),
        pr_url: Some(PR.into()),
        summary: None,
    };
    let Answer::Bead { bead: review } = world.call(Call::Work(call)) else { panic!() };
    world.close(&issue);
    assert_eq!(starts(&world.tick()), []);
    assert_eq!(world.status(&review.bead_id), BeadStatus::InProgress);
}
