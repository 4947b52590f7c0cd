//! The operations on real repositories: bare remotes, clones and worktrees on the disk, with the git that is installed.

mod broken;
mod clones;
mod decoys;
mod hooks;
mod merged;
mod merges;
mod pushes;
mod saves;
mod secrets;
mod stranded;
mod worktrees;

use super::Branch;
use super::Checkout;
use super::Frozen;
use super::GitManager;
use super::RigRepo;
use super::Save;
use super::Settings;
use super::Tokens;
use super::Worktree;
use super::save::Receipt;
use crate::program;
use crate::session::config::Author;
use protocol::id::RigId;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

/// A container's disk and a remote with one commit on `main`.
pub struct Stage {
    pub folder: TempDir,
    pub manager: GitManager,
    pub remote: PathBuf,
}

impl Stage {
    pub fn new() -> Self {
        let stage = Self::empty();
        stage.push_as_somebody("main", "README", "hello\n");
        stage
    }

    /// The remote has no commit.
    pub fn empty() -> Self {
        Self::within(Duration::from_secs(60))
    }

    /// With a time for each git command.
    pub fn within(command_timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let remote = folder.path().join("remote.git");
        git(folder.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "remote.git"]);
        Self { manager: manager(root, command_timeout), remote, folder }
    }

    /// That of another process on the same disk.
    pub fn manager_again(&self) -> GitManager {
        manager(self.folder.path().join("root"), Duration::from_secs(60))
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.remote.display())
    }

    pub fn repo(&self) -> RigRepo {
        self.repo_at(&self.url())
    }

    pub fn repo_at(&self, url: &str) -> RigRepo {
        let rig = RigId::parse("rig-0001").unwrap();
        RigRepo::parse(rig, url, "main", &Tokens::default(), author(), true).unwrap()
    }

    /// A path of the rig.
    pub fn rig(&self, path: &str) -> PathBuf {
        self.folder.path().join("root/workspace/rigs/rig-0001").join(path)
    }

    pub async fn worktree(&self, name: &str) -> Worktree {
        self.manager.worktree(&self.repo(), &checkout(name)).await.unwrap()
    }

    pub async fn save(&self, worktree: &Worktree, own: &str) -> Receipt {
        self.save_at(worktree, own, &self.repo()).await
    }

    pub async fn save_at(&self, worktree: &Worktree, own: &str, repo: &RigRepo) -> Receipt {
        let save = Save { worktree, author: &agent(), remote: Some((repo, &branch(own))), until: soon() };
        self.manager.save(save, Frozen).await
    }

    /// Commits a file to a branch of the remote, as another clone.
    pub fn push_as_somebody(&self, name: &str, file: &str, text: &str) {
        let clone = self.folder.path().join("somebody");
        let _ = fs::remove_dir_all(&clone);
        git(self.folder.path(), &["clone", "--quiet", "remote.git", "somebody"]);
        if self.remote_has(name) {
            git(&clone, &["checkout", "--quiet", name]);
        } else {
            git(&clone, &["checkout", "--quiet", "-b", name]);
        }
        fs::write(clone.join(file), text).unwrap();
        git(&clone, &["add", "-A"]);
        git(&clone, &["commit", "--quiet", "-m", file]);
        git(&clone, &["push", "--quiet", "origin", &format!("HEAD:refs/heads/{name}")]);
    }

    pub fn remote_has(&self, name: &str) -> bool {
        git_says(&self.remote, &["rev-parse", "--quiet", "--verify", &format!("refs/heads/{name}")]).is_some()
    }

    /// A file as a branch of the remote has it.
    pub fn on_remote(&self, name: &str, file: &str) -> Option<String> {
        git_says(&self.remote, &["show", &format!("{name}:{file}")])
    }

    /// Everything that the remote has: names of refs and files, and the messages.
    pub fn all_of_remote(&self) -> String {
        let refs = git(&self.remote, &["for-each-ref"]);
        refs + &git(&self.remote, &["log", "--all", "--name-only", "--format=%H %s"])
    }
}

fn manager(root: PathBuf, command_timeout: Duration) -> GitManager {
    let path = std::env::var("PATH").unwrap();
    GitManager::new(Settings { root, path, allow_loopback: true, command_timeout })
}

pub fn branch(name: &str) -> Branch {
    Branch::parse(name).unwrap()
}

pub fn checkout(name: &str) -> Checkout {
    Checkout { branch: branch(name), start_point: None }
}

/// When a receipt is due.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub fn author() -> Author {
    Author { name: "Town".into(), email: "town@example.com".into() }
}

/// Who the agent's commits are by.
pub fn agent() -> Author {
    Author { name: "Toast (gastown)".into(), email: "Toast@gastown.local".into() }
}

/// Runs git as an agent would, in `folder`.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?} in {}: {error}", folder.display());
    String::from_utf8(output.stdout).unwrap()
}

/// What git says; None if it fails.
pub fn git_says(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = run(folder, arguments);
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
}

fn run(folder: &Path, arguments: &[&str]) -> std::process::Output {
    command(folder, arguments).output().unwrap()
}

/// Git as an agent runs it.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", "/nowhere");
    for name in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{name}_NAME"), "Somebody").env(format!("GIT_{name}_EMAIL"), "somebody@example.com");
    }
    command.args(arguments).current_dir(folder);
    command
}

/// Makes a hook of the clone at `repo`, which all its worktrees share.
pub fn hook(git_dir: &Path, name: &str, script: &str) {
    program::install(&git_dir.join("hooks").join(name), &format!("#!/bin/sh\n{script}\n"));
}
