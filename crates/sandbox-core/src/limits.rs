//! Every bound of the container side, in one place (design 6).

use protocol::sandbox::SNAPSHOT_BYTES_MAX;
use serde::Deserialize;
use serde::Serialize;

/// The limits of the machines in this crate. The unit is the end of each name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How long the agent may take from a stop request to the end of its turn. Beyond it the job ends without the turn's last
    /// events. Measured: 20–360 ms (spec/kilo.md 4).
    pub abort_settle_ms: i64,
    /// An open socket that acknowledges nothing, or takes no byte, for this long is dead, whatever TCP says.
    pub ack_ms_max: i64,
    /// The whole of auto-commit, hooks and push included (spec/session.md 8.7).
    pub auto_commit_ms_max: i64,
    /// A frame is closed when it holds this much: large enough that a burst costs few frames, small
    /// enough that one is soon written.
    pub batch_bytes_max: usize,
    /// How long events wait for company before they are sent: a burst becomes one frame, a person does not notice.
    pub batch_ms: i64,
    /// Asking git for the current branch: local, normally some ms.
    pub branch_ms_max: i64,
    /// Condensing the conversation: one call of the model (spec/session.md 8.7).
    pub condense_ms_max: i64,
    /// From "open the sockets" to "both are open", reconnects included. Beyond it the prompt is not sent.
    pub connect_ms_max: i64,
    /// One event as it travels. 16 KiB below the frame's limit, for the envelope (protocol::ingest::FRAME_BYTES_MAX).
    pub event_bytes_max: usize,
    /// What the reader keeps of one agent event beyond its cut strings, before it leaves out whole values.
    pub event_read_bytes_max: usize,
    /// Waiting for the last acknowledgements at the end of a job: a little more than one outage's budget.
    pub finish_ms_max: i64,
    /// What is kept of one answer of the agent server after a gap in its events: some long turns' messages.
    pub gap_answer_bytes_max: usize,
    /// Entities that the stream may speak of while the agent server is asked; a burst has a handful.
    pub gap_entities_max: usize,
    /// Until the agent server is asked again, when it did not answer after a gap in its events.
    pub gap_retry_ms: i64,
    /// Opening a socket, and again the object's first frame on it (spec/session.md 8.6: 10 s; the shell's own timeout comes first).
    pub greeting_ms_max: i64,
    /// The wrapper's sign of life, independent of the agent server's (spec/session.md 5.5).
    pub heartbeat_ms: i64,
    /// How many message ids are remembered against running one twice. A session has some prompts at a time, never hundreds.
    pub message_ids_max: usize,
    /// How long the agent server may wait for its model's network before the turn has failed (it waits for ever by itself, spec/kilo.md 6).
    pub offline_ms_max: i64,
    /// Silence after `session.turn.close` that ends the turn when no status arrives (spec/kilo.md 5).
    pub quiet_ms: i64,
    /// The longest pause between two attempts to reach the object.
    pub reconnect_backoff_ms_max: i64,
    /// The first pause between two attempts; doubled each time.
    pub reconnect_backoff_ms_min: i64,
    /// One outage. Beyond it nobody waits for this execution any more.
    pub reconnect_ms_max: i64,
    /// How long a new connection must last, or be acknowledged once, to end an outage: a socket that is opened and at once closed
    /// spends the budget.
    pub reconnect_stable_ms: i64,
    /// How long the agent may go on being refused by its model (429, 500) without a word of output.
    pub retry_ms_max: i64,
    /// What the socket's writer may hold. A stalled socket costs this much memory, and never stops the reading of the agent.
    pub send_bytes_max: usize,
    /// On SIGTERM, the whole of it, with snapshots and work in progress: then the process ends by itself, with exit code 1
    /// (spec/session.md 8.3). Inside the 30 s that a container has (crates/object-core, `stop_ms`).
    pub shutdown_ms_max: u64,
    /// A snapshot of the conversation as it travels. Beyond it the images that the agent was shown are left out.
    pub snapshot_bytes_max: u64,
    /// Un-acknowledged events on disk. Beyond it the oldest are given up, with an announcement (design 3).
    pub spool_bytes_max: usize,
    /// What of them is also in memory.
    pub spool_resident_bytes_max: usize,
    /// Acknowledged bytes that the spool's file may hold before it is rewritten.
    pub spool_slack_bytes: u64,
    /// From the prompt to `session.turn.open`. An unknown agent or session answers 204 and does nothing (spec/kilo.md 4).
    pub start_ms_max: i64,
    /// The longest string of an event, in bytes of JSON: text of messages, contents of written files (design 3).
    pub string_bytes_max: usize,
    /// The longest output or raw input of a tool, in characters (spec/session.md 5.3).
    pub tool_chars_max: usize,
    /// No agent event for this long: the subscription is opened anew. The agent server beats every 10 s (spec/session.md 8.7).
    pub transport_ms_max: i64,
    /// The same in bytes: a few of them can be as large as a frame.
    pub volatile_bytes_max: usize,
    /// Volatile events that wait for a connection. Beyond it the oldest are dropped (spec/session.md 8.6).
    pub volatile_events_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            abort_settle_ms: 5_000,
            ack_ms_max: 30_000,
            auto_commit_ms_max: 120_000,
            batch_bytes_max: 64 * 1024,
            batch_ms: 50,
            branch_ms_max: 10_000,
            condense_ms_max: 180_000,
            connect_ms_max: 30_000,
            event_bytes_max: protocol::ingest::FRAME_BYTES_MAX - 16 * 1024,
            event_read_bytes_max: 2 * 1024 * 1024,
            finish_ms_max: 330_000,
            gap_answer_bytes_max: 8 * 1024 * 1024,
            gap_entities_max: 4_096,
            gap_retry_ms: 2_000,
            greeting_ms_max: 12_000,
            heartbeat_ms: 20_000,
            message_ids_max: 256,
            offline_ms_max: 60_000,
            quiet_ms: 300,
            reconnect_backoff_ms_max: 8_000,
            reconnect_backoff_ms_min: 1_000,
            reconnect_ms_max: 300_000,
            reconnect_stable_ms: 10_000,
            retry_ms_max: 600_000,
            send_bytes_max: 1024 * 1024,
            shutdown_ms_max: 20_000,
            snapshot_bytes_max: SNAPSHOT_BYTES_MAX,
            spool_bytes_max: 64 * 1024 * 1024,
            spool_resident_bytes_max: 4 * 1024 * 1024,
            spool_slack_bytes: 8 * 1024 * 1024,
            start_ms_max: 60_000,
            string_bytes_max: 256 * 1024,
            tool_chars_max: 10_000,
            transport_ms_max: 15_000,
            volatile_bytes_max: 4 * 1024 * 1024,
            volatile_events_max: 1_000,
        }
    }
}

