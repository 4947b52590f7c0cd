//! `bead_events`: what happened to each bead.

use super::instant;
use super::json;
use super::read_at;
use super::read_id;
use super::read_json;
use super::read_word;
use database::Database;
use database::DatabaseError;
use database::Row;
use database::Value;
use database::execute;
use protocol::id::BeadId;
use protocol::town::bead::BeadEvent;
use protocol::town::bead::BeadEventType;

const SELECT: &str =
    "SELECT e.bead_event_id, e.bead_id, e.agent_id, e.event_type, e.old_value, e.new_value, e.metadata, e.created_at
    FROM bead_events e";

pub fn insert(db: &dyn Database, event: &BeadEvent) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT INTO bead_events (bead_event_id, bead_id, agent_id, event_type, old_value, new_value, metadata, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            event.bead_event_id.as_str().into(),
            event.bead_id.as_str().into(),
            event.agent_id.clone().into(),
            event.event_type.as_str().into(),
            event.old_value.clone().into(),
            event.new_value.clone().into(),
            json(&event.metadata)?,
            instant(event.created_at),
        ],
    )
}

/// Newest first; `since` is exclusive.
pub fn list(
    db: &dyn Database,
    bead: Option<&BeadId>,
    since: Option<i64>,
    limit: i64,
) -> Result<Vec<BeadEvent>, DatabaseError> {
    let mut tests = Vec::new();
    let mut parameters: Vec<Value> = Vec::new();
    if let Some(bead) = bead {
        tests.push("e.bead_id = ?");
        parameters.push(bead.as_str().into());
    }
    if let Some(since) = since {
        tests.push("e.created_at > ?");
        parameters.push(instant(since));
    }
    parameters.push(limit.into());
    let clause = if tests.is_empty() { String::new() } else { format!("WHERE {}", tests.join(" AND ")) };
    db.query(&format!("{SELECT} {clause} ORDER BY e.rowid DESC LIMIT ?"), &parameters)?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<BeadEvent, DatabaseError> {
    Ok(BeadEvent {
        bead_event_id: row.get(0)?,
        bead_id: read_id(row, 1)?,
        agent_id: row.get(2)?,
        event_type: read_word(row, 3, BeadEventType::parse)?,
        old_value: row.get(4)?,
        new_value: row.get(5)?,
        metadata: read_json(row, 6)?,
        created_at: read_at(row, 7)?,
    })
}
