//! Viewers: their sockets as `src/session/viewers.rs` serves them, and the clients behind them, which come again with `fromId`.

use super::sockets::Down;
use super::sockets::Kind;
use super::sockets::SocketId;
use super::sockets::Stream;
use super::world::Event;
use super::world::World;
use crate::sessions::faults;
use protocol::ingest::Command;
use serde::Deserialize;
use serde_json::value::RawValue;
use session_core::message::Broadcast;
use session_core::message::Input;
use session_core::message::Output;
use session_core::stream::Filter;
use session_core::stream::arrays;
use std::collections::BTreeMap;

/// A client that watches one session.
pub struct Viewer {
    pub s: usize,
    /// What it asks for, without `fromId`.
    pub query: &'static [(&'static str, &'static str)],
    /// The stored event that it saw last.
    pub cursor: i64,
    pub socket: Option<SocketId>,
    /// `connected` has come.
    pub caught_up: bool,
    /// Fingerprints of the stored events that it saw, by id.
    pub seen: BTreeMap<i64, u64>,
    /// The session is not there any more: it does not come again.
    pub gone: bool,
    tickets: u64,
}

impl Viewer {
    pub fn new(s: usize, query: &'static [(&'static str, &'static str)]) -> Self {
        Self { s, query, cursor: 0, socket: None, caught_up: false, seen: BTreeMap::new(), gone: false, tickets: 0 }
    }

    /// Its filter.
    pub fn filter(&self) -> Filter {
        let from = self.cursor.to_string();
        let pairs = self.query.iter().copied().chain([("fromId", from.as_str())]);
        Filter::from_query(pairs).expect("its lists are short")
    }
}

