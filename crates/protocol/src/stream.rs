//! The stream WebSocket: events to viewers (spec/session.md 6.4).

use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// One event as a viewer gets it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamEvent<'a> {
    /// Over 0: a stored event, usable as `fromId`. 0: volatile, never a cursor.
    pub event_id: i64,
    /// The execution, or `prep_<session id>` for preparation, or null in `connected`.
    #[serde(borrow)]
    pub execution_id: Option<Cow<'a, str>>,
    /// The session.
    #[serde(borrow)]
    pub session_id: Cow<'a, str>,
    /// What kind of event.
    #[serde(borrow)]
    pub stream_event_type: Cow<'a, str>,
    /// ISO 8601, UTC, milliseconds.
    #[serde(borrow)]
    pub timestamp: Cow<'a, str>,
    /// The event's own fields.
    #[serde(borrow)]
    pub data: &'a RawValue,
}

/// An error as a viewer gets it. The socket stays open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamError {
    /// Always `error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `WS_PROTOCOL_ERROR`, `WS_AUTH_ERROR`, `WS_INTERNAL_ERROR` …
    pub code: String,
    /// For a person.
    pub message: String,
}

impl StreamError {
    /// An error frame.
    pub fn new(code: &str, message: &str) -> Self {
        Self { kind: "error".into(), code: code.into(), message: message.into() }
    }
}

/// What the cloud side is doing: the `data` of `cloud.status`, and part of `connected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudStatus {
    /// `preparing`, `ready`, `finalizing` or `error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The step of a preparation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_frame_is_pinned() {
        let data = RawValue::from_string(r#"{"b": 1}"#.into()).unwrap();
        let event = StreamEvent {
            event_id: 3,
            execution_id: Some("exc_1".into()),
            session_id: "agent_1".into(),
            stream_event_type: "complete".into(),
            timestamp: "2026-01-01T00:00:00.000Z".into(),
            data: &data,
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"eventId":3,"executionId":"exc_1","sessionId":"agent_1","streamEventType":"complete","timestamp":"2026-01-01T00:00:00.000Z","data":{"b": 1}}"#
        );
    }
}
