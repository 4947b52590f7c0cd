//! The machine itself: phases, and what each event does in each of them.

use super::Input;
use super::Output;
use super::TurnEnd;
use super::read::Closed;
use super::read::ErrorOf;
use super::read::Request;
use super::read::StatusOf;
use crate::agent::AgentEvent;
use crate::gap::FoundError;
use crate::gap::TurnFound;
use crate::limits::Limits;
use protocol::id::KiloSessionId;
use protocol::sandbox::Permissions;
use std::borrow::Cow;

/// Follows one agent session from prompt to end of turn, turn after turn.
pub struct Turn {
    limits: Limits,
    permissions: Permissions,
    session: KiloSessionId,
    phase: Phase,
    /// The last error of this turn.
    error: Option<String>,
    /// Events were missed since the prompt, and what they said is not known yet.
    missed: bool,
    /// When to ask again for what was missed.
    catch_up_at: Option<i64>,
}

/// How far the turn is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no turn.
    None,
    /// The prompt is on its way.
    Prompted { give_up_at: i64 },
    /// The agent works.
    Open {
        /// Set while the agent waits for the network.
        offline_until: Option<i64>,
        /// Set while the model refuses.
        retrying_until: Option<i64>,
    },
    /// The agent says that it is done; the turn ends as `end` at `at` at the latest.
    Closing { end: TurnEnd, at: i64 },
    /// We have asked the agent to stop before it took the prompt up. What it answers to that says nothing: it answers the same when it is idle, and
    /// begins afterwards. The job bounds this.
    Withdrawn,
    /// We have asked the agent to stop.
    Stopping { give_up_at: i64 },
}

const OPEN: Phase = Phase::Open { offline_until: None, retrying_until: None };

impl Turn {
    /// For the agent session `session`, whose requests for permission are answered as `permissions` says.
    pub fn new(limits: &Limits, session: KiloSessionId, permissions: Permissions) -> Self {
        Self {
            limits: limits.clone(),
            permissions,
            session,
            phase: Phase::None,
            error: None,
            missed: false,
            catch_up_at: None,
        }
    }

    /// Takes what happened at `now_ms`, returns what to do, in order.
    pub fn receive(&mut self, now_ms: i64, input: Input<'_>) -> Vec<Output> {
        match input {
            Input::Agent(event) => self.on_event(now_ms, event),
            Input::CaughtUp(found) => self.on_caught_up(now_ms, found),
            Input::Prompt => {
                self.error = None;
                self.missed = false;
                self.catch_up_at = None;
                self.phase = Phase::Prompted { give_up_at: now_ms.saturating_add(self.limits.start_ms_max) };
                Vec::new()
            }
            Input::PromptRefused { message } => self.end(TurnEnd::Rejected { message }),
            Input::ServerGone { message } => self.end(TurnEnd::Failed { message }),
            Input::Status { busy } => self.on_status(busy),
            Input::Stopping => {
                match self.phase {
                    Phase::Prompted { .. } => self.phase = Phase::Withdrawn,
                    Phase::Open { .. } => self.stopping(now_ms),
                    Phase::None | Phase::Withdrawn | Phase::Closing { .. } | Phase::Stopping { .. } => {}
                }
                Vec::new()
            }
            Input::StreamResumed => self.catch_up(),
            Input::Tick => self.tick(now_ms),
        }
    }

    /// When a `Tick` is due.
    pub fn next_deadline(&self) -> Option<i64> {
        [self.phase_deadline(), self.catch_up_at].into_iter().flatten().min()
    }

    /// Whether the agent was asked to stop, and may yet take the prompt up: it is not at rest, whatever it answered.
    pub fn may_yet_begin(&self) -> bool {
        self.phase == Phase::Withdrawn
    }

