//! Puts an agent session under the id that was promised before any container existed into the agent's storage.

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
use std::path::Path;
use tokio::process::Command;

/// Whether the agent's storage in this home holds `session` already.
pub fn is_imported(paths: &SessionPaths, session: &KiloSessionId) -> bool {
    fs::read_to_string(paths.imported()).is_ok_and(|text| text == session.as_str())
}

/// Forgets what [`is_imported`] knows: the server says otherwise.
pub fn forget(paths: &SessionPaths) {
    let _ = fs::remove_file(paths.imported());
}

/// Imports an empty session. Importing twice does no harm.
pub async fn import_empty(
    kilo: &Path,
    environment: &Environment,
    paths: &SessionPaths,
    session: &KiloSessionId,
    redactor: &Redactor,
) -> Result<(), WorkError> {
    let file = paths.own.join(format!("empty-{session}.json"));
    fs::write(&file, empty_session(session).to_string()).map_err(WorkError::Workspace)?;
    let result = import(kilo, environment, paths, &file, redactor).await;
    let _ = fs::remove_file(&file);
    result?;
    fs::write(paths.imported(), session.as_str()).map_err(WorkError::Workspace)
}

async fn import(
    kilo: &Path,
    environment: &Environment,
    paths: &SessionPaths,
    file: &Path,
    redactor: &Redactor,
) -> Result<(), WorkError> {
    let mut command = Command::new(kilo);
    command.arg("import").arg(file).current_dir(&paths.workspace);
    command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    match command::run(command, limits::IMPORT_TIMEOUT).await {
        Ok(finished) if finished.succeeded() => Ok(()),
        Ok(finished) => {
            let code = finished.code.unwrap_or(-1);
            Err(WorkError::Import(redactor.clean(&format!("exit {code}{}", command::quote(&finished.tail)))))
        }
        Err(error) => Err(WorkError::Import(redactor.clean(&error.to_string()))),
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
