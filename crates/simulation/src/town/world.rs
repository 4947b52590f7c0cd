//! The world of a town: everything there is, what happens to it, and in what order.

use super::effects::Flight;
use super::faults;
use super::git::Disk;
use super::git::Remote;
use super::home;
use super::home::Heard;
use super::home::HomeCall;
use super::home::Turn;
use super::object::TownObject;
use super::process::Given;
use super::process::Process;
use super::requests::Ask;
use super::requests::Reply;
use super::user::PullRequest;
use super::user::User;
use crate::container;
use crate::container::object;
use crate::container::object::ContainerObject;
use crate::container::platform;
use crate::container::platform::Platform;
use crate::queue::Queue;
use crate::run::Run;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use sandbox_core::drain;
use sandbox_core::managed;
use std::collections::BTreeMap;
use town_core::message::effect::Outcome;

/// From one look at the weather to the next.
const WEATHER_MS: i64 = 10 * SECOND;

/// What will happen.
#[derive(Debug)]
pub enum Event {
    AgentActs { pid: u64, turn: Turn },
    AgentLetGo { pid: u64, agent: AgentId, run: u64 },
    AgentPlaced { pid: u64, agent: AgentId, run: u64 },
    AgentReady { pid: u64, agent: AgentId, run: u64 },
    AgentTick { pid: u64, agent: AgentId, run: u64 },
    AskAnswered { ask: u64, reply: Reply },
    AskArrives(u64),
    Beat { pid: u64 },
    Container(container::Event),
    DrainHears { pid: u64, input: drain::Input },
    DrainTick { pid: u64 },
    EvictionAgain { pid: u64, pause: i64 },
    EndArrives { incarnation: u64, at: i64 },
    FlightEnds { flight: u64, outcome: Option<Outcome> },
    FlightTimesOut(u64),
    FolderOver { pid: u64, folder: String, number: u64 },
    HomeArrives(u64),
    HomeReturns { call: u64, heard: Option<Heard> },
    HydrationOver { pid: u64 },
    Members { pid: u64 },
    ProcessExits { pid: u64 },
    ReadRegistry { pid: u64 },
    SaveOver { pid: u64, agent: AgentId, number: u64 },
    ToolAgain { pid: u64, call: home::Call, turn: Turn, tries: u32 },
    TownAlarm { version: u64 },
    UserActs,
    ViewerActs,
    Weather,
}

/// Everything there is.
pub struct World<'r> {
    pub run: &'r mut Run,
    pub now: i64,
    pub queue: Queue<Event>,
    pub town: TownObject,
    pub container: ContainerObject,
    pub platform: Platform,
    /// The agents that are to be restored when the container starts: kept by its object, as it came.
    pub registry: Vec<Given>,
    pub processes: BTreeMap<u64, Process>,
    pub disks: BTreeMap<u64, Disk>,
    pub remote: Remote,
    pub flights: BTreeMap<u64, Flight>,
    pub asks: BTreeMap<u64, Ask>,
    pub home_calls: BTreeMap<u64, HomeCall>,
    pub user: User,
    /// Containers do not say which they are, as older ones do not: then a drain ends by its nonce.
    pub without_names: bool,
    /// Refineries open pull requests, and merge nothing themselves.
    pub by_pull_request: bool,
    pub pull_requests: BTreeMap<String, PullRequest>,
    pub ids: u64,
}

