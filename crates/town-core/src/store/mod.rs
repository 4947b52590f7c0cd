//! The rows of the ledger. Beads are kept as they travel: [`protocol::town::bead::Bead`]. Instants are text in ISO 8601.

pub mod agent;
pub mod bead;
pub mod convoy;
pub mod dependency;
pub mod escalation;
pub mod history;
pub mod nudge;
pub mod review;
pub mod schema;
pub mod town;

use database::DatabaseError;
use database::Row;
use database::Value;
use protocol::id::InvalidId;
use protocol::time::iso8601;
use protocol::time::parse_iso8601;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An instant, as it is kept.
pub fn instant(ms: i64) -> Value {
    iso8601(ms).into()
}

/// An instant that may be absent.
pub fn instant_option(ms: Option<i64>) -> Value {
    ms.map(iso8601).into()
}

/// JSON, as it is kept.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Value, DatabaseError> {
    serde_json::to_string(value).map(Value::Text).map_err(|error| DatabaseError::Sql(error.to_string()))
}

pub fn read_at(row: &Row, column: usize) -> Result<i64, DatabaseError> {
    parse_iso8601(&row.get::<String>(column)?).ok_or(DatabaseError::Column { column, expected: "an instant" })
}

pub fn read_at_option(row: &Row, column: usize) -> Result<Option<i64>, DatabaseError> {
    let Some(text) = row.get::<Option<String>>(column)? else { return Ok(None) };
    parse_iso8601(&text).map(Some).ok_or(DatabaseError::Column { column, expected: "an instant" })
}

pub fn read_json<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T, DatabaseError> {
    serde_json::from_str(&row.get::<String>(column)?).map_err(|error| DatabaseError::Sql(error.to_string()))
}

pub fn read_id<T: TryFrom<String, Error = InvalidId>>(row: &Row, column: usize) -> Result<T, DatabaseError> {
    T::try_from(row.get(column)?).map_err(|error| DatabaseError::Sql(error.to_string()))
}

pub fn read_id_option<T: TryFrom<String, Error = InvalidId>>(
    row: &Row,
    column: usize,
) -> Result<Option<T>, DatabaseError> {
    let Some(text) = row.get::<Option<String>>(column)? else { return Ok(None) };
    T::try_from(text).map(Some).map_err(|error| DatabaseError::Sql(error.to_string()))
}

/// A word of an enum.
pub fn read_word<T>(row: &Row, column: usize, parse: fn(&str) -> Option<T>) -> Result<T, DatabaseError> {
    parse(&row.get::<String>(column)?).ok_or(DatabaseError::Column { column, expected: "a known word" })
}
