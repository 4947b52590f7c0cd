//! The folders that agents work in: a worktree per branch, one to browse, and workspaces without a clone.

use super::GitManager;
use super::Lightweight;
use super::aside::put_aside;
use super::aside::put_worktree_aside;
use super::clone::in_clone;
use super::clone::yes;
use super::error::GitFailure;
use super::identity::Worktree;
use super::layout::RigPaths;
use super::locks::Stops;
use super::make_folder;
use super::names::Branch;
use super::remote::RigRepo;
use crate::log;
use crate::session::config::Author;
use crate::session::git::Git;
use crate::session::git::GitUrl;
use protocol::id::RigId;
use serde_json::json;
use std::fs;
use std::path::Path;

/// What an agent works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// Its branch.
    pub branch: Branch,
    /// Where the branch begins if neither this clone nor the remote has it, such as `origin/convoy/x/head`.
    pub start_point: Option<Branch>,
}

impl GitManager {
    /// The worktree of a branch, made if it is not there; the clone too.
    ///
    /// A branch that the remote has is continued, wherever a new one would begin: so the work of an evicted agent is picked up. Nobody works
    /// in it: a branch is one agent's at a time.
    pub async fn worktree(&self, repo: &RigRepo, checkout: &Checkout) -> Result<Worktree, GitFailure> {
        let _alone = self.lock(&repo.rig).await;
        let git = self.git(repo)?;
        self.ensure_clone(&git, repo).await?;
        let paths = self.paths(&repo.rig);
        let path = paths.worktree(&checkout.branch);
        if let Some(worktree) = take_over(&paths, &path)?
            && self.refresh(repo, &worktree, &checkout.branch).await?
        {
            return Ok(worktree);
        }
        let git = in_clone(&git, &paths);
        let mut stops = Stops::default();
        loop {
            let start = self.start_of(&git, &paths, repo, checkout).await?;
            match add(&git, &paths, &path, &checkout.branch, start.as_deref()).await {
                Err(error) if self.is_past_lock(&error, &paths.common_dir(), &mut stops).await => {}
                outcome => return outcome,
            }
        }
    }

    /// The folder of an agent that needs no clone: a repository of its own with one empty commit.
    pub async fn workspace(&self, rig: &RigId, kind: Lightweight, author: &Author) -> Result<Worktree, GitFailure> {
        let _alone = self.lock(rig).await;
        let paths = self.paths(rig);
        let path = paths.workspace(kind);
        if let Ok(workspace) = Worktree::record_own(&path) {
            return Ok(workspace);
        }
        put_aside(&paths, &path)?;
        make_folder(&path)?;
        let git = self.git_for(&GitUrl::nowhere(), None, author)?;
        git.plumbing(&path, None, &["init", "--quiet", "--initial-branch=main", "."]).await?;
        let workspace = Worktree::record_own(&path)?;
        workspace.pinned(&git).run(&["commit", "--quiet", "--allow-empty", "-m", "Initial commit"]).await?;
        Ok(workspace)
    }

    /// Brings the browse worktree to where the default branch is. The caller holds the rig's lock and has fetched.
    pub(super) async fn ensure_browse(&self, git: &Git, repo: &RigRepo) -> Result<(), GitFailure> {
        let paths = self.paths(&repo.rig);
        let target = repo.default_branch.remote_ref();
        let worktree = match take_over(&paths, &paths.browse)? {
            Some(worktree) => worktree,
            None => {
                let name: String = repo.rig.as_str().chars().take(8).collect();
                let branch = Branch::parse(&format!("browse-{}", name.trim_end_matches('.')))?;
                let git = in_clone(git, &paths);
                let start = (!has(&git, &paths, &branch.local_ref()).await?).then_some(target.as_str());
                add(&git, &paths, &paths.browse, &branch, start).await?
            }
        };
        let pinned = worktree.pinned(git);
        let mut stops = Stops::default();
        loop {
            match pinned.run(&["reset", "--quiet", "--hard", &target]).await {
                Err(error) if self.is_past_lock(&error, worktree.git_dir(), &mut stops).await => {}
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Where a branch begins that this clone does not have; None if it has it.
    async fn start_of(
        &self,
        git: &Git,
        paths: &RigPaths,
        repo: &RigRepo,
        checkout: &Checkout,
    ) -> Result<Option<String>, GitFailure> {
        if has(git, paths, &checkout.branch.local_ref()).await? {
            return Ok(None);
        }
        let given = checkout.start_point.as_ref().map(|start| start.as_str().to_owned());
        let candidates = [
            Some(checkout.branch.remote_ref()),
            given,
            Some(repo.default_branch.remote_ref()),
            Some("HEAD".to_owned()),
        ];
        for candidate in candidates.into_iter().flatten() {
            if has(git, paths, &candidate).await? {
                return Ok(Some(candidate));
            }
        }
        Err(GitFailure::NoBranch { branch: repo.default_branch.clone() })
    }
}

/// Adds a worktree for `branch`, which begins at `start` if it is new.
async fn add(
    git: &Git,
    paths: &RigPaths,
    path: &Path,
    branch: &Branch,
    start: Option<&str>,
) -> Result<Worktree, GitFailure> {
    put_worktree_aside(paths, path)?;
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    // A folder that vanished leaves its name behind, and its branch taken.
    git.plumbing(&paths.rig, None, &["worktree", "prune"]).await?;
    let folder = path.to_string_lossy();
    let mut arguments = vec!["worktree", "add", "--quiet"];
    match start {
        Some(start) if start == branch.remote_ref() => {
            arguments.extend(["--track", "-b", branch.as_str(), "--", &folder, start]);
        }
        Some(start) => arguments.extend(["--no-track", "-b", branch.as_str(), "--", &folder, start]),
        None => arguments.extend(["--", &folder, branch.as_str()]),
    }
    git.plumbing(&paths.rig, None, &arguments).await?;
    Ok(Worktree::record_linked(path, &paths.common_dir())?)
}

/// The worktree at `path`, if there is one of this rig's clone and git has made all of it.
fn take_over(paths: &RigPaths, path: &Path) -> Result<Option<Worktree>, GitFailure> {
    let what = match Worktree::record_linked(path, &paths.common_dir()) {
        Ok(worktree) if worktree.is_finished() => return Ok(Some(worktree)),
        Ok(_) => "git was killed while it made it".to_owned(),
        Err(mismatch) => mismatch.what,
    };
    if fs::symlink_metadata(path).is_ok() {
        log::warn("town", "worktree_not_ours", json!({ "path": path, "what": what }));
    }
    Ok(None)
}

/// Whether the clone knows the commit `revision`.
pub(super) async fn has(git: &Git, paths: &RigPaths, revision: &str) -> Result<bool, GitFailure> {
    let revision = format!("{revision}^{{commit}}");
    yes(git.plumbing(&paths.rig, None, &["rev-parse", "--quiet", "--verify", "--end-of-options", &revision]).await)
}
