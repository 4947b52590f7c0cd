//! Convoys: many issues with an order, landed together (spec/town.md 8.5).
//!
//! The counter of a convoy is what a recount of its beads gives, taken again whenever one of them ends: it is never added to.

mod plan;

use crate::Step;
use crate::error::Fault;
use crate::error::Refusal;
use crate::event::Fact;
use crate::message::Output;
use crate::message::bead::NewBead;
use crate::store;
use plan::edges_of;
use plan::slug;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::time::iso8601;
use protocol::time::parse_iso8601;
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

/// Of a convoy's metadata: all its issues are over, and its branch is to be merged.
pub(crate) const READY_TO_LAND: &str = "ready_to_land";
/// Of a convoy's metadata: an issue joined when landing had been decided on; only reviews made since then land it.
const LANDINGS_SINCE: &str = "landings_since";
/// Of a convoy's metadata: how often landing was tried.
pub(crate) const LANDING_TRIES: &str = "landing_mr_attempts";
/// Of a convoy's metadata: when it was tried last.
pub(crate) const LAST_LANDING: &str = "last_landing_mr_attempt_at";

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
            Some(branch),
            Some(merge_mode.unwrap_or(config.convoy_merge_mode)),
            staged.unwrap_or(config.staged_convoys_default),
            None,
        )?;
        let mut beads = Vec::with_capacity(tasks.len());
        for task in tasks {
            let bead = self.create_bead(NewBead {
                body: task.body,
                rig: Some(rig.clone()),
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

    /// Adds an issue to a convoy, whose total counts it from now on. It begins where the convoy stands, and lands with it: a landing that was decided on without
    /// it is not the last one.
    pub fn join_convoy(&mut self, bead: &BeadId, convoy: &BeadId) -> Result<(), Fault> {
        let invalid = |what: &str| Fault::from(Refusal::Invalid { what: what.to_owned() });
        let found = self.convoy(convoy)?;
        let convoy_bead = self.bead(convoy)?;
        if convoy_bead.status.is_terminal() {
            return Err(invalid("The convoy is over: make another one"));
        }
        if self.bead(bead)?.kind != BeadType::Issue {
            return Err(invalid("Only an issue can join a convoy"));
        }
        let is_another = |other: &Bead| other.kind == BeadType::Convoy && other.bead_id != *convoy;
        if store::dependency::tracked(self.db, bead)?.iter().any(is_another) {
            return Err(invalid("The issue belongs to another convoy"));
        }
        store::dependency::insert(self.db, bead, convoy, DependencyType::Tracks)?;
        self.must_be_of_one_rig(&found)?;
        let mine = json!({"convoy_id": convoy, "feature_branch": found.feature_branch});
        store::bead::merge_metadata(self.db, bead, &mine)?;
        if convoy_bead.metadata.contains_key(READY_TO_LAND) {
            let again = json!({READY_TO_LAND: null, LANDINGS_SINCE: iso8601(self.now), LANDING_TRIES: null, LAST_LANDING: null});
            store::bead::merge_metadata(self.db, convoy, &again)?;
        }
        let (_, total) = store::dependency::progress(self.db, convoy)?;
        Ok(store::convoy::set_progress(self.db, convoy, found.closed_beads, total)?)
    }

    /// Refuses a convoy whose branch would be in two repositories: it lands in one.
    fn must_be_of_one_rig(&self, convoy: &Convoy) -> Result<(), Fault> {
        if convoy.feature_branch.is_none() || store::dependency::count_rigs(self.db, &convoy.id)? <= 1 {
            return Ok(());
        }
        let what = "The convoy has a branch: all its issues must be of one rig".to_owned();
        Err(Refusal::Invalid { what }.into())
    }

    /// An issue went to another rig: its convoy must allow it.
    pub fn must_fit_its_convoy(&self, bead: &BeadId) -> Result<(), Fault> {
        for convoy in store::dependency::convoys_of(self.db, bead)? {
            self.must_be_of_one_rig(&self.convoy(&convoy)?)?;
        }
        Ok(())
    }

    /// Adds an issue to a convoy that is under way, to wait for `depends_on`.
    pub fn add_to_convoy(&mut self, convoy: &BeadId, bead: &BeadId, depends_on: &[BeadId]) -> Result<Convoy, Fault> {
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
        store::bead::merge_metadata(self.db, bead, &json!({"convoy_id": null, "feature_branch": null}))?;
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
        Ok(store::bead::merge_metadata(self.db, convoy, &json!({READY_TO_LAND: 1}))?)
    }

    /// A review of its branch was merged. What joined after that review was made is in another one.
    pub fn landing_merged(&mut self, convoy: &Bead, landing: &Bead) -> Result<(), Fault> {
        let (closed, total) = store::dependency::progress(self.db, &convoy.bead_id)?;
        if closed == total && is_landing(convoy, landing) { self.land_convoy(&convoy.bead_id) } else { Ok(()) }
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
                self.take_away(&bead.bead_id, "its convoy was closed")?;
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
        let updated = self.convoy(convoy)?;
        self.must_be_of_one_rig(&updated)?;
        Ok(updated)
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

/// Whether the merge of this review brings all of the convoy where it belongs.
pub(crate) fn is_landing(convoy: &Bead, review: &Bead) -> bool {
    let since = convoy.text(LANDINGS_SINCE).and_then(parse_iso8601);
    since.is_none_or(|since| review.created_at > since)
}
