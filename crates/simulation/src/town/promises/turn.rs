//! What holds after every turn.

use super::Ledger;
use super::P10;
use crate::town::world::World;
use database::Database;
use database::execute;
use protocol::time::iso8601;
use protocol::time::parse_iso8601;
use std::collections::BTreeSet;
use town_core::message::Input;
use town_core::message::Output;

impl World<'_> {
    /// Hooks, and what is over.
    pub(super) fn check_ledger(&mut self, before: &Ledger, after: &Ledger, _now: i64) {
        let mut held = BTreeSet::new();
        for (id, agent) in &after.agents {
            let Some(hook) = &agent.hook else { continue };
            if !held.insert(hook) {
                return self.run.broken("a bead is on one hook", || format!("{hook} is on two, one of them {id}'s"));
            }
            if !after.beads.contains_key(hook) {
                return self.run.broken("a hook holds a bead", || format!("{id} holds {hook}, which is no more"));
            }
        }
        for (id, old) in before.beads.iter().filter(|(_, bead)| bead.is_over()) {
            // A merge settles its failed siblings, and lands a convoy that was given up.
            let settled = |new: &super::BeadRow| {
                matches!(old.kind.as_str(), "merge_request" | "convoy") && new.status == "closed"
            };
            if let Some(new) = after.beads.get(id)
                && new.status != old.status
                && !settled(new)
            {
                return self.run.broken("what is over stays over", || {
                    format!("{} {id} was {}, and is {}", old.kind, old.status, new.status)
                });
            }
        }
    }

    /// The counters of a convoy are those of a recount: what is over, apart from what is still reviewed.
    pub(super) fn check_counters(&mut self, after: &Ledger) {
        if !after.beads.values().any(|bead| bead.kind == "convoy") {
            return;
        }
        let wrong = "SELECT c.bead_id || ': ' || c.closed_beads || '/' || c.total_beads FROM convoy_metadata c
            WHERE (c.closed_beads, c.total_beads) <> (
                SELECT COALESCE(SUM(i.status IN ('closed', 'failed') AND NOT EXISTS (
                    SELECT 1 FROM bead_dependencies r JOIN beads m ON m.bead_id = r.bead_id
                    WHERE r.depends_on_bead_id = i.bead_id AND r.dependency_type = 'tracks' AND m.type = 'merge_request'
                    AND m.status IN ('open', 'in_progress'))), 0), COUNT(*)
                FROM bead_dependencies d JOIN beads i ON i.bead_id = d.bead_id
                WHERE d.depends_on_bead_id = c.bead_id AND d.dependency_type = 'tracks' AND i.type = 'issue')";
        if let Some(what) = self.column(wrong).first().cloned() {
            self.run.broken("the counters of a convoy are those of a recount", || what);
        }
    }

    /// P10, and: a dispatch owes a start.
    pub(super) fn check_dispatches(&mut self, before: &Ledger, after: &Ledger, input: &Input) {
        let drains = before.drain.is_some() && after.drain.is_some();
        if drains && after.begun > before.begun {
            return self.run.broken(P10, || "work was begun, and taken back".to_owned());
        }
        for (id, new) in &after.beads {
            let (count, at) = before.beads.get(id).map_or((0, None), |old| (old.dispatches, old.dispatched_at));
            // One that the same turn took back leaves its time behind. Who is to wait longer, as triage says, is not dispatched.
            let is_taken_back = *input == Input::Tick && new.dispatched_at.is_some() && new.dispatched_at != at;
            if new.dispatches <= count && !is_taken_back {
                continue;
            }
            if drains {
                return self.run.broken(P10, || format!("bead {id}"));
            }
            let holder = after.agents.iter().find(|(_, agent)| agent.hook.as_ref() == Some(id));
            let Some((agent, row)) = holder else { continue };
            if row.status == "working" && !after.owed.contains(&format!("start/{agent}/{id}")) {
                return self.run.broken("a dispatch owes a start", || format!("agent {agent}, bead {id}"));
            }
        }
    }

    /// P6: what cannot be applied is quarantined after so many tries, and stops nothing else. P10: no start is performed.
    pub(super) fn check_facts(&mut self, input: &Input, outputs: &[Output]) {
        let drains = !self.column("SELECT nonce FROM drain").is_empty();
        for output in outputs {
            if let (true, Output::Perform { key, start: Some(_), .. }) = (drains, output) {
                self.run.broken(P10, || format!("perform {key}"));
            }
        }
        let limits = &self.town.limits;
        let tries = limits.event_tries_max;
        let sql = format!("SELECT event_id FROM town_events WHERE processed_at IS NULL AND attempts >= {tries}");
        if let Some(event) = self.column(&sql).first() {
            let event = event.clone();
            self.run.broken("P6 a poisoned event is quarantined", || event);
        }
        if *input == Input::Tick {
            let untouched = "SELECT event_id FROM town_events WHERE processed_at IS NULL AND attempts = 0";
            if let Some(event) = self.column(untouched).first() {
                // What the tick itself has written down is for the next.
                let written = "SELECT created_at FROM town_events WHERE event_id = ?";
                let rows = self.town.storage.db.query(written, &[event.as_str().into()]).expect("it is there");
                let at: String = rows[0].get(0).expect("a time");
                if parse_iso8601(&at).is_none_or(|at| at < self.town.clock(self.now)) {
                    self.run.broken("P6 a poisoned event stops no other", || format!("{event} was not tried"));
                }
            }
        }
    }

    /// A fact that nobody can apply.
    pub fn poison(&mut self) {
        self.run.note(|| "a fact is poisoned".to_owned());
        let id = format!("poison-{}", self.new_id());
        let (kind, payload) = match self.run.random.below("poison", 3) {
            0 => ("agent_done", "{"),
            1 => ("from_the_future", "{}"),
            _ => ("agent_done", r#"{"branch":"b"}"#),
        };
        let at = iso8601(self.town.clock(self.now) - 1);
        let sql = "INSERT INTO town_events (event_id, event_type, payload, created_at) VALUES (?, ?, ?, ?)";
        let row = [id.into(), kind.into(), payload.into(), at.into()];
        execute(&self.town.storage.db, sql, &row).expect("the ledger is there");
    }

    /// P8: a town at rest has no alarm.
    pub(super) fn check_rest(&mut self, after: &Ledger) {
        let is_open = after.beads.values().any(|bead| bead.is_work() && !bead.is_over());
        let is_held = after
            .agents
            .values()
            .any(|agent| agent.hook.is_some() || matches!(agent.status.as_str(), "working" | "stalled"));
        if is_open || is_held || after.drain.is_some() || !after.owed.is_empty() || after.pending > 0 {
            return;
        }
        let unseen = "SELECT bead_id FROM escalation_metadata WHERE acknowledged = 0";
        if self.town.viewers == 0 && self.town.storage.alarm().is_some() && self.column(unseen).is_empty() {
            let at = self.town.storage.alarm();
            self.run.broken("P8 a town at rest has no alarm", || format!("{at:?}"));
        }
    }

    /// A run that works, and whose heart beats, keeps its bead.
    pub(super) fn check_live_runs(&mut self, before: &Ledger, after: &Ledger, now: i64) {
        let (limits, mut lost) = (&self.town.limits, None);
        for (id, old) in &before.agents {
            let Some(hook) = &old.hook else { continue };
            let is_kept = after.agents.get(id).is_some_and(|new| new.hook.as_ref() == Some(hook));
            let ends = |ledger: &Ledger| ledger.beads.get(hook).is_none_or(super::BeadRow::is_over);
            let Some(bead) = before.beads.get(hook) else { continue };
            if is_kept || old.status != "working" || ends(before) || ends(after) || bead.status == "in_review" {
                continue;
            }
            let works = self.processes.values().filter(|process| process.drain.is_none()).any(|process| {
                process.agents.values().any(|agent| {
                    agent.given.request.agent_id.as_str() == id
                        && agent.given.bead.as_ref().is_some_and(|bead| bead.as_str() == hook)
                        && agent.works()
                        && !self.town.shadow.said_done.contains(&agent.given.request.branch)
                        && agent.last_event.is_some_and(|at| self.now - at < limits.gupp_warn_ms)
                        && self.now - agent.started_at < limits.gupp_warn_ms
                })
            });
            let is_fresh = bead.dispatched_at.is_some_and(|at| now - at < limits.heartbeat_stale_ms);
            if works && is_fresh {
                lost = Some((id.clone(), hook.clone()));
            }
        }
        if let Some((agent, bead)) = lost {
            self.run.broken("a live run keeps its bead", || format!("agent {agent} lost {bead}"));
        }
    }
}
