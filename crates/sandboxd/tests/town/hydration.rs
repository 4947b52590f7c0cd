//! Agents of the container before: one that cannot be brought back holds up nobody.

use crate::stage::FAST;
use crate::stage::Stage;
use crate::support::until_async;
use nix::sys::signal::Signal;
use serde_json::Value;
use serde_json::json;
use std::net::TcpListener;

/// A repository whose host takes the call and never answers.
fn deaf_host() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.git", listener.local_addr().unwrap());
    (listener, url)
}

fn entry(request: Value) -> Value {
    json!({ "agentId": request["agentId"], "request": request })
}

fn with(limit: &str) -> String {
    FAST.replace("\"idle_ms\"", &format!("{limit},\"idle_ms\""))
}

#[tokio::test]
async fn one_agent_whose_repository_does_not_answer_holds_up_neither_the_others_nor_the_town() {
    let stage = Stage::new().await;
    let (_host, url) = deaf_host();
    let mut stuck = stage.request("stuck", "polecat", "write x x");
    (stuck["gitUrl"], stuck["rigId"]) = (json!(url), json!("r2"));
    let lost = stage.request("lost", "polecat", "write lost.txt l");
    stage.worker.town.lock().unwrap().registry = json!([entry(stuck), entry(lost)]);

    let stage = stage.restarted(&with("\"hydration_ms\":10000")).await;
    let token = stage.post("/refresh-token", json!({ "token": "new", "townId": "t1" })).await;
    assert_eq!(token, (200, json!({ "refreshed": true })));
    assert!(stage.logged("hydration_goes_on").is_empty(), "the token did not wait");
    stage.start("late", "write late.txt l").await;
    stage.wait_for_status("lost", "running").await;
    assert_eq!(stage.status("stuck").await["status"], "starting");
    let named = async || {
        let registry = stage.worker.town.lock().unwrap().registry.clone();
        let mut ids: Vec<String> =
            registry.as_array()?.iter().filter_map(|entry| Some(entry["agentId"].as_str()?.to_owned())).collect();
        ids.sort();
        (ids == ["late", "lost", "stuck"]).then_some(())
    };
    until_async("all three to be on the list", named).await;
    assert_eq!(stage.logged("hydration_goes_on").len(), 1);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_at_once_is_read_again() {
    let stage = Stage::new().await;
    let lost = stage.request("lost", "polecat", "write lost.txt l");
    {
        let mut town = stage.worker.town.lock().unwrap();
        town.registry = json!([entry(lost)]);
        town.failing = vec![(reqwest::Method::GET, "container-registry", 2)];
    }
    let stage = stage.restarted(FAST).await;
    stage.wait_for_status("lost", "running").await;
    assert_eq!(stage.logged("registry_not_read").len(), 2);
}

#[tokio::test]
async fn who_was_lost_takes_its_branch_from_nobody_that_the_town_has_started_meanwhile() {
    let stage = Stage::new().await;
    {
        let mut town = stage.worker.town.lock().unwrap();
        town.registry = json!([entry(stage.request("lost", "polecat", "write lost.txt l"))]);
        town.silent = vec!["container-registry"];
    }
    let stage = stage.restarted(&with("\"hydration_ms\":500")).await;
    let mut other = stage.request("other", "polecat", "write other.txt o");
    other["branch"] = json!("gt/lost");
    assert_eq!(stage.post("/agents/start", other).await.0, 201);

    stage.worker.town.lock().unwrap().silent = vec![];
    let named = async || {
        let registry = stage.worker.town.lock().unwrap().registry.clone();
        (registry[0]["agentId"] == "other" && registry.as_array()?.len() == 1).then_some(())
    };
    until_async("the lost one to be given up", named).await;
    assert_eq!(stage.logged("agent_hydrated").len(), 1);
    assert_eq!(stage.status("other").await["status"], "running");
    assert_eq!(stage.health().await["servers"], 1);
    assert!(!stage.worktree("lost").join("lost.txt").exists());
}

#[tokio::test]
async fn who_was_not_brought_back_before_the_end_is_left_to_the_next_container() {
    let stage = Stage::new().await;
    let (_host, url) = deaf_host();
    let mut entries = Vec::new();
    // More than are started at the same time, so that some have not begun.
    for n in 0..6 {
        let mut request = stage.request(&format!("a{n}"), "polecat", "write x x");
        (request["gitUrl"], request["rigId"]) = (json!(url), json!("r2"));
        request["envVars"] = json!({ "GIT_TOKEN": "git-secret", "OWN": "kept" });
        entries.push(entry(request));
    }
    stage.worker.town.lock().unwrap().registry = json!(entries);
    let mut stage = stage.restarted(&with("\"drain_freeze_ms\":5000")).await;
    stage.wait_for_status("a0", "starting").await;
    stage.signal(Signal::SIGTERM);
    assert_eq!(stage.exit_code(), Some(0));
    let registry = stage.worker.town.lock().unwrap().registry.clone();
    let left: Vec<&str> = registry.as_array().unwrap().iter().filter_map(|entry| entry["agentId"].as_str()).collect();
    assert_eq!(left, ["a4", "a5"], "the others were ended, and reported as evicted");
    assert!(!registry.to_string().contains("git-secret") && registry.to_string().contains("kept"), "{registry}");
    assert_eq!(stage.worker.calls("a0/completed").len(), 1);
    assert!(stage.worker.calls("a5/completed").is_empty());
}
