//! `beads`.

use super::instant;
use super::instant_option;
use super::json;
use super::read_at;
use super::read_at_option;
use super::read_id;
use super::read_id_option;
use super::read_json;
use super::read_word;
use database::Database;
use database::DatabaseError;
use database::Row;
use database::Value;
use database::execute;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;

const SELECT: &str = "SELECT b.bead_id, b.type, b.status, b.title, b.body, b.rig_id, b.parent_bead_id, b.assignee_agent_bead_id,
    b.priority, b.labels, b.metadata, b.dispatch_attempts, b.last_dispatch_attempt_at, b.created_by, b.created_at, b.updated_at,
    b.closed_at FROM beads b";

/// What is asked of [`list`].
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub status: Option<BeadStatus>,
    pub kind: Option<BeadType>,
    pub rig: Option<RigId>,
    pub assignee: Option<AgentId>,
    pub parent: Option<BeadId>,
}

pub fn find(db: &dyn Database, bead: &BeadId) -> Result<Option<Bead>, DatabaseError> {
    select(db, "WHERE b.bead_id = ?", &[bead.as_str().into()]).map(|beads| beads.into_iter().next())
}

/// Beads by a clause of our own, which names the table `b`.
pub fn select(db: &dyn Database, clause: &str, parameters: &[Value]) -> Result<Vec<Bead>, DatabaseError> {
    db.query(&format!("{SELECT} {clause}"), parameters)?.iter().map(read).collect()
}

/// Newest first. Rows are never reused, so the row number is the order of creation and needs no index.
pub fn list(db: &dyn Database, filter: &Filter, limit: i64, offset: i64) -> Result<Vec<Bead>, DatabaseError> {
    let wanted: [(&str, Option<&str>); 5] = [
        ("b.status = ?", filter.status.map(BeadStatus::as_str)),
        ("b.type = ?", filter.kind.map(BeadType::as_str)),
        ("b.rig_id = ?", filter.rig.as_ref().map(RigId::as_str)),
        ("b.assignee_agent_bead_id = ?", filter.assignee.as_ref().map(AgentId::as_str)),
        ("b.parent_bead_id = ?", filter.parent.as_ref().map(BeadId::as_str)),
    ];
    let wanted: Vec<_> = wanted.into_iter().filter_map(|(sql, value)| Some((sql, value?))).collect();
    let tests: Vec<_> = wanted.iter().map(|(sql, _)| *sql).collect();
    let mut parameters: Vec<Value> = wanted.iter().map(|(_, value)| Value::from(*value)).collect();
    parameters.extend([limit.into(), offset.into()]);
    let clause = if tests.is_empty() { String::new() } else { format!("WHERE {}", tests.join(" AND ")) };
    select(db, &format!("{clause} ORDER BY b.rowid DESC LIMIT ? OFFSET ?"), &parameters)
}

pub fn insert(db: &dyn Database, bead: &Bead) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT INTO beads (bead_id, type, status, title, body, rig_id, parent_bead_id, assignee_agent_bead_id, priority, labels,
            metadata, created_by, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            bead.bead_id.as_str().into(),
            bead.kind.as_str().into(),
            bead.status.as_str().into(),
            bead.title.as_str().into(),
            bead.body.clone().into(),
            bead.rig_id.as_ref().map(RigId::as_str).into(),
            bead.parent_bead_id.as_ref().map(BeadId::as_str).into(),
            bead.assignee_agent_bead_id.as_ref().map(AgentId::as_str).into(),
            bead.priority.as_str().into(),
            json(&bead.labels)?,
            json(&bead.metadata)?,
            bead.created_by.clone().into(),
            instant(bead.created_at),
            instant(bead.updated_at),
        ],
    )
}

/// Writes the status, and with it the time of closing. Whether the transition is allowed is the caller's matter.
pub fn set_status(db: &dyn Database, now: i64, bead: &BeadId, status: BeadStatus) -> Result<(), DatabaseError> {
    let closed_at = (status == BeadStatus::Closed).then_some(now);
    execute(
        db,
        "UPDATE beads SET status = ?, updated_at = ?, closed_at = COALESCE(?, closed_at) WHERE bead_id = ?",
        &[status.as_str().into(), instant(now), instant_option(closed_at), bead.as_str().into()],
    )
}

