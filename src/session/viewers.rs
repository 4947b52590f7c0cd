//! Viewers: the handshake, the replay, and what they are sent live (spec/session.md 6, design 3).

use crate::config::Config;
use crate::log;
use crate::object::failed;
use crate::object::now_ms;
use crate::session::Shell;
use crate::session::sockets::send;
use js_sys::JsString;
use protocol::id::SessionId;
use protocol::ingest::Command;
use protocol::stream::StreamError;
use serde::Deserialize;
use serde::Serialize;
use session_core::message::Broadcast;
use session_core::message::Input;
use session_core::message::Output;
use session_core::stream::Filter;
use session_core::stream::arrays;
use std::rc::Rc;
use std::time::Duration;
use wasm_bindgen::JsCast;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Delay;
use worker::Request;
use worker::Response;
use worker::WebSocket;
use worker::WebSocketPair;
use worker::web_sys;

#[wasm_bindgen]
extern "C" {
    type TextSocket;

    /// Takes text that is JavaScript's already: one frame for a hundred viewers leaves wasm once.
    #[wasm_bindgen(method, catch, js_name = send)]
    fn send_shared(this: &TextSocket, text: &JsString) -> Result<(), JsValue>;
}

/// The tag of every viewer's socket.
const STREAM: &str = "stream";

/// Set by the Worker on a stream request: the ticket's nonce and, in milliseconds, its end.
pub const TICKET: &str = "x-holdfast-ticket";

/// Close code for a viewer that has replayed as much as one connection may: resume with `fromId`.
const CLOSE_RESUME: u16 = 1013;

/// What is remembered of a viewer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Viewer {
    session: SessionId,
    filter: Filter,
    /// The last event that was replayed to it.
    cursor: i64,
    /// How much was replayed to it.
    bytes: i64,
    /// It gets no live frames until it has caught up.
    catching_up: bool,
}

impl Shell {
    /// How many viewers there are.
    pub fn viewers(&self) -> usize {
        self.state.get_websockets_with_tag(STREAM).len()
    }

    /// A viewer's handshake. Between the accept and the end of the first replay round there is no await, so no live event overtakes.
    pub fn open_stream(self: &Rc<Self>, request: &Request) -> worker::Result<Response> {
        let url = request.url()?;
        let pairs: Vec<_> = url.query_pairs().collect();
        let query = pairs.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        let Some(filter) = Filter::from_query(query) else {
            return Response::error("The filters are too long", 400);
        };
        let session = pairs.iter().find(|(key, _)| key == "cloudAgentSessionId").map(|(_, value)| value.as_ref());
        let Some(Ok(session)) = session.map(SessionId::parse) else {
            return Response::error("Missing cloudAgentSessionId", 400);
        };
        if !origin_allowed(request, &self.config) {
            return Response::error("Origin not allowed", 403);
        }
        let ticket = request.headers().get(TICKET)?;
        let Some((nonce, Ok(expires_at))) =
            ticket.as_deref().and_then(|ticket| ticket.split_once(' ')).map(|(nonce, at)| (nonce, at.parse()))
        else {
            return Response::error("Missing ticket", 401);
        };
        let answer = self.turn(Input::StreamOpen { nonce: nonce.to_owned(), expires_at })?;
        if let Some(Output::Refuse { status, message }) = answer.into_iter().next() {
            return Response::error(message, status);
        }
        let pair = WebSocketPair::new()?;
        self.state.accept_websocket_with_tags(&pair.server, &[STREAM]);
        let catching_up = filter.replay;
        let viewer = Viewer { session, cursor: filter.from_id, bytes: 0, catching_up, filter };
        pair.server.serialize_attachment(&viewer)?;
        self.go_on(&pair.server);
        Response::from_websocket(pair.client)
    }

