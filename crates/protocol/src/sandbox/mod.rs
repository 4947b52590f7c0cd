//! The HTTP API of `sandboxd session`, and what it reports back (design 4, "Work is asked for, not driven").
//!
//! | Method, path | Body | Answer |
//! | --- | --- | --- |
//! | `GET /health` | – | 200 [`Health`] |
//! | `POST /sessions/{session}/work` | [`Work`] | 202 [`Progress`]: where that attempt stands |
//! | `GET /sessions/{session}/job/status` | – | 200 [`JobStatus`] |
//! | `POST /sessions/{session}/job/abort` | – | 200 `{"status":"aborted"}`; 404 if nothing of the session runs here |
//! | `POST /sessions/{session}/job/answer-question` | [`QuestionAnswer`] | 200 [`Taken`]; 400 `NO_JOB` if no turn runs |
//! | `POST /sessions/{session}/job/reject-question` | [`QuestionRejection`] | the same |
//! | `POST /sessions/{session}/job/answer-permission` | [`PermissionAnswer`] | the same |
//! | `POST /sessions/{session}/stop` | [`Stop`], or nothing | 200 `{"status":"stopped"}`: ends the agent server, keeps the disk unless it is to be forgotten; `overtaken` if newer work has come |
//!
//! Every call but `/health` carries `Authorization: Bearer <HOLDFAST_SANDBOX_TOKEN>`. Errors are [`ApiError`].
//!
//! `POST …/work` is idempotent by `attempt`: a known attempt answers its state and starts nothing; a newer one replaces
//! an older one that has not ended. Every step, and the outcome, is also sent as a [`Progress`] to [`ReportTo::url`] until it is
//! answered with 2xx (retried with backoff) or 404/409/410 (nobody wants it any more).
//!
//! [`QuestionAnswer`]: crate::verdict::QuestionAnswer
//! [`QuestionRejection`]: crate::verdict::QuestionRejection
//! [`PermissionAnswer`]: crate::verdict::PermissionAnswer
//! [`Taken`]: crate::verdict::Taken

mod progress;
mod secret;
mod work;

pub use progress::Outcome;
pub use progress::Progress;
pub use progress::Resume;
pub use progress::Step;
pub use secret::Secret;
pub use work::IMAGE_BYTES_MAX;
pub use work::LOGS_BYTES_MAX;
pub use work::Permissions;
pub use work::ReportTo;
pub use work::SNAPSHOT_BYTES_MAX;
pub use work::Snapshot;
pub use work::TurnImage;
pub use work::TurnPlan;
pub use work::Work;
pub use work::WorkspacePlan;

use crate::id::ExecutionId;
use crate::id::KiloSessionId;
use serde::Deserialize;
use serde::Serialize;

/// The port that a container listens on, as containers see it.
pub const CONTAINER_PORT: u16 = 8080;

/// How a session is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stop {
    /// The session is gone for good: its disk is cleared, and its work in progress comes off the remote.
    #[serde(default)]
    pub forget: bool,
    /// The newest attempt that whoever stops knew of: newer work goes on. None: whatever the session does is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
}

/// What a session is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// `idle` or `active`.
    pub state: String,
    /// The running execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<ExecutionId>,
    /// The agent server's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kilo_session_id: Option<KiloSessionId>,
}

/// The answer of `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Always true.
    pub healthy: bool,
    /// The version of sandboxd.
    pub version: String,
    /// Made once per process.
    pub container_instance_id: String,
    /// Whether SIGTERM was seen.
    pub draining: bool,
}

/// An error answer of sandboxd (spec/session.md 8.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// A stable code, such as `INVALID_REQUEST`.
    pub error: String,
    /// What is wrong and what would be right.
    pub message: String,
}
