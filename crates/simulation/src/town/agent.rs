//! One agent in a container, as `sandboxd`'s `town/agents` runs it around [`sandbox_core::managed`].
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | It runs before it gets its first prompt | `actor::begin` |
//! | A start that fails, or is ended, tells its caller so | `actor::run` |
//! | Ending it aborts its turn; what it started may be left, and writes on | `let_go` |
//! | A message ends no turn: whoever gets one does that next | `say` |

use super::faults;
use super::home;
use super::home::Then;
use super::home::Turn;
use super::process::Given;
use super::requests::Reply;
use super::script::Prompt;
use super::script::Step;
use super::world::Event;
use super::world::World;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::town::agent::Role;
use sandbox_core::drain;
use sandbox_core::managed::Input;
use sandbox_core::managed::Managed;
use sandbox_core::managed::Output;
use sandbox_core::managed::Report;
use sandbox_core::managed::Status;
use sandbox_core::managed::Waits;
use std::collections::VecDeque;
use town_core::message::Call;
use town_core::message::call::AgentCall;
use town_core::message::call::TalkCall;

/// As in `sandboxd`'s `town/limits`.
const IDLE_MS: i64 = 2 * MINUTE;
const REFINERY_IDLE_MS: i64 = 10 * MINUTE;
const DRAINING_IDLE_MS: i64 = 10 * SECOND;

/// One agent.
pub struct Agent {
    /// Which start of it.
    pub run: u64,
    pub given: Given,
    pub machine: Managed,
    pub started_at: i64,
    /// Where it works, if that is there yet.
    pub worktree: Option<String>,
    /// It has an agent server.
    session: bool,
    /// What it started cannot be ended.
    pub loose: bool,
    turn: u64,
    steps: VecDeque<Step>,
    /// It has said that its work is over, one way or the other.
    pub said_done: bool,
    /// When it was last heard.
    pub last_event: Option<i64>,
    replier: Option<Replier>,
    enders: Vec<Ender>,
}

/// Who waits for its start.
#[derive(Clone, Debug)]
pub enum Replier {
    Ask(u64),
    Hydration(AgentId),
}

/// Who waits for its end.
#[derive(Debug)]
pub enum Ender {
    Ask(u64),
    Drain,
    /// Another one of its name is to start.
    Next(Box<Given>, Replier),
}

impl Agent {
    pub fn steps_left(&self) -> usize {
        self.steps.len()
    }

    /// Its server is gone.
    pub fn dies(&mut self) {
        self.session = false;
        self.steps.clear();
    }

    /// Whether anything of it may write in its worktree.
    pub fn writes(&self) -> bool {
        self.loose || !self.machine.status().is_over()
    }

    /// Whether it is at work on its bead.
    pub fn works(&self) -> bool {
        self.machine.status().is_live() && !self.said_done && !self.machine.is_idle()
    }
}

