//! The end of a turn, with real git, real hooks and a real remote.

use super::*;
use crate::program;
use crate::session::git::GitUrl;
use crate::session::redact::Redactor;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A remote with one commit on `main`, and a workspace on the branch `topic` of it.
struct Stage {
    folder: TempDir,
    paths: SessionPaths,
    git: Git,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let session = protocol::id::SessionId::parse("agent_01234567-89ab-cdef-0123-456789abcdef").unwrap();
        let paths = SessionPaths::new(&folder.path().join("root"), &session);
        paths.create().unwrap();
        run(folder.path(), "git init --quiet --bare --initial-branch main remote.git");
        run(folder.path(), &format!("git clone --quiet remote.git {} 2>/dev/null", paths.workspace.display()));
        run(
            &paths.workspace,
            "echo one > file && git add -A && git commit --quiet -m one && git push --quiet -u origin HEAD:main",
        );
        run(&paths.workspace, "git checkout --quiet -b topic");
        let url = format!("file://{}", folder.path().join("remote.git").display());
        let names = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
        let path = ("PATH", std::env::var("PATH").unwrap());
        let git = Git {
            url: GitUrl::parse(&url, true).unwrap(),
            token: None,
            user: "x",
            redactor: Redactor::default(),
            environment: names.map(|name| (name, "kilo@example.com".to_owned())).into_iter().chain([path]).collect(),
            local_timeout: Duration::from_secs(60),
        };
        Self { folder, paths, git }
    }

    async fn commit(&self, requested: Option<&str>) -> AutoCommitCompleted {
        let requested = requested.map(|name| BranchName::parse(name).unwrap());
        let (git, paths) = (self.git.clone(), self.paths.clone());
        AutoCommit { git, paths, requested, prompt: "Do it\nsoon".into() }.run().await
    }

    fn run(&self, script: &str) -> String {
        run(&self.paths.workspace, script)
    }

    /// What the remote has on a branch: the subjects of its commits, the newest first.
    fn remote(&self, branch: &str) -> String {
        run(&self.folder.path().join("remote.git"), &format!("git log --format=%s {branch} 2>/dev/null || true"))
    }

    fn hook(&self, script: &str) {
        let hook = self.paths.workspace.join(".git/hooks/pre-commit");
        program::install(&hook, &format!("#!/bin/sh\n{script}\n"));
    }
}

fn run(folder: &Path, script: &str) -> String {
    let identity = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(folder).envs(identity.map(|name| (name, "test@example.com")));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn changes_are_committed_and_pushed_under_the_first_line_of_the_prompt() {
    let stage = Stage::new();
    stage.run("echo two > two; rm file");
    let completed = stage.commit(None).await;
    assert_eq!((completed.success, completed.commit_message.as_deref()), (true, Some("Do it")));
    assert_eq!(completed.message, "Changes committed and pushed");
    assert_eq!(completed.commit_hash, Some(stage.run("git rev-parse HEAD")));
    assert_eq!(stage.remote("topic"), "Do it\none");
    assert_eq!(stage.run("git status --porcelain; git rev-parse --abbrev-ref @{u}"), "origin/topic");
}

#[tokio::test]
async fn what_is_not_to_be_committed_is_skipped_and_that_is_a_success() {
    let stage = Stage::new();
    let skipped = async |requested: Option<&str>| {
        let completed = stage.commit(requested).await;
        assert_eq!((completed.success, completed.skipped, completed.commit_hash), (true, Some(true), None));
        completed.message
    };
    assert_eq!(skipped(None).await, "Skipped: nothing to commit");
    stage.run("echo two > two; git checkout --quiet --detach");
    assert_eq!(skipped(None).await, "Skipped: detached HEAD");
    stage.run("git checkout --quiet main 2>/dev/null || git checkout --quiet -b main");
    assert_eq!(skipped(None).await, "Skipped: main is a protected branch");
    assert_eq!(skipped(Some("topic")).await, "Skipped: main is a protected branch");
    // Who asks for it by name gets it.
    assert_eq!(stage.commit(Some("main")).await.message, "Changes committed and pushed");
    assert_eq!(stage.remote("main"), "Do it\none");
}

#[tokio::test]
async fn hooks_that_refuse_or_hang_and_a_lock_that_was_left_do_not_cost_the_work() {
    let mut stage = Stage::new();
    stage.git.local_timeout = Duration::from_secs(10);
    for (name, hook) in [("refuses", "exit 1"), ("hangs", "sleep 600")] {
        stage.hook(hook);
        stage.run(&format!("echo {name} > {name}; touch .git/index.lock"));
        let completed = stage.commit(None).await;
        assert_eq!(completed.message, "Changes committed and pushed", "{name}");
        assert_eq!(stage.run(&format!("git show HEAD:{name}")), name);
    }
    assert_eq!(stage.remote("topic"), "Do it\nDo it\none");
}

#[tokio::test]
async fn a_repository_inside_is_named_and_keeps_nothing_else_out() {
    let stage = Stage::new();
    stage.run("git init --quiet nested; git clone --quiet . 'a clone'; git clone --quiet . sub; echo two > two");
    stage.run("git config --file .gitmodules submodule.sub.path sub");
    let completed = stage.commit(None).await;
    let left_out = "; left out, as repositories of their own or unreadable: nested, a clone";
    assert_eq!(completed.message, format!("Changes committed and pushed{left_out}"));
    assert_eq!(stage.run("git ls-tree --name-only HEAD"), ".gitmodules\nfile\nsub\ntwo");
    let completed = stage.commit(None).await;
    assert_eq!(completed.message, format!("Skipped: nothing to commit{left_out}"));
    assert_eq!((completed.success, completed.skipped), (true, Some(true)));
}

#[tokio::test]
async fn a_lock_that_git_cannot_get_past_is_no_file_left_out() {
    let stage = Stage::new();
    stage.run("echo two > two; mkdir .git/index.lock");
    let completed = stage.commit(None).await;
    assert!(!completed.success && completed.message.starts_with("Auto-commit failed: "), "{completed:?}");
}

#[tokio::test]
async fn a_repository_without_commits_gets_its_first() {
    let stage = Stage::new();
    stage.run("git checkout --quiet --orphan first && git rm --quiet -r --cached . && rm file");
    assert_eq!(stage.commit(None).await.message, "Skipped: nothing to commit");
    stage.run("echo two > two");
    assert_eq!(stage.commit(None).await.message, "Changes committed and pushed");
    assert_eq!(stage.remote("first"), "Do it");
}

#[tokio::test]
async fn a_push_that_fails_is_told_and_the_next_turn_pushes_both() {
    let stage = Stage::new();
    let remote = stage.folder.path().join("remote.git");
    fs::rename(&remote, stage.folder.path().join("away")).unwrap();
    stage.run("echo two > two");
    let completed = stage.commit(None).await;
    assert!(completed.success && completed.message.starts_with("Changes committed; push failed: "), "{completed:?}");
    fs::rename(stage.folder.path().join("away"), &remote).unwrap();
    let completed = stage.commit(None).await;
    assert_eq!((completed.message.as_str(), completed.skipped), ("The agent's own commits pushed", None));
    assert_eq!(stage.remote("topic"), "Do it\none");
}

#[test]
fn the_message_is_the_first_line_that_says_something() {
    assert_eq!(message_of("\n  Fix the door \nand the window"), "Fix the door");
    assert_eq!(message_of(" \n"), "wip");
    assert_eq!(message_of("\u{7}"), "wip");
    assert_eq!(message_of(&"é".repeat(100)).chars().count(), limits::COMMIT_SUBJECT_CHARS);
}
