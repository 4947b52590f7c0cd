//! P1 and P4: an acknowledged event is in the log exactly once, in its producer's order, and one generation of wrappers writes at a time.
//!
//! The rows that each turn adds are noted as they come, because an entity's row is overwritten later. What producers sent is noted by disk: the
//! process may change under a spool, the numbers may not.

use super::Shadow;
use crate::sessions::link::Link;
use crate::sessions::link::Numbered;
use crate::sessions::sockets::SocketId;
use crate::sessions::sockets::Wrapper;
use crate::sessions::task::Kept;
use crate::sessions::worker::Worker;
use crate::sessions::world::World;
use database::Database;
use protocol::event::EventClass;
use protocol::id::ExecutionId;
use protocol::ingest::CLOSE_GAP;
use protocol::sandbox::TurnPlan;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What was ever in one log.
#[derive(Default)]
pub struct Journal {
    pub last_id: i64,
    /// Fingerprints by id.
    pub by_id: BTreeMap<i64, u64>,
    /// By execution: number → fingerprint, key.
    by_seq: BTreeMap<String, BTreeMap<i64, (u64, Option<String>)>>,
}

/// What was sent from one disk for one execution.
#[derive(Default)]
pub struct Ledger {
    sent: BTreeMap<i64, Numbered>,
    checked: i64,
}

const P1: &str = "P1 an acknowledged event is in the log exactly once, in the producer's order";
const P4: &str = "P4 at most one wrapper generation writes at a time";

