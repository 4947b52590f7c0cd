//! The log: one JSON object per line on stderr, with ids, without secrets.

use crate::clock::now_ms;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;

/// How many of the last lines are remembered: some 200 KB.
const RECENT_LINES_MAX: usize = 1_000;

static RECENT: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// What went as it should.
pub fn info(role: &str, event: &str, fields: Value) {
    write("info", role, event, fields);
}

/// What did not, and was dealt with.
pub fn warn(role: &str, event: &str, fields: Value) {
    write("warn", role, event, fields);
}

/// What did not, and ends something.
pub fn error(role: &str, event: &str, fields: Value) {
    write("error", role, event, fields);
}

/// The last lines that hold one of `words`, such as ids.
pub fn recent(words: &[&str]) -> String {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    let about = recent.iter().filter(|line| words.iter().any(|word| line.contains(word)));
    about.flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn remember(line: String) {
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    if recent.len() >= RECENT_LINES_MAX {
        recent.pop_front();
    }
    recent.push_back(line);
}

fn write(level: &str, role: &str, event: &str, fields: Value) {
    let line = line(level, role, event, now_ms(), fields).to_string();
    // At once, because `init` and its child write to the same file. A log that cannot be written must not end what it reports on.
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
    remember(line);
}

/// `fields` is an object; its members come after the fixed ones and cannot replace them.
fn line(level: &str, role: &str, event: &str, time_ms: i64, fields: Value) -> Value {
    let mut line = serde_json::Map::new();
    line.insert("time".to_owned(), time_ms.into());
    line.insert("level".to_owned(), level.into());
    line.insert("role".to_owned(), role.into());
    line.insert("event".to_owned(), event.into());
    if let Value::Object(fields) = fields {
        for (name, value) in fields {
            line.entry(name).or_insert(value);
        }
    }
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_has_its_fixed_members_whatever_the_fields_are() {
        let line = line("info", "init", "started", 7, json!({ "pid": 4, "role": "other" }));
        assert_eq!(line, json!({ "time": 7, "level": "info", "role": "init", "event": "started", "pid": 4 }));
    }

    #[test]
    fn recent_lines_are_found_by_their_ids_and_are_bounded() {
        for n in 0..RECENT_LINES_MAX + 5 {
            remember(format!("line {n} of exc_A"));
        }
        remember("another of exc_B".to_owned());
        assert_eq!(recent(&["exc_B", "exc_C"]), "another of exc_B\n");
        let lines = recent(&["exc_A"]);
        assert!(lines.lines().count() <= RECENT_LINES_MAX && !lines.contains("line 5 "));
    }
}
