//! After this process was killed and started again on the same disk: what its predecessor had not delivered is
//! delivered, the executions that it ran are declared failed, and what it would have kept elsewhere is kept.
//!
//! Nothing of the agent survives (`sandboxd init` kills what the predecessor left), so an execution that had not said its
//! last word can only end with a fatal error.

use super::keep;
use super::keep::Means;
use super::link::Address;
use super::link::Link;
use super::paths;
use super::reap;
use super::state::Session;
use crate::log;
use protocol::id::SessionId;
use protocol::sandbox::Work;
use sandbox_core::event::Event;
use sandbox_core::ingest::Input;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The error that executions of a killed process end with.
const RESTARTED: &str = "Wrapper restarted";

/// The sessions that have something undelivered on this disk.
pub fn homes(root: &Path) -> Vec<SessionId> {
    let entries = fs::read_dir(paths::homes(root)).into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| SessionId::parse(entry.file_name().to_str()?).ok());
    ids.filter(|id| !Address::left_behind(&paths::SessionPaths::new(root, id)).is_empty()).collect()
}

/// Keeps `session` from now on as the predecessor would have: its last work is remembered.
pub fn inherit(session: &Session, work: &Work) {
    match Means::of(session, work) {
        Ok(means) => session.keeping.inherit(means),
        Err(error) => {
            let fields = json!({ "sessionId": session.id, "error": error.to_string() });
            log::warn("session", "not_inherited", fields);
        }
    }
}

/// Delivers what is left of the executions of `session`, and keeps the conversation of one that was cut off.
pub async fn recover(session: Arc<Session>) {
    let left = {
        let mut bench = session.bench.lock().await;
        if let Err(error) = bench.own(&session.paths) {
            let fields = json!({ "sessionId": session.id, "error": error.to_string() });
            log::warn("session", "recovery_not_possible", fields);
            return;
        }
        reap::kill_all(&session.id).await;
        Address::left_behind(&session.paths)
    };
    let was_cut_off = left.iter().any(|address| !address.over);
    for address in left {
        let execution = address.execution_id.clone();
        log::info("session", "recovering", json!({ "sessionId": session.id, "executionId": execution }));
        let over = address.over;
        let mut link = Link::new(&session.shared.config.limits, address, session.paths.spool(&execution));
        let mut news = link.receive(Input::Open);
        if !over {
            news.extend(link.receive(Input::Event(Event::fatal(RESTARTED))));
        }
        news.extend(link.say_no_more(&session.paths));
        let undelivered = link.drain(news).await;
        Address::settle(&session.paths, &execution, undelivered);
    }
    if was_cut_off {
        keep::conversation(&session).await;
    }
}
