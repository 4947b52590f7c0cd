//! `bead_dependencies`: who waits for whom, who belongs to whom.
//!
//! `CROSS JOIN` fixes the order of a join: from the relation to the bead, by key. Left to itself the planner begins with all beads of a type.

use super::bead;
use super::read_id;
use database::Database;
use database::DatabaseError;
use database::execute;
use protocol::id::BeadId;
use protocol::town::bead::Bead;
use protocol::town::bead::DependencyType;

/// A review that is not over belongs to the bead `b`.
const OPEN_REVIEW: &str = "EXISTS (SELECT 1 FROM bead_dependencies r CROSS JOIN beads m ON m.bead_id = r.bead_id
    WHERE r.depends_on_bead_id = b.bead_id AND r.dependency_type = 'tracks' AND m.type = 'merge_request'
    AND m.status IN ('open', 'in_progress'))";

/// There is one relation between two beads: the first stays.
pub fn insert(db: &dyn Database, from: &BeadId, to: &BeadId, kind: DependencyType) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT OR IGNORE INTO bead_dependencies (bead_id, depends_on_bead_id, dependency_type) VALUES (?, ?, ?)",
        &[from.as_str().into(), to.as_str().into(), kind.as_str().into()],
    )
}

/// Replaces all that `bead` waits for.
pub fn set_blockers(db: &dyn Database, bead: &BeadId, blockers: &[BeadId]) -> Result<(), DatabaseError> {
    execute(
        db,
        "DELETE FROM bead_dependencies WHERE bead_id = ? AND dependency_type = 'blocks'",
        &[bead.as_str().into()],
    )?;
    blockers.iter().try_for_each(|blocker| insert(db, bead, blocker, DependencyType::Blocks))
}

/// Whether `bead` belonged to `convoy`. It does no more.
pub fn leave(db: &dyn Database, bead: &BeadId, convoy: &BeadId) -> Result<bool, DatabaseError> {
    let left = db.query(
        "DELETE FROM bead_dependencies WHERE bead_id = ? AND depends_on_bead_id = ? AND dependency_type = 'tracks' RETURNING 1",
        &[bead.as_str().into(), convoy.as_str().into()],
    )?;
    Ok(!left.is_empty())
}

/// Forgets every relation of a bead.
pub fn delete(db: &dyn Database, bead: &BeadId) -> Result<(), DatabaseError> {
    execute(db, "DELETE FROM bead_dependencies WHERE bead_id = ?", &[bead.as_str().into()])?;
    execute(db, "DELETE FROM bead_dependencies WHERE depends_on_bead_id = ?", &[bead.as_str().into()])
}

/// What `bead` waits for and is not over.
pub fn blockers(db: &dyn Database, bead: &BeadId) -> Result<Vec<BeadId>, DatabaseError> {
    ids(
        db,
        "SELECT d.depends_on_bead_id FROM bead_dependencies d CROSS JOIN beads b ON b.bead_id = d.depends_on_bead_id
         WHERE d.bead_id = ? AND d.dependency_type = 'blocks' AND b.status NOT IN ('closed', 'failed')",
        bead,
    )
}

/// Whether something that `bead` waits for is not over, or is over but its review is not.
pub fn is_blocked_by_review(db: &dyn Database, bead: &BeadId) -> Result<bool, DatabaseError> {
    let sql = format!(
        "SELECT 1 FROM bead_dependencies d CROSS JOIN beads b ON b.bead_id = d.depends_on_bead_id
         WHERE d.bead_id = ? AND d.dependency_type = 'blocks' AND (b.status NOT IN ('closed', 'failed') OR {OPEN_REVIEW}) LIMIT 1"
    );
    Ok(!db.query(&sql, &[bead.as_str().into()])?.is_empty())
}

/// What waits for `bead`.
pub fn blocked_by(db: &dyn Database, bead: &BeadId) -> Result<Vec<BeadId>, DatabaseError> {
    ids(db, "SELECT bead_id FROM bead_dependencies WHERE depends_on_bead_id = ? AND dependency_type = 'blocks'", bead)
}

