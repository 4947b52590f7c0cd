//! Beginning a turn: spec/session.md 3.7 and 11.4.

use super::*;
use crate::store;
use protocol::ingest::Command;

fn work_is_owed(world: &World) -> bool {
    !database::Database::query(&world.db, "SELECT 1 FROM owed WHERE key LIKE 'work/%'", &[]).unwrap().is_empty()
}

#[test]
fn while_an_execution_is_active_no_other_is_asked_of_the_container() {
    let (mut world, execution, _) = World::running();
    for call in [Call::Initiate, Call::Send(Box::new(message(json!({}))))] {
        let reply = world.call(call);
        let error = world.reply(reply).unwrap().unwrap_err();
        assert_eq!(error.message, format!("Execution {execution} is in progress"));
        assert_eq!(error.active_execution_id, Some(execution.to_string()));
        let body = serde_json::to_value(error.body("sendMessageV2")).unwrap();
        assert_eq!((&body["error"]["code"], &body["error"]["data"]["httpStatus"]), (&json!(-32009), &json!(409)));
    }
    assert!(!work_is_owed(&world));
    assert_eq!(store::executions(&world.db).unwrap(), 1);
}

fn message(fields: Value) -> protocol::trpc::SendMessage {
    let mut input = json!({"cloudAgentSessionId": SESSION, "prompt": "more"});
    input.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    parse_send_message(&input).unwrap()
}

#[test]
fn a_follow_up_resumes_the_same_workspace_and_takes_over_what_it_does_not_say() {
    let (mut world, first, start) = World::running_with(
        json!({"variant": "high", "autoCommit": true, "gitToken": "old", "upstreamBranch": "topic"}),
    );
    world.complete(&first);
    world.call(Call::Send(Box::new(message(json!({"gitToken": "new"})))));
    let work = world.asked_work();
    let mut expected = start.workspace.clone();
    expected.git_token = Some(sandbox::Secret("new".into()));
    assert_eq!(work.workspace, expected, "the same session and workspace: there is nothing else to prepare");
    let turn = work.turn.clone().unwrap();
    assert_eq!((turn.agent.as_str(), turn.model.as_str()), ("code", "m"));
    assert_eq!((turn.variant.as_deref(), turn.auto_commit, turn.condense_on_complete), (Some("high"), true, false));
    world.finish_work(&work, 1);
    world.connect(&turn.execution_id, &work);
    world.complete(&turn.execution_id);
    world.call(Call::Send(Box::new(message(json!({"mode": "plan", "model": "n", "autoCommit": false})))));
    let again = world.asked_work();
    assert_eq!(again.workspace.git_token.as_ref().map(sandbox::Secret::expose), Some("new"), "the new token was kept");
    let turn = again.turn.unwrap();
    assert_eq!((turn.agent.as_str(), turn.model.as_str(), turn.auto_commit), ("plan", "n", false));
}

#[test]
fn a_failed_start_is_one_error_event_a_cleared_marker_and_the_containers_own_code() {
    let mut world = World::prepared(json!({}));
    let reply = world.call(Call::Initiate);
    let start = world.asked_work();
    let outcome =
        sandbox::Outcome::Failed { code: "WRAPPER_START_FAILED".into(), message: "no port".into(), retryable: true };
    let outputs = world.report(&start, 1, Step::Failed, Some(outcome));
    let error = world.reply(reply).unwrap().unwrap_err();
    assert_eq!((error.error.as_deref(), error.retryable), (Some("WRAPPER_START_FAILED"), Some(true)));
    assert_eq!(error.code.facts().1, 503);
    assert_eq!(world.stored("error"), [json!({"error": "no port", "fatal": true})]);
    let statuses = broadcasts(&outputs, "cloud.status");
    assert_eq!(statuses[0]["cloudStatus"], json!({"type": "error", "message": "no port"}));
    let view = world.view();
    assert_eq!((&view["execution"], &view["lastExecution"]["status"]), (&Value::Null, &json!("failed")));
}

#[test]
fn a_retry_after_a_failed_initiate_succeeds() {
    let mut world = World::prepared(json!({}));
    world.call(Call::Initiate);
    let start = world.asked_work();
    world.fail_work(&start, 1);
    assert_eq!(world.view()["initiatedAt"], Value::Null);
    world.pass(1_000);
    let retry = world.call(Call::Initiate);
    let start = world.asked_work();
    world.connect(&start.turn.clone().unwrap().execution_id, &start);
    world.finish_work(&start, 1);
    assert!(matches!(world.reply(retry), Some(Ok(Answer::Ack(_)))));
    assert_eq!(world.view()["initiatedAt"], world.now);
}

#[test]
fn an_initiate_beside_another_does_not_take_the_winners_timestamp() {
    let mut world = World::prepared(json!({}));
    let winner = world.call(Call::Initiate);
    let initiated = world.view()["initiatedAt"].clone();
    world.pass(5_000);
    let loser = world.call(Call::Initiate);
    assert_eq!(world.reply(loser).unwrap().unwrap_err().error.as_deref(), Some("EXECUTION_IN_PROGRESS"));
    assert_eq!(world.view()["initiatedAt"], initiated);
    let start = world.asked_work();
    let execution = start.turn.clone().unwrap().execution_id;
    world.connect(&execution, &start);
    world.finish_work(&start, 1);
    assert!(matches!(world.reply(winner), Some(Ok(Answer::Ack(_)))));
    world.complete(&execution);
    let late = world.call(Call::Initiate);
    assert_eq!(world.reply(late).unwrap().unwrap_err().message, "Session has already been initiated");
    assert_eq!(world.view()["initiatedAt"], initiated, "the timestamp is that of the first turn, for ever");
}

