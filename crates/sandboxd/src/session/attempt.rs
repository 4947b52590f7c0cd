//! One attempt at a piece of work, from the disk check to the prompt, told step by step (spec/session.md 7.3).
//!
//! What is there already is skipped. A failure, or somebody's wish, leaves nothing of the session running.

use super::cold_start;
use super::driver::Command;
use super::driver::Start;
use super::error::Cancel;
use super::error::WorkError;
use super::git::Git;
use super::git::GitUrl;
use super::images;
use super::images::Image;
use super::keep;
use super::keep::Means;
use super::kilo::environment;
use super::kilo::import;
use super::kilo::import::Importer;
use super::kilo::server::Recipe;
use super::kilo::server::Server;
use super::limits;
use super::logs::Destination;
use super::made_from;
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
    session.used();
    drop(bench);
    steps.tell(step, message, Some(outcome)).await;
}

async fn why(cancelled: &mut Cancelled) -> Cancel {
    // A sender that is gone was replaced.
    cancelled.wait_for(Option::is_some).await.ok().and_then(|reason| *reason).unwrap_or(Cancel::Replaced)
}

async fn prepare_and_start(
    session: &Arc<Session>,
    bench: &mut Bench,
    work: &Work,
    steps: &mut Steps<'_>,
) -> Result<Outcome, WorkError> {
    let plan = &work.workspace;
    let (config, paths) = (&session.shared.config, &session.paths);
    let resumes = work.snapshot.as_ref().is_some_and(|snapshot| snapshot.restore);
    let redactor = Redactor::of_work(config, work);
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
    let wanted = work.turn.as_ref().map_or(&[][..], |turn| &turn.images);
    let images = images::fetch(&session.shared.http, &session.id, &work.report.token, wanted).await?;
    // On a workspace that is there these take no time, and are not worth telling.
    let outdated = made_from::is_outdated(paths, plan, resumes);
    let cloned = workspace::is_cloned(paths) && !outdated;
    if !cloned {
        steps.begin(Step::DiskCheck, "Checking disk space…").await;
    }
    workspace::check_disk(&config.root).await?;
    if !cloned {
        steps.begin(Step::WorkspaceSetup, "Setting up workspace…").await;
    }
    bench.own(paths)?;
    if outdated {
        bench.clear(session).await;
        made_from::take_away(paths).await?;
    }
    if !cloned {
        cold_start::workspace(session, &git, plan, resumes, steps).await?;
    }
    if workspace::needs_setup(paths, plan) {
        steps.begin(Step::SetupCommands, "Running setup commands…").await;
        let environment = environment::for_setup(config, paths, plan);
        // A session that has worked before is not given up for a command that works no more (spec/session.md 8.1).
        let failed = workspace::set_up(&environment, paths, plan, &redactor, resumes).await?;
        for error in failed {
            steps.begin(Step::SetupCommands, &format!("{error}; going on without it")).await;
        }
    }
    let resume = agent_server(session, bench, work, steps).await?;
    if let Some(turn) = &work.turn {
        session.keeping.turn_begins();
        start_turn(session, bench, plan, turn, images, &git).await?;
        tokio::spawn(keep::after_turn(session.clone(), turn.execution_id.clone()));
        if let Some(url) = turn.logs_url.clone() {
            let to = Destination { url, token: work.report.token.clone() };
            session.followed.add(session.clone(), turn.execution_id.clone(), to, redactor);
        }
    }
    Ok(done(&git, session, resume).await)
}

async fn done(git: &Git, session: &Session, resume: Resume) -> Outcome {
    let branch = workspace::current_branch(git, &session.paths).await;
    // What git itself calls a detached head.
    Outcome::Done { branch: branch.unwrap_or_else(|| "HEAD".to_owned()), resume }
}

/// Makes the agent's session be there and its server run. From then on the session can be kept.
async fn agent_server(
    session: &Arc<Session>,
    bench: &mut Bench,
    work: &Work,
    steps: &mut Steps<'_>,
) -> Result<Resume, WorkError> {
    let (shared, paths) = (&session.shared, &session.paths);
    let means = Means::of(session, work)?;
    let (environment, kilo_session) = (&means.environment, &means.kilo_session);
    let agent = Importer { kilo: &means.kilo, environment, workspace: &paths.workspace, redactor: &means.redactor };
    let kept = means.store.as_ref().filter(|_| work.snapshot.as_ref().is_some_and(|snapshot| snapshot.restore));
    let mut resume = Resume::Resumed;
    if !import::is_imported(paths, kilo_session) {
        resume = cold_start::conversation(session, &agent, kilo_session, kept, steps).await?;
    }
    if !bench.server.as_ref().is_some_and(|server| server.serves(environment, kilo_session)) {
        steps.begin(Step::KiloServer, "Starting Kilo…").await;
        if let Some(old) = bench.server.take() {
            old.stop().await;
        }
        let place = shared.places.take(session).await.ok_or(WorkError::TooManyAgents)?;
        let recipe = Recipe {
            kilo: &means.kilo,
            environment,
            workspace: &paths.workspace,
            session: kilo_session,
            model: &means.model,
            redactor: &means.redactor,
        };
        let server = bench.server.insert(Server::start(&recipe, &shared.http, place).await?);
        let known = server.client.knows_session().await.map_err(|error| WorkError::AgentServer(error.to_string()))?;
        if !known {
            // Its storage was lost or replaced: an import also reaches a server that runs.
            resume = cold_start::conversation(session, &agent, kilo_session, kept, steps).await?;
        }
    }
    session.keeping.by(means);
    shared.memory.remember(session.id.as_str(), &Work { turn: None, ..work.clone() });
    Ok(resume)
}

/// Hands the turn to the session's loop and waits until the agent took the prompt. The loop bounds this wait.
async fn start_turn(
    session: &Session,
    bench: &Bench,
    plan: &WorkspacePlan,
    turn: &TurnPlan,
    images: Vec<Image>,
    git: &Git,
) -> Result<(), WorkError> {
    let Some(server) = &bench.server else { return Err(WorkError::AgentServer("it is not there".to_owned())) };
    let (accepted, answer) = oneshot::channel();
    let start = Start {
        plan: turn.clone(),
        images,
        client: server.client.clone(),
        gone: server.gone(),
        ender: server.ender(),
        permissions: plan.permissions,
        git: git.clone(),
        requested_branch: plan.upstream_branch.clone(),
        accepted,
    };
    session.command(Command::Start(Box::new(start))).await;
    answer.await.unwrap_or(Err(WorkError::Cancelled(Cancel::Stopped)))
}

/// Tells the steps of one attempt.
pub struct Steps<'a> {
    session: &'a Session,
    reporter: Reporter,
    attempt: u64,
    n: u64,
}

impl Steps<'_> {
    /// Tells that a step begins, or what came of it.
    pub async fn begin(&mut self, step: Step, message: &str) {
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
