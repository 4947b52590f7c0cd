//! How a container that was told to end keeps its agents' work (spec/town.md 6.5, 5.10).
//!
//! ```text
//! SIGTERM ─▶ notify ─▶ nudge ─▶ wait ─▶ freeze ─▶ save ─▶ close ─▶ over
//! ```
//!
//! * **notify**: the town learns of it, and dispatches nothing any more. A town that does not answer delays the drain for a bounded time.
//! * **nudge**: each working agent is told to finish. One that is still starting is told as soon as it runs.
//! * **wait**: until no agent but the mayor starts, works or was idle a moment ago; for a bounded time.
//! * **freeze**: every live agent, the mayor too, at the same time. Saving begins when all have been frozen or given up, so that no agent's git meets ours.
//! * **save**: the worktree of each frozen agent, and of each that ended by itself before. Never one in which anything may still
//!   write: not that of an agent that could not be frozen, nor of another agent in the same worktree. Agents in one
//!   worktree are saved one after the other, and who was live before who had ended. Then, agent by agent, the receipt goes to the town before
//!   the report that the agent ended, because that report sets the bead free for somebody else. After the agents' worktrees come those that
//!   are on the disk and belong to none of them: an agent that is not known any more has left its work there.
//! * **close**: the town's list of live agents is emptied, and what the town was not told yet of receipts and ends is awaited.
//!
//! It begins once: a second signal changes nothing. Every phase has a deadline, and so has the whole, so that it is over before the platform kills.

mod folders;
mod machine;
mod member;
#[cfg(test)]
mod tests;

pub use machine::Drain;
pub use member::Receipt;

use protocol::id::AgentId;

/// Every wait. The order that matters: the sum of all is below `total_ms`, and that below the platform's time before SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainLimits {
    /// The report of the eviction.
    pub notify_ms: i64,
    /// Handing the agents the request to finish.
    pub nudge_ms: i64,
    /// For agents to finish by themselves.
    pub wait_ms: i64,
    /// From the request to freeze to the last agent frozen.
    pub freeze_ms: i64,
    /// One worktree.
    pub save_ms: i64,
    /// All worktrees, receipts and reports.
    pub save_all_ms: i64,
    /// The last call, and the calls that are still on their way then.
    pub close_ms: i64,
    /// Everything.
    pub total_ms: i64,
    /// Worktrees that are saved at the same time.
    pub saves_at_once: usize,
}

/// What an agent is for, as far as a drain cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Talks with the user: nobody waits for it to finish.
    Mayor,
    /// Decides what to do with stuck agents, in a workspace without a remote.
    Triage,
    /// Works on a branch.
    Worker,
}

/// What an agent is doing, as far as a drain cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its session is being made.
    Starting,
    /// In a turn.
    Working,
    /// Idle since a moment ago.
    Idle,
    /// Idle for long enough.
    AtRest,
    /// It ended by itself.
    Ended,
    /// It ended, and something that it started still runs.
    Loose,
}

/// One agent, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub id: AgentId,
    /// What it is for.
    pub kind: Kind,
    /// What it is doing.
    pub standing: Standing,
    /// Where it works, if that is there yet.
    pub worktree: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// SIGTERM, and the agents that there are.
    Terminate(Vec<Member>),
    /// The agents that there are now.
    Members(Vec<Member>),
    /// The answer to [`Output::Notify`], also if the town could not be told.
    Notified,
    /// The answer to [`Output::Nudge`], also if the agent did not take it. What the nudge set going must have been told with `Members` before, or
    /// the agent may pass for idle.
    Nudged(AgentId),
    /// The answer to [`Output::Freeze`].
    Frozen {
        /// Which.
        agent: AgentId,
        /// An error says what may still be running.
        outcome: Result<(), String>,
    },
    /// The answer to [`Output::Find`].
    Found(Vec<String>),
    /// The answer to [`Output::SaveFolder`].
    FolderSaved {
        /// Which.
        folder: String,
        /// Where the work in it is now.
        receipt: Receipt,
    },
    /// The answer to [`Output::Save`].
    Saved {
        /// Which.
        agent: AgentId,
        /// Where its work is now.
        receipt: Receipt,
    },
    /// The answer to [`Output::Tell`], also if the town could not be told.
    Told(AgentId),
    /// The answer to [`Output::Report`], also if the town could not be told.
    Reported(AgentId),
    /// The answer to [`Output::ClearRegistry`], also if the town could not be told.
    Cleared,
    /// A deadline may have come.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Stop heartbeats, take no new agents, acknowledge no nonce, shorten idle timers; then report the eviction. Answer: `Notified`.
    Notify,
    /// Ask the agent to commit, push and finish. Answer: `Nudged`.
    Nudge(AgentId),
    /// Abort what the agent does, and end everything that could write in its worktree. Answer: `Frozen`.
    Freeze(AgentId),
    /// Commit and push what is in the agent's worktree. Answer: `Saved`.
    Save(AgentId),
    /// Stop saving: its time is over. No answer.
    Abandon(AgentId),
    /// Look which worktrees are on the disk, whoever they belong to. Answer: `Found`.
    Find,
    /// Commit and push what is in this worktree, which belongs to no agent that is known, unless something still runs in it. Answer: `FolderSaved`.
    SaveFolder(String),
    /// Stop saving it: its time is over. No answer.
    AbandonFolder(String),
    /// Log the receipt of such a worktree.
    LogFolder {
        /// Which.
        folder: String,
        /// Where the work in it is.
        receipt: Receipt,
    },
    /// Log the receipt.
    Log {
        /// Whose.
        agent: AgentId,
        /// Where its work is.
        receipt: Receipt,
    },
    /// Tell the town where the agent's work is. Answer: `Told`.
    Tell {
        /// Whose.
        agent: AgentId,
        /// Where it is.
        receipt: Receipt,
    },
    /// Tell the town that the agent ended because of the eviction. Answer: `Reported`.
    Report(AgentId),
    /// Tell the town that none of its agents is live here any more, but those that have still to come back. Answer: `Cleared`.
    ClearRegistry,
    /// The drain is in this phase now; for the log.
    Entered(Phase),
    /// Nothing is left to do. The last output.
    Over,
}

/// Where a drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No signal came.
    Calm,
    /// The town is being told.
    Notifying,
    /// The agents are being told.
    Nudging,
    /// For agents to finish.
    Waiting,
    /// Agents are being ended.
    Freezing,
    /// Worktrees are being saved.
    Saving,
    /// The last call.
    Closing,
    /// Nothing is left to do.
    Over,
}

impl Phase {
    /// The word for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Calm => "calm",
            Phase::Closing => "close",
            Phase::Freezing => "freeze",
            Phase::Notifying => "notify",
            Phase::Nudging => "nudge",
            Phase::Over => "over",
            Phase::Saving => "save",
            Phase::Waiting => "wait",
        }
    }
}
