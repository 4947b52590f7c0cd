//! The event log: two hot tables, one row written per stored event (design 3).
//!
//! *log* holds one row per event; *entity* holds the newest state of each thing, overwritten in place with a **new** id. So a viewer that
//! resumes after id `n` misses no update, and replay is both tables merged by id. There is no secondary index and no counter row: ids and
//! sequence numbers continue from the maximum in the tables, which [`EventLog`] remembers between inputs.
//!
//! Ids never repeat: retention keeps the newest event whatever its age.

use database::Database;
use database::DatabaseError;
use database::Row;
use database::Value;
use database::execute;
use protocol::event::EventClass;

/// The tables, for the migrations of the object that uses them.
pub const EVENT_TABLES: [&str; 2] = [
    "CREATE TABLE log (
        id INTEGER PRIMARY KEY, execution TEXT NOT NULL, seq INTEGER, type TEXT NOT NULL, at INTEGER NOT NULL, data TEXT NOT NULL
    )",
    "CREATE TABLE entity (
        key TEXT PRIMARY KEY, id INTEGER NOT NULL, execution TEXT NOT NULL, seq INTEGER, type TEXT NOT NULL, at INTEGER NOT NULL, data TEXT NOT NULL
    ) WITHOUT ROWID",
];

/// How many candidates one replay round looks at, at the most.
const ROUND_EVENTS_MAX: i64 = 2_000;

/// An event to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    /// The execution, or the source of a preparation's events.
    pub execution: &'a str,
    /// The producer's number.
    pub seq: Option<i64>,
    /// `streamEventType`.
    pub kind: &'a str,
    /// When it happened.
    pub at: i64,
    /// JSON text.
    pub data: &'a str,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Greater than that of everything stored before.
    pub id: i64,
    /// The execution.
    pub execution: String,
    /// `streamEventType`.
    pub kind: String,
    /// When it happened.
    pub at: i64,
    /// JSON text.
    pub data: String,
}

/// The log of one object. Holds only what it can read again.
#[derive(Default)]
pub struct EventLog {
    newest: Option<Newest>,
    /// The last numbers of the two executions that were asked for last: one runs, the one before may still deliver.
    last_seqs: [Option<(String, i64)>; 2],
}

/// The newest event.
struct Newest {
    id: i64,
    execution: String,
}

impl EventLog {
    /// Stores an event by its class and returns its id; None for a volatile one.
    pub fn append(
        &mut self,
        db: &dyn Database,
        class: &EventClass,
        event: NewEvent,
    ) -> Result<Option<i64>, DatabaseError> {
        if *class == EventClass::Volatile {
            return Ok(None);
        }
        let id = self.last_id(db)?.saturating_add(1);
        let fields = [
            id.into(),
            event.execution.into(),
            event.seq.into(),
            event.kind.into(),
            event.at.into(),
            event.data.into(),
        ];
        match class {
            EventClass::Volatile => return Ok(None),
            EventClass::Log => {
                execute(db, "INSERT INTO log (id, execution, seq, type, at, data) VALUES (?, ?, ?, ?, ?, ?)", &fields)?;
            }
            EventClass::Entity(key) => {
                let mut values = vec![Value::from(key.as_str())];
                values.extend(fields);
                execute(
                    db,
                    "INSERT OR REPLACE INTO entity (key, id, execution, seq, type, at, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    &values,
                )?;
            }
        }
        match &mut self.newest {
            Some(newest) if newest.execution == event.execution => newest.id = id,
            newest => *newest = Some(Newest { id, execution: event.execution.to_owned() }),
        }
        if let Some(seq) = event.seq {
            self.remember_seq(event.execution, seq);
        }
        Ok(Some(id))
    }

    /// Whose the newest event is, if an event of `execution` would be the first after it of another, and the last number of that one.
    ///
    /// Events of `execution` may overwrite the entity that carries this number: who wants to know it later keeps it, and hands it to
    /// [`EventLog::last_seq`].
    pub fn ended_by(&mut self, db: &dyn Database, execution: &str) -> Result<Option<(String, i64)>, DatabaseError> {
        match &self.newest(db)?.execution {
            newest if newest.is_empty() || newest == execution => Ok(None),
            newest => {
                let newest = newest.clone();
                let seq = self.last_seq(db, &newest, 0)?;
                Ok(Some((newest, seq)))
            }
        }
    }

    fn remember_seq(&mut self, execution: &str, seq: i64) {
        let [first, second] = &mut self.last_seqs;
        match first {
            Some((known, last)) if known == execution => *last = seq,
            _ => {
                std::mem::swap(first, second);
                *first = Some((execution.to_owned(), seq));
            }
        }
    }

