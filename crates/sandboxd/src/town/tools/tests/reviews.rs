//! A reviewer's `gt_done`: it counts only with what the remote has.

use super::*;
use crate::session::config::Author;
use crate::town::git::Branch;
use crate::town::git::RigRepo;
use crate::town::git::Tokens;
use std::path::Path;
use std::process::Command;

impl Stage {
    /// A refinery that reviews `gt/a/1`, which `main` lacks.
    async fn reviewing() -> Self {
        let stage = Self::new().await;
        let remote = stage.folder.path().join("remote.git");
        git(stage.folder.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "remote.git"]);
        git(stage.folder.path(), &["clone", "--quiet", "remote.git", "agent"]);
        stage.agent(&["commit", "--quiet", "--allow-empty", "-m", "First"]);
        stage.agent(&["push", "--quiet", "origin", "HEAD:main"]);
        std::fs::write(stage.folder.path().join("agent/work"), "work").unwrap();
        stage.agent(&["add", "--all"]);
        stage.agent(&["commit", "--quiet", "-m", "Work"]);
        stage.agent(&["push", "--quiet", "origin", "HEAD:gt/a/1"]);
        let author = Author { name: "Town".into(), email: "town@example.com".into() };
        let url = format!("file://{}", remote.display());
        let repo = RigRepo::parse(place().rig, &url, "main", &Tokens::default(), author, true).unwrap();
        stage.tools.git.set_up(&repo).await.unwrap();
        let [branch, target] = ["gt/a/1", "main"].map(|name| Branch::parse(name).unwrap());
        *stage.review.lock().unwrap() = Some(Review { repo, variables: Default::default(), branch, target });
        stage
    }

    fn agent(&self, arguments: &[&str]) {
        git(&self.folder.path().join("agent"), arguments);
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"];
    let status = Command::new("git").args(identity).args(arguments).current_dir(folder).status().unwrap();
    assert!(status.success(), "git {arguments:?}");
}

#[tokio::test]
async fn a_reviewer_is_done_when_the_remote_has_the_merge_and_is_told_what_to_do_before() {
    let stage = Stage::reviewing().await;
    let (said, is_error) = stage.call(&Role::Refinery, "done", json!({ "summary": "Merged" })).await;
    assert!(is_error && said.contains("Merge gt/a/1 into main, push main, and call gt_done again"), "{said}");
    assert!(stage.calls().is_empty(), "the town hears nothing of it");

    stage.agent(&["push", "--quiet", "origin", "HEAD:main"]);
    let (said, is_error) = stage.call(&Role::Refinery, "done", json!({ "branch": "another" })).await;
    assert!(!is_error, "{said}");
    let called = stage.calls().remove(0);
    assert_eq!(
        (called.path.as_str(), &called.body["branch"]),
        ("/api/towns/t1/rigs/r1/agents/a1/done", &json!("gt/a/1"))
    );
}

#[tokio::test]
async fn a_pull_request_is_the_towns_to_watch_and_the_other_tools_need_no_merge() {
    let stage = Stage::reviewing().await;
    for (tool, arguments) in [
        ("done", json!({ "pr_url": "https://git.example/pull/1" })),
        ("request_changes", json!({ "feedback": "Say more." })),
    ] {
        assert!(!stage.call(&Role::Refinery, tool, arguments).await.1, "{tool}");
    }
    assert_eq!(stage.calls().len(), 2);
    assert!(stage.call(&Role::Refinery, "done", json!({ "pr_url": "" })).await.1);
    assert!(stage.calls().is_empty());
}

#[tokio::test]
async fn a_remote_that_cannot_be_asked_confirms_nothing() {
    let stage = Stage::reviewing().await;
    std::fs::remove_dir_all(stage.folder.path().join("remote.git")).unwrap();
    let (said, is_error) = stage.call(&Role::Refinery, "done", json!({})).await;
    assert!(is_error && said.contains("could not be seen"), "{said}");
    assert!(stage.calls().is_empty());
}
