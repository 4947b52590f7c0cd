//! The places for agent servers: how many may run at a time, and who gives way when all are taken.
//!
//! A session keeps its agent server after a turn, for the next one. That is a comfort, and work goes first: where no place is free, the session
//! that has been idle the longest loses its server, as if it had been stopped. Its next turn starts one again and goes on with the same conversation.

use super::keep;
use super::state::Session;
use crate::log;
use protocol::id::SessionId;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;

/// The places of one container.
pub struct Places {
    free: Arc<Semaphore>,
    /// The sessions that were given one; some have given it back.
    takers: Mutex<HashMap<SessionId, Weak<Session>>>,
    /// Held by the one who takes a place: what is made free for it is not taken by another.
    taking: tokio::sync::Mutex<()>,
}

impl Places {
    /// This many.
    pub fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), takers: Mutex::default(), taking: tokio::sync::Mutex::default() }
    }

    /// A place for an agent server of `session`. None: all are taken by sessions at work.
    pub async fn take(&self, session: &Arc<Session>) -> Option<OwnedSemaphorePermit> {
        let _taking = self.taking.lock().await;
        let place = match self.free() {
            Some(place) => Some(place),
            None => self.make_free().await,
        }?;
        let mut takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
        takers.retain(|_, taker| taker.strong_count() > 0);
        takers.insert(session.id.clone(), Arc::downgrade(session));
        Some(place)
    }

    fn free(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    async fn make_free(&self) -> Option<OwnedSemaphorePermit> {
        for taker in self.longest_idle_first() {
            let id = taker.id.clone();
            let (cleared, gave_way) = oneshot::channel();
            // A task of its own: whoever wants the place goes on without waiting for all of it, or gives up waiting, and what was begun is ended
            // all the same.
            tokio::spawn(give_way(taker, cleared));
            if gave_way.await.is_ok() {
                log::info("session", "gave_way", json!({ "sessionId": id }));
                if let Some(place) = self.free() {
                    return Some(place);
                }
            }
        }
        None
    }

    fn longest_idle_first(&self) -> Vec<Arc<Session>> {
        let takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut takers: Vec<_> = takers.values().filter_map(Weak::upgrade).collect();
        takers.sort_by_key(|taker| taker.used_at());
        takers
    }
}

/// Ends the agent server of a session that does nothing, says so, and keeps the conversation. It drops `cleared` if the session has no server, or is
/// at work.
async fn give_way(session: Arc<Session>, cleared: oneshot::Sender<()>) {
    // Held by whoever acts on the session, and here until all is kept: its next turn begins after that.
    let Ok(mut bench) = session.bench.try_lock() else { return };
    if session.is_busy() || bench.server.is_none() {
        return;
    }
    bench.clear(&session).await;
    // Nobody may be waiting any more.
    let _ = cleared.send(());
    keep::conversation(&session).await;
}
