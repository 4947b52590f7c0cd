//! A session on an empty disk: its workspace, and its conversation.
//!
//! For a new session that is a clone and an empty conversation. For one that has had turns before, in a container that is gone, it
//! is also what was kept of them elsewhere ([`super::keep`]); and what cannot be brought back is told.

use super::attempt::Steps;
use super::error::WorkError;
use super::git::Git;
use super::kilo::import;
use super::kilo::import::ImportError;
use super::kilo::import::Importer;
use super::limits;
use super::made_from;
use super::snapshot;
use super::snapshot::Fetched;
use super::snapshot::SnapshotError;
use super::snapshot::Store;
use super::state::Session;
use super::wip;
use super::workspace;
use crate::log;
use protocol::id::KiloSessionId;
use protocol::sandbox::Resume;
use protocol::sandbox::Step;
use protocol::sandbox::WorkspacePlan;
use serde_json::json;

/// Clones the repository and checks the branch out. With `resumes`, the one that the session was last on, with its work in progress.
pub async fn workspace(
    session: &Session,
    git: &Git,
    plan: &WorkspacePlan,
    resumes: bool,
    steps: &mut Steps<'_>,
) -> Result<(), WorkError> {
    let paths = &session.paths;
    steps.begin(Step::Cloning, "Cloning repository…").await;
    workspace::clone(git, paths, plan.shallow).await?;
    let found = match resumes {
        true => wip::fetch(git, &paths.cloning, &session.id).await?,
        false => None,
    };
    steps.begin(Step::Branch, "Setting up branch…").await;
    let mut plan = plan.clone();
    if let Some(branch) = found.as_ref().and_then(|found| found.branch.clone()) {
        // Newer than what the object last heard.
        plan.last_branch = Some(branch);
    }
    workspace::set_branch(git, paths, &plan, &session.shared.config.author).await?;
    if let Some(found) = found {
        let applied = wip::apply(git, paths, &paths.cloning, &found).await?;
        log::info("session", "wip_applied", json!({ "sessionId": session.id, "how": format!("{applied:?}") }));
        steps.begin(Step::Branch, applied.message()).await;
    }
    made_from::note(paths, &plan)?;
    workspace::put_in_place(paths).await
}

/// Brings the conversation into the agent's storage: from `store`, if there is one to look into, else an empty one.
pub async fn conversation(
    session: &Session,
    agent: &Importer<'_>,
    kilo_session: &KiloSessionId,
    store: Option<&Store>,
    steps: &mut Steps<'_>,
) -> Result<Resume, WorkError> {
    let paths = &session.paths;
    if let Some(store) = store {
        steps.begin(Step::KiloSession, "Restoring session…").await;
        match restore(session, agent, kilo_session, store).await? {
            Ok(files_left_out) => {
                if files_left_out > 0 {
                    let told = format!(
                        "Session restored without the {files_left_out} images shown before: together they are too large to be kept"
                    );
                    steps.begin(Step::KiloSession, &told).await;
                }
                import::remember(paths, kilo_session)?;
                return Ok(Resume::Replayed);
            }
            Err(why) => {
                log::warn("session", "conversation_lost", json!({ "sessionId": session.id, "reason": why }));
                let told = format!("{why}: the agent begins with an empty conversation");
                steps.begin(Step::KiloSession, &told).await;
            }
        }
    } else {
        steps.begin(Step::KiloSession, "Importing session…").await;
    }
    agent.import_empty(paths, kilo_session).await?;
    import::remember(paths, kilo_session)?;
    Ok(Resume::Fresh)
}

/// How many files shown to the agent are not in what was restored. The inner error says why there is nothing to restore, now or later.
async fn restore(
    session: &Session,
    agent: &Importer<'_>,
    kilo_session: &KiloSessionId,
    store: &Store,
) -> Result<Result<u64, String>, WorkError> {
    match fetch(session, kilo_session, store).await {
        Ok(Some(Fetched { export, files_left_out })) => {
            match agent.import(export.path()).await {
                // It was ended, and did not refuse: to begin without the conversation would in the end replace what is kept of it.
                Err(ImportError { code: None, message }) => Err(WorkError::Import(message)),
                Err(error) => Ok(Err(format!("The session's snapshot could not be imported ({})", error.message))),
                Ok(()) => Ok(Ok(files_left_out)),
            }
        }
        Ok(None) => Ok(Err("The session has no snapshot".to_owned())),
        Err(SnapshotError::Export(error)) => Ok(Err(format!("The session's snapshot is damaged ({error})"))),
        // It may be there: to begin without it would in the end replace it.
        Err(error) => Err(WorkError::Snapshot(error)),
    }
}

async fn fetch(
    session: &Session,
    kilo_session: &KiloSessionId,
    store: &Store,
) -> Result<Option<Fetched>, SnapshotError> {
    let mut tries = limits::SNAPSHOT_FETCH_TRIES;
    loop {
        tries = tries.saturating_sub(1);
        match snapshot::fetch(&session.paths, kilo_session, store).await {
            Err(error) if error.is_passing() && tries > 0 => {
                let fields = json!({ "sessionId": session.id, "error": error.to_string() });
                log::warn("session", "snapshot_fetch_delayed", fields);
                tokio::time::sleep(limits::SNAPSHOT_FETCH_PAUSE).await;
            }
            fetched => return fetched,
        }
    }
}
