//! Turns: what they leave behind, and every way in which they end before the agent is done.

use crate::assert_contiguous;
use crate::assert_log_ends_with;
use crate::outcome;
use crate::stage::Stage;
use crate::start_sleeping_tool;
use crate::steps;
use crate::worker;
use crate::worker::Worker;
use nix::sys::signal::Signal;
use serde_json::Value;
use serde_json::json;

/// Waits until nothing of an execution is kept any more: its last event is acknowledged.
async fn wait_until_delivered(stage: &Stage, worker: &Worker, attempt: u64) {
    let own = stage.root().join("home").join(&stage.session).join(".holdfast");
    let suffix = worker::execution_of(attempt);
    let kept = || {
        let names = std::fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(&suffix)).count()
    };
    worker.until("the last acknowledgement", || (kept() == 0).then_some(())).await;
}

async fn wait_until_tool_ended(stage: &Stage, worker: &Worker, attempt: u64) {
    let sleep = format!("sleep {}", 300 + attempt);
    let runs = || stage.processes().iter().any(|line| line.contains(&sleep));
    worker.until("the tool's end", || (!runs()).then_some(())).await;
}

#[tokio::test]
async fn a_turn_ends_with_a_pushed_commit_and_complete() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    let prompt = "Greet the world\n@say I will write.\n@write HELLO.md Hello\n@bash echo from-bash > b.txt; env > ../env.txt\n@say Done.";
    stage.call("POST", "work", Some(&stage.work_with_turn(&worker, 1, prompt))).await;
    let reports = worker.outcome(1).await;
    assert_eq!(outcome(&reports)["type"], "done", "{reports:#?}");
    let complete = worker.stored("complete").await;
    let branch = format!("session/{}", stage.session);
    assert_eq!(
        complete["data"],
        json!({
            "exitCode": 0,
            "currentBranch": branch,
            "executionId": "exc_00000000000000000000000001",
            "kiloSessionId": stage.kilo_session,
        })
    );
    let log = worker.log();
    assert_log_ends_with(&log, "complete");
    let committed = worker.stored("autocommit_completed").await;
    let head = stage.git(&["rev-parse", &branch]);
    assert_eq!(committed["data"]["success"], true, "{committed}");
    assert_eq!(committed["data"]["commitHash"], head.as_str());
    assert_eq!(stage.git(&["log", "-1", "--format=%an|%ae|%s", &branch]), "Kilo|agent@holdfast.local|Greet the world");
    assert_eq!(stage.git(&["ls-tree", "--name-only", &branch]), "HELLO.md\nREADME.md\nb.txt");
    assert_eq!(stage.git(&["show", &format!("{branch}:b.txt")]), "from-bash");
    // What the agent's tools know.
    let environment = std::fs::read_to_string(stage.workspace().join("../env.txt")).unwrap();
    assert!(environment.contains("GREETING=hello") && environment.contains(&stage.session));
    for secret in ["sandbox-token", "ingest-secret", "git-token", "report-token"] {
        assert!(!environment.contains(secret), "{secret}");
    }
    // The socket is closed by us, once, when everything is acknowledged.
    let closed =
        worker.until("the close", || Some(worker.connections()).filter(|(_, closed)| !closed.is_empty())).await;
    assert_eq!(closed, (1, vec![1000]));
    wait_until_delivered(&stage, &worker, 1).await;
    assert_eq!(stage.call("GET", "job/status", None).await.1["state"], "idle");
    assert!(stage.processes().iter().any(|line| line.contains("serve")));

    // The same prompt again, as a retried request would be: the agent is not asked again.
    let (_, progress) = stage.call("POST", "work", Some(&stage.work_with_turn(&worker, 1, prompt))).await;
    assert_eq!((&progress["step"], &progress["outcome"]["type"]), (&json!("ready"), &json!("done")));

    // A second turn on the prepared disk, with a hook that refuses every commit.
    let hook = ".git/hooks/pre-commit";
    let prompt =
        format!("Again\n@write again.txt twice\n@bash printf '#!/bin/sh\\nexit 1\\n' > {hook}; chmod +x {hook}");
    let follow_up = stage.work_with_turn(&worker, 2, &prompt);
    worker.watch(2);
    stage.call("POST", "work", Some(&follow_up)).await;
    let reports = worker.outcome(2).await;
    assert_eq!(steps(&reports), ["ready"]);
    assert_eq!(outcome(&reports)["resume"], "resumed");
    worker.stored("complete").await;
    assert_log_ends_with(&worker.log(), "complete");
    assert_eq!(stage.git(&["log", "-1", "--format=%s", &branch]), "Again");

    // What the agent commits itself is pushed as well, though the tree is clean; a lock that a killed auto-commit has left does not stop it.
    std::fs::write(stage.workspace().join(".git/index.lock"), "").unwrap();
    let prompt = "Own\n@bash git commit --quiet --allow-empty --no-verify -m own-commit";
    worker.watch(3);
    stage.call("POST", "work", Some(&stage.work_with_turn(&worker, 3, prompt))).await;
    worker.outcome(3).await;
    worker.stored("complete").await;
    assert_eq!(stage.git(&["log", "-1", "--format=%s", &branch]), "own-commit");

    assert_eq!(stage.call("POST", "stop", None).await.1, json!({ "status": "stopped" }));
    assert_eq!(stage.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn an_abort_and_a_kill_end_the_turn_and_the_tools_it_started() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    start_sleeping_tool(&stage, &worker, 1).await;
    assert_eq!(stage.call("GET", "job/status", None).await.1["state"], "active");
    // A viewer that comes late is told.
    let busy = |event: &Value| event["data"]["properties"]["status"]["type"] == "busy";
    let told = || worker.log().iter().filter(|event| busy(event)).count();
    let before = told();
    worker.command(json!({ "type": "request_snapshot" }));
    worker.until("the snapshot", || (told() > before).then_some(())).await;
    // Meanwhile nothing else is begun.
    stage.call("POST", "work", Some(&stage.work_with_turn(&worker, 2, "@say never"))).await;
    assert!(outcome(&worker.outcome(2).await)["message"].as_str().unwrap().contains("is still running"));

    assert_eq!(stage.call("POST", "job/abort", None).await.1, json!({ "status": "aborted" }));
    let interrupted = worker.stored("interrupted").await;
    assert_eq!(interrupted["data"], json!({ "reason": "aborted via API" }));
    assert_contiguous(&worker.log());
    // New work may be asked for before the agent has come to rest.
    worker.watch(3);
    start_sleeping_tool(&stage, &worker, 3).await;
    wait_until_tool_ended(&stage, &worker, 1).await;
    wait_until_delivered(&stage, &worker, 1).await;
    // Nothing was committed, and the files are still there.
    assert_eq!(stage.git(&["branch", "--list", "session/*"]), "");
    assert!(stage.workspace().join("started-1").exists());

    worker.command(json!({ "type": "kill" }));
    let interrupted = worker.stored("interrupted").await;
    assert_eq!(interrupted["data"], json!({ "reason": "Session stopped" }));
    wait_until_tool_ended(&stage, &worker, 3).await;
}

