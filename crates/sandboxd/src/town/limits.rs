//! The bounds of the town role.

use sandbox_core::drain::DrainLimits;
use sandbox_core::managed::Waits;
use serde::Deserialize;
use std::time::Duration;

/// Each can be set in section `sandbox_town` of `HOLDFAST_LIMITS`: [`crate::overrides`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Between two heartbeats of an agent. The town takes an agent for dead after 90 s without (spec/town.md 6.7, 12).
    pub heartbeat_interval_ms: u64,
    /// A heartbeat: well below the interval, so that one slow answer does not silence the other agents.
    pub heartbeat_timeout_ms: u64,
    /// The report of an eviction; the container has other things to save after it (spec/town.md 6.5).
    pub eviction_timeout_ms: u64,
    /// An acknowledgement. A lost one is repeated by the next heartbeat or health check.
    pub ready_timeout_ms: u64,
    /// Any other call to the town (spec/town.md 6.4).
    pub town_call_timeout_ms: u64,
    /// A conversation on its way to or from the town, all tries together: up to 64 MiB.
    pub snapshot_ms: u64,
    /// Bringing back the agents of the last container, before the town may start others; those that take longer are waited for by nobody.
    pub hydration_ms: u64,
    /// An agent with nothing to do, before it ends (spec/town.md 6.4; `AGENT_IDLE_TIMEOUT_MS` wins).
    pub idle_ms: u64,
    /// The same of a refinery, which waits for others (`REFINERY_IDLE_TIMEOUT_MS` wins).
    pub refinery_idle_ms: u64,
    /// The same while the container drains (spec/town.md 6.4).
    pub draining_idle_ms: u64,
    /// Handing all agents the request to finish: a prompt takes up to 2.5 s (spec/kilo.md 3).
    pub drain_nudge_ms: u64,
    /// For agents to finish by themselves (spec/town.md 6.5).
    pub drain_wait_ms: u64,
    /// Ending all agents: an abort, the conversation, SIGTERM, SIGKILL, and a look whether anything is left.
    pub drain_freeze_ms: u64,
    /// Saving one worktree (spec/town.md 6.5).
    pub drain_save_ms: u64,
    /// Saving all of them, and telling the town (spec/town.md 6.5).
    pub drain_save_all_ms: u64,
    /// The receipt of one agent's work (spec/town.md 12).
    pub receipt_timeout_ms: u64,
    /// What the town was not told yet of receipts and ends, and the last call of a drain; then the same for what goes on in the background.
    pub drain_close_ms: u64,
    /// The whole drain: below the 15 min that the platform gives a container between SIGTERM and SIGKILL.
    pub drain_total_ms: u64,
    /// SIGINT: ending all agents without saving anything.
    pub interrupt_ms: u64,
}

/// Worktrees that are saved at the same time: git is busy with the disk and the network in turns.
const SAVES_AT_ONCE: usize = 4;

impl Default for Limits {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 30_000,
            heartbeat_timeout_ms: 10_000,
            eviction_timeout_ms: 10_000,
            ready_timeout_ms: 10_000,
            town_call_timeout_ms: 10_000,
            snapshot_ms: 60_000,
            hydration_ms: 60_000,
            idle_ms: 120_000,
            refinery_idle_ms: 600_000,
            draining_idle_ms: 10_000,
            drain_nudge_ms: 10_000,
            drain_wait_ms: 600_000,
            drain_freeze_ms: 20_000,
            drain_save_ms: 45_000,
            drain_save_all_ms: 120_000,
            receipt_timeout_ms: 5_000,
            drain_close_ms: 15_000,
            drain_total_ms: 780_000,
            interrupt_ms: 15_000,
        }
    }
}