impl World<'_> {
    /// Notes the rows that a turn added.
    pub fn new_events(&mut self, s: usize) {
        let object = &mut self.objects[s];
        let last_id = object.shadow.journal.last_id;
        let sql = "SELECT id, execution, seq, type, data, NULL FROM log WHERE id > ?1
            UNION ALL SELECT id, execution, seq, type, data, key FROM entity WHERE id > ?1 ORDER BY 1";
        let rows = object.storage.db.query(sql, &[last_id.into()]).expect("the tables are there");
        let mut broken = Vec::new();
        let Shadow { journal, generations, taking, .. } = &mut object.shadow;
        for row in &rows {
            let id: i64 = row.get(0).expect("an id");
            let execution: String = row.get(1).expect("an id");
            let seq: Option<i64> = row.get(2).expect("a number");
            let (kind, data): (String, String) = (row.get(3).expect("a type"), row.get(4).expect("a text"));
            let key: Option<String> = row.get(5).expect("a key");
            let print = super::fingerprint(&execution, &kind, &data);
            journal.last_id = id;
            journal.by_id.insert(id, print);
            let Some(seq) = seq else { continue };
            let of_execution = journal.by_seq.entry(execution.clone()).or_default();
            if let Some((last, _)) = of_execution.last_key_value()
                && *last >= seq
            {
                broken.push((P1, format!("{execution}: number {seq} is stored after {last}")));
            }
            of_execution.insert(seq, (print, key));
            let writer = taking.iter().find(|(wrapper, frame)| {
                wrapper.execution.as_str() == execution && frame.iter().any(|event| event.seq == seq)
            });
            if let Some((wrapper, _)) = writer {
                let newest = generations.get(&wrapper.execution).copied().unwrap_or(0);
                if wrapper.generation < newest {
                    let what =
                        format!("{execution}: generation {} wrote {seq}, {newest} has connected", wrapper.generation);
                    broken.push((P4, what));
                }
            }
        }
        for (promise, what) in broken {
            self.run.broken(promise, || what);
        }
    }

    /// A wrapper's handshake was accepted.
    pub fn ingest_accepted(&mut self, s: usize, wrapper: &Wrapper) {
        let newest = self.objects[s].shadow.generations.entry(wrapper.execution.clone()).or_default();
        let (before, generation) = (*newest, wrapper.generation);
        *newest = before.max(generation);
        if generation < before {
            self.run.broken(P4, || format!("generation {generation} was accepted after {before}"));
        }
    }

    /// A frame leaves a wrapper.
    pub fn sent(&mut self, disk: u64, execution: &ExecutionId, numbered: &[Numbered]) {
        if numbered.is_empty() {
            return;
        }
        let ledger = self.ledgers.entry((execution.clone(), disk)).or_default();
        for event in numbered {
            ledger.sent.insert(event.seq, event.clone());
        }
    }

    /// A socket is closed by its object. Our own wrapper goes on after what the object has: it leaves a gap only after a frame that was not taken.
    pub fn check_gap(&mut self, socket: SocketId, code: u16) {
        if code == CLOSE_GAP && self.sockets.get(&socket).is_some_and(|socket| !socket.refused) {
            self.run.broken("our own wrapper leaves no gap", || format!("socket {socket}"));
        }
    }

    /// A wrapper hears that everything up to `seq` is stored, and will forget it.
    pub fn acknowledged(&mut self, s: usize, disk: u64, execution: &ExecutionId, seq: u64) {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        let Some(ledger) = self.ledgers.get_mut(&(execution.clone(), disk)) else { return };
        if seq <= ledger.checked {
            return;
        }
        let empty = BTreeMap::new();
        let stored = self.objects[s].shadow.journal.by_seq.get(execution.as_str()).unwrap_or(&empty);
        let mut missing = None;
        for (number, event) in ledger.sent.range(ledger.checked + 1..=seq) {
            let there = stored.get(number).is_some_and(|(print, _)| *print == event.print);
            // Within one turn a later value of the same thing takes its place.
            let overwritten = event
                .entity
                .as_ref()
                .is_some_and(|key| stored.range(number + 1..).any(|(_, (_, known))| known.as_ref() == Some(key)));
            let given_up = ledger.sent.range(*number..).any(|(_, later)| {
                later.lost.is_some_and(|(from, to)| (from..=to).contains(number) && stored.contains_key(&to))
            });
            if !(there || overwritten || given_up) {
                missing = Some((*number, stored.contains_key(number)));
                break;
            }
        }
        ledger.checked = seq;
        if let Some((number, other)) = missing {
            self.run.broken(P1, || {
                format!("{execution}: {number} of disk {disk} was acknowledged by {seq}; another is stored under it: {other}")
            });
        }
    }

    /// A wrapper has delivered everything: the log holds what the agent said, normalised.
    pub fn link_drained(&mut self, w: &Worker, link: &mut Link) {
        let execution = link.execution().clone();
        let alone = self.ledgers.keys().filter(|(of, _)| *of == execution).count() <= 1;
        if !alone || !link.whole || self.small_spool {
            return;
        }
        let expected = link.oracle.drain();
        let Some(stored) = self.objects[w.s].shadow.journal.by_seq.get(execution.as_str()) else {
            if expected.iter().any(|event| event.class().is_stored()) && !self.objects[w.s].shadow.ended {
                self.run.broken(P1, || format!("{execution}: nothing of it is in the log"));
            }
            return;
        };
        let print =
            |event: &sandbox_core::event::Event| super::fingerprint(execution.as_str(), event.kind(), event.data());
        let logged: Vec<u64> = expected.iter().filter(|event| *event.class() == EventClass::Log).map(print).collect();
        let found: Vec<u64> = stored.values().filter(|(_, key)| key.is_none()).map(|(print, _)| *print).collect();
        if logged != found {
            let (expected, found) = (logged.len(), found.len());
            return self.run.broken("the log is what the agent said, normalised", || {
                format!("{execution}: {expected} events were said, {found} are logged, or others")
            });
        }
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for event in &expected {
            if let EventClass::Entity(key) = event.class() {
                last.insert(key, print(event));
            }
        }
        for (key, print) in last {
            let newest = stored.values().rev().find(|(_, known)| known.as_deref() == Some(key));
            if newest.map(|(print, _)| *print) != Some(print) {
                return self.run.broken("the log is what the agent said, normalised", || {
                    format!("{execution}: the last value of {key} is not in the log")
                });
            }
        }
    }

    /// An agent was handed a prompt.
    pub fn prompted(&mut self, s: usize, plan: &TurnPlan) {
        *self.objects[s].shadow.prompted.entry(plan.execution_id.clone()).or_default() += 1;
    }

    /// A container put a conversation away.
    pub fn snapshot_kept(&mut self, s: usize, kept: Kept) {
        let before = self.kept.get(&s).map_or(0, |before| before.attempt);
        if kept.attempt != 0 && kept.attempt < before {
            let attempt = kept.attempt;
            self.run.broken("a conversation is not replaced by an older container's", || {
                format!("session {s}: attempt {attempt} replaced what attempt {before} had put away")
            });
        }
        self.kept.insert(s, kept);
    }

    /// The executions of one session that were handed to an agent.
    pub fn prompted_executions(&self, s: usize) -> BTreeSet<String> {
        self.objects[s].shadow.prompted.keys().map(ToString::to_string).collect()
    }
}
