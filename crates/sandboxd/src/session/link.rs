//! One execution's connection to its object: the ingest machine with its socket, its spool file and its credentials.
//!
//! The credentials are kept beside the spool (mode 0600) until the execution is over, so that a restarted process can
//! still deliver what this one could not.

use super::limits;
use super::paths::SessionPaths;
use super::socket;
use super::socket::Note;
use super::socket::Outgoing;
use super::socket::Socket;
use super::socket::What;
use super::spool_file;
use super::spool_file::SpoolFile;
use crate::clock::now_ms;
use crate::log;
use protocol::id::ExecutionId;
use protocol::ingest::Command;
use protocol::sandbox::Secret;
use sandbox_core::ingest::Connection;
use sandbox_core::ingest::GaveUp;
use sandbox_core::ingest::Ingest;
use sandbox_core::ingest::Input;
use sandbox_core::ingest::Output;
use sandbox_core::limits::Limits;
use sandbox_core::spool::SpoolWrite;
use serde::Deserialize;
use serde::Serialize;
use serde_json::json;
use std::collections::VecDeque;
use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// Where an address is written before it takes its place: not a name that [`Address::left_behind`] looks for.
fn fresh(paths: &SessionPaths, execution: &ExecutionId) -> PathBuf {
    paths.own.join(format!("fresh-{execution}"))
}

/// How to reach the object of one execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The ingest WebSocket.
    pub url: String,
    /// Its bearer.
    pub secret: Secret,
    /// The execution's last word is in the spool.
    pub over: bool,
}

impl Address {
    /// Keeps the address for a process that comes after this one. Whenever this one ends, the address is there as it was before or as it is now.
    fn save(&self, paths: &SessionPaths) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let fresh = fresh(paths, &self.execution_id);
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?.write_all(&text)?;
        fs::rename(fresh, paths.address(&self.execution_id))
    }

    /// The same. Without it only a restart of this process could not be made good.
    pub fn save_or_log(&self, paths: &SessionPaths) {
        if let Err(error) = self.save(paths) {
            let fields = json!({ "executionId": self.execution_id, "error": error.to_string() });
            log::error("session", "address_not_saved", fields);
        }
    }

    /// The execution is over. Unless something is undelivered that the next process could deliver, nobody needs the address
    /// or the spool any more.
    pub fn settle(paths: &SessionPaths, execution: &ExecutionId, undelivered: Option<GaveUp>) {
        if let Some(why @ (GaveUp::FinishTimeout | GaveUp::Unreachable)) = undelivered {
            log::warn("session", "undelivered", json!({ "executionId": execution, "reason": why.reason() }));
            return;
        }
        let files = [paths.address(execution), fresh(paths, execution)].map(fs::remove_file);
        for removed in files.into_iter().chain([spool_file::remove(&paths.spool(execution))]) {
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn("session", "cleanup_failed", json!({ "executionId": execution, "error": error.to_string() }));
            }
        }
    }

    /// What a former process left in this home.
    pub fn left_behind(paths: &SessionPaths) -> Vec<Self> {
        let entries = fs::read_dir(&paths.own).into_iter().flatten().flatten();
        let addresses = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("address-"));
        addresses.filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()).collect()
    }
}

/// What the execution has to know.
#[derive(Debug)]
pub enum News {
    /// A command of the object.
    Command(Command),
    /// Everything is acknowledged. The last news.
    Drained,
    /// Not everything could be delivered. The last news.
    GaveUp(GaveUp),
    /// Events flow.
    Ready,
}

/// The connection.
pub struct Link {
    ingest: Ingest,
    address: Address,
    spool: SpoolFile,
    socket: Option<(Connection, Socket)>,
    notes: mpsc::Receiver<Note>,
    notes_of_sockets: mpsc::Sender<Note>,
}

impl Link {
    /// A connection that has not begun, with what a former process left in the spool.
    pub fn new(limits: &Limits, address: Address, spool: PathBuf) -> Self {
        let spool = SpoolFile::new(spool);
        let ingest = Ingest::new(limits, address.execution_id.clone(), &spool.read_all());
        let (notes_of_sockets, notes) = mpsc::channel(limits::NOTES_MAX);
        Self { ingest, address, spool, socket: None, notes, notes_of_sockets }
    }

    /// Nothing more will be said: ends when all is acknowledged.
    pub fn say_no_more(&mut self, paths: &SessionPaths) -> Vec<News> {
        let news = self.receive(Input::Finish);
        self.address.over = true;
        self.address.save_or_log(paths);
        news
    }

