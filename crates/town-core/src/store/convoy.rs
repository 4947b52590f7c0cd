//! `convoy_metadata`, beside a bead of type `convoy`.

use super::instant;
use super::read_at;
use super::read_at_option;
use super::read_id;
use database::Database;
use database::DatabaseError;
use database::Row;
use database::Value;
use database::execute;
use protocol::id::BeadId;
use protocol::town::bead::BeadStatus;
use protocol::town::convoy::Convoy;
use protocol::town::convoy::ConvoyStatus;
use protocol::town::convoy::MergeMode;

const SELECT: &str = "SELECT b.bead_id, b.title, b.status, c.staged, c.total_beads, c.closed_beads, b.created_by, b.created_at, c.landed_at,
    c.feature_branch, c.merge_mode FROM beads b JOIN convoy_metadata c ON c.bead_id = b.bead_id";

pub fn find(db: &dyn Database, convoy: &BeadId) -> Result<Option<Convoy>, DatabaseError> {
    select(db, "WHERE b.bead_id = ?", &[convoy.as_str().into()]).map(|convoys| convoys.into_iter().next())
}

/// Those that have not landed, newest first.
pub fn active(db: &dyn Database) -> Result<Vec<Convoy>, DatabaseError> {
    select(
        db,
        "WHERE b.type = 'convoy' AND b.status IN ('open', 'in_progress', 'in_review', 'failed') ORDER BY b.rowid DESC",
        &[],
    )
}

fn select(db: &dyn Database, clause: &str, parameters: &[Value]) -> Result<Vec<Convoy>, DatabaseError> {
    db.query(&format!("{SELECT} {clause}"), parameters)?.iter().map(read).collect()
}

pub fn insert(db: &dyn Database, convoy: &Convoy) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT INTO convoy_metadata (bead_id, total_beads, feature_branch, merge_mode, staged) VALUES (?, ?, ?, ?, ?)",
        &[
            convoy.id.as_str().into(),
            convoy.total_beads.into(),
            convoy.feature_branch.clone().into(),
            convoy.merge_mode.map(MergeMode::as_str).into(),
            convoy.staged.into(),
        ],
    )
}

pub fn set_progress(db: &dyn Database, convoy: &BeadId, closed: i64, total: i64) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE convoy_metadata SET closed_beads = ?, total_beads = ? WHERE bead_id = ?",
        &[closed.into(), total.into(), convoy.as_str().into()],
    )
}

pub fn start(db: &dyn Database, convoy: &BeadId) -> Result<(), DatabaseError> {
    execute(db, "UPDATE convoy_metadata SET staged = 0 WHERE bead_id = ?", &[convoy.as_str().into()])
}

pub fn land(db: &dyn Database, now: i64, convoy: &BeadId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE convoy_metadata SET landed_at = COALESCE(landed_at, ?) WHERE bead_id = ?",
        &[instant(now), convoy.as_str().into()],
    )
}

pub fn update(
    db: &dyn Database,
    convoy: &BeadId,
    mode: Option<MergeMode>,
    branch: Option<&str>,
) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE convoy_metadata SET merge_mode = COALESCE(?, merge_mode), feature_branch = COALESCE(?, feature_branch) WHERE bead_id = ?",
        &[mode.map(MergeMode::as_str).into(), branch.into(), convoy.as_str().into()],
    )
}

fn read(row: &Row) -> Result<Convoy, DatabaseError> {
    let landed = row.get::<String>(2)? == BeadStatus::Closed.as_str();
    Ok(Convoy {
        id: read_id(row, 0)?,
        title: row.get(1)?,
        status: if landed { ConvoyStatus::Landed } else { ConvoyStatus::Active },
        staged: row.get(3)?,
        total_beads: row.get(4)?,
        closed_beads: row.get(5)?,
        created_by: row.get(6)?,
        created_at: read_at(row, 7)?,
        landed_at: read_at_option(row, 8)?,
        feature_branch: row.get(9)?,
        merge_mode: row.get::<Option<String>>(10)?.as_deref().and_then(MergeMode::parse),
    })
}
