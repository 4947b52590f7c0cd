//! `sandboxd town`: its agents as a whole, its heart, its control server. Its machines are the real ones.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | A container that was told to end takes no agent | `api/agents` |
//! | One agent of a name, and of a branch, at a time: a start ends the one that runs (of a branch after its turn, if that is over within 5 s), and waits for that | `agents::start` |
//! | Every live agent's heart beats each 30 s, until SIGTERM | `home::keep_beating`, `drain` |
//! | A process has an instance of its own, also when it is started again on the same disk | `town::run` |

use super::agent::Agent;
use super::agent::Ender;
use super::agent::Replier;
use super::draining::Draining;
use super::home::Call;
use super::home::Then;
use super::hydration::Hydration;
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
use protocol::town::container::ContainerAgentStatus;
use protocol::town::container::StartAgent;
use sandbox_core::ack::Acknowledgements;
use sandbox_core::managed::Input;
use sandbox_core::managed::Status;
use std::collections::BTreeMap;
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
    /// What it calls itself in its calls: nothing, if it is an older one.
    pub called: Option<InstanceId>,
    pub disk: u64,
    pub acks: Acknowledgements,
    pub agents: BTreeMap<AgentId, Agent>,
    pub hydration: Hydration,
    pub drain: Option<Draining>,
    /// Until then it reaches nobody.
    pub unreachable_until: i64,
    /// How wrong its clock is.
    pub skew_ms: i64,
}

impl Process {
    /// Who else works on the branch.
    fn occupant(&self, given: &Given) -> Option<AgentId> {
        let wanted = &given.request;
        let is_there = |agent: &&Agent| {
            let other = &agent.given.request;
            let is_same_branch = other.rig_id == wanted.rig_id && other.branch == wanted.branch;
            is_same_branch && !other.lightweight && !wanted.lightweight && !agent.machine.status().is_over()
        };
        self.agents.values().find(is_there).map(|agent| agent.given.request.agent_id.clone())
    }
}

impl World<'_> {
    pub fn start_process(&mut self, pid: u64, disk: u64) {
        let uuid = self.run.random.entropy("instance").uuid();
        let instance = InstanceId::parse(&uuid).expect("an id");
        let skew_ms = self.run.skew();
        let called = (!self.without_names).then(|| instance.clone());
        self.run.note(|| format!("process {pid} is up: {instance}"));
        let process = Process {
            instance,
            called,
            disk,
            acks: Acknowledgements::default(),
            agents: BTreeMap::new(),
            hydration: Hydration::default(),
            drain: None,
            unreachable_until: 0,
            skew_ms,
        };
        self.processes.insert(pid, process);
        self.hydrate(pid);
        self.queue.push(self.now + BEAT_MS, Event::Beat { pid });
    }

    /// The time on the machine of a process.
    pub fn clock_of(&self, pid: u64) -> i64 {
        self.now + self.processes.get(&pid).map_or(0, |process| process.skew_ms)
    }

    pub fn kill_process(&mut self, pid: u64) {
        self.run.note(|| format!("process {pid} ends"));
        self.processes.remove(&pid);
    }

    /// The hearts of all live agents.
    pub fn beat(&mut self, pid: u64) {
        let Some(process) = self.processes.get(&pid).filter(|process| process.drain.is_none()) else { return };
        let called = process.called.clone();
        let live = process.agents.values().filter(|agent| agent.machine.status().is_live());
        let beats: Vec<_> = live
            .map(|agent| {
                let request = &agent.given.request;
                let body = Heartbeat {
                    last_event_type: agent.last_event.map(|_| "message.part.updated".to_owned()),
                    last_event_at: agent.last_event.map(iso8601),
                    active_tools: Vec::new(),
                    container_instance_id: called.clone(),
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
            What::Start(..) => self.start_when_hydrated(pid, ask),
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

    pub fn start_asked(&mut self, pid: u64, ask: u64) {
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
        let Some(other) = process.occupant(&given) else { return self.spawn_agent(pid, given, replier) };
        match replier {
            Replier::Ask(_) => self.end_agent(pid, &other, Input::Stop, Ender::Next(Box::new(given), replier)),
            // What was lost does not take a branch from those that the town has started meanwhile.
            Replier::Hydration(_) => self.reply_start(pid, replier, Reply::Error("somebody works there".to_owned())),
        }
    }

    /// How a start went.
    pub fn reply_start(&mut self, pid: u64, replier: Replier, reply: Reply) {
        match replier {
            Replier::Ask(ask) => self.container_answers(ask, reply),
            Replier::Hydration(agent) => self.hydration_answered(pid, &agent, &reply),
        }
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
