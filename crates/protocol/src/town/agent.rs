//! Agents and what they read: prime, mail, nudges (spec/town.md 3.6, 3.7).

use super::bead::Bead;
use super::words::open_words;
use super::words::words;
use crate::id::AgentId;
use crate::id::BeadId;
use crate::id::RigId;
use crate::time::iso;
use crate::time::iso_option;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

open_words! {
    /// What an agent is for.
    Role {
        /// One per town: talks with the user, hands work out, is never hooked.
        Mayor = "mayor",
        /// A worker of one rig.
        Polecat = "polecat",
        /// One per rig: reviews and merges.
        Refinery = "refinery",
    }
}

open_words! {
    /// What an agent does.
    AgentStatus {
        /// It was given up.
        Dead = "dead",
        /// Nothing, though it may hold a hook.
        Idle = "idle",
        /// Nothing was seen of it for too long.
        Stalled = "stalled",
        /// The mayor, after its turn.
        Waiting = "waiting",
        /// It runs in the container, as far as is known.
        Working = "working",
    }
}

/// One agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    pub id: AgentId,
    pub rig_id: Option<RigId>,
    pub role: Role,
    pub name: String,
    pub identity: String,
    pub status: AgentStatus,
    pub current_hook_bead_id: Option<BeadId>,
    pub dispatch_attempts: i64,
    #[serde(with = "iso_option")]
    pub last_activity_at: Option<i64>,
    /// What it left for its next start.
    pub checkpoint: Option<Value>,
    #[serde(with = "iso")]
    pub created_at: i64,
    pub agent_status_message: Option<String>,
    #[serde(with = "iso_option")]
    pub agent_status_updated_at: Option<i64>,
}

/// Mail, as it is read: reading delivers it, and the copy still says that it was not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mail {
    pub id: BeadId,
    pub from_agent_id: String,
    pub to_agent_id: AgentId,
    pub subject: String,
    pub body: String,
    pub delivered: bool,
    #[serde(with = "iso")]
    pub created_at: i64,
    #[serde(with = "iso_option")]
    pub delivered_at: Option<i64>,
}

words! {
    /// When a nudge reaches its agent.
    NudgeMode {
        /// At once, if the agent runs.
        Immediate = "immediate",
        /// When it is idle, unless that is too late.
        Queue = "queue",
        /// When it is idle.
        WaitIdle = "wait-idle",
    }
}

words! {
    /// How urgent a nudge is.
    NudgePriority {
        Normal = "normal",
        Urgent = "urgent",
    }
}

/// A message that waits for its agent's next idle moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nudge {
    pub nudge_id: String,
    pub message: String,
    pub mode: NudgeMode,
    pub priority: NudgePriority,
    pub source: String,
}

/// What a rework asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReworkContext {
    pub feedback: String,
    pub branch: Option<String>,
    pub target_branch: Option<String>,
    pub files: Vec<String>,
    pub original_bead_title: Option<String>,
    pub mr_bead_id: Option<String>,
}

/// Which pull request needs a hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PullRequestContext {
    pub pr_url: Option<String>,
    pub branch: Option<String>,
    pub target_branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_feedback: Option<bool>,
}

/// All that an agent needs to begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prime {
    pub agent: Agent,
    pub hooked_bead: Option<Bead>,
    pub undelivered_mail: Vec<Mail>,
    /// The newest of its rig, at most 20.
    pub open_beads: Vec<Bead>,
    pub rework_context: Option<ReworkContext>,
    pub pr_fixup_context: Option<PullRequestContext>,
    pub pr_conflict_context: Option<PullRequestContext>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_agent_is_pinned_and_words_of_other_versions_are_kept() {
        let wire = json!({
            "id": "a1", "rig_id": "r1", "role": "witness", "name": "Toast", "identity": "Toast-polecat-r1@t1",
            "status": "exited", "current_hook_bead_id": null, "dispatch_attempts": 0, "last_activity_at": null,
            "checkpoint": {"n": 1}, "created_at": "1970-01-01T00:00:00.000Z", "agent_status_message": null,
            "agent_status_updated_at": null
        });
        let agent: Agent = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!((agent.role.as_str(), agent.status.as_str()), ("witness", "exited"));
        assert_eq!(serde_json::to_value(&agent).unwrap(), wire);
        assert_eq!(AgentStatus::from("idle".to_owned()), AgentStatus::Idle);
    }

    #[test]
    fn mail_and_nudges_are_pinned() {
        let mail = json!({
            "id": "m1", "from_agent_id": "a1", "to_agent_id": "a2", "subject": "s", "body": "b", "delivered": false,
            "created_at": "1970-01-01T00:00:00.000Z", "delivered_at": null
        });
        assert_eq!(serde_json::to_value(serde_json::from_value::<Mail>(mail.clone()).unwrap()).unwrap(), mail);
        let nudge = Nudge {
            nudge_id: "n".into(),
            message: "m".into(),
            mode: NudgeMode::WaitIdle,
            priority: NudgePriority::Urgent,
            source: "system".into(),
        };
        let wire =
            json!({"nudge_id": "n", "message": "m", "mode": "wait-idle", "priority": "urgent", "source": "system"});
        assert_eq!(serde_json::to_value(nudge).unwrap(), wire);
    }
}
