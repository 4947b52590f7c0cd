use super::*;
use crate::town::git::Lightweight;

#[tokio::test]
async fn a_new_branch_begins_at_the_default_branch() {
    let stage = Stage::new();
    let worktree = stage.worktree("gt/toast/1a2b3c4d").await;
    assert_eq!(worktree.path(), stage.rig("worktrees/gt__toast__1a2b3c4d").canonicalize().unwrap());
    assert_eq!(git(worktree.path(), &["branch", "--show-current"]), "gt/toast/1a2b3c4d\n");
    assert_eq!(git_says(worktree.path(), &["rev-parse", "--abbrev-ref", "@{upstream}"]), None);
    assert!(worktree.path().join("README").exists());
}

#[tokio::test]
async fn a_new_branch_of_a_convoy_begins_where_the_convoy_is() {
    let stage = Stage::new();
    stage.push_as_somebody("convoy/x/head", "convoy", "c");
    let from = Checkout { branch: branch("convoy/x/gt/toast/1"), start_point: Some(branch("origin/convoy/x/head")) };
    let worktree = stage.manager.worktree(&stage.repo(), &from).await.unwrap();
    assert!(worktree.path().join("convoy").exists());
    // A convoy that has not begun yet begins at the default branch.
    let early = Checkout { branch: branch("convoy/y/gt/toast/1"), start_point: Some(branch("origin/convoy/y/head")) };
    let worktree = stage.manager.worktree(&stage.repo(), &early).await.unwrap();
    assert!(worktree.path().join("README").exists());
}

#[tokio::test]
async fn work_that_an_evicted_agent_pushed_is_picked_up_on_an_empty_disk() {
    let stage = Stage::new();
    stage.push_as_somebody("convoy/x/head", "convoy", "c");
    stage.push_as_somebody("convoy/x/gt/toast/1", "wip", "half done");
    let from = Checkout { branch: branch("convoy/x/gt/toast/1"), start_point: Some(branch("origin/convoy/x/head")) };
    let worktree = stage.manager.worktree(&stage.repo(), &from).await.unwrap();
    assert_eq!(fs::read_to_string(worktree.path().join("wip")).unwrap(), "half done");
    let upstream = git(worktree.path(), &["rev-parse", "--abbrev-ref", "@{upstream}"]);
    assert_eq!(upstream, "origin/convoy/x/gt/toast/1\n");
}

#[tokio::test]
async fn a_worktree_that_is_there_goes_on_its_branch_and_to_what_is_new() {
    let stage = Stage::new();
    let first = stage.worktree("gt/toast/1").await;
    fs::write(first.path().join("mine"), "1").unwrap();
    git(first.path(), &["add", "-A"]);
    git(first.path(), &["commit", "--quiet", "-m", "mine"]);
    git(first.path(), &["checkout", "--quiet", "-b", "aside"]);
    stage.push_as_somebody("gt/toast/1", "theirs", "2");
    let again = stage.worktree("gt/toast/1").await;
    assert_eq!(again, first);
    assert_eq!(git(again.path(), &["branch", "--show-current"]), "gt/toast/1\n");
    assert!(again.path().join("mine").exists() && again.path().join("theirs").exists());
}

#[tokio::test]
async fn what_does_not_fit_leaves_the_worktree_as_it_was() {
    let stage = Stage::new();
    let worktree = stage.worktree("gt/toast/1").await;
    fs::write(worktree.path().join("file"), "mine").unwrap();
    git(worktree.path(), &["add", "-A"]);
    git(worktree.path(), &["commit", "--quiet", "-m", "mine"]);
    stage.push_as_somebody("gt/toast/1", "file", "theirs");
    stage.worktree("gt/toast/1").await;
    assert_eq!(fs::read_to_string(worktree.path().join("file")).unwrap(), "mine");
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
    assert_eq!(git(worktree.path(), &["branch", "--show-current"]), "gt/toast/1\n");
}

#[tokio::test]
async fn uncommitted_work_is_not_moved() {
    let stage = Stage::new();
    let worktree = stage.worktree("gt/toast/1").await;
    stage.push_as_somebody("gt/toast/1", "README", "theirs\n");
    fs::write(worktree.path().join("README"), "mine\n").unwrap();
    stage.worktree("gt/toast/1").await;
    assert_eq!(fs::read_to_string(worktree.path().join("README")).unwrap(), "mine\n");
    assert_eq!(git(worktree.path(), &["stash", "list"]), "");
}

#[tokio::test]
async fn a_worktree_that_vanished_is_made_again_with_its_commits() {
    let stage = Stage::new();
    let worktree = stage.worktree("gt/toast/1").await;
    fs::write(worktree.path().join("mine"), "1").unwrap();
    git(worktree.path(), &["add", "-A"]);
    git(worktree.path(), &["commit", "--quiet", "-m", "mine"]);
    fs::remove_dir_all(worktree.path()).unwrap();
    assert!(stage.worktree("gt/toast/1").await.path().join("mine").exists());
}

#[tokio::test]
async fn what_is_in_the_place_of_a_worktree_and_none_is_kept_aside() {
    let stage = Stage::new();
    let place = stage.rig("worktrees/gt__toast__1");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("notes"), "somebody's").unwrap();
    let worktree = stage.worktree("gt/toast/1").await;
    assert!(worktree.path().join("README").exists() && !worktree.path().join("notes").exists());
    let aside = fs::read_dir(stage.rig("aside")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(aside.join("notes")).unwrap(), "somebody's");
}

#[tokio::test]
async fn a_workspace_without_a_clone_is_a_repository_with_one_commit() {
    let stage = Stage::new();
    let rig = RigId::parse("mayor-t1").unwrap();
    let workspace = stage.manager.workspace(&rig, Lightweight::Mayor, &author()).await.unwrap();
    assert!(workspace.path().ends_with("workspace/rigs/mayor-t1/mayor-workspace"));
    assert_eq!(git(workspace.path(), &["log", "--format=%s"]), "Initial commit\n");
    fs::write(workspace.path().join("AGENTS.md"), "x").unwrap();
    let again = stage.manager.workspace(&rig, Lightweight::Mayor, &author()).await.unwrap();
    assert_eq!(again, workspace);
    assert!(again.path().join("AGENTS.md").exists());
}
