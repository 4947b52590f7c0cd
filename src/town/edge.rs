//! What the Worker answers itself: log lines, object ids, fresh tokens, and what passes to an agent's log or the bucket.

use super::caller::Caller;
use super::error::TownError;
use super::guard::Secrets;
use super::ledger::Body;
use super::proxy;
use super::route::Ids;
use super::routes::owned;
use super::table::Edge;
use super::token;
use crate::agent;
use crate::http;
use crate::log;
use crate::object::ask_status;
use crate::object::now_ms;
use crate::store;
use crate::store::PutError;
use object_core::agent_log::NewEvent;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::TownId;
use protocol::town::Success;
use serde_json::json;
use serde_json::value::RawValue;
use worker::Env;
use worker::Method;
use worker::Request;
use worker::Response;

/// The largest snapshot of an agent's database, in bytes.
const SNAPSHOT_BYTES_MAX: u64 = 64 * 1024 * 1024;
const SNAPSHOT_TYPE: &str = "application/octet-stream";

/// How long the town may take to say who is there.
const ANSWER_MS: i64 = 8 * SECOND;

/// The longest name of an event in the log, in characters.
const EVENT_MAX: usize = 128;
/// How many events of an agent are listed at once.
const EVENTS_DEFAULT: i64 = 500;

/// Answers a request that needs no ledger.
pub async fn answer(
    edge: Edge,
    env: &Env,
    ids: &Ids,
    caller: &Caller,
    secrets: Secrets<'_>,
    body: &[u8],
) -> Result<Response, TownError> {
    let town = ids.town()?;
    let data = match edge {
        Edge::ContainerEvent => {
            let event = Body::parse(body).ok().and_then(|body| body.text("event").ok());
            let event: String = event.ok_or(TownError::BadRequest("Missing event name"))?;
            let event: String = event.chars().take(EVENT_MAX).collect();
            is_there(env, town).await?;
            log::info("container_event", &[("town", town.as_str()), ("name", &event)]);
            json!({"recorded": true})
        }
        Edge::ObjectIds => {
            owned(env, town, caller).await?;
            let id =
                |binding| Ok::<_, worker::Error>(env.durable_object(binding)?.id_from_name(town.as_str())?.to_string());
            let container = if proxy::is_running(env, town).await? { Some(id("TOWN_CONTAINER")?) } else { None };
            json!({"townDoId": id("TOWN")?, "containerDoId": container})
        }
        Edge::RefreshToken => {
            is_there(env, town).await?;
            json!({"token": signed(token::container, town, caller, secrets)?})
        }
        Edge::StatusTicket => {
            owned(env, town, caller).await?;
            let url = format!("/api/towns/{town}/status/ws");
            json!({"url": url, "ticket": signed(token::status_ticket, town, caller, secrets)?})
        }
    };
    Ok(http::json(200, &Success::new(data))?)
}

type Sign = fn(&TownId, &str, &str, i64) -> Option<String>;

fn signed(sign: Sign, town: &TownId, caller: &Caller, secrets: Secrets<'_>) -> Result<String, TownError> {
    let user = caller.user_id().map_or("", |user| user.as_str());
    let secret = secrets.town.ok_or(TownError::NoSecret)?;
    sign(town, user, secret, now_ms()).ok_or(TownError::NoSecret)
}

/// `POST …/agent-events` and `GET …/agents/{agent}/events`.
pub async fn agent_log(request: &Request, env: &Env, ids: &Ids, body: &[u8]) -> Result<Response, TownError> {
    let town = ids.town()?;
    if request.method() == Method::Post {
        let body = Body::parse(body)?;
        let agent = body.id("agent_id", AgentId::parse)?;
        let data = body.value("data").map_or_else(|| "{}".to_owned(), ToString::to_string);
        let data = RawValue::from_string(data).map_err(worker::Error::from)?;
        let event = NewEvent { event_type: body.text("event_type")?, data }.cut();
        if !agent::record(env, town, &agent, &event).await? {
            return Err(TownError::NotFound("Agent not found"));
        }
        return Ok(http::json(201, &Success::new(json!({"appended": true})))?);
    }
    let url = request.url()?;
    let number = |name: &str, default| match url.query_pairs().find(|(key, _)| key == name) {
        None => Ok(default),
        Some((_, value)) => match value.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(number),
            _ => Err(TownError::BadRequest("after_id and limit must be non-negative integers")),
        },
    };
    let (after, limit) = (number("after_id", 0)?, number("limit", EVENTS_DEFAULT)?);
    Ok(http::json(200, &Success::new(agent::events(env, town, ids.agent()?, after, limit).await?))?)
}

/// `…/agents/{agent}/db-snapshot`. The key holds the town: an agent's id alone is no proof of whose it is.
pub async fn snapshot(request: &Request, env: &Env, ids: &Ids) -> Result<Response, TownError> {
    let (town, agent) = (ids.town()?, ids.agent()?);
    if request.method() == Method::Post {
        known(env, town, agent).await?;
    }
    let key = store::agent_snapshot(town.as_str(), agent.as_str());
    match request.method() {
        Method::Get => store::get(env, &key).await?.ok_or(TownError::NotFound("Snapshot not found")),
        Method::Delete => {
            store::remove(env, &key).await?;
            Ok(http::json(200, &json!({"success": true}))?)
        }
        _ => match store::put(env, &key, request, SNAPSHOT_TYPE, SNAPSHOT_BYTES_MAX).await? {
            // Asked afterwards too: the agent may have been deleted, and its snapshot with it, while this one was on its way.
            Ok(()) => match known(env, town, agent).await {
                Ok(()) => Ok(http::json(200, &json!({"success": true}))?),
                Err(error @ TownError::NotFound(_)) => {
                    store::remove(env, &key).await?;
                    Err(error)
                }
                // A town that does not answer has not said that the agent is gone: this is all there is of its conversation.
                Err(error) => Err(error),
            },
            Err(PutError::NoLength) => Err(TownError::Refused { status: 411, text: "Content-Length is needed".into() }),
            Err(PutError::TooLarge { .. }) => Err(TownError::TooLarge),
        },
    }
}

/// Refuses what comes from an agent that is not there.
async fn known(env: &Env, town: &TownId, agent: &AgentId) -> Result<(), TownError> {
    let request = Request::new(&format!("http://town/agents/{agent}"), Method::Get)?;
    found(env, town, request, "Agent not found").await
}

/// Refuses what is of a town that is not there.
async fn is_there(env: &Env, town: &TownId) -> Result<(), TownError> {
    found(env, town, Request::new("http://town/town", Method::Get)?, "Town not found").await
}

async fn found(env: &Env, town: &TownId, question: Request, refusal: &'static str) -> Result<(), TownError> {
    match ask_status(env, "TOWN", town.as_str(), question, ANSWER_MS).await? {
        200 => Ok(()),
        404 => Err(TownError::NotFound(refusal)),
        status => Err(worker::Error::RustError(format!("the town answered {status}")).into()),
    }
}
