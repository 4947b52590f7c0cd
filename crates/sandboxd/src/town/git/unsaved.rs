//! Whether a worktree holds anything that only this disk has.

use super::GitManager;
use super::error::GitFailure;
use super::identity::Worktree;
use super::remote::RigRepo;

impl GitManager {
    /// Files that no commit has, or commits that no branch of the remote had when it was last heard of. True also if that cannot be found out.
    pub async fn is_unsaved(&self, worktree: &Worktree, repo: &RigRepo) -> bool {
        self.find_unsaved(worktree, repo).await.unwrap_or(true)
    }

    async fn find_unsaved(&self, worktree: &Worktree, repo: &RigRepo) -> Result<bool, GitFailure> {
        let pinned = worktree.pinned(&self.git(repo)?);
        // The repository's own configuration may hide new files.
        let files = pinned.run(&["status", "--porcelain", "--untracked-files=normal"]).await?;
        let commits = pinned.run(&["rev-list", "--max-count=1", "HEAD", "--not", "--remotes"]).await?;
        Ok(!files.first_line().is_empty() || !commits.first_line().is_empty())
    }
}
