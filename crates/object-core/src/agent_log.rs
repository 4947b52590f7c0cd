//! The event log of one agent of a town (spec/town.md 3.2): the rules of `AgentDO`.
//!
//! One row per event, with an id that is greater than all before it; the newest [`EVENTS_KEPT`] are kept. What is too old goes in batches, so that
//! keeping the bound costs a statement per [`PRUNE_EVERY`] events and not one per event.
//!
//! Whose log it is, the town knows: a log without an event is begun only for an agent that is there ([`is_begun`]). So the log of an agent, or of a town,
//! that is no more does not grow back.

use database::Database;
use database::DatabaseError;
use database::Migration;
use database::execute;
use protocol::time::iso8601;
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;

/// How many events are kept (spec/town.md 12), give or take a batch.
const EVENTS_KEPT: i64 = 10_000;
const PRUNE_EVERY: i64 = 256;
/// How many are listed at once, at the most.
pub const LISTED_MAX: i64 = 500;

/// The largest data of an event that are kept, in bytes. What is larger is only told of.
const DATA_BYTES_MAX: usize = 64 * 1024;
/// The longest name of a kind of event, in characters.
const TYPE_CHARS_MAX: usize = 200;
/// About how many bytes of events are listed at once; the first is always listed, so that a cursor goes on.
const LISTED_BYTES_MAX: i64 = 1024 * 1024;

/// The schema of the object.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    statements: &[
        "CREATE TABLE event (id INTEGER PRIMARY KEY, type TEXT NOT NULL, data TEXT NOT NULL, at INTEGER NOT NULL)",
    ],
}];

/// An event, as it is to be kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewEvent {
    /// What kind of event.
    pub event_type: String,
    /// Kept as it came.
    pub data: Box<RawValue>,
}

impl NewEvent {
    /// The event within the bounds of the log: too long a name is cut, data that are too large are replaced by `{"truncated": <their bytes>}`.
    pub fn cut(self) -> Self {
        let event_type = self.event_type.chars().take(TYPE_CHARS_MAX).collect();
        let bytes = self.data.get().len();
        let told = (bytes > DATA_BYTES_MAX).then(|| RawValue::from_string(format!("{{\"truncated\":{bytes}}}")));
        Self { event_type, data: told.and_then(Result::ok).unwrap_or(self.data) }
    }
}

/// An event, as it is listed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event {
    /// To be handed back as a cursor.
    pub id: i64,
    /// Whose it is.
    pub agent_id: String,
    /// What kind of event.
    pub event_type: String,
    /// As it came.
    pub data: Box<RawValue>,
    /// When it was stored, in ISO 8601.
    pub created_at: String,
}

/// Stores an event.
pub fn append(db: &dyn Database, now: i64, event: &NewEvent) -> Result<(), DatabaseError> {
    let rows = db.query(
        "INSERT INTO event (type, data, at) VALUES (?, ?, ?) RETURNING id",
        &[event.event_type.as_str().into(), event.data.get().into(), now.into()],
    )?;
    let id: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
    if id.checked_rem(PRUNE_EVERY) == Some(0) {
        execute(db, "DELETE FROM event WHERE id <= ?", &[id.saturating_sub(EVENTS_KEPT).into()])?;
    }
    Ok(())
}

/// The events after `after`, oldest first: at most `limit`, and about 1 MiB. The last one's id is the cursor to the rest.
pub fn list(db: &dyn Database, agent: &str, after: i64, limit: i64) -> Result<Vec<Event>, DatabaseError> {
    let rows = db.query(
        "SELECT id, type, data, at FROM (
            SELECT id, type, data, at, SUM(LENGTH(CAST(data AS BLOB))) OVER (ORDER BY id) - LENGTH(CAST(data AS BLOB)) AS before
            FROM (SELECT id, type, data, at FROM event WHERE id > ? ORDER BY id LIMIT ?)
         ) WHERE before < ? ORDER BY id",
        &[after.into(), limit.clamp(0, LISTED_MAX).into(), LISTED_BYTES_MAX.into()],
    )?;
    let broken = |error: serde_json::Error| DatabaseError::Sql(format!("event: {error}"));
    rows.iter()
        .map(|row| {
            Ok(Event {
                id: row.get(0)?,
                agent_id: agent.to_owned(),
                event_type: row.get(1)?,
                data: RawValue::from_string(row.get(2)?).map_err(broken)?,
                created_at: iso8601(row.get(3)?),
            })
        })
        .collect()
}

