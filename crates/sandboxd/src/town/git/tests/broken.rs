//! Clones and worktrees in the state that agents and killed commands leave them in.

use super::*;
use std::fs::File;
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

const BRANCH: &str = "gt/toast/1";

fn commit(worktree: &Worktree, file: &str) -> String {
    fs::write(worktree.path().join(file), file).unwrap();
    git(worktree.path(), &["add", "-A"]);
    git(worktree.path(), &["commit", "--quiet", "-m", file]);
    git(worktree.path(), &["rev-parse", "HEAD"])
}

/// A lock that was made some time ago.
fn lock(path: &Path, age: Duration) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

const LONG_AGO: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_clone_whose_remote_an_agent_removed_or_bent_is_mended_and_keeps_every_commit() {
    for order in [
        ["remote", "remove", "origin"].as_slice(),
        &["config", "--unset-all", "remote.origin.fetch"],
        &["remote", "set-branches", "origin", "nothing"],
        &["config", "remote.origin.mirror", "true"],
    ] {
        let stage = Stage::new();
        let worktree = stage.worktree(BRANCH).await;
        let mine = commit(&worktree, "mine");
        git(worktree.path(), order);
        stage.push_as_somebody("late", "l", "l");
        let other = stage.worktree("gt/maple/2").await;
        assert_eq!(git(worktree.path(), &["rev-parse", "HEAD"]), mine, "{order:?}");
        assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
        assert_eq!(git(other.path(), &["remote", "get-url", "origin"]).trim(), stage.url());
        assert!(git_says(other.path(), &["rev-parse", "--verify", "origin/late"]).is_some(), "{order:?}");
    }
}

#[tokio::test]
async fn a_configuration_that_nobody_can_read_is_replaced() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let mine = commit(&worktree, "mine");
    let config = worktree.common_dir().join("config");
    fs::write(&config, fs::read_to_string(&config).unwrap() + "[[half a").unwrap();
    assert_eq!(git_says(worktree.path(), &["status"]), None);
    assert_eq!(stage.worktree(BRANCH).await, worktree);
    assert_eq!(git(worktree.path(), &["rev-parse", "HEAD"]), mine);
    stage.worktree("gt/maple/2").await;
}

#[tokio::test]
async fn a_clone_that_is_none_any_more_is_moved_aside_with_what_is_in_it() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let mine = commit(&worktree, "mine");
    fs::remove_file(worktree.common_dir().join("HEAD")).unwrap();
    let again = stage.worktree(BRANCH).await;
    assert!(again.path().join("README").exists());
    let aside = fs::read_dir(stage.rig("aside")).unwrap().flatten().map(|entry| entry.path());
    let clone = aside.into_iter().find(|path| path.join(".git/objects").exists()).unwrap();
    fs::write(clone.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    assert_eq!(git(&clone, &["rev-parse", BRANCH]), mine);
}

#[tokio::test]
async fn a_start_that_was_given_up_leaves_no_half_worktree_to_the_next() {
    let stage = Arc::new(Stage::new());
    stage.push_as_somebody("main", ".gitattributes", "*.big filter=hang\n");
    stage.manager.set_up(&stage.repo()).await.unwrap();
    stage.push_as_somebody(BRANCH, "a.big", "big");
    let (clone, hangs) = (stage.rig("repo"), stage.folder.path().join("hangs"));
    git(&clone, &["config", "filter.hang.smudge", &format!("touch {}; exec sleep 600", hangs.display())]);
    let of = stage.clone();
    let start = tokio::spawn(async move { of.worktree(BRANCH).await });
    while !hangs.exists() {
        assert!(!start.is_finished());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.abort();
    assert!(start.await.is_err());
    git(&clone, &["config", "--unset", "filter.hang.smudge"]);
    let worktree = stage.worktree(BRANCH).await;
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
    assert_eq!(fs::read_to_string(worktree.path().join("a.big")).unwrap(), "big");
}

#[tokio::test]
async fn a_worktree_that_git_was_killed_over_is_made_anew() {
    for half in ["locked", "no index"] {
        let stage = Stage::new();
        let worktree = stage.worktree(BRANCH).await;
        let mine = commit(&worktree, "mine");
        fs::remove_file(worktree.path().join("README")).unwrap();
        fs::write(worktree.path().join("notes"), "n").unwrap();
        fs::write(worktree.git_dir().join("index.lock"), "").unwrap();
        if half == "locked" {
            fs::write(worktree.git_dir().join("locked"), "initializing").unwrap();
        } else {
            fs::remove_file(worktree.git_dir().join("index")).unwrap();
        }
        let again = stage.worktree(BRANCH).await;
        assert_eq!(git(again.path(), &["status", "--porcelain"]), "", "{half}");
        assert_eq!(git(again.path(), &["rev-parse", "HEAD"]), mine);
        assert_eq!(git(again.path(), &["branch", "--show-current"]).trim(), BRANCH);
        let mut aside = fs::read_dir(stage.rig("aside")).unwrap().flatten().map(|entry| entry.path());
        assert!(aside.any(|path| path.join("notes").exists()), "{half}");
        assert_eq!(git(&stage.rig("repo"), &["worktree", "prune", "--verbose"]), "");
    }
}

#[tokio::test]
async fn a_worktree_that_another_agent_locked_is_no_half_one() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    git(worktree.path(), &["worktree", "lock", "--reason", "mine", "."]);
    assert_eq!(stage.worktree(BRANCH).await, worktree);
}

