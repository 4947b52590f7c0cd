//! What the reconciler may decide (spec/town.md 4.4).

use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;

/// A reminder's strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Escalate,
    Warn,
}

impl Tier {
    pub fn source(self) -> &'static str {
        match self {
            Tier::Escalate => "reconciler:escalate",
            Tier::Warn => "reconciler:warn",
        }
    }
}

/// One change, or one thing to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    ClearBeadAssignee {
        bead: BeadId,
    },
    CloseConvoy {
        convoy: BeadId,
    },
    CreateLandingMr {
        convoy: BeadId,
        rig: Option<RigId>,
        branch: String,
        target: String,
    },
    CreateTriageRequest {
        agent: AgentId,
        reason: String,
    },
    DeleteAgent {
        agent: AgentId,
    },
    /// Without an agent: whichever is free, or a new one.
    DispatchAgent {
        agent: Option<AgentId>,
        bead: BeadId,
        rig: Option<RigId>,
    },
    FailConvoy {
        convoy: BeadId,
        reason: String,
    },
    HookAgent {
        agent: AgentId,
        bead: BeadId,
    },
    /// The circuit breaker is open.
    NotifyMayor {
        message: String,
    },
    PollPr {
        bead: BeadId,
        url: String,
    },
    SendNudge {
        agent: AgentId,
        message: String,
        tier: Tier,
    },
    SetConvoyReadyToLand {
        convoy: BeadId,
    },
    StopAgent {
        agent: AgentId,
        reason: String,
    },
    TransitionAgent {
        agent: AgentId,
        to: AgentStatus,
        reason: String,
    },
    TransitionBead {
        bead: BeadId,
        to: BeadStatus,
        reason: String,
    },
    UnhookAgent {
        agent: AgentId,
    },
    UpdateConvoyProgress {
        convoy: BeadId,
    },
}

impl Action {
    /// Its name in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::ClearBeadAssignee { .. } => "clear_bead_assignee",
            Action::CloseConvoy { .. } => "close_convoy",
            Action::CreateLandingMr { .. } => "create_landing_mr",
            Action::CreateTriageRequest { .. } => "create_triage_request",
            Action::DeleteAgent { .. } => "delete_agent",
            Action::DispatchAgent { .. } => "dispatch_agent",
            Action::FailConvoy { .. } => "fail_convoy",
            Action::HookAgent { .. } => "hook_agent",
            Action::NotifyMayor { .. } => "notify_mayor",
            Action::PollPr { .. } => "poll_pr",
            Action::SendNudge { .. } => "send_nudge",
            Action::SetConvoyReadyToLand { .. } => "set_convoy_ready_to_land",
            Action::StopAgent { .. } => "stop_agent",
            Action::TransitionAgent { .. } => "transition_agent",
            Action::TransitionBead { .. } => "transition_bead",
            Action::UnhookAgent { .. } => "unhook_agent",
            Action::UpdateConvoyProgress { .. } => "update_convoy_progress",
        }
    }

    /// What it is about.
    pub fn target(&self) -> &str {
        match self {
            Action::ClearBeadAssignee { bead }
            | Action::DispatchAgent { bead, .. }
            | Action::PollPr { bead, .. }
            | Action::TransitionBead { bead, .. } => bead.as_str(),
            Action::CloseConvoy { convoy }
            | Action::CreateLandingMr { convoy, .. }
            | Action::FailConvoy { convoy, .. }
            | Action::SetConvoyReadyToLand { convoy }
            | Action::UpdateConvoyProgress { convoy } => convoy.as_str(),
            Action::CreateTriageRequest { agent, .. }
            | Action::DeleteAgent { agent }
            | Action::HookAgent { agent, .. }
            | Action::SendNudge { agent, .. }
            | Action::StopAgent { agent, .. }
            | Action::TransitionAgent { agent, .. }
            | Action::UnhookAgent { agent } => agent.as_str(),
            Action::NotifyMayor { .. } => "town",
        }
    }
}
