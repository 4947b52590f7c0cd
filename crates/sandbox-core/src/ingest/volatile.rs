//! Volatile events on their way to the socket: as many as is sensible, the newest.

use crate::limits::Limits;
use std::collections::VecDeque;
use std::mem;

/// A volatile event as it travels.
struct Waiting {
    /// The number of the stored event before it.
    after: u64,
    text: String,
}

/// Volatile events that are to be sent, or that wait for a connection.
#[derive(Default)]
pub(super) struct VolatileQueue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Something was dropped since [`VolatileQueue::take_dropped`].
    dropped: bool,
}

impl VolatileQueue {
    /// Adds an event that follows the stored event `after`.
    pub(super) fn push(&mut self, after: u64, text: String) {
        self.bytes = self.bytes.saturating_add(text.len());
        self.waiting.push_back(Waiting { after, text });
    }

    /// Adds an event before all others.
    pub(super) fn push_front(&mut self, text: String) {
        self.bytes = self.bytes.saturating_add(text.len());
        self.waiting.push_front(Waiting { after: 0, text });
    }

    /// The next event, if it comes before the stored event after `cursor`.
    pub(super) fn pop(&mut self, cursor: u64) -> Option<String> {
        if self.waiting.front()?.after > cursor {
            return None;
        }
        let first = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(first.text.len());
        Some(first.text)
    }

    /// Drops the oldest beyond the bounds, or all if `pressed`.
    pub(super) fn bound(&mut self, limits: &Limits, pressed: bool) {
        while self.bytes > limits.volatile_bytes_max
            || self.waiting.len() > limits.volatile_events_max
            || (pressed && !self.waiting.is_empty())
        {
            if self.pop(u64::MAX).is_none() {
                break;
            }
            self.dropped = true;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Notes that an event was dropped before it came here.
    pub(super) fn note_dropped(&mut self) {
        self.dropped = true;
    }

    /// Whether something was dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> bool {
        mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_their_place_among_the_stored() {
        let mut queue = VolatileQueue::default();
        queue.push(1, "a".into());
        queue.push(2, "b".into());
        queue.push_front("first".into());
        assert_eq!((queue.pop(0).as_deref(), queue.pop(0)), (Some("first"), None));
        assert_eq!((queue.pop(1).as_deref(), queue.pop(1)), (Some("a"), None));
        assert_eq!((queue.pop(9).as_deref(), queue.len(), queue.bytes), (Some("b"), 0, 0));
    }

    #[test]
    fn beyond_its_bounds_the_oldest_go() {
        let limits = Limits { volatile_bytes_max: 10, volatile_events_max: 3, ..Limits::default() };
        let mut queue = VolatileQueue::default();
        for text in ["1", "2", "3", "4"] {
            queue.push(0, text.into());
        }
        queue.bound(&limits, false);
        assert_eq!((queue.len(), queue.take_dropped(), queue.take_dropped()), (3, true, false));
        queue.push(0, "123456789".into());
        queue.bound(&limits, false);
        assert_eq!((queue.pop(0).as_deref(), queue.len()), (Some("4"), 1));
        queue.bound(&limits, true);
        assert_eq!((queue.len(), queue.bytes), (0, 0));
    }
}
