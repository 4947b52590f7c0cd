//! The loop breaker: an action that is repeated on the same thing too often is held back, and somebody is told.
//!
//! Two rules that undo each other, or an action that fails whenever it is tried, would otherwise spend a town's money without end. One row counts each action
//! on each thing within a window; a hold outlives the window.

use crate::Step;
use crate::error::Fault;
use crate::escalation::Trouble;
use crate::message::Notice;
use crate::message::Output;
use crate::reconcile::action::Action;
use crate::store::instant;
use crate::store::read_at;
use crate::store::read_at_option;
use database::execute;
use protocol::id::BeadId;

/// Actions that repeat by their nature, or have a limit of their own: only their failures count.
const FREE: [&str; 3] = ["dispatch_agent", "notify_mayor", "poll_pr"];
/// Actions on a bead without which it does not go on.
const HOLDING: [&str; 6] = [
    "clear_bead_assignee",
    "close_convoy",
    "create_landing_mr",
    "dispatch_agent",
    "set_convoy_ready_to_land",
    "transition_bead",
];

impl Step<'_> {
    /// Whether an action may be taken once more. Counts it.
    pub fn may_act(&mut self, action: &Action) -> Result<bool, Fault> {
        let key = format!("{}/{}", action.kind(), action.target());
        let held = "SELECT 1 FROM action_loop WHERE key = ? AND held_until > ?";
        if !self.db.query(held, &[key.as_str().into(), instant(self.now)])?.is_empty() {
            return Ok(false);
        }
        if FREE.contains(&action.kind()) { Ok(true) } else { self.count_action(key) }
    }

    /// One that failed left nothing behind that would keep it from being decided again: it is counted whatever it is.
    pub fn action_failed(&mut self, action: &Action) -> Result<(), Fault> {
        if FREE.contains(&action.kind()) {
            self.count_action(format!("{}/{}", action.kind(), action.target()))?;
        }
        Ok(())
    }

    /// False if that was once too often.
    fn count_action(&mut self, key: String) -> Result<bool, Fault> {
        let rows = self
            .db
            .query("SELECT window_from, count, held_until FROM action_loop WHERE key = ?", &[key.as_str().into()])?;
        let window_from = self.now.saturating_sub(self.limits.loop_window_ms);
        let (from, count) = match rows.first() {
            Some(row) if read_at_option(row, 2)?.is_none() && read_at(row, 0)? > window_from => {
                (read_at(row, 0)?, row.get::<i64>(1)?.saturating_add(1))
            }
            _ => (self.now, 1),
        };
        let held = (count > self.limits.loop_actions_max).then(|| self.now.saturating_add(self.limits.loop_hold_ms));
        if rows.is_empty() {
            self.forget_windows(window_from)?;
        }
        execute(
            self.db,
            "INSERT OR REPLACE INTO action_loop (key, window_from, count, held_until) VALUES (?, ?, ?, ?)",
            &[key.as_str().into(), instant(from), count.into(), crate::store::instant_option(held)],
        )?;
        if held.is_none() {
            return Ok(true);
        }
        self.outputs.push(Output::Notice(Notice::LoopHeld { action: key.clone() }));
        let words =
            format!("The town repeated {key} {count} times and holds it back now: two rules may be undoing each other");
        self.contained("escalate", |step| step.escalate(Trouble::of_town(words)).map(drop));
        Ok(false)
    }

    /// True once in that time.
    pub fn once_per(&mut self, what: &str, ms: i64) -> Result<bool, Fault> {
        if self.is_held(what)? {
            return Ok(false);
        }
        self.hold(what, ms)?;
        Ok(true)
    }

    /// Whether [`Step::hold`] still holds.
    pub fn is_held(&self, what: &str) -> Result<bool, Fault> {
        let sql = "SELECT 1 FROM action_loop WHERE key = ? AND held_until > ?";
        Ok(!self.db.query(sql, &[format!("once/{what}").into(), instant(self.now)])?.is_empty())
    }

    /// Notes that something was done, and need not be done for that time.
    pub fn hold(&mut self, what: &str, ms: i64) -> Result<(), Fault> {
        Ok(execute(
            self.db,
            "INSERT OR REPLACE INTO action_loop (key, window_from, count, held_until) VALUES (?, ?, 1, ?)",
            &[format!("once/{what}").into(), instant(self.now), instant(self.now.saturating_add(ms))],
        )?)
    }

    /// Whether something about a bead is held back.
    pub fn is_held_back(&self, bead: &BeadId) -> Result<bool, Fault> {
        for kind in HOLDING {
            let rows = self.db.query(
                "SELECT 1 FROM action_loop WHERE key = ? AND held_until > ?",
                &[format!("{kind}/{bead}").into(), instant(self.now)],
            )?;
            if !rows.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn forget_windows(&self, before: i64) -> Result<(), Fault> {
        Ok(execute(
            self.db,
            "DELETE FROM action_loop WHERE window_from < ? AND (held_until IS NULL OR held_until < ?)",
            &[instant(before), instant(self.now)],
        )?)
    }
}
