//! The shell of the town's container object, as `src/container` has it, around `object_core::lifecycle`.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | The end of a container that ran is owed to its town, in the same write, until the town has heard it | `noting_its_end`, `tell_town` |
//! | A start is over when the container is healthy, or after its bound; one that a crash interrupted begins again | `start`, `bring_up`, `wake` |
//! | What is asked of the platform is asked one after the other, and only of the newest start | `verbs`, `is_current` |
//! | The registry of live agents is kept as it came | `serve_town` |

use super::object::STATEMENTS;
use super::process::Given;
use super::requests::Verb;
use super::requests::Waiter;
use super::world::Event;
use super::world::World;
use crate::container::input_name;
use crate::container::state_name;
use crate::durable::ALARM_DOUBLED;
use crate::durable::Fate;
use crate::durable::Stopped;
use crate::durable::Storage;
use crate::town::faults;
use database::Database;
use database::DatabaseError;
use database::Migration;
use object_core::lifecycle;
use object_core::lifecycle::Input;
use object_core::lifecycle::LifecycleLimits;
use object_core::lifecycle::Output;
use object_core::lifecycle::State;
use object_core::nearest;
use object_core::owed::OWED_TABLE;
use object_core::owed::Owed;
use std::collections::BTreeSet;
use town_core::message::Input as TownInput;
use town_core::message::container::ContainerInput;

/// When an alarm whose handler failed, or whose object was lost, rings again.
const RETRY_MS: i64 = 30_000;
const RING_AGAIN_MS: i64 = 2_000;
/// When the town is told of an end again, and under which key.
const NOTICE_RETRY_MS: i64 = 30_000;
const NOTICE: &str = "ended";

/// The tables of a town's container that the simulation needs, after those of every container.
pub const MIGRATIONS: &[Migration] = &[Migration { version: 2, statements: &[OWED_TABLE] }];

/// The container's object.
pub struct Keeper {
    pub storage: Storage,
    pub memory: Option<Memory>,
    pub incarnation: u64,
    arranged: u64,
    skew_ms: i64,
    pub limits: LifecycleLimits,
    /// The agents that are to be restored at the next start.
    pub registry: Vec<Given>,
    /// How often its alarm rang.
    pub rings: u64,
}

pub struct Memory {
    known_alarm: Option<i64>,
    woken: bool,
    /// Requests that wait for the container.
    pub waiting: Vec<Waiter>,
    /// Requests that the container has.
    pub forwarded: BTreeSet<u64>,
    /// The start that waits to be healthy.
    pub starting: Option<String>,
    pub verbs_free_at: i64,
}

impl Keeper {
    pub fn new(storage: Storage) -> Self {
        let limits = LifecycleLimits::default().of_town();
        let registry = Vec::new();
        Self { storage, memory: None, incarnation: 0, arranged: 0, skew_ms: 0, limits, registry, rings: 0 }
    }

    /// What is known of the container.
    pub fn known(&self) -> Option<lifecycle::Container> {
        lifecycle::load(&self.storage.db).ok().flatten()
    }

    /// Whether the town is still to be told of an end.
    pub fn owes(&self) -> bool {
        Owed::<i64>::find(&self.storage.db, NOTICE).is_ok_and(|debt| debt.is_some())
    }

    /// The start that runs, as far as is known.
    pub fn running(&self) -> Option<String> {
        self.known().filter(|known| known.state == State::Running).map(|known| known.instance)
    }

    /// Where the container is in its life.
    pub fn state(&self) -> &'static str {
        state_name(self.known().map(|known| known.state))
    }
}

