//! Agents of a [`World`]: registered, at work, silent, done.

use super::World;
use super::rig;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::call::AgentCall;
use crate::message::call::TalkCall;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerCall;
use crate::message::effect::Outcome;
use database::Database;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::time::iso8601;
use protocol::town::Heartbeat;
use protocol::town::agent::Agent;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Nudge;
use protocol::town::agent::Role;
use protocol::town::bead::BeadType;

impl World {
    pub fn polecat(&mut self) -> AgentId {
        self.register(Role::Polecat, "r1")
    }

    pub fn register(&mut self, role: Role, of_rig: &str) -> AgentId {
        let n = self.count("SELECT COUNT(*) FROM agent_metadata");
        let call = AgentCall::Register {
            role,
            name: format!("A{n}"),
            identity: format!("identity-{n}"),
            rig: Some(rig(of_rig)),
        };
        match self.call(Call::Agent(call)) {
            Answer::Agent { agent } => agent.id,
            other => panic!("{other:?}"),
        }
    }

    pub fn mayor(&mut self) -> AgentId {
        match self.call(Call::Agent(AgentCall::GetOrCreate { role: Role::Mayor, rig: None })) {
            Answer::Agent { agent } => agent.id,
            other => panic!("{other:?}"),
        }
    }

    pub fn agent(&mut self, agent: &AgentId) -> Agent {
        match self.call(Call::Agent(AgentCall::Get { agent: agent.clone(), rig: None })) {
            Answer::Agent { agent } => *agent,
            other => panic!("{other:?}"),
        }
    }

    pub fn agents(&mut self) -> Vec<Agent> {
        match self.call(Call::Agent(AgentCall::List { rig: None, role: None, status: None })) {
            Answer::Agents { agents } => agents,
            other => panic!("{other:?}"),
        }
    }

    pub fn hook(&mut self, agent: &AgentId, bead: &BeadId) {
        self.done(Call::Agent(AgentCall::Hook { agent: agent.clone(), bead: bead.clone() }));
    }

    pub fn set_agent_status(&self, agent: &AgentId, status: &AgentStatus) {
        self.sql(
            "UPDATE agent_metadata SET status = ? WHERE bead_id = ?",
            &[status.as_str().into(), agent.as_str().into()],
        );
    }

    /// As if nothing had been heard of it for that long.
    pub fn silence(&self, agent: &AgentId, ms: i64) {
        self.sql(
            "UPDATE agent_metadata SET last_activity_at = ?1, last_event_at = NULL WHERE bead_id = ?2",
            &[iso8601(self.now - ms).into(), agent.as_str().into()],
        );
    }

    /// As if it lived, but had reported no event for that long.
    pub fn idle_events(&self, agent: &AgentId, ms: i64) {
        self.sql(
            "UPDATE agent_metadata SET last_activity_at = ?, last_event_at = ? WHERE bead_id = ?",
            &[iso8601(self.now).into(), iso8601(self.now - ms).into(), agent.as_str().into()],
        );
    }

    /// A polecat that works on a bead.
    pub fn working(&mut self) -> (AgentId, BeadId) {
        let bead = self.issue("work");
        self.tick();
        let agent = self.bead(&bead).assignee_agent_bead_id.expect("it was dispatched");
        self.started_as(&agent, Outcome::Done);
        assert_eq!(self.agent(&agent).status, AgentStatus::Working);
        (agent, bead)
    }

    /// What became of the start of an agent that is owed.
    pub fn started_as(&mut self, agent: &AgentId, outcome: Outcome) {
        let sql = "SELECT key FROM owed WHERE substr(key, 1, length(?1)) = ?1";
        let rows = self.db.query(sql, &[format!("start/{agent}").into()]).unwrap();
        if let Some(row) = rows.first() {
            let key = row.get(0).unwrap();
            self.take(Input::Outcome { key, outcome });
        }
    }

    pub fn beat(&mut self, agent: &AgentId, body: Heartbeat) -> Option<String> {
        match self.container(ContainerCall::Heartbeat { agent: agent.clone(), body, rig: rig("r1") }) {
            ContainerAnswer::Heartbeat { nonce } => nonce,
            other => panic!("{other:?}"),
        }
    }

    /// Reported, and applied by a tick.
    pub fn gt_done(&mut self, agent: &AgentId, pr_url: Option<&str>) {
        self.done(Call::Agent(AgentCall::Done {
            agent: agent.clone(),
            bead: None,
            branch: "gt/a/b".into(),
            pr_url: pr_url.map(str::to_owned),
            summary: Some("did it".into()),
        }));
        self.tick();
    }

    /// Reported, and applied by a tick.
    pub fn completed(&mut self, agent: Option<&AgentId>, success: bool, reason: Option<&str>) {
        let reason = reason.map(str::to_owned);
        self.done(Call::Agent(AgentCall::Completed { agent: agent.cloned(), bead: None, success, reason }));
        self.tick();
    }

    /// An issue whose work is done, and the refinery that has its merge request.
    pub fn in_review(&mut self) -> (BeadId, BeadId, AgentId) {
        let (polecat, issue) = self.working();
        self.gt_done(&polecat, None);
        let review = self.newest(BeadType::MergeRequest);
        let refinery = review.assignee_agent_bead_id.clone().expect("a refinery was dispatched");
        (issue, review.bead_id, refinery)
    }

    pub fn nudges(&mut self, agent: &AgentId) -> Vec<Nudge> {
        match self.call(Call::Talk(TalkCall::PendingNudges { agent: agent.clone() })) {
            Answer::Nudges { nudges } => nudges,
            other => panic!("{other:?}"),
        }
    }
}
