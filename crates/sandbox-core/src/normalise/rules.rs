//! What becomes of a single agent event: dropped, or its data, trimmed (spec/session.md 5.3, spec/kilo.md 5 and 8).

use super::edit::Edit;
use super::edit::edit_array;
use super::edit::edit_object;
use crate::agent::AgentEvent;
use crate::cut::Cut;
use crate::event::Event;
use crate::json;
use crate::limits::Limits;
use std::borrow::Cow;

/// Events that say nothing about a conversation. `sync` is the twin of the event before it; `plugin.added` and the like come in
/// dozens when the agent server starts.
const DROPPED: [&str; 8] = [
    "catalog.updated",
    "file.watcher.updated",
    "integration.updated",
    "plugin.added",
    "reference.updated",
    "server.connected",
    "server.heartbeat",
    "sync",
];

/// An event that is still too large with its long strings cut is cut to these.
const OVERSIZED_STRING_BYTES: usize = 16 * 1024;

/// Whether nobody is to see the event.
pub(super) fn is_dropped(event: &AgentEvent<'_>) -> bool {
    DROPPED.contains(&event.kind.as_ref())
}

/// The event as it travels: its data are `{event, type, properties}`. Properties without rules are copied as they are.
pub(super) fn event(limits: &Limits, event: &AgentEvent<'_>) -> Event {
    let properties = event.properties.unwrap_or("null");
    let edited = match event.kind.as_ref() {
        "message.part.updated" => {
            trimmer(event).and_then(|trim| edit_member(properties, "part", |part| trim(limits, part)))
        }
        "session.created" | "session.updated" => edit_member(properties, "info", |info| {
            edit_member(info, "summary", |summary| drop_member(summary, "diffs"))
        }),
        _ => None,
    };
    Event::of_agent(event.class(), data(limits, &event.kind, edited.as_deref().unwrap_or(properties)))
}

/// An event of our own, small enough for a frame; the output of a process is cut as that of a tool.
pub(super) fn own(limits: &Limits, event: Event) -> Event {
    let cut = match event.kind() {
        "output" => edit_member(event.data(), "content", |content| cut_string(content, limits.tool_chars_max)),
        _ if event.data().len() > limits.event_bytes_max => smaller(limits, event.data(), 0),
        _ => None,
    };
    match cut {
        Some(data) => event.with_data(data),
        None => event,
    }
}

/// The data of an event `kind` with these properties, small enough for a frame.
pub(super) fn data(limits: &Limits, kind: &str, properties: &str) -> String {
    let overhead = kind.len().saturating_mul(2).saturating_add(64);
    if properties.len().saturating_add(overhead) <= limits.event_bytes_max {
        return wrap(kind, properties);
    }
    wrap(kind, smaller(limits, properties, 1).as_deref().unwrap_or("null"))
}

/// What is left of a JSON text that lies `depth` deep in an event, cut to half an event: the other half is room for what a cut may add.
fn smaller(limits: &Limits, raw: &str, depth: usize) -> Option<String> {
    let cut = Cut { string_bytes_max: OVERSIZED_STRING_BYTES, total_bytes_max: limits.event_bytes_max / 2, depth };
    cut.apply(raw).map(Cow::into_owned)
}

fn wrap(kind: &str, properties: &str) -> String {
    // A name that needs escapes is nobody's; it must not break the frame all the same.
    let kind = if kind.contains(['"', '\\']) || kind.contains(char::is_control) { "" } else { kind };
    let parts = ["{\"event\":\"", kind, "\",\"type\":\"", kind, "\",\"properties\":", properties, "}"];
    parts.concat()
}

/// What is to be trimmed of the event's part; none of a text.
fn trimmer(event: &AgentEvent<'_>) -> Option<fn(&Limits, &str) -> Option<String>> {
    match event.part.kind.as_deref()? {
        "file" => Some(|_, part| trim_file(part)),
        "step-finish" | "step-start" => Some(|_, part| drop_member(part, "snapshot")),
        "tool" => Some(|limits, part| edit_member(part, "state", |state| trim_tool_state(limits, state))),
        _ => None,
    }
}

fn trim_tool_state(limits: &Limits, state: &str) -> Option<String> {
    edit_object(state, |key, value| match key {
        "attachments" => Edit::set_if(edit_array(value, trim_file)),
        "error" | "output" | "raw" => Edit::set_if(cut_string(value, limits.tool_chars_max)),
        "metadata" => Edit::set_if(edit_member(value, "output", |output| cut_string(output, limits.tool_chars_max))),
        _ => Edit::Keep,
    })
}

/// A file that travels inside its own description: the description stays.
fn trim_file(file: &str) -> Option<String> {
    edit_object(file, |key, value| match key {
        "source" => Edit::set_if(edit_member(value, "text", |text| edit_member(text, "value", |_| empty_string()))),
        "url" if value.starts_with("\"data:") => Edit::set_if(empty_string()),
        _ => Edit::Keep,
    })
}

fn edit_member(object: &str, name: &str, mut edit: impl FnMut(&str) -> Option<String>) -> Option<String> {
    edit_object(object, |key, value| if key == name { Edit::set_if(edit(value)) } else { Edit::Keep })
}

fn drop_member(object: &str, name: &str) -> Option<String> {
    edit_object(object, |key, _| if key == name { Edit::Drop } else { Edit::Keep })
}

fn empty_string() -> Option<String> {
    Some("\"\"".to_owned())
}

