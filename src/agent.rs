//! `AgentDO`, named `<town>/<agent>`: an agent's event log. Its rules are `object_core::agent_log`.
//!
//! The first event of a log asks the town whether there is such an agent. A deletion that comes while it asks makes the answer void.

use crate::http;
use crate::object::ask_by_method;
use crate::object::ask_status;
use crate::object::failed;
use crate::object::now_ms;
use crate::object::open;
use crate::sql::WorkerdDatabase;
use object_core::agent_log;
use object_core::agent_log::Event;
use object_core::agent_log::LISTED_MAX;
use object_core::agent_log::NewEvent;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::TownId;
use std::cell::Cell;
use worker::DurableObject;
use worker::Env;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::Response;
use worker::State;
use worker::durable_object;
use worker::wasm_bindgen;

/// How long the object may take.
const ANSWER_MS: i64 = 8 * SECOND;
/// How long the town may take, within that.
const ASK_MS: i64 = 6 * SECOND;

const EVENTS: &str = "/events";

/// The event log of one agent.
#[durable_object(fetch)]
pub struct AgentDO {
    db: WorkerdDatabase,
    env: Env,
    name: String,
    /// How often the log was deleted since this object was constructed.
    deletions: Cell<u64>,
}

impl DurableObject for AgentDO {
    fn new(state: State, env: Env) -> Self {
        let name = state.id().name().unwrap_or_default();
        Self { db: open(&state.storage(), agent_log::MIGRATIONS), env, name, deletions: Cell::new(0) }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        match request.method() {
            Method::Post => {
                let event: NewEvent = http::parse(&request.bytes().await?)?;
                if !self.may_begin().await? {
                    return Response::error("", 404);
                }
                agent_log::append(&self.db, now_ms(), &event).map_err(failed)?;
                Response::empty()
            }
            Method::Delete => {
                self.deletions.set(self.deletions.get().wrapping_add(1));
                agent_log::clear(&self.db).map_err(failed)?;
                Response::empty()
            }
            _ => {
                let url = request.url()?;
                let number = |name: &str| {
                    url.query_pairs().find(|(key, _)| key == name).and_then(|(_, value)| value.parse::<i64>().ok())
                };
                let limit = number("limit").unwrap_or(LISTED_MAX);
                let agent = self.name.split_once('/').map_or("", |(_, agent)| agent);
                let after = number("after_id").unwrap_or_default();
                http::json(200, &agent_log::list(&self.db, agent, after, limit).map_err(failed)?)
            }
        }
    }
}

impl AgentDO {
    /// Whether the agent is there, where that is not clear from the log.
    async fn may_begin(&self) -> worker::Result<bool> {
        if agent_log::is_begun(&self.db).map_err(failed)? {
            return Ok(true);
        }
        let Some((town, agent)) = self.name.split_once('/') else { return Ok(false) };
        let deletions = self.deletions.get();
        let request = Request::new(&format!("http://town/agents/{agent}"), Method::Get)?;
        match ask_status(&self.env, "TOWN", town, request, ASK_MS).await? {
            200 => Ok(self.deletions.get() == deletions),
            404 => Ok(false),
            status => Err(worker::Error::RustError(format!("the town answered {status}"))),
        }
    }
}

/// Appends an event to the log of an agent. Whether there is such an agent.
pub async fn record(env: &Env, town: &TownId, agent: &AgentId, event: &NewEvent) -> worker::Result<bool> {
    let event = Some(serde_json::to_string(event)?);
    Ok(call(env, town.as_str(), agent, Method::Post, EVENTS, event).await?.is_some())
}

/// The events of an agent after `after_id`, oldest first: a JSON array of [`Event`].
pub async fn events(
    env: &Env,
    town: &TownId,
    agent: &AgentId,
    after_id: i64,
    limit: i64,
) -> worker::Result<Vec<Event>> {
    let path = format!("{EVENTS}?after_id={after_id}&limit={limit}");
    let listed = call(env, town.as_str(), agent, Method::Get, &path, None).await?;
    Ok(listed.map_or(Ok(vec![]), |listed| http::parse(&listed))?)
}

/// Deletes the log of an agent that is no more.
pub async fn forget(env: &Env, town: &str, agent: &AgentId) -> worker::Result<()> {
    call(env, town, agent, Method::Delete, EVENTS, None).await.map(drop)
}

/// The body of the answer, read to its end; None: there is no such agent.
async fn call(
    env: &Env,
    town: &str,
    agent: &AgentId,
    method: Method,
    path: &str,
    body: Option<String>,
) -> worker::Result<Option<Vec<u8>>> {
    let mut init = RequestInit::new();
    init.with_method(method).with_body(body.map(Into::into));
    let request = Request::new_with_init(&format!("http://agent{path}"), &init)?;
    let name = format!("{town}/{agent}");
    // By its method: an event that arrives twice would be two.
    let mut answer = ask_by_method(env, "AGENT", &name, request, ANSWER_MS).await?;
    let body = answer.bytes().await?;
    match answer.status_code() {
        200 => Ok(Some(body)),
        404 => Ok(None),
        status => Err(worker::Error::RustError(format!("the event log answered {status}"))),
    }
}
