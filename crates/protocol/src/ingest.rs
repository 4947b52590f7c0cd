//! The ingest WebSocket: a wrapper's events up, the object's commands down (spec/session.md 5, design 3).
//!
//! A wrapper that numbers its events gets exactly-once: the object's first frame is [`Command::Resume`], every frame that held
//! a `seq` is answered by [`Command::Ack`] after the write, a gap closes the socket with [`CLOSE_GAP`]. A wrapper that does
//! not (upstream's) gets upstream's at-least-once.

use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The largest frame either way, in bytes: the platform closes the socket beyond it.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// The most events in one frame.
pub const FRAME_EVENTS_MAX: usize = 500;
/// Close code for a numbered event that does not follow the last stored one. Nothing of the frame was stored.
pub const CLOSE_GAP: u16 = 4002;
/// Close code and reason of a socket whose place a newer one took.
pub const CLOSE_REPLACED: (u16, &str) = (1000, "Replaced by new connection");
/// Close code and reason of a socket whose execution has been over for so long that its handshake would get the same answer, with 409.
pub const CLOSE_OVER: (u16, &str) = (4409, "Execution not active");

/// One event as it travels: a plain struct around `data`, which is never rebuilt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngestEvent<'a> {
    /// What kind of event, spec/session.md 5.2.
    #[serde(borrow)]
    pub stream_event_type: Cow<'a, str>,
    /// When it happened, ISO 8601; the object's clock where absent.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Cow<'a, str>>,
    /// Present on stored events of a numbering wrapper: 1, 2, 3 … per execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The event's own fields.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
}

impl<'a> IngestEvent<'a> {
    /// `data`, or JSON `null`.
    pub fn data(&self) -> &'a RawValue {
        self.data.unwrap_or(RawValue::NULL)
    }
}

/// Why a frame was not taken. The socket stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Not JSON, or not of the frame's shape; holds the parser's words.
    Malformed(String),
    /// An event without `streamEventType`.
    MissingType,
    /// An array of no events, or of more than [`FRAME_EVENTS_MAX`].
    EventCount(usize),
    /// More than [`FRAME_BYTES_MAX`] bytes.
    TooLarge(usize),
}

/// The events of one frame: one object, or an array of 1 to 500.
pub fn parse_frame(text: &str) -> Result<Vec<IngestEvent<'_>>, FrameError> {
    if text.len() > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(text.len()));
    }
    let events = if text.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<IngestEvent>>(text).map_err(malformed)?
    } else {
        vec![serde_json::from_str::<IngestEvent>(text).map_err(malformed)?]
    };
    if events.is_empty() || events.len() > FRAME_EVENTS_MAX {
        return Err(FrameError::EventCount(events.len()));
    }
    Ok(events)
}

fn malformed(error: serde_json::Error) -> FrameError {
    if error.to_string().starts_with("missing field `streamEventType`") {
        FrameError::MissingType
    } else {
        FrameError::Malformed(error.to_string())
    }
}

/// What the object sends down the ingest socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Command {
    /// Every numbered event up to and including `seq` is stored.
    Ack { seq: u64 },
    /// A frame was not taken.
    Error { code: String, message: String },
    /// Stop the agent. `signal` is `SIGTERM` where absent.
    Kill {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<String>,
    },
    /// Answer with a `pong` event.
    Ping,
    /// Answer with the agent's current status, questions and permissions.
    RequestSnapshot,
    /// The first frame of every connection: where the log stands. Nothing numbered is sent before it.
    Resume { last_seq: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_event_or_an_array() {
        let one = parse_frame(r#"{"streamEventType":"output","timestamp":"t","data":{"a":1}}"#).unwrap();
        assert_eq!((one.len(), one[0].data().get(), one[0].seq), (1, r#"{"a":1}"#, None));
        let two =
            parse_frame(r#" [{"streamEventType":"a","seq":1},{"streamEventType":"b\n","seq":2,"data":[]}]"#).unwrap();
        assert_eq!((two[1].seq, two[0].data().get(), two[1].stream_event_type.as_ref()), (Some(2), "null", "b\n"));
    }

    #[test]
    fn bad_frames_say_what_is_wrong() {
        assert_eq!(parse_frame(r#"{"data":1}"#).unwrap_err(), FrameError::MissingType);
        assert_eq!(parse_frame("[]").unwrap_err(), FrameError::EventCount(0));
        assert!(matches!(parse_frame("{"), Err(FrameError::Malformed(_))));
        assert!(matches!(parse_frame(&" ".repeat(FRAME_BYTES_MAX + 1)), Err(FrameError::TooLarge(_))));
        let many = format!("[{}]", vec![r#"{"streamEventType":"a"}"#; 501].join(","));
        assert_eq!(parse_frame(&many).unwrap_err(), FrameError::EventCount(501));
    }

    #[test]
    fn commands_are_pinned() {
        let text = |c: &Command| serde_json::to_string(c).unwrap();
        assert_eq!(text(&Command::Resume { last_seq: 7 }), r#"{"type":"resume","lastSeq":7}"#);
        assert_eq!(text(&Command::Ack { seq: 7 }), r#"{"type":"ack","seq":7}"#);
        assert_eq!(text(&Command::Kill { signal: None }), r#"{"type":"kill"}"#);
        assert_eq!(text(&Command::RequestSnapshot), r#"{"type":"request_snapshot"}"#);
    }
}
