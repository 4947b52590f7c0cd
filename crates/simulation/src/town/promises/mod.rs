//! The promises of a town (design 8), checked after every turn, and at the end.
//!
//! | Module | Promises |
//! | --- | --- |
//! | `turn` | P6, P8, P10; hooks one to one; what is over stays over; convoys count right; a dispatch owes a start; a live run keeps its bead |
//! | `drains` | a drain ends in one of four ways, in time, and never by the container that was evicted |
//! | `work` | P5: no file is lost; one bead is run by one agent; nothing is saved where something may write |
//! | `end` | all work is over, or waits for a reason that is told; nothing is owed for ever; a town at rest rests |

mod drains;
mod end;
mod turn;
mod work;

use super::git::Files;
use crate::town::world::World;
use database::Database;
use database::NativeDatabase;
use protocol::id::BeadId;
use protocol::time::parse_iso8601;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use town_core::message::Call;
use town_core::message::Input;
use town_core::message::Output;
use town_core::message::call::AgentCall;

const P10: &str = "P10 nobody is dispatched into a draining container";

/// Only a dispatch begins an issue. Its history keeps what the same turn took back.
const BEGUN: &str = "SELECT COUNT(*) FROM bead_events e JOIN beads b ON b.bead_id = e.bead_id
    WHERE b.type = 'issue' AND e.event_type = 'status_changed' AND e.new_value = 'in_progress'";

/// What the promises remember of a town.
#[derive(Default)]
pub struct Shadow {
    ledger: Ledger,
    /// How often the alarm rang.
    pub rings: u64,
    /// What of a bead's work the remote has, as somebody was told.
    safe: BTreeMap<BeadId, Files>,
    /// Merge requests that were merged.
    merged: BTreeSet<BeadId>,
    /// Branches of which somebody said that the work is done: whoever is brought back before that is applied works in vain.
    said_done: BTreeSet<String>,
    /// Instances whose eviction the town has heard of.
    evicted: BTreeSet<String>,
}

/// The ledger after a turn.
#[derive(Clone, Default)]
struct Ledger {
    beads: BTreeMap<String, BeadRow>,
    agents: BTreeMap<String, AgentRow>,
    drain: Option<DrainRow>,
    /// How often work was begun, as its history says. Read only while the town drains.
    begun: i64,
    /// What is owed.
    owed: BTreeSet<String>,
    /// Facts that wait.
    pending: i64,
}

#[derive(Clone)]
struct BeadRow {
    kind: String,
    status: String,
    dispatches: i64,
    dispatched_at: Option<i64>,
}

#[derive(Clone)]
struct AgentRow {
    status: String,
    hook: Option<String>,
}

#[derive(Clone)]
struct DrainRow {
    nonce: String,
    started_at: i64,
    evicted: Option<String>,
}

impl BeadRow {
    fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "closed" | "failed")
    }

    fn is_work(&self) -> bool {
        matches!(self.kind.as_str(), "issue" | "merge_request" | "convoy")
    }
}

impl Shadow {
    /// Where the town is, for the coverage table.
    pub fn state(&self) -> &'static str {
        let runs = self.ledger.agents.values().any(|agent| matches!(agent.status.as_str(), "working" | "stalled"));
        let open = self.ledger.beads.values().any(|bead| bead.is_work() && !bead.is_over());
        match (runs, open, self.ledger.drain.is_some()) {
            (true, _, false) => "working",
            (true, _, true) => "working, draining",
            (false, true, false) => "open",
            (false, true, true) => "open, draining",
            (false, false, false) => "at rest",
            (false, false, true) => "at rest, draining",
        }
    }
}

impl Ledger {
    fn read(db: &NativeDatabase) -> Self {
        let rows = |sql: &str| db.query(sql, &[]).expect("the ledger is there");
        let at = |text: Option<String>| text.as_deref().and_then(parse_iso8601);
        let mut ledger = Self::default();
        for row in rows("SELECT bead_id, type, status, last_dispatch_attempt_at, dispatch_attempts FROM beads") {
            let bead = BeadRow {
                kind: row.get(1).expect("a type"),
                status: row.get(2).expect("a status"),
                dispatches: row.get(4).expect("a number"),
                dispatched_at: at(row.get(3).expect("a time")),
            };
            ledger.beads.insert(row.get(0).expect("an id"), bead);
        }
        for row in rows("SELECT bead_id, status, current_hook_bead_id FROM agent_metadata") {
            let agent = AgentRow { status: row.get(1).expect("a status"), hook: row.get(2).expect("a hook") };
            ledger.agents.insert(row.get(0).expect("an id"), agent);
        }
        for row in rows("SELECT nonce, started_at, evicted_instance FROM drain") {
            ledger.drain = Some(DrainRow {
                nonce: row.get(0).expect("a nonce"),
                started_at: row.get(1).expect("a time"),
                evicted: row.get(2).expect("an instance"),
            });
        }
        if ledger.drain.is_some() {
            ledger.begun = rows(BEGUN)[0].get(0).expect("a number");
        }
        ledger.owed = rows("SELECT key FROM owed").iter().map(|row| row.get(0).expect("a key")).collect();
        let waiting = rows("SELECT COUNT(*) FROM town_events WHERE processed_at IS NULL");
        ledger.pending = waiting[0].get(0).expect("a number");
        ledger
    }
}

impl World<'_> {
    /// After a turn of the town whose write is durable.
    pub fn watch_town(&mut self, input: &Input, now: i64, fate: crate::durable::Fate, outputs: &[Output]) {
        if let Input::Call(Call::Agent(AgentCall::Done { branch, .. })) = input {
            self.town.shadow.said_done.insert(branch.clone());
        }
        let after = Ledger::read(&self.town.storage.db);
        let before = std::mem::take(&mut self.town.shadow.ledger);
        self.check_ledger(&before, &after, now);
        self.check_counters(&after);
        self.check_dispatches(&before, &after, input);
        self.check_drain(&before, &after, input, now);
        // A statement that failed stands for whatever it would have done.
        if !matches!(fate, crate::durable::Fate::Statement(_)) {
            self.check_facts(input, outputs);
            self.check_rest(&after);
        }
        if *input == Input::Tick {
            self.check_live_runs(&before, &after, now);
        }
        self.town.shadow.ledger = after;
    }

    /// The first column of a query.
    pub fn column(&self, sql: &str) -> Vec<String> {
        let rows = self.town.storage.db.query(sql, &[]).expect("the ledger is there");
        rows.iter().map(|row| row.get(0).expect("a text")).collect()
    }
}
