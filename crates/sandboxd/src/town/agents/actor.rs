//! The task of one agent, from its start to its end: everything that happens to the agent goes through its machine, one thing after the other.

use super::Command;
use super::conversation;
use super::conversation::Taken;
use super::environment;
use super::posts::Posts;
use super::shared::Shared;
use super::startup;
use super::startup::Session;
use super::startup::StartError;
use super::view::View;
use super::words;
use crate::clock::now_ms;
use crate::log;
use crate::session::events::Note;
use crate::session::kilo::server::Gone;
use crate::town::home::Completion;
use crate::town::home::Place;
use crate::town::limits::DRAINING_PROMPT_TIMEOUT;
use crate::town::limits::PROMPT_TIMEOUT;
use protocol::town::container::StartAgent;
use sandbox_core::managed::Input;
use sandbox_core::managed::Output;
use sandbox_core::managed::Report;
use sandbox_core::managed::Waiting;
use serde_json::json;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinSet;

const ROLE: &str = "town";

/// Why an agent is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The town asked for it.
    Asked,
    /// It runs already, and goes on with other settings.
    Changed,
    /// It was lost with its container.
    Lost,
}

/// One agent.
pub struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) request: Arc<StartAgent>,
    pub(super) place: Place,
    pub(super) view: watch::Sender<View>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// What the town is told of it for viewers.
    pub(super) posts: Posts,
    /// Answers that are on their way.
    pub(super) asked: JoinSet<Input>,
    /// Who waits for its end.
    pub(super) enders: Vec<oneshot::Sender<Result<(), String>>>,
    /// What is left of it, once its server was given back.
    pub(super) left: Result<(), String>,
    /// Its conversation, once its server was given back.
    pub(super) taken: Option<Taken>,
    pub(super) session: Option<Session>,
    /// Its event stream or its agent server is gone: nothing is heard of it any more, and it is known.
    pub(super) deaf: bool,
}

impl Actor {
    /// Starts it and stays with it. `started` hears how the start went.
    pub async fn run(mut self, reason: Reason, started: oneshot::Sender<Result<(), StartError>>) {
        let outcome = self.start(reason).await;
        if let Err(error) = &outcome {
            let fields = json!({ "agent": self.place.agent, "rig": self.place.rig, "error": error.to_string() });
            log::warn(ROLE, "agent_not_started", fields);
        } else {
            let fields = json!({ "agent": self.place.agent, "rig": self.place.rig, "role": self.request.role });
            log::info(ROLE, "agent_started", fields);
        }
        let _ = started.send(outcome);
        while !self.view.borrow().status().is_over() {
            self.step().await;
        }
        self.refuse_all();
        self.put_away().await;
        self.commands.close();
        self.refuse_all();
        self.shared.feed.end(&self.place.agent);
        self.shared.changed.send_replace(());
        let reason = self.view.borrow().machine.exit_reason().map(str::to_owned);
        log::info(ROLE, "agent_over", json!({ "agent": self.place.agent, "reason": reason }));
    }

    async fn start(&mut self, reason: Reason) -> Result<(), StartError> {
        let (shared, request, view) = (self.shared.clone(), self.request.clone(), self.view.clone());
        let outcome = {
            let mut starting = pin!(startup::start(&shared, &request, &view));
            loop {
                tokio::select! {
                    outcome = &mut starting => break outcome,
                    Some(command) = self.commands.recv() => match command {
                        Command::End { freeze, reply } => {
                            self.enders.push(reply);
                            self.feel(if freeze { Input::Freeze } else { Input::Stop });
                            break Err(StartError::Aborted);
                        }
                        Command::Drain => {
                            self.feel(Input::Drain);
                        }
                        other => self.refuse(other),
                    },
                }
            }
        };
        if outcome.is_err() {
            self.forget_server();
        }
        match outcome {
            Ok(session) => self.begin(session, reason).await,
            Err(StartError::Aborted) => {
                self.receive(Input::Ended).await;
                Err(StartError::Aborted)
            }
            Err(error) => {
                self.receive(Input::StartFailed { reason: error.to_string() }).await;
                Err(error)
            }
        }
    }

