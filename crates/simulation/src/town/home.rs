//! Calls of a container to its town (`sandboxd`'s `town/home`), and what follows each.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | A call takes 10 s at most, a receipt 5 s; whatever was not answered may be called again while there is time | `tries` |
//! | A nonce that comes back is acknowledged if [`sandbox_core::ack`] says so | `acknowledge` |
//! | The town is told of the eviction until it has answered | `report_eviction` |

use super::faults;
use super::process::Given;
use super::world::Event;
use super::world::World;
use object_core::time::SECOND;
use protocol::id::AgentId;
use sandbox_core::drain;
use sandbox_core::managed;
use town_core::message::Answer;
use town_core::message::container::ContainerAnswer;
use town_core::message::container::ContainerCall;

const CALL_MS: i64 = 10 * SECOND;
const RECEIPT_MS: i64 = 5 * SECOND;
/// The longest pause between two reports of an eviction.
const PAUSE_MS_MAX: i64 = 5 * SECOND;
/// How often an agent calls a tool that gave no answer.
const TOOL_TRIES: u32 = 3;

/// One turn of one run of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub agent: AgentId,
    pub run: u64,
    pub turn: u64,
}

/// What is called.
#[derive(Clone, Debug)]
pub enum Call {
    Container(ContainerCall),
    Registry,
    SetRegistry(Vec<Given>),
    Town(town_core::message::Call),
}

/// What follows.
#[derive(Clone, Debug)]
pub enum Then {
    /// A nonce may have come back.
    Acknowledge,
    /// The drain goes on.
    Drain(drain::Input),
    /// The town knows of the eviction, or is told again after a while. The drain goes on after the first try.
    Evicted {
        is_first: bool,
        pause: i64,
    },
    /// The town knows that a lost agent is about to be started.
    Greeted(Box<Given>),
    /// The lost agents are started.
    Hydrate,
    Nothing,
    /// The agent is handed what was left for it.
    Nudge(Turn),
    /// The nonce counts as acknowledged, or not.
    Settle(String),
    /// The list of live agents may be told again.
    Told,
    /// The agent goes on.
    Tool(Turn, u32),
    /// The lost agent is started, if it is still wanted.
    Wanted(Box<Given>),
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Heard {
    Container(ContainerAnswer),
    Done,
    Registry(Vec<Given>),
    Town(Box<Answer>),
}

/// A call under way.
pub struct HomeCall {
    pid: u64,
    call: Call,
    then: Then,
    over: bool,
}

impl World<'_> {
    /// Calls the town.
    pub fn home(&mut self, pid: u64, call: Call, then: Then) {
        let id = self.new_id();
        let limit = if matches!(then, Then::Drain(drain::Input::Told(_))) { RECEIPT_MS } else { CALL_MS };
        self.queue.push(self.now + limit, Event::HomeReturns { call: id, heard: None });
        let is_cut_off = self.processes.get(&pid).is_none_or(|process| self.now < process.unreachable_until);
        let hangs =
            matches!(call, Call::Container(ContainerCall::Eviction { .. })) && self.run.fault(faults::EVICTION_HANGS);
        if !is_cut_off && !hangs && !self.run.fault(faults::REQUEST_LOST) {
            let at = self.now + self.delay();
            self.queue.push(at, Event::HomeArrives(id));
            if self.run.fault(faults::CALL_DOUBLED) {
                let again = at + self.run.random.between("call-again", 1, CALL_MS);
                self.queue.push(again, Event::HomeArrives(id));
            }
        }
        self.home_calls.insert(id, HomeCall { pid, call, then, over: false });
    }

    /// Tells the town that the container is evicted.
    pub fn report_eviction(&mut self, pid: u64, is_first: bool, pause: i64) {
        let Some(process) = self.processes.get(&pid) else { return };
        let call = Call::Container(ContainerCall::Eviction { instance: process.called.clone() });
        self.home(pid, call, Then::Evicted { is_first, pause });
    }

