//! The shell of a session object, as `src/session` and `src/object.rs` have it.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | One input is one synchronous turn: a transaction, the alarm, then the outputs | `src/session/mod.rs`, `receive` |
//! | The first event after construction is preceded by `Woke`; only a closed socket's comes before it | `wake`, `close` |
//! | The alarm is written only when it moves; the handler runs `Expire`, then `PayDebts`, and a failure of one stops no other | `alarm`, `Alarm` |
//! | What failed rings again in 30 s | `Alarm::retry` |
//! | Callers wait in memory, 13 min at most | `call` |
//! | A lost object takes its sockets, its callers and its effects with it; a hibernating one has no callers and no effects, and keeps its sockets | the platform |

use super::call::CallId;
use super::promises::Shadow;
use super::sockets::SocketId;
use super::world::Event;
use super::world::World;
use crate::durable::ALARM_DOUBLED;
use crate::durable::Fate;
use crate::durable::Stopped;
use crate::durable::Storage;
use crate::sessions::faults;
use object_core::ReplyTo;
use protocol::id::KiloSessionId;
use protocol::id::SessionId;
use session_core::Session;
use session_core::message::Call;
use session_core::message::Facts;
use session_core::message::Input;
use session_core::message::Output;
use session_core::message::Turn;
use std::collections::BTreeMap;

/// When an alarm whose handler failed rings again.
const RETRY_MS: i64 = 30_000;
/// A statement that fails is one of the first of its turn.
pub const STATEMENTS: u64 = 12;
/// When an alarm that was lost with its object rings again.
const RING_AGAIN_MS: i64 = 2_000;

/// One session object.
pub struct Object {
    pub id: SessionId,
    pub kilo_session: KiloSessionId,
    pub storage: Storage,
    pub memory: Option<Memory>,
    /// Counts the memories: what belonged to an older one is nobody's.
    pub incarnation: u64,
    /// The version of the alarm that is arranged.
    arranged: u64,
    /// How wrong its machine's clock is.
    pub skew_ms: i64,
    /// What the promises remember of it.
    pub shadow: Shadow,
}

/// What an object holds in memory.
pub struct Memory {
    pub core: Session,
    known_alarm: Option<i64>,
    pub waiting: BTreeMap<ReplyTo, CallId>,
    pub woken: bool,
    pub group: Vec<(SocketId, super::sockets::Text)>,
    pub busy: bool,
    /// Effects under way.
    pub flights: u32,
}

impl Object {
    pub fn new(id: SessionId, kilo_session: KiloSessionId, storage: Storage, callbacks: bool) -> Self {
        Self {
            id,
            kilo_session,
            storage,
            memory: None,
            incarnation: 0,
            arranged: 0,
            skew_ms: 0,
            shadow: Shadow::new(callbacks),
        }
    }
}

