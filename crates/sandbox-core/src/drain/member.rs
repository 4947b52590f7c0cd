//! One agent in a drain: what was done with it, and what is left to do.

use super::Kind;
use super::Member;
use super::Standing;

/// Where an agent's work is after the drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The branch that it is on; empty if there is none.
    pub branch: String,
    /// The commit that holds it, if there is one.
    pub commit: Option<String>,
    /// Whether the remote has that commit on that branch.
    pub pushed: bool,
    /// Why it has not.
    pub reason: Option<String>,
}

impl Receipt {
    /// The receipt of work that could not be saved.
    pub fn without(reason: impl Into<String>) -> Self {
        Self { branch: String::new(), commit: None, pushed: false, reason: Some(reason.into()) }
    }

    /// The receipt of an agent that left nothing to save.
    pub fn nothing(branch: impl Into<String>) -> Self {
        Self { branch: branch.into(), commit: None, pushed: true, reason: None }
    }

    /// Whether nothing had to be saved.
    pub fn is_nothing(&self) -> bool {
        self.pushed && self.commit.is_none()
    }
}

/// How far one agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It runs, or ended by itself.
    Free,
    /// It is being frozen.
    Freezing,
    /// Nothing writes in its worktree any more, as far as it is concerned.
    Frozen,
    /// It may still write.
    Loose { reason: String },
    /// Its worktree is being saved, until then at most.
    Saving { by: i64 },
    /// The town is being told of the receipt.
    Telling,
    /// The town is being told of the end.
    Reporting,
    /// Nothing is left to do for it.
    Done,
}

/// One agent.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub member: Member,
    pub stage: Stage,
    /// Whether it was asked to finish.
    pub nudged: bool,
    /// Whether it was live when the freeze began: only then its end is the drain's to report.
    pub was_live: bool,
}

impl Entry {
    pub fn new(member: Member) -> Self {
        Self { member, stage: Stage::Free, nudged: false, was_live: false }
    }

    /// Whether it is worth waiting for.
    pub fn is_active(&self) -> bool {
        let busy = matches!(self.member.standing, Standing::Idle | Standing::Starting | Standing::Working);
        busy && self.member.kind != Kind::Mayor
    }

    /// Whether it is to be asked to finish now.
    pub fn wants_nudge(&self) -> bool {
        let runs = matches!(self.member.standing, Standing::AtRest | Standing::Idle | Standing::Working);
        runs && self.member.kind == Kind::Worker && !self.nudged
    }

    pub fn is_live(&self) -> bool {
        !matches!(self.member.standing, Standing::Ended | Standing::Loose)
    }
}
