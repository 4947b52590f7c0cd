//! `review_metadata`, beside a bead of type `merge_request`.

use super::bead;
use database::Database;
use database::DatabaseError;
use database::execute;
use protocol::id::BeadId;
use protocol::town::bead::Bead;

/// What is reviewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    pub branch: String,
    pub target_branch: String,
    pub pr_url: Option<String>,
}

pub fn find(db: &dyn Database, bead: &BeadId) -> Result<Option<Review>, DatabaseError> {
    let sql = "SELECT branch, target_branch, pr_url FROM review_metadata WHERE bead_id = ?";
    let rows = db.query(sql, &[bead.as_str().into()])?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Review { branch: row.get(0)?, target_branch: row.get(1)?, pr_url: row.get(2)? }))
}

pub fn insert(db: &dyn Database, bead: &BeadId, review: &Review) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT INTO review_metadata (bead_id, branch, target_branch, pr_url) VALUES (?, ?, ?, ?)",
        &[
            bead.as_str().into(),
            review.branch.as_str().into(),
            review.target_branch.as_str().into(),
            review.pr_url.clone().into(),
        ],
    )
}

pub fn set_pr_url(db: &dyn Database, bead: &BeadId, url: &str) -> Result<(), DatabaseError> {
    execute(db, "UPDATE review_metadata SET pr_url = ? WHERE bead_id = ?", &[url.into(), bead.as_str().into()])
}

pub fn set_merge_commit(db: &dyn Database, bead: &BeadId, commit: &str) -> Result<(), DatabaseError> {
    execute(db, "UPDATE review_metadata SET merge_commit = ? WHERE bead_id = ?", &[commit.into(), bead.as_str().into()])
}

/// The reviews of a bead. The plus keeps the planner from beginning with all merge requests.
pub fn of_source(db: &dyn Database, source: &BeadId) -> Result<Vec<Bead>, DatabaseError> {
    bead::select(
        db,
        "JOIN bead_dependencies d ON d.bead_id = b.bead_id WHERE d.depends_on_bead_id = ? AND d.dependency_type = 'tracks'
         AND +b.type = 'merge_request' ORDER BY b.rowid",
        &[source.as_str().into()],
    )
}
