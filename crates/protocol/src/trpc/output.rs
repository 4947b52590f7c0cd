//! The outputs of the procedures. None of them ever holds a secret.

use super::parts::Platform;
use serde::Deserialize;
use serde::Serialize;

/// `prepareSession`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    pub cloud_agent_session_id: String,
    pub kilo_session_id: String,
}

/// `initiateFromKilocodeSessionV2` and `sendMessageV2`: the turn has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    pub cloud_agent_session_id: String,
    pub execution_id: String,
    /// `started`
    pub status: String,
    pub stream_url: String,
}

/// `interruptSession`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interrupted {
    pub success: bool,
    pub message: String,
    /// Whether an agent was running.
    pub processes_found: bool,
}

/// `getSession` (spec/session.md 2.9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    pub session_id: String,
    pub kilo_session_id: String,
    pub user_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    pub sandbox_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github_repo: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    pub prompt: String,
    pub mode: String,
    pub model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    pub auto_commit: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_branch: Option<String>,
    pub env_var_count: usize,
    pub setup_command_count: usize,
    pub mcp_server_count: usize,
    /// The active execution, or null.
    pub execution: Option<ExecutionView>,
    /// The newest execution, whether active or ended, or null.
    pub last_execution: Option<ExecutionView>,
    /// Callbacks that were not delivered yet, or were given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callbacks: Vec<CallbackView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiated_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_message_id: Option<String>,
    pub timestamp: i64,
    pub version: i64,
}

/// One execution, as a front end sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionView {
    pub id: String,
    pub status: String,
    pub started_at: i64,
    pub last_heartbeat: Option<i64>,
    pub process_id: Option<String>,
    pub error: Option<String>,
    /// `healthy`, `unknown` or `stale`.
    pub health: String,
    /// How the conversation was found when it started: `resumed`, `replayed` or `fresh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
}

/// A callback that is owed, or a dead letter. Where it goes is not shown: its URL and headers may hold credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallbackView {
    pub execution_id: String,
    pub attempts: i64,
    /// Why it was given up; absent while it is still tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
}
