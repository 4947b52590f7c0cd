//! Every number of a town, with its unit in its name, its reason and its origin.

use object_core::time::DAY;
use object_core::time::MINUTE;
use serde::Deserialize;
use serde::Serialize;

/// The limits. Its `Default` is production; an override is JSON with the same names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// From an eviction until the nonce is handed out in a health check. Before that, the container that answers may still be the
    /// evicted one: it waits up to 10 min for its agents, saves their work and exits (spec/town.md 5.5).
    pub drain_handoff_ms: i64,
    /// From one such health check to the next.
    pub drain_handoff_retry_ms: i64,
    /// From an eviction until the drain ends by itself (spec/town.md 5.6).
    pub drain_expiry_ms: i64,
    /// How long an evicted instance is remembered: many times the platform's grace, after which it is dead.
    pub evicted_kept_ms: i64,
    /// How long a town event is kept (spec/town.md 4.1).
    pub event_kept_ms: i64,
    /// How many town events, and how many evicted instances, are kept at most: a container that reports without end fills no disk.
    pub rows_kept: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drain_handoff_ms: 11 * MINUTE,
            drain_handoff_retry_ms: MINUTE,
            drain_expiry_ms: 15 * MINUTE,
            evicted_kept_ms: DAY,
            event_kept_ms: 7 * DAY,
            rows_kept: 1_000,
        }
    }
}

/// Limits that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// A number that must be positive is not.
    #[error("town limits must all be over 0")]
    NotPositive,
    /// A drain would end before its nonce was ever handed out, or forget whom it is about.
    #[error("town limits must keep drain_handoff_ms < drain_expiry_ms <= evicted_kept_ms")]
    Order,
}

impl Limits {
    /// Refuses numbers that cannot work together.
    pub fn check(&self) -> Result<(), LimitsError> {
        let numbers = [self.drain_handoff_ms, self.drain_handoff_retry_ms, self.event_kept_ms, self.rows_kept];
        if numbers.iter().any(|number| *number <= 0) {
            return Err(LimitsError::NotPositive);
        }
        if self.drain_handoff_ms < self.drain_expiry_ms && self.drain_expiry_ms <= self.evicted_kept_ms {
            Ok(())
        } else {
            Err(LimitsError::Order)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_numbers_are_in_order() {
        let limits = Limits::default();
        assert_eq!(limits.check(), Ok(()));
        assert_eq!((limits.drain_handoff_ms, limits.drain_expiry_ms), (660_000, 900_000));
    }

    #[test]
    fn numbers_that_cannot_work_together_are_refused() {
        let handoff_after_expiry = Limits { drain_expiry_ms: 7 * MINUTE, ..Limits::default() };
        assert_eq!(handoff_after_expiry.check(), Err(LimitsError::Order));
        assert_eq!(Limits { evicted_kept_ms: 1, ..Limits::default() }.check(), Err(LimitsError::Order));
        assert_eq!(Limits { drain_handoff_ms: 0, ..Limits::default() }.check(), Err(LimitsError::NotPositive));
    }
}
