//! The machine itself: phases, and what each input does in each of them.

use super::Binding;
use super::Input;
use super::JobEnd;
use super::JobId;
use super::Output;
use crate::event::Event;
use crate::ingest::GaveUp;
use crate::limits::Limits;
use crate::turn::TurnEnd;
use protocol::id::ExecutionId;
use protocol::id::MessageId;
use std::collections::VecDeque;

/// The lifecycle of a session's executions, one at a time.
pub struct Job {
    limits: Limits,
    /// Messages that the agent has had, oldest first.
    known: VecDeque<MessageId>,
    jobs: u64,
    current: Option<Current>,
}

/// The job that is not over.
struct Current {
    id: JobId,
    binding: Binding,
    phase: Phase,
    /// When the current phase has lasted too long.
    by: Option<i64>,
    /// When the agent must have been heard again.
    heard_by: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The sockets are being opened.
    Opening { ingest: bool, events: bool },
    /// The prompt is on its way.
    Sending,
    /// The agent works.
    Running,
    /// The work is being committed.
    Committing { failure: Option<String> },
    /// The conversation is being condensed.
    Condensing,
    /// It was; what the agent says of it is still on its way, and comes before the last word. Waited for until then at most.
    Condensed { until: Option<i64> },
    /// Git is asked for the branch.
    Naming,
    /// The last thing is said; the agent is coming to rest.
    Settling,
    /// All is said; it is being acknowledged.
    Finishing,
}

impl Job {
    /// An idle machine. `known` are the ids of messages that the agent has already had, oldest first.
    pub fn new(limits: &Limits, known: impl IntoIterator<Item = MessageId>) -> Self {
        let mut job = Self { limits: limits.clone(), known: VecDeque::new(), jobs: 0, current: None };
        known.into_iter().for_each(|id| job.remember(id));
        job
    }

    /// Takes what happened at `now_ms`, returns what to do, in order.
    pub fn receive(&mut self, now_ms: i64, input: Input) -> Vec<Output> {
        match input {
            Input::Abort => self.stop(now_ms, Event::interrupted("aborted via API")),
            Input::AgentAborted(job) => self.on_agent_at_rest(now_ms, job),
            Input::AgentHeard => self.on_agent_heard(now_ms),
            Input::AutoCommitDone(job) => self.on_auto_commit_done(now_ms, job),
            Input::Branch { job, branch } => self.on_branch(job, branch.as_deref()),
            Input::CondenseDone(job) => self.on_condense_done(now_ms, job),
            Input::EventsOpen(job) => self.on_open(now_ms, job, false),
            Input::IngestDrained(job) => match self.at(job) {
                Some(_) => self.end(JobEnd::Reported),
                None => Vec::new(),
            },
            Input::IngestGaveUp { job, why } => self.on_gave_up(job, why),
            Input::IngestReady(job) => self.on_open(now_ms, job, true),
            Input::Kill => self.stop(now_ms, Event::interrupted("Session stopped")),
            Input::PromptFailed { job, message } => self.on_prompt_failed(now_ms, job, message),
            Input::PromptSent(job) => {
                if let Some(current) = self.at(job).filter(|current| current.phase == Phase::Sending) {
                    current.enter(Phase::Running, None);
                }
                Vec::new()
            }
            Input::Shutdown { signal } => {
                self.stop(now_ms, Event::interrupted(&format!("Container shutdown: {signal}")))
            }
            Input::Start(binding) => self.start(now_ms, binding),
            Input::Tick => self.tick(now_ms),
            Input::TurnEnded { job, end } => self.on_turn_ended(now_ms, job, end),
        }
    }

    /// When a `Tick` is due.
    pub fn next_deadline(&self) -> Option<i64> {
        let current = self.current.as_ref()?;
        [current.by, current.heard_by].into_iter().flatten().min()
    }

    /// The execution that is active: started, and not yet reported.
    pub fn active(&self) -> Option<&ExecutionId> {
        self.current
            .as_ref()
            .filter(|current| current.phase != Phase::Finishing)
            .map(|current| &current.binding.execution_id)
    }

