//! Recorded streams of the real agent server, for tests: `fixtures/kilo/`.
#![cfg(test)]

use serde_json::Value;

/// 7.7.9 and 7.0.33, whose orders differ.
pub(crate) const RECORDINGS: [&str; 2] = [
    include_str!("../../../fixtures/kilo/kilo-sse-transcript.jsonl"),
    include_str!("../../../fixtures/kilo/kilo-sse-transcript-7.0.33.jsonl"),
];

/// One line of a recording.
pub(crate) struct Line {
    /// Milliseconds since the recording began.
    pub ms: i64,
    pub what: What,
}

pub(crate) enum What {
    /// An event's text.
    Event(String),
    /// Begins a scenario.
    Note(String),
    /// A request of the recording client: method and path.
    Request(String),
    /// An answer: path and status.
    Response(String, u64),
}

pub(crate) fn lines(recording: &str) -> impl Iterator<Item = Line> {
    recording.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        let what = match line["dir"].as_str().unwrap() {
            "note" => What::Note(text("text")),
            "req" => What::Request(format!("{} {}", text("method"), text("path"))),
            "res" => What::Response(text("path"), line["status"].as_u64().unwrap()),
            "sse" => What::Event(line["data"].to_string()),
            other => panic!("unknown line {other}"),
        };
        Line { ms: line["ms"].as_i64().unwrap(), what }
    })
}

/// All events of a recording.
pub(crate) fn payloads(recording: &str) -> Vec<String> {
    lines(recording)
        .filter_map(|line| match line.what {
            What::Event(payload) => Some(payload),
            _ => None,
        })
        .collect()
}