/// Whether it holds anything.
pub fn is_begun(db: &dyn Database) -> Result<bool, DatabaseError> {
    Ok(!db.query("SELECT 1 FROM event LIMIT 1", &[])?.is_empty())
}

/// Deletes all.
pub fn clear(db: &dyn Database) -> Result<(), DatabaseError> {
    execute(db, "DELETE FROM event", &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::NativeDatabase;

    fn log() -> NativeDatabase {
        let db = NativeDatabase::in_memory().unwrap();
        database::migrate(&db, MIGRATIONS).unwrap();
        db
    }

    fn event(n: i64) -> NewEvent {
        NewEvent { event_type: "t".into(), data: RawValue::from_string(format!("{{\"n\": {n}}}")).unwrap() }
    }

    #[test]
    fn events_are_listed_in_order_after_a_cursor_and_as_they_came() {
        let db = log();
        (1..=600).for_each(|n| append(&db, n, &event(n)).unwrap());
        assert_eq!(list(&db, "a", 0, 9_999).unwrap().len(), 500);
        let next = list(&db, "a", 500, 2).unwrap();
        let told: Vec<_> = next.iter().map(|event| (event.id, event.data.get())).collect();
        assert_eq!(told, [(501, "{\"n\": 501}"), (502, "{\"n\": 502}")]);
        assert_eq!(next[0].created_at, "1970-01-01T00:00:00.501Z");
    }

    #[test]
    fn an_event_that_is_too_large_is_only_told_of() {
        let data = |bytes: usize| RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
        let cut = |bytes| NewEvent { event_type: "é".repeat(999), data: data(bytes) }.cut();
        assert_eq!(cut(DATA_BYTES_MAX).data.get().len(), DATA_BYTES_MAX);
        let too_large = cut(DATA_BYTES_MAX + 1);
        assert_eq!(too_large.data.get(), format!("{{\"truncated\":{}}}", DATA_BYTES_MAX + 1));
        assert_eq!(too_large.event_type.chars().count(), TYPE_CHARS_MAX);
    }

    #[test]
    fn a_list_ends_at_a_mebibyte_and_the_cursor_goes_on() {
        let db = log();
        let data = || RawValue::from_string(format!("\"{}\"", "x".repeat(DATA_BYTES_MAX - 2))).unwrap();
        for n in 0..40 {
            append(&db, n, &NewEvent { event_type: "t".into(), data: data() }).unwrap();
        }
        let mut cursor = 0;
        let mut pages = Vec::new();
        loop {
            let page = list(&db, "a", cursor, 500).unwrap();
            let Some(last) = page.last() else { break };
            cursor = last.id;
            pages.push(page.len());
        }
        assert_eq!(pages, [16, 16, 8]);
    }

    #[test]
    fn the_newest_are_kept_and_their_ids_go_on() {
        let db = log();
        (1..=EVENTS_KEPT + 3 * PRUNE_EVERY).for_each(|n| append(&db, n, &event(n)).unwrap());
        let kept: i64 = db.query("SELECT COUNT(*) FROM event", &[]).unwrap()[0].get(0).unwrap();
        assert!((EVENTS_KEPT..EVENTS_KEPT + PRUNE_EVERY).contains(&kept), "{kept}");
        assert_eq!(list(&db, "a", EVENTS_KEPT + 3 * PRUNE_EVERY - 1, 9).unwrap().len(), 1);
    }
}
