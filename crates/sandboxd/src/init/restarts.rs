//! How often a child may die.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

/// Restarts within [`WINDOW`] that are granted: a child that dies once a minute is a nuisance, one that dies at each start
/// will not get better on the same disk, and its container has to be replaced.
const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// The recent restarts.
#[derive(Debug, Default)]
pub struct Restarts {
    /// Oldest first; at most [`MOST`].
    granted: VecDeque<Instant>,
}

impl Restarts {
    /// Whether the child that died at `now` is started again.
    pub fn grant(&mut self, now: Instant) -> bool {
        while self.granted.front().is_some_and(|oldest| now.duration_since(*oldest) > WINDOW) {
            self.granted.pop_front();
        }
        if self.granted.len() >= MOST {
            return false;
        }
        self.granted.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_restart_within_a_minute_is_refused() {
        let start = Instant::now();
        let mut restarts = Restarts::default();
        for second in 0..5 {
            assert!(restarts.grant(start + Duration::from_secs(second)));
        }
        assert!(!restarts.grant(start + Duration::from_secs(59)));
        assert!(restarts.grant(start + Duration::from_secs(61)), "the first is forgotten by now");
        assert!(!restarts.grant(start + Duration::from_secs(61)), "the second is not");
    }
}
