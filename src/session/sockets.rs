//! The wrapper's socket, and what all sockets of a session share. They are found by tag, so that hibernation loses none.
//!
//! | Tag | Attachment |
//! | --- | --- |
//! | `ingest`, `ingest:<execution>` | the execution |
//! | `stream` | a viewer: `viewers.rs` |

use crate::http;
use crate::session::Shell;
use protocol::id::ExecutionId;
use protocol::ingest::CLOSE_REPLACED;
use protocol::ingest::Command;
use session_core::message::IngestOpen;
use session_core::message::Input;
use session_core::message::Output;
use session_core::message::Proof;
use std::rc::Rc;
use worker::Request;
use worker::Response;
use worker::WebSocket;
use worker::WebSocketPair;

/// The tag of every wrapper's socket.
pub const INGEST: &str = "ingest";

/// Set by the Worker on an ingest request whose bearer was a valid token of the session's user.
pub const USER_TOKEN: &str = "x-holdfast-user-token";

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

    /// Sends to the ingest sockets of an execution.
    pub fn send_to_ingest(&self, execution: &ExecutionId, command: &Command) {
        if let Ok(text) = serde_json::to_string(command) {
            for socket in self.state.get_websockets_with_tag(&format!("{INGEST}:{execution}")) {
                send(&socket, &text);
            }
        }
    }

    /// Ends every socket of a session that is no more. A wrapper is told to end its agent.
    pub fn close_all(&self, reason: &str) {
        for wrapper in self.state.get_websockets_with_tag(INGEST) {
            if let Ok(kill) = serde_json::to_string(&Command::Kill { signal: None }) {
                send(&wrapper, &kill);
            }
        }
        for socket in self.state.get_websockets() {
            drop(socket.serialize_attachment(()));
            drop(socket.close(Some(1000), Some(reason)));
        }
    }

    /// A socket is gone. Its last frames count as its own. It may still be listed while its close is handled: without its attachment it counts no
    /// more.
    pub fn closed(self: &Rc<Self>, socket: &WebSocket, code: u16, reason: String) -> worker::Result<()> {
        self.flush()?;
        let execution = execution_of(socket);
        drop(socket.serialize_attachment(()));
        // Completes the handshake of a close that the peer began; on one that is over it fails, which is fine.
        drop(socket.close(Some(1000), Some("")));
        let Some(execution) = execution else { return Ok(()) };
        // One that could not be noted is found by `Woke`: without it no grace would begin.
        let noted = self.turn(Input::IngestClosed { execution, code, reason }).map(drop);
        noted.inspect_err(|_| self.woken.set(false))
    }
}

/// A failed send means that the socket is closing: its close event follows.
pub fn send(socket: &WebSocket, text: &str) {
    drop(socket.send_with_str(text));
}

/// The execution whose wrapper this socket belongs to; None for a viewer's.
pub fn execution_of(socket: &WebSocket) -> Option<ExecutionId> {
    socket.deserialize_attachment().ok().flatten()
}
