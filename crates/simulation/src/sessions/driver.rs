//! A session's loop: the real job, turn, gap and ingest machines, and what happens to them (`crates/sandboxd/src/session/driver/mod.rs`).
//! Outputs of all machines go through one queue, in order.

use super::disk::Home;
use super::link::Link;
use super::link::News;
use super::worker::Worker;
use super::world::World;
use protocol::id::MessageId;
use protocol::sandbox::TurnPlan;
use sandbox_core::agent::AgentEvent;
use sandbox_core::event::AutoCommitCompleted;
use sandbox_core::event::Event as OwnEvent;
use sandbox_core::gap::Answers;
use sandbox_core::gap::Gap;
use sandbox_core::ingest;
use sandbox_core::job;
use sandbox_core::job::Binding;
use sandbox_core::job::JobId;
use sandbox_core::overtaken::Overtaken;
use sandbox_core::sse::SseDecoder;
use sandbox_core::turn;
use sandbox_core::turn::Turn;

/// After the agent's event stream ended, until it is subscribed to again.
pub const RESUBSCRIBE_MS: i64 = 250;
/// Rounds of one event in which a deadline that has passed may not move.
const ROUNDS_MAX: u32 = 5_000;

/// What the loop is asked to do.
pub enum Command {
    Abort,
    Shutdown,
    /// Run a turn; the task waits for whether the agent took the prompt.
    Start(Box<TurnPlan>, u64),
}

/// What a machine asked for and is not yet done.
pub enum Todo {
    Job(job::Output),
    News(News),
    Turn(turn::Output),
}

/// One execution while it runs (`driver/run.rs`).
pub struct Running {
    pub id: JobId,
    pub plan: TurnPlan,
    /// The task that waits for whether the agent took the prompt.
    pub accepted: Option<u64>,
    pub turn: Turn,
    pub link: Option<Link>,
    /// The subscription's bytes become events here. None: there is no subscription.
    pub decoder: Option<SseDecoder>,
    /// Whether this subscription has been heard.
    pub open: bool,
    pub heard_before: bool,
    pub gap: Option<Gap>,
    /// What the stream says while the agent server is asked on a viewer's behalf.
    pub snapshot: Option<Overtaken>,
    pub subscriptions: u64,
    /// When the prompt was sent, on the container's clock.
    pub prompted_at: i64,
    pub resubscribe_at: Option<i64>,
    /// The end of the agent server was not yet seen.
    pub gone_unseen: bool,
}

/// A call under way: it comes back with what it was for.
pub struct Call {
    pub job: JobId,
    /// Auto-commit and condensing, which may be cancelled.
    pub after_turn: bool,
    pub done: Done,
}

/// What came of a call.
pub enum Done {
    Aborted,
    AutoCommitted(AutoCommitCompleted),
    Branch(Option<String>),
    CaughtUp {
        subscription: u64,
        answers: Option<Answers>,
    },
    Condensed,
    Prompted(Result<(), String>),
    /// Events for viewers, not for the turn.
    Snapshot(Vec<String>),
    Status(Option<bool>),
}

