use super::*;
use crate::town::git::merge::MergeStatus;

impl Stage {
    async fn merge(&self, from: &str, into: &str) -> crate::town::git::Merge {
        let merge = self.manager.merge(&self.repo(), &branch(from), &branch(into)).await;
        let left = fs::read_dir(self.rig("merge-tmp")).map(|entries| entries.count()).unwrap_or(0);
        assert_eq!(left, 0, "{merge:?}");
        if self.rig("repo").exists() {
            assert!(!git(&self.rig("repo"), &["worktree", "list"]).contains("merge-tmp"));
        }
        merge
    }
}

#[tokio::test]
async fn a_branch_is_merged_with_a_commit_of_its_own() {
    let stage = Stage::new();
    stage.push_as_somebody("gt/toast/1", "a", "a");
    let merge = stage.merge("gt/toast/1", "main").await;
    assert_eq!(merge.status, MergeStatus::Merged, "{merge:?}");
    assert_eq!(stage.on_remote("main", "a").as_deref(), Some("a"));
    let head = git(&stage.remote, &["log", "-1", "--format=%H %s by %an", "main"]);
    assert_eq!(head, format!("{} Merge gt/toast/1 into main by Town\n", merge.commit_sha.unwrap()));
    assert_eq!(git(&stage.remote, &["rev-list", "--count", "--merges", "main"]), "1\n");
}

#[tokio::test]
async fn what_is_merged_already_stays_as_it_is() {
    let stage = Stage::new();
    stage.push_as_somebody("gt/toast/1", "a", "a");
    let first = stage.merge("gt/toast/1", "main").await;
    assert_eq!(stage.merge("gt/toast/1", "main").await, first);
}

#[tokio::test]
async fn a_conflict_is_told_and_changes_nothing() {
    let stage = Stage::new();
    stage.push_as_somebody("gt/toast/1", "README", "theirs\n");
    stage.push_as_somebody("main", "README", "ours\n");
    let before = stage.all_of_remote();
    let merge = stage.merge("gt/toast/1", "main").await;
    assert_eq!((merge.status, merge.commit_sha), (MergeStatus::Conflict, None));
    assert!(merge.message.contains("README"), "{}", merge.message);
    assert_eq!(stage.all_of_remote(), before);
}

#[tokio::test]
async fn a_branch_that_is_not_there_or_a_remote_that_refuses_is_a_failure() {
    let stage = Stage::new();
    let merge = stage.merge("gt/toast/1", "main").await;
    assert_eq!(merge.status, MergeStatus::Failed);
    assert!(merge.message.contains("gt/toast/1 is not on the remote"), "{}", merge.message);
    stage.push_as_somebody("gt/toast/1", "a", "a");
    hook(&stage.remote, "pre-receive", "echo main is protected >&2; exit 1");
    let merge = stage.merge("gt/toast/1", "main").await;
    assert_eq!(merge.status, MergeStatus::Failed);
    assert!(merge.message.contains("main is protected"), "{}", merge.message);
}

#[tokio::test]
async fn a_target_that_moves_meanwhile_is_merged_into_as_it_is_then() {
    let stage = Stage::new();
    stage.push_as_somebody("gt/toast/1", "a", "a");
    stage.push_as_somebody("other", "b", "b");
    // The first push finds that somebody was faster.
    let script = "test -e moved || { touch moved; git update-ref refs/heads/main refs/heads/other; \
                  echo '! [rejected] fetch first' >&2; exit 1; }";
    hook(&stage.remote, "pre-receive", &format!("unset GIT_QUARANTINE_PATH; {script}"));
    let merge = stage.merge("gt/toast/1", "main").await;
    assert_eq!(merge.status, MergeStatus::Merged, "{merge:?}");
    assert!(stage.on_remote("main", "a").is_some() && stage.on_remote("main", "b").is_some());
}

#[tokio::test]
async fn a_killed_merge_is_cleared_away_by_the_next() {
    let stage = Stage::new();
    stage.manager.set_up(&stage.repo()).await.unwrap();
    fs::create_dir_all(stage.rig("merge-tmp")).unwrap();
    git(&stage.rig("repo"), &["worktree", "add", "--detach", "../merge-tmp/1", "origin/main"]);
    stage.push_as_somebody("gt/toast/1", "a", "a");
    assert_eq!(stage.merge("gt/toast/1", "main").await.status, MergeStatus::Merged);
}
