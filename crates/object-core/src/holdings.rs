//! Which towns and rigs a user has. The rules of `UserDO`, beside the [directory](crate::directory).
//!
//! A town's own object knows its rigs too, and is right where the two differ: what is here is what a user is shown.

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
    AddRig(Rig),
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
pub fn receive(db: &dyn Database, call: &Call) -> Result<Answer, DatabaseError> {
    database::transaction(db, || match call {
        Call::AddRig(rig) => add_rig(db, rig),
        Call::AddTown(town) => add_town(db, town),
        Call::RemoveRig(rig) => {
            let found = removed(db, "DELETE FROM user_rigs WHERE id = ? RETURNING 1", rig.as_str())?;
            Ok(if found { Answer::Done } else { Answer::RigNotFound })
        }
        Call::RemoveTown(town) => {
            execute(db, "DELETE FROM user_rigs WHERE town_id = ?", &[town.as_str().into()])?;
            let found = removed(db, "DELETE FROM user_towns WHERE id = ? RETURNING 1", town.as_str())?;
            Ok(if found { Answer::Done } else { Answer::TownNotFound })
        }
        Call::Rig(rig) => {
            let rows = db.query(&format!("{RIG} WHERE id = ?"), &[rig.as_str().into()])?;
            rows.first().map_or(Ok(Answer::RigNotFound), |row| read_rig(row).map(Answer::Rig))
        }
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

fn add_town(db: &dyn Database, town: &Town) -> Result<Answer, DatabaseError> {
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
    Ok(Answer::Town(town.clone()))
}

fn add_rig(db: &dyn Database, rig: &Rig) -> Result<Answer, DatabaseError> {
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
    Ok(Answer::Rig(rig.clone()))
}

fn count(db: &dyn Database, sql: &str) -> Result<i64, DatabaseError> {
    db.query(sql, &[])?.first().map_or(Ok(0), |row| row.get(0))
}

fn removed(db: &dyn Database, sql: &str, id: &str) -> Result<bool, DatabaseError> {
    Ok(!db.query(sql, &[id.into()])?.is_empty())
}

fn find_town(db: &dyn Database, town: &TownId) -> Result<Option<Town>, DatabaseError> {
    db.query(&format!("{TOWN} WHERE id = ?"), &[town.as_str().into()])?.first().map(read_town).transpose()
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
mod tests {
    use super::*;
    use crate::directory;
    use database::NativeDatabase;

    fn town(id: &str) -> Town {
        let id = TownId::parse(id).unwrap();
        Town { id, name: "Home".into(), owner_user_id: "u".into(), created_at: 1, updated_at: 1 }
    }

    fn rig(id: &str, town: &str) -> Rig {
        Rig {
            id: RigId::parse(id).unwrap(),
            town_id: TownId::parse(town).unwrap(),
            name: "app".into(),
            git_url: "https://example.com/r.git".into(),
            default_branch: "main".into(),
            platform_integration_id: None,
            created_at: 1,
            updated_at: 1,
        }
    }

    fn user() -> NativeDatabase {
        let db = NativeDatabase::in_memory().unwrap();
        database::migrate(&db, directory::MIGRATIONS).unwrap();
        db
    }

    #[test]
    fn a_town_goes_with_its_rigs() {
        let db = user();
        let ask = |call| receive(&db, &call).unwrap();
        assert_eq!(ask(Call::AddTown(town("t1"))), Answer::Town(town("t1")));
        ask(Call::AddTown(town("t2")));
        for rig in [rig("r1", "t1"), rig("r2", "t1"), rig("r3", "t2")] {
            assert_eq!(ask(Call::AddRig(rig.clone())), Answer::Rig(rig));
        }
        let t1 = || town("t1").id;
        assert_eq!(ask(Call::Rigs(t1())), Answer::Rigs(vec![rig("r1", "t1"), rig("r2", "t1")]));
        assert_eq!(ask(Call::RemoveTown(t1())), Answer::Done);
        assert_eq!(ask(Call::RemoveTown(t1())), Answer::TownNotFound);
        assert_eq!(ask(Call::Rig(rig("r1", "t1").id)), Answer::RigNotFound);
        assert_eq!(ask(Call::Towns), Answer::Towns(vec![town("t2")]));
        assert_eq!(ask(Call::Rig(rig("r3", "t2").id)), Answer::Rig(rig("r3", "t2")));
    }

    #[test]
    fn a_rig_needs_a_town_of_the_same_user() {
        let db = user();
        assert_eq!(receive(&db, &Call::AddRig(rig("r1", "t1"))).unwrap(), Answer::TownNotFound);
        assert_eq!(receive(&db, &Call::RemoveRig(rig("r1", "t1").id)).unwrap(), Answer::RigNotFound);
        assert_eq!(receive(&db, &Call::Rigs(town("t1").id)).unwrap(), Answer::TownNotFound);
    }

    #[test]
    fn nobody_has_more_than_the_bound() {
        let db = user();
        for n in 0..HOLDINGS_MAX {
            receive(&db, &Call::AddTown(town(&format!("t{n}")))).unwrap();
        }
        assert_eq!(receive(&db, &Call::AddTown(town("one-more"))).unwrap(), Answer::Full);
    }
}
