//! WebSockets between a session object and those outside: wrappers (`src/session/sockets.rs`) and viewers.
//!
//! | Rule of the platform | Here |
//! | --- | --- |
//! | Each direction keeps its order, whatever the delays | [`Socket`], `up_at` and `down_at` |
//! | A socket is found by its tag until its close was handled; without its attachment it counts no more | `listed`, `attached` |
//! | A lost object closes its sockets with 1006, without a close event of its own | [`World::drop_sockets`] |
//! | A cut is told to both ends, to one, or to none | [`World::cut`] |

use super::link::Summary;
use super::world::Event;
use super::world::World;
use crate::sessions::faults;
use protocol::id::ExecutionId;
use protocol::ingest::CLOSE_REPLACED;
use protocol::ingest::Command;
use sandbox_core::ingest::Connection;
use session_core::message::IngestOpen;
use session_core::message::Input;
use session_core::message::Output;
use session_core::stream::Filter;
use std::rc::Rc;

pub type SocketId = u64;

/// A frame of a wrapper, and what is numbered in it.
pub type Text = (String, Rc<Summary>);

/// A WebSocket.
pub struct Socket {
    pub s: usize,
    pub kind: Kind,
    /// The object finds it by its tag.
    pub listed: bool,
    /// The object finds its attachment.
    pub attached: bool,
    /// The object has closed it.
    closing: bool,
    /// The peer has not heard of its end.
    pub peer_open: bool,
    /// Nothing passes any more.
    cut: bool,
    /// It takes nothing more from the peer, who is not told.
    pub stalled: bool,
    /// A frame of the peer was not taken: what follows it is a gap.
    pub refused: bool,
    up_at: i64,
    down_at: i64,
}

impl Socket {
    /// Nothing has happened to it.
    pub fn is_sound(&self) -> bool {
        self.listed && self.attached && self.peer_open && !self.closing && !self.cut && !self.stalled
    }
}

/// Whose it is.
pub enum Kind {
    Ingest(Wrapper),
    Stream(Stream),
}

/// The other end of an ingest socket.
#[derive(Clone)]
pub struct Wrapper {
    pub execution: ExecutionId,
    pub generation: i64,
    pub pid: u64,
    pub link: u64,
    pub connection: Connection,
}

/// What the attachment of a viewer holds.
pub struct Stream {
    pub viewer: usize,
    pub filter: Filter,
    pub cursor: i64,
    pub bytes: i64,
    pub catching_up: bool,
}

/// What travels to the object.
pub enum Up {
    Text(Text),
    Close(u16),
}

/// What travels from the object.
pub enum Down {
    /// The 101: nothing comes before it.
    Opened,
    Text(String),
    Close(u16),
}

