//! Every number of a town, with its unit in its name, its reason and its origin.

use object_core::time::DAY;
use object_core::time::HOUR;
use object_core::time::MINUTE;
use object_core::time::SECOND;
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
    /// How many facts one tick applies at most; the next takes the rest.
    pub events_per_tick: i64,
    /// How often a fact is tried before it is quarantined.
    pub event_tries_max: i64,
    /// From tick to tick while agents work (spec/town.md 4.5, 12).
    pub tick_active_ms: i64,
    /// From tick to tick while there is work or somebody looks, but nobody works.
    pub tick_idle_ms: i64,
    /// How often a bead is given to a container (4.3).
    pub dispatch_attempts_max: i64,
    /// From one such try to the next, by their number; the last holds for all that follow.
    pub dispatch_cooldown_ms: [i64; 5],
    /// How many beads were tried in [`Self::breaker_window_ms`] when no more are.
    pub breaker_dispatches: i64,
    /// See [`Self::breaker_dispatches`].
    pub breaker_window_ms: i64,
    /// A heartbeat that is older was the last: three were missed.
    pub heartbeat_stale_ms: i64,
    /// How long a container may not know an agent that was just sent to it.
    pub cold_start_ms: i64,
    /// How long a bead may be in progress, or in review with nothing left to review, without anybody at it.
    pub orphan_bead_ms: i64,
    /// How long a review may be in progress with an idle reviewer, or with nobody polling its pull request.
    pub stuck_review_ms: i64,
    /// How long a review may be in progress with no reviewer.
    pub abandoned_review_ms: i64,
    /// From one look at a pull request to the next.
    pub poll_ms: i64,
    /// How long an agent may be silent, and use no tool, until it is reminded.
    pub gupp_warn_ms: i64,
    /// How long until it is told for the second time and triage is asked.
    pub gupp_escalate_ms: i64,
    /// How long until it is stopped.
    pub gupp_stop_ms: i64,
    /// From one reminder of a kind to the next.
    pub gupp_repeat_ms: i64,
    /// How long a stalled agent keeps its hook.
    pub stalled_ms: i64,
    /// How long an agent without a hook is kept.
    pub agent_kept_ms: i64,
    /// How often a convoy's landing is tried, and the base of the pause between tries: `2^n` of it, up to the maximum.
    pub landing_attempts_max: i64,
    /// See [`Self::landing_attempts_max`].
    pub landing_pause_ms: i64,
    /// See [`Self::landing_attempts_max`].
    pub landing_pause_ms_max: i64,
    /// An escalation that nobody has seen is raised when it is (n + 1) times as old.
    pub escalation_age_ms: i64,
    /// How often it is raised.
    pub escalation_raises_max: i64,
    /// How many questions of the patrol wait for triage at most.
    pub triage_open_max: i64,
    /// From a triage batch that left a question open to the next.
    pub triage_pause_ms: i64,
    /// In how many triage batches one question is, before a person is to answer it. One may fail by chance and the next by the same one, but each is up
    /// to [`Self::dispatch_attempts_max`] runs of an agent that somebody pays for.
    pub triage_batches_max: i64,
    /// How often one action on one thing is taken within [`Self::loop_window_ms`], before it is held back for [`Self::loop_hold_ms`].
    pub loop_actions_max: i64,
    /// See [`Self::loop_actions_max`].
    pub loop_window_ms: i64,
    /// See [`Self::loop_actions_max`].
    pub loop_hold_ms: i64,
    /// How long the object tries to start an agent before it asks what became of it. Longer than the container's 60 s.
    pub start_retry_ms: i64,
    /// From one try at another effect to the next.
    pub effect_retry_ms: i64,
    /// How often an effect is tried.
    pub effect_tries_max: i64,
    /// From one fresh container token to the next; each lives 8 h (spec/town.md 4.5).
    pub token_refresh_ms: i64,
    /// How long nudges are kept, and how many of one agent.
    pub nudge_kept_ms: i64,
    /// See [`Self::nudge_kept_ms`].
    pub nudges_kept: i64,
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
            events_per_tick: 200,
            event_tries_max: 5,
            tick_active_ms: 5 * SECOND,
            tick_idle_ms: 5 * MINUTE,
            dispatch_attempts_max: 5,
            dispatch_cooldown_ms: [2 * MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE],
            breaker_dispatches: 20,
            breaker_window_ms: 30 * MINUTE,
            heartbeat_stale_ms: 90 * SECOND,
            cold_start_ms: 180 * SECOND,
            orphan_bead_ms: 5 * MINUTE,
            stuck_review_ms: 30 * MINUTE,
            abandoned_review_ms: 2 * MINUTE,
            poll_ms: MINUTE,
            gupp_warn_ms: 15 * MINUTE,
            gupp_escalate_ms: HOUR,
            gupp_stop_ms: 2 * HOUR,
            gupp_repeat_ms: HOUR,
            stalled_ms: 150 * MINUTE,
            agent_kept_ms: DAY,
            landing_attempts_max: 5,
            landing_pause_ms: 30 * SECOND,
            landing_pause_ms_max: 30 * MINUTE,
            escalation_age_ms: 4 * HOUR,
            escalation_raises_max: 3,
            triage_open_max: 5,
            triage_pause_ms: 2 * MINUTE,
            triage_batches_max: 3,
            loop_actions_max: 12,
            loop_window_ms: 30 * MINUTE,
            loop_hold_ms: 30 * MINUTE,
            start_retry_ms: 75 * SECOND,
            effect_retry_ms: 30 * SECOND,
            effect_tries_max: 5,
            token_refresh_ms: HOUR,
            nudge_kept_ms: 7 * DAY,
            nudges_kept: 200,
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
    /// An agent would be stopped before it was ever reminded.
    #[error("town limits must keep gupp_warn_ms < gupp_escalate_ms < gupp_stop_ms < stalled_ms")]
    Patience,
}

