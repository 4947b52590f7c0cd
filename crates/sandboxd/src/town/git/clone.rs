//! The clone of a rig: made beside its place and renamed into it, so it is whole or not there.
//!
//! It holds the commits of every worktree of the rig, also those that nobody pushed yet: it is mended, or moved aside, and never deleted.

use super::CLONE_TIMEOUT;
use super::GitManager;
use super::aside::put_aside;
use super::error::GitFailure;
use super::layout::RigPaths;
use super::locks::Stops;
use super::make_folder;
use super::origin::set_origin;
use super::remote::RigRepo;
use super::remove;
use crate::log;
use crate::session::git::Git;
use crate::session::git::GitError;
use serde_json::json;
use std::fs;
use std::io;

/// The tree without files, which every repository knows.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

impl GitManager {
    /// Clones the repository, or brings the clone that is there up to date, and its browse worktree with it.
    pub async fn set_up(&self, repo: &RigRepo) -> Result<(), GitFailure> {
        let _alone = self.lock(&repo.rig).await;
        let git = self.git(repo)?;
        self.ensure_clone(&git, repo).await?;
        self.ensure_browse(&git, repo).await
    }

    /// The caller holds the rig's lock.
    pub(super) async fn ensure_clone(&self, git: &Git, repo: &RigRepo) -> Result<(), GitFailure> {
        let paths = self.paths(&repo.rig);
        make_folder(&paths.rig)?;
        let mut stops = Stops::default();
        loop {
            match self.bring_up_to_date(git, repo, &paths).await {
                Err(error) if self.is_past_lock(&error, &paths.common_dir(), &mut stops).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn bring_up_to_date(&self, git: &Git, repo: &RigRepo, paths: &RigPaths) -> Result<(), GitFailure> {
        let pinned = in_clone(git, paths);
        if is_repository(paths)? {
            // The rig may have moved; and no agent decides where the town fetches from and pushes to.
            set_origin(&pinned, paths).await?;
            self.fetch(&pinned, paths).await?;
        } else {
            put_aside(paths, &paths.repo)?;
            self.clone_anew(git, paths).await?;
        }
        if !has_branches(&pinned, paths).await? {
            self.begin(&pinned, paths, repo).await?;
        }
        detach(&pinned, paths).await
    }

    /// Brings what is known of the remote up to date.
    pub(super) async fn fetch(&self, pinned: &Git, paths: &RigPaths) -> Result<(), GitFailure> {
        let arguments = ["fetch", "--quiet", "--prune", "--no-recurse-submodules", "origin"];
        pinned.remote(&paths.rig, &arguments, CLONE_TIMEOUT).await?;
        Ok(())
    }

    async fn clone_anew(&self, git: &Git, paths: &RigPaths) -> Result<(), GitFailure> {
        remove(&paths.cloning).await?;
        let target = paths.cloning.to_string_lossy();
        let arguments = ["clone", "--quiet", "--no-checkout", "--origin", "origin", "--", git.url.as_str(), &target];
        if let Err(error) = git.remote(&paths.rig, &arguments, CLONE_TIMEOUT).await {
            remove(&paths.cloning).await?;
            return Err(error.into());
        }
        let moved = fs::rename(&paths.cloning, &paths.repo);
        moved.map_err(|error| GitFailure::Disk { path: paths.repo.clone(), error })
    }

    /// Gives a repository without any commit its first one, so that there is something to work from.
    async fn begin(&self, pinned: &Git, paths: &RigPaths, repo: &RigRepo) -> Result<(), GitFailure> {
        let commit = pinned.plumbing(&paths.rig, None, &["commit-tree", "-m", "Initial commit", EMPTY_TREE]).await?;
        let refspec = format!("{}:{}", commit.first_line(), repo.default_branch.local_ref());
        let push = ["push", "--quiet", "--no-verify", "origin", &refspec];
        let pushed = pinned.remote(&paths.rig, &push, self.settings.command_timeout).await;
        self.fetch(pinned, paths).await?;
        match pushed {
            // Somebody else was faster: there is a commit now.
            Err(_) if has_branches(pinned, paths).await? => Ok(()),
            pushed => Ok(pushed.map(drop)?),
        }
    }
}

/// Git for the clone itself, by name: git does not look for it.
pub(super) fn in_clone(git: &Git, paths: &RigPaths) -> Git {
    let mut git = git.clone();
    git.environment.push(("GIT_DIR", paths.common_dir().to_string_lossy().into_owned()));
    git
}

/// Whether a repository is there. A link is none. What cannot be looked at is not taken for missing.
fn is_repository(paths: &RigPaths) -> Result<bool, GitFailure> {
    let git_dir = paths.common_dir();
    let parts =
        [(&paths.repo, true), (&git_dir, true), (&git_dir.join("HEAD"), false), (&git_dir.join("objects"), true)];
    for (path, is_folder) in parts {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() == is_folder => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(GitFailure::Disk { path: path.clone(), error });
            }
            found => {
                if fs::symlink_metadata(&paths.repo).is_ok() {
                    log::warn("town", "clone_is_broken", json!({ "path": path, "is_there": found.is_ok() }));
                }
                return Ok(false);
            }
        }
    }
    Ok(true)
}

async fn has_branches(pinned: &Git, paths: &RigPaths) -> Result<bool, GitFailure> {
    let list = ["for-each-ref", "--count=1", "refs/remotes/origin"];
    Ok(!pinned.plumbing(&paths.rig, None, &list).await?.first_line().is_empty())
}

/// Nothing is checked out in the clone itself, else no worktree could have that branch.
async fn detach(pinned: &Git, paths: &RigPaths) -> Result<(), GitFailure> {
    if !yes(pinned.plumbing(&paths.rig, None, &["symbolic-ref", "--quiet", "HEAD"]).await)? {
        return Ok(());
    }
    let any = ["for-each-ref", "--count=1", "--format=%(objectname)", "refs/remotes/origin"];
    let commit = pinned.plumbing(&paths.rig, None, &any).await?.first_line();
    pinned.plumbing(&paths.rig, None, &["update-ref", "--no-deref", "HEAD", &commit]).await?;
    Ok(())
}

/// What a command answered that says "no" by its exit code, which is 1. Any other is trouble, and no answer.
pub(super) fn yes<T>(answer: Result<T, GitError>) -> Result<bool, GitFailure> {
    match answer {
        Ok(_) => Ok(true),
        Err(GitError::Failed { code: 1, .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
