//! Answers, each to the call of its name or subject.

use crate::error::Refusal;
use protocol::town::agent::Agent;
use protocol::town::agent::Mail;
use protocol::town::agent::Nudge;
use protocol::town::agent::Prime;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadEvent;
use protocol::town::config::Rig;
use protocol::town::config::TownConfig;
use protocol::town::convoy::Convoy;
use protocol::town::convoy::ConvoyDetail;
use protocol::town::convoy::Molecule;
use protocol::town::convoy::MoleculeStep;
use protocol::town::mayor::MayorReached;
use protocol::town::mayor::MayorSeen;
use protocol::town::status::TownStatus;
use protocol::town::status::Violation;
use protocol::town::status::Why;
use serde_json::Value;

/// What a town answers. Exactly one per call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Agent {
        agent: Box<Agent>,
    },
    Agents {
        agents: Vec<Agent>,
    },
    Bead {
        bead: Box<Bead>,
    },
    Beads {
        beads: Vec<Bead>,
    },
    Checkpoint {
        data: Option<Value>,
    },
    Config {
        config: Box<TownConfig>,
    },
    Convoy {
        convoy: Box<Convoy>,
    },
    ConvoyDetail {
        detail: Box<ConvoyDetail>,
    },
    ConvoyDetails {
        details: Vec<ConvoyDetail>,
    },
    Convoys {
        convoys: Vec<Convoy>,
    },
    /// A convoy and its beads, none of them with an agent yet.
    ConvoySlung {
        convoy: Box<Convoy>,
        beads: Vec<Bead>,
    },
    /// What a tick would do: kind and target, in order.
    Decisions {
        actions: Vec<String>,
    },
    /// How many.
    Deleted {
        count: i64,
    },
    /// It is so now.
    Done {},
    Events {
        events: Vec<BeadEvent>,
    },
    Invariants {
        violations: Vec<Violation>,
    },
    Mail {
        mail: Vec<Mail>,
    },
    MayorReached {
        reached: MayorReached,
    },
    MayorSeen {
        session: Option<MayorSeen>,
    },
    Molecule {
        molecule: Molecule,
    },
    Nudged {
        nudge_id: String,
    },
    Nudges {
        nudges: Vec<Nudge>,
    },
    Poisoned {
        events: Vec<PoisonedEvent>,
    },
    Prime {
        prime: Box<Prime>,
    },
    /// It is not allowed, and nothing happened.
    Refused {
        refusal: Refusal,
    },
    Rig {
        rig: Rig,
    },
    Rigs {
        rigs: Vec<Rig>,
    },
    Slung {
        bead: Box<Bead>,
        agent: Box<Agent>,
    },
    Status {
        status: Box<TownStatus>,
    },
    Step {
        step: Box<MoleculeStep>,
    },
    Why {
        why: Why,
    },
}

/// An event that could not be applied, and is not tried any more.
#[derive(Clone, Debug, PartialEq)]
pub struct PoisonedEvent {
    pub event_id: String,
    pub event_type: String,
    pub attempts: i64,
    /// Why the last try failed.
    pub reason: String,
}
