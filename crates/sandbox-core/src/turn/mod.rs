//! When the agent's turn is over, and how (spec/kilo.md 5, "When is a turn over?", and 6).
//!
//! Not at the first `session.idle`: an abort sends three of them, a sub-agent its own, and a queued prompt begins right after one. A turn is
//! what lies between `session.turn.open` and `session.turn.close` of our own session; after the close, either the agent server says that
//! the session is idle, or it is quiet for a while. Works for the orders of 7.7.9 and 7.0.33.
//!
//! A prompt that was taken (204) is taken up about a second later, with nothing said in between, and an abort before that stops nothing: a turn that
//! begins while it is being stopped is aborted again, and an agent that [`Turn::may_yet_begin`] when its job ends must not outlive it.
//!
//! Each wait has an end: for the turn to open, for a model that cannot be reached or refuses, for an abort to take effect. How long a
//! healthy turn may run is not decided here but by the session object.

pub(crate) mod error;
mod machine;
mod read;
#[cfg(test)]
mod tests;

use crate::agent::AgentEvent;
use crate::gap::TurnFound;
pub use machine::Turn;

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// An event of the agent server, of whatever session.
    Agent(&'a AgentEvent<'a>),
    /// The prompt is about to be sent. Subscribe to the agent's events before.
    Prompt,
    /// The agent server did not take the prompt.
    PromptRefused { message: String },
    /// The answer to [`Output::CatchUp`], or none: then it is asked for again.
    CaughtUp(Option<&'a TurnFound>),
    /// The agent server process has ended.
    ServerGone { message: String },
    /// The answer to [`Output::AskStatus`]: whether the agent server says that our session is doing something.
    Status { busy: bool },
    /// The agent is being stopped on our wish: the turn ends soon.
    Stopping,
    /// The event stream broke, and is back: events may have been missed.
    StreamResumed,
    /// A deadline may have come.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// `POST /session/{id}/abort`, once more: the turn that is being stopped has begun only now. Answer with `job::Input::AgentAborted`.
    AbortAgain,
    /// Ask `GET /session/status`, at most 5 s; answer with `Status`. No answer is fine too.
    AskStatus,
    /// The turn is over. Once per `Prompt`.
    Ended(TurnEnd),
    /// The stream had a gap: ask the agent server for what it has now ([`crate::gap`]); answer with `CaughtUp`.
    CatchUp,
    /// `POST /question/{id}/reject`: a question that no person can answer (the agent's own housekeeping).
    RejectQuestion { id: String },
    /// `POST /permission/{id}/reply` with `{"reply":"always"}`, where everything is allowed: a repository's own configuration can still make the
    /// agent ask (spec/session.md 8.5).
    ReplyPermission { id: String },
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// The agent has answered.
    Completed,
    /// The turn closed with an error of the model or the agent.
    Failed { message: String },
    /// Nothing that the agent does now can succeed (payment, no network): stop it, run no tasks.
    Fatal { error: String },
    /// Someone stopped the agent.
    Interrupted,
    /// The prompt was not taken up; the model has not been called.
    Rejected { message: String },
}
