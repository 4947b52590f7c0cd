//! Something else is where the worktree was. Nothing of it may ever be committed, and nothing may be committed into it.

use super::*;
use crate::town::git::Outcome;
use std::os::unix::fs::symlink;

const BRANCH: &str = "gt/toast/1";

/// A repository that must stay as it is.
fn decoy(stage: &Stage, name: &str) -> PathBuf {
    let folder = stage.folder.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    git(&folder, &["init", "--quiet", "--initial-branch=main"]);
    git(&folder, &["commit", "--quiet", "--allow-empty", "-m", "decoy"]);
    git(&folder, &["remote", "add", "origin", &stage.url()]);
    fs::write(folder.join("private"), "must not leave").unwrap();
    folder
}

async fn nothing_is_committed(stage: &Stage, worktree: &Worktree, decoy: Option<&Path>) -> String {
    let before = stage.all_of_remote();
    let receipt = stage.save(worktree, BRANCH).await;
    let Outcome::NotCommitted { reason } = receipt.outcome else { panic!("{receipt:?}") };
    assert_eq!(receipt.commit, None);
    assert_eq!(stage.all_of_remote(), before);
    if let Some(decoy) = decoy {
        assert_eq!(git(decoy, &["log", "--all", "--format=%s"]), "decoy\n");
        assert!(git(decoy, &["status", "--porcelain"]).contains("?? private"));
    }
    reason
}

#[tokio::test]
async fn a_link_in_its_place_is_not_followed() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let decoy = decoy(&stage, "decoy");
    fs::rename(worktree.path(), stage.folder.path().join("moved")).unwrap();
    symlink(&decoy, worktree.path()).unwrap();
    nothing_is_committed(&stage, &worktree, Some(&decoy)).await;
    // A new start does not follow it either.
    stage.worktree(BRANCH).await;
    assert!(!worktree.path().is_symlink());
    assert_eq!(git(&decoy, &["log", "--all", "--format=%s"]), "decoy\n");
}

#[tokio::test]
async fn a_link_above_it_is_not_followed() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let decoy = decoy(&stage, "decoy/gt__toast__1");
    fs::rename(stage.rig("worktrees"), stage.folder.path().join("moved")).unwrap();
    symlink(stage.folder.path().join("decoy"), stage.rig("worktrees")).unwrap();
    nothing_is_committed(&stage, &worktree, Some(&decoy)).await;
}

#[tokio::test]
async fn the_repository_above_a_deleted_worktree_is_left_alone() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let above = stage.rig("");
    git(&above, &["init", "--quiet", "--initial-branch=main"]);
    git(&above, &["commit", "--quiet", "--allow-empty", "-m", "decoy"]);
    fs::write(above.join("private"), "must not leave").unwrap();
    fs::remove_dir_all(worktree.path()).unwrap();
    nothing_is_committed(&stage, &worktree, Some(&above)).await;
    // Nor if a plain folder is there, in which git would look upwards.
    fs::create_dir(worktree.path()).unwrap();
    fs::write(worktree.path().join("plain"), "x").unwrap();
    nothing_is_committed(&stage, &worktree, Some(&above)).await;
}

#[tokio::test]
async fn a_git_file_that_names_another_repository_is_not_believed() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let decoy = decoy(&stage, "decoy");
    fs::write(worktree.path().join(".git"), format!("gitdir: {}\n", decoy.join(".git").display())).unwrap();
    let reason = nothing_is_committed(&stage, &worktree, Some(&decoy)).await;
    assert!(reason.contains("another git folder"), "{reason}");
}

#[tokio::test]
async fn the_git_folder_of_another_agent_is_not_written() {
    let stage = Stage::new();
    let (worktree, other) = (stage.worktree(BRANCH).await, stage.worktree("gt/maple/2").await);
    fs::write(worktree.path().join(".git"), format!("gitdir: {}\n", other.git_dir().display())).unwrap();
    nothing_is_committed(&stage, &worktree, None).await;
    assert_eq!(git(other.path(), &["log", "--format=%s"]), "README\n");
}

#[tokio::test]
async fn a_repository_of_its_own_in_its_place_is_left_alone() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::remove_dir_all(worktree.path()).unwrap();
    let decoy = decoy(&stage, "decoy");
    fs::rename(&decoy, worktree.path()).unwrap();
    nothing_is_committed(&stage, &worktree, Some(worktree.path())).await;
}

#[tokio::test]
async fn another_folder_with_the_right_git_file_is_not_the_worktree() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let pointer = fs::read(worktree.path().join(".git")).unwrap();
    fs::rename(worktree.path(), stage.folder.path().join("moved")).unwrap();
    fs::create_dir(worktree.path()).unwrap();
    fs::write(worktree.path().join(".git"), pointer).unwrap();
    fs::write(worktree.path().join("private"), "must not leave").unwrap();
    let reason = nothing_is_committed(&stage, &worktree, None).await;
    assert!(reason.contains("another folder"), "{reason}");
}

#[tokio::test]
async fn a_clone_that_was_replaced_is_not_pushed_from() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::rename(stage.rig("repo"), stage.folder.path().join("moved")).unwrap();
    let decoy = decoy(&stage, "decoy");
    symlink(&decoy, stage.rig("repo")).unwrap();
    nothing_is_committed(&stage, &worktree, Some(&decoy)).await;
}

#[tokio::test]
async fn settings_of_the_repository_cannot_lead_elsewhere() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    let decoy = decoy(&stage, "decoy");
    let decoy_path = decoy.to_string_lossy();
    git(worktree.path(), &["config", "extensions.worktreeConfig", "true"]);
    git(worktree.path(), &["config", "--worktree", "core.worktree", &decoy_path]);
    git(worktree.path(), &["config", "remote.origin.pushurl", &format!("file://{decoy_path}/.git")]);
    fs::write(worktree.path().join("mine"), "m").unwrap();
    let receipt = stage.save(&worktree, BRANCH).await;
    assert_eq!(receipt.outcome, Outcome::Pushed, "{receipt:?}");
    assert_eq!(stage.on_remote(BRANCH, "mine").as_deref(), Some("m"));
    assert_eq!(stage.on_remote(BRANCH, "private"), None);
    assert_eq!(git(&decoy, &["log", "--all", "--format=%s"]), "decoy\n");
}

/// The only test of the crate that may set these: run by the one below in a process of its own.
#[tokio::test]
#[ignore = "run by variables_of_this_process_lead_nowhere"]
async fn with_variables_of_git() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::write(worktree.path().join("mine"), "m").unwrap();
    assert_eq!(stage.save(&worktree, BRANCH).await.outcome, Outcome::Pushed);
    assert_eq!(stage.on_remote(BRANCH, "mine").as_deref(), Some("m"));
    assert_eq!(stage.on_remote(BRANCH, "private"), None);
}

#[test]
fn variables_of_this_process_lead_nowhere() {
    let stage = Stage::new();
    let decoy = decoy(&stage, "decoy");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "town::git::tests::decoys::with_variables_of_git"])
        .env("GIT_DIR", decoy.join(".git"))
        .env("GIT_WORK_TREE", &decoy)
        .env("GIT_INDEX_FILE", decoy.join(".git/index"))
        .env("GIT_CONFIG_GLOBAL", decoy.join("private"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(git(&decoy, &["log", "--all", "--format=%s"]), "decoy\n");
}
