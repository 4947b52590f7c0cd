use super::*;
use crate::fixtures;
use proptest::prelude::*;
use protocol::event::EventClass;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;

fn part(id: &str, version: u32) -> String {
    json!({"type": "message.part.updated", "properties": {"part":
        {"id": id, "messageID": "msg_1", "type": "text", "text": format!("v{version}")}}})
    .to_string()
}

fn delta(id: &str, text: &str) -> String {
    json!({"id": "evt_1", "type": "message.part.delta", "properties":
        {"sessionID": "ses_1", "messageID": "msg_1", "partID": id, "field": "text", "delta": text}})
    .to_string()
}

fn idle() -> String {
    r#"{"type":"session.idle","properties":{"sessionID":"ses_1"}}"#.to_owned()
}

/// What comes out, in short: `id=text` for parts, `id+text` for deltas, the type for others.
fn brief(payloads: &[String]) -> Vec<String> {
    let events = normalise_all(&Limits::default(), payloads.iter().map(String::as_str));
    events.iter().map(brief_event).collect()
}

fn brief_event(event: &Event) -> String {
    let data: Value = serde_json::from_str(event.data()).unwrap();
    let properties = &data["properties"];
    match data["event"].as_str().unwrap() {
        "message.part.delta" => {
            format!("{}+{}", properties["partID"].as_str().unwrap(), properties["delta"].as_str().unwrap())
        }
        "message.part.updated" => {
            let part = &properties["part"];
            format!("{}={}", part["id"].as_str().unwrap(), part["text"].as_str().unwrap())
        }
        other => other.to_owned(),
    }
}

#[test]
fn of_a_parts_pending_updates_only_the_newest_is_kept_and_in_its_own_place() {
    let events = [part("a", 1), part("b", 1), idle(), part("a", 2), idle(), part("a", 3)];
    assert_eq!(brief(&events), ["b=v1", "session.idle", "session.idle", "a=v3"]);
}

#[test]
fn adjacent_deltas_of_a_part_become_one() {
    let events = [delta("a", "1 "), delta("a", "2\n"), delta("b", "x"), delta("a", "3"), delta("a", "\"4")];
    assert_eq!(brief(&events), ["a+1 2\n", "b+x", "a+3\"4"]);
}

#[test]
fn noise_between_deltas_does_not_part_them() {
    let sync = r#"{"type":"sync","syncEvent":{}}"#.to_owned();
    assert_eq!(brief(&[delta("a", "1"), sync, delta("a", "2")]), ["a+12"]);
}

#[test]
fn a_delta_is_never_sent_before_the_part_that_it_lengthens_nor_after_the_whole() {
    let events = [part("a", 0), delta("a", "1"), delta("a", "2"), part("a", 12)];
    assert_eq!(brief(&events), ["a=v0", "a+12", "a=v12"]);
}

#[test]
fn escapes_survive_the_joining_of_deltas() {
    let high =
        r#"{"type":"message.part.delta","properties":{"messageID":"m","partID":"a","field":"text","delta":"\ud83d"}}"#;
    let low = high.replace("ud83d", "ude00");
    assert_eq!(brief(&[high.to_owned(), low]), ["a+😀"]);
}

