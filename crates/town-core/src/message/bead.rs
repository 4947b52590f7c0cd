//! Beads that are to be made, and what is to change in one.

use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

/// A bead that is to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BeadChanges {
    pub title: Option<String>,
    /// `Some(None)` removes it.
    #[serde(with = "nullable", skip_serializing_if = "Option::is_none")]
    pub body: Option<Option<String>>,
    pub priority: Option<Priority>,
    pub labels: Option<Vec<String>>,
    pub status: Option<BeadStatus>,
    pub metadata: Option<Map<String, Value>>,
    pub rig: Option<RigId>,
    pub parent: Option<BeadId>,
    pub depends_on: Option<Vec<BeadId>>,
}

/// Tells null from absent.
mod nullable {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serialize;
    use serde::Serializer;

    pub fn serialize<S: Serializer>(value: &Option<Option<String>>, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
}
