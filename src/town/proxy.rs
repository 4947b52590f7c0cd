//! What passes to the town's container and to its status stream. Only a start wakes a container: nobody starts one to look at it.

use super::caller::Caller;
use super::error::TownError;
use super::guard;
use super::guard::Guard;
use super::guard::Secrets;
use super::guard::Shown;
use super::route::Ids;
use super::routes::forwarded;
use super::routes::owned;
use super::token;
use crate::container::town::REGISTRY;
use crate::http;
use crate::object::ask;
use crate::object::ask_by_method;
use crate::object::ask_status;
use crate::object::now_ms;
use object_core::time::SECOND;
use protocol::id::TownId;
use serde_json::Value;
use serde_json::json;
use worker::Env;
use worker::Headers;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::Response;
use worker::Url;

/// How long the container may take: a start clones a repository.
const CONTAINER_MS: i64 = 60 * SECOND;
/// How long an upgrade may take.
const UPGRADE_MS: i64 = 15 * SECOND;
/// How long the container may take to say that it is there.
const HEALTH_MS: i64 = 5 * SECOND;

/// `…/container/…`: the container's own answer, in the envelope.
pub async fn container(
    request: &Request,
    env: &Env,
    ids: &Ids,
    caller: &Caller,
    secrets: Secrets<'_>,
    body: &[u8],
) -> Result<Response, TownError> {
    let town = ids.town()?;
    owned(env, town, caller).await?;
    let url = request.url()?;
    let path = url.path().split_once("/container/").map_or("", |(_, path)| path);
    let (start, message) = (path == "agents/start", path.ends_with("/message"));
    if (start || message) && http::parse::<Value>(body).is_err() {
        return Err(TownError::BadRequest("Invalid JSON body"));
    }
    let target = target(&url, path, start.then_some(("wake", "1")))?;
    let forwarded = forwarded(request.method(), target.as_str(), caller, body)?;
    if !body.is_empty() {
        forwarded.headers().set("content-type", "application/json")?;
    }
    let mut response = ask_by_method(env, "TOWN_CONTAINER", town.as_str(), forwarded, CONTAINER_MS).await?;
    let status = response.status_code();
    let mut said: Value = http::parse(&response.bytes().await?).unwrap_or_default();
    if (200..300).contains(&status) {
        if let Some(ticket) = said.get("ticket").and_then(Value::as_str).filter(|_| path.ends_with("/stream-ticket")) {
            let (agent, secret) = (ids.agent()?, secrets.town.ok_or(TownError::NoSecret)?);
            let ticket = token::agent_ticket(town, agent, ticket, secret, now_ms());
            let url = format!("/api/towns/{town}/container/agents/{agent}/stream");
            said = json!({"url": url, "ticket": ticket});
        }
        return Ok(crate::http::json(status, &json!({"success": true, "data": said}))?);
    }
    let text = said.get("message").or_else(|| said.get("error")).and_then(Value::as_str);
    let text = text.unwrap_or("The container refused").to_owned();
    Err(TownError::Refused { status: refusal(status), text })
}

/// A container that does not run has no such agent.
fn refusal(status: u16) -> u16 {
    match status {
        404 | 410 => 404,
        400..500 => 400,
        _ => 502,
    }
}

/// Whether the container runs and is well.
pub async fn is_running(env: &Env, town: &TownId) -> worker::Result<bool> {
    let request = Request::new("http://container/health", Method::Get)?;
    Ok(ask_status(env, "TOWN_CONTAINER", town.as_str(), request, HEALTH_MS).await? == 200)
}

/// `…/container-registry`: a JSON array, kept as it came.
pub async fn registry(request: &Request, env: &Env, town: &TownId, body: Vec<u8>) -> Result<Response, TownError> {
    let mut init = RequestInit::new();
    let reading = request.method() == Method::Get;
    if !reading {
        init.with_method(Method::Put).with_body(Some(js_sys::Uint8Array::from(body.as_slice()).into()));
    }
    let forwarded = Request::new_with_init(&format!("http://container{REGISTRY}"), &init)?;
    let mut response = ask(env, "TOWN_CONTAINER", town.as_str(), forwarded, HEALTH_MS).await?;
    let answer = response.bytes().await?;
    match response.status_code() {
        200 if reading => {
            let entries: Value = http::parse(&answer).map_err(worker::Error::from)?;
            Ok(crate::http::json(200, &json!({"success": true, "data": entries}))?)
        }
        200 => Ok(crate::http::json(200, &json!({"success": true}))?),
        400 => Err(TownError::invalid("", "Expected a JSON array")),
        410 => Err(TownError::NotFound("Town not found")),
        status => Err(worker::Error::RustError(format!("the registry answered {status}")).into()),
    }
}

