//! Evictions in which git, an agent or the platform does not do what it should.

use crate::program;
use crate::stage::Stage;
use crate::support::until;
use nix::sys::signal::Signal;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::process::Command;
use std::time::Instant;

/// The receipt of an agent that was evicted after doing this.
async fn evicted_after(stage: &mut Stage, agent: &str, prompt: &str) -> Value {
    stage.start(agent, prompt).await;
    stage.wait_for_event(agent, "session.idle").await;
    assert_eq!(stage.evict(), Some(0));
    stage.worker.calls(&format!("{agent}/eviction-context"))[0].body.clone()
}

#[tokio::test]
async fn hooks_that_fail_or_hang_save_nothing_from_being_saved() {
    let mut stage = Stage::new().await;
    stage.start("a", "write a.txt a").await;
    let hooks = stage.folder.path().join("root/workspace/rigs/r1/repo/.git/hooks");
    for (name, script) in [
        ("pre-commit", "#!/bin/sh\nexit 1\n"),
        ("pre-push", "#!/bin/sh\nsleep 600\n"),
        ("commit-msg", "#!/bin/sh\nexit 1\n"),
    ] {
        program::install(&hooks.join(name), script);
    }
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("a"));
}

#[tokio::test]
async fn a_detached_head_is_saved_on_the_agents_branch() {
    let mut stage = Stage::new().await;
    let receipt = evicted_after(&mut stage, "a", "sh git checkout -q --detach\nwrite a.txt a").await;
    assert_eq!((&receipt["pushed"], &receipt["branch"]), (&json!(true), &json!("gt/a")));
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("a"));
}

#[tokio::test]
async fn a_stale_index_lock_is_removed_once_the_agent_is_frozen() {
    let mut stage = Stage::new().await;
    let receipt = evicted_after(&mut stage, "a", "write a.txt a\nsh touch $(git rev-parse --git-dir)/index.lock").await;
    assert_eq!(receipt["pushed"], true, "{receipt}");
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("a"));
}

#[tokio::test]
async fn an_agent_that_removes_the_remote_costs_no_agent_of_its_rig_a_save() {
    let mut stage = Stage::new().await;
    stage.start("b", "write b.txt b").await;
    let receipt = evicted_after(&mut stage, "a", "write a.txt a\nsh git remote remove origin").await;
    assert_eq!((&receipt["pushed"], &receipt["branch"]), (&json!(true), &json!("gt/a")));
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("a"));
    assert_eq!(stage.on_remote("gt/b", "b.txt").as_deref(), Some("b"));
}

#[tokio::test]
async fn without_an_origin_there_is_a_commit_and_the_receipt_says_why_no_more() {
    let mut stage = Stage::new().await;
    let mut request = stage.request("a", "triage", "write a.txt a");
    request["lightweight"] = json!(true);
    assert_eq!(stage.post("/agents/start", request).await.0, 201);
    stage.wait_for_event("a", "session.idle").await;
    assert_eq!(stage.evict(), Some(0));
    let receipt = &stage.logged("work_not_pushed")[0];
    assert_eq!((&receipt["agent"], receipt["commit"].as_str().unwrap().len()), (&json!("a"), 40));
    assert_eq!(receipt["reason"], "there is no remote to push to");
}

#[tokio::test]
async fn what_is_not_below_the_commit_is_named_in_the_receipt() {
    let mut stage = Stage::new().await;
    let orders = "write a.txt a\nsh git add -A && git stash -q\nwrite b.txt b";
    let receipt = evicted_after(&mut stage, "a", orders).await;
    assert_eq!((&receipt["pushed"], &receipt["branch"]), (&json!(true), &json!("gt/a")));
    assert_eq!(stage.on_remote("gt/a", "b.txt").as_deref(), Some("b"));
    let beside = receipt["reason"].as_str().unwrap().rsplit(' ').next().unwrap();
    assert_eq!(stage.on_remote(beside, "a.txt").as_deref(), Some("a"), "{receipt}");
}

#[tokio::test]
async fn a_remote_that_is_gone_costs_the_push_and_nothing_else() {
    let mut stage = Stage::new().await;
    stage.start("a", "write a.txt a").await;
    stage.wait_for_event("a", "session.idle").await;
    fs::rename(stage.remote(), stage.folder.path().join("elsewhere")).unwrap();
    assert_eq!(stage.evict(), Some(0));
    let receipt = stage.worker.calls("a/eviction-context")[0].body.clone();
    assert_eq!((&receipt["pushed"], receipt["commit"].as_str().unwrap().len()), (&json!(false), 40));
    assert!(receipt["reason"].as_str().unwrap().contains("git"), "{receipt}");
    assert_eq!(stage.worker.calls("a/completed").len(), 1, "its bead is free all the same");
}

