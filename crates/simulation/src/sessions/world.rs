//! The world of sessions: everything there is, what happens to it, and in what order.

use super::call::CallId;
use super::call::Caller;
use super::call::Heard;
use super::disk::Disk;
use super::effects::Flight;
use super::effects::FlightId;
use super::faults;
use super::object::Object;
use super::promises::Ledger;
use super::sockets::Down;
use super::sockets::Kind;
use super::sockets::Socket;
use super::sockets::SocketId;
use super::sockets::Up;
use super::sockets::Wrapper;
use super::task::Kept;
use super::user::User;
use super::viewers::Viewer;
use super::worker::Process;
use crate::container;
use crate::container::object;
use crate::container::object::ContainerObject;
use crate::container::platform;
use crate::container::platform::Platform;
use crate::queue::Queue;
use crate::run::Run;
use database::NativeDatabase;
use object_core::ReplyTo;
use protocol::id::ExecutionId;
use sandbox_core::limits::Limits;
use session_core::Config;
use session_core::message::Outcome;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Between two looks at what may go wrong by itself.
const WEATHER_MS: i64 = 5_000;

/// Something that will happen.
pub enum Event {
    CallAnswered { call: CallId, heard: Heard },
    CallArrives(CallId),
    CallTimesOut { s: usize, incarnation: u64, number: ReplyTo, call: CallId },
    CatchUp { s: usize, incarnation: u64, socket: SocketId },
    ConnectFailed { s: usize, wrapper: Wrapper, status: Option<u16> },
    Container(container::Event),
    CutOffEnds { instance: String },
    Down { socket: SocketId, what: Down, certain: bool },
    FlightArrives(FlightId),
    FlightEnds { flight: FlightId, outcome: Outcome },
    FlightTimesOut(FlightId),
    GroupTimer { s: usize, incarnation: u64 },
    IngestConnects { s: usize, wrapper: Wrapper, secret: String },
    ProcessExits { pid: u64 },
    SessionAlarm { s: usize, version: u64 },
    Up { socket: SocketId, what: Up, certain: bool },
    UserActs(usize),
    ViewerConnects(usize),
    Weather,
    Worker { pid: u64, s: usize },
}

