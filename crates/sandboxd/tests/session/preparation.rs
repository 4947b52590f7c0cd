//! What comes before a turn: the workspace, step by step, and how each step that fails is told.

use crate::outcome;
use crate::stage;
use crate::stage::Stage;
use crate::steps;
use crate::worker;
use crate::worker::Worker;
use reqwest::StatusCode;
use serde_json::json;

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
async fn until_the_first_turn_another_branch_or_other_setup_commands_make_the_workspace_anew() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    stage.git(&["branch", "topic", "main"]);
    let mut prepared = stage.work(&worker, 1);
    prepared["workspace"]["upstreamBranch"] = json!("main");
    prepared["workspace"]["setupCommands"] = json!(["touch before.txt"]);
    stage.call("POST", "work", Some(&prepared)).await;
    assert_eq!(outcome(&worker.outcome(1).await)["branch"], "main");
    let file = |name: &str| stage.workspace().join(name).exists();
    assert!(file("before.txt"));

    let mut first = stage.work_with_turn(&worker, 2, "@write dirty.txt dirty");
    first["workspace"]["upstreamBranch"] = json!("topic");
    first["workspace"]["setupCommands"] = json!(["touch after.txt"]);
    first["turn"]["autoCommit"] = json!(false);
    worker.watch(2);
    stage.call("POST", "work", Some(&first)).await;
    let reports = worker.outcome(2).await;
    let begun = ["disk_check", "workspace_setup", "cloning", "branch", "setup_commands", "kilo_session", "kilo_server"];
    assert_eq!(steps(&reports), [&begun[..], &["ready"]].concat());
    assert_eq!(outcome(&reports), &json!({ "type": "done", "branch": "topic", "resume": "fresh" }));
    worker.stored("complete").await;
    assert_eq!(stage::git(&stage.workspace(), &["symbolic-ref", "HEAD"]), "refs/heads/topic");
    assert_eq!((file("before.txt"), file("after.txt"), file("dirty.txt")), (false, true, true));

    // The agent has worked here: nothing of it is removed for a plan.
    let mut second = stage.work_with_turn(&worker, 3, "@say again");
    second["workspace"]["upstreamBranch"] = json!("main");
    second["workspace"]["setupCommands"] = json!(["touch never.txt"]);
    second["turn"]["autoCommit"] = json!(false);
    worker.watch(3);
    stage.call("POST", "work", Some(&second)).await;
    let reports = worker.outcome(3).await;
    assert_eq!((steps(&reports), &outcome(&reports)["branch"]), (vec!["ready"], &json!("topic")));
    worker.stored("complete").await;
    assert_eq!((file("never.txt"), file("dirty.txt")), (false, true));
}

#[tokio::test]
async fn a_workspace_that_could_not_be_made_anew_is_made_by_the_next_attempt() {
    let (stage, worker) = (Stage::without_kilo().await, Worker::start(&[]).await);
    let mut work = stage.work(&worker, 1);
    work["workspace"]["setupCommands"] = json!(["touch before.txt"]);
    stage.call("POST", "work", Some(&work)).await;
    worker.outcome(1).await;
    assert!(stage.workspace().join("before.txt").exists());

    work["attempt"] = json!(2);
    work["workspace"]["upstreamBranch"] = json!("nowhere");
    stage.call("POST", "work", Some(&work)).await;
    let reports = worker.outcome(2).await;
    assert_eq!(outcome(&reports)["message"], "Branch nowhere does not exist on the remote");
    assert!(!stage.workspace().exists());

    work["attempt"] = json!(3);
    work["workspace"]["upstreamBranch"] = json!("main");
    work["workspace"]["setupCommands"] = json!(["touch after.txt", "exit 7"]);
    stage.call("POST", "work", Some(&work)).await;
    assert!(outcome(&worker.outcome(3).await)["message"].as_str().unwrap().contains("exit code 7"));
    work["attempt"] = json!(4);
    work["workspace"]["setupCommands"] = json!(["test ! -e after.txt && touch at-last.txt"]);
    stage.call("POST", "work", Some(&work)).await;
    assert_eq!(outcome(&worker.outcome(4).await)["code"], "KILO_SERVER_FAILED");
    assert_eq!(stage::git(&stage.workspace(), &["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert_eq!(stage::git(&stage.workspace(), &["status", "--porcelain"]), "?? at-last.txt");
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
    // Nor is a stop that was sent before this work came.
    let overtaken = stage.call("POST", "stop", Some(&json!({ "attempt": 0 }))).await;
    assert_eq!(overtaken.1, json!({ "status": "overtaken" }));
    assert!(!stage.processes().is_empty());
    let stopped = stage.call("POST", "stop", Some(&json!({ "attempt": 1 }))).await;
    assert_eq!(stopped.1, json!({ "status": "stopped" }));
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
