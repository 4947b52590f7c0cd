//! What a container does after SIGTERM: `sandboxd`'s `town/drain` around [`sandbox_core::drain`].
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | The heart stops, no nonce is acknowledged, every agent is told, and then the town | `Notify` |
//! | What was seen of an agent before its nudge is looked at again when that is answered | `with_news` |
//! | What an agent left whole when it ended by itself is not saved again | `saving` |
//! | The process ends when the drain is over, whatever is still on its way | `finish` |

use super::agent::Ender;
use super::faults;
use super::home::Call;
use super::home::Then;
use super::process::Given;
use super::script::Prompt;
use super::world::Event;
use super::world::World;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::time::iso8601;
use protocol::town::agent::Role;
use sandbox_core::drain::Drain;
use sandbox_core::drain::DrainLimits;
use sandbox_core::drain::Input;
use sandbox_core::drain::Kind;
use sandbox_core::drain::Member;
use sandbox_core::drain::Output;
use sandbox_core::drain::Phase;
use sandbox_core::drain::Receipt;
use sandbox_core::drain::Standing;
use sandbox_core::managed;
use sandbox_core::managed::Status;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use town_core::message::call::AgentCall;
use town_core::message::call::EvictionReceipt;

/// As in `sandboxd`'s `town/limits`.
const LIMITS: DrainLimits = DrainLimits {
    notify_ms: 11 * SECOND,
    nudge_ms: 10 * SECOND,
    wait_ms: 10 * MINUTE,
    freeze_ms: 20 * SECOND,
    save_ms: 45 * SECOND,
    save_all_ms: 2 * MINUTE,
    close_ms: 15 * SECOND,
    total_ms: 13 * MINUTE,
    saves_at_once: 4,
};
/// Between the first two reports of the eviction.
const EVICTION_PAUSE_MS: i64 = 200;
/// Why an agent ended, for the town.
const EVICTED: &str = "container eviction";

/// A drain under way.
pub struct Draining {
    machine: Drain,
    /// Saves under way, by number.
    saves: BTreeMap<AgentId, u64>,
    /// The same of worktrees of nobody.
    pub folders: BTreeMap<String, u64>,
    /// What was said of them.
    pub folder_receipts: BTreeMap<String, Receipt>,
    /// What was said of each agent.
    pub receipts: BTreeMap<AgentId, Receipt>,
    /// Saving began, so every agent has its receipt before the end.
    pub saving: bool,
}

