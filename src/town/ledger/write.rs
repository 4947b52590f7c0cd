//! From an answer of the town to the response (spec/town.md 2.2 to 2.6): status, and the `data` of the envelope.

use crate::town::error::TownError;
use crate::town::guard::Guard;
use crate::town::op::AgentOp;
use crate::town::op::BeadOp;
use crate::town::op::Op;
use crate::town::op::TalkOp;
use crate::town::op::TownOp;
use crate::town::op::WorkOp;
use protocol::id::TownId;
use protocol::town::DrainStatus;
use protocol::town::EvictionAnswer;
use protocol::town::HeartbeatAnswer;
use protocol::town::ReadyAnswer;
use protocol::town::agent::Agent;
use protocol::town::bead::Bead;
use protocol::town::convoy::Convoy;
use protocol::town::mayor::MayorSeen;
use serde::Serialize;
use serde_json::json;
use town_core::error::Refusal;
use town_core::message::Answer;
use town_core::message::answer::PoisonedEvent;
use town_core::message::container::ContainerAnswer;

/// A response in the making.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Of the envelope, as JSON.
    pub data: String,
}

impl Reply {
    fn new<T: Serialize>(status: u16, data: &T) -> Result<Self, TownError> {
        let data = serde_json::to_string(data).map_err(worker::Error::from)?;
        Ok(Self { status, data })
    }

    /// The whole body.
    pub fn body(&self) -> String {
        format!(r#"{{"success":true,"data":{}}}"#, self.data)
    }
}

/// Work that was handed out.
#[derive(Serialize)]
struct Slung {
    bead: Bead,
    agent: Option<Agent>,
}

/// A convoy that was made. Nobody has its beads yet.
#[derive(Serialize)]
struct ConvoySlung {
    convoy: Convoy,
    beads: Vec<Slung>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MayorStatus<'a> {
    configured: bool,
    town_id: &'a TownId,
    session: Option<MayorSeen>,
}

/// What somebody in the container is told.
pub fn container(answer: ContainerAnswer) -> Result<Reply, TownError> {
    match answer {
        ContainerAnswer::DrainStatus { nonce } => {
            Reply::new(200, &DrainStatus { draining: nonce.is_some(), drain_nonce: nonce })
        }
        ContainerAnswer::Eviction { nonce } => {
            Reply::new(200, &EvictionAnswer { acknowledged: true, drain_nonce: nonce })
        }
        ContainerAnswer::Heartbeat { nonce } => {
            Reply::new(200, &HeartbeatAnswer { heartbeat: true, drain_nonce: nonce })
        }
        ContainerAnswer::NoTown => Err(TownError::NotFound("Town not found")),
        ContainerAnswer::Ready { cleared } => Reply::new(200, &ReadyAnswer { cleared }),
    }
}

/// That it is so.
pub fn done(op: Op) -> Result<Reply, TownError> {
    Reply::new(status(op), &json!({said(op): true}))
}

/// What the town says to `op`.
pub fn town(op: Op, guard: Guard, town: &TownId, answer: Answer) -> Result<Reply, TownError> {
    let status = status(op);
    match answer {
        Answer::Agent { agent } => Reply::new(status, &agent),
        Answer::Agents { agents } => Reply::new(status, &agents),
        Answer::Bead { .. } if op == Op::Work(WorkOp::SubmitReview) => done(op),
        Answer::Bead { bead } if op == Op::Agent(AgentOp::RequestChanges) => {
            Reply::new(status, &json!({"rework_bead_id": bead.bead_id.as_str()}))
        }
        Answer::Bead { bead } => Reply::new(status, &bead),
        Answer::Beads { beads } => Reply::new(status, &beads),
        Answer::Checkpoint { data } => Reply::new(status, &data),
        Answer::Config { config } => Reply::new(status, &config.masked()),
        Answer::Convoy { convoy } => match op {
            Op::Work(WorkOp::AddToConvoy | WorkOp::RemoveFromConvoy) => {
                Reply::new(status, &json!({"total_beads": convoy.total_beads}))
            }
            _ => Reply::new(status, &convoy),
        },
        Answer::ConvoyDetail { detail } => Reply::new(status, &detail),
        Answer::ConvoyDetails { details } => Reply::new(status, &details),
        Answer::Convoys { convoys } => Reply::new(status, &convoys),
        Answer::ConvoySlung { convoy, beads } => {
            let beads = beads.into_iter().map(|bead| Slung { bead, agent: None }).collect();
            Reply::new(status, &ConvoySlung { convoy: *convoy, beads })
        }
        Answer::Decisions { actions } => Reply::new(status, &json!({"actions": actions})),
        Answer::Deleted { .. } if op == Op::Bead(BeadOp::Delete) => done(op),
        Answer::Deleted { count } => Reply::new(status, &json!({"deleted": count})),
        Answer::Done {} => done(op),
        Answer::Events { events } => Reply::new(status, &events),
        Answer::Invariants { violations } => Reply::new(status, &json!({"violations": violations})),
        Answer::Mail { mail } => Reply::new(status, &mail),
        Answer::MayorReached { reached } => Reply::new(status, &reached),
        Answer::MayorSeen { session } => Reply::new(status, &MayorStatus { configured: true, town_id: town, session }),
        Answer::Molecule { molecule } => Reply::new(status, &molecule),
        Answer::Nudged { nudge_id } => Reply::new(status, &json!({"nudge_id": nudge_id})),
        Answer::Nudges { nudges } => Reply::new(status, &nudges),
        Answer::Poisoned { events } => {
            let told = |event: PoisonedEvent| json!({"event_id": event.event_id, "reason": event.reason});
            Reply::new(status, &json!({"events": events.into_iter().map(told).collect::<Vec<_>>()}))
        }
        Answer::Prime { prime } => Reply::new(status, &prime),
        Answer::Refused { refusal } => Err(refused(op, guard, &refusal)),
        Answer::Rig { rig } => Reply::new(status, &rig),
        Answer::Rigs { rigs } => Reply::new(status, &rigs),
        Answer::Slung { bead, agent } => Reply::new(status, &Slung { bead: *bead, agent: Some(*agent) }),
        Answer::Status { status: seen } => Reply::new(status, &seen),
        Answer::Step { step } => Reply::new(status, &step),
        Answer::Why { why } => Reply::new(status, &why),
    }
}

/// 201 for what makes something.
fn status(op: Op) -> u16 {
    match op {
        Op::Agent(AgentOp::Register | AgentOp::RequestChanges)
        | Op::Bead(BeadOp::Create)
        | Op::Talk(TalkOp::Escalate | TalkOp::Mail)
        | Op::Work(
            WorkOp::CreateConvoy | WorkOp::CreateMolecule | WorkOp::Sling | WorkOp::SlingConvoy | WorkOp::SubmitReview,
        ) => 201,
        _ => 200,
    }
}

/// The one word of an answer that says only that it is so.
fn said(op: Op) -> &'static str {
    match op {
        Op::Agent(AgentOp::Checkpoint | AgentOp::EvictionContext) => "written",
        Op::Agent(AgentOp::Completed) | Op::Work(WorkOp::CompleteReview) => "completed",
        Op::Agent(AgentOp::Delete) | Op::Bead(BeadOp::Delete) => "deleted",
        Op::Agent(AgentOp::Done) => "done",
        Op::Agent(AgentOp::Hook) => "hooked",
        Op::Agent(AgentOp::MayorCompleted | AgentOp::Waiting) | Op::Work(WorkOp::ConvoyBeadClosed) => "acknowledged",
        Op::Agent(AgentOp::Reset) => "reset",
        Op::Agent(AgentOp::Unhook) => "unhooked",
        Op::Talk(TalkOp::Mail) => "sent",
        Op::Talk(TalkOp::NudgeDelivered) => "marked",
        Op::Town(TownOp::MayorConfigure) => "configured",
        Op::Town(TownOp::MayorDestroy) => "destroyed",
        Op::Town(TownOp::UiAction) => "broadcast",
        Op::Work(WorkOp::SubmitReview) => "submitted",
        _ => "ok",
    }
}

