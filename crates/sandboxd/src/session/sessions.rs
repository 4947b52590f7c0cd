//! The sessions of this process.

use super::attempt;
use super::limits;
use super::recovery;
use super::state::Session;
use super::state::Shared;
use super::state::Submitted;
use protocol::id::SessionId;
use protocol::sandbox::Progress;
use protocol::sandbox::Work;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

/// All sessions.
pub struct Sessions {
    shared: Arc<Shared>,
    known: Mutex<HashMap<SessionId, Arc<Session>>>,
    draining: AtomicBool,
}

/// Why work is not taken on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// SIGTERM was seen.
    #[error("This container is about to end; ask another one")]
    Draining,
    /// The process remembers too many.
    #[error("This container knows {} sessions already; ask another one", limits::SESSIONS_MAX)]
    Full,
    /// A newer attempt is known.
    #[error("Attempt {attempt} is older than attempt {current} of this session")]
    Stale {
        /// What was asked for.
        attempt: u64,
        /// What is known.
        current: u64,
    },
}

impl Sessions {
    /// No sessions yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, known: Mutex::default(), draining: AtomicBool::new(false) }
    }

    /// Delivers what a former process on this disk left undelivered, and keeps from now on what it would have kept.
    pub fn recover(&self) {
        let remembered: BTreeMap<String, Work> = self.shared.memory.recall();
        let mut sessions: BTreeSet<SessionId> = recovery::homes(&self.shared.config.root).into_iter().collect();
        for work in remembered.values() {
            let id = &work.workspace.session_id;
            if let Some(session) = self.get_or_add(id) {
                recovery::inherit(&session, work);
                sessions.insert(id.clone());
            }
        }
        for session in sessions.iter().filter_map(|id| self.get_or_add(id)) {
            tokio::spawn(recovery::recover(session));
        }
    }

    /// Takes work on, or says where it stands.
    pub fn work(&self, work: Work) -> Result<Progress, Refusal> {
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        let session = self.get_or_add(&work.workspace.session_id).ok_or(Refusal::Full)?;
        match session.submit(&work) {
            Submitted::Stale { current } => Err(Refusal::Stale { attempt: work.attempt, current }),
            Submitted::Known(progress) => Ok(progress),
            Submitted::New(progress, cancelled) => {
                tokio::spawn(attempt::run(session, work, cancelled));
                Ok(progress)
            }
        }
    }

    /// A session that was worked on.
    pub fn get(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.known().get(id).cloned()
    }

    /// Ends a session for good: nothing of it is left here.
    pub async fn forget(&self, id: &SessionId) {
        // One that only a former process on this disk has worked on, too.
        let Some(session) = self.get_or_add(id) else { return };
        session.forget().await;
        self.known().remove(id);
    }

    /// Whether SIGTERM was seen.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Ends all of them, at once. Nothing new is taken on from here. False if they did not all end in time.
    pub async fn shut_down(&self, signal: &'static str) -> bool {
        self.draining.store(true, Ordering::Relaxed);
        let sessions: Vec<Arc<Session>> = self.known().values().cloned().collect();
        let mut ending: JoinSet<()> =
            sessions.into_iter().map(|session| async move { session.shut_down(signal).await }).collect();
        let all = async { while ending.join_next().await.is_some() {} };
        let patience = Duration::from_millis(self.shared.config.limits.shutdown_ms_max);
        tokio::time::timeout(patience, all).await.is_ok()
    }

    fn get_or_add(&self, id: &SessionId) -> Option<Arc<Session>> {
        let mut known = self.known();
        if let Some(session) = known.get(id) {
            return Some(session.clone());
        }
        if known.len() >= limits::SESSIONS_MAX {
            return None;
        }
        let session = Arc::new(Session::new(id.clone(), self.shared.clone()));
        known.insert(id.clone(), session.clone());
        Some(session)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        // A map is whole whatever panicked beside it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
