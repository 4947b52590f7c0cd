//! Convoys and molecules (spec/town.md 8.5, 8.7).

use super::bead::Bead;
use super::bead::BeadStatus;
use super::words::words;
use crate::id::BeadId;
use crate::id::RigId;
use crate::time::iso;
use crate::time::iso_option;
use serde::Deserialize;
use serde::Serialize;

words! {
    /// How the work of a convoy reaches the default branch.
    MergeMode {
        /// Each bead by itself.
        ReviewAndMerge = "review-and-merge",
        /// All together, by a branch of the convoy.
        ReviewThenLand = "review-then-land",
    }
}

words! {
    /// Where a convoy stands.
    ConvoyStatus {
        Active = "active",
        Landed = "landed",
    }
}

/// One convoy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Convoy {
    pub id: BeadId,
    pub title: String,
    pub status: ConvoyStatus,
    /// Whether it waits for somebody to start it.
    pub staged: bool,
    pub total_beads: i64,
    /// Closed or failed.
    pub closed_beads: i64,
    pub created_by: Option<String>,
    #[serde(with = "iso")]
    pub created_at: i64,
    #[serde(with = "iso_option")]
    pub landed_at: Option<i64>,
    pub feature_branch: Option<String>,
    pub merge_mode: Option<MergeMode>,
}

/// One bead of a convoy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvoyBead {
    pub bead_id: BeadId,
    pub title: String,
    pub status: BeadStatus,
    pub rig_id: Option<RigId>,
    pub assignee_agent_name: Option<String>,
}

/// `bead_id` waits for `depends_on_bead_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyEdge {
    pub bead_id: BeadId,
    pub depends_on_bead_id: BeadId,
}

/// A convoy and what it is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvoyDetail {
    #[serde(flatten)]
    pub convoy: Convoy,
    pub beads: Vec<ConvoyBead>,
    pub dependency_edges: Vec<DependencyEdge>,
}

/// One task of a new convoy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvoyTask {
    pub title: String,
    #[serde(default)]
    pub body: Option<String>,
    /// Numbers of other tasks, from 0. Its own and those that do not exist are ignored.
    #[serde(default)]
    pub depends_on: Vec<usize>,
}

/// A step that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormulaStep {
    pub title: String,
    pub instructions: String,
}

words! {
    /// Where a molecule stands.
    MoleculeStatus {
        Active = "active",
        Completed = "completed",
        Failed = "failed",
    }
}

/// A chain of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Molecule {
    pub id: BeadId,
    /// What it works on.
    pub bead_id: BeadId,
    pub status: MoleculeStatus,
    /// How many steps are closed.
    pub current_step: i64,
    pub total_steps: i64,
    pub created_at: String,
}

/// The step that is next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoleculeStep {
    pub molecule: Molecule,
    pub step: Bead,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_convoy_is_pinned_alone_and_with_its_beads() {
        let id = |id: &str| BeadId::parse(id).unwrap();
        let convoy = Convoy {
            id: id("c"),
            title: "t".into(),
            status: ConvoyStatus::Active,
            staged: true,
            total_beads: 2,
            closed_beads: 1,
            created_by: None,
            created_at: 0,
            landed_at: None,
            feature_branch: Some("convoy/t/c/head".into()),
            merge_mode: Some(MergeMode::ReviewThenLand),
        };
        let mut wire = json!({
            "id": "c", "title": "t", "status": "active", "staged": true, "total_beads": 2, "closed_beads": 1, "created_by": null,
            "created_at": "1970-01-01T00:00:00.000Z", "landed_at": null, "feature_branch": "convoy/t/c/head",
            "merge_mode": "review-then-land"
        });
        assert_eq!(serde_json::to_value(&convoy).unwrap(), wire);
        let bead = ConvoyBead {
            bead_id: id("b"),
            title: "b".into(),
            status: BeadStatus::Open,
            rig_id: None,
            assignee_agent_name: Some("Toast".into()),
        };
        let edge = DependencyEdge { bead_id: id("b"), depends_on_bead_id: id("a") };
        let detail = ConvoyDetail { convoy, beads: vec![bead], dependency_edges: vec![edge] };
        wire["beads"] =
            json!([{"bead_id": "b", "title": "b", "status": "open", "rig_id": null, "assignee_agent_name": "Toast"}]);
        wire["dependency_edges"] = json!([{"bead_id": "b", "depends_on_bead_id": "a"}]);
        assert_eq!(serde_json::to_value(&detail).unwrap(), wire);
        assert_eq!(serde_json::from_value::<ConvoyDetail>(wire).unwrap(), detail);
    }
}
