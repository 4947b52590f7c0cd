//! The native implementation, on rusqlite, held to workerd's limits and types.

use crate::Database;
use crate::DatabaseError;
use crate::Row;
use crate::Value;
use crate::check_call;
use crate::check_integer;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::Value as SqliteValue;
use rusqlite::types::ValueRef;
use std::cell::Cell;
use std::path::Path;

/// What workerd allows, where SQLite's own default is wider. A value's length is the published 2 MB: locally workerd allows more.
const LIMITS: [(Limit, i32); 7] = [
    (Limit::SQLITE_LIMIT_COLUMN, 100),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
    (Limit::SQLITE_LIMIT_LENGTH, 2_000_000),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 100_000),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
];

/// More than the cores have: a statement is prepared once.
const STATEMENTS_KEPT: usize = 256;

/// A SQLite database in this process.
pub struct NativeDatabase {
    connection: rusqlite::Connection,
    depth: Cell<u32>,
}

impl NativeDatabase {
    /// A new, empty database in memory.
    pub fn in_memory() -> Result<Self, DatabaseError> {
        Self::new(rusqlite::Connection::open_in_memory()?)
    }

    /// The database in the file at `path`, created if missing.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Self::new(rusqlite::Connection::open(path)?)
    }

    fn new(connection: rusqlite::Connection) -> Result<Self, DatabaseError> {
        for (limit, value) in LIMITS {
            connection.set_limit(limit, value)?;
        }
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        // Otherwise a statement whose plan looked at a parameter is prepared again whenever that is bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(Self { connection, depth: Cell::new(0) })
    }

    fn run(&self, sql: &str) -> Result<(), DatabaseError> {
        Ok(self.connection.prepare_cached(sql)?.execute([]).map(drop)?)
    }
}

impl Database for NativeDatabase {
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, DatabaseError> {
        check_call(sql, parameters)?;
        let mut statement = self.connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(parameters.iter().map(to_sqlite)))?;
        let mut result = Vec::new();
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|i| from_sqlite(row.get_ref(i)?)).collect::<Result<_, DatabaseError>>()?;
            result.push(Row(values));
        }
        Ok(result)
    }

    fn transact(&self, work: &mut dyn FnMut() -> bool) -> Result<(), DatabaseError> {
        let name = format!("t{}", self.depth.get());
        self.run(&format!("SAVEPOINT {name}"))?;
        self.depth.set(self.depth.get().saturating_add(1));
        let keep = work();
        self.depth.set(self.depth.get().saturating_sub(1));
        if !keep {
            self.run(&format!("ROLLBACK TO {name}"))?;
        }
        self.run(&format!("RELEASE {name}"))
    }
}

/// Numbers go in as JavaScript's do: all of them reals.
fn to_sqlite(value: &Value) -> SqliteValue {
    match value {
        Value::Null => SqliteValue::Null,
        Value::Integer(n) => SqliteValue::Real(*n as f64),
        Value::Real(n) => SqliteValue::Real(*n),
        Value::Text(text) => SqliteValue::Text(text.clone()),
        Value::Blob(bytes) => SqliteValue::Blob(bytes.clone()),
    }
}

fn from_sqlite(value: ValueRef<'_>) -> Result<Value, DatabaseError> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Integer(check_integer(n)?),
        ValueRef::Real(n) => Value::from_number(n)?,
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        DatabaseError::Sql(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;

    #[test]
    fn the_shared_suite_passes() {
        let failures: Vec<String> = suite::CASES
            .iter()
            .filter_map(|case| {
                let database = NativeDatabase::in_memory().unwrap();
                case.run(&database).err().map(|why| format!("{}: {why}", case.name))
            })
            .collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let path = std::env::temp_dir().join(format!("database-{}.sqlite", std::process::id()));
        suite::leave(&NativeDatabase::open(&path).unwrap()).unwrap();
        let found = suite::find(&NativeDatabase::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        found.unwrap();
    }
}
