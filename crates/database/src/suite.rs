//! The statements that every implementation must answer alike.
//!
//! Natively `cargo test` runs them on rusqlite; `wasm-tests/sql-suite` runs them inside workerd. A core that is tested on the one
//! may then be trusted on the other. Each case wants an empty database of its own.

mod statements;
mod transactions;
mod values;

use crate::Database;
use crate::DatabaseError;
use crate::Row;
use crate::Value;
use crate::execute;
use crate::transaction;
use std::fmt::Debug;
use std::fmt::Display;

/// One behaviour.
pub struct Case {
    /// What holds, in words.
    pub name: &'static str,
    check: fn(&dyn Database) -> Outcome,
}

impl Case {
    /// Runs the case on an empty database; the error says what was found instead.
    pub fn run(&self, database: &dyn Database) -> Result<(), String> {
        (self.check)(database).map_err(|failure| failure.0)
    }
}

/// All of them.
pub const CASES: &[Case] = &[
    Case { name: "integers come back as they went in", check: values::integers },
    Case { name: "integers that are too large are refused going in", check: values::large_integers_bound },
    Case { name: "integers that are too large are refused coming out", check: values::large_integers_read },
    Case { name: "booleans are 0 and 1", check: values::booleans },
    Case { name: "reals come back, whole ones as integers", check: values::reals },
    Case { name: "a number is bound as a real and stored as its column says", check: values::number_types },
    Case { name: "blobs come back byte for byte", check: values::blobs },
    Case { name: "null is a value of its own", check: values::null },
    Case { name: "text comes back character for character", check: values::text },
    Case { name: "text that is not UTF-8 is read with replacement characters", check: values::broken_text },
    Case { name: "a megabyte comes back, nine are refused", check: values::large },
    Case { name: "a column that is missing or of another type is an error", check: values::ill_typed },
    Case { name: "rows keep their order and their columns of one name", check: statements::rows },
    Case { name: "a statement without rows gives none", check: statements::no_rows },
    Case { name: "a refused statement is an error and changes nothing", check: statements::refused },
    Case { name: "an error after the first row is an error", check: statements::late_error },
    Case { name: "the number of parameters must fit", check: statements::parameter_count },
    Case { name: "more than one statement is refused", check: statements::one_statement },
    Case { name: "RETURNING gives the rows and changes all of them", check: statements::returning },
    Case { name: "INSERT OR REPLACE and upsert overwrite in place", check: statements::replace },
    Case { name: "json goes in and out", check: statements::json },
    Case { name: "foreign keys are enforced", check: statements::foreign_keys },
    Case { name: "the limits are the same", check: statements::limits },
    Case { name: "a transaction keeps what it did", check: transactions::commit },
    Case { name: "a transaction that fails undoes all it did", check: transactions::rollback },
    Case { name: "an error inside a transaction can be survived", check: transactions::survived_error },
    Case { name: "an inner transaction fails alone", check: transactions::inner_rollback },
    Case { name: "an outer transaction takes the inner ones with it", check: transactions::outer_rollback },
    Case { name: "transactions nest deeply", check: transactions::deep },
    Case { name: "migrations run once, in order", check: transactions::migrations },
    Case { name: "a migration that fails leaves nothing", check: transactions::failing_migration },
];

/// Leaves rows, and the rolled back attempt at others, for [`find`] to look at in a later life of the same database.
pub fn leave(database: &dyn Database) -> Result<(), String> {
    let left: Outcome = (|| {
        execute(database, "CREATE TABLE kept (id INTEGER PRIMARY KEY, body BLOB)", &[])?;
        transaction(database, || insert(database, 1))?;
        let failed: Result<(), DatabaseError> = transaction(database, || insert(database, 2).and(Err(stop())));
        same("the failed transaction", failed, Err(stop()))
    })();
    left.map_err(|failure| failure.0)
}

/// Checks that what [`leave`] committed is there, and nothing else.
pub fn find(database: &dyn Database) -> Result<(), String> {
    let found: Outcome = (|| {
        let rows = database.query("SELECT id, body FROM kept", &[])?;
        same("the kept rows", rows, vec![Row(vec![Value::Integer(1), Value::Blob(vec![1, 0, 255])])])
    })();
    found.map_err(|failure| failure.0)
}

fn insert(database: &dyn Database, id: i64) -> Result<(), DatabaseError> {
    execute(database, "INSERT INTO kept (id, body) VALUES (?, ?)", &[id.into(), vec![1, 0, 255].into()])
}

/// The error with which cases end a transaction on purpose.
fn stop() -> DatabaseError {
    DatabaseError::Sql("on purpose".into())
}

/// Why a case failed. It takes any error, so that cases read as plain code.
struct Failure(String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}

type Outcome = Result<(), Failure>;

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    // Large values would drown the message.
    let short = |value: &T| format!("{value:?}").chars().take(200).collect::<String>();
    Err(format!("{what}: found {}, expected {}", short(&found), short(&expected)).into())
}

fn is_sql_error(what: &str, result: Result<Vec<Row>, DatabaseError>) -> Outcome {
    match result {
        Err(DatabaseError::Sql(message)) if !message.is_empty() => Ok(()),
        other => Err(format!("{what}: found {other:?}, expected an error of the engine").into()),
    }
}

/// The one value of the one row of `sql`.
fn value(database: &dyn Database, sql: &str, parameters: &[Value]) -> Result<Value, Failure> {
    let rows = database.query(sql, parameters)?;
    match rows.as_slice() {
        [Row(values)] => match values.as_slice() {
            [value] => Ok(value.clone()),
            other => Err(format!("{sql}: {} columns", other.len()).into()),
        },
        other => Err(format!("{sql}: {} rows", other.len()).into()),
    }
}

fn count(database: &dyn Database, table: &str) -> Result<Value, Failure> {
    value(database, &format!("SELECT COUNT(*) FROM {table}"), &[])
}
