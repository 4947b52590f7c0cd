//! What a new process makes of the list of agents that the last one left at the town (`sandboxd`'s `town/agents/hydration`, `registry`).
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | The list is read until it was read; before that, none is told | `bring_back_all`, `keep_registry` |
//! | Some at a time are started, if they still hold their bead; their heart beats before they are asked for | `bring_back`, `is_wanted` |
//! | Who is not back yet is told along with the live ones; a process that ends brings nobody back | `Registry` |
//! | Other starts wait until all are back, for a minute at most | `hydrate`, `wait_until_hydrated` |
//! | The list of live agents is told after each change, one call at a time, and never after it was told for the last time | `keep_registry`, `clear_registry` |

use super::agent::Replier;
use super::home::Call;
use super::home::Heard;
use super::home::Then;
use super::process::Given;
use super::process::Process;
use super::requests::Reply;
use super::world::Event;
use super::world::World;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::town::Heartbeat;
use protocol::town::agent::AgentStatus;
use sandbox_core::drain;
use std::collections::VecDeque;
use town_core::message::Answer;
use town_core::message::call::AgentCall;
use town_core::message::container::ContainerCall;

/// As in `sandboxd`'s `town/limits`.
const AT_ONCE: usize = 4;
const PATIENCE_MS: i64 = MINUTE;
const READ_AGAIN_MS: i64 = SECOND;

/// The town's list, and what is made of it.
#[derive(Default)]
pub struct Hydration {
    /// Agents of the last process that are not back yet. None: the list was not read yet.
    left: Option<Vec<Given>>,
    /// Those whose turn has not come.
    waiting: VecDeque<Given>,
    /// How many are being brought back.
    under_way: usize,
    /// Starts may begin.
    over: bool,
    /// Starts that wait for that.
    held: Vec<u64>,
    list: List,
}

/// The list as the town has it.
#[derive(Default)]
struct List {
    busy: bool,
    changed: bool,
    closing: bool,
    closed: bool,
}

impl Process {
    /// What the town is told of its agents, if that is known.
    fn entries(&self) -> Option<Vec<Given>> {
        let left = self.hydration.left.as_ref()?;
        let is_live = |id: &AgentId| self.agents.get(id).is_some_and(|agent| agent.machine.status().is_live());
        let live = self.agents.values().filter(|agent| agent.machine.status().is_live());
        let left = left.iter().filter(|given| !is_live(&given.request.agent_id));
        Some(live.map(|agent| &agent.given).chain(left).cloned().collect())
    }
}

impl World<'_> {
    /// A process has come up.
    pub fn hydrate(&mut self, pid: u64) {
        self.home(pid, Call::Registry, Then::Hydrate);
        self.queue.push(self.now + PATIENCE_MS, Event::HydrationOver { pid });
    }

    /// The list was read, or could not be.
    pub fn registry_read(&mut self, pid: u64, entries: Option<Vec<Given>>) {
        let Some(entries) = entries else {
            return self.queue.push(self.now + READ_AGAIN_MS, Event::ReadRegistry { pid });
        };
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.hydration.left = Some(entries.clone());
        process.hydration.waiting = entries.into();
        if !process.agents.is_empty() {
            self.registry_changed(pid);
        }
        for _ in 0..AT_ONCE {
            self.bring_back_next(pid);
        }
    }

    fn bring_back_next(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if process.acks.is_draining() {
            process.hydration.waiting.clear();
        }
        let Some(given) = process.hydration.waiting.pop_front() else {
            if process.hydration.under_way == 0 {
                self.hydrated(pid);
            }
            return;
        };
        process.hydration.under_way += 1;
        if given.bead.is_none() {
            let agent = given.request.agent_id.clone();
            return self.start_agent(pid, given, Replier::Hydration(agent));
        }
        let (agent, rig) = (given.request.agent_id.clone(), given.request.rig_id.clone());
        let body = Heartbeat { container_instance_id: process.called.clone(), ..Heartbeat::default() };
        let beat = Call::Container(ContainerCall::Heartbeat { agent, body, rig });
        self.home(pid, beat, Then::Greeted(Box::new(given)));
    }

    /// The town has heard of an agent that was lost: it is asked what that one works on.
    pub fn greeted(&mut self, pid: u64, given: Box<Given>) {
        let agent = given.request.agent_id.clone();
        let call = Call::Town(town_core::message::Call::Agent(AgentCall::Get { agent, rig: None }));
        self.home(pid, call, Then::Wanted(given));
    }

    /// The town has said what is on the hook of an agent that was lost: it is started if that is still its bead.
    pub fn wanted(&mut self, pid: u64, given: Given, heard: Option<Heard>) {
        let hook = match heard {
            Some(Heard::Town(answer)) => match *answer {
                Answer::Agent { agent } => agent.current_hook_bead_id.filter(|_| agent.status == AgentStatus::Working),
                _ => None,
            },
            _ => None,
        };
        let agent = given.request.agent_id.clone();
        let drains = self.processes.get(&pid).is_none_or(|process| process.acks.is_draining());
        // Its heart has beaten: the town gives its bead to nobody while it starts.
        if hook == given.bead && !drains {
            return self.start_agent(pid, given, Replier::Hydration(agent));
        }
        self.brought_back(pid, &agent, !drains);
    }

    /// An agent is back, or is not wanted; or is left for the next process.
    pub fn brought_back(&mut self, pid: u64, agent: &AgentId, settled: bool) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.hydration.under_way -= 1;
        if settled {
            if let Some(left) = &mut process.hydration.left {
                left.retain(|given| given.request.agent_id != *agent);
            }
            self.registry_changed(pid);
        }
        self.bring_back_next(pid);
    }

    /// Starts may begin.
    pub fn hydrated(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.hydration.over = true;
        for ask in std::mem::take(&mut process.hydration.held) {
            self.start_asked(pid, ask);
        }
    }

    /// A start was asked for: at once, or when those that were lost are back.
    pub fn start_when_hydrated(&mut self, pid: u64, ask: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if process.hydration.over {
            return self.start_asked(pid, ask);
        }
        process.hydration.held.push(ask);
    }

    /// How the start of one that was lost went.
    pub fn hydration_answered(&mut self, pid: u64, agent: &AgentId, reply: &Reply) {
        self.brought_back(pid, agent, !matches!(reply, Reply::Draining));
    }

    /// The list of live agents has changed.
    pub fn registry_changed(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.hydration.list.changed = true;
        self.tell_registry(pid);
    }

    /// Tells the town, for the last time, that none of the agents here is live any more.
    pub fn clear_registry(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.hydration.list.closing = true;
        self.tell_registry(pid);
    }

    fn tell_registry(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let entries = process.entries();
        let list = &mut process.hydration.list;
        if list.busy || list.closed || !(list.changed || list.closing) {
            return;
        }
        if list.closing {
            list.closed = true;
            let Some(left) = &process.hydration.left else {
                return self.queue.push(self.now, Event::DrainHears { pid, input: drain::Input::Cleared });
            };
            let elsewhere = left.iter().filter(|given| !process.agents.contains_key(&given.request.agent_id));
            let entries = elsewhere.cloned().collect();
            return self.home(pid, Call::SetRegistry(entries), Then::Drain(drain::Input::Cleared));
        }
        let Some(entries) = entries else { return };
        (list.busy, list.changed) = (true, false);
        self.home(pid, Call::SetRegistry(entries), Then::Told);
    }

    pub fn registry_told(&mut self, pid: u64) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.hydration.list.busy = false;
        }
        self.tell_registry(pid);
    }
}
