//! The status stream of a town (spec/town.md 9.2), what its reconciler did, and why a bead waits.

use super::bead::BeadStatus;
use super::words::words;
use crate::id::AgentId;
use crate::id::BeadId;
use crate::id::RigId;
use crate::time::iso;
use crate::time::iso_option;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// How many agents are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCounts {
    pub working: i64,
    pub waiting: i64,
    pub idle: i64,
    pub stalled: i64,
    pub dead: i64,
    pub total: i64,
}

/// How many pieces of work are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BeadCounts {
    pub open: i64,
    pub in_progress: i64,
    pub in_review: i64,
    pub failed: i64,
    pub triage_requests: i64,
}

/// What the patrol sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Patrol {
    pub gupp_warnings: i64,
    pub gupp_escalations: i64,
    pub stalled_agents: i64,
    pub orphaned_hooks: i64,
}

/// When the town looks again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlarmStatus {
    #[serde(with = "iso_option")]
    pub next_fire_at: Option<i64>,
    pub interval_ms: i64,
    pub interval_label: String,
}

/// What one tick did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TickMetrics {
    pub events_drained: i64,
    pub actions_emitted: i64,
    pub actions_by_type: BTreeMap<String, i64>,
    /// What comes of them is heard later, one by one.
    pub side_effects_attempted: i64,
    pub invariant_violations: i64,
    pub pending_event_count: i64,
}

/// One line of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentEvent {
    #[serde(with = "iso")]
    pub time: i64,
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
}

/// The whole town at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TownStatus {
    pub alarm: AlarmStatus,
    pub agents: AgentCounts,
    pub beads: BeadCounts,
    pub patrol: Patrol,
    pub reconciler: Option<TickMetrics>,
    /// Newest first, at most 20.
    pub recent_events: Vec<RecentEvent>,
    /// Only while it drains.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Only while it drains, in ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_started_at: Option<String>,
}

/// What a bead's frame tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BeadNews {
    #[serde(rename = "bead.closed")]
    Closed,
    #[serde(rename = "bead.created")]
    Created,
    #[serde(rename = "bead.failed")]
    Failed,
    #[serde(rename = "bead.status_changed")]
    StatusChanged,
}

/// One frame of the status stream. Only a snapshot has neither `type` nor `channel`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Frame {
    /// The line that an agent wrote about its work.
    #[serde(rename_all = "camelCase")]
    AgentStatus {
        /// Always `agent_status`.
        #[serde(rename = "type")]
        kind: &'static str,
        agent_id: AgentId,
        message: String,
        #[serde(with = "iso")]
        timestamp: i64,
    },
    #[serde(rename_all = "camelCase")]
    Bead {
        /// Always `bead`.
        channel: &'static str,
        #[serde(rename = "type")]
        news: BeadNews,
        bead_id: BeadId,
        title: String,
        status: BeadStatus,
        #[serde(skip_serializing_if = "Option::is_none")]
        rig_id: Option<RigId>,
        /// The convoy that it belongs to.
        #[serde(skip_serializing_if = "Option::is_none")]
        convoy_id: Option<String>,
        #[serde(with = "iso")]
        ts: i64,
    },
    #[serde(rename_all = "camelCase")]
    Convoy {
        /// Always `convoy`.
        channel: &'static str,
        convoy_id: BeadId,
        total_beads: i64,
        closed_beads: i64,
        #[serde(with = "iso")]
        ts: i64,
    },
    Snapshot(Box<TownStatus>),
    UiAction {
        /// Always `ui_action`.
        channel: &'static str,
        action: Value,
        #[serde(with = "iso")]
        ts: i64,
    },
}

/// A rule of the ledger that does not hold. Reported, never repaired by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The number of the rule (spec/town.md 4.7).
    pub invariant: i64,
    /// What breaks it.
    pub message: String,
}

