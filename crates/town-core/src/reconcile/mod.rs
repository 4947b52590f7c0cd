//! The reconciler: what the ledger should become, from what it is (spec/town.md 4.3).
//!
//! [`Snapshot`] reads the rows that can matter, by key. [`reconcile`] is a pure function from it to a list of actions, rule by rule. Applying them is another
//! module's matter (`apply`), so that what would happen can be asked without making it happen.

pub mod action;
mod agents;
mod beads;
pub mod convoys;
pub mod invariants;
mod patrol;
pub mod reviews;
pub mod snapshot;

use crate::limits::Limits;
use action::Action;
use snapshot::Snapshot;

/// Decides. The order of the rules is the order of the actions.
pub fn reconcile(town: &Snapshot, limits: &Limits) -> Vec<Action> {
    let mut actions = Vec::new();
    agents::rules(town, limits, &mut actions);
    beads::rules(town, limits, &mut actions);
    reviews::rules(town, limits, &mut actions);
    convoys::rules(town, limits, &mut actions);
    patrol::rules(town, limits, &mut actions);
    actions
}

/// Whether more than `ms` passed since then; what never was is stale.
fn stale(now: i64, at: Option<i64>, ms: i64) -> bool {
    at.is_none_or(|at| now.saturating_sub(at) > ms)
}

/// When a bead may be tried again, if that is not yet.
pub fn cooling_until(limits: &Limits, now: i64, attempts: i64, last: Option<i64>) -> Option<i64> {
    last.map(|at| at.saturating_add(limits.cooldown_ms(attempts))).filter(|until| *until > now)
}
