//! The container's object.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | One input is one transaction, then its outputs | `turn` |
//! | The handler of the alarm never fails: what failed rings again in 30 s | `alarm` |
//! | A start that was under way begins again before the first event after construction | `wake` |
//! | Nobody waits for the answer of a lost object | [`lose`] |
//!
//! A promise is checked here for both profiles: what is heard of another container than the newest changes nothing.

use super::Beside;
use super::Event;
use super::Host;
use super::passage;
use super::passage::Refusal;
use super::passage::Waiter;
use super::power;
use super::power::Verb;
use crate::durable::ALARM_DOUBLED;
use crate::durable::Fate;
use crate::durable::Stopped;
use crate::durable::Storage;
use database::Database;
use database::DatabaseError;
use object_core::lifecycle;
use object_core::lifecycle::Container;
use object_core::lifecycle::Input;
use object_core::lifecycle::LifecycleLimits;
use object_core::lifecycle::Output;
use object_core::lifecycle::State;
use object_core::nearest;
use object_core::time::SECOND;
use std::collections::BTreeSet;

/// When an alarm whose handler failed, or whose object was lost, rings again.
const RETRY_MS: i64 = 30 * SECOND;
const RING_AGAIN_MS: i64 = 2 * SECOND;
/// A turn has about so many statements.
const STATEMENTS: u64 = 12;

/// The container's object.
pub struct ContainerObject {
    /// Its tables and its alarm.
    pub storage: Storage,
    /// How often its alarm rang.
    pub rings: u64,
    /// How often its memory was lost.
    pub incarnation: u64,
    pub(super) memory: Option<Memory>,
    pub(super) limits: LifecycleLimits,
    arranged: u64,
    skew_ms: i64,
}

/// What it has in memory.
pub(super) struct Memory {
    /// Requests that wait for the container.
    pub waiting: Vec<Waiter>,
    /// Requests that the container has.
    pub forwarded: BTreeSet<u64>,
    /// The start that waits to be healthy.
    pub starting: Option<String>,
    /// When the platform has done what it was asked.
    pub verbs_free_at: i64,
    known_alarm: Option<i64>,
    woken: bool,
}

impl ContainerObject {
    /// An object that was never there. `storage` has the tables.
    pub fn new(storage: Storage, limits: LifecycleLimits) -> Self {
        Self { storage, rings: 0, incarnation: 0, memory: None, limits, arranged: 0, skew_ms: 0 }
    }

    /// What is known of the container.
    pub fn known(&self) -> Option<Container> {
        lifecycle::load(&self.storage.db).ok().flatten()
    }

    /// The start that runs, as far as is known.
    pub fn running(&self) -> Option<String> {
        self.known().filter(|known| known.state == State::Running).map(|known| known.instance)
    }

    /// Where the container is in its life.
    pub fn state(&self) -> &'static str {
        state_name(self.known().map(|known| known.state))
    }

    /// The container has answered a request. Whether that passes through: not if the object was lost meanwhile, or has answered itself.
    pub fn passes(&mut self, request: u64) -> bool {
        self.memory.as_mut().is_some_and(|memory| memory.forwarded.remove(&request))
    }
}

/// Before an event: the first after construction is [`Input::Woke`].
pub fn wake(host: &mut impl Host) -> Result<(), Stopped> {
    construct(host);
    if host.object().memory.as_ref().is_some_and(|memory| !memory.woken) {
        turn(host, &Input::Woke)?;
        if let Some(memory) = &mut host.object().memory {
            memory.woken = true;
        }
    }
    Ok(())
}

fn construct(host: &mut impl Host) {
    if host.object().memory.is_some() {
        return;
    }
    let (skew_ms, now) = (host.run().skew(), host.now());
    let object = host.object();
    object.skew_ms = skew_ms;
    object.memory = Some(Memory {
        waiting: Vec::new(),
        forwarded: BTreeSet::new(),
        starting: None,
        verbs_free_at: now,
        known_alarm: object.storage.alarm(),
        woken: false,
    });
}

/// One input.
pub fn turn<H: Host>(host: &mut H, input: &Input) -> Result<(), Stopped> {
    let fate = host.run().fate(STATEMENTS);
    let mut entropy = host.run().random.entropy("container");
    let before = host.object().known();
    let state = state_name(before.as_ref().map(|known| known.state));
    host.run().cover(state, input_name(input));
    host.run().note(|| format!("{state}: {input:?}"));
    let now = host.now();
    let ContainerObject { storage, limits, skew_ms, .. } = host.object();
    let now = now + *skew_ms;
    let result = storage.turn(fate, |db| {
        let done = H::receive(db, now, || lifecycle::receive(db, limits, now, &mut entropy, input))?;
        Ok((done, next_alarm::<H>(db, limits)?))
    });
    let ((outputs, news), alarm) = match result {
        Ok(done) => done,
        Err(stopped) => {
            if stopped == Stopped::Crashed {
                lose(host);
            }
            return Err(stopped);
        }
    };
    set_alarm(host, alarm);
    check_news(host, before.as_ref(), input);
    if fate == Fate::CrashAfter {
        lose(host);
        return Err(Stopped::Crashed);
    }
    for output in outputs {
        match output {
            Output::Running { instance, .. } => passage::tell_waiting(host, Some(&instance)),
            Output::Unavailable => passage::tell_waiting(host, None),
            Output::Start { instance, .. } => power::start(host, instance),
            Output::Terminate { instance } => power::ask(host, Verb::Terminate, instance),
            Output::Destroy { instance } => power::ask(host, Verb::Destroy, instance),
        }
    }
    news.into_iter().for_each(|news| host.tell(news));
    Ok(())
}

