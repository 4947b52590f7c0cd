//! The bounds of the town role.

use serde::Deserialize;
use std::time::Duration;

/// Each can be set in the `HOLDFAST_LIMITS` of the container, a JSON object of these names, unless `ENVIRONMENT` is `production`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Between two heartbeats of an agent. The town takes an agent for dead after 90 s without (spec/town.md 6.7, 12).
    pub heartbeat_interval_ms: u64,
    /// A heartbeat: well below the interval, so that one slow answer does not silence the other agents.
    pub heartbeat_timeout_ms: u64,
    /// The report of an eviction; the container has other things to save after it (spec/town.md 6.5).
    pub eviction_timeout_ms: u64,
    /// An acknowledgement. A lost one is repeated by the next heartbeat or health check.
    pub ready_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 30_000,
            heartbeat_timeout_ms: 10_000,
            eviction_timeout_ms: 10_000,
            ready_timeout_ms: 10_000,
        }
    }
}

impl Limits {
    /// Between two rounds of heartbeats; never zero.
    pub fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.heartbeat_interval_ms.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_limits_are_set_and_those_of_others_are_ignored() {
        let limits: Limits = serde_json::from_str(r#"{"eviction_timeout_ms":5,"drain_timeout_ms":7}"#).unwrap();
        assert_eq!(limits, Limits { eviction_timeout_ms: 5, ..Limits::default() });
    }
}
