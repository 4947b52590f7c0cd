//! A wrapper's connection to its object: the real ingest machine with a modelled socket and spool file
//! (`crates/sandboxd/src/session/link.rs`).

use super::disk::Address;
use super::sockets::Down;
use super::sockets::Socket;
use super::sockets::SocketId;
use super::sockets::Up;
use super::sockets::Wrapper;
use super::worker::Worker;
use super::world::Event;
use super::world::World;
use crate::sessions::faults;
use object_core::time::MINUTE;
use protocol::event::EventClass;
use protocol::event::event_class;
use protocol::id::ExecutionId;
use protocol::ingest::Command;
use protocol::ingest::parse_frame;
use sandbox_core::agent::AgentEvent;
use sandbox_core::event::Event as OwnEvent;
use sandbox_core::ingest::Connection;
use sandbox_core::ingest::GaveUp;
use sandbox_core::ingest::Ingest;
use sandbox_core::ingest::Input;
use sandbox_core::ingest::Output;
use sandbox_core::limits::Limits;
use sandbox_core::normalise::Normaliser;
use sandbox_core::spool::SpoolWrite;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::rc::Rc;

/// The close code of a wrapper that nobody answers.
const SILENT: u16 = 4000;

/// What the execution has to know (`link.rs`, `News`).
#[derive(Debug)]
pub enum News {
    Command(Command),
    Drained,
    GaveUp(GaveUp),
    Ready,
}

/// What of a frame is numbered.
pub type Summary = Vec<Numbered>;

/// A numbered event, as far as the promises need it.
#[derive(Clone, Debug)]
pub struct Numbered {
    pub seq: i64,
    pub print: u64,
    /// What it overwrites.
    pub entity: Option<String>,
    /// The range that it stands for.
    pub lost: Option<(i64, i64)>,
}

/// A connection.
pub struct Link {
    pub id: u64,
    pub ingest: Ingest,
    pub address: Address,
    sockets: BTreeMap<Connection, SocketId>,
    /// The same events, all in one window: what the log has to hold in the end.
    pub oracle: Normaliser,
    /// It began with an empty spool, and its disk never failed it.
    pub whole: bool,
}

impl Link {
    pub fn new(id: u64, limits: &Limits, address: Address, spool: &[u8]) -> Self {
        let ingest = Ingest::new(limits, address.execution.clone(), spool);
        let (oracle, whole) = (Normaliser::new(limits), spool.is_empty());
        Self { id, ingest, address, sockets: BTreeMap::new(), oracle, whole }
    }

    pub fn execution(&self) -> &ExecutionId {
        &self.address.execution
    }
}

