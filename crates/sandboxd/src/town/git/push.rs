//! One commit to one branch of the remote. The remote is named by its address: what the clone calls `origin` is shared with agents, and a lock
//! of its configuration would stop the saves of a whole rig.

use super::GitManager;
use super::error::GitFailure;
use super::identity::Pinned;
use super::names::Branch;
use crate::session::git::GitError;
use std::time::Duration;
use tokio::time::Instant;

/// Between a push that failed for a while and the next one: doubled each time, up to the second.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// A commit whose branch of the remote may have become another: then it goes beside it.
pub(super) struct Push<'a> {
    pub commit: &'a str,
    pub branch: &'a Branch,
    /// Troubles that pass are waited for until then.
    pub until: Instant,
}

impl GitManager {
    /// Pushes it to its branch. If the remote does not take it as that, whose newer commits are somebody's too, it goes beside. Says where it is.
    pub(super) async fn push(&self, pinned: &Pinned, push: Push<'_>) -> Result<Branch, GitFailure> {
        match self.push_exactly(pinned, &push).await {
            Ok(()) => Ok(push.branch.clone()),
            Err(GitFailure::Git(GitError::Failed { tail, .. })) if tail.contains("rejected]") => {
                let beside = push.branch.beside("wip", push.commit);
                self.push_exactly(pinned, &Push { branch: &beside, ..push }).await?;
                Ok(beside)
            }
            Err(error) => Err(error),
        }
    }

    /// Pushes it to its branch and nowhere else.
    pub(super) async fn push_exactly(&self, pinned: &Pinned, push: &Push<'_>) -> Result<(), GitFailure> {
        let refspec = format!("{}:{}", push.commit, push.branch.local_ref());
        let arguments = ["push", "--quiet", "--no-verify", pinned.url(), &refspec];
        let left = || push.until.saturating_duration_since(Instant::now());
        let (mut pause, mut trouble) = (PAUSE, None);
        loop {
            let mut error = match pinned.remote(&arguments, left().min(self.settings.command_timeout)).await {
                Ok(_) => break,
                Err(GitFailure::Git(error)) if error.is_passing() => error,
                Err(error) => return Err(error),
            };
            if left().is_zero() {
                // Cut off by the end: what the remote said before says more.
                error = trouble.unwrap_or(error);
            }
            if left() <= pause {
                return Err(error.into());
            }
            trouble = Some(error);
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
        // As a push to `origin` would. The work is safe without it.
        pinned.ask(&["update-ref", &push.branch.remote_ref(), push.commit]).await?;
        Ok(())
    }
}
