//! The spool's file: what is to be done to it, and what follows once it was done or could not be.

use super::Body;
use super::Record;
use super::Records;
use super::Spool;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

/// What is to be done to the spool's file, in order. The file is the shell's; its contents are this module's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolWrite {
    /// Write `records` at this offset, over whatever is there (create the file if there is none). Answer with `Spooled`, before
    /// anything else happens.
    Append {
        /// Where.
        at: u64,
        /// What.
        records: Arc<String>,
    },
    /// Delete the file, if there is one: nothing in it is needed any more.
    Remove,
    /// Replace the file by these ranges of its present bytes, one after the other (a new file, renamed over the old one). Answer
    /// with `Spooled`, before anything else happens.
    Rewrite {
        /// Ascending, not empty.
        keep: Vec<Range<u64>>,
    },
    /// Cut the file to this length. If that fails no harm is done.
    Truncate(u64),
}

/// What the shell was asked to do and has not answered yet.
#[derive(Debug)]
pub(super) enum Writing {
    /// These records, in this text.
    Append(Arc<String>, Vec<Record>),
    Nothing,
    Rewrite(Vec<Range<u64>>),
}

impl Writing {
    /// How many events are on their way to the file.
    pub(super) fn records(&self) -> usize {
        match self {
            Writing::Append(_, list) => list.len(),
            Writing::Nothing | Writing::Rewrite(_) => 0,
        }
    }
}

impl Spool {
    /// Brings what was appended to the file; `None`: nothing was.
    pub(crate) fn write(&mut self) -> Option<SpoolWrite> {
        if self.is_writing() || self.fresh.list.is_empty() {
            return None;
        }
        let Records { text, list } = mem::take(&mut self.fresh);
        let records = Arc::new(text);
        self.writing = Writing::Append(records.clone(), list);
        Some(SpoolWrite::Append { at: self.file_bytes, records })
    }

    /// What to do to the file so that it does not keep growing. Not between a [`super::Next::Read`] and its [`Spool::loaded`]:
    /// offsets change.
    pub(crate) fn tidy(&mut self) -> Option<SpoolWrite> {
        let dead = self.file_bytes.saturating_sub(self.filed_bytes);
        if self.is_writing() || dead <= self.slack_bytes.max(self.filed_bytes / 2).max(self.rewrite_from) {
            return None;
        }
        let mut keep: Vec<Range<u64>> = Vec::new();
        for held in &self.held {
            let Some(offset) = held.offset else { continue };
            let end = offset.saturating_add(held.record_bytes);
            match keep.last_mut() {
                Some(last) if last.end == offset => last.end = end,
                _ => keep.push(offset..end),
            }
        }
        if keep.is_empty() {
            self.file_bytes = 0;
            return Some(SpoolWrite::Truncate(0));
        }
        self.writing = Writing::Rewrite(keep.clone());
        Some(SpoolWrite::Rewrite { keep })
    }

    /// The file was changed as asked for, or could not be.
    pub(crate) fn spooled(&mut self, done: bool) {
        match mem::replace(&mut self.writing, Writing::Nothing) {
            Writing::Append(text, list) => self.appended(&text, list, done),
            Writing::Nothing => {}
            Writing::Rewrite(keep) if done => self.rewritten(&keep),
            Writing::Rewrite(_) => {
                let dead = self.file_bytes.saturating_sub(self.filed_bytes);
                self.rewrite_from = dead.saturating_mul(2);
            }
        }
    }

    /// Whether an answer is due: until then nothing may be sent, read or written.
    pub(crate) fn is_writing(&self) -> bool {
        !matches!(self.writing, Writing::Nothing)
    }

    fn appended(&mut self, text: &Arc<String>, list: Vec<Record>, done: bool) {
        for record in list {
            let body = Body { text: text.clone(), range: record.body.clone() };
            self.hold(record.seq, record.lifecycle, record.range.len(), record.body.len(), done, || body);
        }
        // What the object said meanwhile may be about these too.
        self.acknowledged(self.acknowledged);
        self.give_up_oldest();
    }

    fn rewritten(&mut self, keep: &[Range<u64>]) {
        let moved = |offset: u64| {
            let before = keep.iter().take_while(|range| range.start <= offset);
            let kept = before.map(|range| range.end.min(offset).saturating_sub(range.start));
            kept.fold(0, u64::saturating_add)
        };
        for held in &mut self.held {
            held.offset = held.offset.map(moved);
        }
        self.file_bytes = moved(u64::MAX);
        self.rewrite_from = 0;
    }
}
