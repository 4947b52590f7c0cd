//! The routes about one agent.

use super::Town;
use super::body;
use super::body::Answer;
use super::body::Refusal;
use super::body::draining;
use super::body::fine;
use super::sockets::parameter;
use crate::clock::now_ms;
use crate::town::agents::Agent;
use crate::town::agents::InstructError;
use crate::town::agents::Reason;
use crate::town::agents::StartError;
use crate::town::feed::Event;
use crate::town::home::HomeError;
use crate::town::pty;
use axum::Json;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Method;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use protocol::id::AgentId;
use protocol::time::iso8601;
use protocol::town::container::StartAgent;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

type Shared = State<Arc<Town>>;

#[derive(Deserialize)]
struct Prompt {
    prompt: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewModel {
    model: String,
    small_model: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SystemPrompt {
    system_prompt: String,
}

#[derive(Deserialize)]
struct Delivered {
    nudge_id: String,
}

/// `POST /agents/start`.
pub async fn start(State(town): Shared, request: Request) -> Answer {
    if town.is_draining() {
        return Err(draining());
    }
    let start: StartAgent = body::read(request).await?;
    if start.town_id != town.agents.shared.config.town {
        return Err(Refusal::invalid("townId", "this container serves another town"));
    }
    town.agents.wait_until_hydrated().await;
    let agent = begin(&town, start, Reason::Asked).await?;
    let answer = agent.view().agent_answer(&agent.request);
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// In a task of its own: a caller that leaves does not end what it began.
async fn begin(town: &Town, start: StartAgent, reason: Reason) -> Result<Agent, Refusal> {
    let agents = town.agents.clone();
    let started = tokio::spawn(async move { agents.start(start, reason).await }).await;
    started.unwrap_or(Err(StartError::Aborted)).map_err(not_started)
}

fn not_started(failed: StartError) -> Refusal {
    match failed {
        StartError::Draining => draining(),
        // It says nothing of the agent: the town asks again later.
        StartError::Full => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, failed),
        StartError::Name(wrong) => Refusal::invalid("", wrong),
        failed => Refusal::failed(failed),
    }
}

/// `POST /agents/{id}/stop`.
pub async fn stop(State(town): Shared, Path(id): Path<String>) -> Answer {
    find(&town, &id)?.end(false).await.map_err(Refusal::failed)?;
    fine(json!({ "stopped": true }))
}

/// `POST /agents/{id}/message`.
pub async fn message(State(town): Shared, Path(id): Path<String>, request: Request) -> Answer {
    let agent = find(&town, &id)?;
    let Prompt { prompt } = body::read(request).await?;
    if prompt.trim().is_empty() {
        return Err(Refusal::invalid("prompt", "must not be empty"));
    }
    agent.message(town.with_context(&agent, prompt)).await.map_err(Refusal::failed)?;
    fine(json!({ "sent": true }))
}

/// `PATCH /agents/{id}/model`: the agent is started anew with it, and goes on with its conversation.
pub async fn model(State(town): Shared, Path(id): Path<String>, request: Request) -> Answer {
    if town.is_draining() {
        return Err(draining());
    }
    let NewModel { model, small_model } = body::read(request).await?;
    town.agents.wait_until_hydrated().await;
    let agent = find(&town, &id)?;
    if !agent.view().status().is_live() {
        // Its work is over, and may be somebody else's by now.
        return Err(Refusal::new(StatusCode::CONFLICT, format!("Agent {id} is not running")));
    }
    let mut start = (*agent.request).clone();
    (start.model, start.small_model) = (model, small_model.or(start.small_model));
    begin(&town, start, Reason::Changed).await?;
    fine(json!({ "updated": true }))
}

/// `PUT /agents/{id}/system-prompt`, of the mayor.
pub async fn system_prompt(State(town): Shared, Path(id): Path<String>, request: Request) -> Answer {
    if town.is_draining() {
        return Err(draining());
    }
    let agent = find(&town, &id)?;
    let SystemPrompt { system_prompt } = body::read(request).await?;
    agent.instruct(&system_prompt).await.map_err(|failed| match failed {
        InstructError::Disk(error) => Refusal::failed(error),
        refused => Refusal::new(StatusCode::CONFLICT, refused),
    })?;
    fine(json!({ "updated": true }))
}

/// `GET /agents/{id}/status`.
pub async fn status(State(town): Shared, Path(id): Path<String>) -> Answer {
    let agent = find(&town, &id)?;
    let status = agent.view().status_answer(&agent.request);
    fine(status)
}

/// `GET /agents/{id}/events`. An unknown agent has none; an `after` that is no number is 0.
pub async fn events(State(town): Shared, Path(id): Path<String>, request: Request) -> Answer {
    let after = parameter(&request, "after").and_then(|after| after.parse().ok()).unwrap_or_default();
    let events = AgentId::parse(&id).map(|id| town.agents.shared.feed.after(&id, after)).unwrap_or_default();
    let events: Vec<_> = events.iter().map(Event::listed).collect();
    fine(json!({ "events": events }))
}

/// `POST /agents/{id}/stream-ticket`. The agent need not exist yet.
pub async fn stream_ticket(State(town): Shared, Path(id): Path<String>) -> Answer {
    let id = AgentId::parse(&id).map_err(|_| Refusal::not_found())?;
    let (ticket, expires_at_ms) = town.tickets().issue(id.as_str(), now_ms());
    fine(json!({ "ticket": ticket, "expiresAt": iso8601(expires_at_ms) }))
}

/// `GET /agents/{id}/pending-nudges`.
pub async fn pending_nudges(State(town): Shared, Path(id): Path<String>) -> Answer {
    let place = find(&town, &id)?.place();
    let nudges = town.agents.shared.home.pending_nudges(&place).await.map_err(from_town)?;
    fine(json!({ "nudges": nudges }))
}

/// `POST /agents/{id}/nudge-delivered`.
pub async fn nudge_delivered(State(town): Shared, Path(id): Path<String>, request: Request) -> Answer {
    let place = find(&town, &id)?.place();
    let Delivered { nudge_id } = body::read(request).await?;
    town.agents.shared.home.nudge_delivered(&place, &nudge_id).await.map_err(from_town)?;
    fine(json!({ "marked": true }))
}

/// `GET` and `POST /agents/{id}/pty`.
pub async fn ptys(State(town): Shared, Path(id): Path<String>, request: Request) -> Answer {
    let agent = find(&town, &id)?;
    let shared = &town.agents.shared;
    match &shared.config.kilo {
        Some(kilo) if request.method() == Method::POST => {
            pty::attach(&shared.http, &kilo.to_string_lossy(), &agent).await
        }
        _ => pty::pass_on(&agent, "", request).await,
    }
}

/// `GET`, `PUT` and `DELETE /agents/{id}/pty/{pty}`, and the WebSocket below it.
pub async fn one_pty(State(town): Shared, Path((id, rest)): Path<(String, String)>, request: Request) -> Answer {
    pty::pass_on(&find(&town, &id)?, &format!("/{rest}"), request).await
}

fn find(town: &Town, id: &str) -> Result<Agent, Refusal> {
    let id = AgentId::parse(id).map_err(|_| Refusal::not_found())?;
    town.agents.get(&id).map_err(|unknown| Refusal::new(StatusCode::NOT_FOUND, unknown))
}

fn from_town(failed: HomeError) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, format!("the town {failed}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    #[tokio::test]
    async fn a_container_that_has_no_room_is_told_from_a_start_that_failed() {
        let said = async |failed| {
            let answer = not_started(failed).into_response();
            let (status, body) = (answer.status().as_u16(), to_bytes(answer.into_body(), 1024).await.unwrap());
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let full = r#"{"error":"Container is full: 14 agent servers run already"}"#;
        assert_eq!(said(StartError::Full).await, (503, full.to_owned()));
        assert_eq!(said(StartError::Server("no".to_owned())).await.0, 500);
    }
}
