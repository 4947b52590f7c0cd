//! Events packed into frames: one event as it is, several as an array (design 3).

use crate::limits::Limits;
use protocol::ingest::FRAME_EVENTS_MAX;
use std::mem;

/// The frame that is being filled.
pub(super) struct Batch {
    bytes_max: usize,
    /// `[` and the events so far.
    text: String,
    events: usize,
}

impl Batch {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { bytes_max: limits.batch_bytes_max, text: String::new(), events: 0 }
    }

    /// Adds an event. Returns the frame before it, if the event begins a new one. A large event is a frame of its own.
    pub(super) fn push(&mut self, event: &str) -> Option<String> {
        let is_full = self.text.len().saturating_add(event.len()) >= self.bytes_max || self.events == FRAME_EVENTS_MAX;
        let full = if is_full { self.take() } else { None };
        if self.events == 1 {
            // More are likely to follow: grown in steps, a full frame would be copied several times.
            self.text.reserve(self.bytes_max);
        }
        self.text.push(if self.events == 0 { '[' } else { ',' });
        self.text.push_str(event);
        self.events = self.events.saturating_add(1);
        full
    }

    /// Closes the frame.
    pub(super) fn take(&mut self) -> Option<String> {
        let mut text = mem::take(&mut self.text);
        match mem::take(&mut self.events) {
            0 => None,
            1 => {
                text.remove(0);
                Some(text)
            }
            _ => {
                text.push(']');
                // It may wait for a slow socket: then its length counts, not its room.
                if text.len() < text.capacity() / 2 {
                    text.shrink_to_fit();
                }
                Some(text)
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(events: &[&str], bytes_max: usize) -> Vec<String> {
        let mut batch = Batch::new(&Limits { batch_bytes_max: bytes_max, ..Limits::default() });
        let mut frames: Vec<String> = events.iter().filter_map(|event| batch.push(event)).collect();
        frames.extend(batch.take());
        frames
    }

    #[test]
    fn one_event_is_a_frame_and_several_are_an_array() {
        assert_eq!(frames(&["{}"], 100), ["{}"]);
        assert_eq!(frames(&["{}", "{\"a\":1}"], 100), ["[{},{\"a\":1}]"]);
        assert_eq!(frames(&[], 100), [""; 0]);
    }

    #[test]
    fn a_frame_stays_within_its_bounds_and_a_large_event_is_alone() {
        let large = format!("\"{}\"", "x".repeat(200));
        assert_eq!(frames(&["{}", "{}", &large, "{}"], 10), ["[{},{}]", large.as_str(), "{}"]);
        let many = frames(&vec!["{}"; 1_001], 1_000_000);
        assert_eq!(many.iter().map(|frame| frame.matches("{}").count()).collect::<Vec<_>>(), [500, 500, 1]);
    }
}
