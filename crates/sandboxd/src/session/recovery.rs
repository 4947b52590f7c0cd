//! After this process was killed and started again on the same disk: what its predecessor had not delivered is
//! delivered, and the executions that it ran are declared failed.
//!
//! Nothing of the agent survives (`sandboxd init` kills what the predecessor left), so the only honest end is a
//! fatal error; an object that has seen the execution's end already ignores it.

use super::link::Address;
use super::link::Link;
use super::link::News;
use super::link::now_ms;
use super::paths;
use super::reap;
use super::state::Session;
use crate::log;
use protocol::id::SessionId;
use sandbox_core::event::Event;
use sandbox_core::ingest::GaveUp;
use sandbox_core::ingest::Input;
use sandbox_core::limits::Limits;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The error that executions of a killed process end with.
const RESTARTED: &str = "Wrapper restarted";

/// The sessions that have something undelivered on this disk.
pub fn homes(root: &Path) -> Vec<SessionId> {
    let entries = fs::read_dir(paths::homes(root)).into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| SessionId::parse(entry.file_name().to_str()?).ok());
    ids.filter(|id| !Address::left_behind(&paths::SessionPaths::new(root, id)).is_empty()).collect()
}

/// Delivers what is left of the executions of `session`.
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
    for address in left {
        let execution = address.execution_id.clone();
        log::info("session", "recovering", json!({ "sessionId": session.id, "executionId": execution }));
        let link = Link::new(&Limits::default(), address, session.paths.spool(&execution));
        match deliver(link).await {
            None | Some(GaveUp::Fenced { .. }) => Address::forget(&session.paths, &execution),
            Some(why) => {
                let fields = json!({ "sessionId": session.id, "executionId": execution, "reason": why.reason() });
                log::warn("session", "recovery_failed", fields);
            }
        }
    }
}

/// Some if not everything could be delivered. The machine bounds this.
async fn deliver(mut link: Link) -> Option<GaveUp> {
    let mut news = Vec::new();
    for input in [Input::Open, Input::Event(Event::fatal(RESTARTED, None)), Input::Finish] {
        news.extend(link.receive(input));
    }
    loop {
        for item in news.drain(..) {
            match item {
                News::Drained => {
                    link.finish().await;
                    return None;
                }
                News::GaveUp(why) => return Some(why),
                News::Command(_) | News::Ready => {}
            }
        }
        let wait = link.next_deadline().map_or(i64::MAX, |at| at.saturating_sub(now_ms()).max(0));
        let tick = tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX)));
        news = tokio::select! {
            Some(note) = link.note() => link.receive_note(&note),
            () = tick => link.receive(Input::Tick),
        };
    }
}
