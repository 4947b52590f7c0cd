//! Numbered events until they are acknowledged: in memory as far as there is room, and in a file that outlives the process
//! (design 3).
//!
//! * Numbers are given here, from 1, and only to stored events.
//! * A record is in the file before it is sent. What the file did not take (a full disk) stays in memory, where there is less
//!   room, and is sent all the same: then only the death of this process could lose it, and the object's own number is the
//!   truth after that.
//! * What is held has ascending numbers. A gap between them is what had to be given up; it is announced by one `events_lost` in
//!   its place, at the time of sending. So "which range is lost" has one source: the numbers that are there.
//! * Over [`Limits::spool_bytes_max`] the oldest events are given up, lifecycle events and the newest never.

mod file;
mod record;
#[cfg(test)]
mod tests;

use crate::event::Event;
use crate::limits::Limits;
pub use file::SpoolWrite;
use file::Writing;
use protocol::time::iso8601;
use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

/// How much is read back from the file at a time.
const READ_BYTES: u64 = 256 * 1024;

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
    /// Of its record, in the file; `None`: in memory only.
    offset: Option<u64>,
    record_bytes: u64,
    /// The event as it travels; `None`: in the file only.
    body: Option<Body>,
}

/// A part of a text that its neighbours share.
#[derive(Debug)]
struct Body {
    text: Arc<String>,
    range: Range<usize>,
}

impl Body {
    fn as_str(&self) -> &str {
        self.text.get(self.range.clone()).unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        self.range.len()
    }
}

/// Records on their way to the file, one after the other.
#[derive(Debug, Default)]
struct Records {
    text: String,
    list: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    seq: u64,
    lifecycle: bool,
    /// In the text, head and end included.
    range: Range<usize>,
    body: Range<usize>,
}

