//! Requests that pass through the container object, and what it asks of the platform (`src/container`).
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | Work starts the container and waits 20 s for it; a container that turns out to have ended is started anew, once | `wake_and_forward` |
//! | Everything else is answered 410 if the container does not run: nothing is started to be looked at | `fetch` |
//! | What is asked of the platform is asked one after the other, and only of the newest start | `verbs`, `is_current` |

use super::effects::FlightId;
use super::effects::failed;
use super::effects::refused;
use super::sandbox::Waiter;
use super::world::Event;
use super::world::World;
use crate::durable::Stopped;
use object_core::lifecycle;
use object_core::lifecycle::Input;
use object_core::lifecycle::State;
use session_core::message::Effect;
use session_core::message::Outcome;

/// How long a request waits for the container to start.
const START_WAIT_MS: i64 = 20_000;

/// What is asked of the platform.
#[derive(Clone, Copy, Debug)]
pub enum Verb {
    Destroy,
    Start,
    Terminate,
}

impl World<'_> {
    /// A request of a session object.
    pub fn sandbox_request(&mut self, flight: FlightId) {
        if self.sandbox_wake().is_err() {
            return self.answer_flight(flight, failed("the container object was lost"));
        }
        match &self.flights[&flight].effect {
            Effect::Release { execution, .. } => {
                let lease = execution.to_string();
                let outcome = match self.sandbox_turn(&Input::Release { lease: lease.clone() }) {
                    Ok(()) => {
                        self.released.insert(lease);
                        Outcome::Done
                    }
                    Err(_) => failed("the container object failed"),
                };
                self.answer_flight(flight, outcome);
            }
            Effect::Work { .. } => self.want(flight, 2),
            _ => match lifecycle::load(&self.sandbox.storage.db).ok().flatten() {
                Some(known) if known.state == State::Running => self.forward(flight, known.instance, 0),
                _ => self.answer_flight(flight, refused("NOT_RUNNING", "The container does not run")),
            },
        }
    }

    fn want(&mut self, flight: FlightId, tries: u32) {
        if tries == 0 {
            return self.answer_flight(flight, failed("The container is not up yet: try again"));
        }
        let Effect::Work { work, .. } = &self.flights[&flight].effect else { return };
        let lease = work.turn.as_ref().map(|turn| turn.execution_id.to_string());
        let id = self.new_id();
        if let Some(memory) = &mut self.sandbox.memory {
            memory.waiting.push(Waiter { id, flight, tries });
        }
        self.queue.push(self.now + START_WAIT_MS, Event::WaitOver { waiter: id });
        if let Err(Stopped::Failed(_)) = self.sandbox_turn(&Input::Want { lease }) {
            self.wait_over(id);
        }
    }

    pub fn wait_over(&mut self, waiter: u64) {
        let Some(memory) = &mut self.sandbox.memory else { return };
        if let Some(index) = memory.waiting.iter().position(|known| known.id == waiter) {
            let waiter = memory.waiting.remove(index);
            self.answer_flight(waiter.flight, failed("The container is not up yet: try again"));
        }
    }

    pub fn tell_waiting(&mut self, running: Option<&str>) {
        let Some(memory) = &mut self.sandbox.memory else { return };
        for Waiter { flight, tries, .. } in std::mem::take(&mut memory.waiting) {
            match running {
                Some(instance) => self.forward(flight, instance.to_owned(), tries),
                None => self.answer_flight(flight, failed("The container is not up yet: try again")),
            }
        }
    }

    fn forward(&mut self, flight: FlightId, instance: String, tries: u32) {
        let Some(memory) = &mut self.sandbox.memory else { return };
        memory.forwarded.insert(flight);
        let incarnation = self.sandbox.incarnation;
        let at = self.now + self.delay();
        self.queue.push(at, Event::Forward { incarnation, flight, instance, tries });
    }

    /// A request reaches the container, or finds it gone.
    pub fn forwarded(&mut self, incarnation: u64, flight: FlightId, instance: String, tries: u32) {
        if self.sandbox.incarnation != incarnation {
            return;
        }
        match self.platform.process_of(&instance) {
            Some(pid) => self.container_request(pid, flight),
            None if self.platform.current.is_some() => {
                self.container_answers(flight, failed("The container did not answer: try again"));
            }
            None => {
                if let Some(memory) = &mut self.sandbox.memory {
                    memory.forwarded.remove(&flight);
                }
                match (self.sandbox_turn(&Input::Ended { instance }), tries) {
                    (Err(_), _) => self.answer_flight(flight, failed("the container object failed")),
                    (Ok(()), 0) => self.answer_flight(flight, refused("NOT_RUNNING", "The container has ended")),
                    (Ok(()), tries) => self.want(flight, tries - 1),
                }
            }
        }
    }

    /// The container's answer passes through the object, if it is still the same.
    pub fn container_answers(&mut self, flight: FlightId, outcome: Outcome) {
        if let Some(memory) = &mut self.sandbox.memory
            && memory.forwarded.remove(&flight)
        {
            self.answer_flight(flight, outcome);
        }
    }

    pub fn ask_platform(&mut self, verb: Verb, instance: String) {
        let pause = self.run.random.between("verb", 1, 60);
        let Some(memory) = &mut self.sandbox.memory else { return };
        memory.verbs_free_at = memory.verbs_free_at.max(self.now) + pause;
        let at = memory.verbs_free_at;
        self.queue.push(at, Event::Verb { incarnation: self.sandbox.incarnation, verb, instance });
    }

    pub fn platform_asked(&mut self, incarnation: u64, verb: Verb, instance: String) {
        let current = lifecycle::load(&self.sandbox.storage.db).ok().flatten();
        if self.sandbox.incarnation != incarnation || current.is_none_or(|known| known.instance != instance) {
            return;
        }
        match verb {
            Verb::Start => self.platform_start(instance),
            Verb::Terminate => {
                self.platform_signal();
                self.report_if_gone(instance);
            }
            Verb::Destroy => {
                self.platform_destroy();
                self.report_if_gone(instance);
            }
        }
    }

    fn report_if_gone(&mut self, instance: String) {
        if self.platform.current.is_none() {
            drop(self.sandbox_turn(&Input::Ended { instance }));
        }
    }

    /// The container answers its health check.
    pub fn sandbox_healthy(&mut self, instance: &str) {
        if let Some(memory) = &mut self.sandbox.memory
            && memory.starting.take_if(|starting| starting == instance).is_some()
        {
            drop(self.sandbox_turn(&Input::Started { instance: instance.to_owned() }));
        }
    }

    /// A start has taken too long, or failed.
    pub fn start_over(&mut self, incarnation: u64, instance: String) {
        if self.sandbox.incarnation == incarnation
            && let Some(memory) = &mut self.sandbox.memory
            && memory.starting.take_if(|starting| *starting == instance).is_some()
        {
            drop(self.sandbox_turn(&Input::StartFailed { instance }));
        }
    }

    /// The start failed at once.
    pub fn start_failed(&mut self, instance: &str) {
        self.start_over(self.sandbox.incarnation, instance.to_owned());
    }

    /// The platform's notice.
    pub fn exit_notice(&mut self, instance: String) {
        if self.sandbox_wake().is_ok() {
            drop(self.sandbox_turn(&Input::Ended { instance }));
        }
    }
}
