//! The list of live agents at the town (spec/town.md 6.8): what it is told of those here.
//!
//! The town has one list, and each report replaces it. So until this container has read what the last one left there, it reports nothing; and
//! until an agent of that list is back, or known not to be wanted, it is reported along with the live ones. Whenever this process ends, the
//! next one finds whom it has still to bring back.

use super::Agents;
use super::environment::TOKENS;
use crate::log;
use protocol::id::AgentId;
use protocol::town::container::RegistryEntry;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

const ROLE: &str = "town";

/// What is known of the town's list.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// Held while the town is told, so that an older list never comes after a newer one. True: it was told for the last time.
    closed: tokio::sync::Mutex<bool>,
    /// Agents of the last container that are not back yet. None: the list was not read yet.
    left: Mutex<Option<Vec<RegistryEntry>>>,
}

impl Registry {
    /// The list was read.
    pub fn read(&self, entries: Vec<RegistryEntry>) {
        *self.left() = Some(entries);
    }

    /// An agent of the list is back, or is not wanted any more.
    pub fn settle(&self, agent: &AgentId) {
        if let Some(left) = self.left().as_mut() {
            left.retain(|entry| entry.agent_id != *agent);
        }
    }

    /// Those that are not back yet. None: nobody knows.
    pub fn unsettled(&self) -> Option<Vec<RegistryEntry>> {
        self.left().clone()
    }

    fn left(&self) -> MutexGuard<'_, Option<Vec<RegistryEntry>>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agents {
    /// Tells the town of every change, for ever.
    pub async fn keep_registry(self: std::sync::Arc<Self>) {
        loop {
            self.shared.registry_changed.notified().await;
            let closed = self.registry.closed.lock().await;
            let Some(left) = self.registry.unsettled().filter(|_| !*closed) else { continue };
            let live = self.all().into_iter().filter(|agent| agent.view().status().is_live());
            let mut entries: Vec<RegistryEntry> = live
                .map(|agent| {
                    let workdir =
                        agent.view().worktree.as_ref().map(|worktree| worktree.path().to_string_lossy().into());
                    RegistryEntry {
                        agent_id: agent.request.agent_id.clone(),
                        request: (*agent.request).clone(),
                        workdir: workdir.unwrap_or_default(),
                        env: BTreeMap::new(),
                    }
                })
                .collect();
            let is_new = |entry: &RegistryEntry| !entries.iter().any(|live| live.agent_id == entry.agent_id);
            let left: Vec<RegistryEntry> = left.into_iter().filter(is_new).collect();
            entries.extend(left);
            self.report(entries).await;
        }
    }

    /// Tells the town, for the last time, that none of the agents here is live any more.
    pub async fn clear_registry(&self) {
        let mut closed = self.registry.closed.lock().await;
        *closed = true;
        let Some(left) = self.registry.unsettled() else {
            return log::info(ROLE, "registry_left_alone", json!({}));
        };
        let is_elsewhere = |entry: &RegistryEntry| self.get(&entry.agent_id).is_err();
        self.report(left.into_iter().filter(is_elsewhere).collect()).await;
    }

    async fn report(&self, mut entries: Vec<RegistryEntry>) {
        for entry in &mut entries {
            // The next container is given its own, which are newer.
            entry.request.env_vars.retain(|name, _| !TOKENS.contains(&name.as_str()));
        }
        if let Err(error) = self.shared.home.set_registry(&entries).await {
            log::warn(ROLE, "registry_not_told", json!({ "agents": entries.len(), "error": error.to_string() }));
        }
    }
}
