//! Work of an agent that the commit that is checked out does not hold.

use super::*;
use crate::town::git::Outcome;

const BRANCH: &str = "gt/toast/1";

impl Stage {
    async fn is_unsaved(&self, worktree: &Worktree) -> bool {
        let repo = RigRepo { author: agent(), ..self.repo() };
        self.manager.is_unsaved(worktree, &repo, &branch(BRANCH)).await
    }
}

/// The agent's own git, which its variables name as the committer.
fn as_agent(worktree: &Worktree, arguments: &[&str]) -> bool {
    let Author { name, email } = agent();
    let mut command = command(worktree.path(), arguments);
    command.env("GIT_COMMITTER_NAME", name).env("GIT_COMMITTER_EMAIL", email).output().unwrap().status.success()
}

fn commit(worktree: &Worktree, file: &str) {
    fs::write(worktree.path().join(file), file).unwrap();
    git(worktree.path(), &["add", "-A"]);
    git(worktree.path(), &["commit", "--quiet", "-m", file]);
}

#[tokio::test]
async fn commits_of_its_branch_go_there_also_while_something_else_is_checked_out() {
    for elsewhere in [["checkout", "main", "--quiet"].as_slice(), &["checkout", "--quiet", "--detach", "main"]] {
        let stage = Stage::new();
        let worktree = stage.worktree(BRANCH).await;
        commit(&worktree, "mine");
        git(worktree.path(), elsewhere);
        assert!(stage.is_unsaved(&worktree).await);
        fs::write(worktree.path().join("half"), "h").unwrap();
        let receipt = stage.save(&worktree, BRANCH).await;
        assert_eq!((&receipt.outcome, &receipt.beside), (&Outcome::Pushed, &vec![BRANCH.to_owned()]));
        assert_eq!(stage.on_remote(BRANCH, "mine").as_deref(), Some("mine"));
        assert_eq!(stage.on_remote(BRANCH, "half"), None);
        let name = receipt.branch.unwrap();
        assert!(name.starts_with(&format!("{BRANCH}-wip-")), "{name}");
        assert_eq!(stage.on_remote(&name, "half").as_deref(), Some("h"));
        assert_eq!(stage.on_remote("main", "half"), None);
        assert!(!stage.is_unsaved(&worktree).await, "all of it is on the remote now");
    }
}

#[tokio::test]
async fn unfinished_work_goes_to_no_branch_but_its_own() {
    let stage = Stage::new();
    stage.push_as_somebody("convoy/x/head", "convoy", "c");
    let worktree = stage.worktree(BRANCH).await;
    let before = git(&stage.remote, &["rev-parse", "convoy/x/head"]);
    git(worktree.path(), &["checkout", "--quiet", "convoy/x/head"]);
    fs::write(worktree.path().join("half"), "h").unwrap();
    let receipt = stage.save(&worktree, BRANCH).await;
    assert_eq!((receipt.outcome, receipt.branch.as_deref()), (Outcome::Pushed, Some(BRANCH)));
    assert_eq!(stage.on_remote(BRANCH, "half").as_deref(), Some("h"));
    assert_eq!(git(&stage.remote, &["rev-parse", "convoy/x/head"]), before);
    let followed = git(worktree.path(), &["rev-parse", "--abbrev-ref", "convoy/x/head@{upstream}"]);
    assert_eq!(followed, "origin/convoy/x/head\n");
}

#[tokio::test]
async fn a_side_branch_that_it_has_left_goes_beside() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    git(worktree.path(), &["checkout", "--quiet", "-b", "try"]);
    commit(&worktree, "tried");
    git(worktree.path(), &["checkout", "--quiet", BRANCH]);
    assert!(stage.is_unsaved(&worktree).await);
    let receipt = stage.save(&worktree, BRANCH).await;
    assert_eq!((receipt.outcome, receipt.branch.as_deref()), (Outcome::Pushed, Some(BRANCH)));
    let [beside] = &receipt.beside[..] else { panic!("{:?}", receipt.beside) };
    assert!(beside.starts_with(&format!("{BRANCH}-side-")), "{beside}");
    assert_eq!(stage.on_remote(beside, "tried").as_deref(), Some("tried"));
    assert!(!stage.is_unsaved(&worktree).await);
}

