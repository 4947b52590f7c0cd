//! The list of live agents at the town, and what a new container makes of it (spec/town.md 6.8).
//!
//! A container that could say goodbye leaves an empty list. What is on it was lost in the middle: those agents are started again, on the
//! branches that the remote has, before the town may start others.

use super::Agents;
use super::actor::Reason;
use crate::log;
use crate::town::home::Beat;
use crate::town::home::Place;
use protocol::town::container::RegistryEntry;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const ROLE: &str = "town";

/// What the town was told last. Held while it is told, so that an older list never comes after a newer one.
#[derive(Debug, Default)]
pub(super) struct Registry {
    closed: bool,
}

impl Agents {
    /// Starts what was lost with the last container, and lets others start then.
    pub async fn hydrate(self: Arc<Self>) {
        match self.shared.home.registry().await {
            Ok(entries) => {
                for entry in entries {
                    // Their hearts do not beat: the town starts again what it misses.
                    if self.shared.home.is_draining() {
                        break;
                    }
                    let agent = entry.agent_id.clone();
                    if !self.is_wanted(&entry).await {
                        log::info(ROLE, "agent_not_hydrated", json!({ "agent": agent }));
                        continue;
                    }
                    log::info(ROLE, "agent_hydrated", json!({ "agent": agent }));
                    // How it went is logged by the agent itself.
                    let _ = self.start(entry.request, Reason::Lost).await;
                }
            }
            Err(error) => log::warn(ROLE, "registry_not_read", json!({ "error": error.to_string() })),
        }
        self.hydrated.send_replace(true);
    }

    /// Whether an agent still holds what it worked on: while there was no container, the town may have given that to another, and two would
    /// work on it. Its heart beats first, so that the town gives it to nobody while it starts. A town that does not say is not served by a
    /// guess: it starts again what it misses.
    async fn is_wanted(&self, entry: &RegistryEntry) -> bool {
        let request = &entry.request;
        let Some(bead) = &request.bead_id else { return true };
        let place = Place { rig: request.rig_id.clone(), agent: request.agent_id.clone() };
        let beat = Beat { rig: place.rig.clone(), agent: place.agent.clone(), last_event: None, active_tools: vec![] };
        self.shared.home.beat(&[beat]).await;
        self.shared.home.work_of(&place).await.is_ok_and(|work| work.as_ref() == Some(bead))
    }

    /// Waits until those that were lost are back.
    pub async fn wait_until_hydrated(&self) {
        let _ = self.hydrated.subscribe().wait_for(|hydrated| *hydrated).await;
    }

    /// Tells the town of every change, for ever.
    pub async fn keep_registry(self: Arc<Self>) {
        loop {
            self.shared.registry_changed.notified().await;
            self.tell_registry().await;
        }
    }

    async fn tell_registry(&self) {
        let registry = self.registry.lock().await;
        if registry.closed {
            return;
        }
        let live = self.all().into_iter().filter(|agent| agent.view().status().is_live());
        let entries: Vec<RegistryEntry> = live
            .map(|agent| {
                let workdir = agent.view().worktree.as_ref().map(|worktree| worktree.path().to_string_lossy().into());
                RegistryEntry {
                    agent_id: agent.request.agent_id.clone(),
                    request: (*agent.request).clone(),
                    workdir: workdir.unwrap_or_default(),
                    env: BTreeMap::new(),
                }
            })
            .collect();
        self.report(&entries).await;
    }

    /// Tells the town that no agent is live, and nothing after that.
    pub async fn clear_registry(&self) {
        let mut registry = self.registry.lock().await;
        registry.closed = true;
        self.report(&[]).await;
    }

    async fn report(&self, entries: &[RegistryEntry]) {
        if let Err(error) = self.shared.home.set_registry(entries).await {
            log::warn(ROLE, "registry_not_told", json!({ "agents": entries.len(), "error": error.to_string() }));
        }
    }
}