    fn phase_deadline(&self) -> Option<i64> {
        match &self.phase {
            Phase::None | Phase::Withdrawn => None,
            Phase::Prompted { give_up_at } | Phase::Stopping { give_up_at } => Some(*give_up_at),
            Phase::Open { offline_until, retrying_until } => {
                [*offline_until, *retrying_until].into_iter().flatten().min()
            }
            Phase::Closing { at, .. } => Some(*at),
        }
    }

    fn on_event(&mut self, now_ms: i64, event: &AgentEvent<'_>) -> Vec<Output> {
        match event.kind.as_ref() {
            // A sub-agent's requests block our turn just as well.
            "permission.asked" => self.on_permission(event),
            "question.asked" => on_question(event),
            "insufficient_funds" | "payment_required" => self.on_payment(&event.kind),
            "session.error" if self.is_ours(event) => self.on_error(event),
            "session.network.asked" if self.is_ours(event) => self.on_offline(now_ms),
            "session.status" if self.is_ours(event) => self.on_own_status(now_ms, event),
            "session.turn.close" if self.is_ours(event) => self.on_close(now_ms, event),
            "session.turn.open" if self.is_ours(event) => {
                if matches!(self.phase, Phase::Prompted { .. } | Phase::Closing { .. }) {
                    self.error = None;
                    self.phase = OPEN;
                }
                self.on_work(now_ms)
            }
            _ => {
                self.on_activity(now_ms, event);
                Vec::new()
            }
        }
    }

    fn on_permission(&self, event: &AgentEvent<'_>) -> Vec<Output> {
        // A person answers; or nobody needs to any more.
        if self.permissions == Permissions::Ask || matches!(self.phase, Phase::Withdrawn | Phase::Stopping { .. }) {
            return Vec::new();
        }
        event
            .read::<Request>()
            .map(|request| Output::ReplyPermission { id: request.id.into_owned() })
            .into_iter()
            .collect()
    }

    fn on_payment(&mut self, kind: &str) -> Vec<Output> {
        if self.is_running() { self.end(TurnEnd::Fatal { error: kind.to_owned() }) } else { Vec::new() }
    }

    fn on_error(&mut self, event: &AgentEvent<'_>) -> Vec<Output> {
        let error = event.read::<ErrorOf>().map(|of| of.error).unwrap_or_default();
        match &self.phase {
            Phase::Prompted { .. } if error.is_terminal() => self.end(TurnEnd::Fatal { error: error.message() }),
            Phase::Prompted { .. } => self.end(TurnEnd::Rejected { message: error.message() }),
            Phase::Open { .. } if error.is_terminal() => self.end(TurnEnd::Fatal { error: error.message() }),
            Phase::Open { .. } => {
                self.error = Some(error.message());
                Vec::new()
            }
            Phase::Closing { .. } | Phase::None | Phase::Withdrawn | Phase::Stopping { .. } => Vec::new(),
        }
    }

    fn on_offline(&mut self, now_ms: i64) -> Vec<Output> {
        if let Phase::Open { offline_until, .. } = &mut self.phase {
            offline_until.get_or_insert(now_ms.saturating_add(self.limits.offline_ms_max));
        }
        Vec::new()
    }

    fn on_own_status(&mut self, now_ms: i64, event: &AgentEvent<'_>) -> Vec<Output> {
        let Some(StatusOf { status }) = event.read::<StatusOf>() else { return Vec::new() };
        match (status.kind.as_ref(), &mut self.phase) {
            ("offline", Phase::Open { .. }) => return self.on_offline(now_ms),
            ("retry", Phase::Open { retrying_until, .. }) => {
                retrying_until.get_or_insert(now_ms.saturating_add(self.limits.retry_ms_max));
                self.error = status.message.map(Cow::into_owned);
            }
            // Between two retries the session is busy too: only output ends a series of refusals.
            ("busy", Phase::Open { offline_until, .. }) => *offline_until = None,
            ("busy", Phase::Withdrawn | Phase::Stopping { .. }) => return self.on_work(now_ms),
            _ => self.on_activity(now_ms, event),
        }
        Vec::new()
    }

