//! What a gap in the agent's event stream held, made good from the agent server's state.
//!
//! The stream has no replay (spec/kilo.md 5), but the server can be asked for what it has now. From its answers come events as the
//! stream would have brought them: messages, parts and status, and what waits for an answer. Two rules make them safe to send:
//!
//! * An entity that the stream speaks of while the server is asked is left out: what the stream said before is in the answer, and
//!   what it says meanwhile may be newer, whichever of both arrives first.
//! * While the session works, a text that is not finished is left out: its end is still to come on the stream, and until then
//!   the server's own copy lacks what only deltas have said.

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

    /// What the gap held, given answers that were asked for once the new subscription was open, and the prompt of the turn.
    /// `None`: too much was said meanwhile, ask again.
    pub fn close(self, session: &KiloSessionId, prompt: &MessageId, answers: &Answers) -> Option<Found> {
        if self.overflowed {
            return None;
        }
        let status: Option<&RawValue> = answers.status.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut found =
            Found { turn: TurnFound { busy: status.is_some(), ..TurnFound::default() }, ..Found::default() };
        for (of, text) in &answers.messages {
            let all: Vec<Message> = serde_json::from_str(text).unwrap_or_default();
            let ours = of == session;
            // The turn's own messages follow its prompt. A prompt that is not on the page came long before all that is.
            let from = all.iter().position(|message| ours && message.id() == prompt.as_str()).unwrap_or(0);
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
    fn id(&self) -> Cow<'_, str> {
        serde_json::from_str::<Info>(self.info.get()).ok().and_then(|info| info.id).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    fn session() -> KiloSessionId {
        KiloSessionId::parse("ses_e03b2959effeetYLbSKCsEOEU2").unwrap()
    }

    fn child() -> KiloSessionId {
        KiloSessionId::parse("ses_e03b2959effeetYLbSKCsEOEU3").unwrap()
    }

    fn prompt() -> MessageId {
        MessageId::parse("msg_0123456789ab0123456789ABCD").unwrap()
    }

    fn text(id: &str, message: &str, end: Option<i64>) -> Value {
        let mut time = json!({ "start": 1 });
        if let Some(end) = end {
            time["end"] = json!(end);
        }
        json!({ "id": id, "messageID": message, "type": "text", "text": id, "time": time })
    }

    fn messages() -> Value {
        json!([
            { "info": { "id": "msg_old", "role": "assistant" }, "parts": [text("prt_old", "msg_old", Some(2))] },
            { "info": { "id": prompt(), "role": "user" }, "parts": [] },
            { "info": { "id": "msg_new", "role": "assistant" }, "parts": [
                text("prt_done", "msg_new", Some(2)),
                text("prt_open", "msg_new", None),
                { "id": "prt_tool", "messageID": "msg_new", "type": "tool", "state": { "status": "running" } },
            ] },
        ])
    }

    fn answers(messages: &Value, busy: bool) -> Answers {
        Answers {
            messages: vec![(session(), messages.to_string())],
            status: busy.then(|| r#"{"type":"busy"}"#.to_owned()),
            permissions: "[]".to_owned(),
            questions: "[]".to_owned(),
        }
    }

    /// The events in short: the entity's id, or the type.
    fn brief(events: &[String]) -> Vec<String> {
        let one = |payload: &String| {
            let event: Value = serde_json::from_str(payload).unwrap();
            let properties = &event["properties"];
            let id = properties["info"]["id"].as_str().or(properties["part"]["id"].as_str());
            id.or(event["type"].as_str()).unwrap().to_owned()
        };
        events.iter().map(one).collect()
    }

    fn close(gap: Gap, answers: &Answers) -> Found {
        gap.close(&session(), &prompt(), answers).unwrap()
    }

    #[test]
    fn the_turns_own_messages_and_parts_come_back_and_the_status_last() {
        let found = close(Gap::default(), &answers(&messages(), false));
        let id = prompt().to_string();
        assert_eq!(brief(&found.events), [&id, "msg_new", "prt_done", "prt_open", "prt_tool", "session.status"]);
        assert_eq!(found.turn, TurnFound { busy: false, answered: true, error: None });
        for payload in &found.events {
            assert_eq!(AgentEvent::parse(payload).unwrap().session_id().unwrap(), session().as_str());
        }
    }

    #[test]
    fn what_the_stream_says_meanwhile_is_not_overwritten_by_an_older_answer() {
        let mut gap = Gap::default();
        let newer = r#"{"type":"message.part.updated","properties":{"part":{"id":"prt_tool","messageID":"msg_new"}}}"#;
        gap.hear(&Limits::default(), &AgentEvent::parse(newer).unwrap());
        let found = close(gap, &answers(&messages(), false));
        assert!(!brief(&found.events).contains(&"prt_tool".to_owned()));
    }

    #[test]
    fn a_text_that_is_being_written_is_left_to_the_stream() {
        let found = close(Gap::default(), &answers(&messages(), true));
        assert!(found.turn.busy);
        assert!(!brief(&found.events).contains(&"prt_open".to_owned()), "{:?}", found.events);
        assert!(brief(&found.events).contains(&"prt_tool".to_owned()));
    }

    #[test]
    fn the_last_message_says_how_the_turn_ended() {
        for (error, expected) in [
            (json!({ "name": "MessageAbortedError", "data": { "message": "Aborted" } }), FoundError::Aborted),
            (
                json!({ "name": "APIError", "data": { "message": "bad key", "statusCode": 401 } }),
                FoundError::Failed { message: "bad key".into(), terminal: false },
            ),
            (
                json!({ "name": "APIError", "data": { "message": "pay", "statusCode": 402 } }),
                FoundError::Failed { message: "pay".into(), terminal: true },
            ),
        ] {
            let mut all = messages();
            all[2]["info"]["error"] = error;
            assert_eq!(close(Gap::default(), &answers(&all, false)).turn.error, Some(expected));
        }
    }

    #[test]
    fn sub_agents_are_complete_too_but_say_nothing_about_the_turn() {
        let mut answers = answers(&json!([]), false);
        let failed =
            json!([{ "info": { "id": "msg_child", "role": "assistant", "error": { "name": "x" } }, "parts": [] }]);
        answers.messages.push((child(), failed.to_string()));
        let found = close(Gap::default(), &answers);
        assert_eq!(brief(&found.events), ["msg_child", "session.status"]);
        assert_eq!(found.turn, TurnFound::default());
    }

    #[test]
    fn what_waits_for_an_answer_is_asked_again() {
        let mut answers = answers(&json!([]), true);
        answers.permissions = json!([{ "id": "per_1", "sessionID": "ses_1" }]).to_string();
        answers.questions = json!([{ "id": "que_1", "sessionID": "ses_1" }]).to_string();
        let found = close(Gap::default(), &answers);
        assert_eq!(brief(&found.requests), ["question.asked", "permission.asked"]);
    }

    #[test]
    fn when_too_much_was_said_meanwhile_the_answers_are_asked_for_again() {
        let limits = Limits { gap_entities_max: 1, ..Limits::default() };
        let mut gap = Gap::default();
        for id in ["a", "b"] {
            let payload = format!(r#"{{"type":"message.updated","properties":{{"info":{{"id":"{id}"}}}}}}"#);
            gap.hear(&limits, &AgentEvent::parse(&payload).unwrap());
        }
        assert_eq!(gap.close(&session(), &prompt(), &answers(&messages(), false)), None);
    }

    #[test]
    fn answers_that_make_no_sense_restore_nothing() {
        let nonsense = Answers { messages: vec![(session(), "null".to_owned())], ..Answers::default() };
        assert_eq!(brief(&close(Gap::default(), &nonsense).events), ["session.status"]);
    }

    #[test]
    fn an_answer_of_any_size_is_cut_while_it_is_read() {
        let limits = Limits { string_bytes_max: 1_000, gap_answer_bytes_max: 10_000, ..Limits::default() };
        let mut answer = Answer::new(&limits);
        let big = json!([{ "info": { "id": "m" }, "parts": [{ "text": "x".repeat(1_000_000) }] }]).to_string();
        big.as_bytes().chunks(777).for_each(|chunk| answer.push(chunk));
        let text = answer.finish().unwrap();
        assert!(text.len() < 2_000 && serde_json::from_str::<Value>(&text).is_ok());
    }
}
