//! What is asked of the ledger, by subject. Callers were checked at the edge: who they are, and that their words are well formed.

use crate::message::bead::BeadChanges;
use crate::message::bead::NewBead;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::id::TownId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::NudgeMode;
use protocol::town::agent::NudgePriority;
use protocol::town::agent::Role;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use protocol::town::config::TownConfig;
use protocol::town::convoy::ConvoyTask;
use protocol::town::convoy::FormulaStep;
use protocol::town::convoy::MergeMode;
use serde_json::Map;
use serde_json::Value;

/// About beads.
#[derive(Clone, Debug, PartialEq)]
pub enum BeadCall {
    Create(NewBead),
    /// With all that is below it, and all that waits for it.
    Delete {
        beads: Vec<BeadId>,
    },
    DeleteByStatus {
        rig: RigId,
        status: BeadStatus,
        kind: Option<BeadType>,
    },
    /// The history of one bead, or of the town, newest first.
    Events {
        bead: Option<BeadId>,
        since: Option<i64>,
        limit: i64,
    },
    Get {
        bead: BeadId,
    },
    /// Newest first.
    List {
        rig: Option<RigId>,
        status: Option<BeadStatus>,
        kind: Option<BeadType>,
        assignee: Option<AgentId>,
        limit: i64,
        offset: i64,
    },
    /// Gives it to another agent.
    Reassign {
        bead: BeadId,
        rig: RigId,
        agent: AgentId,
    },
    SetStatus {
        bead: BeadId,
        status: BeadStatus,
        agent: String,
    },
    Update {
        bead: BeadId,
        rig: RigId,
        changes: BeadChanges,
        actor: String,
    },
    /// Why it waits.
    Why {
        bead: BeadId,
    },
}

/// About agents.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentCall {
    /// Its run in the container ended. No agent: the mayor.
    Completed {
        agent: Option<AgentId>,
        /// The bead of that run, if the container says it.
        bead: Option<BeadId>,
        success: bool,
        reason: Option<String>,
    },
    Delete {
        agent: AgentId,
    },
    /// It says that its work on the bead of its run is done. No bead: the one on its hook, as far as the branch allows.
    Done {
        agent: AgentId,
        bead: Option<BeadId>,
        branch: String,
        pr_url: Option<String>,
        summary: Option<String>,
    },
    /// Its container ends: what became of its work on the bead of its run. No bead: the one on its hook.
    EvictionContext {
        agent: AgentId,
        bead: Option<BeadId>,
        receipt: EvictionReceipt,
    },
    /// With a rig, one of another rig is not found.
    Get {
        agent: AgentId,
        rig: Option<RigId>,
    },
    GetOrCreate {
        role: Role,
        rig: Option<RigId>,
    },
    Hook {
        agent: AgentId,
        bead: BeadId,
    },
    /// Oldest first.
    List {
        rig: Option<RigId>,
        role: Option<Role>,
        status: Option<AgentStatus>,
    },
    Prime {
        agent: AgentId,
    },
    ReadCheckpoint {
        agent: AgentId,
    },
    Register {
        role: Role,
        name: String,
        identity: String,
        rig: Option<RigId>,
    },
    /// A refinery sends its merge request back.
    RequestChanges {
        agent: AgentId,
        feedback: String,
        files: Vec<String>,
    },
    Reset {
        agent: AgentId,
    },
    /// A line about what it does.
    Say {
        agent: AgentId,
        message: String,
    },
    Unhook {
        agent: AgentId,
    },
    /// The mayor ended its turn, at that time of its container.
    Waiting {
        agent: AgentId,
        fired_at: Option<i64>,
    },
    WriteCheckpoint {
        agent: AgentId,
        data: Value,
    },
}

/// What a container that ends did with the unfinished work of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvictionReceipt {
    pub branch: String,
    pub agent_name: String,
    /// In ISO 8601, as the container wrote it.
    pub saved_at: String,
    /// What was saved; None: there was nothing to commit, or it is not known.
    pub commit: Option<String>,
    /// Whether the branch reached the remote; None: it is not known.
    pub pushed: Option<bool>,
    /// Why it was not saved, or not pushed.
    pub reason: Option<String>,
}

