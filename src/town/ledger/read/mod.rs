//! From a request to what is asked of the town. One module per subject; what is said of a field here is all that is checked of it.

mod agent;
mod bead;
mod talk;
#[cfg(test)]
mod tests;
mod town;
mod work;

use super::body::Body;
use super::body::Query;
use crate::town::caller::Caller;
use crate::town::error::TownError;
use crate::town::guard::Guard;
use crate::town::op::DrainOp;
use crate::town::op::Op;
use crate::town::op::TownOp;
use crate::town::route::Ids;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::Eviction;
use protocol::town::Heartbeat;
use protocol::town::Ready;
use protocol::town::bead::Priority;
use town_core::message::Call;
use town_core::message::call::TownCall;
use town_core::message::container::ContainerCall;

/// One request, taken apart.
pub struct Asked<'a> {
    pub op: Op,
    pub guard: Guard,
    pub ids: &'a Ids,
    pub caller: &'a Caller,
    pub query: &'a Query,
    pub body: &'a [u8],
}

/// What a request asks.
#[derive(Debug, PartialEq)]
pub enum Ask {
    Container(ContainerCall),
    /// Nothing: it is so.
    Nothing,
    /// These, in one turn. All but the last are conditions: the first that is refused is the answer.
    Town(Vec<Call>),
}

impl Asked<'_> {
    /// What is asked, or what is wrong with it.
    pub fn read(&self) -> Result<Ask, TownError> {
        Ok(match self.op {
            Op::Agent(op) => Ask::Town(self.under_condition(self.agent_calls(op)?)),
            Op::Bead(op) => Ask::Town(self.under_condition(self.bead_calls(op)?)),
            Op::Drain(op) => Ask::Container(self.container_call(op)?),
            Op::Talk(op) => Ask::Town(self.under_condition(vec![Call::Talk(self.talk_call(op)?)])),
            Op::Town(TownOp::MayorConfigure | TownOp::MayorDestroy) => Ask::Nothing,
            Op::Town(op) => Ask::Town(self.town_calls(op)?),
            Op::Work(op) => Ask::Town(self.under_condition(vec![Call::Work(self.work_call(op)?)])),
        })
    }

    fn container_call(&self, op: DrainOp) -> Result<ContainerCall, TownError> {
        Ok(match op {
            DrainOp::Eviction => ContainerCall::Eviction { instance: Eviction::read(self.body).container_instance_id },
            DrainOp::Heartbeat => {
                ContainerCall::Heartbeat { agent: self.agent()?, body: Heartbeat::read(self.body), rig: self.rig()? }
            }
            DrainOp::Ready => {
                let ready = Ready::read(self.body).map_err(TownError::BadRequest)?;
                ContainerCall::Ready { instance: ready.container_instance_id, nonce: ready.nonce }
            }
            DrainOp::Status => ContainerCall::DrainStatus,
        })
    }

    /// A tool of the mayor that names a rig is for rigs of this town.
    fn under_condition(&self, mut calls: Vec<Call>) -> Vec<Call> {
        if self.guard == Guard::Mayor
            && let Ok(rig) = self.rig()
        {
            calls.insert(0, Call::Town(TownCall::Rig { rig }));
        }
        calls
    }

    fn agent(&self) -> Result<AgentId, TownError> {
        self.ids.agent().cloned()
    }

    fn bead(&self) -> Result<BeadId, TownError> {
        self.ids.bead().cloned()
    }

    /// The rig of the path, or, as the tools of the mayor have it, of the body.
    fn rig(&self) -> Result<RigId, TownError> {
        match &self.ids.rig {
            Some(rig) => Ok(rig.clone()),
            None => self.body()?.id("rig_id", RigId::parse),
        }
    }

    fn body(&self) -> Result<Body, TownError> {
        Body::parse(self.body)
    }
}

/// A field `priority` that may be missing.
fn priority(body: &Body) -> Result<Priority, TownError> {
    Ok(body.word_or_none("priority", Priority::parse, Priority::WORDS)?.unwrap_or(Priority::Medium))
}