    /// Whether the last thing of the execution is said, or there is none: whatever is said now would stand behind it.
    pub fn has_said_its_last(&self) -> bool {
        let phase = self.current.as_ref().map(|current| &current.phase);
        matches!(phase, None | Some(Phase::Settling | Phase::Finishing))
    }

    fn start(&mut self, now_ms: i64, binding: Binding) -> Vec<Output> {
        let is_current =
            self.current.as_ref().is_some_and(|current| current.binding.execution_id == binding.execution_id);
        if is_current || self.known.contains(&binding.message_id) {
            return vec![Output::Duplicate];
        }
        if let Some(active) = self.active() {
            return vec![Output::Refused { active: active.clone() }];
        }
        // The object starts a new execution only when the old one is over for it: its last events need nobody any more.
        let mut out = self.end(JobEnd::Replaced);
        self.remember(binding.message_id.clone());
        self.jobs = self.jobs.saturating_add(1);
        let id = JobId(self.jobs);
        self.current = Some(Current {
            id,
            binding,
            phase: Phase::Opening { ingest: false, events: false },
            by: Some(now_ms.saturating_add(self.limits.connect_ms_max)),
            heard_by: None,
        });
        out.extend([Output::Accepted(id), Output::Open(id)]);
        out
    }

    fn on_open(&mut self, now_ms: i64, job: JobId, is_ingest: bool) -> Vec<Output> {
        let start_by = now_ms.saturating_add(self.limits.start_ms_max);
        let heard_by = now_ms.saturating_add(self.limits.transport_ms_max);
        let Some(current) = self.at(job) else { return Vec::new() };
        if !is_ingest && current.phase != Phase::Finishing {
            current.heard_by = Some(heard_by);
        }
        let Phase::Opening { ingest, events } = &mut current.phase else { return Vec::new() };
        *ingest |= is_ingest;
        *events |= !is_ingest;
        if !(*ingest && *events) {
            return Vec::new();
        }
        current.enter(Phase::Sending, Some(start_by));
        vec![Output::SendPrompt(job)]
    }

    fn on_prompt_failed(&mut self, now_ms: i64, job: JobId, message: String) -> Vec<Output> {
        match self.at(job).map(|current| &current.phase) {
            Some(Phase::Sending) => self.not_started("SEND_ERROR", message),
            Some(Phase::Settling) => self.on_agent_at_rest(now_ms, job),
            _ => Vec::new(),
        }
    }

    fn on_turn_ended(&mut self, now_ms: i64, job: JobId, end: TurnEnd) -> Vec<Output> {
        match self.at(job).map(|current| &current.phase) {
            // The answer to the prompt's request may come after the turn.
            Some(Phase::Running | Phase::Sending) => {}
            Some(Phase::Settling) => return self.on_agent_at_rest(now_ms, job),
            _ => return Vec::new(),
        }
        match end {
            TurnEnd::Completed => self.commit(now_ms, None),
            TurnEnd::Failed { message } => self.commit(now_ms, Some(message)),
            TurnEnd::Fatal { error } => self.stop(now_ms, Event::fatal(&error)),
            TurnEnd::Interrupted => self.report(Event::interrupted("The agent was interrupted")),
            TurnEnd::Rejected { message } => self.report(Event::fatal(&message)),
        }
    }

    fn commit(&mut self, now_ms: i64, failure: Option<String>) -> Vec<Output> {
        let by = now_ms.saturating_add(self.limits.auto_commit_ms_max);
        let Some(current) = &mut self.current else { return Vec::new() };
        if !current.binding.auto_commit {
            return self.committed(now_ms, failure);
        }
        current.enter(Phase::Committing { failure }, Some(by));
        vec![Output::RunAutoCommit(current.id)]
    }

    fn on_auto_commit_done(&mut self, now_ms: i64, job: JobId) -> Vec<Output> {
        let Some(Phase::Committing { failure }) = self.at(job).map(|current| current.phase.clone()) else {
            return Vec::new();
        };
        self.committed(now_ms, failure)
    }

