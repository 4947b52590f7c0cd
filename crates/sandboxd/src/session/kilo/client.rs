//! Calls to a running agent server, over loopback.

use super::environment::PROVIDER;
use crate::session::images::Image;
use crate::session::limits;
use crate::session::redact::Redactor;
use protocol::id::AskId;
use protocol::id::KiloSessionId;
use protocol::id::MessageId;
use protocol::sandbox::TurnPlan;
use protocol::verdict::Verdict;
use reqwest::Response;
use reqwest::StatusCode;
use sandbox_core::gap::Answer;
use sandbox_core::gap::Answers;
use sandbox_core::limits::Limits;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::fmt::Display;
use std::iter;
use std::time::Duration;

/// Why a call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It answered, but not as it should.
    #[error("the agent server answered {status}: {body}")]
    Answer {
        /// The status.
        status: StatusCode,
        /// The beginning of the body, without secrets.
        body: String,
    },
    /// Its answer is nested beyond all reason.
    #[error("the agent server's answer cannot be read")]
    Unreadable,
    /// It did not answer.
    #[error("the agent server did not answer: {0}")]
    Transport(#[from] reqwest::Error),
}

/// A request for permission, or a question.
#[derive(Deserialize)]
struct Waiting {
    id: AskId,
}

/// A sub-agent's session.
#[derive(Deserialize)]
struct Child {
    id: KiloSessionId,
    time: ChildTime,
}

#[derive(Deserialize)]
struct ChildTime {
    /// Milliseconds since 1970, by this machine's clock.
    created: i64,
}

/// Borrowed: images are large.
#[derive(Serialize)]
struct Prompt<'a> {
    parts: Vec<Part<'a>>,
    #[serde(rename = "messageID")]
    message_id: &'a MessageId,
    agent: &'a str,
    model: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    File(&'a Image),
    Text { text: &'a str },
}

/// A client of one agent server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    session: KiloSessionId,
    model: String,
    /// For what the server says when it refuses.
    redactor: Redactor,
}

impl Client {
    /// A client of the server on `port`, for `session` with `model`.
    pub fn new(http: reqwest::Client, port: u16, session: KiloSessionId, model: String) -> Self {
        let redactor = Redactor::default();
        Self { http, base: format!("http://127.0.0.1:{port}"), session, model, redactor }
    }

    /// Hides secrets in what the server says when it refuses a call.
    pub fn with_redactor(self, redactor: Redactor) -> Self {
        Self { redactor, ..self }
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
        self.expect_success(answer).await.map(|_| true)
    }

    /// Hands the agent a prompt. It answers at once; what follows comes as events.
    ///
    /// Model and provider are always named: the server would go on using the last one, also a bad one (spec/kilo.md 4).
    pub async fn prompt(&self, turn: &TurnPlan, images: &[Image]) -> Result<(), CallError> {
        let text = Part::Text { text: &turn.prompt };
        let body = Prompt {
            parts: iter::once(text).chain(images.iter().map(Part::File)).collect(),
            message_id: &turn.message_id,
            agent: &turn.agent,
            model: json!({ "providerID": PROVIDER, "modelID": self.model }),
            variant: turn.variant.as_deref(),
        };
        self.post_to_session("prompt_async", Some(&body)).await
    }

    /// Ends whatever the session is doing. True to the server's word also when it does nothing.
    pub async fn abort(&self) -> Result<(), CallError> {
        self.post_to_session("abort", None::<&Value>).await
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
        let mut events = Vec::new();
        for (path, name) in [("question", "question.asked"), ("permission", "permission.asked")] {
            let waiting: Vec<Value> = self.ask(path).await?;
            events.extend(waiting.into_iter().map(|properties| event(name, properties)));
        }
        // Last: it changes most often.
        let status = self.status().await?.unwrap_or_else(|| json!({ "type": "idle" }));
        events.push(event("session.status", json!({ "sessionID": self.session, "status": status })));
        Ok(events)
    }

    /// What the server has now, after a gap in its events: everything of the turn that began at `since_ms`, its sub-agents' too.
    pub async fn now(&self, limits: &Limits, since_ms: i64) -> Result<Answers, CallError> {
        // In this order: what is written while it is asked is on the event stream, which is open by now.
        let mut messages = vec![(self.session.clone(), self.messages(&self.session, limits).await?)];
        for child in self.children(since_ms).await? {
            let text = self.messages(&child, limits).await?;
            messages.push((child, text));
        }
        let permissions = self.read("permission", limits).await?;
        let questions = self.read("question", limits).await?;
        let status = self.status().await?.map(|status| status.to_string());
        Ok(Answers { messages, status, permissions, questions })
    }

    async fn messages(&self, session: &KiloSessionId, limits: &Limits) -> Result<String, CallError> {
        let newest = limits::AGENT_MESSAGES_MAX;
        self.read(&format!("session/{session}/message?limit={newest}"), limits).await
    }

