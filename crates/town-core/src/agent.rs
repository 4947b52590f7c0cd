//! Agents: who there is, and what they say of themselves (spec/town.md 3.5).

use crate::Step;
use crate::error::Fault;
use crate::error::Refusal;
use crate::message::Output;
use crate::message::bead::NewBead;
use crate::message::call::EvictionReceipt;
use crate::message::effect::Effect;
use crate::store;
use crate::store::agent::AgentRow;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::agent::Agent;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::status::Frame;
use serde_json::Map;
use serde_json::json;

/// What polecats are called, in this order, until all are taken.
const NAMES: [&str; 20] = [
    "Toast", "Maple", "Birch", "Shadow", "Clover", "Ember", "Sage", "Dusk", "Flint", "Coral", "Slate", "Reed", "Thorn",
    "Pike", "Moss", "Wren", "Blaze", "Gale", "Drift", "Lark",
];

impl Step<'_> {
    /// The agent, or a refusal.
    pub fn agent(&self, agent: &AgentId) -> Result<AgentRow, Fault> {
        store::agent::find(self.db, agent)?.ok_or_else(|| Refusal::AgentNotFound { agent: agent.clone() }.into())
    }

    pub fn register(&mut self, role: Role, name: String, identity: String, rig: Option<RigId>) -> Result<Agent, Fault> {
        let taken = store::agent::select(self.db, "WHERE a.identity = ?", &[identity.as_str().into()])?;
        if !taken.is_empty() {
            return Err(Refusal::IdentityTaken { identity }.into());
        }
        let bead = self.create_bead(NewBead { rig, ..NewBead::new(BeadType::Agent, name) })?;
        let id = AgentId::parse(bead.bead_id.as_str())
            .map_err(|error| Refusal::Invalid { what: error.message.to_owned() })?;
        let agent = Agent {
            id,
            rig_id: bead.rig_id,
            role,
            name: bead.title,
            identity,
            status: AgentStatus::Idle,
            current_hook_bead_id: None,
            dispatch_attempts: 0,
            last_activity_at: None,
            checkpoint: None,
            created_at: self.now,
            agent_status_message: None,
            agent_status_updated_at: None,
        };
        store::agent::insert(self.db, &agent)?;
        Ok(agent)
    }

    /// The mayor of the town, the refinery of the rig, or a polecat of the rig that has nothing to do: a new one if there is none.
    pub fn get_or_create_agent(&mut self, role: Role, rig: Option<&RigId>) -> Result<Agent, Fault> {
        let all = store::agent::all(self.db)?;
        let own = |row: &&AgentRow| row.agent.role == role && row.agent.rig_id.as_ref() == rig;
        let found = match role {
            Role::Mayor => all.iter().find(|row| row.agent.role == Role::Mayor),
            Role::Polecat => all
                .iter()
                .filter(own)
                .find(|row| row.agent.status == AgentStatus::Idle && row.agent.current_hook_bead_id.is_none()),
            Role::Other(_) | Role::Refinery => all.iter().find(own),
        };
        if let Some(found) = found {
            return Ok(found.agent.clone());
        }
        let town = short(self.town()?.id.as_str()).to_owned();
        if role == Role::Mayor {
            return self.register(Role::Mayor, "mayor".into(), format!("mayor-{town}"), None);
        }
        let mut name = match role {
            Role::Polecat => free_name(&all),
            Role::Mayor | Role::Other(_) | Role::Refinery => role.as_str().to_owned(),
        };
        let place = short(rig.map_or("town", RigId::as_str)).to_owned();
        let identity = |name: &str| format!("{name}-{}-{place}@{town}", role.as_str());
        // Two rigs whose ids begin alike would give two agents one identity.
        let base = name.clone();
        let mut n = 1_usize;
        while all.iter().any(|row| row.agent.identity == identity(&name)) {
            n = n.saturating_add(1);
            name = format!("{base}-{n}");
        }
        let identity = identity(&name);
        self.register(role, name, identity, rig.cloned())
    }

    pub fn delete_agent(&mut self, agent: &AgentId) -> Result<(), Fault> {
        self.agent(agent)?;
        let own = BeadId::parse(agent.as_str()).map_err(|error| Refusal::Invalid { what: error.message.to_owned() })?;
        self.delete_beads(&[own]).map(drop)
    }

    /// Before an agent is deleted: it is stopped, what it works on goes back, the rest loses its name, and its log ends.
    pub fn retire_agent(&mut self, row: &AgentRow) -> Result<(), Fault> {
        let agent = &row.agent.id;
        // One that is taken for lost may run all the same.
        self.stop_agent(agent, "it was deleted")?;
        let filter = store::bead::Filter { assignee: Some(agent.clone()), ..Default::default() };
        for bead in store::bead::list(self.db, &filter, i64::from(u32::MAX), 0)? {
            let is_over = bead.kind == BeadType::Message || bead.status.is_terminal();
            if is_over
                || (row.agent.current_hook_bead_id.as_ref() != Some(&bead.bead_id) && self.is_handed_on(&bead)?)
            {
                store::bead::set_assignee(self.db, self.now, &bead.bead_id, None)?;
            } else {
                self.reopen(&bead.bead_id, "system")?;
            }
        }
        database::execute(self.db, "DELETE FROM agent_nudges WHERE agent_bead_id = ?", &[agent.as_str().into()])?;
        self.owe(&Effect::Forget { agent: agent.clone() })
    }

    /// Whether a bead waits for others than its last agent: for a review, or for the host of its pull request.
    fn is_handed_on(&self, bead: &Bead) -> Result<bool, Fault> {
        let has_pull_request =
            || Ok(store::review::find(self.db, &bead.bead_id)?.is_some_and(|review| review.pr_url.is_some()));
        if bead.status == BeadStatus::InReview { Ok(true) } else { has_pull_request() }
    }

    /// A new start: its bead is open again with fresh counters, and it is idle.
    pub fn reset_agent(&mut self, agent: &AgentId) -> Result<(), Fault> {
        let row = self.agent(agent)?;
        self.stop_agent(agent, "it was reset")?;
        if let Some(bead) = row.agent.current_hook_bead_id {
            self.unhook(agent)?;
            if store::bead::find(self.db, &bead)?.is_some_and(|bead| !bead.status.is_terminal()) {
                self.reopen(&bead, "system")?;
                store::bead::reset_dispatch(self.db, &bead)?;
            }
        }
        store::agent::set_status(self.db, self.now, agent, &AgentStatus::Idle)?;
        Ok(store::agent::reset_dispatch(self.db, agent)?)
    }

    /// The line that an agent writes about its work.
    pub fn say(&mut self, agent: &AgentId, message: &str) -> Result<(), Fault> {
        let row = self.agent(agent)?;
        store::agent::set_message(self.db, self.now, agent, message)?;
        if let Some(bead) = row.agent.current_hook_bead_id {
            let by = Some(agent.to_string());
            self.note_change(&bead, BeadEventType::AgentStatus, by, None, Some(message), Map::new())?;
        }
        if self.facts.viewers > 0 {
            self.outputs.push(Output::Broadcast(Box::new(Frame::AgentStatus {
                kind: "agent_status",
                agent_id: agent.clone(),
                message: message.to_owned(),
                timestamp: self.now,
            })));
        }
        Ok(())
    }

    /// Writes what became of an agent's work on `of` into that bead, for whoever takes it up next. None: a container that does not tell its beads,
    /// so it was the one on the hook. The same receipt again changes nothing.
    pub fn eviction_context(
        &mut self,
        agent: &AgentId,
        of: Option<&BeadId>,
        receipt: &EvictionReceipt,
    ) -> Result<(), Fault> {
        let Some(row) = store::agent::find(self.db, agent)? else { return Ok(()) };
        let hook = row.agent.current_hook_bead_id;
        let Some(of) = of.or(hook.as_ref()) else { return Ok(()) };
        let found = store::bead::find(self.db, of)?;
        // Nobody takes up what is over.
        let found = found.filter(|bead| hook.as_ref() == Some(of) || !bead.status.is_terminal());
        let Some(mut bead) = found else { return Ok(()) };
        let note = note_of(receipt);
        bead.body = Some(match bead.body {
            Some(body) if body.contains(&note) => return Ok(()),
            Some(body) => format!("{body}\n\n{note}"),
            None => note,
        });
        store::bead::save_fields(self.db, self.now, &bead)?;
        let mut metadata = Map::new();
        let receipt = json!({
            "branch": receipt.branch, "agent_name": receipt.agent_name, "saved_at": receipt.saved_at,
            "commit": receipt.commit, "pushed": receipt.pushed, "reason": receipt.reason
        });
        metadata.insert("eviction_receipt".into(), receipt);
        self.note_change(&bead.bead_id, BeadEventType::AgentExited, Some(agent.to_string()), None, None, metadata)
    }

    pub fn list_agents(
        &self,
        rig: Option<&RigId>,
        role: Option<&Role>,
        status: Option<&AgentStatus>,
    ) -> Result<Vec<Agent>, Fault> {
        let wanted = |agent: &Agent| {
            rig.is_none_or(|rig| agent.rig_id.as_ref() == Some(rig))
                && role.is_none_or(|role| agent.role == *role)
                && status.is_none_or(|status| agent.status == *status)
        };
        Ok(store::agent::all(self.db)?.into_iter().map(|row| row.agent).filter(wanted).collect())
    }

    /// The bead on an agent's hook.
    pub fn hooked_bead(&self, agent: &Agent) -> Result<Option<Bead>, Fault> {
        match &agent.current_hook_bead_id {
            Some(bead) => Ok(store::bead::find(self.db, bead)?),
            None => Ok(None),
        }
    }

    /// Whether a bead is there and not over.
    pub fn is_live(&self, bead: &BeadId) -> Result<bool, Fault> {
        Ok(store::bead::find(self.db, bead)?
            .is_some_and(|bead| bead.status != BeadStatus::Closed && bead.status != BeadStatus::Failed))
    }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// The first name that no agent of the town has.
