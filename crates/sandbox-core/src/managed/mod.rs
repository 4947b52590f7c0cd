//! One agent of a town, as its container sees it (spec/town.md 6.4).
//!
//! ```text
//! starting ─▶ running ─idle for long─▶ exited
//!    │  │      │  │  └─stop, freeze─▶ stopping ─▶ exited
//!    │  └──────┘  └─event stream lost─▶ failed
//!    └─start failed─▶ failed
//! ```
//!
//! * An agent that has nothing to do is looked after: what was left for it (a *nudge*) is handed to it; without one it ends after a while. The
//!   mayor never ends by itself: it waits for its user.
//! * Only what shows that a turn runs ends an idle phase. The agent server says a good deal after the end of a turn (titles,
//!   diffs, the user's message again, spec/kilo.md 5): if that counted, no agent would ever be idle for long.
//! * While the container drains, nobody ends by itself: an agent that has been idle for a short time is *at rest*, and the drain saves it.
//!   So nothing that it left uncommitted is lost because it was quick.
//! * What is over is over: an agent that has exited or failed hears nothing any more. A new start is a new machine.

mod machine;
#[cfg(test)]
mod tests;

pub use machine::Managed;

/// What an agent is doing, in the words of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its worktree, agent server and session are being made.
    Starting,
    /// It has a session.
    Running,
    /// It is being ended.
    Stopping,
    /// It ended as it should.
    Exited,
    /// It could not start, or was lost.
    Failed,
}

impl Status {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Exited => "exited",
            Status::Failed => "failed",
            Status::Running => "running",
            Status::Starting => "starting",
            Status::Stopping => "stopping",
        }
    }

    /// Whether it starts or runs.
    pub fn is_live(self) -> bool {
        matches!(self, Status::Running | Status::Starting)
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        matches!(self, Status::Exited | Status::Failed)
    }
}

/// The waits of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// How long it may have nothing to do before it ends.
    pub idle_ms: i64,
    /// The same while the container drains: then it is at rest.
    pub draining_idle_ms: i64,
}

/// A message that was left for an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// To say that it was delivered.
    pub id: String,
    /// Its text.
    pub message: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The agent server says something that shows that a turn runs.
    Busy,
    /// The container drains from now on.
    Drain,
    /// Freeze it: the same as `Stop`, for a container that ends.
    Freeze,
    /// A prompt of ours is about to be sent.
    Prompted,
    /// The agent server says that the session is idle.
    Idle,
    /// The answer to [`Output::HandOver`].
    HandedOver {
        /// Whether the agent took it.
        taken: bool,
    },
    /// The answer to [`Output::FetchNudges`]: the most urgent one. None also if the town could not be asked.
    Nudge(Option<Waiting>),
    /// Session and event stream are there; the first prompt has not been sent.
    Ready,
    /// It could not be started, or did not take its first prompt.
    StartFailed {
        /// Why.
        reason: String,
    },
    /// Stop it.
    Stop,
    /// The answer to [`Output::End`].
    Ended,
    /// The event stream, or the agent server itself, is gone.
    StreamEnded,
    /// A deadline may have come.
    Tick,
}

/// What the town is told of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It was idle for long enough.
    Completed,
    /// Its event stream is gone.
    StreamError,
    /// The mayor waits for its user.
    Waiting,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Abort what it does, keep its conversation, let go of its agent server. Answer: `Ended`.
    End,
    /// Ask the town for what was left for it. Answer: `Nudge`.
    FetchNudges,
    /// Send it this. Answer: `HandedOver`, before anything else that the agent server says.
    HandOver(Waiting),
    /// Put its conversation away.
    KeepConversation,
    /// Keep its conversation and let go of its agent server. No answer.
    Release,
    /// Tell the town that this message was delivered.
    MarkDelivered {
        /// Which.
        id: String,
    },
    /// Tell the town.
    Report(Report),
    /// Tell viewers that it is over, and why.
    SayExited {
        /// Why.
        reason: &'static str,
    },
    /// The list of live agents has changed: tell the town.
    SyncRegistry,
}
