//! What goes in and what comes out.

use super::Outcome;
use super::is_sql_error;
use super::same;
use super::value;
use crate::Database;
use crate::DatabaseError;
use crate::INTEGER_MAX;
use crate::Row;
use crate::Value;
use crate::execute;

pub(super) fn integers(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE t (n INTEGER, anything)", &[])?;
    for n in [0, 1, -1, 4_294_967_296, INTEGER_MAX, -INTEGER_MAX] {
        execute(database, "DELETE FROM t", &[])?;
        execute(database, "INSERT INTO t VALUES (?, ?)", &[n.into(), n.into()])?;
        let rows = database
            .query("SELECT n, anything, ? FROM t WHERE n = ? AND anything = ?", &[n.into(), n.into(), n.into()])?;
        same("the row", rows, vec![Row(vec![n.into(), n.into(), n.into()])])?;
        same("the literal", value(database, &format!("SELECT {n}"), &[])?, Value::Integer(n))?;
    }
    Ok(())
}

pub(super) fn large_integers_bound(database: &dyn Database) -> Outcome {
    for n in [INTEGER_MAX + 1, -INTEGER_MAX - 1, i64::MAX, i64::MIN] {
        same("bound", database.query("SELECT ?", &[n.into()]), Err(DatabaseError::IntegerOutOfRange(n)))?;
        same("as a real", database.query("SELECT ?", &[(n as f64).into()]), Err(DatabaseError::IntegerOutOfRange(n)))?;
    }
    Ok(())
}

pub(super) fn large_integers_read(database: &dyn Database) -> Outcome {
    for literal in ["9007199254740992", "9007199254740993", "-9007199254740993", "9223372036854775807", "1e300"] {
        let read = database.query(&format!("SELECT {literal}"), &[]);
        same(literal, matches!(read, Err(DatabaseError::IntegerOutOfRange(_))), true)?;
    }
    Ok(())
}

pub(super) fn booleans(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE t (yes INTEGER, no INTEGER)", &[])?;
    execute(database, "INSERT INTO t VALUES (?, ?)", &[true.into(), false.into()])?;
    let rows = database.query("SELECT yes, no, typeof(yes), yes = 1, 7 FROM t WHERE yes", &[])?;
    let row = rows.first().ok_or("no row")?;
    same("true", row.get::<bool>(0)?, true)?;
    same("false", row.get::<bool>(1)?, false)?;
    same("the stored type", row.get::<String>(2)?, "integer".into())?;
    same("a comparison", row.get::<bool>(3)?, true)?;
    same("seven", row.get::<bool>(4), Err(DatabaseError::Column { column: 4, expected: "0 or 1" }))
}

pub(super) fn reals(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE t (n REAL)", &[])?;
    for n in [0.5, -1.25e-9, f64::MIN_POSITIVE, 0.1 + 0.2] {
        execute(database, "DELETE FROM t", &[])?;
        execute(database, "INSERT INTO t VALUES (?)", &[n.into()])?;
        same("a real", value(database, "SELECT n FROM t", &[])?, Value::Real(n))?;
    }
    for (n, whole) in [(5.0, 5), (-0.0, 0), (-3e9, -3_000_000_000)] {
        same("a whole real", value(database, "SELECT ?", &[n.into()])?, Value::Integer(whole))?;
    }
    let row = database.query("SELECT 2, 2.5", &[])?.pop().ok_or("no row")?;
    same("a whole number as a real", row.get::<f64>(0)?, 2.0)?;
    same("a real as an integer", row.get::<i64>(1), Err(DatabaseError::Column { column: 1, expected: "an integer" }))?;
    same("infinity", value(database, "SELECT ?", &[f64::INFINITY.into()])?, Value::Real(f64::INFINITY))?;
    same("not a number", value(database, "SELECT ?", &[f64::NAN.into()])?, Value::Null)
}

pub(super) fn number_types(database: &dyn Database) -> Outcome {
    let five = || Value::Integer(5);
    same("untyped", value(database, "SELECT typeof(?)", &[five()])?, "real".into())?;
    same("divided", value(database, "SELECT ? / 2", &[five()])?, Value::Real(2.5))?;
    same("cast and divided", value(database, "SELECT CAST(? AS INTEGER) / 2", &[five()])?, Value::Integer(2))?;
    same("joined", value(database, "SELECT ? || ''", &[five()])?, "5.0".into())?;
    execute(database, "CREATE TABLE t (i INTEGER, r REAL, s TEXT, b BLOB)", &[])?;
    execute(database, "INSERT INTO t VALUES (?, ?, ?, ?)", &[five(), five(), five(), five()])?;
    let types = value(database, "SELECT concat_ws(' ', typeof(i), typeof(r), typeof(s), typeof(b)) FROM t", &[])?;
    same("stored", types, "integer real text real".into())?;
    same("the text", value(database, "SELECT s FROM t", &[])?, "5.0".into())?;
    let limited = database.query("SELECT 1 UNION ALL SELECT 2 LIMIT ? OFFSET ?", &[1.into(), 1.into()])?;
    same("LIMIT and OFFSET", limited, vec![Row(vec![2.into()])])
}