    /// The highest number stored of `execution`, as far as it was not overwritten, or `kept` if that is higher; 0 if none is.
    pub fn last_seq(&mut self, db: &dyn Database, execution: &str, kept: i64) -> Result<i64, DatabaseError> {
        if let Some((_, seq)) = self.last_seqs.iter().flatten().find(|(known, _)| known == execution) {
            return Ok((*seq).max(kept));
        }
        let rows = db.query(
            "SELECT MAX(seq) FROM (
                SELECT MAX(seq) AS seq FROM log WHERE execution = ?1 UNION ALL SELECT MAX(seq) FROM entity WHERE execution = ?1
            )",
            &[execution.into()],
        )?;
        let seq = rows.first().map_or(Ok(None), |row| row.get::<Option<i64>>(0))?.unwrap_or(0).max(kept);
        self.remember_seq(execution, seq);
        Ok(seq)
    }

    /// The highest id stored; 0 if nothing is.
    pub fn last_id(&mut self, db: &dyn Database) -> Result<i64, DatabaseError> {
        Ok(self.newest(db)?.id)
    }

    fn newest(&mut self, db: &dyn Database) -> Result<&Newest, DatabaseError> {
        let newest = match self.newest.take() {
            Some(newest) => newest,
            None => read_newest(db)?,
        };
        Ok(self.newest.insert(newest))
    }

    /// Forgets what was remembered: to be called when a transaction was undone.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The newest event; id 0 of no execution if there is none. Beside `MAX`, SQLite gives the other columns of its row.
fn read_newest(db: &dyn Database) -> Result<Newest, DatabaseError> {
    let rows = db.query(
        "SELECT MAX(id), execution FROM (SELECT MAX(id) AS id, execution FROM log UNION ALL SELECT MAX(id), execution FROM entity)",
        &[],
    )?;
    let Some(row) = rows.first() else { return Ok(Newest { id: 0, execution: String::new() }) };
    Ok(Newest {
        id: row.get::<Option<i64>>(0)?.unwrap_or(0),
        execution: row.get::<Option<String>>(1)?.unwrap_or_default(),
    })
}

/// The stored events after `from_id`, in order, up to `budget` bytes of data; at least one if there is any.
///
/// Sizes are summed before contents are read, so a round never holds more than its budget, or one event. Contents come as bytes: as text they
/// would be converted twice on their way out of JavaScript.
pub fn replay_round(db: &dyn Database, from_id: i64, budget: i64) -> Result<Vec<StoredEvent>, DatabaseError> {
    let last = db.query(
        "SELECT MAX(id) FROM (
            SELECT id, SUM(size) OVER (ORDER BY id) AS total, ROW_NUMBER() OVER (ORDER BY id) AS number FROM (
                SELECT id, octet_length(data) AS size FROM log WHERE id > ?1
                UNION ALL SELECT id, octet_length(data) FROM entity WHERE id > ?1 ORDER BY 1 LIMIT ?2
            )
         ) WHERE total <= ?3 OR number = 1",
        &[from_id.into(), ROUND_EVENTS_MAX.into(), budget.into()],
    )?;
    let Some(up_to) = last.first().map_or(Ok(None), |row| row.get::<Option<i64>>(0))? else { return Ok(vec![]) };
    db.query(
        "SELECT id, execution, type, at, CAST(data AS BLOB) FROM log WHERE id > ?1 AND id <= ?2
         UNION ALL SELECT id, execution, type, at, CAST(data AS BLOB) FROM entity WHERE id > ?1 AND id <= ?2
         ORDER BY 1",
        &[from_id.into(), up_to.into()],
    )?
    .iter()
    .map(read)
    .collect()
}

/// Deletes events that happened at `until` or before, except the newest of all, whose id the next one continues.
pub fn delete_until(db: &dyn Database, until: i64) -> Result<(), DatabaseError> {
    for table in ["log", "entity"] {
        let sql = format!(
            "DELETE FROM {table} WHERE at <= ? AND id < (
                SELECT MAX(id) FROM (SELECT MAX(id) AS id FROM log UNION ALL SELECT MAX(id) FROM entity)
            )"
        );
        execute(db, &sql, &[until.into()])?;
    }
    Ok(())
}

/// When the oldest event happened.
pub fn oldest(db: &dyn Database) -> Result<Option<i64>, DatabaseError> {
    db.query("SELECT MIN(at) FROM (SELECT MIN(at) AS at FROM log UNION ALL SELECT MIN(at) FROM entity)", &[])?
        .first()
        .map_or(Ok(None), |row| row.get(0))
}

