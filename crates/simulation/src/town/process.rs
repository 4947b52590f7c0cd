//! `sandboxd town`: its agents as a whole, its heart, its control server. Its machines are the real ones.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | A container that was told to end takes no agent; another waits until those that were lost are back | `api/agents`, `registry` |
//! | An agent that was lost is started if it still holds its bead | `registry` |
//! | One agent of a name at a time: a start ends the one that runs, and waits for that | `agents::start` |
//! | Every live agent's heart beats each 30 s, until SIGTERM | `home::keep_beating`, `drain` |
//! | A process has an instance of its own, also when it is started again on the same disk | `town::run` |

use super::agent::Agent;
use super::agent::Ender;
use super::agent::Replier;
use super::draining::Draining;
use super::home::Call;
use super::home::Heard;
use super::home::Then;
use super::requests::Reply;
use super::requests::What;
use super::world::Event;
use super::world::World;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::InstanceId;
use protocol::time::iso8601;
use protocol::town::Heartbeat;
use protocol::town::agent::AgentStatus;
use protocol::town::container::ContainerAgentStatus;
use protocol::town::container::StartAgent;
use sandbox_core::ack::Acknowledgements;
use sandbox_core::managed::Input;
use sandbox_core::managed::Status;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use town_core::message::Answer;
use town_core::message::call::AgentCall;
use town_core::message::container::ContainerCall;

/// Between two heartbeats.
const BEAT_MS: i64 = 30 * SECOND;

/// How an agent was started, and for which bead.
#[derive(Clone, Debug)]
pub struct Given {
    pub request: StartAgent,
    pub bead: Option<BeadId>,
}

/// One process.
pub struct Process {
    pub instance: InstanceId,
    pub disk: u64,
    pub acks: Acknowledgements,
    pub agents: BTreeMap<AgentId, Agent>,
    /// Those that were lost and are not started yet; None: all are.
    lost: Option<VecDeque<Given>>,
    /// Starts that wait for them.
    held: Vec<u64>,
    pub drain: Option<Draining>,
    registry: Registry,
    /// Until then it reaches nobody.
    pub unreachable_until: i64,
}

#[derive(Default)]
struct Registry {
    busy: bool,
    changed: bool,
    closing: bool,
    closed: bool,
}

