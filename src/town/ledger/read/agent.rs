//! What is asked about agents.

use super::Asked;
use crate::town::error::TownError;
use crate::town::ledger::body::Body;
use crate::town::op::AgentOp;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::InvalidId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use serde_json::Value;
use town_core::message::Call;
use town_core::message::call::AgentCall;
use town_core::message::call::EvictionReceipt;

/// The longest line that an agent says about its work, in characters.
const STATUS_MAX: usize = 280;

const FILTER: &str = "Invalid role or status filter";

impl Asked<'_> {
    pub(super) fn agent_calls(&self, op: AgentOp) -> Result<Vec<Call>, TownError> {
        let mut calls = Vec::new();
        if op == AgentOp::Delete {
            calls.push(Call::Agent(AgentCall::Get { agent: self.agent()?, rig: Some(self.rig()?) }));
        }
        calls.push(Call::Agent(self.agent_call(op)?));
        Ok(calls)
    }

    fn agent_call(&self, op: AgentOp) -> Result<AgentCall, TownError> {
        Ok(match op {
            AgentOp::Checkpoint => {
                let data = self.body()?.value("data").cloned().unwrap_or_default();
                AgentCall::WriteCheckpoint { agent: self.agent()?, data }
            }
            AgentOp::Completed => completed(&self.body()?, Some(self.agent()?))?,
            AgentOp::Delete => AgentCall::Delete { agent: self.agent()? },
            AgentOp::Done => {
                let body = self.body()?;
                AgentCall::Done {
                    agent: self.agent()?,
                    bead: body.id_or_none("bead_id", BeadId::parse)?,
                    branch: body.text("branch")?,
                    pr_url: body.text_or_none("pr_url")?,
                    summary: body.text_or_none("summary")?,
                }
            }
            AgentOp::EvictionContext => {
                let body = self.body()?;
                let bead = body.id_or_none("bead_id", BeadId::parse)?;
                AgentCall::EvictionContext { agent: self.agent()?, bead, receipt: receipt(&body)? }
            }
            AgentOp::Get => AgentCall::Get { agent: self.agent()?, rig: Some(self.rig()?) },
            AgentOp::GetOrCreate => AgentCall::GetOrCreate { role: role(&self.body()?)?, rig: Some(self.rig()?) },
            AgentOp::Hook => AgentCall::Hook { agent: self.agent()?, bead: self.body()?.id("bead_id", BeadId::parse)? },
            AgentOp::List => AgentCall::List {
                rig: Some(self.rig()?),
                role: self.query.word("role", Role::parse, FILTER)?,
                status: self.query.word("status", AgentStatus::parse, FILTER)?,
            },
            AgentOp::MayorCompleted => {
                let body = self.body()?;
                // No agent, or an empty one, is the mayor.
                let agent = body.text_or_none("agentId")?.filter(|agent| !agent.is_empty());
                let wrong = |error: InvalidId| TownError::invalid("agentId", error.message);
                completed(&body, agent.map(|agent| AgentId::parse(&agent)).transpose().map_err(wrong)?)?
            }
            AgentOp::Prime => AgentCall::Prime { agent: self.agent()? },
            AgentOp::Register => {
                let body = self.body()?;
                AgentCall::Register {
                    role: role(&body)?,
                    name: body.text("name")?,
                    identity: body.text("identity")?,
                    rig: Some(self.rig()?),
                }
            }
            AgentOp::RequestChanges => {
                let body = self.body()?;
                let (feedback, files) = (body.text("feedback")?, body.texts("files")?);
                AgentCall::RequestChanges { agent: self.agent()?, feedback, files }
            }
            AgentOp::Reset => AgentCall::Reset { agent: self.agent()? },
            AgentOp::Say => {
                AgentCall::Say { agent: self.agent()?, message: self.body()?.short_text("message", STATUS_MAX)? }
            }
            AgentOp::Unhook => AgentCall::Unhook { agent: self.agent()? },
            AgentOp::Waiting => {
                let fired_at = Body::optional(self.body)?.value("firedAt").and_then(Value::as_f64);
                AgentCall::Waiting { agent: self.agent()?, fired_at: fired_at.map(|at| at as i64) }
            }
        })
    }
}

fn role(body: &Body) -> Result<Role, TownError> {
    body.word("role", Role::parse, Role::WORDS)
}

fn completed(body: &Body, agent: Option<AgentId>) -> Result<AgentCall, TownError> {
    let parse = |word: &str| match word {
        "completed" => Some(true),
        "failed" => Some(false),
        _ => None,
    };
    let success = body.word("status", parse, &["completed", "failed"])?;
    let bead = body.id_or_none("bead_id", BeadId::parse)?;
    Ok(AgentCall::Completed { agent, bead, success, reason: body.text_or_none("reason")? })
}

fn receipt(body: &Body) -> Result<EvictionReceipt, TownError> {
    Ok(EvictionReceipt {
        branch: body.text("branch")?,
        agent_name: body.text("agent_name")?,
        saved_at: body.text("saved_at")?,
        commit: body.text_or_none("commit")?,
        pushed: body.flag("pushed")?,
        reason: body.text_or_none("reason")?,
    })
}
