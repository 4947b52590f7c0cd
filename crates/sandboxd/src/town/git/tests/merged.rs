use super::*;
use crate::town::git::GitFailure;

/// A remote on which `work` has two commits that `main` lacks, and a clone that knew it before that.
async fn reviewed() -> Stage {
    let stage = Stage::new();
    stage.manager.set_up(&stage.repo()).await.unwrap();
    stage.push_as_somebody("work", "a", "one\n");
    stage.push_as_somebody("work", "a", "two\n");
    stage
}

impl Stage {
    async fn is_merged(&self) -> bool {
        self.manager.is_merged(&self.repo(), &branch("work"), &branch("main")).await.unwrap()
    }

    /// Runs git commands in a clone of somebody else, with `main` checked out.
    fn somebody(&self, commands: &[&[&str]]) {
        let clone = self.folder.path().join("reviewer");
        let _ = fs::remove_dir_all(&clone);
        git(self.folder.path(), &["clone", "--quiet", "remote.git", "reviewer"]);
        for command in commands {
            git(&clone, command);
        }
    }
}

const PUSH: &[&str] = &["push", "--quiet", "origin", "main"];

#[tokio::test]
async fn what_was_merged_nowhere_or_not_pushed_is_not_merged() {
    let stage = reviewed().await;
    assert!(!stage.is_merged().await);
    stage.somebody(&[&["merge", "--quiet", "origin/work"]]);
    assert!(!stage.is_merged().await);
    stage.push_as_somebody("main", "a", "other\n");
    assert!(!stage.is_merged().await, "not even if it cannot be merged");
}

#[tokio::test]
async fn a_merge_counts_as_soon_as_the_remote_has_it_and_no_ref_of_the_clone_is_written() {
    let stage = reviewed().await;
    let known = git(&stage.rig("repo"), &["for-each-ref"]);
    stage.somebody(&[&["merge", "--quiet", "--no-ff", "--no-edit", "origin/work"], PUSH]);
    assert!(stage.is_merged().await);
    stage.push_as_somebody("main", "b", "later\n");
    assert!(stage.is_merged().await);
    assert_eq!(git(&stage.rig("repo"), &["for-each-ref"]), known);
    stage.push_as_somebody("work", "a", "three\n");
    assert!(!stage.is_merged().await, "there is more now");
}

#[tokio::test]
async fn a_squash_and_a_rebase_are_merges_too() {
    let stage = reviewed().await;
    stage.push_as_somebody("main", "b", "meanwhile\n");
    stage.somebody(&[&["merge", "--quiet", "--squash", "origin/work"], &["commit", "--quiet", "-m", "Squashed"], PUSH]);
    assert!(stage.is_merged().await);

    let stage = reviewed().await;
    stage.push_as_somebody("main", "b", "meanwhile\n");
    let rebase: &[&str] = &["rebase", "--quiet", "main", "origin/work"];
    stage.somebody(&[rebase, &["push", "--quiet", "origin", "HEAD:main"]]);
    assert!(stage.is_merged().await);
}

#[tokio::test]
async fn half_of_a_branch_is_not_the_branch() {
    let stage = reviewed().await;
    stage.somebody(&[&["merge", "--quiet", "origin/work~1"], PUSH]);
    assert!(!stage.is_merged().await);
}

#[tokio::test]
async fn a_branch_that_its_reviewer_deleted_is_known_from_the_clone() {
    let stage = reviewed().await;
    stage.worktree("work").await;
    stage.somebody(&[&["push", "--quiet", "origin", ":work"]]);
    assert!(!stage.is_merged().await);
    stage.push_as_somebody("main", "a", "two\n");
    assert!(stage.is_merged().await);
}

#[tokio::test]
async fn into_a_branch_that_is_not_there_nothing_is_merged_and_of_one_that_nobody_knows_there_is_no_answer() {
    let stage = reviewed().await;
    let none = branch("none");
    assert!(!stage.manager.is_merged(&stage.repo(), &branch("work"), &none).await.unwrap());
    let asked = stage.manager.is_merged(&stage.repo(), &none, &branch("main")).await;
    assert!(matches!(asked, Err(GitFailure::NoBranch { branch }) if branch == none));
}
