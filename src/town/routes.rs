//! The Worker's side of the town routes: guard, body, one call to the object, answer.

use super::error::TownError;
use super::guard;
use super::object;
use super::route::TownRoute;
use crate::config::Config;
use crate::http;
use crate::http::BodyError;
use crate::log;
use crate::object::now_ms;
use crate::route::Refusal;
use protocol::id::TownId;
use protocol::town::DrainStatus;
use protocol::town::Eviction;
use protocol::town::EvictionAnswer;
use protocol::town::Failure;
use protocol::town::Heartbeat;
use protocol::town::HeartbeatAnswer;
use protocol::town::Ready;
use protocol::town::ReadyAnswer;
use protocol::town::Success;
use town_core::message::container::ContainerAnswer;
use town_core::message::container::ContainerCall;
use worker::Env;
use worker::Request;
use worker::Response;

/// Serves one request of the family.
pub async fn serve(route: TownRoute, request: Request, env: &Env, config: &Config) -> worker::Result<Response> {
    match handle(route, request, env, config).await {
        Ok(response) => Ok(response),
        Err(error) => fail(&error),
    }
}

/// Answers a request without a route.
pub fn refuse(refusal: Refusal) -> worker::Result<Response> {
    fail(match refusal {
        Refusal::MethodNotAllowed => &TownError::MethodNotAllowed,
        Refusal::BadImage | Refusal::BadUserId | Refusal::NotFound => &TownError::NotFound,
    })
}

fn fail(error: &TownError) -> worker::Result<Response> {
    if let TownError::Internal(cause) = error {
        log::error("town", &[("error", &cause.to_string())]);
    }
    http::json(error.status(), &Failure::new(error.to_string()))
}

async fn handle(route: TownRoute, mut request: Request, env: &Env, config: &Config) -> Result<Response, TownError> {
    let bearer = http::bearer(&request);
    let (bearer, secret) = (bearer.as_deref(), config.gastown_jwt_secret.as_deref());
    let (town, call) = match route {
        TownRoute::ContainerEviction { town } => {
            guard::container(bearer, secret, now_ms(), &town)?;
            let instance = Eviction::read(&body(&mut request).await?).container_instance_id;
            (town, ContainerCall::Eviction { instance })
        }
        TownRoute::ContainerReady { town } => {
            guard::container(bearer, secret, now_ms(), &town)?;
            let ready = Ready::read(&body(&mut request).await?).map_err(TownError::BadRequest)?;
            (town, ContainerCall::Ready { instance: ready.container_instance_id, nonce: ready.nonce })
        }
        TownRoute::DrainStatus { town } => {
            guard::container(bearer, secret, now_ms(), &town)?;
            (town, ContainerCall::DrainStatus)
        }
        TownRoute::Heartbeat { town, rig, agent } => {
            guard::agent(bearer, secret, now_ms(), &town, &rig, &agent)?;
            let body = Heartbeat::read(&body(&mut request).await?);
            (town, ContainerCall::Heartbeat { agent, body, rig })
        }
        TownRoute::NotBuilt => return Err(TownError::NotBuilt),
    };
    answer(env, &town, &call).await
}

async fn answer(env: &Env, town: &TownId, call: &ContainerCall) -> Result<Response, TownError> {
    Ok(match object::call(env, town, call).await? {
        ContainerAnswer::DrainStatus { nonce } => {
            http::json(200, &Success::new(DrainStatus { draining: nonce.is_some(), drain_nonce: nonce }))
        }
        ContainerAnswer::Eviction { nonce } => {
            http::json(200, &Success::new(EvictionAnswer { acknowledged: true, drain_nonce: nonce }))
        }
        ContainerAnswer::Heartbeat { nonce } => {
            http::json(200, &Success::new(HeartbeatAnswer { heartbeat: true, drain_nonce: nonce }))
        }
        ContainerAnswer::Ready { cleared } => http::json(200, &Success::new(ReadyAnswer { cleared })),
    }?)
}

async fn body(request: &mut Request) -> Result<Vec<u8>, TownError> {
    http::body(request).await.map_err(|error| match error {
        BodyError::Broken => TownError::BadRequest("Request body could not be read"),
        BodyError::TooLarge => TownError::TooLarge,
    })
}
