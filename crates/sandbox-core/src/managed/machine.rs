//! The machine: what each input does in each status.

use super::Input;
use super::Output;
use super::Report;
use super::Status;
use super::Waiting;
use super::Waits;

/// Why an agent exited, on the wire.
const COMPLETED: &str = "completed";
const EVICTED: &str = "container eviction";
const STOPPED: &str = "stopped";
const STREAM_ERROR: &str = "stream error";

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    is_mayor: bool,
    waits: Waits,
    draining: bool,
    status: Status,
    quiet: Quiet,
    exit_reason: Option<String>,
}

/// What a running agent does between and in its turns.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Quiet {
    /// In a turn.
    Busy,
    /// The town is asked for what was left for it.
    Asking,
    /// It is being handed this.
    Handing(Waiting),
    /// It ends, or is at rest, at this time.
    Until(i64),
    /// It waits for whoever comes: the mayor for its user, every other for the end of the container.
    AtRest,
}

impl Managed {
    /// An agent that starts.
    pub fn new(is_mayor: bool, waits: Waits, draining: bool) -> Self {
        Self { is_mayor, waits, draining, status: Status::Starting, quiet: Quiet::Busy, exit_reason: None }
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Why it is over.
    pub fn exit_reason(&self) -> Option<&str> {
        self.exit_reason.as_deref()
    }

    /// Whether it ended, or is being ended, because the container ends.
    pub fn is_evicted(&self) -> bool {
        self.exit_reason.as_deref() == Some(EVICTED)
    }

    /// Whether it runs and is in no turn.
    pub fn is_idle(&self) -> bool {
        self.status == Status::Running && self.quiet != Quiet::Busy
    }

    /// Whether it runs, and nothing is expected of it any more.
    pub fn is_at_rest(&self) -> bool {
        self.status == Status::Running && self.quiet == Quiet::AtRest
    }

    /// When a `Tick` is due.
    pub fn next_deadline(&self) -> Option<i64> {
        match self.quiet {
            Quiet::Until(at) if self.status == Status::Running => Some(at),
            _ => None,
        }
    }

    /// Takes what happened at `now_ms`, returns what to do, in order.
    pub fn receive(&mut self, now_ms: i64, input: Input) -> Vec<Output> {
        match (self.status, input) {
            (Status::Starting | Status::Running, Input::Drain) => self.drain(now_ms),
            (Status::Starting | Status::Running, Input::Stop) => self.end(STOPPED),
            (Status::Starting | Status::Running, Input::Freeze) => self.end(EVICTED),
            (Status::Starting, Input::Ready) => {
                self.status = Status::Running;
                vec![Output::SyncRegistry]
            }
            (Status::Starting | Status::Running, Input::StartFailed { reason }) => {
                self.status = Status::Failed;
                self.exit_reason = Some(reason);
                vec![Output::SyncRegistry]
            }
            (Status::Running, Input::Busy | Input::Prompted) => {
                self.quiet = Quiet::Busy;
                vec![]
            }
            (Status::Running, Input::Idle) => self.idle(now_ms),
            (Status::Running, Input::Nudge(nudge)) => self.nudge(now_ms, nudge),
            (Status::Running, Input::HandedOver { taken }) => self.handed_over(taken),
            (Status::Running, Input::StreamEnded) => self.lost(),
            (Status::Running, Input::Tick) => self.tick(now_ms),
            (Status::Stopping, Input::Ended) => {
                self.status = Status::Exited;
                let reason = if self.exit_reason.as_deref() == Some(EVICTED) { EVICTED } else { STOPPED };
                vec![Output::SayExited { reason }, Output::SyncRegistry]
            }
            _ => vec![],
        }
    }

    fn drain(&mut self, now_ms: i64) -> Vec<Output> {
        self.draining = true;
        if matches!(self.quiet, Quiet::Until(_) | Quiet::Asking) {
            self.wait(now_ms);
        }
        vec![]
    }

    fn end(&mut self, reason: &'static str) -> Vec<Output> {
        self.status = Status::Stopping;
        self.exit_reason = Some(reason.to_owned());
        vec![Output::End]
    }

    /// A turn, if there was one, is over. The agent server says so more than once (spec/kilo.md 5).
    fn idle(&mut self, now_ms: i64) -> Vec<Output> {
        if self.quiet != Quiet::Busy {
            return vec![];
        }
        if self.is_mayor {
            self.quiet = Quiet::AtRest;
            return vec![Output::Report(Report::Waiting), Output::KeepConversation];
        }
        if self.draining {
            self.wait(now_ms);
            return vec![];
        }
        self.quiet = Quiet::Asking;
        vec![Output::FetchNudges]
    }

    /// A nudge that comes too late stays with the town: the next idle phase asks again.
    fn nudge(&mut self, now_ms: i64, nudge: Option<Waiting>) -> Vec<Output> {
        match (&self.quiet, nudge) {
            (Quiet::Asking, Some(nudge)) => {
                self.quiet = Quiet::Handing(nudge.clone());
                vec![Output::HandOver(nudge)]
            }
            (Quiet::Asking, None) => {
                self.wait(now_ms);
                vec![]
            }
            _ => vec![],
        }
    }

    fn handed_over(&mut self, taken: bool) -> Vec<Output> {
        let Quiet::Handing(nudge) = &self.quiet else { return vec![] };
        if taken {
            let id = nudge.id.clone();
            self.quiet = Quiet::Busy;
            return vec![Output::MarkDelivered { id }];
        }
        if self.draining {
            self.quiet = Quiet::AtRest;
            return vec![];
        }
        self.complete()
    }

    fn lost(&mut self) -> Vec<Output> {
        if self.draining {
            // Its work is still to be saved; and to the town it did not fail, its container ends.
            self.quiet = Quiet::AtRest;
            return vec![];
        }
        self.status = Status::Failed;
        self.exit_reason = Some(STREAM_ERROR.to_owned());
        vec![
            Output::SayExited { reason: STREAM_ERROR },
            Output::Report(Report::StreamError),
            Output::SyncRegistry,
            Output::Release,
        ]
    }

    fn tick(&mut self, now_ms: i64) -> Vec<Output> {
        if self.next_deadline().is_none_or(|at| now_ms < at) {
            return vec![];
        }
        if self.draining {
            self.quiet = Quiet::AtRest;
            return vec![];
        }
        self.complete()
    }

    fn complete(&mut self) -> Vec<Output> {
        self.status = Status::Exited;
        self.exit_reason = Some(COMPLETED.to_owned());
        vec![
            Output::SayExited { reason: COMPLETED },
            Output::Report(Report::Completed),
            Output::SyncRegistry,
            Output::Release,
        ]
    }

    fn wait(&mut self, now_ms: i64) {
        let wait_ms = if self.draining { self.waits.draining_idle_ms } else { self.waits.idle_ms };
        self.quiet = Quiet::Until(now_ms.saturating_add(wait_ms));
    }
}
