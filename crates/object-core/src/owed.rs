//! Effects that must happen.
//!
//! An effect (tell the directory, start the work, call back …) is first a row: what is owed, since when, how often it was tried, when it
//! is tried again. The shell performs it with a timeout shorter than the retry and reports the outcome as an input. After a crash the next
//! tick finds the row and tries again, so an effect must be safe to repeat. Nothing owed lives only in memory.
//!
//! What was given up is a debt no more: of its row only what there is to tell stays, a [`Letter`]. Who shows letters says how many are kept.

use crate::ReplyTo;
use database::Database;
use database::DatabaseError;
use database::Row;
use database::execute;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// The table, for the migrations of the object that uses it.
pub const OWED_TABLE: &str = "CREATE TABLE owed (
    key TEXT PRIMARY KEY, effect TEXT NOT NULL, since INTEGER NOT NULL, attempt INTEGER NOT NULL, retry_at INTEGER NOT NULL, reply_to INTEGER, dead TEXT
) WITHOUT ROWID";

/// What one object owes. `E` is its kinds of effects.
pub struct Owed<E>(PhantomData<E>);

/// A row of what is owed.
#[derive(Clone, Debug, PartialEq)]
pub struct Debt<E> {
    /// Unique among what the object owes at one time.
    pub key: String,
    /// What is to be done.
    pub effect: E,
    /// When it came to be owed.
    pub since: i64,
    /// How often it was tried.
    pub attempt: i64,
    /// Who waits for it.
    pub reply_to: Option<ReplyTo>,
}

/// What there is to tell of a debt, or of one that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The debt's.
    pub key: String,
    /// How often it was tried.
    pub attempt: i64,
    /// Why it was given up, if it was.
    pub dead: Option<String>,
}

impl<E: Serialize + DeserializeOwned> Owed<E> {
    /// Owes `effect` from now on, to be performed at the next tick. Replaces what was owed under the same key.
    pub fn owe(
        db: &dyn Database,
        now: i64,
        key: &str,
        effect: &E,
        reply_to: Option<ReplyTo>,
    ) -> Result<(), DatabaseError> {
        let json = serde_json::to_string(effect).map_err(|error| DatabaseError::Sql(error.to_string()))?;
        execute(
            db,
            "INSERT OR REPLACE INTO owed (key, effect, since, attempt, retry_at, reply_to) VALUES (?, ?, ?, 0, ?, ?)",
            &[key.into(), json.into(), now.into(), now.into(), reply_to.map(|r| r.0).into()],
        )
    }

