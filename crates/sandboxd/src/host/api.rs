//! The routes of the host (protocol::host).

use super::error::CallError;
use super::forward::forward;
use super::registry::Name;
use super::registry::Registry;
use crate::bearer;
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::body::HttpBody;
use axum::extract::DefaultBodyLimit;
use axum::extract::FromRequest;
use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;
use axum::routing::get;
use axum::routing::post;
use nix::sys::signal::Signal;
use protocol::host::Container;
use protocol::host::FORWARD_TOKEN_HEADER;
use protocol::host::Start;
use protocol::sandbox::CONTAINER_PORT;
use protocol::sandbox::Secret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;

/// A body that the host itself reads. An environment is a few KiB.
const BODY_LIMIT_BYTES: usize = 1024 * 1024;

/// What the handlers share.
#[derive(Debug)]
pub struct Host {
    /// Guards everything but `/health`.
    pub token: Secret,
    /// The containers.
    pub containers: Registry,
}

/// All routes.
pub fn router(host: Arc<Host>) -> Router {
    Router::new()
        .route("/health", get(async || Json(json!({ "healthy": true }))))
        .route("/containers/{name}", get(look).put(start).delete(delete))
        .route("/containers/{name}/signal", post(signal))
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .route("/containers/{name}/ports/{port}/", any(forward_to_port))
        .route("/containers/{name}/ports/{port}/{*path}", any(forward_to_port))
        .fallback(async || CallError::NotFound)
        .method_not_allowed_fallback(async || CallError::MethodNotAllowed)
        .with_state(host)
}

async fn look(State(host): State<Arc<Host>>, Named(name): Named) -> Result<Json<Container>, CallError> {
    host.containers.look(&name).map(Json)
}

async fn start(
    State(host): State<Arc<Host>>,
    Named(name): Named,
    Parsed(start): Parsed<Start>,
) -> Result<(StatusCode, Json<Container>), CallError> {
    // A start goes on when its caller has left: a task is not dropped half-way.
    let started = tokio::spawn(async move { host.containers.start(&name, start).await }).await;
    let (container, new) = started.map_err(std::io::Error::other)??;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(container)))
}

async fn signal(
    State(host): State<Arc<Host>>,
    Named(name): Named,
    Parsed(asked): Parsed<protocol::host::Signal>,
) -> Result<(StatusCode, Json<Value>), CallError> {
    let signal = match asked.signal.as_str() {
        "SIGINT" => Signal::SIGINT,
        "SIGKILL" => Signal::SIGKILL,
        "SIGTERM" => Signal::SIGTERM,
        _ => return Err(CallError::InvalidRequest("signal: SIGTERM, SIGINT or SIGKILL expected".to_owned())),
    };
    host.containers.signal(&name, signal)?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}

async fn delete(State(host): State<Arc<Host>>, Named(name): Named) -> Result<Json<Value>, CallError> {
    let deleted = tokio::spawn(async move { host.containers.delete(&name).await }).await;
    deleted.map_err(std::io::Error::other)??;
    Ok(Json(json!({})))
}

async fn forward_to_port(State(host): State<Arc<Host>>, request: Request) -> Result<Response, CallError> {
    let given = request.headers().get(FORWARD_TOKEN_HEADER);
    if !given.is_some_and(|given| bearer::same(given.as_bytes(), &host.token)) {
        return Err(CallError::Unauthorized);
    }
    // Taken from the raw target, so that the container sees its path as the caller wrote it.
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let mut parts = target.splitn(6, '/').skip(2);
    let (Some(name), Some(_), Some(port), Some(path)) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(CallError::NotFound);
    };
    let name = Name::parse(name)?;
    if port.parse() != Ok(CONTAINER_PORT) {
        return Err(CallError::InvalidRequest(format!("port: containers listen on {CONTAINER_PORT}")));
    }
    let address = host.containers.address(&name)?;
    forward(address, &format!("/{path}"), request).await
}

/// The container that the path names, of a caller that has the token.
struct Named(Name);

impl FromRequestParts<Arc<Host>> for Named {
    type Rejection = CallError;

    async fn from_request_parts(parts: &mut Parts, host: &Arc<Host>) -> Result<Self, CallError> {
        if !bearer::authorized(&parts.headers, &host.token) {
            return Err(CallError::Unauthorized);
        }
        // A name that cannot be decoded is as wrong as one with a wrong letter.
        let name = Path::<String>::from_request_parts(parts, host).await.map(|Path(name)| name).unwrap_or_default();
        Name::parse(&name).map(Self)
    }
}

/// A JSON body, whatever its type is said to be.
struct Parsed<T>(T);

impl<T: DeserializeOwned> FromRequest<Arc<Host>> for Parsed<T> {
    type Rejection = CallError;

    async fn from_request(request: Request, host: &Arc<Host>) -> Result<Self, CallError> {
        let too_large = CallError::BodyTooLarge { limit_bytes: BODY_LIMIT_BYTES };
        // A length that is announced is refused before the caller sends it, and so gets the answer.
        if usize::try_from(request.body().size_hint().lower()).is_ok_and(|length| length > BODY_LIMIT_BYTES) {
            return Err(too_large);
        }
        let body = Bytes::from_request(request, host).await.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large,
            _ => CallError::InvalidRequest(error.body_text()),
        })?;
        let parsed = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&body));
        parsed.map(Self).map_err(|error| CallError::InvalidRequest(error.to_string()))
    }
}
