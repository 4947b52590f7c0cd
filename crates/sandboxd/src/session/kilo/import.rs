//! Puts an agent session into the agent's storage: the one way in, for an empty one under the id that was promised before any
//! container existed, and for one that was exported elsewhere.

use super::environment::Environment;
use crate::clock::now_ms;
use crate::session::command;
use crate::session::error::WorkError;
use crate::session::limits;
use crate::session::paths::SessionPaths;
use crate::session::redact::Redactor;
use protocol::id::KiloSessionId;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io;
use std::path::Path;
use tokio::process::Command;

/// What an import needs.
pub struct Importer<'a> {
    /// The agent's program.
    pub kilo: &'a Path,
    /// Names the home whose storage is meant, and configures the agent.
    pub environment: &'a Environment,
    /// The folder that the session is about from now on.
    pub workspace: &'a Path,
    /// For what the program says when it fails.
    pub redactor: &'a Redactor,
}

/// `kilo import` did not take the file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct ImportError {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// What it said.
    pub message: String,
}

impl Importer<'_> {
    /// Imports the session that `file` holds. Importing twice does no harm.
    pub async fn import(&self, file: &Path) -> Result<(), ImportError> {
        let mut command = Command::new(self.kilo);
        command.arg("import").arg(file).current_dir(self.workspace);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        let (code, message) = match command::run(command, limits::IMPORT_TIMEOUT).await {
            Ok(finished) if finished.succeeded() => return Ok(()),
            Ok(finished) => {
                let code = finished.code.unwrap_or(-1);
                (finished.code, format!("exit {code}{}", command::quote(&finished.tail)))
            }
            Err(error) => (None, error.to_string()),
        };
        Err(ImportError { code, message: self.redactor.clean(&message) })
    }

    /// Imports an empty session of this id.
    pub async fn import_empty(&self, paths: &SessionPaths, session: &KiloSessionId) -> Result<(), WorkError> {
        let file = paths.own.join(format!("empty-{session}.json"));
        fs::write(&file, empty_session(session).to_string()).map_err(WorkError::Workspace)?;
        let result = self.import(&file).await;
        let _ = fs::remove_file(&file);
        result.map_err(|error| WorkError::Import(error.message))
    }
}

/// Whether the agent's storage in this home holds `session` already.
pub fn is_imported(paths: &SessionPaths, session: &KiloSessionId) -> bool {
    fs::read_to_string(paths.imported()).is_ok_and(|text| text == session.as_str())
}

/// Remembers what [`is_imported`] is asked.
pub fn remember(paths: &SessionPaths, session: &KiloSessionId) -> Result<(), WorkError> {
    fs::write(paths.imported(), session.as_str()).map_err(WorkError::Workspace)
}

/// From here on nothing is imported.
pub fn forget(paths: &SessionPaths) -> Result<(), WorkError> {
    match fs::remove_file(paths.imported()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WorkError::Workspace(error)),
        _ => Ok(()),
    }
}

/// The smallest session that `kilo import` takes; it fills in project and directory itself.
fn empty_session(session: &KiloSessionId) -> Value {
    let now_ms = now_ms();
    json!({
        "info": {
            "id": session,
            "slug": "",
            "projectID": "",
            "directory": "",
            "title": "",
            "version": "2",
            "time": { "created": now_ms, "updated": now_ms },
        },
        "messages": [],
    })
}