/// For what happens beside everything else: nobody is left to be told of an error.
pub fn report(host: &mut impl Host, input: &Input) {
    drop(turn(host, input));
}

/// A write beside the lifecycle, which moves the alarm too.
pub fn write<H: Host>(host: &mut H, work: impl FnOnce(&dyn Database) -> Result<(), DatabaseError>) {
    let ContainerObject { storage, limits, .. } = host.object();
    let alarm = storage.turn(Fate::Kept, |db| {
        work(db)?;
        next_alarm::<H>(db, limits)
    });
    set_alarm(host, alarm.unwrap_or_default());
}

fn next_alarm<H: Host>(db: &dyn Database, limits: &LifecycleLimits) -> Result<Option<i64>, DatabaseError> {
    Ok(nearest([lifecycle::next_deadline(db, limits)?, H::next_news(db)?]))
}

/// What is heard of another container than the newest changes nothing.
fn check_news(host: &mut impl Host, before: Option<&Container>, input: &Input) {
    let (Input::Ended { instance } | Input::StartFailed { instance } | Input::Started { instance }) = input else {
        return;
    };
    let after = host.object().known();
    if before.is_none_or(|known| known.instance != *instance) && before != after.as_ref() {
        let what = || format!("{before:?} became {after:?} after {input:?}");
        host.run().broken("news of an older container change nothing", what);
    }
}

fn set_alarm(host: &mut impl Host, alarm: Option<i64>) {
    let object = host.object();
    if let Some(memory) = &mut object.memory
        && memory.known_alarm != alarm
    {
        memory.known_alarm = alarm;
        object.storage.set_alarm(alarm);
    }
    arrange_alarm(host);
}

fn arrange_alarm<H: Host>(host: &mut H) {
    let now = host.now();
    let object = host.object();
    let (version, skew_ms) = (object.storage.version, object.skew_ms);
    if std::mem::replace(&mut object.arranged, version) == version {
        return;
    }
    if let Some(at) = object.storage.alarm() {
        let at = host.run().rings_at(now, at - skew_ms, H::ALARM_LATE);
        host.arrange(at, Event::Alarm { version });
    }
}

/// The alarm rings, if it was not moved since `version`.
pub(super) fn alarm(host: &mut impl Host, version: u64) {
    let (now, object) = (host.now(), host.object());
    if object.storage.version != version {
        return;
    }
    object.rings += 1;
    object.storage.ring();
    for _ in 0..if host.run().fault(ALARM_DOUBLED) { 2 } else { 1 } {
        construct(host);
        let there = host.object().storage.alarm();
        if let Some(memory) = &mut host.object().memory {
            memory.known_alarm = there;
        }
        match wake(host).and_then(|()| turn(host, &Input::Tick)) {
            Ok(()) => {}
            Err(Stopped::Crashed) => {
                host.object().storage.ring_again(now + RING_AGAIN_MS);
                return arrange_alarm(host);
            }
            Err(Stopped::Failed(_)) => {
                let at = now + host.object().skew_ms + RETRY_MS;
                set_alarm(host, Some(at));
            }
        }
    }
}

/// The object is lost, with the requests that it has.
pub fn lose(host: &mut impl Host) {
    host.run().note(|| "the container's object is lost".to_owned());
    let object = host.object();
    let Some(memory) = object.memory.take() else { return };
    object.incarnation += 1;
    arrange_alarm(host);
    for request in memory.waiting.into_iter().map(|waiter| waiter.request).chain(memory.forwarded) {
        host.refuse(request, Refusal::Lost);
    }
}

/// It leaves memory, if nothing keeps it there.
pub fn hibernate(host: &mut impl Host) {
    let (now, object) = (host.now(), host.object());
    let rests = |memory: &Memory| {
        memory.waiting.is_empty()
            && memory.forwarded.is_empty()
            && memory.starting.is_none()
            && memory.verbs_free_at < now
    };
    if object.memory.take_if(|memory| rests(memory)).is_some() {
        object.incarnation += 1;
    }
}

/// Arranges what the object does beside everything else.
pub(super) fn beside(host: &mut impl Host, at: i64, what: Beside) {
    let incarnation = host.object().incarnation;
    host.arrange(at, Event::Beside { incarnation, what });
}

/// Where a container is in its life, as traces and the coverage table say it. None: there never was one.
fn state_name(state: Option<State>) -> &'static str {
    match state {
        None => "container never",
        Some(State::Running) => "container running",
        Some(State::Starting) => "container starting",
        Some(State::Stopped) => "container stopped",
        Some(State::Stopping) => "container stopping",
    }
}

/// What comes to the object, as the coverage table says it.
fn input_name(input: &Input) -> &'static str {
    match input {
        Input::Ended { .. } => "ended",
        Input::Release { .. } => "release",
        Input::StartFailed { .. } => "start-failed",
        Input::Started { .. } => "started",
        Input::Tick => "tick",
        Input::Want { .. } => "want",
        Input::Woke => "woke",
    }
}
