//! A worktree that was there, on its branch again: whatever state the last agent left, or a command that was killed. Nobody works in it.

use super::GitManager;
use super::error::GitFailure;
use super::identity::Pinned;
use super::identity::Worktree;
use super::locks;
use super::names::Branch;
use super::remote::RigRepo;
use super::save::Frozen;
use super::save::Outcome;
use super::save::Save;
use super::save::current_branch;
use crate::log;
use serde_json::json;
use tokio::time::Instant;

impl GitManager {
    /// Puts a worktree in which nobody works on its branch, and on what the remote has of it if nothing is in the way. False if it cannot be put
    /// there.
    pub(super) async fn refresh(
        &self,
        repo: &RigRepo,
        worktree: &Worktree,
        branch: &Branch,
    ) -> Result<bool, GitFailure> {
        let pinned = worktree.pinned(&self.git(repo)?);
        worktree.verify()?;
        if locks::remove_all(worktree, Some(branch)) {
            // What a command that was cut short had not written yet, nobody deleted. It fails for each file that is there.
            pinned.ask(&["checkout-index", "--all", "--quiet"]).await?;
        }
        if !self.put_on_branch(repo, worktree, &pinned, branch).await? {
            return Ok(false);
        }
        // What is not committed stays as it is, under nobody's hands: a stash that does not fit any more hides it.
        let changed = pinned.run(&["status", "--porcelain", "--untracked-files=no"]).await?;
        if !changed.stdout.trim().is_empty()
            || pinned.ask(&["rev-parse", "--verify", &branch.remote_ref()]).await?.is_none()
        {
            return Ok(true);
        }
        if pinned.ask(&["rebase", "--quiet", &branch.remote_ref()]).await?.is_none() {
            pinned.ask(&["rebase", "--abort"]).await?;
        }
        Ok(true)
    }

    /// What is in the way of its branch, such as conflicts, is saved as if its agent was evicted.
    async fn put_on_branch(
        &self,
        repo: &RigRepo,
        worktree: &Worktree,
        pinned: &Pinned,
        branch: &Branch,
    ) -> Result<bool, GitFailure> {
        if current_branch(pinned).await?.as_ref() == Some(branch) {
            return Ok(true);
        }
        let checkout = ["checkout", "--quiet", branch.as_str(), "--"];
        let head = pinned.ask(&["rev-list", "--max-count=1", "HEAD", "--not", "--branches", "--remotes"]).await?;
        let is_named = head.is_some_and(|head| head.first_line().is_empty());
        if !is_named || pinned.ask(&checkout).await?.is_none() {
            let until = Instant::now().checked_add(self.settings.command_timeout).unwrap_or_else(Instant::now);
            let save = Save { worktree, author: &repo.author, remote: Some((repo, branch)), until };
            let receipt = self.save(save, Frozen).await;
            log::warn("town", "worktree_was_stuck", json!({ "path": worktree.path(), "saved": receipt }));
            let Some(commit) = &receipt.commit else { return Ok(false) };
            if receipt.outcome != Outcome::Pushed {
                pinned.ask(&["branch", branch.beside("wip", commit).as_str(), commit]).await?;
            }
            if pinned.ask(&checkout).await?.is_none() {
                return Ok(false);
            }
        }
        // It would go on from here if somebody asked git to continue.
        for left in ["rebase", "am", "cherry-pick", "revert"] {
            pinned.ask(&[left, "--quit"]).await?;
        }
        Ok(true)
    }
}
