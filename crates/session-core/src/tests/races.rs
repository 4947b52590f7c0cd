//! The races of spec/session.md 4.4 and 10.3. Every input is one transaction, so what is left to get wrong is the order of inputs.

use super::*;
use crate::store;
use crate::store::Status;
use object_core::time::MINUTE;
use protocol::ingest::Command;

/// Two executions: the first has ended, the second runs.
fn two() -> (World, (ExecutionId, Work), (ExecutionId, Work)) {
    let (mut world, first, start) = World::running_with(json!({"callbackTarget": {"url": "https://hook.example/x"}}));
    world.complete(&first);
    let second = world.follow_up();
    (world, (first, start), second)
}

fn active(world: &World) -> store::ExecutionRow {
    store::active_execution(&world.db).unwrap().expect("an execution is active")
}

fn interrupt_gone(world: &mut World, execution: &ExecutionId) {
    let gone = Outcome::Refused { code: "NOT_RUNNING".into(), message: "m".into() };
    world.outcome(&format!("abort/{execution}"), gone);
}

#[test]
fn the_end_of_a_first_execution_leaves_the_marker_and_the_interrupt_of_the_second() {
    let (mut world, (first, _), (second, _)) = two();
    world.call(Call::Interrupt);
    for late in [
        json!({"streamEventType": "error", "data": {"fatal": true, "error": "late"}}),
        json!({"streamEventType": "interrupted", "data": {}}),
        json!({"streamEventType": "complete", "data": {"exitCode": 1}}),
    ] {
        world.frame(&first, late);
    }
    let row = active(&world);
    assert_eq!((row.id, row.status, row.interrupted), (second, Status::Running, true));
    let third = world.send("more");
    assert_eq!(world.reply(third).unwrap().unwrap_err().error.as_deref(), Some("EXECUTION_IN_PROGRESS"));
}

#[test]
fn an_interrupt_that_the_reaper_was_faster_than_is_not_left_for_the_next_turn() {
    let (mut world, first, _) = World::running();
    world.call(Call::Interrupt);
    world.pass(11 * MINUTE);
    world.tick();
    assert_eq!(world.view()["lastExecution"]["error"], "Execution timeout - no heartbeat received");
    let (second, work) = world.follow_up();
    assert!(!active(&world).interrupted);
    let Output::AcceptIngest { commands, .. } = world.connect(&second, &work).remove(0) else { panic!() };
    assert_eq!(commands, [Command::Resume { last_seq: 0 }], "the new turn is not told to stop");
    world.take(Input::Outcome {
        key: format!("abort/{first}"),
        effect: Box::new(world.performed[&format!("abort/{first}")].clone()),
        outcome: Outcome::Refused { code: "NOT_RUNNING".into(), message: "late".into() },
    });
    assert_eq!(active(&world).status, Status::Running, "nor does the late answer to the abort end it");
}

#[test]
fn a_grace_of_the_first_execution_is_no_grace_of_the_second() {
    let (mut world, first, _) = World::running();
    world.disconnect(&first);
    world.pass(5_000);
    world.complete(&first);
    let (second, _) = world.follow_up();
    world.pass(6_000);
    world.tick();
    assert_eq!((active(&world).id, active(&world).disconnected_at), (second.clone(), None));
    world.take(Input::IngestClosed { execution: first, code: 1006, reason: "late".into() });
    assert_eq!(active(&world).disconnected_at, None, "the late close of the first begins none");
    world.disconnect(&second);
    assert_eq!(active(&world).disconnected_at, Some(world.now));
}

#[test]
fn a_reconnect_of_the_first_execution_does_not_end_the_grace_of_the_second() {
    let (mut world, (first, start), (second, _)) = two();
    world.disconnect(&second);
    world.pass(3_000);
    let accepted = world.connect(&first, &start);
    assert!(matches!(&accepted[0], Output::AcceptIngest { .. }), "the first may still deliver what it has");
    world.pass(7_000);
    world.tick();
    assert_eq!(world.view()["lastExecution"]["error"], "Wrapper disconnected");
}