impl World<'_> {
    pub fn agent(&mut self, pid: u64, id: &AgentId) -> Option<&mut Agent> {
        self.processes.get_mut(&pid)?.agents.get_mut(id)
    }

    pub fn is_run(&self, pid: u64, id: &AgentId, run: u64) -> bool {
        self.processes.get(&pid).and_then(|process| process.agents.get(id)).is_some_and(|agent| agent.run == run)
    }

    pub fn is_turn(&self, pid: u64, turn: &Turn) -> bool {
        let agent = self.processes.get(&pid).and_then(|process| process.agents.get(&turn.agent));
        agent.is_some_and(|agent| agent.run == turn.run && agent.turn == turn.turn)
    }

    /// A start begins.
    pub fn spawn_agent(&mut self, pid: u64, given: Given, replier: Replier) {
        self.check_may_start(pid, &given);
        let run = self.new_id();
        let id = given.request.agent_id.clone();
        let is_mayor = given.request.role == Role::Mayor;
        let idle_ms = if given.request.role == Role::Refinery { REFINERY_IDLE_MS } else { IDLE_MS };
        let waits = Waits { idle_ms, draining_idle_ms: DRAINING_IDLE_MS };
        let started_at = self.clock_of(pid);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let agent = Agent {
            run,
            machine: Managed::new(is_mayor, waits, process.acks.is_draining()),
            started_at,
            worktree: None,
            session: false,
            loose: false,
            turn: 0,
            steps: VecDeque::new(),
            said_done: false,
            last_event: None,
            replier: Some(replier),
            enders: Vec::new(),
            given,
        };
        process.agents.insert(id.clone(), agent);
        self.run.note(|| format!("  agent {id} starts in {pid} as run {run}"));
        let takes = if self.run.fault(faults::AGENT_START_SLOW) {
            self.run.random.between("agent-start-slow", 30 * SECOND, 100 * SECOND)
        } else {
            self.run.random.between("agent-start", SECOND, 10 * SECOND)
        };
        self.queue.push(self.now + takes / 2, Event::AgentPlaced { pid, agent: id.clone(), run });
        self.queue.push(self.now + takes, Event::AgentReady { pid, agent: id, run });
        self.tell_drain(pid);
    }

    /// Its worktree is there.
    pub fn agent_placed(&mut self, pid: u64, id: &AgentId, run: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let Some(agent) = process.agents.get_mut(id).filter(|agent| agent.run == run) else { return };
        let Some(disk) = self.disks.get_mut(&process.disk) else { return };
        if agent.machine.status() != Status::Starting {
            return;
        }
        let place = disk.check_out(&self.remote, &agent.given.request);
        agent.worktree = Some(place.clone());
        let files = disk.worktrees[&place].all();
        let given = agent.given.clone();
        self.check_continues(&given, &files);
        self.tell_drain(pid);
    }

    /// Its session is there.
    pub fn agent_ready(&mut self, pid: u64, id: &AgentId, run: u64) {
        if !self.is_run(pid, id, run) {
            return;
        }
        if self.run.fault(faults::AGENT_START_FAILS) {
            self.feel(pid, id, Input::StartFailed { reason: "clone failed".to_owned() });
            return self.answer_start(pid, id, Reply::Error("clone failed".to_owned()));
        }
        let Some(agent) = self.agent(pid, id).filter(|agent| agent.machine.status() == Status::Starting) else {
            return;
        };
        agent.session = true;
        self.feel(pid, id, Input::Ready);
        if self.say(pid, id, Prompt::Task) {
            return self.answer_start(pid, id, Reply::Ok);
        }
        self.feel(pid, id, Input::StartFailed { reason: "it did not take its task".to_owned() });
        if let Some(agent) = self.agent(pid, id) {
            agent.session = false;
        }
        self.answer_start(pid, id, Reply::Error("it did not take its task".to_owned()));
    }

    fn answer_start(&mut self, pid: u64, id: &AgentId, reply: Reply) {
        if let Some(replier) = self.agent(pid, id).and_then(|agent| agent.replier.take()) {
            self.reply_start(pid, replier, reply);
        }
    }

    /// Hands it a prompt. Whether it took it.
    pub fn say(&mut self, pid: u64, id: &AgentId, prompt: Prompt) -> bool {
        self.feel(pid, id, Input::Prompted);
        if !self.prompt(pid, id, prompt) {
            self.feel(pid, id, Input::Idle);
            return false;
        }
        true
    }

    /// A turn begins, if it takes the prompt.
    fn prompt(&mut self, pid: u64, id: &AgentId, prompt: Prompt) -> bool {
        if self.run.fault(faults::PROMPT_REFUSED) {
            return false;
        }
        let stubborn = prompt == Prompt::Eviction && self.run.fault(faults::AGENT_STUBBORN);
        let Some(process) = self.processes.get_mut(&pid) else { return false };
        let Some(mut agent) = process.agents.remove(id) else { return false };
        let takes = agent.session;
        let is_busy = !agent.steps.is_empty();
        if takes && !(is_busy && (stubborn || prompt == Prompt::Words)) {
            agent.steps = self.script(&agent, prompt);
            agent.turn += 1;
        }
        let turn = Turn { agent: id.clone(), run: agent.run, turn: agent.turn };
        if let Some(process) = self.processes.get_mut(&pid) {
            process.agents.insert(id.clone(), agent);
        }
        if takes {
            self.goes_on(pid, &turn);
        }
        takes
    }

    /// Its next step follows after a while.
    pub fn goes_on(&mut self, pid: u64, turn: &Turn) {
        let takes = if self.run.random.percent("step-is-long", 20) {
            self.run.random.between("step-long", 20 * SECOND, 2 * MINUTE)
        } else {
            self.run.random.between("step", 300, 12 * SECOND)
        };
        self.queue.push(self.now + takes, Event::AgentActs { pid, turn: turn.clone() });
    }

    /// It does something.
    pub fn agent_acts(&mut self, pid: u64, turn: &Turn) {
        if !self.is_turn(pid, turn) {
            return;
        }
        let now = self.clock_of(pid);
        let Some(agent) = self.agent(pid, &turn.agent) else { return };
        if !agent.session && !agent.loose {
            return;
        }
        agent.last_event = Some(now);
        let step = agent.steps.pop_front();
        let is_live = agent.machine.status().is_live();
        match step {
            Some(step) => self.agent_does(pid, turn, step),
            None if is_live => {
                for _ in 0..if self.run.fault(faults::IDLE_DOUBLED) { 2 } else { 1 } {
                    self.feel(pid, &turn.agent, Input::Idle);
                }
            }
            None => {}
        }
    }

    /// Ends it. `ender` is told when it has ended.
    pub fn end_agent(&mut self, pid: u64, id: &AgentId, input: Input, ender: Ender) {
        if let Some(agent) = self.agent(pid, id) {
            agent.enders.push(ender);
        }
        self.feel(pid, id, input);
    }

    /// Takes what happened through its machine, and does what that asks for.
    pub fn feel(&mut self, pid: u64, id: &AgentId, input: Input) {
        let now = self.clock_of(pid);
        let Some(agent) = self.agent(pid, id) else { return };
        let mut outputs = VecDeque::from(agent.machine.receive(now, input));
        while let Some(output) = outputs.pop_front() {
            if let Some(answer) = self.agent_performs(pid, id, output)
                && let Some(agent) = self.agent(pid, id)
            {
                outputs.extend(agent.machine.receive(now, answer));
            }
        }
        if let Some(agent) = self.agent(pid, id)
            && let (Some(at), run) = (agent.machine.next_deadline(), agent.run)
        {
            let at = self.now + (at - now).max(0);
            self.queue.push(at, Event::AgentTick { pid, agent: id.clone(), run });
        }
        self.tell_drain(pid);
    }

    fn agent_performs(&mut self, pid: u64, id: &AgentId, output: Output) -> Option<Input> {
        let agent = self.agent(pid, id)?;
        let turn = Turn { agent: id.clone(), run: agent.run, turn: agent.turn };
        let own = |call: AgentCall| home::Call::Town(Call::Agent(call));
        match output {
            Output::End => {
                let takes = if agent.session { self.run.random.between("let-go", 50, 4 * SECOND) } else { 0 };
                let agent = self.agent(pid, id)?;
                agent.session = false;
                self.answer_start(pid, id, Reply::Error("the start was given up".to_owned()));
                let loose = takes > 0 && self.run.fault(faults::FREEZE_FAILS);
                if let Some(agent) = self.agent(pid, id) {
                    agent.loose = loose;
                }
                self.queue.push(self.now + takes, Event::AgentLetGo { pid, agent: id.clone(), run: turn.run });
            }
            Output::FetchNudges => {
                let call = home::Call::Town(Call::Talk(TalkCall::PendingNudges { agent: id.clone() }));
                self.home(pid, call, Then::Nudge(turn));
            }
            Output::HandOver(_) => {
                let taken = self.prompt(pid, id, Prompt::Words);
                return Some(Input::HandedOver { taken });
            }
            Output::MarkDelivered { id } => {
                let call = home::Call::Town(Call::Talk(TalkCall::NudgeDelivered { nudge: id }));
                self.home(pid, call, Then::Nothing);
            }
            Output::Release => agent.session = false,
            Output::Report(report) => {
                let bead = agent.given.bead.clone();
                let completed = |success, reason: &str| AgentCall::Completed {
                    agent: Some(id.clone()),
                    bead: bead.clone(),
                    success,
                    reason: Some(reason.to_owned()),
                };
                let call = match report {
                    Report::Completed => completed(true, "completed"),
                    Report::StreamError => completed(false, "Event stream error"),
                    Report::Waiting => AgentCall::Waiting { agent: id.clone(), fired_at: Some(self.clock_of(pid)) },
                };
                self.home(pid, own(call), Then::Nothing);
            }
            Output::SyncRegistry => self.registry_changed(pid),
            Output::KeepConversation | Output::SayExited { .. } => {}
        }
        None
    }

    /// Its server has ended, and what it had started too, or not.
    pub fn agent_let_go(&mut self, pid: u64, id: &AgentId, run: u64) {
        let Some(agent) = self.agent(pid, id).filter(|agent| agent.run == run) else { return };
        let outcome = if agent.loose { Err("processes of the agent are still running".to_owned()) } else { Ok(()) };
        let enders = std::mem::take(&mut agent.enders);
        self.feel(pid, id, Input::Ended);
        for ender in enders {
            match (ender, &outcome) {
                (Ender::Ask(ask), Ok(())) => self.container_answers(ask, Reply::Ok),
                (Ender::Ask(ask), Err(left)) => self.container_answers(ask, Reply::Error(left.clone())),
                (Ender::Drain, _) => {
                    let frozen = drain::Input::Frozen { agent: id.clone(), outcome: outcome.clone() };
                    self.drain_hears(pid, frozen);
                }
                (Ender::Next(given, replier), _) => self.start_agent(pid, *given, replier),
            }
        }
    }
}
