//! The routes of the container, and what it tells the town about itself.

use crate::stage::FAST;
use crate::stage::Stage;
use crate::support::sandboxd;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

#[tokio::test]
async fn health_says_what_runs() {
    let stage = Stage::new().await;
    let health = stage.health().await;
    assert_eq!(health["status"], "ok");
    assert_eq!((&health["agents"], &health["servers"]), (&0.into(), &0.into()));
    assert_eq!(health["draining"], false);
    assert!(health["uptime"].is_u64());
    assert!(health["startedAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(health["containerInstanceId"], stage.health().await["containerInstanceId"]);
    stage.start("a", "write a a").await;
    let health = stage.health().await;
    assert_eq!((&health["agents"], &health["servers"]), (&1.into(), &1.into()));
}

#[tokio::test]
async fn sigterm_without_agents_reports_the_eviction_once_and_ends_well() {
    let mut stage = Stage::new().await;
    let instance = stage.health().await["containerInstanceId"].clone();
    assert_eq!(stage.evict(), Some(0));
    let calls = stage.worker.calls("container-eviction");
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].path, "/api/towns/t1/container-eviction");
    assert_eq!(calls[0].authorization, "Bearer container-token");
    assert_eq!(calls[0].body["containerInstanceId"], instance);
}

#[tokio::test]
async fn a_nonce_in_the_headers_of_health_is_acknowledged_once_and_so_is_a_later_one() {
    let stage = Stage::new().await;
    let ask = async |nonce: &str, id: &str| {
        let health = stage.client.get(format!("{}/health", stage.url));
        let health = health.header("X-Drain-Nonce", nonce).header("X-Town-Id", id);
        assert_eq!(health.send().await.unwrap().status(), 200);
    };
    ask("n1", "another-town").await;
    ask("n1", "t1").await;
    stage.worker.wait_for("container-ready", 1).await;
    ask("n1", "t1").await;
    ask("n2", "t1").await;
    let calls = stage.worker.wait_for("container-ready", 2).await;
    let nonces: Vec<&Value> = calls.iter().map(|call| &call.body["nonce"]).collect();
    assert_eq!(nonces, ["n1", "n2"]);
    assert!(calls.iter().all(|call| call.authorization == "Bearer container-token"));
}

#[tokio::test]
async fn a_nonce_in_heartbeats_is_acknowledged_with_the_token_that_is_in_force() {
    let stage = Stage::new().await;
    assert_eq!(stage.post("/refresh-token", json!({ "token": "", "townId": "t1" })).await.0, 400);
    assert_eq!(stage.post("/refresh-token", json!({ "token": "new" })).await, (200, json!({ "refreshed": true })));
    stage.worker.town.lock().unwrap().nonce = Some("n1".to_owned());
    stage.start("a", "work a").await;
    let ready = stage.worker.wait_for("container-ready", 1).await;
    assert_eq!((ready[0].authorization.as_str(), &ready[0].body["nonce"]), ("Bearer new", &json!("n1")));
    let beats = stage.worker.wait_for("a/heartbeat", 2).await;
    assert_eq!(beats[0].path, "/api/towns/t1/rigs/r1/agents/a/heartbeat");
    assert_eq!(beats[1].body["containerInstanceId"], ready[0].body["containerInstanceId"]);
    assert_eq!(stage.worker.calls("container-ready").len(), 1);
}

#[tokio::test]
async fn routes_are_guarded_and_what_is_wrong_is_said() {
    let stage = Stage::new().await;
    for (method, path) in [(Method::POST, "/agents/start"), (Method::GET, "/agents/a1/status"), (Method::GET, "/no")] {
        let call = stage.client.request(method, format!("{}{path}", stage.url)).bearer_auth("wrong");
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
    }
    let missing = json!({ "error": "Agent a1 not found" });
    assert_eq!(stage.get("/agents/a1/status").await, (404, missing.clone()));
    assert_eq!(stage.post("/agents/a1/stop", json!({})).await, (404, missing.clone()));
    assert_eq!(stage.post("/agents/a1/message", json!({ "prompt": "p" })).await, (404, missing));
    assert_eq!(stage.get("/agents/a1/events?after=x").await, (200, json!({ "events": [] })));
    assert_eq!(stage.get("/no").await, (404, json!({ "error": "Not found" })));
    assert_eq!(stage.answer(stage.call(Method::DELETE, "/git/merge")).await.0, 405);
    assert_eq!(stage.post("/sync-config", json!({})).await, (200, json!({ "synced": true })));
    assert_eq!(stage.post("/dashboard-context", json!({ "context": "c" })).await, (200, json!({ "pushed": true })));
    assert_eq!(stage.post("/dashboard-context", json!({})).await.0, 400);
    let (status, body) = stage.post("/agents/start", json!({ "agentId": "a" })).await;
    assert_eq!((status, &body["error"]), (400, &json!("Invalid request body")));
    assert!(body["issues"][0]["message"].as_str().unwrap().contains("missing field"), "{body}");
    let mut other = stage.request("a", "polecat", "p");
    other["townId"] = json!("t2");
    assert_eq!(stage.post("/agents/start", other).await.0, 400);
    let mut wrong = stage.request("a", "polecat", "p");
    wrong["branch"] = json!("../x");
    assert_eq!(stage.post("/agents/start", wrong).await.0, 400);
}

#[tokio::test]
async fn a_rig_is_set_up_and_branches_are_merged_in_the_background() {
    let stage = Stage::with_limits(FAST).await;
    let url = format!("file://{}", stage.remote().display());
    let rig = json!({ "rigId": "r1", "gitUrl": url, "defaultBranch": "main" });
    assert_eq!(stage.post("/repos/setup", rig).await.0, 202);
    stage.start("a", "write a.txt text\nsh git add -A && git commit -q -m work && git push -q origin HEAD").await;
    stage.wait_for_event("a", "session.idle").await;
    let order = json!({
        "townId": "t1", "rigId": "r1", "branch": "gt/a", "targetBranch": "main", "gitUrl": url, "entryId": "e1",
        "beadId": "b1", "agentId": "a"
    });
    let (status, body) = stage.post("/git/merge", order).await;
    assert_eq!((status, &body["status"]), (202, &json!("accepted")));
    let told = stage.worker.wait_for("review-queue/e1/complete", 1).await;
    assert_eq!((&told[0].body["status"], &told[0].body["entry_id"]), (&json!("merged"), &json!("e1")), "{told:?}");
    assert_eq!(stage.on_remote("main", "a.txt").as_deref(), Some("text"));
}

#[tokio::test]
async fn without_its_variables_it_does_not_start() {
    let output = sandboxd(["town"]).stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(line["error"].as_str().unwrap().contains("GASTOWN_TOWN_ID"));
}
