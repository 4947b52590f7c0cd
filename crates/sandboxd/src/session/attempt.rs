//! One attempt at a piece of work, from the disk check to the prompt, told step by step (spec/session.md 7.3).
//!
//! What is there already is skipped. A failure, or somebody's wish, leaves nothing of the session running.

use super::config::Config;
use super::driver::Command;
use super::driver::Start;
use super::error::Cancel;
use super::error::WorkError;
use super::git::Git;
use super::git::GitUrl;
use super::kilo::environment;
use super::kilo::environment::Environment;
use super::kilo::import;
use super::kilo::server::Recipe;
use super::kilo::server::Server;
use super::limits;
use super::redact::Redactor;
use super::report::Reporter;
use super::state::Bench;
use super::state::Cancelled;
use super::state::Session;
use super::workspace;
use crate::log;
use protocol::sandbox::Outcome;
use protocol::sandbox::Progress;
use protocol::sandbox::Resume;
use protocol::sandbox::Step;
use protocol::sandbox::TurnPlan;
use protocol::sandbox::Work;
use protocol::sandbox::WorkspacePlan;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Runs an attempt to its outcome.
pub async fn run(session: Arc<Session>, work: Work, mut cancelled: Cancelled) {
    let reporter = Reporter::start(session.shared.http.clone(), work.report.clone(), session.id.clone());
    let mut steps = Steps { session: &session, reporter, attempt: work.attempt, n: 0 };
    // Waits here until an older attempt, or a stop, has cleaned up.
    let mut bench = session.bench.lock().await;
    let result = tokio::select! {
        biased;
        reason = why(&mut cancelled) => Err(WorkError::Cancelled(reason)),
        result = prepare_and_start(&session, &mut bench, &work, &mut steps) => result,
    };
    let (step, message, outcome) = match result {
        Ok(outcome) => (Step::Ready, "Session ready".to_owned(), outcome),
        Err(error) => {
            let fields = json!({ "sessionId": session.id, "attempt": work.attempt, "code": error.code() });
            log::warn("session", "work_failed", fields);
            if !matches!(error, WorkError::Busy(_)) {
                session.command(Command::Abort).await;
                bench.clear(&session).await;
            }
            (Step::Failed, error.to_string(), error.outcome())
        }
    };
    drop(bench);
    steps.tell(step, message, Some(outcome)).await;
}

async fn why(cancelled: &mut Cancelled) -> Cancel {
    // A sender that is gone was replaced.
    cancelled.wait_for(Option::is_some).await.ok().and_then(|reason| *reason).unwrap_or(Cancel::Replaced)
}

async fn prepare_and_start(
    session: &Session,
    bench: &mut Bench,
    work: &Work,
    steps: &mut Steps<'_>,
) -> Result<Outcome, WorkError> {
    let plan = &work.workspace;
    let (config, paths) = (&session.shared.config, &session.paths);
    let redactor = redactor(config, work);
    let url = GitUrl::parse(&plan.git_url, config.allow_loopback)?;
    let git = Git::new(config, &session.id, paths, url, plan.git_token.clone(), redactor.clone());

    if let Some(running) = session.running() {
        // The agent works: nothing may be prepared under its feet.
        if work.turn.as_ref().is_some_and(|turn| turn.execution_id == running) {
            return Ok(done(&git, session, Resume::Resumed).await);
        }
        // The object knows that it was stopped before the agent has come to rest.
        session.wait_until_free(limits::SETTLE_TIMEOUT).await.map_err(WorkError::Busy)?;
    }
    // On a workspace that is there these take no time, and are not worth telling.
    let cloned = workspace::is_cloned(paths);
    if !cloned {
        steps.begin(Step::DiskCheck, "Checking disk space…").await;
    }
    workspace::check_disk(&config.root)?;
    if !cloned {
        steps.begin(Step::WorkspaceSetup, "Setting up workspace…").await;
    }
    bench.own(paths)?;
    if !cloned {
        steps.begin(Step::Cloning, "Cloning repository…").await;
        workspace::clone(&git, paths, plan.shallow).await?;
        steps.begin(Step::Branch, "Setting up branch…").await;
        workspace::set_branch(&git, paths, plan, &config.author).await?;
    }
    if workspace::needs_setup(paths, plan) {
        steps.begin(Step::SetupCommands, "Running setup commands…").await;
        let environment = environment::for_setup(config, paths, plan);
        workspace::set_up(&environment, paths, plan, &redactor, limits::SETUP_COMMAND_TIMEOUT).await?;
    }
    let resume = agent_server(session, bench, plan, &redactor, steps).await?;
    if let Some(turn) = &work.turn {
        start_turn(session, bench, plan, turn, &git).await?;
    }
    Ok(done(&git, session, resume).await)
}

