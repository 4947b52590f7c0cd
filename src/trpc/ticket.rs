//! `POST /api/cloud-agent-next/sessions/stream-ticket`: a short-lived ticket for `/stream` (spec/session.md 2.2).
//!
//! Upstream's web back end does this with the user's browser session; here the caller shows the internal key and the user's token.

use crate::auth;
use crate::auth::TICKET_LIFE_MS;
use crate::auth::TicketClaims;
use crate::config::Config;
use crate::http;
use crate::http::BodyError;
use crate::object;
use crate::object::now_ms;
use crate::session::routes;
use crate::trpc::CALL_MS;
use crate::trpc::internal_key;
use crate::user;
use object_core::directory::Answer;
use object_core::directory::Call;
use object_core::time::SECOND;
use protocol::id::SessionId;
use protocol::id::UserId;
use protocol::trpc::parse_stream_ticket;
use serde_json::Value;
use serde_json::json;
use session_core::message::Call as SessionCall;
use session_core::message::PREPARATION_FAILED;
use worker::Env;
use worker::Request;
use worker::Response;

/// Issues a ticket for a session that the directory says is the caller's.
pub async fn issue(mut request: Request, env: &Env, config: &Config) -> worker::Result<Response> {
    let refuse = |status: u16, message: &str| http::json(status, &json!({ "error": message }));
    if let Err(error) = internal_key(&request, config) {
        return refuse(error.code.facts().1, &error.message);
    }
    let header = request.headers().get("authorization")?;
    let user = match auth::user(header.as_deref(), config.nextauth_secret.as_deref(), now_ms()) {
        Ok(user) => user,
        Err(message) => return refuse(401, &message),
    };
    let body = match http::body(&mut request).await {
        Ok(body) => body,
        Err(BodyError::TooLarge) => return refuse(413, "Body too large"),
        Err(BodyError::Broken) => return refuse(400, "Invalid request body"),
    };
    let input: Value = http::parse(&body).unwrap_or_default();
    let ticket = match parse_stream_ticket(&input) {
        Ok(ticket) => ticket,
        Err(issues) => return http::json(400, &json!({ "error": "Invalid request body", "issues": issues })),
    };
    let owner = match &ticket.organization_id {
        Some(organization) => format!("org:{organization}"),
        None => format!("user:{user}"),
    };
    let owned = user::call(env, &owner, &Call::Owns { session: ticket.session.to_string() }).await?;
    let kilo_session_id = match owned {
        Answer::Owned { entry: Some(entry) } => Some(entry.kilo_session_id),
        _ if has_failed(env, &user, &ticket.session).await? => None,
        _ if ticket.organization_id.is_some() => return refuse(403, "Organization does not own this session"),
        _ => return refuse(403, "Session not found or access denied"),
    };
    let now = now_ms();
    let expires_at = now.saturating_add(TICKET_LIFE_MS).div_euclid(SECOND);
    let claims = TicketClaims {
        kind: "stream_ticket".into(),
        user_id: user.to_string(),
        kilo_session_id,
        cloud_agent_session_id: ticket.session.to_string(),
        organization_id: ticket.organization_id,
        nonce: object::entropy()?.uuid(),
        iat: now.div_euclid(SECOND),
        exp: expires_at,
    };
    match config.nextauth_secret.as_deref().and_then(|secret| auth::sign(&claims, secret)) {
        Some(token) => http::json(200, &json!({ "ticket": token, "expiresAt": expires_at })),
        None => refuse(500, "NEXTAUTH_SECRET is not configured"),
    }
}

/// Whether this is a session of the user's that is listed no more because its preparation has failed: who comes back to it is told why.
async fn has_failed(env: &Env, user: &UserId, session: &SessionId) -> worker::Result<bool> {
    let view = routes::call(env, user, session, &SessionCall::View, CALL_MS).await?;
    Ok(view.is_err_and(|error| error.error.as_deref() == Some(PREPARATION_FAILED)))
}
