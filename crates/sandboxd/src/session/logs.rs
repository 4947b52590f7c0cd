//! An execution's logs outside of this container (spec/session.md 8.9): every 30 s while it runs, and once more when all of its end is in them. A
//! container that ends waits for that one, but not for long.
//!
//! A gzipped tar of the ends of the agent server's log files and of what sandboxd itself said of the session. One upload at a time; what
//! fails is logged, and the next one has more to say anyway.

use super::command::whole_lines;
use super::limits;
use super::paths::SessionPaths;
use super::redact::Redactor;
use super::state::Session;
use crate::log;
use flate2::Compression;
use flate2::write::GzEncoder;
use protocol::id::ExecutionId;
use protocol::sandbox::LOGS_BYTES_MAX;
use protocol::sandbox::Secret;
use serde_json::json;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::task::JoinSet;

/// Where they are put.
pub struct Destination {
    /// For `PUT`.
    pub url: String,
    /// The bearer.
    pub token: Secret,
}

/// The executions of one session whose logs are being put away.
#[derive(Default)]
pub struct Followed(Mutex<JoinSet<()>>);

impl Followed {
    /// Puts the logs of `execution` there until it has ended.
    pub fn add(&self, session: Arc<Session>, execution: ExecutionId, to: Destination, redactor: Redactor) {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while followed.try_join_next().is_some() {}
        followed.spawn(follow(session, execution, to, redactor));
    }

    /// Waits for the last uploads of executions that have ended.
    pub async fn finish(&self) {
        let mut followed = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while followed.join_next().await.is_some() {} };
        if tokio::time::timeout(limits::LOGS_SHUTDOWN_TIMEOUT, all).await.is_err() {
            log::warn("session", "logs_not_kept", json!({ "error": "there was no time left" }));
        }
    }
}

async fn follow(session: Arc<Session>, execution: ExecutionId, to: Destination, redactor: Redactor) {
    let mut end = pin!(async {
        session.wait_for_end_of(&execution).await;
        // What is said after the last word: that it was delivered, and the turn ended.
        session.wait_until_idle(limits::LOGS_END_WAIT).await;
    });
    loop {
        let ended = tokio::select! {
            () = &mut end => true,
            () = tokio::time::sleep(limits::LOGS_INTERVAL) => false,
        };
        if let Err(error) = put(&session, &execution, &to, &redactor).await {
            let fields = json!({ "sessionId": session.id, "executionId": execution, "error": error.to_string() });
            log::warn("session", "logs_not_kept", fields);
        }
        if ended {
            return;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LogsError {
    #[error("the answer was {0}")]
    Answer(reqwest::StatusCode),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the archive has {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Transport(reqwest::Error),
}

async fn put(
    session: &Session,
    execution: &ExecutionId,
    to: &Destination,
    redactor: &Redactor,
) -> Result<(), LogsError> {
    let own = log::recent(&[session.id.as_str(), execution.as_str()]);
    let (paths, redactor) = (session.paths.clone(), redactor.clone());
    let packed = tokio::task::spawn_blocking(move || pack(&paths, &own, &redactor));
    let archive = packed.await.map_err(io::Error::other)??;
    if u64::try_from(archive.len()).unwrap_or(u64::MAX) > LOGS_BYTES_MAX {
        return Err(LogsError::TooLarge(archive.len()));
    }
    let call = session.shared.http.put(&to.url).bearer_auth(to.token.expose()).timeout(limits::LOGS_TIMEOUT);
    let answer = call.body(archive).send().await.map_err(|error| LogsError::Transport(error.without_url()))?;
    if answer.status().is_success() { Ok(()) } else { Err(LogsError::Answer(answer.status())) }
}

/// The archive. What is not there is left out.
fn pack(paths: &SessionPaths, own: &str, redactor: &Redactor) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for file in newest(&paths.agent_logs()) {
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
        let Ok(text) = end_of(&file) else { continue };
        add(&mut archive, &format!("kilo/{name}"), &redactor.clean(&text))?;
    }
    add(&mut archive, "wrapper.log", &redactor.clean(own))?;
    archive.into_inner()?.finish()
}

fn add(archive: &mut tar::Builder<impl io::Write>, name: &str, text: &str) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(text.len()).unwrap_or(u64::MAX));
    header.set_mode(0o600);
    archive.append_data(&mut header, name, text.as_bytes())
}

/// The files of a folder that were written to last. Links are not followed.
fn newest(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((found.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort_by(|one, other| other.cmp(one));
    files.into_iter().map(|(_, file)| file).take(limits::LOG_FILES_MAX).collect()
}

fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(limits::LOG_FILE_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(limits::LOG_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(if start > 0 { whole_lines(&text).to_owned() } else { text.into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use protocol::id::SessionId;

    fn unpack(archive: &[u8]) -> Vec<(String, String)> {
        let mut archive = tar::Archive::new(GzDecoder::new(archive));
        let read = |entry: io::Result<tar::Entry<'_, GzDecoder<&[u8]>>>| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().to_str().unwrap().to_owned(), text)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn the_ends_of_the_newest_logs_are_packed_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let id = SessionId::parse("agent_01234567-89ab-cdef-0123-456789abcdef").unwrap();
        let paths = SessionPaths::new(folder.path(), &id);
        let empty = pack(&paths, "", &Redactor::default()).unwrap();
        assert_eq!(unpack(&empty), [("wrapper.log".to_owned(), String::new())]);

        let logs = paths.agent_logs();
        fs::create_dir_all(&logs).unwrap();
        fs::write(logs.join("a.log"), "it said hunter2").unwrap();
        let bound = usize::try_from(limits::LOG_FILE_BYTES_MAX).unwrap();
        // The cut goes through the secret.
        let end = format!("ter2\n{}", "x".repeat(bound - 5));
        fs::write(logs.join("big.log"), format!("begin hun{end}")).unwrap();
        fs::write(folder.path().join("elsewhere"), "not a log").unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), logs.join("link.log")).unwrap();
        let redactor = Redactor::new(&[Secret("hunter2".to_owned())]);
        let mut entries = unpack(&pack(&paths, "own hunter2", &redactor).unwrap());
        entries.sort();
        let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["kilo/a.log", "kilo/big.log", "wrapper.log"]);
        assert_eq!((entries[0].1.as_str(), entries[2].1.as_str()), ("it said [redacted]", "own [redacted]"));
        assert_eq!(entries[1].1, "x".repeat(bound - 5));
    }

    #[tokio::test]
    async fn uploads_that_hang_are_not_waited_for_for_long() {
        let followed = Followed::default();
        followed.0.lock().unwrap().spawn(std::future::pending());
        tokio::time::timeout(4 * limits::LOGS_SHUTDOWN_TIMEOUT, followed.finish()).await.unwrap();
    }

    #[test]
    fn many_logs_are_not_too_many() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..20 {
            fs::write(folder.path().join(n.to_string()), "x").unwrap();
        }
        assert_eq!(newest(folder.path()).len(), limits::LOG_FILES_MAX);
    }
}
