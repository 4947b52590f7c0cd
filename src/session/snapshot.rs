//! `PUT` and `GET /sessions/{user}/{session}/snapshot`: the session's object says who may, the bytes pass it by.

use crate::http;
use crate::session::CallResult;
use crate::session::routes;
use crate::store;
use protocol::id::SessionId;
use protocol::id::UserId;
use protocol::sandbox::ApiError;
use protocol::sandbox::SNAPSHOT_BYTES_MAX;
use protocol::trpc::Code;
use protocol::trpc::TrpcError;
use worker::Env;
use worker::Request;
use worker::Response;

const CONTENT_TYPE: &str = "application/gzip";

/// `PUT …/snapshot`.
pub async fn put(request: Request, env: &Env, user: &UserId, session: &SessionId) -> worker::Result<Response> {
    let token = http::bearer(&request);
    if let Err(refusal) = access(env, user, session, token.as_deref()).await? {
        return refuse(&refusal);
    }
    let key = key(user, session);
    if let Err(error) = store::put(env, &key, &request, CONTENT_TYPE, SNAPSHOT_BYTES_MAX).await? {
        return error.response();
    }
    // A session that was deleted meanwhile may have been so before there was anything to delete.
    match access(env, user, session, token.as_deref()).await? {
        Err(refusal) if refusal.code == Code::NotFound => {
            store::remove(env, &key).await?;
            refuse(&refusal)
        }
        _ => http::json(200, &serde_json::json!({})),
    }
}

/// `GET …/snapshot`.
pub async fn get(request: Request, env: &Env, user: &UserId, session: &SessionId) -> worker::Result<Response> {
    if let Err(refusal) = access(env, user, session, http::bearer(&request).as_deref()).await? {
        return refuse(&refusal);
    }
    match store::get(env, &key(user, session)).await? {
        Some(response) => Ok(response),
        None => refuse(&TrpcError::new(Code::NotFound, "The session has no snapshot")),
    }
}

/// Deletes what is kept of a session that is gone.
pub async fn remove(env: &Env, user: &UserId, session: &SessionId) -> worker::Result<()> {
    store::remove(env, &key(user, session)).await
}

/// Whether whoever holds `token` may: a report token of an attempt that is not over.
pub async fn access(env: &Env, user: &UserId, session: &SessionId, token: Option<&str>) -> worker::Result<CallResult> {
    match token {
        Some(token) => routes::ask_with_token(env, user, session, "/snapshot", token, &[]).await,
        None => Ok(Err(TrpcError::new(Code::Unauthorized, "Missing report token"))),
    }
}

/// A refusal in the shape of the containers' routes.
pub fn refuse(refusal: &TrpcError) -> worker::Result<Response> {
    let (name, status, _) = refusal.code.facts();
    http::json(status, &ApiError { error: name.to_owned(), message: refusal.message.clone() })
}

fn key(user: &UserId, session: &SessionId) -> String {
    format!("snapshots/{}/{session}", session_core::percent_encode(user.as_str()))
}