/// The events of one execution that are not acknowledged.
#[derive(Debug)]
pub(crate) struct Spool {
    spool_bytes_max: u64,
    resident_bytes_max: usize,
    slack_bytes: u64,
    held: VecDeque<Held>,
    /// Numbered, and not yet on their way to the file.
    fresh: Records,
    writing: Writing,
    last_seq: u64,
    acknowledged: u64,
    /// Length of the file, as far as it counts.
    file_bytes: u64,
    /// Of it, records that are held.
    filed_bytes: u64,
    /// Records that are held and not in the file.
    unfiled_bytes: u64,
    /// Bodies in memory.
    resident_bytes: usize,
    /// A rewriting of the file failed: this much must be dead before the next one.
    rewrite_from: u64,
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
            fresh: Records::default(),
            writing: Writing::Nothing,
            last_seq: 0,
            acknowledged: 0,
            file_bytes: 0,
            filed_bytes: 0,
            unfiled_bytes: 0,
            resident_bytes: 0,
            rewrite_from: 0,
            lost: false,
        };
        for record in record::decode(file) {
            // Numbers ascend: what comes after is of an earlier time.
            if record.seq <= spool.last_seq {
                break;
            }
            let body = || Body { text: Arc::new(record.body.to_owned()), range: 0..record.body.len() };
            spool.hold(record.seq, record.lifecycle, record.bytes, record.body.len(), true, body);
            spool.last_seq = record.seq;
        }
        let torn = u64::try_from(file.len()).is_ok_and(|bytes| bytes > spool.file_bytes);
        let write = torn.then_some(SpoolWrite::Truncate(spool.file_bytes));
        (spool, write)
    }

    /// About this much is going to be appended.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.fresh.text.reserve(bytes);
    }

    /// Numbers an event. It is held from here on, and sent once it was offered to the file: [`Spool::write`].
    pub(crate) fn append(&mut self, now_ms: i64, event: &Event) {
        let seq = self.last_seq.saturating_add(1);
        let lifecycle = event.is_lifecycle();
        let head = head(now_ms, Some(seq), event.kind());
        let text = &mut self.fresh.text;
        let start = text.len();
        let body_bytes = head.len().saturating_add(event.data().len()).saturating_add(1);
        record::begin(text, seq, lifecycle, body_bytes);
        let body = text.len();
        text.push_str(&head);
        text.push_str(event.data());
        text.push('}');
        let body = body..text.len();
        text.push(record::END);
        self.fresh.list.push(Record { seq, lifecycle, range: start..text.len(), body });
        self.last_seq = seq;
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
            Some(body) => Next::Event { seq: held.seq, body: body.as_str() },
            None => {
                let offset = held.offset.unwrap_or(self.file_bytes);
                let bytes = READ_BYTES.max(held.record_bytes).min(self.file_bytes.saturating_sub(offset));
                Next::Read { seq: held.seq, offset, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) }
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
                held.body = Some(Body { text: Arc::new(record.body.to_owned()), range: 0..record.body.len() });
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
            && let Some(held) = self.held.get_mut(index).filter(|held| held.offset.is_some())
            && let Some(body) = held.body.take()
        {
            self.resident_bytes = self.resident_bytes.saturating_sub(body.bytes());
        }
    }

    /// The object has everything up to `seq`. New events are numbered after it, also if this spool never knew it.
    pub(crate) fn acknowledged(&mut self, seq: u64) {
        while self.held.front().is_some_and(|held| held.seq <= seq) {
            self.forget(0);
        }
        self.acknowledged = self.acknowledged.max(seq);
        self.last_seq = self.last_seq.max(seq);
    }

    /// The oldest number that is held and not acknowledged.
    pub(crate) fn first_seq(&self) -> Option<u64> {
        self.held.front().map(|held| held.seq)
    }

    /// The number given last.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// How many events are not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.held.len().saturating_add(self.fresh.list.len()).saturating_add(self.writing.records())
    }

    /// Whether room is so short that nothing may be kept that need not be.
    pub(crate) fn is_pressed(&self) -> bool {
        self.held_bytes() > self.spool_bytes_max / 2
    }

    /// Whether something was given up since the last call.
    pub(crate) fn take_lost(&mut self) -> bool {
        mem::take(&mut self.lost)
    }

    fn held_bytes(&self) -> u64 {
        self.filed_bytes.saturating_add(self.unfiled_bytes)
    }

    /// Holds an event whose record is at the end of the file, if it is in the file.
    fn hold(
        &mut self,
        seq: u64,
        lifecycle: bool,
        record_bytes: usize,
        body_bytes: usize,
        is_filed: bool,
        body: impl FnOnce() -> Body,
    ) {
        let record_bytes = u64::try_from(record_bytes).unwrap_or(u64::MAX);
        // Those in front are needed first, so it is the newcomer that stays on disk.
        let has_room = self.resident_bytes.saturating_add(body_bytes) <= self.resident_bytes_max;
        let body = (has_room || !is_filed).then(body);
        if body.is_some() {
            self.resident_bytes = self.resident_bytes.saturating_add(body_bytes);
        }
        let offset = is_filed.then_some(self.file_bytes);
        self.held.push_back(Held { seq, lifecycle, offset, record_bytes, body });
        if is_filed {
            self.file_bytes = self.file_bytes.saturating_add(record_bytes);
            self.filed_bytes = self.filed_bytes.saturating_add(record_bytes);
        } else {
            self.unfiled_bytes = self.unfiled_bytes.saturating_add(record_bytes);
        }
    }

    fn give_up_oldest(&mut self) {
        let unfiled_bytes_max = u64::try_from(self.resident_bytes_max).unwrap_or(u64::MAX);
        loop {
            let is_full = self.held_bytes() > self.spool_bytes_max;
            if !is_full && self.unfiled_bytes <= unfiled_bytes_max {
                break;
            }
            let newest = self.held.len().saturating_sub(1);
            let may_go = |held: &Held| !held.lifecycle && (is_full || held.offset.is_none());
            let Some(oldest) = self.held.iter().take(newest).position(may_go) else { break };
            self.forget(oldest);
            self.lost = true;
        }
    }

    fn forget(&mut self, index: usize) {
        let Some(held) = self.held.remove(index) else { return };
        let bytes = if held.offset.is_some() { &mut self.filed_bytes } else { &mut self.unfiled_bytes };
        *bytes = bytes.saturating_sub(held.record_bytes);
        self.resident_bytes = self.resident_bytes.saturating_sub(held.body.map_or(0, |body| body.bytes()));
    }
}

/// An event as it travels.
pub(crate) fn wire(now_ms: i64, seq: Option<u64>, event: &Event) -> String {
    let mut text = head(now_ms, seq, event.kind());
    text.push_str(event.data());
    text.push('}');
    text
}

/// An event as it travels (`protocol::ingest::IngestEvent`) up to its data. Kinds are plain words.
fn head(now_ms: i64, seq: Option<u64>, kind: &str) -> String {
    let seq = seq.map_or(String::new(), |seq| format!("\"seq\":{seq},"));
    format!(r#"{{"streamEventType":"{kind}","timestamp":"{}",{seq}"data":"#, iso8601(now_ms))
}
