//! Whether the work of one branch is in another one on the remote: nobody's word is taken for it.
//!
//! Both are looked up on the remote in this moment, and their commits are fetched without a name: no ref of the clone is written, so this waits
//! for nobody and is in nobody's way.

use super::GitManager;
use super::clone::in_clone;
use super::clone::yes;
use super::error::GitFailure;
use super::layout::RigPaths;
use super::names::Branch;
use super::remote::RigRepo;
use super::worktree::has;
use crate::session::git::Git;
use crate::session::git::GitError;
use std::time::Duration;

/// One call of the remote. Who asks waits for the answer.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(15);

impl GitManager {
    /// Whether everything that `branch` changes is in `target`: as its commits, or, after a squash or a rebase, in others. A branch that the
    /// remote does not have any more, as after many a merge, is the one of that name in the clone.
    pub async fn is_merged(&self, repo: &RigRepo, branch: &Branch, target: &Branch) -> Result<bool, GitFailure> {
        let paths = self.paths(&repo.rig);
        let git = in_clone(&self.git(repo)?, &paths);
        let (own, into) = (branch.local_ref(), target.local_ref());
        let list = git.remote(&paths.rig, &["ls-remote", git.url.as_str(), &own, &into], REMOTE_TIMEOUT).await?;
        let on_remote = |name: &str| {
            let mut lines = list.stdout.lines().filter_map(|line| line.split_once('\t'));
            lines.find(|(_, found)| *found == name).map(|(commit, _)| commit.to_owned())
        };
        // A convoy's branch is made by the first merge into it.
        let Some(target_head) = on_remote(&into) else { return Ok(false) };
        let mut fetch = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", git.url.as_str(), &into];
        let head = match on_remote(&own) {
            Some(head) => {
                fetch.push(&own);
                head
            }
            None if has(&git, &paths, &own).await? => own.clone(),
            None => return Err(GitFailure::NoBranch { branch: branch.clone() }),
        };
        git.remote(&paths.rig, &fetch, REMOTE_TIMEOUT).await?;
        contains(&git, &paths, &target_head, &head).await
    }
}

async fn contains(git: &Git, paths: &RigPaths, target: &str, head: &str) -> Result<bool, GitFailure> {
    if yes(git.plumbing(&paths.rig, None, &["merge-base", "--is-ancestor", head, target]).await)? {
        return Ok(true);
    }
    // A squash or a rebase leaves other commits: then a merge would change nothing.
    match git.plumbing(&paths.rig, None, &["merge-tree", "--write-tree", target, head]).await {
        Ok(merged) => {
            let tree = git.plumbing(&paths.rig, None, &["rev-parse", &format!("{target}^{{tree}}")]).await?;
            Ok(merged.first_line() == tree.first_line())
        }
        Err(GitError::Failed { code: 1, .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
