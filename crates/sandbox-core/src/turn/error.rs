//! What the agent server says went wrong, and whether trying on makes sense.

use serde::Deserialize;
use std::borrow::Cow;

/// The longest text of an error that is repeated elsewhere, in characters.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// The error of a `session.error`: `{name, data:{message, statusCode?, …}}`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct AgentError<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<Data<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(default, rename = "statusCode")]
    status_code: Option<i64>,
}

impl AgentError<'_> {
    /// Whether no further attempt can succeed: someone has to pay first (spec/session.md 8.5).
    pub(crate) fn is_terminal(&self) -> bool {
        let name = self.name.as_deref().unwrap_or_default();
        let text = self.text().unwrap_or_default().to_lowercase();
        matches!(name, "insufficient_funds" | "payment_required")
            || self.data.as_ref().is_some_and(|data| data.status_code == Some(402))
            || ["payment", "credit", "balance", "quota", "insufficient_funds"].iter().any(|word| text.contains(word))
    }

    /// Whether someone stopped the agent.
    pub(crate) fn is_abort(&self) -> bool {
        self.name.as_deref() == Some("MessageAbortedError")
    }

    /// The error for a person.
    pub(crate) fn message(&self) -> String {
        let text = self.text().or(self.name.as_deref()).unwrap_or("The agent reported an error without a message");
        text.chars().take(MESSAGE_CHARS_MAX).collect()
    }

    fn text(&self) -> Option<&str> {
        self.data.as_ref()?.message.as_deref().filter(|message| !message.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> AgentError<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn errors_of_payment_are_terminal() {
        for terminal in [
            r#"{"name":"payment_required"}"#,
            r#"{"name":"insufficient_funds","data":{}}"#,
            r#"{"name":"APIError","data":{"message":"no","statusCode":402}}"#,
            r#"{"name":"APIError","data":{"message":"Insufficient Credits"}}"#,
            r#"{"name":"UnknownError","data":{"message":"your balance is too low"}}"#,
            r#"{"data":{"message":"Quota exceeded"}}"#,
        ] {
            assert!(error(terminal).is_terminal(), "{terminal}");
        }
        for other in [
            "{}",
            r#"{"name":"APIError","data":{"message":"bad key","statusCode":401}}"#,
            r#"{"name":"MessageAbortedError"}"#,
        ] {
            assert!(!error(other).is_terminal(), "{other}");
        }
    }

    #[test]
    fn there_is_always_something_to_say() {
        assert_eq!(error(r#"{"name":"APIError","data":{"message":"bad key"}}"#).message(), "bad key");
        assert_eq!(error(r#"{"name":"APIError","data":{"message":""}}"#).message(), "APIError");
        assert_eq!(error("{}").message(), "The agent reported an error without a message");
        let long = format!(r#"{{"data":{{"message":"{}"}}}}"#, "é".repeat(9_000));
        assert_eq!(error(&long).message().chars().count(), 2_000);
    }
}
