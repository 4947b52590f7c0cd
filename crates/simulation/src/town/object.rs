//! The shell of the town object, as `src/town/object.rs` and `src/object.rs` have it, around `town_core::Town`.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | One input is one synchronous turn: a transaction, the alarm, then the outputs | `receive` |
//! | The alarm is written only when it moves; its handler never fails: what failed rings again in 30 s | `Alarm`, `alarm` |
//! | Sockets of the status stream outlive the memory; how many there are is a fact of each turn | `viewers` |
//! | Effects are in memory only: what is lost with it, a row brings back | `effects` |

use super::faults;
use super::promises::Shadow;
use super::world::Event;
use super::world::World;
use crate::durable::ALARM_DOUBLED;
use crate::durable::Fate;
use crate::durable::Stopped;
use crate::durable::Storage;
use std::collections::BTreeMap;
use town_core::Town;
use town_core::limits::Limits;
use town_core::message::Answer;
use town_core::message::Call;
use town_core::message::Facts;
use town_core::message::Input;
use town_core::message::Output;
use town_core::message::Turn;
use town_core::message::container::ContainerAnswer;
use town_core::message::container::ContainerCall;
use town_core::message::container::ContainerInput;
use town_core::message::container::ContainerOutput;

/// When an alarm whose handler failed, or whose object was lost, rings again.
const RETRY_MS: i64 = 30_000;
const RING_AGAIN_MS: i64 = 2_000;
/// A statement that fails is one of the first of its turn.
pub const STATEMENTS: u64 = 60;

/// The town object.
pub struct TownObject {
    pub storage: Storage,
    pub memory: Option<Memory>,
    /// Counts the memories: what belonged to an older one is nobody's.
    pub incarnation: u64,
    arranged: u64,
    pub skew_ms: i64,
    pub limits: Limits,
    /// Sockets of the status stream.
    pub viewers: usize,
    pub shadow: Shadow,
}

/// What the object holds in memory.
pub struct Memory {
    core: Town,
    known_alarm: Option<i64>,
    last: u64,
    newest: BTreeMap<String, u64>,
}

impl Memory {
    /// A try at a debt begins.
    pub fn enter(&mut self, key: &str) -> u64 {
        self.last += 1;
        self.newest.insert(key.to_owned(), self.last);
        self.last
    }

    /// It is over. Whether it was still the newest.
    pub fn leave(&mut self, key: &str, number: u64) -> bool {
        let is_newest = self.newest.get(key) == Some(&number);
        if is_newest {
            self.newest.remove(key);
        }
        is_newest
    }
}

impl TownObject {
    pub fn new(storage: Storage, limits: Limits) -> Self {
        let shadow = Shadow::default();
        Self { storage, memory: None, incarnation: 0, arranged: 0, skew_ms: 0, limits, viewers: 0, shadow }
    }

    /// The time on its machine.
    pub fn clock(&self, now: i64) -> i64 {
        now + self.skew_ms
    }
}