    /// The sub-agents that began after `since_ms`.
    async fn children(&self, since_ms: i64) -> Result<Vec<KiloSessionId>, CallError> {
        let all: Vec<Child> = self.ask(&format!("session/{}/children", self.session)).await?;
        let of_turn = all.into_iter().filter(|child| child.time.created >= since_ms);
        Ok(of_turn.map(|child| child.id).take(limits::AGENT_CHILDREN_MAX).collect())
    }

    /// A body of any size, cut while it is read.
    async fn read(&self, path: &str, limits: &Limits) -> Result<String, CallError> {
        let call = self.http.get(format!("{}/{path}", self.base)).timeout(limits::AGENT_STATUS_TIMEOUT);
        let mut response = self.expect_success(call.send().await?).await?;
        let mut answer = Answer::new(limits);
        while let Some(chunk) = response.chunk().await? {
            answer.push(&chunk);
        }
        answer.finish().ok_or(CallError::Unreadable)
    }

    /// What the session is doing. Idle ones are not in the server's list.
    async fn status(&self) -> Result<Option<Value>, CallError> {
        let mut statuses: Map<String, Value> = self.ask("session/status").await?;
        Ok(statuses.remove(self.session.as_str()))
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let call = self.http.get(format!("{}/{path}", self.base)).timeout(limits::AGENT_STATUS_TIMEOUT);
        Ok(self.expect_success(call.send().await?).await?.json().await?)
    }

    /// Refuses everything that waits for an answer. After an abort the server keeps what the stopped turn asked, and lists it for ever (spec/kilo.md 6).
    pub async fn withdraw_requests(&self) -> Result<(), CallError> {
        let permissions: Vec<Waiting> = self.ask("permission").await?;
        for Waiting { id } in permissions.into_iter().take(limits::AGENT_REQUESTS_MAX) {
            self.post(
                &format!("permission/{id}/reply"),
                Some(&json!({ "reply": "reject" })),
                limits::AGENT_STATUS_TIMEOUT,
            )
            .await?;
        }
        let questions: Vec<Waiting> = self.ask("question").await?;
        for Waiting { id } in questions.into_iter().take(limits::AGENT_REQUESTS_MAX) {
            self.reject_question(&id).await?;
        }
        Ok(())
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

    /// Tells the agent a person's word. False: it does not wait for it, or not any more.
    pub async fn judge(&self, verdict: &Verdict) -> Result<bool, CallError> {
        let (path, body) = match verdict {
            Verdict::AnswerQuestion(answer) => {
                (format!("question/{}/reply", answer.question_id), Some(json!({ "answers": answer.answers })))
            }
            Verdict::RejectQuestion(rejection) => (format!("question/{}/reject", rejection.question_id), None),
            Verdict::AnswerPermission(answer) => {
                (format!("permission/{}/reply", answer.permission_id), Some(json!({ "reply": answer.response })))
            }
        };
        match self.post(&path, body.as_ref(), limits::AGENT_STATUS_TIMEOUT).await {
            Ok(()) => Ok(true),
            Err(CallError::Answer { status: StatusCode::NOT_FOUND, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Answers a question with a refusal.
    pub async fn reject_question(&self, question: impl Display) -> Result<(), CallError> {
        self.post(&format!("question/{question}/reject"), None::<&Value>, limits::AGENT_CALL_TIMEOUT).await
    }

    /// Opens the event stream. Only what happens from now on is on it.
    pub async fn events(&self) -> Result<Response, CallError> {
        self.expect_success(self.http.get(format!("{}/event", self.base)).send().await?).await
    }

    async fn post_to_session(&self, verb: &str, body: Option<&impl Serialize>) -> Result<(), CallError> {
        self.post(&format!("session/{}/{verb}", self.session), body, limits::AGENT_CALL_TIMEOUT).await
    }

    async fn post(&self, path: &str, body: Option<&impl Serialize>, timeout: Duration) -> Result<(), CallError> {
        let mut call = self.http.post(format!("{}/{path}", self.base)).timeout(timeout);
        if let Some(body) = body {
            call = call.json(body);
        }
        self.expect_success(call.send().await?).await.map(|_| ())
    }

    /// The answer, if the server did what was asked.
    pub async fn expect_success(&self, answer: Response) -> Result<Response, CallError> {
        const QUOTED_CHARS: usize = 300;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.text().await.unwrap_or_default();
        // Cut afterwards: of a secret that is cut in two nobody would know the half.
        Err(CallError::Answer { status, body: self.redactor.clean(&body).chars().take(QUOTED_CHARS).collect() })
    }
}

/// An event in the form in which the server itself sends it.
fn event(name: &str, properties: Value) -> String {
    json!({ "type": name, "properties": properties }).to_string()
}
