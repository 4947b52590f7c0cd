//! The process manager: starts, messages, idle ends, failures, and what a new container makes of the old one's agents.

use crate::stage::Stage;
use crate::support::until_async;
use serde_json::Value;
use serde_json::json;
use std::fs;

#[tokio::test]
async fn an_agent_is_started_with_its_environment_and_can_be_looked_at() {
    let stage = Stage::new().await;
    let mut request =
        stage.request("a", "polecat", "write done.txt x\nsh env > env.txt\nsh git log -1 --format=%an > author.txt");
    request["envVars"] = json!({
        "GASTOWN_CONTAINER_TOKEN": "secret-token", "FOO": "bar", "PATH": "/nowhere", "GASTOWN_AGENT_ID": "other",
        "GIT_TOKEN": "git-secret"
    });
    let (status, agent) = stage.post("/agents/start", request).await;
    assert_eq!((status, &agent["agentId"], &agent["status"]), (201, &json!("a"), &json!("running")));
    assert!(!agent.to_string().contains("secret"), "{agent}");
    stage.wait_for_event("a", "session.idle").await;

    let environment = fs::read_to_string(stage.worktree("a").join("env.txt")).unwrap();
    let of =
        |name: &str| environment.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).map(str::to_owned);
    assert_eq!((of("FOO").as_deref(), of("GASTOWN_AGENT_ID").as_deref()), (Some("bar"), Some("a")));
    assert_eq!(
        (of("GIT_AUTHOR_NAME").as_deref(), of("GH_TOKEN").as_deref()),
        (Some("a (gastown)"), Some("git-secret"))
    );
    assert!(of("PATH").unwrap().contains("bin") && of("HOME").unwrap().ends_with("home/agents/a"));
    assert!(!environment.contains("secret-token") && !environment.contains("sandbox-token"));
    let configuration: Value = serde_json::from_str(&of("KILO_CONFIG_CONTENT").unwrap()).unwrap();
    assert_eq!(configuration["permission"], json!({ "*": "allow" }));
    assert!(configuration["mcp"]["gt"]["url"].as_str().unwrap().ends_with("/mcp/a"));

    let status = stage.status("a").await;
    assert!(status["sessionId"].as_str().unwrap().starts_with("ses_") && status["serverPort"].is_u64());
    assert_eq!((&status["exitReason"], &status["activeTools"]), (&Value::Null, &json!([])));
    let registry = stage.worker.town.lock().unwrap().registry.clone();
    assert_eq!((&registry[0]["agentId"], &registry[0]["request"]["branch"]), (&json!("a"), &json!("gt/a")));
    let posted = stage.worker.wait_for("rigs/r1/agent-events", 1).await;
    assert_eq!(posted[0].body["agent_id"], "a");
}

#[tokio::test]
async fn a_message_reaches_a_running_agent_and_none_that_was_stopped() {
    let stage = Stage::new().await;
    stage.start("a", "stubborn-not\ntool a.txt").await;
    stage.wait_for_file("a", "a.txt").await;
    let in_tool = async || (stage.status("a").await["activeTools"] == json!(["bash"])).then_some(());
    until_async("the tool", in_tool).await;
    assert_eq!(
        stage.post("/agents/a/message", json!({ "prompt": "write b.txt b" })).await,
        (200, json!({ "sent": true }))
    );
    stage.wait_for_file("a", "b.txt").await;
    assert_eq!(stage.post("/agents/a/message", json!({ "prompt": "" })).await.0, 400);

    assert_eq!(stage.post("/agents/a/stop", json!({})).await, (200, json!({ "stopped": true })));
    let patched = stage.call(reqwest::Method::PATCH, "/agents/a/model").json(&json!({ "model": "holdfast/other" }));
    assert_eq!(stage.answer(patched).await.0, 409, "nobody is started anew who is over");
    let status = stage.status("a").await;
    assert_eq!((&status["serverPort"], &status["sessionId"]), (&Value::Null, &Value::Null));
    let status = stage.status("a").await;
    assert_eq!((&status["status"], &status["exitReason"]), (&json!("exited"), &json!("stopped")));
    assert_eq!(stage.leftovers(), Vec::<String>::new(), "its tools ended with it");
    assert_eq!(stage.health().await["servers"], 0);
    assert_eq!(stage.post("/agents/a/message", json!({ "prompt": "write c.txt c" })).await.0, 500);
    assert_eq!(stage.post("/agents/a/stop", json!({})).await.0, 200);
    let empty = async || (stage.worker.town.lock().unwrap().registry == json!([])).then_some(());
    until_async("an empty registry", empty).await;
    assert!(stage.worker.calls("a/completed").is_empty(), "the town asked for it");
}