    /// One replay round. What remains is an event of its own, one per turn of the event loop, so that others get theirs. A viewer that left has no
    /// attachment any more.
    fn catch_up(self: &Rc<Self>, socket: &WebSocket) -> worker::Result<()> {
        let Some(mut viewer) = viewer_of(socket) else { return Ok(()) };
        let core = self.core.borrow();
        if viewer.catching_up {
            match core.replay(&self.db, &viewer.filter, viewer.cursor) {
                Ok(round) => {
                    send_round(socket, &round.frames, viewer.filter.batch);
                    viewer.cursor = round.cursor;
                    viewer.bytes = viewer.bytes.saturating_add(round.bytes);
                    viewer.catching_up = !round.done;
                }
                Err(error) => {
                    log::error("replay", &[("error", &error.to_string())]);
                    let error = StreamError::new("WS_INTERNAL_ERROR", "Failed to replay historical events");
                    send(socket, &serde_json::to_string(&error)?);
                    viewer.catching_up = false;
                }
            }
            if viewer.catching_up && viewer.bytes >= core.replay_connection_bytes() {
                return socket.close(Some(CLOSE_RESUME), Some("Resume with fromId"));
            }
        }
        socket.serialize_attachment(&viewer)?;
        if viewer.catching_up {
            let (shell, socket) = (Rc::clone(self), socket.clone());
            self.state.wait_until(async move {
                Delay::from(Duration::ZERO).await;
                shell.go_on(&socket);
            });
            return Ok(());
        }
        send(socket, &core.connected(&self.db, now_ms(), &viewer.session).map_err(failed)?);
        // Questions are volatile: the wrapper says again what is pending, now that this viewer hears it.
        if let Some(active) = core.active(&self.db).map_err(failed)? {
            self.send_to_ingest(&active, &Command::RequestSnapshot);
        }
        Ok(())
    }

    /// A round. A viewer for whom it fails has to come again; it is no affair of anybody else's.
    fn go_on(self: &Rc<Self>, socket: &WebSocket) {
        if let Err(error) = self.catch_up(socket) {
            log::error("replay", &[("error", &error.to_string())]);
            drop(socket.close(Some(1011), Some("Failed to replay historical events")));
        }
    }

    /// Continues what an eviction interrupted.
    pub fn resume_catch_ups(self: &Rc<Self>) {
        for socket in self.state.get_websockets_with_tag(STREAM) {
            if viewer_of(&socket).is_some_and(|viewer| viewer.catching_up) {
                self.go_on(&socket);
            }
        }
    }

    /// Sends events to every viewer that wants them. One that fails costs the others nothing.
    pub fn broadcast(&self, events: &[Broadcast]) {
        if events.is_empty() {
            return;
        }
        let frames: Vec<JsString> = events.iter().map(|event| event.text.as_str().into()).collect();
        let mut all_as_arrays: Option<Vec<JsString>> = None;
        for socket in self.state.get_websockets_with_tag(STREAM) {
            let Some(viewer) = viewer_of(&socket).filter(|viewer| !viewer.catching_up) else { continue };
            let wants = |event: &Broadcast| viewer.filter.admits(&event.execution, &event.kind, event.at);
            if !viewer.filter.batch {
                let wanted = events.iter().zip(&frames).filter(|(event, _)| wants(event));
                wanted.for_each(|(_, frame)| send_shared(&socket, frame));
            } else if events.iter().all(wants) {
                let shared = all_as_arrays.get_or_insert_with(|| js_arrays(events.iter()));
                shared.iter().for_each(|frame| send_shared(&socket, frame));
            } else {
                js_arrays(events.iter().filter(|event| wants(event)))
                    .iter()
                    .for_each(|frame| send_shared(&socket, frame));
            }
        }
    }
}

fn js_arrays<'a>(events: impl Iterator<Item = &'a Broadcast>) -> Vec<JsString> {
    arrays(events.map(|event| event.text.as_str())).into_iter().map(JsString::from).collect()
}

/// Sends a round one event per frame, or as arrays where the viewer asked for that.
fn send_round(socket: &WebSocket, frames: &[String], batch: bool) {
    if batch {
        arrays(frames.iter().map(String::as_str)).iter().for_each(|array| send(socket, array));
    } else {
        frames.iter().for_each(|frame| send(socket, frame));
    }
}

/// A failed send means that the socket is closing: its close event follows.
fn send_shared(socket: &WebSocket, text: &JsString) {
    let socket: &web_sys::WebSocket = socket.as_ref();
    drop(socket.unchecked_ref::<TextSocket>().send_shared(text));
}

fn viewer_of(socket: &WebSocket) -> Option<Viewer> {
    socket.deserialize_attachment().ok().flatten()
}

fn origin_allowed(request: &Request, config: &Config) -> bool {
    let origin = request.headers().get("origin").ok().flatten();
    config.allowed_origins.is_empty() || origin.is_none_or(|origin| config.allowed_origins.contains(&origin))
}
