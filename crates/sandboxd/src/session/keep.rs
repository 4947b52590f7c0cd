//! What of a session outlives its container, and when it is put away.
//!
//! | When | What |
//! | --- | --- |
//! | a turn has ended | the conversation; work in progress that is on its branch by now comes off the remote |
//! | the session is stopped | the conversation, if a turn has run since it was last kept |
//! | the container is ended | the same, and work in progress |
//!
//! Whoever ends the agent does that first: what is kept does not change any more while it is read. One keeping at a time: who comes second
//! waits, and finds nothing left to do. What fails is logged, and tried again at the next occasion.

use super::error::WorkError;
use super::git::Git;
use super::git::GitUrl;
use super::kilo::environment;
use super::kilo::environment::Environment;
use super::kilo::import::Importer;
use super::redact::Redactor;
use super::snapshot;
use super::snapshot::Saved;
use super::snapshot::Store;
use super::state::Session;
use super::wip;
use crate::log;
use protocol::id::ExecutionId;
use protocol::id::KiloSessionId;
use protocol::sandbox::Work;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// How to run the agent's session and to keep it: what its newest work said.
#[derive(Clone)]
pub struct Means {
    /// The agent's program.
    pub kilo: PathBuf,
    /// The agent's environment.
    pub environment: Environment,
    /// The model's name at the provider.
    pub model: String,
    /// The agent's session.
    pub kilo_session: KiloSessionId,
    /// Hides secrets in what programs say.
    pub redactor: Redactor,
    /// Pushes.
    pub git: Git,
    /// Where the conversation goes. None: it is not kept.
    pub store: Option<Store>,
}

impl Means {
    /// What `work` says.
    pub fn of(session: &Session, work: &Work) -> Result<Self, WorkError> {
        let (shared, paths, plan) = (&session.shared, &session.paths, &work.workspace);
        let config = &shared.config;
        let missing = |what: &str| WorkError::AgentServer(what.to_owned());
        let own = config.model.as_ref().ok_or_else(|| missing("HOLDFAST_MODEL_BASE_URL is not set"))?;
        let model = work.turn.as_ref().map_or_else(|| own.clone(), |turn| environment::chosen(own, &turn.model));
        let redactor = Redactor::of_work(config, work);
        let url = GitUrl::parse(&plan.git_url, config.allow_loopback)?;
        let (http, token) = (shared.http.clone(), work.report.token.clone());
        Ok(Self {
            kilo: config.kilo.clone().ok_or_else(|| missing("there is no `kilo` on PATH"))?,
            environment: environment::for_agent(config, &model, paths, plan),
            model: model.name,
            kilo_session: plan.kilo_session_id.clone(),
            git: Git::new(config, &session.id, paths, url, plan.git_token.clone(), redactor.clone()),
            redactor,
            store: work.snapshot.as_ref().map(|snapshot| Store { http, url: snapshot.url.clone(), token }),
        })
    }
}

/// What a session knows of its keeping.
#[derive(Default)]
pub struct Keeping {
    means: Mutex<Option<Means>>,
    /// How it was, until what it had kept is taken away.
    given_up: Mutex<Option<Means>>,
    /// Whether a turn has begun since the conversation was last kept.
    unsaved: AtomicBool,
    /// Held by the one keeping.
    turn: tokio::sync::Mutex<()>,
}

impl Keeping {
    /// A killed process before this one would have done it this way; whether it had, nobody knows.
    pub fn inherit(&self, means: Means) {
        self.by(means);
        self.turn_begins();
    }

    /// From now on it is done this way.
    pub fn by(&self, means: Means) {
        *self.means.lock().unwrap_or_else(PoisonError::into_inner) = Some(means);
    }

    /// A turn begins: there will be something to keep.
    pub fn turn_begins(&self) {
        self.unsaved.store(true, Ordering::Relaxed);
    }

    /// From now on nothing is kept.
    pub fn give_up(&self) {
        let means = self.means.lock().unwrap_or_else(PoisonError::into_inner).take();
        if means.is_some() {
            *self.given_up() = means;
        }
    }

    fn given_up(&self) -> MutexGuard<'_, Option<Means>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn means(&self) -> Option<Means> {
        self.means.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Waits for the end of a turn, and keeps what it left.
pub async fn after_turn(session: Arc<Session>, execution: ExecutionId) {
    session.wait_for_end_of(&execution).await;
    session.used();
    conversation(&session).await;
    let Some(means) = session.keeping.means() else { return };
    if session.running().is_none()
        && let Err(error) = wip::tidy(&means.git, &session.paths, &session.id).await
    {
        log::warn("session", "wip_not_tidied", json!({ "sessionId": session.id, "error": error.to_string() }));
    }
}

/// Keeps all of it: the container is about to end, and nothing of the session runs any more.
pub async fn everything(session: &Session) {
    tokio::join!(conversation(session), work_in_progress(session));
}

/// Keeps the conversation, if anything was added to it.
pub async fn conversation(session: &Session) {
    let keeping = &session.keeping;
    let _turn = keeping.turn.lock().await;
    let Some(means) = keeping.means() else { return };
    let Some(store) = &means.store else { return };
    // Before the export: a turn that begins meanwhile is not in it.
    if !keeping.unsaved.swap(false, Ordering::Relaxed) {
        return;
    }
    let Ok(_place) = session.shared.exports.acquire().await else { return };
    let agent = Importer {
        kilo: &means.kilo,
        environment: &means.environment,
        workspace: &session.paths.workspace,
        redactor: &means.redactor,
    };
    let bytes_max = session.shared.config.limits.snapshot_bytes_max;
    match snapshot::save(&agent, &session.paths, &means.kilo_session, store, bytes_max).await {
        Ok(Saved { bytes, files_left_out }) => {
            let fields = json!({ "sessionId": session.id, "bytes": bytes, "filesLeftOut": files_left_out });
            log::info("session", "snapshot_kept", fields);
        }
        Err(error) => {
            keeping.unsaved.store(true, Ordering::Relaxed);
            log::warn("session", "snapshot_not_kept", json!({ "sessionId": session.id, "error": error.to_string() }));
        }
    }
}

/// Takes off the remote what is kept there of a session that is gone. Its conversation is the object's to delete.
///
/// Whoever calls it may give up on the way: then it is the next one's to do.
pub async fn forget(session: &Session) {
    let Some(means) = session.keeping.given_up().clone() else { return };
    if let Err(error) = wip::forget(&means.git, &session.paths, &session.id).await {
        log::warn("session", "wip_not_tidied", json!({ "sessionId": session.id, "error": error.to_string() }));
    }
    session.keeping.given_up().take();
}

async fn work_in_progress(session: &Session) {
    let Some(means) = session.keeping.means() else { return };
    match wip::save(&means.git, &session.paths, &session.id).await {
        Ok(wip::Saved::Nothing) => {}
        Ok(wip::Saved::Pushed { commit }) => {
            log::info("session", "wip_pushed", json!({ "sessionId": session.id, "commit": commit }));
        }
        Err(error) => {
            log::error("session", "wip_not_pushed", json!({ "sessionId": session.id, "error": error.to_string() }));
        }
    }
}
