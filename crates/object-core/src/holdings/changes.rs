//! What a user's object owes to its towns: each town and rig that was made or removed, told to the town until it has answered.
//!
//! One row for each town and rig: who removes what is still on its way owes the removal instead. A town refuses for ever what was removed from it, so a
//! creation that comes after its removal makes nothing.

use super::remove_rig;
use super::remove_town;
use crate::owed::Debt;
use crate::owed::OWED_TABLE;
use crate::owed::Owed;
use crate::time::HOUR;
use crate::time::SECOND;
use database::Database;
use database::DatabaseError;
use database::Migration;
use protocol::id::RigId;
use protocol::id::TownId;
use serde::Deserialize;
use serde::Serialize;

/// The table, after those of the holdings.
pub const MIGRATION: Migration = Migration { version: 3, statements: &[OWED_TABLE] };

/// The pause before the second try, and what each further one is longer: longer than a try takes.
const RETRY_MS: i64 = 30 * SECOND;
const RETRY_MAX_MS: i64 = HOUR;

/// What a town is to be told. Telling it twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    AddRig {
        town: TownId,
        rig: RigId,
        name: String,
        git_url: String,
        default_branch: String,
        kilocode_token: Option<String>,
    },
    EndTown {
        town: TownId,
    },
    MakeTown {
        town: TownId,
    },
    RemoveRig {
        town: TownId,
        rig: RigId,
    },
}

impl Change {
    /// The key under which it is owed.
    pub fn key(&self) -> String {
        match self {
            Self::AddRig { rig, .. } | Self::RemoveRig { rig, .. } => rig_key(rig),
            Self::EndTown { town } | Self::MakeTown { town } => town_key(town),
        }
    }

    /// Who is to be told.
    pub fn town(&self) -> &TownId {
        match self {
            Self::AddRig { town, .. }
            | Self::EndTown { town }
            | Self::MakeTown { town }
            | Self::RemoveRig { town, .. } => town,
        }
    }
}

/// What the town said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is so.
    Done,
    /// It will never take it.
    Refused,
    /// Nobody knows: no answer in time, or an error that may pass.
    Unknown,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Done,
    /// It is told again later, or another took its place.
    Owed,
    /// The town refused it: the user does not have it any more.
    TakenBack,
}

/// Takes the change that is owed under `key` for a try now.
pub fn take_now(db: &dyn Database, now: i64, key: &str) -> Result<Option<Change>, DatabaseError> {
    Ok(Owed::take_now(db, now, key, RETRY_MS)?.map(|debt| debt.effect))
}

/// Takes what is due for one more try.
pub fn take_due(db: &dyn Database, now: i64) -> Result<Vec<Change>, DatabaseError> {
    let pause = |_: &Change, attempt: i64| RETRY_MS.saturating_mul(attempt).min(RETRY_MAX_MS);
    Ok(Owed::take_due(db, now, pause)?.into_iter().map(|debt| debt.effect).collect())
}

/// When the next try is due.
pub fn next_try(db: &dyn Database) -> Result<Option<i64>, DatabaseError> {
    Owed::<Change>::next_retry(db)
}

/// Notes what the town said to `change`. As one transaction.
pub fn settle(db: &dyn Database, change: &Change, told: Told) -> Result<Settled, DatabaseError> {
    database::transaction(db, || {
        let is_owed = Owed::<Change>::find(db, &change.key())?.is_some_and(|debt: Debt<Change>| debt.effect == *change);
        if !is_owed || told == Told::Unknown {
            return Ok(Settled::Owed);
        }
        // A rig may come before its town.
        if let (Change::AddRig { town, .. }, Told::Refused) = (change, told)
            && Owed::<Change>::find(db, &town_key(town))?.is_some()
        {
            return Ok(Settled::Owed);
        }
        Owed::<Change>::settle(db, &change.key())?;
        match (change, told) {
            (Change::AddRig { rig, .. }, Told::Refused) => remove_rig(db, rig)?,
            (Change::MakeTown { town }, Told::Refused) => remove_town(db, town)?,
            // What is not there has ended.
            _ => return Ok(Settled::Done),
        }
        Ok(Settled::TakenBack)
    })
}

pub(super) fn owe(db: &dyn Database, now: i64, change: &Change) -> Result<(), DatabaseError> {
    Owed::owe(db, now, &change.key(), change, None)
}

/// The rig ends with its town: nothing is owed for it any more.
pub(super) fn drop_rig(db: &dyn Database, rig: &RigId) -> Result<(), DatabaseError> {
    Owed::<Change>::settle(db, &rig_key(rig)).map(drop)
}

/// What is owed for a rig.
pub fn rig_key(rig: &RigId) -> String {
    format!("rig/{rig}")
}

/// What is owed for a town.
pub fn town_key(town: &TownId) -> String {
    format!("town/{town}")
}
