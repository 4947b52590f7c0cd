//! The Worker's side of the session routes that are not tRPC: guards, then a request to the object.

use crate::auth;
use crate::auth::Bearer;
use crate::config::Config;
use crate::http;
use crate::http::BodyError;
use crate::object::ask;
use crate::object::ask_if;
use crate::object::now_ms;
use crate::session::CallResult;
use crate::session::sockets::USER_TOKEN;
use crate::session::viewers::TICKET;
use protocol::id::SessionId;
use protocol::id::UserId;
use protocol::sandbox::ApiError;
use protocol::sandbox::Progress;
use protocol::trpc::TrpcError;
use session_core::message::Call;
use worker::Env;
use worker::Headers;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::Response;

/// The binding of the session objects.
const BINDING: &str = "CLOUD_AGENT_SESSION";

/// How long an upgrade, or a call that nobody's work stands behind, may take.
const ANSWER_MS: i64 = 15_000;

/// `/sessions/{user}/{session}/ingest`: spec/session.md 5.1.
pub async fn ingest(
    request: Request,
    env: &Env,
    config: &Config,
    user: &UserId,
    session: &SessionId,
) -> worker::Result<Response> {
    if !is_upgrade(&request) {
        return Response::error("Expected WebSocket upgrade", 426);
    }
    let headers = forwarded(&request)?;
    match bearer(&request, config, user)? {
        Err(refusal) => return Response::error(refusal.message, refusal.code.facts().1),
        Ok(Bearer::Owner) => headers.set(USER_TOKEN, "1")?,
        // An ingest secret: the object checks it.
        Ok(Bearer::Container(_)) => {}
    }
    upgrade(&request, env, user, session, "/ingest", headers).await
}

/// `GET /stream`: spec/session.md 6.1.
pub async fn stream(request: Request, env: &Env, config: &Config) -> worker::Result<Response> {
    if !is_upgrade(&request) {
        return Response::error("Expected WebSocket upgrade", 426);
    }
    let url = request.url()?;
    let query = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let Some(session) = query("cloudAgentSessionId") else {
        return Response::error("Missing cloudAgentSessionId parameter", 400);
    };
    let Some(ticket) = query("ticket") else { return Response::error("Missing ticket", 401) };
    match auth::ticket(&ticket, config.nextauth_secret.as_deref(), now_ms()) {
        Err(message) => Response::error(message, 401),
        Ok(ticket) if ticket.session.as_str() != session => Response::error("Session mismatch", 403),
        Ok(ticket) => {
            let headers = forwarded(&request)?;
            headers.set(TICKET, &format!("{} {}", ticket.nonce, ticket.expires_at))?;
            upgrade(&request, env, &ticket.user, &ticket.session, "/stream", headers).await
        }
    }
}

/// `POST /sessions/{user}/{session}/progress`: the object checks the report token.
pub async fn progress(mut request: Request, env: &Env, user: &UserId, session: &SessionId) -> worker::Result<Response> {
    let Some(token) = http::bearer(&request) else {
        return http::json(401, &error("UNAUTHORIZED", "Missing report token"));
    };
    let body = match http::body(&mut request).await {
        Ok(body) => body,
        Err(BodyError::TooLarge) => return http::json(413, &error("INVALID_REQUEST", "Body too large")),
        Err(BodyError::Broken) => return http::json(400, &error("INVALID_REQUEST", "Body could not be read")),
    };
    if let Err(invalid) = http::parse::<Progress>(&body) {
        return http::json(400, &error("INVALID_REQUEST", &invalid.to_string()));
    }
    match ask_with_token(env, user, session, "/progress", &token, &body).await? {
        Ok(answer) => http::json(200, &answer),
        Err(refusal) => http::json(refusal.code.facts().1, &error(refusal.code.facts().0, &refusal.message)),
    }
}

/// Asks a session object on behalf of its container, which shows a report token.
pub async fn ask_with_token(
    env: &Env,
    user: &UserId,
    session: &SessionId,
    path: &str,
    token: &str,
    body: &[u8],
) -> worker::Result<CallResult> {
    let headers = Headers::new();
    headers.set("authorization", &format!("Bearer {token}"))?;
    let request = posted(path, headers, body)?;
    let mut response = ask(env, BINDING, &session.object_name(user), request, ANSWER_MS).await?;
    Ok(http::parse(&response.bytes().await?)?)
}

/// Calls a session object on behalf of a front end.
pub async fn call(
    env: &Env,
    user: &UserId,
    session: &SessionId,
    call: &Call,
    limit_ms: i64,
) -> worker::Result<Result<Box<serde_json::value::RawValue>, TrpcError>> {
    let request = posted("/call", Headers::new(), &serde_json::to_vec(call)?)?;
    let name = session.object_name(user);
    let mut response = ask_if(call.may_repeat(), env, BINDING, &name, request, limit_ms).await?;
    Ok(http::parse(&response.bytes().await?)?)
}

fn posted(path: &str, headers: Headers, body: &[u8]) -> worker::Result<Request> {
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_headers(headers).with_body(Some(js_sys::Uint8Array::from(body).into()));
    Request::new_with_init(&format!("http://session{path}"), &init)
}

async fn upgrade(
    request: &Request,
    env: &Env,
    user: &UserId,
    session: &SessionId,
    path: &str,
    headers: Headers,
) -> worker::Result<Response> {
    let mut url = request.url()?;
    url.set_path(path);
    let mut init = RequestInit::new();
    init.with_method(Method::Get).with_headers(headers);
    let forwarded = Request::new_with_init(url.as_str(), &init)?;
    ask(env, BINDING, &session.object_name(user), forwarded, ANSWER_MS).await
}

/// Who shows up at a route of a session of `owner`.
pub fn bearer(request: &Request, config: &Config, owner: &UserId) -> worker::Result<Result<Bearer, TrpcError>> {
    let header = request.headers().get("authorization")?;
    Ok(auth::bearer(header.as_deref(), owner, config.nextauth_secret.as_deref(), now_ms()))
}

/// The caller's headers, without what only the Worker may say.
fn forwarded(request: &Request) -> worker::Result<Headers> {
    let headers = Headers::new();
    for (name, value) in request.headers().entries().filter(|(name, _)| !name.starts_with("x-holdfast-")) {
        headers.append(&name, &value)?;
    }
    Ok(headers)
}

fn is_upgrade(request: &Request) -> bool {
    let header = request.headers().get("upgrade").ok().flatten();
    header.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

fn error(code: &str, message: &str) -> ApiError {
    ApiError { error: code.to_owned(), message: message.to_owned() }
}
