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
    last_id: Option<i64>,
    last_seq: Option<(String, i64)>,
}

impl EventLog {
    /// Stores an event by its class and returns its id; None for a volatile one.
    pub fn append(
        &mut self,
        db: &dyn Database,
        class: &EventClass,
        event: NewEvent,
    ) -> Result<Option<i64>, DatabaseError> {
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
        self.last_id = Some(id);
        if let Some(seq) = event.seq {
            self.last_seq = Some((event.execution.to_owned(), seq));
        }
        Ok(Some(id))
    }

    /// The highest number stored of `execution`; 0 if none is.
    pub fn last_seq(&mut self, db: &dyn Database, execution: &str) -> Result<i64, DatabaseError> {
        if let Some((known, seq)) = &self.last_seq
            && known == execution
        {
            return Ok(*seq);
        }
        let rows = db.query(
            "SELECT MAX(seq) FROM (
                SELECT MAX(seq) AS seq FROM log WHERE execution = ?1 UNION ALL SELECT MAX(seq) FROM entity WHERE execution = ?1
            )",
            &[execution.into()],
        )?;
        let seq = rows.first().map_or(Ok(None), |row| row.get::<Option<i64>>(0))?.unwrap_or(0);
        self.last_seq = Some((execution.to_owned(), seq));
        Ok(seq)
    }

    /// The highest id stored; 0 if nothing is.
    pub fn last_id(&mut self, db: &dyn Database) -> Result<i64, DatabaseError> {
        if let Some(id) = self.last_id {
            return Ok(id);
        }
        let rows =
            db.query("SELECT MAX(id) FROM (SELECT MAX(id) AS id FROM log UNION ALL SELECT MAX(id) FROM entity)", &[])?;
        let id = rows.first().map_or(Ok(None), |row| row.get::<Option<i64>>(0))?.unwrap_or(0);
        self.last_id = Some(id);
        Ok(id)
    }

    /// Forgets what was remembered: to be called when a transaction was undone.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The stored events after `from_id`, in order, up to about `budget` bytes of data; at least one if there is any.
///
/// Sizes are read before contents, so a round never holds more than its budget and one event.
pub fn replay_round(db: &dyn Database, from_id: i64, budget: i64) -> Result<Vec<StoredEvent>, DatabaseError> {
    let sizes = db.query(
        "SELECT id, octet_length(data) FROM log WHERE id > ?1
         UNION ALL SELECT id, octet_length(data) FROM entity WHERE id > ?1
         ORDER BY 1 LIMIT ?2",
        &[from_id.into(), ROUND_EVENTS_MAX.into()],
    )?;
    let (mut up_to, mut bytes) = (from_id, 0_i64);
    for row in &sizes {
        let (id, size): (i64, i64) = (row.get(0)?, row.get(1)?);
        bytes = bytes.saturating_add(size);
        if bytes > budget && up_to != from_id {
            break;
        }
        up_to = id;
    }
    db.query(
        "SELECT id, execution, type, at, data FROM log WHERE id > ?1 AND id <= ?2
         UNION ALL SELECT id, execution, type, at, data FROM entity WHERE id > ?1 AND id <= ?2
         ORDER BY 1",
        &[from_id.into(), up_to.into()],
    )?
    .iter()
    .map(read)
    .collect()
}

/// Deletes events that happened before `before`, except the newest of all, whose id the next one continues.
pub fn delete_before(db: &dyn Database, before: i64) -> Result<(), DatabaseError> {
    for table in ["log", "entity"] {
        let sql = format!(
            "DELETE FROM {table} WHERE at < ? AND id < (
                SELECT MAX(id) FROM (SELECT MAX(id) AS id FROM log UNION ALL SELECT MAX(id) FROM entity)
            )"
        );
        execute(db, &sql, &[before.into()])?;
    }
    Ok(())
}

fn read(row: &Row) -> Result<StoredEvent, DatabaseError> {
    Ok(StoredEvent { id: row.get(0)?, execution: row.get(1)?, kind: row.get(2)?, at: row.get(3)?, data: row.get(4)? })
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
        assert_eq!(woken.last_seq(&db, "exc_1").unwrap(), 5);
        assert_eq!(woken.last_seq(&db, "exc_2").unwrap(), 0);
        assert_eq!(woken.append(&db, &EventClass::Log, event("3")).unwrap(), Some(3));
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
        delete_before(&db, 2_000).unwrap();
        assert_eq!(ids(&db, 0), [(2, "2".into())]);
        assert_eq!(EventLog::default().append(&db, &EventClass::Log, event("3")).unwrap(), Some(3));
    }
}
