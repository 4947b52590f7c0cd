//! A person's word to the agent: three routes of spec/session.md 8.4.
//!
//! The session's loop has the agent server of the running turn; without a turn nobody asks anything.

use super::driver::Command;
use super::http::Api;
use super::http::Failure;
use super::http::parse_id;
use super::kilo::client::CallError;
use super::kilo::client::Client;
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use protocol::verdict::Taken;
use protocol::verdict::Verdict;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The routes.
pub fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/sessions/{session}/job/answer-question", post(answer_question))
        .route("/sessions/{session}/job/reject-question", post(reject_question))
        .route("/sessions/{session}/job/answer-permission", post(answer_permission))
}

/// A verdict on its way through the session's loop.
pub struct Judge {
    /// What the agent is told.
    pub verdict: Verdict,
    /// Told whether the agent took it. Dropped, if no turn runs.
    pub taken: oneshot::Sender<Result<bool, CallError>>,
}

impl Judge {
    /// Tells the agent.
    pub async fn run(self, client: Client) {
        let result = client.judge(&self.verdict).await;
        // Whoever asked may have given up.
        let _ = self.taken.send(result);
    }
}

async fn answer_question(
    State(api): State<Arc<Api>>,
    Path(session): Path<String>,
    body: Bytes,
) -> Result<Json<Taken>, Failure> {
    judge(&api, &session, Verdict::AnswerQuestion(read(&body)?)).await
}

async fn reject_question(
    State(api): State<Arc<Api>>,
    Path(session): Path<String>,
    body: Bytes,
) -> Result<Json<Taken>, Failure> {
    judge(&api, &session, Verdict::RejectQuestion(read(&body)?)).await
}

async fn answer_permission(
    State(api): State<Arc<Api>>,
    Path(session): Path<String>,
    body: Bytes,
) -> Result<Json<Taken>, Failure> {
    judge(&api, &session, Verdict::AnswerPermission(read(&body)?)).await
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(Failure::invalid)
}

async fn judge(api: &Api, session: &str, verdict: Verdict) -> Result<Json<Taken>, Failure> {
    let no_job = || Failure::new(StatusCode::BAD_REQUEST, "NO_JOB", "No turn of this session runs here");
    let session = api.sessions.get(&parse_id(session)?).ok_or_else(no_job)?;
    let (status, error) = match verdict {
        Verdict::AnswerQuestion(_) => ("answered", "QUESTION_ERROR"),
        Verdict::RejectQuestion(_) => ("rejected", "QUESTION_ERROR"),
        Verdict::AnswerPermission(_) => ("answered", "PERMISSION_ERROR"),
    };
    let (taken, answer) = oneshot::channel();
    session.command(Command::Judge(Judge { verdict, taken })).await;
    match answer.await.map_err(|_| no_job())? {
        Ok(success) => Ok(Json(Taken { status: status.to_owned(), success })),
        Err(failure) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error, &failure.to_string())),
    }
}
