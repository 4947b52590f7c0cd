//! What must hold in every ledger (spec/town.md 4.7). Reported, never repaired here: the numbers are the specification's.

use super::snapshot::Snapshot;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::BeadStatus;
use protocol::town::status::Violation;
use std::collections::BTreeMap;

pub fn violations(town: &Snapshot) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut add = |invariant, message: String| found.push(Violation { invariant, message });
    let mut reviewing: BTreeMap<_, usize> = BTreeMap::new();
    for view in &town.reviews {
        // A pull request waits for its host, so several may.
        if view.bead.status == BeadStatus::InProgress && view.review.pr_url.is_none() {
            let count = reviewing.entry(view.bead.rig_id.as_ref()).or_default();
            *count = count.saturating_add(1);
        }
    }
    for (rig, count) in reviewing.into_iter().filter(|(_, count)| *count > 1) {
        let rig = rig.map_or("none", protocol::id::RigId::as_str);
        add(3, format!("rig {rig} has {count} merge requests in progress"));
    }
    for issue in &town.issues {
        if issue.bead.status == BeadStatus::InReview && issue.reviews.unfinished == 0 {
            add(4, format!("bead {} is in review without an unfinished merge request", issue.bead.bead_id));
        }
    }
    for convoy in town.convoys.iter().filter(|view| view.bead.status == BeadStatus::InProgress) {
        add(5, format!("convoy {} is in progress", convoy.bead.bead_id));
    }
    let mut holders: BTreeMap<_, usize> = BTreeMap::new();
    for bead in town.agents.iter().filter_map(|view| view.row.agent.current_hook_bead_id.as_ref()) {
        let count = holders.entry(bead).or_default();
        *count = count.saturating_add(1);
    }
    for (bead, count) in holders.into_iter().filter(|(_, count)| *count > 1) {
        add(6, format!("bead {bead} is on {count} hooks"));
    }
    for view in &town.agents {
        let agent = &view.row.agent;
        if agent.status == AgentStatus::Working && agent.current_hook_bead_id.is_none() && agent.role != Role::Mayor {
            add(7, format!("agent {} works without a hook", agent.id));
        }
    }
    found
}
