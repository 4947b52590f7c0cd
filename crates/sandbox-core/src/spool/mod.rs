//! Numbered events until they are acknowledged: in memory as far as there is room, and in a file that outlives the process
//! (design 3).
//!
//! * Numbers are given here, from 1, and only to stored events.
//! * A record is in the file before it is sent, so the object never knows a number that a restarted process would give again.
//! * What is held has ascending numbers. A gap between them is what had to be given up; it is announced by one `events_lost` in
//!   its place, at the time of sending. So "which range is lost" has one source: the numbers that are there.
//! * Over [`Limits::spool_bytes_max`] the oldest events are given up, lifecycle events and the newest never.

mod record;
#[cfg(test)]
mod tests;

use crate::event::Event;
use crate::limits::Limits;
use protocol::ingest::IngestEvent;
use protocol::time::iso8601;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

/// How much is read back from the file at a time.
const READ_BYTES: u64 = 256 * 1024;

/// What is to be done to the spool's file, in order. The file is the shell's; its contents are this module's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolWrite {
    /// Write at the end of the file (create it if there is none). Before any later `Send`.
    Append(Vec<u8>),
    /// Delete the file, if there is one: nothing in it is needed any more.
    Remove,
    /// Replace the file by these ranges of its present bytes, one after the other (a new file, renamed over the old one).
    Rewrite {
        /// Ascending, not empty.
        keep: Vec<Range<u64>>,
    },
    /// Cut the file to this length.
    Truncate(u64),
}

/// What is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// The event `seq`, as it travels.
    Event { seq: u64, body: &'a str },
    /// The events `from` to `to` are lost.
    Lost { from: u64, to: u64 },
    /// The next event is in the file only: read this range and call [`Spool::loaded`].
    Read { seq: u64, offset: u64, bytes: usize },
}

/// One event that is not acknowledged.
#[derive(Debug)]
struct Held {
    seq: u64,
    lifecycle: bool,
    /// Of its record, in the file.
    offset: u64,
    record_bytes: u64,
    /// The event as it travels; `None`: in the file only.
    body: Option<Box<str>>,
}

/// The events of one execution that are not acknowledged.
#[derive(Debug)]
pub(crate) struct Spool {
    spool_bytes_max: u64,
    resident_bytes_max: usize,
    slack_bytes: u64,
    held: VecDeque<Held>,
    last_seq: u64,
    /// Length of the file.
    file_bytes: u64,
    /// Of it, records that are held.
    held_bytes: u64,
    /// Bodies in memory.
    resident_bytes: usize,
    /// Something was given up since [`Spool::take_lost`].
    lost: bool,
}

impl Spool {
    /// What a former process left in `file` (empty: nothing), and what to do to the file before it can be used.
    pub(crate) fn recover(limits: &Limits, file: &[u8]) -> (Self, Option<SpoolWrite>) {
        let mut spool = Self {
            spool_bytes_max: u64::try_from(limits.spool_bytes_max).unwrap_or(u64::MAX),
            resident_bytes_max: limits.spool_resident_bytes_max,
            slack_bytes: limits.spool_slack_bytes,
            held: VecDeque::new(),
            last_seq: 0,
            file_bytes: 0,
            held_bytes: 0,
            resident_bytes: 0,
            lost: false,
        };
        for record in record::decode(file) {
            // Numbers ascend: anything else was not written by this module.
            if record.seq <= spool.last_seq {
                break;
            }
            spool.hold(record.seq, record.lifecycle, record.bytes, record.body.into());
        }
        let torn = u64::try_from(file.len()).is_ok_and(|bytes| bytes > spool.file_bytes);
        let write = torn.then_some(SpoolWrite::Truncate(spool.file_bytes));
        (spool, write)
    }

    /// Numbers an event and adds its record to `file_end`, which is to be appended to the file.
    pub(crate) fn append(&mut self, now_ms: i64, event: &Event, file_end: &mut Vec<u8>) {
        let seq = self.last_seq.saturating_add(1);
        let lifecycle = event.is_lifecycle();
        let body = wire(now_ms, Some(seq), event);
        let record_bytes = record::encode(file_end, seq, lifecycle, &body);
        self.hold(seq, lifecycle, record_bytes, body.into());
        self.give_up_oldest();
    }

