//! A session's loop: the machines of sandbox-core, and what they ask for.
//!
//! One task per session owns the job, the turn and the link of the running execution. It never waits for anything but its
//! next input: every call is a task of its own that comes back with an input, so neither a stalled socket nor a slow agent
//! server stops the reading of events. Outputs of all machines go through one queue, in order.

use super::autocommit::AutoCommit;
use super::error::WorkError;
use super::events;
use super::events::Events;
use super::git::Git;
use super::kilo::client::Client;
use super::kilo::server::Gone;
use super::limits;
use super::link::Address;
use super::link::Link;
use super::link::News;
use super::link::now_ms;
use super::paths::SessionPaths;
use super::prompted;
use super::socket;
use super::workspace;
use crate::log;
use protocol::id::BranchName;
use protocol::id::ExecutionId;
use protocol::id::SessionId;
use protocol::ingest::Command as ObjectCommand;
use protocol::sandbox::TurnPlan;
use sandbox_core::agent::AgentEvent;
use sandbox_core::event::AutoCommitCompleted;
use sandbox_core::event::Event;
use sandbox_core::ingest;
use sandbox_core::ingest::GaveUp;
use sandbox_core::job;
use sandbox_core::job::Binding;
use sandbox_core::job::Job;
use sandbox_core::job::JobEnd;
use sandbox_core::job::JobId;
use sandbox_core::limits::Limits;
use sandbox_core::turn;
use sandbox_core::turn::Turn;
use serde_json::json;
use std::collections::VecDeque;
use std::future;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;

