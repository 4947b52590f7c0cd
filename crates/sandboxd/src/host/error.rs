//! What the host's API answers when it does not do what it was asked.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use protocol::sandbox::ApiError;
use std::io;

/// A refused or failed call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("the body is longer than {limit_bytes} bytes")]
    BodyTooLarge { limit_bytes: usize },
    /// The container lives and does not answer on its port.
    #[error("the container does not answer: {0}")]
    ContainerUnreachable(String),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("this path does not take this method")]
    MethodNotAllowed,
    #[error("no container of this name was started")]
    NoSuchContainer,
    #[error("no such path")]
    NotFound,
    #[error("the container does not run")]
    NotRunning,
    #[error("the container does not run")]
    NotRunningToForward,
    #[error("the host is ending")]
    Stopping,
    #[error("the host could not do it: {0}")]
    System(#[from] io::Error),
    #[error("there are too many containers: delete some")]
    TooManyContainers,
    #[error("the host's token is missing or wrong")]
    Unauthorized,
}

impl CallError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            CallError::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            CallError::ContainerUnreachable(_) => (StatusCode::BAD_GATEWAY, "CONTAINER_UNREACHABLE"),
            CallError::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
            CallError::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            CallError::NoSuchContainer => (StatusCode::NOT_FOUND, "NO_SUCH_CONTAINER"),
            CallError::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            CallError::NotRunning => (StatusCode::CONFLICT, "NOT_RUNNING"),
            CallError::NotRunningToForward => (StatusCode::BAD_GATEWAY, "NOT_RUNNING"),
            CallError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "HOST_STOPPING"),
            CallError::System(_) => (StatusCode::INTERNAL_SERVER_ERROR, "HOST_FAILED"),
            CallError::TooManyContainers => (StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_CONTAINERS"),
            CallError::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
        }
    }
}

impl IntoResponse for CallError {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        (status, Json(ApiError { error: code.to_owned(), message: self.to_string() })).into_response()
    }
}
