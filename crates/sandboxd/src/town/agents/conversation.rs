//! An agent's conversation outside of this container (spec/town.md 6.8): the export of its session, gzipped, at the town.
//!
//! It is the agent server's own answer about the session, not its database: copying a database that is being written needs its write-ahead
//! log folded in, and one version of the server cannot read another's; an export is one HTTP call, is whole, and is read by every later version.
//!
//! The session's title is the branch that it was about. So a conversation is continued by whoever goes on with that branch, and by nobody else.

use super::talk::Talk;
use crate::clock::now_ms;
use crate::log;
use crate::session::snapshot::pack;
use crate::session::snapshot::unpack;
use crate::town::home::Home;
use crate::town::home::Place;
use crate::town::limits::FROZEN_CONVERSATION_TIMEOUT;
use protocol::id::KiloSessionId;
use protocol::sandbox::SNAPSHOT_BYTES_MAX;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use std::fs;
use std::fs::DirBuilder;
use std::io;
use std::io::BufReader;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

const ROLE: &str = "town";

/// A folder of its own that goes with its owner.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder in `parent`, which nobody else may read.
    pub fn new(parent: &Path) -> io::Result<Self> {
        let path = parent.join(format!("scratch-{}", uuid::Uuid::new_v4()));
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A conversation on its way to the town.
#[derive(Debug)]
pub struct Taken {
    scratch: Scratch,
    bytes: u64,
}

/// A conversation from the town.
#[derive(Debug)]
pub struct Fetched {
    /// Its session.
    pub session: KiloSessionId,
    /// The branch that it was about.
    pub title: String,
    scratch: Scratch,
}

/// What the town has of an agent.
#[derive(Debug)]
pub enum Kept {
    /// A conversation.
    Conversation(Fetched),
    /// Nothing that anybody could continue.
    Nothing,
    /// It did not say. What it has must stay there.
    Unknown,
}

impl Fetched {
    /// What the agent's program imports.
    pub fn file(&self) -> PathBuf {
        self.scratch.0.join("export.json")
    }
}

#[derive(Deserialize)]
struct Export {
    info: Info,
    #[serde(rename = "messages")]
    _messages: IgnoredAny,
}

#[derive(Deserialize)]
struct Info {
    id: KiloSessionId,
    #[serde(default)]
    title: String,
}

/// Takes the conversation from the agent server, which must still run. None: it cannot be had, which is logged.
pub async fn take(talk: &Talk, place: &Place, home: &Path) -> Option<Taken> {
    let taken = async {
        let scratch = Scratch::new(home).map_err(|error| error.to_string())?;
        let (plain, packed) = (scratch.0.join("export.json"), scratch.0.join("export.json.gz"));
        talk.export(&scratch.0, &plain).await.map_err(|error| error.to_string())?;
        let packing = tokio::task::spawn_blocking(move || pack(&plain, &packed));
        let bytes = packing.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok::<_, String>(Taken { scratch, bytes })
    };
    match taken.await {
        Ok(taken) if taken.bytes <= SNAPSHOT_BYTES_MAX => Some(taken),
        Ok(taken) => not_kept(place, &format!("{} bytes are too many", taken.bytes)),
        Err(error) => not_kept(place, &error),
    }
}

/// The same for an agent that is frozen, whose work must not wait for its conversation.
pub async fn take_quickly(talk: &Talk, place: &Place, home: &Path) -> Option<Taken> {
    let seconds = FROZEN_CONVERSATION_TIMEOUT.as_secs();
    match tokio::time::timeout(FROZEN_CONVERSATION_TIMEOUT, take(talk, place, home)).await {
        Ok(taken) => taken,
        Err(_) => not_kept(place, &format!("the agent server did not give it within {seconds} s")),
    }
}

/// Puts it away.
pub async fn keep(taken: Taken, town: &Home, place: &Place) {
    match town.keep_snapshot(place, &taken.scratch.0.join("export.json.gz")).await {
        Ok(()) => log::info(ROLE, "conversation_kept", json!({ "agent": place.agent, "bytes": taken.bytes })),
        Err(error) => {
            not_kept::<()>(place, &error.to_string());
        }
    }
}

fn not_kept<T>(place: &Place, error: &str) -> Option<T> {
    log::warn(ROLE, "conversation_not_kept", json!({ "agent": place.agent, "error": error }));
    None
}

/// What the town has of an agent. Without a conversation to continue, the agent starts afresh.
pub async fn fetch(town: &Home, place: &Place, home: &Path) -> Kept {
    let started_ms = now_ms();
    let fetched = async {
        let scratch = Scratch::new(home).map_err(|error| error.to_string())?;
        let (plain, packed) = (scratch.0.join("export.json"), scratch.0.join("export.json.gz"));
        if !town.fetch_snapshot(place, &packed).await.map_err(|error| error.to_string())? {
            return Ok(Kept::Nothing);
        }
        let reading = tokio::task::spawn_blocking(move || read(&packed, &plain)).await;
        Ok::<_, String>(match reading.map_err(|error| error.to_string())? {
            Ok(Some(info)) => Kept::Conversation(Fetched { session: info.id, title: info.title, scratch }),
            Ok(None) => Kept::Nothing,
            Err(error) => {
                // It came whole: nobody will ever read it.
                log::warn(ROLE, "conversation_not_readable", json!({ "agent": place.agent, "error": error }));
                Kept::Nothing
            }
        })
    };
    fetched.await.unwrap_or_else(|error| {
        let ms = now_ms().saturating_sub(started_ms);
        log::warn(ROLE, "conversation_not_fetched", json!({ "agent": place.agent, "error": error, "ms": ms }));
        Kept::Unknown
    })
}

/// An empty file is what a town without one may answer.
fn read(packed: &Path, plain: &Path) -> Result<Option<Info>, String> {
    if packed.metadata().is_ok_and(|found| found.len() == 0) {
        return Ok(None);
    }
    unpack(packed, plain).map_err(|error| error.to_string())?;
    let file = fs::File::open(plain).map_err(|error| error.to_string())?;
    let export: Export = serde_json::from_reader(BufReader::new(file)).map_err(|error| error.to_string())?;
    Ok(Some(export.info))
}
