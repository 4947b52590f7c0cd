use super::*;

#[tokio::test]
async fn a_rig_is_cloned_with_nothing_checked_out_and_a_folder_to_browse() {
    let stage = Stage::new();
    stage.manager.set_up(&stage.repo()).await.unwrap();
    assert_eq!(fs::read_to_string(stage.rig("browse/README")).unwrap(), "hello\n");
    assert_eq!(git(&stage.rig("browse"), &["branch", "--show-current"]), "browse-rig-0001\n");
    assert_eq!(git_says(&stage.rig("repo"), &["symbolic-ref", "HEAD"]), None);
    assert!(!stage.rig("repo/README").exists() && !stage.rig("repo.cloning").exists());
    // So any agent may check the default branch out.
    git(&stage.rig("browse"), &["checkout", "--quiet", "main"]);
}

#[tokio::test]
async fn a_clone_that_is_there_learns_what_is_new_and_what_is_gone() {
    let stage = Stage::new();
    stage.push_as_somebody("old", "a", "a");
    stage.manager.set_up(&stage.repo()).await.unwrap();
    stage.push_as_somebody("main", "b", "b");
    git(&stage.remote, &["branch", "-D", "old"]);
    fs::write(stage.rig("browse/README"), "changed by a reader").unwrap();
    stage.manager.set_up(&stage.repo()).await.unwrap();
    assert_eq!(fs::read_to_string(stage.rig("browse/b")).unwrap(), "b");
    assert_eq!(fs::read_to_string(stage.rig("browse/README")).unwrap(), "hello\n");
    assert_eq!(git_says(&stage.rig("repo"), &["rev-parse", "--verify", "refs/remotes/origin/old"]), None);
}

#[tokio::test]
async fn a_rig_that_moved_is_fetched_from_its_new_place() {
    let stage = Stage::new();
    stage.manager.set_up(&stage.repo()).await.unwrap();
    let moved = stage.folder.path().join("moved.git");
    fs::rename(&stage.remote, &moved).unwrap();
    let url = format!("file://{}", moved.display());
    git(&stage.rig("repo"), &["config", "remote.origin.pushurl", "file:///elsewhere"]);
    stage.manager.set_up(&stage.repo_at(&url)).await.unwrap();
    assert_eq!(git(&stage.rig("repo"), &["remote", "get-url", "--push", "--all", "origin"]), format!("{url}\n"));
}

#[tokio::test]
async fn what_a_killed_clone_left_is_replaced() {
    for partial in ["repo/.git/objects", "repo.cloning/.git", "repo"] {
        let stage = Stage::new();
        fs::create_dir_all(stage.rig(partial)).unwrap();
        fs::write(stage.rig(partial).join("HEAD"), "junk").unwrap();
        stage.manager.set_up(&stage.repo()).await.unwrap();
        assert!(stage.rig("browse/README").exists(), "{partial}");
    }
}

#[tokio::test]
async fn a_link_in_the_place_of_the_clone_is_replaced_and_not_followed() {
    let stage = Stage::new();
    let elsewhere = stage.folder.path().join("elsewhere");
    git(stage.folder.path(), &["clone", "--quiet", "remote.git", "elsewhere"]);
    let before = git(&elsewhere, &["for-each-ref"]);
    fs::create_dir_all(stage.rig("")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, stage.rig("repo")).unwrap();
    stage.manager.set_up(&stage.repo()).await.unwrap();
    assert!(!stage.rig("repo").is_symlink());
    assert_eq!(git(&elsewhere, &["for-each-ref"]), before);
}

#[tokio::test]
async fn an_empty_repository_gets_its_first_commit() {
    let stage = Stage::empty();
    stage.manager.set_up(&stage.repo()).await.unwrap();
    assert_eq!(git(&stage.remote, &["log", "--format=%s by %an", "main"]), "Initial commit by Town\n");
    assert_eq!(git(&stage.remote, &["ls-tree", "main"]), "");
    let worktree = stage.worktree("gt/toast/1").await;
    fs::write(worktree.path().join("a"), "a").unwrap();
    stage.save(&worktree, "gt/toast/1").await;
    assert_eq!(stage.on_remote("gt/toast/1", "a").as_deref(), Some("a"));
}

#[tokio::test]
async fn a_remote_that_is_not_there_leaves_nothing_behind() {
    let stage = Stage::new();
    let gone = stage.repo_at("file:///nowhere/at/all.git");
    let error = stage.manager.set_up(&gone).await.unwrap_err().to_string();
    assert!(error.contains("git clone"), "{error}");
    assert!(!stage.rig("repo").exists() && !stage.rig("repo.cloning").exists());
    stage.manager.set_up(&stage.repo()).await.unwrap();
}

#[tokio::test]
async fn operations_on_one_rig_wait_for_each_other() {
    let stage = Stage::new();
    let names: Vec<String> = (0..6).map(|number| format!("gt/agent-{number}/1")).collect();
    let checkouts: Vec<Checkout> = names.iter().map(|name| checkout(name)).collect();
    let repo = stage.repo();
    let made = checkouts.iter().map(|checkout| stage.manager.worktree(&repo, checkout));
    for made in futures_util::future::join_all(made).await {
        assert!(made.unwrap().path().join("README").exists());
    }
}