fn free_name(all: &[AgentRow]) -> String {
    let taken = |name: &str| all.iter().any(|row| row.agent.name == name);
    let free = NAMES.into_iter().find(|name| !taken(name)).map(str::to_owned);
    free.unwrap_or_else(|| {
        let mut n = all.iter().filter(|row| row.agent.role == Role::Polecat).count().saturating_add(1);
        while taken(&format!("Polecat-{n}")) {
            n = n.saturating_add(1);
        }
        format!("Polecat-{n}")
    })
}
/// What the next agent is told. A container that says nothing of the push is an older one, which reports only what it pushed.
fn note_of(receipt: &EvictionReceipt) -> String {
    let EvictionReceipt { branch, agent_name, saved_at, commit, pushed, reason } = receipt;
    let commit = commit.as_ref().map(|commit| format!(" (commit {commit})")).unwrap_or_default();
    let outcome = match pushed {
        None | Some(true) => {
            format!(
                "Its unfinished work was pushed to branch `{branch}`{commit}: pull that branch and continue from there."
            )
        }
        Some(false) => {
            format!("Its unfinished work did not reach branch `{branch}`{commit}: begin from what the remote has.")
        }
    };
    let reason = reason.as_ref().map(|reason| format!(" Reason: {reason}")).unwrap_or_default();
    format!("[Container eviction] {agent_name} was stopped at {saved_at}. {outcome}{reason}")
}
