//! The Worker: routes, guards, one thin shell per Durable Object.
//!
//! | Module | What it owns |
//! | --- | --- |
//! | [`route`] | the whole HTTP surface, as one table |
//! | [`auth`] | tokens and keys |
//! | `cors` | which pages of other origins may call |
//! | [`config`] | what the deployment sets |
//! | `object` | what every shell shares: alarm, waiting callers, timeouts |
//! | `retry` | calls to objects that are tried again |
//! | [`sql`] | workerd's SQL storage behind the port of the cores |
//! | `forge` | pull requests on GitHub and GitLab |
//! | `store` | the bucket: what is too large for tables |
//! | `session` | `CloudAgentSession` |
//! | `container` | `SandboxDO`, `TownContainerDO`, and the container runtimes |
//! | `user`, `agent` | `UserDO`, `AgentDO` |
//! | `town` | the town family of routes, `TownDO` |
//! | `trpc` | the session family of routes |
//! | `http` | bodies with a bound, answers |
//!
//! No rule lives here: a shell turns events into inputs of a core and performs its outputs.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod agent;
pub mod auth;
pub mod config;
mod container;
mod cors;
mod forge;
mod http;
mod log;
mod object;
mod retry;
pub mod route;
mod session;
pub mod sql;
mod store;
mod town;
mod trpc;
mod user;

use crate::config::Config;
use crate::cors::Page;
use crate::route::Refusal;
use crate::route::Route;
use worker::Context;
use worker::Env;
use worker::Request;
use worker::Response;
use worker::event;

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    let config = Config::from_env(&env);
    let (method, path) = (request.method().to_string(), request.path());
    let page = Page::of(&request, &path, &config.cors_origins)?;
    if let Some(preflight) = page.preflight() {
        return preflight;
    }
    let answer = match Route::parse(&method, &path) {
        Err(refusal) => refuse(&path, refusal),
        Ok(route) => dispatch(route, request, &env, &config).await,
    };
    let answer = answer.or_else(|error| {
        log::error("unhandled", &[("path", &path), ("error", &error.to_string())]);
        http::json(500, &http::Plain { error: "Internal server error" })
    });
    page.readable(answer?)
}

async fn dispatch(route: Route, request: Request, env: &Env, config: &Config) -> worker::Result<Response> {
    match route {
        Route::ContainerExited { kind, name, instance } => {
            container::exited(request, env, config, kind, &name, &instance).await
        }
        Route::Health => http::json(200, &http::Health::now()),
        Route::ImageGet { user, session, path, file } => {
            session::images::get(request, env, &user, &session, &path, &file).await
        }
        Route::ImagePut { path, file } => session::images::put(request, env, config, &path, &file).await,
        Route::Ingest { user, session } => session::routes::ingest(request, env, config, &user, &session).await,
        Route::LogsPut { user, session, execution } => {
            session::logs::put(request, env, config, &user, &session, &execution).await
        }
        Route::Progress { user, session } => session::routes::progress(request, env, &user, &session).await,
        Route::Root => http::json(200, &http::Root::HERE),
        Route::SnapshotGet { user, session } => session::snapshot::get(request, env, &user, &session).await,
        Route::SnapshotPut { user, session } => session::snapshot::put(request, env, &user, &session).await,
        Route::Stream => session::routes::stream(request, env, config).await,
        Route::StreamTicket => trpc::ticket::issue(request, env, config).await,
        Route::Town(route) => town::serve(route, request, env, config).await,
        Route::Trpc(procedure) => trpc::call(procedure, request, env, config).await,
    }
}

/// Each family has its own error shape.
fn refuse(path: &str, refusal: Refusal) -> worker::Result<Response> {
    if path.starts_with("/api/") && !path.starts_with("/api/cloud-agent-next/") {
        return town::refuse(refusal);
    }
    match (refusal, path.strip_prefix("/trpc/")) {
        (refusal, Some(procedure)) => trpc::refuse(procedure, refusal),
        (Refusal::BadImage, None) => {
            http::json(400, &http::Plain { error: "Expected /images/<UUID>/<UUID>.(png|jpg|jpeg|webp|gif)" })
        }
        (Refusal::NotFound, None) => http::json(404, &http::Plain { error: "Not found" }),
        (Refusal::MethodNotAllowed, None) => http::json(405, &http::Plain { error: "Method not allowed" }),
        (Refusal::BadUserId, None) => Ok(Response::error("Invalid userId encoding", 400)?),
    }
}