/// What the loop is asked to do.
pub enum Command {
    /// `job/abort`.
    Abort,
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
    /// The agent server.
    pub client: Client,
    /// Tells when the agent server has ended.
    pub gone: Gone,
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
pub fn start(session: SessionId, paths: SessionPaths) -> (mpsc::Sender<Command>, watch::Receiver<Activity>) {
    let (commands, queue) = mpsc::channel(limits::NOTES_MAX);
    let (tell, activity) = watch::channel(Activity::default());
    let limits = Limits::default();
    let known = prompted::read(&paths, limits.message_ids_max);
    let job = Job::new(&limits, known);
    let driver = Driver {
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

/// One execution.
struct Run {
    id: JobId,
    plan: TurnPlan,
    client: Client,
    git: Git,
    requested_branch: Option<BranchName>,
    accepted: Option<oneshot::Sender<Result<(), WorkError>>>,
    /// None once it was seen.
    gone: Option<Gone>,
    turn: Turn,
    link: Option<Link>,
    events: Option<Events>,
    /// Whether this subscription has been heard.
    open: bool,
    /// Whether an earlier subscription of this execution was open.
    heard_before: bool,
    /// When to subscribe again.
    resubscribe_at: Option<i64>,
    /// Auto-commit and condensing, which may be cancelled.
    after_turn: Vec<AbortHandle>,
}

/// What came of a call.
enum Done {
    Aborted(JobId),
    AutoCommitted(JobId, AutoCommitCompleted),
    Branch(JobId, Option<String>),
    Condensed(JobId),
    Prompted(JobId, Result<(), String>),
    Replied,
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
    Socket(socket::Note),
}

impl Driver {
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
            Some(Ok(done)) = self.tasks.join_next() => Happened::Done(done),
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
            Done::Aborted(job) => self.job(job::Input::AgentAborted(job)),
            Done::AutoCommitted(job, completed) => {
                if self.is_running(job) {
                    self.link(ingest::Input::Event(Event::autocommit_completed(&completed)));
                }
                self.job(job::Input::AutoCommitDone(job));
            }
            Done::Branch(job, branch) => self.job(job::Input::Branch { job, branch }),
            Done::Condensed(job) => self.job(job::Input::CondenseDone(job)),
            Done::Prompted(job, Ok(())) => {
                if self.is_running(job) {
                    self.accept(Ok(()));
                }
                self.job(job::Input::PromptSent(job));
            }
            Done::Prompted(job, Err(message)) => {
                if self.is_running(job) {
                    self.turn(turn::Input::PromptRefused { message: message.clone() });
                }
                self.job(job::Input::PromptFailed { job, message });
            }
            Done::Status(job, Some(busy)) if self.is_running(job) => self.turn(turn::Input::Status { busy }),
            Done::Replied | Done::Status(..) => {}
        }
    }

    fn events(&mut self, note: Option<events::Note>) {
        let Some(run) = &mut self.run else { return };
        match note {
            Some(events::Note::Payloads(payloads)) => {
                if !std::mem::replace(&mut run.open, true) {
                    let id = run.id;
                    if std::mem::replace(&mut run.heard_before, true) {
                        self.turn(turn::Input::StreamResumed);
                    }
                    self.job(job::Input::EventsOpen(id));
                }
                self.job(job::Input::AgentHeard);
                for payload in &payloads {
                    self.agent_event(payload);
                }
            }
            Some(events::Note::Ended { reason }) => {
                log::warn("session", "agent_events_ended", json!({ "sessionId": self.session, "reason": reason }));
                run.events = None;
                let again_at = now_ms().saturating_add(limits::RESUBSCRIBE_PAUSE_MS);
                run.resubscribe_at = run.gone.is_some().then_some(again_at);
            }
            None => run.events = None,
        }
    }

    fn agent_event(&mut self, payload: &str) {
        match AgentEvent::parse(payload) {
            Ok(event) => {
                self.link(ingest::Input::Agent(&event));
                self.turn(turn::Input::Agent(&event));
            }
            Err(error) => {
                let fields = json!({ "sessionId": self.session, "error": error.to_string() });
                log::warn("session", "agent_event_unreadable", fields);
            }
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

    fn is_running(&self, job: JobId) -> bool {
        self.run.as_ref().is_some_and(|run| run.id == job)
    }

    fn work_off(&mut self) {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::Job(output) => self.do_job(output),
                Todo::News(news) => self.do_news(news),
                Todo::Turn(output) => self.do_turn(output),
            }
        }
    }

    fn do_job(&mut self, output: job::Output) {
        match output {
            job::Output::AbortAgent(id) => {
                self.turn(turn::Input::Stopping);
                self.call(id, move |client, _| async move {
                    if let Err(error) = client.abort().await {
                        log::warn("session", "abort_failed", json!({ "error": error.to_string() }));
                    }
                    Done::Aborted(id)
                });
            }
            job::Output::Accepted(id) => self.begin(id),
            job::Output::CancelTasks(id) => {
                if let Some(run) = self.run_of(id) {
                    run.after_turn.drain(..).for_each(|task| task.abort());
                }
            }
            job::Output::CloseIngest(id) => {
                if self.is_running(id) {
                    self.link(ingest::Input::Close);
                }
                if let Some(link) = self.run_of(id).and_then(|run| run.link.take()) {
                    tokio::spawn(link.finish());
                }
            }
            job::Output::Duplicate => self.answer_start(Ok(())),
            job::Output::Emit { job, event } => {
                if self.is_running(job) {
                    self.link(ingest::Input::Event(event));
                }
            }
            job::Output::Ended { job, end } => self.end(job, &end),
            job::Output::FinishIngest(id) => {
                if self.is_running(id) {
                    self.link(ingest::Input::Finish);
                }
            }
            job::Output::Open(id) => self.open(id),
            job::Output::ReadBranch(id) => {
                let paths = self.paths.clone();
                self.call(id, move |_, run| {
                    let git = run.git.clone();
                    async move { Done::Branch(id, workspace::current_branch(&git, &paths).await) }
                });
            }
            job::Output::Refused { active } => self.answer_start(Err(WorkError::Busy(active))),
            job::Output::RestartEvents(id) => {
                let limits = self.limits.clone();
                if let Some(run) = self.run_of(id) {
                    run.subscribe(&limits);
                }
            }
            job::Output::RunAutoCommit(id) => self.auto_commit(id),
            job::Output::RunCondense(id) => {
                let task = self.call(id, move |client, _| async move {
                    if let Err(error) = client.condense().await {
                        log::warn("session", "condense_failed", json!({ "error": error.to_string() }));
                    }
                    Done::Condensed(id)
                });
                if let Some(run) = self.run_of(id) {
                    run.after_turn.extend(task);
                }
            }
            job::Output::SendPrompt(id) => self.prompt(id),
        }
    }

    fn do_turn(&mut self, output: turn::Output) {
        let Some(id) = self.run.as_ref().map(|run| run.id) else { return };
        match output {
            turn::Output::AskStatus => {
                self.call(id, move |client, _| async move { Done::Status(id, client.is_busy().await.ok()) });
            }
            turn::Output::Ended(end) => self.job(job::Input::TurnEnded { job: id, end }),
            turn::Output::RejectQuestion { id: question } => {
                self.call(id, move |client, _| async move {
                    reply_logged(client.reject_question(&question).await);
                    Done::Replied
                });
            }
            turn::Output::ReplyPermission { id: permission } => {
                self.call(id, move |client, _| async move {
                    reply_logged(client.allow(&permission).await);
                    Done::Replied
                });
            }
        }
    }

    fn do_news(&mut self, news: News) {
        let Some(id) = self.run.as_ref().map(|run| run.id) else { return };
        match news {
            News::Command(ObjectCommand::Kill { .. }) => self.job(job::Input::Kill),
            News::Command(command) => {
                log::info("session", "command_ignored", json!({ "sessionId": self.session, "command": command }));
            }
            News::Drained => self.job(job::Input::IngestDrained(id)),
            News::GaveUp(why) => self.job(job::Input::IngestGaveUp { job: id, why }),
            News::Ready => self.job(job::Input::IngestReady(id)),
        }
    }

    fn begin(&mut self, id: JobId) {
        let Some(start) = self.starting.take() else { return };
        let fields = json!({ "sessionId": self.session, "executionId": start.plan.execution_id });
        log::info("session", "turn_started", fields);
        self.run = Some(Run {
            id,
            turn: Turn::new(&self.limits, start.client.session().clone()),
            plan: start.plan,
            client: start.client,
            git: start.git,
            requested_branch: start.requested_branch,
            accepted: Some(start.accepted),
            gone: Some(start.gone),
            link: None,
            events: None,
            open: false,
            heard_before: false,
            resubscribe_at: None,
            after_turn: Vec::new(),
        });
    }

    fn open(&mut self, id: JobId) {
        let (limits, paths) = (self.limits.clone(), self.paths.clone());
        let Some(run) = self.run_of(id) else { return };
        let address = Address {
            execution_id: run.plan.execution_id.clone(),
            url: run.plan.ingest_url.clone(),
            secret: run.plan.ingest_secret.clone(),
        };
        if let Err(error) = address.save(&paths) {
            log::error("session", "address_not_saved", json!({ "error": error.to_string() }));
        }
        run.link = Some(Link::new(&limits, address, paths.spool(&run.plan.execution_id)));
        run.subscribe(&limits);
        self.link(ingest::Input::Open);
    }

    fn prompt(&mut self, id: JobId) {
        self.turn(turn::Input::Prompt);
        let (paths, keep) = (self.paths.clone(), self.limits.message_ids_max);
        self.call(id, move |client, run| {
            let plan = run.plan.clone();
            async move {
                // Before the call: a message whose answer was lost must not run twice.
                if let Err(error) = prompted::add(&paths, &plan.message_id, keep) {
                    return Done::Prompted(id, Err(format!("the message cannot be noted: {error}")));
                }
                Done::Prompted(id, client.prompt(&plan).await.map_err(|error| error.to_string()))
            }
        });
    }

    fn auto_commit(&mut self, id: JobId) {
        if self.is_running(id) {
            self.link(ingest::Input::Event(Event::autocommit_started("Committing changes...")));
        }
        let paths = self.paths.clone();
        let task = self.call(id, move |_, run| {
            let commit = AutoCommit {
                git: run.git.clone(),
                paths,
                requested: run.requested_branch.clone(),
                prompt: run.plan.prompt.clone(),
            };
            async move { Done::AutoCommitted(id, commit.run().await) }
        });
        if let Some(run) = self.run_of(id) {
            run.after_turn.extend(task);
        }
    }

    fn end(&mut self, id: JobId, end: &JobEnd) {
        if !self.is_running(id) {
            return;
        }
        let Some(mut run) = self.run.take() else { return };
        let execution = &run.plan.execution_id;
        let fields = json!({ "sessionId": self.session, "executionId": execution, "end": format!("{end:?}") });
        log::info("session", "turn_ended", fields);
        match end {
            JobEnd::Reported | JobEnd::NotStarted { .. } | JobEnd::Abandoned(GaveUp::Fenced { .. }) => {
                Address::forget(&self.paths, execution);
            }
            // The next process on this disk tries again.
            JobEnd::Abandoned(GaveUp::FinishTimeout | GaveUp::Unreachable) | JobEnd::Replaced => {}
        }
        if let Some(accepted) = run.accepted.take() {
            let why = match end {
                JobEnd::NotStarted { code: "CONNECTION_ERROR", message } => WorkError::Ingest(message.clone()),
                JobEnd::NotStarted { message, .. } => WorkError::Prompt(message.clone()),
                JobEnd::Abandoned(why) => WorkError::Ingest(why.reason().to_owned()),
                JobEnd::Replaced | JobEnd::Reported => WorkError::Aborted("the turn was ended"),
            };
            let _ = accepted.send(Err(why));
        }
        if let Some(link) = run.link.take() {
            tokio::spawn(link.finish());
        }
    }

    /// The agent took the prompt, or did not.
    fn accept(&mut self, result: Result<(), WorkError>) {
        if let Some(accepted) = self.run.as_mut().and_then(|run| run.accepted.take()) {
            let _ = accepted.send(result);
        }
    }

    /// The machine did not make a job of what was asked.
    fn answer_start(&mut self, result: Result<(), WorkError>) {
        if let Some(start) = self.starting.take() {
            let _ = start.accepted.send(result);
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
}

impl Run {
    fn subscribe(&mut self, limits: &Limits) {
        self.open = false;
        self.resubscribe_at = None;
        self.events = Some(Events::subscribe(self.client.clone(), limits));
    }
}

fn reply_logged(result: Result<(), super::kilo::client::CallError>) {
    if let Err(error) = result {
        log::warn("session", "reply_failed", json!({ "error": error.to_string() }));
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