impl World<'_> {
    pub fn add_socket(&mut self, s: usize, kind: Kind) -> SocketId {
        let id = self.new_id();
        let now = self.now;
        let socket = Socket {
            s,
            kind,
            listed: true,
            attached: true,
            closing: false,
            peer_open: true,
            cut: false,
            stalled: false,
            refused: false,
            up_at: now,
            down_at: now,
        };
        self.sockets.insert(id, socket);
        id
    }

    /// The ingest sockets that the object finds.
    fn ingest_sockets(&self, s: usize) -> impl Iterator<Item = (SocketId, &Socket, &Wrapper)> {
        self.sockets.iter().filter_map(move |(id, socket)| match &socket.kind {
            Kind::Ingest(wrapper) if socket.s == s && socket.listed && socket.attached => Some((*id, socket, wrapper)),
            _ => None,
        })
    }

    pub fn open_executions(&self, s: usize) -> Vec<String> {
        self.ingest_sockets(s).map(|(_, _, wrapper)| wrapper.execution.to_string()).collect()
    }

    pub fn send_to_ingest(&mut self, s: usize, execution: &ExecutionId, command: &Command) {
        let text = serde_json::to_string(command).expect("a command is plain data");
        let ids: Vec<SocketId> = self
            .ingest_sockets(s)
            .filter(|(_, _, wrapper)| wrapper.execution == *execution)
            .map(|(id, ..)| id)
            .collect();
        for id in ids {
            self.send_down(id, Down::Text(text.clone()));
        }
    }

    /// A wrapper's handshake arrives.
    pub fn ingest_connect(&mut self, s: usize, wrapper: Wrapper, secret: String) {
        let refused = |world: &mut Self, status| {
            let at = world.now + world.delay();
            world.queue.push(at, Event::ConnectFailed { s, wrapper: wrapper.clone(), status });
        };
        if self.wake(s).is_err() {
            return refused(self, Some(500));
        }
        let open = IngestOpen {
            execution: wrapper.execution.clone(),
            generation: Some(wrapper.generation),
            proof: session_core::message::Proof::Secret(secret),
        };
        match self.turn(s, Input::IngestOpen(open)).map(|own| own.into_iter().next()) {
            Ok(Some(Output::AcceptIngest { execution, commands })) => {
                let older: Vec<SocketId> = self
                    .ingest_sockets(s)
                    .filter(|(_, _, older)| older.execution == execution)
                    .map(|(id, ..)| id)
                    .collect();
                for id in older {
                    self.close_down(id, CLOSE_REPLACED.0);
                }
                self.ingest_accepted(s, &wrapper);
                let id = self.add_socket(s, Kind::Ingest(wrapper));
                self.send_down(id, Down::Opened);
                for command in commands {
                    let text = serde_json::to_string(&command).expect("a command is plain data");
                    self.send_down(id, Down::Text(text));
                }
            }
            Ok(Some(Output::Refuse { status, .. })) => refused(self, Some(status)),
            Ok(_) => refused(self, Some(500)),
            Err(_) => refused(self, None),
        }
    }

    /// The object closes a socket without wanting to hear of it again.
    fn close_down(&mut self, id: SocketId, code: u16) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.attached = false;
        }
        self.send_down(id, Down::Close(code));
    }

    /// `CloseAll`: wrappers are told to end their agents, and everybody is closed.
    pub fn close_all(&mut self, s: usize) {
        let kill = serde_json::to_string(&Command::Kill { signal: None }).expect("a command is plain data");
        let wrappers: Vec<SocketId> = self.ingest_sockets(s).map(|(id, ..)| id).collect();
        for id in wrappers {
            self.send_down(id, Down::Text(kill.clone()));
        }
        let all: Vec<SocketId> =
            self.sockets.iter().filter(|(_, socket)| socket.s == s && socket.listed).map(|(id, _)| *id).collect();
        for id in all {
            self.close_down(id, 1000);
        }
    }

    /// The object is lost, and its sockets with it. Their peers hear 1006, or nothing.
    pub fn drop_sockets(&mut self, s: usize) {
        let all: Vec<SocketId> =
            self.sockets.iter().filter(|(_, socket)| socket.s == s && socket.listed).map(|(id, _)| *id).collect();
        for id in all {
            let silent = self.run.fault(faults::HALF_OPEN);
            let at = self.now + self.delay();
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            (socket.listed, socket.attached, socket.cut) = (false, false, true);
            self.peer_hears_of_the_end(id, at, silent);
        }
    }

    /// A wrapper's machine has time-outs of its own for a peer that says nothing; a browser notices after minutes.
    fn peer_hears_of_the_end(&mut self, id: SocketId, at: i64, silent: bool) {
        let late = self.run.random.between("browser-notices", 20_000, 300_000);
        let at = match self.sockets.get(&id).map(|socket| &socket.kind) {
            Some(Kind::Ingest(_)) if silent => return,
            Some(Kind::Stream(_)) if silent => at + late,
            _ => at,
        };
        self.queue.push(at, Event::Down { socket: id, what: Down::Close(1006), certain: true });
    }

    /// A socket is cut: whoever hears of it, hears 1006.
    pub fn cut(&mut self, id: SocketId) {
        let (object_hears, peer_hears) = (!self.run.fault(faults::HALF_OPEN), !self.run.fault(faults::HALF_OPEN));
        let (up_at, down_at) = (self.now + self.delay(), self.now + self.delay());
        let Some(socket) = self.sockets.get_mut(&id).filter(|socket| !socket.cut) else { return };
        socket.cut = true;
        self.run.note(|| format!("socket {id} is cut; object hears: {object_hears}, peer hears: {peer_hears}"));
        if object_hears {
            self.queue.push(up_at, Event::Up { socket: id, what: Up::Close(1006), certain: true });
        }
        self.peer_hears_of_the_end(id, down_at, !peer_hears);
    }

    pub fn send_down(&mut self, id: SocketId, what: Down) {
        let delay = self.delay();
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if socket.closing || socket.cut {
            return;
        }
        socket.closing = matches!(what, Down::Close(_));
        socket.down_at = socket.down_at.max(self.now + delay);
        self.queue.push(socket.down_at, Event::Down { socket: id, what, certain: false });
    }

    pub fn send_up(&mut self, id: SocketId, what: Up) {
        let delay = self.delay();
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if socket.cut || socket.stalled {
            return;
        }
        socket.up_at = socket.up_at.max(self.now + delay);
        self.queue.push(socket.up_at, Event::Up { socket: id, what, certain: false });
    }

    /// Something arrives at the object. What was on its way when the socket was cut does not, but for the news of that.
    pub fn up(&mut self, id: SocketId, what: Up, certain: bool) {
        let Some(socket) = self.sockets.get(&id) else { return };
        if !socket.listed || (socket.cut && !certain) {
            return;
        }
        let s = socket.s;
        match what {
            Up::Text(text) => {
                if self.wake(s).is_ok() {
                    self.message(s, id, text);
                } else {
                    self.refuse_frame(id);
                }
            }
            Up::Close(code) => self.closed(s, id, code),
        }
    }

    /// A socket's close event. The one event that comes before `Woke`.
    fn closed(&mut self, s: usize, id: SocketId, code: u16) {
        self.construct(s);
        let flushed = self.flush(s);
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let execution = match &socket.kind {
            Kind::Ingest(wrapper) if socket.attached => Some(wrapper.execution.clone()),
            _ => None,
        };
        (socket.listed, socket.attached) = (false, false);
        let forgotten = !socket.peer_open;
        if !socket.closing && !socket.cut {
            self.send_down(id, Down::Close(1000));
        }
        if forgotten {
            self.sockets.remove(&id);
        }
        if flushed.is_ok()
            && let Some(execution) = execution
            && self.turn(s, Input::IngestClosed { execution, code, reason: String::new() }).is_err()
            && let Some(memory) = &mut self.objects[s].memory
        {
            // One that could not be noted is found by `Woke`.
            memory.woken = false;
        }
        // An error here is in the shell's log; the next event wakes again.
        if self.objects[s].memory.is_some() {
            drop(self.wake(s));
        }
    }

    /// Something arrives at the peer.
    pub fn down(&mut self, id: SocketId, what: Down, certain: bool) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if !socket.peer_open || (socket.cut && !certain) {
            return;
        }
        let closed = matches!(what, Down::Close(_));
        let (listed, cut) = (socket.listed, socket.cut);
        if closed {
            socket.peer_open = false;
        }
        let s = socket.s;
        match &socket.kind {
            Kind::Ingest(wrapper) => {
                let wrapper = wrapper.clone();
                self.wrapper_hears(s, id, &wrapper, what);
            }
            Kind::Stream(stream) => {
                let viewer = stream.viewer;
                self.viewer_hears(viewer, id, what);
            }
        }
        if closed {
            if listed && !cut {
                self.send_up(id, Up::Close(1000));
            } else if !listed {
                self.sockets.remove(&id);
            }
        }
    }

    /// The peer closes its end, or is gone: then the object hears 1006, or nothing.
    pub fn peer_closes(&mut self, id: SocketId, gone: bool) {
        let silent = gone && self.run.fault(faults::HALF_OPEN);
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if !std::mem::replace(&mut socket.peer_open, false) {
            return;
        }
        if !silent {
            self.send_up(id, Up::Close(if gone { 1006 } else { 1000 }));
        }
        if let Some(socket) = self.sockets.get(&id)
            && !socket.listed
        {
            self.sockets.remove(&id);
        }
    }
}
