//! The same with the real Kilo CLI and the scripted model.

use crate::stage::Stage;
use crate::support::until_async;
use serde_json::Value;
use serde_json::json;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// The scripted model server. Dropping it ends it.
struct Model(Child);

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The model, and where it is.
fn model() -> (Model, String) {
    let server = project().join("model-server/server.mjs");
    let mut child = Command::new("node").arg(server).args(["--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    (Model(child), format!("http://127.0.0.1:{}/v1", ready["port"]))
}

#[tokio::test]
#[cfg(target_arch = "x86_64")]
async fn real_agents_are_drained_and_the_replacement_goes_on_with_the_conversation() {
    let (_model, url) = model();
    let kilo = project().join("node_modules/@kilocode/cli-linux-x64/bin/kilo");
    let mut stage = Stage::with_agent(&kilo, url).await;
    stage.start("a", "@bash for i in $(seq 600); do echo $i >> a.txt; sleep 0.1; done").await;
    stage.start("b", "@write b.txt made by b\n@tool gt_prime {}\n@say remember-this").await;
    stage.wait_for_file("a", "a.txt").await;
    stage.wait_for_event("b", "session.idle").await;
    assert_eq!(stage.worker.calls("agents/b/prime").len(), 1, "the tools of the town are offered");
    assert_eq!(stage.status("a").await["activeTools"], json!(["bash"]));
    let session = stage.status("b").await["sessionId"].clone();
    let instance = stage.health().await["containerInstanceId"].clone();

    assert_eq!(stage.evict(), Some(0));
    assert!(stage.on_remote("gt/a", "a.txt").is_some(), "{:?}", stage.logged("work_not_pushed"));
    assert!(stage.on_remote("gt/b", "b.txt").is_some());
    assert_eq!(stage.leftovers(), Vec::<String>::new());
    assert_eq!(stage.worker.town.lock().unwrap().snapshots.len(), 2);

    let stage = stage.replaced().await;
    assert_ne!(stage.health().await["containerInstanceId"], instance);
    stage.start("b", "@recall").await;
    assert_eq!(stage.status("b").await["sessionId"], session);
    assert!(stage.worktree("b").join("b.txt").exists());
    let recalled = async || {
        let (_, body) = stage.get("/agents/b/events").await;
        let events = body["events"].as_array().unwrap().clone();
        events.iter().any(|event| event["data"].to_string().contains("@write b.txt")).then_some(())
    };
    until_async("what was said before the eviction", recalled).await;
}
