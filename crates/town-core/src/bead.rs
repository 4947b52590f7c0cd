//! Beads: how they are made, change and end (spec/town.md 3.4, 3.5).
//!
//! `set_status` is the only way a status changes. What is terminal stays so: a change of it is answered with the bead as it is.

use crate::Step;
use crate::error::Fault;
use crate::error::Refusal;
use crate::event;
use crate::event::Fact;
use crate::message::Output;
use crate::message::answer::Answer;
use crate::message::bead::NewBead;
use crate::store;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadEvent;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::DependencyType;
use protocol::town::status::BeadNews;
use protocol::town::status::Frame;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Why a bead failed, in the form that its history keeps.
#[derive(Clone, Debug)]
pub struct FailureReason {
    pub code: &'static str,
    pub message: String,
    pub source: &'static str,
}

impl Step<'_> {
    pub fn new_bead_id(&mut self) -> Result<BeadId, Fault> {
        self.new_id(BeadId::parse)
    }

    /// The bead, or a refusal.
    pub fn bead(&self, bead: &BeadId) -> Result<Bead, Fault> {
        store::bead::find(self.db, bead)?.ok_or_else(|| Refusal::BeadNotFound { bead: bead.clone() }.into())
    }

    pub fn create_bead(&mut self, new: NewBead) -> Result<Bead, Fault> {
        let id = self.new_bead_id()?;
        self.create_bead_as(id, new)
    }

    pub fn create_bead_as(&mut self, bead_id: BeadId, new: NewBead) -> Result<Bead, Fault> {
        let bead = Bead {
            bead_id,
            kind: new.kind,
            status: BeadStatus::Open,
            title: new.title,
            body: new.body,
            rig_id: new.rig,
            parent_bead_id: new.parent,
            assignee_agent_bead_id: new.assignee,
            priority: new.priority,
            labels: new.labels,
            metadata: new.metadata,
            dispatch_attempts: 0,
            last_dispatch_attempt_at: None,
            created_by: new.created_by,
            created_at: self.now,
            updated_at: self.now,
            closed_at: None,
        };
        store::bead::insert(self.db, &bead)?;
        let bead = match &new.convoy {
            Some(convoy) => {
                self.join_convoy(&bead.bead_id, convoy)?;
                self.bead(&bead.bead_id)?
            }
            None => bead,
        };
        self.note(&bead.bead_id, BeadEventType::Created, bead.created_by.clone())?;
        self.announce(&bead, BeadNews::Created);
        Ok(bead)
    }

    /// A line in the history of a bead.
    pub fn note(&mut self, bead: &BeadId, kind: BeadEventType, agent: Option<String>) -> Result<(), Fault> {
        self.note_change(bead, kind, agent, None, None, Map::new())
    }

    /// A line in the history of a bead, with what changed.
    pub fn note_change(
        &mut self,
        bead: &BeadId,
        kind: BeadEventType,
        agent: Option<String>,
        old: Option<&str>,
        new: Option<&str>,
        metadata: Map<String, Value>,
    ) -> Result<(), Fault> {
        let event = BeadEvent {
            bead_event_id: self.entropy.uuid(),
            bead_id: bead.clone(),
            agent_id: agent,
            event_type: kind,
            old_value: old.map(str::to_owned),
            new_value: new.map(str::to_owned),
            metadata,
            created_at: self.now,
        };
        Ok(store::history::insert(self.db, &event)?)
    }

    /// Moves a bead to a status, unless it is terminal. Says what it is afterwards.
    pub fn set_status(
        &mut self,
        bead: &BeadId,
        status: BeadStatus,
        actor: &str,
        reason: Option<FailureReason>,
    ) -> Result<Bead, Fault> {
        let mut found = self.bead(bead)?;
        if found.status == status || found.status.is_terminal() {
            return Ok(found);
        }
        store::bead::set_status(self.db, self.now, bead, status)?;
        let mut metadata = Map::new();
        if let Some(reason) = reason {
            let reason = json!({"code": reason.code, "message": reason.message, "source": reason.source});
            metadata.insert("failure_reason".into(), reason);
        }
        let (old, new) = (found.status.as_str(), status.as_str());
        self.note_change(bead, BeadEventType::StatusChanged, Some(actor.to_owned()), Some(old), Some(new), metadata)?;
        found.status = status;
        found.updated_at = self.now;
        found.closed_at = (status == BeadStatus::Closed).then_some(self.now);
        let news = match status {
            BeadStatus::Closed => BeadNews::Closed,
            BeadStatus::Failed => BeadNews::Failed,
            BeadStatus::InProgress | BeadStatus::InReview | BeadStatus::Open => BeadNews::StatusChanged,
        };
        self.announce(&found, news);
        if status.is_terminal() {
            for convoy in store::dependency::convoys_of(self.db, bead)? {
                self.count_convoy(&convoy)?;
            }
            self.end_molecules(&found)?;
            self.dispatch_unblocked(bead)?;
        }
        Ok(found)
    }

    /// The call of that name: ending a bead is a fact too, so that it is taken from its agent. One that ends its own bead lets go of it at once, and
    /// is not stopped in the midst of its last turn.
    pub fn request_status(&mut self, bead: &BeadId, status: BeadStatus, actor: &str) -> Result<Bead, Fault> {
        if status.is_terminal() {
            self.bead(bead)?;
            if let Some(holder) = store::agent::hooked_to(self.db, bead)?.filter(|row| row.agent.id.as_str() == actor) {
                self.unhook(&holder.agent.id)?;
            }
            self.report(None, Some(bead), &Fact::BeadCancelled { cancel_status: status })?;
        }
        self.set_status(bead, status, actor, None)
    }

    /// Back to the start, without an agent.
    pub fn reopen(&mut self, bead: &BeadId, actor: &str) -> Result<(), Fault> {
        self.set_status(bead, BeadStatus::Open, actor, None)?;
        Ok(store::bead::set_assignee(self.db, self.now, bead, None)?)
    }

    /// Deletes beads with all that is below them. One that is not there is fine. Returns how many were asked for and there.
    pub fn delete_beads(&mut self, beads: &[BeadId]) -> Result<i64, Fault> {
        let mut count = 0_i64;
        for bead in beads {
            let mut below = vec![bead.clone()];
            let mut found = false;
            while let Some(next) = below.pop() {
                let children = store::bead::Filter { parent: Some(next.clone()), ..Default::default() };
                let children = store::bead::list(self.db, &children, i64::from(u32::MAX), 0)?;
                below.extend(children.into_iter().map(|child| child.bead_id));
                found |= self.delete_one(&next)?;
            }
            count = count.saturating_add(i64::from(found));
        }
        Ok(count)
    }

    fn delete_one(&mut self, bead: &BeadId) -> Result<bool, Fault> {
        if let Ok(agent) = AgentId::parse(bead.as_str())
            && let Some(row) = store::agent::find(self.db, &agent)?
        {
            self.retire_agent(&row)?;
        }
        self.take_away(bead, "its bead was deleted")?;
        self.review_withdrawn(bead)?;
        let convoys = store::dependency::convoys_of(self.db, bead)?;
        store::dependency::delete(self.db, bead)?;
        event::forget_bead(self.db, bead)?;
        for table in ["bead_events", "agent_metadata", "review_metadata", "escalation_metadata", "convoy_metadata"] {
            database::execute(self.db, &format!("DELETE FROM {table} WHERE bead_id = ?"), &[bead.as_str().into()])?;
        }
        let deleted = self.db.query("DELETE FROM beads WHERE bead_id = ? RETURNING 1", &[bead.as_str().into()])?.len();
        for convoy in &convoys {
            self.count_convoy(convoy)?;
        }
        Ok(deleted > 0)
    }

    /// Gives a bead to another agent: the new one takes it first, so that it is never with nobody. It begins when the bead's cooldown is over.
    pub fn reassign(&mut self, bead: &BeadId, rig: &RigId, agent: &AgentId) -> Result<Bead, Fault> {
        let found = self.bead(bead)?;
        let target = self.agent(agent)?.agent;
        if found.rig_id.as_ref() != Some(rig) {
            return Err(Refusal::WrongRig { what: "Bead".into() }.into());
        }
        if target.rig_id.as_ref() != Some(rig) {
            return Err(Refusal::WrongRig { what: "Target agent".into() }.into());
        }
        self.hook(agent, bead)?;
        // Its work was stopped, and the rules start only what is open. Again to whoever has it stops nothing.
        let is_taken = target.current_hook_bead_id.as_ref() != Some(bead);
        if is_taken && found.kind == BeadType::Issue && found.status == BeadStatus::InProgress {
            self.set_status(bead, BeadStatus::Open, "system", None)?;
        }
        self.bead(bead)
    }

    pub fn bead_history(&self, bead: Option<&BeadId>, since: Option<i64>, limit: i64) -> Result<Answer, Fault> {
        let events = store::history::list(self.db, bead, since, limit.clamp(1, self.limits.rows_kept))?;
        Ok(Answer::Events { events })
    }

    /// `bead` waits for `blocker`.
    pub fn block(&mut self, bead: &BeadId, blocker: &BeadId) -> Result<(), Fault> {
        Ok(store::dependency::insert(self.db, bead, blocker, DependencyType::Blocks)?)
    }

    /// Tells those who look.
    fn announce(&mut self, bead: &Bead, news: BeadNews) {
        if self.facts.viewers > 0 {
            self.outputs.push(Output::Broadcast(Box::new(Frame::Bead {
                channel: "bead",
                news,
                bead_id: bead.bead_id.clone(),
                title: bead.title.clone(),
                status: bead.status,
                rig_id: bead.rig_id.clone(),
                convoy_id: bead.text("convoy_id").map(str::to_owned),
                ts: self.now,
            })));
        }
    }
}
