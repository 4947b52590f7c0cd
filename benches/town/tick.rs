//! What a tick of a town costs: with 20 agents at work, and so many beads that are over, or open and held.
//!
//! Native, on SQLite in memory: read the ratios. In workerd a statement costs more, a row about as much. Rows are those that statements gave.

#![allow(clippy::arithmetic_side_effects, clippy::disallowed_methods, clippy::expect_used, clippy::indexing_slicing)]

use database::Database;
use database::DatabaseError;
use database::NativeDatabase;
use database::Row;
use database::Value;
use object_core::entropy::Entropy;
use protocol::id::TownId;
use protocol::time::iso8601;
use protocol::town::config::TownConfig;
use std::cell::Cell;
use std::time::Instant;
use town_core::MIGRATIONS;
use town_core::Town;
use town_core::limits::Limits;
use town_core::message::Call;
use town_core::message::Facts;
use town_core::message::Input;
use town_core::message::Output;
use town_core::message::call::TownCall;

const NOW: i64 = 1_800_000_000_000;
const AGENTS: usize = 20;
const ROUNDS: usize = 50;

/// Counts what comes out of a database.
struct Counting<'a> {
    db: &'a NativeDatabase,
    statements: Cell<usize>,
    rows: Cell<usize>,
}

impl Database for Counting<'_> {
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, DatabaseError> {
        let rows = self.db.query(sql, parameters)?;
        self.statements.set(self.statements.get() + 1);
        self.rows.set(self.rows.get() + rows.len());
        Ok(rows)
    }

    fn transact(&self, work: &mut dyn FnMut() -> bool) -> Result<(), DatabaseError> {
        self.db.transact(work)
    }
}

fn main() {
    println!("{:>9} {:>7} {:>10} {:>10} {:>6}", "beads", "are", "ms / tick", "statements", "rows");
    for (status, labels) in [("closed", "[]"), ("open", r#"["gt:held"]"#)] {
        for beads in [100, 1_000, 10_000] {
            let (ms, statements, rows) = measure(beads, status, labels);
            println!("{beads:>9} {status:>7} {ms:>10.2} {statements:>10} {rows:>6}");
        }
    }
}

/// The median of ticks that change nothing.
fn measure(beads: usize, status: &str, labels: &str) -> (f64, usize, usize) {
    let db = town(beads, status, labels);
    let core = Town::new(Limits::default());
    let counting = Counting { db: &db, statements: Cell::new(0), rows: Cell::new(0) };
    // The first ticks do what there is to be done.
    (0..3).for_each(|_| drop(tick(&core, &counting)));
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            counting.statements.set(0);
            counting.rows.set(0);
            let start = Instant::now();
            let outputs = tick(&core, &counting);
            let ms = start.elapsed().as_secs_f64() * 1_000.0;
            assert!(outputs.iter().all(|output| matches!(output, Output::Observe { .. })), "{outputs:?}");
            ms
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[ROUNDS / 2], counting.statements.get(), counting.rows.get())
}

fn tick(core: &Town, db: &dyn Database) -> Vec<Output> {
    let mut entropy = Entropy::from_seed([1; 32]);
    core.receive(db, NOW, &Facts::default(), &mut entropy, &Input::Tick).expect("a tick").outputs
}

fn town(beads: usize, status: &str, labels: &str) -> NativeDatabase {
    let db = NativeDatabase::in_memory().expect("SQLite");
    database::migrate(&db, MIGRATIONS).expect("the schema");
    let id = TownId::parse("bench").expect("an id");
    let create = Input::Call(Call::Town(TownCall::Create { town: id, config: Box::new(TownConfig::default()) }));
    let mut entropy = Entropy::from_seed([2; 32]);
    Town::new(Limits::default()).receive(&db, NOW, &Facts::default(), &mut entropy, &create).expect("a town");
    let run = |sql: &str, parameters: &[Value]| drop(db.query(sql, parameters).expect("a row"));
    let now: Value = iso8601(NOW).into();
    let body: Value = "What is to be done, in some detail. ".repeat(30).into();
    run("DELETE FROM owed", &[]);
    run(
        "INSERT INTO rigs (id, name, git_url, default_branch, created_at) VALUES ('r', 'r', 'https://example.com/r.git', 'main', ?)",
        std::slice::from_ref(&now),
    );
    for n in 0..AGENTS {
        let (bead, agent): (Value, Value) = (format!("work-{n}").into(), format!("agent-{n}").into());
        let sql = "INSERT INTO beads (bead_id, type, status, title, body, rig_id, assignee_agent_bead_id, dispatch_attempts, created_at, updated_at)
            VALUES (?1, 'issue', 'in_progress', 'at work', ?3, 'r', ?2, 1, ?4, ?4)";
        run(sql, &[bead.clone(), agent.clone(), body.clone(), now.clone()]);
        let sql = "INSERT INTO beads (bead_id, type, status, title, rig_id, created_at, updated_at) VALUES (?1, 'agent', 'open', 'agent', 'r', ?2, ?2)";
        run(sql, &[agent.clone(), now.clone()]);
        let sql = "INSERT INTO agent_metadata (bead_id, role, identity, status, current_hook_bead_id, last_activity_at)
            VALUES (?1, 'polecat', ?1, 'working', ?2, ?3)";
        run(sql, &[agent, bead, now.clone()]);
    }
    for n in 0..beads {
        let sql = "INSERT INTO beads (bead_id, type, status, title, body, labels, rig_id, created_at, updated_at)
            VALUES (?1, 'issue', ?2, 'a bead', ?3, ?4, 'r', ?5, ?5)";
        run(sql, &[format!("bead-{n}").into(), status.into(), body.clone(), labels.into(), now.clone()]);
    }
    db
}