/// A frame, as far as a viewer's promises need it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame<'a> {
    event_id: Option<i64>,
    #[serde(default)]
    execution_id: Option<String>,
    stream_event_type: Option<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl World<'_> {
    pub fn viewers_of(&self, s: usize) -> usize {
        self.stream_sockets(s).count()
    }

    fn stream_sockets(&self, s: usize) -> impl Iterator<Item = SocketId> {
        let of_session = move |(id, socket): (&SocketId, &super::sockets::Socket)| {
            (socket.s == s && socket.listed && matches!(socket.kind, Kind::Stream(_))).then_some(*id)
        };
        self.sockets.iter().filter_map(of_session)
    }

    /// A viewer's handshake arrives. Between the accept and the end of the first replay round nothing else happens.
    pub fn viewer_connects(&mut self, viewer: usize) {
        let client = &mut self.viewers[viewer];
        if client.socket.is_some() || client.gone {
            return;
        }
        client.tickets += 1;
        let (s, nonce) = (client.s, format!("{viewer}-{}", client.tickets));
        let again = self.now + self.run.random.between("viewer-retry", 500, 5_000);
        let expires_at = self.now + 60_000;
        if self.wake(s).is_err() {
            return self.queue.push(again, Event::ViewerConnects(viewer));
        }
        let answer = self.turn(s, Input::StreamOpen { nonce, expires_at }).map(|own| own.into_iter().next());
        match answer {
            Ok(Some(Output::AcceptStream)) => {}
            Ok(Some(Output::Refuse { status: 404, .. })) if self.objects[s].shadow.ended || self.users[s].rests => {
                self.viewers[viewer].gone = true;
                return;
            }
            _ => return self.queue.push(again, Event::ViewerConnects(viewer)),
        }
        let filter = self.viewers[viewer].filter();
        let catching_up = filter.replay;
        let stream = Stream { viewer, cursor: filter.from_id, bytes: 0, catching_up, filter };
        let id = self.add_socket(s, Kind::Stream(stream));
        let client = &mut self.viewers[viewer];
        client.socket = Some(id);
        client.caught_up = false;
        self.catch_up(s, id);
    }

    /// One replay round; a further one is an event of its own.
    pub fn catch_up(&mut self, s: usize, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id).filter(|socket| socket.listed && socket.attached) else { return };
        let Kind::Stream(stream) = &mut socket.kind else { return };
        let object = &mut self.objects[s];
        let Some(memory) = &mut object.memory else { return };
        let mut frames = Vec::new();
        let (mut full, batch) = (false, stream.filter.batch);
        if stream.catching_up {
            let round =
                memory.core.replay(&object.storage, &stream.filter, stream.cursor).expect("a replay only reads");
            frames = round.frames;
            stream.cursor = round.cursor;
            stream.bytes += round.bytes;
            stream.catching_up = !round.done;
            full = stream.catching_up && stream.bytes >= memory.core.replay_connection_bytes();
        }
        let more = stream.catching_up;
        if batch {
            frames = arrays(frames.iter().map(String::as_str));
        }
        for frame in frames {
            self.send_down(id, Down::Text(frame));
        }
        if full {
            return self.send_down(id, Down::Close(1013));
        }
        if more {
            let incarnation = self.objects[s].incarnation;
            self.queue.push(self.now, Event::CatchUp { s, incarnation, socket: id });
            return;
        }
        let object = &mut self.objects[s];
        let Some(memory) = &mut object.memory else { return };
        let connected = memory.core.connected(&object.storage, self.now, &object.id).expect("it only reads");
        let active = memory.core.active(&object.storage).expect("it only reads");
        self.send_down(id, Down::Text(connected));
        if let Some(active) = active {
            self.send_to_ingest(s, &active, &Command::RequestSnapshot);
        }
    }

    pub fn resume_catch_ups(&mut self, s: usize) {
        let ids: Vec<SocketId> = self.stream_sockets(s).collect();
        for id in ids {
            if matches!(&self.sockets[&id].kind, Kind::Stream(stream) if stream.catching_up) {
                self.catch_up(s, id);
            }
        }
    }

    pub fn broadcast(&mut self, s: usize, events: &[Broadcast]) {
        if events.is_empty() {
            return;
        }
        let ids: Vec<SocketId> = self.stream_sockets(s).collect();
        for id in ids {
            let Kind::Stream(stream) = &self.sockets[&id].kind else { continue };
            if stream.catching_up {
                continue;
            }
            let wants = |event: &&Broadcast| stream.filter.admits(&event.execution, &event.kind, event.at);
            let wanted = events.iter().filter(wants).map(|event| event.text.as_str());
            let texts = if stream.filter.batch { arrays(wanted) } else { wanted.map(str::to_owned).collect() };
            for text in texts {
                self.send_down(id, Down::Text(text));
            }
        }
    }

    /// Something arrives at the client.
    pub fn viewer_hears(&mut self, viewer: usize, socket: SocketId, what: Down) {
        let client = &mut self.viewers[viewer];
        if client.socket != Some(socket) {
            return;
        }
        match what {
            Down::Close(_) => {
                client.socket = None;
                client.caught_up = false;
                let at = self.now + self.run.random.between("viewer-back", 100, 8_000);
                self.queue.push(at, Event::ViewerConnects(viewer));
            }
            Down::Opened => {}
            Down::Text(text) => {
                let frames: Vec<Frame<'_>> = if text.starts_with('[') {
                    serde_json::from_str(&text).expect("frames are JSON")
                } else {
                    serde_json::from_str(&text).map(|frame| vec![frame]).expect("a frame is JSON")
                };
                for frame in frames {
                    self.viewer_sees(viewer, &frame);
                }
            }
        }
    }

    fn viewer_sees(&mut self, viewer: usize, frame: &Frame<'_>) {
        let client = &mut self.viewers[viewer];
        let kind = frame.stream_event_type.as_deref().unwrap_or_default();
        if kind == "connected" {
            client.caught_up = true;
        }
        let Some(id) = frame.event_id.filter(|id| *id > 0) else { return };
        let cursor = client.cursor;
        if id <= cursor {
            self.run.broken("P2 a viewer sees every later stored event once, in order", || {
                format!("viewer {viewer} got event {id} after {cursor}")
            });
        }
        let client = &mut self.viewers[viewer];
        client.cursor = id;
        let data = frame.data.map_or("null", RawValue::get);
        let print = super::promises::fingerprint(frame.execution_id.as_deref().unwrap_or_default(), kind, data);
        client.seen.insert(id, print);
    }

    /// A viewer closes its tab, or its line is cut, and it comes again.
    pub fn viewer_leaves(&mut self, viewer: usize) {
        let Some(socket) = self.viewers[viewer].socket else { return };
        if self.run.fault(faults::SOCKET_CUT) {
            return self.cut(socket);
        }
        self.peer_closes(socket, false);
        let client = &mut self.viewers[viewer];
        client.socket = None;
        client.caught_up = false;
        let at = self.now + self.run.random.between("viewer-back", 100, 60_000);
        self.queue.push(at, Event::ViewerConnects(viewer));
    }
}
