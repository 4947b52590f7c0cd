//! From the town's answer to what the model reads.

use super::table::Tool;
use reqwest::StatusCode;
use serde_json::Value;
use serde_json::json;

/// A model's context is small; a list that is longer can be asked for in parts.
const TEXT_BYTES_MAX: usize = 128 * 1024;

/// What a tool says to the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// In words, or JSON.
    pub text: String,
    /// Whether it did not do what was asked.
    pub is_error: bool,
}

impl Said {
    /// It did not do what was asked.
    pub fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: true }
    }

    /// Reads an answer: `data` of a success, the town's own words of a failure.
    pub fn read(tool: &Tool, status: StatusCode, body: &[u8]) -> Self {
        if status == StatusCode::NOT_FOUND
            && let Some(text) = tool.absent
        {
            return Self { text: text.to_owned(), is_error: false };
        }
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        if status.is_success() {
            let data = answer.get("data").unwrap_or(&answer);
            return Self { text: cut(data.to_string()), is_error: false };
        }
        let words = answer.get("error").and_then(Value::as_str).unwrap_or("the town said no more");
        let issues = answer.get("issues").map(|issues| format!(" {issues}")).unwrap_or_default();
        Self::error(cut(format!("{} ({}){issues}", words, status.as_u16())))
    }

    /// As `tools/call` answers it.
    pub fn result(&self) -> Value {
        json!({ "content": [{ "type": "text", "text": self.text }], "isError": self.is_error })
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" … (cut: ask for less)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Said {
        Said::read(&Tool::get("x"), StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn the_model_reads_the_data_or_the_towns_own_words() {
        let good = Said { text: r#"{"a":1}"#.into(), is_error: false };
        assert_eq!(said(201, r#"{"success":true,"data":{"a":1}}"#), good);
        let bad = said(400, r#"{"success":false,"error":"Validation failed","issues":[{"path":["title"]}]}"#);
        assert_eq!(bad, Said::error(r#"Validation failed (400) [{"path":["title"]}]"#));
        assert_eq!(said(502, "<html>"), Said::error("the town said no more (502)"));
    }

    #[test]
    fn nothing_there_is_an_answer_where_that_is_said() {
        let tool = Tool { absent: Some("none"), ..Tool::get("x") };
        let said = Said::read(&tool, StatusCode::NOT_FOUND, b"{}");
        assert_eq!(said, Said { text: "none".into(), is_error: false });
        assert!(Said::read(&Tool::get("x"), StatusCode::NOT_FOUND, b"{}").is_error);
    }

    #[test]
    fn a_long_answer_is_cut_between_characters() {
        let said = said(200, &json!({ "data": "ü".repeat(TEXT_BYTES_MAX) }).to_string());
        assert!(said.text.len() < TEXT_BYTES_MAX + 64 && said.text.ends_with("(cut: ask for less)"));
    }
}
