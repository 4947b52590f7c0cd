//! What a person, or the mayor, changes in a bead (spec/town.md 3.5): field by field, and nothing that the town's own rules go by.

use crate::Step;
use crate::dispatch::WORK_BRANCH;
use crate::error::Fault;
use crate::error::Refusal;
use crate::message::bead::BeadChanges;
use crate::store;
use crate::triage::TRIAGE_BATCHES;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use serde_json::Map;
use serde_json::Value;
use std::collections::BTreeSet;

/// What the town itself keeps in a bead's metadata, by which its rules go (spec/town.md 3.3): no update changes it.
const OWN_METADATA: [&str; 26] = [
    "agent_bead_id",
    "branch",
    "conflict",
    "convoy_feature_branch",
    "convoy_id",
    "escalation_bead_id",
    "feature_branch",
    "formula",
    "from_agent_id",
    "hooked_bead_id",
    "landing_mr_attempts",
    "last_landing_mr_attempt_at",
    "molecule_bead_id",
    "mr_bead_id",
    "pr_url",
    "ready_to_land",
    "rework_for",
    "source_agent_id",
    "source_bead_id",
    "step_data",
    "step_index",
    "target_branch",
    "to_agent_id",
    TRIAGE_BATCHES,
    "triage_type",
    WORK_BRANCH,
];

impl Step<'_> {
    pub fn update_bead(
        &mut self,
        bead: &BeadId,
        rig: &RigId,
        changes: BeadChanges,
        actor: &str,
    ) -> Result<Bead, Fault> {
        let mut found = self.bead(bead)?;
        if found.rig_id.as_ref() != Some(rig) {
            return Err(Refusal::WrongRig { what: "Bead".into() }.into());
        }
        let moves = changes.rig.as_ref().is_some_and(|new| new != rig);
        if let Some(new) = changes.rig.as_ref().filter(|_| moves) {
            self.rig(new)?;
            self.must_be_at_rest(&found)?;
        }
        if let Some(parent) = &changes.parent {
            self.must_not_be_below(parent, bead)?;
        }
        if let Some(blockers) = &changes.depends_on {
            self.replace_blockers(bead, blockers)?;
        }
        found.title = changes.title.unwrap_or(found.title);
        found.body = changes.body.unwrap_or(found.body);
        found.priority = changes.priority.unwrap_or(found.priority);
        found.labels = changes.labels.unwrap_or(found.labels);
        merge(&mut found.metadata, changes.metadata.unwrap_or_default());
        found.rig_id = changes.rig.or(found.rig_id);
        found.parent_bead_id = changes.parent.or(found.parent_bead_id);
        store::bead::save_fields(self.db, self.now, &found)?;
        if moves {
            self.must_fit_its_convoy(bead)?;
        }
        self.note(bead, BeadEventType::FieldsUpdated, Some(actor.to_owned()))?;
        match changes.status {
            Some(status) => self.request_status(bead, status, actor),
            None => self.bead(bead),
        }
    }

    /// Refuses a bead that is on an agent's hook, at work or in review: its worktree and its branch are in the repository of its rig.
    fn must_be_at_rest(&self, bead: &Bead) -> Result<(), Fault> {
        let why = match store::agent::hooked_to(self.db, &bead.bead_id)? {
            Some(holder) => format!("agent {} has it", holder.agent.id),
            None if bead.status.is_terminal() => return Ok(()),
            None if bead.kind == BeadType::MergeRequest => "its branch is to be reviewed".into(),
            None if bead.status == BeadStatus::Open => return Ok(()),
            None => format!("it is {}", bead.status.as_str()),
        };
        Err(Refusal::BeadBusy { bead: bead.bead_id.clone(), why }.into())
    }

    fn replace_blockers(&mut self, bead: &BeadId, blockers: &[BeadId]) -> Result<(), Fault> {
        for blocker in blockers {
            self.bead(blocker)?;
        }
        store::dependency::set_blockers(self.db, bead, blockers)?;
        self.must_not_wait_for_itself(bead)
    }

    /// Refuses a parent that is not there, or that is below its child: neither could be deleted with the other.
    fn must_not_be_below(&self, parent: &BeadId, child: &BeadId) -> Result<(), Fault> {
        let mut seen = BTreeSet::new();
        let mut above = Some(self.bead(parent)?);
        while let Some(found) = above.filter(|found| seen.insert(found.bead_id.clone())) {
            if found.bead_id == *child {
                return Err(Refusal::DependencyCycle {}.into());
            }
            above = match &found.parent_bead_id {
                Some(next) => store::bead::find(self.db, next)?,
                None => None,
            };
        }
        Ok(())
    }

    /// Refuses a circle of beads that wait for each other.
    pub fn must_not_wait_for_itself(&self, bead: &BeadId) -> Result<(), Fault> {
        let mut seen = Vec::new();
        let mut behind = vec![bead.clone()];
        while let Some(next) = behind.pop() {
            for blocker in store::dependency::blockers(self.db, &next)? {
                if blocker == *bead {
                    return Err(Refusal::DependencyCycle {}.into());
                }
                if !seen.contains(&blocker) {
                    seen.push(blocker.clone());
                    behind.push(blocker);
                }
            }
        }
        Ok(())
    }
}

/// Changes metadata key by key: null removes, and what is the town's own stays as it is, so that an object may come back whole.
fn merge(metadata: &mut Map<String, Value>, changes: Map<String, Value>) {
    for (key, value) in changes.into_iter().filter(|(key, _)| !OWN_METADATA.contains(&key.as_str())) {
        if value.is_null() {
            metadata.remove(&key);
        } else {
            metadata.insert(key, value);
        }
    }
}
