//! What a new container makes of the list that the last one left at the town (spec/town.md 6.8).
//!
//! A container that could say goodbye leaves nobody on it but those that it had not brought back itself. What is on it was lost in the middle:
//! those agents are started again, on the branches that the remote has, before the town may start others.
//!
//! One whose repository does not answer holds up neither the others nor, for longer than a while, the town: it is started when it can be.

use super::Agents;
use super::StartError;
use super::actor::Reason;
use crate::log;
use crate::town::home::Beat;
use crate::town::home::Pauses;
use crate::town::home::Place;
use crate::town::limits::HYDRATIONS_AT_ONCE;
use protocol::town::container::RegistryEntry;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const ROLE: &str = "town";

impl Agents {
    /// Starts what was lost with the last container, and lets others start then; after a while also if not all are back.
    pub async fn hydrate(self: Arc<Self>) {
        let patience = Duration::from_millis(self.shared.config.limits.hydration_ms);
        let all = tokio::spawn(self.clone().bring_back_all());
        if tokio::time::timeout(patience, all).await.is_err() {
            let left = self.registry.unsettled().map(|left| left.len());
            log::warn(ROLE, "hydration_goes_on", json!({ "agents": left }));
        }
        self.hydrated.send_replace(true);
    }

    /// Waits until those that were lost are back, or have had their time.
    pub async fn wait_until_hydrated(&self) {
        let _ = self.hydrated.subscribe().wait_for(|hydrated| *hydrated).await;
    }

    async fn bring_back_all(self: Arc<Self>) {
        let mut pauses = Pauses::new();
        let entries = loop {
            match self.shared.home.registry().await {
                Ok(entries) => break entries,
                Err(error) => log::warn(ROLE, "registry_not_read", json!({ "error": error.to_string() })),
            }
            tokio::time::sleep(pauses.take()).await;
        };
        self.registry.read(entries.clone());
        if !self.all().is_empty() {
            // They could not be told of before.
            self.shared.registry_changed.notify_one();
        }
        let mut starts = JoinSet::new();
        for entry in entries {
            if starts.len() >= HYDRATIONS_AT_ONCE {
                starts.join_next().await;
            }
            let agents = self.clone();
            starts.spawn(async move { agents.bring_back(entry).await });
        }
        while starts.join_next().await.is_some() {}
    }

    /// In a container that ends nobody is brought back: the next one does it.
    async fn bring_back(&self, entry: RegistryEntry) {
        let agent = entry.agent_id.clone();
        if self.shared.home.is_draining() {
            return;
        }
        let is_wanted = self.is_wanted(&entry).await;
        if self.shared.home.is_draining() {
            return;
        }
        if is_wanted {
            log::info(ROLE, "agent_hydrated", json!({ "agent": agent }));
            // How it went is logged by the agent itself.
            if let Err(StartError::Draining) = self.start(entry.request, Reason::Lost).await {
                return;
            }
        } else {
            log::info(ROLE, "agent_not_hydrated", json!({ "agent": agent }));
        }
        self.registry.settle(&agent);
        self.shared.registry_changed.notify_one();
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
}
