//! The status stream (spec/town.md 9.2): a snapshot at once, then what changes. It goes one way.
//!
//! Sockets hibernate and are found by tag, so an object that was evicted goes on sending to them. How many there are is a fact of each turn: the first
//! viewer arms the cadence, the last one that leaves lets the town sleep.

use super::object::Shell;
use crate::http;
use protocol::town::Failure;
use protocol::town::status::Frame;
use std::rc::Rc;
use town_core::message::Answer;
use town_core::message::Call;
use town_core::message::Input;
use town_core::message::call::TownCall;
use worker::Response;
use worker::WebSocket;
use worker::WebSocketPair;
use worker::web_sys;

const TAG: &str = "status";

/// Each costs a frame per change, and memory: more are refused.
const VIEWERS_MAX: usize = 100;

impl Shell {
    /// How many look. One that is closing is still found, and does not count.
    pub fn viewers(&self) -> usize {
        let is_open = |socket: &WebSocket| socket.as_ref().ready_state() == web_sys::WebSocket::OPEN;
        self.state.get_websockets_with_tag(TAG).iter().filter(|socket| is_open(socket)).count()
    }

    /// A viewer's handshake.
    pub fn open_status(self: &Rc<Self>) -> worker::Result<Response> {
        if self.viewers() >= VIEWERS_MAX {
            return http::json(503, &Failure::new("Too many viewers of this town"));
        }
        let pair = WebSocketPair::new()?;
        // Accepted before the town is asked, so that it counts: it arms the cadence, and is told of it.
        self.state.accept_websocket_with_tags(&pair.server, &[TAG]);
        let Answer::Status { status } = self.ask(Call::Town(TownCall::Status {}))? else {
            self.status_closed(&pair.server, (1000, "No such town"))?;
            return http::json(404, &Failure::new("Town not found"));
        };
        send(&pair.server, &serde_json::to_string(&status)?);
        Response::from_websocket(pair.client)
    }

    /// A viewer left. What is still open says whether the town goes on ticking for them.
    pub fn status_closed(self: &Rc<Self>, socket: &WebSocket, (code, reason): (u16, &str)) -> worker::Result<()> {
        // It may be closed already, which is what is wanted.
        drop(socket.close(Some(code), Some(reason)));
        self.receive(&Input::Woke).map(drop)
    }

    /// One frame to all, serialised once.
    pub fn broadcast(&self, frame: &Frame) {
        let sockets = self.state.get_websockets_with_tag(TAG);
        if sockets.is_empty() {
            return;
        }
        if let Ok(text) = serde_json::to_string(frame) {
            sockets.iter().for_each(|socket| send(socket, &text));
        }
    }
}

fn send(socket: &WebSocket, text: &str) {
    // One that is going away needs no frame.
    drop(socket.send_with_str(text));
}