    fn on_close(&mut self, now_ms: i64, event: &AgentEvent<'_>) -> Vec<Output> {
        let reason = event.read::<Closed>().and_then(|closed| closed.reason).unwrap_or_default();
        match &self.phase {
            Phase::None | Phase::Closing { .. } => return Vec::new(),
            // What closes before the prompt was taken up is the turn before.
            Phase::Prompted { .. } | Phase::Withdrawn => return Vec::new(),
            Phase::Stopping { .. } => return self.end(TurnEnd::Interrupted),
            Phase::Open { .. } => {}
        }
        let end = match reason.as_ref() {
            "error" => TurnEnd::Failed {
                message: self.error.take().unwrap_or_else(|| "The agent ended its turn with an error".to_owned()),
            },
            "interrupted" => TurnEnd::Interrupted,
            // Another prompt takes its place at once.
            "superseded" => {
                self.phase = Phase::Prompted { give_up_at: now_ms.saturating_add(self.limits.start_ms_max) };
                return Vec::new();
            }
            _ => TurnEnd::Completed,
        };
        self.phase = Phase::Closing { end, at: now_ms.saturating_add(self.limits.quiet_ms) };
        vec![Output::AskStatus]
    }

    /// The agent works. If it was asked to stop, it had not begun by then, and is asked again.
    fn on_work(&mut self, now_ms: i64) -> Vec<Output> {
        match self.phase {
            Phase::Withdrawn => self.stopping(now_ms),
            Phase::Stopping { .. } => {}
            Phase::None | Phase::Prompted { .. } | Phase::Open { .. } | Phase::Closing { .. } => return Vec::new(),
        }
        vec![Output::AbortAgain]
    }

    fn stopping(&mut self, now_ms: i64) {
        self.phase = Phase::Stopping { give_up_at: now_ms.saturating_add(self.limits.abort_settle_ms) };
    }

    /// Anything else that is said about our session: it is not quiet, and a model that had refused may have begun to answer.
    fn on_activity(&mut self, now_ms: i64, event: &AgentEvent<'_>) {
        let is_output = matches!(event.kind.as_ref(), "message.part.delta" | "message.part.updated");
        let matters = match &self.phase {
            Phase::Closing { .. } => true,
            Phase::Open { offline_until, retrying_until } => {
                is_output && (offline_until.is_some() || retrying_until.is_some())
            }
            Phase::None | Phase::Prompted { .. } | Phase::Withdrawn | Phase::Stopping { .. } => false,
        };
        if !matters || !self.is_ours(event) {
            return;
        }
        match &mut self.phase {
            Phase::Closing { at, .. } => *at = now_ms.saturating_add(self.limits.quiet_ms),
            _ => self.phase = OPEN,
        }
    }

    fn on_status(&mut self, busy: bool) -> Vec<Output> {
        match (&self.phase, busy) {
            (Phase::Closing { end, .. }, false) => {
                let end = end.clone();
                self.end(end)
            }
            (Phase::Stopping { .. }, false) => self.end(TurnEnd::Interrupted),
            _ => Vec::new(),
        }
    }

    fn catch_up(&mut self) -> Vec<Output> {
        self.catch_up_at = None;
        if self.phase == Phase::None {
            return Vec::new();
        }
        self.missed = true;
        vec![Output::CatchUp]
    }

    fn on_caught_up(&mut self, now_ms: i64, found: Option<&TurnFound>) -> Vec<Output> {
        if !self.missed || self.phase == Phase::None {
            return Vec::new();
        }
        let Some(found) = found else {
            self.catch_up_at = Some(now_ms.saturating_add(self.limits.gap_retry_ms));
            return Vec::new();
        };
        self.missed = false;
        self.catch_up_at = None;
        match (&self.phase, found.busy) {
            (Phase::Prompted { .. }, true) => {
                self.phase = OPEN;
                Vec::new()
            }
            (Phase::Withdrawn | Phase::Stopping { .. }, true) => self.on_work(now_ms),
            // The whole turn fell into the gap; or the prompt has yet to be taken up.
            (Phase::Prompted { .. } | Phase::Withdrawn, false) if !found.answered => Vec::new(),
            (Phase::Withdrawn, false) => self.end(TurnEnd::Interrupted),
            // Its close did, and with it its reason.
            (Phase::Prompted { .. } | Phase::Open { .. }, false) => {
                let end = self.end_found(found.error.as_ref());
                self.end(end)
            }
            (_, busy) => self.on_status(busy),
        }
    }