fn refused(op: Op, guard: Guard, refusal: &Refusal) -> TownError {
    let not_found = |text: &str| (404, text.to_owned());
    let (status, text) = match refusal {
        Refusal::AgentNotFound { .. } if op == Op::Bead(BeadOp::Reassign) => not_found("Target agent not found"),
        Refusal::AgentNotFound { .. } => not_found("Agent not found"),
        Refusal::BeadNotFound { .. } => not_found("Bead not found"),
        Refusal::ConvoyNotFound { .. } | Refusal::ConvoyNotStaged { .. } if op == Op::Work(WorkOp::StartConvoy) => {
            not_found("Convoy not found or not staged")
        }
        Refusal::ConvoyNotFound { .. } | Refusal::ConvoyNotStaged { .. } => not_found("Convoy not found"),
        Refusal::EscalationNotFound { .. } => not_found("Escalation not found"),
        Refusal::MoleculeNotFound {} | Refusal::TownNotFound {} => not_found(&refusal.to_string()),
        Refusal::RigNotFound { .. } if op == Op::Town(TownOp::UiAction) => (400, "Rig not found in this town".into()),
        Refusal::RigNotFound { .. } if guard == Guard::Mayor => (403, "Rig not found in this town".into()),
        Refusal::RigNotFound { .. } => not_found("Rig not found"),
        Refusal::NotTriageAgent {} | Refusal::WrongRig { .. } => (403, refusal.to_string()),
        Refusal::DependencyCycle {} | Refusal::Invalid { .. } => (400, refusal.to_string()),
        Refusal::AlreadyHooked { .. }
        | Refusal::BeadBusy { .. }
        | Refusal::IdentityTaken { .. }
        | Refusal::NotReviewing { .. }
        | Refusal::NotWorkable { .. }
        | Refusal::RigNameTaken { .. } => (409, refusal.to_string()),
    };
    TownError::Refused { status, text }
}

#[cfg(test)]
mod tests;
