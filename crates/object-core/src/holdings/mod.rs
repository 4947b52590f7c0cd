//! Which towns and rigs a user has. The rules of `UserDO`, beside the [directory](crate::directory).
//!
//! A town's own object knows its rigs too, and is right where the two differ: what is here is what a user is shown. Whatever is made or removed here is
//! owed to the town in the same write ([`changes`]), so neither has half of it for long.

pub mod changes;

use changes::Change;
use database::Database;
use database::DatabaseError;
use database::Migration;
use database::Row;
use database::execute;
use protocol::id::RigId;
use protocol::id::TownId;
use protocol::time::iso;
use serde::Serialize;

/// The tables, after those of the directory.
pub const MIGRATION: Migration = Migration {
    version: 2,
    statements: &[
        "CREATE TABLE user_towns (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, owner_user_id TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
        )",
        "CREATE TABLE user_rigs (
            id TEXT PRIMARY KEY, town_id TEXT NOT NULL, name TEXT NOT NULL, git_url TEXT NOT NULL, default_branch TEXT NOT NULL,
            platform_integration_id TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
        )",
    ],
};

/// The most towns, and the most rigs, of one user.
pub const HOLDINGS_MAX: i64 = 1_000;

/// A town, as its user sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Town {
    pub id: TownId,
    pub name: String,
    pub owner_user_id: String,
    #[serde(with = "iso")]
    pub created_at: i64,
    #[serde(with = "iso")]
    pub updated_at: i64,
}

/// A rig, as its user sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rig {
    pub id: RigId,
    pub town_id: TownId,
    pub name: String,
    pub git_url: String,
    pub default_branch: String,
    pub platform_integration_id: Option<String>,
    #[serde(with = "iso")]
    pub created_at: i64,
    #[serde(with = "iso")]
    pub updated_at: i64,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    AddRig {
        rig: Rig,
        /// Comes with a rig, and is the town's: kept only until the town has it.
        kilocode_token: Option<String>,
    },
    AddTown(Town),
    RemoveRig(RigId),
    /// With its rigs.
    RemoveTown(TownId),
    Rig(RigId),
    /// Of one town, oldest first.
    Rigs(TownId),
    Town(TownId),
    /// Oldest first.
    Towns,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// There are [`HOLDINGS_MAX`] of them.
    Full,
    Rig(Rig),
    RigNotFound,
    Rigs(Vec<Rig>),
    Town(Town),
    TownNotFound,
    Towns(Vec<Town>),
}

/// Answers one call, as one transaction.
pub fn receive(db: &dyn Database, now: i64, call: &Call) -> Result<Answer, DatabaseError> {
    database::transaction(db, || match call {
        Call::AddRig { rig, kilocode_token } => add_rig(db, now, rig, kilocode_token.as_deref()),
        Call::AddTown(town) => add_town(db, now, town),
        Call::RemoveRig(id) => {
            let Some(rig) = find_rig(db, id)? else { return Ok(Answer::RigNotFound) };
            remove_rig(db, id)?;
            changes::owe(db, now, &Change::RemoveRig { town: rig.town_id, rig: id.clone() })?;
            Ok(Answer::Done)
        }
        Call::RemoveTown(id) => {
            if find_town(db, id)?.is_none() {
                return Ok(Answer::TownNotFound);
            }
            remove_town(db, id)?;
            changes::owe(db, now, &Change::EndTown { town: id.clone() })?;
            Ok(Answer::Done)
        }
        Call::Rig(rig) => Ok(find_rig(db, rig)?.map_or(Answer::RigNotFound, Answer::Rig)),
        Call::Rigs(town) => match find_town(db, town)? {
            None => Ok(Answer::TownNotFound),
            Some(_) => {
                let rows = db.query(&format!("{RIG} WHERE town_id = ? ORDER BY rowid"), &[town.as_str().into()])?;
                Ok(Answer::Rigs(rows.iter().map(read_rig).collect::<Result<_, _>>()?))
            }
        },
        Call::Town(town) => Ok(find_town(db, town)?.map_or(Answer::TownNotFound, Answer::Town)),
        Call::Towns => {
            let rows = db.query(&format!("{TOWN} ORDER BY rowid"), &[])?;
            Ok(Answer::Towns(rows.iter().map(read_town).collect::<Result<_, _>>()?))
        }
    })
}

