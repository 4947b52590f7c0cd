//! Calls to the town that fail, or come with a token that has expired, are made again.

use crate::stage::FAST;
use crate::stage::Stage;
use crate::support::until_async;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn an_eviction_that_the_town_does_not_take_is_reported_until_it_does() {
    let mut stage = Stage::new().await;
    stage.worker.town.lock().unwrap().failing = vec![(Method::POST, "container-eviction", 2)];
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.worker.calls("container-eviction").len(), 3);
    assert_eq!((stage.logged("eviction_not_reported").len(), stage.logged("eviction_reported").len()), (2, 1));
}

#[tokio::test]
async fn a_receipt_and_a_report_that_are_lost_are_told_again() {
    let mut stage = Stage::new().await;
    stage.start("a", "write a.txt a").await;
    stage.wait_for_event("a", "session.idle").await;
    stage.worker.town.lock().unwrap().failing =
        vec![(Method::POST, "eviction-context", 1), (Method::POST, "completed", 1), (Method::POST, "db-snapshot", 1)];
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.worker.calls("a/eviction-context").len(), 2);
    assert_eq!(stage.worker.calls("a/completed").len(), 2);
    assert!(stage.worker.town.lock().unwrap().snapshots.contains_key("a"));
    assert!(stage.logged("town_not_told").is_empty());
}

#[tokio::test]
async fn a_token_that_has_expired_is_exchanged_for_every_call_of_a_drain() {
    let mut stage = Stage::with_limits(&FAST.replace("200", "600000")).await;
    stage.start("a", "write a.txt a").await;
    stage.wait_for_event("a", "session.idle").await;
    stage.worker.town.lock().unwrap().expired = true;
    assert_eq!(stage.evict(), Some(0));
    for call in ["container-eviction", "a/eviction-context", "a/completed", "container-registry", "a/db-snapshot"] {
        assert!(!stage.worker.fresh_calls(call).is_empty(), "{call}");
    }
    assert_eq!(stage.worker.calls("refresh-container-token").len(), 1, "once for all");
}

#[tokio::test]
async fn a_conversation_that_cannot_be_had_now_is_asked_for_again() {
    let stage = Stage::new().await;
    stage.start("a", "write a.txt a").await;
    let first = stage.status("a").await["sessionId"].clone();
    stage.post("/agents/a/stop", json!({})).await;
    until_async("the conversation", async || stage.worker.town.lock().unwrap().snapshots.get("a").map(|_| ())).await;
    stage.worker.town.lock().unwrap().failing = vec![(Method::GET, "db-snapshot", 2)];
    stage.start("a", "write b.txt b").await;
    assert_eq!(stage.status("a").await["sessionId"], first);
}

#[tokio::test]
async fn a_conversation_that_could_not_be_had_is_not_replaced_by_a_new_one() {
    let stage = Stage::with_limits(&FAST.replace("\"idle_ms\"", "\"snapshot_ms\":8000,\"idle_ms\"")).await;
    stage.start("a", "write a.txt a").await;
    let first = stage.status("a").await["sessionId"].clone();
    stage.post("/agents/a/stop", json!({})).await;
    until_async("the conversation", async || stage.worker.town.lock().unwrap().snapshots.get("a").map(|_| ())).await;
    stage.worker.town.lock().unwrap().failing = vec![(Method::GET, "db-snapshot", 1_000)];
    stage.start("a", "write b.txt b").await;
    assert_ne!(stage.status("a").await["sessionId"], first, "it starts afresh");
    assert_eq!(stage.logged("conversation_not_fetched").len(), 1);
    stage.post("/agents/a/stop", json!({})).await;

    stage.worker.town.lock().unwrap().failing = vec![];
    stage.start("a", "write c.txt c").await;
    assert_eq!(stage.status("a").await["sessionId"], first, "what was kept is what was there before");
}

#[tokio::test]
async fn an_agent_whose_conversation_is_not_taken_is_over_all_the_same_and_its_work_is_saved() {
    let limits = FAST.replace("\"idle_ms\":60000", "\"idle_ms\":2000,\"drain_freeze_ms\":4000");
    let limits = limits.replace("\"drain_close_ms\":30000", "\"drain_close_ms\":3000");
    let mut stage = Stage::with_limits(&limits).await;
    stage.start("a", "write a.txt left").await;
    stage.worker.town.lock().unwrap().silent = vec!["a/db-snapshot"];
    let snapshot_is_wanted = async || (stage.worker.calls("a/db-snapshot").len() > 1).then_some(());
    until_async("its conversation to be put away", snapshot_is_wanted).await;
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("left"));
    assert_eq!(stage.worker.calls("a/completed").len(), 1, "it ended by itself");
}