impl Limits {
    /// Refuses numbers that cannot work together.
    pub fn check(&self) -> Result<(), LimitsError> {
        let numbers = [
            self.drain_handoff_ms,
            self.drain_handoff_retry_ms,
            self.event_kept_ms,
            self.rows_kept,
            self.events_per_tick,
            self.event_tries_max,
            self.tick_active_ms,
            self.tick_idle_ms,
            self.dispatch_attempts_max,
            self.breaker_dispatches,
            self.breaker_window_ms,
            self.heartbeat_stale_ms,
            self.cold_start_ms,
            self.orphan_bead_ms,
            self.stuck_review_ms,
            self.abandoned_review_ms,
            self.poll_ms,
            self.gupp_warn_ms,
            self.gupp_repeat_ms,
            self.agent_kept_ms,
            self.landing_attempts_max,
            self.landing_pause_ms,
            self.landing_pause_ms_max,
            self.escalation_age_ms,
            self.escalation_raises_max,
            self.triage_open_max,
            self.triage_pause_ms,
            self.triage_batches_max,
            self.loop_actions_max,
            self.loop_window_ms,
            self.loop_hold_ms,
            self.start_retry_ms,
            self.effect_retry_ms,
            self.effect_tries_max,
            self.token_refresh_ms,
            self.nudge_kept_ms,
            self.nudges_kept,
        ];
        if numbers.iter().chain(&self.dispatch_cooldown_ms).any(|number| *number <= 0) {
            return Err(LimitsError::NotPositive);
        }
        let patience = [self.gupp_warn_ms, self.gupp_escalate_ms, self.gupp_stop_ms, self.stalled_ms];
        if !patience.is_sorted_by(|earlier, later| earlier < later) {
            return Err(LimitsError::Patience);
        }
        if self.drain_handoff_ms < self.drain_expiry_ms && self.drain_expiry_ms <= self.evicted_kept_ms {
            Ok(())
        } else {
            Err(LimitsError::Order)
        }
    }
}

impl Limits {
    /// How long a bead rests after its `attempts`th try.
    pub fn cooldown_ms(&self, attempts: i64) -> i64 {
        let [first, .., last] = self.dispatch_cooldown_ms;
        match usize::try_from(attempts) {
            Ok(0) | Err(_) => first,
            Ok(n) => self.dispatch_cooldown_ms.get(n.saturating_sub(1)).copied().unwrap_or(last),
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
        assert_eq!((limits.tick_active_ms, limits.tick_idle_ms), (5_000, 300_000));
        assert_eq!((limits.breaker_dispatches, limits.breaker_window_ms), (20, 1_800_000));
        assert_eq!((limits.heartbeat_stale_ms, limits.cold_start_ms), (90_000, 180_000));
        let cooldowns: Vec<_> = (0..8).map(|attempts| limits.cooldown_ms(attempts) / MINUTE).collect();
        assert_eq!(cooldowns, [2, 2, 2, 5, 10, 30, 30, 30]);
    }

    #[test]
    fn numbers_that_cannot_work_together_are_refused() {
        let handoff_after_expiry = Limits { drain_expiry_ms: 7 * MINUTE, ..Limits::default() };
        assert_eq!(handoff_after_expiry.check(), Err(LimitsError::Order));
        assert_eq!(Limits { evicted_kept_ms: 1, ..Limits::default() }.check(), Err(LimitsError::Order));
        assert_eq!(Limits { gupp_warn_ms: 2 * HOUR, ..Limits::default() }.check(), Err(LimitsError::Patience));
        assert_eq!(Limits { drain_handoff_ms: 0, ..Limits::default() }.check(), Err(LimitsError::NotPositive));
    }
}
