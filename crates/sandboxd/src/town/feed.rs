//! What the agents do, for whoever watches: the last events of each agent, and a line to everyone who listens now
//! (spec/town.md 6.2, 6.4, 9.3).
//!
//! Event ids grow over all agents and never repeat, so a viewer that names the last one it saw gets what came after it, as far as it is kept.

use super::limits::RING_BYTES_MAX;
use super::limits::RING_EVENTS_MAX;
use super::limits::RINGS_BYTES_MAX;
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

/// What an event takes besides its name and its fields.
const EVENT_BYTES: usize = 256;
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

    /// What it takes of the memory, about.
    fn bytes(&self) -> usize {
        self.name.len().saturating_add(self.data.get().len()).saturating_add(EVENT_BYTES)
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
    /// All together.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    /// Its agent is over.
    has_ended: bool,
}

impl Feed {
    /// Without events.
    pub fn new() -> Self {
        Self { rings: Mutex::default(), live: broadcast::channel(LISTENER_EVENTS_MAX).0 }
    }

    /// Keeps an event and tells who listens.
    pub fn say(&self, agent: &AgentId, name: &str, data: impl Into<Arc<RawValue>>) {
        let mut rings = self.rings();
        rings.last_id = rings.last_id.saturating_add(1);
        let event =
            Event { id: rings.last_id, agent: agent.clone(), name: name.into(), data: data.into(), at_ms: now_ms() };
        rings.push(event.clone());
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

    /// An agent is over: its events go before those of others.
    pub fn end(&self, agent: &AgentId) {
        if let Some(ring) = self.rings().by_agent.get_mut(agent) {
            ring.has_ended = true;
        }
    }

    /// Forgets an agent.
    pub fn forget(&self, agent: &AgentId) {
        self.rings().remove(agent);
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    fn push(&mut self, event: Event) {
        let ring = self.by_agent.entry(event.agent.clone()).or_default();
        let before = ring.bytes;
        // Who is heard again was started again.
        ring.has_ended = false;
        ring.push(event);
        self.bytes = self.bytes.saturating_sub(before).saturating_add(ring.bytes);
        while self.bytes > RINGS_BYTES_MAX && self.by_agent.len() > 1 {
            self.make_room();
        }
    }

    /// Forgets the events of an agent that is over, of the one that was heard longest ago; if none is over, the same of the others.
    fn make_room(&mut self) {
        let last = |ring: &Ring| ring.events.back().map_or(0, |event| event.id);
        let oldest = self.by_agent.iter().min_by_key(|(_, ring)| (!ring.has_ended, last(ring)));
        if let Some(agent) = oldest.map(|(agent, _)| agent.clone()) {
            self.remove(&agent);
        }
    }

    fn remove(&mut self, agent: &AgentId) {
        let bytes = self.by_agent.remove(agent).map_or(0, |ring| ring.bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Ring {
    fn push(&mut self, event: Event) {
        self.bytes = self.bytes.saturating_add(event.bytes());
        self.events.push_back(event);
        while self.events.len() > RING_EVENTS_MAX || (self.bytes > RING_BYTES_MAX && self.events.len() > 1) {
            let gone = self.events.pop_front().map_or(0, |event| event.bytes());
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

    #[test]
    fn all_rings_together_are_bounded_and_who_is_over_goes_first() {
        let feed = Feed::new();
        let large = format!("\"{}\"", "x".repeat(RING_BYTES_MAX - 1024));
        let names: Vec<AgentId> = (0..RINGS_BYTES_MAX / RING_BYTES_MAX).map(|n| agent(&format!("a{n}"))).collect();
        for name in &names {
            feed.say(name, "e", raw(&large));
        }
        let kept = |name: &AgentId| feed.after(name, 0).len();
        assert!(names.iter().all(|name| kept(name) == 1));
        feed.end(&names[3]);
        feed.end(&names[2]);
        let late = agent("late");
        feed.say(&late, "e", raw(&large));
        assert_eq!((kept(&names[2]), kept(&names[3]), kept(&names[0]), kept(&late)), (0, 1, 1, 1), "heard longest ago");
        feed.say(&names[3], "back", raw("1"));
        feed.say(&agent("later"), "e", raw(&large));
        assert_eq!((kept(&names[0]), kept(&names[3])), (0, 2), "none is over: the one that is silent longest");
        assert!(feed.rings().bytes <= RINGS_BYTES_MAX);
    }
}
