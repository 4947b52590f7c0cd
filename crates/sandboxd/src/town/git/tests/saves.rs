use super::*;
use crate::town::git::Lightweight;
use crate::town::git::Outcome;

const BRANCH: &str = "gt/toast/1";

#[tokio::test]
async fn everything_that_is_not_ignored_is_pushed_on_a_first_time_branch() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::write(worktree.path().join("new"), "n").unwrap();
    fs::write(worktree.path().join("README"), "changed\n").unwrap();
    fs::write(worktree.path().join(".gitignore"), "ignored\n").unwrap();
    fs::write(worktree.path().join("ignored"), "i").unwrap();
    let receipt = stage.save(&worktree, BRANCH).await;
    let commit = git(&stage.remote, &["rev-parse", BRANCH]).trim().to_owned();
    let expected = Receipt {
        branch: Some(BRANCH.into()),
        commit: Some(commit),
        outcome: Outcome::Pushed,
        beside: vec![],
        left_out: vec![],
    };
    assert_eq!(receipt, expected);
    assert_eq!(stage.on_remote(BRANCH, "new").as_deref(), Some("n"));
    assert_eq!(stage.on_remote(BRANCH, "README").as_deref(), Some("changed"));
    assert_eq!(stage.on_remote(BRANCH, "ignored"), None);
    let told = git(&stage.remote, &["log", "-1", "--format=%B|%an|%ae|%cn", BRANCH]);
    assert_eq!(told.trim(), "WIP: container eviction save\n|Toast (gastown)|Toast@gastown.local|Toast (gastown)");
    let upstream = git(worktree.path(), &["rev-parse", "--abbrev-ref", "@{upstream}"]);
    assert_eq!(upstream.trim(), format!("origin/{BRANCH}"));
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn commits_that_were_never_pushed_go_with_it_and_nothing_changed_is_a_commit_too() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::write(worktree.path().join("a"), "a").unwrap();
    git(worktree.path(), &["add", "-A"]);
    git(worktree.path(), &["commit", "--quiet", "-m", "the agent's own"]);
    assert_eq!(stage.save(&worktree, BRANCH).await.outcome, Outcome::Pushed);
    let log = git(&stage.remote, &["log", "--format=%s", BRANCH]);
    assert_eq!(log, "WIP: container eviction save\nthe agent's own\nREADME\n");
}

#[tokio::test]
async fn a_workspace_without_a_clone_is_committed() {
    let stage = Stage::new();
    let rig = RigId::parse("mayor-t1").unwrap();
    let workspace = stage.manager.workspace(&rig, Lightweight::Mayor, &author()).await.unwrap();
    fs::write(workspace.path().join("AGENTS.md"), "x").unwrap();
    let save = Save { worktree: &workspace, author: &agent(), remote: None, until: soon() };
    let receipt = stage.manager.save(save, Frozen).await;
    assert_eq!((receipt.outcome, receipt.branch.as_deref()), (Outcome::NoOrigin, Some("main")));
    assert_eq!(git(workspace.path(), &["show", "HEAD:AGENTS.md"]), "x");
}

#[tokio::test]
async fn a_detached_head_and_the_default_branch_are_pushed_as_the_agents_branch() {
    for how in [["checkout", "--quiet", "--detach"].as_slice(), &["checkout", "--quiet", "main"]] {
        let stage = Stage::new();
        let worktree = stage.worktree(BRANCH).await;
        git(worktree.path(), how);
        fs::write(worktree.path().join("a"), "a").unwrap();
        let receipt = stage.save(&worktree, BRANCH).await;
        assert_eq!((receipt.outcome, receipt.branch.as_deref()), (Outcome::Pushed, Some(BRANCH)));
        assert_eq!(stage.on_remote(BRANCH, "a").as_deref(), Some("a"));
        assert_eq!(stage.on_remote("main", "a"), None);
    }
}

#[tokio::test]
async fn what_the_remotes_branch_is_not_based_on_goes_beside_it() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    stage.push_as_somebody(BRANCH, "theirs", "t");
    fs::write(worktree.path().join("mine"), "m").unwrap();
    let receipt = stage.save(&worktree, BRANCH).await;
    let (name, commit) = (receipt.branch.unwrap(), receipt.commit.unwrap());
    assert_eq!((receipt.outcome, name.as_str()), (Outcome::Pushed, format!("{BRANCH}-wip-{}", &commit[..8]).as_str()));
    assert_eq!(stage.on_remote(&name, "mine").as_deref(), Some("m"));
    assert_eq!(stage.on_remote(BRANCH, "theirs").as_deref(), Some("t"));
}

#[tokio::test]
async fn a_remote_that_takes_nothing_is_told_and_the_commit_is_there() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::write(worktree.path().join("a"), "a").unwrap();
    fs::remove_dir_all(&stage.remote).unwrap();
    let receipt = stage.save(&worktree, BRANCH).await;
    assert!(matches!(&receipt.outcome, Outcome::NotPushed { reason } if reason.contains("git push")), "{receipt:?}");
    assert_eq!(git(worktree.path(), &["rev-parse", "HEAD"]).trim(), receipt.commit.unwrap());
}