pub(super) fn blobs(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE t (b BLOB)", &[])?;
    let every_byte: Vec<u8> = (0..=255).collect();
    for bytes in [Vec::new(), vec![0], every_byte] {
        execute(database, "DELETE FROM t", &[])?;
        execute(database, "INSERT INTO t VALUES (?)", &[bytes.clone().into()])?;
        let row = database.query("SELECT b, typeof(b), length(b) FROM t", &[])?.pop().ok_or("no row")?;
        same("the bytes", row.get::<Vec<u8>>(0)?, bytes.clone())?;
        same("the type", row.get::<String>(1)?, "blob".into())?;
        same("the length", row.get::<i64>(2)?, i64::try_from(bytes.len())?)?;
    }
    Ok(())
}

pub(super) fn null(database: &dyn Database) -> Outcome {
    let row = database.query("SELECT ?, ? IS NULL, 1", &[Value::Null, Value::Null])?.pop().ok_or("no row")?;
    same("the value", row.0.first(), Some(&Value::Null))?;
    same("as an option", row.get::<Option<String>>(0)?, None)?;
    same("bound as null", row.get::<bool>(1)?, true)?;
    same("a value as an option", row.get::<Option<i64>>(2)?, Some(1))?;
    same("null as text", row.get::<String>(0), Err(DatabaseError::Column { column: 0, expected: "text" }))
}

pub(super) fn text(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE t (s TEXT PRIMARY KEY)", &[])?;
    for text in
        ["", "a\0b\0", "'\"`; DROP TABLE t -- \\ %_?", "ünïcödé 漢字 🦀 \u{2028}\u{feff}", "\r\n\t", "1", "NULL"]
    {
        execute(database, "INSERT INTO t VALUES (?)", &[text.into()])?;
        let found = database.query("SELECT s, typeof(s) FROM t WHERE s = ?", &[text.into()])?;
        same("the row", found, vec![Row(vec![text.into(), "text".into()])])?;
    }
    same("the length in characters", value(database, "SELECT length('漢🦀')", &[])?, 2.into())?;
    let sorted = database.query("SELECT value FROM json_each(?) ORDER BY value", &[r#"["b","B","é","a"]"#.into()])?;
    same("the order by bytes", sorted, ["B", "a", "b", "é"].map(|s| Row(vec![s.into()])).to_vec())
}

pub(super) fn broken_text(database: &dyn Database) -> Outcome {
    same("read", value(database, "SELECT CAST(x'61ff62' AS TEXT)", &[])?, "a\u{fffd}b".into())
}

pub(super) fn large(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", &[])?;
    let text = "0123456789abcdé".repeat(1 << 16);
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    for whole in [Value::from(text), Value::from(bytes)] {
        let written =
            database.query("INSERT OR REPLACE INTO t VALUES (1, ?) RETURNING v", std::slice::from_ref(&whole))?;
        same("what RETURNING gives", written, vec![Row(vec![whole.clone()])])?;
        same("what is read", value(database, "SELECT v FROM t", &[])?, whole)?;
    }
    is_sql_error("9 MB bound", database.query("SELECT length(?)", &["x".repeat(9_000_000).into()]))?;
    is_sql_error("9 MB computed", database.query("SELECT zeroblob(9000000)", &[]))
}

pub(super) fn ill_typed(database: &dyn Database) -> Outcome {
    let row = database.query("SELECT 'text', x'00', 1", &[])?.pop().ok_or("no row")?;
    let refused = |column, expected| DatabaseError::Column { column, expected };
    same("missing", row.get::<i64>(3), Err(refused(3, "an integer")))?;
    same("missing, as an option", row.get::<Option<i64>>(3), Err(refused(3, "an integer")))?;
    same("text as an integer", row.get::<i64>(0), Err(refused(0, "an integer")))?;
    same("text as a number", row.get::<f64>(0), Err(refused(0, "a number")))?;
    same("text as a blob", row.get::<Vec<u8>>(0), Err(refused(0, "a blob")))?;
    same("a blob as text", row.get::<String>(1), Err(refused(1, "text")))?;
    same("an integer as text", row.get::<Option<String>>(2), Err(refused(2, "text")))
}
