//! The native implementation, on rusqlite.

use crate::Database;
use crate::DatabaseError;
use crate::Row;
use crate::Value;
use crate::check_integer;
use rusqlite::types::Value as SqliteValue;
use std::cell::Cell;
use std::path::Path;

/// A SQLite database in this process.
pub struct NativeDatabase {
    connection: rusqlite::Connection,
    depth: Cell<u32>,
}

impl NativeDatabase {
    /// A new, empty database in memory.
    pub fn in_memory() -> Result<Self, DatabaseError> {
        Ok(Self { connection: rusqlite::Connection::open_in_memory()?, depth: Cell::new(0) })
    }

    /// The database in the file at `path`, created if missing.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self { connection: rusqlite::Connection::open(path)?, depth: Cell::new(0) })
    }
}

impl Database for NativeDatabase {
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, DatabaseError> {
        let parameters = parameters.iter().map(to_sqlite).collect::<Result<Vec<_>, _>>()?;
        let mut statement = self.connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
        let mut result = Vec::new();
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|i| from_sqlite(row.get(i)?)).collect::<Result<_, DatabaseError>>()?;
            result.push(Row(values));
        }
        Ok(result)
    }

    fn transact(&self, work: &mut dyn FnMut() -> bool) -> Result<(), DatabaseError> {
        let name = format!("t{}", self.depth.get());
        self.connection.execute_batch(&format!("SAVEPOINT {name}"))?;
        self.depth.set(self.depth.get().saturating_add(1));
        let keep = work();
        self.depth.set(self.depth.get().saturating_sub(1));
        let end = if keep { format!("RELEASE {name}") } else { format!("ROLLBACK TO {name}; RELEASE {name}") };
        Ok(self.connection.execute_batch(&end)?)
    }
}

fn to_sqlite(value: &Value) -> Result<SqliteValue, DatabaseError> {
    Ok(match value {
        Value::Null => SqliteValue::Null,
        Value::Integer(n) => SqliteValue::Integer(check_integer(*n)?),
        Value::Real(n) => SqliteValue::Real(*n),
        Value::Text(text) => SqliteValue::Text(text.clone()),
        Value::Blob(bytes) => SqliteValue::Blob(bytes.clone()),
    })
}

fn from_sqlite(value: SqliteValue) -> Result<Value, DatabaseError> {
    Ok(match value {
        SqliteValue::Null => Value::Null,
        SqliteValue::Integer(n) => Value::Integer(check_integer(n)?),
        // As JavaScript has it: a whole number is an integer.
        SqliteValue::Real(n) if n.fract() == 0.0 && n.abs() <= crate::INTEGER_MAX as f64 => Value::Integer(n as i64),
        SqliteValue::Real(n) => Value::Real(n),
        SqliteValue::Text(text) => Value::Text(text),
        SqliteValue::Blob(bytes) => Value::Blob(bytes),
    })
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        DatabaseError::Sql(error.to_string())
    }
}
