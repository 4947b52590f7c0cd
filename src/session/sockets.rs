//! The sockets of a session. They are found by tag, so that hibernation loses none.
//!
//! | Tag | Attachment |
//! | --- | --- |
//! | `ingest`, `ingest:<execution>` | the execution |
//! | `stream` | [`Viewer`] |

use crate::config::Config;
use crate::http;
use crate::log;
use crate::object::failed;
use crate::object::now_ms;
use crate::session::Shell;
use protocol::id::ExecutionId;
use protocol::id::SessionId;
use protocol::ingest::CLOSE_REPLACED;
use protocol::ingest::Command;
use protocol::stream::StreamError;
use serde::Deserialize;
use serde::Serialize;
use session_core::message::Broadcast;
use session_core::message::IngestOpen;
use session_core::message::Input;
use session_core::message::Output;
use session_core::message::Proof;
use session_core::stream::Filter;
use std::rc::Rc;
use std::time::Duration;
use worker::Delay;
use worker::Request;
use worker::Response;
use worker::WebSocket;
use worker::WebSocketIncomingMessage;
use worker::WebSocketPair;

const INGEST: &str = "ingest";
const STREAM: &str = "stream";

/// Set by the Worker on an ingest request whose bearer was a valid token of the session's user.
pub const USER_TOKEN: &str = "x-holdfast-user-token";

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
    /// The executions that have an open ingest socket.
    pub fn open_executions(&self) -> Vec<String> {
        self.state.get_websockets_with_tag(INGEST).iter().filter_map(execution_of).map(String::from).collect()
    }

    /// A wrapper's handshake.
    pub fn open_ingest(self: &Rc<Self>, request: &Request) -> worker::Result<Response> {
        let url = request.url()?;
        let query = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let Some(execution) = query("executionId") else {
            return Response::error("Missing executionId parameter", 400);
        };
        let Ok(execution) = ExecutionId::parse(&execution) else {
            return Response::error("Execution not found", 404);
        };
        let proof = if request.headers().has(USER_TOKEN)? {
            Proof::UserToken
        } else {
            Proof::Secret(http::bearer(request).unwrap_or_default())
        };
        let generation = query("generation").and_then(|generation| generation.parse().ok());
        let answer = self.turn(Input::IngestOpen(IngestOpen { execution, generation, proof }))?;
        match answer.into_iter().next() {
            Some(Output::AcceptIngest { execution, commands }) => {
                let accepted = self.accept_ingest(&execution, &commands);
                if accepted.is_err() {
                    let reason = "The handshake could not be completed".to_owned();
                    self.turn(Input::IngestClosed { execution, code: 1006, reason })?;
                }
                accepted
            }
            Some(Output::Refuse { status, message }) => Response::error(message, status),
            _ => Response::error("No decision on the handshake", 500),
        }
    }

    fn accept_ingest(&self, execution: &ExecutionId, commands: &[Command]) -> worker::Result<Response> {
        let tag = format!("{INGEST}:{execution}");
        for older in self.state.get_websockets_with_tag(&tag) {
            // Its close may never come: without its attachment it counts no more.
            drop(older.serialize_attachment(()));
            drop(older.close(Some(CLOSE_REPLACED.0), Some(CLOSE_REPLACED.1)));
        }
        let pair = WebSocketPair::new()?;
        self.state.accept_websocket_with_tags(&pair.server, &[INGEST, &tag]);
        pair.server.serialize_attachment(execution)?;
        for command in commands {
            send(&pair.server, &serde_json::to_string(command)?);
        }
        Response::from_websocket(pair.client)
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
        self.catch_up(&pair.server, viewer)?;
        Response::from_websocket(pair.client)
    }

    /// One replay round. What remains is an event of its own, one per turn of the event loop, so that others get theirs.
    fn catch_up(self: &Rc<Self>, socket: &WebSocket, mut viewer: Viewer) -> worker::Result<()> {
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
                if let Err(error) = shell.catch_up(&socket, viewer) {
                    log::error("replay", &[("error", &error.to_string())]);
                }
            });
            return Ok(());
        }
        send(socket, &core.connected(&self.db, now_ms(), &viewer.session).map_err(failed)?);
        // Questions are volatile: the wrapper says again what is pending, now that this viewer hears it.
        for ingest in self.state.get_websockets_with_tag(INGEST) {
            send(&ingest, &serde_json::to_string(&Command::RequestSnapshot)?);
        }
        Ok(())
    }

    /// Continues what an eviction interrupted.
    pub fn resume_catch_ups(self: &Rc<Self>) -> worker::Result<()> {
        for socket in self.state.get_websockets_with_tag(STREAM) {
            if let Some(viewer) = viewer_of(&socket).filter(|viewer| viewer.catching_up) {
                self.catch_up(&socket, viewer)?;
            }
        }
        Ok(())
    }

    /// Sends one event to every viewer that wants it. One that fails costs the others nothing.
    pub fn broadcast(&self, event: &Broadcast) {
        for socket in self.state.get_websockets_with_tag(STREAM) {
            let wanted = viewer_of(&socket).is_some_and(|viewer| {
                !viewer.catching_up && viewer.filter.admits(event.execution.as_deref(), &event.kind, event.at)
            });
            if wanted {
                send(&socket, &event.text);
            }
        }
    }

    /// Sends to the ingest sockets of an execution.
    pub fn send_to_ingest(&self, execution: &ExecutionId, command: &Command) {
        if let Ok(text) = serde_json::to_string(command) {
            for socket in self.state.get_websockets_with_tag(&format!("{INGEST}:{execution}")) {
                send(&socket, &text);
            }
        }
    }

    /// A frame. Viewers have nothing to say.
    pub fn message(self: &Rc<Self>, socket: &WebSocket, message: WebSocketIncomingMessage) -> worker::Result<()> {
        let Some(execution) = execution_of(socket) else { return Ok(()) };
        let WebSocketIncomingMessage::String(text) = message else {
            let error = StreamError::new("WS_PROTOCOL_ERROR", "Binary messages not supported");
            send(socket, &serde_json::to_string(&error)?);
            return Ok(());
        };
        let outputs = match self.turn(Input::IngestFrame { execution, text }) {
            Ok(outputs) => outputs,
            Err(failure) => {
                log::error("ingest", &[("error", &failure.to_string())]);
                send(
                    socket,
                    &serde_json::to_string(&StreamError::new("WS_INTERNAL_ERROR", "The frame was not stored"))?,
                );
                // A producer that numbers its events resumes; nothing of the frame was taken.
                return socket.close(Some(1011), Some("The frame was not stored"));
            }
        };
        for output in outputs {
            match output {
                Output::Answer(command) => send(socket, &serde_json::to_string(&command)?),
                Output::Close { code, reason } => socket.close(Some(code), Some(reason))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A socket is gone. It may still be listed while its close is handled: without its attachment it counts no more.
    pub fn closed(self: &Rc<Self>, socket: &WebSocket, code: u16, reason: String) -> worker::Result<()> {
        let execution = execution_of(socket);
        drop(socket.serialize_attachment(()));
        // Completes the handshake of a close that the peer began; on one that is over it fails, which is fine.
        drop(socket.close(Some(1000), Some("")));
        let Some(execution) = execution else { return Ok(()) };
        self.turn(Input::IngestClosed { execution, code, reason }).map(drop)
    }
}

/// Sends a round one event per frame, or as arrays where the viewer asked for that.
fn send_round(socket: &WebSocket, frames: &[String], batch: bool) {
    if batch {
        for chunk in frames.chunks(protocol::ingest::FRAME_EVENTS_MAX) {
            send(socket, &format!("[{}]", chunk.join(",")));
        }
    } else {
        for frame in frames {
            send(socket, frame);
        }
    }
}

/// A failed send means that the socket is closing: its close event follows.
fn send(socket: &WebSocket, text: &str) {
    drop(socket.send_with_str(text));
}

fn execution_of(socket: &WebSocket) -> Option<ExecutionId> {
    socket.deserialize_attachment().ok().flatten()
}

fn viewer_of(socket: &WebSocket) -> Option<Viewer> {
    socket.deserialize_attachment().ok().flatten()
}

fn origin_allowed(request: &Request, config: &Config) -> bool {
    let origin = request.headers().get("origin").ok().flatten();
    config.allowed_origins.is_empty() || origin.is_none_or(|origin| config.allowed_origins.contains(&origin))
}
