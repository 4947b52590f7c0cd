//! The machine itself: what each input does, and how events move from the window to the socket.

use super::Connection;
use super::GaveUp;
use super::Input;
use super::Output;
use super::batch::Batch;
use super::link::Link;
use super::link::Open;
use super::link::Outage;
use super::volatile::VolatileQueue;
use crate::event::Event;
use crate::limits::Limits;
use crate::normalise::Normaliser;
use crate::spool::Next;
use crate::spool::Spool;
use crate::spool::SpoolWrite;
use crate::spool::wire;
use protocol::id::ExecutionId;
use protocol::ingest::Command;

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

    fn window_grew(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        if !self.numbering || self.normaliser.bytes() == 0 {
            return;
        }
        self.flush_at.get_or_insert(now_ms.saturating_add(self.limits.batch_ms));
        if self.normaliser.bytes() >= self.limits.batch_bytes_max {
            self.flush(now_ms, out);
        }
    }

    fn connect(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        self.connections = self.connections.saturating_add(1);
        let connection = Connection(self.connections);
        self.link = Link::Connecting { connection, give_up_at: now_ms.saturating_add(self.limits.greeting_ms_max) };
        out.push(Output::Connect { connection });
    }

    fn on_opened(&mut self, now_ms: i64, opened: Connection, out: &mut Vec<Output>) {
        match self.link {
            Link::Connecting { connection, .. } if connection == opened => {
                let give_up_at = now_ms.saturating_add(self.limits.greeting_ms_max);
                self.link = Link::Greeting { connection, give_up_at };
            }
            _ if self.link.connection() == Some(opened) => {}
            _ => out.push(disconnect(opened, DONE)),
        }
    }

    fn on_closed(&mut self, now_ms: i64, closed: Connection, out: &mut Vec<Output>) {
        if self.link.connection() == Some(closed) {
            self.retry_later(now_ms, out);
        }
    }

    fn on_connect_failed(&mut self, now_ms: i64, failed: Connection, status: Option<u16>, out: &mut Vec<Output>) {
        if self.link.connection() != Some(failed) {
            return;
        }
        match status {
            Some(status @ (404 | 409)) => {
                self.link = Link::Ended;
                out.push(Output::Spool(SpoolWrite::Remove));
                out.push(Output::GaveUp(GaveUp::Fenced { status }));
            }
            _ => self.retry_later(now_ms, out),
        }
    }

    fn on_frame(&mut self, now_ms: i64, from: Connection, text: &str, out: &mut Vec<Output>) {
        if self.link.connection() != Some(from) {
            return;
        }
        // What cannot be parsed is from an object of another version: not for us.
        let Ok(command) = serde_json::from_str::<Command>(text) else { return };
        match command {
            Command::Ack { seq } => self.on_ack(now_ms, seq, out),
            Command::Error { .. } => {}
            Command::Kill { .. } | Command::RequestSnapshot => out.push(Output::Deliver(command)),
            Command::Ping => self.send_now(now_ms, &Event::pong(self.execution_id.as_str()), out),
            Command::Resume { last_seq } => {
                if let Link::Greeting { connection, .. } = self.link {
                    self.on_resume(now_ms, connection, last_seq, out);
                }
            }
        }
    }

    fn on_resume(&mut self, now_ms: i64, connection: Connection, last_seq: u64, out: &mut Vec<Output>) {
        self.spool.acknowledged(last_seq);
        self.numbering = true;
        self.link = Link::Open(Open {
            connection,
            cursor: last_seq,
            unwritten: 0,
            heartbeat_at: now_ms.saturating_add(self.limits.heartbeat_ms),
            stable_at: now_ms.saturating_add(self.limits.reconnect_stable_ms),
            ack_by: None,
            written_by: None,
        });
        out.push(Output::Ready { connection });
        self.store_window(now_ms, out);
        let waiting = self.spool.len().saturating_add(self.volatile.len());
        if self.resuming {
            let lost = self.spool.take_lost() | self.volatile.take_dropped();
            if waiting > 0 || lost {
                self.volatile.push_front(wire(now_ms, None, &Event::wrapper_resumed(waiting, lost)));
            }
        }
        self.resuming = true;
        self.pump(now_ms, out);
    }

    fn on_ack(&mut self, now_ms: i64, seq: u64, out: &mut Vec<Output>) {
        let Link::Open(open) = &mut self.link else { return };
        let seq = seq.min(open.cursor);
        self.spool.acknowledged(seq);
        self.outage = None;
        let is_due = self.spool.first_seq().is_some_and(|first| first <= open.cursor);
        open.ack_by = is_due.then(|| now_ms.saturating_add(self.limits.ack_ms_max));
        self.tidy(out);
    }

    fn on_written(&mut self, now_ms: i64, by: Connection, bytes: usize, out: &mut Vec<Output>) {
        let Link::Open(open) = &mut self.link else { return };
        if open.connection != by {
            return;
        }
        open.unwritten = open.unwritten.saturating_sub(bytes);
        open.written_by = (open.unwritten > 0).then(|| now_ms.saturating_add(self.limits.ack_ms_max));
        self.pump(now_ms, out);
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

    /// Ends the window and sends what can be sent.
    fn flush(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        self.store_window(now_ms, out);
        self.pump(now_ms, out);
    }

    /// Moves the window's events to where they wait: stored ones into the spool, volatile ones into memory.
    fn store_window(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        if !self.numbering || self.spool.is_writing() {
            return;
        }
        self.flush_at = None;
        let window = self.normaliser.bytes();
        // Heads and numbers are as long as what the window counts for each event besides its data, and half of that again.
        self.spool.reserve(window.saturating_add(window / 4));
        for event in self.normaliser.drain() {
            if event.class().is_stored() {
                self.spool.append(now_ms, &event);
            } else {
                self.volatile.push(self.spool.last_seq(), wire(now_ms, None, &event));
            }
        }
        match self.spool.write() {
            Some(write) => out.push(Output::Spool(write)),
            None => self.tidy(out),
        }
    }

    /// Sends what there is, in order, as far as the writer has room; then bounds what has to wait.
    fn pump(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        if let Link::Open(open) = &mut self.link
            && !self.spool.is_writing()
        {
            let mut batch = Batch::new(&self.limits);
            let mut read = None;
            while open.unwritten.saturating_add(batch.bytes()) < self.limits.send_bytes_max {
                let full = if let Some(text) = self.volatile.pop(open.cursor) {
                    batch.push(&text)
                } else {
                    match self.spool.next(open.cursor) {
                        None => break,
                        Some(Next::Event { seq, body }) => {
                            open.cursor = seq;
                            open.ack_by.get_or_insert(now_ms.saturating_add(self.limits.ack_ms_max));
                            let full = batch.push(body);
                            self.spool.sent(seq);
                            full
                        }
                        Some(Next::Lost { from, to }) => {
                            open.cursor = to;
                            batch.push(&wire(now_ms, Some(to), &Event::events_lost(from, to)))
                        }
                        Some(Next::Read { seq, offset, bytes }) => {
                            if self.reading.is_none() {
                                self.reading = Some((seq, offset));
                                read = Some(Output::ReadSpool { offset, bytes });
                            }
                            break;
                        }
                    }
                };
                out.extend(full.map(|frame| open.send(&self.limits, now_ms, frame)));
            }
            out.extend(batch.take().map(|frame| open.send(&self.limits, now_ms, frame)));
            out.extend(read);
        }
        self.volatile.bound(&self.limits, self.spool.is_pressed());
    }

    /// Sends one event past everything that waits: a sign of life must not.
    fn send_now(&mut self, now_ms: i64, event: &Event, out: &mut Vec<Output>) {
        if let Link::Open(open) = &mut self.link {
            out.push(open.send(&self.limits, now_ms, wire(now_ms, None, event)));
        }
    }

    fn tidy(&mut self, out: &mut Vec<Output>) {
        // The range that is being read must stay where it is.
        if self.reading.is_none() {
            out.extend(self.spool.tidy().map(Output::Spool));
        }
    }

    fn retry_later(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        let outage = self.outage.get_or_insert(Outage::begin(now_ms));
        match outage.next_attempt(&self.limits, now_ms) {
            Some(at_ms) => {
                out.push(Output::Reconnecting { attempt: outage.attempts, at_ms });
                self.link = Link::Waiting { retry_at: at_ms };
            }
            None => {
                self.link = Link::Ended;
                out.push(Output::GaveUp(GaveUp::Unreachable));
            }
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

impl Open {
    fn send(&mut self, limits: &Limits, now_ms: i64, frame: String) -> Output {
        self.unwritten = self.unwritten.saturating_add(frame.len());
        self.written_by.get_or_insert(now_ms.saturating_add(limits.ack_ms_max));
        Output::Send { connection: self.connection, frame }
    }
}

/// The normal end.
const DONE: (u16, &str) = (1000, "done");
/// A socket that does not do its part.
const SILENT: (u16, &str) = (4000, "timeout");

fn disconnect(connection: Connection, (code, reason): (u16, &'static str)) -> Output {
    Output::Disconnect { connection, code, reason }
}
