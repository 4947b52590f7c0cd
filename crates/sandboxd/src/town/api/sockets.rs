//! Who may open a WebSocket, and to what (spec/town.md 9.1, 9.3).
//!
//! A stream is `/ws?agentId=` or any path that ends with `/agents/{id}/stream`, because callers come with and without a prefix.

use super::Town;
use super::body::Answer;
use super::body::Refusal;
use super::has_bearer;
use crate::clock::now_ms;
use crate::town::stream;
use crate::town::stream::Right;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::id::AgentId;
use std::sync::Arc;
use url::form_urlencoded;

/// What a call may see: everything with the bearer; with a ticket one agent, and only on a WebSocket. None: nothing.
pub fn right(town: &Town, request: &Request) -> Option<Right> {
    if has_bearer(town, request.headers()) {
        return Some(Right::All);
    }
    let target = target(request)?;
    let ticket = parameter(request, "ticket")?;
    let agent = town.tickets().redeem(&ticket, now_ms())?;
    target.is_for(&agent).then_some(Right::One(agent))
}

/// What the path of a WebSocket names.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// Whatever the viewer subscribes to.
    Any,
    /// The events of this agent, or a terminal of it.
    Agent(String),
}

impl Target {
    fn is_for(&self, agent: &str) -> bool {
        match self {
            Target::Any => true,
            Target::Agent(own) => own == agent,
        }
    }
}

fn target(request: &Request) -> Option<Target> {
    let path = request.uri().path();
    if path == "/ws" {
        return Some(parameter(request, "agentId").map_or(Target::Any, Target::Agent));
    }
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "agents", agent, "stream"] | ["", "agents", agent, "pty", _, "connect"] => {
            Some(Target::Agent((*agent).to_owned()))
        }
        _ => None,
    }
}

/// A parameter of the query.
pub(super) fn parameter(request: &Request, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// `GET /ws`.
pub async fn any(State(town): State<Arc<Town>>, request: Request) -> Answer {
    let agent = parameter(&request, "agentId");
    open(&town, request, agent)
}

/// A path that no route has: a stream by its suffix, or nothing.
pub async fn by_suffix(State(town): State<Arc<Town>>, request: Request) -> Answer {
    match target(&request) {
        Some(Target::Agent(agent)) if request.uri().path().ends_with("/stream") => open(&town, request, Some(agent)),
        _ => Err(Refusal::not_found()),
    }
}

fn open(town: &Arc<Town>, request: Request, agent: Option<String>) -> Answer {
    let agent = agent.map(|agent| AgentId::parse(&agent)).transpose().map_err(|_| Refusal::not_found())?;
    let right = request.extensions().get::<Right>().cloned().ok_or_else(Refusal::not_found)?;
    let opened = stream::open(town.agents.shared.clone(), request, agent, right);
    opened.ok_or_else(|| Refusal::new(StatusCode::UPGRADE_REQUIRED, "Expected a WebSocket"))
}
