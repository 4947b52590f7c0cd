//! What the agent says: its events, and what is asked for after a break in them.
//!
//! Every event goes to the link, which decides what viewers and the log get of it, and to the turn, which decides when it
//! is over. The agent's stream has no replay, so after a break the agent server is asked, once per subscription.

use super::Done;
use super::Driver;
use crate::clock::now_ms;
use crate::log;
use crate::session::events;
use crate::session::limits;
use sandbox_core::agent::AgentEvent;
use sandbox_core::gap::Answers;
use sandbox_core::gap::Gap;
use sandbox_core::ingest;
use sandbox_core::job;
use sandbox_core::job::JobId;
use sandbox_core::overtaken::Overtaken;
use sandbox_core::turn;
use serde_json::json;

impl Driver {
    pub(super) fn events(&mut self, note: Option<events::Note>) {
        let Some(mut events) = self.run.as_mut().and_then(|run| run.events.take()) else { return };
        match note {
            Some(events::Note::Chunk(chunk)) => {
                self.job(job::Input::AgentHeard);
                events.decoder.push(&chunk, |payload| {
                    self.events_open();
                    self.agent_event(payload);
                });
                if let Some(run) = &mut self.run {
                    run.events = Some(events);
                }
            }
            Some(events::Note::Ended { reason }) => {
                log::warn("session", "agent_events_ended", json!({ "sessionId": self.session, "reason": reason }));
                if let Some(run) = &mut self.run {
                    let again_at = now_ms().saturating_add(limits::RESUBSCRIBE_PAUSE_MS);
                    run.resubscribe_at = run.gone.is_some().then_some(again_at);
                }
            }
            None => {}
        }
    }

    /// The subscription brings events: it is open.
    fn events_open(&mut self) {
        let Some(run) = self.run.as_mut().filter(|run| !run.open) else { return };
        run.open = true;
        let id = run.id;
        if std::mem::replace(&mut run.heard_before, true) {
            self.turn(turn::Input::StreamResumed);
        }
        self.job(job::Input::EventsOpen(id));
    }

    fn agent_event(&mut self, payload: &str) {
        match AgentEvent::parse(payload) {
            Ok(event) => {
                if let Some(gap) = self.run.as_mut().and_then(|run| run.gap.as_mut()) {
                    gap.hear(&self.limits, &event);
                }
                if let Some(run) = &mut self.run
                    && let Some(snapshot) = &mut run.snapshot
                {
                    snapshot.hear(&self.limits, run.client.session(), &event);
                }
                self.link(ingest::Input::Agent(&event));
                self.turn(turn::Input::Agent(&event));
            }
            Err(error) => {
                let fields = json!({ "sessionId": self.session, "error": error.to_string() });
                log::warn("session", "agent_event_unreadable", fields);
            }
        }
    }

    /// Asks the agent server for what a viewer that comes late has to know. Who asks meanwhile is answered by the same. Comes back to
    /// `snapshot_taken`.
    pub(super) fn take_snapshot(&mut self, id: JobId) {
        match self.run_of(id) {
            Some(run) if run.snapshot.is_none() => run.snapshot = Some(Overtaken::default()),
            _ => return,
        }
        self.call(id, move |client, _| async move {
            let events = client.snapshot().await;
            if let Err(error) = &events {
                log::warn("session", "snapshot_failed", json!({ "error": error.to_string() }));
            }
            Done::Snapshot(id, events.ok())
        });
    }

    pub(super) fn snapshot_taken(&mut self, job: JobId, events: &[String]) {
        let Some(overtaken) = self.run_of(job).and_then(|run| run.snapshot.take()) else { return };
        if self.job.has_said_its_last() {
            return;
        }
        let events = events.iter().filter_map(|payload| AgentEvent::parse(payload).ok());
        for event in events.filter(|event| overtaken.leaves(event)) {
            self.link(ingest::Input::Agent(&event));
        }
    }

    /// Asks the agent server for what a break in its events may have held. Comes back to `caught_up`.
    pub(super) fn ask_what_was_missed(&mut self, id: JobId) {
        let limits = self.limits.clone();
        let Some(run) = self.run_of(id) else { return };
        run.gap = Some(Gap::default());
        let (subscription, since_ms) = (run.subscriptions, run.prompted_at);
        self.call(id, move |client, _| async move {
            let answers = client.now(&limits, since_ms).await;
            if let Err(error) = &answers {
                log::warn("session", "catch_up_failed", json!({ "error": error.to_string() }));
            }
            Done::CaughtUp { job: id, subscription, answers: answers.ok() }
        });
    }

    pub(super) fn caught_up(&mut self, job: JobId, subscription: u64, answers: Option<&Answers>) {
        // A newer subscription has a gap of its own, and asks itself.
        let current = self.run.as_mut().filter(|run| run.id == job && run.subscriptions == subscription);
        let Some(run) = current else { return };
        let gap = run.gap.take();
        let (session, prompt) = (run.client.session(), &run.plan.message_id);
        let found = answers.and_then(|answers| gap?.close(session, prompt, run.prompted_at, answers));
        if let Some(found) = &found {
            let (events, requests) = (found.events.len(), found.requests.len());
            let fields = json!({ "sessionId": self.session, "events": events, "requests": requests });
            log::info("session", "caught_up", fields);
            for event in found.events.iter().filter_map(|payload| AgentEvent::parse(payload).ok()) {
                self.link(ingest::Input::Agent(&event));
            }
            found.requests.iter().for_each(|payload| self.agent_event(payload));
        }
        self.turn(turn::Input::CaughtUp(found.as_ref().map(|found| &found.turn)));
    }
}
