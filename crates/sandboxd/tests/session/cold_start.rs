//! A session whose container is lost: what is kept elsewhere, and how it comes back in an empty one.

use crate::outcome;
use crate::program;
use crate::stage::Stage;
use crate::stage::git;
use crate::start_sleeping_tool;
use crate::worker::Worker;
use nix::sys::signal::Signal;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Whether anything of the session is on the container's disk.
fn has_disk(stage: &Stage) -> bool {
    stage.workspace().exists() || stage.root().join("home").join(&stage.session).exists()
}

/// Work whose conversation is kept; from the second attempt on it is to be brought back.
fn work(stage: &Stage, worker: &Worker, attempt: u64, prompt: &str) -> Value {
    let mut work = stage.work_with_turn(worker, attempt, prompt);
    work["snapshot"] = json!({ "url": worker.snapshot_url(), "restore": attempt > 1 });
    work["turn"]["autoCommit"] = json!(false);
    work
}

/// Runs a turn to its end, with the conversation kept. Returns its reports.
async fn run(stage: &Stage, worker: &Worker, work: Value) -> Vec<Value> {
    let attempt = work["attempt"].as_u64().unwrap();
    let kept = worker.snapshots_put();
    worker.watch(attempt);
    stage.call("POST", "work", Some(&work)).await;
    let reports = worker.outcome(attempt).await;
    assert_eq!(outcome(&reports)["type"], "done", "{reports:#?}");
    worker.stored("complete").await;
    worker.snapshot(kept + 1).await;
    reports
}