impl World<'_> {
    /// An event of the agent, for the log.
    pub fn link_agent(&mut self, w: &Worker, link: &mut Link, event: &AgentEvent<'_>) -> Vec<News> {
        link.oracle.push_agent(event);
        self.link_receive(w, link, Input::Agent(event))
    }

    /// An event of our own, for the log.
    pub fn link_own(&mut self, w: &Worker, link: &mut Link, event: OwnEvent) -> Vec<News> {
        link.oracle.push(event.clone());
        self.link_receive(w, link, Input::Event(event))
    }

    /// Nothing more will be said.
    pub fn link_says_no_more(&mut self, w: &Worker, link: &mut Link) -> Vec<News> {
        let news = self.link_receive(w, link, Input::Finish);
        link.address.over = true;
        let address = link.address.clone();
        self.home(w.disk, w.s).addresses.insert(address.execution.clone(), address);
        news
    }

    /// Takes an input and does what the machine says, in its order.
    pub fn link_receive(&mut self, w: &Worker, link: &mut Link, input: Input<'_>) -> Vec<News> {
        let now = w.now(self.now);
        let execution = link.execution().clone();
        let mut news = Vec::new();
        let mut outputs = VecDeque::from(link.ingest.receive(now, input));
        let mut written = VecDeque::new();
        loop {
            let Some(output) = outputs.pop_front() else {
                let Some((connection, bytes)) = written.pop_front() else { break };
                outputs.extend(link.ingest.receive(now, Input::Written { connection, bytes }));
                continue;
            };
            match output {
                Output::Connect { connection } => self.link_connects(w, link, connection),
                Output::Deliver(command) => news.push(News::Command(command)),
                Output::Disconnect { connection, code, .. } => {
                    if let Some(socket) = link.sockets.remove(&connection) {
                        self.check_silence(w, socket, code);
                        self.peer_closes(socket, false);
                    }
                }
                Output::Drained => {
                    self.link_drained(w, link);
                    news.push(News::Drained);
                }
                Output::GaveUp(why) => {
                    self.run.note(|| format!("link {} gave up: {why:?}", link.id));
                    news.push(News::GaveUp(why));
                }
                Output::ReadSpool { offset, bytes } => {
                    let bytes = self.home(w.disk, w.s).read_spool(&execution, offset, bytes);
                    outputs.extend(link.ingest.receive(now, Input::SpoolBytes { offset, bytes: &bytes }));
                }
                Output::Ready { .. } => news.push(News::Ready),
                Output::Reconnecting { attempt, .. } => {
                    self.run.note(|| format!("link {} reconnects, attempt {attempt}", link.id));
                }
                Output::Send { connection, frame } => {
                    let bytes = frame.len();
                    if let Some(socket) = link.sockets.get(&connection).copied() {
                        let summary = Rc::new(self.summarise(w.disk, &execution, &frame));
                        self.send_up(socket, Up::Text((frame, summary)));
                        if !self.sockets.get(&socket).is_some_and(|socket| socket.stalled) {
                            written.push_back((connection, bytes));
                        }
                    }
                }
                Output::Spool(write) => {
                    let awaited = matches!(write, SpoolWrite::Append { .. } | SpoolWrite::Rewrite { .. });
                    let done = !self.run.fault(faults::DISK_FULL);
                    if done {
                        self.home(w.disk, w.s).write_spool(&execution, write);
                    } else {
                        link.whole = false;
                    }
                    if awaited {
                        outputs.extend(link.ingest.receive(now, Input::Spooled { done }));
                    }
                }
            }
        }
        news
    }

    /// A wrapper gives a socket up because nothing comes back on it: then something has happened to it.
    fn check_silence(&mut self, w: &Worker, socket: SocketId, code: u16) {
        let jumped = self.processes.get(&w.pid).is_some_and(|process| process.jumped_at + 2 * MINUTE > self.now);
        let sound = self.sockets.get(&socket).is_some_and(Socket::is_sound);
        if code == SILENT && sound && !jumped {
            self.run.broken("what arrives is acknowledged", || format!("socket {socket} was given up, and is sound"));
        }
    }

    fn link_connects(&mut self, w: &Worker, link: &mut Link, connection: Connection) {
        let wrapper = Wrapper {
            execution: link.execution().clone(),
            generation: link.address.generation,
            pid: w.pid,
            link: link.id,
            connection,
        };
        let at = self.now + self.delay();
        let s = w.s;
        let event = if self.run.fault(faults::REQUEST_LOST) {
            Event::ConnectFailed { s, wrapper, status: None }
        } else {
            Event::IngestConnects { s, wrapper, secret: link.address.secret.expose().to_owned() }
        };
        self.queue.push(at, event);
    }

    /// Something arrives at a wrapper's end of a socket.
    pub fn wrapper_hears(&mut self, s: usize, socket: SocketId, wrapper: &Wrapper, what: Down) {
        let connection = wrapper.connection;
        let heard = self.with_link(wrapper.pid, s, wrapper.link, |world, w, link| match &what {
            Down::Opened => {
                link.sockets.insert(connection, socket);
                world.link_receive(w, link, Input::Opened { connection })
            }
            Down::Text(text) => {
                if let Ok(Command::Ack { seq } | Command::Resume { last_seq: seq }) = serde_json::from_str(text) {
                    world.acknowledged(s, w.disk, link.execution(), seq);
                }
                world.link_receive(w, link, Input::Frame { connection, text })
            }
            Down::Close(code) => {
                link.sockets.remove(&connection);
                world.link_receive(w, link, Input::Closed { connection, code: *code })
            }
        });
        // A process that is gone has no ends of sockets.
        if !heard && matches!(what, Down::Opened) {
            self.peer_closes(socket, true);
        }
    }

    /// A handshake was refused, or nobody answered.
    pub fn connect_failed(&mut self, s: usize, wrapper: &Wrapper, status: Option<u16>) {
        let connection = wrapper.connection;
        self.with_link(wrapper.pid, s, wrapper.link, |world, w, link| {
            world.link_receive(w, link, Input::ConnectFailed { connection, status })
        });
    }

    fn summarise(&mut self, disk: u64, execution: &ExecutionId, frame: &str) -> Summary {
        let events = parse_frame(frame).expect("our own frames can be read");
        let numbered: Summary = events
            .iter()
            .filter_map(|event| {
                let seq = i64::try_from(event.seq?).expect("a number of ours");
                let (kind, data) = (event.stream_event_type.as_ref(), event.data());
                let entity = match event_class(kind, data) {
                    EventClass::Entity(key) => Some(key),
                    _ => None,
                };
                let lost = (kind == "events_lost").then(|| range(data.get()));
                let print = super::promises::fingerprint(execution.as_str(), kind, data.get());
                Some(Numbered { seq, print, entity, lost })
            })
            .collect();
        self.sent(disk, execution, &numbered);
        numbered
    }
}

fn range(data: &str) -> (i64, i64) {
    #[derive(Deserialize)]
    struct Range {
        from: i64,
        to: i64,
    }
    let range: Range = serde_json::from_str(data).expect("a range of ours");
    (range.from, range.to)
}
