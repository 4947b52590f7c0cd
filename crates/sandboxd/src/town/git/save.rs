//! What an evicted agent leaves, as a commit on the remote (spec/town.md 6.5, phase 4b).

use super::GitManager;
use super::clone::set_remote;
use super::error::GitFailure;
use super::identity::Pinned;
use super::identity::Worktree;
use super::names::Branch;
use super::remote::RigRepo;
use crate::session::config::Author;
use crate::session::git::Git;
use crate::session::git::GitError;
use crate::session::git::GitUrl;
use serde::Serialize;
use std::fs;

/// The whole message of the commit (spec/town.md 6.5).
const MESSAGE: &str = "WIP: container eviction save";

/// The caller's word that nothing of the agent runs any more, neither it nor a tool of it: then a lock in its worktree is
/// a dead process's.
#[derive(Clone, Copy, Debug)]
pub struct Frozen;

/// What is saved.
#[derive(Clone, Copy, Debug)]
pub struct Save<'a> {
    /// Where the agent worked.
    pub worktree: &'a Worktree,
    /// Who the commit is by.
    pub author: &'a Author,
    /// The rig's repository and the agent's branch. None for a workspace without a clone: it is committed, not pushed.
    pub remote: Option<(&'a RigRepo, &'a Branch)>,
}

/// Where an agent's work is now. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The branch of the remote that has the commit, if it was pushed; else the one that it was meant for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How far it came.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Why some files are not in the commit, in git's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

/// How far a save came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The commit is on the remote.
    Pushed,
    /// There is a commit, and nowhere to push it.
    NoOrigin,
    /// There is a commit, and the remote does not have it.
    NotPushed { reason: String },
    /// There is no commit.
    NotCommitted { reason: String },
}

impl GitManager {
    /// Commits everything that is in the worktree and pushes it. Never fails: the receipt says how far it came.
    pub async fn save(&self, save: Save<'_>, _: Frozen) -> Receipt {
        let mut receipt = Receipt {
            branch: None,
            commit: None,
            outcome: Outcome::NotCommitted { reason: String::new() },
            left_out: None,
        };
        let step = self.save_into(&save, &mut receipt).await;
        if let Err(error) = step {
            let reason = error.to_string();
            receipt.outcome = match receipt.commit {
                Some(_) => Outcome::NotPushed { reason },
                None => Outcome::NotCommitted { reason },
            };
        }
        receipt
    }

    async fn save_into(&self, save: &Save<'_>, receipt: &mut Receipt) -> Result<(), GitFailure> {
        let git = match save.remote {
            Some((repo, _)) => self.git_for(&repo.url, repo.credential.as_ref(), save.author)?,
            None => self.git_for(&GitUrl::nowhere(), None, save.author)?,
        };
        let pinned = save.worktree.pinned(&git);
        let current = current_branch(&pinned).await?;
        save.worktree.verify()?;
        let was_cut_short = remove_locks(save.worktree, current.as_ref());
        receipt.branch = current.as_ref().map(Branch::to_string);
        receipt.left_out = stage(&pinned, was_cut_short).await?;
        pinned.run(&["commit", "--quiet", "--no-verify", "--allow-empty", "-m", MESSAGE]).await?;
        let commit = pinned.run(&["rev-parse", "HEAD"]).await?.first_line();
        receipt.commit = Some(commit.clone());
        let Some((repo, own)) = save.remote else {
            receipt.outcome = Outcome::NoOrigin;
            return Ok(());
        };
        let branch = destination(current, own, &repo.default_branch);
        receipt.branch = Some(branch.to_string());
        if pinned.ask(&["config", "--get", "remote.origin.url"]).await?.is_none() {
            receipt.outcome = Outcome::NoOrigin;
            return Ok(());
        }
        self.aim(save.worktree, &git).await?;
        receipt.branch = Some(self.push(&pinned, branch, &commit).await?.to_string());
        receipt.outcome = Outcome::Pushed;
        Ok(())
    }

    /// Where the remote is, is the town's to say.
    async fn aim(&self, worktree: &Worktree, git: &Git) -> Result<(), GitFailure> {
        let _alone = self.upstreams.lock().await;
        let mut in_clone = git.clone();
        in_clone.environment.push(("GIT_DIR", worktree.common_dir().to_string_lossy().into_owned()));
        set_remote(&in_clone, worktree.path(), git.url.as_str()).await
    }

