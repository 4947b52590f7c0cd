//! Statements: their rows, their errors, their limits.

use super::Outcome;
use super::count;
use super::is_sql_error;
use super::same;
use super::value;
use crate::Database;
use crate::DatabaseError;
use crate::Row;
use crate::Value;
use crate::execute;

pub(super) fn rows(database: &dyn Database) -> Outcome {
    let found = database.query("SELECT 1 AS a, 2 AS a, 'z' AS b UNION ALL SELECT 3, 4, 'y' ORDER BY 1 DESC", &[])?;
    let expected =
        vec![Row(vec![3.into(), 4.into(), Value::from("y")]), Row(vec![1.into(), 2.into(), Value::from("z")])];
    same("rows", found, expected)
}

pub(super) fn no_rows(database: &dyn Database) -> Outcome {
    same("CREATE", database.query("CREATE TABLE t (a)", &[])?, vec![])?;
    same("INSERT", database.query("INSERT INTO t VALUES (1)", &[])?, vec![])?;
    same("SELECT", database.query("SELECT * FROM t WHERE a = 2", &[])?, vec![])
}

pub(super) fn refused(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT NOT NULL UNIQUE, n CHECK (n > 0))", &[])?;
    execute(database, "INSERT INTO t VALUES (1, 'a', 1)", &[])?;
    for sql in [
        "SELEC 1",
        "SELECT * FROM missing",
        "SELECT missing FROM t",
        "INSERT INTO t VALUES (1, 'b', 1)",
        "INSERT INTO t VALUES (2, 'a', 1)",
        "INSERT INTO t VALUES (2, NULL, 1)",
        "INSERT INTO t VALUES (2, 'b', 0)",
        "INSERT INTO t VALUES (2, 'b', 1), (3, 'c', 1), (4, 'a', 1)",
        "UPDATE t SET id = 'text'",
        "CREATE TABLE t (a)",
    ] {
        is_sql_error(sql, database.query(sql, &[]))?;
        same(sql, count(database, "t")?, 1.into())?;
    }
    Ok(())
}

pub(super) fn late_error(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)", &[])?;
    execute(database, "INSERT INTO t VALUES (1, '[1]'), (2, 'broken'), (3, '[3]')", &[])?;
    is_sql_error("SELECT", database.query("SELECT json(s) FROM t ORDER BY id", &[]))?;
    is_sql_error("UPDATE", database.query("UPDATE t SET s = json(s) || ' changed' RETURNING id", &[]))?;
    same("unchanged", value(database, "SELECT s FROM t WHERE id = 1", &[])?, "[1]".into())?;
    is_sql_error("INSERT", database.query("INSERT INTO t SELECT id + 10, json(s) FROM t ORDER BY id", &[]))?;
    same("the rows", count(database, "t")?, 3.into())
}

pub(super) fn parameter_count(database: &dyn Database) -> Outcome {
    is_sql_error("too few", database.query("SELECT ?, ?", &[1.into()]))?;
    is_sql_error("too many", database.query("SELECT ?", &[1.into(), 2.into()]))?;
    same("numbered, twice", value(database, "SELECT ?1 + ?1 + ?2", &[1.into(), 2.into()])?, 4.into())?;
    is_sql_error("none wanted", database.query("SELECT 1", &[1.into()]))?;
    is_sql_error("none given", database.query("SELECT ?", &[]))
}

pub(super) fn one_statement(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE t (a)", &[])?;
    for sql in ["INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (1);", ";", "", " \n"] {
        same(sql, database.query(sql, &[]), Err(DatabaseError::NotOneStatement))?;
    }
    same("the rows", count(database, "t")?, 0.into())
}

pub(super) fn returning(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)", &[])?;
    let row = |id: i64, n: i64| Row(vec![id.into(), n.into()]);
    let inserted = database.query("INSERT INTO t (n) VALUES (?), (?) RETURNING id, n", &[7.into(), 8.into()])?;
    same("INSERT", inserted, vec![row(1, 7), row(2, 8)])?;
    let updated = database.query("UPDATE t SET n = n + 1 RETURNING id, n", &[])?;
    same("UPDATE", updated, vec![row(1, 8), row(2, 9)])?;
    same("DELETE", database.query("DELETE FROM t WHERE id = 1 RETURNING id, n", &[])?, vec![row(1, 8)])?;
    same("the rest", database.query("SELECT id, n FROM t", &[])?, vec![row(2, 9)])
}

