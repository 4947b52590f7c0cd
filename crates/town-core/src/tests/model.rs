//! The drain against a model: every order of evictions, heartbeats, acknowledgements, time and restarts, up to a depth.

use super::containers::empty_town;
use super::containers::heartbeat;
use super::containers::of_container;
use crate::Town;
use crate::limits::Limits;
use crate::message::Facts;
use crate::message::Input;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerCall;
use crate::message::container::ContainerInput;
use crate::message::container::ContainerOutput;
use database::Database;
use database::DatabaseError;
use database::transaction;
use object_core::entropy::Entropy;
use object_core::time::MINUTE;
use protocol::id::InstanceId;
use std::collections::BTreeSet;

/// Who acts: `a` and `b` may be evicted, `c` never is, and an empty name is a container that does not say who it is.
type Who = &'static str;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// With the current nonce.
    Ack(Who),
    /// With the nonce of the drain before.
    AckStale(Who),
    Beat(Who),
    Evict(Who),
    /// Time moves to this minute of the drain, and the alarm rings.
    Ring(i64),
    /// The object is made anew from its tables.
    Restart,
    /// Time moves to this minute of the drain, and the alarm is late.
    Sleep(i64),
}

/// All containers say who they are.
const NAMED: [Step; 10] = [
    Step::Ack("a"),
    Step::Ack("b"),
    Step::AckStale("c"),
    Step::Beat("a"),
    Step::Beat("b"),
    Step::Evict("a"),
    Step::Evict("b"),
    Step::Restart,
    Step::Ring(11),
    Step::Sleep(15),
];

/// Some do not.
const ANONYMOUS: [Step; 9] = [
    Step::Ack(""),
    Step::Ack("a"),
    Step::Beat(""),
    Step::Beat("a"),
    Step::Beat("b"),
    Step::Evict(""),
    Step::Evict("a"),
    Step::Ring(11),
    Step::Sleep(15),
];

/// What a town has to remember, told as simply as possible.
#[derive(Clone, Debug)]
struct Drain {
    nonce: String,
    since: i64,
    evicted: Who,
}

#[derive(Clone, Debug, Default)]
struct Model {
    now: i64,
    drain: Option<Drain>,
    nonce_before: String,
    evicted: BTreeSet<Who>,
}

impl Model {
    /// The input of a step, after time has moved.
    fn input(&mut self, step: Step) -> Input {
        if let Step::Ring(minute) | Step::Sleep(minute) = step {
            let since = self.drain.as_ref().map_or(self.now, |drain| drain.since);
            self.now = self.now.max(since + minute * MINUTE);
        }
        let instance = |who: Who| InstanceId::parse(who).ok();
        let current = || self.drain.as_ref().map_or(String::new(), |drain| drain.nonce.clone());
        let call = match step {
            Step::Ack(who) => ContainerCall::Ready { instance: instance(who), nonce: current() },
            Step::AckStale(who) => ContainerCall::Ready { instance: instance(who), nonce: self.nonce_before.clone() },
            Step::Beat(who) => heartbeat(Some(who).filter(|who| !who.is_empty()), false),
            Step::Evict(who) => ContainerCall::Eviction { instance: instance(who) },
            Step::Restart => return Input::Woke,
            Step::Ring(_) => return Input::Tick,
            Step::Sleep(_) => ContainerCall::DrainStatus,
        };
        Input::Container(ContainerInput::Call(call))
    }

    /// What the answer must be. Takes the new nonce of an eviction from `found`: only that it is new can be foretold.
    fn answer(&mut self, step: Step, found: Option<&ContainerAnswer>) -> Option<ContainerAnswer> {
        if self.drain.as_ref().is_some_and(|drain| self.now >= drain.since + 15 * MINUTE) {
            self.end();
        }
        match step {
            Step::Ack(who) => {
                let cleared = self.drain.is_none() || !self.evicted.contains(who);
                if cleared {
                    self.end();
                }
                Some(ContainerAnswer::Ready { cleared })
            }
            Step::AckStale(_) => Some(ContainerAnswer::Ready { cleared: self.drain.is_none() }),
            Step::Beat(who) => {
                let nonce =
                    self.drain.as_ref().map(|drain| drain.nonce.clone()).filter(|_| !self.evicted.contains(who));
                if self.is_replacement(who) {
                    self.end();
                    return Some(ContainerAnswer::Heartbeat { nonce: None });
                }
                Some(ContainerAnswer::Heartbeat { nonce })
            }
            Step::Evict(who) => {
                let Some(ContainerAnswer::Eviction { nonce }) = found else { return None };
                let known = [self.nonce_before.clone(), self.current_nonce()];
                assert!(!nonce.is_empty() && !known.contains(nonce), "a new nonce");
                self.end();
                self.drain = Some(Drain { nonce: nonce.clone(), since: self.now, evicted: who });
                self.evicted.extend(Some(who).filter(|who| !who.is_empty()));
                found.cloned()
            }
            Step::Restart | Step::Ring(_) => None,
            Step::Sleep(_) => {
                Some(ContainerAnswer::DrainStatus { nonce: self.drain.as_ref().map(|drain| drain.nonce.clone()) })
            }
        }
    }

