//! What a gap in the agent's event stream held, made good from the agent server's state.
//!
//! The stream has no replay (spec/kilo.md 5), but the server can be asked for what it has now. From its answers come events as the
//! stream would have brought them: messages, parts and status, and what waits for an answer. Two rules make them safe to send:
//!
//! * An entity that the stream speaks of while the server is asked is left out: what the stream said before is in the answer, and
//!   what it says meanwhile may be newer, whichever of both arrives first.
//! * While the session works, a text that is not finished is left out: its end is still to come on the stream, and until then
//!   the server's own copy lacks what only deltas have said.

#[cfg(test)]
mod tests;

use crate::agent::AgentEvent;
use crate::cut::Cut;
use crate::cut::Cutter;
use crate::limits::Limits;
use crate::turn::error::AgentError;
use protocol::event::EventClass;
use protocol::id::KiloSessionId;
use protocol::id::MessageId;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;

/// One answer of the agent server, cut while it is read: a list of messages can be of any size.
pub struct Answer(Cutter);

impl Answer {
    /// Nothing read yet.
    pub fn new(limits: &Limits) -> Self {
        Self(Cutter::new(Cut {
            string_bytes_max: limits.string_bytes_max,
            total_bytes_max: limits.gap_answer_bytes_max,
            depth: 0,
        }))
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    /// The whole, as JSON; `None` if it was nested beyond all reason.
    pub fn finish(self) -> Option<String> {
        self.0.finish()
    }
}

/// What the agent server says when it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// `GET /session/{id}/message`: of our session first, then of the sub-agents that began in this turn.
    pub messages: Vec<(KiloSessionId, String)>,
    /// Our session's part of `GET /session/status`; `None`: it is idle.
    pub status: Option<String>,
    /// `GET /permission`.
    pub permissions: String,
    /// `GET /question`.
    pub questions: String,
}

/// What the gap held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Texts of events for the object's log, in order.
    pub events: Vec<String>,
    /// Texts of events that somebody has to answer: for the log and for the turn.
    pub requests: Vec<String>,
    /// Where the turn stands.
    pub turn: TurnFound,
}

/// Where the turn stands after a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnFound {
    /// The server says that our session is doing something.
    pub busy: bool,
    /// The agent has begun to answer the prompt.
    pub answered: bool,
    /// What its last message says went wrong.
    pub error: Option<FoundError>,
}

/// How the agent's last message ended, if not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundError {
    /// Someone stopped the agent.
    Aborted,
    /// An error, for a person; whether no further attempt can succeed.
    Failed { message: String, terminal: bool },
}

/// One gap, from the question what it held to the server's answers.
#[derive(Debug, Default)]
pub struct Gap {
    heard: HashSet<String>,
    overflowed: bool,
}

impl Gap {
    /// The stream said this meanwhile.
    pub fn hear(&mut self, limits: &Limits, event: &AgentEvent<'_>) {
        let EventClass::Entity(key) = event.class() else { return };
        if self.heard.len() < limits.gap_entities_max {
            self.heard.insert(key);
        } else {
            self.overflowed = true;
        }
    }

    /// What the gap held, given answers that were asked for once the new subscription was open, and the prompt of the turn, which was sent at
    /// `since_ms`. `None`: too much was said meanwhile, ask again.
    pub fn close(self, session: &KiloSessionId, prompt: &MessageId, since_ms: i64, answers: &Answers) -> Option<Found> {
        if self.overflowed {
            return None;
        }
        let status: Option<&RawValue> = answers.status.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut found =
            Found { turn: TurnFound { busy: status.is_some(), ..TurnFound::default() }, ..Found::default() };
        for (of, text) in &answers.messages {
            let all: Vec<Message> = serde_json::from_str(text).unwrap_or_default();
            let ours = of == session;
            // The turn begins with its prompt. One that is not on the page is too far back, or has not been taken up: then there is nothing since.
            let from = all.iter().position(|message| !ours || message.is_of_turn(prompt, since_ms));
            let from = from.unwrap_or(all.len());
            for message in all.iter().skip(from) {
                self.restore(of, message, &mut found);
                if ours {
                    found.turn.note(message);
                }
            }
        }
        let status = status.map_or(r#"{"type":"idle"}"#, RawValue::get);
        let status = format!(r#"{{"sessionID":"{session}","status":{status}}}"#);
        found.events.push(payload("session.status", &status));
        for (kind, text) in [("question.asked", &answers.questions), ("permission.asked", &answers.permissions)] {
            let waiting: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            found.requests.extend(waiting.iter().map(|properties| payload(kind, properties.get())));
        }
        Some(found)
    }

    fn restore(&self, session: &KiloSessionId, message: &Message<'_>, found: &mut Found) {
        let info = format!(r#"{{"sessionID":"{session}","info":{}}}"#, message.info.get());
        self.restore_entity("message.updated", &info, found);
        for part in &message.parts {
            if found.turn.busy && is_unfinished_text(part) {
                continue;
            }
            let part = format!(r#"{{"sessionID":"{session}","part":{}}}"#, part.get());
            self.restore_entity("message.part.updated", &part, found);
        }
    }

    fn restore_entity(&self, kind: &str, properties: &str, found: &mut Found) {
        let payload = payload(kind, properties);
        let class = AgentEvent::parse(&payload).map(|event| event.class());
        if let Ok(EventClass::Entity(key)) = class
            && !self.heard.contains(&key)
        {
            found.events.push(payload);
        }
    }
}

impl TurnFound {
    fn note(&mut self, message: &Message<'_>) {
        let Ok(info) = serde_json::from_str::<Info>(message.info.get()) else { return };
        if info.role.as_deref() != Some("assistant") {
            return;
        }
        self.answered = true;
        self.error = info.error.map(|error| {
            if error.is_abort() {
                FoundError::Aborted
            } else {
                FoundError::Failed { message: error.message(), terminal: error.is_terminal() }
            }
        });
    }
}

fn payload(kind: &str, properties: &str) -> String {
    format!(r#"{{"type":"{kind}","properties":{properties}}}"#)
}

/// A text, or a thought, that has no end yet.
fn is_unfinished_text(part: &RawValue) -> bool {
    let part: Part<'_> = serde_json::from_str(part.get()).unwrap_or_default();
    matches!(part.kind.as_deref(), Some("reasoning" | "text"))
        && part.time.is_some_and(|time| time.start.is_some() && time.end.is_none())
}

/// One element of `GET /session/{id}/message`.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    info: &'a RawValue,
    #[serde(borrow, default)]
    parts: Vec<&'a RawValue>,
}

impl Message<'_> {
    fn is_of_turn(&self, prompt: &MessageId, since_ms: i64) -> bool {
        let Ok(info) = serde_json::from_str::<Info>(self.info.get()) else { return false };
        info.id.as_deref() == Some(prompt.as_str())
            || info.time.and_then(|time| time.created).is_some_and(|created| created >= since_ms)
    }
}

#[derive(Deserialize)]
struct Info<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    error: Option<AgentError<'a>>,
    #[serde(default)]
    time: Option<Created>,
}

#[derive(Deserialize)]
struct Created {
    /// Milliseconds since 1970, by this machine's clock.
    #[serde(default)]
    created: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Part<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    time: Option<Span>,
}

#[derive(Deserialize)]
struct Span {
    #[serde(default)]
    start: Option<i64>,
    #[serde(default)]
    end: Option<i64>,
}
