//! Applying facts: once each, in order, each as an atomic unit of its own (spec/town.md 4.1, 4.2).

use crate::Step;
use crate::error::Fault;
use crate::event;
use crate::event::Fact;
use crate::event::Pending;
use crate::message::Notice;
use crate::message::Output;
use crate::message::call::ReviewResult;
use crate::store;
use crate::store::agent::AgentRow;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::container::ContainerAgentStatus;

impl Step<'_> {
    /// Writes a fact down for the next tick.
    pub fn report(&mut self, agent: Option<&AgentId>, bead: Option<&BeadId>, fact: &Fact) -> Result<(), Fault> {
        Ok(event::insert(self.db, self.limits, self.now, self.entropy, agent, bead, fact)?)
    }

    pub fn report_created(&mut self, bead: &Bead) -> Result<(), Fault> {
        let bead_type = bead.kind.as_str().to_owned();
        self.report(None, Some(&bead.bead_id), &Fact::BeadCreated { bead_type })
    }

    /// What the container says of an agent. What would change nothing when it is applied is no fact: it would cost rows in each tick.
    pub fn observed(
        &mut self,
        agent: &AgentId,
        status: &ContainerAgentStatus,
        exit_reason: Option<&str>,
    ) -> Result<(), Fault> {
        let Some(row) = store::agent::find(self.db, agent)? else { return Ok(()) };
        if !row.is_running() || !self.ends_a_run(&row, status, self.now)? {
            return Ok(());
        }
        let fact = Fact::ContainerStatus { status: status.clone(), exit_reason: exit_reason.map(str::to_owned) };
        Ok(event::container_status(self.db, self.limits, self.now, self.entropy, agent, &fact)?)
    }

    /// Applies what waits. Returns how much was applied.
    pub fn apply_facts(&mut self) -> Result<i64, Fault> {
        let mut applied = 0_i64;
        for pending in event::pending(self.db, self.limits)? {
            let db = self.db;
            let outputs = self.outputs.len();
            match database::transaction(db, || self.apply(&pending)) {
                Ok(()) => {
                    event::processed(db, self.now, &pending.id)?;
                    applied = applied.saturating_add(1);
                }
                Err(fault) => {
                    self.outputs.truncate(outputs);
                    self.not_applied(&pending, &fault)?;
                }
            }
        }
        Ok(applied)
    }

    fn not_applied(&mut self, pending: &Pending, fault: &Fault) -> Result<(), Fault> {
        if matches!(fault, Fault::Refused(refusal) if refusal.is_gone()) {
            return Ok(event::processed(self.db, self.now, &pending.id)?);
        }
        let reason = fault.to_string();
        if event::failed_once(self.db, self.limits, self.now, pending, &reason)? {
            self.outputs.push(Output::Notice(Notice::Poisoned { event: pending.id.clone(), reason }));
        }
        Ok(())
    }

    fn apply(&mut self, pending: &Pending) -> Result<(), Fault> {
        let fact = pending.fact.as_ref().map_err(|error| database::DatabaseError::Sql(error.clone()))?;
        let agent = pending.agent.as_ref();
        match (fact, agent, pending.bead.as_ref()) {
            (Fact::AgentDone { branch, pr_url, summary }, Some(agent), bead) => {
                self.agent_done(agent, bead, branch, pr_url.as_deref(), summary.as_deref())
            }
            (Fact::AgentCompleted { status, reason }, agent, bead) => {
                self.agent_completed(agent, bead, status == "completed", reason.as_deref(), pending.created_at)
            }
            (Fact::ContainerStatus { status, .. }, Some(agent), _) => {
                self.container_says(agent, status, pending.created_at)
            }
            (Fact::BeadCancelled { cancel_status }, _, Some(bead)) => {
                self.set_status(bead, *cancel_status, "system", None)?;
                self.take_away(bead, "its bead is over")
            }
            (Fact::ConvoyStarted { convoy_id }, _, _) => Ok(store::convoy::start(self.db, convoy_id)?),
            (Fact::PrStatusChanged { pr_state, .. }, _, Some(bead)) => self.pull_request_ended(bead, pr_state),
            (Fact::BeadCreated { .. } | Fact::ContainerEviction(_) | Fact::NudgeTimeout {}, _, _) => Ok(()),
            (Fact::AgentDone { .. } | Fact::ContainerStatus { .. }, None, _) => Err(unaddressed("an agent")),
            (Fact::BeadCancelled { .. } | Fact::PrStatusChanged { .. }, _, None) => Err(unaddressed("a bead")),
        }
    }

    fn pull_request_ended(&mut self, bead: &BeadId, state: &str) -> Result<(), Fault> {
        match state {
            "merged" => {
                let message = "PR merged (detected by polling)";
                self.complete_review(bead, ReviewResult::Merged, message, None)
            }
            "closed" => self.complete_review(bead, ReviewResult::Failed, "PR closed without merge", None),
            _ => Ok(()),
        }
    }

    /// Whether an agent is over when its container says this of it. While the container drains, an agent that ended is being saved: its receipt and
    /// its report come, and find its bead only on its hook. One that the container does not know is saved by nobody; but a container that just
    /// started may not know it yet. Of a mayor that was asked since, it was the run before that ended.
    fn ends_a_run(&self, row: &AgentRow, status: &ContainerAgentStatus, said_at: i64) -> Result<bool, Fault> {
        let seen_at = row.agent.last_activity_at.unwrap_or_default();
        let is_over = match status {
            ContainerAgentStatus::Exited | ContainerAgentStatus::Failed => seen_at <= said_at && !self.is_draining()?,
            ContainerAgentStatus::NotFound => self.now.saturating_sub(seen_at) >= self.limits.cold_start_ms,
            _ => false,
        };
        Ok(is_over && !self.is_asked_since(row, said_at)?)
    }

    /// Whether the mayor was asked something after `said_at`, or is still to be started for it: what was said of it then, was said of an earlier
    /// run. It has no hook that would tell its runs apart.
    pub fn is_asked_since(&self, row: &AgentRow, said_at: i64) -> Result<bool, Fault> {
        let is_asked = row.asked_at.is_some_and(|at| at > said_at);
        Ok(row.agent.role == Role::Mayor && (is_asked || self.owed_start(&row.agent.id)?.is_some()))
    }

    /// Only the end of a run tells something, and only of an agent that is taken for running.
    fn container_says(&mut self, agent: &AgentId, status: &ContainerAgentStatus, said_at: i64) -> Result<(), Fault> {
        let Some(row) = store::agent::find(self.db, agent)? else { return Ok(()) };
        if !row.is_running() || !self.ends_a_run(&row, status, said_at)? {
            return Ok(());
        }
        let hook = self.hooked_bead(&row.agent)?;
        if row.agent.role == Role::Refinery && hook.is_some_and(|bead| bead.status.is_terminal()) {
            return self.unhook(agent);
        }
        Ok(store::agent::set_status(self.db, self.now, agent, &AgentStatus::Idle)?)
    }
}

fn unaddressed(what: &str) -> Fault {
    database::DatabaseError::Sql(format!("the fact does not name {what}")).into()
}
