//! The stream WebSocket: events to viewers (spec/session.md 6.4).

use serde::Deserialize;
use serde::Serialize;

/// One event as a viewer gets it, but for its last field: `data`, which is the event's own and is never rebuilt.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamHead<'a> {
    /// Over 0: a stored event, usable as `fromId`. 0: volatile, never a cursor.
    pub event_id: i64,
    /// The execution, or `prep_<session id>` for preparation, or null in `connected`.
    pub execution_id: Option<&'a str>,
    /// The session.
    pub session_id: &'a str,
    /// What kind of event.
    pub stream_event_type: &'a str,
    /// ISO 8601, UTC, milliseconds.
    pub timestamp: &'a str,
}

impl StreamHead<'_> {
    /// The whole frame. `data` is JSON text.
    pub fn with_data(&self, data: &str) -> serde_json::Result<String> {
        const BETWEEN: &str = ",\"data\":";
        let head = serde_json::to_string(self)?;
        let mut frame = String::with_capacity(head.len().saturating_add(BETWEEN.len()).saturating_add(data.len()));
        frame.push_str(head.strip_suffix('}').unwrap_or_default());
        frame.push_str(BETWEEN);
        frame.push_str(data);
        frame.push('}');
        Ok(frame)
    }
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
        let head = StreamHead {
            event_id: 3,
            execution_id: Some("exc_1"),
            session_id: "agent_1",
            stream_event_type: "complete",
            timestamp: "2026-01-01T00:00:00.000Z",
        };
        assert_eq!(
            head.with_data(r#"{"b": 1}"#).unwrap(),
            r#"{"eventId":3,"executionId":"exc_1","sessionId":"agent_1","streamEventType":"complete","timestamp":"2026-01-01T00:00:00.000Z","data":{"b": 1}}"#
        );
    }
}
