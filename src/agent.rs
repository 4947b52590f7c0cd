//! `AgentDO`, named `<town>/<agent>`: an agent's event log. Its rules are `object_core::agent_log`.

use crate::http;
use crate::object::ask;
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

const EVENTS: &str = "/events";

/// The event log of one agent.
#[durable_object(fetch)]
pub struct AgentDO {
    db: WorkerdDatabase,
    name: String,
}

impl DurableObject for AgentDO {
    fn new(state: State, _env: Env) -> Self {
        let name = state.id().name().unwrap_or_default();
        Self { db: open(&state.storage(), agent_log::MIGRATIONS), name }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        match request.method() {
            Method::Post => {
                let event: NewEvent = http::parse(&request.bytes().await?)?;
                agent_log::append(&self.db, now_ms(), &event).map_err(failed)?;
                Response::empty()
            }
            Method::Delete => {
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

/// Appends an event to the log of an agent.
pub async fn record(env: &Env, town: &TownId, agent: &AgentId, event: &NewEvent) -> worker::Result<()> {
    call(env, town.as_str(), agent, Method::Post, EVENTS, Some(serde_json::to_string(event)?)).await.map(drop)
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
    let mut answer = call(env, town.as_str(), agent, Method::Get, &path, None).await?;
    Ok(http::parse(&answer.bytes().await?)?)
}

/// Deletes the log of an agent that is no more.
pub async fn forget(env: &Env, town: &str, agent: &AgentId) -> worker::Result<()> {
    call(env, town, agent, Method::Delete, EVENTS, None).await.map(drop)
}

async fn call(
    env: &Env,
    town: &str,
    agent: &AgentId,
    method: Method,
    path: &str,
    body: Option<String>,
) -> worker::Result<Response> {
    let mut init = RequestInit::new();
    init.with_method(method).with_body(body.map(Into::into));
    let request = Request::new_with_init(&format!("http://agent{path}"), &init)?;
    let answer = ask(env, "AGENT", &format!("{town}/{agent}"), request, ANSWER_MS).await?;
    match answer.status_code() {
        200 => Ok(answer),
        status => Err(worker::Error::RustError(format!("the event log answered {status}"))),
    }
}