/// A rebase that stopped at a conflict, before the last of its commits.
async fn stopped(stage: &Stage) -> (Worktree, String) {
    let worktree = stage.worktree(BRANCH).await;
    fs::write(worktree.path().join("README"), "mine\n").unwrap();
    git(worktree.path(), &["commit", "--quiet", "-am", "mine"]);
    commit(&worktree, "more");
    let mine = git(worktree.path(), &["rev-parse", "HEAD"]);
    stage.push_as_somebody("main", "README", "theirs\n");
    git(worktree.path(), &["fetch", "--quiet"]);
    assert_eq!(git_says(worktree.path(), &["rebase", "--quiet", "origin/main"]), None);
    fs::write(worktree.path().join("half"), "h").unwrap();
    (worktree, mine)
}

#[tokio::test]
async fn conflicts_are_saved_beside_and_the_branch_goes_on() {
    let stage = Stage::new();
    let (worktree, mine) = stopped(&stage).await;
    fs::write(worktree.git_dir().join("index.lock"), "").unwrap();
    let again = stage.worktree(BRANCH).await;
    assert_eq!(again, worktree);
    assert_eq!(git(again.path(), &["rev-parse", "HEAD"]), mine);
    assert_eq!(git(again.path(), &["branch", "--show-current"]).trim(), BRANCH);
    assert_eq!(git(again.path(), &["status", "--porcelain"]), "");
    assert!(!again.git_dir().join("rebase-merge").exists());
    let branches = git(&stage.remote, &["for-each-ref", "--format=%(refname:short)", "refs/heads/gt/toast"]);
    let beside = branches.lines().find(|name| name.contains("-wip-")).unwrap();
    assert_eq!(stage.on_remote(beside, "half").as_deref(), Some("h"));
}

#[tokio::test]
async fn a_worktree_that_cannot_be_saved_is_moved_aside() {
    let stage = Stage::new();
    let (worktree, mine) = stopped(&stage).await;
    fs::write(worktree.git_dir().join("index"), "junk").unwrap();
    let again = stage.worktree(BRANCH).await;
    assert_eq!(git(again.path(), &["rev-parse", "HEAD"]), mine);
    assert_eq!(git(again.path(), &["status", "--porcelain"]), "");
    let mut aside = fs::read_dir(stage.rig("aside")).unwrap().flatten().map(|entry| entry.path());
    assert!(aside.any(|path| path.join("half").exists()));
}

#[tokio::test]
async fn what_a_checkout_that_was_cut_short_had_not_written_is_not_taken_for_deleted() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    commit(&worktree, "mine");
    fs::remove_file(worktree.path().join("README")).unwrap();
    fs::write(worktree.path().join("mine"), "changed").unwrap();
    fs::write(worktree.git_dir().join("index.lock"), "").unwrap();
    stage.worktree(BRANCH).await;
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), " M mine\n");
}

#[tokio::test]
async fn locks_that_dead_commands_left_in_the_clone_stop_nobody() {
    for name in ["config.lock", "packed-refs.lock", "HEAD.lock", "refs/heads/gt/maple/2.lock"] {
        let mut stage = Stage::new();
        // A lock that is younger may be somebody's.
        stage.manager.since = SystemTime::now() - 2 * LONG_AGO;
        stage.push_as_somebody("old", "a", "a");
        let worktree = stage.worktree(BRANCH).await;
        git(&stage.remote, &["branch", "-D", "old"]);
        git(worktree.path(), &["config", "remote.origin.pushurl", "file:///elsewhere"]);
        git(&stage.rig("repo"), &["symbolic-ref", "HEAD", "refs/heads/main"]);
        let path = worktree.common_dir().join(name);
        lock(&path, LONG_AGO);
        stage.worktree("gt/maple/2").await;
        assert!(!path.exists(), "{name}");
    }
}

#[tokio::test]
async fn locks_of_before_this_process_are_left_by_dead_commands() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    git(worktree.path(), &["remote", "remove", "origin"]);
    lock(&worktree.common_dir().join("config.lock"), Duration::from_secs(1));
    let restarted = Stage { manager: stage.manager_again(), ..stage };
    restarted.worktree("gt/maple/2").await;
}

#[tokio::test]
async fn a_lock_that_somebody_has_for_a_moment_is_waited_for() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    git(worktree.path(), &["remote", "remove", "origin"]);
    let path = worktree.common_dir().join("config.lock");
    lock(&path, Duration::ZERO);
    let (repo, other) = (stage.repo(), checkout("gt/maple/2"));
    let mut start = pin!(stage.manager.worktree(&repo, &other));
    // Until it has met the lock, and longer.
    let early = tokio::time::timeout(Duration::from_millis(500), &mut start).await;
    assert!(early.is_err() && path.exists(), "it is somebody's");
    fs::remove_file(&path).unwrap();
    start.await.unwrap();
}