impl World<'_> {
    pub fn keeper_wake(&mut self) -> Result<(), Stopped> {
        self.keeper_construct();
        if self.keeper.memory.as_ref().is_some_and(|memory| !memory.woken) {
            self.keeper_turn(&Input::Woke)?;
            if let Some(memory) = &mut self.keeper.memory {
                memory.woken = true;
            }
        }
        Ok(())
    }

    fn keeper_construct(&mut self) {
        if self.keeper.memory.is_some() {
            return;
        }
        self.keeper.skew_ms = self.run.skew();
        self.keeper.memory = Some(Memory {
            known_alarm: self.keeper.storage.alarm(),
            woken: false,
            waiting: Vec::new(),
            forwarded: BTreeSet::new(),
            starting: None,
            verbs_free_at: self.now,
        });
    }

    pub fn keeper_turn(&mut self, input: &Input) -> Result<(), Stopped> {
        let fate = self.run.fate(STATEMENTS);
        let mut entropy = self.run.random.entropy("keeper");
        let state = self.keeper.state();
        self.run.cover(state, input_name(input));
        self.run.note(|| format!("keeper [{state}] {input:?}"));
        let Keeper { storage, limits, skew_ms, .. } = &mut self.keeper;
        let now = self.now + *skew_ms;
        let result = storage.turn(fate, |db| {
            let done = noting_its_end(db, now, || lifecycle::receive(db, limits, now, &mut entropy, input))?;
            Ok((done, next_alarm(db, limits)?))
        });
        let ((outputs, notices), alarm) = match result {
            Ok(done) => done,
            Err(stopped) => {
                if stopped == Stopped::Crashed {
                    self.keeper_lose();
                }
                return Err(stopped);
            }
        };
        self.keeper_set_alarm(alarm);
        if fate == Fate::CrashAfter {
            self.keeper_lose();
            return Err(Stopped::Crashed);
        }
        for output in outputs {
            match output {
                Output::Running { instance, .. } => self.tell_waiting(Some(&instance)),
                Output::Unavailable => self.tell_waiting(None),
                Output::Start { instance, .. } => {
                    if let Some(memory) = &mut self.keeper.memory {
                        memory.starting = Some(instance.clone());
                    }
                    let over = Event::StartOver { incarnation: self.keeper.incarnation, instance: instance.clone() };
                    self.queue.push(self.now + self.keeper.limits.start_ms, over);
                    self.ask_platform(Verb::Start, instance);
                }
                Output::Terminate { instance } => self.ask_platform(Verb::Terminate, instance),
                Output::Destroy { instance } => self.ask_platform(Verb::Destroy, instance),
            }
        }
        notices.into_iter().for_each(|at| self.tell_town(at));
        Ok(())
    }

    fn tell_town(&mut self, at: i64) {
        if !self.run.fault(faults::REQUEST_LOST) {
            let arrives = self.now + self.delay();
            self.queue.push(arrives, Event::EndArrives { incarnation: self.keeper.incarnation, at });
        }
    }

    /// The town hears of an end.
    pub fn end_arrives(&mut self, incarnation: u64, at: i64) {
        let heard = self.town_turn(TownInput::Container(ContainerInput::Ended { at })).is_ok();
        if heard && incarnation == self.keeper.incarnation && !self.run.fault(faults::ANSWER_LOST) {
            let Keeper { storage, limits, .. } = &self.keeper;
            let settled = storage.turn(Fate::Kept, |db| {
                // A newer end may have taken its place meanwhile.
                if Owed::<i64>::find(db, NOTICE)?.is_some_and(|debt| debt.effect == at) {
                    Owed::<i64>::settle(db, NOTICE)?;
                }
                next_alarm(db, limits)
            });
            self.keeper_set_alarm(settled.unwrap_or_default());
        }
    }

    fn keeper_set_alarm(&mut self, alarm: Option<i64>) {
        if let Some(memory) = &mut self.keeper.memory
            && memory.known_alarm != alarm
        {
            memory.known_alarm = alarm;
            self.keeper.storage.set_alarm(alarm);
        }
        self.keeper_arrange();
    }

    fn keeper_arrange(&mut self) {
        if self.keeper.arranged == self.keeper.storage.version {
            return;
        }
        let version = self.keeper.storage.version;
        self.keeper.arranged = version;
        if let Some(at) = self.keeper.storage.alarm() {
            let at = self.run.rings_at(self.now, at - self.keeper.skew_ms, faults::ALARM_LATE);
            self.queue.push(at, Event::KeeperAlarm { version });
        }
    }

    pub fn keeper_alarm(&mut self, version: u64) {
        if self.keeper.storage.version != version {
            return;
        }
        self.keeper.rings += 1;
        self.keeper.storage.ring();
        for _ in 0..if self.run.fault(ALARM_DOUBLED) { 2 } else { 1 } {
            self.keeper_construct();
            if let Some(memory) = &mut self.keeper.memory {
                memory.known_alarm = None;
            }
            match self.keeper_wake().and_then(|()| self.keeper_turn(&Input::Tick)) {
                Ok(()) => {}
                Err(Stopped::Crashed) => {
                    self.keeper.storage.ring_again(self.now + RING_AGAIN_MS);
                    return self.keeper_arrange();
                }
                Err(Stopped::Failed(_)) => self.keeper_set_alarm(Some(self.now + self.keeper.skew_ms + RETRY_MS)),
            }
        }
    }

    /// The object is lost, with the requests that it has.
    pub fn keeper_lose(&mut self) {
        self.run.note(|| "the container's object is lost".to_owned());
        let Some(memory) = self.keeper.memory.take() else { return };
        self.keeper.incarnation += 1;
        self.keeper_arrange();
        for ask in memory.waiting.into_iter().map(|waiter| waiter.ask).chain(memory.forwarded) {
            self.answer_ask(ask, super::requests::Reply::Lost("the container object was lost".to_owned()));
        }
    }

    /// Leaves memory, if nothing keeps it there.
    pub fn keeper_hibernate(&mut self) {
        let rests = |memory: &Memory| {
            memory.waiting.is_empty()
                && memory.forwarded.is_empty()
                && memory.starting.is_none()
                && memory.verbs_free_at < self.now
        };
        if self.keeper.memory.as_ref().is_some_and(rests) {
            self.keeper.memory = None;
            self.keeper.incarnation += 1;
        }
    }
}

fn next_alarm(db: &dyn Database, limits: &LifecycleLimits) -> Result<Option<i64>, DatabaseError> {
    Ok(nearest([lifecycle::next_deadline(db, limits)?, Owed::<i64>::next_retry(db)?]))
}

/// Does `work` on the lifecycle, and owes the town the end of a container that ran. Returns the notices that are due.
fn noting_its_end(
    db: &dyn Database,
    now: i64,
    work: impl FnOnce() -> Result<Vec<Output>, DatabaseError>,
) -> Result<(Vec<Output>, Vec<i64>), DatabaseError> {
    database::transaction(db, || {
        let before = lifecycle::load(db)?.filter(|known| matches!(known.state, State::Running | State::Stopping));
        let outputs = work()?;
        if let Some(before) = before {
            let is_over = |now: lifecycle::Container| now.instance != before.instance || now.state == State::Stopped;
            if lifecycle::load(db)?.is_none_or(is_over) {
                Owed::owe(db, now, NOTICE, &now, None)?;
            }
        }
        let due = Owed::<i64>::take_due(db, now, |_, _| NOTICE_RETRY_MS)?;
        Ok((outputs, due.into_iter().map(|debt| debt.effect).collect()))
    })
}
