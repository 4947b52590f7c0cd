//! Hooks: which agent owns which bead (spec/town.md 3.5).
//!
//! An agent has at most one bead and a bead at most one agent: the table itself allows no more. Hooking changes no status of the bead and makes
//! the agent idle: only a dispatch starts work. So what no rule would ever dispatch to an agent is on no agent's hook: it would stay there for ever.

use crate::Step;
use crate::error::Fault;
use crate::error::Refusal;
use crate::store;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;

impl Step<'_> {
    /// Hooks a bead to an agent, and takes it from any other. The same again changes nothing.
    pub fn hook(&mut self, agent: &AgentId, bead: &BeadId) -> Result<(), Fault> {
        let holder = self.agent(agent)?.agent;
        let found = self.bead(bead)?;
        if let Some(why) = not_workable(&holder.role, &found) {
            return Err(Refusal::NotWorkable { bead: bead.clone(), why: why.into() }.into());
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

/// Why an agent of this role cannot work on a bead, if that is so.
fn not_workable(role: &Role, bead: &Bead) -> Option<&'static str> {
    if bead.status.is_terminal() {
        return Some(bead.status.as_str());
    }
    match (role, bead.kind) {
        (_, BeadType::Agent | BeadType::Convoy | BeadType::Escalation | BeadType::Message | BeadType::Molecule) => {
            Some(bead.kind.as_str())
        }
        (_, BeadType::Issue) if bead.has_label(label::TRIAGE_REQUEST) => Some(label::TRIAGE_REQUEST),
        (Role::Mayor, _) => Some("the mayor works on no bead"),
        (Role::Refinery, BeadType::Issue) => Some("a refinery works only on merge requests"),
        // An open one would keep its reviewer from the one whose turn it is.
        (Role::Refinery, BeadType::MergeRequest) => {
            (bead.status != BeadStatus::InProgress).then_some("the merge requests of a rig are reviewed in their order")
        }
        (Role::Other(_) | Role::Polecat, BeadType::MergeRequest) => Some("only a refinery works on merge requests"),
        (Role::Other(_) | Role::Polecat, BeadType::Issue) => None,
    }
}
