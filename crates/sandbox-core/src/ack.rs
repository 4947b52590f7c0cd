//! When a drain nonce is acknowledged (spec/town.md 5.5, 5.10).
//!
//! The town hands a nonce to the container that replaces an evicted one, and dispatches again when it comes back. So
//! each nonce is acknowledged once; a later drain has another nonce and is acknowledged too; and a container that was
//! told to end never acknowledges any: it is not the replacement, however late a nonce reaches it.

/// What this process has said about drains.
#[derive(Debug, Default)]
pub struct Acknowledgements {
    draining: bool,
    /// The nonce that the town took from this process last.
    acknowledged: Option<String>,
    /// On its way to the town: a heartbeat and a health check may bring the same one at the same time.
    in_flight: Option<String>,
}

impl Acknowledgements {
    /// This process was told to end.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether this process was told to end.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// A nonce arrived. If true, the caller sends it to the town and reports how that went with [`Acknowledgements::settle`].
    pub fn offer(&mut self, nonce: &str) -> bool {
        let known = [&self.acknowledged, &self.in_flight].into_iter().any(|known| known.as_deref() == Some(nonce));
        if self.draining || known {
            return false;
        }
        self.in_flight = Some(nonce.to_owned());
        true
    }

    /// The town took `nonce`, or it could not be told and the nonce may be offered again.
    pub fn settle(&mut self, nonce: &str, taken: bool) {
        if self.in_flight.as_deref() == Some(nonce) {
            self.in_flight = None;
        }
        if taken {
            self.acknowledged = Some(nonce.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_acknowledged_once() {
        let mut acks = Acknowledgements::default();
        assert!(acks.offer("n1"));
        assert!(!acks.offer("n1"), "in flight");
        acks.settle("n1", true);
        assert!(!acks.offer("n1"), "taken");
    }

    #[test]
    fn a_nonce_that_could_not_be_delivered_is_offered_again() {
        let mut acks = Acknowledgements::default();
        assert!(acks.offer("n1"));
        acks.settle("n1", false);
        assert!(acks.offer("n1"));
    }

    #[test]
    fn the_nonce_of_a_later_drain_is_acknowledged_too() {
        let mut acks = Acknowledgements::default();
        assert!(acks.offer("n1"));
        acks.settle("n1", true);
        assert!(acks.offer("n2"));
        acks.settle("n2", true);
        assert!(!acks.offer("n2"));
    }

    #[test]
    fn a_container_that_drains_acknowledges_nothing() {
        let mut acks = Acknowledgements::default();
        acks.drain();
        assert!(acks.is_draining());
        assert!(!acks.offer("n1"));
    }
}
