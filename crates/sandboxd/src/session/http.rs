//! The HTTP API (protocol/src/sandbox/): routes, bearer, errors. What a call does is elsewhere.

use super::limits;
use super::sessions::Refusal;
use super::sessions::Sessions;
use super::verdict;
use crate::bearer;
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use protocol::id::SessionId;
use protocol::sandbox::ApiError;
use protocol::sandbox::Health;
use protocol::sandbox::JobStatus;
use protocol::sandbox::Progress;
use protocol::sandbox::Secret;
use protocol::sandbox::Stop;
use protocol::sandbox::Work;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;

/// What the routes need.
pub struct Api {
    /// The sessions.
    pub sessions: Sessions,
    /// The bearer; None on loopback only.
    pub token: Option<Secret>,
    /// Made once per process.
    pub instance: String,
}

/// The routes.
pub fn router(api: Arc<Api>) -> Router {
    let sessions = Router::new()
        .route("/sessions/{session}/work", post(work))
        .route("/sessions/{session}/job/status", get(status))
        .route("/sessions/{session}/job/abort", post(abort))
        .route("/sessions/{session}/stop", post(stop))
        .merge(verdict::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(limits::BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), guard));
    Router::new()
        .route("/health", get(health))
        .method_not_allowed_fallback(method_not_allowed)
        .merge(sessions)
        .with_state(api)
}

/// An error as it is answered.
pub struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failure {
    /// With a stable code.
    pub fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned() }
    }

    /// What was sent cannot be used.
    pub fn invalid(message: impl ToString) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "INVALID_REQUEST", message: message.to_string() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = ApiError { error: self.code.to_owned(), message: self.message };
        (self.status, Json(body)).into_response()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match refusal {
            Refusal::Draining => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING"),
            Refusal::Full => (StatusCode::SERVICE_UNAVAILABLE, "SANDBOX_CONNECT_FAILED"),
            Refusal::Stale { .. } => (StatusCode::CONFLICT, "JOB_CONFLICT"),
        };
        Self { status, code, message: refusal.to_string() }
    }
}

async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if api.token.as_ref().is_none_or(|token| bearer::authorized(request.headers(), token)) {
        return next.run(request).await;
    }
    let message = "Authorization: Bearer <HOLDFAST_SANDBOX_TOKEN> is needed".to_owned();
    Failure { status: StatusCode::UNAUTHORIZED, code: "UNAUTHORIZED", message }.into_response()
}

async fn health(State(api): State<Arc<Api>>) -> Json<Health> {
    Json(Health {
        healthy: true,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        container_instance_id: api.instance.clone(),
        draining: api.sessions.is_draining(),
    })
}

async fn work(
    State(api): State<Arc<Api>>,
    Path(session): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Progress>), Failure> {
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: "INVALID_REQUEST",
            message: format!("The body has more than {} bytes", limits::BODY_BYTES_MAX),
        },
        _ => Failure::invalid(error),
    })?;
    let session = parse_id(&session)?;
    let work: Work = serde_json::from_slice(&body).map_err(Failure::invalid)?;
    validate(&session, &work)?;
    Ok((StatusCode::ACCEPTED, Json(api.sessions.work(work)?)))
}

/// What the types alone do not say.
fn validate(session: &SessionId, work: &Work) -> Result<(), Failure> {
    if work.attempt == 0 {
        return Err(Failure::invalid("attempt: must be at least 1"));
    }
    if work.workspace.session_id != *session {
        return Err(Failure::invalid("workspace.sessionId: must be the session of the path"));
    }
    if let Some(name) = work.workspace.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(Failure::invalid(format!("workspace.env: {name:?} is not the name of a variable")));
    }
    if work.workspace.env.values().any(|value| value.expose().contains('\0')) {
        return Err(Failure::invalid("workspace.env: a value holds a NUL byte"));
    }
    if work.workspace.setup_commands.iter().any(|command| command.contains('\0')) {
        return Err(Failure::invalid("workspace.setupCommands: a command holds a NUL byte"));
    }
    match &work.turn {
        Some(turn) if !turn.ingest_url.starts_with("ws://") && !turn.ingest_url.starts_with("wss://") => {
            Err(Failure::invalid("turn.ingestUrl: must begin with ws:// or wss://"))
        }
        Some(turn) if turn.prompt.trim().is_empty() => Err(Failure::invalid("turn.prompt: must not be empty")),
        _ => Ok(()),
    }
}

async fn status(State(api): State<Arc<Api>>, Path(session): Path<String>) -> Result<Json<JobStatus>, Failure> {
    let idle = || JobStatus { state: "idle".to_owned(), execution_id: None, kilo_session_id: None };
    let session = api.sessions.get(&parse_id(&session)?);
    Ok(Json(session.map_or_else(idle, |session| session.status())))
}

async fn abort(State(api): State<Arc<Api>>, Path(session): Path<String>) -> Result<Json<Value>, Failure> {
    let Some(session) = api.sessions.get(&parse_id(&session)?) else {
        let message = "Nothing of this session runs here".to_owned();
        return Err(Failure { status: StatusCode::NOT_FOUND, code: "NOT_FOUND", message });
    };
    session.abort().await;
    Ok(Json(json!({ "status": "aborted" })))
}

async fn stop(State(api): State<Arc<Api>>, Path(session): Path<String>, body: Bytes) -> Result<Json<Value>, Failure> {
    let session = parse_id(&session)?;
    let how =
        if body.is_empty() { Stop::default() } else { serde_json::from_slice(&body).map_err(Failure::invalid)? };
    match how {
        Stop { forget: true, .. } => api.sessions.forget(&session).await,
        Stop { forget: false, attempt } => {
            if let Some(session) = api.sessions.get(&session)
                && !session.stop_up_to(attempt).await
            {
                return Ok(Json(json!({ "status": "overtaken" })));
            }
        }
    }
    Ok(Json(json!({ "status": "stopped" })))
}

/// The session that a path names.
pub fn parse_id(text: &str) -> Result<SessionId, Failure> {
    SessionId::parse(text).map_err(Failure::invalid)
}

async fn not_found() -> Failure {
    Failure { status: StatusCode::NOT_FOUND, code: "NOT_FOUND", message: "There is no such route".to_owned() }
}

async fn method_not_allowed() -> Failure {
    let message = "This route takes another method".to_owned();
    Failure { status: StatusCode::METHOD_NOT_ALLOWED, code: "METHOD_NOT_ALLOWED", message }
}
