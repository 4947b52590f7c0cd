//! Requests to the town's container, through the object that owns it.

use crate::http;
use crate::object::ask_by_method;
use object_core::time::SECOND;
use protocol::sandbox::ApiError;
use serde::Deserialize;
use town_core::message::effect::Outcome;
use worker::Env;
use worker::Method;
use worker::Request;
use worker::RequestInit;

/// How long an answer may take, where no effect sets a shorter limit: longer than every limit of the container's object.
const ANSWER_MS: i64 = 120 * SECOND;

/// The words of a container are cut to this: they end up in the log.
const REASON_CHARS_MAX: usize = 200;

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

/// An error as the container's object or the container tells it.
#[derive(Deserialize)]
struct Told {
    error: String,
}

/// Sends a request to the container of `town`. With `?wake=1` in `path` it is started for it.
pub async fn send(env: &Env, town: &str, method: Method, path: &str, body: Option<&str>) -> worker::Result<Reply> {
    let mut init = RequestInit::new();
    init.with_method(method);
    if let Some(body) = body {
        init.headers.set("content-type", "application/json")?;
        init.with_body(Some(body.into()));
    }
    let request = Request::new_with_init(&format!("http://container{path}"), &init)?;
    // What is posted may have worked although its answer is lost: the ledger decides whether it is sent again, and asks first.
    let mut response = ask_by_method(env, "TOWN_CONTAINER", town, request, ANSWER_MS).await?;
    Ok(Reply { status: response.status_code(), body: response.bytes().await? })
}

impl Reply {
    /// What it means where nothing else was agreed.
    pub fn outcome(&self) -> Outcome {
        match self.status {
            200..=299 => Outcome::Done,
            410 => Outcome::NotRunning,
            408 | 429 | 502..=504 => Outcome::Unknown { reason: self.text() },
            _ => Outcome::Failed { reason: self.text() },
        }
    }

    /// Whether the container was not reached: it is not up yet, or says nothing.
    pub fn is_unreached(&self) -> bool {
        self.status == 503
            && http::parse::<ApiError>(&self.body).is_ok_and(|error| error.error == "SANDBOX_CONNECT_FAILED")
    }

    /// The error that it tells.
    pub fn text(&self) -> String {
        let told = http::parse::<Told>(&self.body).map(|told| told.error);
        let text = told.unwrap_or_else(|_| format!("the container answered {}", self.status));
        text.chars().take(REASON_CHARS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, body: body.into() }
    }

    #[test]
    fn an_answer_is_told_apart_from_silence() {
        assert_eq!(reply(202, "{}").outcome(), Outcome::Done);
        assert_eq!(reply(410, "{}").outcome(), Outcome::NotRunning);
        assert_eq!(reply(400, r#"{"error":"bad"}"#).outcome(), Outcome::Failed { reason: "bad".into() });
        assert_eq!(reply(502, "").outcome(), Outcome::Unknown { reason: "the container answered 502".into() });
        assert_eq!(reply(400, &format!(r#"{{"error":"{}"}}"#, "x".repeat(999))).text().len(), REASON_CHARS_MAX);
    }

    #[test]
    fn a_container_that_drains_was_reached() {
        assert!(reply(503, r#"{"error":"SANDBOX_CONNECT_FAILED","message":"m"}"#).is_unreached());
        assert!(!reply(503, r#"{"error":"Container is draining, cannot start new agents"}"#).is_unreached());
    }
}