impl World<'_> {
    /// Before the first event after construction. False: the object is lost, or could not wake.
    pub fn wake(&mut self, s: usize) -> Result<(), Stopped> {
        self.construct(s);
        if !self.memory(s).woken {
            self.turn(s, Input::Woke)?;
            self.memory(s).woken = true;
            self.resume_catch_ups(s);
        }
        Ok(())
    }

    /// Brings the object into memory.
    pub fn construct(&mut self, s: usize) {
        if self.objects[s].memory.is_some() {
            return;
        }
        self.objects[s].skew_ms = self.run.skew();
        let known_alarm = self.objects[s].storage.alarm();
        let core = Session::new(self.config.clone());
        self.objects[s].memory = Some(Memory {
            core,
            known_alarm,
            waiting: BTreeMap::new(),
            woken: false,
            group: Vec::new(),
            busy: false,
            flights: 0,
        });
    }

    /// The memory of an object that was constructed in this event.
    pub fn memory(&mut self, s: usize) -> &mut Memory {
        self.objects[s].memory.as_mut().expect("an object that takes an event is in memory")
    }

    /// One input, after the frames that came before it. Returns what is for the event that is being handled.
    pub fn turn(&mut self, s: usize, input: Input) -> Result<Vec<Output>, Stopped> {
        self.flush(s)?;
        self.receive(s, input)
    }

    /// One transaction and its outputs.
    pub fn receive(&mut self, s: usize, input: Input) -> Result<Vec<Output>, Stopped> {
        let facts = Facts { ingest: self.open_executions(s), viewers: self.viewers_of(s) };
        let fate = self.run.fate(STATEMENTS);
        let mut entropy = self.run.random.entropy("object");
        let name = name(&input);
        let state = self.objects[s].shadow.state;
        self.run.cover(state, name);
        self.run.note(|| format!("object {s} [{state}] {}", describe(&input)));
        let object = &mut self.objects[s];
        let now = self.now + object.skew_ms;
        let memory = object.memory.as_mut().expect("an object that takes an event is in memory");
        let result = object.storage.turn(fate, |db| memory.core.receive(db, now, &facts, &mut entropy, input));
        let Turn { outputs, alarm } = match result {
            Ok(turn) => turn,
            Err(stopped) => {
                if let (Fate::Kept | Fate::CrashAfter, Stopped::Failed(error)) = (fate, &stopped) {
                    let error = error.clone();
                    self.run.broken("no input fails by itself", || format!("object {s}, {name}: {error}"));
                }
                if stopped == Stopped::Crashed {
                    self.lose(s);
                }
                return Err(stopped);
            }
        };
        if memory.known_alarm != alarm {
            memory.known_alarm = alarm;
            object.storage.set_alarm(alarm);
        }
        self.arrange_alarm(s);
        self.observe(s, name, now, fate, &outputs);
        if fate == Fate::CrashAfter {
            self.lose(s);
            return Err(Stopped::Crashed);
        }
        Ok(self.perform_outputs(s, outputs))
    }

    fn perform_outputs(&mut self, s: usize, outputs: Vec<Output>) -> Vec<Output> {
        let (mut own, mut broadcasts) = (Vec::new(), Vec::new());
        for output in outputs {
            match output {
                Output::Broadcast(broadcast) => broadcasts.push(broadcast),
                Output::CloseAll { .. } => self.close_all(s),
                Output::Perform { key, effect } => self.perform(s, key, effect),
                Output::Reply { to, result } => {
                    if let Some(call) = self.memory(s).waiting.remove(&to) {
                        self.answer_call(call, Ok(result));
                    }
                }
                Output::ToIngest { execution, command } => self.send_to_ingest(s, &execution, &command),
                Output::AcceptIngest { .. }
                | Output::AcceptStream
                | Output::Answer { .. }
                | Output::Close { .. }
                | Output::Failed { .. }
                | Output::Refuse { .. } => own.push(output),
            }
        }
        self.broadcast(s, &broadcasts);
        own
    }

    /// Arranges for the alarm as the storage has it now.
    pub fn arrange_alarm(&mut self, s: usize) {
        let object = &mut self.objects[s];
        if object.arranged == object.storage.version {
            return;
        }
        object.arranged = object.storage.version;
        let (version, at) = (object.storage.version, object.storage.alarm());
        if let Some(at) = at {
            let at = self.run.rings_at(self.now, at - self.objects[s].skew_ms, faults::ALARM_LATE);
            self.queue.push(at, Event::SessionAlarm { s, version });
        }
    }

    pub fn session_alarm(&mut self, s: usize, version: u64) {
        if self.objects[s].storage.version != version {
            return;
        }
        self.objects[s].shadow.rings += 1;
        self.objects[s].storage.ring();
        self.handle_session_alarm(s);
        if self.run.fault(ALARM_DOUBLED) {
            self.handle_session_alarm(s);
        }
    }

    fn handle_session_alarm(&mut self, s: usize) {
        self.construct(s);
        let there = self.objects[s].storage.alarm();
        self.memory(s).known_alarm = there;
        let mut failed = false;
        for part in 0..3 {
            let result = match part {
                0 => self.wake(s),
                1 => self.turn(s, Input::Expire).map(|own| {
                    failed |= own.iter().any(|output| matches!(output, Output::Failed { .. }));
                }),
                _ => self.turn(s, Input::PayDebts).map(drop),
            };
            match result {
                Ok(()) => {}
                Err(Stopped::Failed(_)) => failed = true,
                Err(Stopped::Crashed) => {
                    self.objects[s].storage.ring_again(self.now + RING_AGAIN_MS);
                    return self.arrange_alarm(s);
                }
            }
        }
        if failed {
            let at = Some(self.now + RETRY_MS);
            self.memory(s).known_alarm = at;
            self.objects[s].storage.set_alarm(at);
            self.arrange_alarm(s);
        }
    }

    /// The object is lost with all that it held in memory: a crash, or a deploy.
    pub fn lose(&mut self, s: usize) {
        self.run.note(|| format!("object {s} is lost"));
        let Some(memory) = self.objects[s].memory.take() else { return };
        self.objects[s].incarnation += 1;
        self.arrange_alarm(s);
        for call in memory.waiting.into_values() {
            self.answer_call(call, Err("the object was lost"));
        }
        self.drop_sockets(s);
    }

    /// The object leaves memory, if nothing keeps it there. Its sockets stay.
    pub fn hibernate(&mut self, s: usize) {
        let rests = |memory: &Memory| memory.waiting.is_empty() && memory.flights == 0 && !memory.busy;
        if self.objects[s].memory.as_ref().is_some_and(rests) {
            self.run.note(|| format!("object {s} hibernates"));
            self.objects[s].memory = None;
            self.objects[s].incarnation += 1;
        }
    }
}

/// The name of an input, for the coverage table.
pub fn name(input: &Input) -> &'static str {
    match input {
        Input::Call { call, .. } => match call {
            Call::Delete => "delete",
            Call::Initiate => "initiate",
            Call::Interrupt => "interrupt",
            Call::Judge(_) => "judge",
            Call::KeepLogs { .. } => "keep-logs",
            Call::Register(_) => "register",
            Call::Send(_) => "send",
            Call::Update(_) => "update",
            Call::View => "view",
        },
        Input::Expire => "expire",
        Input::IngestClosed { .. } => "ingest-closed",
        Input::IngestFrames(_) => "ingest-frames",
        Input::IngestOpen(_) => "ingest-open",
        Input::Outcome { .. } => "outcome",
        Input::PayDebts => "pay-debts",
        Input::Progress { .. } => "progress",
        Input::SnapshotAccess { .. } => "snapshot-access",
        Input::StreamOpen { .. } => "stream-open",
        Input::Woke => "woke",
    }
}

fn describe(input: &Input) -> String {
    match input {
        Input::IngestClosed { code, .. } => format!("ingest-closed {code}"),
        Input::IngestFrames(frames) => format!("ingest-frames {}", frames.len()),
        Input::IngestOpen(open) => format!("ingest-open {} generation {:?}", open.execution, open.generation),
        Input::Outcome { key, outcome, .. } => format!("outcome {key} {outcome:?}"),
        Input::Progress { progress, .. } => {
            format!("progress {}/{} {:?} {:?}", progress.attempt, progress.n, progress.step, progress.outcome)
        }
        other => name(other).to_owned(),
    }
}
