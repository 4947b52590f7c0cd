//! A reviewer from its start to its `gt_done`, which the container believes when the remote has the merge.

use crate::stage::Stage;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::process::Command;

/// What `gt_done` says to the agent whose environment is in its worktree, and whether that is an error.
pub async fn done(stage: &Stage, agent: &str) -> (String, bool) {
    let environment = fs::read_to_string(stage.worktree(agent).join("env.txt")).unwrap();
    let configuration = environment.lines().find_map(|line| line.strip_prefix("KILO_CONFIG_CONTENT=")).unwrap();
    let server = serde_json::from_str::<Value>(configuration).unwrap()["mcp"]["gt"].clone();
    let call =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "done", "arguments": {} } });
    let request = stage.client.post(server["url"].as_str().unwrap()).json(&call);
    let request = request.header("authorization", server["headers"]["Authorization"].as_str().unwrap());
    let (status, answer) = stage.answer(request).await;
    assert_eq!(status, 200, "{answer}");
    let result = &answer["result"];
    (result["content"][0]["text"].as_str().unwrap().to_owned(), result["isError"].as_bool().unwrap())
}

#[tokio::test]
async fn a_reviewer_is_done_only_when_its_target_has_the_branch() {
    let stage = Stage::new().await;
    let prompt = "write work.txt work\nsh git add work.txt && git commit --quiet -m Work && git push --quiet origin HEAD\nsh env > env.txt";
    let mut request = stage.request("a", "refinery", prompt);
    request["targetBranch"] = json!("main");
    request["beadId"] = json!("b7");
    assert_eq!(stage.post("/agents/start", request).await.0, 201);
    stage.wait_for_event("a", "session.idle").await;

    let (said, is_error) = done(&stage, "a").await;
    assert!(is_error && said.contains("Merge gt/a into main"), "{said}");
    assert_eq!(stage.worker.calls("/done").len(), 0);

    let mut push = Command::new("git");
    push.args(["push", "--quiet", "origin", "HEAD:main"]).current_dir(stage.worktree("a"));
    assert!(push.status().unwrap().success());
    let (said, is_error) = done(&stage, "a").await;
    assert!(!is_error, "{said}");
    let told = stage.worker.calls("agents/a/done");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].body, json!({ "bead_id": "b7", "branch": "gt/a" }), "of which run it is");
}

#[tokio::test]
async fn who_was_given_nothing_to_merge_is_done_when_it_says_so() {
    let stage = Stage::new().await;
    stage.start("a", "write work.txt work\nsh env > env.txt").await;
    stage.wait_for_event("a", "session.idle").await;
    let (said, is_error) = done(&stage, "a").await;
    assert!(!is_error, "{said}");
}

#[tokio::test]
async fn a_target_that_is_no_branch_is_refused() {
    let stage = Stage::new().await;
    let mut request = stage.request("a", "refinery", "");
    request["targetBranch"] = json!("--all");
    let (status, answer) = stage.post("/agents/start", request).await;
    assert!(status >= 400 && answer.to_string().contains("is not a branch name"), "{status} {answer}");
}