fn add_town(db: &dyn Database, now: i64, town: &Town) -> Result<Answer, DatabaseError> {
    if count(db, "SELECT COUNT(*) FROM user_towns")? >= HOLDINGS_MAX {
        return Ok(Answer::Full);
    }
    execute(
        db,
        "INSERT INTO user_towns (id, name, owner_user_id, created_at, updated_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        &[
            town.id.as_str().into(),
            town.name.as_str().into(),
            town.owner_user_id.as_str().into(),
            town.created_at.into(),
            town.updated_at.into(),
        ],
    )?;
    changes::owe(db, now, &Change::MakeTown { town: town.id.clone() })?;
    Ok(Answer::Town(town.clone()))
}

fn add_rig(db: &dyn Database, now: i64, rig: &Rig, kilocode_token: Option<&str>) -> Result<Answer, DatabaseError> {
    if find_town(db, &rig.town_id)?.is_none() {
        return Ok(Answer::TownNotFound);
    }
    if count(db, "SELECT COUNT(*) FROM user_rigs")? >= HOLDINGS_MAX {
        return Ok(Answer::Full);
    }
    execute(
        db,
        "INSERT INTO user_rigs (id, town_id, name, git_url, default_branch, platform_integration_id, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        &[
            rig.id.as_str().into(),
            rig.town_id.as_str().into(),
            rig.name.as_str().into(),
            rig.git_url.as_str().into(),
            rig.default_branch.as_str().into(),
            rig.platform_integration_id.clone().into(),
            rig.created_at.into(),
            rig.updated_at.into(),
        ],
    )?;
    let change = Change::AddRig {
        town: rig.town_id.clone(),
        rig: rig.id.clone(),
        name: rig.name.clone(),
        git_url: rig.git_url.clone(),
        default_branch: rig.default_branch.clone(),
        kilocode_token: kilocode_token.map(str::to_owned),
    };
    changes::owe(db, now, &change)?;
    Ok(Answer::Rig(rig.clone()))
}

fn remove_rig(db: &dyn Database, rig: &RigId) -> Result<(), DatabaseError> {
    execute(db, "DELETE FROM user_rigs WHERE id = ?", &[rig.as_str().into()])
}

/// With its rigs, and what is owed for them: they end with their town.
fn remove_town(db: &dyn Database, town: &TownId) -> Result<(), DatabaseError> {
    for row in db.query("DELETE FROM user_rigs WHERE town_id = ? RETURNING id", &[town.as_str().into()])? {
        changes::drop_rig(db, &read_id(&row, 0, RigId::parse)?)?;
    }
    execute(db, "DELETE FROM user_towns WHERE id = ?", &[town.as_str().into()])
}

fn count(db: &dyn Database, sql: &str) -> Result<i64, DatabaseError> {
    db.query(sql, &[])?.first().map_or(Ok(0), |row| row.get(0))
}

fn find_town(db: &dyn Database, town: &TownId) -> Result<Option<Town>, DatabaseError> {
    db.query(&format!("{TOWN} WHERE id = ?"), &[town.as_str().into()])?.first().map(read_town).transpose()
}

fn find_rig(db: &dyn Database, rig: &RigId) -> Result<Option<Rig>, DatabaseError> {
    db.query(&format!("{RIG} WHERE id = ?"), &[rig.as_str().into()])?.first().map(read_rig).transpose()
}

const TOWN: &str = "SELECT id, name, owner_user_id, created_at, updated_at FROM user_towns";
const RIG: &str =
    "SELECT id, town_id, name, git_url, default_branch, platform_integration_id, created_at, updated_at FROM user_rigs";

fn read_town(row: &Row) -> Result<Town, DatabaseError> {
    Ok(Town {
        id: read_id(row, 0, TownId::parse)?,
        name: row.get(1)?,
        owner_user_id: row.get(2)?,
        created_at: row.get(3)?,
        updated_at: row.get(4)?,
    })
}

fn read_rig(row: &Row) -> Result<Rig, DatabaseError> {
    Ok(Rig {
        id: read_id(row, 0, RigId::parse)?,
        town_id: read_id(row, 1, TownId::parse)?,
        name: row.get(2)?,
        git_url: row.get(3)?,
        default_branch: row.get(4)?,
        platform_integration_id: row.get(5)?,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
    })
}

fn read_id<T>(
    row: &Row,
    column: usize,
    parse: fn(&str) -> Result<T, protocol::id::InvalidId>,
) -> Result<T, DatabaseError> {
    parse(&row.get::<String>(column)?).map_err(|error| DatabaseError::Sql(error.message.to_owned()))
}

#[cfg(test)]
mod tests;
