//! What `sandboxd session` reports of an attempt: its steps, and how it ended.

use serde::Deserialize;
use serde::Serialize;

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

impl Resume {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Resume::Fresh => "fresh",
            Resume::Replayed => "replayed",
            Resume::Resumed => "resumed",
        }
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
    fn resume_names_agree_with_serde() {
        for resume in [Resume::Fresh, Resume::Replayed, Resume::Resumed] {
            assert_eq!(serde_json::to_string(&resume).unwrap(), format!("\"{}\"", resume.as_str()));
        }
    }
}
