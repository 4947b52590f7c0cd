//! The connection to the session object: numbers events, sends them in frames, reconnects, and resumes where the object's log stands
//! (spec/session.md 8.6, design 3).
//!
//! Events pass three places, in one order: the *window* of [`crate::normalise::Normaliser`] (50 ms or 64 KB), then the spool ([`crate::spool`]) for those that are
//! stored and a bounded queue for the volatile, then the socket, as fast as its writer reports. A connection is nothing but a cursor into
//! the spool; so resending after a reconnect and sending for the first time are the same code.
//!
//! * Nothing is numbered before the object has said once where its log stands, and nothing numbered is sent on a connection before it
//!   has said so there.
//! * What an older connection reports late is ignored, by its number.
//! * Every state but the end has a deadline: an attempt, a socket, an acknowledgement, an outage, the drain.

mod batch;
mod link;
mod machine;
#[cfg(test)]
mod tests;
mod volatile;

use crate::agent::AgentEvent;
use crate::event::Event;
use crate::spool::SpoolWrite;
pub use machine::Ingest;
use protocol::ingest::Command;

/// Numbers the connections of one machine, from 1. What comes late from an older one is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(pub u64);

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// An event of the agent server.
    Agent(&'a AgentEvent<'a>),
    /// End now: nothing more is sent, nothing reconnects. The spool stays as it is.
    Close,
    /// The socket is closed, by whomever.
    Closed {
        connection: Connection,
        /// The close code; 1006 if there was none.
        code: u16,
    },
    /// The socket did not open. `status` is the HTTP status if there was an answer that was not 101.
    ConnectFailed { connection: Connection, status: Option<u16> },
    /// An event of our own.
    Event(Event),
    /// No more events will come: end when all stored ones are acknowledged.
    Finish,
    /// A text frame arrived.
    Frame { connection: Connection, text: &'a str },
    /// Begin to connect.
    Open,
    /// The socket is open (101).
    Opened { connection: Connection },
    /// The answer to [`Output::ReadSpool`]: those bytes of the file; shorter or empty if they could not be read.
    SpoolBytes { offset: u64, bytes: &'a [u8] },
    /// The answer to [`Output::Spool`] with an `Append` or a `Rewrite`: whether the file is now as asked for. If not, it must be as it
    /// was, but for bytes behind what counts.
    Spooled { done: bool },
    /// A deadline may have come.
    Tick,
    /// A frame of `bytes` bytes was written to the socket (handed to the kernel).
    Written { connection: Connection, bytes: usize },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a WebSocket to the object, at most 10 s; answer with `Opened` or `ConnectFailed`.
    Connect { connection: Connection },
    /// A command for the job: `Kill` or `RequestSnapshot`.
    Deliver(Command),
    /// Close that socket.
    Disconnect { connection: Connection, code: u16, reason: &'static str },
    /// `Finish` is done: everything stored is acknowledged and the socket is being closed. The last output.
    Drained,
    /// The machine has ended without having delivered everything. The last output.
    GaveUp(GaveUp),
    /// The object has said where its log stands: events flow. Once per connection.
    Ready { connection: Connection },
    /// Read that range of the spool's file; answer with `SpoolBytes`.
    ReadSpool { offset: u64, bytes: usize },
    /// The connection was lost; attempt `attempt` of this outage will follow at `at_ms`. For the log.
    Reconnecting { attempt: u32, at_ms: i64 },
    /// Write this text frame to the socket; report `Written`.
    Send { connection: Connection, frame: String },
    /// Change the spool's file; answer an `Append` and a `Rewrite` with `Spooled`.
    Spool(SpoolWrite),
}

/// Why the machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// The object does not want this execution's events any more (HTTP 404 or 409). The spool was removed; the agent has to stop.
    Fenced {
        /// The HTTP status.
        status: u16,
    },
    /// `Finish` took longer than allowed.
    FinishTimeout,
    /// The object could not be reached for as long as an outage may last. The spool stays on disk.
    Unreachable,
}

impl GaveUp {
    /// For the log and the job's last error.
    pub fn reason(self) -> &'static str {
        match self {
            GaveUp::Fenced { .. } => "the session object refuses this execution",
            GaveUp::FinishTimeout => "the last events were not acknowledged in time",
            GaveUp::Unreachable => "ingest websocket closed (reconnection failed)",
        }
    }
}
