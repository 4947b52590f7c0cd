//! Sling: make a bead and hand it out in one call (spec/town.md 8.6).

use crate::Step;
use crate::error::Fault;
use crate::message::bead::NewBead;
use crate::reconcile::snapshot;
use protocol::id::RigId;
use protocol::town::agent::Agent;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use serde_json::Map;
use serde_json::Value;

impl Step<'_> {
    /// While the town drains, or too much was dispatched, the bead is only hooked: the reconciler dispatches it later, and no try is burned.
    pub fn sling(
        &mut self,
        rig: &RigId,
        title: String,
        body: Option<String>,
        priority: Priority,
        labels: Vec<String>,
        metadata: Map<String, Value>,
    ) -> Result<(Bead, Agent), Fault> {
        self.rig(rig)?;
        let bead = self.create_bead(NewBead {
            body,
            rig: Some(rig.clone()),
            priority,
            labels,
            metadata,
            ..NewBead::new(BeadType::Issue, title)
        })?;
        self.report_created(&bead)?;
        let agent = self.get_or_create_agent(Role::Polecat, Some(rig))?;
        self.hook(&agent.id, &bead.bead_id)?;
        let may = !self.is_draining()? && !snapshot::breaker_open(self.db, self.limits, self.now)?;
        if may {
            self.dispatch(&agent.id, &bead.bead_id)?;
        }
        Ok((self.bead(&bead.bead_id)?, self.agent(&agent.id)?.agent))
    }
}
