//! The HTTP API of `sandboxd session`, and what it reports back (design 4, "Work is asked for, not driven").
//!
//! | Method, path | Body | Answer |
//! | --- | --- | --- |
//! | `GET /health` | – | 200 [`Health`] |
//! | `POST /sessions/{session}/work` | [`Work`] | 202 [`Progress`]: where that attempt stands |
//! | `GET /sessions/{session}/job/status` | – | 200 [`JobStatus`] |
//! | `POST /sessions/{session}/job/abort` | – | 200 `{"status":"aborted"}`; 404 if nothing of the session runs here |
//! | `POST /sessions/{session}/stop` | – | 200 `{"status":"stopped"}`: ends the agent server, keeps the disk |
//!
//! Every call but `/health` carries `Authorization: Bearer <HOLDFAST_SANDBOX_TOKEN>`. Errors are [`ApiError`].
//!
//! `POST …/work` is idempotent by `attempt`: a known attempt answers its state and starts nothing; a newer one replaces
//! an older one that has not ended. Every step, and the outcome, is also sent as a [`Progress`] to [`ReportTo::url`] until it is
//! answered with 2xx (retried with backoff) or 404/409/410 (nobody wants it any more).

use crate::id::BranchName;
use crate::id::ExecutionId;
use crate::id::KiloSessionId;
use crate::id::MessageId;
use crate::id::SessionId;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The port that a container listens on, as containers see it.
pub const CONTAINER_PORT: u16 = 8080;

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
}

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
    /// The agent: `code`, `plan` or `custom`.
    pub agent: String,
    /// The caller's model name; used when the provider is `kilo`.
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

/// How far an attempt is. Sent at least once each, in the order of `n`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Progress {
    /// The attempt.
    pub attempt: u64,
    /// Numbers the reports of the attempt, from 1. 0 in an answer: nothing has happened yet.
    pub n: u64,
    /// What is being done.
    pub step: Step,
    /// For a person.
    pub message: String,
    /// Set on the last report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// The steps of a preparation, as viewers see them (spec/session.md 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Branch,
    Cloning,
    DiskCheck,
    Failed,
    KiloServer,
    KiloSession,
    Ready,
    SetupCommands,
    WorkspaceSetup,
}

impl Step {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Branch => "branch",
            Step::Cloning => "cloning",
            Step::DiskCheck => "disk_check",
            Step::Failed => "failed",
            Step::KiloServer => "kilo_server",
            Step::KiloSession => "kilo_session",
            Step::Ready => "ready",
            Step::SetupCommands => "setup_commands",
            Step::WorkspaceSetup => "workspace_setup",
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The workspace is ready, and the agent took the prompt if there was one.
    Done {
        /// The branch that is checked out.
        branch: String,
        /// How the conversation was found.
        resume: Resume,
    },
    /// It will not work this way.
    Failed {
        /// `WORKSPACE_SETUP_FAILED`, `KILO_SERVER_FAILED`, `WRAPPER_START_FAILED` …
        code: String,
        /// For a person; holds no secret.
        message: String,
        /// Whether the same plan could succeed later.
        retryable: bool,
    },
}

/// How the conversation was found when work started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// A new, empty agent session.
    Fresh,
    /// From a snapshot, into a new container.
    Replayed,
    /// The agent's own storage was still there.
    Resumed,
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

/// A value that must not reach a log: `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Secret {
    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_pinned() {
        let progress = Progress {
            attempt: 2,
            n: 5,
            step: Step::Failed,
            message: "m".into(),
            outcome: Some(Outcome::Failed { code: "C".into(), message: "m".into(), retryable: false }),
        };
        assert_eq!(
            serde_json::to_string(&progress).unwrap(),
            r#"{"attempt":2,"n":5,"step":"failed","message":"m","outcome":{"type":"failed","code":"C","message":"m","retryable":false}}"#
        );
    }

    #[test]
    fn step_names_agree_with_serde() {
        for step in [
            Step::Branch,
            Step::Cloning,
            Step::DiskCheck,
            Step::Failed,
            Step::KiloServer,
            Step::KiloSession,
            Step::Ready,
            Step::SetupCommands,
            Step::WorkspaceSetup,
        ] {
            assert_eq!(serde_json::to_string(&step).unwrap(), format!("\"{}\"", step.as_str()));
        }
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "[secret]");
    }
}