    /// A call is at the Worker.
    pub fn home_arrives(&mut self, id: u64) {
        let Some(HomeCall { pid, call, .. }) = self.home_calls.get(&id) else { return };
        let pid = *pid;
        let heard = match call.clone() {
            Call::Container(call) => self.ask_drain(call).map(Heard::Container),
            Call::Registry => Some(Heard::Registry(self.registry.clone())),
            Call::SetRegistry(entries) => {
                self.registry = entries;
                Some(Heard::Done)
            }
            Call::Town(call) => self.ask_town(call).map(|answer| Heard::Town(Box::new(answer))),
        };
        let is_cut_off = self.processes.get(&pid).is_some_and(|process| self.now < process.unreachable_until);
        if !is_cut_off && !self.run.fault(faults::ANSWER_LOST) {
            let at = self.now + self.delay();
            self.queue.push(at, Event::HomeReturns { call: id, heard });
        }
    }

    /// The call is over: an answer, or None.
    pub fn home_returns(&mut self, id: u64, heard: Option<Heard>) {
        let Some(call) = self.home_calls.get_mut(&id) else { return };
        if heard.is_some() && call.over {
            return;
        }
        if std::mem::replace(&mut call.over, true) {
            self.home_calls.remove(&id);
            return;
        }
        let (pid, then, call) = (call.pid, call.then.clone(), call.call.clone());
        if !self.processes.contains_key(&pid) {
            return;
        }
        match (then, heard) {
            (Then::Acknowledge, Some(Heard::Container(ContainerAnswer::Heartbeat { nonce: Some(nonce) }))) => {
                self.acknowledge(pid, nonce);
            }
            (Then::Acknowledge | Then::Nothing, _) => {}
            (Then::Drain(input), _) => self.drain_hears(pid, input),
            (Then::Evicted { is_first, pause }, heard) => {
                if is_first {
                    self.drain_hears(pid, drain::Input::Notified);
                }
                if heard.is_none() {
                    self.queue
                        .push(self.now + pause, Event::EvictionAgain { pid, pause: (pause * 2).min(PAUSE_MS_MAX) });
                }
            }
            (Then::Hydrate, heard) => {
                let entries = if let Some(Heard::Registry(entries)) = heard { Some(entries) } else { None };
                self.registry_read(pid, entries);
            }
            (Then::Nudge(turn), heard) => {
                let first = match heard {
                    Some(Heard::Town(answer)) => match *answer {
                        Answer::Nudges { nudges } => nudges.into_iter().next(),
                        _ => None,
                    },
                    _ => None,
                };
                let waiting = first.map(|nudge| managed::Waiting { id: nudge.nudge_id, message: nudge.message });
                if self.is_run(pid, &turn.agent, turn.run) {
                    self.feel(pid, &turn.agent, managed::Input::Nudge(waiting));
                }
            }
            (Then::Settle(nonce), heard) => {
                if let Some(process) = self.processes.get_mut(&pid) {
                    process.acks.settle(&nonce, heard.is_some());
                }
            }
            (Then::Greeted(given), heard) => {
                if let Some(Heard::Container(ContainerAnswer::Heartbeat { nonce: Some(nonce) })) = heard {
                    self.acknowledge(pid, nonce);
                }
                self.greeted(pid, given);
            }
            (Then::Wanted(given), heard) => self.wanted(pid, *given, heard),
            (Then::Told, _) => self.registry_told(pid),
            (Then::Tool(turn, tries), None) if tries < TOOL_TRIES => {
                let at = self.now + self.run.random.between("tool-again", SECOND, 10 * SECOND);
                self.queue.push(at, Event::ToolAgain { pid, call, turn, tries: tries + 1 });
            }
            (Then::Tool(turn, _), _) => self.goes_on(pid, &turn),
        }
    }

    pub fn tool_again(&mut self, pid: u64, call: Call, turn: Turn, tries: u32) {
        if self.is_turn(pid, &turn) {
            self.home(pid, call, Then::Tool(turn, tries));
        }
    }

    /// Tells the town that this container is the replacement, if it is.
    pub fn acknowledge(&mut self, pid: u64, nonce: String) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let was_told_to_end = process.drain.is_some();
        if process.acks.offer(&nonce) {
            if was_told_to_end {
                self.run.broken("P10 a container that was told to end acknowledges nothing", || nonce.clone());
            }
            let Some(process) = self.processes.get(&pid) else { return };
            let instance = process.called.clone();
            let call = ContainerCall::Ready { instance, nonce: nonce.clone() };
            self.home(pid, Call::Container(call), Then::Settle(nonce));
        }
    }
}
