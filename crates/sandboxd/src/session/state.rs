//! One session in this container: which attempt it is on, its agent server, its loop.
//!
//! Two locks, never held together by one task but in this order: `bench` (what acts on the disk and on the agent server;
//! held by one attempt or one stop from its beginning to its end) and `state` (what is answered to callers; held for a
//! moment). So a newer attempt begins when the older one has cleaned up, and a caller never waits for either.

use super::config::Config;
use super::driver;
use super::driver::Activity;
use super::driver::Command;
use super::error::Cancel;
use super::error::WorkError;
use super::keep;
use super::keep::Keeping;
use super::kilo::server::Server;
use super::limits;
use super::logs::Followed;
use super::paths::SessionPaths;
use super::places::Places;
use super::reap;
use crate::memory::Memory;
use protocol::id::ExecutionId;
use protocol::id::KiloSessionId;
use protocol::id::SessionId;
use protocol::sandbox::JobStatus;
use protocol::sandbox::Progress;
use protocol::sandbox::Step;
use protocol::sandbox::Work;
use std::fs::File;
use std::fs::TryLockError;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// What all sessions of the process share.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// Calls to agent servers and to the Worker.
    pub http: reqwest::Client,
    /// Where agent servers may run.
    pub places: Places,
    /// One permit for each export that may run.
    pub exports: Semaphore,
    /// The newest work of each session, for a process that follows this one: by session.
    pub memory: Memory,
}

/// A session.
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its folders.
    pub paths: SessionPaths,
    /// What all sessions share.
    pub shared: Arc<Shared>,
    /// What acts on the disk and on the agent server.
    pub bench: tokio::sync::Mutex<Bench>,
    /// What is kept of it elsewhere.
    pub keeping: Keeping,
    /// Its executions' logs.
    pub followed: Followed,
    /// Held by the one that takes it away for good: a second one would take the folders from under it.
    forgetting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    commands: mpsc::Sender<Command>,
    activity: watch::Receiver<Activity>,
}

/// Held by whoever acts.
#[derive(Default)]
pub struct Bench {
    /// Locked: this process owns the session.
    lock: Option<File>,
    /// The agent server.
    pub server: Option<Server>,
}

#[derive(Default)]
struct State {
    attempt: Option<Attempt>,
    kilo_session: Option<KiloSessionId>,
    /// When an attempt or a turn last ended.
    used_at: Option<Instant>,
}

struct Attempt {
    progress: Progress,
    has_turn: bool,
    cancel: watch::Sender<Option<Cancel>>,
}

/// Tells an attempt to give up, and why.
pub type Cancelled = watch::Receiver<Option<Cancel>>;

/// What becomes of a piece of work that was asked for.
pub enum Submitted {
    /// A newer attempt is known.
    Stale {
        /// That one.
        current: u64,
    },
    /// The attempt is known; this is where it stands.
    Known(Progress),
    /// It is new: whoever called runs it.
    New(Progress, Cancelled),
}

impl Session {
    /// A session whose loop runs.
    pub fn new(id: SessionId, shared: Arc<Shared>) -> Self {
        let paths = SessionPaths::new(&shared.config.root, &id);
        let (commands, activity) = driver::start(id.clone(), paths.clone(), shared.config.limits.clone());
        Self {
            id,
            paths,
            shared,
            bench: tokio::sync::Mutex::default(),
            keeping: Keeping::default(),
            followed: Followed::default(),
            forgetting: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            commands,
            activity,
        }
    }

    /// Registers an attempt. A newer one makes an older one give up.
    pub fn submit(&self, work: &Work) -> Submitted {
        let mut state = self.state();
        if let Some(current) = &state.attempt {
            let known = current.progress.attempt;
            if work.attempt == known {
                return Submitted::Known(current.progress.clone());
            }
            if work.attempt < known {
                return Submitted::Stale { current: known };
            }
            current.cancel.send_replace(Some(Cancel::Replaced));
        }
        let progress = Progress {
            attempt: work.attempt,
            n: 0,
            step: Step::DiskCheck,
            message: "Accepted".to_owned(),
            outcome: None,
        };
        let (cancel, cancelled) = watch::channel(None);
        state.attempt = Some(Attempt { progress: progress.clone(), has_turn: work.turn.is_some(), cancel });
        state.kilo_session = Some(work.workspace.kilo_session_id.clone());
        Submitted::New(progress, cancelled)
    }

    /// Notes where an attempt stands. False if a newer one has replaced it.
    pub fn note(&self, progress: &Progress) -> bool {
        match &mut self.state().attempt {
            Some(attempt) if attempt.progress.attempt == progress.attempt => {
                attempt.progress = progress.clone();
                true
            }
            _ => false,
        }
    }

    /// What the session is doing.
    pub fn status(&self) -> JobStatus {
        let execution_id = self.running();
        let state = if execution_id.is_some() { "active" } else { "idle" };
        JobStatus { state: state.to_owned(), execution_id, kilo_session_id: self.state().kilo_session.clone() }
    }

    /// The execution that is started and has not said its last word.
    pub fn running(&self) -> Option<ExecutionId> {
        self.activity.borrow().active.clone()
    }

