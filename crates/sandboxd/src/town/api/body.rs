//! Reads the bodies of calls, and says why a call is refused.

use crate::town::agents::StartError;
use crate::town::limits::BODY_BYTES_MAX;
use axum::Json;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;

/// An answer, or why there is none.
pub type Answer = Result<Response, Refusal>;

/// Why a call is refused.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    message: String,
    /// What is wrong with the body.
    issues: Option<Value>,
}

impl Refusal {
    /// `{"error": message}`.
    pub fn new(status: StatusCode, message: impl ToString) -> Self {
        Self { status, message: message.to_string(), issues: None }
    }

    /// The body cannot be used.
    pub fn invalid(path: &str, message: impl ToString) -> Self {
        let path: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        let issues = json!([{ "path": path, "message": message.to_string() }]);
        Self { issues: Some(issues), ..Self::new(StatusCode::BAD_REQUEST, "Invalid request body") }
    }

    /// Something here did not work.
    pub fn failed(message: impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// No such thing.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = match self.issues {
            Some(issues) => json!({ "error": self.message, "issues": issues }),
            None => json!({ "error": self.message }),
        };
        (self.status, Json(body)).into_response()
    }
}

/// The container ends: what was begun now would be cut off.
pub fn draining() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, StartError::Draining)
}

/// An answer of 200.
pub fn fine(body: Value) -> Answer {
    Ok(Json(body).into_response())
}

/// The body of `request`.
pub async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let bytes = to_bytes(request.into_body(), BODY_BYTES_MAX).await;
    let bytes = bytes.map_err(|_| {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The body has more than {BODY_BYTES_MAX} bytes"))
    })?;
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|problem| {
        let path = problem.path().to_string();
        Refusal::invalid(if path == "." { "" } else { &path }, problem.inner())
    })
}
