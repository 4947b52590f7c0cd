//! An existing session is brought up to the newest schema, whatever it is asked first.

use super::*;
use crate::store::MIGRATIONS;
use database::Database;
use database::Migration;

/// The tables as they are, and one more.
const NEXT: &[Migration] = &[Migration { version: 3, statements: &["CREATE TABLE added (one INTEGER)"] }];

fn tables(db: &NativeDatabase) -> Vec<String> {
    let rows = db.query("SELECT name FROM sqlite_master WHERE type = 'table'", &[]).unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

#[test]
fn an_object_that_wakes_brings_its_tables_up_to_date() {
    let mut world = World::new();
    database::migrate(&world.db, MIGRATIONS).unwrap();
    let old = tables(&world.db);
    assert!(old.contains(&"session".to_owned()) && !old.contains(&"added".to_owned()));
    world.core = Session::with_migrations(Config { worker_url: "http://w".into(), limits: Limits::default() }, NEXT);
    world.take(Input::Woke);
    assert!(tables(&world.db).contains(&"added".to_owned()));
}

#[test]
fn a_session_of_the_first_schema_goes_on_under_the_newest() {
    let mut world = World::new();
    database::migrate(&world.db, &MIGRATIONS[..1]).unwrap();
    let sql = "INSERT INTO execution (id, status, generation, ingest_hash, started_at, waiting, interrupted)
         VALUES ('exc_01ARZ3NDEKTSV4RRFFQ69G5FAV', 'failed', 1, '', 0, '[]', 0)";
    database::execute(&world.db, sql, &[]).unwrap();
    world.take(Input::Woke);
    let row = crate::store::last_execution(&world.db).unwrap().unwrap();
    assert_eq!((row.message, row.last_seq), (None, 0));
}

#[test]
fn to_ask_for_an_unknown_name_makes_no_table() {
    let mut world = World::new();
    world.take(Input::Woke);
    assert_eq!(world.view(), Value::Null);
    assert_eq!(tables(&world.db), Vec::<String>::new());
}