    /// It runs before it gets its first prompt, so that a drain in this moment counts it (spec/town.md 5.10, D16).
    async fn begin(&mut self, session: Session, reason: Reason) -> Result<(), StartError> {
        let is_continued = session.resumed;
        self.session = Some(session);
        self.receive(Input::Ready).await;
        let prompt = match reason {
            // Its user speaks next.
            Reason::Changed | Reason::Lost if is_continued && self.is_mayor() => None,
            Reason::Changed if is_continued => Some(words::GO_ON.to_owned()),
            Reason::Lost => Some(words::after_loss(&self.request.prompt)),
            Reason::Asked | Reason::Changed => Some(self.request.prompt.clone()),
        };
        let Some(prompt) = prompt else {
            self.receive(Input::Idle).await;
            return Ok(());
        };
        match self.say(&prompt).await {
            Ok(()) => Ok(()),
            Err(reason) => {
                self.receive(Input::StartFailed { reason: reason.clone() }).await;
                self.let_go().await;
                Err(StartError::Server(reason))
            }
        }
    }

    fn is_mayor(&self) -> bool {
        super::view::kind(&self.request.role) == sandbox_core::drain::Kind::Mayor
    }

    async fn step(&mut self) {
        let Some(session) = &mut self.session else {
            // Over in this moment.
            return self.receive(Input::StreamEnded).await;
        };
        let deadline = self.view.borrow().machine.next_deadline();
        let pause = deadline.map_or(Duration::MAX, until);
        let mut gone = session.lease.gone();
        tokio::select! {
            note = session.events.next(), if !self.deaf => match note {
                Some(Note::Chunk(chunk)) => {
                    let mut events = Vec::new();
                    session.events.decoder.push(&chunk, |event| events.push(event.to_owned()));
                    for event in events {
                        self.hear(&event).await;
                    }
                }
                Some(Note::Ended { .. }) | None => self.lose().await,
            },
            () = ended(&mut gone), if !self.deaf => self.lose().await,
            Some(command) = self.commands.recv() => self.obey(command).await,
            Some(Ok(answer)) = self.asked.join_next(), if !self.asked.is_empty() => self.receive(answer).await,
            () = tokio::time::sleep(pause), if deadline.is_some() => self.receive(Input::Tick).await,
            // Nobody can ask anything of it any more.
            else => self.receive(Input::Stop).await,
        }
    }

