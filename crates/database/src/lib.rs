//! The SQL port: what a core may ask of a database, synchronously, and nothing more.
//!
//! Two implementations keep the same promises: rusqlite natively (feature `rusqlite`), workerd's SQL storage in the Worker. One
//! shared suite ([`suite`], feature `suite`) runs the same statements on both, so that they cannot drift.
//!
//! The promises, which are the smaller common ground of the two:
//! - A statement is one statement and holds no `;`. Parameters are `?`, positional, at most 100.
//! - A parameter that is a number is bound as a real: a column's type turns it into an integer again, an untyped expression does not.
//! - A number that is whole reads as [`Value::Integer`], whatever it was written as; whole numbers beyond ±[`INTEGER_MAX`] are refused
//!   in both directions.
//! - There is no boolean: write 0 and 1. A text, a blob and a row hold at most 2 MB.
//! - A statement that fails changes nothing, also where it fails after its first row.
//! - [`transaction`] commits what its closure did if that returned `Ok`, and undoes all of it otherwise. It nests.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod migration;
#[cfg(feature = "rusqlite")]
mod native;
#[cfg(feature = "suite")]
pub mod suite;
mod value;

pub use migration::Migration;
pub use migration::migrate;
#[cfg(feature = "rusqlite")]
pub use native::NativeDatabase;
pub use value::FromValue;
pub use value::INTEGER_MAX;
pub use value::Row;
pub use value::Value;
pub use value::check_integer;

/// What went wrong in a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// The engine refused: syntax, a constraint, a full disk.
    #[error("sql: {0}")]
    Sql(String),
    /// A whole number that one of the two sides could not carry exactly.
    #[error("integer out of range: {0} is beyond ±(2^53 - 1)")]
    IntegerOutOfRange(i64),
    /// Nothing to run, or more than one thing.
    #[error("expected one statement, without ';'")]
    NotOneStatement,
    /// A column that is not there, or not of the type the reader expects.
    #[error("column {column}: expected {expected}")]
    Column {
        /// From 0.
        column: usize,
        /// The type that was asked for.
        expected: &'static str,
    },
}

/// A database, as a core sees it.
pub trait Database {
    /// Runs one statement and returns its rows, if it has any.
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, DatabaseError>;

    /// Runs `work` as one atomic unit: kept if it returns true, undone if it returns false.
    ///
    /// Call [`transaction`] instead: this is the form in which a trait object can have it.
    fn transact(&self, work: &mut dyn FnMut() -> bool) -> Result<(), DatabaseError>;
}

/// Runs one statement for its effect.
pub fn execute(database: &dyn Database, sql: &str, parameters: &[Value]) -> Result<(), DatabaseError> {
    database.query(sql, parameters).map(drop)
}

/// Refuses what the engines would treat differently. Every implementation of [`Database::query`] calls it first.
///
/// One engine runs all statements of a text, the other only the first: so a `;` is refused wherever it stands.
pub fn check_call(sql: &str, parameters: &[Value]) -> Result<(), DatabaseError> {
    if sql.contains(';') || sql.trim().is_empty() {
        return Err(DatabaseError::NotOneStatement);
    }
    for parameter in parameters {
        match parameter {
            Value::Integer(n) => drop(check_integer(*n)?),
            Value::Real(n) => drop(Value::from_number(*n)?),
            Value::Null | Value::Text(_) | Value::Blob(_) => (),
        }
    }
    Ok(())
}

/// Runs `work` as one atomic unit: an `Err` undoes all it did.
pub fn transaction<T, E: From<DatabaseError>>(
    database: &dyn Database,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let mut work = Some(work);
    let mut result = None;
    database.transact(&mut || match work.take() {
        Some(work) => result.insert(work()).is_ok(),
        None => false,
    })?;
    result.unwrap_or_else(|| Err(DatabaseError::Sql("the transaction did not run".into()).into()))
}
