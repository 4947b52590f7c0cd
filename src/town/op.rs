//! What `TownDO` does for its routes, by subject, as the calls of `town-core` are.

/// One thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Agent(AgentOp),
    Bead(BeadOp),
    Drain(DrainOp),
    Talk(TalkOp),
    Town(TownOp),
    Work(WorkOp),
}

/// About agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentOp {
    Checkpoint,
    Completed,
    Delete,
    Done,
    EvictionContext,
    Get,
    GetOrCreate,
    Hook,
    List,
    MayorCompleted,
    Prime,
    Register,
    RequestChanges,
    Reset,
    Say,
    Unhook,
    Waiting,
}

/// About beads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeadOp {
    Close,
    Create,
    Delete,
    DeleteByStatus,
    DeleteMany,
    Events,
    Get,
    List,
    Reassign,
    SetStatus,
    Update,
    Why,
}

/// On the side of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOp {
    Eviction,
    Heartbeat,
    Ready,
    Status,
}

/// About words between agents and people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TalkOp {
    Acknowledge,
    CheckMail,
    Escalate,
    Escalations,
    Mail,
    Nudge,
    NudgeDelivered,
    PendingNudges,
    ResolveTriage,
}

/// About the town itself, and its mayor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TownOp {
    Config,
    DryRun,
    EnsureMayor,
    Invariants,
    MayorConfigure,
    MayorDestroy,
    MayorId,
    MayorStatus,
    MessageMayor,
    Poisoned,
    Rigs,
    Status,
    UiAction,
    UpdateConfig,
}

/// About work that is handed out, reviewed and landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkOp {
    AddToConvoy,
    AdvanceMolecule,
    CloseConvoy,
    CompleteReview,
    Convoy,
    ConvoyBeadClosed,
    Convoys,
    CreateConvoy,
    CreateMolecule,
    CurrentStep,
    RemoveFromConvoy,
    Sling,
    SlingConvoy,
    StartConvoy,
    SubmitReview,
    UpdateConvoy,
}