    /// Whether an execution runs, or its last words are still being delivered.
    pub fn is_busy(&self) -> bool {
        self.activity.borrow().busy
    }

    /// An attempt or a turn has ended: from now on the session is idle, if nothing else is under way.
    pub fn used(&self) {
        self.state().used_at = Some(Instant::now());
    }

    /// When that last happened.
    pub fn used_at(&self) -> Option<Instant> {
        self.state().used_at
    }

    /// Waits until no execution is running, or returns the one that still is.
    pub async fn wait_until_free(&self, at_most: Duration) -> Result<(), ExecutionId> {
        let mut activity = self.activity.clone();
        let _ = tokio::time::timeout(at_most, activity.wait_for(|activity| activity.active.is_none())).await;
        self.running().map_or(Ok(()), Err)
    }

    /// Waits until `execution` is not running any more.
    pub async fn wait_for_end_of(&self, execution: &ExecutionId) {
        let mut activity = self.activity.clone();
        // The loop ends with the session only.
        let _ = activity.wait_for(|activity| activity.active.as_ref() != Some(execution)).await;
    }

    /// Asks the loop for something.
    pub async fn command(&self, command: Command) {
        // The loop ends with the session only.
        let _ = self.commands.send(command).await;
    }

    /// Ends the running execution, or the attempt that is about to start one.
    pub async fn abort(&self) {
        self.cancel_attempt(|attempt| attempt.has_turn, Cancel::Aborted);
        self.command(Command::Abort).await;
    }

    /// Ends whatever the session does, and its agent server. Keeps its disk, and the conversation elsewhere as well.
    pub async fn stop(&self) {
        self.stop_up_to(None).await;
    }

    /// The same, unless newer work than `attempt` has come. Whether it stopped.
    pub async fn stop_up_to(&self, attempt: Option<u64>) -> bool {
        let is_overtaken = || {
            let known = self.state().attempt.as_ref().map(|known| known.progress.attempt);
            attempt.zip(known).is_some_and(|(attempt, known)| known > attempt)
        };
        if is_overtaken() {
            return false;
        }
        self.cancel_attempt(|_| true, Cancel::Stopped);
        self.command(Command::Abort).await;
        self.wait_until_idle(limits::TURN_END_TIMEOUT).await;
        let mut bench = self.bench.lock().await;
        if is_overtaken() {
            return false;
        }
        bench.clear(self).await;
        keep::conversation(self).await;
        true
    }

    /// The same for a session that is gone for good: nothing of it is kept, here or elsewhere.
    pub async fn forget(&self) {
        let _forgetting = self.forgetting.lock().await;
        self.keeping.give_up();
        self.shared.memory.forget(self.id.as_str());
        self.stop().await;
        keep::forget(self).await;
        let folders = [self.paths.workspace.clone(), self.paths.cloning.clone(), self.paths.home.clone()];
        for folder in folders {
            if let Err(error) = tokio::fs::remove_dir_all(&folder).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                let fields = serde_json::json!({ "sessionId": self.id, "error": error.to_string() });
                crate::log::warn("session", "not_cleared", fields);
            }
        }
    }

    /// The same for a container that is about to end, with its reason told. What is only on its disk is kept elsewhere.
    pub async fn shut_down(&self, signal: &'static str) {
        self.cancel_attempt(|_| true, Cancel::ShutDown);
        self.command(Command::Shutdown { signal }).await;
        self.wait_until_idle(limits::SHUTDOWN_FLUSH_TIMEOUT).await;
        let put_away = async {
            self.bench.lock().await.clear(self).await;
            keep::everything(self).await;
        };
        tokio::join!(put_away, self.followed.finish());
    }

    fn cancel_attempt(&self, which: impl Fn(&Attempt) -> bool, reason: Cancel) {
        if let Some(attempt) = self.state().attempt.as_ref().filter(|attempt| which(attempt)) {
            attempt.cancel.send_replace(Some(reason));
        }
    }

    /// Waits until the last words of the last execution are delivered.
    pub async fn wait_until_idle(&self, at_most: Duration) {
        // Late is as good as never: what is not delivered stays in the spool.
        let mut activity = self.activity.clone();
        let _ = tokio::time::timeout(at_most, activity.wait_for(|activity| !activity.busy)).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held cannot have left it half written: it is only ever assigned to.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bench {
    /// Makes the session this process's own, for as long as this process lives.
    pub fn own(&mut self, paths: &SessionPaths) -> Result<(), WorkError> {
        if self.lock.is_some() {
            return Ok(());
        }
        paths.create().map_err(WorkError::Workspace)?;
        let file = File::create(paths.lock()).map_err(WorkError::Workspace)?;
        match file.try_lock() {
            Ok(()) => {
                self.lock = Some(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(WorkError::Owned),
            Err(TryLockError::Error(error)) => Err(WorkError::Workspace(error)),
        }
    }

    /// Ends the agent server and everything else that was started for the session.
    pub async fn clear(&mut self, session: &Session) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        if self.lock.is_some() && !reap::kill_all(&session.id).await {
            crate::log::error("session", "processes_left", serde_json::json!({ "sessionId": session.id }));
        }
    }
}
