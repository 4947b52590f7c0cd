//! Every number of a session, with its unit in its name, its reason and its origin.

use crate::callback;
use crate::message::Effect;
use object_core::time::DAY;
use object_core::time::HOUR;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;

/// The longest text that a container or an agent gives us to keep: an error, the last message of a callback. A row holds 2 MB, and JSON in JSON may take
/// seven bytes for one.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The longest message of a step, which a person reads.
pub const STEP_MESSAGE_BYTES_MAX: usize = 10_000;
/// The longest name of a branch, as of `upstreamBranch`.
pub const BRANCH_BYTES_MAX: usize = 255;

/// The newest executions of a session that are remembered: the active one, those whose wrappers may still deliver, and those whose logs are asked for.
pub const EXECUTIONS_KEPT: i64 = 200;
/// The newest attempts at preparing and starting: one is under way, and a preparation has three.
pub const ATTEMPTS_KEPT: i64 = 20;

/// What a text ends with that was cut.
const CUT: &str = " … [cut]";

/// `text`, cut to `bytes_max` bytes with the marker included, at the end of a character.
pub fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(CUT.len()));
    let (kept, _) = text.split_at_checked(end).unwrap_or_default();
    Cow::Owned(format!("{kept}{CUT}"))
}

/// The limits. Its `Default` is production; an override is JSON with the same names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How long a disconnected wrapper may take to come back before its execution fails (spec/session.md 4.3).
    pub disconnect_grace_ms: i64,
    /// From the agent's taking the prompt to the first ingest connection (spec/session.md 14, `PENDING_START_TIMEOUT_MS`).
    pub pending_start_ms: i64,
    /// Without a heartbeat, which come every 20 s (spec/session.md 14, `STALE_THRESHOLD_MS` as deployed).
    pub stale_ms: i64,
    /// Without any event but heartbeats (spec/session.md 4.1, 5). A pending question suspends it.
    pub hung_ms: i64,
    /// The longest execution (spec/session.md 4.1, 6).
    pub max_runtime_ms: i64,
    /// The longest preparation or start, from being owed to its outcome: below the platform's 15 min for one alarm (spec/session.md 4.5).
    pub work_ms: i64,
    /// How often a container is asked for the state of accepted work, in case its report was lost or it was.
    pub work_ask_ms: i64,
    /// How often a preparation is tried that fails for a passing reason: a network, a container that is full or ending (spec/session.md 8.1).
    pub preparation_attempts: i64,
    /// The first pause after an effect failed; it doubles up to `retry_max_ms`.
    pub retry_ms: i64,
    /// The longest pause between two tries of what somebody waits for.
    pub retry_max_ms: i64,
    /// The longest pause between two tries of a cleanup, which is tried until it is done: if it cannot be, its alarms must not cost more than it would save.
    pub cleanup_retry_max_ms: i64,
    /// How often a directory entry is tried before the session is given up.
    pub directory_attempts: i64,
    /// Heartbeats and activity are written at most this often (spec/session.md 5.2): rows are money.
    pub activity_interval_ms: i64,
    /// How long after its end an execution's wrapper may still deliver stored events (design 3, `INGEST_DRAIN_WINDOW_MS`).
    pub ingest_drain_ms: i64,
    /// A replay round, in bytes of data (spec/session.md 6.3).
    pub replay_round_bytes: i64,
    /// What one connection replays, before the client has to resume (design 3).
    pub replay_connection_bytes: i64,
    /// Without an execution, until the session's agent server is stopped (spec/session.md 10.1, `KILO_SERVER_IDLE_TIMEOUT_MS`).
    pub idle_stop_ms: i64,
    /// Without any activity, until the session is deleted (spec/session.md 4.1, 3).
    pub session_life_ms: i64,
    /// How long an event is kept (spec/session.md 4.1, 7).
    pub event_life_ms: i64,
    /// Heartbeats younger than this are healthy (spec/session.md 2.9).
    pub healthy_ms: i64,
    /// A run without a heartbeat yet is healthy for this long (spec/session.md 2.9).
    pub startup_grace_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            disconnect_grace_ms: 10 * SECOND,
            pending_start_ms: 3 * MINUTE,
            stale_ms: 10 * MINUTE,
            hung_ms: 5 * MINUTE,
            max_runtime_ms: 30 * MINUTE,
            work_ms: 12 * MINUTE,
            work_ask_ms: 30 * SECOND,
            preparation_attempts: 3,
            retry_ms: 2 * SECOND,
            retry_max_ms: MINUTE,
            cleanup_retry_max_ms: HOUR,
            directory_attempts: 5,
            activity_interval_ms: 30 * SECOND,
            ingest_drain_ms: 10 * MINUTE,
            replay_round_bytes: 1 << 20,
            replay_connection_bytes: 32 << 20,
            idle_stop_ms: 15 * MINUTE,
            session_life_ms: 90 * DAY,
            event_life_ms: 90 * DAY,
            healthy_ms: MINUTE,
            startup_grace_ms: 2 * MINUTE,
        }
    }
}

