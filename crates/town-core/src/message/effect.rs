//! What the town owes the world: a row each until its outcome is known.

use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use serde::Deserialize;
use serde::Serialize;

/// What is to be done. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// End the container of a town that is no more, whatever it does, and forget what its object keeps.
    EndContainer {},
    /// Delete the event log and the snapshot of an agent that is no more.
    Forget {
        /// Who.
        agent: AgentId,
    },
    /// Look at a pull request and report [`Outcome::PullRequest`].
    Poll {
        /// The merge request.
        bead: BeadId,
        /// `https://…`
        url: String,
    },
    /// `POST /refresh-token` with a fresh container token: only to a container that runs.
    RefreshToken {},
    /// Delete the snapshots of all agents of a town that is no more.
    RemoveSnapshots {},
    /// `POST /repos/setup`: only to a container that runs; another clones when it is needed.
    SetupRig {
        /// Which.
        rig: RigId,
    },
    /// `POST /agents/start`, which starts the container too.
    Start {
        /// Who.
        agent: AgentId,
        /// What it works on; None for the mayor.
        bead: Option<BeadId>,
        /// What it is told first, instead of its bead.
        prompt: Option<String>,
    },
    /// `POST /agents/:id/stop`. A container that does not run, or does not know the agent, has stopped it.
    Stop {
        /// Who.
        agent: AgentId,
        /// For the log.
        reason: String,
    },
    /// Environment of the next container, and `POST /sync-config` to one that runs.
    SyncConfig {},
    /// `POST /agents/:id/message`: only to a container that runs, and an agent that runs in it.
    Tell {
        /// Who.
        agent: AgentId,
        /// What.
        text: String,
        /// The nudge that is delivered by it.
        nudge: Option<String>,
        /// The mail that is delivered by it.
        mail: Vec<BeadId>,
    },
}

impl Effect {
    /// The key under which it is owed: one of a kind and target at a time.
    pub fn key(&self) -> String {
        match self {
            Effect::EndContainer {} => "end".into(),
            Effect::Forget { agent } => format!("forget/{agent}"),
            Effect::Poll { bead, .. } => format!("poll/{bead}"),
            Effect::RefreshToken {} => "token".into(),
            Effect::RemoveSnapshots {} => "snapshots".into(),
            Effect::SetupRig { rig } => format!("rig/{rig}"),
            Effect::Start { agent, bead: Some(bead), .. } => format!("start/{agent}/{bead}"),
            Effect::Start { agent, bead: None, .. } => format!("start/{agent}"),
            Effect::Stop { agent, .. } => format!("stop/{agent}"),
            Effect::SyncConfig {} => "config".into(),
            Effect::Tell { nudge: Some(nudge), .. } => format!("tell/{nudge}"),
            Effect::Tell { agent, .. } => format!("mail/{agent}"),
        }
    }

    /// Whether it is tried until it is done: what it ends would stay for ever.
    pub fn is_for_good(&self) -> bool {
        matches!(self, Effect::EndContainer {} | Effect::Forget { .. } | Effect::RemoveSnapshots {})
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened. `already running` counts as started.
    Done,
    /// The container drains and takes no agents: to be tried when the drain is over.
    Draining,
    /// It certainly did not happen.
    Failed {
        /// Why.
        reason: String,
    },
    /// The container runs as many agents as it may: to be tried when one of them is over.
    Full,
    /// The container, or the agent in it, does not run: there is nobody to be told.
    NotRunning,
    /// To [`Effect::Poll`].
    PullRequest(PullRequestState),
    /// Nobody knows: no answer in time.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Where a pull request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullRequestState {
    Closed,
    Merged,
    Open,
}
