//! The machine itself: its state, what each input and each deadline does, and how it ends.

mod connection;
mod flow;

use super::Connection;
use super::GaveUp;
use super::Input;
use super::Output;
use super::link::Link;
use super::link::Outage;
use super::volatile::VolatileQueue;
use crate::event::Event;
use crate::limits::Limits;
use crate::normalise::Normaliser;
use crate::spool::Spool;
use crate::spool::SpoolWrite;
use protocol::id::ExecutionId;

/// One execution's connection to its object.
pub struct Ingest {
    limits: Limits,
    execution_id: ExecutionId,
    normaliser: Normaliser,
    spool: Spool,
    volatile: VolatileQueue,
    /// The object has said once where its log stands. Before, no number is given: a former process on another disk may have used it.
    numbering: bool,
    /// This is not the execution's first connection: a former one, or a former process, may have left something.
    resuming: bool,
    link: Link,
    connections: u64,
    outage: Option<Outage>,
    /// When the window ends.
    flush_at: Option<i64>,
    finish_by: Option<i64>,
    /// The event that is being read back from the file, and from where.
    reading: Option<(u64, u64)>,
    /// What the former process's file needs first.
    repair: Option<SpoolWrite>,
}

impl Ingest {
    /// A machine that has not begun. `spool_file` is what a former process left (empty: nothing).
    pub fn new(limits: &Limits, execution_id: ExecutionId, spool_file: &[u8]) -> Self {
        let (spool, repair) = Spool::recover(limits, spool_file);
        Self {
            limits: limits.clone(),
            execution_id,
            normaliser: Normaliser::new(limits),
            resuming: spool.len() > 0,
            spool,
            volatile: VolatileQueue::default(),
            numbering: false,
            link: Link::Unopened,
            connections: 0,
            outage: None,
            flush_at: None,
            finish_by: None,
            reading: None,
            repair,
        }
    }

    /// Takes what happened at `now_ms`, returns what to do, in order.
    pub fn receive(&mut self, now_ms: i64, input: Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        match (&self.link, input) {
            // A socket that opens after the end must not stay.
            (Link::Ended, Input::Opened { connection }) => out.push(disconnect(connection, DONE)),
            (Link::Ended, _) => {}
            (_, input) => self.act(now_ms, input, &mut out),
        }
        out
    }

    /// When a `Tick` is due.
    pub fn next_deadline(&self) -> Option<i64> {
        if matches!(self.link, Link::Ended) {
            return None;
        }
        [self.flush_at, self.finish_by, self.link.next_deadline(self.outage.is_some())].into_iter().flatten().min()
    }

    /// Whether events flow now.
    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    /// Numbered events that are not acknowledged.
    pub fn unacked(&self) -> usize {
        self.spool.len()
    }

    /// The number of the socket that is open or being opened.
    #[cfg(test)]
    pub(super) fn current(&self) -> Option<u64> {
        self.link.connection().map(|connection| connection.0)
    }

    fn act(&mut self, now_ms: i64, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Agent(event) => {
                // Only before the first connection can this much wait: afterwards it goes to the spool.
                if self.normaliser.bytes() < self.limits.spool_resident_bytes_max {
                    self.normaliser.push_agent(event);
                } else {
                    self.volatile.note_dropped();
                }
                self.window_grew(now_ms, out);
            }
            Input::Close => self.end(out),
            Input::Closed { connection, .. } => self.on_closed(now_ms, connection, out),
            Input::ConnectFailed { connection, status } => self.on_connect_failed(now_ms, connection, status, out),
            Input::Event(event) => {
                self.normaliser.push(event);
                self.window_grew(now_ms, out);
            }
            Input::Finish => {
                self.finish_by.get_or_insert(now_ms.saturating_add(self.limits.finish_ms_max));
                self.flush(now_ms, out);
            }
            Input::Frame { connection, text } => self.on_frame(now_ms, connection, text, out),
            Input::Open => {
                out.extend(self.repair.take().map(Output::Spool));
                if matches!(self.link, Link::Unopened) {
                    self.connect(now_ms, out);
                }
            }
            Input::Opened { connection } => self.on_opened(now_ms, connection, out),
            Input::SpoolBytes { offset, bytes } => {
                if let Some((seq, _)) = self.reading.take_if(|(_, asked)| *asked == offset) {
                    self.spool.loaded(seq, bytes);
                    self.pump(now_ms, out);
                }
            }
            Input::Spooled { done } => {
                self.spool.spooled(done);
                self.tidy(out);
                let is_due = self.finish_by.is_some() || self.flush_at.is_some_and(|at| at <= now_ms);
                if is_due { self.flush(now_ms, out) } else { self.pump(now_ms, out) }
            }
            Input::Tick => self.tick(now_ms, out),
            Input::Written { connection, bytes } => self.on_written(now_ms, connection, bytes, out),
        }
        self.end_if_drained(out);
    }

    fn tick(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        let due = |at: i64| at <= now_ms;
        if self.finish_by.is_some_and(due) {
            self.end(out);
            return out.push(Output::GaveUp(GaveUp::FinishTimeout));
        }
        if self.flush_at.is_some_and(due) {
            self.flush(now_ms, out);
        }
        match &mut self.link {
            Link::Connecting { connection, give_up_at } | Link::Greeting { connection, give_up_at }
                if due(*give_up_at) =>
            {
                out.push(disconnect(*connection, SILENT));
                self.retry_later(now_ms, out);
            }
            Link::Open(open) if open.ack_by.is_some_and(due) || open.written_by.is_some_and(due) => {
                out.push(disconnect(open.connection, SILENT));
                self.retry_later(now_ms, out);
            }
            Link::Open(open) => {
                if due(open.stable_at) {
                    self.outage = None;
                }
                if due(open.heartbeat_at) {
                    open.heartbeat_at = now_ms.saturating_add(self.limits.heartbeat_ms);
                    self.send_now(now_ms, &Event::heartbeat(self.execution_id.as_str()), out);
                }
            }
            Link::Waiting { retry_at } if due(*retry_at) => self.connect(now_ms, out),
            _ => {}
        }
    }

    fn end_if_drained(&mut self, out: &mut Vec<Output>) {
        let is_over = matches!(self.link, Link::Ended);
        if is_over || self.finish_by.is_none() || self.normaliser.bytes() > 0 || self.spool.len() > 0 {
            return;
        }
        self.end(out);
        out.push(Output::Spool(SpoolWrite::Remove));
        out.push(Output::Drained);
    }

    fn end(&mut self, out: &mut Vec<Output>) {
        out.extend(self.link.connection().map(|connection| disconnect(connection, DONE)));
        self.link = Link::Ended;
    }
}

/// The normal end.
const DONE: (u16, &str) = (1000, "done");
/// A socket that does not do its part.
const SILENT: (u16, &str) = (4000, "timeout");

fn disconnect(connection: Connection, (code, reason): (u16, &'static str)) -> Output {
    Output::Disconnect { connection, code, reason }
}
