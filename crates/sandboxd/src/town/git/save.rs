//! What an evicted agent leaves, as a commit on the remote (spec/town.md 6.5, phase 4b).

use super::GitManager;
use super::error::GitFailure;
use super::identity::Pinned;
use super::identity::Worktree;
use super::locks;
use super::names::Branch;
use super::nested;
use super::push::Push;
use super::remote::RigRepo;
use super::stranded;
use super::stranded::COMMITS_MAX;
use super::stranded::Kind;
use super::stranded::Stranded;
use crate::session::config::Author;
use crate::session::git::GitError;
use crate::session::git::GitUrl;
use serde::Serialize;
use tokio::time::Instant;

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
    /// When the receipt is due. Until then, a remote that cannot be reached is tried again.
    pub until: Instant,
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
    /// Branches of the remote that have what else only this disk had: commits of other branches, and stashes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<String>,
    /// What is neither in the commit nor beside it, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
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
            beside: Vec::new(),
            left_out: Vec::new(),
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
        let mut git = match save.remote {
            Some((repo, _)) => self.git_for(&repo.url, repo.credential.as_ref(), save.author)?,
            None => self.git_for(&GitUrl::nowhere(), None, save.author)?,
        };
        git.local_timeout = git.local_timeout.min(save.until.saturating_duration_since(Instant::now()));
        let pinned = save.worktree.pinned(&git);
        let current = current_branch(&pinned).await?;
        save.worktree.verify()?;
        let was_cut_short = locks::remove_all(save.worktree, current.as_ref());
        receipt.branch = current.as_ref().map(Branch::to_string);
        receipt.left_out = stage(&pinned, was_cut_short).await?;
        pinned.run(&["commit", "--quiet", "--no-verify", "--allow-empty", "-m", MESSAGE]).await?;
        let commit = pinned.run(&["rev-parse", "HEAD"]).await?.first_line();
        receipt.commit = Some(commit.clone());
        let Some((_, own)) = save.remote else {
            receipt.outcome = Outcome::NoOrigin;
            return Ok(());
        };
        let of = stranded::Of { worktree: save.worktree, own, email: &save.author.email };
        let stranded = stranded::find(&pinned, of).await.unwrap_or_else(|error| {
            receipt.left_out.push(format!("whether there are other commits could not be found out: {error}"));
            Vec::new()
        });
        // Nobody's branch but its own gets what it was in the middle of. That one neither, if it would lose its own commits by it.
        let has_own = stranded.iter().any(|stranded| stranded.kind == Kind::Own);
        let branch = if has_own { own.beside("wip", &commit) } else { own.clone() };
        receipt.branch = Some(branch.to_string());
        let branch = self.push(&pinned, Push { commit: &commit, branch: &branch, until: save.until }).await?;
        receipt.branch = Some(branch.to_string());
        receipt.outcome = Outcome::Pushed;
        if current.as_ref() == Some(&branch) {
            self.follow(&pinned, &branch).await;
        }
        if stranded.len() > COMMITS_MAX {
            receipt.left_out.push(format!("more than {COMMITS_MAX} other commits and stashes"));
        }
        for stranded in stranded.into_iter().take(COMMITS_MAX) {
            self.push_beside(&pinned, save, own, &stranded, receipt).await;
        }
        Ok(())
    }

    /// Pushes what is not below the commit. If that fails, the commit is on the remote all the same.
    async fn push_beside(
        &self,
        pinned: &Pinned,
        save: &Save<'_>,
        own: &Branch,
        Stranded { kind, commit }: &Stranded,
        receipt: &mut Receipt,
    ) {
        let branch = match kind {
            Kind::Own => own.clone(),
            Kind::Side | Kind::Stash => own.beside(kind.as_str(), commit),
        };
        match self.push(pinned, Push { commit, branch: &branch, until: save.until }).await {
            Ok(branch) => receipt.beside.push(branch.to_string()),
            Err(error) => receipt.left_out.push(format!("{branch} ({commit}): {error}")),
        }
    }

    /// Makes the remote's branch the upstream of the one that is checked out. The work is safe without it.
    async fn follow(&self, pinned: &Pinned, branch: &Branch) {
        let _alone = self.upstreams.lock().await;
        let upstream = format!("--set-upstream-to=origin/{branch}");
        let _ = pinned.run(&["branch", "--quiet", &upstream]).await;
    }
}

/// The branch that is checked out. None on a detached `HEAD`.
pub(super) async fn current_branch(pinned: &Pinned) -> Result<Option<Branch>, GitFailure> {
    let head = pinned.ask(&["symbolic-ref", "--quiet", "HEAD"]).await?;
    Ok(head.and_then(|head| Branch::parse(head.first_line().strip_prefix("refs/heads/")?).ok()))
}

/// Stages everything, and says what not. What git cannot take, such as a repository inside that has no commit yet, does not keep the rest out.
///
/// Where a git command was cut short, what is missing may be what a checkout had not written yet: no file is taken for deleted then.
async fn stage(pinned: &Pinned, was_cut_short: bool) -> Result<Vec<String>, GitFailure> {
    let what = if was_cut_short { "--ignore-removal" } else { "--all" };
    let mut left_out =
        match pinned.run(&["-c", "advice.addEmbeddedRepo=false", "add", what, "--ignore-errors", "."]).await {
            Ok(_) => Vec::new(),
            Err(GitFailure::Git(GitError::Failed { tail, .. })) => vec![tail],
            Err(error) => return Err(error),
        };
    match nested::changed(pinned).await {
        Ok(inside) => left_out.extend(inside.iter().map(|path| format!("what is in the repository {path}"))),
        Err(error) => left_out.push(format!("what is in repositories inside could not be found out: {error}")),
    }
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_says_what_became_of_the_work() {
        let receipt = Receipt {
            branch: Some("b".into()),
            commit: Some("c".into()),
            outcome: Outcome::NotPushed { reason: "why".into() },
            beside: Vec::new(),
            left_out: Vec::new(),
        };
        let wire = serde_json::json!({ "branch": "b", "commit": "c", "outcome": "not_pushed", "reason": "why" });
        assert_eq!(serde_json::to_value(receipt).unwrap(), wire);
    }
}