words! {
    /// Why a bead is not over.
    WaitReason {
        /// Its agent is gone, or was never there: after a while it is given to another.
        AgentLost = "agent_lost",
        /// It was tried as often as it may be: it is given up.
        Attempts = "attempts",
        /// Another bead must end first.
        Blocked = "blocked",
        /// Too many dispatches in the town.
        Breaker = "breaker",
        /// The next try is due later.
        CoolingDown = "cooling_down",
        /// The container is being replaced.
        Draining = "draining",
        /// It carries the label that holds it.
        Held = "held",
        /// The same action was repeated too often.
        LoopBreaker = "loop_breaker",
        /// Its parts come first: the beads of a convoy, the steps of a molecule.
        Members = "members",
        /// It has no rig, so no agent.
        NoRig = "no_rig",
        /// The next tick takes it.
        NextTick = "next_tick",
        /// The host of its pull request has not merged or closed it.
        PullRequest = "pull_request",
        /// Its review comes first.
        Review = "review",
        /// The reviewer of its rig has other reviews first.
        ReviewerBusy = "reviewer_busy",
        /// Its convoy was not started.
        Staged = "staged",
        /// It is over.
        Terminal = "terminal",
        /// It waits for a triage agent.
        Triage = "triage",
        /// Nobody has read it, or acknowledged it.
        Unread = "unread",
        /// An agent has it.
        Working = "working",
    }
}

/// The answer to `GET …/beads/{bead}/why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    pub bead_id: BeadId,
    pub status: BeadStatus,
    /// All that hold it now.
    pub reasons: Vec<WaitReason>,
    pub blocked_by: Vec<BeadId>,
    #[serde(with = "iso_option")]
    pub cooling_down_until: Option<i64>,
    /// When what has lost its agent is given to another.
    #[serde(with = "iso_option")]
    pub agent_lost_until: Option<i64>,
    pub dispatch_attempts: i64,
    pub max_dispatch_attempts: i64,
    pub agent_id: Option<AgentId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_are_pinned() {
        let id = || BeadId::parse("b").unwrap();
        let bead = Frame::Bead {
            channel: "bead",
            news: BeadNews::StatusChanged,
            bead_id: id(),
            title: "t".into(),
            status: BeadStatus::Open,
            rig_id: None,
            convoy_id: Some("c".into()),
            ts: 0,
        };
        let wire = json!({"channel": "bead", "type": "bead.status_changed", "beadId": "b", "title": "t", "status": "open",
            "convoyId": "c", "ts": "1970-01-01T00:00:00.000Z"});
        assert_eq!(serde_json::to_value(bead).unwrap(), wire);
        let convoy = Frame::Convoy { channel: "convoy", convoy_id: id(), total_beads: 2, closed_beads: 1, ts: 0 };
        let wire = json!({"channel": "convoy", "convoyId": "b", "totalBeads": 2, "closedBeads": 1, "ts": "1970-01-01T00:00:00.000Z"});
        assert_eq!(serde_json::to_value(convoy).unwrap(), wire);
        let agent_id = AgentId::parse("a").unwrap();
        let line = Frame::AgentStatus { kind: "agent_status", agent_id, message: "m".into(), timestamp: 0 };
        let wire =
            json!({"type": "agent_status", "agentId": "a", "message": "m", "timestamp": "1970-01-01T00:00:00.000Z"});
        assert_eq!(serde_json::to_value(line).unwrap(), wire);
    }

    #[test]
    fn a_snapshot_says_that_the_town_drains_only_while_it_does() {
        let status = TownStatus::default();
        let wire = serde_json::to_value(&status).unwrap();
        assert_eq!(wire.get("draining"), None);
        assert_eq!(wire.pointer("/alarm/nextFireAt"), Some(&json!(null)));
        assert_eq!(wire.pointer("/beads/triageRequests"), Some(&json!(0)));
        let draining = TownStatus { draining: true, drain_started_at: Some("x".into()), ..status };
        let wire = serde_json::to_value(&draining).unwrap();
        assert_eq!((wire.get("draining"), wire.get("drainStartedAt")), (Some(&json!(true)), Some(&json!("x"))));
    }
}