/// Limits that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// A number that must be positive is not.
    #[error("session limits must all be over 0")]
    NotPositive,
    /// Signs of life are written too rarely: an execution would be ended that works.
    #[error("session limits must keep activity_interval_ms < stale_ms and activity_interval_ms < hung_ms")]
    Activity,
    /// Lost work would never be asked for within its time.
    #[error("session limits must keep work_ask_ms < work_ms")]
    Ask,
    /// The first pause would be longer than the longest.
    #[error("session limits must keep retry_ms <= retry_max_ms and retry_ms <= cleanup_retry_max_ms")]
    Retry,
}

impl Limits {
    /// Refuses numbers that cannot work together.
    pub fn check(&self) -> Result<(), LimitsError> {
        let numbers = [
            self.disconnect_grace_ms,
            self.pending_start_ms,
            self.stale_ms,
            self.hung_ms,
            self.max_runtime_ms,
            self.work_ms,
            self.work_ask_ms,
            self.preparation_attempts,
            self.retry_ms,
            self.retry_max_ms,
            self.cleanup_retry_max_ms,
            self.directory_attempts,
            self.activity_interval_ms,
            self.ingest_drain_ms,
            self.replay_round_bytes,
            self.replay_connection_bytes,
            self.idle_stop_ms,
            self.session_life_ms,
            self.event_life_ms,
            self.healthy_ms,
            self.startup_grace_ms,
        ];
        if numbers.iter().any(|number| *number <= 0) {
            Err(LimitsError::NotPositive)
        } else if self.activity_interval_ms >= self.stale_ms.min(self.hung_ms) {
            Err(LimitsError::Activity)
        } else if self.work_ask_ms >= self.work_ms {
            Err(LimitsError::Ask)
        } else if self.retry_ms > self.retry_max_ms.min(self.cleanup_retry_max_ms) {
            Err(LimitsError::Retry)
        } else {
            Ok(())
        }
    }

    /// How long to wait for news of a try before the next one. Longer than the shell's own timeout on the effect, which is
    /// [`Effect::timeout_ms`].
    pub fn retry_after_ms(&self, effect: &Effect, attempt: i64) -> i64 {
        effect.timeout_ms().saturating_add(self.pause_ms(effect, attempt))
    }

    /// The pause after failure number `attempt` of an effect.
    pub fn pause_ms(&self, effect: &Effect, attempt: i64) -> i64 {
        match effect {
            Effect::Callback(_) => callback::pause_ms(attempt),
            effect if effect.is_cleanup() => self.doubled_ms(attempt).min(self.cleanup_retry_max_ms),
            _ => self.backoff_ms(attempt),
        }
    }

    /// The pause after failure number `attempt` of what somebody waits for.
    pub fn backoff_ms(&self, attempt: i64) -> i64 {
        self.doubled_ms(attempt).min(self.retry_max_ms)
    }

    fn doubled_ms(&self, attempt: i64) -> i64 {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(16);
        self.retry_ms.saturating_mul(1_i64.checked_shl(doublings).unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut(&"ä".repeat(20), 20), "äääää … [cut]");
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let limits = Limits::default();
        let pauses: Vec<_> = [1, 2, 3, 6, 60].map(|n| limits.backoff_ms(n)).into();
        assert_eq!(pauses, [2_000, 4_000, 8_000, 60_000, 60_000]);
    }

    #[test]
    fn the_published_numbers_work_together_and_others_are_told_why_not() {
        let base = Limits::default();
        assert_eq!(base.check(), Ok(()));
        let refused = |limits: Limits| limits.check().unwrap_err();
        assert_eq!(refused(Limits { hung_ms: 30 * SECOND, ..base.clone() }), LimitsError::Activity);
        assert_eq!(refused(Limits { activity_interval_ms: 10 * MINUTE, ..base.clone() }), LimitsError::Activity);
        assert_eq!(refused(Limits { work_ms: 30 * SECOND, ..base.clone() }), LimitsError::Ask);
        assert_eq!(refused(Limits { retry_ms: MINUTE + 1, ..base.clone() }), LimitsError::Retry);
        assert_eq!(refused(Limits { cleanup_retry_max_ms: SECOND, ..base }), LimitsError::Retry);
    }

    #[test]
    fn every_number_must_be_over_0() {
        let all = serde_json::to_value(Limits::default()).unwrap();
        for name in all.as_object().unwrap().keys() {
            for number in [0, -1] {
                let limits: Limits = serde_json::from_value(serde_json::json!({ name: number })).unwrap();
                assert_eq!(limits.check(), Err(LimitsError::NotPositive), "{name}");
            }
        }
    }
}
