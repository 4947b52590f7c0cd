//! The socket's state, and the outage it may be in.

use super::Connection;
use crate::limits::Limits;

/// Where the connection stands.
pub(super) enum Link {
    /// A socket is being opened.
    Connecting { connection: Connection, give_up_at: i64 },
    /// Nothing more will happen.
    Ended,
    /// The socket is open; the object has not yet said where its log stands.
    Greeting { connection: Connection, give_up_at: i64 },
    /// Events flow.
    Open(Open),
    /// Not asked to begin.
    Unopened,
    /// Between two attempts.
    Waiting { retry_at: i64 },
}

/// An open connection.
pub(super) struct Open {
    pub connection: Connection,
    /// The last number that was sent, or that the object had.
    pub cursor: u64,
    /// Bytes of frames that the writer has not yet reported as written.
    pub unwritten: usize,
    pub heartbeat_at: i64,
    /// From when on the outage before this connection is over.
    pub stable_at: i64,
    /// When the next acknowledgement is due, while one is.
    pub ack_by: Option<i64>,
    /// When the writer's next report is due, while one is.
    pub written_by: Option<i64>,
}

impl Link {
    /// The socket that is open or being opened.
    pub(super) fn connection(&self) -> Option<Connection> {
        match self {
            Link::Connecting { connection, .. } | Link::Greeting { connection, .. } => Some(*connection),
            Link::Open(open) => Some(open.connection),
            Link::Ended | Link::Unopened | Link::Waiting { .. } => None,
        }
    }

    pub(super) fn next_deadline(&self, in_outage: bool) -> Option<i64> {
        match self {
            Link::Connecting { give_up_at, .. } | Link::Greeting { give_up_at, .. } => Some(*give_up_at),
            Link::Ended | Link::Unopened => None,
            Link::Open(open) => {
                let stable_at = in_outage.then_some(open.stable_at);
                [Some(open.heartbeat_at), stable_at, open.ack_by, open.written_by].into_iter().flatten().min()
            }
            Link::Waiting { retry_at } => Some(*retry_at),
        }
    }
}

/// Attempts without a lasting connection.
#[derive(Clone, Copy)]
pub(super) struct Outage {
    since: i64,
    /// Attempts that have been scheduled.
    pub attempts: u32,
}

impl Outage {
    pub(super) fn begin(now_ms: i64) -> Self {
        Self { since: now_ms, attempts: 0 }
    }

    /// When to try again: after 1, 2, 4, 8, 8 … seconds; `None` when that is beyond the budget.
    pub(super) fn next_attempt(&mut self, limits: &Limits, now_ms: i64) -> Option<i64> {
        let doubled = 1_i64.checked_shl(self.attempts.min(32)).unwrap_or(i64::MAX);
        let pause = limits.reconnect_backoff_ms_min.saturating_mul(doubled).min(limits.reconnect_backoff_ms_max);
        let at = now_ms.saturating_add(pause);
        self.attempts = self.attempts.saturating_add(1);
        (at.saturating_sub(self.since) <= limits.reconnect_ms_max).then_some(at)
    }
}
