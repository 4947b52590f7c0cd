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
    world.take(Input::Outcome { key: format!("abort/{execution}"), outcome: gone });
    let Some(Ok(Answer::Interrupted(answer))) = world.reply(reply) else { panic!() };
    assert!(!answer.processes_found);
    assert_eq!(world.view()["lastExecution"]["error"], "Interrupted - no running processes found");
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
