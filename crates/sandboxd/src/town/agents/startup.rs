//! From the request to a session with an open event stream: worktree, conversation, agent server, session.
//!
//! Dropping the future at any point undoes what cannot stay: its processes are killed and the lease of the agent server is given back. A
//! worktree stays, for whoever continues the branch.

use super::conversation;
use super::conversation::Fetched;
use super::conversation::Kept;
use super::environment;
use super::environment::author;
use super::instructions;
use super::servers::Lease;
use super::servers::LeaseError;
use super::shared::Shared;
use super::talk::Talk;
use super::view::View;
use super::view::kind;
use crate::log;
use crate::session::events::Events;
use crate::session::events::Note;
use crate::session::kilo::client::CallError;
use crate::session::kilo::import::Importer;
use crate::town::git::Branch;
use crate::town::git::Checkout;
use crate::town::git::GitFailure;
use crate::town::git::InvalidName;
use crate::town::git::Lightweight;
use crate::town::git::RigRepo;
use crate::town::git::Worktree;
use crate::town::home::Place;
use crate::town::limits::AGENT_SERVERS_MAX;
use crate::town::prompts::with_prime;
use crate::town::tools::Review;
use crate::town::tools::Work;
use protocol::id::KiloSessionId;
use protocol::town::agent::Role;
use protocol::town::container::StartAgent;
use sandbox_core::drain::Kind;
use sandbox_core::limits::Limits;
use serde_json::json;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const ROLE: &str = "town";
/// The event stream opens at once (spec/kilo.md 5).
const EVENTS_OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why an agent did not start. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the start was given up for a newer one, or for a stop")]
    Aborted,
    #[error("Container is draining, cannot start new agents")]
    Draining,
    #[error("Container is full: {AGENT_SERVERS_MAX} agent servers run already")]
    Full,
    #[error(transparent)]
    Git(#[from] GitFailure),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("no model is configured: HOLDFAST_MODEL_BASE_URL is not set")]
    NoModel,
    #[error("there is no program `kilo` on the container's PATH")]
    NoProgram,
    #[error("the agent server did not start: {0}")]
    Server(String),
    #[error("the agent server refused: {0}")]
    Session(#[from] CallError),
    #[error("its event stream did not open: {0}")]
    Stream(String),
    #[error("the agent's home: {0}")]
    Disk(#[from] io::Error),
}

/// A started agent.
pub struct Session {
    /// Its use of the agent server.
    pub lease: Lease,
    /// What is said to it.
    pub talk: Talk,
    /// What it says.
    pub events: Events,
    /// Whether it continues an earlier conversation.
    pub resumed: bool,
    /// Whether its conversation is put away. Not if there may be an earlier one that could not be had: that would be lost.
    pub keeps: bool,
}

/// Starts it. What is known on the way is put into `view`.
pub async fn start(
    shared: &Arc<Shared>,
    request: &StartAgent,
    view: &watch::Sender<View>,
) -> Result<Session, StartError> {
    let place = Place { rig: request.rig_id.clone(), agent: request.agent_id.clone() };
    let kilo = shared.config.kilo.as_deref().ok_or(StartError::NoProgram)?;
    let model = environment::model(shared, request).ok_or(StartError::NoModel)?;
    let home = environment::home(&shared.config.root, &request.agent_id);
    DirBuilder::new().recursive(true).mode(0o700).create(&home)?;

    let (worktree, repo) = worktree(shared, request).await?;
    let (workdir, worktree) = (worktree.path().to_owned(), Arc::new(worktree));
    view.send_modify(|view| view.worktree = Some(worktree.clone()));
    // A drain saves only where it knows of a worktree.
    shared.changed.send_replace(());
    let is_mayor = kind(&request.role) == Kind::Mayor;
    let mut system = request.system_prompt.as_deref();
    if is_mayor && let Some(text) = system.take() {
        instructions::write(&worktree, text).await?;
    }
    check_out_for_mayor(shared, request);

    let review = review(request, repo.as_ref())?;
    let work = Work { bead: request.bead_id.clone(), branch: request.branch.clone(), review };
    let tools = shared.tools.admit(&place, &request.role, work, shared.address);
    let redactor = environment::redactor(shared, request, &model, &tools, repo.as_ref());
    let environment = environment::for_agent(shared, request, &model, tools, repo.as_ref());
    let kept = conversation::fetch(&shared.home, &place, &home).await;
    let is_known = !matches!(kept, Kept::Unknown);
    let resumed = match kept {
        Kept::Conversation(fetched) if is_mayor || fetched.title == request.branch => {
            let importer = Importer { kilo, environment: &environment, workspace: &workdir, redactor: &redactor };
            import(&importer, &fetched, &place).await
        }
        Kept::Conversation(_) | Kept::Nothing | Kept::Unknown => None,
    };
    let lease = shared.servers.lease(kilo, &workdir, &environment).await;
    let lease = lease.map_err(|error| match error {
        LeaseError::Full => StartError::Full,
        LeaseError::NotStarted(error) => StartError::Server(redactor.clean(&error)),
    })?;
    view.send_modify(|view| view.port = Some(lease.port()));
    let session = match &resumed {
        Some(session) => session.clone(),
        None => Talk::create(&shared.http, lease.port(), &request.branch).await?,
    };
    view.send_modify(|view| view.session = Some(session.clone()));
    let system = match system {
        Some(rules) => Some(with_prime(&shared.home, &place, rules).await),
        None => None,
    };
    let talk = Talk::with(&shared.http, lease.port(), session, &model.name, system.as_deref(), redactor);
    let events = subscribe(&talk).await?;
    Ok(Session { lease, talk, events, resumed: resumed.is_some(), keeps: is_known })
}

/// Brings the rigs that the mayor may look into up to date, beside its start.
fn check_out_for_mayor(shared: &Arc<Shared>, request: &StartAgent) {
    for rig in &request.rigs {
        let author = author(shared, request);
        let repo = environment::repo(shared, &rig.rig_id, &rig.git_url, &rig.default_branch, &request.env_vars, author);
        let (of, rig) = (shared.clone(), rig.rig_id.clone());
        shared.background.spawn(async move {
            let outcome = match repo {
                Ok(repo) => of.git.set_up(&repo).await.map_err(|error| error.to_string()),
                Err(wrong) => Err(wrong.to_string()),
            };
            if let Err(error) = outcome {
                log::warn(ROLE, "rig_not_set_up", json!({ "rig": rig, "error": error }));
            }
        });
    }
}

/// Where it works, and the repository that this belongs to.
async fn worktree(shared: &Shared, request: &StartAgent) -> Result<(Worktree, Option<RigRepo>), StartError> {
    let author = author(shared, request);
    if request.lightweight {
        let workspace = shared.git.workspace(&request.rig_id, workspace(&request.role), &author).await?;
        return Ok((workspace, None));
    }
    let repo = repo(shared, request)?;
    let checkout = Checkout {
        branch: Branch::parse(&request.branch)?,
        start_point: request.start_point.as_deref().map(Branch::parse).transpose()?,
    };
    let worktree = shared.git.worktree(&repo, &checkout).await?;
    Ok((worktree, Some(repo)))
}

/// Where it works, if that is there from an earlier start.
pub fn existing(shared: &Shared, request: &StartAgent) -> Option<Worktree> {
    if request.lightweight {
        return shared.git.existing_workspace(&request.rig_id, workspace(&request.role));
    }
    shared.git.existing(&request.rig_id, &Branch::parse(&request.branch).ok()?)
}

fn workspace(role: &Role) -> Lightweight {
    match kind(role) {
        Kind::Mayor => Lightweight::Mayor,
        Kind::Triage | Kind::Worker => Lightweight::Triage,
    }
}

/// What it is to see merged, if it is a reviewer.
fn review(request: &StartAgent, repo: Option<&RigRepo>) -> Result<Option<Review>, InvalidName> {
    let (Some(target), Some(repo)) = (&request.target_branch, repo) else { return Ok(None) };
    let (branch, target) = (Branch::parse(&request.branch)?, Branch::parse(target)?);
    Ok(Some(Review { repo: repo.clone(), variables: request.env_vars.clone(), branch, target }))
}

/// The repository of an agent, with what its host is shown now.
pub fn repo(shared: &Shared, request: &StartAgent) -> Result<RigRepo, InvalidName> {
    let StartAgent { rig_id, git_url, default_branch, env_vars, .. } = request;
    environment::repo(shared, rig_id, git_url, default_branch, env_vars, author(shared, request))
}

/// None: it cannot be continued, which is logged, and the agent starts afresh.
async fn import(importer: &Importer<'_>, fetched: &Fetched, place: &Place) -> Option<KiloSessionId> {
    match importer.import(&fetched.file()).await {
        Ok(()) => Some(fetched.session.clone()),
        Err(error) => {
            let fields = json!({ "agent": place.agent, "error": error.to_string() });
            log::warn(ROLE, "conversation_not_imported", fields);
            None
        }
    }
}

/// Only what happens after this is on the stream, so nothing is asked of the agent before.
async fn subscribe(talk: &Talk) -> Result<Events, StartError> {
    let mut events = Events::subscribe(talk.client.clone(), &Limits::default());
    match tokio::time::timeout(EVENTS_OPEN_TIMEOUT, events.next()).await {
        // The first chunk is the server's greeting.
        Ok(Some(Note::Chunk(chunk))) => {
            events.decoder.push(&chunk, |_| {});
            Ok(events)
        }
        Ok(Some(Note::Ended { reason })) => Err(StartError::Stream(reason)),
        Ok(None) => Err(StartError::Stream("it ended".to_owned())),
        Err(_) => Err(StartError::Stream(format!("nothing came within {} s", EVENTS_OPEN_TIMEOUT.as_secs()))),
    }
}
