//! A session's loop: the machines of sandbox-core, and what they ask for.
//!
//! One task per session owns the job, the turn and the link of the running execution. It never waits for anything but its
//! next input: every call is a task of its own that comes back with an input, so neither a stalled socket nor a slow agent
//! server stops the reading of events. Outputs of all machines go through one queue, in order.

mod hear;
mod perform;
mod run;
#[cfg(test)]
mod tests;

use crate::clock::now_ms;
use crate::log;
use crate::session::error::WorkError;
use crate::session::events;
use crate::session::events::Events;
use crate::session::git::Git;
use crate::session::images::Image;
use crate::session::kilo::client::Client;
use crate::session::kilo::server::Ender;
use crate::session::kilo::server::Gone;
use crate::session::limits;
use crate::session::link::Link;
use crate::session::link::News;
use crate::session::paths::SessionPaths;
use crate::session::prompted;
use crate::session::socket;
use crate::session::verdict::Judge;
use protocol::id::BranchName;
use protocol::id::ExecutionId;
use protocol::id::SessionId;
use protocol::sandbox::Permissions;
use protocol::sandbox::TurnPlan;
use run::Run;
use sandbox_core::event::AutoCommitCompleted;
use sandbox_core::event::Event;
use sandbox_core::gap::Answers;
use sandbox_core::ingest;
use sandbox_core::job;
use sandbox_core::job::Binding;
use sandbox_core::job::Job;
use sandbox_core::job::JobId;
use sandbox_core::limits::Limits;
use sandbox_core::turn;
use serde_json::json;
use std::collections::VecDeque;
use std::future;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::task::JoinError;
use tokio::task::JoinSet;

/// What the loop is asked to do.
pub enum Command {
    /// `job/abort`.
    Abort,
    /// Tell the agent a person's word. Dropped if no turn runs.
    Judge(Judge),
    /// The process is about to end.
    Shutdown {
        /// The signal's name.
        signal: &'static str,
    },
    /// Run a turn.
    Start(Box<Start>),
}

/// A turn and all it needs.
pub struct Start {
    /// What to do.
    pub plan: TurnPlan,
    /// What the prompt shows.
    pub images: Vec<Image>,
    /// The agent server.
    pub client: Client,
    /// Tells when the agent server has ended.
    pub gone: Gone,
    /// Ends the agent server.
    pub ender: Ender,
    /// Who answers the agent's requests for permission.
    pub permissions: Permissions,
    /// Commits and pushes.
    pub git: Git,
    /// The branch that the caller asked for by name.
    pub requested_branch: Option<BranchName>,
    /// Told once the agent took the prompt, or why it did not.
    pub accepted: oneshot::Sender<Result<(), WorkError>>,
}

/// What the loop is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// The execution that is started and has not said its last word.
    pub active: Option<ExecutionId>,
    /// Whether last words of an execution are still being delivered, or more.
    pub busy: bool,
}

/// Starts the loop of a session. It ends when the sender is dropped.
pub fn start(
    session: SessionId,
    paths: SessionPaths,
    limits: Limits,
) -> (mpsc::Sender<Command>, watch::Receiver<Activity>) {
    let (commands, queue) = mpsc::channel(limits::NOTES_MAX);
    let (driver, activity) = Driver::new(session, paths, limits);
    tokio::spawn(driver.run(queue));
    (commands, activity)
}

struct Driver {
    session: SessionId,
    paths: SessionPaths,
    limits: Limits,
    job: Job,
    /// Asked for, and not yet accepted by the job machine.
    starting: Option<Box<Start>>,
    run: Option<Run>,
    tasks: JoinSet<Done>,
    todo: VecDeque<Todo>,
    tell: watch::Sender<Activity>,
}

/// What came of a call.
enum Done {
    Aborted(JobId),
    AutoCommitted(JobId, AutoCommitCompleted),
    Branch(JobId, Option<String>),
    /// What the agent server has, asked for after a gap in that subscription's events.
    CaughtUp {
        job: JobId,
        subscription: u64,
        answers: Option<Answers>,
    },
    Condensed(JobId),
    Prompted(JobId, Result<(), String>),
    Replied,
    /// Events for viewers, not for the turn.
    Snapshot(JobId, Option<Vec<String>>),
    Status(JobId, Option<bool>),
}

