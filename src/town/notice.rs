//! What a town writes into the log: one line each, with ids, without secrets and without what agents said.

use crate::log;
use protocol::id::InstanceId;
use protocol::town::status::TickMetrics;
use town_core::message::Notice;
use town_core::message::container::DrainChange;

/// The drain began or ended, or somebody could not end it.
pub fn drain(town: &str, change: &DrainChange) {
    let name = |instance: &Option<InstanceId>| instance.as_ref().map_or("unknown".to_owned(), ToString::to_string);
    let (event, key, value) = match change {
        DrainChange::Began { instance } => ("drain_began", "instance", name(instance)),
        DrainChange::Ended(how) => ("drain_ended", "how", how.as_str().to_owned()),
        DrainChange::Refused { instance } => ("drain_ack_refused", "instance", name(instance)),
    };
    log::info(event, &[("town", town), (key, &value)]);
}

/// What the rules could not do, or stopped doing.
pub fn notice(town: &str, notice: &Notice) {
    match notice {
        Notice::ActionFailed { action, reason } => {
            log::error("town_action_failed", &[("town", town), ("action", action), ("reason", reason)]);
        }
        Notice::BreakerOpen => log::error("town_breaker_open", &[("town", town)]),
        Notice::EffectDropped { key, reason } => {
            log::error("town_effect_dropped", &[("town", town), ("key", key), ("reason", reason)]);
        }
        Notice::LoopHeld { action } => log::error("town_loop_held", &[("town", town), ("action", action)]),
        Notice::Poisoned { event, reason } => {
            log::error("town_event_poisoned", &[("town", town), ("fact", event), ("reason", reason)]);
        }
    }
}

/// A tick that did something.
pub fn ticked(town: &str, metrics: &TickMetrics) {
    let actions = metrics.actions_by_type.iter().map(|(kind, count)| format!("{kind}:{count}")).collect::<Vec<_>>();
    log::info(
        "town_tick",
        &[
            ("town", town),
            ("events", &metrics.events_drained.to_string()),
            ("actions", &actions.join(" ")),
            ("pending", &metrics.pending_event_count.to_string()),
            ("violations", &metrics.invariant_violations.to_string()),
        ],
    );
}
