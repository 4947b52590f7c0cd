//! The shell of the container object, as `src/container/mod.rs` has it, around `object_core::lifecycle`.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | The handler of the alarm never fails: what failed rings again in 30 s | `alarm` |
//! | A start is over when the container is healthy, or after its bound | `start`, `bring_up` |

use super::effects::FlightId;
use super::effects::failed;
use super::object::STATEMENTS;
use super::requests::Verb;
use super::world::Event;
use super::world::World;
use crate::container::input_name;
use crate::container::state_name;
use crate::durable::ALARM_DOUBLED;
use crate::durable::Fate;
use crate::durable::Stopped;
use crate::durable::Storage;
use crate::sessions::faults;
use object_core::lifecycle;
use object_core::lifecycle::Input;
use object_core::lifecycle::LifecycleLimits;
use object_core::lifecycle::Output;
use object_core::lifecycle::State;
use std::collections::BTreeSet;

/// When an alarm whose handler failed, or whose object was lost, rings again.
const RETRY_MS: i64 = 30_000;
const RING_AGAIN_MS: i64 = 2_000;

/// The container object.
pub struct Sandbox {
    pub storage: Storage,
    pub memory: Option<Memory>,
    pub incarnation: u64,
    arranged: u64,
    skew_ms: i64,
    pub limits: LifecycleLimits,
    /// How often its alarm rang.
    pub rings: u64,
}

pub struct Memory {
    known_alarm: Option<i64>,
    woken: bool,
    /// Requests that wait for the container.
    pub waiting: Vec<Waiter>,
    /// Requests that the container has.
    pub forwarded: BTreeSet<FlightId>,
    /// The start that waits to be healthy.
    pub starting: Option<String>,
    pub verbs_free_at: i64,
}

pub struct Waiter {
    pub id: u64,
    pub flight: FlightId,
    pub tries: u32,
}

impl Sandbox {
    pub fn new(storage: Storage) -> Self {
        let limits = LifecycleLimits::default();
        Self { storage, memory: None, incarnation: 0, arranged: 0, skew_ms: 0, limits, rings: 0 }
    }

    /// The newest container, and where it is in its life.
    pub fn container(&self) -> Option<(String, State)> {
        lifecycle::load(&self.storage.db).ok().flatten().map(|known| (known.instance, known.state))
    }

    /// Where the container is in its life.
    pub fn state(&self) -> &'static str {
        state_name(self.container().map(|(_, state)| state))
    }
}

