//! The rows of the town family: method, path below `/api`, guard, and who answers.

use super::guard::Guard;
use super::guard::Guard::Agent as A;
use super::guard::Guard::Container as C;
use super::guard::Guard::Debug as D;
use super::guard::Guard::Expired;
use super::guard::Guard::Mayor as M;
use super::guard::Guard::Rig as R;
use super::guard::Guard::User as U;
use super::op::AgentOp;
use super::op::BeadOp;
use super::op::DrainOp;
use super::op::Op;
use super::op::TalkOp;
use super::op::TownOp;
use super::op::WorkOp;

use Target::Ledger as L;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The log of one agent: `AgentDO`.
    AgentLog,
    /// The town's container, through `TownContainerDO`: the path behind `/container`.
    Container,
    /// The Worker itself.
    Edge(Edge),
    /// `TownDO`.
    Ledger(Op),
    /// Nobody: an optional extra that is not built.
    NotBuilt,
    /// The register of the containers' agents, which `TownContainerDO` keeps.
    Registry,
    /// The bucket.
    Snapshot,
    /// The town's status stream.
    StatusSocket,
    /// A WebSocket into the container.
    Socket,
    /// `UserDO`.
    User(UserOp),
}

/// What the Worker answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    ContainerEvent,
    ObjectIds,
    RefreshToken,
    StatusTicket,
}

/// What a user does with towns and rigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserOp {
    CreateRig,
    CreateTown,
    DeleteRig,
    DeleteTown,
    Rig,
    Rigs,
    Town,
    Towns,
}