/// About words between agents and people.
#[derive(Clone, Debug, PartialEq)]
pub enum TalkCall {
    Acknowledge {
        escalation: BeadId,
    },
    /// Reads the mail, and so delivers it.
    CheckMail {
        agent: AgentId,
    },
    Escalate {
        title: String,
        body: Option<String>,
        severity: Priority,
        metadata: Map<String, Value>,
        rig: Option<RigId>,
        agent: Option<AgentId>,
    },
    Escalations {
        acknowledged: Option<bool>,
    },
    Nudge {
        agent: AgentId,
        message: String,
        mode: NudgeMode,
        priority: NudgePriority,
        source: String,
        /// Only for [`NudgeMode::Queue`].
        ttl_ms: Option<i64>,
    },
    NudgeDelivered {
        nudge: String,
    },
    PendingNudges {
        agent: AgentId,
    },
    /// Only an agent that holds the triage batch may.
    ResolveTriage {
        agent: AgentId,
        request: BeadId,
        action: String,
        notes: String,
    },
    SendMail {
        from: AgentId,
        to: AgentId,
        subject: String,
        body: String,
    },
}

/// About work that is handed out, reviewed and landed.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkCall {
    AdvanceMolecule {
        agent: AgentId,
        summary: String,
    },
    /// An issue that is there joins, and waits for others.
    AddToConvoy {
        convoy: BeadId,
        bead: BeadId,
        depends_on: Vec<BeadId>,
    },
    CloseConvoy {
        convoy: BeadId,
    },
    CompleteReview {
        entry: BeadId,
        status: ReviewResult,
        message: String,
        commit: Option<String>,
    },
    Convoy {
        convoy: BeadId,
    },
    /// Every active convoy, whole.
    ConvoyDetails {},
    /// Counts a convoy again.
    ConvoyBeadClosed {
        convoy: BeadId,
    },
    Convoys {},
    /// Of beads that are there.
    CreateConvoy {
        title: String,
        beads: Vec<BeadId>,
        created_by: Option<String>,
    },
    CreateMolecule {
        bead: BeadId,
        steps: Vec<FormulaStep>,
    },
    CurrentStep {
        agent: AgentId,
    },
    RemoveFromConvoy {
        convoy: BeadId,
        bead: BeadId,
    },
    Sling {
        rig: RigId,
        title: String,
        body: Option<String>,
        priority: Priority,
        labels: Vec<String>,
        metadata: Map<String, Value>,
    },
    SlingConvoy {
        rig: RigId,
        title: String,
        tasks: Vec<ConvoyTask>,
        merge_mode: Option<MergeMode>,
        staged: Option<bool>,
    },
    StartConvoy {
        convoy: BeadId,
    },
    SubmitReview {
        agent: AgentId,
        bead: BeadId,
        branch: String,
        pr_url: Option<String>,
        summary: Option<String>,
    },
    UpdateConvoy {
        convoy: BeadId,
        merge_mode: Option<MergeMode>,
        feature_branch: Option<String>,
    },
}

/// How a review ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewResult {
    Conflict,
    Failed,
    Merged,
}

impl ReviewResult {
    /// Every word on the wire.
    pub const WORDS: &'static [&'static str] = &["conflict", "failed", "merged"];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Failed => "failed",
            Self::Merged => "merged",
        }
    }

    /// The result of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Conflict, Self::Failed, Self::Merged].into_iter().find(|result| result.as_str() == word)
    }
}

/// About the town itself, and its mayor.
#[derive(Clone, Debug, PartialEq)]
pub enum TownCall {
    /// Adds a rig, or changes it.
    AddRig {
        rig: RigId,
        name: String,
        git_url: String,
        default_branch: String,
    },
    /// Whole, with its secrets: what is shown is masked at the edge.
    Config {},
    /// What a tick would decide now, without doing it.
    DryRun {},
    /// Makes the town. Again is fine, and changes nothing; one that was deleted is never made again.
    Create {
        town: TownId,
        config: Box<TownConfig>,
    },
    /// Deletes the town with all that it has. What is kept of it elsewhere is owed to end. Again is fine.
    Destroy {},
    EnsureMayor {},
    Invariants {},
    MayorStatus {},
    MessageMayor {
        message: String,
        /// What it runs on from its next start on.
        model: Option<String>,
    },
    /// What stands in the way of applying some events.
    Poisoned {},
    RemoveRig {
        rig: RigId,
    },
    Rig {
        rig: RigId,
    },
    Rigs {},
    Status {},
    /// Asks the screens of those who look to show something.
    UiAction {
        action: Value,
    },
    /// A partial update, with the rules of spec/town.md 3.8.
    UpdateConfig {
        changes: Map<String, Value>,
    },
}
