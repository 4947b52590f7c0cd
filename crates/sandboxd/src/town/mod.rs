//! Serves one town: its agents, and the container's side of graceful eviction (spec/town.md 5, 6).
//!
//! | Module | Subject |
//! | --- | --- |
//! | [`config`], [`limits`], [`live`] | what is fixed at the start, and what the town says later |
//! | [`home`] | calls to the town |
//! | [`api`], [`stream`], [`pty`], [`tickets`] | the control server |
//! | [`agents`] | the process manager |
//! | [`feed`] | what the agents do, for whoever watches |
//! | [`git`] | clones, worktrees, merges, and the emergency save |
//! | [`prompts`], [`tools`] | what agents are told, and what they may ask of the town |
//! | [`drain`] | what happens after SIGTERM |
//!
//! SIGTERM means that the container is being evicted: it starts no agent any more, acknowledges no drain, tells the town, which stops to
//! dispatch, and saves every agent's work. SIGINT is a developer's way to end it: the agents end, nothing is saved, nobody is told.

mod agents;
mod api;
mod config;
mod drain;
mod feed;
mod git;
mod home;
mod limits;
mod live;
mod prompts;
mod pty;
mod stream;
mod tickets;
mod tools;

use crate::clock::now_ms;
use crate::log;
use agents::Agents;
use agents::shared::Shared;
use api::Town;
use config::Config;
use home::Home;
use live::Live;
use protocol::id::InstanceId;
use reqwest::redirect::Policy;
use serde_json::json;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use uuid::Uuid;

const ROLE: &str = "town";

/// Why the role did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum TownRoleError {
    #[error(transparent)]
    Client(#[from] reqwest::Error),
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    #[error(transparent)]
    Instance(#[from] protocol::id::InvalidId),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Serves until SIGTERM or SIGINT.
pub async fn run() -> Result<(), TownRoleError> {
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let config = Config::read(|name| std::env::var(name).ok())?;
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|error| TownRoleError::Listen { address: config.listen, error })?;
    let instance = InstanceId::parse(&Uuid::new_v4().to_string())?;
    let interrupt_grace = Duration::from_millis(config.limits.interrupt_ms);
    let town = Arc::new(town(config, instance, listener.local_addr()?)?);
    let (agents, home) = (town.agents.clone(), town.agents.shared.home.clone());
    log::info(
        ROLE,
        "ready",
        json!({ "town": agents.shared.config.town, "instance": home.instance(), "listen": listener.local_addr()? }),
    );

    let beats = agents.clone();
    let heart = tokio::spawn(home.clone().keep_beating(move || beats.beats()));
    tokio::spawn(agents.clone().keep_registry());
    tokio::spawn(agents.clone().hydrate());
    // A task of its own: it also answers while the container drains.
    let mut serving = tokio::spawn(axum::serve(listener, api::router(town)).into_future());
    tokio::select! {
        served = &mut serving => return Ok(served.map_err(io::Error::from)??),
        _ = terminated.recv() => drain::run(agents.clone(), heart.abort_handle(), &mut terminated).await,
        _ = interrupted.recv() => heart.abort(),
    }
    // After a drain, this is for what could not be frozen.
    let _ = tokio::time::timeout(interrupt_grace, agents.stop_all()).await;
    log::info(ROLE, "ending", json!({ "instance": home.instance() }));
    Ok(())
}

fn town(config: Config, instance: InstanceId, address: SocketAddr) -> Result<Town, TownRoleError> {
    let live = Arc::new(Live::new(&config));
    let home = Arc::new(Home::new(config.clone(), live.clone(), instance)?);
    let http = reqwest::Client::builder().redirect(Policy::none()).build()?;
    let agents = Arc::new(Agents::new(Arc::new(Shared::new(config, http, live, home, address))));
    Ok(Town {
        agents,
        tickets: Default::default(),
        context: Default::default(),
        started: Instant::now(),
        started_at_ms: now_ms(),
    })
}
