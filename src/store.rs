//! What is too large for an object's tables, in the deployment's one R2 bucket, by key:
//!
//! | Key | Content |
//! | --- | --- |
//! | `images/{user}/{path}/{file}` | an image that a user shows an agent |
//! | `logs/{user}/{session}/{execution}.tar.gz` | the logs of one execution |
//! | `snapshots/{user}/{session}` | the export of a session's conversation, gzipped |
//! | `towns/{town}/agents/{agent}` | the session database of a town's agent |
//!
//! Bodies pass through: none is ever whole in memory. Who may read and write what is the affair of the routes.

use crate::http;
use crate::object::within;
use protocol::sandbox::ApiError;
use worker::Bucket;
use worker::Data;
use worker::Env;
use worker::Error;
use worker::HttpMetadata;
use worker::Request;
use worker::Response;
use worker::ResponseBuilder;

/// The bucket's binding.
const BINDING: &str = "STORE";

/// How long one call to the bucket may take: that of 64 MiB on a slow connection.
const CALL_MS: i64 = 60_000;

/// The key of the session database of a town's agent.
pub fn agent_snapshot(town: &str, agent: &str) -> String {
    format!("{}agents/{agent}", agent_snapshots(town))
}

/// What the keys of all session databases of a town begin with.
pub fn agent_snapshots(town: &str) -> String {
    format!("towns/{town}/")
}

/// Why a body was not taken.
pub enum PutError {
    /// The bucket takes no body of unknown length.
    NoLength,
    /// More than is kept.
    TooLarge {
        /// What is.
        bytes_max: u64,
    },
}

impl PutError {
    /// The answer to the caller.
    pub fn response(&self) -> worker::Result<Response> {
        let (status, message) = match self {
            PutError::NoLength => (411, "Content-Length is needed".to_owned()),
            PutError::TooLarge { bytes_max } => (413, format!("The body must have at most {bytes_max} bytes")),
        };
        http::json(status, &ApiError { error: "INVALID_REQUEST".to_owned(), message })
    }
}

/// Stores the body of `request` under `key`, instead of what was there.
pub async fn put(
    env: &Env,
    key: &str,
    request: &Request,
    content_type: &str,
    bytes_max: u64,
) -> worker::Result<Result<(), PutError>> {
    let declared = request.headers().get("content-length")?.and_then(|length| length.parse::<u64>().ok());
    // The platform holds a body to the length that it declares.
    let body = match (declared, request.inner().body()) {
        (Some(length), _) if length > bytes_max => return Ok(Err(PutError::TooLarge { bytes_max })),
        (Some(_), Some(body)) => Data::ReadableStream(body),
        (Some(_), None) => Data::Empty,
        (None, _) => return Ok(Err(PutError::NoLength)),
    };
    let metadata = HttpMetadata { content_type: Some(content_type.to_owned()), ..HttpMetadata::default() };
    bound(bucket(env)?.put(key, body).http_metadata(metadata).execute()).await?;
    Ok(Ok(()))
}

/// Answers with what is stored under `key`; None if nothing is.
pub async fn get(env: &Env, key: &str) -> worker::Result<Option<Response>> {
    let Some(object) = bound(bucket(env)?.get(key).execute()).await? else { return Ok(None) };
    let Some(body) = object.body() else { return Ok(None) };
    let content_type = object.http_metadata().content_type.unwrap_or_default();
    let response = ResponseBuilder::new()
        .with_header("content-type", &content_type)?
        .with_header("content-length", &object.size().to_string())?
        .body(body.response_body()?);
    Ok(Some(response))
}

/// Deletes what is stored under `key`, if anything is.
pub async fn remove(env: &Env, key: &str) -> worker::Result<()> {
    bound(bucket(env)?.delete(key)).await
}

/// Deletes everything whose key begins with `prefix`.
pub async fn remove_all(env: &Env, prefix: &str) -> worker::Result<()> {
    let bucket = bucket(env)?;
    loop {
        let found = bound(bucket.list().prefix(prefix).execute()).await?;
        let keys: Vec<String> = found.objects().iter().map(worker::Object::key).collect();
        if keys.is_empty() {
            return Ok(());
        }
        bound(bucket.delete_multiple(keys)).await?;
    }
}

fn bucket(env: &Env) -> worker::Result<Bucket> {
    env.bucket(BINDING)
}

async fn bound<T>(call: impl Future<Output = worker::Result<T>>) -> worker::Result<T> {
    within(CALL_MS, call).await.unwrap_or_else(|| Err(Error::RustError(format!("{BINDING} did not answer in time"))))
}
