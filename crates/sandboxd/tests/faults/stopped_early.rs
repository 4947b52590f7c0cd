//! Stops that come between the agent server's taking of a prompt (204) and the beginning of its turn, about a second later: it answers an abort as an
//! idle one does, and begins all the same.

use crate::object::PATIENCE;
use crate::stage::EXECUTION;
use crate::stage::Stage;
use crate::stage::own;
use serde_json::json;
use tokio::time::timeout;

/// A turn whose prompt was taken, that has not begun and was stopped.
async fn stopped(limits: serde_json::Value) -> Stage {
    let stage = Stage::new(limits).await;
    let work = stage.work_with_turn(&stage.session, 1, &stage.object.url);
    assert_eq!(stage.outcome(&work).await["type"], "done");
    stage.abort().await;
    stage.agent.aborted(1).await;
    stage
}

#[tokio::test]
async fn a_turn_that_begins_after_its_stop_is_aborted_again() {
    let stage = stopped(json!({})).await;
    stage.open_turn().await;
    timeout(PATIENCE, stage.agent.aborted(2)).await.expect("the agent works on");
    stage.agent.event(&own("session.turn.close", json!({ "reason": "interrupted" }))).await;
    let interrupted = stage.object.stored("interrupted").await;
    assert_eq!(interrupted["data"], json!({ "reason": "aborted via API" }));
    let spool = stage.own().join(format!("spool-{EXECUTION}"));
    stage.object.until("the end", |_| (!spool.exists()).then_some(())).await;
    assert!(!stage.processes().is_empty(), "the agent server serves the next turn");
}

#[tokio::test]
async fn an_agent_server_whose_turn_does_not_begin_in_time_after_its_stop_is_ended() {
    let stage = stopped(json!({ "abort_settle_ms": 300 })).await;
    stage.object.until("no process", |_| stage.processes().is_empty().then_some(())).await;
}
