//! How events move: from the window into the spool or the volatile queue, and from there to the socket.

use super::Ingest;
use crate::event::Event;
use crate::ingest::Connection;
use crate::ingest::Output;
use crate::ingest::batch::Batch;
use crate::ingest::link::Link;
use crate::ingest::link::Open;
use crate::limits::Limits;
use crate::spool::Next;
use crate::spool::wire;

impl Ingest {
    pub(super) fn window_grew(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        if !self.numbering || self.normaliser.bytes() == 0 {
            return;
        }
        self.flush_at.get_or_insert(now_ms.saturating_add(self.limits.batch_ms));
        if self.normaliser.bytes() >= self.limits.batch_bytes_max {
            self.flush(now_ms, out);
        }
    }

    /// Ends the window and sends what can be sent.
    pub(super) fn flush(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        self.store_window(now_ms, out);
        self.pump(now_ms, out);
    }

    /// Moves the window's events to where they wait: stored ones into the spool, volatile ones into memory.
    pub(super) fn store_window(&mut self, now_ms: i64, out: &mut Vec<Output>) {
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
    pub(super) fn pump(&mut self, now_ms: i64, out: &mut Vec<Output>) {
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
    pub(super) fn send_now(&mut self, now_ms: i64, event: &Event, out: &mut Vec<Output>) {
        if let Link::Open(open) = &mut self.link {
            out.push(open.send(&self.limits, now_ms, wire(now_ms, None, event)));
        }
    }

    pub(super) fn on_ack(&mut self, now_ms: i64, seq: u64, out: &mut Vec<Output>) {
        let Link::Open(open) = &mut self.link else { return };
        let seq = seq.min(open.cursor);
        self.spool.acknowledged(seq);
        self.outage = None;
        let is_due = self.spool.first_seq().is_some_and(|first| first <= open.cursor);
        open.ack_by = is_due.then(|| now_ms.saturating_add(self.limits.ack_ms_max));
        self.tidy(out);
    }

    pub(super) fn on_written(&mut self, now_ms: i64, by: Connection, bytes: usize, out: &mut Vec<Output>) {
        let Link::Open(open) = &mut self.link else { return };
        if open.connection != by {
            return;
        }
        open.unwritten = open.unwritten.saturating_sub(bytes);
        open.written_by = (open.unwritten > 0).then(|| now_ms.saturating_add(self.limits.ack_ms_max));
        self.pump(now_ms, out);
    }

    pub(super) fn tidy(&mut self, out: &mut Vec<Output>) {
        // The range that is being read must stay where it is.
        if self.reading.is_none() {
            out.extend(self.spool.tidy().map(Output::Spool));
        }
    }
}

impl Open {
    fn send(&mut self, limits: &Limits, now_ms: i64, frame: String) -> Output {
        self.unwritten = self.unwritten.saturating_add(frame.len());
        self.written_by.get_or_insert(now_ms.saturating_add(limits.ack_ms_max));
        Output::Send { connection: self.connection, frame }
    }
}
