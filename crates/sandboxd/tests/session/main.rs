//! `sandboxd session` with real git, the real Kilo CLI and the scripted model; the Worker's part is played by the test.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]
#![allow(clippy::result_large_err)] // The WebSocket library's type.

mod cold_start;
mod images;
mod stage;
mod verdicts;
mod worker;

use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::Value;
use serde_json::json;
use stage::Stage;
use std::time::Duration;
use std::time::Instant;
use worker::Worker;

fn steps(reports: &[Value]) -> Vec<&str> {
    reports.iter().map(|report| report["step"].as_str().unwrap()).collect()
}

fn outcome(reports: &[Value]) -> &Value {
    &reports.last().unwrap()["outcome"]
}

#[tokio::test]
async fn a_workspace_is_prepared_step_by_step() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[503]).await);
    let mut work = stage.work(&worker, 1);
    work["workspace"]["setupCommands"] = json!(["echo $GREETING > greeting.txt"]);
    let (status, progress) = stage.call("POST", "work", Some(&work)).await;
    assert_eq!((status, &progress["n"]), (StatusCode::ACCEPTED, &json!(0)));
    let mut reports = worker.outcome(1).await;
    // The first post was answered with 503: it came again.
    assert_eq!(reports[0], reports[1]);
    reports.remove(0);
    assert_eq!(
        steps(&reports),
        [
            "disk_check",
            "workspace_setup",
            "cloning",
            "branch",
            "setup_commands",
            "kilo_session",
            "kilo_server",
            "ready"
        ]
    );
    assert_eq!(
        outcome(&reports),
        &json!({ "type": "done", "branch": format!("session/{}", stage.session), "resume": "fresh" })
    );
    assert_eq!(std::fs::read_to_string(stage.workspace().join("greeting.txt")).unwrap(), "hello\n");
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

