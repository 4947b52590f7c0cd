//! A container that is told to end saves what its agents have (spec/town.md 6.5, 5.10).

use crate::program;
use crate::stage::FAST;
use crate::stage::Stage;
use crate::support::until_async;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

/// Longer than any test waits: whoever is not told to finish, or waited for without need, holds up the end for ever.
const LONG_WAIT: &str = r#"{"sandbox_town":{"draining_idle_ms":100,"drain_wait_ms":600000}}"#;

#[tokio::test]
async fn who_writes_who_is_in_a_tool_and_who_is_idle_all_end_up_on_the_remote() {
    let mut stage = Stage::new().await;
    stage.start("a", "work a.txt").await;
    stage.start("b", "stubborn\ntool b.txt").await;
    let mut of_bead = stage.request("c", "polecat", "write c.txt made-by-c");
    of_bead["beadId"] = json!("b7");
    assert_eq!(stage.post("/agents/start", of_bead).await.0, 201);
    for (agent, file) in [("a", "a.txt"), ("b", "b.txt"), ("c", "c.txt")] {
        stage.wait_for_file(agent, file).await;
    }
    stage.wait_for_event("c", "session.idle").await;
    assert_eq!(stage.evict(), Some(0));

    for (agent, file) in [("a", "a.txt"), ("b", "b.txt"), ("c", "c.txt")] {
        let saved = stage.on_remote(&format!("gt/{agent}"), file);
        assert!(saved.is_some_and(|text| !text.is_empty()), "{file} of {agent}");
    }
    assert_eq!(stage.leftovers(), Vec::<String>::new());

    // Each receipt is told before the end of its agent, and both after the eviction.
    for agent in ["a", "b", "c"] {
        let receipts = stage.worker.calls(&format!("agents/{agent}/eviction-context"));
        assert_eq!(receipts.len(), 1);
        let receipt = &receipts[0].body;
        assert_eq!((&receipt["branch"], &receipt["pushed"]), (&json!(format!("gt/{agent}")), &json!(true)));
        assert_eq!(receipt["agent_name"], agent);
        assert_eq!(receipt.get("bead_id"), (agent == "c").then(|| json!("b7")).as_ref());
        assert_eq!(receipt["commit"].as_str().unwrap().len(), 40);
        let reports = stage.worker.calls(&format!("agents/{agent}/completed"));
        assert_eq!(reports.len(), 1);
        assert_eq!(
            (&reports[0].body["status"], &reports[0].body["reason"]),
            (&json!("completed"), &json!("container eviction"))
        );
        let told = stage.worker.position(&format!("agents/{agent}/eviction-context"));
        assert!(stage.worker.position("container-eviction") < told);
        assert!(told < stage.worker.position(&format!("agents/{agent}/completed")));
    }
    assert_eq!(stage.worker.town.lock().unwrap().registry, json!([]), "nobody is live any more");
    let snapshots = stage.worker.town.lock().unwrap().snapshots.len();
    assert_eq!(snapshots, 3, "every conversation is kept");
    assert_eq!(stage.logged("work_saved").len(), 3);
    assert_eq!(stage.logged("drained")[0]["not_pushed"], 0);
}

#[tokio::test]
async fn a_second_signal_changes_nothing() {
    let mut stage = Stage::new().await;
    stage.start("a", "stubborn\nwork a.txt").await;
    stage.wait_for_file("a", "a.txt").await;
    stage.signal(Signal::SIGTERM);
    stage.worker.wait_for("container-eviction", 1).await;
    stage.signal(Signal::SIGTERM);
    assert_eq!(stage.exit_code(), Some(0));
    assert_eq!(stage.worker.calls("container-eviction").len(), 1);
    assert_eq!(stage.worker.calls("a/completed").len(), 1);
    assert_eq!(stage.logged("signal_repeated").len(), 1);
    assert!(stage.on_remote("gt/a", "a.txt").is_some());
}

#[tokio::test]
async fn a_town_that_does_not_answer_costs_no_work() {
    let impatient = "\"drain_close_ms\":3000,\"eviction_timeout_ms\":1000,\"town_call_timeout_ms\":3000";
    let mut stage = Stage::with_limits(&FAST.replace("\"drain_close_ms\":30000", impatient)).await;
    stage.start("a", "work a.txt").await;
    stage.wait_for_file("a", "a.txt").await;
    stage.worker.town.lock().unwrap().silent = vec!["container-eviction", "eviction-context", "completed"];
    assert_eq!(stage.evict(), Some(0));
    assert!(stage.on_remote("gt/a", "a.txt").is_some());
}

