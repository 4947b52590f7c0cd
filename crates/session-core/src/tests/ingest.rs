use super::*;
use protocol::ingest::Command;

fn open(world: &mut World, execution: &ExecutionId, generation: Option<i64>, secret: &str) -> Output {
    let proof = Proof::Secret(secret.to_owned());
    world.take(Input::IngestOpen(IngestOpen { execution: execution.clone(), generation, proof })).remove(0)
}

fn acks(outputs: &[Output]) -> Vec<u64> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Answer { command: Command::Ack { seq }, .. } => Some(*seq),
            _ => None,
        })
        .collect()
}

fn idle(seq: u64) -> Value {
    json!({"streamEventType": "kilocode", "seq": seq, "data": {"event": "session.idle", "n": seq}})
}

#[test]
fn the_handshake_is_guarded() {
    let (mut world, execution, work) = World::running();
    let secret = work.turn.unwrap().ingest_secret.expose().to_owned();
    let unknown = ExecutionId::parse("exc_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
    let refused = |output| match output {
        Output::Refuse { status, message } => (status, message),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(open(&mut world, &unknown, Some(1), &secret)), (404, "Execution not found".into()));
    assert_eq!(refused(open(&mut world, &execution, Some(1), "wrong")), (401, "Invalid executionId".into()));
    assert_eq!(refused(open(&mut world, &execution, Some(0), &secret)), (409, "Stale wrapper generation".into()));
    let accepted = open(&mut world, &execution, Some(1), &secret);
    assert_eq!(accepted, Output::AcceptIngest { execution, commands: vec![Command::Resume { last_seq: 0 }] });
}

#[test]
fn numbered_events_are_stored_once_and_acknowledged() {
    let (mut world, execution, work) = World::running();
    assert_eq!(acks(&world.frame(&execution, json!([idle(1), idle(2)]))), [2]);
    world.evict();
    let resent = world.frame(&execution, json!([idle(1), idle(2), idle(3)]));
    assert_eq!((acks(&resent), broadcasts(&resent, "kilocode").len()), (vec![3], 1));
    let stored: Vec<_> = world.stored("kilocode").iter().map(|data| data["n"].clone()).collect();
    assert_eq!(stored, [1, 2, 3]);
    let Output::AcceptIngest { commands, .. } = world.connect(&execution, &work).remove(0) else { panic!() };
    assert_eq!(commands, [Command::Resume { last_seq: 3 }]);
}

/// The state of one part, numbered.
fn part(seq: u64) -> Value {
    let part = json!({"id": "p", "messageID": "m", "text": seq.to_string()});
    json!({"streamEventType": "kilocode", "seq": seq, "data": {"event": "message.part.updated", "properties": {"part": part}}})
}

#[test]
fn a_wrapper_in_its_drain_window_is_told_what_it_was_acknowledged_whatever_the_next_one_overwrote() {
    for evicted in [false, true] {
        let (mut world, first, work) = World::running();
        world.frame(&first, json!([idle(1), part(2)]));
        world.disconnect(&first);
        world.pass(10_000);
        world.tick();
        let (second, second_work) = world.follow_up();
        world.frame(&second, json!([part(1)]));
        if evicted {
            world.evict();
        }
        let Output::AcceptIngest { commands, .. } = world.connect(&first, &work).remove(0) else { panic!() };
        assert_eq!(commands[0], Command::Resume { last_seq: 2 });
        assert_eq!(acks(&world.frame(&first, json!([idle(3), part(4)]))), [4], "its number continues");
        if evicted {
            world.evict();
        }
        assert_eq!(acks(&world.frame(&second, json!([part(2)]))), [2]);
        world.evict();
        assert_eq!(acks(&world.frame(&first, json!([part(5)]))), [5], "again and again");
        let Output::AcceptIngest { commands, .. } = world.connect(&second, &second_work).remove(0) else { panic!() };
        assert_eq!(commands[0], Command::Resume { last_seq: 2 });
    }
}

#[test]
fn what_an_ended_turn_still_says_of_its_commit_and_its_questions_changes_nothing() {
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    for kind in ["autocommit_started", "autocommit_completed"] {
        let outputs = world.frame(&execution, json!({"streamEventType": kind, "data": {}}));
        assert_eq!((broadcasts(&outputs, kind).len(), broadcasts(&outputs, "cloud.status").len()), (1, 0));
    }
    let asked = json!({"event": "question.asked", "properties": {"id": "que_1"}});
    world.frame(&execution, json!({"streamEventType": "kilocode", "data": asked}));
    let row = crate::store::last_execution(&world.db).unwrap().unwrap();
    assert!(row.waiting.is_empty());
}

#[test]
fn a_gap_stores_nothing_of_its_frame_and_closes() {
    let (mut world, execution, _) = World::running();
    let outputs = world.frame(&execution, json!([idle(1), idle(3)]));
    assert_eq!(outputs, [Output::Close { socket: 0, code: 4002, reason: "Gap after seq 0".into() }]);
    assert!(world.stored("kilocode").is_empty());
}

#[test]
fn an_event_without_a_number_is_taken_as_upstream_did() {
    let (mut world, execution, _) = World::running();
    let frame = json!({"streamEventType": "kilocode", "data": {"event": "session.idle"}});
    for _ in 0..2 {
        assert!(acks(&world.frame(&execution, frame.clone())).is_empty());
    }
    assert_eq!(world.stored("kilocode").len(), 2);
}

#[test]
fn volatile_events_are_broadcast_without_an_id() {
    let (mut world, execution, _) = World::running();
    for kind in ["started", "output", "status", "heartbeat", "pong", "wrapper_resumed", "whatever"] {
        let outputs = world.frame(&execution, json!({"streamEventType": kind, "data": {}}));
        let Some(Output::Broadcast(event)) = outputs.first() else { panic!("{kind}") };
        assert!(event.text.starts_with(r#"{"eventId":0,"#), "{kind}");
        assert!(world.stored(kind).is_empty());
    }
}

#[test]
fn bad_frames_are_answered_and_change_nothing() {
    let (mut world, execution, _) = World::running();
    let mut answer = |text: &str| match world.frames(&execution, &[text.into()]).remove(0) {
        Output::Answer { command: Command::Error { code, message }, .. } => (code, message),
        other => panic!("{other:?}"),
    };
    assert_eq!(answer("{\"data\":1}"), ("WS_PROTOCOL_ERROR".into(), "Missing streamEventType field".into()));
    assert_eq!(answer("nonsense").0, "WS_INTERNAL_ERROR");
    assert_eq!(answer("[]").1, "A frame holds 1 to 500 events, not 0");
}

#[test]
fn a_complete_without_an_exit_code_does_not_end_the_run() {
    let (mut world, execution, _) = World::running();
    let outputs = world.frame(&execution, json!({"streamEventType": "complete", "data": {"exitCode": "0"}}));
    assert!(broadcasts(&outputs, "cloud.status").is_empty());
    assert_eq!(world.view()["execution"]["status"], "running");
    let outputs = world.frame(&execution, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    assert_eq!(broadcasts(&outputs, "cloud.status")[0]["cloudStatus"]["type"], "ready");
}

#[test]
fn a_fatal_error_and_an_interruption_end_the_run_with_their_reason() {
    for (frame, status, error) in [
        (json!({"streamEventType": "error", "data": {"fatal": true, "message": "no credit"}}), "failed", "no credit"),
        (json!({"streamEventType": "error", "data": {"fatal": true}}), "failed", "Fatal error"),
        (json!({"streamEventType": "interrupted", "data": {"reason": "r"}}), "interrupted", "r"),
        (json!({"streamEventType": "interrupted"}), "interrupted", "User interrupted"),
    ] {
        let (mut world, execution, _) = World::running();
        world.frame(&execution, frame);
        let view = world.view();
        assert_eq!(
            (&view["lastExecution"]["status"], &view["lastExecution"]["error"]),
            (&json!(status), &json!(error))
        );
    }
    let (mut world, execution, _) = World::running();
    world.frame(&execution, json!({"streamEventType": "error", "data": {"error": "not fatal"}}));
    assert_eq!(world.view()["execution"]["status"], "running");
}

#[test]
fn within_the_drain_window_the_log_is_kept_and_the_state_is_not_touched() {
    let (mut world, execution, work) = World::running();
    world.disconnect(&execution);
    world.pass(11_000);
    world.tick();
    assert_eq!(world.view()["lastExecution"]["error"], "Wrapper disconnected");
    world.pass(60_000);
    let Output::AcceptIngest { commands, .. } = world.connect(&execution, &work).remove(0) else { panic!() };
    assert_eq!(commands, [Command::Resume { last_seq: 0 }, Command::Kill { signal: None }]);
    let outputs =
        world.frame(&execution, json!([idle(1), {"streamEventType": "complete", "seq": 2, "data": {"exitCode": 0}}]));
    assert_eq!(acks(&outputs), [2]);
    assert_eq!(world.view()["lastExecution"]["status"], "failed");
    world.pass(Limits::default().ingest_drain_ms);
    let refused = world.connect(&execution, &work).remove(0);
    assert_eq!(refused, Output::Refuse { status: 409, message: "Execution not active".into() });
}

#[test]
fn after_the_drain_window_a_socket_that_stayed_open_is_closed_and_nothing_is_stored() {
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    world.pass(Limits::default().ingest_drain_ms - 1);
    assert_eq!(acks(&world.frame(&execution, idle(1))), [1]);
    world.pass(1);
    let rows = |world: &World| {
        database::Database::query(&world.db, "SELECT total_changes()", &[]).unwrap()[0].get::<i64>(0).unwrap()
    };
    let before = rows(&world);
    let frames = [json!({"streamEventType": "heartbeat"}).to_string(), idle(2).to_string()];
    let closed = |socket| Output::Close { socket, code: 4409, reason: "Execution not active".into() };
    assert_eq!(world.frames(&execution, &frames), [closed(0), closed(1)]);
    assert_eq!((world.stored("kilocode").len(), rows(&world)), (1, before));
}

#[test]
fn heartbeats_are_written_at_most_every_30_seconds() {
    let (mut world, execution, _) = World::running();
    let connected = world.view()["execution"]["lastHeartbeat"].clone();
    world.pass(29_000);
    world.frame(&execution, json!({"streamEventType": "heartbeat"}));
    assert_eq!(world.view()["execution"]["lastHeartbeat"], connected);
    world.pass(1_000);
    world.frame(&execution, json!({"streamEventType": "heartbeat"}));
    assert_eq!(world.view()["execution"]["lastHeartbeat"], world.now);
}

#[test]
fn an_interrupted_run_is_killed_again_when_its_wrapper_comes_back() {
    let (mut world, execution, work) = World::running();
    world.disconnect(&execution);
    world.call(Call::Interrupt);
    let Output::AcceptIngest { commands, .. } = world.connect(&execution, &work).remove(0) else { panic!() };
    assert!(commands.contains(&Command::Kill { signal: None }));
}

#[test]
fn a_range_that_the_spool_gave_up_is_announced_and_not_a_gap() {
    let (mut world, execution, _) = World::running();
    let lost =
        |from: u64, to: u64| json!({"streamEventType": "events_lost", "seq": to, "data": {"from": from, "to": to}});
    assert_eq!(acks(&world.frame(&execution, json!([idle(1), lost(2, 5), idle(6)]))), [6]);
    assert_eq!(world.stored("events_lost"), [json!({"from": 2, "to": 5})]);
    let outputs = world.frame(&execution, json!([lost(8, 9)]));
    assert!(matches!(&outputs[..], [Output::Close { code: 4002, .. }]), "7 is missing");
}

#[test]
fn the_same_number_twice_in_one_frame_is_stored_once() {
    let (mut world, execution, _) = World::running();
    assert_eq!(acks(&world.frame(&execution, json!([idle(1), idle(1), idle(2)]))), [2]);
    assert_eq!(world.stored("kilocode").len(), 2);
}

#[test]
fn a_numbered_event_is_kept_even_if_this_version_calls_it_volatile() {
    let (mut world, execution, work) = World::running();
    assert_eq!(acks(&world.frame(&execution, json!({"streamEventType": "from_the_future", "seq": 1}))), [1]);
    world.evict();
    let Output::AcceptIngest { commands, .. } = world.connect(&execution, &work).remove(0) else { panic!() };
    assert_eq!(commands, [Command::Resume { last_seq: 1 }]);
}
