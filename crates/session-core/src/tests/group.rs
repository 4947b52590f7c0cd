//! Group commit: frames that arrived together are one transaction (design 3).

use super::*;
use crate::stream::arrays;
use protocol::ingest::Command;

fn idle(seq: u64) -> Value {
    json!({"streamEventType": "kilocode", "seq": seq, "data": {"event": "session.idle", "n": seq}})
}

fn texts(frames: &[Value]) -> Vec<String> {
    frames.iter().map(Value::to_string).collect()
}

/// What each socket is sent, in order.
fn answers(outputs: &[Output]) -> Vec<(usize, String)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Answer { socket, command: Command::Ack { seq } } => Some((*socket, format!("ack {seq}"))),
            Output::Answer { socket, command } => Some((*socket, format!("{command:?}"))),
            Output::Close { socket, code, .. } => Some((*socket, format!("close {code}"))),
            _ => None,
        })
        .collect()
}

#[test]
fn every_frame_of_a_group_is_acknowledged_by_itself() {
    let (mut world, execution, _) = World::running();
    let outputs = world.frames(&execution, &texts(&[idle(1), json!([idle(2), idle(3)]), idle(4)]));
    assert_eq!(answers(&outputs), [(0, "ack 1".into()), (1, "ack 3".into()), (2, "ack 4".into())]);
    assert_eq!(world.stored("kilocode").len(), 4);
}

#[test]
fn a_bad_frame_and_a_gap_take_nothing_from_the_other_frames_of_their_group() {
    let (mut world, execution, _) = World::running();
    let outputs =
        world.frames(&execution, &["{".into(), idle(1).to_string(), idle(7).to_string(), idle(2).to_string()]);
    let answers = answers(&outputs);
    assert!(answers[0].1.contains("WS_INTERNAL_ERROR"), "{answers:?}");
    assert_eq!(answers[1..], [(1, "ack 1".into()), (2, "close 4002".into()), (3, "ack 2".into())]);
    assert_eq!(world.stored("kilocode").len(), 2);
}

#[test]
fn a_number_that_cannot_be_stored_is_a_gap_and_no_fault_of_the_group() {
    let (mut world, execution, _) = World::running();
    let lost = json!({"streamEventType": "events_lost", "seq": 1_u64 << 60, "data": {"from": 1, "to": 1_u64 << 60}});
    let outputs = world.frames(&execution, &texts(&[lost, idle(1)]));
    assert_eq!(answers(&outputs), [(0, "close 4002".into()), (1, "ack 1".into())]);
}

#[test]
fn a_group_that_could_not_be_written_changes_nothing_and_can_be_sent_again() {
    let (mut world, execution, _) = World::running();
    database::execute(&world.db, "ALTER TABLE entity RENAME TO elsewhere", &[]).unwrap();
    let part = json!({"streamEventType": "kilocode", "seq": 2, "data": {"event": "message.part.updated", "properties": {"part": {"id": "p", "messageID": "m"}}}});
    let frames: Vec<_> = [idle(1), part]
        .into_iter()
        .enumerate()
        .map(|(socket, frame)| IngestFrame { socket, execution: execution.clone(), text: frame.to_string() })
        .collect();
    let mut entropy = Entropy::from_seed([9; 32]);
    let facts = world.facts.clone();
    let failed = world.core.receive(&world.db, world.now, &facts, &mut entropy, Input::IngestFrames(frames.clone()));
    assert!(failed.is_err());
    assert!(world.stored("kilocode").is_empty());

    database::execute(&world.db, "ALTER TABLE elsewhere RENAME TO entity", &[]).unwrap();
    let outputs = world.take(Input::IngestFrames(frames));
    assert_eq!(answers(&outputs), [(0, "ack 1".into()), (1, "ack 2".into())]);
}

#[test]
fn the_end_of_an_execution_counts_for_the_frames_behind_it_in_the_group() {
    let (mut world, execution, _) = World::running();
    let complete = json!({"streamEventType": "complete", "data": {"exitCode": 0}});
    let fatal = json!({"streamEventType": "error", "data": {"error": "late", "fatal": true}});
    world.frames(&execution, &texts(&[complete, fatal]));
    assert_eq!(world.view()["lastExecution"]["status"], "completed");
    assert_eq!(world.stored("error").len(), 1, "it is stored, and changes nothing");
}

#[test]
fn without_a_viewer_no_frame_is_made() {
    let (mut world, execution, _) = World::running();
    world.facts.viewers = 0;
    let outputs = world.frames(&execution, &texts(&[idle(1)]));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Broadcast(_))));
    world.facts.viewers = 1;
    let outputs = world.frames(&execution, &texts(&[idle(2)]));
    assert_eq!(broadcasts(&outputs, "kilocode").len(), 1);
}

#[test]
fn arrays_for_a_viewer_are_bounded_in_events_and_bytes() {
    let small: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    let lengths = |arrays: &[String]| -> Vec<usize> {
        arrays.iter().map(|array| serde_json::from_str::<Vec<Value>>(array).unwrap().len()).collect()
    };
    assert_eq!(lengths(&arrays(small.iter().map(String::as_str))), [500, 500, 1]);
    let large = format!("\"{}\"", "x".repeat(700_000));
    assert_eq!(lengths(&arrays([large.as_str(), "1", large.as_str()].into_iter())), [2, 1]);
    assert!(arrays(std::iter::empty()).is_empty());
}