impl World<'_> {
    /// SIGTERM. A second one changes nothing.
    pub fn terminate(&mut self, pid: u64) {
        let members = self.members(pid);
        let Some(process) = self.processes.get_mut(&pid).filter(|process| process.drain.is_none()) else { return };
        process.drain = Some(Draining {
            machine: Drain::new(LIMITS),
            saves: BTreeMap::new(),
            folders: BTreeMap::new(),
            folder_receipts: BTreeMap::new(),
            receipts: BTreeMap::new(),
            saving: false,
        });
        self.run.note(|| format!("process {pid} gets SIGTERM"));
        self.drain_hears(pid, Input::Terminate(members));
    }

    /// All agents, as the drain sees them.
    fn members(&self, pid: u64) -> Vec<Member> {
        let Some(process) = self.processes.get(&pid) else { return Vec::new() };
        let of = |agent: &super::agent::Agent| Member {
            id: agent.given.request.agent_id.clone(),
            kind: kind(&agent.given.request.role),
            standing: match agent.machine.status() {
                Status::Starting => Standing::Starting,
                Status::Stopping => Standing::Working,
                Status::Exited | Status::Failed if agent.loose => Standing::Loose,
                Status::Exited | Status::Failed => Standing::Ended,
                Status::Running if agent.machine.is_at_rest() => Standing::AtRest,
                Status::Running if agent.machine.is_idle() => Standing::Idle,
                Status::Running => Standing::Working,
            },
            worktree: agent.worktree.clone(),
        };
        process.agents.values().map(of).collect()
    }

    /// Something about the agents has changed: a drain hears of it next.
    pub fn tell_drain(&mut self, pid: u64) {
        if self.processes.get(&pid).is_some_and(|process| process.drain.is_some()) {
            self.queue.push(self.now, Event::Members { pid });
        }
    }

    pub fn members_changed(&mut self, pid: u64) {
        if self.processes.get(&pid).is_some_and(|process| process.drain.is_some()) {
            let members = self.members(pid);
            self.drain_hears(pid, Input::Members(members));
        }
    }

    /// Takes what happened through the machine, and does what it says.
    pub fn drain_hears(&mut self, pid: u64, input: Input) {
        let now = self.clock_of(pid);
        let machine = |world: &mut Self, input| {
            let draining = world.processes.get_mut(&pid)?.drain.as_mut()?;
            Some(draining.machine.receive(now, input))
        };
        let Some(outputs) = machine(self, input) else { return };
        let mut outputs = VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            if let Some(answer) = self.drain_performs(pid, output) {
                outputs.extend(machine(self, answer).unwrap_or_default());
            }
        }
        let draining = self.processes.get(&pid).and_then(|process| process.drain.as_ref());
        if let Some(at) = draining.and_then(|draining| draining.machine.next_deadline()) {
            let at = self.now + (at - now).max(0);
            self.queue.push(at, Event::DrainTick { pid });
        }
    }

    fn later(&mut self, pid: u64, what: &'static str, up_to_ms: i64, input: Input) {
        let at = self.now + self.run.random.between(what, 1, up_to_ms);
        self.queue.push(at, Event::DrainHears { pid, input });
    }

    fn drain_performs(&mut self, pid: u64, output: Output) -> Option<Input> {
        match output {
            Output::Notify => {
                let process = self.processes.get_mut(&pid)?;
                process.acks.drain();
                for agent in process.agents.keys().cloned().collect::<Vec<_>>() {
                    self.feel(pid, &agent, managed::Input::Drain);
                }
                self.report_eviction(pid, true, EVICTION_PAUSE_MS);
            }
            Output::Nudge(agent) => {
                let runs = self.agent(pid, &agent).is_some_and(|agent| agent.machine.status() == Status::Running);
                if runs {
                    self.say(pid, &agent, Prompt::Eviction);
                }
                self.later(pid, "nudged", 2_500, Input::Nudged(agent));
            }
            Output::Freeze(agent) => match self.agent(pid, &agent).map(|agent| agent.machine.status().is_over()) {
                None | Some(true) => return Some(Input::Frozen { agent, outcome: Ok(()) }),
                Some(false) => self.end_agent(pid, &agent, managed::Input::Freeze, Ender::Drain),
            },
            Output::Save(agent) => return self.save(pid, agent),
            Output::Abandon(agent) => {
                self.processes.get_mut(&pid)?.drain.as_mut()?.saves.remove(&agent);
            }
            Output::Log { agent, receipt } => {
                self.run.note(|| format!("  receipt of {agent}: {receipt:?}"));
                self.processes.get_mut(&pid)?.drain.as_mut()?.receipts.insert(agent, receipt);
            }
            Output::Tell { agent, receipt } => {
                let told = EvictionReceipt {
                    branch: receipt.branch,
                    agent_name: self.agent(pid, &agent)?.given.request.name.clone(),
                    saved_at: iso8601(self.clock_of(pid)),
                    commit: receipt.commit,
                    pushed: Some(receipt.pushed),
                    reason: receipt.reason,
                };
                let bead = self.agent(pid, &agent)?.given.bead.clone();
                let call = AgentCall::EvictionContext { agent: agent.clone(), bead, receipt: told };
                self.home(pid, of_agent(call), Then::Drain(Input::Told(agent)));
            }
            Output::Report(agent) => {
                let bead = self.agent(pid, &agent)?.given.bead.clone();
                let (success, reason) = (true, Some(EVICTED.to_owned()));
                let call = AgentCall::Completed { agent: Some(agent.clone()), bead, success, reason };
                self.home(pid, of_agent(call), Then::Drain(Input::Reported(agent)));
            }
            Output::ClearRegistry => self.clear_registry(pid),
            Output::Find => return Some(Input::Found(self.folders(pid))),
            Output::SaveFolder(folder) => return self.save_folder(pid, folder),
            Output::AbandonFolder(folder) => {
                self.processes.get_mut(&pid)?.drain.as_mut()?.folders.remove(&folder);
            }
            Output::LogFolder { folder, receipt } => {
                self.run.note(|| format!("  receipt of {folder}: {receipt:?}"));
                self.processes.get_mut(&pid)?.drain.as_mut()?.folder_receipts.insert(folder, receipt);
            }
            Output::Entered(phase) => {
                self.run.note(|| format!("  process {pid} drains: {}", phase.as_str()));
                let draining = self.processes.get_mut(&pid)?.drain.as_mut()?;
                draining.saving |= phase == Phase::Saving;
            }
            Output::Over => {
                self.check_drained(pid);
                let at = self.now + self.run.random.between("exit", 50, 3 * SECOND);
                self.queue.push(at, Event::ProcessExits { pid });
            }
        }
        None
    }

    fn save(&mut self, pid: u64, agent: AgentId) -> Option<Input> {
        self.check_may_save(pid, &agent);
        let process = self.processes.get(&pid)?;
        let found = process.agents.get(&agent)?;
        let request = &found.given.request;
        let place = found.worktree.as_ref()?;
        let worktree = self.disks.get(&process.disk)?.worktrees.get(place)?;
        let ended_before = found.machine.exit_reason() != Some(EVICTED);
        let is_unsaved = !worktree.all().is_subset(&self.remote.files(&request.branch));
        if ended_before && (request.lightweight || !is_unsaved) {
            let receipt = Receipt { branch: request.branch.clone(), commit: None, pushed: true, reason: None };
            return Some(Input::Saved { agent, receipt });
        }
        let number = self.new_id();
        let takes = if self.run.fault(faults::SAVE_SLOW) {
            self.run.random.between("save-slow", 20 * SECOND, 80 * SECOND)
        } else {
            self.run.random.between("save", 200, 12 * SECOND)
        };
        self.processes.get_mut(&pid)?.drain.as_mut()?.saves.insert(agent.clone(), number);
        self.queue.push(self.now + takes, Event::SaveOver { pid, agent, number });
        None
    }

    /// A worktree was committed and pushed, or not.
    pub fn save_over(&mut self, pid: u64, agent: AgentId, number: u64) {
        let fails = self.run.fault(faults::PUSH_FAILS);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let Some(draining) = &mut process.drain else { return };
        if draining.saves.get(&agent) != Some(&number) {
            return;
        }
        draining.saves.remove(&agent);
        let Some(Given { request, bead }) = process.agents.get(&agent).map(|agent| agent.given.clone()) else { return };
        let place = process.agents.get(&agent).and_then(|agent| agent.worktree.clone()).unwrap_or_default();
        let disk = self.disks.get_mut(&process.disk);
        let Some(worktree) = disk.and_then(|disk| disk.worktrees.get_mut(&place)) else { return };
        worktree.commit();
        let files = worktree.committed.clone();
        let (pushed, reason) = match (request.lightweight, fails) {
            (true, _) => (false, Some("there is no remote to push to".to_owned())),
            (false, true) => (false, Some("the push failed".to_owned())),
            (false, false) => (true, None),
        };
        if pushed {
            self.remote.take(&request.branch, &files);
            self.is_safe(bead.as_ref(), &files);
        }
        let receipt = Receipt { branch: request.branch, commit: Some(format!("c{number}")), pushed, reason };
        self.drain_hears(pid, Input::Saved { agent, receipt });
    }
}

fn of_agent(call: AgentCall) -> Call {
    Call::Town(town_core::message::Call::Agent(call))
}

fn kind(role: &Role) -> Kind {
    match role {
        Role::Mayor => Kind::Mayor,
        Role::Other(name) if name == "triage" => Kind::Triage,
        Role::Other(_) | Role::Polecat | Role::Refinery => Kind::Worker,
    }
}
