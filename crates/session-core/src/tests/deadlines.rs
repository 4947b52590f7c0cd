use super::*;
use object_core::time::MINUTE;

/// The error of the last execution, if it has one.
fn error(world: &mut World) -> Value {
    world.view()["lastExecution"]["error"].clone()
}

#[test]
fn the_grace_is_kept_to_the_millisecond() {
    let (mut world, execution, _) = World::running();
    world.disconnect(&execution);
    assert_eq!(world.alarm, Some(world.now + 10_000));
    world.pass(3_000);
    world.tick();
    assert_eq!((error(&mut world), world.alarm), (Value::Null, Some(world.now + 7_000)));
    world.alarm();
    assert_eq!(
        world.stored("wrapper_disconnected"),
        [
            json!({"reason": "Wrapper disconnected", "error": "Wrapper disconnected", "fatal": true, "wsCloseCode": 1006, "wsCloseReason": "gone"})
        ]
    );
    world.pass(1);
    world.tick();
    assert_eq!(world.stored("wrapper_disconnected").len(), 1, "a second alarm changes nothing");
}

#[test]
fn a_reconnect_ends_the_grace() {
    let (mut world, execution, work) = World::running();
    world.disconnect(&execution);
    world.pass(9_000);
    world.connect(&execution, &work);
    world.pass(2_000);
    world.tick();
    assert_eq!(error(&mut world), Value::Null);
}

#[test]
fn a_close_while_another_socket_is_open_starts_no_grace() {
    let (mut world, execution, _) = World::running();
    world.take(Input::IngestClosed { execution, code: 1000, reason: String::new() });
    world.pass(11_000);
    world.tick();
    assert_eq!(error(&mut world), Value::Null);
}