/// What a machine asked for and is not yet done.
enum Todo {
    Job(job::Output),
    News(News),
    Turn(turn::Output),
}

/// What happened next.
enum Happened {
    Command(Option<Command>),
    Deadline,
    Done(Done),
    Events(Option<events::Note>),
    Gone(String),
    /// A call was cancelled, or it panicked. Whoever waits for it does so for a time only.
    NotDone(JoinError),
    Socket(socket::Note),
}

impl Driver {
    fn new(session: SessionId, paths: SessionPaths, limits: Limits) -> (Self, watch::Receiver<Activity>) {
        let (tell, activity) = watch::channel(Activity::default());
        let known = prompted::read(&paths, limits.message_ids_max);
        let job = Job::new(&limits, known);
        let driver = Self {
            session,
            paths,
            limits,
            job,
            starting: None,
            run: None,
            tasks: JoinSet::new(),
            todo: VecDeque::new(),
            tell,
        };
        (driver, activity)
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            match self.next(&mut commands).await {
                Happened::Command(None) => return,
                Happened::Command(Some(command)) => self.command(command),
                Happened::Deadline => self.tick(),
                Happened::Done(done) => self.done(done),
                Happened::Events(note) => self.events(note),
                Happened::Gone(message) => {
                    if let Some(run) = &mut self.run {
                        run.gone = None;
                    }
                    self.turn(turn::Input::ServerGone { message });
                }
                Happened::NotDone(error) if error.is_cancelled() => {}
                Happened::NotDone(error) => {
                    let fields = json!({ "sessionId": self.session, "error": error.to_string() });
                    log::error("session", "call_panicked", fields);
                }
                Happened::Socket(note) => {
                    if let Some(link) = self.run.as_mut().and_then(|run| run.link.as_mut()) {
                        self.todo.extend(link.receive_note(&note).into_iter().map(Todo::News));
                    }
                }
            }
            self.work_off();
            let activity = Activity { active: self.job.active().cloned(), busy: self.run.is_some() };
            self.tell.send_replace(activity);
        }
    }

    /// Every branch may be cancelled without losing anything.
    async fn next(&mut self, commands: &mut mpsc::Receiver<Command>) -> Happened {
        let deadline = self.next_deadline();
        let (link, events, gone) = match &mut self.run {
            Some(run) => (run.link.as_mut(), run.events.as_mut(), run.gone.as_mut()),
            None => (None, None, None),
        };
        tokio::select! {
            command = commands.recv() => Happened::Command(command),
            () = until(deadline) => Happened::Deadline,
            Some(done) = self.tasks.join_next() => done.map_or_else(Happened::NotDone, Happened::Done),
            note = some(events.map(Events::next)) => Happened::Events(note),
            Some(note) = some(link.map(Link::note)) => Happened::Socket(note),
            message = some(gone.map(ended)) => Happened::Gone(message),
        }
    }

    fn next_deadline(&self) -> Option<i64> {
        let run = self.run.as_ref();
        let of_run = run
            .map(|run| [run.turn.next_deadline(), run.link.as_ref().and_then(Link::next_deadline), run.resubscribe_at]);
        of_run.into_iter().flatten().chain([self.job.next_deadline()]).flatten().min()
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Abort => self.job(job::Input::Abort),
            Command::Judge(judge) => {
                if let Some(run) = &self.run {
                    let told = judge.run(run.client.clone());
                    self.tasks.spawn(async move {
                        told.await;
                        Done::Replied
                    });
                }
            }
            Command::Shutdown { signal } => self.job(job::Input::Shutdown { signal }),
            Command::Start(start) => {
                let binding = Binding {
                    execution_id: start.plan.execution_id.clone(),
                    kilo_session_id: start.client.session().clone(),
                    message_id: start.plan.message_id.clone(),
                    auto_commit: start.plan.auto_commit,
                    condense_on_complete: start.plan.condense_on_complete,
                };
                self.starting = Some(start);
                self.job(job::Input::Start(binding));
            }
        }
    }

    fn tick(&mut self) {
        self.link(ingest::Input::Tick);
        self.turn(turn::Input::Tick);
        self.job(job::Input::Tick);
        if let Some(run) = &mut self.run
            && run.resubscribe_at.is_some_and(|at| at <= now_ms())
        {
            run.subscribe(&self.limits);
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Aborted(job) if self.may_yet_begin(job) => {}
            Done::Aborted(job) => self.job(job::Input::AgentAborted(job)),
            Done::AutoCommitted(job, completed) => {
                if self.is_running(job) {
                    self.link(ingest::Input::Event(Event::autocommit_completed(&completed)));
                }
                self.job(job::Input::AutoCommitDone(job));
            }
            Done::Branch(job, branch) => self.job(job::Input::Branch { job, branch }),
            Done::CaughtUp { job, subscription, answers } => self.caught_up(job, subscription, answers.as_ref()),
            Done::Condensed(job) => self.job(job::Input::CondenseDone(job)),
            Done::Prompted(job, Ok(())) => {
                if let Some(run) = self.run.as_mut().filter(|run| run.id == job) {
                    run.answer(Ok(()));
                }
                self.job(job::Input::PromptSent(job));
            }
            Done::Prompted(job, Err(message)) => {
                if let Some(run) = self.run.as_ref().filter(|run| run.id == job) {
                    prompted::remove(&self.paths, &run.plan.message_id, self.limits.message_ids_max);
                    self.turn(turn::Input::PromptRefused { message: message.clone() });
                }
                self.job(job::Input::PromptFailed { job, message });
            }
            Done::Snapshot(job, events) => self.snapshot_taken(job, events.as_deref().unwrap_or_default()),
            Done::Status(job, Some(busy)) if self.is_running(job) => self.turn(turn::Input::Status { busy }),
            Done::Replied | Done::Status(..) => {}
        }
    }

    fn job(&mut self, input: job::Input) {
        self.todo.extend(self.job.receive(now_ms(), input).into_iter().map(Todo::Job));
    }

    fn turn(&mut self, input: turn::Input<'_>) {
        if let Some(run) = &mut self.run {
            self.todo.extend(run.turn.receive(now_ms(), input).into_iter().map(Todo::Turn));
        }
    }

    fn link(&mut self, input: ingest::Input<'_>) {
        if let Some(link) = self.run.as_mut().and_then(|run| run.link.as_mut()) {
            self.todo.extend(link.receive(input).into_iter().map(Todo::News));
        }
    }

    fn run_of(&mut self, id: JobId) -> Option<&mut Run> {
        self.run.as_mut().filter(|run| run.id == id)
    }

    /// Starts a call for job `id`, if that is the running one.
    fn call<F: Future<Output = Done> + Send + 'static>(
        &mut self,
        id: JobId,
        make: impl FnOnce(Client, &Run) -> F,
    ) -> Option<AbortHandle> {
        let run = self.run.as_ref().filter(|run| run.id == id)?;
        let call = make(run.client.clone(), run);
        Some(self.tasks.spawn(call))
    }

    fn is_running(&self, job: JobId) -> bool {
        self.run.as_ref().is_some_and(|run| run.id == job)
    }

    /// Whether the agent was told to stop before it took the prompt up, and has not done so yet.
    fn may_yet_begin(&self, job: JobId) -> bool {
        self.run.as_ref().is_some_and(|run| run.id == job && run.turn.may_yet_begin())
    }
}

/// Waits for what may not be there.
async fn some<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => future::pending().await,
    }
}

async fn until(deadline: Option<i64>) {
    match deadline {
        Some(at) => {
            let ms = u64::try_from(at.saturating_sub(now_ms())).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        None => future::pending().await,
    }
}

async fn ended(gone: &mut Gone) -> String {
    let reason = gone.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    reason.unwrap_or_else(|| "the agent server ended".to_owned())
}