    fn committed(&mut self, now_ms: i64, failure: Option<String>) -> Vec<Output> {
        if let Some(message) = failure {
            return self.report(Event::fatal(&message));
        }
        let by = now_ms.saturating_add(self.limits.condense_ms_max);
        let Some(current) = &mut self.current else { return Vec::new() };
        if !current.binding.condense_on_complete {
            return self.condensed(now_ms);
        }
        current.enter(Phase::Condensing, Some(by));
        vec![Output::RunCondense(current.id)]
    }

    fn on_condense_done(&mut self, now_ms: i64, job: JobId) -> Vec<Output> {
        let quiet_at = now_ms.saturating_add(self.limits.quiet_ms);
        if let Some(current) = self.at(job).filter(|current| current.phase == Phase::Condensing) {
            let until = current.by;
            current.enter(Phase::Condensed { until }, Some(quiet_at));
        }
        Vec::new()
    }

    fn condensed(&mut self, now_ms: i64) -> Vec<Output> {
        let by = now_ms.saturating_add(self.limits.branch_ms_max);
        let Some(current) = &mut self.current else { return Vec::new() };
        current.enter(Phase::Naming, Some(by));
        vec![Output::ReadBranch(current.id)]
    }

    fn on_branch(&mut self, job: JobId, branch: Option<&str>) -> Vec<Output> {
        let Some(current) = self.at(job).filter(|current| current.phase == Phase::Naming) else { return Vec::new() };
        let binding = &current.binding;
        let complete = Event::complete(binding.execution_id.as_str(), binding.kilo_session_id.as_str(), branch);
        self.report(complete)
    }

    /// Says the last thing of the job, and has it delivered.
    fn report(&mut self, last: Event) -> Vec<Output> {
        let Some(current) = &mut self.current else { return Vec::new() };
        current.enter(Phase::Finishing, None);
        current.heard_by = None;
        vec![Output::Emit { job: current.id, event: last }, Output::FinishIngest(current.id)]
    }

    /// Ends the job from outside: the agent first, so that it does no more; then the last thing is said.
    fn stop(&mut self, now_ms: i64, last: Event) -> Vec<Output> {
        let settle_by = now_ms.saturating_add(self.limits.abort_settle_ms);
        let Some(current) = &mut self.current else { return Vec::new() };
        let job = current.id;
        let mut out = match &current.phase {
            Phase::Committing { .. } | Phase::Condensed { .. } | Phase::Naming => vec![Output::CancelTasks(job)],
            Phase::Condensing => vec![Output::CancelTasks(job), Output::AbortAgent(job)],
            Phase::Finishing | Phase::Settling => return Vec::new(),
            Phase::Opening { .. } => Vec::new(),
            Phase::Running | Phase::Sending => vec![Output::AbortAgent(job)],
        };
        if out.iter().any(|output| matches!(output, Output::AbortAgent(_))) {
            current.enter(Phase::Settling, Some(settle_by));
            out.push(Output::Emit { job, event: last });
        } else {
            out.extend(self.report(last));
        }
        out
    }

    /// The agent has stopped; what it says about that is still on its way.
    fn on_agent_at_rest(&mut self, now_ms: i64, job: JobId) -> Vec<Output> {
        let quiet_at = now_ms.saturating_add(self.limits.quiet_ms);
        if let Some(current) = self.at(job).filter(|current| current.phase == Phase::Settling) {
            current.by = Some(current.by.map_or(quiet_at, |by| by.min(quiet_at)));
        }
        Vec::new()
    }

    fn on_agent_heard(&mut self, now_ms: i64) -> Vec<Output> {
        let heard_by = now_ms.saturating_add(self.limits.transport_ms_max);
        let quiet_at = now_ms.saturating_add(self.limits.quiet_ms);
        let Some(current) = &mut self.current else { return Vec::new() };
        if let Some(due) = &mut current.heard_by {
            *due = heard_by;
        }
        if let Phase::Condensed { until } = current.phase {
            current.by = Some(until.map_or(quiet_at, |until| quiet_at.min(until)));
        }
        Vec::new()
    }

