//! What a town refuses.

use database::DatabaseError;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;

/// Why a call was refused. Nothing of it happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Agent {agent} not found")]
    AgentNotFound { agent: AgentId },
    #[error("Agent {agent} is already hooked to {hook}. Unhook first.")]
    AlreadyHooked { agent: AgentId, hook: BeadId },
    #[error("Bead {bead} cannot go to another rig while {why}: it must be open or over, and on no agent's hook")]
    BeadBusy { bead: BeadId, why: String },
    #[error("Bead {bead} not found")]
    BeadNotFound { bead: BeadId },
    #[error("Convoy {convoy} not found")]
    ConvoyNotFound { convoy: BeadId },
    #[error("Convoy {convoy} is not staged")]
    ConvoyNotStaged { convoy: BeadId },
    #[error("Dependencies must not form a cycle")]
    DependencyCycle {},
    #[error("Escalation {escalation} not found")]
    EscalationNotFound { escalation: BeadId },
    #[error("Agent identity {identity} is taken by another agent")]
    IdentityTaken { identity: String },
    #[error("{what}")]
    Invalid { what: String },
    #[error("No active molecule for this agent")]
    MoleculeNotFound {},
    #[error("Agent {agent} is not a refinery that is hooked to a merge request")]
    NotReviewing { agent: AgentId },
    #[error("Only triage agents can resolve triage requests")]
    NotTriageAgent {},
    #[error("Bead {bead} is not workable: {why}")]
    NotWorkable { bead: BeadId, why: String },
    #[error("Rig name {name} is taken by another rig with unfinished beads")]
    RigNameTaken { name: String },
    #[error("Rig {rig} not found")]
    RigNotFound { rig: RigId },
    #[error("Town not found")]
    TownNotFound {},
    #[error("{what} does not belong to this rig")]
    WrongRig { what: String },
}

impl Refusal {
    /// Whether what a fact is about is gone: such an event can never be applied.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::AgentNotFound { .. } | Self::BeadNotFound { .. } | Self::ConvoyNotFound { .. })
    }
}

/// Why a step did not go through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The rules forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database failed: the whole input is undone.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_wrong() {
        let refusal = Refusal::BeadNotFound { bead: BeadId::parse("b1").unwrap() };
        assert_eq!(refusal.to_string(), "Bead b1 not found");
        assert!(refusal.is_gone() && !Refusal::TownNotFound {}.is_gone());
    }
}