/// A string of more than `chars_max` characters, cut to that many, marker included.
fn cut_string(value: &str, chars_max: usize) -> Option<String> {
    if value.len() <= chars_max {
        return None;
    }
    let text = json::text(value)?;
    let chars = text.chars().count();
    if chars <= chars_max {
        return None;
    }
    let marker = format!("\n… [{} characters in all]", chars);
    let keep = chars_max.saturating_sub(marker.chars().count());
    let kept: String = text.chars().take(keep).collect();
    serde_json::to_string(&format!("{kept}{marker}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ingest::FRAME_BYTES_MAX;
    use serde_json::Value;
    use serde_json::json;

    fn properties(kind: &str, properties: Value) -> Value {
        let payload = json!({"id": "evt_1", "type": kind, "properties": properties}).to_string();
        let event = AgentEvent::parse(&payload).unwrap();
        let data: Value = serde_json::from_str(super::event(&Limits::default(), &event).data()).unwrap();
        assert_eq!((&data["event"], &data["type"], data.get("id")), (&json!(kind), &json!(kind), None));
        data["properties"].clone()
    }

    fn part(part: Value) -> Value {
        properties("message.part.updated", json!({"sessionID": "ses_1", "part": part, "time": 7}))["part"].clone()
    }

    #[test]
    fn noise_and_twins_are_dropped() {
        for kind in DROPPED {
            assert!(is_dropped(&AgentEvent::parse(&format!(r#"{{"type":"{kind}"}}"#)).unwrap()));
        }
        for kind in ["session.idle", "question.asked", "todo.updated", "file.edited", "an.event.of.tomorrow"] {
            assert!(!is_dropped(&AgentEvent::parse(&format!(r#"{{"type":"{kind}"}}"#)).unwrap()));
        }
    }

    #[test]
    fn what_has_no_rule_stays_as_it_was_written() {
        let payload = r#"{"type":"session.status","properties":{ "b" : 1.0e2,"a":"é\u00e9" },"id":"evt_1"}"#;
        let event = event(&Limits::default(), &AgentEvent::parse(payload).unwrap());
        assert_eq!(
            event.data(),
            r#"{"event":"session.status","type":"session.status","properties":{ "b" : 1.0e2,"a":"é\u00e9" }}"#
        );
    }

    #[test]
    fn long_tool_output_and_raw_input_are_cut_with_a_marker() {
        let long = "é".repeat(10_001);
        let state = part(json!({"type": "tool", "state": {
            "output": long, "raw": long, "title": "t", "input": {"content": long}, "metadata": {"output": long, "exit": 0}
        }}))["state"]
            .clone();
        for cut in [&state["output"], &state["raw"], &state["metadata"]["output"]] {
            let cut = cut.as_str().unwrap();
            assert_eq!(cut.chars().count(), 10_000);
            assert!(cut.ends_with("é\n… [10001 characters in all]"));
        }
        assert_eq!((&state["input"]["content"], &state["title"]), (&json!(long), &json!("t")));
        let whole = json!({"type": "tool", "state": {"output": "é".repeat(10_000)}});
        assert_eq!(part(whole.clone()), whole);
    }

    #[test]
    fn files_travel_without_their_contents() {
        let file = json!({"type": "file", "url": "data:image/png;base64,AAAA", "filename": "a.png",
            "source": {"path": "/a", "text": {"value": "whole file", "start": 1}}});
        let trimmed = json!({"type": "file", "url": "", "filename": "a.png",
            "source": {"path": "/a", "text": {"value": "", "start": 1}}});
        assert_eq!(part(file.clone()), trimmed);
        let tool = part(json!({"type": "tool", "state": {"attachments": [file, {"url": "https://a"}]}}));
        assert_eq!(tool["state"]["attachments"], json!([trimmed, {"url": "https://a"}]));
    }

    #[test]
    fn snapshots_and_summary_diffs_are_removed() {
        assert_eq!(
            part(json!({"type": "step-start", "snapshot": "abc", "id": "p"})),
            json!({"type": "step-start", "id": "p"})
        );
        assert_eq!(
            part(json!({"type": "step-finish", "snapshot": "abc", "cost": 1})),
            json!({"type": "step-finish", "cost": 1})
        );
        let info = json!({"info": {"id": "ses_1", "summary": {"additions": 1, "diffs": [1]}}});
        assert_eq!(properties("session.updated", info), json!({"info": {"id": "ses_1", "summary": {"additions": 1}}}));
    }

    #[test]
    fn our_own_events_fit_a_frame_too() {
        let output = own(&Limits::default(), Event::output(&"x".repeat(2_000_000), "stdout"));
        assert!(output.data().len() < 10_100 && output.data().contains("2000000 characters in all"));
        let error = own(&Limits::default(), Event::fatal(&"x".repeat(2_000_000)));
        assert!(error.data().len() < 20_000 && error.data().ends_with(r#""fatal":true}"#));
        assert!(error.is_lifecycle() && error.class().is_stored());
    }

    #[test]
    fn every_event_fits_a_frame_and_keeps_its_key() {
        let files: Vec<Value> = (0..20_000).map(|n| json!({"file": n.to_string(), "patch": "x".repeat(100)})).collect();
        let huge = part(json!({"id": "prt_1", "messageID": "msg_1", "type": "tool",
            "state": {"input": {"a": "x".repeat(900_000), "b": "y".repeat(900_000)}, "files": files}}));
        assert_eq!((&huge["id"], &huge["messageID"]), (&json!("prt_1"), &json!("msg_1")));
        assert!(huge.to_string().len() < FRAME_BYTES_MAX - 1_000, "{}", huge.to_string().len());
    }
}