    /// The next event after number `cursor`; `None` if there is none yet.
    pub(crate) fn next(&self, cursor: u64) -> Option<Next<'_>> {
        let index = self.held.partition_point(|held| held.seq <= cursor);
        let held = self.held.get(index)?;
        let from = cursor.saturating_add(1);
        if held.seq > from {
            return Some(Next::Lost { from, to: held.seq.saturating_sub(1) });
        }
        Some(match &held.body {
            Some(body) => Next::Event { seq: held.seq, body },
            None => {
                let bytes = READ_BYTES.max(held.record_bytes).min(self.file_bytes.saturating_sub(held.offset));
                Next::Read { seq: held.seq, offset: held.offset, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) }
            }
        })
    }

    /// Bytes that were read from where the record of `seq` begins. If that record is not among them, it is lost.
    pub(crate) fn loaded(&mut self, seq: u64, bytes: &[u8]) {
        for record in record::decode(bytes) {
            let Ok(index) = self.held.binary_search_by_key(&record.seq, |held| held.seq) else { continue };
            if let Some(held) = self.held.get_mut(index)
                && held.body.is_none()
            {
                held.body = Some(record.body.into());
                self.resident_bytes = self.resident_bytes.saturating_add(record.body.len());
            }
        }
        if let Ok(index) = self.held.binary_search_by_key(&seq, |held| held.seq)
            && self.held.get(index).is_some_and(|held| held.body.is_none())
        {
            self.forget(index);
            self.lost = true;
        }
    }

    /// The event was handed to the socket: where memory is short, its body is now in the file only.
    pub(crate) fn sent(&mut self, seq: u64) {
        if self.resident_bytes <= self.resident_bytes_max {
            return;
        }
        if let Ok(index) = self.held.binary_search_by_key(&seq, |held| held.seq)
            && let Some(held) = self.held.get_mut(index)
            && let Some(body) = held.body.take()
        {
            self.resident_bytes = self.resident_bytes.saturating_sub(body.len());
        }
    }

    /// The object has everything up to `seq`. New events are numbered after it, also if this spool never knew it.
    pub(crate) fn acknowledged(&mut self, seq: u64) {
        while self.held.front().is_some_and(|held| held.seq <= seq) {
            self.forget(0);
        }
        self.last_seq = self.last_seq.max(seq);
    }

    /// What to do to the file so that it does not keep growing. Not between a [`Next::Read`] and its [`Spool::loaded`]: offsets change.
    pub(crate) fn tidy(&mut self) -> Option<SpoolWrite> {
        let dead = self.file_bytes.saturating_sub(self.held_bytes);
        if dead <= self.slack_bytes.max(self.held_bytes / 2) {
            return None;
        }
        let mut keep: Vec<Range<u64>> = Vec::new();
        let mut offset = 0_u64;
        for held in &mut self.held {
            let end = held.offset.saturating_add(held.record_bytes);
            match keep.last_mut() {
                Some(last) if last.end == held.offset => last.end = end,
                _ => keep.push(held.offset..end),
            }
            held.offset = offset;
            offset = offset.saturating_add(held.record_bytes);
        }
        self.file_bytes = offset;
        Some(if keep.is_empty() { SpoolWrite::Truncate(0) } else { SpoolWrite::Rewrite { keep } })
    }

    /// The oldest number that is not acknowledged.
    pub(crate) fn first_seq(&self) -> Option<u64> {
        self.held.front().map(|held| held.seq)
    }

    /// The number given last.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// How many events are not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether room is so short that nothing may be kept that need not be.
    pub(crate) fn is_pressed(&self) -> bool {
        self.held_bytes > self.spool_bytes_max / 2
    }

    /// Whether something was given up since the last call.
    pub(crate) fn take_lost(&mut self) -> bool {
        mem::take(&mut self.lost)
    }

    /// Adds the event whose record begins at the end of the file.
    fn hold(&mut self, seq: u64, lifecycle: bool, record_bytes: usize, body: Box<str>) {
        let record_bytes = u64::try_from(record_bytes).unwrap_or(u64::MAX);
        // Those in front are needed first, so it is the newcomer that stays on disk.
        let has_room = self.resident_bytes.saturating_add(body.len()) <= self.resident_bytes_max;
        if has_room {
            self.resident_bytes = self.resident_bytes.saturating_add(body.len());
        }
        let body = has_room.then_some(body);
        self.held.push_back(Held { seq, lifecycle, offset: self.file_bytes, record_bytes, body });
        self.last_seq = seq;
        self.file_bytes = self.file_bytes.saturating_add(record_bytes);
        self.held_bytes = self.held_bytes.saturating_add(record_bytes);
    }

    fn give_up_oldest(&mut self) {
        while self.held_bytes > self.spool_bytes_max {
            let newest = self.held.len().saturating_sub(1);
            let Some(oldest) = self.held.iter().take(newest).position(|held| !held.lifecycle) else { break };
            self.forget(oldest);
            self.lost = true;
        }
    }

    fn forget(&mut self, index: usize) {
        let Some(held) = self.held.remove(index) else { return };
        self.held_bytes = self.held_bytes.saturating_sub(held.record_bytes);
        self.resident_bytes = self.resident_bytes.saturating_sub(held.body.map_or(0, |body| body.len()));
    }
}

/// An event as it travels.
pub(crate) fn wire(now_ms: i64, seq: Option<u64>, event: &Event) -> String {
    let event = IngestEvent {
        stream_event_type: Cow::Borrowed(event.kind()),
        timestamp: Some(Cow::Owned(iso8601(now_ms))),
        seq,
        data: Some(event.data()),
    };
    // Strings, numbers and raw JSON always serialise.
    serde_json::to_string(&event).unwrap_or_default()
}
