//! The town itself: its row, its configuration, its rigs (spec/town.md 3.5, 3.8).

use crate::Step;
use crate::error::Fault;
use crate::error::Refusal;
use crate::message::effect::Effect;
use crate::store;
use crate::store::town::TownRow;
use object_core::owed::Owed;
use protocol::id::RigId;
use protocol::id::TownId;
use protocol::town::bead::BeadStatus;
use protocol::town::config::Rig;
use protocol::town::config::TownConfig;
use protocol::town::config::is_mask;
use serde_json::Map;
use serde_json::Value;

/// Objects of the configuration that an update changes key by key. All others are replaced whole.
const MERGED: [&str; 5] = ["container", "custom_instructions", "git_auth", "refinery", "role_models"];
/// Who the town belongs to: given when it is made, and changed by nobody.
const FIXED: [&str; 5] = ["created_by_user_id", "organization_id", "owner_id", "owner_type", "owner_user_id"];

impl Step<'_> {
    /// The town, or a refusal: what was never named has no ledger.
    pub fn town(&self) -> Result<&TownRow, Fault> {
        self.town.as_ref().ok_or_else(|| Refusal::TownNotFound {}.into())
    }

    pub fn create_town(&mut self, id: &TownId, config: TownConfig) -> Result<(), Fault> {
        if store::town::is_gone(self.db)? {
            return Err(Refusal::TownNotFound {}.into());
        }
        store::town::create(self.db, &TownRow { id: id.clone(), created_at: self.now, config })?;
        self.town = store::town::find(self.db)?;
        Ok(())
    }

    /// Deletes everything, and owes the end of what is kept elsewhere. What comes later finds no town, and makes none: also one that was never
    /// made, for what makes it may still be on its way.
    pub fn destroy_town(&mut self) -> Result<(), Fault> {
        if store::town::is_gone(self.db)? {
            return Ok(());
        }
        let agents = store::agent::all(self.db)?;
        let owed = Owed::<Effect>::list(self.db, "")?;
        for table in store::schema::TABLES {
            database::execute(self.db, &format!("DELETE FROM {table}"), &[])?;
        }
        self.town = None;
        store::town::bury(self.db)?;
        let agents = agents.into_iter().map(|row| Effect::Forget { agent: row.agent.id });
        let before = owed.into_iter().map(|debt| debt.effect).filter(Effect::is_for_good);
        agents
            .chain(before)
            .chain([Effect::EndContainer {}, Effect::RemoveSnapshots {}])
            .try_for_each(|effect| self.owe(&effect))
    }

    /// Merges a partial update. A secret that comes back masked keeps what is stored; null removes; the owner
    /// and unknown fields are ignored.
    pub fn update_config(&mut self, changes: Map<String, Value>) -> Result<TownConfig, Fault> {
        let invalid = |error: String| Fault::from(Refusal::Invalid { what: format!("Invalid configuration: {error}") });
        // By way of text, as the row is read and written: each other way would be linked beside it.
        let stored = serde_json::to_string(&self.town()?.config).map_err(|error| invalid(error.to_string()))?;
        let mut merged: Value = serde_json::from_str(&stored).map_err(|error| invalid(error.to_string()))?;
        for (key, change) in changes.into_iter().filter(|(key, _)| !FIXED.contains(&key.as_str())) {
            let Some(fields) = merged.as_object_mut() else { continue };
            let old = fields.remove(&key).unwrap_or_default();
            let change = keep_masked(&old, change);
            let emptied = key == "default_model" && change.as_str() == Some("");
            match (MERGED.contains(&key.as_str()), old, change) {
                (_, _, Value::Null) => {}
                _ if emptied => {}
                (true, Value::Object(mut old), Value::Object(new)) => {
                    for (key, value) in new {
                        if value.is_null() {
                            old.remove(&key)
                        } else {
                            old.insert(key, value)
                        };
                    }
                    fields.insert(key, Value::Object(old));
                }
                (_, _, change) => {
                    fields.insert(key, change);
                }
            }
        }
        let config: TownConfig =
            serde_json::from_str(&merged.to_string()).map_err(|error| invalid(error.to_string()))?;
        config.check().map_err(invalid)?;
        store::town::save_config(self.db, &config)?;
        self.owe(&Effect::SyncConfig {})?;
        if let Some(town) = &mut self.town {
            town.config = config.clone();
        }
        Ok(config)
    }

    pub fn rig(&self, rig: &RigId) -> Result<Rig, Fault> {
        store::town::rig(self.db, rig)?.ok_or_else(|| Refusal::RigNotFound { rig: rig.clone() }.into())
    }

    /// Adds a rig or changes it. A name moves from another rig only if that one has nothing unfinished.
    pub fn add_rig(&mut self, id: &RigId, name: String, git_url: String, default_branch: String) -> Result<Rig, Fault> {
        if store::town::is_rig_gone(self.db, id)? {
            return Err(Refusal::RigNotFound { rig: id.clone() }.into());
        }
        if let Some(other) = store::town::rig_named(self.db, &name)?.filter(|other| other.id != *id) {
            for status in [BeadStatus::Open, BeadStatus::InProgress] {
                let filter =
                    store::bead::Filter { rig: Some(other.id.clone()), status: Some(status), ..Default::default() };
                if !store::bead::list(self.db, &filter, 1, 0)?.is_empty() {
                    return Err(Refusal::RigNameTaken { name }.into());
                }
            }
            store::town::delete_rig(self.db, &other.id)?;
        }
        let created_at = store::town::rig(self.db, id)?.map_or(self.now, |rig| rig.created_at);
        let rig = Rig { id: id.clone(), name, git_url, default_branch, created_at };
        store::town::save_rig(self.db, &rig)?;
        self.owe(&Effect::SetupRig { rig: id.clone() })?;
        Ok(rig)
    }

    /// Removes a rig with all its beads. One that is not there may still be on its way: it comes to nothing.
    pub fn remove_rig(&mut self, rig: &RigId) -> Result<(), Fault> {
        let filter = store::bead::Filter { rig: Some(rig.clone()), ..Default::default() };
        let beads = store::bead::list(self.db, &filter, i64::from(u32::MAX), 0)?;
        let beads: Vec<_> = beads.into_iter().map(|bead| bead.bead_id).collect();
        self.delete_beads(&beads)?;
        Ok(store::town::bury_rig(self.db, rig)?)
    }
}

/// Puts back what is stored wherever the change holds its mask.
fn keep_masked(stored: &Value, change: Value) -> Value {
    match change {
        Value::String(text) if is_mask(&text) => stored.clone(),
        Value::Object(fields) => {
            let old = |key: &str| stored.get(key).cloned().unwrap_or_default();
            Value::Object(
                fields.into_iter().map(|(key, value)| (key.clone(), keep_masked(&old(&key), value))).collect(),
            )
        }
        other => other,
    }
}
