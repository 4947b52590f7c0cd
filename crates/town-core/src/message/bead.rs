//! Beads that are to be made, and what is to change in one.

use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use serde_json::Map;
use serde_json::Value;

/// A bead that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewBead {
    pub kind: BeadType,
    pub title: String,
    pub body: Option<String>,
    pub rig: Option<RigId>,
    pub parent: Option<BeadId>,
    pub assignee: Option<AgentId>,
    pub priority: Priority,
    pub labels: Vec<String>,
    pub metadata: Map<String, Value>,
    pub created_by: Option<String>,
    /// The convoy that it joins.
    pub convoy: Option<BeadId>,
}

impl NewBead {
    /// A bead of medium priority with nothing but a title.
    pub fn new(kind: BeadType, title: impl Into<String>) -> Self {
        Self {
            kind,
            title: title.into(),
            body: None,
            rig: None,
            parent: None,
            assignee: None,
            priority: Priority::Medium,
            labels: Vec::new(),
            metadata: Map::new(),
            created_by: None,
            convoy: None,
        }
    }
}

/// What is to change in a bead; None stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeadChanges {
    pub title: Option<String>,
    /// `Some(None)` removes it.
    pub body: Option<Option<String>>,
    pub priority: Option<Priority>,
    pub labels: Option<Vec<String>>,
    pub status: Option<BeadStatus>,
    /// Key by key; null removes. What the town keeps there for itself stays.
    pub metadata: Option<Map<String, Value>>,
    pub rig: Option<RigId>,
    pub parent: Option<BeadId>,
    pub depends_on: Option<Vec<BeadId>>,
}
