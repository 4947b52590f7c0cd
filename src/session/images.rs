//! The images of prompts: put by their user, read by the container that hands them to the agent.
//!
//! They belong to the user and to no session, so that several prompts may show the same. A container reads only those of its session's user.

use crate::auth;
use crate::config::Config;
use crate::http;
use crate::object::now_ms;
use crate::session::snapshot;
use crate::store;
use protocol::id::ImageFile;
use protocol::id::ImagePath;
use protocol::id::SessionId;
use protocol::id::UserId;
use protocol::sandbox::IMAGE_BYTES_MAX;
use protocol::trpc::Code;
use protocol::trpc::TrpcError;
use worker::Env;
use worker::Request;
use worker::Response;

/// `PUT /images/{path}/{file}`. Guard: a user's token, which also says whose the image is.
pub async fn put(
    request: Request,
    env: &Env,
    config: &Config,
    path: &ImagePath,
    file: &ImageFile,
) -> worker::Result<Response> {
    let header = request.headers().get("authorization")?;
    let user = match auth::user(header.as_deref(), config.nextauth_secret.as_deref(), now_ms()) {
        Ok(user) => user,
        Err(message) => return snapshot::refuse(&TrpcError::new(Code::Unauthorized, message)),
    };
    match store::put(env, &key(&user, path, file), &request, file.content_type(), IMAGE_BYTES_MAX).await? {
        Ok(()) => http::json(200, &serde_json::json!({})),
        Err(error) => error.response(),
    }
}

/// `GET /sessions/{user}/{session}/images/{path}/{file}`.
pub async fn get(
    request: Request,
    env: &Env,
    user: &UserId,
    session: &SessionId,
    path: &ImagePath,
    file: &ImageFile,
) -> worker::Result<Response> {
    if let Err(refusal) = snapshot::access(env, user, session, http::bearer(&request).as_deref()).await? {
        return snapshot::refuse(&refusal);
    }
    match store::get(env, &key(user, path, file)).await? {
        Some(response) => Ok(response),
        None => snapshot::refuse(&TrpcError::new(Code::NotFound, "The user has no such image")),
    }
}

fn key(user: &UserId, path: &ImagePath, file: &ImageFile) -> String {
    format!("images/{}/{path}/{file}", session_core::percent_encode(user.as_str()))
}
