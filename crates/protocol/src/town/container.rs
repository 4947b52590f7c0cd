//! What a town asks of its container about one agent (spec/town.md 6.2, 6.3).
//!
//! The town's rules fill in what the ledger knows; the object adds tokens and environment before it sends.

use super::agent::Role;
use super::words::open_words;
use crate::id::AgentId;
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
    fn a_start_is_pinned_and_unknown_fields_are_ignored() {
        let mut wire = json!({
            "agentId": "a", "rigId": "r", "townId": "t", "role": "polecat", "name": "Toast", "identity": "i", "prompt": "p",
            "model": "m", "gitUrl": "https://example.com/r.git", "branch": "b", "defaultBranch": "main",
            "startPoint": "origin/x", "systemPrompt": "s"
        });
        let start: StartAgent = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!((start.role.clone(), start.lightweight, start.small_model.clone()), (Role::Polecat, false, None));
        assert_eq!(serde_json::to_value(&start).unwrap(), wire);
        wire["gitPushFlags"] = json!("x");
        assert_eq!(serde_json::from_value::<StartAgent>(wire).unwrap(), start);
    }
}