    /// Takes what is due for one more try. `retry_after` says in how many milliseconds the next try would follow.
    pub fn take_due(
        db: &dyn Database,
        now: i64,
        retry_after: impl Fn(&E, i64) -> i64,
    ) -> Result<Vec<Debt<E>>, DatabaseError> {
        let rows = db.query(
            "SELECT key, effect, since, attempt, reply_to FROM owed WHERE dead IS NULL AND retry_at <= ? ORDER BY since, key",
            &[now.into()],
        )?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut debt: Debt<E> = match read(row) {
                Ok(debt) => debt,
                // Written by another version: it must not keep the others from being paid.
                Err(error) => {
                    Self::give_up(db, now, &row.get::<String>(0)?, &error.to_string())?;
                    continue;
                }
            };
            debt.attempt = debt.attempt.saturating_add(1);
            let retry_at = now.saturating_add(retry_after(&debt.effect, debt.attempt));
            execute(
                db,
                "UPDATE owed SET attempt = ?, retry_at = ? WHERE key = ?",
                &[debt.attempt.into(), retry_at.into(), debt.key.as_str().into()],
            )?;
            due.push(debt);
        }
        Ok(due)
    }

    /// Takes one debt for a try now, whether due or not: for a caller that waits.
    pub fn take_now(
        db: &dyn Database,
        now: i64,
        key: &str,
        retry_after_ms: i64,
    ) -> Result<Option<Debt<E>>, DatabaseError> {
        let Some(mut debt) = Self::find(db, key)? else { return Ok(None) };
        debt.attempt = debt.attempt.saturating_add(1);
        execute(
            db,
            "UPDATE owed SET attempt = ?, retry_at = ? WHERE key = ?",
            &[debt.attempt.into(), now.saturating_add(retry_after_ms).into(), key.into()],
        )?;
        Ok(Some(debt))
    }

    /// The debt under `key`.
    pub fn find(db: &dyn Database, key: &str) -> Result<Option<Debt<E>>, DatabaseError> {
        let sql = "SELECT key, effect, since, attempt, reply_to FROM owed WHERE key = ? AND dead IS NULL";
        db.query(sql, &[key.into()])?.first().map(read).transpose()
    }

    /// Ends a debt: it happened, or it never will. Returns it if it was still there and can be read. A letter goes too.
    pub fn settle(db: &dyn Database, key: &str) -> Result<Option<Debt<E>>, DatabaseError> {
        let sql = "DELETE FROM owed WHERE key = ? RETURNING key, effect, since, attempt, reply_to";
        Ok(db.query(sql, &[key.into()])?.first().and_then(|row| read(row).ok()))
    }

    /// Changes who waits for a debt.
    pub fn reply_to(db: &dyn Database, key: &str, reply_to: ReplyTo) -> Result<(), DatabaseError> {
        execute(db, "UPDATE owed SET reply_to = ? WHERE key = ?", &[reply_to.0.into(), key.into()])
    }

    /// Moves the next try.
    pub fn retry_at(db: &dyn Database, key: &str, at: i64) -> Result<(), DatabaseError> {
        execute(db, "UPDATE owed SET retry_at = ? WHERE key = ?", &[at.into(), key.into()])
    }

    /// A try went well, and the next is due at `at`: its failures count from one again.
    pub fn begin_again(db: &dyn Database, key: &str, at: i64) -> Result<(), DatabaseError> {
        execute(db, "UPDATE owed SET attempt = 0, retry_at = ? WHERE key = ?", &[at.into(), key.into()])
    }

    /// Gives a debt up. Its effect, which may be large, goes; a letter stays, with the time of this in place of that of the next try.
    pub fn give_up(db: &dyn Database, now: i64, key: &str, reason: &str) -> Result<(), DatabaseError> {
        let sql = "UPDATE owed SET dead = ?, effect = '', reply_to = NULL, retry_at = ? WHERE key = ?";
        execute(db, sql, &[reason.into(), now.into(), key.into()])
    }

    /// Forgets a letter. A debt under this key stays.
    pub fn forget_dead(db: &dyn Database, key: &str) -> Result<(), DatabaseError> {
        execute(db, "DELETE FROM owed WHERE key = ? AND dead IS NOT NULL", &[key.into()])
    }

    /// Forgets what was given up, but for the `newest`: those that were given up last.
    pub fn keep_dead(db: &dyn Database, newest: i64) -> Result<(), DatabaseError> {
        let older = "SELECT key FROM owed WHERE dead IS NOT NULL ORDER BY retry_at DESC, key DESC LIMIT -1 OFFSET ?";
        execute(db, &format!("DELETE FROM owed WHERE key IN ({older})"), &[newest.into()])
    }

    /// The debts whose keys begin with `prefix`, oldest first. One that cannot be read is left out.
    pub fn list(db: &dyn Database, prefix: &str) -> Result<Vec<Debt<E>>, DatabaseError> {
        let sql = "SELECT key, effect, since, attempt, reply_to FROM owed
            WHERE dead IS NULL AND substr(key, 1, length(?1)) = ?1 ORDER BY since, key";
        Ok(db.query(sql, &[prefix.into()])?.iter().filter_map(|row| read(row).ok()).collect())
    }

    /// What there is to tell of the debts whose keys begin with `prefix`, and of those that were given up, oldest first.
    pub fn letters(db: &dyn Database, prefix: &str) -> Result<Vec<Letter>, DatabaseError> {
        let sql = "SELECT key, attempt, dead FROM owed WHERE substr(key, 1, length(?1)) = ?1 ORDER BY since, key";
        let rows = db.query(sql, &[prefix.into()])?;
        rows.iter().map(|row| Ok(Letter { key: row.get(0)?, attempt: row.get(1)?, dead: row.get(2)? })).collect()
    }

    /// When the next debt is due.
    pub fn next_retry(db: &dyn Database) -> Result<Option<i64>, DatabaseError> {
        db.query("SELECT MIN(retry_at) FROM owed WHERE dead IS NULL", &[])?.first().map_or(Ok(None), |row| row.get(0))
    }
}

