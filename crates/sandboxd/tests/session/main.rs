//! `sandboxd session` with real git, the real Kilo CLI and the scripted model; the Worker's part is played by the test.
//!
//! Here is what the tests share: the reading of reports and of the log, and a turn that does not end by itself.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]
#![allow(clippy::result_large_err)] // The WebSocket library's type.

mod cold_start;
mod ending;
mod images;
mod models;
mod preparation;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/program.rs"]
mod program;
mod stage;
mod turns;
mod verdicts;
mod worker;

use serde_json::Value;
use stage::Stage;
use worker::Worker;

fn steps(reports: &[Value]) -> Vec<&str> {
    reports.iter().map(|report| report["step"].as_str().unwrap()).collect()
}

fn outcome(reports: &[Value]) -> &Value {
    &reports.last().unwrap()["outcome"]
}

/// `seq` counts from 1 without gaps.
fn assert_contiguous(log: &[Value]) {
    let numbers: Vec<u64> = log.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

/// The same, and the last stored event is of this type.
fn assert_log_ends_with(log: &[Value], kind: &str) {
    assert_contiguous(log);
    assert_eq!(log.last().unwrap()["streamEventType"], kind);
}

/// Starts a turn and waits until its tool runs, which touches `started-<attempt>` and then sleeps
/// for `300 + attempt` seconds.
async fn start_sleeping_tool(stage: &Stage, worker: &Worker, attempt: u64) {
    let prompt = format!("@bash touch started-{attempt}; sleep {}\n@say never", 300 + attempt);
    stage.call("POST", "work", Some(&stage.work_with_turn(worker, attempt, &prompt))).await;
    assert_eq!(outcome(&worker.outcome(attempt).await)["type"], "done");
    let file = stage.workspace().join(format!("started-{attempt}"));
    worker.until("the tool", || file.exists().then_some(())).await;
}