#[test]
fn completion_during_the_grace_wins() {
    let (mut world, execution, _) = World::running();
    world.disconnect(&execution);
    world.frame(&execution, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    world.pass(11_000);
    world.tick();
    assert_eq!(world.view()["lastExecution"]["status"], "completed");
    assert!(world.stored("wrapper_disconnected").is_empty());
}

#[test]
fn an_object_that_wakes_without_its_wrapper_begins_the_grace() {
    let (mut world, ..) = World::running();
    world.facts.ingest.clear();
    world.evict();
    assert_eq!(world.alarm, Some(world.now + 10_000));
    world.alarm();
    assert_eq!(error(&mut world), "Wrapper disconnected");
}

#[test]
fn an_accepted_prompt_whose_wrapper_never_connects_fails() {
    let mut world = World::prepared(json!({"autoInitiate": true}));
    let start = world.asked_work();
    world.pass(2 * MINUTE);
    world.finish_work(&start, 1);
    assert_eq!(world.alarm, Some(world.now + 3 * MINUTE), "the clock runs from the acceptance");
    world.alarm();
    assert_eq!(error(&mut world), "Execution timeout - wrapper never connected");
}

#[test]
fn a_silent_wrapper_is_stale() {
    let (mut world, execution, _) = World::running();
    world.frame(&execution, json!({"streamEventType": "heartbeat"}));
    world.pass(11 * MINUTE);
    world.tick();
    assert_eq!(error(&mut world), "Execution timeout - no heartbeat received");
    assert_eq!(world.stored("error"), [json!({"error": "Execution timeout - no heartbeat received", "fatal": true})]);
}

#[test]
fn heartbeats_alone_do_not_keep_a_hung_agent_alive() {
    let (mut world, execution, _) = World::running();
    world.frame(&execution, json!({"streamEventType": "output"}));
    for _ in 0..5 {
        world.pass(MINUTE);
        world.frame(&execution, json!({"streamEventType": "heartbeat"}));
    }
    world.alarm();
    assert_eq!(error(&mut world), "Execution hung — no events received for 5 minutes");
}

#[test]
fn a_pending_question_suspends_the_hung_deadline_but_not_the_maximum() {
    let (mut world, execution, _) = World::running();
    let begun = world.view()["execution"]["startedAt"].as_i64().unwrap();
    world.frame(
        &execution,
        json!({"streamEventType": "kilocode", "data": {"event": "question.asked", "properties": {"id": "que_1"}}}),
    );
    while world.view()["execution"] != Value::Null {
        world.pass(MINUTE);
        world.frame(&execution, json!({"streamEventType": "heartbeat"}));
        world.tick();
    }
    assert_eq!(error(&mut world), "Execution exceeded maximum runtime");
    assert!(world.now - begun >= 30 * MINUTE);
}

#[test]
fn an_answered_question_resumes_the_hung_deadline() {
    let (mut world, execution, _) = World::running();
    world.frame(
        &execution,
        json!({"streamEventType": "kilocode", "data": {"event": "question.asked", "properties": {"id": "que_1"}}}),
    );
    world.pass(6 * MINUTE);
    world.frame(&execution, json!({"streamEventType": "kilocode", "data": {"event": "question.replied", "properties": {"requestID": "que_1"}}}));
    assert_eq!(world.alarm, Some(world.now + 5 * MINUTE));
}

#[test]
fn a_session_at_rest_stops_its_agent_server_once_and_then_sleeps_for_90_days() {
    let (mut world, execution, _) = World::running();
    let last_heartbeat = world.view()["execution"]["lastHeartbeat"].as_i64().unwrap();
    world.frame(&execution, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    world.alarm();
    world.done(&format!("release/{execution}"));
    assert_eq!(world.alarm, Some(last_heartbeat + 15 * MINUTE));
    let stops = |outputs: Vec<Output>| {
        outputs.iter().filter(|o| matches!(o, Output::Perform { effect: Effect::Stop { .. }, .. })).count()
    };
    assert_eq!(stops(world.alarm()), 1);
    world.done("stop");
    let ended = world.view()["timestamp"].as_i64().unwrap();
    assert_eq!(world.alarm, Some(ended + 90 * 24 * 60 * MINUTE), "stopped once, and nothing is looked at");
    assert_eq!(stops(world.tick()), 0);
    world.alarm();
    assert_eq!(world.view(), Value::Null, "after 90 days without activity it is gone");
}

#[test]
fn a_session_that_never_ran_is_not_stopped() {
    let world = World::prepared(json!({}));
    assert_eq!(world.alarm, Some(START + 90 * 24 * 60 * MINUTE));
}

#[test]
fn events_are_kept_for_90_days() {
    let (mut world, execution, _) = World::running();
    for _ in 0..2 {
        world.frame(&execution, json!({"streamEventType": "kilocode", "data": {"event": "session.idle"}}));
    }
    world.frame(&execution, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    world.alarm();
    world.done(&format!("release/{execution}"));
    // A turn every 80 days keeps the session, not its old events.
    for _ in 0..2 {
        world.pass(80 * 24 * 60 * MINUTE);
        world.tick();
        world.send("more");
        let work = world.asked_work();
        let next = work.turn.clone().unwrap().execution_id;
        world.connect(&next, &work);
        world.finish_work(&work, 1);
        world.frame(&next, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    }
    assert!(world.stored("kilocode").is_empty());
    assert_eq!(world.stored("complete").len(), 2);
}

#[test]
fn an_event_goes_when_it_is_90_days_old_and_not_90_days_after_the_last_that_went() {
    const DAYS: i64 = 24 * 60 * MINUTE;
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    world.alarm();
    world.done(&format!("release/{execution}"));
    world.pass(50 * DAYS);
    let (second, _) = world.follow_up();
    world.complete(&second);
    let then = world.now;
    world.alarm();
    world.done(&format!("release/{second}"));
    world.alarm();
    world.done("stop");
    world.pass(30 * DAYS);
    let (third, _) = world.follow_up();
    world.complete(&third);
    world.alarm();
    world.done(&format!("release/{third}"));
    world.alarm();
    world.done("stop");
    world.alarm();
    assert_eq!((world.now, world.stored("complete").len()), (START + 90 * DAYS, 2));
    assert_eq!(world.alarm, Some(then + 90 * DAYS));
}

#[test]
fn events_that_grow_old_one_after_the_other_wake_the_session_once_a_day() {
    const DAYS: i64 = 24 * 60 * MINUTE;
    let (mut world, first, _) = World::running();
    world.complete(&first);
    world.alarm();
    world.done(&format!("release/{first}"));
    for pause in [MINUTE, 80 * DAYS] {
        world.pass(pause);
        let (next, _) = world.follow_up();
        world.complete(&next);
        world.alarm();
        world.done(&format!("release/{next}"));
        world.alarm();
        world.done("stop");
    }
    world.alarm();
    assert_eq!((world.now, world.stored("complete").len()), (START + 90 * DAYS, 2));
    assert_eq!(world.alarm, Some(START + 91 * DAYS));
}

#[test]
fn a_failing_write_changes_nothing() {
    let (mut world, execution, _) = World::running();
    database::execute(&world.db, "DROP TABLE entity", &[]).unwrap();
    let part = json!({"streamEventType": "kilocode", "data": {"event": "message.part.updated", "properties": {"part": {"id": "p", "messageID": "m"}}}});
    let frame = json!([{"streamEventType": "complete", "data": {"exitCode": 0}}, part]).to_string();
    let mut entropy = Entropy::from_seed([9; 32]);
    let facts = world.facts.clone();
    let frames = Input::IngestFrames(vec![IngestFrame { socket: 0, execution, text: frame }]);
    assert!(world.core.receive(&world.db, world.now, &facts, &mut entropy, frames).is_err());
    assert_eq!(world.view()["execution"]["status"], "running");
    assert!(world.stored("complete").is_empty());
}

#[test]
fn one_answer_does_not_answer_another_question() {
    let (mut world, execution, _) = World::running();
    let event = |name: &str, properties: Value| json!({"streamEventType": "kilocode", "data": {"event": name, "properties": properties}});
    for name in ["question.asked", "question.asked"] {
        world.frame(&execution, event(name, json!({"id": "que_1"})));
    }
    world.frame(&execution, event("permission.asked", json!({"id": "per_1"})));
    world.frame(&execution, event("permission.replied", json!({"requestID": "per_1"})));
    let begun = world.view()["execution"]["startedAt"].as_i64().unwrap();
    assert_ne!(world.alarm, Some(world.now + 5 * MINUTE));
    world.frame(&execution, event("session.turn.close", json!({"sessionID": "ses_of_a_child"})));
    assert_ne!(world.alarm, Some(world.now + 5 * MINUTE), "an agent that was called in ends only its own turn");
    world.frame(&execution, event("session.turn.close", json!({"sessionID": KILO_SESSION})));
    assert_eq!(world.alarm, Some(world.now + 5 * MINUTE), "the end of the turn ends its questions");
    assert!(begun <= world.now);
}

#[test]
fn an_idle_stop_that_is_still_tried_does_not_end_the_next_turn() {
    let (mut world, execution, _) = World::running();
    world.frame(&execution, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    world.alarm();
    world.done(&format!("release/{execution}"));
    world.alarm();
    world.outcome("stop", Outcome::Failed { code: "X".into(), message: "not now".into() });
    world.send("more");
    let performed: Vec<_> = (0..3).flat_map(|_| world.alarm()).collect();
    assert!(!performed.iter().any(|o| matches!(o, Output::Perform { effect: Effect::Stop { .. }, .. })));
}
