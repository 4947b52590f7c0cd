//! Does what the machines ask for.

use super::Done;
use super::Driver;
use super::Todo;
use super::run::Run;
use super::run::name_of;
use super::run::why_not_accepted;
use crate::clock::now_ms;
use crate::log;
use crate::session::autocommit::AutoCommit;
use crate::session::error::WorkError;
use crate::session::kilo::client::CallError;
use crate::session::link::Address;
use crate::session::link::Link;
use crate::session::link::News;
use crate::session::prompted;
use crate::session::staging;
use crate::session::workspace;
use protocol::ingest::Command as ObjectCommand;
use sandbox_core::event::Event;
use sandbox_core::ingest;
use sandbox_core::job;
use sandbox_core::job::JobEnd;
use sandbox_core::job::JobId;
use sandbox_core::turn;
use serde_json::json;

impl Driver {
    /// Does all that the machines asked for, in their order.
    pub(super) fn work_off(&mut self) {
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
                self.abort_agent(id);
            }
            job::Output::Accepted(id) => self.begin(id),
            job::Output::CancelTasks(id) => {
                if let Some(run) = self.run_of(id) {
                    run.after_turn.drain(..).for_each(|task| task.abort());
                }
            }
            // `Ended` follows at once, and says whether it may be closed.
            job::Output::CloseIngest(_) => {}
            job::Output::Duplicate => self.refuse_duplicate(),
            job::Output::Emit { job, event } => {
                if self.is_running(job) {
                    self.link(ingest::Input::Event(event));
                }
            }
            job::Output::Ended { job, end } => self.end(job, &end),
            job::Output::FinishIngest(id) => {
                let paths = self.paths.clone();
                let run = self.run_of(id);
                if let Some(run) = &run {
                    run.end_agent_that_may_yet_begin();
                }
                if let Some(link) = run.and_then(|run| run.link.as_mut()) {
                    let news = link.say_no_more(&paths);
                    self.todo.extend(news.into_iter().map(Todo::News));
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
            turn::Output::AbortAgain => self.abort_agent(id),
            turn::Output::AskStatus => {
                self.call(id, move |client, _| async move { Done::Status(id, client.is_busy().await.ok()) });
            }
            turn::Output::CatchUp => self.ask_what_was_missed(id),
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
            News::Command(ObjectCommand::RequestSnapshot) => self.take_snapshot(id),
            // The machine answers the others itself.
            News::Command(_) => {}
            News::Drained => self.job(job::Input::IngestDrained(id)),
            News::GaveUp(why) => self.job(job::Input::IngestGaveUp { job: id, why }),
            News::Ready => self.job(job::Input::IngestReady(id)),
        }
    }

    fn begin(&mut self, id: JobId) {
        let Some(start) = self.starting.take() else { return };
        let fields = json!({ "sessionId": self.session, "executionId": start.plan.execution_id });
        log::info("session", "turn_started", fields);
        // An interrupt kills an auto-commit in the middle, and the agent is at rest until it has the prompt.
        staging::unlock(&self.paths.workspace);
        self.run = Some(Run::new(id, *start, &self.limits));
    }

    fn open(&mut self, id: JobId) {
        let (limits, paths) = (self.limits.clone(), self.paths.clone());
        let Some(run) = self.run_of(id) else { return };
        let address = Address {
            execution_id: run.plan.execution_id.clone(),
            url: run.plan.ingest_url.clone(),
            secret: run.plan.ingest_secret.clone(),
            over: false,
        };
        address.save_or_log(&paths);
        run.link = Some(Link::new(&limits, address, paths.spool(&run.plan.execution_id)));
        run.subscribe(&limits);
        self.link(ingest::Input::Open);
    }

    fn abort_agent(&mut self, id: JobId) {
        self.call(id, move |client, _| async move {
            let aborted = async {
                client.abort().await?;
                client.withdraw_requests().await
            };
            if let Err(error) = aborted.await {
                log::warn("session", "abort_failed", json!({ "error": error.to_string() }));
            }
            Done::Aborted(id)
        });
    }

    fn prompt(&mut self, id: JobId) {
        self.turn(turn::Input::Prompt);
        let mut images = Vec::new();
        if let Some(run) = self.run_of(id) {
            run.prompted_at = now_ms();
            images = std::mem::take(&mut run.images);
        }
        let (paths, keep) = (self.paths.clone(), self.limits.message_ids_max);
        self.call(id, move |client, run| {
            let plan = run.plan.clone();
            async move {
                // Before the call: a message whose answer was lost must not run twice.
                if let Err(error) = prompted::add(&paths, &plan.message_id, keep) {
                    return Done::Prompted(id, Err(format!("the message cannot be noted: {error}")));
                }
                Done::Prompted(id, client.prompt(&plan, &images).await.map_err(|error| error.to_string()))
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
        run.end_agent_that_may_yet_begin();
        let (paths, execution) = (self.paths.clone(), run.plan.execution_id.clone());
        let fields = json!({ "sessionId": self.session, "executionId": execution, "end": name_of(end) });
        log::info("session", "turn_ended", fields);
        run.answer(Err(why_not_accepted(end)));
        match end {
            JobEnd::Reported | JobEnd::NotStarted { .. } => Address::settle(&paths, &execution, None),
            JobEnd::Abandoned(why) => Address::settle(&paths, &execution, Some(*why)),
            JobEnd::Replaced => {
                // The new execution waits for nobody, and the old one's last events still have to arrive.
                if let Some(link) = run.link.take() {
                    tokio::spawn(async move {
                        let undelivered = link.drain(Vec::new()).await;
                        Address::settle(&paths, &execution, undelivered);
                    });
                }
            }
        }
        if let Some(mut link) = run.link.take() {
            link.receive(ingest::Input::Close);
            tokio::spawn(link.finish());
        }
    }

    /// The machine did not make a job of what was asked.
    fn answer_start(&mut self, result: Result<(), WorkError>) {
        if let Some(start) = self.starting.take() {
            let _ = start.accepted.send(result);
        }
    }

    /// The execution that is asked for runs already; or its message has run, and must not run again.
    fn refuse_duplicate(&mut self) {
        let Some(start) = &self.starting else { return };
        let runs = self.run.as_ref().is_some_and(|run| run.plan.execution_id == start.plan.execution_id);
        let had = start.plan.message_id.clone();
        self.answer_start(if runs { Ok(()) } else { Err(WorkError::PromptedBefore(had)) });
    }
}

fn reply_logged(result: Result<(), CallError>) {
    if let Err(error) = result {
        log::warn("session", "reply_failed", json!({ "error": error.to_string() }));
    }
}