fn read<E: DeserializeOwned>(row: &Row) -> Result<Debt<E>, DatabaseError> {
    let effect: String = row.get(1)?;
    Ok(Debt {
        key: row.get(0)?,
        effect: serde_json::from_str(&effect).map_err(|error| DatabaseError::Sql(format!("owed effect: {error}")))?,
        since: row.get(2)?,
        attempt: row.get(3)?,
        reply_to: row.get::<Option<i64>>(4)?.map(ReplyTo),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::NativeDatabase;

    fn owed() -> (NativeDatabase, fn(&String, i64) -> i64) {
        let db = NativeDatabase::in_memory().unwrap();
        execute(&db, OWED_TABLE, &[]).unwrap();
        (db, |_, attempt| attempt * 100)
    }

    #[test]
    fn a_debt_is_tried_again_until_it_is_settled() {
        let (db, backoff) = owed();
        Owed::owe(&db, 10, "k", &"effect".to_owned(), Some(ReplyTo(5))).unwrap();
        assert_eq!(Owed::<String>::next_retry(&db).unwrap(), Some(10));
        let first = Owed::take_due(&db, 10, backoff).unwrap();
        assert_eq!((first[0].attempt, first[0].reply_to), (1, Some(ReplyTo(5))));
        assert!(Owed::take_due(&db, 109, backoff).unwrap().is_empty());
        assert_eq!(Owed::take_due(&db, 110, backoff).unwrap()[0].attempt, 2);
        assert_eq!(Owed::<String>::next_retry(&db).unwrap(), Some(310));
        assert!(Owed::<String>::settle(&db, "k").unwrap().is_some());
        assert!(Owed::<String>::settle(&db, "k").unwrap().is_none());
        assert_eq!(Owed::<String>::next_retry(&db).unwrap(), None);
    }

    #[test]
    fn a_waiting_caller_does_not_wait_for_the_tick() {
        let (db, backoff) = owed();
        Owed::owe(&db, 10, "k", &"effect".to_owned(), None).unwrap();
        assert_eq!(Owed::<String>::take_now(&db, 10, "k", 50).unwrap().unwrap().attempt, 1);
        assert!(Owed::take_due(&db, 59, backoff).unwrap().is_empty());
        assert_eq!(Owed::take_due(&db, 60, backoff).unwrap().len(), 1);
    }

    #[test]
    fn of_what_was_given_up_a_letter_stays_which_is_no_debt() {
        let (db, backoff) = owed();
        for key in ["callback/a", "callback/b", "other"] {
            Owed::owe(&db, 10, key, &"effect".to_owned(), Some(ReplyTo(5))).unwrap();
        }
        Owed::<String>::give_up(&db, 10, "callback/a", "gone").unwrap();
        let keys: Vec<_> = Owed::take_due(&db, 10, backoff).unwrap().into_iter().map(|debt| debt.key).collect();
        assert_eq!(keys, ["callback/b", "other"]);
        assert_eq!(Owed::<String>::find(&db, "callback/a").unwrap(), None);
        assert_eq!(Owed::<String>::list(&db, "callback/").unwrap().len(), 1);
        let letters = Owed::<String>::letters(&db, "callback/").unwrap();
        let told: Vec<_> = letters.iter().map(|one| (one.key.as_str(), one.attempt, one.dead.as_deref())).collect();
        assert_eq!(told, [("callback/a", 0, Some("gone")), ("callback/b", 1, None)]);
        let left = db.query("SELECT effect FROM owed WHERE key = 'callback/a'", &[]).unwrap();
        assert_eq!(left[0].0, ["".into()], "what was to be done is not kept");
    }

    #[test]
    fn the_newest_letters_are_kept_and_every_debt() {
        let (db, _) = owed();
        for (since, key) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
            Owed::owe(&db, since, key, &"effect".to_owned(), None).unwrap();
        }
        // The oldest debt was tried for the longest.
        for (at, key) in [(11, "d"), (12, "c"), (13, "b")] {
            Owed::<String>::give_up(&db, at, key, "gone").unwrap();
        }
        let keys = || -> Vec<_> { Owed::<String>::letters(&db, "").unwrap().into_iter().map(|one| one.key).collect() };
        Owed::<String>::keep_dead(&db, 2).unwrap();
        assert_eq!(keys(), ["a", "b", "c"]);
        Owed::<String>::forget_dead(&db, "a").unwrap();
        Owed::<String>::forget_dead(&db, "c").unwrap();
        assert_eq!(keys(), ["a", "b"]);
        Owed::<String>::keep_dead(&db, 0).unwrap();
        assert_eq!(keys(), ["a"]);
    }

    #[test]
    fn an_unreadable_row_stops_no_other() {
        let (db, backoff) = owed();
        Owed::owe(&db, 10, "a", &"effect".to_owned(), None).unwrap();
        Owed::owe(&db, 10, "b", &"effect".to_owned(), None).unwrap();
        execute(&db, "UPDATE owed SET effect = '{' WHERE key = 'a'", &[]).unwrap();
        let keys: Vec<_> = Owed::take_due(&db, 10, backoff).unwrap().into_iter().map(|debt| debt.key).collect();
        assert_eq!(keys, ["b"]);
        assert_eq!(Owed::<String>::next_retry(&db).unwrap(), Some(110));
        assert_eq!(Owed::<String>::list(&db, "").unwrap().len(), 1);
        assert!(Owed::<String>::settle(&db, "a").unwrap().is_none());
        assert!(db.query("SELECT 1 FROM owed WHERE key = 'a'", &[]).unwrap().is_empty(), "and can be ended");
    }

    #[test]
    fn the_stored_form_is_pinned() {
        let (db, _) = owed();
        Owed::owe(&db, 10, "k", &"effect".to_owned(), Some(ReplyTo(5))).unwrap();
        let row = &db.query("SELECT key, effect, since, attempt, retry_at, reply_to FROM owed", &[]).unwrap()[0];
        assert_eq!(row.0, ["k".into(), "\"effect\"".into(), 10.into(), 0.into(), 10.into(), 5.into()]);
    }
}
