//! One WebSocket to the session object: a task that opens it, writes what it is given and tells what arrives.
//!
//! Writing and reading do not wait for each other: a peer that does not read can still acknowledge. What waits to be
//! written is bounded by the ingest machine, which counts it until it is told that it was written.

use super::limits;
use futures_util::SinkExt;
use futures_util::StreamExt;
use protocol::sandbox::Secret;
use sandbox_core::ingest::Connection;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Commands of the object are small.
const INCOMING_BYTES_MAX: usize = 64 * 1024;
/// What the transport itself may buffer of a frame.
const WRITE_BUFFER_BYTES: usize = 128 * 1024;
/// A closed connection without a close frame (RFC 6455, 7.1.5).
const ABNORMAL: u16 = 1006;
/// A close frame without a code (RFC 6455, 7.1.5).
const NO_CODE: u16 = 1005;

/// What is to be written.
pub enum Outgoing {
    /// A close frame; nothing is written after it.
    Close {
        /// The close code.
        code: u16,
        /// For a person.
        reason: &'static str,
    },
    /// A text frame.
    Text(String),
}

/// What happened to one connection.
pub struct Note {
    /// Which.
    pub connection: Connection,
    /// What.
    pub what: What,
}

/// What happened.
pub enum What {
    /// It is over.
    Closed {
        /// The close code, 1006 without one.
        code: u16,
    },
    /// It did not open.
    Failed {
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
        /// For the log.
        reason: String,
    },
    /// A text frame arrived.
    Frame(String),
    /// It is open.
    Opened,
    /// A frame of this length was handed to the kernel.
    Written(usize),
}

/// A connection, open or being opened. Dropping it closes it without a word.
pub struct Socket {
    /// Takes what is to be written.
    pub outgoing: mpsc::UnboundedSender<Outgoing>,
    task: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Socket {
    /// Begins to connect.
    pub fn open(connection: Connection, url: &str, secret: &Secret, notes: mpsc::Sender<Note>) -> Self {
        let (outgoing, queue) = mpsc::unbounded_channel();
        let (url, secret) = (url.to_owned(), secret.clone());
        let task = tokio::spawn(async move {
            let notes = Notes { connection, notes };
            match connect(&url, &secret).await {
                Ok(stream) => {
                    notes.tell(What::Opened).await;
                    let code = converse(stream, queue, &notes).await;
                    notes.tell(What::Closed { code }).await;
                }
                Err((status, reason)) => notes.tell(What::Failed { status, reason }).await,
            }
        });
        Self { outgoing, task }
    }
}

struct Notes {
    connection: Connection,
    notes: mpsc::Sender<Note>,
}

impl Notes {
    async fn tell(&self, what: What) {
        // Nobody listens any more: the socket is about to be dropped.
        let _ = self.notes.send(Note { connection: self.connection, what }).await;
    }
}

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(url: &str, secret: &Secret) -> Result<Stream, (Option<u16>, String)> {
    let mut request = url.into_client_request().map_err(|error| (None, error.to_string()))?;
    let bearer = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))
        .map_err(|_| (None, "the ingest secret cannot be a header".to_owned()))?;
    request.headers_mut().insert(AUTHORIZATION, bearer);
    let config = WebSocketConfig::default()
        .max_message_size(Some(INCOMING_BYTES_MAX))
        .max_frame_size(Some(INCOMING_BYTES_MAX))
        .write_buffer_size(WRITE_BUFFER_BYTES);
    let connecting = tokio_tungstenite::connect_async_with_config(request, Some(config), true);
    match tokio::time::timeout(limits::INGEST_CONNECT_TIMEOUT, connecting).await {
        Ok(Ok((stream, _))) => Ok(stream),
        Ok(Err(tungstenite::Error::Http(answer))) => Err((Some(answer.status().as_u16()), answer.status().to_string())),
        Ok(Err(error)) => Err((None, error.to_string())),
        Err(_) => Err((None, "no answer in time".to_owned())),
    }
}

/// Writes and reads until one of both ends. Returns the close code.
async fn converse(stream: Stream, mut queue: mpsc::UnboundedReceiver<Outgoing>, notes: &Notes) -> u16 {
    let (mut sink, mut incoming) = stream.split();
    let writing = async {
        while let Some(outgoing) = queue.recv().await {
            match outgoing {
                Outgoing::Text(text) => {
                    let bytes = text.len();
                    if sink.send(Message::text(text)).await.is_err() {
                        return;
                    }
                    notes.tell(What::Written(bytes)).await;
                }
                Outgoing::Close { code, reason } => {
                    let frame = CloseFrame { code: code.into(), reason: reason.into() };
                    let _ = sink.send(Message::Close(Some(frame))).await;
                    // The answer to it ends the reading side, and if none comes, so does the bound.
                    tokio::time::sleep(limits::SOCKET_CLOSE_TIMEOUT).await;
                    return;
                }
            }
        }
    };
    let reading = async {
        while let Some(message) = incoming.next().await {
            match message {
                Ok(Message::Text(text)) => notes.tell(What::Frame(text.to_string())).await,
                Ok(Message::Close(frame)) => return frame.map_or(NO_CODE, |frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return ABNORMAL,
            }
        }
        ABNORMAL
    };
    tokio::select! {
        () = writing => ABNORMAL,
        code = reading => code,
    }
}
