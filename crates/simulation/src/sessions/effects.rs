//! What a session object owes, performed as `src/session/effects.rs` performs it.
//!
//! One try takes at most the effect's own timeout; what it could not find out is a failure. A request may arrive although its answer does not, and
//! later than anybody waits for it. A try that was under way when its object was lost is nobody's; what it did is done.

use super::world::Event;
use super::world::World;
use crate::sessions::faults;
use object_core::directory;
use session_core::message::CallbackPost;
use session_core::message::Effect;
use session_core::message::Input;
use session_core::message::Outcome;

pub type FlightId = u64;

/// One try under way.
pub struct Flight {
    pub s: usize,
    incarnation: u64,
    key: String,
    pub effect: Effect,
    over: bool,
}

impl World<'_> {
    pub fn perform(&mut self, s: usize, key: String, effect: Effect) {
        let id = self.new_id();
        self.run.note(|| format!("object {s} performs {key}"));
        let incarnation = self.objects[s].incarnation;
        if let Effect::Work { work, .. } = &effect {
            self.objects[s].shadow.attempts.insert(work.report.token.expose().to_owned(), work.attempt);
        }
        self.memory(s).flights += 1;
        self.queue.push(self.now + effect.timeout_ms(), Event::FlightTimesOut(id));
        self.flights.insert(id, Flight { s, incarnation, key, effect, over: false });
        if self.run.fault(faults::REQUEST_LOST) {
            let fails = self.run.random.percent("lost-is-told", 50);
            if fails {
                self.answer_flight(id, failed("the request was lost"));
            }
        } else {
            let at = self.now + self.delay();
            self.queue.push(at, Event::FlightArrives(id));
        }
    }

    /// The request reaches whom it is for.
    pub fn flight_arrives(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get(&id) else { return };
        let effect = flight.effect.clone();
        let s = flight.s;
        match &effect {
            Effect::DirectoryAdd { entry, .. } => {
                self.ask_directory(id, &directory::Call::Add { entry: entry.clone() })
            }
            Effect::DirectoryRemove { session, .. } => {
                self.ask_directory(id, &directory::Call::Remove { session: session.to_string() });
            }
            Effect::Callback(post) => self.receive_callback(id, s, post),
            Effect::SnapshotRemove { .. } => {
                if self.run.fault(faults::STORE_FAILS) {
                    return self.answer_flight(id, failed("the store did not answer"));
                }
                self.kept.remove(&s);
                self.answer_flight(id, Outcome::Done);
            }
            Effect::Abort { .. }
            | Effect::Judge { .. }
            | Effect::Release { .. }
            | Effect::Stop { .. }
            | Effect::Work { .. } => self.sandbox_request(id),
        }
    }

    fn ask_directory(&mut self, id: FlightId, call: &directory::Call) {
        if self.run.fault(faults::DIRECTORY_FAILS) {
            return self.answer_flight(id, failed("the directory did not answer"));
        }
        directory::receive(&self.directory, call).expect("the directory's tables are there");
        self.answer_flight(id, Outcome::Done);
    }

    /// Somebody's server. It sees what arrives, whatever it answers.
    fn receive_callback(&mut self, id: FlightId, s: usize, post: &CallbackPost) {
        if self.run.fault(faults::RECEIVER_FAILS) {
            return self.answer_flight(id, failed("the receiver answered 500"));
        }
        if self.run.fault(faults::RECEIVER_REFUSES) {
            let refused = Outcome::Refused { code: "CALLBACK".into(), message: "the receiver answered 410".into() };
            return self.answer_flight(id, refused);
        }
        self.callback_received(s, post);
        if !self.run.fault(faults::RECEIVER_SLOW) {
            self.answer_flight(id, Outcome::Done);
        }
    }

    /// Sends the outcome on its way back.
    pub fn answer_flight(&mut self, id: FlightId, outcome: Outcome) {
        if !self.run.fault(faults::ANSWER_LOST) {
            let at = self.now + self.delay();
            self.queue.push(at, Event::FlightEnds { flight: id, outcome });
        }
    }

    /// The try is over for the object that made it: an answer, or none in time.
    pub fn flight_ends(&mut self, id: FlightId, outcome: Outcome) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        if std::mem::replace(&mut flight.over, true) {
            return;
        }
        let (s, key, effect) = (flight.s, flight.key.clone(), Box::new(flight.effect.clone()));
        if self.objects[s].incarnation != flight.incarnation || self.objects[s].memory.is_none() {
            return;
        }
        self.memory(s).flights -= 1;
        // An outcome that could not be written is in the shell's log: the row is tried again.
        drop(self.turn(s, Input::Outcome { key, effect, outcome }));
    }

    pub fn flight_times_out(&mut self, id: FlightId) {
        self.flight_ends(id, Outcome::Failed { code: "TIMEOUT".into(), message: "no answer in time".into() });
    }
}

pub fn failed(message: &str) -> Outcome {
    Outcome::Failed { code: "SANDBOX_CONNECT_FAILED".into(), message: message.to_owned() }
}

pub fn refused(code: &str, message: &str) -> Outcome {
    Outcome::Refused { code: code.to_owned(), message: message.to_owned() }
}