pub(super) fn replace(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE entity (key TEXT PRIMARY KEY, id INTEGER NOT NULL, body TEXT) WITHOUT ROWID", &[])?;
    for (key, id, body) in [("b", 1, "old"), ("a", 2, "only"), ("b", 3, "new")] {
        let row = [key.into(), Value::Integer(id), body.into()];
        execute(database, "INSERT OR REPLACE INTO entity (key, id, body) VALUES (?, ?, ?)", &row)?;
    }
    let row = |key: &str, id: i64, body: &str| Row(vec![key.into(), id.into(), body.into()]);
    let all = "SELECT key, id, body FROM entity ORDER BY key";
    same("replaced", database.query(all, &[])?, vec![row("a", 2, "only"), row("b", 3, "new")])?;
    let upsert =
        "INSERT INTO entity VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET id = excluded.id + id RETURNING id";
    same("upserted", value(database, upsert, &["b".into(), 4.into(), Value::Null])?, 7.into())?;
    same("kept", database.query(all, &[])?, vec![row("a", 2, "only"), row("b", 7, "new")])?;
    same("ignored", database.query("INSERT OR IGNORE INTO entity VALUES ('a', 9, '') RETURNING id", &[])?, vec![])?;
    is_sql_error("WITHOUT ROWID", database.query("SELECT rowid FROM entity", &[]))
}

pub(super) fn json(database: &dyn Database) -> Outcome {
    let rows = database.query(
        "SELECT value ->> 'n', value -> 'n', json_type(value, '$.n') FROM json_each(?) ORDER BY key",
        &[r#"[{"n":1},{"n":"x"},{"n":null},{"n":true},{"n":1.5}]"#.into()],
    )?;
    let expected: Vec<Row> = [
        (Value::Integer(1), "1", "integer"),
        ("x".into(), "\"x\"", "text"),
        (Value::Null, "null", "null"),
        (Value::Integer(1), "true", "true"),
        (Value::Real(1.5), "1.5", "real"),
    ]
    .into_iter()
    .map(|(value, json, kind)| Row(vec![value, json.into(), kind.into()]))
    .collect();
    same("json_each", rows, expected)?;
    let made = value(database, "SELECT json_object('a', ?, 'b', json_array(?, NULL))", &["\"é".into(), 0.5.into()])?;
    same("json_object", made, r#"{"a":"\"é","b":[0.5,null]}"#.into())
}

pub(super) fn foreign_keys(database: &dyn Database) -> Outcome {
    execute(database, "CREATE TABLE parent (id INTEGER PRIMARY KEY)", &[])?;
    execute(database, "CREATE TABLE child (parent INTEGER REFERENCES parent ON DELETE CASCADE)", &[])?;
    execute(database, "INSERT INTO parent VALUES (1)", &[])?;
    execute(database, "INSERT INTO child VALUES (1)", &[])?;
    is_sql_error("an orphan", database.query("INSERT INTO child VALUES (2)", &[]))?;
    execute(database, "DELETE FROM parent", &[])?;
    same("the children", count(database, "child")?, 0.into())
}

pub(super) fn limits(database: &dyn Database) -> Outcome {
    let list = |item: &str, times: usize, separator: &str| vec![item; times].join(separator);
    let values = |n: usize| {
        database.query(&format!("SELECT count(*) FROM (VALUES {})", list("(?)", n, ",")), &vec![Value::Null; n])
    };
    same("100 parameters", values(100)?, vec![Row(vec![100.into()])])?;
    is_sql_error("101 parameters", values(101))?;
    let columns = |n: usize| database.query(&format!("SELECT {}", list("1", n, ",")), &[]);
    same("100 columns", columns(100)?.first().map(|row| row.0.len()), Some(100))?;
    is_sql_error("101 columns", columns(101))?;
    let compound = |n: usize| database.query(&list("SELECT 1", n, " UNION ALL "), &[]);
    same("5 terms", compound(5)?.len(), 5)?;
    is_sql_error("6 terms", compound(6))?;
    let like = |n: usize| database.query("SELECT 'x' LIKE ?", &["%".repeat(n).into()]);
    same("a pattern of 50", like(50)?, vec![Row(vec![1.into()])])?;
    is_sql_error("a pattern of 51", like(51))?;
    let sum = |n: usize| database.query(&format!("SELECT {}", list("1", n, "+")), &[]);
    same("100 terms", sum(100)?, vec![Row(vec![100.into()])])?;
    is_sql_error("101 terms", sum(101))?;
    let long = |n: usize| database.query(&format!("SELECT length('{}')", "x".repeat(n)), &[]);
    same("a long statement", long(90_000)?, vec![Row(vec![90_000.into()])])?;
    is_sql_error("a statement of over 100,000 bytes", long(100_000))
}
