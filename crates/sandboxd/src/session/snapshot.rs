//! The conversation outside of this container: the agent session's export, gzipped, put where the plan says and fetched back.
//!
//! The agent's program writes the export to a file, not to a pipe: it ends with exit code 0 before a slow reader has read more than
//! the first 64 KiB. Every file is below the session's own folder and is gone when the call is over.

use super::command;
use super::command::CommandError;
use super::kilo::import::Importer;
use super::limits;
use super::paths::SessionPaths;
use super::reap;
use super::restore::export;
use super::restore::export::ExportError;
use super::restore::in_background;
use super::restore::slim;
use super::transfer;
use super::transfer::TransferError;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use protocol::id::KiloSessionId;
use protocol::sandbox::SNAPSHOT_BYTES_MAX;
use protocol::sandbox::Secret;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;

/// How often a growing export is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Where a session's snapshot is kept, and the right to it.
#[derive(Clone)]
pub struct Store {
    /// Calls out.
    pub http: reqwest::Client,
    /// For `PUT` and `GET`.
    pub url: String,
    /// The bearer.
    pub token: Secret,
}

/// Why there is no snapshot, or none came back.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// `kilo export` failed.
    #[error("kilo export failed: {0}")]
    Agent(String),
    /// What it wrote, or what was kept, is not the session.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// It could not be moved.
    #[error("the snapshot's store: {0}")]
    Transfer(#[from] TransferError),
    /// Nobody would take it.
    #[error("the compressed export has {bytes} bytes; at most {bytes_max} are kept")]
    TooLarge {
        /// What it has.
        bytes: u64,
        /// What is taken.
        bytes_max: u64,
    },
}

impl SnapshotError {
    /// Whether the same call could succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, SnapshotError::Transfer(error) if error.is_passing())
    }
}

/// What was put into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its size, compressed.
    pub bytes: u64,
    /// Files shown to the agent that are not in it, because it would have been too large.
    pub files_left_out: u64,
}

/// Exports the agent session, compresses it, and puts it into the store, which takes `bytes_max` of it.
pub async fn save(
    agent: &Importer<'_>,
    paths: &SessionPaths,
    session: &KiloSessionId,
    store: &Store,
    bytes_max: u64,
) -> Result<Saved, SnapshotError> {
    let (plain, packed) = (Scratch::new(paths.export()), Scratch::new(paths.snapshot()));
    write_export(agent, session, &plain.0).await?;
    let (from, to, id) = (plain.0.clone(), packed.0.clone(), session.clone());
    let saved = in_background(move || pack_what_fits(&from, &to, &id, bytes_max)).await?;
    drop(plain);
    if saved.bytes > bytes_max {
        return Err(SnapshotError::TooLarge { bytes: saved.bytes, bytes_max });
    }
    let call = store.http.put(&store.url).bearer_auth(store.token.expose()).timeout(limits::SNAPSHOT_TRANSFER_TIMEOUT);
    transfer::put(call, &packed.0).await?;
    Ok(saved)
}

/// Compresses an export; without its files, if it is more than `bytes_max` with them. What is then still too large is for the caller to see.
fn pack_what_fits(plain: &Path, packed: &Path, session: &KiloSessionId, bytes_max: u64) -> Result<Saved, ExportError> {
    if plain.metadata()?.len() <= limits::EXPORT_BYTES_MAX {
        export::check(plain, session)?;
        let bytes = pack(plain, packed)?;
        if bytes <= bytes_max {
            return Ok(Saved { bytes, files_left_out: 0 });
        }
        std::fs::remove_file(packed)?;
    }
    let slim = Scratch::new(plain.with_extension("slim"));
    slim::without_files(plain, create(&slim.0)?)?;
    let files_left_out = export::check(&slim.0, session)?;
    Ok(Saved { bytes: pack(&slim.0, packed)?, files_left_out })
}

/// The export of an agent session, fetched from the store.
pub struct Fetched {
    /// For `kilo import`.
    pub export: Scratch,
    /// Files shown to the agent that are not in it.
    pub files_left_out: u64,
}

/// Fetches the export of the agent session; None if nothing is kept.
pub async fn fetch(
    paths: &SessionPaths,
    session: &KiloSessionId,
    store: &Store,
) -> Result<Option<Fetched>, SnapshotError> {
    let (plain, packed) = (Scratch::new(paths.export()), Scratch::new(paths.snapshot()));
    let call = store.http.get(&store.url).bearer_auth(store.token.expose()).timeout(limits::SNAPSHOT_TRANSFER_TIMEOUT);
    if !transfer::get(call, &packed.0, SNAPSHOT_BYTES_MAX).await? {
        return Ok(None);
    }
    let (from, to, id) = (packed.0.clone(), plain.0.clone(), session.clone());
    let files_left_out = in_background(move || {
        unpack(&from, &to)?;
        export::check(&to, &id)
    })
    .await?;
    Ok(Some(Fetched { export: plain, files_left_out }))
}

