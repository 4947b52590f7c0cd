use super::*;
use crate::town::git::Outcome;
use crate::town::git::merge::MergeStatus;
use std::time::Instant;

const BRANCH: &str = "gt/toast/1";
const ALL: [&str; 8] = [
    "pre-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "pre-push",
    "pre-merge-commit",
    "post-checkout",
    "reference-transaction",
];

#[tokio::test]
async fn hooks_that_fail_hang_or_rewrite_lose_nothing() {
    let rewrite = "echo rewritten > README; git add README; for a; do echo rewritten > \"$a\"; done";
    for script in ["exit 1", "sleep 600", rewrite] {
        let stage = Stage::new();
        let worktree = stage.worktree(BRANCH).await;
        let ran = stage.folder.path().join("ran");
        for name in ALL {
            hook(worktree.common_dir(), name, &format!("touch {}; {script}", ran.display()));
        }
        fs::write(worktree.path().join("a"), "a").unwrap();
        let receipt = stage.save(&worktree, BRANCH).await;
        assert_eq!(receipt.outcome, Outcome::Pushed, "{script}: {receipt:?}");
        assert_eq!(stage.on_remote(BRANCH, "a").as_deref(), Some("a"));
        assert_eq!(stage.on_remote(BRANCH, "README").as_deref(), Some("hello"));
        let subject = git(&stage.remote, &["log", "-1", "--format=%s", BRANCH]);
        assert_eq!(subject, "WIP: container eviction save\n");

        stage.worktree("gt/maple/2").await;
        let merge = stage.manager.merge(&stage.repo(), &branch(BRANCH), &branch("main")).await;
        assert_eq!(merge.status, MergeStatus::Merged, "{script}: {merge:?}");
        assert!(!ran.exists(), "{script}");
    }
}

#[tokio::test]
async fn hooks_elsewhere_and_signatures_are_not_asked_for() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let elsewhere = stage.folder.path().join("elsewhere");
    hook(&elsewhere, "pre-commit", "exit 1");
    let hooks = elsewhere.join("hooks");
    git(worktree.path(), &["config", "core.hooksPath", &hooks.to_string_lossy()]);
    git(worktree.path(), &["config", "commit.gpgSign", "true"]);
    git(worktree.path(), &["config", "gpg.program", "false"]);
    assert_eq!(stage.save(&worktree, BRANCH).await.outcome, Outcome::Pushed);
}

#[tokio::test]
async fn a_filter_that_hangs_ends_with_the_time_and_leaves_no_process() {
    let stage = Stage::within(Duration::from_secs(10));
    stage.push_as_somebody("main", ".gitattributes", "*.big filter=hang\n");
    let worktree = stage.worktree(BRANCH).await;
    let pid = stage.folder.path().join("pid");
    git(worktree.path(), &["config", "filter.hang.clean", &format!("echo $$ > {}; exec sleep 600", pid.display())]);
    fs::write(worktree.path().join("a.big"), "a").unwrap();
    let receipt = stage.save(&worktree, BRANCH).await;
    let Outcome::NotCommitted { reason } = receipt.outcome else { panic!("{receipt:?}") };
    assert!(reason.contains("did not end within 10 s"), "{reason}");
    let process = format!("/proc/{}/stat", fs::read_to_string(pid).unwrap().trim());
    let end = Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < end, "{process}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