#[tokio::test]
async fn who_is_idle_gets_what_was_left_for_it_and_ends_after_a_while() {
    let limits = r#"{"sandbox_town":{"idle_ms":300}}"#;
    let stage = Stage::with_limits(limits).await;
    let nudge = json!({ "nudge_id": "n1", "message": "write nudged.txt yes", "mode": "wait-idle", "priority": "normal", "source": "system" });
    stage.worker.town.lock().unwrap().nudges = vec![nudge];
    stage.start("a", "write a.txt a").await;
    let marked = stage.worker.wait_for("a/nudge-delivered", 1).await;
    assert_eq!(marked[0].body, json!({ "nudge_id": "n1" }));
    stage.wait_for_file("a", "nudged.txt").await;

    let status = stage.wait_for_status("a", "exited").await;
    assert_eq!(status["exitReason"], "completed");
    let reports = stage.worker.wait_for("a/completed", 1).await;
    assert_eq!(
        reports[0].body,
        json!({ "status": "completed", "reason": "completed", "agentId": "a", "bead_id": null })
    );
    stage.wait_for_event("a", "agent.exited").await;
    until_async("no server", async || (stage.health().await["servers"] == 0).then_some(())).await;
}

#[tokio::test]
async fn an_agent_whose_server_is_lost_has_failed() {
    let stage = Stage::new().await;
    stage.start("a", "write a.txt a\ndie").await;
    let status = stage.wait_for_status("a", "failed").await;
    assert_eq!(status["exitReason"], "stream error");
    let reports = stage.worker.wait_for("a/completed", 1).await;
    assert_eq!(
        (&reports[0].body["status"], &reports[0].body["reason"]),
        (&json!("failed"), &json!("Event stream error"))
    );
    stage.start("a", "write b.txt b").await;
    stage.wait_for_file("a", "b.txt").await;
}

#[tokio::test]
async fn a_start_replaces_the_agent_that_runs_and_one_that_fails_leaves_the_way_free() {
    let stage = Stage::new().await;
    let start = async |prompt: &str| stage.post("/agents/start", stage.request("a", "polecat", prompt)).await.0;
    let (first, second, other) =
        tokio::join!(start("tool one.txt"), start("tool two.txt"), stage.start("b", "write b b"));
    assert!([first, second].contains(&201), "{first} {second}");
    let () = other;
    let servers = async || (stage.health().await["servers"] == 2).then_some(());
    until_async("two servers", servers).await;
    assert_eq!(stage.health().await["agents"], 2);

    let mut wrong = stage.request("c", "polecat", "write c c");
    wrong["gitUrl"] = json!("file:///nowhere/at/all");
    let (status, body) = stage.post("/agents/start", wrong).await;
    assert_eq!(status, 500, "{body}");
    assert_eq!(stage.status("c").await["status"], "failed");
    stage.start("c", "write c.txt c").await;
}

/// Found by the simulation: an agent that a new container had brought back worked on in vain, because its `gt_done` was not applied yet when the
/// container asked; its review failed, the bead went to another, and both wrote in one worktree.
#[tokio::test]
async fn a_branch_is_one_agents_at_a_time_and_the_last_one_that_the_town_sends_has_it() {
    let stage = Stage::new().await;
    stage.start("a", "write a.txt a\ntool busy.txt").await;
    stage.wait_for_file("a", "a.txt").await;
    let on_its_branch = async |agent: &str, prompt: &str| {
        let mut request = stage.request(agent, "polecat", prompt);
        request["branch"] = json!("gt/a");
        stage.post("/agents/start", request).await.0
    };
    assert_eq!(on_its_branch("b", "write b.txt b\nthink 1000\nwrite last.txt words").await, 201);
    stage.wait_for_file("a", "b.txt").await;
    assert_eq!(stage.status("a").await["exitReason"], "stopped");
    assert_eq!(stage.health().await["servers"], 1);

    // A turn that ends soon may end.
    assert_eq!(on_its_branch("c", "write c.txt c").await, 201);
    assert!(stage.worktree("a").join("last.txt").exists());
    assert_eq!(stage.status("b").await["exitReason"], "stopped");

    // Before either has a server: one of them gives way.
    let (one, other) = tokio::join!(on_its_branch("d", "tool d.txt"), on_its_branch("e", "tool e.txt"));
    assert!([one, other].contains(&201), "{one} {other}");
    until_async("one server", async || (stage.health().await["servers"] == 1).then_some(())).await;
    assert_eq!(stage.health().await["agents"], 1);
    assert_eq!(stage.status("c").await["exitReason"], "stopped");
}