async fn done(git: &Git, session: &Session, resume: Resume) -> Outcome {
    let branch = workspace::current_branch(git, &session.paths).await;
    // What git itself calls a detached head.
    Outcome::Done { branch: branch.unwrap_or_else(|| "HEAD".to_owned()), resume }
}

/// Every secret that a command's output could show.
fn redactor(config: &Config, work: &Work) -> Redactor {
    let plan = &work.workspace;
    let own = config.token.iter().chain(config.model.as_ref().map(|model| &model.api_key));
    let turn = work.turn.as_ref().map(|turn| &turn.ingest_secret);
    Redactor::new(own.chain(&plan.git_token).chain(plan.env.values()).chain(turn).chain([&work.report.token]))
}

/// Makes the agent's session be there and its server run.
async fn agent_server(
    session: &Session,
    bench: &mut Bench,
    plan: &WorkspacePlan,
    redactor: &Redactor,
    steps: &mut Steps<'_>,
) -> Result<Resume, WorkError> {
    let (shared, paths) = (&session.shared, &session.paths);
    let missing = |what: &str| WorkError::AgentServer(what.to_owned());
    let kilo = shared.config.kilo.as_deref().ok_or_else(|| missing("there is no `kilo` on PATH"))?;
    let model = shared.config.model.as_ref().ok_or_else(|| missing("HOLDFAST_MODEL_BASE_URL is not set"))?;
    let environment = environment::for_agent(&shared.config, model, paths, plan);
    let kilo_session = &plan.kilo_session_id;
    let was_there = import::is_imported(paths, kilo_session);
    if !was_there {
        steps.begin(Step::KiloSession, "Importing session…").await;
        import::import_empty(kilo, &environment, paths, kilo_session, redactor).await?;
    }
    if bench.server.as_ref().is_some_and(|server| server.serves(&environment, kilo_session)) {
        return Ok(Resume::Resumed);
    }
    steps.begin(Step::KiloServer, "Starting Kilo…").await;
    if let Some(old) = bench.server.take() {
        old.stop().await;
    }
    let place = shared.places.clone().try_acquire_owned().map_err(|_| WorkError::TooManyAgents)?;
    let recipe = Recipe {
        kilo,
        environment: &environment,
        workspace: &paths.workspace,
        session: kilo_session,
        model: &model.name,
        redactor,
    };
    let server = bench.server.insert(Server::start(&recipe, &shared.http, place).await?);
    let known = server.client.knows_session().await.map_err(|error| WorkError::AgentServer(error.to_string()))?;
    if known {
        return Ok(if was_there { Resume::Resumed } else { Resume::Fresh });
    }
    // Its storage was lost or replaced: an import also reaches a server that runs.
    import_again(kilo, &environment, session, plan, redactor).await?;
    Ok(Resume::Fresh)
}

async fn import_again(
    kilo: &std::path::Path,
    environment: &Environment,
    session: &Session,
    plan: &WorkspacePlan,
    redactor: &Redactor,
) -> Result<(), WorkError> {
    import::forget(&session.paths);
    import::import_empty(kilo, environment, &session.paths, &plan.kilo_session_id, redactor).await
}

/// Hands the turn to the session's loop and waits until the agent took the prompt. The loop bounds this wait.
async fn start_turn(
    session: &Session,
    bench: &Bench,
    plan: &WorkspacePlan,
    turn: &TurnPlan,
    git: &Git,
) -> Result<(), WorkError> {
    let Some(server) = &bench.server else { return Err(WorkError::AgentServer("it is not there".to_owned())) };
    let (accepted, answer) = oneshot::channel();
    let start = Start {
        plan: turn.clone(),
        client: server.client.clone(),
        gone: server.gone(),
        git: git.clone(),
        requested_branch: plan.upstream_branch.clone(),
        accepted,
    };
    session.command(Command::Start(Box::new(start))).await;
    answer.await.unwrap_or(Err(WorkError::Cancelled(Cancel::Stopped)))
}

/// Tells the steps of one attempt.
struct Steps<'a> {
    session: &'a Session,
    reporter: Reporter,
    attempt: u64,
    n: u64,
}

impl Steps<'_> {
    async fn begin(&mut self, step: Step, message: &str) {
        self.tell(step, message.to_owned(), None).await;
    }

    async fn tell(&mut self, step: Step, message: String, outcome: Option<Outcome>) {
        self.n = self.n.saturating_add(1);
        let progress = Progress { attempt: self.attempt, n: self.n, step, message, outcome };
        // Nobody waits for the reports of an attempt that was replaced.
        if self.session.note(&progress) {
            log::info(
                "session",
                "step",
                json!({ "sessionId": self.session.id, "attempt": self.attempt, "n": self.n, "step": step }),
            );
            self.reporter.send(progress).await;
        }
    }
}
