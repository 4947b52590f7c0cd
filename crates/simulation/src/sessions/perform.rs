//! Does what the machines of a session's loop ask for (`crates/sandboxd/src/session/driver/perform.rs`).

use super::attempt::work_error;
use super::disk::Address;
use super::driver::Call;
use super::driver::Done;
use super::driver::RESUBSCRIBE_MS;
use super::driver::Running;
use super::driver::Todo;
use super::link::Link;
use super::link::News;
use super::worker::Worker;
use super::world::World;
use crate::sessions::faults;
use protocol::ingest::Command as ObjectCommand;
use sandbox_core::event::AutoCommitCompleted;
use sandbox_core::event::Event as OwnEvent;
use sandbox_core::gap::Gap;
use sandbox_core::ingest;
use sandbox_core::job;
use sandbox_core::job::JobEnd;
use sandbox_core::job::JobId;
use sandbox_core::overtaken::Overtaken;
use sandbox_core::sse::SseDecoder;
use sandbox_core::turn;
use sandbox_core::turn::Turn;

/// One call to the agent server, at the most.
const AGENT_CALL_MS: i64 = 30_000;

impl World<'_> {
    /// Does all that the machines asked for, in their order.
    pub fn work_off(&mut self, w: &mut Worker) {
        while let Some(todo) = w.todo.pop_front() {
            match todo {
                Todo::Job(output) => self.do_job(w, output),
                Todo::News(news) => self.do_news(w, news),
                Todo::Turn(output) => self.do_turn(w, output),
            }
        }
    }

    /// A call that comes back after `ms`.
    fn later(&mut self, w: &mut Worker, job: JobId, ms: i64, done: Done) {
        let after_turn = matches!(done, Done::AutoCommitted(_) | Done::Condensed);
        let id = self.new_id();
        w.calls.insert((self.now + ms, id), Call { job, after_turn, done });
    }

    fn do_job(&mut self, w: &mut Worker, output: job::Output) {
        self.run.note(|| format!("process {}: job {}", w.pid, summary(&output)));
        match output {
            job::Output::AbortAgent(id) => {
                self.turn_input(w, turn::Input::Stopping);
                self.abort_agent(w, id);
            }
            job::Output::Accepted(id) => {
                let Some((plan, task)) = w.starting.take() else { return };
                w.run = Some(Running {
                    id,
                    turn: Turn::new(&self.limits, w.kilo.clone(), w.permissions),
                    plan,
                    accepted: Some(task),
                    link: None,
                    decoder: None,
                    open: false,
                    heard_before: false,
                    gap: None,
                    snapshot: None,
                    subscriptions: 0,
                    prompted_at: w.now(self.now),
                    resubscribe_at: None,
                    gone_unseen: true,
                });
            }
            job::Output::CancelTasks(id) => w.calls.retain(|_, call| !(call.job == id && call.after_turn)),
            // `Ended` follows at once, and says whether it may be closed.
            job::Output::CloseIngest(_) => {}
            job::Output::Duplicate => self.refuse_duplicate(w),
            job::Output::Emit { job, event } => {
                if w.run.as_ref().is_some_and(|run| run.id == job) {
                    self.link_event(w, event);
                }
            }
            job::Output::Ended { job, end } => self.job_ended(w, job, &end),
            job::Output::FinishIngest(id) => {
                if w.run.as_ref().is_some_and(|run| run.id == id) {
                    self.end_agent_that_may_yet_begin(w);
                    self.with_running_link(w, |world, w, link| world.link_says_no_more(w, link));
                }
            }
            job::Output::Open(id) => self.open(w, id),
            job::Output::ReadBranch(id) => {
                let deaf = self.run.fault(faults::AGENT_DEAF);
                let ms = if deaf { 60_000 } else { self.run.random.between("git", 5, 300) };
                let branch = format!("session/{}", w.s);
                self.later(w, id, ms, Done::Branch(Some(branch)));
            }
            job::Output::Refused { .. } => {
                if let Some((_, task)) = w.starting.take() {
                    let error = work_error("WRAPPER_START_FAILED", "Execution is still running", true);
                    self.start_answered(w, task, Err(error));
                }
            }
            job::Output::RestartEvents(_) => self.subscribe(w),
            job::Output::RunAutoCommit(id) => self.auto_commit(w, id),
            job::Output::RunCondense(id) => {
                let ms = self.agent_call_ms(1_000, 25_000);
                self.later(w, id, ms, Done::Condensed);
            }
            job::Output::SendPrompt(id) => self.prompt(w, id),
        }
    }

    fn do_turn(&mut self, w: &mut Worker, output: turn::Output) {
        let Some(id) = w.run.as_ref().map(|run| run.id) else { return };
        match output {
            turn::Output::AbortAgain => self.abort_agent(w, id),
            turn::Output::AskStatus => {
                let ms = self.agent_call_ms(5, 200);
                let busy = w.agent.as_ref().map(|agent| agent.busy);
                self.later(w, id, ms.min(5_000), Done::Status(busy.filter(|_| ms < 5_000)));
            }
            turn::Output::CatchUp => {
                let answers = self.agent_answers(w);
                let ms = self.agent_call_ms(20, 1_500);
                let Some(run) = &mut w.run else { return };
                run.gap = Some(Gap::default());
                let subscription = run.subscriptions;
                let answers = answers.filter(|_| ms < AGENT_CALL_MS);
                self.later(w, id, ms, Done::CaughtUp { subscription, answers });
            }
            turn::Output::Ended(end) => {
                self.run.note(|| format!("process {}: turn ended {end:?}", w.pid));
                self.job(w, job::Input::TurnEnded { job: id, end });
            }
            turn::Output::RejectQuestion { id } | turn::Output::ReplyPermission { id } => {
                self.agent_answered(w, &id);
            }
        }
    }

    fn do_news(&mut self, w: &mut Worker, news: News) {
        let Some(id) = w.run.as_ref().map(|run| run.id) else { return };
        match news {
            News::Command(ObjectCommand::Kill { .. }) => self.job(w, job::Input::Kill),
            News::Command(ObjectCommand::RequestSnapshot) => {
                let Some(run) = w.run.as_mut().filter(|run| run.snapshot.is_none()) else { return };
                run.snapshot = Some(Overtaken::default());
                let events = self.agent_snapshot(w);
                let ms = self.agent_call_ms(10, 400);
                self.later(w, id, ms, Done::Snapshot(if ms < AGENT_CALL_MS { events } else { Vec::new() }));
            }
            News::Command(_) => {}
            News::Drained => self.job(w, job::Input::IngestDrained(id)),
            News::GaveUp(why) => self.job(w, job::Input::IngestGaveUp { job: id, why }),
            News::Ready => self.job(w, job::Input::IngestReady(id)),
        }
    }

    fn abort_agent(&mut self, w: &mut Worker, id: JobId) {
        let ms = self.agent_aborts(w);
        self.later(w, id, ms, Done::Aborted);
    }

    /// Nobody will listen to the agent any more (`driver/run.rs`).
    fn end_agent_that_may_yet_begin(&mut self, w: &mut Worker) {
        if w.run.as_ref().is_some_and(|run| run.turn.may_yet_begin()) {
            self.agent_ends(w, "the agent server was ended");
        }
    }

    /// How long the agent server takes to answer: now and then until nobody waits any more.
    fn agent_call_ms(&mut self, least: i64, most: i64) -> i64 {
        if self.run.fault(faults::AGENT_DEAF) {
            AGENT_CALL_MS
        } else {
            self.run.random.between("agent-call", least, most)
        }
    }

    fn open(&mut self, w: &mut Worker, id: JobId) {
        let Some(run) = w.run.as_ref().filter(|run| run.id == id) else { return };
        let execution = run.plan.execution_id.clone();
        let generation = run.plan.ingest_url.rsplit_once("&generation=").and_then(|(_, number)| number.parse().ok());
        let address = Address {
            execution: execution.clone(),
            generation: generation.expect("an asking for a start has a generation"),
            secret: run.plan.ingest_secret.clone(),
            over: false,
        };
        let link_id = self.new_id();
        let home = self.home(w.disk, w.s);
        home.addresses.insert(execution.clone(), address.clone());
        let file = home.spools.get(&execution).cloned().unwrap_or_default();
        let link = Link::new(link_id, &self.limits, address, &file);
        if let Some(run) = &mut w.run {
            run.link = Some(link);
        }
        self.subscribe(w);
        self.link(w, ingest::Input::Open);
    }

    /// Subscribes to the agent's events, instead of any earlier subscription.
    pub fn subscribe(&mut self, w: &mut Worker) {
        let at = self.now + self.run.random.between("subscribe", 2, 150);
        let deaf = self.run.fault(faults::AGENT_DEAF);
        let limits = self.limits.clone();
        let Some(run) = &mut w.run else { return };
        (run.open, run.gap, run.resubscribe_at) = (false, None, None);
        run.subscriptions += 1;
        run.decoder = None;
        match &mut w.agent {
            Some(agent) => {
                run.decoder = Some(SseDecoder::new(&limits));
                agent.subscribed(if deaf { at + 60_000 } else { at });
            }
            None => run.resubscribe_at = run.gone_unseen.then_some(self.now + RESUBSCRIBE_MS),
        }
    }

    fn prompt(&mut self, w: &mut Worker, id: JobId) {
        self.turn_input(w, turn::Input::Prompt);
        let now = w.now(self.now);
        let Some(run) = &mut w.run else { return };
        run.prompted_at = now;
        let plan = run.plan.clone();
        // Before the call: a message whose answer was lost must not run twice.
        self.home(w.disk, w.s).prompted.push(plan.message_id.clone());
        let (ms, result) = self.agent_prompted(w, &plan);
        self.later(w, id, ms, Done::Prompted(result));
    }

    fn auto_commit(&mut self, w: &mut Worker, id: JobId) {
        self.link_event(w, OwnEvent::autocommit_started("Committing changes..."));
        let success = !self.run.fault(faults::STEP_FAILS);
        let ms =
            if self.run.fault(faults::STEP_SLOW) { 115_000 } else { self.run.random.between("commit", 200, 5_000) };
        let completed = AutoCommitCompleted {
            success,
            message: "Changes committed".to_owned(),
            skipped: None,
            commit_hash: success.then(|| "0123456".to_owned()),
            commit_message: None,
        };
        self.later(w, id, ms, Done::AutoCommitted(completed));
    }

    fn job_ended(&mut self, w: &mut Worker, id: JobId, end: &JobEnd) {
        if w.run.as_ref().is_some_and(|run| run.id == id) {
            self.end_agent_that_may_yet_begin(w);
        }
        let Some(mut run) = w.run.take_if(|run| run.id == id) else { return };
        let execution = run.plan.execution_id.clone();
        if let Some(task) = run.accepted.take() {
            let error = match end {
                JobEnd::NotStarted { code: "CONNECTION_ERROR", message } => {
                    work_error("WRAPPER_START_FAILED", message, true)
                }
                JobEnd::NotStarted { message, .. } => work_error("WRAPPER_START_FAILED", message, false),
                JobEnd::Abandoned(why) => work_error("WRAPPER_START_FAILED", why.reason(), true),
                JobEnd::Replaced | JobEnd::Reported => {
                    work_error("WRAPPER_START_FAILED", "Aborted before the agent took the prompt", false)
                }
            };
            self.start_answered(w, task, Err(error));
        }
        match end {
            JobEnd::Reported | JobEnd::NotStarted { .. } => self.address_settles(w, &execution, None),
            JobEnd::Abandoned(why) => self.address_settles(w, &execution, Some(*why)),
            JobEnd::Replaced => {
                // The new execution waits for nobody, and the old one's last events still have to arrive.
                if let Some(link) = run.link.take() {
                    self.drains(w, link, Vec::new());
                }
            }
        }
        if let Some(mut link) = run.link.take() {
            self.link_receive(w, &mut link, ingest::Input::Close);
        }
    }

    /// The execution that is asked for runs already; or its message has run, and must not run again.
    fn refuse_duplicate(&mut self, w: &mut Worker) {
        let Some((plan, task)) = w.starting.take() else { return };
        let runs = w.run.as_ref().is_some_and(|run| run.plan.execution_id == plan.execution_id);
        let before = work_error("WRAPPER_START_FAILED", "The message was handed to the agent before", false);
        self.start_answered(w, task, if runs { Ok(()) } else { Err(before) });
    }

    /// The agent server's process has ended.
    pub fn agent_ends(&mut self, w: &mut Worker, message: &str) {
        if w.agent.take().is_none() {
            return;
        }
        if let Some(run) = &mut w.run {
            (run.decoder, run.resubscribe_at) = (None, None);
            if std::mem::replace(&mut run.gone_unseen, false) {
                self.turn_input(w, turn::Input::ServerGone { message: message.to_owned() });
            }
        }
    }
}

fn summary(output: &job::Output) -> String {
    match output {
        job::Output::Emit { event, .. } => format!("Emit {}", event.kind()),
        other => format!("{other:?}"),
    }
}
