//! Faults with real sockets and real processes: whatever breaks, the object's log is what the agent said, once each and in order.
//! The agent server's part is played from recordings of the real one, the object's by the test.
#![cfg(target_os = "linux")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "../support/agent.rs"]
mod agent;
mod object;
mod places;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/program.rs"]
mod program;
mod refusals;
mod stage;
mod stopped_early;
mod store;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use object::Mood;
use object::PATIENCE;
use protocol::event::EventClass;
use sandbox_core::limits::Limits;
use sandbox_core::normalise::normalise_all;
use serde_json::Value;
use serde_json::json;
use stage::EXECUTION;
use stage::Stage;
use stage::own;
use stage::part;
use std::collections::BTreeMap;
use std::fs;

const RECORDING: &str = include_str!("../../../../fixtures/kilo/kilo-sse-transcript.jsonl");

/// The events of a recorded stream, as they were sent.
fn recorded() -> Vec<String> {
    let lines = RECORDING.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["dir"] == "sse").map(|line| line["data"].to_string()).collect()
}

/// What of a log must not depend on how it was cut into windows: the events in order, and each entity's last value.
type Outcome = (Vec<String>, BTreeMap<String, String>);

/// What `normalise` makes of what the agent said.
fn expected(payloads: &[String]) -> Outcome {
    let mut outcome = Outcome::default();
    for event in normalise_all(&Limits::default(), payloads.iter().map(String::as_str)) {
        match event.class() {
            EventClass::Log => outcome.0.push(canonical(event.data())),
            EventClass::Entity(key) => drop(outcome.1.insert(key.clone(), canonical(event.data()))),
            EventClass::Volatile => {}
        }
    }
    outcome
}

/// What the object has of the agent.
fn stored(log: &[Value]) -> Outcome {
    let mut outcome = Outcome::default();
    for event in log.iter().filter(|event| event["streamEventType"] == "kilocode") {
        let data = serde_json::value::to_raw_value(&event["data"]).unwrap();
        match protocol::event::event_class("kilocode", &data) {
            EventClass::Entity(key) => drop(outcome.1.insert(key, canonical(data.get()))),
            EventClass::Log | EventClass::Volatile => outcome.0.push(canonical(data.get())),
        }
    }
    outcome
}

/// The same text for the same value.
fn canonical(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap().to_string()
}

fn kinds(log: &[Value]) -> Vec<&str> {
    log.iter().map(|event| event["streamEventType"].as_str().unwrap()).collect()
}

/// Numbers that look random and are the same in each run.
fn noise(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    }
}

/// Events between two cuts.
const PIECE: usize = 100;

#[tokio::test]
async fn fifty_cuts_at_random_points_of_a_burst_lose_and_double_nothing() {
    let stage =
        Stage::new(json!({ "batch_ms": 5, "reconnect_backoff_ms_min": 5, "reconnect_backoff_ms_max": 20 })).await;
    stage.start_turn().await;
    let (recorded, mut noise) = (recorded(), noise(7));
    let mut said = Vec::new();
    for _ in 0..50 {
        let before = stage.object.connections();
        // Some of it is on its way in either direction, some is in the window, some in the spool.
        let cut = noise(PIECE);
        for (n, payload) in recorded.iter().enumerate().take(PIECE) {
            if n == cut {
                stage.object.cut();
            }
            stage.agent.say(format!("data: {payload}\n\n")).await;
        }
        said.extend(recorded.iter().take(PIECE).cloned());
        stage.object.connected_more_than(before).await;
    }
    stage.end_turn().await;
    stage.object.stored("complete").await;
    said.push(own("session.turn.close", json!({ "reason": "completed" })).to_string());
    let log = stage.object.log();
    assert!(stage.object.connections() > 50, "{}", stage.object.connections());
    assert_eq!(stage.agent.streams(), 1, "the agent's events have nothing to do with it");
    assert_eq!(stored(&log), expected(&said));
    assert!(!kinds(&log).contains(&"events_lost"));
}

