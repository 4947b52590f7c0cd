//! Logs: one JSON object per line, with ids, without secrets.

use serde_json::Map;
use serde_json::Value;

/// Something an operator may want to know.
pub fn info(event: &str, fields: &[(&str, &str)]) {
    worker::console_log!("{}", line("info", event, fields));
}

/// Something that should not have happened.
pub fn error(event: &str, fields: &[(&str, &str)]) {
    worker::console_error!("{}", line("error", event, fields));
}

fn line(level: &str, event: &str, fields: &[(&str, &str)]) -> String {
    let pairs = [("level", level), ("event", event)].into_iter().chain(fields.iter().copied());
    Value::Object(pairs.map(|(key, value)| (key.to_owned(), value.into())).collect::<Map<_, _>>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object() {
        let line = line("error", "e", &[("text", "a\n\"b\"")]);
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["text"], "a\n\"b\"");
    }
}