impl World<'_> {
    pub fn driver_command(&mut self, w: &mut Worker, command: Command) {
        match command {
            Command::Abort => self.job(w, job::Input::Abort),
            Command::Shutdown => self.job(w, job::Input::Shutdown { signal: "SIGTERM" }),
            Command::Start(plan, task) => {
                let binding = Binding {
                    execution_id: plan.execution_id.clone(),
                    kilo_session_id: w.kilo.clone(),
                    message_id: plan.message_id.clone(),
                    auto_commit: plan.auto_commit,
                    condense_on_complete: plan.condense_on_complete,
                };
                w.starting = Some((*plan, task));
                self.job(w, job::Input::Start(binding));
            }
        }
    }

    /// Everything that is due now, until nothing is.
    pub fn settle(&mut self, w: &mut Worker) {
        for _ in 0..ROUNDS_MAX {
            self.work_off(w);
            if !(self.deadline_passed(w)
                || self.call_returns(w)
                || self.agent_lives(w)
                || self.post_reports(w)
                || self.advance_tasks(w))
            {
                return;
            }
        }
        let deadlines = (w.job.next_deadline(), w.run.as_ref().map(|run| run.turn.next_deadline()));
        self.run.broken("a deadline that was served moves", || format!("{deadlines:?}"));
    }

    /// When something is due next.
    pub fn wakes_at(&self, w: &Worker) -> Option<i64> {
        let machines = self.machines_wake_at(w).map(|at| at - w.skew_ms);
        let rest = [
            w.calls.first_key_value().map(|((at, _), _)| *at),
            w.run.as_ref().and_then(|run| run.resubscribe_at),
            w.agent.as_ref().and_then(|agent| agent.wakes_at()),
            self.reports_wake_at(w),
            self.tasks_wake_at(w),
        ];
        rest.into_iter().chain([machines]).flatten().min()
    }

    /// On the container's clock.
    fn machines_wake_at(&self, w: &Worker) -> Option<i64> {
        let of_run = w
            .run
            .as_ref()
            .map(|run| [run.turn.next_deadline(), run.link.as_ref().and_then(|link| link.ingest.next_deadline())]);
        let links = w.links.iter().map(|link| link.ingest.next_deadline());
        of_run.into_iter().flatten().chain(links).chain([w.job.next_deadline()]).flatten().min()
    }

    fn deadline_passed(&mut self, w: &mut Worker) -> bool {
        let now = self.now;
        if w.run.as_ref().is_some_and(|run| run.resubscribe_at.is_some_and(|at| at <= now)) {
            self.subscribe(w);
            return true;
        }
        if self.machines_wake_at(w).is_none_or(|at| at > w.now(now)) {
            return false;
        }
        self.link(w, ingest::Input::Tick);
        self.turn_input(w, turn::Input::Tick);
        self.job(w, job::Input::Tick);
        for mut link in std::mem::take(&mut w.links) {
            let news = self.link_receive(w, &mut link, ingest::Input::Tick);
            self.drains(w, link, news);
        }
        true
    }

    fn call_returns(&mut self, w: &mut Worker) -> bool {
        let Some(entry) = w.calls.first_entry().filter(|entry| entry.key().0 <= self.now) else { return false };
        let Call { job, done, .. } = entry.remove();
        let is_running = w.run.as_ref().is_some_and(|run| run.id == job);
        match done {
            Done::Aborted => {
                if !w.run.as_ref().is_some_and(|run| run.id == job && run.turn.may_yet_begin()) {
                    self.job(w, job::Input::AgentAborted(job));
                }
            }
            Done::AutoCommitted(completed) => {
                if is_running {
                    self.link_event(w, OwnEvent::autocommit_completed(&completed));
                }
                self.job(w, job::Input::AutoCommitDone(job));
            }
            Done::Branch(branch) => self.job(w, job::Input::Branch { job, branch }),
            Done::CaughtUp { subscription, answers } => {
                if is_running {
                    self.caught_up(w, subscription, answers.as_ref());
                }
            }
            Done::Condensed => self.job(w, job::Input::CondenseDone(job)),
            Done::Prompted(Ok(())) => {
                if is_running && let Some(task) = w.run.as_mut().and_then(|run| run.accepted.take()) {
                    self.start_answered(w, task, Ok(()));
                }
                self.job(w, job::Input::PromptSent(job));
            }
            Done::Prompted(Err(message)) => {
                if is_running && let Some(run) = &w.run {
                    forget_prompt(self.home(w.disk, w.s), &run.plan.message_id);
                    self.turn_input(w, turn::Input::PromptRefused { message: message.clone() });
                }
                self.job(w, job::Input::PromptFailed { job, message });
            }
            Done::Snapshot(events) => {
                let overtaken = w.run.as_mut().filter(|_| is_running).and_then(|run| run.snapshot.take());
                let Some(overtaken) = overtaken.filter(|_| !w.job.has_said_its_last()) else { return true };
                let events = events.iter().filter_map(|payload| AgentEvent::parse(payload).ok());
                for event in events.filter(|event| overtaken.leaves(event)) {
                    self.link_event_of_agent(w, &event);
                }
            }
            Done::Status(Some(busy)) if is_running => self.turn_input(w, turn::Input::Status { busy }),
            Done::Status(_) => {}
        }
        true
    }

    fn caught_up(&mut self, w: &mut Worker, subscription: u64, answers: Option<&Answers>) {
        let session = w.kilo.clone();
        let Some(run) = w.run.as_mut().filter(|run| run.subscriptions == subscription) else { return };
        let (gap, prompt, since) = (run.gap.take(), run.plan.message_id.clone(), run.prompted_at);
        let found = answers.and_then(|answers| gap?.close(&session, &prompt, since, answers));
        if let Some(found) = &found {
            for event in found.events.iter().filter_map(|payload| AgentEvent::parse(payload).ok()) {
                self.link_event_of_agent(w, &event);
            }
            for payload in &found.requests {
                self.agent_event(w, payload);
            }
        }
        self.turn_input(w, turn::Input::CaughtUp(found.as_ref().map(|found| &found.turn)));
    }

    /// Bytes of the agent's event stream.
    pub fn chunk(&mut self, w: &mut Worker, bytes: &[u8]) {
        self.job(w, job::Input::AgentHeard);
        let Some(mut decoder) = w.run.as_mut().and_then(|run| run.decoder.take()) else { return };
        let mut payloads = Vec::new();
        decoder.push(bytes, |payload| payloads.push(payload.to_owned()));
        for payload in payloads {
            self.events_open(w);
            self.agent_event(w, &payload);
        }
        if let Some(run) = &mut w.run {
            run.decoder = Some(decoder);
        }
    }

    /// The subscription brings events: it is open.
    fn events_open(&mut self, w: &mut Worker) {
        let Some(run) = w.run.as_mut().filter(|run| !run.open) else { return };
        run.open = true;
        let id = run.id;
        if std::mem::replace(&mut run.heard_before, true) {
            self.turn_input(w, turn::Input::StreamResumed);
        }
        self.job(w, job::Input::EventsOpen(id));
    }

    fn agent_event(&mut self, w: &mut Worker, payload: &str) {
        let event = AgentEvent::parse(payload).expect("the modelled agent speaks JSON");
        let limits = self.limits.clone();
        if let Some(gap) = w.run.as_mut().and_then(|run| run.gap.as_mut()) {
            gap.hear(&limits, &event);
        }
        let session = w.kilo.clone();
        if let Some(snapshot) = w.run.as_mut().and_then(|run| run.snapshot.as_mut()) {
            snapshot.hear(&limits, &session, &event);
        }
        self.link_event_of_agent(w, &event);
        self.turn_input(w, turn::Input::Agent(&event));
    }

    pub fn job(&mut self, w: &mut Worker, input: job::Input) {
        let now = w.now(self.now);
        self.run.cover(job_state(w), job_input(&input));
        let outputs = w.job.receive(now, input);
        w.todo.extend(outputs.into_iter().map(Todo::Job));
    }

    pub fn turn_input(&mut self, w: &mut Worker, input: turn::Input<'_>) {
        let now = w.now(self.now);
        if let Some(run) = &mut w.run {
            let outputs = run.turn.receive(now, input);
            w.todo.extend(outputs.into_iter().map(Todo::Turn));
        }
    }

    pub fn link(&mut self, w: &mut Worker, input: ingest::Input<'_>) {
        self.with_running_link(w, |world, w, link| world.link_receive(w, link, input));
    }

    pub fn link_event(&mut self, w: &mut Worker, event: OwnEvent) {
        self.with_running_link(w, |world, w, link| world.link_own(w, link, event));
    }

    fn link_event_of_agent(&mut self, w: &mut Worker, event: &AgentEvent<'_>) {
        self.with_running_link(w, |world, w, link| world.link_agent(w, link, event));
    }

    pub fn with_running_link(&mut self, w: &mut Worker, act: impl FnOnce(&mut Self, &Worker, &mut Link) -> Vec<News>) {
        let Some(mut link) = w.run.as_mut().and_then(|run| run.link.take()) else { return };
        let news = act(self, w, &mut link);
        w.todo.extend(news.into_iter().map(Todo::News));
        if let Some(run) = &mut w.run {
            run.link = Some(link);
        }
    }
}

