//! One execution from start to end (spec/session.md 8.4, 8.7).
//!
//! ```text
//! idle ─Start─▶ opening ─▶ sending ─▶ running ─turn over─▶ auto-commit ─▶ condense ─▶ quiet ─▶ branch ─▶ finishing ─▶ idle
//!                   └──────────┴─────────┴── abort, kill, signal ──────────▶ settling ─────────────▲
//! ```
//!
//! * Each job says exactly one last thing: `complete`, `interrupted` or a fatal `error`; and the ingest connection is closed only when that is
//!   acknowledged or given up. A job whose prompt was never taken says nothing: its caller is told instead.
//! * `complete` comes after the tasks, so that nobody sees an idle session while a commit is still running.
//! * A turn that ended with an error is committed too, where that is asked for: no work is thrown away.
//! * Every input that reports on a job carries its number; what an old job reports changes nothing.

mod machine;
#[cfg(test)]
mod tests;

use crate::event::Event;
use crate::ingest::GaveUp;
use crate::turn::TurnEnd;
pub use machine::Job;
use protocol::id::ExecutionId;
use protocol::id::KiloSessionId;
use protocol::id::MessageId;

/// Numbers the jobs of one machine, from 1. Each input that reports an outcome carries it, so that the end of an old job cannot
/// touch a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The agent's session.
    pub kilo_session_id: KiloSessionId,
    /// The prompt's id: the same one twice runs once.
    pub message_id: MessageId,
    /// Commit and push at the end.
    pub auto_commit: bool,
    /// Condense the conversation at the end.
    pub condense_on_complete: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// `job/abort`.
    Abort,
    /// The agent server has answered to [`Output::AbortAgent`], or is not there. Not while its turn
    /// [may yet begin](crate::turn::Turn::may_yet_begin).
    AgentAborted(JobId),
    /// The agent server was heard (any event, also a heartbeat).
    AgentHeard,
    /// Auto-commit has ended, well or not.
    AutoCommitDone(JobId),
    /// The answer to [`Output::ReadBranch`].
    Branch { job: JobId, branch: Option<String> },
    /// Condensing has ended, well or not.
    CondenseDone(JobId),
    /// The subscription to the agent's events is open.
    EventsOpen(JobId),
    /// `ingest::Output::Drained`.
    IngestDrained(JobId),
    /// `ingest::Output::GaveUp`.
    IngestGaveUp { job: JobId, why: GaveUp },
    /// `ingest::Output::Ready`.
    IngestReady(JobId),
    /// The object's command `kill`.
    Kill,
    /// The prompt could not be sent.
    PromptFailed { job: JobId, message: String },
    /// The agent server took the prompt.
    PromptSent(JobId),
    /// SIGTERM or SIGINT, by its name.
    Shutdown { signal: &'static str },
    /// Run this.
    Start(Binding),
    /// A deadline may have come.
    Tick,
    /// `turn::Output::Ended`.
    TurnEnded { job: JobId, end: TurnEnd },
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// `POST /session/{id}/abort`, and `turn::Input::Stopping`.
    AbortAgent(JobId),
    /// Answer to `Start`: it is being run as this job.
    Accepted(JobId),
    /// Stop what runs of auto-commit or condensing.
    CancelTasks(JobId),
    /// `ingest::Input::Close`, and forget the machine.
    CloseIngest(JobId),
    /// Answer to `Start`: this execution, or this message, is running or has run. Nothing to do.
    Duplicate,
    /// `ingest::Input::Event`.
    Emit { job: JobId, event: Event },
    /// The job is over and the machine is idle. The last output of a job.
    Ended { job: JobId, end: JobEnd },
    /// `ingest::Input::Finish`.
    FinishIngest(JobId),
    /// Make the ingest machine and open it; subscribe to the agent's events. Answers: `IngestReady`, `EventsOpen`.
    Open(JobId),
    /// Read the current branch. Answer: `Branch`.
    ReadBranch(JobId),
    /// Answer to `Start`: another execution is active.
    Refused {
        /// Which.
        active: ExecutionId,
    },
    /// Subscribe to the agent's events anew: nothing was heard for too long.
    RestartEvents(JobId),
    /// Commit and push; emit `autocommit_started` and `autocommit_completed`. Answer: `AutoCommitDone`.
    RunAutoCommit(JobId),
    /// Condense the conversation. Answer: `CondenseDone`.
    RunCondense(JobId),
    /// `turn::Input::Prompt`, then `POST /session/{id}/prompt_async`. Answer: `PromptSent` or `PromptFailed`.
    SendPrompt(JobId),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// Its last event (`complete`, `interrupted` or a fatal `error`) is acknowledged.
    Reported,
    /// The object did not take the last events.
    Abandoned(GaveUp),
    /// A new execution was adopted before the last events were acknowledged.
    Replaced,
    /// The agent was never asked.
    NotStarted {
        /// `CONNECTION_ERROR` or `SEND_ERROR`.
        code: &'static str,
        /// For a person.
        message: String,
    },
}
