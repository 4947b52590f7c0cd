//! Hooks: which agent owns which bead (spec/town.md 3.5).
//!
//! An agent has at most one bead and a bead at most one agent: the table itself allows no more. Hooking changes no status of the bead and makes
//! the agent idle: only a dispatch starts work.

use crate::Step;
use crate::error::Fault;
use crate::error::Refusal;
use crate::store;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;

impl Step<'_> {
    /// Hooks a bead to an agent, and takes it from any other. The same again changes nothing.
    pub fn hook(&mut self, agent: &AgentId, bead: &BeadId) -> Result<(), Fault> {
        let holder = self.agent(agent)?.agent;
        let found = self.bead(bead)?;
        let not_workable = |why: &str| Fault::from(Refusal::NotWorkable { bead: bead.clone(), why: why.into() });
        match found.kind {
            BeadType::Agent | BeadType::Convoy | BeadType::Escalation | BeadType::Message => {
                return Err(not_workable(found.kind.as_str()));
            }
            BeadType::Issue | BeadType::MergeRequest | BeadType::Molecule => {}
        }
        if found.has_label(label::TRIAGE_REQUEST) {
            return Err(not_workable(label::TRIAGE_REQUEST));
        }
        if found.status.is_terminal() {
            return Err(not_workable(found.status.as_str()));
        }
        match holder.current_hook_bead_id {
            Some(hook) if hook == *bead => return Ok(()),
            Some(hook) => return Err(Refusal::AlreadyHooked { agent: agent.clone(), hook }.into()),
            None => {}
        }
        // Two that work on one bead would write in one worktree.
        self.take_away(bead, "its bead was given to another")?;
        store::agent::hook(self.db, self.now, agent, bead)?;
        store::bead::set_assignee(self.db, self.now, bead, Some(agent))?;
        self.note(bead, BeadEventType::Hooked, Some(agent.to_string()))
    }

    /// Takes an agent's bead off its hook. One without a hook is fine.
    pub fn unhook(&mut self, agent: &AgentId) -> Result<(), Fault> {
        let hook = self.agent(agent)?.agent.current_hook_bead_id;
        let Some(bead) = hook else { return Ok(()) };
        store::agent::unhook(self.db, agent)?;
        self.note(&bead, BeadEventType::Unhooked, Some(agent.to_string()))
    }

    /// Takes a bead from whoever holds it, which is stopped: what it goes on to do would be for nothing, or against what was decided. One that is
    /// taken for lost is stopped too, for it may work on where its words do not reach the town.
    pub fn take_away(&mut self, bead: &BeadId, why: &str) -> Result<(), Fault> {
        let Some(holder) = store::agent::hooked_to(self.db, bead)? else { return Ok(()) };
        self.stop_agent(&holder.agent.id, why)?;
        self.unhook(&holder.agent.id)
    }
}
