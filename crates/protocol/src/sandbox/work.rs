//! What `sandboxd session` is asked to do: a workspace, a turn, and where what comes of them goes.

use super::Secret;
use crate::id::BranchName;
use crate::id::ExecutionId;
use crate::id::InvalidId;
use crate::id::KiloSessionId;
use crate::id::MessageId;
use crate::id::SessionId;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// One piece of work: make the workspace ready, and then, if `turn` is there, hand the agent a prompt.
///
/// What is there already is kept: on a prepared disk only the turn remains to be done; on an empty one the
/// same plan is a cold start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Work {
    /// Numbers the attempts of one session, from 1.
    pub attempt: u64,
    /// The place to work in.
    pub workspace: WorkspacePlan,
    /// What the agent is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnPlan>,
    /// Where steps and the outcome are sent.
    pub report: ReportTo,
    /// Where the conversation is kept for the time after this container. None: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

/// Where an agent session's export is kept, gzipped, at most [`SNAPSHOT_BYTES_MAX`] bytes. The bearer is the report's.
///
/// `PUT` replaces it; `GET` answers 404 if there is none. Both are refused once a newer attempt was heard of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    /// For `PUT` and `GET`.
    pub url: String,
    /// An earlier turn has begun: on an empty disk the conversation, and the work in progress, are to be brought back.
    #[serde(default)]
    pub restore: bool,
}

/// One image of a prompt: what providers of models take.
pub const IMAGE_BYTES_MAX: u64 = 5 * 1024 * 1024;

/// The logs of one execution as they travel.
pub const LOGS_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// A snapshot as it travels: what the platform takes as one body (100 MB) with room to spare.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The place a session works in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspacePlan {
    /// The session.
    pub session_id: SessionId,
    /// The agent server's session, imported under this id.
    pub kilo_session_id: KiloSessionId,
    /// What to clone.
    pub git_url: String,
    /// Handed to git by a credential helper only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_token: Option<Secret>,
    /// The branch to work on: checked out from the remote if given, else `session/<session id>` is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_branch: Option<BranchName>,
    /// The branch that was last checked out. A cold start goes on there, if the remote still has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_branch: Option<BranchName>,
    /// Clone only the newest commit.
    #[serde(default)]
    pub shallow: bool,
    /// Run in the workspace, one after the other, each at most 120 s; the first that fails ends the preparation.
    #[serde(default)]
    pub setup_commands: Vec<String>,
    /// For the setup commands and the agent.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
    /// The `mcp` section of the agent server's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_servers: Option<serde_json::Value>,
    /// The prompt of the agent `custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_system_prompt: Option<String>,
    /// Who allows what the agent wants to do.
    #[serde(default)]
    pub permissions: Permissions,
}

/// Who allows what the agent wants to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permissions {
    /// Nobody is asked: everything is allowed.
    #[default]
    Allow,
    /// What the agent's own rules do not allow waits for a person.
    Ask,
}

impl Permissions {
    /// Parses one of its names.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        match text {
            "allow" => Ok(Permissions::Allow),
            "ask" => Ok(Permissions::Ask),
            _ => Err(InvalidId { message: "Expected one of allow, ask" }),
        }
    }
}

/// One turn of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TurnPlan {
    /// The execution that this turn is.
    pub execution_id: ExecutionId,
    /// Identifies the prompt: the same one twice runs once.
    pub message_id: MessageId,
    /// The user's words.
    pub prompt: String,
    /// What the user shows, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<TurnImage>,
    /// The agent: `code`, `plan` or `custom`.
    pub agent: String,
    /// The caller's model: `holdfast/<name>` is that one of the deployment's provider, every other name stands for the deployment's own model.
    pub model: String,
    /// Thinking effort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Commit and push at the end of the turn.
    #[serde(default)]
    pub auto_commit: bool,
    /// Compact the conversation at the end of the turn.
    #[serde(default)]
    pub condense_on_complete: bool,
    /// The ingest WebSocket, `ws://` or `wss://`, with `executionId` and `generation` in its query.
    pub ingest_url: String,
    /// The bearer of the ingest socket.
    pub ingest_secret: Secret,
    /// Where the execution's logs are put, as a gzipped tar of at most [`LOGS_BYTES_MAX`] bytes; the bearer is the report's. None: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_url: Option<String>,
}

/// One image that the prompt shows, at most [`IMAGE_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TurnImage {
    /// For `GET`; the bearer is the report's. 404 if there is none.
    pub url: String,
    /// Its name, for the agent.
    pub filename: String,
    /// Such as `image/png`.
    pub mime: String,
}

/// Where the progress of an attempt goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportTo {
    /// `POST` target.
    pub url: String,
    /// The bearer.
    pub token: Secret,
}
