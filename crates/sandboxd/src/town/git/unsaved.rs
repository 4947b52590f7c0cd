//! Whether a worktree holds anything that only this disk has.

use super::GitManager;
use super::error::GitFailure;
use super::identity::Worktree;
use super::names::Branch;
use super::remote::RigRepo;
use super::stranded;

impl GitManager {
    /// Files that no commit has, or commits and stashes that no branch of the remote had when it was last heard of; the same that a save would push.
    /// True also if that cannot be found out.
    pub async fn is_unsaved(&self, worktree: &Worktree, repo: &RigRepo, own: &Branch) -> bool {
        self.find_unsaved(worktree, repo, own).await.unwrap_or(true)
    }

    async fn find_unsaved(&self, worktree: &Worktree, repo: &RigRepo, own: &Branch) -> Result<bool, GitFailure> {
        let pinned = worktree.pinned(&self.git(repo)?);
        // The repository's own configuration may hide new files.
        let files = pinned.run(&["status", "--porcelain", "--untracked-files=normal"]).await?;
        let commits = pinned.run(&["rev-list", "--max-count=1", "HEAD", "--not", "--remotes"]).await?;
        if !files.first_line().is_empty() || !commits.first_line().is_empty() {
            return Ok(true);
        }
        let of = stranded::Of { worktree, own, email: &repo.author.email };
        Ok(!stranded::find(&pinned, of).await?.is_empty())
    }
}
