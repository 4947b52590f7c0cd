//! What will happen, in order of time; what is due at one time happens in the order in which it was arranged.

use std::collections::BTreeMap;

/// The future.
pub struct Queue<E> {
    events: BTreeMap<(i64, u64), E>,
    arranged: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), arranged: 0 }
    }
}

impl<E> Queue<E> {
    /// Arranges `event` for `at`, in milliseconds.
    pub fn push(&mut self, at: i64, event: E) {
        self.arranged += 1;
        self.events.insert((at, self.arranged), event);
    }

    /// What happens next, and when.
    pub fn pop(&mut self) -> Option<(i64, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }

    /// When something happens next.
    pub fn next_at(&self) -> Option<i64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }
}
