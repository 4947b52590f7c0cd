//! The mayor as a user sees it (spec/town.md 2.5, 8.6).

use super::words::words;
use crate::id::AgentId;
use crate::time::iso_option;
use serde::Deserialize;
use serde::Serialize;

words! {
    /// What the mayor does.
    MayorSession {
        Active = "active",
        Idle = "idle",
        Starting = "starting",
    }
}

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MayorReached {
    pub agent_id: AgentId,
    pub session_status: MayorSession,
}

/// The mayor's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MayorSeen {
    pub agent_id: AgentId,
    pub session_id: AgentId,
    pub status: MayorSession,
    #[serde(with = "iso_option")]
    pub last_activity_at: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_mayor_is_pinned() {
        let agent_id = || AgentId::parse("m").unwrap();
        let reached = MayorReached { agent_id: agent_id(), session_status: MayorSession::Starting };
        assert_eq!(serde_json::to_value(reached).unwrap(), json!({"agentId": "m", "sessionStatus": "starting"}));
        let seen = MayorSeen {
            agent_id: agent_id(),
            session_id: agent_id(),
            status: MayorSession::Active,
            last_activity_at: None,
        };
        let wire = json!({"agentId": "m", "sessionId": "m", "status": "active", "lastActivityAt": null});
        assert_eq!(serde_json::to_value(seen).unwrap(), wire);
    }
}