impl Limits {
    /// Between two rounds of heartbeats; never zero.
    pub fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.heartbeat_interval_ms.max(1))
    }

    /// The waits of an agent.
    pub fn waits(&self, is_refinery: bool) -> Waits {
        let idle_ms = if is_refinery { self.refinery_idle_ms } else { self.idle_ms };
        Waits { idle_ms: signed(idle_ms), draining_idle_ms: signed(self.draining_idle_ms) }
    }

    /// What saving one worktree may take by itself: a receipt that says how far it came is there before the drain gives the save up.
    pub fn save_time(&self) -> Duration {
        Duration::from_millis(self.drain_save_ms.saturating_sub(self.drain_save_ms / 10))
    }

    /// Those of the drain.
    pub fn drain(&self) -> DrainLimits {
        DrainLimits {
            // Its own timeout comes first: this is for a call that does not keep it.
            notify_ms: signed(self.eviction_timeout_ms.saturating_add(1_000)),
            nudge_ms: signed(self.drain_nudge_ms),
            wait_ms: signed(self.drain_wait_ms),
            freeze_ms: signed(self.drain_freeze_ms),
            save_ms: signed(self.drain_save_ms),
            save_all_ms: signed(self.drain_save_all_ms),
            close_ms: signed(self.drain_close_ms),
            total_ms: signed(self.drain_total_ms),
            saves_at_once: SAVES_AT_ONCE,
        }
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Agent servers in one container: 0.5 to 0.8 GB each (spec/kilo.md 1) of the 12 GiB that a town's instance has (wrangler.toml).
pub const AGENT_SERVERS_MAX: usize = 14;
/// Agents of the last container that are started at the same time: each may clone a repository.
pub const HYDRATIONS_AT_ONCE: usize = 4;
/// Events of one agent that are kept for who comes later (spec/town.md 6.4).
pub const RING_EVENTS_MAX: usize = 2_000;
/// The same in bytes: 2,000 large events are not kept whole.
pub const RING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same of all agents together: of those that are over the oldest go first.
pub const RINGS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Agents that are remembered after their end, for their status and events.
pub const AGENTS_MAX: usize = 512;
/// How long an agent may go on with its turn when another is to have its branch: enough for its last words.
pub const GIVE_WAY: Duration = Duration::from_secs(5);
/// A body of a call to the control server; a prompt and a system prompt fit well.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events and commands of one agent that wait for it. Beyond it the sender waits.
pub const COMMANDS_MAX: usize = 64;
/// Events of all agents that are on their way to the town; what comes beyond is dropped, because they are for viewers only.
pub const EVENT_POSTS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// One post of an event.
pub const EVENT_POST_TIMEOUT: Duration = Duration::from_secs(10);
/// Fetching one half of what was said in a session, before its agent server ends.
pub const CONVERSATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Fetching and packing all of it when the agent is frozen: with the abort before it and the end of the agent server after it, it must fit
/// into `drain_freeze_ms`, or the agent's work would not be saved for the sake of its conversation.
pub const FROZEN_CONVERSATION_TIMEOUT: Duration = Duration::from_secs(4);
/// An abort takes up to 0.4 s (spec/kilo.md 4); a server that takes longer is killed.
pub const ABORT_TIMEOUT: Duration = Duration::from_secs(3);
/// A prompt: the first one takes up to 2.5 s (spec/kilo.md 3).
pub const PROMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same while the container drains: a freeze waits for one that hangs, and must be over in time all the same.
pub const DRAINING_PROMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// Stream tickets (spec/town.md 6.2).
pub const TICKET_LIFE_MS: i64 = 60_000;
/// See [`TICKET_LIFE_MS`].
pub const TICKETS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::limits::AGENT_STOP_TIMEOUT;

    #[test]
    fn a_limit_is_set_by_its_name() {
        let limits: Limits = serde_json::from_str(r#"{"eviction_timeout_ms":5}"#).unwrap();
        assert_eq!(limits, Limits { eviction_timeout_ms: 5, ..Limits::default() });
    }

    #[test]
    fn the_phases_fit_into_the_whole_and_that_into_the_platforms_fifteen_minutes() {
        let all = Limits::default().drain();
        let phases = all.notify_ms + all.nudge_ms + all.wait_ms + all.freeze_ms + all.save_all_ms + all.close_ms;
        assert!(phases <= all.total_ms && all.total_ms < 15 * 60_000);
        assert!(all.save_ms <= all.save_all_ms);
    }

    #[test]
    fn an_agent_whose_server_answers_nothing_is_frozen_in_time_all_the_same() {
        let longest = DRAINING_PROMPT_TIMEOUT + ABORT_TIMEOUT + FROZEN_CONVERSATION_TIMEOUT + AGENT_STOP_TIMEOUT;
        assert!(longest < Duration::from_millis(Limits::default().drain_freeze_ms));
    }

    #[test]
    fn what_the_town_is_told_last_of_an_agent_is_told_before_the_end() {
        let limits = Limits::default();
        assert!(limits.receipt_timeout_ms + limits.town_call_timeout_ms <= limits.drain_close_ms);
    }
}
