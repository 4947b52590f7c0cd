//! The container of a town. The end of one that ran is owed to the town until it has heard it (`object_core::notice`).

use super::faults;
use super::requests::Reply;
use super::world;
use super::world::World;
use crate::container::Event;
use crate::container::Host;
use crate::container::object;
use crate::container::object::ContainerObject;
use crate::container::passage::Refusal;
use crate::container::platform::Platform;
use crate::run::Fault;
use crate::run::Run;
use database::Database;
use database::DatabaseError;
use database::Migration;
use object_core::lifecycle::Output;
use object_core::notice;
use object_core::owed::OWED_TABLE;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use town_core::message::Input;
use town_core::message::container::ContainerInput;

/// From SIGTERM to SIGKILL.
const GRACE_MS: i64 = 15 * MINUTE;

/// The tables of a town's container that the simulation needs, after those of every container.
pub const MIGRATIONS: &[Migration] = &[Migration { version: 2, statements: &[OWED_TABLE] }];

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

    fn deliver(&mut self, pid: u64, request: u64) {
        self.process_asked(pid, request);
    }

    fn refuse(&mut self, request: u64, why: Refusal) {
        let reply = match why {
            Refusal::Lost => Reply::Lost("the container object was lost".to_owned()),
            Refusal::NotRunning => Reply::NotRunning,
            Refusal::Unreached => Reply::Unreached,
        };
        self.answer_ask(request, reply);
    }

    fn forget_disk(&mut self, disk: u64) {
        self.disks.remove(&disk);
    }

    fn start_process(&mut self, pid: u64, disk: u64) {
        self.disks.entry(disk).or_default();
        World::start_process(self, pid, disk);
    }

    fn terminate(&mut self, pid: u64) {
        World::terminate(self, pid);
    }

    fn is_ending(&self, pid: u64) -> bool {
        self.processes.get(&pid).is_some_and(|process| process.acks.is_draining())
    }

    fn kill_process(&mut self, pid: u64) {
        World::kill_process(self, pid);
    }

    fn grace(&mut self) -> i64 {
        if self.run.fault(faults::GRACE_SHORT) {
            self.run.random.between("grace", 2 * SECOND, GRACE_MS)
        } else {
            GRACE_MS
        }
    }

    fn receive(
        db: &dyn Database,
        now: i64,
        work: impl FnOnce() -> Result<Vec<Output>, DatabaseError>,
    ) -> Result<(Vec<Output>, Vec<i64>), DatabaseError> {
        notice::noting_its_end(db, now, work)
    }

    fn next_news(db: &dyn Database) -> Result<Option<i64>, DatabaseError> {
        notice::next(db)
    }

    fn tell(&mut self, at: i64) {
        if !self.run.fault(faults::REQUEST_LOST) {
            let (arrives, incarnation) = (self.now + World::delay(self), self.container.incarnation);
            self.queue.push(arrives, world::Event::EndArrives { incarnation, at });
        }
    }
}

impl World<'_> {
    /// The town hears of an end.
    pub fn end_arrives(&mut self, incarnation: u64, at: i64) {
        let heard = self.town_turn(Input::Container(ContainerInput::Ended { at })).is_ok();
        if heard && incarnation == self.container.incarnation && !self.run.fault(faults::ANSWER_LOST) {
            object::write(self, |db| notice::heard(db, at));
        }
    }

    /// Whether the town is still to be told of an end.
    pub fn owes_an_end(&self) -> bool {
        notice::owed(&self.container.storage.db).is_ok_and(|at| at.is_some())
    }
}
