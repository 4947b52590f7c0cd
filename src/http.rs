//! Bodies with a bound, and plain answers.

use crate::object::now_ms;
use futures_util::StreamExt;
use protocol::time::iso8601;
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::Request;
use worker::Response;
use worker::ResponseBuilder;

/// The largest JSON body that any route takes, in bytes: a prompt of 100,000 characters, 50 environment values of 4 KB and the rest fit.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The error shape of the plain routes.
#[derive(Serialize)]
pub struct Plain {
    pub error: &'static str,
}

/// `GET /`.
#[derive(Serialize)]
pub struct Root {
    service: &'static str,
    status: &'static str,
}

impl Root {
    /// As the clients of towns know it (spec/town.md 2.5).
    pub const HERE: Self = Self { service: "gastown", status: "ok" };
}

/// `GET /health`.
#[derive(Serialize)]
pub struct Health {
    status: &'static str,
    timestamp: String,
}

impl Health {
    /// Healthy, now.
    pub fn now() -> Self {
        Self { status: "ok", timestamp: iso8601(now_ms()) }
    }
}

/// A JSON answer.
pub fn json<T: Serialize>(status: u16, body: &T) -> worker::Result<Response> {
    ResponseBuilder::new().with_status(status).from_json(body)
}

/// Reads JSON by way of text, as the cores read their rows: each other way would be linked beside it, for every type.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(error) => Err(serde::de::Error::custom(error)),
    }
}

/// Why a body was not read.
pub enum BodyError {
    Broken,
    TooLarge,
}

/// Reads a body of at most [`BODY_BYTES_MAX`], without trusting what it says of its size.
pub async fn body(request: &mut Request) -> Result<Vec<u8>, BodyError> {
    let declared = request.headers().get("content-length").ok().flatten().and_then(|n| n.parse::<usize>().ok());
    if declared.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
        return Err(BodyError::TooLarge);
    }
    // A request without a body has no stream.
    let Ok(mut stream) = request.stream() else { return Ok(vec![]) };
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend(chunk.map_err(|_| BodyError::Broken)?);
        if bytes.len() > BODY_BYTES_MAX {
            return Err(BodyError::TooLarge);
        }
    }
    Ok(bytes)
}

/// The bearer token of a request; the scheme in any case.
pub fn bearer(request: &Request) -> Option<String> {
    let header = request.headers().get("authorization").ok().flatten()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}
