//! What a tick reads does not grow with what is over.

use super::world::START;
use super::world::World;
use crate::Town;
use crate::limits::Limits;
use crate::message::Call;
use crate::message::Facts;
use crate::message::Input;
use crate::message::call::AgentCall;
use database::Database;
use database::DatabaseError;
use database::Row;
use database::Value;
use database::transaction;
use object_core::entropy::Entropy;
use protocol::id::AgentId;
use protocol::time::iso8601;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Notes every statement, and how many rows it gave.
struct Counting<'a> {
    db: &'a dyn Database,
    seen: RefCell<Vec<(String, Vec<Value>, usize)>>,
}

impl Database for Counting<'_> {
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, DatabaseError> {
        let rows = self.db.query(sql, parameters)?;
        self.seen.borrow_mut().push((sql.to_owned(), parameters.to_vec(), rows.len()));
        Ok(rows)
    }

    fn transact(&self, work: &mut dyn FnMut() -> bool) -> Result<(), DatabaseError> {
        self.db.transact(work)
    }
}

/// A town with 20 agents at work, and so many beads and events that are over.
fn town(over: usize) -> World {
    let mut world = World::new();
    for _ in 0..10 {
        world.working();
    }
    world.in_review();
    world.convoy(&[&[], &[0]], None, true);
    while world.count("SELECT COUNT(*) FROM agent_metadata") < 20 {
        let (agent, bead) = (world.polecat(), world.issue("held"));
        world.set_attempts(&bead, 1, 0);
        world.hook(&agent, &bead);
    }
    // What is over has no part in the breaker.
    world.sql("UPDATE beads SET last_dispatch_attempt_at = NULL WHERE status = 'closed'", &[]);
    let at = iso8601(START - 1_000_000_000);
    transaction(&world.db, || {
        for n in 0..over {
            for (kind, status) in [("issue", "closed"), ("merge_request", "failed"), ("message", "closed")] {
                world.db.query(
                    "INSERT INTO beads (bead_id, type, status, title, rig_id, assignee_agent_bead_id, last_dispatch_attempt_at,
                        dispatch_attempts, created_at, updated_at) VALUES (?1, ?2, ?3, 't', 'r1', 'a', ?4, 1, ?4, ?4)",
                    &[format!("{kind}-{n}").into(), kind.into(), status.into(), at.as_str().into()],
                )?;
            }
            world.db.query(
                "INSERT INTO bead_dependencies (bead_id, depends_on_bead_id, dependency_type) VALUES (?, ?, 'tracks')",
                &[format!("merge_request-{n}").into(), format!("issue-{n}").into()],
            )?;
            world.db.query(
                "INSERT INTO bead_events (bead_event_id, bead_id, event_type, created_at) VALUES (?, ?, 'created', ?)",
                &[format!("e-{n}").into(), format!("issue-{n}").into(), at.as_str().into()],
            )?;
        }
        Ok::<(), DatabaseError>(())
    })
    .unwrap();
    world.tick();
    world
}

/// A tick that somebody watches, and in which an agent that is at work says that it is done with a branch that is not its own.
fn tick(world: &World) -> Vec<(String, Vec<Value>, usize)> {
    let counting = Counting { db: &world.db, seen: RefCell::default() };
    let town = Town::new(Limits::default());
    let mut entropy = Entropy::from_seed([1; 32]);
    let mut take =
        |facts: Facts, input: &Input| town.receive(&counting, world.now, &facts, &mut entropy, input).unwrap();
    let worker = "SELECT bead_id FROM agent_metadata WHERE role = 'polecat' AND status = 'working' LIMIT 1";
    let agent = AgentId::parse(&world.db.query(worker, &[]).unwrap()[0].get::<String>(0).unwrap()).unwrap();
    let branch = "gt/toast/01234567".to_owned();
    let done = AgentCall::Done { agent, bead: None, branch, pr_url: None, summary: None };
    take(Facts::default(), &Input::Call(Call::Agent(done)));
    counting.seen.borrow_mut().clear();
    take(Facts { viewers: 1 }, &Input::Tick);
    counting.seen.into_inner()
}

#[test]
fn a_tick_runs_the_same_statements_and_gets_the_same_rows_with_ten_thousand_beads_that_are_over() {
    let count = |over| {
        let seen = tick(&town(over));
        (seen.len(), seen.iter().map(|(_, _, rows)| rows).sum::<usize>())
    };
    assert_eq!(count(0), count(10_000));
}

#[test]
fn no_statement_of_a_tick_scans_a_table_that_grows() {
    let world = town(100);
    let mut plans: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (sql, parameters, _) in tick(&world) {
        let rows = world.db.query(&format!("EXPLAIN QUERY PLAN {sql}"), &parameters).unwrap();
        plans.insert(sql, rows.iter().map(|row| row.get::<String>(3).unwrap()).collect());
    }
    assert!(plans.len() > 15, "the tick was seen");
    for (sql, plan) in plans {
        for line in &plan {
            let table = line.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            let grows =
                ["agent_nudges", "b", "bead_dependencies", "bead_events", "beads", "d", "m", "town_events", "w"];
            let all_of_a_kind = line.contains("idx_beads_type_status (type=?)") || line.contains("idx_beads_rig");
            assert!(!all_of_a_kind, "{sql}\n{plan:#?}");
            // Through its partial index, only the facts that wait are looked at.
            assert!(!grows.contains(&table) || line.contains("idx_town_events_pending"), "{sql}\n{plan:#?}");
        }
    }
}
