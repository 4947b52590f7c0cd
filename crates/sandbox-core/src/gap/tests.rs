//! What comes back after a gap, and what must not.
#![cfg(test)]

use super::*;
use serde_json::Value;
use serde_json::json;

/// When the prompt was sent.
const SINCE_MS: i64 = 1_000;

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
    gap.close(&session(), &prompt(), SINCE_MS, answers).unwrap()
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
fn what_was_said_before_a_prompt_that_is_not_taken_up_yet_is_not_its_answer() {
    let before = json!([{ "info": { "id": "msg_old", "role": "assistant", "time": { "created": 999 } }, "parts": [] }]);
    let found = close(Gap::default(), &answers(&before, false));
    assert_eq!((brief(&found.events), found.turn), (vec!["session.status".to_owned()], TurnFound::default()));
}

#[test]
fn of_a_long_turn_whose_prompt_is_too_far_back_the_newest_messages_come() {
    let page = json!([
        { "info": { "id": "msg_a", "role": "assistant", "time": { "created": 1_000 } }, "parts": [] },
        { "info": { "id": "msg_b", "role": "assistant", "time": { "created": 1_001 } }, "parts": [] },
    ]);
    let found = close(Gap::default(), &answers(&page, false));
    assert_eq!(brief(&found.events), ["msg_a", "msg_b", "session.status"]);
    assert!(found.turn.answered);
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
    let failed = json!([{ "info": { "id": "msg_child", "role": "assistant", "error": { "name": "x" } }, "parts": [] }]);
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
    assert_eq!(gap.close(&session(), &prompt(), SINCE_MS, &answers(&messages(), false)), None);
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
