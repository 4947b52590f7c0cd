//! One tick, and when the next is due (spec/town.md 4.5; design 2).
//!
//! The cadence is a deadline computed from the rows, not a timer: with active work every 5 s, with open work or viewers every 5 min, else none. Ticks lie
//! on a grid that begins with the town, so whatever happens in between neither postpones them nor needs a row that says when the last one was.

use crate::Step;
use crate::error::Fault;
use crate::event;
use crate::message::Output;
use crate::message::effect::Effect;
use crate::reconcile;
use crate::reconcile::invariants;
use crate::reconcile::snapshot;
use crate::store::read_at_option;
use protocol::town::status::Frame;
use protocol::town::status::TickMetrics;

impl Step<'_> {
    pub fn tick(&mut self) -> Result<(), Fault> {
        let events_drained = self.apply_facts()?;
        let town = self.snapshot()?;
        let running: Vec<_> =
            town.agents.iter().filter(|view| view.row.is_running()).map(|view| view.row.agent.id.clone()).collect();
        let actions = reconcile::reconcile(&town, self.limits);
        self.apply_actions(&actions)?;
        self.contained("deliver_mail", Self::deliver_mail);
        self.contained("raise_escalations", Self::raise_escalations);
        self.contained("dispatch_triage", Self::dispatch_triage);
        if !running.is_empty() {
            if !self.is_held("token")? {
                self.owe_once(&Effect::RefreshToken {})?;
            }
            self.outputs.push(Output::Observe { agents: running });
        }
        self.pay_debts()?;
        let performed = self.outputs.iter().filter(|output| matches!(output, Output::Perform { .. })).count();
        let mut metrics = TickMetrics {
            events_drained,
            actions_emitted: i64::try_from(actions.len()).unwrap_or(i64::MAX),
            side_effects_attempted: i64::try_from(performed).unwrap_or(i64::MAX),
            invariant_violations: i64::try_from(invariants::violations(&town).len()).unwrap_or(i64::MAX),
            pending_event_count: event::pending_count(self.db)?,
            ..TickMetrics::default()
        };
        for action in &actions {
            let count = metrics.actions_by_type.entry(action.kind().to_owned()).or_default();
            *count = count.saturating_add(1);
        }
        if self.facts.viewers > 0 {
            let status = self.status(Some(metrics.clone()))?;
            self.outputs.push(Output::Broadcast(Box::new(Frame::Snapshot(Box::new(status)))));
        }
        if events_drained > 0 || !actions.is_empty() || metrics.invariant_violations > 0 {
            self.outputs.push(Output::Ticked(metrics));
        }
        Ok(())
    }

    /// How long from tick to tick, as things are; None: nothing is to be looked at.
    pub fn interval_ms(&self) -> Result<Option<i64>, Fault> {
        if self.town.is_none() {
            return Ok(None);
        }
        if self.any(ACTIVE)? || (self.has_ready_work()? && !self.is_draining()?) {
            return Ok(Some(self.limits.tick_active_ms));
        }
        let is_open = self.facts.viewers > 0 || self.any(OPEN)?;
        Ok(is_open.then_some(self.limits.tick_idle_ms))
    }

    /// When the next tick is due.
    pub fn next_tick(&self) -> Result<Option<i64>, Fault> {
        let Some(town) = &self.town else { return Ok(None) };
        let by_cadence = self.interval_ms()?.map(|interval| {
            let into = self.now.saturating_sub(town.created_at).checked_rem_euclid(interval).unwrap_or_default();
            self.now.saturating_add(interval).saturating_sub(into)
        });
        Ok(object_core::nearest([by_cadence, self.next_poll()?, self.next_raise()?]))
    }

    /// Whether an issue could be handed out by the next tick.
    fn has_ready_work(&self) -> Result<bool, Fault> {
        let is_ready = !snapshot::ready(self.db, self.limits, self.now, 1)?.is_empty();
        Ok(is_ready && !snapshot::breaker_open(self.db, self.limits, self.now)?)
    }

    /// When the next pull request is to be looked at.
    fn next_poll(&self) -> Result<Option<i64>, Fault> {
        let rows = self.db.query(POLLED, &[])?;
        let last = rows.first().map_or(Ok(None), |row| read_at_option(row, 0))?;
        Ok(last.map(|at| at.saturating_add(self.limits.poll_ms).max(self.now.saturating_add(1))))
    }

    fn any(&self, sql: &str) -> Result<bool, Fault> {
        Ok(self.db.query(sql, &[])?.first().map_or(Ok(false), |row| row.get(0))?)
    }
}

/// Facts wait, agents work or hold work, reviews or questions wait. A pull request only waits for its host: it has a deadline of its own.
const ACTIVE: &str = "SELECT EXISTS (SELECT 1 FROM town_events WHERE processed_at IS NULL)
    OR EXISTS (SELECT 1 FROM agent_metadata WHERE status IN ('working', 'stalled')
        OR (status = 'idle' AND current_hook_bead_id IS NOT NULL))
    OR EXISTS (SELECT 1 FROM beads b CROSS JOIN review_metadata r ON r.bead_id = b.bead_id
        WHERE b.type = 'merge_request' AND b.status IN ('open', 'in_progress') AND (b.status = 'open' OR r.pr_url IS NULL))
    OR EXISTS (SELECT 1 FROM beads WHERE type = 'issue' AND status = 'open' AND labels LIKE '%\"gt:triage-request\"%')";

/// Work is not over.
const OPEN: &str = "SELECT EXISTS (SELECT 1 FROM beads WHERE type IN ('issue', 'merge_request', 'convoy')
    AND status IN ('open', 'in_progress', 'in_review'))";

/// The pull request that was looked at the longest ago.
const POLLED: &str = "SELECT MIN(b.updated_at) FROM beads b CROSS JOIN review_metadata r ON r.bead_id = b.bead_id
    WHERE b.type = 'merge_request' AND b.status = 'in_progress' AND r.pr_url IS NOT NULL";
