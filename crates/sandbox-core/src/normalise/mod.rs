//! The only place that drops, coalesces and trims the agent's events (design 3).
//!
//! Two steps: [`rules`] says what becomes of a single event, [`window`] joins those of one flush window. Long strings were
//! cut before, while they were read ([`crate::sse`]).
//!
//! Whatever the windows are, the events of class *log* come out once each and in order, and of each entity its last value comes
//! out last: what a window leaves out is an older value of the same entity. This makes [`normalise_all`] the oracle of the fault
//! tests.

mod edit;
mod rules;
#[cfg(test)]
mod tests;
mod window;

use crate::agent::AgentEvent;
use crate::event::Event;
use crate::limits::Limits;
use crate::sse;

/// Collects events during one flush window, coalescing what may be.
pub struct Normaliser {
    limits: Limits,
    window: window::Window,
}

impl Normaliser {
    /// An empty window.
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), window: window::Window::default() }
    }

    /// Takes an event of the agent server, of whatever session: viewers want its sub-agents' events too.
    pub fn push_agent(&mut self, event: &AgentEvent<'_>) {
        if rules::is_dropped(event) {
            return;
        }
        match event.kind.as_ref() {
            "message.part.delta" => self.window.push_delta(&self.limits, event),
            "message.part.updated" => self.window.push_part(rules::event(&self.limits, event)),
            _ => self.window.push(rules::event(&self.limits, event)),
        }
    }

    /// Takes an event of our own, in order with the agent's.
    pub fn push(&mut self, event: Event) {
        self.window.push(rules::own(&self.limits, event));
    }

    /// How much waits, roughly as it will travel.
    pub fn bytes(&self) -> usize {
        self.window.bytes()
    }

    /// Ends the window: its events, in order.
    pub fn drain(&mut self) -> Vec<Event> {
        self.window.drain(&self.limits)
    }
}

/// What becomes of a whole stream, given the `data:` texts as the agent server sent them: read, and taken as one window.
pub fn normalise_all<'a>(limits: &Limits, payloads: impl IntoIterator<Item = &'a str>) -> Vec<Event> {
    let mut normaliser = Normaliser::new(limits);
    for payload in payloads {
        let Some(payload) = sse::cut_event(limits, payload) else { continue };
        if let Ok(event) = AgentEvent::parse(&payload) {
            normaliser.push_agent(&event);
        }
    }
    normaliser.drain()
}
