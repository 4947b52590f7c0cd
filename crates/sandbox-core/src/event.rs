//! An event on its way to the object: what it is, how it is kept, and its data, ready made.

use protocol::event::EventClass;
use protocol::event::KILOCODE;
use protocol::event::event_class;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::value::to_raw_value;
use std::borrow::Cow;

/// One event, without a number and without a time: both come when it is spooled.
#[derive(Clone, Debug)]
pub struct Event {
    kind: Cow<'static, str>,
    /// JSON.
    data: String,
    class: EventClass,
}

impl Event {
    /// An event of stream type `kind` (spec/session.md 5.2). Its class follows from the one table.
    pub fn new(kind: impl Into<Cow<'static, str>>, data: Box<RawValue>) -> Self {
        let kind = kind.into();
        let class = event_class(&kind, &data);
        Self { kind, data: Box::<str>::from(data).into_string(), class }
    }

    /// An event of the agent server, with the JSON under which it travels.
    pub(crate) fn of_agent(class: EventClass, data: String) -> Self {
        Self { kind: Cow::Borrowed(KILOCODE), data, class }
    }

    /// The stream type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The event's own fields, as JSON.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// The same event with other data: its class stays.
    pub(crate) fn with_data(self, data: String) -> Self {
        Self { data, ..self }
    }

    /// How the event is kept.
    pub fn class(&self) -> &EventClass {
        &self.class
    }

    /// Whether the event ends an execution, or says that it failed. Such an event is never given up.
    pub fn is_lifecycle(&self) -> bool {
        is_lifecycle(&self.kind)
    }

    /// Auto-commit has begun.
    pub fn autocommit_started(message: &str) -> Self {
        Self::of("autocommit_started", &AutoCommitStarted { message })
    }

    /// Auto-commit has ended.
    pub fn autocommit_completed(result: &AutoCommitCompleted) -> Self {
        Self::of("autocommit_completed", result)
    }

    /// The execution is done.
    pub fn complete(execution_id: &str, kilo_session_id: &str, current_branch: Option<&str>) -> Self {
        Self::of("complete", &Complete { exit_code: 0, execution_id, kilo_session_id, current_branch })
    }

    /// The execution cannot go on.
    pub fn fatal(error: &str) -> Self {
        Self::of("error", &Fatal { error, fatal: true })
    }

    /// The execution was stopped by someone.
    pub fn interrupted(reason: &str) -> Self {
        Self::of("interrupted", &Interrupted { reason })
    }

    /// A line of output of a process other than the agent; `source` is `stdout` or `stderr`.
    pub fn output(content: &str, source: &str) -> Self {
        Self::of("output", &ProcessOutput { content, source })
    }

    pub(crate) fn heartbeat(execution_id: &str) -> Self {
        Self::of("heartbeat", &OfExecution { execution_id })
    }

    pub(crate) fn pong(execution_id: &str) -> Self {
        Self::of("pong", &OfExecution { execution_id })
    }

    pub(crate) fn wrapper_resumed(buffered_events: usize, events_lost: bool) -> Self {
        Self::of("wrapper_resumed", &WrapperResumed { buffered_events, events_lost })
    }

    pub(crate) fn events_lost(from: u64, to: u64) -> Self {
        Self::of("events_lost", &EventsLost { from, to })
    }

    fn of(kind: &'static str, data: &impl Serialize) -> Self {
        // Plain structs of strings and numbers always serialise.
        Self::new(kind, to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

/// Whether a stream type ends an execution, or says that it failed.
pub(crate) fn is_lifecycle(kind: &str) -> bool {
    matches!(kind, "complete" | "error" | "interrupted")
}

/// The data of `autocommit_completed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoCommitCompleted {
    /// False when the work could not be committed.
    pub success: bool,
    /// For a person.
    pub message: String,
    /// Whether there was nothing to do, or it was not allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<bool>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_hash: Option<String>,
    /// Its message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_message: Option<String>,
}

#[derive(Serialize)]
struct AutoCommitStarted<'a> {
    message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Complete<'a> {
    exit_code: i32,
    execution_id: &'a str,
    kilo_session_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_branch: Option<&'a str>,
}

#[derive(Serialize)]
struct EventsLost {
    from: u64,
    to: u64,
}

#[derive(Serialize)]
struct Fatal<'a> {
    error: &'a str,
    fatal: bool,
}

#[derive(Serialize)]
struct Interrupted<'a> {
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfExecution<'a> {
    execution_id: &'a str,
}

#[derive(Serialize)]
struct ProcessOutput<'a> {
    content: &'a str,
    source: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrapperResumed {
    buffered_events: usize,
    events_lost: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_is_pinned() {
        for (event, kind, data, stored) in [
            (Event::autocommit_started("Committing"), "autocommit_started", r#"{"message":"Committing"}"#, true),
            (
                Event::complete("exc_1", "ses_1", Some("main")),
                "complete",
                r#"{"exitCode":0,"executionId":"exc_1","kiloSessionId":"ses_1","currentBranch":"main"}"#,
                true,
            ),
            (Event::fatal("Boom"), "error", r#"{"error":"Boom","fatal":true}"#, true),
            (Event::interrupted("aborted via API"), "interrupted", r#"{"reason":"aborted via API"}"#, true),
            (Event::events_lost(2, 9), "events_lost", r#"{"from":2,"to":9}"#, true),
            (Event::heartbeat("exc_1"), "heartbeat", r#"{"executionId":"exc_1"}"#, false),
            (Event::pong("exc_1"), "pong", r#"{"executionId":"exc_1"}"#, false),
            (Event::wrapper_resumed(3, true), "wrapper_resumed", r#"{"bufferedEvents":3,"eventsLost":true}"#, false),
            (Event::output("hi", "stdout"), "output", r#"{"content":"hi","source":"stdout"}"#, false),
        ] {
            assert_eq!((event.kind(), event.data(), event.class().is_stored()), (kind, data, stored));
        }
    }

    #[test]
    fn auto_commit_leaves_out_what_it_does_not_know() {
        let result = AutoCommitCompleted {
            success: true,
            message: "Nothing to commit".into(),
            skipped: Some(true),
            commit_hash: None,
            commit_message: None,
        };
        let event = Event::autocommit_completed(&result);
        assert_eq!(event.data(), r#"{"success":true,"message":"Nothing to commit","skipped":true}"#);
    }

    #[test]
    fn only_ends_and_errors_are_lifecycle_events() {
        assert!(Event::interrupted("x").is_lifecycle() && Event::fatal("x").is_lifecycle());
        assert!(!Event::autocommit_started("x").is_lifecycle() && !Event::heartbeat("x").is_lifecycle());
    }
}
