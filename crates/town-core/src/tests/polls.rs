//! Pull requests that cannot be read.

use super::world::World;
use super::world::effects;
use crate::message::Input;
use crate::message::effect::Outcome;
use crate::message::effect::PullRequestState;
use object_core::time::MINUTE;
use protocol::id::BeadId;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use serde_json::Value;
use serde_json::json;

fn with_pull_request(world: &mut World) -> (BeadId, BeadId) {
    let (issue, review, refinery) = world.in_review();
    world.gt_done(&refinery, Some("https://github.com/o/r/pull/1"));
    (issue, review)
}

fn answer(world: &mut World, review: &BeadId, outcome: Outcome) {
    assert_eq!(effects(&world.tick_after(MINUTE)).len(), 1, "asked once a minute");
    world.take(Input::Outcome { key: format!("poll/{review}"), outcome });
}

fn unreadable() -> Outcome {
    Outcome::Failed { reason: "http_error: the host answered 404".into() }
}

#[test]
fn a_pull_request_that_cannot_be_read_three_times_in_a_row_fails_its_review() {
    let mut world = World::new();
    let (issue, review) = with_pull_request(&mut world);
    for _ in 0..2 {
        answer(&mut world, &review, unreadable());
        assert_eq!(world.status(&review), BeadStatus::InProgress);
        assert_eq!(world.owed("poll/"), Vec::<String>::new(), "settled: the rules ask again");
    }
    answer(&mut world, &review, unreadable());
    let found = world.bead(&review);
    assert_eq!((found.status, &found.metadata["failureReason"]), (BeadStatus::Failed, &json!("pr_poll_failed")));
    let ends = |event: &&protocol::town::bead::BeadEvent| event.event_type == BeadEventType::StatusChanged;
    let history = world.history(&review);
    let last = history.iter().rfind(ends).unwrap();
    assert_eq!(last.metadata["failure_reason"]["code"], "pr_poll_failed");
    assert_ne!(world.status(&issue), BeadStatus::InReview, "its work goes back");
}

#[test]
fn a_pull_request_whose_host_does_not_answer_ten_times_in_a_row_fails_its_review() {
    let mut world = World::new();
    let (issue, review) = with_pull_request(&mut world);
    let overloaded = || Outcome::Unknown { reason: "http_error: the host answered 503".into() };
    for _ in 0..9 {
        answer(&mut world, &review, overloaded());
        assert_eq!(world.status(&review), BeadStatus::InProgress);
    }
    answer(&mut world, &review, Outcome::PullRequest(PullRequestState::Open));
    for _ in 0..9 {
        answer(&mut world, &review, overloaded());
    }
    assert_eq!(world.status(&review), BeadStatus::InProgress, "an answer between them begins anew");
    answer(&mut world, &review, overloaded());
    assert_eq!(world.status(&review), BeadStatus::Failed);
    assert_eq!(world.bead(&review).metadata["failureReason"], json!("pr_poll_failed"));
    assert_ne!(world.status(&issue), BeadStatus::InReview, "its work goes back");
}

#[test]
fn a_pull_request_that_is_read_again_starts_afresh_and_the_two_kinds_of_error_are_counted_apart() {
    let mut world = World::new();
    let (_, review) = with_pull_request(&mut world);
    for outcome in [unreadable(), unreadable(), Outcome::PullRequest(PullRequestState::Open), unreadable()] {
        answer(&mut world, &review, outcome);
    }
    let unknown = Outcome::Unknown { reason: "unreachable".into() };
    answer(&mut world, &review, unknown);
    let found = world.bead(&review);
    assert_eq!(found.status, BeadStatus::InProgress);
    let count = |name: &str| found.metadata.get(name).and_then(Value::as_i64);
    assert_eq!((count("poll_non_transient_count"), count("poll_transient_count")), (Some(1), Some(1)));
}