#[test]
fn a_manual_initiate_during_the_automatic_one_loses_and_the_session_is_ready() {
    let mut world = World::prepared(json!({"autoInitiate": true}));
    let initiated = world.view()["initiatedAt"].clone();
    let manual = world.call(Call::Initiate);
    assert_eq!(world.reply(manual).unwrap().unwrap_err().error.as_deref(), Some("EXECUTION_IN_PROGRESS"));
    let start = world.asked_work();
    let outputs = world.finish_work(&start, 1);
    assert_eq!(broadcasts(&outputs, "preparing")[0]["step"], "ready");
    assert_eq!(world.view()["initiatedAt"], initiated);
}

#[test]
fn a_marker_without_its_execution_locks_nothing() {
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    let dangling = "UPDATE session SET active = 'exc_01ARZ3NDEKTSV4RRFFQ69G5FAV'";
    database::execute(&world.db, dangling, &[]).unwrap();
    world.evict();
    assert_eq!(world.view()["execution"], Value::Null);
    let (next, _) = world.follow_up();
    assert_eq!(world.view()["execution"]["id"], next.as_str());
}

#[test]
fn a_start_that_is_asked_for_again_has_a_higher_generation() {
    let mut world = World::prepared(json!({"autoInitiate": true}));
    let first = world.asked_work();
    let lost = Outcome::Failed { code: "SANDBOX_CONNECT_FAILED".into(), message: "gone".into() };
    world.outcome("work/2", lost);
    let second = world.asked_work();
    let url = |work: &Work| work.turn.clone().unwrap().ingest_url;
    assert!(url(&first).ends_with("&generation=1") && url(&second).ends_with("&generation=2"));
    assert_eq!(first.attempt, second.attempt, "the same attempt: a container that knows it does nothing new");
}

#[test]
fn the_container_that_knows_the_attempt_keeps_its_generation_however_often_it_is_asked() {
    let mut world = World::prepared(json!({"autoInitiate": true}));
    let first = world.asked_work();
    world.asked_work();
    let execution = first.turn.clone().unwrap().execution_id;
    assert!(matches!(&world.connect(&execution, &first)[0], Output::AcceptIngest { .. }));
    world.finish_work(&first, 1);
    world.disconnect(&execution);
    assert!(matches!(&world.connect(&execution, &first)[0], Output::AcceptIngest { .. }));
}

#[test]
fn the_wrapper_of_a_lost_container_is_refused_once_that_of_the_new_one_has_connected() {
    let mut world = World::prepared(json!({"autoInitiate": true}));
    let lost = world.asked_work();
    let execution = lost.turn.clone().unwrap().execution_id;
    world.connect(&execution, &lost);
    let new = world.asked_work();
    world.connect(&execution, &new);
    world.evict();
    let stale = Output::Refuse { status: 409, message: "Stale wrapper generation".into() };
    assert_eq!(world.connect(&execution, &lost), std::slice::from_ref(&stale));
    world.complete(&execution);
    assert_eq!(world.connect(&execution, &lost), [stale], "in the drain window too");
    assert!(matches!(&world.connect(&execution, &new)[0], Output::AcceptIngest { .. }));
}

/// Found by the simulation: a wrapper was killed before the agent had its prompt, and its successor declared the execution failed. A start that had been
/// asked for again, and took long to arrive, began it once more in the same container; its wrapper had a higher generation, so it was let in, handed the
/// agent the prompt, and only then heard that it was to stop: a turn ran that its caller had been told would not.
#[test]
fn a_start_that_arrives_after_its_execution_has_ended_hands_the_agent_nothing() {
    let not_active = Output::Refuse { status: 409, message: "Execution not active".into() };
    let mut world = World::prepared(json!({"autoInitiate": true}));
    let first = world.asked_work();
    let execution = first.turn.clone().unwrap().execution_id;
    world.connect(&execution, &first);
    let late = world.asked_work();
    world.frame(&execution, json!({"streamEventType": "error", "data": {"fatal": true, "error": "Wrapper restarted"}}));
    assert_eq!(
        world.connect(&execution, &late),
        std::slice::from_ref(&not_active),
        "the second generation never ran it"
    );
    assert!(matches!(&world.connect(&execution, &first)[0], Output::AcceptIngest { .. }), "the first did");

    let mut world = World::prepared(json!({"autoInitiate": true}));
    let slow = world.asked_work();
    let execution = slow.turn.clone().unwrap().execution_id;
    world.fail_work(&slow, 1);
    assert_eq!(world.connect(&execution, &slow), [not_active], "nor did a first that had not connected");

    let mut world = World::prepared(json!({"autoInitiate": true}));
    let deaf = world.asked_work();
    let execution = deaf.turn.clone().unwrap().execution_id;
    world.finish_work(&deaf, 1);
    world.alarm();
    let accepted = &world.connect(&execution, &deaf)[0];
    let Output::AcceptIngest { commands, .. } = accepted else { panic!("{accepted:?}") };
    assert_eq!(
        commands.last(),
        Some(&Command::Kill { signal: None }),
        "the agent has had the prompt: it is told to stop"
    );
}
