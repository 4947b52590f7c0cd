//! Transactions and migrations.

use super::Failure;
use super::Outcome;
use super::count;
use super::same;
use super::stop;
use super::value;
use crate::Database;
use crate::DatabaseError;
use crate::Migration;
use crate::Value;
use crate::execute;
use crate::migrate;
use crate::transaction;

fn table(database: &dyn Database) -> Result<(), DatabaseError> {
    execute(database, "CREATE TABLE t (id INTEGER PRIMARY KEY)", &[])
}

fn put(database: &dyn Database, id: i64) -> Result<(), DatabaseError> {
    execute(database, "INSERT INTO t (id) VALUES (?)", &[id.into()])
}

/// The ids in the table, as `1,2,3`.
fn ids(database: &dyn Database) -> Result<String, Failure> {
    match value(database, "SELECT group_concat(id) FROM (SELECT id FROM t ORDER BY id)", &[])? {
        Value::Text(ids) => Ok(ids),
        _ => Ok(String::new()),
    }
}

pub(super) fn commit(database: &dyn Database) -> Outcome {
    table(database)?;
    let answer: Result<&str, DatabaseError> = transaction(database, || {
        put(database, 1)?;
        put(database, 2)?;
        Ok("done")
    });
    same("the answer", answer, Ok("done"))?;
    same("the rows", ids(database)?, "1,2".into())
}

pub(super) fn rollback(database: &dyn Database) -> Outcome {
    table(database)?;
    put(database, 1)?;
    let failed: Result<(), DatabaseError> = transaction(database, || {
        put(database, 2)?;
        execute(database, "DELETE FROM t WHERE id = 1", &[])?;
        execute(database, "CREATE TABLE other (a)", &[])?;
        Err(stop())
    });
    same("the answer", failed, Err(stop()))?;
    same("the rows", ids(database)?, "1".into())?;
    same("the table", database.query("SELECT 1 FROM sqlite_master WHERE name = 'other'", &[])?, vec![])?;
    transaction(database, || put(database, 3))?;
    same("the next transaction", ids(database)?, "1,3".into())
}

pub(super) fn survived_error(database: &dyn Database) -> Outcome {
    table(database)?;
    transaction(database, || {
        put(database, 1)?;
        let refused = put(database, 1).is_err() && database.query("SELECT json('broken')", &[]).is_err();
        put(database, if refused { 2 } else { 3 })
    })?;
    same("the rows", ids(database)?, "1,2".into())?;
    let failed = transaction(database, || put(database, 4).and_then(|()| put(database, 4)));
    same("an error that is passed on", matches!(failed, Err(DatabaseError::Sql(_))), true)?;
    same("the rows after it", ids(database)?, "1,2".into())
}

pub(super) fn inner_rollback(database: &dyn Database) -> Outcome {
    table(database)?;
    transaction(database, || {
        put(database, 1)?;
        let inner: Result<(), DatabaseError> = transaction(database, || put(database, 2).and(Err(stop())));
        if inner != Err(stop()) {
            return inner;
        }
        transaction(database, || put(database, 3))?;
        put(database, 4)
    })?;
    same("the rows", ids(database)?, "1,3,4".into())
}

pub(super) fn outer_rollback(database: &dyn Database) -> Outcome {
    table(database)?;
    let failed: Result<(), DatabaseError> = transaction(database, || {
        transaction(database, || put(database, 1))?;
        transaction(database, || put(database, 2))?;
        Err(stop())
    });
    same("the answer", failed, Err(stop()))?;
    same("the rows", ids(database)?, String::new())
}

pub(super) fn deep(database: &dyn Database) -> Outcome {
    /// Level 3 fails, and takes the levels below with it.
    fn level(database: &dyn Database, n: i64) -> Result<(), DatabaseError> {
        put(database, n)?;
        if n == 6 {
            return Ok(());
        }
        let below = transaction(database, || level(database, n.saturating_add(1)));
        if n == 3 { Err(stop()) } else { below.or(Ok(())) }
    }
    table(database)?;
    transaction(database, || level(database, 1))?;
    same("the rows", ids(database)?, "1,2".into())
}

const FIRST: Migration = Migration { version: 1, statements: &["CREATE TABLE t (id INTEGER PRIMARY KEY)"] };
const SECOND: Migration = Migration {
    version: 2,
    statements: &["ALTER TABLE t ADD COLUMN n INTEGER DEFAULT 7", "INSERT INTO t (id) VALUES (1)"],
};
const BROKEN: Migration = Migration { version: 3, statements: &["INSERT INTO t (id) VALUES (2)", "NOT SQL"] };

pub(super) fn migrations(database: &dyn Database) -> Outcome {
    migrate(database, &[FIRST])?;
    same("after the first", count(database, "t")?, 0.into())?;
    migrate(database, &[FIRST])?;
    migrate(database, &[FIRST, SECOND])?;
    migrate(database, &[FIRST, SECOND])?;
    same("after the upgrade", value(database, "SELECT n FROM t", &[])?, 7.into())?;
    same("what ran", count(database, "migration")?, 2.into())
}

pub(super) fn failing_migration(database: &dyn Database) -> Outcome {
    same("from nothing", migrate(database, &[FIRST, SECOND, BROKEN]).is_err(), true)?;
    same(
        "the tables",
        database.query("SELECT name FROM sqlite_master WHERE name IN ('t', 'migration')", &[])?,
        vec![],
    )?;
    migrate(database, &[FIRST, SECOND])?;
    same("as an upgrade", migrate(database, &[FIRST, SECOND, BROKEN]).is_err(), true)?;
    same("the rows", ids(database)?, "1".into())?;
    same("what ran", count(database, "migration")?, 2.into())
}