    fn on_gave_up(&mut self, job: JobId, why: GaveUp) -> Vec<Output> {
        let mut out = match self.at(job).map(|current| &current.phase) {
            None => return Vec::new(),
            Some(Phase::Opening { .. }) => return self.not_started("CONNECTION_ERROR", why.reason().to_owned()),
            Some(Phase::Committing { .. } | Phase::Condensed { .. } | Phase::Naming) => vec![Output::CancelTasks(job)],
            Some(Phase::Condensing) => vec![Output::CancelTasks(job), Output::AbortAgent(job)],
            Some(Phase::Running | Phase::Sending) => vec![Output::AbortAgent(job)],
            Some(Phase::Finishing | Phase::Settling) => Vec::new(),
        };
        out.extend(self.end(JobEnd::Abandoned(why)));
        out
    }

    fn tick(&mut self, now_ms: i64) -> Vec<Output> {
        let transport_ms_max = self.limits.transport_ms_max;
        let Some(current) = &mut self.current else { return Vec::new() };
        let job = current.id;
        let mut out = Vec::new();
        if current.heard_by.is_some_and(|at| at <= now_ms) {
            current.heard_by = Some(now_ms.saturating_add(transport_ms_max));
            out.push(Output::RestartEvents(job));
        }
        if current.by.is_some_and(|at| at <= now_ms) {
            out.extend(self.on_late(now_ms, job));
        }
        out
    }

    /// The current phase has lasted too long.
    fn on_late(&mut self, now_ms: i64, job: JobId) -> Vec<Output> {
        let Some(current) = &mut self.current else { return Vec::new() };
        current.by = None;
        match current.phase.clone() {
            Phase::Opening { ingest, .. } => {
                let what = if ingest { "the agent's events" } else { "the session object" };
                self.not_started("CONNECTION_ERROR", format!("{what} could not be reached in time"))
            }
            Phase::Sending => {
                let mut out = vec![Output::AbortAgent(job)];
                out.extend(self.not_started("SEND_ERROR", "the agent server did not answer in time".to_owned()));
                out
            }
            Phase::Committing { failure } => {
                let mut out = vec![Output::CancelTasks(job)];
                out.extend(self.committed(now_ms, failure));
                out
            }
            Phase::Condensing => {
                let mut out = vec![Output::CancelTasks(job), Output::AbortAgent(job)];
                out.extend(self.condensed(now_ms));
                out
            }
            Phase::Condensed { .. } => self.condensed(now_ms),
            Phase::Naming => self.on_branch(job, None),
            Phase::Settling => {
                current.enter(Phase::Finishing, None);
                current.heard_by = None;
                vec![Output::FinishIngest(job)]
            }
            Phase::Finishing | Phase::Running => Vec::new(),
        }
    }

    /// The agent never had the prompt: the same one may be tried again.
    fn not_started(&mut self, code: &'static str, message: String) -> Vec<Output> {
        if let Some(current) = &self.current {
            let unsent = current.binding.message_id.clone();
            self.known.retain(|known| *known != unsent);
        }
        self.end(JobEnd::NotStarted { code, message })
    }

    fn end(&mut self, end: JobEnd) -> Vec<Output> {
        match self.current.take() {
            Some(Current { id, .. }) => vec![Output::CloseIngest(id), Output::Ended { job: id, end }],
            None => Vec::new(),
        }
    }

    /// The current job, if it is `job`.
    fn at(&mut self, job: JobId) -> Option<&mut Current> {
        self.current.as_mut().filter(|current| current.id == job)
    }

    fn remember(&mut self, id: MessageId) {
        self.known.push_back(id);
        while self.known.len() > self.limits.message_ids_max {
            self.known.pop_front();
        }
    }
}

impl Current {
    fn enter(&mut self, phase: Phase, by: Option<i64>) {
        self.phase = phase;
        self.by = by;
    }
}
