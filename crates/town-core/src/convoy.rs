//! Convoys: many issues with an order, landed together (spec/town.md 8.5).
//!
//! The counter of a convoy is what a recount of its beads gives, taken again whenever one of them ends: it is never added to.

use crate::Step;
use crate::error::Fault;
use crate::error::Refusal;
use crate::event::Fact;
use crate::message::Output;
use crate::message::bead::NewBead;
use crate::store;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::DependencyType;
use protocol::town::bead::label;
use protocol::town::convoy::Convoy;
use protocol::town::convoy::ConvoyBead;
use protocol::town::convoy::ConvoyDetail;
use protocol::town::convoy::ConvoyStatus;
use protocol::town::convoy::ConvoyTask;
use protocol::town::convoy::DependencyEdge;
use protocol::town::convoy::MergeMode;
use protocol::town::status::Frame;
use serde_json::Map;
use serde_json::json;

/// The longest name of a convoy in its branch.
const SLUG_MAX: usize = 40;

impl Step<'_> {
    fn convoy(&self, convoy: &BeadId) -> Result<Convoy, Fault> {
        store::convoy::find(self.db, convoy)?.ok_or_else(|| Refusal::ConvoyNotFound { convoy: convoy.clone() }.into())
    }

    /// Makes a convoy of new issues. None of them has an agent until a tick hands it out.
    pub fn sling_convoy(
        &mut self,
        rig: &RigId,
        title: String,
        tasks: Vec<ConvoyTask>,
        merge_mode: Option<MergeMode>,
        staged: Option<bool>,
    ) -> Result<(Convoy, Vec<Bead>), Fault> {
        self.rig(rig)?;
        let edges = edges_of(&tasks)?;
        let config = self.town()?.config.clone();
        let id = self.new_bead_id()?;
        let branch = format!("convoy/{}/{}/head", slug(&title), id.as_str().get(..8).unwrap_or(id.as_str()));
        let convoy = self.insert_convoy(
            id,
            title,
            Some(branch.clone()),
            Some(merge_mode.unwrap_or(config.convoy_merge_mode)),
            staged.unwrap_or(config.staged_convoys_default),
            None,
        )?;
        let mut beads = Vec::with_capacity(tasks.len());
        for task in tasks {
            let mut metadata = Map::new();
            metadata.insert("convoy_id".into(), json!(convoy.id));
            metadata.insert("feature_branch".into(), json!(branch));
            let bead = self.create_bead(NewBead {
                body: task.body,
                rig: Some(rig.clone()),
                metadata,
                convoy: Some(convoy.id.clone()),
                ..NewBead::new(BeadType::Issue, task.title)
            })?;
            beads.push(bead);
        }
        for (waiting, blocker) in edges {
            if let (Some(waiting), Some(blocker)) = (beads.get(waiting), beads.get(blocker)) {
                self.block(&waiting.bead_id, &blocker.bead_id)?;
            }
        }
        for bead in &beads {
            self.report_created(bead)?;
        }
        Ok((self.convoy(&convoy.id)?, beads))
    }

    /// Makes a convoy of issues that are there. It has no branch of its own.
    pub fn create_convoy(
        &mut self,
        title: String,
        beads: &[BeadId],
        created_by: Option<String>,
    ) -> Result<Convoy, Fault> {
        let id = self.new_bead_id()?;
        let convoy = self.insert_convoy(id, title, None, None, false, created_by)?;
        for bead in beads {
            self.bead(bead)?;
            self.join_convoy(bead, &convoy.id)?;
        }
        self.count_convoy(&convoy.id)?;
        self.convoy(&convoy.id)
    }

    fn insert_convoy(
        &mut self,
        id: BeadId,
        title: String,
        feature_branch: Option<String>,
        merge_mode: Option<MergeMode>,
        staged: bool,
        created_by: Option<String>,
    ) -> Result<Convoy, Fault> {
        let mut metadata = Map::new();
        if let Some(branch) = &feature_branch {
            metadata.insert("feature_branch".into(), json!(branch));
        }
        let new = NewBead {
            labels: vec![label::CONVOY.into()],
            metadata,
            created_by: created_by.clone(),
            ..NewBead::new(BeadType::Convoy, title.clone())
        };
        let bead = self.create_bead_as(id, new)?;
        let convoy = Convoy {
            id: bead.bead_id,
            title,
            status: ConvoyStatus::Active,
            staged,
            total_beads: 0,
            closed_beads: 0,
            created_by,
            created_at: self.now,
            landed_at: None,
            feature_branch,
            merge_mode,
        };
        store::convoy::insert(self.db, &convoy)?;
        Ok(convoy)
    }

    /// Adds an issue to a convoy, whose total counts it from now on.
    pub fn join_convoy(&mut self, bead: &BeadId, convoy: &BeadId) -> Result<(), Fault> {
        let found = self.convoy(convoy)?;
        store::dependency::insert(self.db, bead, convoy, DependencyType::Tracks)?;
        let (_, total) = store::dependency::progress(self.db, convoy)?;
        Ok(store::convoy::set_progress(self.db, convoy, found.closed_beads, total)?)
    }

    /// Adds an issue to a convoy that is under way, to wait for `depends_on`.
    pub fn add_to_convoy(&mut self, convoy: &BeadId, bead: &BeadId, depends_on: &[BeadId]) -> Result<Convoy, Fault> {
        let invalid = |what: &str| Fault::from(Refusal::Invalid { what: what.to_owned() });
        if self.convoy(convoy)?.status == ConvoyStatus::Landed {
            return Err(invalid("The convoy has landed"));
        }
        if self.bead(bead)?.kind != BeadType::Issue {
            return Err(invalid("Only an issue can join a convoy"));
        }
        if store::dependency::tracked(self.db, bead)?
            .iter()
            .any(|other| other.kind == BeadType::Convoy && other.bead_id != *convoy)
        {
            return Err(invalid("The issue belongs to another convoy"));
        }
        self.join_convoy(bead, convoy)?;
        for blocker in depends_on {
            self.bead(blocker)?;
            self.block(bead, blocker)?;
        }
        self.must_not_wait_for_itself(bead)?;
        self.convoy(convoy)
    }

    /// Takes an issue out of a convoy. What waits for it still does.
    pub fn remove_from_convoy(&mut self, convoy: &BeadId, bead: &BeadId) -> Result<Convoy, Fault> {
        self.convoy(convoy)?;
        if !store::dependency::leave(self.db, bead, convoy)? {
            return Err(Refusal::BeadNotFound { bead: bead.clone() }.into());
        }
        self.count_convoy(convoy)?;
        self.convoy(convoy)
    }

    /// Counts a convoy again. One that is complete lands, or becomes ready to: whatever is not over is decided by the tick.
    pub fn count_convoy(&mut self, convoy: &BeadId) -> Result<(), Fault> {
        let Some(found) = store::convoy::find(self.db, convoy)? else { return Ok(()) };
        let (closed, total) = store::dependency::progress(self.db, convoy)?;
        if (closed, total) == (found.closed_beads, found.total_beads) && closed < total {
            return Ok(());
        }
        store::convoy::set_progress(self.db, convoy, closed, total)?;
        if self.facts.viewers > 0 {
            self.outputs.push(Output::Broadcast(Box::new(Frame::Convoy {
                channel: "convoy",
                convoy_id: convoy.clone(),
                total_beads: total,
                closed_beads: closed,
                ts: self.now,
            })));
        }
        if found.status == ConvoyStatus::Landed || closed < total || total == 0 {
            return Ok(());
        }
        if found.merge_mode == Some(MergeMode::ReviewThenLand) && found.feature_branch.is_some() {
            return self.ready_to_land(convoy);
        }
        self.land_convoy(convoy)
    }

    pub fn ready_to_land(&mut self, convoy: &BeadId) -> Result<(), Fault> {
        Ok(store::bead::merge_metadata(self.db, convoy, &json!({"ready_to_land": 1}))?)
    }

    pub fn land_convoy(&mut self, convoy: &BeadId) -> Result<(), Fault> {
        store::convoy::land(self.db, self.now, convoy)?;
        self.set_status(convoy, BeadStatus::Closed, "system", None).map(drop)
    }

    pub fn start_convoy(&mut self, convoy: &BeadId) -> Result<(Convoy, Vec<Bead>), Fault> {
        if !self.convoy(convoy)?.staged {
            return Err(Refusal::ConvoyNotStaged { convoy: convoy.clone() }.into());
        }
        store::convoy::start(self.db, convoy)?;
        self.report(None, Some(convoy), &Fact::ConvoyStarted { convoy_id: convoy.clone() })?;
        Ok((self.convoy(convoy)?, self.convoy_beads(convoy)?))
    }

    /// Ends a convoy, and all of it that is not over.
    pub fn close_convoy(&mut self, convoy: &BeadId) -> Result<Convoy, Fault> {
        self.convoy(convoy)?;
        for bead in store::dependency::tracking(self.db, convoy)? {
            if !bead.status.is_terminal() {
                self.unhook_bead(&bead.bead_id)?;
                self.set_status(&bead.bead_id, BeadStatus::Closed, "system", None)?;
            }
        }
        self.land_convoy(convoy)?;
        self.count_convoy(convoy)?;
        self.convoy(convoy)
    }

    pub fn update_convoy(
        &mut self,
        convoy: &BeadId,
        mode: Option<MergeMode>,
        branch: Option<&str>,
    ) -> Result<Convoy, Fault> {
        self.convoy(convoy)?;
        store::convoy::update(self.db, convoy, mode, branch)?;
        self.convoy(convoy)
    }

    pub fn convoy_detail(&self, convoy: &BeadId) -> Result<ConvoyDetail, Fault> {
        let convoy = self.convoy(convoy)?;
        let mut beads = Vec::new();
        for bead in self.convoy_beads(&convoy.id)? {
            let assignee = match &bead.assignee_agent_bead_id {
                Some(agent) => store::agent::find(self.db, agent)?,
                None => None,
            };
            beads.push(ConvoyBead {
                bead_id: bead.bead_id,
                title: bead.title,
                status: bead.status,
                rig_id: bead.rig_id,
                assignee_agent_name: assignee.map(|row| row.agent.name),
            });
        }
        let dependency_edges = store::dependency::edges(self.db, &convoy.id)?
            .into_iter()
            .map(|(bead_id, depends_on_bead_id)| DependencyEdge { bead_id, depends_on_bead_id })
            .collect();
        Ok(ConvoyDetail { convoy, beads, dependency_edges })
    }

    fn convoy_beads(&self, convoy: &BeadId) -> Result<Vec<Bead>, Fault> {
        let mut beads = store::dependency::tracking(self.db, convoy)?;
        beads.retain(|bead| bead.kind == BeadType::Issue);
        Ok(beads)
    }
}