    fn is_replacement(&self, who: Who) -> bool {
        let known = self.drain.as_ref().is_some_and(|drain| !drain.evicted.is_empty());
        known && !who.is_empty() && !self.evicted.contains(who)
    }

    fn current_nonce(&self) -> String {
        self.drain.as_ref().map_or(String::new(), |drain| drain.nonce.clone())
    }

    fn end(&mut self) {
        if let Some(drain) = self.drain.take() {
            self.nonce_before = drain.nonce;
        }
    }
}

#[test]
fn every_interleaving_of_containers_with_names_agrees_with_the_model() {
    agree(&NAMED, 4);
}

/// Without an eviction first, five steps show nothing that four do not; after that of `b` they show the same as after that of `a`.
#[test]
fn every_interleaving_of_five_steps_that_begins_with_an_eviction_agrees_with_the_model() {
    let (db, mut path) = (empty_town(), vec![Step::Evict("a")]);
    let evicted = take(&db, Model::default(), Step::Evict("a"), &path);
    assert_eq!(explore(&db, &evicted, &NAMED, 4, &mut path), paths(NAMED.len(), 4));
}

#[test]
fn every_interleaving_with_anonymous_containers_agrees_with_the_model() {
    agree(&ANONYMOUS, 4);
}

fn agree(steps: &[Step], depth: u32) {
    let db = empty_town();
    let visited = explore(&db, &Model::default(), steps, depth, &mut Vec::new());
    assert_eq!(visited, paths(steps.len(), depth));
}

/// How many there are with this many steps at each point.
fn paths(steps: usize, depth: u32) -> usize {
    (1..=depth).map(|depth| steps.pow(depth)).sum()
}

/// Takes every step from here, and every path behind it. Each is undone before the next: the database is its own time machine.
fn explore(db: &dyn Database, model: &Model, steps: &[Step], depth: u32, path: &mut Vec<Step>) -> usize {
    if depth == 0 {
        return 0;
    }
    let mut visited = 0;
    for step in steps {
        path.push(*step);
        let undone: Result<(), DatabaseError> = transaction(db, || {
            let after = take(db, model.clone(), *step, path);
            visited += 1 + explore(db, &after, steps, depth - 1, path);
            Err(DatabaseError::Sql("undo".into()))
        });
        assert!(undone.is_err());
        path.pop();
    }
    visited
}

fn take(db: &dyn Database, mut model: Model, step: Step, path: &[Step]) -> Model {
    let input = model.input(step);
    let seed = u8::try_from(path.len()).unwrap();
    let turn = Town::new(Limits::default())
        .receive(db, model.now, &Facts::default(), &mut Entropy::from_seed([seed; 32]), &input)
        .unwrap();
    let (alarm, outputs) = (turn.alarm, of_container(turn.outputs));
    let answer = outputs.iter().find_map(|output| match output {
        ContainerOutput::Answer(answer) => Some(answer),
        _ => None,
    });
    let expected = model.answer(step, answer);
    assert_eq!(answer, expected.as_ref(), "{path:?}");
    check(&model, step, alarm, &outputs, path);
    model
}

/// What holds after every step, whatever it was.
fn check(model: &Model, step: Step, alarm: Option<i64>, outputs: &[ContainerOutput], path: &[Step]) {
    let Some(drain) = &model.drain else {
        return assert_eq!(alarm, None, "a town at rest does not wake: {path:?}");
    };
    let expiry = drain.since + 15 * MINUTE;
    assert!(alarm.is_some_and(|at| at > model.now && at <= expiry), "every drain has its deadline: {path:?}");
    if let Step::Beat(who) | Step::Ack(who) = step
        && model.evicted.contains(who)
    {
        assert!(!format!("{:?}", outputs.first()).contains(&drain.nonce), "no nonce for {who}: {path:?}");
    }
    let offered = outputs.iter().any(|output| matches!(output, ContainerOutput::Handoff { .. }));
    assert!(!offered || model.now >= drain.since + 11 * MINUTE, "no offer before its time: {path:?}");
    // Only on the first visit of that minute is the offer certain.
    if let [.., Step::Evict(_), Step::Ring(11)] = path {
        assert!(offered, "the offer is made: {path:?}");
    }
}