#[tokio::test]
async fn agents_of_a_container_that_was_lost_come_back_on_an_empty_disk() {
    let stage = Stage::new().await;
    stage
        .start("a", "write a.txt pushed\nsh git add -A && git commit -q --allow-empty -m a && git push -q origin HEAD\nwork b.txt")
        .await;
    stage.wait_for_file("a", "b.txt").await;
    stage.worker.wait_for("container-registry", 2).await;
    let stage = stage.replaced().await;
    stage.wait_for_status("a", "running").await;
    assert_eq!(fs::read_to_string(stage.worktree("a").join("a.txt")).unwrap(), "pushed");
    assert_eq!(stage.logged("agent_hydrated").len(), 1);
    stage.wait_for_file("a", "b.txt").await;
}

#[tokio::test]
async fn a_conversation_is_continued_on_its_own_branch_only() {
    let stage = Stage::new().await;
    stage.start("a", "write a.txt a").await;
    let first = stage.status("a").await["sessionId"].clone();
    stage.post("/agents/a/stop", json!({})).await;
    stage.worker.wait_for("a/db-snapshot", 2).await;
    stage.start("a", "write b.txt b").await;
    assert_eq!(stage.status("a").await["sessionId"], first);

    stage.post("/agents/a/stop", json!({})).await;
    let mut elsewhere = stage.request("a", "polecat", "write c.txt c");
    elsewhere["branch"] = json!("gt/a-other");
    assert_eq!(stage.post("/agents/start", elsewhere).await.0, 201);
    assert_ne!(stage.status("a").await["sessionId"], first);
}

#[tokio::test]
async fn the_mayor_waits_keeps_its_conversation_and_goes_on_with_another_model() {
    let stage = Stage::new().await;
    let mut request = stage.request("m", "mayor", "write plan.txt p");
    request["lightweight"] = json!(true);
    assert_eq!(stage.post("/agents/start", request).await.0, 201);
    let waiting = stage.worker.wait_for("m/waiting", 1).await;
    assert!(waiting[0].body["firedAt"].is_u64() && waiting[0].body["agentId"] == "m");
    let kept = async || stage.worker.town.lock().unwrap().snapshots.contains_key("m").then_some(());
    until_async("the mayor's conversation", kept).await;
    let session = stage.status("m").await["sessionId"].clone();

    assert_eq!(stage.post("/dashboard-context", json!({ "context": "write context.txt c" })).await.0, 200);
    assert_eq!(stage.post("/agents/m/message", json!({ "prompt": "write more.txt m" })).await.0, 200);
    let workspace = stage.folder.path().join("root/workspace/rigs/r1/mayor-workspace");
    until_async("the context", async || workspace.join("context.txt").exists().then_some(())).await;

    stage.start("p", "write p.txt p").await;
    let instruct = async |agent: &str| {
        let call = stage.call(reqwest::Method::PUT, &format!("/agents/{agent}/system-prompt"));
        stage.answer(call.json(&json!({ "systemPrompt": "Be brief." }))).await.0
    };
    assert_eq!((instruct("m").await, instruct("p").await), (200, 409));
    assert_eq!(fs::read_to_string(workspace.join("AGENTS.md")).unwrap(), "Be brief.");
    assert!(!stage.worktree("p").join("AGENTS.md").exists());

    let patched = stage.call(reqwest::Method::PATCH, "/agents/m/model").json(&json!({ "model": "holdfast/other" }));
    assert_eq!(stage.answer(patched).await, (200, json!({ "updated": true })));
    let status = stage.status("m").await;
    assert_eq!((&status["status"], &status["sessionId"]), (&json!("running"), &session));
}
