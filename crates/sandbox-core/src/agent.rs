//! One event of the agent server as it arrives: `{id?,type,properties}` (spec/kilo.md 5). Parsed once, for everyone who looks at it.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// One event of the agent server. What is inside `properties` is looked at only by those whom the type concerns.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentEvent<'a> {
    /// The event's name, such as `session.idle`.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// The event's fields; a `sync` event has none.
    #[serde(borrow, default)]
    pub properties: Option<&'a RawValue>,
}

impl<'a> AgentEvent<'a> {
    /// Parses the `data:` of one SSE event. An error says what is wrong with the text; such an event can only be skipped.
    pub fn parse(payload: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(payload)
    }

    /// The agent session that the event is about: of its own field, or of its part or info (7.0.33 has only those).
    pub fn session_id(&self) -> Option<Cow<'a, str>> {
        let scope = self.read::<Scope>()?;
        let info = scope.info.and_then(|info| {
            let own = if self.kind.starts_with("session.") { info.id } else { None };
            info.session_id.or(own)
        });
        scope.session_id.or(scope.part.and_then(|part| part.session_id)).or(info)
    }

    /// The event's fields as `T`, if they have that form.
    pub(crate) fn read<T: Deserialize<'a>>(&self) -> Option<T> {
        serde_json::from_str(self.properties?.get()).ok()
    }
}

#[derive(Deserialize)]
struct Scope<'a> {
    #[serde(borrow, default, rename = "sessionID")]
    session_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    part: Option<Inner<'a>>,
    #[serde(borrow, default)]
    info: Option<Inner<'a>>,
}

#[derive(Deserialize)]
struct Inner<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "sessionID")]
    session_id: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(payload: &str) -> Option<String> {
        AgentEvent::parse(payload).unwrap().session_id().map(Cow::into_owned)
    }

    #[test]
    fn the_session_is_found_in_both_versions_forms() {
        for payload in [
            r#"{"id":"evt_1","type":"session.idle","properties":{"sessionID":"ses_1"}}"#,
            r#"{"type":"message.part.updated","properties":{"part":{"id":"prt_1","sessionID":"ses_1"}}}"#,
            r#"{"type":"message.updated","properties":{"info":{"id":"msg_1","sessionID":"ses_1"}}}"#,
            r#"{"type":"session.created","properties":{"info":{"id":"ses_1"}}}"#,
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
    fn what_is_not_an_event_is_an_error() {
        for payload in ["", "null", "{}", "[]", r#"{"type":7}"#, r#"{"type":"a""#] {
            assert!(AgentEvent::parse(payload).is_err(), "{payload}");
        }
    }
}
