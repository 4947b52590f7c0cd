//! What a town asks of its container about one agent (spec/town.md 6.2, 6.3).
//!
//! The town's rules fill in what the ledger knows; the object adds tokens and environment before it sends.

use super::agent::Role;
use super::words::open_words;
use crate::id::AgentId;
use crate::id::BeadId;
use crate::id::RigId;
use crate::id::TownId;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// `POST /agents/start`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartAgent {
    pub agent_id: AgentId,
    /// What it is to work on; none for the mayor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bead_id: Option<BeadId>,
    pub rig_id: RigId,
    pub town_id: TownId,
    pub role: Role,
    pub name: String,
    pub identity: String,
    pub prompt: String,
    pub model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small_model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    pub git_url: String,
    pub branch: String,
    pub default_branch: String,
    /// Where a new branch begins, if not at the default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_point: Option<String>,
    /// Of a review: where the branch is to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_branch: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env_vars: BTreeMap<String, String>,
    /// Without a clone of the repository.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lightweight: bool,
    /// For the mayor: the rigs it may look into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rigs: Vec<StartRig>,
}

/// A rig as the mayor's container needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartRig {
    pub rig_id: RigId,
    pub git_url: String,
    pub default_branch: String,
}

/// An agent that starts or runs, as the container's registry keeps it for the next start of the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryEntry {
    pub agent_id: AgentId,
    /// How it was started.
    pub request: StartAgent,
    /// Where it works; for the record, a new container may have another disk.
    #[serde(default)]
    pub workdir: String,
    /// What its environment had besides `request`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// `POST …/agents/{agent}/eviction-context`: where an agent's work is after its container was told to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvictionContext {
    /// The branch that the work is on; empty if there is none.
    pub branch: String,
    pub agent_name: String,
    /// What the agent was started for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bead_id: Option<BeadId>,
    /// ISO 8601.
    pub saved_at: String,
    /// The commit that holds it.
    #[serde(default)]
    pub commit: Option<String>,
    /// Whether the remote has it.
    #[serde(default)]
    pub pushed: bool,
    /// Why it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

open_words! {
    /// What a container says of an agent; `not_found` and `unknown` are how the town writes a 404 and no answer.
    ContainerAgentStatus {
        Exited = "exited",
        Failed = "failed",
        NotFound = "not_found",
        Running = "running",
        Starting = "starting",
        Stopping = "stopping",
        Unknown = "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_receipt_is_pinned_and_its_first_form_is_still_read() {
        let wire = json!({
            "branch": "gt/toast/1", "agent_name": "Toast", "bead_id": "b1", "saved_at": "1970-01-01T00:00:00.000Z",
            "commit": null, "pushed": false, "reason": "no remote"
        });
        let receipt: EvictionContext = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(serde_json::to_value(&receipt).unwrap(), wire);
        let first = json!({ "branch": "b", "agent_name": "n", "saved_at": "s" });
        assert!(!serde_json::from_value::<EvictionContext>(first).unwrap().pushed);
    }

    #[test]
    fn a_start_is_pinned_and_unknown_fields_are_ignored() {
        let mut wire = json!({
            "agentId": "a", "beadId": "b1", "rigId": "r", "townId": "t", "role": "polecat", "name": "Toast", "identity": "i", "prompt": "p",
            "model": "m", "gitUrl": "https://example.com/r.git", "branch": "b", "defaultBranch": "main",
            "startPoint": "origin/x", "targetBranch": "main", "systemPrompt": "s"
        });
        let start: StartAgent = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!((start.role.clone(), start.lightweight, start.small_model.clone()), (Role::Polecat, false, None));
        assert_eq!(serde_json::to_value(&start).unwrap(), wire);
        wire["gitPushFlags"] = json!("x");
        assert_eq!(serde_json::from_value::<StartAgent>(wire).unwrap(), start);
    }
}
