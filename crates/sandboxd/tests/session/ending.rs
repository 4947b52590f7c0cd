//! What is put away elsewhere when a role, a session or a container ends.

use crate::outcome;
use crate::process;
use crate::stage::Stage;
use crate::worker::Worker;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::put;
use flate2::read::GzDecoder;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// A turn whose conversation is kept and whose files are not committed.
fn work(stage: &Stage, worker: &Worker, attempt: u64, prompt: &str) -> Value {
    let mut work = stage.work_with_turn(worker, attempt, prompt);
    work["snapshot"] = json!({ "url": worker.snapshot_url(), "restore": attempt > 1 });
    work["turn"]["autoCommit"] = json!(false);
    work
}

async fn end_container(stage: &mut Stage) {
    stage.signal(Signal::SIGTERM);
    assert_eq!(stage.wait_for_sandboxd().await, Some(0));
    assert_eq!(stage.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_role_that_was_killed_leaves_to_the_next_what_is_to_be_kept_and_nothing_secret_on_the_disk() {
    let (mut stage, worker) = (Stage::supervised().await, Worker::start(&[]).await);
    let prompt = "@write dirty.txt dirty\n@bash touch started-1; sleep 301\n@say never";
    stage.call("POST", "work", Some(&work(&stage, &worker, 1, prompt))).await;
    let file = stage.workspace().join("started-1");
    worker.until("the tool", || file.exists().then_some(())).await;
    stage.kill_role();
    let error = worker.stored("error").await;
    assert_eq!(error["data"]["error"], "Wrapper restarted");
    worker.snapshot(1).await;
    for secret in ["git-token-1234", "report-token-1234"] {
        let found = std::process::Command::new("grep").args(["-rl", secret]).arg(stage.root()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{secret}");
    }

    // No new work has come, and the container ends.
    fs::write(stage.workspace().join("later.txt"), "later").unwrap();
    end_container(&mut stage).await;
    let wip = format!("holdfast/wip/{}", stage.session);
    assert_eq!(stage.git(&["show", &format!("{wip}:dirty.txt")]), "dirty");
    assert_eq!(stage.git(&["show", &format!("{wip}:later.txt")]), "later");

    stage.replace_container();
    stage.call("POST", "work", Some(&work(&stage, &worker, 2, "@say again"))).await;
    assert_eq!(outcome(&worker.outcome(2).await)["resume"], "replayed");
    worker.watch(2);
    worker.stored("complete").await;
    assert_eq!(stage.conversation(), [prompt, "@say again"]);
    assert!(stage.workspace().join("dirty.txt").exists());
}

#[tokio::test]
async fn a_session_that_is_gone_leaves_no_work_in_progress_on_the_remote() {
    let (mut stage, worker) = (Stage::supervised().await, Worker::start(&[]).await);
    let wip = |stage: &Stage| stage.git(&["branch", "--list", "holdfast/*"]).trim().to_owned();
    stage.call("POST", "work", Some(&work(&stage, &worker, 1, "@write dirty.txt dirty"))).await;
    worker.stored("complete").await;
    end_container(&mut stage).await;
    let expected = format!("holdfast/wip/{}", stage.session);
    assert_eq!(wip(&stage), expected);

    // It is of the session, whichever container put it there; and a killed role forgets nothing of it.
    stage.replace_container();
    stage.call("POST", "work", Some(&work(&stage, &worker, 2, "@say again"))).await;
    worker.watch(2);
    worker.stored("complete").await;
    assert_eq!(wip(&stage), expected);
    stage.call("POST", "stop", Some(&json!({ "forget": true }))).await;
    assert_eq!(wip(&stage), "");
    end_container(&mut stage).await;
    assert_eq!(wip(&stage), "");
}

#[tokio::test]
async fn a_caller_that_gives_up_on_the_way_leaves_the_forgetting_to_the_next() {
    let (mut stage, worker) = (Stage::supervised().await, Worker::start(&[]).await);
    stage.call("POST", "work", Some(&work(&stage, &worker, 1, "@write dirty.txt dirty"))).await;
    worker.stored("complete").await;
    end_container(&mut stage).await;
    stage.replace_container();
    let wip = |stage: &Stage| stage.git(&["branch", "--list", "holdfast/*"]).trim().to_owned();
    assert_eq!(wip(&stage), format!("holdfast/wip/{}", stage.session));

    // Its end takes longer than the first caller waits.
    let prompt = "@bash touch started-2; sleep 301\n@say never";
    stage.call("POST", "work", Some(&work(&stage, &worker, 2, prompt))).await;
    let file = stage.workspace().join("started-2");
    worker.until("the tool", || file.exists().then_some(())).await;
    let forget = json!({ "forget": true });
    let first = stage.call("POST", "stop", Some(&forget));
    tokio::time::timeout(Duration::from_millis(200), first).await.expect_err("the end of a turn takes longer");
    stage.call("POST", "stop", Some(&forget)).await;
    assert_eq!(wip(&stage), "");
}

/// The uploads of logs, as the text of `wrapper.log` in each.
#[derive(Clone, Default)]
struct Uploads(Arc<Mutex<Vec<String>>>);

impl Uploads {
    async fn start() -> (Self, String) {
        let (uploads, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = format!("http://{}/logs", listener.local_addr().unwrap());
        let router = Router::new().route("/logs", put(Self::take)).with_state(uploads.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (uploads, url)
    }

    async fn take(State(uploads): State<Self>, body: Bytes) {
        let mut archive = tar::Archive::new(GzDecoder::new(&body[..]));
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let mut own = entries.find(|entry| entry.path().unwrap().ends_with("wrapper.log")).unwrap();
        let mut text = String::new();
        own.read_to_string(&mut text).unwrap();
        uploads.0.lock().unwrap().push(text);
    }

    fn last(&self) -> Option<String> {
        self.0.lock().unwrap().last().cloned()
    }
}

#[tokio::test]
async fn the_last_upload_of_logs_has_the_end_of_its_turn() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    let (uploads, url) = Uploads::start().await;
    let mut work = work(&stage, &worker, 1, "@say one");
    work["turn"]["logsUrl"] = json!(url);
    stage.call("POST", "work", Some(&work)).await;
    let text = worker.until("the upload", || uploads.last()).await;
    assert!(text.contains(r#""event":"turn_ended""#), "{text}");
}

#[tokio::test]
async fn a_container_that_ends_waits_for_the_last_upload_of_logs() {
    let (mut stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    let (uploads, url) = Uploads::start().await;
    let mut work = stage.work_with_turn(&worker, 1, "@bash touch started-1; sleep 301\n@say never");
    work["turn"]["logsUrl"] = json!(url);
    stage.call("POST", "work", Some(&work)).await;
    let file = stage.workspace().join("started-1");
    worker.until("the tool", || file.exists().then_some(())).await;
    end_container(&mut stage).await;
    let text = uploads.last().unwrap();
    assert!(text.contains(r#""event":"turn_ended""#), "{text}");
}

/// Runs a turn whose logs go to a store that takes connections and says nothing, which is returned.
async fn with_a_store_that_hangs(stage: &Stage) -> (TcpListener, TcpStream) {
    let (worker, listener) = (Worker::start(&[]).await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut work = stage.work_with_turn(&worker, 1, "@say one");
    work["turn"]["logsUrl"] = json!(format!("http://{}/logs", listener.local_addr().unwrap()));
    stage.call("POST", "work", Some(&work)).await;
    worker.stored("complete").await;
    let (held, _) = listener.accept().await.unwrap();
    (listener, held)
}

#[tokio::test]
async fn a_store_of_logs_that_hangs_does_not_hold_up_the_end() {
    let mut stage = Stage::new().await;
    let _held = with_a_store_that_hangs(&stage).await;
    end_container(&mut stage).await;
}

#[tokio::test]
async fn an_end_that_takes_too_long_comes_all_the_same_and_says_so() {
    let mut stage = Stage::limited(json!({ "shutdown_ms_max": 500 })).await;
    let _held = with_a_store_that_hangs(&stage).await;
    stage.signal(Signal::SIGTERM);
    assert_eq!(stage.wait_for_sandboxd().await, Some(1));
}

#[tokio::test]
async fn an_agent_server_that_hangs_costs_the_session_nothing_that_is_to_be_kept() {
    // The waits for it are 11 s; the rest is for the machine.
    let mut stage = Stage::limited(json!({ "shutdown_ms_max": 40_000 })).await;
    let worker = Worker::start(&[]).await;
    let prompt = "@write dirty.txt dirty\n@bash touch started-1; sleep 301\n@say never";
    stage.call("POST", "work", Some(&work(&stage, &worker, 1, prompt))).await;
    let file = stage.workspace().join("started-1");
    worker.until("the tool", || file.exists().then_some(())).await;
    let all = process::processes(&stage.session);
    let (agent, _) = all.iter().find(|(_, line)| line.contains("serve --hostname")).unwrap();
    nix::sys::signal::kill(Pid::from_raw(*agent), Signal::SIGSTOP).unwrap();
    end_container(&mut stage).await;
    assert_eq!(stage.git(&["show", &format!("holdfast/wip/{}:dirty.txt", stage.session)]), "dirty");
}