#[test]
fn the_old_sockets_close_that_comes_after_the_reconnect_begins_no_grace() {
    let (mut world, execution, work) = World::running();
    world.disconnect(&execution);
    world.connect(&execution, &work);
    world.take(Input::IngestClosed { execution: execution.clone(), code: 1006, reason: "late".into() });
    assert_eq!(active(&world).disconnected_at, None);
}

#[test]
fn a_second_close_does_not_lengthen_the_grace() {
    let (mut world, execution, _) = World::running();
    world.disconnect(&execution);
    world.pass(6_000);
    world.disconnect(&execution);
    world.evict();
    assert_eq!(world.alarm, Some(world.now + 4_000));
}

#[test]
fn a_complete_that_comes_after_the_grace_alarm_changes_nothing_but_the_log() {
    let (mut world, execution, work) = World::running();
    world.disconnect(&execution);
    world.alarm();
    world.connect(&execution, &work);
    world.complete(&execution);
    let view = world.view();
    assert_eq!((&view["lastExecution"]["status"], &view["execution"]), (&json!("failed"), &Value::Null));
    assert_eq!((world.stored("complete").len(), world.stored("wrapper_disconnected").len()), (1, 1));
}

#[test]
fn two_alarms_in_a_row_make_one_event_and_one_callback() {
    let (mut world, execution, _) = World::running_with(json!({"callbackTarget": {"url": "https://hook.example/x"}}));
    world.disconnect(&execution);
    world.pass(10_000);
    let outputs: Vec<_> = (0..3)
        .flat_map(|_| {
            world.evict();
            world.tick()
        })
        .collect();
    let callbacks = outputs.iter().filter(|o| matches!(o, Output::Perform { effect: Effect::Callback(_), .. })).count();
    assert_eq!((callbacks, world.stored("wrapper_disconnected").len()), (1, 1));
}

#[test]
fn the_fallback_of_an_interrupt_and_the_wrappers_own_frame_end_it_once() {
    let own = json!({"streamEventType": "interrupted", "data": {"reason": "Session stopped"}});
    let (mut world, execution, _) = World::running();
    world.call(Call::Interrupt);
    interrupt_gone(&mut world, &execution);
    world.frame(&execution, own.clone());
    assert_eq!(world.view()["lastExecution"]["error"], "Interrupted - no running processes found");

    let (mut world, execution, _) = World::running();
    world.call(Call::Interrupt);
    world.frame(&execution, own);
    interrupt_gone(&mut world, &execution);
    let view = world.view();
    assert_eq!(
        (&view["lastExecution"]["status"], &view["lastExecution"]["error"]),
        (&json!("interrupted"), &json!("Session stopped"))
    );
    assert_eq!(world.stored("interrupted").len(), 1, "no second event");
}

#[test]
fn an_interrupt_of_a_turn_that_never_came_up_fails_it() {
    let mut world = World::prepared(json!({"autoInitiate": true}));
    let reply = world.call(Call::Interrupt);
    let execution = active(&world).id;
    interrupt_gone(&mut world, &execution);
    assert!(matches!(world.reply(reply), Some(Ok(Answer::Interrupted(_)))));
    let view = world.view();
    assert_eq!(view["lastExecution"]["status"], "failed", "pending becomes failed, never interrupted");
    assert_eq!(view["initiatedAt"], Value::Null, "its prompt is not lost");
}

#[test]
fn interrupting_twice_is_one_interrupt() {
    let (mut world, execution, _) = World::running();
    let first = world.call(Call::Interrupt);
    let second = world.call(Call::Interrupt);
    world.done(&format!("abort/{execution}"));
    world.frame(&execution, json!({"streamEventType": "interrupted", "data": {}}));
    let answered = [first, second].map(|reply| matches!(world.reply(reply), Some(Ok(Answer::Interrupted(_)))));
    assert_eq!(answered, [true, true], "both callers are answered");
    let reply = world.call(Call::Interrupt);
    let Some(Ok(Answer::Interrupted(answer))) = world.reply(reply) else { panic!() };
    assert_eq!(answer.message, "No active execution");
    assert!(world.view() != Value::Null, "the session is still there");
}
