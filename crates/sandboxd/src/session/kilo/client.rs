//! Calls to a running agent server, over loopback.

use super::environment::PROVIDER;
use crate::session::limits;
use protocol::id::KiloSessionId;
use protocol::sandbox::TurnPlan;
use reqwest::Response;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// Why a call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It answered, but not as it should.
    #[error("the agent server answered {status}: {body}")]
    Answer {
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
    },
    /// It did not answer.
    #[error("the agent server did not answer: {0}")]
    Transport(#[from] reqwest::Error),
}

/// A client of one agent server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    session: KiloSessionId,
    model: String,
}

impl Client {
    /// A client of the server on `port`, for `session` with `model`.
    pub fn new(http: reqwest::Client, port: u16, session: KiloSessionId, model: String) -> Self {
        Self { http, base: format!("http://127.0.0.1:{port}"), session, model }
    }

    /// The agent session that this client is for.
    pub fn session(&self) -> &KiloSessionId {
        &self.session
    }

    /// Whether the server knows the session.
    pub async fn knows_session(&self) -> Result<bool, CallError> {
        let url = format!("{}/session/{}", self.base, self.session);
        let answer = self.http.get(url).timeout(limits::AGENT_CALL_TIMEOUT).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        expect_success(answer).await.map(|_| true)
    }

    /// Hands the agent a prompt. It answers at once; what follows comes as events.
    ///
    /// Model and provider are always named: the server would go on using the last one, also a bad one (spec/kilo.md 4).
    pub async fn prompt(&self, turn: &TurnPlan) -> Result<(), CallError> {
        let mut body = json!({
            "parts": [{ "type": "text", "text": turn.prompt }],
            "messageID": turn.message_id,
            "agent": turn.agent,
            "model": { "providerID": PROVIDER, "modelID": self.model },
        });
        if let (Some(variant), Some(members)) = (&turn.variant, body.as_object_mut()) {
            members.insert("variant".to_owned(), json!(variant));
        }
        self.post_to_session("prompt_async", Some(&body)).await
    }

    /// Ends whatever the session is doing. True to the server's word also when it does nothing.
    pub async fn abort(&self) -> Result<(), CallError> {
        self.post_to_session("abort", None).await
    }

    /// Compacts the conversation; answers when that is done.
    pub async fn condense(&self) -> Result<(), CallError> {
        let body = json!({ "providerID": PROVIDER, "modelID": self.model });
        self.post(&format!("session/{}/summarize", self.session), Some(&body), limits::CONDENSE_TIMEOUT).await
    }

    /// Whether the server says that the session is doing something.
    pub async fn is_busy(&self) -> Result<bool, CallError> {
        Ok(self.status().await?.is_some())
    }

    /// What a viewer that comes late has to know, as events: the session's status, and what waits for an answer.
    pub async fn snapshot(&self) -> Result<Vec<String>, CallError> {
        let status = self.status().await?.unwrap_or_else(|| json!({ "type": "idle" }));
        let mut events = vec![event("session.status", json!({ "sessionID": self.session, "status": status }))];
        for (path, name) in [("question", "question.asked"), ("permission", "permission.asked")] {
            let waiting: Vec<Value> = self.ask(path).await?;
            events.extend(waiting.into_iter().map(|properties| event(name, properties)));
        }
        Ok(events)
    }

    /// What the session is doing. Idle ones are not in the server's list.
    async fn status(&self) -> Result<Option<Value>, CallError> {
        let mut statuses: Map<String, Value> = self.ask("session/status").await?;
        Ok(statuses.remove(self.session.as_str()))
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let call = self.http.get(format!("{}/{path}", self.base)).timeout(limits::AGENT_STATUS_TIMEOUT);
        Ok(expect_success(call.send().await?).await?.json().await?)
    }

    /// Allows what the agent asks for, from now on.
    pub async fn allow(&self, permission: &str) -> Result<(), CallError> {
        self.post(
            &format!("permission/{permission}/reply"),
            Some(&json!({ "reply": "always" })),
            limits::AGENT_CALL_TIMEOUT,
        )
        .await
    }

    /// Answers a question with a refusal.
    pub async fn reject_question(&self, question: &str) -> Result<(), CallError> {
        self.post(&format!("question/{question}/reject"), None, limits::AGENT_CALL_TIMEOUT).await
    }

    /// Opens the event stream. Only what happens from now on is on it.
    pub async fn events(&self) -> Result<Response, CallError> {
        expect_success(self.http.get(format!("{}/event", self.base)).send().await?).await
    }

    async fn post_to_session(&self, verb: &str, body: Option<&Value>) -> Result<(), CallError> {
        self.post(&format!("session/{}/{verb}", self.session), body, limits::AGENT_CALL_TIMEOUT).await
    }

    async fn post(&self, path: &str, body: Option<&Value>, timeout: Duration) -> Result<(), CallError> {
        let mut call = self.http.post(format!("{}/{path}", self.base)).timeout(timeout);
        if let Some(body) = body {
            call = call.json(body);
        }
        expect_success(call.send().await?).await.map(|_| ())
    }
}

/// An event in the form in which the server itself sends it.
fn event(name: &str, properties: Value) -> String {
    json!({ "type": name, "properties": properties }).to_string()
}

async fn expect_success(answer: Response) -> Result<Response, CallError> {
    const QUOTED_CHARS: usize = 300;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.text().await.unwrap_or_default();
    Err(CallError::Answer { status, body: body.chars().take(QUOTED_CHARS).collect() })
}