/// A message that the agent did not take may come again.
pub fn forget_prompt(home: &mut Home, message: &MessageId) {
    home.prompted.retain(|known| known != message);
}

/// Where a job is, as far as it shows.
fn job_state(w: &Worker) -> &'static str {
    match (&w.run, w.job.active()) {
        (None, None) => "job none",
        (None, Some(_)) => "job accepted",
        (Some(_), Some(_)) => "job active",
        (Some(_), None) => "job finishing",
    }
}

fn job_input(input: &job::Input) -> &'static str {
    match input {
        job::Input::Abort => "job abort",
        job::Input::AgentAborted(_) => "job agent-aborted",
        job::Input::AgentHeard => "job agent-heard",
        job::Input::AutoCommitDone(_) => "job auto-commit-done",
        job::Input::Branch { .. } => "job branch",
        job::Input::CondenseDone(_) => "job condense-done",
        job::Input::EventsOpen(_) => "job events-open",
        job::Input::IngestDrained(_) => "job ingest-drained",
        job::Input::IngestGaveUp { .. } => "job ingest-gave-up",
        job::Input::IngestReady(_) => "job ingest-ready",
        job::Input::Kill => "job kill",
        job::Input::PromptFailed { .. } => "job prompt-failed",
        job::Input::PromptSent(_) => "job prompt-sent",
        job::Input::Shutdown { .. } => "job shutdown",
        job::Input::Start(_) => "job start",
        job::Input::Tick => "job tick",
        job::Input::TurnEnded { .. } => "job turn-ended",
    }
}