fn read(row: &Row) -> Result<StoredEvent, DatabaseError> {
    let data = String::from_utf8(row.get(4)?).map_err(|_| DatabaseError::Column { column: 4, expected: "UTF-8" })?;
    Ok(StoredEvent { id: row.get(0)?, execution: row.get(1)?, kind: row.get(2)?, at: row.get(3)?, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::NativeDatabase;

    fn db() -> NativeDatabase {
        let db = NativeDatabase::in_memory().unwrap();
        for table in EVENT_TABLES {
            execute(&db, table, &[]).unwrap();
        }
        db
    }

    fn event(data: &str) -> NewEvent<'_> {
        NewEvent { execution: "exc_1", seq: None, kind: "output", at: 1_000, data }
    }

    fn ids(db: &NativeDatabase, from: i64) -> Vec<(i64, String)> {
        replay_round(db, from, 1 << 20).unwrap().into_iter().map(|e| (e.id, e.data)).collect()
    }

    #[test]
    fn an_entity_update_gets_a_new_id_and_replaces_the_old_state() {
        let (db, mut log) = (db(), EventLog::default());
        let part = EventClass::Entity("part/m/p".into());
        assert_eq!(log.append(&db, &part, event("1")).unwrap(), Some(1));
        assert_eq!(log.append(&db, &EventClass::Log, event("2")).unwrap(), Some(2));
        assert_eq!(log.append(&db, &part, event("3")).unwrap(), Some(3));
        assert_eq!(ids(&db, 0), [(2, "2".into()), (3, "3".into())]);
        assert_eq!(ids(&db, 2), [(3, "3".into())]);
    }

    #[test]
    fn a_volatile_event_takes_no_id() {
        let (db, mut log) = (db(), EventLog::default());
        assert_eq!(log.append(&db, &EventClass::Volatile, event("1")).unwrap(), None);
        assert_eq!(log.append(&db, &EventClass::Log, event("2")).unwrap(), Some(1));
    }

    #[test]
    fn numbering_continues_after_a_wake() {
        let (db, mut log) = (db(), EventLog::default());
        log.append(&db, &EventClass::Log, NewEvent { seq: Some(4), ..event("1") }).unwrap();
        log.append(&db, &EventClass::Entity("k".into()), NewEvent { seq: Some(5), ..event("2") }).unwrap();
        let mut woken = EventLog::default();
        assert_eq!(woken.last_seq(&db, "exc_1", 0).unwrap(), 5);
        assert_eq!(woken.last_seq(&db, "exc_2", 0).unwrap(), 0);
        assert_eq!(woken.append(&db, &EventClass::Log, event("3")).unwrap(), Some(3));
    }

    #[test]
    fn the_number_that_another_execution_overwrites_is_told_before() {
        let (db, mut log) = (db(), EventLog::default());
        let part = EventClass::Entity("k".into());
        assert_eq!(log.ended_by(&db, "exc_1").unwrap(), None);
        log.append(&db, &EventClass::Log, NewEvent { seq: Some(1), ..event("1") }).unwrap();
        log.append(&db, &part, NewEvent { seq: Some(2), ..event("2") }).unwrap();
        let mut woken = EventLog::default();
        for log in [&mut log, &mut woken] {
            assert_eq!(log.ended_by(&db, "exc_1").unwrap(), None);
            assert_eq!(log.ended_by(&db, "exc_2").unwrap(), Some(("exc_1".into(), 2)));
        }
        let other = NewEvent { execution: "exc_2", seq: Some(1), ..event("3") };
        log.append(&db, &part, other).unwrap();
        assert_eq!(log.ended_by(&db, "exc_2").unwrap(), None);
        assert_eq!(log.last_seq(&db, "exc_1", 0).unwrap(), 2, "it remembers both");
        assert_eq!(EventLog::default().last_seq(&db, "exc_1", 0).unwrap(), 1);
        assert_eq!(EventLog::default().last_seq(&db, "exc_1", 2).unwrap(), 2);
    }

    #[test]
    fn a_round_keeps_its_budget_but_sends_at_least_one() {
        let (db, mut log) = (db(), EventLog::default());
        for size in [10, 10, 5_000, 10] {
            log.append(&db, &EventClass::Log, event(&"x".repeat(size))).unwrap();
        }
        let round = |from| replay_round(&db, from, 25).unwrap().iter().map(|e| e.id).collect::<Vec<_>>();
        assert_eq!((round(0), round(2), round(3), round(4)), (vec![1, 2], vec![3], vec![4], vec![]));
    }

    #[test]
    fn retention_never_lets_an_id_repeat() {
        let (db, mut log) = (db(), EventLog::default());
        for data in ["1", "2"] {
            log.append(&db, &EventClass::Log, event(data)).unwrap();
        }
        delete_until(&db, 2_000).unwrap();
        assert_eq!(ids(&db, 0), [(2, "2".into())]);
        assert_eq!(EventLog::default().append(&db, &EventClass::Log, event("3")).unwrap(), Some(3));
    }
}
