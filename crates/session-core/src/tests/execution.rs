use super::*;
use crate::store;
use crate::store::Status;
use protocol::ingest::Command;

#[test]
fn five_transitions_exist() {
    use Status::*;
    let all = [Completed, Failed, Interrupted, Pending, Running];
    let allowed: Vec<_> = all.iter().flat_map(|a| all.map(|b| (*a, b))).filter(|(a, b)| a.may_become(*b)).collect();
    assert_eq!(
        allowed,
        [(Pending, Failed), (Pending, Running), (Running, Completed), (Running, Failed), (Running, Interrupted)]
    );
}

#[test]
fn a_second_turn_is_refused_while_one_is_active() {
    let (mut world, execution, _) = World::running();
    let reply = world.send("more");
    let error = world.reply(reply).unwrap().unwrap_err();
    assert_eq!(error.error.as_deref(), Some("EXECUTION_IN_PROGRESS"));
    assert_eq!(error.active_execution_id, Some(execution.to_string()));
}

#[test]
fn a_follow_up_runs_as_the_first_turn_did() {
    let (mut world, first, _) = World::running();
    world.frame(&first, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    let reply = world.send("more");
    let work = world.asked_work();
    let turn = work.turn.clone().unwrap();
    assert_eq!((turn.prompt.as_str(), turn.execution_id != first), ("more", true));
    world.finish_work(&work, 1);
    let Some(Ok(Answer::Ack(ack))) = world.reply(reply) else { panic!() };
    assert_eq!((ack.execution_id, ack.status.as_str()), (turn.execution_id.to_string(), "started"));
}

#[test]
fn a_follow_up_before_the_first_turn_is_refused() {
    let mut world = World::new();
    world.register(json!({}));
    let reply = world.send("more");
    assert_eq!(world.reply(reply).unwrap().unwrap_err().message, "Session has not been initiated yet");
    let reply = world.call(Call::Initiate);
    assert_eq!(world.reply(reply).unwrap().unwrap_err().message, "Session has not been prepared");
}

#[test]
fn an_execution_ends_once() {
    let (mut world, execution, _) = World::running();
    world.frame(&execution, json!({"streamEventType": "complete", "data": {"exitCode": 0, "currentBranch": "topic"}}));
    world.frame(&execution, json!({"streamEventType": "error", "data": {"error": "late", "fatal": true}}));
    let view = world.view();
    assert_eq!((&view["lastExecution"]["status"], &view["upstreamBranch"]), (&json!("completed"), &json!("topic")));
    let released = world.alarm();
    let leases: Vec<_> =
        released.iter().filter(|o| matches!(o, Output::Perform { effect: Effect::Release { .. }, .. })).collect();
    assert_eq!(leases.len(), 1, "the container's lease is given back, once");
}

#[test]
fn the_end_of_one_execution_does_not_touch_the_next() {
    let (mut world, first, _) = World::running();
    world.frame(&first, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    world.send("more");
    let second = store::active_execution(&world.db).unwrap().unwrap().id;
    for late in [
        json!({"streamEventType": "error", "data": {"fatal": true}}),
        json!({"streamEventType": "interrupted", "data": {}}),
    ] {
        world.frame(&first, late);
    }
    world.disconnect(&first);
    let active = store::active_execution(&world.db).unwrap().unwrap();
    assert_eq!((active.id, active.status, active.disconnected_at), (second, Status::Pending, None));
}

#[test]
fn an_interrupt_reaches_the_wrapper_and_the_container() {
    let (mut world, execution, _) = World::running();
    let reply = world.call(Call::Interrupt);
    let kill = Command::Kill { signal: Some("SIGTERM".into()) };
    assert!(world.outputs.contains(&Output::ToIngest { execution: execution.clone(), command: kill }));
    world.done(&format!("abort/{execution}"));
    let Some(Ok(Answer::Interrupted(answer))) = world.reply(reply) else { panic!() };
    assert!(answer.success && answer.processes_found);
    world.frame(&execution, json!({"streamEventType": "interrupted", "data": {"reason": "Session stopped"}}));
    assert_eq!(world.view()["lastExecution"]["status"], "interrupted");
}

#[test]
fn an_interrupt_of_an_agent_that_is_gone_ends_its_execution() {
    let (mut world, execution, _) = World::running();
    let reply = world.call(Call::Interrupt);
    let gone = Outcome::Refused { code: "NOT_RUNNING".into(), message: "m".into() };
    world.outcome(&format!("abort/{execution}"), gone);
    let Some(Ok(Answer::Interrupted(answer))) = world.reply(reply) else { panic!() };
    assert!(!answer.processes_found);
    let last = world.view()["lastExecution"].clone();
    assert_eq!([&last["status"], &last["error"]], ["failed", "Interrupted - no running processes found"]);
    assert_eq!(world.stored("error").len(), 1);
}

#[test]
fn interrupting_nothing_is_fine() {
    let mut world = World::new();
    let reply = world.call(Call::Interrupt);
    let Some(Ok(Answer::Interrupted(answer))) = world.reply(reply) else { panic!() };
    assert_eq!((answer.success, answer.message.as_str()), (false, "Session not found"));
}

#[test]
fn a_fresh_git_token_is_used_and_kept() {
    let (mut world, first, _) = World::running();
    world.frame(&first, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    let message =
        parse_send_message(&json!({"cloudAgentSessionId": SESSION, "prompt": "p", "gitToken": "new"})).unwrap();
    world.call(Call::Send(Box::new(message)));
    assert_eq!(world.asked_work().workspace.git_token.unwrap().expose(), "new");
}

#[test]
fn an_interruption_that_arrives_before_the_answer_to_the_abort_answers_the_caller() {
    let (mut world, execution, _) = World::running();
    let reply = world.call(Call::Interrupt);
    world.frame(&execution, json!({"streamEventType": "interrupted", "data": {"reason": "Session stopped"}}));
    let Some(Ok(Answer::Interrupted(answer))) = world.reply(reply) else { panic!() };
    assert!(answer.success && answer.processes_found);
}

/// A session whose first turn is being started by a front end that waits, with the wrapper connected already.
fn starting() -> (World, ReplyTo, ExecutionId, Work) {
    let mut world = World::prepared(json!({}));
    let reply = world.call(Call::Initiate);
    let start = world.asked_work();
    let execution = start.turn.clone().unwrap().execution_id;
    world.connect(&execution, &start);
    (world, reply, execution, start)
}

#[test]
fn a_turn_that_is_over_before_its_start_was_reported_was_started() {
    let (mut world, reply, execution, start) = starting();
    let outputs = world.frame(&execution, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    assert!(matches!(world.reply(reply), Some(Ok(Answer::Ack(_)))));
    assert_eq!(broadcasts(&outputs, "preparing")[0]["step"], "ready");
    assert!(broadcasts(&world.finish_work(&start, 1), "preparing").is_empty());
    assert!(world.view()["initiatedAt"].is_i64());
}

#[test]
fn whatever_ends_a_first_turn_before_it_began_leaves_it_to_be_initiated() {
    type End = fn(&mut World, &ExecutionId);
    let fatal: End = |world, id| drop(world.frame(id, json!({"streamEventType": "error", "data": {"fatal": true}})));
    let interrupted: End = |world, id| drop(world.frame(id, json!({"streamEventType": "interrupted"})));
    let grace: End = |world, id| {
        world.disconnect(id);
        world.pass(10_000);
        world.tick();
    };
    let bound: End = |world, id| {
        world.pass(9 * 60_000);
        world.frame(id, json!({"streamEventType": "heartbeat"}));
        world.pass(3 * 60_000);
        world.tick();
    };
    for (end, last) in [(fatal, "error"), (interrupted, "ready"), (grace, "error"), (bound, "error")] {
        let (mut world, reply, execution, start) = starting();
        world.report(&start, 1, Step::KiloServer, None);
        world.outputs.clear();
        end(&mut world, &execution);
        assert!(world.reply(reply).unwrap().is_err());
        world.fail_work(&start, 2);
        // Viewers wait for the end of what they saw beginning, and hear of it once.
        let told = broadcasts(&world.outputs, "preparing");
        assert_eq!((told.len(), &told[0]["step"]), (1, &json!("failed")));
        assert_eq!(broadcasts(&world.outputs, "cloud.status").last().unwrap()["cloudStatus"]["type"], last);
        let view = world.view();
        assert_eq!((&view["initiatedAt"], &view["execution"]), (&Value::Null, &Value::Null));
        world.call(Call::Initiate);
        assert_eq!(world.view()["execution"]["status"], "pending");
    }
}

/// The agent takes no message twice, and may have had this one: with it the session could never be initiated again.
#[test]
fn a_first_turn_that_is_begun_again_is_another_message() {
    let named = "msg_0123456789abABCDEFGHIJKLMN";
    let mut world = World::prepared(json!({"initialMessageId": named}));
    let mut messages = vec![];
    for _ in 0..2 {
        world.call(Call::Initiate);
        let work = world.asked_work();
        assert!(!work.snapshot.as_ref().unwrap().restore, "there is no conversation yet");
        let turn = work.turn.clone().unwrap();
        messages.push(turn.message_id.to_string());
        world.connect(&turn.execution_id, &work);
        world.frame(&turn.execution_id, json!({"streamEventType": "interrupted"}));
    }
    assert_eq!(messages[0], named);
    assert_ne!(messages[1], named);
}

#[test]
fn who_is_interrupted_while_it_commits_does_not_go_on_committing_before_the_viewers() {
    let (mut world, execution, _) = World::running();
    world.frame(&execution, json!({"streamEventType": "autocommit_started", "data": {"message": "m"}}));
    world.frame(&execution, json!({"streamEventType": "interrupted"}));
    let statuses = broadcasts(&world.outputs, "cloud.status");
    let kinds: Vec<_> = statuses.iter().map(|status| status["cloudStatus"]["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["finalizing", "ready"]);
}

#[test]
fn a_github_token_does_not_go_to_another_host() {
    let (mut world, first, _) = World::running();
    world.frame(&first, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    let message = json!({"cloudAgentSessionId": SESSION, "prompt": "p", "githubToken": "gh"});
    world.call(Call::Send(Box::new(parse_send_message(&message).unwrap())));
    assert_eq!(world.asked_work().workspace.git_token, None);
}