pub fn set_assignee(
    db: &dyn Database,
    now: i64,
    bead: &BeadId,
    assignee: Option<&AgentId>,
) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE beads SET assignee_agent_bead_id = ?, updated_at = ? WHERE bead_id = ?",
        &[assignee.map(AgentId::as_str).into(), instant(now), bead.as_str().into()],
    )
}

/// One more try at giving it to a container.
pub fn count_dispatch(db: &dyn Database, now: i64, bead: &BeadId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE beads SET dispatch_attempts = dispatch_attempts + 1, last_dispatch_attempt_at = ? WHERE bead_id = ?",
        &[instant(now), bead.as_str().into()],
    )
}

/// One try less, for one that says nothing of the bead.
pub fn uncount_dispatch(db: &dyn Database, bead: &BeadId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE beads SET dispatch_attempts = MAX(dispatch_attempts - 1, 0),
            last_dispatch_attempt_at = CASE WHEN dispatch_attempts <= 1 THEN NULL ELSE last_dispatch_attempt_at END
         WHERE bead_id = ?",
        &[bead.as_str().into()],
    )
}

/// The counters of dispatch: none, and never.
pub fn reset_dispatch(db: &dyn Database, bead: &BeadId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE beads SET dispatch_attempts = 0, last_dispatch_attempt_at = NULL WHERE bead_id = ?",
        &[bead.as_str().into()],
    )
}

/// When it was last tried: the cooldown counts from here.
pub fn set_last_dispatch(db: &dyn Database, at: i64, bead: &BeadId) -> Result<(), DatabaseError> {
    execute(db, "UPDATE beads SET last_dispatch_attempt_at = ? WHERE bead_id = ?", &[instant(at), bead.as_str().into()])
}

pub fn touch(db: &dyn Database, now: i64, bead: &BeadId) -> Result<(), DatabaseError> {
    execute(db, "UPDATE beads SET updated_at = ? WHERE bead_id = ?", &[instant(now), bead.as_str().into()])
}

/// Writes what a person may change: texts, priority, labels, metadata, rig, parent.
pub fn save_fields(db: &dyn Database, now: i64, bead: &Bead) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE beads SET title = ?, body = ?, priority = ?, labels = ?, metadata = ?, rig_id = ?, parent_bead_id = ?, updated_at = ?
         WHERE bead_id = ?",
        &[
            bead.title.as_str().into(),
            bead.body.clone().into(),
            bead.priority.as_str().into(),
            json(&bead.labels)?,
            json(&bead.metadata)?,
            bead.rig_id.as_ref().map(RigId::as_str).into(),
            bead.parent_bead_id.as_ref().map(BeadId::as_str).into(),
            instant(now),
            bead.bead_id.as_str().into(),
        ],
    )
}

/// Adds keys to the metadata. A null removes its key.
pub fn relabel(
    db: &dyn Database,
    now: i64,
    bead: &BeadId,
    priority: Priority,
    labels: &[String],
) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE beads SET priority = ?, labels = ?, updated_at = ? WHERE bead_id = ?",
        &[priority.as_str().into(), json(labels)?, instant(now), bead.as_str().into()],
    )
}

pub fn merge_metadata(db: &dyn Database, bead: &BeadId, changes: &serde_json::Value) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE beads SET metadata = json_patch(metadata, ?) WHERE bead_id = ?",
        &[json(changes)?, bead.as_str().into()],
    )
}

fn read(row: &Row) -> Result<Bead, DatabaseError> {
    Ok(Bead {
        bead_id: read_id(row, 0)?,
        kind: read_word(row, 1, BeadType::parse)?,
        status: read_word(row, 2, BeadStatus::parse)?,
        title: row.get(3)?,
        body: row.get(4)?,
        rig_id: read_id_option(row, 5)?,
        parent_bead_id: read_id_option(row, 6)?,
        assignee_agent_bead_id: read_id_option(row, 7)?,
        priority: read_word(row, 8, Priority::parse)?,
        labels: read_json(row, 9)?,
        metadata: read_json(row, 10)?,
        dispatch_attempts: row.get(11)?,
        last_dispatch_attempt_at: read_at_option(row, 12)?,
        created_by: row.get(13)?,
        created_at: read_at(row, 14)?,
        updated_at: read_at(row, 15)?,
        closed_at: read_at_option(row, 16)?,
    })
}