#[tokio::test]
async fn what_it_stashed_goes_beside_and_what_another_agent_stashed_does_not() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let other = stage.worktree("gt/maple/2").await;
    fs::write(other.path().join("README"), "other's\n").unwrap();
    assert!(as_agent(&other, &["stash", "--quiet"]), "with the same committer, as where the town names one for all");
    fs::write(other.path().join("README"), "unknown\n").unwrap();
    git(other.path(), &["checkout", "--quiet", "--detach"]);
    git(other.path(), &["stash", "--quiet"]);
    assert!(!stage.is_unsaved(&worktree).await);

    fs::write(worktree.path().join("README"), "stashed\n").unwrap();
    fs::write(worktree.path().join("new"), "stashed too").unwrap();
    assert!(as_agent(&worktree, &["stash", "--quiet", "--include-untracked"]));
    assert!(stage.is_unsaved(&worktree).await);
    let receipt = stage.save(&worktree, BRANCH).await;
    let [beside] = &receipt.beside[..] else { panic!("{:?}", receipt.beside) };
    assert!(beside.starts_with(&format!("{BRANCH}-stash-")), "{beside}");
    assert_eq!(stage.on_remote(beside, "README").as_deref(), Some("stashed"));
    assert_eq!(receipt.left_out, Vec::<String>::new());
    assert_eq!(git_says(&stage.remote, &["show", &format!("{beside}^3:new")]).as_deref(), Some("stashed too"));
    assert!(!stage.is_unsaved(&worktree).await);
}

#[tokio::test]
async fn of_a_rebase_that_stopped_everything_is_saved() {
    let stage = Stage::new();
    stage.push_as_somebody("main", "file", "f\n");
    let worktree = stage.worktree(BRANCH).await;
    fs::write(worktree.path().join("README"), "mine\n").unwrap();
    git(worktree.path(), &["commit", "--quiet", "-am", "mine"]);
    stage.push_as_somebody("main", "README", "theirs\n");
    git(worktree.path(), &["fetch", "--quiet"]);
    fs::write(worktree.path().join("file"), "put away by git\n").unwrap();
    assert!(!as_agent(&worktree, &["rebase", "--quiet", "--autostash", "origin/main"]));
    let receipt = stage.save(&worktree, BRANCH).await;
    assert_eq!(receipt.outcome, Outcome::Pushed, "{receipt:?}");
    assert_eq!(stage.on_remote(BRANCH, "README").as_deref(), Some("mine"));
    assert!(stage.on_remote(&receipt.branch.unwrap(), "README").unwrap().contains("<<<<<<<"));
    let [own, stash] = &receipt.beside[..] else { panic!("{:?}", receipt.beside) };
    assert_eq!(own, BRANCH);
    assert_eq!(stage.on_remote(stash, "file").as_deref(), Some("put away by git"));
}

#[tokio::test]
async fn repositories_inside_are_named() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let inside = worktree.path().join("in side");
    fs::create_dir(&inside).unwrap();
    git(&inside, &["init", "--quiet"]);
    fs::write(inside.join("a"), "a").unwrap();
    git(&inside, &["add", "-A"]);
    git(&inside, &["commit", "--quiet", "-m", "a"]);
    let receipt = stage.save(&worktree, BRANCH).await;
    assert_eq!(receipt.outcome, Outcome::Pushed);
    assert_eq!(receipt.left_out, ["what is in the repository in side"]);
    assert_eq!(stage.save(&worktree, BRANCH).await.left_out, Vec::<String>::new(), "nothing new");
    fs::write(inside.join("a"), "changed").unwrap();
    assert_eq!(stage.save(&worktree, BRANCH).await.left_out, ["what is in the repository in side"]);
}

#[tokio::test]
async fn of_very_many_stashes_it_is_said_that_not_all_are_saved() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    for text in 0..20 {
        fs::write(worktree.path().join("README"), format!("{text}\n")).unwrap();
        git(worktree.path(), &["stash", "--quiet"]);
    }
    let receipt = stage.save(&worktree, BRANCH).await;
    assert_eq!((receipt.outcome, receipt.beside.len()), (Outcome::Pushed, 16));
    assert_eq!(receipt.left_out, ["more than 16 other commits and stashes"]);
}