    /// While the container drains, it goes on without being heard: said once, or it would be said in every step.
    async fn lose(&mut self) {
        self.deaf = true;
        self.receive(Input::StreamEnded).await;
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Drain => self.receive(Input::Drain).await,
            Command::End { freeze, reply } => {
                self.enders.push(reply);
                self.receive(if freeze { Input::Freeze } else { Input::Stop }).await;
            }
            Command::Message { text, reply } => {
                let _ = reply.send(self.say(&text).await);
            }
        }
    }

    /// Who came while it ended is told so.
    fn refuse_all(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.refuse(command);
        }
        self.answer_enders();
    }

    pub(super) fn refuse(&mut self, command: Command) {
        match command {
            Command::Drain => {}
            Command::End { reply, .. } => self.enders.push(reply),
            Command::Message { reply, .. } => {
                let _ = reply.send(Err(format!("Agent {} is not running", self.place.agent)));
            }
        }
    }

    /// For a prompt.
    fn patience(&self) -> Duration {
        if self.shared.home.is_draining() { DRAINING_PROMPT_TIMEOUT } else { PROMPT_TIMEOUT }
    }

    /// Hands it a prompt, if it runs.
    async fn say(&mut self, text: &str) -> Result<(), String> {
        self.receive(Input::Prompted).await;
        let Some(session) = &self.session else { return Err(format!("Agent {} is not running", self.place.agent)) };
        let outcome = if self.deaf {
            // A turn that could not be seen to end would hold up the drain.
            Err(format!("Agent {} cannot be heard any more", self.place.agent))
        } else {
            session.talk.prompt(text, self.patience()).await.map_err(|error| error.to_string())
        };
        if outcome.is_err() {
            // It has nothing new to do; if it has something old, its events say so.
            self.receive(Input::Idle).await;
        }
        outcome
    }

    /// Takes what happened through the machine, and does what that asks for.
    pub(super) async fn receive(&mut self, input: Input) {
        let mut outputs = std::collections::VecDeque::from(self.feel(input));
        while let Some(output) = outputs.pop_front() {
            if let Some(answer) = self.perform(output).await {
                outputs.extend(self.feel(answer));
            }
        }
    }

    fn feel(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.view.send_modify(|view| outputs = view.machine.receive(now_ms(), input));
        self.shared.changed.send_replace(());
        outputs
    }

    /// Does it. What is quick to answer is answered at once, the rest later.
    async fn perform(&mut self, output: Output) -> Option<Input> {
        let (shared, place) = (self.shared.clone(), self.place.clone());
        match output {
            Output::End => {
                self.let_go().await;
                self.answer_enders();
                return Some(Input::Ended);
            }
            Output::FetchNudges => {
                self.asked.spawn(async move {
                    let nudges = shared.home.pending_nudges(&place).await.unwrap_or_default();
                    let first = nudges.into_iter().next();
                    Input::Nudge(first.map(|nudge| Waiting { id: nudge.nudge_id, message: nudge.message }))
                });
            }
            Output::HandOver(nudge) => {
                let Some(session) = &self.session else { return Some(Input::HandedOver { taken: false }) };
                let taken = session.talk.prompt(&nudge.message, self.patience()).await.is_ok();
                return Some(Input::HandedOver { taken });
            }
            Output::KeepConversation => {
                let talk = self.session.as_ref().filter(|session| session.keeps)?.talk.clone();
                let folder = environment::home(&shared.config.root, &place.agent);
                self.shared.background.spawn(async move {
                    if let Some(taken) = conversation::take(&talk, &place, &folder).await {
                        conversation::keep(taken, &shared.home, &place).await;
                    }
                });
            }
            Output::MarkDelivered { id } => {
                self.shared.background.spawn(async move {
                    told(&place, "nudge_delivered", shared.home.nudge_delivered(&place, &id).await);
                });
            }
            Output::Release => self.let_go().await,
            Output::Report(report) => {
                let bead = self.request.bead_id.clone();
                self.shared.background.spawn(async move {
                    let of = bead.as_ref();
                    let outcome = match report {
                        Report::Completed => {
                            shared.home.report_completed(&place, of, Completion::Completed("completed")).await
                        }
                        Report::StreamError => {
                            shared.home.report_completed(&place, of, Completion::Failed("Event stream error")).await
                        }
                        Report::Waiting => shared.home.report_waiting(&place).await,
                    };
                    told(&place, "completed", outcome);
                });
            }
            Output::SayExited { reason } => {
                let data = json!({ "reason": reason });
                self.publish("agent.exited", data.to_string(), true);
            }
            Output::SyncRegistry => self.shared.registry_changed.notify_one(),
        }
        None
    }
}

async fn ended(gone: &mut Gone) {
    let _ = gone.wait_for(Option::is_some).await;
}

fn until(at_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(at_ms.saturating_sub(now_ms())).unwrap_or_default())
}

/// Logs that the town could not be told.
fn told(place: &Place, what: &str, outcome: Result<(), crate::town::home::HomeError>) {
    if let Err(error) = outcome {
        log::warn(ROLE, "town_not_told", json!({ "agent": place.agent, "what": what, "error": error.to_string() }));
    }
}