#[tokio::test]
async fn a_killed_wrapper_delivers_what_it_had_and_says_that_it_was_killed() {
    let mut stage = Stage::new(json!({ "reconnect_backoff_ms_min": 20 })).await;
    stage.start_turn().await;
    let mut said = recorded();
    let half = said.len() / 2;
    said.push(own("session.updated", json!({ "info": { "title": "the last one" } })).to_string());
    for payload in &said[..half] {
        stage.agent.say(format!("data: {payload}\n\n")).await;
    }
    let first = expected(&said[..half]).0.len();
    stage.object.until("the first half", |log| (stored(log).0.len() == first).then_some(())).await;
    // The rest is only in the spool when the process dies.
    stage.object.set(Mood::Away);
    for payload in &said[half..] {
        stage.agent.say(format!("data: {payload}\n\n")).await;
    }
    let spool = stage.own().join(format!("spool-{EXECUTION}"));
    let is_spooled = || fs::read_to_string(&spool).is_ok_and(|text| text.contains("the last one"));
    stage.object.until("the spool", |_| is_spooled().then_some(())).await;
    stage.signal(Signal::SIGKILL);
    stage.wait_for_sandboxd();
    stage.object.set(Mood::Well);
    stage.start_sandboxd();
    let error = stage.object.stored("error").await;
    assert_eq!(error["data"], json!({ "error": "Wrapper restarted", "fatal": true }));
    let log = stage.object.log();
    assert_eq!(stored(&log), expected(&said));
    assert_eq!(kinds(&log).last(), Some(&"error"));
    // Nothing is kept of what was delivered, and nothing of the agent is left.
    let left = || {
        fs::read_dir(stage.own())
            .unwrap()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains(EXECUTION))
    };
    stage.object.until("an empty home", |_| (!left()).then_some(())).await;
    assert_eq!(stage.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_cut_longer_than_the_grace_keeps_the_log_whole_and_stops_the_agent() {
    let stage = Stage::new(json!({ "reconnect_backoff_ms_min": 20, "reconnect_backoff_ms_max": 50 })).await;
    stage.start_turn().await;
    stage.agent.event(&part("prt_1", "before")).await;
    stage.object.until("the first part", |log| (!log.is_empty()).then_some(())).await;
    stage.object.set(Mood::Away);
    let said = recorded();
    for payload in &said {
        stage.agent.say(format!("data: {payload}\n\n")).await;
    }
    // The object has ended the execution meanwhile: it still takes what the wrapper has, and tells it to stop.
    stage.object.order(json!({ "type": "kill" }));
    stage.object.turned_away_more_than(10).await;
    stage.object.set(Mood::Well);
    let interrupted = stage.object.stored("interrupted").await;
    assert_eq!(interrupted["data"], json!({ "reason": "Session stopped" }));
    let mut all = vec![part("prt_1", "before").to_string()];
    all.extend(said);
    assert_eq!(stored(&stage.object.log()), expected(&all));
}

#[tokio::test]
async fn a_socket_that_stalls_never_stops_the_reading_of_the_agent() {
    let stage = Stage::new(json!({})).await;
    stage.start_turn().await;
    stage.agent.event(&part("prt_first", "x")).await;
    stage.object.until("the first part", |log| (!log.is_empty()).then_some(())).await;
    stage.object.set(Mood::Stalled);
    let before = stage.memory("VmRSS");
    let text = "y".repeat(100_000);
    let all = async {
        for n in 0..300 {
            stage.agent.event(&part(&format!("prt_{n:03}"), &text)).await;
        }
    };
    // The agent could say all of it: 30 MB, far more than any buffer on the way.
    tokio::time::timeout(PATIENCE, all).await.expect("the agent is not read any more");
    let grown = stage.memory("VmHWM").saturating_sub(before);
    assert!(grown < 20_000, "{grown} KiB");
    stage.object.set(Mood::Well);
    stage.end_turn().await;
    stage.object.stored("complete").await;
    let log = stage.object.log();
    assert_eq!(stored(&log).1.len(), 301);
    assert!(!kinds(&log).contains(&"events_lost"));
}

#[tokio::test]
async fn a_disk_that_takes_nothing_loses_nothing_while_the_process_lives() {
    let stage = Stage::new(json!({})).await;
    // In its place lies something that cannot be written to.
    fs::create_dir_all(stage.own().join(format!("spool-{EXECUTION}"))).unwrap();
    stage.start_turn().await;
    let said = recorded();
    for payload in &said {
        stage.agent.say(format!("data: {payload}\n\n")).await;
    }
    stage.end_turn().await;
    stage.object.stored("complete").await;
    let mut all = said;
    all.push(own("session.turn.close", json!({ "reason": "completed" })).to_string());
    assert_eq!(stored(&stage.object.log()), expected(&all));
}

#[tokio::test]
async fn what_a_gap_in_the_agents_events_held_is_fetched_and_the_turns_end_is_seen() {
    let stage = Stage::new(json!({})).await;
    stage.start_turn().await;
    stage.agent.event(&part("prt_before", "v1")).await;
    stage.object.until("the first part", |log| (!log.is_empty()).then_some(())).await;
    // What happens now is on no stream: the part changes, another one comes, and the turn ends.
    let of = |id: &str, text: &str| part(id, text)["properties"]["part"].clone();
    let parts = json!([of("prt_before", "v2"), of("prt_missed", "m")]);
    stage.agent.answer(|said| {
        said.messages = json!([
            { "info": { "id": "msg_00000000000000000000000001", "role": "user" }, "parts": [] },
            { "info": { "id": "msg_answer", "role": "assistant", "time": { "completed": 1 } }, "parts": parts },
        ]);
    });
    stage.agent.cut();
    stage.agent.streamed(2).await;
    stage.object.stored("complete").await;
    let (_, entities) = stored(&stage.object.log());
    let text = |key: &str| serde_json::from_str::<Value>(&entities[key]).unwrap()["properties"]["part"]["text"].clone();
    assert_eq!((text("part/msg_answer/prt_before"), text("part/msg_answer/prt_missed")), (json!("v2"), json!("m")));
    assert!(entities.contains_key("message/msg_answer"));
}

#[tokio::test]
async fn a_gap_before_the_prompt_is_taken_up_does_not_end_the_turn_with_an_older_answer() {
    let stage = Stage::new(json!({})).await;
    stage.agent.answer(|said| {
        let info = json!({ "id": "msg_old", "role": "assistant", "time": { "created": 1, "completed": 2 } });
        said.messages = json!([{ "info": info, "parts": [] }]);
    });
    stage.prompt().await;
    stage.agent.cut();
    stage.agent.streamed(2).await;
    stage.object.until("what the gap held", |log| (!log.is_empty()).then_some(())).await;
    stage.open_turn().await;
    stage.agent.event(&part("prt_after", "x")).await;
    stage.end_turn().await;
    stage.object.stored("complete").await;
    let (_, entities) = stored(&stage.object.log());
    assert_eq!(entities.keys().collect::<Vec<_>>(), ["part/msg_answer/prt_after"]);
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_opened_anew_and_the_turn_goes_on() {
    let stage = Stage::new(json!({ "transport_ms_max": 5_000 })).await;
    stage.start_turn().await;
    let busy = json!({ stage::KILO_SESSION: { "type": "busy" } });
    stage.agent.answer(|said| said.status = busy);
    // Nothing is said for longer than the agent server's heart beats.
    stage.agent.streamed(2).await;
    stage.agent.event(&part("prt_after", "x")).await;
    stage.agent.answer(|said| said.status = json!({}));
    stage.end_turn().await;
    stage.object.stored("complete").await;
    assert!(stored(&stage.object.log()).1.contains_key("part/msg_answer/prt_after"));
}

#[tokio::test]
async fn a_crashed_agent_server_takes_its_tools_with_it_at_once() {
    let stage = Stage::new(json!({})).await;
    stage.start_turn().await;
    let tools = || stage.processes().iter().filter(|line| line.contains("sleep 7777")).count();
    stage.object.until("the tool", |_| (tools() == 1).then_some(())).await;
    nix::sys::signal::kill(Pid::from_raw(stage.agent.pid()), Signal::SIGKILL).unwrap();
    let error = stage.object.stored("error").await;
    assert!(error["data"]["error"].as_str().unwrap().contains("the agent server ended"), "{error}");
    assert_eq!(tools(), 0);
}
