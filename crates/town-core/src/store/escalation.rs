//! `escalation_metadata`, beside a bead of type `escalation`.

use super::bead;
use super::instant;
use super::read_at;
use super::read_id;
use super::read_word;
use database::Database;
use database::DatabaseError;
use database::execute;
use protocol::id::BeadId;
use protocol::town::bead::Bead;
use protocol::town::bead::Priority;

/// An escalation that nobody has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    pub bead: BeadId,
    pub severity: Priority,
    /// How often it was raised.
    pub raised: i64,
    pub created_at: i64,
}

pub fn insert(db: &dyn Database, bead: &BeadId, severity: Priority) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT INTO escalation_metadata (bead_id, severity) VALUES (?, ?)",
        &[bead.as_str().into(), severity.as_str().into()],
    )
}

pub fn acknowledge(db: &dyn Database, now: i64, bead: &BeadId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE escalation_metadata SET acknowledged = 1, acknowledged_at = COALESCE(acknowledged_at, ?) WHERE bead_id = ?",
        &[instant(now), bead.as_str().into()],
    )
}

pub fn raise(db: &dyn Database, bead: &BeadId, severity: Priority) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE escalation_metadata SET severity = ?, re_escalation_count = re_escalation_count + 1 WHERE bead_id = ?",
        &[severity.as_str().into(), bead.as_str().into()],
    )
}

/// Those that may still be raised.
pub fn unseen(db: &dyn Database, raises_max: i64) -> Result<Vec<Unseen>, DatabaseError> {
    let rows = db.query(
        "SELECT e.bead_id, e.severity, e.re_escalation_count, b.created_at FROM beads b
         JOIN escalation_metadata e ON e.bead_id = b.bead_id
         WHERE b.type = 'escalation' AND b.status IN ('open', 'in_progress', 'in_review') AND e.acknowledged = 0
         AND e.re_escalation_count < ?",
        &[raises_max.into()],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Unseen {
                bead: read_id(row, 0)?,
                severity: read_word(row, 1, Priority::parse)?,
                raised: row.get(2)?,
                created_at: read_at(row, 3)?,
            })
        })
        .collect()
}

/// Newest first.
pub fn list(db: &dyn Database, acknowledged: Option<bool>, limit: i64) -> Result<Vec<Bead>, DatabaseError> {
    bead::select(
        db,
        "JOIN escalation_metadata e ON e.bead_id = b.bead_id WHERE b.type = 'escalation' AND (?1 IS NULL OR e.acknowledged = ?1)
         ORDER BY b.rowid DESC LIMIT ?2",
        &[acknowledged.map(i64::from).into(), limit.into()],
    )
}