    /// Goes on by itself until everything is acknowledged, which the machine bounds. Returns why it was not.
    pub async fn drain(mut self, mut news: Vec<News>) -> Option<GaveUp> {
        loop {
            for item in news.drain(..) {
                match item {
                    News::Drained => {
                        self.finish().await;
                        return None;
                    }
                    News::GaveUp(why) => return Some(why),
                    News::Command(_) | News::Ready => {}
                }
            }
            let wait_ms = self.next_deadline().map_or(i64::MAX, |at| at.saturating_sub(now_ms()).max(0));
            let tick = tokio::time::sleep(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(u64::MAX)));
            news = tokio::select! {
                Some(note) = self.note() => self.receive_note(&note),
                () = tick => self.receive(Input::Tick),
            };
        }
    }

    /// When a `Tick` is due, in milliseconds since 1970.
    pub fn next_deadline(&self) -> Option<i64> {
        self.ingest.next_deadline()
    }

    /// The next thing that a socket has to say. May be cancelled.
    pub async fn note(&mut self) -> Option<Note> {
        self.notes.recv().await
    }

    /// Takes what a socket said.
    pub fn receive_note(&mut self, note: &Note) -> Vec<News> {
        let connection = note.connection;
        match &note.what {
            What::Closed { code } => self.receive(Input::Closed { connection, code: *code }),
            What::Failed { status, reason } => {
                log::warn(
                    "session",
                    "ingest_connect_failed",
                    json!({ "executionId": self.address.execution_id, "status": status, "error": reason }),
                );
                self.receive(Input::ConnectFailed { connection, status: *status })
            }
            What::Frame(text) => self.receive(Input::Frame { connection, text }),
            What::Opened => self.receive(Input::Opened { connection }),
            What::Written(bytes) => self.receive(Input::Written { connection, bytes: *bytes }),
        }
    }

    /// Takes an input, does what the machine says, in its order, and returns what others have to know.
    pub fn receive(&mut self, input: Input<'_>) -> Vec<News> {
        let mut news = Vec::new();
        let mut outputs = VecDeque::from(self.ingest.receive(now_ms(), input));
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Connect { connection } => {
                    let notes = self.notes_of_sockets.clone();
                    let socket = Socket::open(connection, &self.address.url, &self.address.secret, notes);
                    self.socket = Some((connection, socket));
                }
                Output::Deliver(command) => news.push(News::Command(command)),
                Output::Disconnect { connection, code, reason } => {
                    self.to_socket(connection, Outgoing::Close { code, reason });
                }
                Output::Drained => news.push(News::Drained),
                Output::GaveUp(why) => news.push(News::GaveUp(why)),
                Output::ReadSpool { offset, bytes } => {
                    let bytes = self.spool.read(offset, bytes);
                    outputs.extend(self.ingest.receive(now_ms(), Input::SpoolBytes { offset, bytes: &bytes }));
                }
                Output::Ready { connection } => {
                    let execution = &self.address.execution_id;
                    log::info(
                        "session",
                        "ingest_ready",
                        json!({ "executionId": execution, "connection": connection.0 }),
                    );
                    news.push(News::Ready);
                }
                Output::Reconnecting { attempt, .. } => log::warn(
                    "session",
                    "ingest_reconnecting",
                    json!({ "executionId": self.address.execution_id, "attempt": attempt }),
                ),
                Output::Send { connection, frame } => self.to_socket(connection, Outgoing::Text(frame)),
                Output::Spool(write) => {
                    let is_awaited = matches!(write, SpoolWrite::Append { .. } | SpoolWrite::Rewrite { .. });
                    let done = self.spool.write(write);
                    if is_awaited {
                        outputs.extend(self.ingest.receive(now_ms(), Input::Spooled { done }));
                    }
                }
            }
        }
        news
    }

    /// Lets the last close frame leave, then drops the socket.
    pub async fn finish(mut self) {
        let closed = async {
            while let Some(note) = self.notes.recv().await {
                if matches!(note.what, socket::What::Closed { .. } | socket::What::Failed { .. }) {
                    return;
                }
            }
        };
        if self.socket.is_some() {
            let _ = tokio::time::timeout(limits::SOCKET_CLOSE_TIMEOUT, closed).await;
        }
    }

    fn to_socket(&self, connection: Connection, outgoing: Outgoing) {
        if let Some((current, socket)) = &self.socket
            && *current == connection
        {
            // A socket that has ended says so by its last note.
            let _ = socket.outgoing.send(outgoing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::SessionId;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_address_that_cannot_be_written_anew_stays_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let session = SessionId::parse("agent_01234567-89ab-cdef-0123-456789abcdef").unwrap();
        let paths = SessionPaths::new(root.path(), &session);
        paths.create().unwrap();
        let address = Address {
            execution_id: ExecutionId::parse("exc_00000000000000000000000001").unwrap(),
            url: "ws://127.0.0.1:1/ingest".to_owned(),
            secret: serde_json::from_str(r#""s""#).unwrap(),
            over: false,
        };
        address.save(&paths).unwrap();
        let mode = fs::metadata(paths.address(&address.execution_id)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        // A disk that is full at this moment, in effect: what is written to is not what is read.
        let fresh = fresh(&paths, &address.execution_id);
        fs::create_dir(&fresh).unwrap();
        let over = Address { over: true, ..address.clone() };
        assert!(over.save(&paths).is_err());
        assert_eq!(Address::left_behind(&paths), [address]);

        fs::remove_dir(&fresh).unwrap();
        over.save(&paths).unwrap();
        assert_eq!(Address::left_behind(&paths), [over]);
        assert!(!fresh.exists());
    }
}