/// Limits that contradict each other: what must hold, for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} must hold")]
pub struct LimitsError(&'static str);

/// Of a frame, what belongs to its envelope.
const ENVELOPE_BYTES: usize = 1_000;

impl Limits {
    /// Refuses numbers that cannot work together.
    pub fn check(&self) -> Result<(), LimitsError> {
        let frame_bytes = self.event_bytes_max.saturating_add(ENVELOPE_BYTES);
        [
            // The end of a job outlives one whole outage.
            (self.finish_ms_max > self.reconnect_ms_max, "finish_ms_max > reconnect_ms_max"),
            (
                self.reconnect_backoff_ms_min <= self.reconnect_backoff_ms_max,
                "reconnect_backoff_ms_min <= reconnect_backoff_ms_max",
            ),
            // A string fits an event, an event fits a frame with its envelope.
            (self.string_bytes_max.saturating_mul(2) < self.event_bytes_max, "2 * string_bytes_max < event_bytes_max"),
            (frame_bytes < protocol::ingest::FRAME_BYTES_MAX, "event_bytes_max + 1000 < the bytes of a frame"),
            (self.snapshot_bytes_max <= SNAPSHOT_BYTES_MAX, "snapshot_bytes_max <= what the store takes"),
            (self.spool_resident_bytes_max < self.spool_bytes_max, "spool_resident_bytes_max < spool_bytes_max"),
            // A socket that is well says something before it is taken for dead.
            (self.heartbeat_ms < self.ack_ms_max, "heartbeat_ms < ack_ms_max"),
        ]
        .into_iter()
        .find(|(holds, _)| !holds)
        .map_or(Ok(()), |(_, what)| Err(LimitsError(what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_numbers_work_together_and_others_are_told_why_not() {
        let base = Limits::default();
        assert_eq!(base.check(), Ok(()));
        // The agent server beats every 10 s.
        assert!(base.transport_ms_max > 10_000);
        let refused = |limits: Limits| limits.check().unwrap_err().to_string();
        assert_eq!(refused(Limits { finish_ms_max: 1, ..base.clone() }), "finish_ms_max > reconnect_ms_max must hold");
        for wrong in [
            Limits { reconnect_backoff_ms_min: 9_000, ..base.clone() },
            Limits { string_bytes_max: 600_000, ..base.clone() },
            Limits { event_bytes_max: 1 << 20, ..base.clone() },
            Limits { spool_bytes_max: 1, ..base.clone() },
            Limits { snapshot_bytes_max: 1 << 40, ..base.clone() },
            Limits { heartbeat_ms: 30_000, ..base.clone() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_limit_is_overridden_by_its_name() {
        let limits: Limits = serde_json::from_str(r#"{"batch_ms":7}"#).unwrap();
        assert_eq!(limits, Limits { batch_ms: 7, ..Limits::default() });
    }
}