/// A file that goes with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    fn new(path: PathBuf) -> Self {
        // What a killed process left.
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn write_export(agent: &Importer<'_>, session: &KiloSessionId, target: &Path) -> Result<(), SnapshotError> {
    let mut command = Command::new(agent.kilo);
    command.arg("export").arg(session.as_str()).current_dir(agent.workspace);
    // Without the mark: what is ended with the session is not what is being kept of it.
    let environment = agent.environment.iter().filter(|(name, _)| name != reap::MARK);
    command.env_clear().envs(environment.map(|(name, value)| (name, value)));
    let output = create(target).map_err(ExportError::from)?;
    let too_large = async {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            if target.metadata().is_ok_and(|found| found.len() > limits::AGENT_EXPORT_BYTES_MAX) {
                return;
            }
        }
    };
    let ended = tokio::select! {
        ended = command::run_into(command, output.into(), limits::EXPORT_TIMEOUT) => ended,
        () = too_large => return Err(ExportError::TooLarge.into()),
    };
    let trouble = match ended {
        Ok(finished) if finished.succeeded() => return Ok(()),
        Ok(finished) => format!("exit {}{}", finished.code.unwrap_or(-1), command::quote(&finished.tail)),
        Err(error @ (CommandError::Start(_) | CommandError::Timeout { .. })) => error.to_string(),
    };
    Err(SnapshotError::Agent(agent.redactor.clean(&trouble)))
}

/// Compresses a file into a new one.
pub fn pack(from: &Path, to: &Path) -> Result<u64, ExportError> {
    let mut packed = GzEncoder::new(create(to)?, Compression::fast());
    io::copy(&mut File::open(from)?, &mut packed)?;
    Ok(packed.finish()?.metadata()?.len())
}

/// The reverse. A small file can hold a very large one: no more is written than is taken.
pub fn unpack(from: &Path, to: &Path) -> Result<(), ExportError> {
    let bytes_max = limits::EXPORT_BYTES_MAX;
    let mut plain = GzDecoder::new(BufReader::new(File::open(from)?)).take(bytes_max.saturating_add(1));
    if io::copy(&mut plain, &mut create(to)?)? > bytes_max {
        return Err(ExportError::TooLarge);
    }
    Ok(())
}

/// A new file that nobody else may read.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_that_is_too_large_goes_without_its_files_and_one_that_is_not_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("export.json"), folder.path().join("packed"));
        let session = KiloSessionId::parse("ses_0123456789abABCDEFGHIJKLMN").unwrap();
        let noise: String =
            (0..9_000_u32).map(|n| char::from(b'!' + (n.wrapping_mul(2_654_435_761) >> 26) as u8)).collect();
        let noise = noise.replace(['"', '\\'], "x");
        let file = serde_json::json!({ "type": "file", "url": format!("data:image/png;base64,{noise}") });
        let export = serde_json::json!({ "info": { "id": session }, "messages": [{ "parts": [file] }] });
        std::fs::write(&plain, export.to_string()).unwrap();
        let packed_with = |bytes_max: u64| {
            let _ = std::fs::remove_file(&packed);
            let saved = pack_what_fits(&plain, &packed, &session, bytes_max).unwrap();
            assert_eq!(saved.bytes, packed.metadata().unwrap().len());
            saved
        };
        let whole = packed_with(u64::MAX);
        assert_eq!(whole.files_left_out, 0);
        assert_eq!(packed_with(whole.bytes), whole);
        let slim = packed_with(whole.bytes - 1);
        assert!(slim.files_left_out == 1 && slim.bytes < 1_000, "{slim:?}");
        // What is too large without files, too, is for the caller to refuse.
        assert!(packed_with(1).bytes > 1);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_was_packed_comes_out_again_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), "text ".repeat(100_000)).unwrap();
        assert!(pack(&at("plain"), &at("packed")).unwrap() < 5_000);
        unpack(&at("packed"), &at("again")).unwrap();
        assert_eq!(std::fs::read(at("plain")).unwrap(), std::fs::read(at("again")).unwrap());

        let mut bytes = std::fs::read(at("packed")).unwrap();
        bytes.truncate(bytes.len() / 2);
        std::fs::write(at("half"), bytes).unwrap();
        assert!(unpack(&at("half"), &at("damaged")).is_err());
    }
}