async fn end_container(stage: &mut Stage) {
    stage.signal(Signal::SIGTERM);
    assert_eq!(stage.wait_for_sandboxd().await, Some(0));
    assert_eq!(stage.processes(), Vec::<String>::new());
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn wip_ref(stage: &Stage) -> String {
    format!("holdfast/wip/{}", stage.session)
}

#[tokio::test]
async fn an_ended_container_loses_neither_the_conversation_nor_a_file() {
    let (mut stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    let branch = format!("session/{}", stage.session);
    let prompt = "First\n@write a.txt committed\n@bash git add -A && git commit --quiet -m own && printf '*.log\\n' > .gitignore && rm README.md && echo out > x.log\n@write dirty.txt dirty";
    run(&stage, &worker, work(&stage, &worker, 1, prompt)).await;
    let unpushed = git(&stage.workspace(), &["rev-parse", "HEAD"]);
    let index = fs::read(stage.workspace().join(".git/index")).unwrap();
    let hook = stage.workspace().join(".git/hooks/post-index-change");
    program::install(&hook, &format!("#!/bin/sh\ntouch {}/hook-ran\n", stage.folder.path().display()));
    git(&stage.workspace(), &["config", "core.hooksPath", ".git/hooks"]);

    end_container(&mut stage).await;
    // The agent's branch and index are as they were, and no hook has run.
    assert_eq!(git(&stage.workspace(), &["rev-parse", &branch]), unpushed);
    assert_eq!(fs::read(stage.workspace().join(".git/index")).unwrap(), index);
    assert!(!stage.folder.path().join("hook-ran").exists());
    assert_eq!(stage.git(&["rev-parse", &format!("{}^", wip_ref(&stage))]), unpushed);
    assert_eq!(stage.git(&["ls-tree", "--name-only", &wip_ref(&stage)]), ".gitignore\na.txt\ndirty.txt");
    assert_eq!(stage.git(&["branch", "--list", "session/*"]), "");

    stage.replace_container();
    let mut again = work(&stage, &worker, 2, "Second\n@bash git status --porcelain > ../status.txt");
    again["workspace"]["lastBranch"] = json!(branch);
    again["workspace"]["setupCommands"] = json!(["exit 9", "touch ../set-up"]);
    let reports = run(&stage, &worker, again).await;
    assert_eq!(outcome(&reports), &json!({ "type": "done", "branch": branch, "resume": "replayed" }));
    let messages: Vec<&str> = reports.iter().map(|report| report["message"].as_str().unwrap()).collect();
    assert!(
        messages.contains(&"Work in progress restored") && messages.contains(&"Restoring session…"),
        "{messages:?}"
    );
    assert!(messages.iter().any(|message| message.contains("exit code 9; going on")), "{messages:?}");
    assert!(stage.workspace().join("../set-up").exists());
    assert_eq!(stage.conversation().len(), 2);
    assert_eq!(git(&stage.workspace(), &["rev-parse", "HEAD"]), unpushed);
    assert_eq!(read(&stage.workspace().join("dirty.txt")), "dirty\n");
    assert_eq!(read(&stage.workspace().join("../status.txt")), " D README.md\n?? .gitignore\n?? dirty.txt\n");
    // It is nowhere else yet, so it stays where it is.
    assert_eq!(stage.git(&["branch", "--list", "holdfast/*"]).trim(), wip_ref(&stage));

    // Once it is on the branch, the remote is tidied; and an ending container has nothing to add.
    let mut third = work(&stage, &worker, 3, "Third\n@write more.txt more");
    third["turn"]["autoCommit"] = json!(true);
    run(&stage, &worker, third).await;
    let tidied = || stage.git(&["branch", "--list", "holdfast/*"]).is_empty().then_some(());
    worker.until("a tidy remote", tidied).await;
    assert_eq!(stage.git(&["show", &format!("{branch}:dirty.txt")]), "dirty");
    assert_eq!(stage.git(&["rev-parse", &format!("{branch}^")]), unpushed);
    let kept = worker.snapshots_put();
    end_container(&mut stage).await;
    assert_eq!(stage.git(&["branch", "--list", "holdfast/*"]), "");
    assert_eq!(worker.snapshots_put(), kept);
}

#[tokio::test]
async fn a_turn_that_the_end_interrupts_is_kept_as_far_as_it_came() {
    let (mut stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    let prompt = "@bash touch started-1; sleep 301\n@say never";
    stage.call("POST", "work", Some(&work(&stage, &worker, 1, prompt))).await;
    worker.outcome(1).await;
    let file = stage.workspace().join("started-1");
    worker.until("the tool", || file.exists().then_some(())).await;
    end_container(&mut stage).await;
    assert_eq!(worker.snapshots_put(), 1);
    worker.stored("interrupted").await;

    stage.replace_container();
    let reports = run(&stage, &worker, work(&stage, &worker, 2, "@say again")).await;
    assert_eq!(outcome(&reports)["resume"], "replayed");
    assert_eq!(stage.conversation(), [prompt, "@say again"]);
    assert!(file.exists());
}

#[tokio::test]
async fn a_killed_container_goes_on_from_the_last_turn_and_says_what_is_gone() {
    let (mut stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    run(&stage, &worker, work(&stage, &worker, 1, "@say one")).await;
    // As long as nobody knows whether there is a conversation, none is begun.
    stage.lose_container().await;
    worker.fail_snapshots(&[503, 503, 503]);
    stage.call("POST", "work", Some(&work(&stage, &worker, 2, "@say two"))).await;
    let failed = worker.outcome(2).await;
    assert_eq!(
        (&outcome(&failed)["code"], &outcome(&failed)["retryable"]),
        (&json!("KILO_SERVER_FAILED"), &json!(true))
    );

    worker.fail_snapshots(&[503]);
    let reports = run(&stage, &worker, work(&stage, &worker, 3, "@say three")).await;
    assert_eq!(outcome(&reports)["resume"], "replayed");
    assert_eq!(stage.conversation(), ["@say one", "@say three"]);

    // What is kept is damaged: the session goes on, and says with what.
    let whole = worker.snapshot(1).await;
    stage.lose_container().await;
    worker.set_snapshot(&whole[..whole.len() / 2]);
    let reports = run(&stage, &worker, work(&stage, &worker, 4, "@say anew")).await;
    assert_eq!(outcome(&reports)["resume"], "fresh");
    let told = |report: &Value| report["message"].as_str().unwrap().contains("damaged");
    assert!(reports.iter().any(|report| report["step"] == "kilo_session" && told(report)), "{reports:#?}");
    assert_eq!(stage.conversation(), ["@say anew"]);
}

#[tokio::test]
async fn a_conversation_whose_import_was_ended_is_not_given_up() {
    let (mut stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    run(&stage, &worker, work(&stage, &worker, 1, "@say one")).await;
    stage.end_the_next_import();
    stage.lose_container().await;
    stage.call("POST", "work", Some(&work(&stage, &worker, 2, "@say two"))).await;
    let failed = worker.outcome(2).await;
    assert_eq!(
        (&outcome(&failed)["code"], &outcome(&failed)["retryable"]),
        (&json!("KILO_SERVER_FAILED"), &json!(true))
    );
    let reports = run(&stage, &worker, work(&stage, &worker, 3, "@say three")).await;
    assert_eq!(outcome(&reports)["resume"], "replayed");
    assert_eq!(stage.conversation(), ["@say one", "@say three"]);
}

#[tokio::test]
async fn a_stopped_session_keeps_what_could_not_be_kept_before() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    worker.fail_snapshots(&[500]);
    stage.call("POST", "work", Some(&work(&stage, &worker, 1, "@say one"))).await;
    worker.outcome(1).await;
    worker.stored("complete").await;
    worker.until("the failure", || worker.snapshot_failures_left().eq(&0).then_some(())).await;
    assert_eq!(worker.snapshots_put(), 0);
    stage.call("POST", "stop", None).await;
    assert_eq!(worker.snapshots_put(), 1);
    // A second stop has nothing new to keep, and its disk stays; that of a session that is gone does not.
    stage.call("POST", "stop", Some(&json!({ "forget": false }))).await;
    assert_eq!((worker.snapshots_put(), has_disk(&stage)), (1, true));
    assert_eq!(stage.call("POST", "stop", Some(&json!({ "forgot": true }))).await.0, 400);
    stage.call("POST", "stop", Some(&json!({ "forget": true }))).await;
    assert_eq!((worker.snapshots_put(), has_disk(&stage)), (1, false));
    assert_eq!(stage.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_remote_that_takes_nothing_does_not_hold_up_the_end() {
    let (mut stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    start_sleeping_tool(&stage, &worker, 1).await;
    fs::remove_dir_all(stage.remote()).unwrap();
    end_container(&mut stage).await;
}