#[test]
fn a_single_delta_stays_as_it_was_written() {
    let text = r#"{"type":"message.part.delta","properties":{ "messageID":"m","partID":"a","field":"text","delta":"x","new":1}}"#;
    let events = normalise_all(&Limits::default(), [text]);
    assert!(
        events[0]
            .data()
            .ends_with(r#""properties":{ "messageID":"m","partID":"a","field":"text","delta":"x","new":1}}"#)
    );
}

#[test]
fn a_delta_of_an_unknown_form_is_passed_on() {
    let text = r#"{"type":"message.part.delta","properties":{"partID":7}}"#;
    assert_eq!(normalise_all(&Limits::default(), [text, text]).len(), 2);
}

#[test]
fn joined_deltas_stay_below_a_batch() {
    let limits = Limits { batch_bytes_max: 10, ..Limits::default() };
    let payloads: Vec<String> = (0..9).map(|_| delta("a", "1234")).collect();
    let events = normalise_all(&limits, payloads.iter().map(String::as_str));
    assert_eq!(
        events.iter().map(brief_event).collect::<Vec<_>>(),
        ["a+12341234", "a+12341234", "a+12341234", "a+12341234", "a+1234"]
    );
}

#[test]
fn bytes_count_what_waits() {
    let mut normaliser = Normaliser::new(&Limits::default());
    let big = json!({"type": "message.part.updated", "properties": {"part":
        {"id": "a", "messageID": "m", "type": "text", "text": "x".repeat(30_000)}}})
    .to_string();
    for _ in 0..50 {
        normaliser.push_agent(&AgentEvent::parse(&big).unwrap());
    }
    assert!((30_000..31_000).contains(&normaliser.bytes()), "{}", normaliser.bytes());
    normaliser.drain();
    assert_eq!(normaliser.bytes(), 0);
}

#[test]
fn our_own_events_keep_their_place_among_the_agents() {
    let mut normaliser = Normaliser::new(&Limits::default());
    normaliser.push_agent(&AgentEvent::parse(&idle()).unwrap());
    normaliser.push(Event::autocommit_started("x"));
    normaliser.push_agent(&AgentEvent::parse(&part("a", 1)).unwrap());
    let kinds: Vec<String> = normaliser.drain().iter().map(|event| event.kind().to_owned()).collect();
    assert_eq!(kinds, ["kilocode", "autocommit_started", "kilocode"]);
}

/// The events of class log, and the last value of each entity: what windows must not change.
fn outcome(events: &[Event]) -> (Vec<String>, BTreeMap<String, String>) {
    let mut log = Vec::new();
    let mut entities = BTreeMap::new();
    for event in events {
        let data = event.data().to_owned();
        match event.class() {
            EventClass::Log => log.push(data),
            EventClass::Entity(key) => drop(entities.insert(key.clone(), data)),
            EventClass::Volatile => {}
        }
    }
    (log, entities)
}

fn in_windows(payloads: &[String], window: usize) -> Vec<Event> {
    let mut normaliser = Normaliser::new(&Limits::default());
    let mut events = Vec::new();
    for chunk in payloads.chunks(window) {
        for payload in chunk {
            normaliser.push_agent(&AgentEvent::parse(payload).unwrap());
        }
        events.extend(normaliser.drain());
    }
    events
}

#[test]
fn recorded_streams_have_the_same_outcome_in_any_windows() {
    for recording in fixtures::RECORDINGS {
        let payloads = fixtures::payloads(recording);
        let expected = outcome(&normalise_all(&Limits::default(), payloads.iter().map(String::as_str)));
        assert!(expected.0.len() > 100 && expected.1.len() > 50);
        for window in [1, 2, 7, 50] {
            assert_eq!(outcome(&in_windows(&payloads, window)), expected);
        }
    }
}

#[test]
fn a_recorded_stream_halves_at_least() {
    let payloads = fixtures::payloads(fixtures::RECORDINGS[0]);
    let before: usize = payloads.iter().map(String::len).sum();
    let after: usize = in_windows(&payloads, 50).iter().map(|event| event.data().len()).sum();
    assert!(after * 2 < before, "{before} -> {after}");
}

proptest! {
    #[test]
    fn windows_never_change_the_outcome_nor_the_text_of_a_part(
        steps in prop::collection::vec((0_u32..4, 0_u32..3), 0..60), window in 1_usize..20,
    ) {
        let payloads: Vec<String> = steps.iter().enumerate().map(|(n, (what, id))| {
            let (n, id) = (u32::try_from(n).unwrap(), format!("p{id}"));
            match what {
                0 => part(&id, n),
                1 | 2 => delta(&id, &format!("{n},")),
                _ => idle(),
            }
        }).collect();
        let events = in_windows(&payloads, window);
        prop_assert_eq!(outcome(&events), outcome(&in_windows(&payloads, 1)));
        // A viewer that applies updates and deltas sees the same text, however the events were joined.
        let text = |events: &[Event]| events.iter().fold(BTreeMap::new(), |mut parts: BTreeMap<String, String>, event| {
            let brief = brief_event(event);
            if let Some((id, text)) = brief.split_once('=') {
                parts.insert(id.to_owned(), text.to_owned());
            } else if let Some((id, text)) = brief.split_once('+') {
                parts.entry(id.to_owned()).or_default().push_str(text);
            }
            parts
        });
        prop_assert_eq!(text(&events), text(&in_windows(&payloads, 1)));
    }
}