    /// Pushes `HEAD`. If the remote does not take it as `branch`, whose newer commits are somebody's too, it goes beside it.
    async fn push(&self, pinned: &Pinned, branch: Branch, commit: &str) -> Result<Branch, GitFailure> {
        match self.push_as(pinned, &branch).await {
            Ok(()) => {
                self.follow(pinned, &branch).await;
                Ok(branch)
            }
            Err(GitFailure::Git(GitError::Failed { tail, .. })) if tail.contains("rejected]") => {
                let beside = branch.beside(commit);
                self.push_as(pinned, &beside).await?;
                Ok(beside)
            }
            Err(error) => Err(error),
        }
    }

    async fn push_as(&self, pinned: &Pinned, branch: &Branch) -> Result<(), GitFailure> {
        let refspec = format!("HEAD:{}", branch.local_ref());
        let push = ["push", "--quiet", "--no-verify", "origin", &refspec];
        pinned.remote(&push, self.settings.command_timeout).await?;
        Ok(())
    }

    /// Makes the remote's branch the upstream of the one that is checked out. The work is safe without it.
    async fn follow(&self, pinned: &Pinned, branch: &Branch) {
        let _alone = self.upstreams.lock().await;
        let upstream = format!("--set-upstream-to=origin/{branch}");
        let _ = pinned.run(&["branch", "--quiet", &upstream]).await;
    }
}

/// The branch that is checked out. None on a detached `HEAD`.
async fn current_branch(pinned: &Pinned) -> Result<Option<Branch>, GitFailure> {
    let head = pinned.ask(&["symbolic-ref", "--quiet", "HEAD"]).await?;
    Ok(head.and_then(|head| Branch::parse(head.first_line().strip_prefix("refs/heads/")?).ok()))
}

/// Where the commit goes. Half-finished work does not go into everybody's branch, which an agent may have checked out to merge.
fn destination(current: Option<Branch>, own: &Branch, default: &Branch) -> Branch {
    current.filter(|current| current != default).unwrap_or_else(|| own.clone())
}

/// Stages everything. What git cannot take, such as a repository inside that has no commit yet, does not keep the rest out.
///
/// Where a git command was cut short, what is missing may be what a checkout had not written yet: no file is taken for deleted then.
async fn stage(pinned: &Pinned, was_cut_short: bool) -> Result<Option<String>, GitFailure> {
    let what = if was_cut_short { "--ignore-removal" } else { "--all" };
    match pinned.run(&["add", what, "--ignore-errors", "."]).await {
        Ok(_) => Ok(None),
        Err(GitFailure::Git(GitError::Failed { tail, .. })) => Ok(Some(tail)),
        Err(error) => Err(error),
    }
}

/// Removes what a git command that was killed in the middle left, and says whether one was that changes files. The caller has verified the worktree.
fn remove_locks(worktree: &Worktree, branch: Option<&Branch>) -> bool {
    let was_cut_short = worktree.git_dir().join("index.lock").exists();
    let own = ["index.lock", "HEAD.lock"].map(|name| worktree.git_dir().join(name));
    let of_branch = branch.map(|branch| worktree.common_dir().join(format!("{}.lock", branch.local_ref())));
    for lock in own.into_iter().chain(of_branch) {
        // A lock that cannot be removed is told by the command that it stops.
        let _ = fs::remove_file(lock);
    }
    was_cut_short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(name: &str) -> Branch {
        Branch::parse(name).unwrap()
    }

    #[test]
    fn unfinished_work_never_goes_to_the_default_branch() {
        let (own, main) = (branch("gt/a/1"), branch("main"));
        assert_eq!(destination(Some(branch("other")), &own, &main), branch("other"));
        assert_eq!(destination(Some(main.clone()), &own, &main), own);
        assert_eq!(destination(None, &own, &main), own);
    }

    #[test]
    fn a_receipt_says_what_became_of_the_work() {
        let receipt = Receipt {
            branch: Some("b".into()),
            commit: Some("c".into()),
            outcome: Outcome::NotPushed { reason: "why".into() },
            left_out: None,
        };
        let wire = serde_json::json!({ "branch": "b", "commit": "c", "outcome": "not_pushed", "reason": "why" });
        assert_eq!(serde_json::to_value(receipt).unwrap(), wire);
    }
}
