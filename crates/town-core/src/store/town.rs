//! `town` and `rigs`.

use super::instant;
use super::json;
use super::read_at;
use super::read_id;
use super::read_json;
use database::Database;
use database::DatabaseError;
use database::Row;
use database::execute;
use protocol::id::RigId;
use protocol::id::TownId;
use protocol::town::config::Rig;
use protocol::town::config::TownConfig;

/// The town itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TownRow {
    pub id: TownId,
    pub created_at: i64,
    pub config: TownConfig,
}

pub fn find(db: &dyn Database) -> Result<Option<TownRow>, DatabaseError> {
    let rows = db.query("SELECT id, created_at, config FROM town", &[])?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(TownRow { id: read_id(row, 0)?, created_at: read_at(row, 1)?, config: read_json(row, 2)? }))
}

/// The first one to be named stays.
pub fn create(db: &dyn Database, town: &TownRow) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT OR IGNORE INTO town (one, id, created_at, config) VALUES (1, ?, ?, ?)",
        &[town.id.as_str().into(), instant(town.created_at), json(&town.config)?],
    )
}

pub fn save_config(db: &dyn Database, config: &TownConfig) -> Result<(), DatabaseError> {
    execute(db, "UPDATE town SET config = ?", &[json(config)?])
}

/// The town's name in `gone`.
const TOWN: &str = "town";

fn rig_name(rig: &RigId) -> String {
    format!("rig/{rig}")
}

/// Whether the town was deleted, for ever: its name is given to no other, so what comes late cannot bring it back.
pub fn is_gone(db: &dyn Database) -> Result<bool, DatabaseError> {
    is_named_gone(db, TOWN)
}

/// Whether a rig was removed, for ever.
pub fn is_rig_gone(db: &dyn Database, rig: &RigId) -> Result<bool, DatabaseError> {
    is_named_gone(db, &rig_name(rig))
}

/// The town is no more, and its rigs with it.
pub fn bury(db: &dyn Database) -> Result<(), DatabaseError> {
    execute(db, "DELETE FROM gone", &[])?;
    execute(db, "INSERT INTO gone (name) VALUES (?)", &[TOWN.into()])
}

/// A rig is no more, or never will be.
pub fn bury_rig(db: &dyn Database, rig: &RigId) -> Result<(), DatabaseError> {
    execute(db, "INSERT OR IGNORE INTO gone (name) VALUES (?)", &[rig_name(rig).into()])?;
    execute(db, "DELETE FROM rigs WHERE id = ?", &[rig.as_str().into()])
}

fn is_named_gone(db: &dyn Database, name: &str) -> Result<bool, DatabaseError> {
    Ok(!db.query("SELECT 1 FROM gone WHERE name = ?", &[name.into()])?.is_empty())
}

const RIG: &str = "SELECT id, name, git_url, default_branch, created_at FROM rigs";

/// Oldest first.
pub fn rigs(db: &dyn Database) -> Result<Vec<Rig>, DatabaseError> {
    db.query(&format!("{RIG} ORDER BY rowid"), &[])?.iter().map(read_rig).collect()
}

pub fn rig(db: &dyn Database, rig: &RigId) -> Result<Option<Rig>, DatabaseError> {
    db.query(&format!("{RIG} WHERE id = ?"), &[rig.as_str().into()])?.first().map(read_rig).transpose()
}

pub fn rig_named(db: &dyn Database, name: &str) -> Result<Option<Rig>, DatabaseError> {
    db.query(&format!("{RIG} WHERE name = ?"), &[name.into()])?.first().map(read_rig).transpose()
}

pub fn save_rig(db: &dyn Database, rig: &Rig) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT INTO rigs (id, name, git_url, default_branch, created_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, git_url = excluded.git_url, default_branch = excluded.default_branch",
        &[
            rig.id.as_str().into(),
            rig.name.as_str().into(),
            rig.git_url.as_str().into(),
            rig.default_branch.as_str().into(),
            instant(rig.created_at),
        ],
    )
}

pub fn delete_rig(db: &dyn Database, rig: &RigId) -> Result<(), DatabaseError> {
    execute(db, "DELETE FROM rigs WHERE id = ?", &[rig.as_str().into()])
}

fn read_rig(row: &Row) -> Result<Rig, DatabaseError> {
    Ok(Rig {
        id: read_id(row, 0)?,
        name: row.get(1)?,
        git_url: row.get(2)?,
        default_branch: row.get(3)?,
        created_at: read_at(row, 4)?,
    })
}
