//! What the agents do, for whoever watches: the last events of each agent, and a line to everyone who listens now
//! (spec/town.md 6.2, 6.4, 9.3).
//!
//! Event ids grow over all agents and never repeat, so a viewer that names the last one it saw gets what came after it, as far as it is kept.

use super::limits::RING_BYTES_MAX;
use super::limits::RING_EVENTS_MAX;
use crate::clock::now_ms;
use protocol::id::AgentId;
use protocol::time::iso8601;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::sync::broadcast;

/// How far a viewer may be behind before it misses something.
const LISTENER_EVENTS_MAX: usize = 1_024;

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Grows.
    pub id: u64,
    /// Whose.
    pub agent: AgentId,
    /// Its name, as the agent server gives it.
    pub name: Arc<str>,
    /// Its fields, as JSON.
    pub data: Arc<RawValue>,
    /// When it came.
    pub at_ms: i64,
}

/// An event as `GET …/events` gives it.
#[derive(Serialize)]
pub struct Listed<'a> {
    id: u64,
    event: &'a str,
    data: &'a RawValue,
    timestamp: String,
}

/// An event as a socket gets it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Framed<'a> {
    agent_id: &'a AgentId,
    event: &'a str,
    data: &'a RawValue,
    timestamp: String,
}

impl Event {
    /// As an entry of a list.
    pub fn listed(&self) -> Listed<'_> {
        Listed { id: self.id, event: &self.name, data: &self.data, timestamp: iso8601(self.at_ms) }
    }

    /// As a frame.
    pub fn frame(&self) -> String {
        let frame =
            Framed { agent_id: &self.agent, event: &self.name, data: &self.data, timestamp: iso8601(self.at_ms) };
        serde_json::to_string(&frame).unwrap_or_default()
    }
}

/// All agents' events.
#[derive(Debug)]
pub struct Feed {
    rings: Mutex<Rings>,
    live: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
struct Rings {
    last_id: u64,
    by_agent: HashMap<AgentId, Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
}

impl Feed {
    /// Without events.
    pub fn new() -> Self {
        Self { rings: Mutex::default(), live: broadcast::channel(LISTENER_EVENTS_MAX).0 }
    }

    /// Keeps an event and tells who listens.
    pub fn say(&self, agent: &AgentId, name: &str, data: Box<RawValue>) {
        let mut rings = self.rings();
        rings.last_id = rings.last_id.saturating_add(1);
        let event =
            Event { id: rings.last_id, agent: agent.clone(), name: name.into(), data: data.into(), at_ms: now_ms() };
        rings.by_agent.entry(agent.clone()).or_default().push(event.clone());
        // Under the lock, so that the order is the same for everybody. Nobody may listen.
        let _ = self.live.send(event);
    }

    /// What is kept of an agent after the event `after`, oldest first.
    pub fn after(&self, agent: &AgentId, after: u64) -> Vec<Event> {
        let rings = self.rings();
        let events = rings.by_agent.get(agent).map(|ring| ring.events.iter()).into_iter().flatten();
        events.filter(|event| event.id > after).cloned().collect()
    }

    /// A line to everything that comes from now on, of all agents.
    pub fn live(&self) -> broadcast::Receiver<Event> {
        self.live.subscribe()
    }

    /// Forgets an agent.
    pub fn forget(&self, agent: &AgentId) {
        self.rings().by_agent.remove(agent);
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, event: Event) {
        self.bytes = self.bytes.saturating_add(event.data.get().len());
        self.events.push_back(event);
        while self.events.len() > RING_EVENTS_MAX || (self.bytes > RING_BYTES_MAX && self.events.len() > 1) {
            let gone = self.events.pop_front().map_or(0, |event| event.data.get().len());
            self.bytes = self.bytes.saturating_sub(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(id: &str) -> AgentId {
        AgentId::parse(id).unwrap()
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_viewer_gets_what_came_after_the_last_it_saw() {
        let feed = Feed::new();
        feed.say(&agent("a"), "one", raw("1"));
        feed.say(&agent("b"), "two", raw("2"));
        feed.say(&agent("a"), "three", raw("3"));
        let names = |events: Vec<Event>| events.iter().map(|event| event.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(feed.after(&agent("a"), 0)), ["one", "three"]);
        assert_eq!(names(feed.after(&agent("a"), 1)), ["three"]);
        assert!(feed.after(&agent("nobody"), 0).is_empty());
    }

    #[test]
    fn a_listener_gets_what_comes_and_finds_what_was_in_the_ring() {
        let feed = Feed::new();
        feed.say(&agent("a"), "one", raw(r#"{"x":1}"#));
        let mut live = feed.live();
        feed.say(&agent("a"), "two", raw("2"));
        assert_eq!(live.try_recv().unwrap().id, 2);
        let kept = feed.after(&agent("a"), 0);
        let frame: serde_json::Value = serde_json::from_str(&kept[0].frame()).unwrap();
        assert_eq!((&frame["agentId"], &frame["data"]["x"]), (&"a".into(), &1.into()));
    }

    #[test]
    fn a_ring_is_bounded_in_events_and_in_bytes() {
        let feed = Feed::new();
        for _ in 0..RING_EVENTS_MAX + 5 {
            feed.say(&agent("a"), "e", raw("0"));
        }
        let kept = feed.after(&agent("a"), 0);
        assert_eq!((kept.len(), kept[0].id), (RING_EVENTS_MAX, 6));
        let large = format!("\"{}\"", "x".repeat(RING_BYTES_MAX / 2));
        for _ in 0..3 {
            feed.say(&agent("b"), "e", raw(&large));
        }
        assert_eq!(feed.after(&agent("b"), 0).len(), 1);
    }
}