/// The beads that belong to `bead`: the issues of a convoy, the reviews of an issue. Oldest first.
pub fn tracking(db: &dyn Database, bead: &BeadId) -> Result<Vec<Bead>, DatabaseError> {
    bead::select(
        db,
        "JOIN bead_dependencies d ON d.bead_id = b.bead_id WHERE d.depends_on_bead_id = ? AND d.dependency_type = 'tracks'
         ORDER BY b.rowid",
        &[bead.as_str().into()],
    )
}

/// The beads that `bead` belongs to.
pub fn tracked(db: &dyn Database, bead: &BeadId) -> Result<Vec<Bead>, DatabaseError> {
    bead::select(
        db,
        "JOIN bead_dependencies d ON d.depends_on_bead_id = b.bead_id WHERE d.bead_id = ? AND d.dependency_type = 'tracks'",
        &[bead.as_str().into()],
    )
}

/// The convoys whose count a bead is part of: its own, and of a review those of what it reviews.
pub fn convoys_of(db: &dyn Database, bead: &BeadId) -> Result<Vec<BeadId>, DatabaseError> {
    ids(
        db,
        "SELECT DISTINCT d.depends_on_bead_id FROM bead_dependencies d CROSS JOIN convoy_metadata c ON c.bead_id = d.depends_on_bead_id
         WHERE d.dependency_type = 'tracks' AND d.bead_id IN (SELECT ?1 UNION ALL
            SELECT depends_on_bead_id FROM bead_dependencies WHERE bead_id = ?1 AND dependency_type = 'tracks')",
        bead,
    )
}

/// How many issues of a convoy are over, apart from those whose review is not; and how many there are.
pub fn progress(db: &dyn Database, convoy: &BeadId) -> Result<(i64, i64), DatabaseError> {
    let sql = format!(
        "SELECT COALESCE(SUM(b.status IN ('closed', 'failed') AND NOT {OPEN_REVIEW}), 0), COUNT(*)
         FROM bead_dependencies d CROSS JOIN beads b ON b.bead_id = d.bead_id
         WHERE d.depends_on_bead_id = ? AND d.dependency_type = 'tracks' AND b.type = 'issue'"
    );
    let rows = db.query(&sql, &[convoy.as_str().into()])?;
    rows.first().map_or(Ok((0, 0)), |row| Ok((row.get(0)?, row.get(1)?)))
}

/// In how many rigs the issues of a convoy are.
pub fn count_rigs(db: &dyn Database, convoy: &BeadId) -> Result<i64, DatabaseError> {
    let rows = db.query(
        "SELECT COUNT(DISTINCT b.rig_id) FROM bead_dependencies d CROSS JOIN beads b ON b.bead_id = d.bead_id
         WHERE d.depends_on_bead_id = ? AND d.dependency_type = 'tracks' AND b.type = 'issue'",
        &[convoy.as_str().into()],
    )?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}

/// Every edge between two issues of a convoy.
pub fn edges(db: &dyn Database, convoy: &BeadId) -> Result<Vec<(BeadId, BeadId)>, DatabaseError> {
    let rows = db.query(
        "SELECT e.bead_id, e.depends_on_bead_id FROM bead_dependencies t
         JOIN bead_dependencies e ON e.bead_id = t.bead_id AND e.dependency_type = 'blocks'
         JOIN bead_dependencies o ON o.bead_id = e.depends_on_bead_id AND o.depends_on_bead_id = t.depends_on_bead_id
         WHERE t.depends_on_bead_id = ? AND t.dependency_type = 'tracks' AND o.dependency_type = 'tracks'",
        &[convoy.as_str().into()],
    )?;
    rows.iter().map(|row| Ok((read_id(row, 0)?, read_id(row, 1)?))).collect()
}

fn ids(db: &dyn Database, sql: &str, bead: &BeadId) -> Result<Vec<BeadId>, DatabaseError> {
    db.query(sql, &[bead.as_str().into()])?.iter().map(|row| read_id(row, 0)).collect()
}