#[tokio::test]
async fn an_agent_that_cannot_be_frozen_in_time_is_not_saved_and_holds_up_nobody() {
    // One takes 6 s at least: what its server may take for an abort, and then for its end. The other has five.
    let limits = r#"{"sandbox_town":{"draining_idle_ms":50,"drain_wait_ms":300,"drain_freeze_ms":5000}}"#;
    let mut stage = Stage::with_limits(limits).await;
    stage.start("a", "stubborn\ndeaf\nclinging\ntool a.txt").await;
    stage.start("b", "write b.txt b").await;
    stage.wait_for_file("a", "a.txt").await;
    stage.wait_for_event("b", "session.idle").await;
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.on_remote("gt/a", "a.txt"), None, "it may still have been writing");
    assert_eq!(stage.on_remote("gt/b", "b.txt").as_deref(), Some("b"));
    let receipt = stage.worker.calls("a/eviction-context")[0].body.clone();
    assert_eq!((&receipt["pushed"], &receipt["commit"]), (&json!(false), &Value::Null));
    assert!(receipt["reason"].as_str().unwrap().contains("in time"), "{receipt}");
    assert_eq!(stage.leftovers(), Vec::<String>::new(), "it is ended all the same, before the container is");
}

#[tokio::test]
async fn an_agent_server_that_does_not_abort_is_killed_and_its_work_saved() {
    let mut stage = Stage::new().await;
    stage.start("a", "stubborn\ndeaf\ntool a.txt").await;
    stage.wait_for_file("a", "a.txt").await;
    assert_eq!(stage.evict(), Some(0));
    assert!(stage.on_remote("gt/a", "a.txt").is_some());
    assert_eq!(stage.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn who_ended_before_the_eviction_is_saved_if_it_left_something() {
    let mut stage = Stage::with_limits(r#"{"sandbox_town":{"idle_ms":50}}"#).await;
    stage.start("a", "write a.txt left-behind").await;
    stage.start("b", "write b.txt b\nsh git add -A && git commit -q -m b && git push -q origin HEAD").await;
    // Also their conversations have been given away: until then they are ended like agents that run.
    until("both to be over", || (stage.logged("agent_over").len() == 2).then_some(()));
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("left-behind"));
    assert_eq!(stage.worker.calls("a/eviction-context").len(), 1);
    assert_eq!(stage.worker.calls("a/completed").len(), 1, "its end was told before");
    let told = stage.worker.calls("b/eviction-context").first().map(|call| call.body.clone());
    assert_eq!(told, None, "nothing is committed on top of what is whole");
    assert_eq!(stage.logged("nothing_to_save")[0]["agent"], "b");
    assert_eq!(stage.logged("drained")[0]["pushed"], 1);
    let newest = Command::new("git").args(["log", "-1", "--format=%s", "gt/b"]).current_dir(stage.remote()).output();
    assert_eq!(String::from_utf8(newest.unwrap().stdout).unwrap().trim(), "b");
}

#[tokio::test]
async fn sigkill_in_the_middle_keeps_what_was_pushed_and_the_agent_comes_back() {
    let stage = Stage::new().await;
    stage
        .start(
            "a",
            "write a.txt pushed\nsh git add -A && git commit -q -m a && git push -q origin HEAD\nstubborn\nwork b.txt",
        )
        .await;
    stage.wait_for_file("a", "b.txt").await;
    stage.worker.wait_for("container-registry", 2).await;
    stage.signal(Signal::SIGTERM);
    stage.worker.wait_for("container-eviction", 1).await;
    let stage = stage.replaced().await;
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("pushed"));
    let checked = Command::new("git").args(["fsck", "--strict"]).current_dir(stage.remote()).output().unwrap();
    assert!(checked.status.success());
    stage.wait_for_status("a", "running").await;
}

#[tokio::test]
async fn ten_worktrees_are_saved_quickly() {
    let mut stage = Stage::new().await;
    let agents: Vec<String> = (0..10).map(|n| format!("a{n}")).collect();
    for agent in &agents {
        stage.start(agent, "write a.txt text").await;
    }
    for agent in &agents {
        stage.wait_for_event(agent, "session.idle").await;
    }
    let started = Instant::now();
    assert_eq!(stage.evict(), Some(0));
    println!("10 worktrees drained in {} ms", started.elapsed().as_millis());
    for agent in &agents {
        assert_eq!(stage.on_remote(&format!("gt/{agent}"), "a.txt").as_deref(), Some("text"), "{agent}");
    }
}