/// Everything there is.
pub struct World<'r> {
    pub run: &'r mut Run,
    pub now: i64,
    pub queue: Queue<Event>,
    /// What every session core is told.
    pub config: Config,
    /// What every machine in a container is told.
    pub limits: Limits,
    /// Spools are so small here that they give events up.
    pub small_spool: bool,
    pub auto_commit: bool,
    pub condense: bool,
    /// A person is asked for permissions.
    pub asks: bool,
    pub objects: Vec<Object>,
    pub directory: NativeDatabase,
    pub container: ContainerObject,
    pub platform: Platform,
    /// Containers that the platform takes for lost, and that still work.
    pub cut_off: Vec<platform::Container>,
    pub processes: BTreeMap<u64, Process>,
    pub disks: BTreeMap<u64, Disk>,
    pub sockets: BTreeMap<SocketId, Socket>,
    pub flights: BTreeMap<FlightId, Flight>,
    pub callers: BTreeMap<CallId, Caller>,
    pub viewers: Vec<Viewer>,
    pub users: Vec<User>,
    /// The snapshot store.
    pub kept: BTreeMap<usize, Kept>,
    /// What was sent, by execution and disk.
    pub ledgers: BTreeMap<(ExecutionId, u64), Ledger>,
    /// Executions whose lease was given back.
    pub released: BTreeSet<String>,
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
            self.run.random.between("slow", 500, 12_000)
        } else {
            self.run.random.between("network", 1, 40)
        }
    }

    /// The sockets of a process.
    pub fn sockets_of(&self, pid: u64) -> Vec<SocketId> {
        let of_process = |socket: &Socket| matches!(&socket.kind, Kind::Ingest(wrapper) if wrapper.pid == pid);
        self.sockets.iter().filter(|(_, socket)| of_process(socket)).map(|(id, _)| *id).collect()
    }

    /// Lets time go on until `until`, or until a promise is broken.
    pub fn live_until(&mut self, until: i64) {
        while self.run.violation().is_none() {
            match self.queue.next_at() {
                Some(at) if at <= until => {}
                _ => break,
            }
            let Some((at, event)) = self.queue.pop() else { break };
            let passed = (at - self.now).max(0);
            self.run.tally.simulated_ms += passed;
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
            Event::CallAnswered { call, heard } => self.call_answered(call, heard),
            Event::CallArrives(call) => self.call_arrives(call),
            Event::CallTimesOut { s, incarnation, number, call } => self.call_times_out(s, incarnation, number, call),
            Event::CatchUp { s, incarnation, socket } => {
                if self.objects[s].incarnation == incarnation {
                    self.catch_up(s, socket);
                }
            }
            Event::ConnectFailed { s, wrapper, status } => self.connect_failed(s, &wrapper, status),
            Event::Container(event) => container::happens(self, event),
            Event::CutOffEnds { instance } => self.cut_off_ends(&instance),
            Event::Down { socket, what, certain } => self.down(socket, what, certain),
            Event::FlightArrives(flight) => self.flight_arrives(flight),
            Event::FlightEnds { flight, outcome } => self.flight_ends(flight, outcome),
            Event::FlightTimesOut(flight) => self.flight_times_out(flight),
            Event::GroupTimer { s, incarnation } => self.group_timer(s, incarnation),
            Event::IngestConnects { s, wrapper, secret } => self.ingest_connect(s, wrapper, secret),
            Event::ProcessExits { pid } => self.process_exits(pid),
            Event::SessionAlarm { s, version } => self.session_alarm(s, version),
            Event::Up { socket, what, certain } => self.up(socket, what, certain),
            Event::UserActs(s) => self.user_acts(s),
            Event::ViewerConnects(viewer) => self.viewer_connects(viewer),
            Event::Weather => self.weather(),
            Event::Worker { pid, s } => self.worker_wakes(pid, s),
        }
    }

    /// What goes wrong by itself.
    fn weather(&mut self) {
        if !self.run.faults_on {
            return;
        }
        self.queue.push(self.now + WEATHER_MS, Event::Weather);
        for s in 0..self.objects.len() {
            if self.run.fault(faults::HIBERNATE) {
                self.hibernate(s);
            }
        }
        if self.run.fault(faults::HIBERNATE) {
            object::hibernate(self);
        }
        if self.run.fault(faults::DEPLOY) {
            self.run.note(|| "a deploy".to_owned());
            (0..self.objects.len()).for_each(|s| self.lose(s));
            object::lose(self);
        }
        for socket in self.sockets.keys().copied().collect::<Vec<_>>() {
            if self.run.fault(faults::SOCKET_CUT) {
                self.cut(socket);
            } else if self.run.fault(faults::SOCKET_STALLED)
                && let Some(socket) = self.sockets.get_mut(&socket)
            {
                socket.stalled = true;
            }
        }
        for viewer in 0..self.viewers.len() {
            if self.run.fault(faults::VIEWER_LEAVES) {
                self.viewer_leaves(viewer);
            }
        }
        self.weather_of_containers();
    }

    fn weather_of_containers(&mut self) {
        if self.run.fault(faults::MACHINE_LOST) {
            platform::destroy(self);
        }
        if self.run.fault(faults::CUT_OFF) {
            self.cut_off();
        }
        if self.run.fault(faults::EVICTED) {
            platform::evict(self);
        }
        if self.run.fault(faults::WRAPPER_KILLED) {
            platform::process_killed(self);
        }
        for pid in self.processes.keys().copied().collect::<Vec<_>>() {
            let jumps = self.run.fault(faults::CLOCK_JUMPS);
            let by = if jumps { self.run.random.between("jump", -60_000, 60_000) } else { 0 };
            let sessions: Vec<usize> = match self.processes.get_mut(&pid) {
                Some(process) => {
                    process.skew_ms += by;
                    process.jumped_at = if by == 0 { process.jumped_at } else { self.now };
                    process.sessions.keys().copied().collect()
                }
                None => continue,
            };
            for s in sessions {
                let (dies, breaks) = (self.run.fault(faults::AGENT_DIES), self.run.fault(faults::STREAM_BREAKS));
                if by == 0 && !dies && !breaks {
                    continue;
                }
                self.with_worker(pid, s, |world, w| {
                    w.skew_ms += by;
                    if dies {
                        world.agent_ends(w, "the agent server died");
                    }
                    if breaks {
                        world.stream_breaks(w);
                    }
                });
            }
        }
    }
}