impl World<'_> {
    /// A number that was not given before.
    pub fn new_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// How long a message takes between two machines.
    pub fn delay(&mut self) -> i64 {
        if self.run.fault(faults::NETWORK_SLOW) {
            self.run.random.between("slow", 500, 15_000)
        } else {
            self.run.random.between("network", 1, 40)
        }
    }

    /// Lets time go on until `until`, or until a promise is broken.
    pub fn live_until(&mut self, until: i64) {
        while self.run.violation().is_none() {
            match self.queue.next_at() {
                Some(at) if at <= until => {}
                _ => break,
            }
            let Some((at, event)) = self.queue.pop() else { break };
            self.run.tally.simulated_ms += (at - self.now).max(0);
            self.now = self.now.max(at);
            self.run.tally.steps += 1;
            self.happens(event);
            if self.run.tally.steps > super::STEPS_MAX {
                self.run.broken("a run comes to an end", || "too many steps".to_owned());
            }
        }
        self.run.tally.simulated_ms += (until - self.now).max(0);
        self.now = self.now.max(until);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::AgentActs { pid, turn } => self.agent_acts(pid, &turn),
            Event::AgentLetGo { pid, agent, run } => self.agent_let_go(pid, &agent, run),
            Event::AgentPlaced { pid, agent, run } => self.agent_placed(pid, &agent, run),
            Event::AgentReady { pid, agent, run } => self.agent_ready(pid, &agent, run),
            Event::AgentTick { pid, agent, run } => {
                if self.is_run(pid, &agent, run) {
                    self.feel(pid, &agent, managed::Input::Tick);
                }
            }
            Event::AskAnswered { ask, reply } => self.ask_answered(ask, reply),
            Event::AskArrives(ask) => self.ask_arrives(ask),
            Event::Beat { pid } => self.beat(pid),
            Event::Container(event) => container::happens(self, event),
            Event::DrainHears { pid, input } => {
                if matches!(input, drain::Input::Nudged(_)) {
                    self.members_changed(pid);
                }
                self.drain_hears(pid, input);
            }
            Event::DrainTick { pid } => self.drain_hears(pid, drain::Input::Tick),
            Event::EvictionAgain { pid, pause } => self.report_eviction(pid, false, pause),
            Event::EndArrives { incarnation, at } => self.end_arrives(incarnation, at),
            Event::FlightEnds { flight, outcome } => self.flight_ends(flight, outcome),
            Event::FlightTimesOut(flight) => self.flight_times_out(flight),
            Event::FolderOver { pid, folder, number } => self.folder_over(pid, folder, number),
            Event::HomeArrives(call) => self.home_arrives(call),
            Event::HomeReturns { call, heard } => self.home_returns(call, heard),
            Event::HydrationOver { pid } => self.hydrated(pid),
            Event::Members { pid } => self.members_changed(pid),
            Event::ProcessExits { pid } => platform::process_ended(self, pid),
            Event::ReadRegistry { pid } => self.home(pid, home::Call::Registry, home::Then::Hydrate),
            Event::SaveOver { pid, agent, number } => self.save_over(pid, agent, number),
            Event::ToolAgain { pid, call, turn, tries } => self.tool_again(pid, call, turn, tries),
            Event::TownAlarm { version } => self.town_alarm(version),
            Event::UserActs => self.user_acts(),
            Event::ViewerActs => self.viewer_acts(),
            Event::Weather => self.weather(),
        }
    }

    /// What goes wrong by itself.
    fn weather(&mut self) {
        if !self.run.faults_on {
            return;
        }
        self.queue.push(self.now + WEATHER_MS, Event::Weather);
        if self.run.fault(faults::HIBERNATE) {
            self.town_hibernate();
        }
        if self.run.fault(faults::HIBERNATE) {
            object::hibernate(self);
        }
        if self.run.fault(faults::DEPLOY) {
            self.run.note(|| "a deploy".to_owned());
            self.town_lose();
            object::lose(self);
        }
        if self.run.fault(faults::FACT_POISONED) {
            self.poison();
        }
        if self.run.fault(faults::MACHINE_LOST) {
            platform::destroy(self);
        }
        if self.run.fault(faults::EVICTED) {
            platform::evict(self);
        }
        if self.run.fault(faults::PROCESS_KILLED) {
            platform::process_killed(self);
        }
        if self.run.fault(faults::CLOCK_JUMPS)
            && let Some(pid) = self.platform.pid()
        {
            let by = self.run.random.between("jump", -MINUTE, MINUTE);
            if let Some(process) = self.processes.get_mut(&pid) {
                process.skew_ms += by;
            }
        }
        if self.run.fault(faults::HOME_UNREACHABLE)
            && let Some(pid) = self.platform.pid()
        {
            let until = self.now + self.run.random.between("unreachable", MINUTE, 8 * MINUTE);
            if let Some(process) = self.processes.get_mut(&pid) {
                process.unreachable_until = until;
            }
        }
    }
}