#[tokio::test]
async fn while_it_drains_nothing_is_started_no_heart_beats_and_no_nonce_is_acknowledged() {
    // All of it is asked for while one agent is waited for.
    let stage = Stage::with_limits(&FAST.replace("\"drain_wait_ms\":3000", "\"drain_wait_ms\":15000")).await;
    stage.start("a", "stubborn\nwork a.txt").await;
    stage.wait_for_file("a", "a.txt").await;
    stage.worker.wait_for("a/heartbeat", 1).await;
    stage.signal(Signal::SIGTERM);
    stage.worker.wait_for("container-eviction", 1).await;
    let beats = stage.worker.calls("a/heartbeat").len();
    stage.worker.town.lock().unwrap().nonce = Some("n1".to_owned());

    let (status, body) = stage.post("/agents/start", stage.request("b", "polecat", "write b b")).await;
    assert_eq!((status, &body["error"]), (503, &json!("Container is draining, cannot start new agents")));
    let patched = stage.call(Method::PATCH, "/agents/a/model").json(&json!({ "model": "holdfast/other" }));
    assert_eq!(stage.answer(patched).await.0, 503);
    for (path, method) in
        [("/git/merge", Method::POST), ("/repos/setup", Method::POST), ("/agents/a/system-prompt", Method::PUT)]
    {
        assert_eq!(stage.answer(stage.call(method, path).json(&json!({}))).await.0, 503, "{path}");
    }
    assert_eq!(stage.status("a").await["status"], "running", "nothing was ended for it");
    let health =
        stage.client.get(format!("{}/health", stage.url)).header("X-Drain-Nonce", "n1").header("X-Town-Id", "t1");
    assert_eq!(health.send().await.unwrap().json::<Value>().await.unwrap()["draining"], true);
    let logged = async || (stage.logged("drain").iter().any(|line| line["phase"] == "freeze")).then_some(());
    until_async("the freeze", logged).await;
    assert_eq!(stage.worker.calls("a/heartbeat").len(), beats, "the heart stopped first");
    assert!(stage.worker.calls("container-ready").is_empty());
}

#[tokio::test]
async fn who_finishes_in_time_is_not_waited_for_any_longer_and_is_saved_too() {
    let mut stage = Stage::with_limits(LONG_WAIT).await;
    stage.start("a", "write a.txt not-committed").await;
    stage.wait_for_event("a", "session.idle").await;
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("not-committed"));
}

#[tokio::test]
async fn an_agent_that_still_starts_is_waited_for_and_told() {
    let mut stage = Stage::with_limits(LONG_WAIT).await;
    // Its own kilo takes a second.
    let kilo = stage.folder.path().join("bin/kilo");
    let script = std::fs::read_to_string(&kilo).unwrap();
    program::install(&kilo, &script.replacen("#!/bin/sh\n", "#!/bin/sh\nsleep 1\n", 1));
    let (client, url) = (stage.client.clone(), format!("{}/agents/start", stage.url));
    let request = stage.request("a", "polecat", "write a.txt text\nwork b.txt");
    let started =
        tokio::spawn(async move { client.post(url).bearer_auth("sandbox-token").json(&request).send().await });
    stage.wait_for_status("a", "starting").await;
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(started.await.unwrap().unwrap().status(), 201);
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("text"));
}

#[tokio::test]
async fn sigint_ends_everything_and_saves_nothing() {
    let mut stage = Stage::new().await;
    stage.start("a", "stubborn\ntool a.txt").await;
    stage.wait_for_file("a", "a.txt").await;
    stage.signal(Signal::SIGINT);
    assert_eq!(stage.exit_code(), Some(0));
    assert!(stage.worker.calls("container-eviction").is_empty());
    assert_eq!(stage.on_remote("gt/a", "a.txt"), None);
    assert_eq!(stage.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn the_mayor_is_frozen_without_being_waited_for_and_its_work_stays_a_commit() {
    let mut stage = Stage::with_limits(LONG_WAIT).await;
    let mut request = stage.request("m", "mayor", "stubborn\nwork m.txt");
    (request["lightweight"], request["systemPrompt"]) = (json!(true), json!("You are the mayor."));
    assert_eq!(stage.post("/agents/start", request).await.0, 201);
    let workspace = stage.folder.path().join("root/workspace/rigs/r1/mayor-workspace");
    until_async("the mayor to work", async || workspace.join("m.txt").exists().then_some(())).await;
    assert_eq!(std::fs::read_to_string(workspace.join("AGENTS.md")).unwrap(), "You are the mayor.");
    assert_eq!(stage.evict(), Some(0));
    let receipt = &stage.logged("work_not_pushed")[0];
    assert_eq!(receipt["commit"].as_str().unwrap().len(), 40);
    assert!(stage.worker.calls("m/completed").is_empty());
    assert!(stage.worker.town.lock().unwrap().snapshots.contains_key("m"));
}
