//! Why work could not be done, and how that is told: one enum, stable codes, one place that makes an outcome of it.

use super::git::GitError;
use super::git::GitUrlError;
use super::images::ImageError;
use super::limits;
use super::snapshot::SnapshotError;
use protocol::id::ExecutionId;
use protocol::id::MessageId;
use protocol::sandbox::Outcome;
use std::fmt;
use std::io;

/// Why an attempt is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// `job/abort`, or a kill by the object.
    Aborted,
    /// A newer attempt came.
    Replaced,
    /// The container is about to end.
    ShutDown,
    /// `stop`.
    Stopped,
}

impl fmt::Display for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cancel::Aborted => "Aborted",
            Cancel::Replaced => "Replaced by a newer attempt",
            Cancel::ShutDown => "The container was shut down",
            Cancel::Stopped => "Stopped",
        })
    }
}

/// Why an attempt failed. The texts are for people and hold no secrets.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The agent server did not come up.
    #[error("Kilo server did not start: {0}")]
    AgentServer(String),
    /// One execution at a time.
    #[error("Execution {0} is still running")]
    Busy(ExecutionId),
    /// Somebody did not want it any more.
    #[error("{0} before the agent took the prompt")]
    Cancelled(Cancel),
    /// The disk cannot be looked at.
    #[error("Disk check failed: {0}")]
    Disk(String),
    /// Nothing can be cloned.
    #[error("Disk is full: {free_mb} MB free, {} MB are needed", limits::DISK_FREE_MIN_MB)]
    DiskFull {
        /// What is free.
        free_mb: u64,
    },
    /// A git command failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The plan's URL cannot be cloned.
    #[error(transparent)]
    GitUrl(#[from] GitUrlError),
    /// The prompt shows what is not there.
    #[error("Image {file} could not be fetched: {reason}")]
    Image {
        /// Its name.
        file: String,
        /// What went wrong.
        reason: ImageError,
    },
    /// `kilo import` failed.
    #[error("Session import failed ({0})")]
    Import(String),
    /// The ingest socket could not be opened.
    #[error("Ingest connection failed: {0}")]
    Ingest(String),
    /// The upstream branch is not there.
    #[error("Branch {0} does not exist on the remote")]
    NoSuchBranch(String),
    /// The agent did not take the prompt.
    #[error("Prompt was not taken: {0}")]
    Prompt(String),
    /// The message ran, or began to, in an execution that is over.
    #[error("Message {0} was handed to the agent before")]
    PromptedBefore(MessageId),
    /// Another process has the session.
    #[error("Another process on this disk owns the session")]
    Owned,
    /// A setup command failed.
    #[error("Setup command {number} (`{command}`) {reason}")]
    SetupCommand {
        /// From 1.
        number: usize,
        /// As given.
        command: String,
        /// Exit code and last lines, or the timeout.
        reason: String,
    },
    /// Whether there is a conversation to go on with is not known.
    #[error("The session's snapshot could not be fetched: {0}")]
    Snapshot(SnapshotError),
    /// The container is full.
    #[error("This container already runs {} agent servers, and all of them are at work", limits::MAX_AGENT_SERVERS)]
    TooManyAgents,
    /// Folders or files could not be made.
    #[error("Workspace setup failed: {0}")]
    Workspace(io::Error),
}

impl WorkError {
    /// The stable code (spec/session.md 8.1).
    pub fn code(&self) -> &'static str {
        match self {
            WorkError::AgentServer(_) | WorkError::Import(_) | WorkError::Snapshot(_) => "KILO_SERVER_FAILED",
            WorkError::Image { .. } => "IMAGE_UNAVAILABLE",
            WorkError::Owned | WorkError::TooManyAgents => "SANDBOX_CONNECT_FAILED",
            WorkError::Busy(_)
            | WorkError::Cancelled(_)
            | WorkError::Ingest(_)
            | WorkError::Prompt(_)
            | WorkError::PromptedBefore(_) => "WRAPPER_START_FAILED",
            WorkError::Disk(_)
            | WorkError::DiskFull { .. }
            | WorkError::Git(_)
            | WorkError::GitUrl(_)
            | WorkError::NoSuchBranch(_)
            | WorkError::SetupCommand { .. }
            | WorkError::Workspace(_) => "WORKSPACE_SETUP_FAILED",
        }
    }

    /// Whether the same plan could succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            // Another container can do it.
            WorkError::Cancelled(cancel) => *cancel == Cancel::ShutDown,
            WorkError::Git(error) => error.is_passing(),
            WorkError::Image { reason, .. } => reason.is_passing(),
            WorkError::Snapshot(error) => error.is_passing(),
            WorkError::AgentServer(_)
            | WorkError::Busy(_)
            | WorkError::Disk(_)
            | WorkError::DiskFull { .. }
            | WorkError::Import(_)
            | WorkError::Ingest(_)
            | WorkError::Owned
            | WorkError::TooManyAgents => true,
            WorkError::GitUrl(_)
            | WorkError::NoSuchBranch(_)
            | WorkError::Prompt(_)
            | WorkError::PromptedBefore(_)
            | WorkError::SetupCommand { .. }
            | WorkError::Workspace(_) => false,
        }
    }

    /// What is reported.
    pub fn outcome(&self) -> Outcome {
        Outcome::Failed { code: self.code().to_owned(), message: self.to_string(), retryable: self.is_retryable() }
    }
}
