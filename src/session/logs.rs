//! An execution's logs: `PUT …/logs/{execution}/logs.tar.gz` by its container, `getWrapperLogs` by its user (spec/session.md 2.1, 8.9).
//!
//! They are kept as they came. Only whoever reads them has them unpacked, up to a bound, by the platform's own decompression.

mod tar;

use crate::auth::Bearer;
use crate::config::Config;
use crate::http;
use crate::session::routes;
use crate::session::snapshot;
use crate::store;
use futures_util::StreamExt;
use protocol::id::ExecutionId;
use protocol::id::SessionId;
use protocol::id::UserId;
use protocol::sandbox::LOGS_BYTES_MAX;
use protocol::trpc::Code;
use session_core::message::Call;
use wasm_bindgen::JsCast;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Env;
use worker::Request;
use worker::Response;
use worker::web_sys;

const CONTENT_TYPE: &str = "application/gzip";

/// How long the object may take to say who may.
const ACCESS_MS: i64 = 15_000;

/// What is unpacked of an archive, in bytes: `sandboxd` packs half of it.
const UNPACKED_BYTES_MAX: usize = 4 * 1024 * 1024;

#[wasm_bindgen]
extern "C" {
    type DecompressionStream;

    #[wasm_bindgen(constructor)]
    fn new(format: &str) -> DecompressionStream;

    /// A `ReadableStream`.
    type Readable;

    #[wasm_bindgen(method, js_name = pipeThrough, catch)]
    fn pipe_through(this: &Readable, through: &DecompressionStream) -> Result<web_sys::ReadableStream, JsValue>;
}

/// `PUT …/logs/{execution}/logs.tar.gz`. Guard: a report token of the session, or its user's own.
pub async fn put(
    request: Request,
    env: &Env,
    config: &Config,
    user: &UserId,
    session: &SessionId,
    execution: &ExecutionId,
) -> worker::Result<Response> {
    let token = match routes::bearer(&request, config, user)? {
        Ok(Bearer::Container(token)) => Some(token),
        Ok(Bearer::Owner) => None,
        Err(refusal) => return snapshot::refuse(&refusal),
    };
    let access = Call::KeepLogs { execution: execution.clone(), token };
    if let Err(refusal) = routes::call(env, user, session, &access, ACCESS_MS).await? {
        return snapshot::refuse(&refusal);
    }
    let key = key(user, session, execution);
    if let Err(error) = store::put(env, &key, &request, CONTENT_TYPE, LOGS_BYTES_MAX).await? {
        return error.response();
    }
    // A session that was deleted meanwhile may have been so before there was anything to delete.
    match routes::call(env, user, session, &access, ACCESS_MS).await? {
        Err(refusal) if refusal.code == Code::NotFound => {
            store::remove(env, &key).await?;
            snapshot::refuse(&refusal)
        }
        _ => http::json(200, &serde_json::json!({})),
    }
}

/// The text of an execution's logs; None if there are none.
pub async fn read(
    env: &Env,
    user: &UserId,
    session: &SessionId,
    execution: &ExecutionId,
) -> worker::Result<Option<String>> {
    let Some(archive) = store::get(env, &key(user, session, execution)).await? else { return Ok(None) };
    let archive: web_sys::Response = archive.into();
    let Some(body) = archive.body() else { return Ok(None) };
    let unpacked = body.unchecked_into::<Readable>().pipe_through(&DecompressionStream::new("gzip"))?;
    let mut stream = worker::ByteStream::from(unpacked);
    let mut bytes = Vec::new();
    while bytes.len() < UNPACKED_BYTES_MAX
        && let Some(chunk) = stream.next().await
    {
        // What came whole before the fault is still worth reading.
        let Ok(chunk) = chunk else { break };
        bytes.extend(chunk);
    }
    Ok(Some(tar::text_of(&bytes)))
}

/// Deletes the logs of a session that is gone.
pub async fn remove(env: &Env, user: &UserId, session: &SessionId) -> worker::Result<()> {
    store::remove_all(env, &folder(user, session)).await
}

fn folder(user: &UserId, session: &SessionId) -> String {
    format!("logs/{}/{session}/", session_core::percent_encode(user.as_str()))
}

fn key(user: &UserId, session: &SessionId, execution: &ExecutionId) -> String {
    format!("{}{execution}.tar.gz", folder(user, session))
}