/// Starts a turn and waits until its tool runs, which touches `started-<attempt>` and then sleeps
/// for `300 + attempt` seconds.
async fn start_sleeping_tool(stage: &Stage, worker: &Worker, attempt: u64) {
    let prompt = format!("@bash touch started-{attempt}; sleep {}\n@say never", 300 + attempt);
    stage.call("POST", "work", Some(&stage.work_with_turn(worker, attempt, &prompt))).await;
    assert_eq!(outcome(&worker.outcome(attempt).await)["type"], "done");
    let file = stage.workspace().join(format!("started-{attempt}"));
    worker.until("the tool", || file.exists().then_some(())).await;
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

    // What the agent commits itself is pushed as well, though the tree is clean.
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
async fn a_setup_command_that_fails_ends_the_attempt_and_leaves_nothing_running() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    let mut work = stage.work_with_turn(&worker, 1, "@say never");
    work["workspace"]["setupCommands"] = json!([
        "(setsid sleep 300 > /dev/null 2>&1 &) ; echo fine",
        "echo the token is git-token-1234; exit 7",
        "touch never"
    ]);
    stage.call("POST", "work", Some(&work)).await;
    let reports = worker.outcome(1).await;
    assert_eq!(steps(&reports), ["disk_check", "workspace_setup", "cloning", "branch", "setup_commands", "failed"]);
    let outcome = outcome(&reports);
    assert_eq!((&outcome["code"], &outcome["retryable"]), (&json!("WORKSPACE_SETUP_FAILED"), &json!(false)));
    assert_eq!(
        outcome["message"],
        "Setup command 2 (`echo the token is [redacted]; exit 7`) failed with exit code 7: the token is [redacted]"
    );
    assert!(!stage.workspace().join("never").exists());
    assert_eq!(stage.processes(), Vec::<String>::new());
    assert_eq!(worker.connections().0, 0);

    // The next attempt runs them again, and from then on never more.
    work["attempt"] = json!(2);
    work["workspace"]["setupCommands"] = json!(["echo once >> count.txt"]);
    work.as_object_mut().unwrap().remove("turn");
    stage.call("POST", "work", Some(&work)).await;
    worker.outcome(2).await;
    work["attempt"] = json!(3);
    stage.call("POST", "work", Some(&work)).await;
    let reports = worker.outcome(3).await;
    assert_eq!(steps(&reports), ["ready"]);
    assert_eq!(std::fs::read_to_string(stage.workspace().join("count.txt")).unwrap(), "once\n");
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
    let started = Instant::now();
    stage.signal(Signal::SIGTERM);
    assert_eq!(stage.wait_for_sandboxd().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
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
    let prompt = "@write a.txt a\n@slow 40 50\n@bash echo b > b.txt\n@slow 40 50";
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

#[tokio::test]
async fn bad_calls_are_told_what_would_be_right() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    let path = format!("/sessions/{}/work", stage.session);
    let good = stage.work(&worker, 1).to_string();
    for (method, path, token, body, status, code) in [
        ("POST", path.as_str(), None, good.as_str(), 401, "UNAUTHORIZED"),
        ("POST", path.as_str(), Some("wrong"), good.as_str(), 401, "UNAUTHORIZED"),
        ("GET", path.as_str(), Some(stage.token()), "", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/sessions/x/other", Some(stage.token()), "", 404, "NOT_FOUND"),
        ("POST", "/sessions/x/work", Some(stage.token()), good.as_str(), 400, "INVALID_REQUEST"),
        ("POST", path.as_str(), Some(stage.token()), "{", 400, "INVALID_REQUEST"),
        ("POST", path.as_str(), Some(stage.token()), "{}", 400, "INVALID_REQUEST"),
        ("POST", path.as_str(), Some(stage.token()), &" ".repeat(4 * 1024 * 1024 + 1), 413, "INVALID_REQUEST"),
    ] {
        let (answered, error) = stage.call_raw(method, path, token, body).await;
        assert_eq!((answered.as_u16(), &error["error"]), (status, &json!(code)), "{method} {path} {error}");
    }
    let (status, health) = stage.call_raw("GET", "/health", None, "").await;
    assert_eq!((status.as_u16(), &health["healthy"], &health["draining"]), (200, &json!(true), &json!(false)));
    assert!(worker.reports().is_empty());
}

#[tokio::test]
async fn what_cannot_be_cloned_is_named() {
    let (stage, worker) = (Stage::without_kilo().await, Worker::start(&[]).await);
    for (attempt, change, message) in [
        (1, json!({ "gitUrl": "https://user:pw@git.example/a" }), "put the token into gitToken"),
        (2, json!({ "gitUrl": "file:///nonexistent/a.git" }), "`git clone --quiet -- file:///nonexistent/a.git"),
        (3, json!({ "upstreamBranch": "nowhere" }), "Branch nowhere does not exist on the remote"),
    ] {
        let mut work = stage.work(&worker, attempt);
        work["workspace"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        stage.call("POST", "work", Some(&work)).await;
        let reports = worker.outcome(attempt).await;
        let outcome = outcome(&reports);
        assert_eq!(outcome["code"], "WORKSPACE_SETUP_FAILED");
        assert!(outcome["message"].as_str().unwrap().contains(message), "{outcome}");
        assert!(!stage.workspace().exists());
    }
    let (status, error) = stage.call("POST", "work", Some(&stage.work(&worker, 1))).await;
    assert_eq!((status.as_u16(), &error["error"]), (409, &json!("JOB_CONFLICT")));
}

#[tokio::test]
async fn branches_are_found_where_they_are() {
    let worker = Worker::start(&[]).await;
    for (shallow, upstream, branch, has_file) in [
        (false, Some("feature/x"), "feature/x", true),
        (true, Some("feature/x"), "feature/x", true),
        (true, Some("refs/pull/7/head"), "refs/pull/7/head", true),
        (true, None, "own", false),
        (false, Some("main"), "main", false),
    ] {
        let stage = Stage::without_kilo().await;
        let seed = stage.folder.path().join("seed");
        stage::git(&seed, &["checkout", "--quiet", "-b", "feature/x"]);
        std::fs::write(seed.join("feature.txt"), "x").unwrap();
        stage::git(&seed, &["add", "-A"]);
        stage::git(&seed, &["commit", "--quiet", "-m", "Feature"]);
        let remote = stage.remote().to_string_lossy().into_owned();
        stage::git(&seed, &["push", "--quiet", &remote, "feature/x", "HEAD:refs/pull/7/head"]);
        let mut work = stage.work(&worker, 1);
        work["workspace"]["shallow"] = json!(shallow);
        work["workspace"]["upstreamBranch"] = json!(upstream);
        work["report"]["url"] = json!(worker.progress_url());
        stage.call("POST", "work", Some(&work)).await;
        worker.until("the workspace", || stage.workspace().join(".git").exists().then_some(())).await;
        let own = format!("session/{}", stage.session);
        let expected = if branch == "own" { own.as_str() } else { branch };
        let head = stage::git(&stage.workspace(), &["symbolic-ref", "HEAD"]);
        assert_eq!(head, format!("refs/heads/{expected}"));
        assert_eq!(stage.workspace().join("feature.txt").exists(), has_file, "{branch}");
        assert_eq!(stage::git(&stage.workspace(), &["status", "--porcelain"]), "");
    }
}

#[tokio::test]
async fn without_the_agent_the_workspace_is_made_and_the_reason_told() {
    let (stage, worker) = (Stage::without_kilo().await, Worker::start(&[]).await);
    stage.call("POST", "work", Some(&stage.work(&worker, 1))).await;
    let reports = worker.outcome(1).await;
    assert_eq!(
        outcome(&reports),
        &json!({
            "type": "failed",
            "code": "KILO_SERVER_FAILED",
            "message": "Kilo server did not start: there is no `kilo` on PATH",
            "retryable": true,
        })
    );
    assert!(stage.workspace().join("README.md").exists());
}

#[tokio::test]
async fn the_git_token_goes_to_its_host_and_nowhere_else() {
    let (stage, worker) = (Stage::without_kilo().await, Worker::start(&[]).await);
    let host = worker::GitHost::start().await;
    let mut work = stage.work(&worker, 1);
    work["workspace"]["gitUrl"] = json!(format!("{}/a.git", host.url));
    stage.call("POST", "work", Some(&work)).await;
    let reports = worker.outcome(1).await;
    // x-access-token:git-token-1234
    assert_eq!(host.credentials(), ["Basic eC1hY2Nlc3MtdG9rZW46Z2l0LXRva2VuLTEyMzQ="]);
    let message = outcome(&reports)["message"].as_str().unwrap();
    assert!(
        message.contains("git clone") && message.contains(&host.url) && !message.contains("git-token"),
        "{message}"
    );
}

#[tokio::test]
async fn a_session_that_another_process_owns_is_left_alone() {
    let (stage, worker) = (Stage::without_kilo().await, Worker::start(&[]).await);
    let own = stage.root().join("home").join(&stage.session).join(".holdfast");
    std::fs::create_dir_all(&own).unwrap();
    let lock = std::fs::File::create(own.join("lock")).unwrap();
    lock.try_lock().unwrap();
    stage.call("POST", "work", Some(&stage.work(&worker, 1))).await;
    let reports = worker.outcome(1).await;
    let outcome = outcome(&reports);
    assert_eq!((&outcome["code"], &outcome["retryable"]), (&json!("SANDBOX_CONNECT_FAILED"), &json!(true)));
    assert!(!stage.workspace().exists());
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_preparation_ends_it() {
    let (stage, worker) = (Stage::without_kilo().await, Worker::start(&[]).await);
    let mut work = stage.work(&worker, 1);
    work["workspace"]["setupCommands"] = json!(["touch begun; sleep 300"]);
    stage.call("POST", "work", Some(&work)).await;
    worker.until("the command", || stage.workspace().join("begun").exists().then_some(())).await;
    // An abort is about a turn, and there is none.
    stage.call("POST", "job/abort", None).await;
    assert!(!stage.processes().is_empty());
    assert_eq!(stage.call("POST", "stop", None).await.1, json!({ "status": "stopped" }));
    assert_eq!(stage.processes(), Vec::<String>::new());
    let reports = worker.outcome(1).await;
    assert_eq!(outcome(&reports)["message"], "Stopped before the agent took the prompt");

    // A newer attempt ends an older one.
    work["attempt"] = json!(2);
    std::fs::remove_file(stage.workspace().join("begun")).unwrap();
    stage.call("POST", "work", Some(&work)).await;
    worker.until("the command", || stage.workspace().join("begun").exists().then_some(())).await;
    work["attempt"] = json!(3);
    work["workspace"]["setupCommands"] = json!([]);
    stage.call("POST", "work", Some(&work)).await;
    assert_eq!(outcome(&worker.outcome(3).await)["code"], "KILO_SERVER_FAILED");
    assert_eq!(stage.processes(), Vec::<String>::new());
    assert!(worker.reports().iter().all(|report| report["attempt"] != 2 || report["outcome"].is_null()));
}
