//! One event of the agent server as it arrives: `{id?,type,properties}` (spec/kilo.md 5). Walked once, for everyone who looks at it.

use crate::json;
use crate::json::Invalid;
use protocol::event::EventClass;
use protocol::event::agent_event_class;
use serde::Deserialize;
use std::borrow::Cow;

/// One event of the agent server. What is deeper than its ids is looked at only by those whom the type concerns.
#[derive(Clone, Debug)]
pub struct AgentEvent<'a> {
    /// The event's name, such as `session.idle`.
    pub kind: Cow<'a, str>,
    /// The event's fields, as JSON; a `sync` event has none.
    pub properties: Option<&'a str>,
    session_id: Option<Cow<'a, str>>,
    info: Inner<'a>,
    /// The part that the event is about.
    pub(crate) part: Inner<'a>,
}

/// What identifies a message, a session or a part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inner<'a> {
    id: Option<Cow<'a, str>>,
    message_id: Option<Cow<'a, str>>,
    session_id: Option<Cow<'a, str>>,
    /// Its `type`.
    pub kind: Option<Cow<'a, str>>,
}

impl<'a> AgentEvent<'a> {
    /// Reads the `data:` of one SSE event. An error says what is wrong with the text; such an event can only be skipped.
    pub fn parse(payload: &'a str) -> Result<Self, Invalid> {
        let mut event = Self {
            kind: Cow::Borrowed(""),
            properties: None,
            session_id: None,
            info: Inner::default(),
            part: Inner::default(),
        };
        let mut kind = None;
        json::object(payload, |key, value| {
            match key {
                "type" => kind = json::text(value.raw()?),
                "properties" => event.properties = Some(event.read_properties(value)?),
                _ => {}
            }
            Ok(())
        })?;
        event.kind = kind.ok_or(Invalid { at: 0 })?;
        event.properties = event.properties.filter(|properties| properties.starts_with('{'));
        Ok(event)
    }

    /// The agent session that the event is about: of its own field, or of its part or info (7.0.33 has only those).
    pub fn session_id(&self) -> Option<&str> {
        let own = self.info.id.as_ref().filter(|_| self.kind.starts_with("session."));
        let places = [self.session_id.as_ref(), self.part.session_id.as_ref(), self.info.session_id.as_ref(), own];
        places.into_iter().flatten().next().map(AsRef::as_ref)
    }

    /// Whether it is for those who watch just now, and is nowhere kept.
    pub fn is_volatile(&self) -> bool {
        matches!(self.class(), EventClass::Volatile)
    }

    /// How the event is kept.
    pub(crate) fn class(&self) -> EventClass {
        let ids = [&self.info.id, &self.part.message_id, &self.part.id];
        let [message, message_of_part, part] = ids.map(Option::as_deref);
        agent_event_class(&self.kind, message, message_of_part.zip(part))
    }

    /// The event's fields as `T`, if they have that form.
    pub(crate) fn read<T: Deserialize<'a>>(&self) -> Option<T> {
        serde_json::from_str(self.properties?).ok()
    }

    fn read_properties(&mut self, properties: json::Value<'_, 'a>) -> Result<&'a str, Invalid> {
        properties.walk(|key, value| {
            match key {
                "info" => self.info = Inner::read(value)?,
                "part" => self.part = Inner::read(value)?,
                "sessionID" => self.session_id = json::text(value.raw()?),
                _ => {}
            }
            Ok(())
        })
    }
}

impl<'a> Inner<'a> {
    fn read(value: json::Value<'_, 'a>) -> Result<Self, Invalid> {
        let mut inner = Self::default();
        value.walk(|key, value| {
            match key {
                "id" => inner.id = json::text(value.raw()?),
                "messageID" => inner.message_id = json::text(value.raw()?),
                "sessionID" => inner.session_id = json::text(value.raw()?),
                "type" => inner.kind = json::text(value.raw()?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(payload: &str) -> Option<String> {
        AgentEvent::parse(payload).unwrap().session_id().map(str::to_owned)
    }

    #[test]
    fn the_session_is_found_in_both_versions_forms() {
        for payload in [
            r#"{"id":"evt_1","type":"session.idle","properties":{"sessionID":"ses_1"}}"#,
            r#"{"type":"message.part.updated","properties":{"part":{"id":"prt_1","sessionID":"ses_1"}}}"#,
            r#"{"type":"message.updated","properties":{"info":{"id":"msg_1","sessionID":"ses_1"}}}"#,
            r#"{"properties":{"info":{"id":"ses_\u0031"}},"type":"session.created"}"#,
        ] {
            assert_eq!(session(payload).as_deref(), Some("ses_1"), "{payload}");
        }
    }

    #[test]
    fn an_event_about_no_session_has_none() {
        for payload in [
            r#"{"type":"sync","syncEvent":{"aggregateID":"ses_1"}}"#,
            r#"{"type":"session.idle","properties":null}"#,
            r#"{"type":"session.idle","properties":{"sessionID":7}}"#,
            r#"{"type":"message.updated","properties":{"info":{"id":"msg_1"}}}"#,
            r#"{"type":"file.edited","properties":{"file":"a"}}"#,
        ] {
            assert_eq!(session(payload), None, "{payload}");
        }
    }

    #[test]
    fn the_class_is_that_of_the_event_as_it_travels() {
        for payload in [
            r#"{"type":"session.idle","properties":{"sessionID":"ses_1"}}"#,
            r#"{"type":"message.updated","properties":{"info":{"id":"msg_1","role":"user"}}}"#,
            r#"{"type":"message.updated","properties":{"info":{"id":""}}}"#,
            r#"{"type":"message.updated"}"#,
            r#"{"type":"message.part.updated","properties":{"part":{"id":"prt_1","messageID":"msg_1"}}}"#,
            r#"{"type":"message.part.updated","properties":{"part":{"id":"prt_1"}}}"#,
            r#"{"type":"message.part.delta","properties":{"partID":"prt_1"}}"#,
        ] {
            let event = AgentEvent::parse(payload).unwrap();
            let data = format!(r#"{{"event":"{}","properties":{}}}"#, event.kind, event.properties.unwrap_or("null"));
            let data = serde_json::value::RawValue::from_string(data).unwrap();
            assert_eq!(event.class(), protocol::event::event_class(protocol::event::KILOCODE, &data), "{payload}");
        }
    }

    #[test]
    fn what_is_not_an_event_is_an_error() {
        for payload in ["", "null", "{}", "[]", r#"{"type":7}"#, r#"{"type":"a""#, r#"{"type":"a"} x"#] {
            assert!(AgentEvent::parse(payload).is_err(), "{payload}");
        }
    }
}
