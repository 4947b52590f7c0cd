//! Values and rows.

use crate::DatabaseError;

/// The largest magnitude of a whole number. JavaScript reads 2^53 + 1 as 2^53, so 2^53 itself is already doubtful.
pub const INTEGER_MAX: i64 = (1 << 53) - 1;

/// Refuses an integer beyond ±[`INTEGER_MAX`].
pub fn check_integer(value: i64) -> Result<i64, DatabaseError> {
    if value.unsigned_abs() <= INTEGER_MAX.unsigned_abs() {
        Ok(value)
    } else {
        Err(DatabaseError::IntegerOutOfRange(value))
    }
}

/// One value, going in or coming out.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A whole number within ±[`INTEGER_MAX`].
    Integer(i64),
    /// A number that is not whole.
    Real(f64),
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// A number as an engine gave it: an integer if it is whole, whatever it was stored as.
    pub fn from_number(number: f64) -> Result<Self, DatabaseError> {
        // Saturates beyond the range of i64, so an integer that is too large stays too large. Infinity has no fraction of 0.
        if number.fract() == 0.0 { check_integer(number as i64).map(Value::Integer) } else { Ok(Value::Real(number)) }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Integer(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Integer(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Value::Blob(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// One row of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// The value of column `column` (from 0), as `T`.
    pub fn get<T: FromValue>(&self, column: usize) -> Result<T, DatabaseError> {
        self.0.get(column).and_then(T::from_value).ok_or(DatabaseError::Column { column, expected: T::EXPECTED })
    }
}

/// A type that a column can be read as.
pub trait FromValue: Sized {
    /// For the error message.
    const EXPECTED: &'static str;
    /// None if the value is of another type.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for i64 {
    const EXPECTED: &'static str = "an integer";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Integer(n) = value { Some(*n) } else { None }
    }
}

impl FromValue for bool {
    const EXPECTED: &'static str = "0 or 1";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(0) => Some(false),
            Value::Integer(1) => Some(true),
            _ => None,
        }
    }
}

impl FromValue for f64 {
    const EXPECTED: &'static str = "a number";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Real(n) => Some(*n),
            // Within ±INTEGER_MAX, so exact.
            Value::Integer(n) => Some(*n as f64),
            _ => None,
        }
    }
}

impl FromValue for String {
    const EXPECTED: &'static str = "text";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.clone()) } else { None }
    }
}

impl FromValue for Vec<u8> {
    const EXPECTED: &'static str = "a blob";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Blob(bytes) = value { Some(bytes.clone()) } else { None }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn from_value(value: &Value) -> Option<Self> {
        if *value == Value::Null { Some(None) } else { T::from_value(value).map(Some) }
    }
}
