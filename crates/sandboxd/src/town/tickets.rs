//! Tickets for event streams (spec/town.md 6.2, 9.3): a browser cannot send a bearer with a WebSocket, so it asks for a ticket first and
//! opens the socket with it. Each is good once, for one agent, for a minute.

use super::limits::TICKET_LIFE_MS;
use super::limits::TICKETS_MAX;
use std::collections::VecDeque;
use uuid::Uuid;

/// The tickets that were given out and not used. All live for the same time, so the oldest is the first to expire.
#[derive(Debug, Default)]
pub struct Tickets(VecDeque<Ticket>);

#[derive(Debug)]
struct Ticket {
    text: String,
    agent: String,
    expires_at_ms: i64,
}

impl Tickets {
    /// A new one for the stream of `agent`, and when it expires. If there are too many, the oldest is void.
    pub fn issue(&mut self, agent: &str, now_ms: i64) -> (String, i64) {
        self.0.retain(|ticket| ticket.expires_at_ms > now_ms);
        if self.0.len() >= TICKETS_MAX {
            self.0.pop_front();
        }
        let (text, expires_at_ms) = (Uuid::new_v4().to_string(), now_ms.saturating_add(TICKET_LIFE_MS));
        self.0.push_back(Ticket { text: text.clone(), agent: agent.to_owned(), expires_at_ms });
        (text, expires_at_ms)
    }

    /// Uses a ticket up. The agent that it is for, if it is good.
    pub fn redeem(&mut self, text: &str, now_ms: i64) -> Option<String> {
        let at = self.0.iter().position(|ticket| ticket.text == text)?;
        let ticket = self.0.remove(at)?;
        (ticket.expires_at_ms > now_ms).then_some(ticket.agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_for_its_agent() {
        let mut tickets = Tickets::default();
        let (ticket, expires_at_ms) = tickets.issue("a1", 1_000);
        assert_eq!(expires_at_ms, 61_000);
        assert_eq!(tickets.redeem("another", 1_000), None);
        assert_eq!(tickets.redeem(&ticket, 60_999).as_deref(), Some("a1"));
        assert_eq!(tickets.redeem(&ticket, 60_999), None);
    }

    #[test]
    fn a_ticket_expires_and_the_oldest_gives_way() {
        let mut tickets = Tickets::default();
        let (late, expires_at_ms) = tickets.issue("a1", 0);
        assert_eq!(tickets.redeem(&late, expires_at_ms), None);
        let (first, _) = tickets.issue("a1", 0);
        let (second, _) = tickets.issue("a1", 0);
        for _ in 0..TICKETS_MAX - 1 {
            tickets.issue("a1", 0);
        }
        assert_eq!(tickets.redeem(&first, 0), None);
        assert!(tickets.redeem(&second, 0).is_some());
    }
}