#[tokio::test]
async fn sigterm_in_a_turn_is_told_and_ends_everything() {
    let (mut stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    start_sleeping_tool(&stage, &worker, 1).await;
    stage.signal(Signal::SIGTERM);
    assert_eq!(stage.wait_for_sandboxd().await, Some(0));
    let interrupted = worker.stored("interrupted").await;
    assert_eq!(interrupted["data"], json!({ "reason": "Container shutdown: SIGTERM" }));
    assert_contiguous(&worker.log());
    assert_eq!(worker.connections(), (1, vec![1000]));
    assert_eq!(stage.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_killed_wrapper_says_so_when_it_is_back() {
    let (mut stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    start_sleeping_tool(&stage, &worker, 1).await;
    stage.signal(Signal::SIGKILL);
    assert_eq!(stage.wait_for_sandboxd().await, None);
    stage.start_sandboxd();
    let error = worker.stored("error").await;
    assert_eq!((&error["data"]["error"], &error["data"]["fatal"]), (&json!("Wrapper restarted"), &json!(true)));
    assert_log_ends_with(&worker.log(), "error");
    assert_eq!(stage.processes(), Vec::<String>::new());

    // The conversation is still there for the next turn; the message that had begun is not run twice.
    worker.watch(2);
    stage.call("POST", "work", Some(&stage.work_with_turn(&worker, 2, "@write after.txt after"))).await;
    assert_eq!(outcome(&worker.outcome(2).await)["resume"], "resumed");
    worker.stored("complete").await;
    assert!(stage.workspace().join("after.txt").exists());
}

#[tokio::test]
async fn a_connection_that_is_cut_loses_nothing() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    let prompt = "@write a.txt a\n@slow 40 50\n@bash echo b > b.txt\n@slow 200 50";
    stage.call("POST", "work", Some(&stage.work_with_turn(&worker, 1, prompt))).await;
    worker.outcome(1).await;
    worker.event_with("tok3").await;
    worker.cut();
    worker.stored("complete").await;
    assert_log_ends_with(&worker.log(), "complete");
    assert!(worker.connections().0 >= 2);
    let kinds: Vec<String> = worker.log().iter().map(|event| event["data"]["event"].to_string()).collect();
    assert_eq!(kinds.iter().filter(|kind| kind.contains("session.turn.close")).count(), 1, "{kinds:?}");
}