impl World<'_> {
    pub fn start_process(&mut self, pid: u64, disk: u64) {
        let uuid = self.run.random.entropy("instance").uuid();
        let instance = InstanceId::parse(&uuid).expect("an id");
        self.run.note(|| format!("process {pid} is up: {instance}"));
        let process = Process {
            instance,
            disk,
            acks: Acknowledgements::default(),
            agents: BTreeMap::new(),
            lost: Some(VecDeque::new()),
            held: Vec::new(),
            drain: None,
            registry: Registry::default(),
            unreachable_until: 0,
        };
        self.processes.insert(pid, process);
        self.home(pid, Call::Registry, Then::Hydrate);
        self.queue.push(self.now + BEAT_MS, Event::Beat { pid });
    }

    pub fn kill_process(&mut self, pid: u64) {
        self.run.note(|| format!("process {pid} ends"));
        self.processes.remove(&pid);
    }

    /// Starts what was lost with the last container, one after the other.
    pub fn hydrate(&mut self, pid: u64, lost: Vec<Given>) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.lost = Some(lost.into());
        }
        self.hydrate_next(pid);
    }

    pub fn hydrate_next(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let Some(lost) = &mut process.lost else { return };
        if let Some(given) = lost.pop_front() {
            if given.bead.is_none() {
                return self.start_agent(pid, given, Replier::Hydration);
            }
            let (agent, rig) = (given.request.agent_id.clone(), given.request.rig_id.clone());
            let container_instance_id = Some(process.instance.clone());
            let body = Heartbeat { container_instance_id, ..Heartbeat::default() };
            let beat = Call::Container(ContainerCall::Heartbeat { agent, body, rig });
            return self.home(pid, beat, Then::Greeted(Box::new(given)));
        }
        process.lost = None;
        for ask in std::mem::take(&mut process.held) {
            self.start_asked(pid, ask);
        }
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
        // Its heart has beaten: the town gives its bead to nobody while it starts.
        if hook == given.bead { self.start_agent(pid, given, Replier::Hydration) } else { self.hydrate_next(pid) }
    }

    /// The hearts of all live agents.
    pub fn beat(&mut self, pid: u64) {
        let Some(process) = self.processes.get(&pid).filter(|process| process.drain.is_none()) else { return };
        let instance = process.instance.clone();
        let live = process.agents.values().filter(|agent| agent.machine.status().is_live());
        let beats: Vec<_> = live
            .map(|agent| {
                let request = &agent.given.request;
                let body = Heartbeat {
                    last_event_type: agent.last_event.map(|_| "message.part.updated".to_owned()),
                    last_event_at: agent.last_event.map(iso8601),
                    active_tools: Vec::new(),
                    container_instance_id: Some(instance.clone()),
                    draining: process.acks.is_draining(),
                };
                ContainerCall::Heartbeat { agent: request.agent_id.clone(), body, rig: request.rig_id.clone() }
            })
            .collect();
        for beat in beats {
            self.home(pid, Call::Container(beat), Then::Acknowledge);
        }
        self.queue.push(self.now + BEAT_MS, Event::Beat { pid });
    }

    /// A request reaches the control server.
    pub fn process_asked(&mut self, pid: u64, ask: u64) {
        let Some(what) = self.asks.get(&ask).map(|ask| ask.what.clone()) else { return };
        let Some(process) = self.processes.get(&pid) else { return };
        match what {
            What::Health { nonce } => {
                let health = Reply::Health { instance: process.instance.clone(), draining: process.acks.is_draining() };
                self.container_answers(ask, health);
                self.acknowledge(pid, nonce);
            }
            What::Observe(agents) => {
                let see = |agent: AgentId| match process.agents.get(&agent) {
                    Some(found) => {
                        (agent, word(found.machine.status()), found.machine.exit_reason().map(str::to_owned))
                    }
                    None => (agent, ContainerAgentStatus::NotFound, None),
                };
                let seen = agents.into_iter().map(see).collect();
                self.container_answers(ask, Reply::Seen(seen));
            }
            What::Plain | What::Settings => self.container_answers(ask, Reply::Ok),
            What::Start(..) if process.acks.is_draining() => self.container_answers(ask, Reply::Draining),
            What::Start(..) if process.lost.is_some() => {
                if let Some(process) = self.processes.get_mut(&pid) {
                    process.held.push(ask);
                }
            }
            What::Start(..) => self.start_asked(pid, ask),
            What::Status(agent) => {
                let reply = process.agents.get(&agent).map_or(Reply::NotFound, |agent| Reply::Status {
                    status: word(agent.machine.status()),
                    started_at: agent.started_at,
                });
                self.container_answers(ask, reply);
            }
            What::Stop(agent) => match process.agents.get(&agent).map(|agent| agent.machine.status().is_over()) {
                None => self.container_answers(ask, Reply::NotFound),
                Some(true) => self.container_answers(ask, Reply::Ok),
                Some(false) => self.end_agent(pid, &agent, Input::Stop, Ender::Ask(ask)),
            },
            What::Tell(agent) => {
                let reply = match process.agents.get(&agent).map(|agent| agent.machine.status()) {
                    None => Reply::NotFound,
                    Some(Status::Running) if self.say(pid, &agent, super::script::Prompt::Words) => Reply::Ok,
                    Some(Status::Running) => Reply::Error("it did not take it".to_owned()),
                    Some(_) => Reply::Error(format!("Agent {agent} is not running")),
                };
                self.container_answers(ask, reply);
            }
        }
    }

    fn start_asked(&mut self, pid: u64, ask: u64) {
        let Some(What::Start(request, bead)) = self.asks.get(&ask).map(|ask| ask.what.clone()) else { return };
        self.start_agent(pid, Given { request: *request, bead }, Replier::Ask(ask));
    }

    /// Starts an agent; one that runs under this name is ended before.
    pub fn start_agent(&mut self, pid: u64, given: Given, replier: Replier) {
        let Some(process) = self.processes.get(&pid) else { return };
        let id = given.request.agent_id.clone();
        if process.agents.get(&id).is_some_and(|agent| !agent.machine.status().is_over()) {
            return self.end_agent(pid, &id, Input::Stop, Ender::Next(Box::new(given), replier));
        }
        if process.acks.is_draining() {
            return self.reply_start(pid, replier, Reply::Draining);
        }
        self.spawn_agent(pid, given, replier);
    }

    /// How a start went.
    pub fn reply_start(&mut self, pid: u64, replier: Replier, reply: Reply) {
        match replier {
            Replier::Ask(ask) => self.container_answers(ask, reply),
            Replier::Hydration => self.hydrate_next(pid),
        }
    }

    /// The list of live agents has changed.
    pub fn registry_changed(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.registry.changed = true;
        self.tell_registry(pid);
    }

    /// Tells the town that no agent is live, and nothing after that.
    pub fn clear_registry(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.registry.closing = true;
        self.tell_registry(pid);
    }

    fn tell_registry(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let registry = &mut process.registry;
        if registry.busy || registry.closed || !(registry.changed || registry.closing) {
            return;
        }
        if registry.closing {
            registry.closed = true;
            let cleared = Then::Drain(sandbox_core::drain::Input::Cleared);
            return self.home(pid, Call::SetRegistry(Vec::new()), cleared);
        }
        (registry.busy, registry.changed) = (true, false);
        let live = process.agents.values().filter(|agent| agent.machine.status().is_live());
        let entries = live.map(|agent| agent.given.clone()).collect();
        self.home(pid, Call::SetRegistry(entries), Then::Told);
    }

    pub fn registry_told(&mut self, pid: u64) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.registry.busy = false;
        }
        self.tell_registry(pid);
    }
}

fn word(status: Status) -> ContainerAgentStatus {
    match status {
        Status::Exited => ContainerAgentStatus::Exited,
        Status::Failed => ContainerAgentStatus::Failed,
        Status::Running => ContainerAgentStatus::Running,
        Status::Starting => ContainerAgentStatus::Starting,
        Status::Stopping => ContainerAgentStatus::Stopping,
    }
}
