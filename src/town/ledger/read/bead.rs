//! What is asked about beads.

use super::Asked;
use super::priority;
use crate::town::error::TownError;
use crate::town::ledger::body::Body;
use crate::town::op::BeadOp;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::time::parse_iso8601;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use town_core::message::Call;
use town_core::message::bead::BeadChanges;
use town_core::message::bead::NewBead;
use town_core::message::call::BeadCall;

/// How many rows a listing has unless it says so.
const LIST_DEFAULT: i64 = 100;

const FILTER: &str = "Invalid status or type filter";
const NUMBERS: &str = "limit and offset must be non-negative integers";
const OTHER_AGENT: &str = "agent_id does not match authenticated agent";

impl Asked<'_> {
    pub(super) fn bead_calls(&self, op: BeadOp) -> Result<Vec<Call>, TownError> {
        let mut calls = Vec::new();
        if op == BeadOp::Delete {
            calls.push(Call::Bead(BeadCall::Get { bead: self.bead()? }));
        }
        calls.push(Call::Bead(self.bead_call(op)?));
        Ok(calls)
    }

    fn bead_call(&self, op: BeadOp) -> Result<BeadCall, TownError> {
        let query = self.query;
        Ok(match op {
            BeadOp::Close => BeadCall::SetStatus {
                bead: self.bead()?,
                status: BeadStatus::Closed,
                agent: self.acting(&self.body()?)?,
            },
            BeadOp::Create => BeadCall::Create(self.new_bead()?),
            BeadOp::Delete => BeadCall::Delete { beads: vec![self.bead()?] },
            BeadOp::DeleteByStatus => {
                let body = self.body()?;
                BeadCall::DeleteByStatus {
                    rig: self.rig()?,
                    status: body.word("status", BeadStatus::parse, BeadStatus::WORDS)?,
                    kind: body.word_or_none("type", BeadType::parse, BeadType::WORDS)?,
                }
            }
            BeadOp::DeleteMany => {
                let beads = self.body()?.ids("bead_ids", BeadId::parse)?;
                if beads.is_empty() {
                    return Err(TownError::invalid("bead_ids", "Expected at least 1 id"));
                }
                BeadCall::Delete { beads }
            }
            BeadOp::Events => BeadCall::Events {
                bead: query.id("bead_id", BeadId::parse)?,
                since: query.word("since", parse_iso8601, "since must be a time in ISO 8601")?,
                limit: query.number("limit", LIST_DEFAULT, "limit must be a non-negative integer")?,
            },
            BeadOp::Get => BeadCall::Get { bead: self.bead()? },
            BeadOp::List => BeadCall::List {
                rig: Some(self.rig()?),
                status: query.word("status", BeadStatus::parse, FILTER)?,
                kind: query.word("type", BeadType::parse, FILTER)?,
                assignee: match query.id("assignee_agent_bead_id", AgentId::parse)? {
                    None => query.id("assignee_agent_id", AgentId::parse)?,
                    assignee => assignee,
                },
                limit: query.number("limit", LIST_DEFAULT, NUMBERS)?,
                offset: query.number("offset", 0, NUMBERS)?,
            },
            BeadOp::Reassign => BeadCall::Reassign {
                bead: self.bead()?,
                rig: self.rig()?,
                agent: self.body()?.id("agent_id", AgentId::parse)?,
            },
            BeadOp::SetStatus => {
                let body = self.body()?;
                let status = body.word("status", BeadStatus::parse, BeadStatus::WORDS)?;
                BeadCall::SetStatus { bead: self.bead()?, status, agent: self.acting(&body)? }
            }
            BeadOp::Update => BeadCall::Update {
                bead: self.bead()?,
                rig: self.rig()?,
                changes: changes(&self.body()?)?,
                actor: "mayor".into(),
            },
            BeadOp::Why => BeadCall::Why { bead: self.bead()? },
        })
    }

    /// The agent that says it acts. One that is known to be another is not believed.
    fn acting(&self, body: &Body) -> Result<String, TownError> {
        let agent = body.id("agent_id", AgentId::parse)?;
        self.caller.must_be(&agent, OTHER_AGENT)?;
        Ok(agent.into())
    }

    fn new_bead(&self) -> Result<NewBead, TownError> {
        let body = self.body()?;
        let kind = body.word("type", BeadType::parse, BeadType::WORDS)?;
        Ok(NewBead {
            body: body.text_or_none("body")?,
            rig: Some(self.rig()?),
            assignee: body.id_or_none("assignee_agent_id", AgentId::parse)?,
            priority: priority(&body)?,
            labels: body.texts("labels")?,
            metadata: body.object("metadata")?,
            created_by: self.caller.agent().map(ToString::to_string),
            convoy: body.id_or_none("convoy_id", BeadId::parse)?,
            ..NewBead::new(kind, body.text("title")?)
        })
    }
}

/// At least one field; `body` may be null.
fn changes(body: &Body) -> Result<BeadChanges, TownError> {
    let present = |field| body.value(field).is_some();
    let changes = BeadChanges {
        title: if present("title") { Some(body.text("title")?) } else { None },
        body: if body.has("body") { Some(body.text_or_none("body")?) } else { None },
        priority: body.word_or_none("priority", Priority::parse, Priority::WORDS)?,
        labels: if present("labels") { Some(body.texts("labels")?) } else { None },
        status: body.word_or_none("status", BeadStatus::parse, BeadStatus::WORDS)?,
        metadata: if present("metadata") { Some(body.object("metadata")?) } else { None },
        rig: body.id_or_none("rig_id", RigId::parse)?,
        parent: body.id_or_none("parent_bead_id", BeadId::parse)?,
        depends_on: if present("depends_on") { Some(body.ids("depends_on", BeadId::parse)?) } else { None },
    };
    if changes == BeadChanges::default() {
        return Err(TownError::invalid("", "Expected at least 1 field to change"));
    }
    Ok(changes)
}
