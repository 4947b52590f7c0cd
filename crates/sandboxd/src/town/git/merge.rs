//! Merges one branch of the remote into another, in a worktree that exists for that alone.

use super::GitManager;
use super::clone::in_clone;
use super::error::GitFailure;
use super::identity::Pinned;
use super::identity::Worktree;
use super::layout::RigPaths;
use super::make_folder;
use super::names::Branch;
use super::remote::RigRepo;
use super::remove;
use super::worktree::has;
use crate::clock::now_ms;
use crate::session::git::Git;
use crate::session::git::GitError;
use serde::Serialize;

/// Merges that begin anew because the target moved on the remote between fetch and push.
const TRIES: u32 = 3;

/// How a merge ended (spec/town.md 6.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeStatus {
    /// It is on the remote.
    Merged,
    /// The branches change the same lines.
    Conflict,
    /// Neither.
    Failed,
}

/// What came of a merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Merge {
    pub status: MergeStatus,
    /// For a person.
    pub message: String,
    /// Where the target is now; only if merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_sha: Option<String>,
}

impl Merge {
    fn ended(status: MergeStatus, message: impl ToString) -> Self {
        Self { status, message: message.to_string(), commit_sha: None }
    }
}

impl GitManager {
    /// Merges `branch` into `target` on the remote. Leaves nothing on the disk.
    pub async fn merge(&self, repo: &RigRepo, branch: &Branch, target: &Branch) -> Merge {
        let _alone = self.lock(&repo.rig).await;
        for _ in 0..TRIES {
            match self.try_merge(repo, branch, target).await {
                Ok(Some(merge)) => return merge,
                Ok(None) => {}
                Err(error) => return Merge::ended(MergeStatus::Failed, error),
            }
        }
        Merge::ended(MergeStatus::Failed, format!("{target} moved on the remote during each of {TRIES} merges"))
    }

    /// None if the target moved meanwhile.
    async fn try_merge(&self, repo: &RigRepo, branch: &Branch, target: &Branch) -> Result<Option<Merge>, GitFailure> {
        let git = self.git(repo)?;
        self.ensure_clone(&git, repo).await?;
        let paths = self.paths(&repo.rig);
        let in_clone = in_clone(&git, &paths);
        for wanted in [branch, target] {
            if !has(&in_clone, &paths, &wanted.remote_ref()).await? {
                return Err(GitFailure::NoBranch { branch: wanted.clone() });
            }
        }
        clear(&in_clone, &paths).await?;
        let merged = self.merge_in_worktree(&git, &in_clone, &paths, branch, target).await;
        let cleared = clear(&in_clone, &paths).await;
        let merged = merged?;
        cleared?;
        Ok(merged)
    }

    async fn merge_in_worktree(
        &self,
        git: &Git,
        in_clone: &Git,
        paths: &RigPaths,
        branch: &Branch,
        target: &Branch,
    ) -> Result<Option<Merge>, GitFailure> {
        make_folder(&paths.merges)?;
        let folder = paths.merges.join(now_ms().to_string());
        let name = folder.to_string_lossy();
        let add = ["worktree", "add", "--quiet", "--detach", "--", &name, &target.remote_ref()];
        in_clone.plumbing(&paths.rig, None, &add).await?;
        let pinned = Worktree::record_linked(&folder, &paths.common_dir())?.pinned(git);
        let message = format!("Merge {branch} into {target}");
        let merge = ["merge", "--quiet", "--no-ff", "--no-verify", "-m", &message, &branch.remote_ref()];
        match pinned.run(&merge).await {
            Ok(_) => self.publish(&pinned, branch, target).await,
            Err(GitFailure::Git(error @ GitError::Failed { .. })) => {
                let conflicts = pinned.run(&["diff", "--name-only", "--diff-filter=U"]).await?.stdout;
                if conflicts.trim().is_empty() {
                    return Err(error.into());
                }
                let files = conflicts.lines().collect::<Vec<_>>().join(", ");
                pinned.ask(&["merge", "--abort"]).await?;
                let message = format!("{branch} conflicts with {target} in {files}");
                Ok(Some(Merge::ended(MergeStatus::Conflict, message)))
            }
            Err(error) => Err(error),
        }
    }

    async fn publish(&self, pinned: &Pinned, branch: &Branch, target: &Branch) -> Result<Option<Merge>, GitFailure> {
        let commit = pinned.run(&["rev-parse", "HEAD"]).await?.first_line();
        let refspec = format!("HEAD:{}", target.local_ref());
        let push = ["push", "--quiet", "--no-verify", "origin", &refspec];
        match pinned.remote(&push, self.settings.command_timeout).await {
            Ok(_) => Ok(Some(Merge {
                status: MergeStatus::Merged,
                message: format!("Merged {branch} into {target}"),
                commit_sha: Some(commit),
            })),
            Err(GitFailure::Git(GitError::Failed { tail, .. })) if tail.contains("[rejected]") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Removes what merges left, also those of a process that was killed.
async fn clear(in_clone: &Git, paths: &RigPaths) -> Result<(), GitFailure> {
    remove(&paths.merges).await?;
    in_clone.plumbing(&paths.rig, None, &["worktree", "prune"]).await?;
    Ok(())
}