    /// How a turn ended whose close was missed.
    fn end_found(&mut self, error: Option<&FoundError>) -> TurnEnd {
        match (error, self.error.take()) {
            (Some(FoundError::Aborted), _) => TurnEnd::Interrupted,
            (Some(FoundError::Failed { message, terminal: true }), _) => TurnEnd::Fatal { error: message.clone() },
            (Some(FoundError::Failed { message, terminal: false }), _) => TurnEnd::Failed { message: message.clone() },
            (None, Some(message)) => TurnEnd::Failed { message },
            (None, None) => TurnEnd::Completed,
        }
    }

    fn tick(&mut self, now_ms: i64) -> Vec<Output> {
        let due = |at: Option<i64>| at.is_some_and(|at| at <= now_ms);
        if due(self.phase_deadline()) {
            return self.on_late();
        }
        if due(self.catch_up_at) { self.catch_up() } else { Vec::new() }
    }

    /// The phase has lasted too long.
    fn on_late(&mut self) -> Vec<Output> {
        let end = match &self.phase {
            Phase::None | Phase::Withdrawn => return Vec::new(),
            Phase::Prompted { .. } => TurnEnd::Rejected {
                message: if self.missed {
                    "The agent's event stream broke, and no turn was seen to begin".to_owned()
                } else {
                    "The agent server accepted the prompt and did nothing".to_owned()
                },
            },
            Phase::Open { offline_until, .. } => TurnEnd::Fatal {
                error: match (offline_until, self.error.take()) {
                    (None, Some(message)) => format!("The model keeps refusing: {message}"),
                    (None, None) => "The model keeps refusing".to_owned(),
                    (Some(_), _) => "The model cannot be reached over the network".to_owned(),
                },
            },
            Phase::Closing { end, .. } => end.clone(),
            Phase::Stopping { .. } => TurnEnd::Interrupted,
        };
        self.end(end)
    }

    /// Whether there is a turn.
    #[cfg(test)]
    pub(super) fn is_on(&self) -> bool {
        self.phase != Phase::None
    }

    /// The phase, in a word.
    #[cfg(test)]
    pub(super) fn state(&self) -> &'static str {
        match &self.phase {
            Phase::None => "none",
            Phase::Prompted { .. } => "prompted",
            Phase::Open { offline_until: None, retrying_until: None } => "open",
            Phase::Open { .. } => "waiting",
            Phase::Closing { .. } => "closing",
            Phase::Withdrawn => "withdrawn",
            Phase::Stopping { .. } => "stopping",
        }
    }

    /// Whether a turn is on, and not being stopped.
    fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Prompted { .. } | Phase::Open { .. })
    }

    fn is_ours(&self, event: &AgentEvent<'_>) -> bool {
        event.session_id().is_some_and(|session| session == self.session.as_str())
    }

    fn end(&mut self, end: TurnEnd) -> Vec<Output> {
        if self.phase == Phase::None {
            return Vec::new();
        }
        self.phase = Phase::None;
        self.catch_up_at = None;
        vec![Output::Ended(end)]
    }
}

/// A question that belongs to a tool call is the user's to answer. One without is the agent's own housekeeping ("Snapshot is slow …").
fn on_question(event: &AgentEvent<'_>) -> Vec<Output> {
    match event.read::<Request>() {
        Some(Request { id, tool: None }) => vec![Output::RejectQuestion { id: id.into_owned() }],
        _ => Vec::new(),
    }
}