/// Every route; of two that match, the first.
pub const TABLE: &[(&str, &str, Guard, Target)] = &[
    // The drain (2.2).
    ("POST", "towns/{town}/container-eviction", C, L(Op::Drain(DrainOp::Eviction))),
    ("POST", "towns/{town}/container-ready", C, L(Op::Drain(DrainOp::Ready))),
    ("GET", "towns/{town}/drain-status", C, L(Op::Drain(DrainOp::Status))),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/heartbeat", A, L(Op::Drain(DrainOp::Heartbeat))),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/eviction-context", A, L(Op::Agent(AgentOp::EvictionContext))),
    // Rig-scoped (2.3).
    ("POST", "towns/{town}/rigs/{rig}/agent-events", R, Target::AgentLog),
    ("GET", "towns/{town}/rigs/{rig}/agents", R, L(Op::Agent(AgentOp::List))),
    ("POST", "towns/{town}/rigs/{rig}/agents", R, L(Op::Agent(AgentOp::Register))),
    ("POST", "towns/{town}/rigs/{rig}/agents/get-or-create", R, L(Op::Agent(AgentOp::GetOrCreate))),
    ("GET", "towns/{town}/rigs/{rig}/agents/{agent}", R, L(Op::Agent(AgentOp::Get))),
    ("DELETE", "towns/{town}/rigs/{rig}/agents/{agent}", R, L(Op::Agent(AgentOp::Delete))),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/checkpoint", A, L(Op::Agent(AgentOp::Checkpoint))),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/completed", A, L(Op::Agent(AgentOp::Completed))),
    ("GET", "towns/{town}/rigs/{rig}/agents/{agent}/db-snapshot", A, Target::Snapshot),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/db-snapshot", A, Target::Snapshot),
    ("DELETE", "towns/{town}/rigs/{rig}/agents/{agent}/db-snapshot", A, Target::Snapshot),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/done", A, L(Op::Agent(AgentOp::Done))),
    ("GET", "towns/{town}/rigs/{rig}/agents/{agent}/events", R, Target::AgentLog),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/hook", A, L(Op::Agent(AgentOp::Hook))),
    ("DELETE", "towns/{town}/rigs/{rig}/agents/{agent}/hook", A, L(Op::Agent(AgentOp::Unhook))),
    ("GET", "towns/{town}/rigs/{rig}/agents/{agent}/mail", A, L(Op::Talk(TalkOp::CheckMail))),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/molecule/advance", A, L(Op::Work(WorkOp::AdvanceMolecule))),
    ("GET", "towns/{town}/rigs/{rig}/agents/{agent}/molecule/current", A, L(Op::Work(WorkOp::CurrentStep))),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/nudge-delivered", A, L(Op::Talk(TalkOp::NudgeDelivered))),
    ("GET", "towns/{town}/rigs/{rig}/agents/{agent}/pending-nudges", A, L(Op::Talk(TalkOp::PendingNudges))),
    ("GET", "towns/{town}/rigs/{rig}/agents/{agent}/prime", A, L(Op::Agent(AgentOp::Prime))),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/request-changes", A, L(Op::Agent(AgentOp::RequestChanges))),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/status", A, L(Op::Agent(AgentOp::Say))),
    ("POST", "towns/{town}/rigs/{rig}/agents/{agent}/waiting", A, L(Op::Agent(AgentOp::Waiting))),
    ("GET", "towns/{town}/rigs/{rig}/beads", R, L(Op::Bead(BeadOp::List))),
    ("POST", "towns/{town}/rigs/{rig}/beads", R, L(Op::Bead(BeadOp::Create))),
    ("GET", "towns/{town}/rigs/{rig}/beads/{bead}", R, L(Op::Bead(BeadOp::Get))),
    ("DELETE", "towns/{town}/rigs/{rig}/beads/{bead}", R, L(Op::Bead(BeadOp::Delete))),
    ("POST", "towns/{town}/rigs/{rig}/beads/{bead}/close", R, L(Op::Bead(BeadOp::Close))),
    ("PATCH", "towns/{town}/rigs/{rig}/beads/{bead}/status", R, L(Op::Bead(BeadOp::SetStatus))),
    ("GET", "towns/{town}/rigs/{rig}/beads/{bead}/why", R, L(Op::Bead(BeadOp::Why))),
    ("POST", "towns/{town}/rigs/{rig}/escalations", R, L(Op::Talk(TalkOp::Escalate))),
    ("GET", "towns/{town}/rigs/{rig}/events", R, L(Op::Bead(BeadOp::Events))),
    ("POST", "towns/{town}/rigs/{rig}/mail", R, L(Op::Talk(TalkOp::Mail))),
    ("POST", "towns/{town}/rigs/{rig}/molecules", R, L(Op::Work(WorkOp::CreateMolecule))),
    ("POST", "towns/{town}/rigs/{rig}/nudge", R, L(Op::Talk(TalkOp::Nudge))),
    ("POST", "towns/{town}/rigs/{rig}/refresh-git-token", R, Target::NotBuilt),
    ("POST", "towns/{town}/rigs/{rig}/review-queue", R, L(Op::Work(WorkOp::SubmitReview))),
    ("POST", "towns/{town}/rigs/{rig}/review-queue/{bead}/complete", R, L(Op::Work(WorkOp::CompleteReview))),
    ("POST", "towns/{town}/rigs/{rig}/sling", R, L(Op::Work(WorkOp::Sling))),
    ("POST", "towns/{town}/rigs/{rig}/triage/resolve", R, L(Op::Talk(TalkOp::ResolveTriage))),
    // The container's side of a town (2.4).
    ("POST", "towns/{town}/container-events", R, Target::Edge(Edge::ContainerEvent)),
    ("GET", "towns/{town}/container-registry", R, Target::Registry),
    ("POST", "towns/{town}/container-registry", R, Target::Registry),
    ("GET", "towns/{town}/mayor-id", R, L(Op::Town(TownOp::MayorId))),
    ("POST", "towns/{town}/refresh-container-token", Expired, Target::Edge(Edge::RefreshToken)),
    // For users (2.5).
    ("GET", "towns/{town}/beads/{bead}/why", U, L(Op::Bead(BeadOp::Why))),
    ("GET", "towns/{town}/cloudflare-debug", U, Target::Edge(Edge::ObjectIds)),
    ("GET", "towns/{town}/config", U, L(Op::Town(TownOp::Config))),
    ("PATCH", "towns/{town}/config", U, L(Op::Town(TownOp::UpdateConfig))),
    ("POST", "towns/{town}/container/agents/start", U, Target::Container),
    ("POST", "towns/{town}/container/agents/{agent}/message", U, Target::Container),
    ("GET", "towns/{town}/container/agents/{agent}/pty", U, Target::Container),
    ("POST", "towns/{town}/container/agents/{agent}/pty", U, Target::Container),
    ("GET", "towns/{town}/container/agents/{agent}/pty/{any}", U, Target::Container),
    ("PUT", "towns/{town}/container/agents/{agent}/pty/{any}", U, Target::Container),
    ("DELETE", "towns/{town}/container/agents/{agent}/pty/{any}", U, Target::Container),
    ("GET", "towns/{town}/container/agents/{agent}/pty/{any}/connect", U, Target::Socket),
    ("GET", "towns/{town}/container/agents/{agent}/status", U, Target::Container),
    ("POST", "towns/{town}/container/agents/{agent}/stop", U, Target::Container),
    ("GET", "towns/{town}/container/agents/{agent}/stream", U, Target::Socket),
    ("POST", "towns/{town}/container/agents/{agent}/stream-ticket", U, Target::Container),
    ("GET", "towns/{town}/container/health", U, Target::Container),
    ("POST", "towns/{town}/convoys", U, L(Op::Work(WorkOp::CreateConvoy))),
    ("POST", "towns/{town}/convoys/bead-closed", U, L(Op::Work(WorkOp::ConvoyBeadClosed))),
    ("GET", "towns/{town}/escalations", U, L(Op::Talk(TalkOp::Escalations))),
    ("POST", "towns/{town}/escalations/{bead}/acknowledge", U, L(Op::Talk(TalkOp::Acknowledge))),
    ("POST", "towns/{town}/mayor/completed", U, L(Op::Agent(AgentOp::MayorCompleted))),
    ("POST", "towns/{town}/mayor/configure", U, L(Op::Town(TownOp::MayorConfigure))),
    ("POST", "towns/{town}/mayor/dashboard-context", U, Target::NotBuilt),
    ("POST", "towns/{town}/mayor/destroy", U, L(Op::Town(TownOp::MayorDestroy))),
    ("POST", "towns/{town}/mayor/ensure", U, L(Op::Town(TownOp::EnsureMayor))),
    ("POST", "towns/{town}/mayor/message", U, L(Op::Town(TownOp::MessageMayor))),
    ("GET", "towns/{town}/mayor/status", U, L(Op::Town(TownOp::MayorStatus))),
    ("POST", "towns/{town}/mayor/ui-action", U, L(Op::Town(TownOp::UiAction))),
    ("GET", "towns/{town}/status", U, L(Op::Town(TownOp::Status))),
    ("POST", "towns/{town}/status/ticket", U, Target::Edge(Edge::StatusTicket)),
    ("GET", "towns/{town}/status/ws", U, Target::StatusSocket),
    ("POST", "users/{user}/rigs", U, Target::User(UserOp::CreateRig)),
    ("GET", "users/{user}/rigs/{rig}", U, Target::User(UserOp::Rig)),
    ("DELETE", "users/{user}/rigs/{rig}", U, Target::User(UserOp::DeleteRig)),
    ("GET", "users/{user}/towns", U, Target::User(UserOp::Towns)),
    ("POST", "users/{user}/towns", U, Target::User(UserOp::CreateTown)),
    ("GET", "users/{user}/towns/{town}", U, Target::User(UserOp::Town)),
    ("DELETE", "users/{user}/towns/{town}", U, Target::User(UserOp::DeleteTown)),
    ("GET", "users/{user}/towns/{town}/events", U, L(Op::Bead(BeadOp::Events))),
    ("GET", "users/{user}/towns/{town}/rigs", U, Target::User(UserOp::Rigs)),
    ("POST", "orgs/{any}/rigs", U, Target::NotBuilt),
    ("GET", "orgs/{any}/rigs/{rig}", U, Target::NotBuilt),
    ("DELETE", "orgs/{any}/rigs/{rig}", U, Target::NotBuilt),
    ("GET", "orgs/{any}/towns", U, Target::NotBuilt),
    ("POST", "orgs/{any}/towns", U, Target::NotBuilt),
    ("GET", "orgs/{any}/towns/{town}", U, Target::NotBuilt),
    ("DELETE", "orgs/{any}/towns/{town}", U, Target::NotBuilt),
    ("GET", "orgs/{any}/towns/{town}/rigs", U, Target::NotBuilt),
    // For operators (2.7): not below `/api`, and outside the envelope.
    ("GET", "debug/towns/{town}/beads/{bead}", D, L(Op::Bead(BeadOp::Get))),
    ("GET", "debug/towns/{town}/drain-status", D, L(Op::Drain(DrainOp::Status))),
    ("GET", "debug/towns/{town}/invariants", D, L(Op::Town(TownOp::Invariants))),
    ("GET", "debug/towns/{town}/poisoned", D, L(Op::Town(TownOp::Poisoned))),
    ("POST", "debug/towns/{town}/reconcile-dry-run", D, L(Op::Town(TownOp::DryRun))),
    ("GET", "debug/towns/{town}/status", D, L(Op::Town(TownOp::Status))),
    // The mayor's tools (2.6).
    ("GET", "mayor/{town}/tools/convoys", M, L(Op::Work(WorkOp::Convoys))),
    ("GET", "mayor/{town}/tools/convoys/{bead}", M, L(Op::Work(WorkOp::Convoy))),
    ("PATCH", "mayor/{town}/tools/convoys/{bead}", M, L(Op::Work(WorkOp::UpdateConvoy))),
    ("POST", "mayor/{town}/tools/convoys/{bead}/add-bead", M, L(Op::Work(WorkOp::AddToConvoy))),
    ("POST", "mayor/{town}/tools/convoys/{bead}/close", M, L(Op::Work(WorkOp::CloseConvoy))),
    ("POST", "mayor/{town}/tools/convoys/{bead}/remove-bead", M, L(Op::Work(WorkOp::RemoveFromConvoy))),
    ("POST", "mayor/{town}/tools/convoys/{bead}/start", M, L(Op::Work(WorkOp::StartConvoy))),
    ("POST", "mayor/{town}/tools/escalations/{bead}/acknowledge", M, L(Op::Talk(TalkOp::Acknowledge))),
    ("POST", "mayor/{town}/tools/mail", M, L(Op::Talk(TalkOp::Mail))),
    ("GET", "mayor/{town}/tools/rigs", M, L(Op::Town(TownOp::Rigs))),
    ("GET", "mayor/{town}/tools/rigs/{rig}/agents", M, L(Op::Agent(AgentOp::List))),
    ("GET", "mayor/{town}/tools/rigs/{rig}/agents/{agent}/pending-nudges", M, L(Op::Talk(TalkOp::PendingNudges))),
    ("POST", "mayor/{town}/tools/rigs/{rig}/agents/{agent}/reset", M, L(Op::Agent(AgentOp::Reset))),
    ("GET", "mayor/{town}/tools/rigs/{rig}/beads", M, L(Op::Bead(BeadOp::List))),
    ("POST", "mayor/{town}/tools/rigs/{rig}/beads/bulk-delete", M, L(Op::Bead(BeadOp::DeleteMany))),
    ("POST", "mayor/{town}/tools/rigs/{rig}/beads/delete-by-status", M, L(Op::Bead(BeadOp::DeleteByStatus))),
    ("DELETE", "mayor/{town}/tools/rigs/{rig}/beads/{bead}", M, L(Op::Bead(BeadOp::Delete))),
    ("PATCH", "mayor/{town}/tools/rigs/{rig}/beads/{bead}", M, L(Op::Bead(BeadOp::Update))),
    ("POST", "mayor/{town}/tools/rigs/{rig}/beads/{bead}/reassign", M, L(Op::Bead(BeadOp::Reassign))),
    ("POST", "mayor/{town}/tools/sling", M, L(Op::Work(WorkOp::Sling))),
    ("POST", "mayor/{town}/tools/sling-batch", M, L(Op::Work(WorkOp::SlingConvoy))),
    ("POST", "mayor/{town}/tools/ui-action", M, L(Op::Town(TownOp::UiAction))),
];
