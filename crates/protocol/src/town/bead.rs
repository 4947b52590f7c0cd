//! Beads: the records of a town's ledger (spec/town.md 3.2 to 3.4).

use super::words::words;
use crate::id::AgentId;
use crate::id::BeadId;
use crate::id::RigId;
use crate::time::iso;
use crate::time::iso_option;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

words! {
    /// What a bead is.
    BeadType {
        /// An agent's identity; its state is beside it.
        Agent = "agent",
        /// A group of issues.
        Convoy = "convoy",
        /// A call for a person's attention.
        Escalation = "escalation",
        /// Work.
        Issue = "issue",
        /// A branch that waits for review.
        MergeRequest = "merge_request",
        /// Mail from agent to agent.
        Message = "message",
        /// A chain of steps.
        Molecule = "molecule",
    }
}

words! {
    /// Where a bead stands.
    BeadStatus {
        /// Done. Final.
        Closed = "closed",
        /// Given up. Final.
        Failed = "failed",
        /// An agent works on it.
        InProgress = "in_progress",
        /// Its branch waits for review.
        InReview = "in_review",
        /// To be done.
        Open = "open",
    }
}

impl BeadStatus {
    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Closed | Self::Failed)
    }
}

words! {
    /// How urgent; in order.
    Priority {
        /// When there is time.
        Low = "low",
        /// The default.
        Medium = "medium",
        /// Soon.
        High = "high",
        /// Now.
        Critical = "critical",
    }
}

impl Priority {
    /// One step up; the highest stays.
    pub fn raised(self) -> Self {
        match self {
            Self::Low => Self::Medium,
            Self::Medium => Self::High,
            Self::High | Self::Critical => Self::Critical,
        }
    }
}

words! {
    /// What happened to a bead.
    BeadEventType {
        AgentExited = "agent_exited",
        AgentRestartLoop = "agent_restart_loop",
        AgentSpawned = "agent_spawned",
        AgentStatus = "agent_status",
        Assigned = "assigned",
        Closed = "closed",
        Created = "created",
        Escalated = "escalated",
        EscalationRateSpike = "escalation_rate_spike",
        FieldsUpdated = "fields_updated",
        Hooked = "hooked",
        MailSent = "mail_sent",
        NotificationFailed = "notification_failed",
        PrCreated = "pr_created",
        PrCreationFailed = "pr_creation_failed",
        ReviewCompleted = "review_completed",
        ReviewQueueDepthAlert = "review_queue_depth_alert",
        ReviewSubmitted = "review_submitted",
        ReworkRequested = "rework_requested",
        StatusChanged = "status_changed",
        TriageResolved = "triage_resolved",
        Unhooked = "unhooked",
    }
}

words! {
    /// How one bead depends on another. There is at most one relation between two beads.
    DependencyType {
        /// The first waits for the second.
        Blocks = "blocks",
        /// The second is made of the first.
        ParentChild = "parent-child",
        /// The first belongs to the second: an issue to its convoy, a review to its source.
        Tracks = "tracks",
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bead {
    pub bead_id: BeadId,
    #[serde(rename = "type")]
    pub kind: BeadType,
    pub status: BeadStatus,
    pub title: String,
    pub body: Option<String>,
    pub rig_id: Option<RigId>,
    pub parent_bead_id: Option<BeadId>,
    pub assignee_agent_bead_id: Option<AgentId>,
    pub priority: Priority,
    pub labels: Vec<String>,
    pub metadata: Map<String, Value>,
    /// How often it was given to a container since it was last reset.
    pub dispatch_attempts: i64,
    #[serde(with = "iso_option")]
    pub last_dispatch_attempt_at: Option<i64>,
    pub created_by: Option<String>,
    #[serde(with = "iso")]
    pub created_at: i64,
    #[serde(with = "iso")]
    pub updated_at: i64,
    /// Set on `closed` only, not on `failed`.
    #[serde(with = "iso_option")]
    pub closed_at: Option<i64>,
}

impl Bead {
    /// Whether it carries a label.
    pub fn has_label(&self, label: &str) -> bool {
        self.labels.iter().any(|own| own == label)
    }

    /// A text of its metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key)?.as_str()
    }
}

/// One line of a bead's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BeadEvent {
    pub bead_event_id: String,
    pub bead_id: BeadId,
    pub agent_id: Option<String>,
    pub event_type: BeadEventType,
    pub old_value: Option<String>,
    pub new_value: Option<String>,
    pub metadata: Map<String, Value>,
    #[serde(with = "iso")]
    pub created_at: i64,
}

/// Labels that carry behaviour (spec/town.md 3.3).
pub mod label {
    pub const CONVOY: &str = "gt:convoy";
    pub const ESCALATION: &str = "gt:escalation";
    /// Never dispatched until it is removed.
    pub const HELD: &str = "gt:held";
    pub const MERGE_REQUEST: &str = "gt:merge-request";
    pub const MESSAGE: &str = "gt:message";
    pub const MOLECULE: &str = "gt:molecule";
    pub const MOLECULE_STEP: &str = "gt:molecule-step";
    pub const PR_CONFLICT: &str = "gt:pr-conflict";
    pub const PR_FEEDBACK: &str = "gt:pr-feedback";
    pub const PR_FIXUP: &str = "gt:pr-fixup";
    pub const REWORK: &str = "gt:rework";
    /// The batch that a triage agent works on.
    pub const TRIAGE: &str = "gt:triage";
    /// A question for the triage agent.
    pub const TRIAGE_REQUEST: &str = "gt:triage-request";
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bead_is_pinned() {
        let bead = Bead {
            bead_id: BeadId::parse("b1").unwrap(),
            kind: BeadType::MergeRequest,
            status: BeadStatus::InProgress,
            title: "t".into(),
            body: None,
            rig_id: RigId::parse("r1").ok(),
            parent_bead_id: None,
            assignee_agent_bead_id: AgentId::parse("a1").ok(),
            priority: Priority::Medium,
            labels: vec!["x".into()],
            metadata: Map::new(),
            dispatch_attempts: 1,
            last_dispatch_attempt_at: Some(0),
            created_by: None,
            created_at: 0,
            updated_at: 1,
            closed_at: None,
        };
        let wire = json!({
            "bead_id": "b1", "type": "merge_request", "status": "in_progress", "title": "t", "body": null, "rig_id": "r1",
            "parent_bead_id": null, "assignee_agent_bead_id": "a1", "priority": "medium", "labels": ["x"], "metadata": {},
            "dispatch_attempts": 1, "last_dispatch_attempt_at": "1970-01-01T00:00:00.000Z", "created_by": null,
            "created_at": "1970-01-01T00:00:00.000Z", "updated_at": "1970-01-01T00:00:00.001Z", "closed_at": null
        });
        assert_eq!(serde_json::to_value(&bead).unwrap(), wire);
        assert_eq!(serde_json::from_value::<Bead>(wire).unwrap(), bead);
    }

    #[test]
    fn words_are_their_own_inverse_and_priorities_have_an_order() {
        for word in ["open", "in_progress", "in_review", "closed", "failed"] {
            assert_eq!(BeadStatus::parse(word).unwrap().as_str(), word);
        }
        assert_eq!(BeadType::parse("merge-request"), None);
        assert_eq!(Priority::Low.raised().raised().raised().raised(), Priority::Critical);
        assert!(Priority::Low < Priority::Critical);
    }
}
