//! What holds once nothing goes wrong any more and enough time has passed.

use crate::town::world::World;
use database::Database;
use protocol::id::BeadId;
use protocol::town::status::WaitReason;
use protocol::town::status::Why;
use std::collections::BTreeSet;
use town_core::message::Answer;
use town_core::message::Call;
use town_core::message::call::BeadCall;

/// The rings of the town's alarm that three days of rest may cause: what the end of an idle container owes.
const RINGS_AT_REST_MAX: u64 = 20;

impl World<'_> {
    /// What is not over yet, though it could be.
    pub fn unsettled(&mut self) -> Option<String> {
        let ledger = &self.town.shadow.ledger;
        if ledger.drain.is_some() {
            return Some("it drains".to_owned());
        }
        if ledger.pending > 0 {
            return Some(format!("{} facts wait", ledger.pending));
        }
        if let Some(key) = ledger.owed.first() {
            return Some(format!("{key} is owed"));
        }
        if self.owes_an_end() {
            return Some("the town is owed the news of an end".to_owned());
        }
        let works = |agent: &super::AgentRow| matches!(agent.status.as_str(), "working" | "stalled");
        if let Some((id, _)) = ledger.agents.iter().find(|(_, agent)| works(agent)) {
            return Some(format!("agent {id} works"));
        }
        let open = |bead: &super::BeadRow| bead.is_work() && !bead.is_over();
        let open: Vec<String> = ledger.beads.iter().filter(|(_, bead)| open(bead)).map(|(id, _)| id.clone()).collect();
        open.into_iter().find_map(|id| self.moves(&id))
    }

    /// Why a bead should be over, or None if it waits for somebody.
    fn moves(&mut self, id: &str) -> Option<String> {
        let bead = BeadId::parse(id).expect("an id");
        let mut seen = BTreeSet::new();
        if self.waits_for_somebody(&bead, &mut seen) {
            return None;
        }
        let why = self.why(&bead);
        let row = &self.town.shadow.ledger.beads[id];
        Some(format!("{} {id} is {}: {why:?}", row.kind, row.status))
    }

    fn why(&mut self, bead: &BeadId) -> Option<Why> {
        match self.ask_town(Call::Bead(BeadCall::Why { bead: bead.clone() })) {
            Some(Answer::Why { why }) => Some(why),
            _ => None,
        }
    }

    /// Whether a bead waits for what only a person can give, itself or by what it waits for.
    fn waits_for_somebody(&mut self, bead: &BeadId, seen: &mut BTreeSet<BeadId>) -> bool {
        if !seen.insert(bead.clone()) {
            return false;
        }
        let Some(why) = self.why(bead) else { return false };
        let by_person =
            |reason: &WaitReason| matches!(reason, WaitReason::Held | WaitReason::NoRig | WaitReason::Staged);
        if why.reasons.iter().any(by_person) {
            return true;
        }
        let parts = "SELECT bead_id FROM bead_dependencies WHERE depends_on_bead_id = ? AND dependency_type = 'tracks'";
        let rows = self.town.storage.db.query(parts, &[bead.as_str().into()]).expect("the ledger is there");
        let parts: Vec<BeadId> =
            rows.iter().filter_map(|row| BeadId::parse(&row.get::<String>(0).ok()?).ok()).collect();
        // A convoy without beads has nothing that could land.
        let is_convoy = self.town.shadow.ledger.beads.get(bead.as_str()).is_some_and(|row| row.kind == "convoy");
        if is_convoy && parts.is_empty() {
            return true;
        }
        why.blocked_by.iter().chain(&parts).any(|other| self.waits_for_somebody(other, seen))
    }

    /// Everything that was begun is over.
    pub fn check_settled(&mut self) {
        if let Some(what) = self.unsettled() {
            return self.run.broken("all work is over, or waits for somebody", || what);
        }
        let poisoned = "SELECT event_id FROM town_events WHERE event_id LIKE 'poison-%' AND poisoned IS NULL";
        if let Some(event) = self.column(poisoned).first().cloned() {
            self.run.broken("P6 a poisoned event is quarantined", || event);
        }
        self.check_convoys();
        self.check_merged();
        if self.run.fired.is_empty() {
            let failed =
                "SELECT bead_id FROM beads WHERE type IN ('issue', 'merge_request', 'convoy') AND status = 'failed'";
            if let Some(bead) = self.column(failed).first().cloned() {
                self.run.broken("where nothing goes wrong, nothing fails", || bead);
            }
        }
    }

    /// The counters of a convoy are those of a recount, and one that is complete has landed.
    fn check_convoys(&mut self) {
        let wrong = "SELECT c.bead_id || ': ' || c.closed_beads || '/' || c.total_beads FROM convoy_metadata c
            JOIN beads b ON b.bead_id = c.bead_id
            WHERE c.total_beads <> (SELECT COUNT(*) FROM bead_dependencies d JOIN beads i ON i.bead_id = d.bead_id
                WHERE d.depends_on_bead_id = c.bead_id AND d.dependency_type = 'tracks' AND i.type = 'issue')
            OR (b.status NOT IN ('closed', 'failed') AND c.total_beads > 0 AND c.closed_beads >= c.total_beads)
            OR c.closed_beads <> (SELECT COUNT(*) FROM bead_dependencies d JOIN beads i ON i.bead_id = d.bead_id
                WHERE d.depends_on_bead_id = c.bead_id AND d.dependency_type = 'tracks' AND i.type = 'issue'
                AND i.status IN ('closed', 'failed'))";
        if let Some(what) = self.column(wrong).first().cloned() {
            self.run.broken("a convoy counts its beads, and lands when all are over", || what);
        }
    }

    /// What counts as merged was merged.
    fn check_merged(&mut self) {
        let sql = "SELECT e.bead_id FROM bead_events e JOIN beads b ON b.bead_id = e.bead_id
            WHERE e.event_type = 'review_completed' AND e.new_value = 'merged' ORDER BY e.bead_id";
        for source in self.column(sql) {
            let reviews = format!(
                "SELECT bead_id FROM bead_dependencies WHERE depends_on_bead_id = '{source}' AND dependency_type = 'tracks'"
            );
            let reviews = self.column(&reviews);
            let is_merged = |id: &String| BeadId::parse(id).is_ok_and(|id| self.town.shadow.merged.contains(&id));
            if !reviews.iter().any(is_merged) {
                return self.run.broken("what counts as merged was merged", || source);
            }
        }
    }

    /// P8: nothing wakes a town at rest, and nobody starts its container to look at it.
    pub fn check_rested(&mut self, rings: u64, starts: u64) {
        let rang = self.town.shadow.rings - rings;
        if rang > RINGS_AT_REST_MAX || self.town.storage.alarm().is_some() && self.unsettled().is_none() {
            let alarm = self.town.storage.alarm();
            let waits = self.town.shadow.ledger.beads.values().any(|bead| bead.is_work() && !bead.is_over());
            if !waits {
                self.run.broken("P8 a town at rest rests", || format!("it rang {rang} times, alarm {alarm:?}"));
            }
        }
        if self.platform.starts != starts || self.platform.runs() {
            let (now, runs) = (self.platform.starts, self.platform.runs());
            self.run.broken("P8 a container that is not needed is stopped, and not started", || {
                format!("{} starts, runs: {runs}", now - starts)
            });
        }
    }
}