/// A refinery was frozen in the middle of a checkout: what git had taken away and not yet written again was saved as deleted, and merged so.
#[tokio::test]
async fn what_is_missing_after_a_command_that_was_cut_short_is_not_saved_as_deleted() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::remove_file(worktree.path().join("README")).unwrap();
    fs::write(worktree.path().join("new"), "n").unwrap();
    fs::write(worktree.git_dir().join("index.lock"), "").unwrap();
    assert_eq!(stage.save(&worktree, BRANCH).await.outcome, Outcome::Pushed);
    assert_eq!(stage.on_remote(BRANCH, "README").as_deref(), Some("hello"));
    assert_eq!(stage.on_remote(BRANCH, "new").as_deref(), Some("n"));
    assert_eq!(stage.save(&worktree, BRANCH).await.outcome, Outcome::Pushed);
    assert_eq!(stage.on_remote(BRANCH, "README"), None, "without a lock it is the agent that deleted it");
}

#[tokio::test]
async fn locks_of_killed_commands_stop_nothing() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    for lock in ["index.lock", "HEAD.lock"] {
        fs::write(worktree.git_dir().join(lock), "").unwrap();
    }
    fs::create_dir_all(worktree.common_dir().join("refs/heads/gt/toast")).unwrap();
    fs::write(worktree.common_dir().join("refs/heads/gt/toast/1.lock"), "").unwrap();
    fs::write(worktree.path().join("a"), "a").unwrap();
    assert_eq!(stage.save(&worktree, BRANCH).await.outcome, Outcome::Pushed);
    assert_eq!(stage.on_remote(BRANCH, "a").as_deref(), Some("a"));
}

#[tokio::test]
async fn a_merge_with_conflicts_is_saved_as_it_stands() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::write(worktree.path().join("README"), "mine\n").unwrap();
    git(worktree.path(), &["commit", "--quiet", "-am", "mine"]);
    stage.push_as_somebody("main", "README", "theirs\n");
    git(worktree.path(), &["fetch", "--quiet"]);
    assert_eq!(git_says(worktree.path(), &["merge", "origin/main"]), None);
    assert_eq!(stage.save(&worktree, BRANCH).await.outcome, Outcome::Pushed);
    assert!(stage.on_remote(BRANCH, "README").unwrap().contains("<<<<<<<"));
}

#[tokio::test]
async fn a_rebase_with_conflicts_is_saved_without_changing_the_pushed_branch() {
    let stage = Stage::new();
    stage.push_as_somebody(BRANCH, "README", "mine\n");
    let worktree = stage.worktree(BRANCH).await;
    stage.push_as_somebody("main", "README", "theirs\n");
    git(worktree.path(), &["fetch", "--quiet"]);
    assert_eq!(git_says(worktree.path(), &["rebase", "origin/main"]), None);
    fs::write(worktree.path().join("a"), "a").unwrap();
    let receipt = stage.save(&worktree, BRANCH).await;
    assert_eq!(receipt.outcome, Outcome::Pushed, "{receipt:?}");
    assert_eq!(stage.on_remote(&receipt.branch.unwrap(), "a").as_deref(), Some("a"));
    assert_eq!(stage.on_remote(BRANCH, "README").as_deref(), Some("mine"));
}

#[tokio::test]
async fn a_repository_inside_without_a_commit_does_not_keep_the_rest_out() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    for file in ["a", "z"] {
        fs::write(worktree.path().join(file), file).unwrap();
    }
    fs::create_dir(worktree.path().join("inside")).unwrap();
    git(&worktree.path().join("inside"), &["init", "--quiet"]);
    let receipt = stage.save(&worktree, BRANCH).await;
    assert_eq!(receipt.outcome, Outcome::Pushed);
    assert!(receipt.left_out[0].contains("inside"));
    assert!(stage.on_remote(BRANCH, "a").is_some() && stage.on_remote(BRANCH, "z").is_some());
}

#[tokio::test]
async fn worktrees_of_one_rig_are_saved_at_the_same_time() {
    let stage = Stage::new();
    let repo = stage.repo();
    let names: Vec<Branch> = (0..8).map(|number| branch(&format!("gt/agent-{number}/1"))).collect();
    let mut worktrees = Vec::new();
    for name in &names {
        let worktree = stage.worktree(name.as_str()).await;
        fs::write(worktree.path().join("a"), name.as_str()).unwrap();
        worktrees.push(worktree);
    }
    let saves = worktrees.iter().zip(&names).map(|(worktree, own)| stage.save_at(worktree, own.as_str(), &repo));
    for (receipt, own) in futures_util::future::join_all(saves).await.into_iter().zip(&names) {
        assert_eq!(receipt.outcome, Outcome::Pushed, "{receipt:?}");
        assert_eq!(stage.on_remote(own.as_str(), "a").as_deref(), Some(own.as_str()));
        let upstream = git(&stage.rig("repo"), &["rev-parse", "--abbrev-ref", &format!("{own}@{{upstream}}")]);
        assert_eq!(upstream.trim(), format!("origin/{own}"));
    }
}