impl World<'_> {
    /// Brings the object into memory.
    fn town_construct(&mut self) -> &mut Memory {
        if self.town.memory.is_none() {
            self.town.skew_ms = self.run.skew();
        }
        let TownObject { storage, memory, limits, .. } = &mut self.town;
        memory.get_or_insert_with(|| Memory {
            core: Town::new(limits.clone()),
            known_alarm: storage.alarm(),
            last: 0,
            newest: BTreeMap::new(),
        })
    }

    /// Asks the ledger. None: it gave no answer, and the caller is told so.
    pub fn ask_town(&mut self, call: Call) -> Option<Answer> {
        let outputs = self.town_turn(Input::Call(call)).ok()?;
        outputs.into_iter().find_map(|output| match output {
            Output::Answer(answer) => Some(answer),
            _ => None,
        })
    }

    /// Asks the container's side of the town.
    pub fn ask_drain(&mut self, call: ContainerCall) -> Option<ContainerAnswer> {
        let outputs = self.town_turn(Input::Container(ContainerInput::Call(call))).ok()?;
        outputs.into_iter().find_map(|output| match output {
            Output::Container(ContainerOutput::Answer(answer)) => Some(answer),
            _ => None,
        })
    }

    /// One input: a transaction, the alarm, then its outputs. Returns the answers.
    pub fn town_turn(&mut self, input: Input) -> Result<Vec<Output>, Stopped> {
        let fate = self.run.fate(STATEMENTS);
        let mut entropy = self.run.random.entropy("town");
        let facts = Facts { viewers: self.town.viewers };
        self.town_construct();
        let (state, name) = (self.town.shadow.state(), super::coverage::name(&input));
        self.run.cover(state, name);
        self.run.note(|| format!("town [{state}] {}", super::coverage::describe(&input)));
        let now = self.town.clock(self.now);
        let TownObject { storage, memory, .. } = &mut self.town;
        let memory = memory.as_mut().expect("an object that takes an event is in memory");
        let result = storage.turn(fate, |db| memory.core.receive(db, now, &facts, &mut entropy, &input));
        let Turn { outputs, alarm } = match result {
            Ok(turn) => turn,
            Err(stopped) => {
                if let (Fate::Kept | Fate::CrashAfter, Stopped::Failed(error)) = (fate, &stopped) {
                    let error = error.clone();
                    self.run.broken("no input fails by itself", || format!("{name}: {error}"));
                }
                if stopped == Stopped::Crashed {
                    self.town_lose();
                }
                return Err(stopped);
            }
        };
        if memory.known_alarm != alarm {
            memory.known_alarm = alarm;
            storage.set_alarm(alarm);
        }
        self.town_arrange();
        self.watch_town(&input, now, fate, &outputs);
        if fate == Fate::CrashAfter {
            self.town_lose();
            return Err(Stopped::Crashed);
        }
        Ok(self.perform_outputs(outputs))
    }

    fn perform_outputs(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        let mut answers = Vec::new();
        for output in outputs {
            match output {
                Output::Broadcast(_) | Output::Ticked(_) => {}
                Output::Container(ContainerOutput::Drain(change)) => self.run.note(|| format!("  drain {change:?}")),
                Output::Container(ContainerOutput::Handoff { nonce }) => self.hand_off(nonce),
                Output::Notice(notice) => self.run.note(|| format!("  notice {notice:?}")),
                Output::Observe { agents } => self.observe_agents(agents),
                Output::Perform { key, attempt, since, effect, start } => {
                    self.perform(key, (attempt, since), effect, start);
                }
                Output::Answer(_) | Output::Container(ContainerOutput::Answer(_)) => answers.push(output),
            }
        }
        answers
    }

    fn town_arrange(&mut self) {
        if self.town.arranged == self.town.storage.version {
            return;
        }
        let version = self.town.storage.version;
        self.town.arranged = version;
        if let Some(at) = self.town.storage.alarm() {
            let at = self.run.rings_at(self.now, at - self.town.skew_ms, faults::ALARM_LATE);
            self.queue.push(at, Event::TownAlarm { version });
        }
    }

    pub fn town_alarm(&mut self, version: u64) {
        if self.town.storage.version != version {
            return;
        }
        self.town.shadow.rings += 1;
        self.town.storage.ring();
        for _ in 0..if self.run.fault(ALARM_DOUBLED) { 2 } else { 1 } {
            let there = self.town.storage.alarm();
            self.town_construct().known_alarm = there;
            match self.town_turn(Input::Tick) {
                Ok(_) => {}
                Err(Stopped::Crashed) => {
                    self.town.storage.ring_again(self.now + RING_AGAIN_MS);
                    return self.town_arrange();
                }
                Err(Stopped::Failed(_)) => {
                    let at = Some(self.town.clock(self.now) + RETRY_MS);
                    self.town_construct().known_alarm = at;
                    self.town.storage.set_alarm(at);
                    self.town_arrange();
                }
            }
        }
    }

    /// The object is lost with all that it held in memory.
    pub fn town_lose(&mut self) {
        self.run.note(|| "the town object is lost".to_owned());
        if self.town.memory.take().is_some() {
            self.town.incarnation += 1;
            self.town_arrange();
        }
    }

    /// The object leaves memory, if nothing keeps it there.
    pub fn town_hibernate(&mut self) {
        if self.town.memory.as_ref().is_some_and(|memory| memory.newest.is_empty()) {
            self.town.memory = None;
            self.town.incarnation += 1;
        }
    }
}
