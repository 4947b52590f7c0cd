//! The workerd implementation of the SQL port, on the storage of one Durable Object.
//!
//! The bindings are our own, each with `catch`: an error of SQLite that is thrown through a binding without it never reaches Rust, and
//! the request hangs (spec/platform.md 1.4). Everything is synchronous, so between two awaits of the object nothing interleaves.
//! `wasm-tests/sql-suite` holds this file to the same suite as the native implementation.

use database::Database;
use database::DatabaseError;
use database::Row;
use database::Value;
use database::check_call;
use js_sys::Array;
use js_sys::Uint8Array;
use std::cell::Cell;
use wasm_bindgen::JsCast;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    type SyncStorage;

    #[wasm_bindgen(method, getter)]
    fn sql(this: &SyncStorage) -> Sql;

    #[wasm_bindgen(method, catch, js_name = transactionSync)]
    fn transaction_sync(
        this: &SyncStorage,
        work: &mut dyn FnMut() -> Result<JsValue, JsValue>,
    ) -> Result<JsValue, JsValue>;

    type Sql;

    #[wasm_bindgen(method, catch, variadic)]
    fn exec(this: &Sql, statement: &str, parameters: &Array) -> Result<Cursor, JsValue>;

    type Cursor;

    /// Rows as arrays: as objects, columns of one name would be one.
    #[wasm_bindgen(method, catch)]
    fn raw(this: &Cursor) -> Result<RawCursor, JsValue>;

    #[wasm_bindgen(method, getter, js_name = rowsRead)]
    fn rows_read(this: &Cursor) -> f64;

    #[wasm_bindgen(method, getter, js_name = rowsWritten)]
    fn rows_written(this: &Cursor) -> f64;

    type RawCursor;

    #[wasm_bindgen(method, catch, js_name = toArray)]
    fn to_array(this: &RawCursor) -> Result<Array, JsValue>;
}

/// What the platform bills: rows, index entries among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows looked at.
    pub read: u64,
    /// Rows inserted, changed or deleted.
    pub written: u64,
}

/// The SQL storage of one object.
pub struct WorkerdDatabase {
    storage: SyncStorage,
    sql: Sql,
    read: Cell<u64>,
    written: Cell<u64>,
}

impl WorkerdDatabase {
    /// The database in `storage`.
    pub fn new(storage: &worker::Storage) -> Self {
        let storage: &JsValue = storage.as_raw().as_ref();
        let storage: SyncStorage = storage.clone().unchecked_into();
        let sql = storage.sql();
        Self { storage, sql, read: Cell::new(0), written: Cell::new(0) }
    }

    /// The rows that all statements since construction have cost.
    pub fn rows(&self) -> RowCounts {
        RowCounts { read: self.read.get(), written: self.written.get() }
    }

    /// Called when a cursor is at its end: before that, its counts are not final.
    fn count(&self, cursor: &Cursor) {
        self.read.set(self.read.get().saturating_add(cursor.rows_read() as u64));
        self.written.set(self.written.get().saturating_add(cursor.rows_written() as u64));
    }
}

impl Database for WorkerdDatabase {
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, DatabaseError> {
        check_call(sql, parameters)?;
        let parameters: Array = parameters.iter().map(to_js).collect();
        let cursor = self.sql.exec(sql, &parameters).map_err(sql_error)?;
        let rows = cursor.raw().and_then(|raw| raw.to_array());
        self.count(&cursor);
        rows.map_err(sql_error)?.iter().map(|row| to_row(row.unchecked_ref())).collect()
    }

    fn transact(&self, work: &mut dyn FnMut() -> bool) -> Result<(), DatabaseError> {
        let mut undone = false;
        // To throw is the only way to have it rolled back.
        let ended = self.storage.transaction_sync(&mut || {
            undone = !work();
            if undone { Err(JsValue::NULL) } else { Ok(JsValue::UNDEFINED) }
        });
        match ended {
            Err(thrown) if !(undone && thrown.is_null()) => Err(sql_error(thrown)),
            _ => Ok(()),
        }
    }
}

fn to_js(value: &Value) -> JsValue {
    match value {
        Value::Null => JsValue::NULL,
        Value::Integer(n) => JsValue::from_f64(*n as f64),
        Value::Real(n) => JsValue::from_f64(*n),
        Value::Text(text) => JsValue::from_str(text),
        Value::Blob(bytes) => Uint8Array::from(bytes.as_slice()).into(),
    }
}

fn to_row(values: &Array) -> Result<Row, DatabaseError> {
    values.iter().map(|value| from_js(&value)).collect::<Result<_, _>>().map(Row)
}

fn from_js(value: &JsValue) -> Result<Value, DatabaseError> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    if let Some(number) = value.as_f64() {
        return Value::from_number(number);
    }
    // What is left is an ArrayBuffer.
    Ok(value.as_string().map_or_else(|| Value::Blob(Uint8Array::new(value).to_vec()), Value::Text))
}

fn sql_error(thrown: JsValue) -> DatabaseError {
    let message = thrown.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    DatabaseError::Sql(message.unwrap_or_else(|| format!("{thrown:?}")))
}
