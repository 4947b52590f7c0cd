//! The promises of a session (design 8), checked after every turn, and at the end.
//!
//! | Module | Promises |
//! | --- | --- |
//! | `turn` | one active execution; the transitions that exist; one callback per end; `ready` and `failed` only when it is so; one answer per caller |
//! | `journal` | P1, P4: what is acknowledged is in the log once, in order; one generation writes |
//! | `end` | P2, P3, P7, P8 and liveness, once the faults are off |

mod end;
mod journal;
mod turn;

pub use journal::Ledger;

use super::sockets::Wrapper;
use crate::sessions::link::Summary;
use protocol::id::ExecutionId;
use session_core::limits::Limits;
use session_core::message::Call;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::rc::Rc;

/// What the promises remember of one session object.
pub struct Shadow {
    /// Where the session is, for the coverage table.
    pub state: &'static str,
    /// Whether callbacks are asked for.
    pub callbacks: bool,
    /// The session was there, and is gone.
    pub ended: bool,
    /// How often the alarm rang.
    pub rings: u64,
    /// The frames of the turn that is being taken, and whose they are.
    pub taking: Vec<(Wrapper, Rc<Summary>)>,
    /// The report token that asks for the right to the snapshot in this turn.
    pub asking: Option<String>,
    /// The attempts at work, by their report tokens.
    pub attempts: BTreeMap<String, u64>,
    executions: Rc<BTreeMap<String, Execution>>,
    /// What the last turn left.
    seen: Option<turn::Seen>,
    /// Callers that were answered.
    answered: BTreeSet<i64>,
    journal: journal::Journal,
    /// The highest generation that was accepted, by execution.
    generations: BTreeMap<ExecutionId, i64>,
    /// Bodies of callbacks, by execution: owed, and received.
    callbacks_owed: BTreeMap<String, String>,
    callbacks_received: BTreeMap<String, String>,
    /// The keys of those that were once shown as given up.
    callbacks_given_up: BTreeSet<String>,
    /// Executions whose prompt reached an agent.
    prompted: BTreeMap<ExecutionId, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Execution {
    status: String,
    accepted_at: Option<i64>,
    started_at: i64,
    number: i64,
    /// The wrapper that may write.
    generation: i64,
    disconnected_at: Option<i64>,
    heartbeat_at: Option<i64>,
    event_at: Option<i64>,
    /// A person is asked.
    waits: bool,
    /// The agent has said that it has the prompt.
    said: bool,
}

impl Execution {
    /// It has ended.
    fn is_over(&self) -> bool {
        is_terminal(&self.status)
    }

    /// The agent has had its prompt.
    fn began(&self) -> bool {
        self.accepted_at.is_some() || self.said || self.status == "completed"
    }

    /// When it is over if nothing more arrives, and why (spec/session.md 4).
    fn ends_by(&self, limits: &Limits) -> Option<(i64, &'static str)> {
        let after = |since: Option<i64>, ms: i64, why| since.map(|at| (at + ms, why));
        let alive_at = Some(self.heartbeat_at.unwrap_or(self.started_at));
        let ends = match self.status.as_str() {
            "pending" => vec![
                after(Some(self.started_at), limits.work_ms + limits.pending_start_ms, "its start took too long"),
                after(self.accepted_at, limits.pending_start_ms, "its wrapper never connected"),
            ],
            "running" => vec![
                after(Some(self.started_at), limits.max_runtime_ms, "it ran too long"),
                after(alive_at, limits.stale_ms, "its wrapper is silent"),
                after(self.event_at.filter(|_| !self.waits), limits.hung_ms, "its agent is silent"),
                after(self.disconnected_at, limits.disconnect_grace_ms, "its wrapper is gone"),
            ],
            _ => vec![],
        };
        ends.into_iter().flatten().min()
    }
}

impl Shadow {
    pub fn new(callbacks: bool) -> Self {
        Self {
            state: "none",
            callbacks,
            ended: false,
            rings: 0,
            taking: Vec::new(),
            asking: None,
            attempts: BTreeMap::new(),
            executions: Rc::default(),
            seen: None,
            answered: BTreeSet::new(),
            journal: journal::Journal::default(),
            generations: BTreeMap::new(),
            callbacks_owed: BTreeMap::new(),
            callbacks_received: BTreeMap::new(),
            callbacks_given_up: BTreeSet::new(),
            prompted: BTreeMap::new(),
        }
    }
}

/// Whether this status of an execution is its last.
fn is_terminal(status: &str) -> bool {
    !matches!(status, "pending" | "running")
}

/// FNV-1a over what of an event is its own.
pub fn fingerprint(execution: &str, kind: &str, data: &str) -> u64 {
    let bytes = execution.bytes().chain([0]).chain(kind.bytes()).chain([0]).chain(data.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

pub fn call_name(call: &Call) -> &'static str {
    match call {
        Call::Delete => "delete",
        Call::Initiate => "initiate",
        Call::Interrupt => "interrupt",
        Call::Judge(_) => "judge",
        Call::KeepLogs { .. } => "keep-logs",
        Call::Register(_) => "register",
        Call::Send(_) => "send",
        Call::Update(_) => "update",
        Call::View => "view",
    }
}
