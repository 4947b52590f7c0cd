//! `sandboxd restore`: puts an exported session back into the agent's storage and its file changes into a workspace
//! (spec/session.md 8.8).
//!
//! The input is deleted in every case, a given `--file` too: it holds a conversation that nobody else is to find. What came of
//! it is one line of JSON, so that another program can run this one.

pub mod diffs;
pub mod export;
pub mod slim;

use crate::session::config::find_program;
use crate::session::kilo::import::ImportError;
use crate::session::kilo::import::Importer;
use crate::session::limits;
use crate::session::redact::Redactor;
use crate::session::transfer;
use diffs::Applied;
use export::ExportError;
use protocol::id::KiloSessionId;
use protocol::sandbox::Secret;
use serde::Serialize;
use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to restore.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The export. None: it is downloaded.
    pub file: Option<PathBuf>,
    /// The agent's session.
    pub session: String,
    /// Where its files are.
    pub workspace: PathBuf,
}

/// What is printed.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Report {
    Failed { ok: bool, error: String, code: Option<i32>, step: &'static str },
    Restored { ok: bool, downloaded: bool, imported: bool, diffs: Applied },
}

/// Why a session was not restored, by step.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error("{0}")]
    Diffs(ExportError),
    #[error("{message}")]
    Download { message: String, code: Option<i32> },
    #[error("{message}")]
    Import { message: String, code: Option<i32> },
}

impl RestoreError {
    fn report(&self) -> Report {
        let (step, code) = match self {
            RestoreError::Diffs(_) => ("diffs", None),
            RestoreError::Download { code, .. } => ("download", *code),
            RestoreError::Import { code, .. } => ("import", *code),
        };
        Report::Failed { ok: false, error: self.to_string(), code, step }
    }

    fn download(message: impl ToString) -> Self {
        RestoreError::Download { message: message.to_string(), code: None }
    }

    fn import(message: impl ToString) -> Self {
        RestoreError::Import { message: message.to_string(), code: None }
    }
}

impl From<ImportError> for RestoreError {
    fn from(error: ImportError) -> Self {
        RestoreError::Import { message: format!("kilo import failed: {}", error.message), code: error.code }
    }
}

/// Restores, and says so in one line on standard output. Fails if it was not restored.
pub async fn run(options: Options) -> ExitCode {
    let (report, exit) = match restore(options).await {
        Ok(report) => (report, ExitCode::SUCCESS),
        Err(error) => (error.report(), ExitCode::FAILURE),
    };
    println!("{}", serde_json::to_string(&report).unwrap_or_default());
    exit
}

async fn restore(options: Options) -> Result<Report, RestoreError> {
    let downloaded = options.file.is_none();
    // From here on it goes with this function, whichever way that ends.
    let given = options.file.map(Input);
    let session = KiloSessionId::parse(&options.session).map_err(RestoreError::import)?;
    let input = match given {
        Some(input) => input,
        None => download(&session).await?,
    };
    let (file, checked) = (input.0.clone(), session.clone());
    let check = in_background(move || export::check(&file, &checked)).await;
    check.map_err(|error| if downloaded { RestoreError::download(error) } else { RestoreError::import(error) })?;

    let path = env::var("PATH").unwrap_or_default();
    let kilo = find_program(&path, "kilo").ok_or_else(|| RestoreError::import("there is no `kilo` on PATH"))?;
    let workspace =
        options.workspace.canonicalize().map_err(|error| RestoreError::import(format!("the workspace: {error}")))?;
    // Whoever runs this tool has set up the agent's home and configuration for it.
    let environment =
        env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let importer = Importer {
        kilo: &kilo,
        environment: &environment.collect(),
        workspace: &workspace,
        redactor: &Redactor::new(token().iter()),
    };
    importer.import(&input.0).await?;
    let file = input.0.clone();
    let diffs = in_background(move || export::diffs(&file).map(|diffs| diffs::apply(&workspace, &diffs))).await;
    Ok(Report::Restored { ok: true, downloaded, imported: true, diffs: diffs.map_err(RestoreError::Diffs)? })
}

/// Fetches the export of `session` from the service that keeps it.
async fn download(session: &KiloSessionId) -> Result<Input, RestoreError> {
    let missing = |name: &str| RestoreError::download(format!("missing env vars: {name}"));
    let base = env::var("KILO_SESSION_INGEST_URL").map_err(|_| missing("KILO_SESSION_INGEST_URL"))?;
    let token = token().ok_or_else(|| missing("KILOCODE_TOKEN"))?;
    let root = PathBuf::from(env::var("HOLDFAST_ROOT").unwrap_or_else(|_| "/".to_owned()));
    let folder = root.join("tmp");
    fs::create_dir_all(&folder).map_err(RestoreError::download)?;
    let input = Input(folder.join(format!("kilo-session-export-{session}.json")));
    // A link that somebody put there is not written through.
    let _ = fs::remove_file(&input.0);
    let url = format!("{}/api/session/{session}/export", base.trim_end_matches('/'));
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
    let call = http.map_err(RestoreError::download)?.get(url).bearer_auth(token.expose());
    let got = transfer::get(call.timeout(limits::RESTORE_DOWNLOAD_TIMEOUT), &input.0, limits::EXPORT_BYTES_MAX).await;
    match got {
        Ok(true) => Ok(input),
        Ok(false) => Err(RestoreError::Download { message: "snapshot not found (404)".into(), code: Some(404) }),
        Err(error) => Err(RestoreError::Download { message: error.to_string(), code: error.status().map(i32::from) }),
    }
}

fn token() -> Option<Secret> {
    env::var("KILOCODE_TOKEN").ok().filter(|token| !token.is_empty()).map(Secret)
}

/// A file that is deleted when nobody needs it any more.
struct Input(PathBuf);

impl Drop for Input {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Reading a large file must not stop what else this thread does.
pub async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExportError> + Send + 'static,
) -> Result<T, ExportError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_pinned() {
        let restored = Report::Restored {
            ok: true,
            downloaded: false,
            imported: true,
            diffs: Applied { applied: 1, skipped: 2, total: 3 },
        };
        assert_eq!(
            serde_json::to_string(&restored).unwrap(),
            r#"{"ok":true,"downloaded":false,"imported":true,"diffs":{"applied":1,"skipped":2,"total":3}}"#
        );
        let failed = RestoreError::Download { message: "m".into(), code: Some(404) }.report();
        assert_eq!(serde_json::to_string(&failed).unwrap(), r#"{"ok":false,"error":"m","code":404,"step":"download"}"#);
    }
}