/// A WebSocket into the container: with a ticket of `…/stream-ticket`, or a user's token, for which the container is asked for a ticket. Either is checked
/// before any object of the town is reached; the container checks its own ticket again, which is good once.
pub async fn socket(
    request: &Request,
    env: &Env,
    shown: &Shown,
    secrets: Secrets<'_>,
    ids: &Ids,
) -> Result<Response, TownError> {
    upgrading(request)?;
    let (town, url) = (ids.town()?, request.url()?);
    let path = url.path().split_once("/container/").map_or("", |(_, path)| path);
    let target = if shown.authorization.is_some() {
        let caller = Guard::User.check(shown, secrets, now_ms(), ids)?;
        owned(env, town, &caller).await?;
        let own = format!("http://container/agents/{}/stream-ticket", ids.agent()?);
        let asked = forwarded(Method::Post, &own, &caller, &[])?;
        let mut response = ask(env, "TOWN_CONTAINER", town.as_str(), asked, UPGRADE_MS).await?;
        let said: Value = http::parse(&response.bytes().await?).unwrap_or_default();
        let refused = || TownError::Refused { status: refusal(response.status_code()), text: "No ticket".into() };
        let ticket = said.get("ticket").and_then(Value::as_str).ok_or_else(refused)?;
        target(&url, path, Some(("ticket", ticket)))?
    } else {
        let ticket = url.query_pairs().find(|(key, value)| key == "ticket" && !value.is_empty());
        let (_, ticket) = ticket.ok_or_else(|| TownError::Unauthorized("Missing ticket".into()))?;
        let ticket = guard::agent_ticket(&ticket, secrets, now_ms(), town, ids.agent()?)?;
        target(&url, path, Some(("ticket", &ticket)))?
    };
    upgrade(request, env, "TOWN_CONTAINER", town, target.as_str()).await
}

/// The status stream: with a ticket of `…/status/ticket`, or the owner's token.
pub async fn status_socket(
    request: &Request,
    env: &Env,
    shown: &Shown,
    secrets: Secrets<'_>,
    ids: &Ids,
) -> Result<Response, TownError> {
    upgrading(request)?;
    let (town, url) = (ids.town()?, request.url()?);
    let ticket = url.query_pairs().find(|(key, _)| key == "ticket").map(|(_, ticket)| ticket.into_owned());
    match ticket {
        Some(ticket) => guard::status_ticket(&ticket, secrets, now_ms(), town)?,
        None => {
            let caller = Guard::User.check(shown, secrets, now_ms(), ids)?;
            owned(env, town, &caller).await?;
        }
    }
    upgrade(request, env, "TOWN", town, "http://town/status/ws").await
}

fn upgrading(request: &Request) -> Result<(), TownError> {
    let upgrades = request.headers().get("upgrade")?.is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
    let refusal = || TownError::Refused { status: 426, text: "Expected WebSocket upgrade".into() };
    if upgrades { Ok(()) } else { Err(refusal()) }
}

/// The path in the container, with the caller's query but for what only the Worker may ask its object for.
fn target(url: &Url, path: &str, extra: Option<(&str, &str)>) -> worker::Result<Url> {
    let mut target = Url::parse(&format!("http://container/{path}"))?;
    let own = |key: &str| matches!(key, "lease" | "wake") || extra.is_some_and(|(name, _)| name == key);
    let pairs: Vec<_> = url.query_pairs().filter(|(key, _)| !own(key)).collect();
    if !pairs.is_empty() || extra.is_some() {
        target.query_pairs_mut().extend_pairs(pairs).extend_pairs(extra);
    }
    Ok(target)
}

/// Passes a handshake on, without what says who asked.
async fn upgrade(request: &Request, env: &Env, binding: &str, town: &TownId, url: &str) -> Result<Response, TownError> {
    let headers = Headers::new();
    let private = |name: &str| matches!(name, "authorization" | "cookie") || name.starts_with("x-holdfast-");
    for (name, value) in request.headers().entries().filter(|(name, _)| !private(name)) {
        headers.append(&name, &value)?;
    }
    let mut init = RequestInit::new();
    init.with_method(Method::Get).with_headers(headers);
    let handshake = Request::new_with_init(url, &init)?;
    Ok(ask(env, binding, town.as_str(), handshake, UPGRADE_MS).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_cannot_wake_a_container_or_lease_it() {
        let url = Url::parse("http://w/api/towns/t/container/agents/a/status?wake=1&after=5&lease=x").unwrap();
        let plain = target(&url, "agents/a/status", None).unwrap();
        assert_eq!(plain.as_str(), "http://container/agents/a/status?after=5");
        let url = Url::parse("http://w/x?ticket=forged").unwrap();
        let ticketed = target(&url, "agents/a/stream", Some(("ticket", "given"))).unwrap();
        assert_eq!(ticketed.as_str(), "http://container/agents/a/stream?ticket=given");
        let nothing = Url::parse("http://w/x").unwrap();
        assert_eq!(target(&nothing, "health", None).unwrap().as_str(), "http://container/health");
    }

    #[test]
    fn errors_of_the_container_have_three_faces() {
        assert_eq!([400, 404, 409, 410, 500, 503].map(refusal), [400, 404, 400, 404, 502, 502]);
    }
}
