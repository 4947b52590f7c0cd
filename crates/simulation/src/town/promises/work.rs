//! The agents' work.

use super::P10;
use crate::town::git::Files;
use crate::town::process::Given;
use crate::town::world::World;
use database::Database;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::Role;

const P5: &str = "P5 no work is lost that was safe";

impl World<'_> {
    /// The remote has these files of a bead, and somebody was told so.
    pub fn is_safe(&mut self, bead: Option<&BeadId>, files: &Files) {
        if let Some(bead) = bead {
            self.town.shadow.safe.entry(bead.clone()).or_default().extend(files);
        }
    }

    /// P10, and: a bead is run by one agent at a time. One that was told to stop may still be at it.
    pub fn check_may_start(&mut self, pid: u64, given: &Given) {
        let Some(process) = self.processes.get(&pid) else { return };
        if process.acks.is_draining() {
            return self.run.broken(P10, || format!("{given:?}"));
        }
        let Some(bead) = &given.bead else { return };
        let owed = &self.town.shadow.ledger.owed;
        let other = process.agents.values().find(|agent| {
            agent.given.bead.as_ref() == Some(bead)
                && agent.given.request.agent_id != given.request.agent_id
                && agent.works()
                && !owed.contains(&format!("stop/{}", agent.given.request.agent_id))
        });
        if let Some(other) = other.map(|agent| agent.given.request.agent_id.clone()) {
            self.run.broken("a bead is run by one agent at a time", || {
                format!("{bead} by {other} and {}", given.request.agent_id)
            });
        }
    }

    /// Who takes a bead up finds what was done for it.
    pub fn check_continues(&mut self, given: &Given, files: &Files) {
        let Some(safe) = given.bead.as_ref().and_then(|bead| self.town.shadow.safe.get(bead)) else { return };
        if given.request.role == Role::Polecat && !given.request.lightweight && !safe.is_subset(files) {
            let lost: Files = safe.difference(files).copied().collect();
            self.run.broken(P5, || format!("{:?} begins on {} without {lost:?}", given.bead, given.request.branch));
        }
    }

    /// What is merged holds all that was done.
    pub fn check_merge(&mut self, review: &BeadId, branch: &str) {
        self.town.shadow.merged.insert(review.clone());
        let files = self.remote.files(branch);
        let sql = "SELECT depends_on_bead_id FROM bead_dependencies WHERE bead_id = ? AND dependency_type = 'tracks'";
        let rows = self.town.storage.db.query(sql, &[review.as_str().into()]).expect("the ledger is there");
        for source in rows.iter().filter_map(|row| BeadId::parse(&row.get::<String>(0).ok()?).ok()) {
            let safe = self.town.shadow.safe.get(&source);
            if safe.is_some_and(|safe| !safe.is_subset(&files)) {
                self.run.broken(P5, || format!("{branch} is merged without all of {source}"));
            }
        }
    }

    /// Nothing is saved while something may write.
    pub fn check_may_save(&mut self, pid: u64, id: &AgentId) {
        let Some(process) = self.processes.get(&pid) else { return };
        let Some(place) = process.agents.get(id).and_then(|agent| agent.worktree.as_ref()) else { return };
        let writer = process.agents.values().find(|agent| agent.worktree.as_ref() == Some(place) && agent.writes());
        if let Some(writer) = writer.map(|agent| agent.given.request.agent_id.clone()) {
            self.run.broken("nothing is saved while something may write", || {
                format!("{id} in {place}, where {writer} writes")
            });
        }
    }

    /// A drain is over: what was said to be safe is, and all that is not was told.
    pub fn check_drained(&mut self, pid: u64) {
        let Some(process) = self.processes.get(&pid) else { return };
        let (Some(draining), Some(disk)) = (&process.drain, self.disks.get(&process.disk)) else { return };
        let mut lost = None;
        for (id, agent) in &process.agents {
            let request = &agent.given.request;
            let Some(worktree) = agent.worktree.as_ref().and_then(|place| disk.worktrees.get(place)) else { continue };
            if request.lightweight {
                continue;
            }
            let is_safe = worktree.all().is_subset(&self.remote.files(&request.branch));
            match draining.receipts.get(id) {
                Some(receipt) if receipt.pushed && !is_safe => lost = Some((id.to_string(), "its receipt is wrong")),
                None if draining.saving && !is_safe => lost = Some((id.to_string(), "nothing was said of it")),
                Some(_) | None => {}
            }
        }
        let is_named = |folder: &String| process.agents.values().any(|agent| agent.worktree.as_ref() == Some(folder));
        for folder in self.folders(pid).into_iter().filter(|folder| !is_named(folder)) {
            let is_safe = self.is_folder_safe(pid, &folder);
            match draining.folder_receipts.get(&folder) {
                Some(receipt) if receipt.pushed && !is_safe => lost = Some((folder, "its receipt is wrong")),
                None if draining.saving && !is_safe => lost = Some((folder, "nothing was said of it")),
                Some(_) | None => {}
            }
        }
        if let Some((id, why)) = lost {
            self.run.broken("P5 no file is lost in a drain in silence", || format!("{id}: {why}"));
        }
    }
}