/// Who waits for whom, by number. Its own number and numbers of nobody are ignored; a cycle is refused before anything is written.
fn edges_of(tasks: &[ConvoyTask]) -> Result<Vec<(usize, usize)>, Fault> {
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for (waiting, task) in tasks.iter().enumerate() {
        for blocker in &task.depends_on {
            let edge = (waiting, *blocker);
            if *blocker != waiting && *blocker < tasks.len() && !edges.contains(&edge) {
                edges.push(edge);
            }
        }
    }
    // Kahn: take away whoever waits for nobody that is left, until nobody is left.
    let mut left: Vec<usize> = (0..tasks.len()).collect();
    loop {
        let stuck: Vec<usize> = left
            .iter()
            .copied()
            .filter(|task| edges.iter().any(|(waiting, blocker)| waiting == task && left.contains(blocker)))
            .collect();
        if stuck.is_empty() {
            return Ok(edges);
        }
        if stuck.len() == left.len() {
            return Err(Refusal::DependencyCycle {}.into());
        }
        left = stuck;
    }
}

/// A name that fits into a branch: lower case, everything else one dash.
pub(crate) fn slug(title: &str) -> String {
    let mut slug = String::new();
    for c in title.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let short: String = slug.trim_matches('-').chars().take(SLUG_MAX).collect();
    if short.is_empty() { "convoy".into() } else { short.trim_end_matches('-').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(depends_on: &[&[usize]]) -> Vec<ConvoyTask> {
        let task = |on: &&[usize]| ConvoyTask { title: "t".into(), body: None, depends_on: on.to_vec() };
        depends_on.iter().map(task).collect()
    }

    #[test]
    fn slugs_fit_into_a_branch() {
        assert_eq!(slug("Fix: Bug #123 with special characters!!!"), "fix-bug-123-with-special-characters");
        assert_eq!(slug("!!!"), "convoy");
        assert_eq!(slug(&"abc ".repeat(40)).len(), 40 - 1, "no dash at the end");
    }

    #[test]
    fn the_own_number_and_numbers_of_nobody_are_ignored_and_a_cycle_is_refused() {
        assert_eq!(edges_of(&tasks(&[&[0, 7], &[0, 0], &[1]])).unwrap(), [(1, 0), (2, 1)]);
        assert_eq!(edges_of(&tasks(&[&[2], &[0], &[1]])), Err(Refusal::DependencyCycle {}.into()));
        assert_eq!(edges_of(&tasks(&[&[], &[0], &[0], &[1, 2]])).unwrap().len(), 4);
    }
}