impl World<'_> {
    pub fn sandbox_wake(&mut self) -> Result<(), Stopped> {
        self.sandbox_construct();
        if self.sandbox.memory.as_ref().is_some_and(|memory| !memory.woken) {
            self.sandbox_turn(&Input::Woke)?;
            if let Some(memory) = &mut self.sandbox.memory {
                memory.woken = true;
            }
        }
        Ok(())
    }

    fn sandbox_construct(&mut self) {
        if self.sandbox.memory.is_some() {
            return;
        }
        self.sandbox.skew_ms = self.run.skew();
        self.sandbox.memory = Some(Memory {
            known_alarm: self.sandbox.storage.alarm(),
            woken: false,
            waiting: Vec::new(),
            forwarded: BTreeSet::new(),
            starting: None,
            verbs_free_at: self.now,
        });
    }

    pub fn sandbox_turn(&mut self, input: &Input) -> Result<(), Stopped> {
        let fate = self.run.fate(STATEMENTS);
        let mut entropy = self.run.random.entropy("sandbox");
        let (state, before) = (self.sandbox.state(), self.sandbox.container());
        self.run.cover(state, input_name(input));
        self.run.note(|| format!("sandbox [{state}] {input:?}"));
        let Sandbox { storage, limits, skew_ms, .. } = &mut self.sandbox;
        let now = self.now + *skew_ms;
        let result = storage.turn(fate, |db| {
            let outputs = lifecycle::receive(db, limits, now, &mut entropy, input)?;
            Ok((outputs, lifecycle::next_deadline(db, limits)?))
        });
        let (outputs, alarm) = match result {
            Ok(done) => done,
            Err(stopped) => {
                if stopped == Stopped::Crashed {
                    self.sandbox_lose();
                }
                return Err(stopped);
            }
        };
        if let Some(memory) = &mut self.sandbox.memory
            && memory.known_alarm != alarm
        {
            memory.known_alarm = alarm;
            self.sandbox.storage.set_alarm(alarm);
        }
        self.sandbox_arrange();
        self.check_news(before, input);
        if fate == Fate::CrashAfter {
            self.sandbox_lose();
            return Err(Stopped::Crashed);
        }
        for output in outputs {
            match output {
                Output::Running { instance, .. } => self.tell_waiting(Some(&instance)),
                Output::Unavailable => self.tell_waiting(None),
                Output::Start { instance, .. } => {
                    if let Some(memory) = &mut self.sandbox.memory {
                        memory.starting = Some(instance.clone());
                    }
                    let over = Event::StartOver { incarnation: self.sandbox.incarnation, instance: instance.clone() };
                    self.queue.push(self.now + self.sandbox.limits.start_ms, over);
                    self.ask_platform(Verb::Start, instance);
                }
                Output::Terminate { instance } => self.ask_platform(Verb::Terminate, instance),
                Output::Destroy { instance } => self.ask_platform(Verb::Destroy, instance),
            }
        }
        Ok(())
    }

    fn sandbox_arrange(&mut self) {
        if self.sandbox.arranged == self.sandbox.storage.version {
            return;
        }
        self.sandbox.arranged = self.sandbox.storage.version;
        let version = self.sandbox.storage.version;
        if let Some(at) = self.sandbox.storage.alarm() {
            let at = self.run.rings_at(self.now, at - self.sandbox.skew_ms, faults::ALARM_LATE);
            self.queue.push(at, Event::SandboxAlarm { version });
        }
    }

    pub fn sandbox_alarm(&mut self, version: u64) {
        if self.sandbox.storage.version != version {
            return;
        }
        self.sandbox.rings += 1;
        self.sandbox.storage.ring();
        for _ in 0..if self.run.fault(ALARM_DOUBLED) { 2 } else { 1 } {
            self.sandbox_construct();
            if let Some(memory) = &mut self.sandbox.memory {
                memory.known_alarm = None;
            }
            match self.sandbox_wake().and_then(|()| self.sandbox_turn(&Input::Tick)) {
                Ok(()) => {}
                Err(Stopped::Crashed) => {
                    self.sandbox.storage.ring_again(self.now + RING_AGAIN_MS);
                    return self.sandbox_arrange();
                }
                Err(Stopped::Failed(_)) => {
                    let at = Some(self.now + RETRY_MS);
                    if let Some(memory) = &mut self.sandbox.memory {
                        memory.known_alarm = at;
                    }
                    self.sandbox.storage.set_alarm(at);
                    self.sandbox_arrange();
                }
            }
        }
    }

    /// The object is lost, with the requests that it has.
    pub fn sandbox_lose(&mut self) {
        self.run.note(|| "sandbox is lost".to_owned());
        let Some(memory) = self.sandbox.memory.take() else { return };
        self.sandbox.incarnation += 1;
        self.sandbox_arrange();
        let flights = memory.waiting.into_iter().map(|waiter| waiter.flight).chain(memory.forwarded);
        for flight in flights {
            self.answer_flight(flight, failed("the container object was lost"));
        }
    }

    /// Leaves memory, if nothing keeps it there.
    pub fn sandbox_hibernate(&mut self) {
        let rests = |memory: &Memory| {
            memory.waiting.is_empty()
                && memory.forwarded.is_empty()
                && memory.starting.is_none()
                && memory.verbs_free_at < self.now
        };
        if self.sandbox.memory.as_ref().is_some_and(rests) {
            self.sandbox.memory = None;
            self.sandbox.incarnation += 1;
        }
    }
}
