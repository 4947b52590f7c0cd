//! The container of a user's sessions, and the requests of session objects to it.

use super::effects::FlightId;
use super::effects::failed;
use super::effects::refused;
use super::faults;
use super::world;
use super::world::World;
use crate::container::Event;
use crate::container::Host;
use crate::container::object;
use crate::container::object::ContainerObject;
use crate::container::passage;
use crate::container::passage::Refusal;
use crate::container::platform::Platform;
use crate::run::Fault;
use crate::run::Run;
use object_core::lifecycle::Input;
use object_core::time::SECOND;
use session_core::message::Effect;
use session_core::message::Outcome;

impl Host for World<'_> {
    const ALARM_LATE: Fault = faults::ALARM_LATE;

    fn run(&mut self) -> &mut Run {
        self.run
    }

    fn now(&self) -> i64 {
        self.now
    }

    fn delay(&mut self) -> i64 {
        World::delay(self)
    }

    fn arrange(&mut self, at: i64, event: Event) {
        self.queue.push(at, world::Event::Container(event));
    }

    fn object(&mut self) -> &mut ContainerObject {
        &mut self.container
    }

    fn platform(&mut self) -> &mut Platform {
        &mut self.platform
    }

    fn lease(&self, request: FlightId) -> Option<String> {
        match &self.flights[&request].effect {
            Effect::Work { work, .. } => work.turn.as_ref().map(|turn| turn.execution_id.to_string()),
            _ => None,
        }
    }

    fn deliver(&mut self, pid: u64, request: FlightId) {
        self.container_request(pid, request);
    }

    fn refuse(&mut self, request: FlightId, why: Refusal) {
        let outcome = match why {
            Refusal::Lost => failed("the container object was lost"),
            Refusal::NotRunning => refused("NOT_RUNNING", "The container does not run"),
            Refusal::Unreached => failed("The container is not up yet, or did not answer: try again"),
        };
        self.answer_flight(request, outcome);
    }

    fn forget_disk(&mut self, disk: u64) {
        self.disks.remove(&disk);
    }

    fn start_process(&mut self, pid: u64, disk: u64) {
        self.disks.entry(disk).or_default();
        World::start_process(self, pid, disk);
    }

    fn terminate(&mut self, pid: u64) {
        self.shut_down(pid);
    }

    fn is_ending(&self, pid: u64) -> bool {
        self.processes.get(&pid).is_some_and(|process| process.draining)
    }

    fn kill_process(&mut self, pid: u64) {
        World::kill_process(self, pid);
    }

    fn grace(&mut self) -> i64 {
        self.run.random.between("eviction", 2 * SECOND, 40 * SECOND)
    }
}

impl World<'_> {
    /// A request of a session object is at the container's.
    pub fn sandbox_request(&mut self, flight: FlightId) {
        if !passage::arrives(self, flight) {
            return;
        }
        match &self.flights[&flight].effect {
            Effect::Release { execution, .. } => {
                let lease = execution.to_string();
                match object::turn(self, &Input::Release { lease: lease.clone() }) {
                    Ok(()) => {
                        self.released.insert(lease);
                        self.answer_flight(flight, Outcome::Done);
                    }
                    Err(_) => self.refuse(flight, Refusal::Lost),
                }
            }
            Effect::Work { .. } => passage::wake_and_forward(self, flight),
            _ => passage::forward_if_running(self, flight),
        }
    }

    /// The container's answer.
    pub fn container_answers(&mut self, flight: FlightId, outcome: Outcome) {
        if self.container.passes(flight) {
            self.answer_flight(flight, outcome);
        }
    }
}
