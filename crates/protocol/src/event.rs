//! Which events are stored: one table for both ends of the ingest socket (spec/session.md 5.3).
//!
//! Only *log* and *entity* events are numbered (`seq`), spooled, acknowledged and replayed. A *volatile* event goes to
//! the viewers that are there and is then gone.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How an event is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventClass {
    /// A row of its own.
    Log,
    /// The newest state of one thing, by its key: an update overwrites, with a new event id.
    Entity(String),
    /// Broadcast only.
    Volatile,
}

impl EventClass {
    /// Whether the event is numbered and kept.
    pub fn is_stored(&self) -> bool {
        *self != EventClass::Volatile
    }
}

/// The `streamEventType` under which the agent server's own events travel.
pub const KILOCODE: &str = "kilocode";

/// Stream types that are stored as rows of their own. `events_lost` stands for a range that a spool had to give up.
const STORED_TYPES: [&str; 7] = [
    "autocommit_completed",
    "autocommit_started",
    "complete",
    "error",
    "events_lost",
    "interrupted",
    "wrapper_disconnected",
];

/// Agent-server events that are stored as rows of their own.
const STORED_AGENT_EVENTS: [&str; 7] = [
    "message.part.removed",
    "session.created",
    "session.error",
    "session.idle",
    "session.status",
    "session.turn.close",
    "session.updated",
];

/// The class of one event. `data` is looked into only for agent-server events, and only as far as the table needs.
pub fn event_class(stream_event_type: &str, data: &RawValue) -> EventClass {
    if stream_event_type != KILOCODE {
        return if STORED_TYPES.contains(&stream_event_type) { EventClass::Log } else { EventClass::Volatile };
    }
    let Ok(peek) = serde_json::from_str::<Peek>(data.get()) else { return EventClass::Volatile };
    let name = peek.event.or(peek.kind).unwrap_or_default();
    let properties = peek.properties.unwrap_or_default();
    let (info, part) = (properties.info.unwrap_or_default(), properties.part.unwrap_or_default());
    agent_event_class(&name, info.id.as_deref(), part.message_id.as_deref().zip(part.id.as_deref()))
}

/// The class of the agent server's event `name`: what [`event_class`] says once it travels. `message` is the id in its
/// `properties.info`, `part` the message's and the part's id in its `properties.part`.
pub fn agent_event_class(name: &str, message: Option<&str>, part: Option<(&str, &str)>) -> EventClass {
    if STORED_AGENT_EVENTS.contains(&name) {
        return EventClass::Log;
    }
    let key = match name {
        "message.updated" => message.filter(|id| is_usable(id)).map(|id| format!("message/{id}")),
        "message.part.updated" => part
            .filter(|(message, part)| is_usable(message) && is_usable(part))
            .map(|(message, part)| format!("part/{message}/{part}")),
        _ => None,
    };
    key.map_or(EventClass::Volatile, EventClass::Entity)
}

/// The few fields of an agent-server event that decide its class.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    properties: Option<PeekProperties<'a>>,
}

#[derive(Default, Deserialize)]
struct PeekProperties<'a> {
    #[serde(borrow)]
    info: Option<PeekEntity<'a>>,
    #[serde(borrow)]
    part: Option<PeekEntity<'a>>,
}

#[derive(Default, Deserialize)]
struct PeekEntity<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "messageID")]
    message_id: Option<Cow<'a, str>>,
}

/// An id that can be part of a key: not empty, and of a sane length.
fn is_usable(id: &str) -> bool {
    (1..=256).contains(&id.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(stream_event_type: &str, data: &str) -> EventClass {
        event_class(stream_event_type, &RawValue::from_string(data.to_owned()).unwrap())
    }

    #[test]
    fn stream_types_by_table() {
        for stored in STORED_TYPES {
            assert_eq!(class(stored, "{}"), EventClass::Log);
        }
        for volatile in [
            "heartbeat",
            "pong",
            "output",
            "status",
            "started",
            "wrapper_resumed",
            "preparing",
            "cloud.status",
            "connected",
            "anything",
        ] {
            assert_eq!(class(volatile, "{}"), EventClass::Volatile);
        }
    }

    #[test]
    fn agent_events_by_table() {
        for stored in STORED_AGENT_EVENTS {
            assert_eq!(class(KILOCODE, &format!(r#"{{"event":"{stored}"}}"#)), EventClass::Log);
        }
        for volatile in
            ["question.asked", "permission.asked", "message.part.delta", "session.diff", "session.completed"]
        {
            assert_eq!(
                class(KILOCODE, &format!(r#"{{"event":"{volatile}","properties":{{}}}}"#)),
                EventClass::Volatile
            );
        }
    }

    #[test]
    fn entities_have_keys() {
        assert_eq!(
            class(KILOCODE, r#"{"event":"message.updated","properties":{"info":{"id":"msg_1","role":"user"}}}"#),
            EventClass::Entity("message/msg_1".into())
        );
        assert_eq!(
            class(
                KILOCODE,
                r#"{"event":"message.part.updated","properties":{"part":{"id":"prt_1","messageID":"msg_1"}}}"#
            ),
            EventClass::Entity("part/msg_1/prt_1".into())
        );
    }

    #[test]
    fn an_entity_without_a_usable_id_is_not_stored() {
        for data in [
            r#"{"event":"message.updated"}"#,
            r#"{"event":"message.updated","properties":{"info":{"id":""}}}"#,
            r#"{"event":"message.part.updated","properties":{"part":{"id":"prt_1"}}}"#,
            "7",
            "null",
        ] {
            assert_eq!(class(KILOCODE, data), EventClass::Volatile, "{data}");
        }
    }
}
