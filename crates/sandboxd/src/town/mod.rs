//! Serves one town: the container's side of graceful eviction (spec/town.md 5, 6).
//!
//! SIGTERM means that the container is being evicted: it starts no agent any more, acknowledges no drain, and tells the town, which
//! stops to dispatch. SIGINT is a developer's way to end it and says nothing to anyone.

mod ack;
mod api;
mod config;
mod home;
mod limits;

use crate::clock::now_ms;
use crate::log;
use config::Config;
use home::Home;
use home::RunningAgent;
use protocol::id::InstanceId;
use protocol::id::TownId;
use protocol::sandbox::Secret;
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;
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

/// What the routes share.
#[derive(Debug)]
struct Town {
    id: TownId,
    sandbox_token: Secret,
    home: Arc<Home>,
    /// The agents that start or run. Whoever runs agents is its sender; nobody does yet.
    agents: watch::Receiver<Vec<RunningAgent>>,
    started: Instant,
    started_at_ms: i64,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run() -> Result<(), TownRoleError> {
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let config = Config::read(|name| std::env::var(name).ok())?;
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|error| TownRoleError::Listen { address: config.listen, error })?;
    let (id, sandbox_token) = (config.town.clone(), config.sandbox_token.clone());
    let instance = InstanceId::parse(&Uuid::new_v4().to_string())?;
    let home = Arc::new(Home::new(config, instance)?);
    let (_nobody, agents) = watch::channel(Vec::new());
    let (started, started_at_ms) = (Instant::now(), now_ms());
    let heartbeat = tokio::spawn(home.clone().keep_beating(agents.clone()));

    log::info(
        ROLE,
        "ready",
        json!({ "town": id.as_str(), "instance": home.instance(), "listen": listener.local_addr()? }),
    );
    let town = Arc::new(Town { id, sandbox_token, home: home.clone(), agents, started, started_at_ms });
    let evicted = async {
        terminated.recv().await;
        // Nobody waits for a second SIGTERM: the eviction is reported once.
        home.drain();
        heartbeat.abort();
        home.report_eviction().await;
    };
    tokio::select! {
        served = axum::serve(listener, api::router(town)) => served?,
        () = evicted => {}
        _ = interrupted.recv() => {}
    }
    log::info(ROLE, "ending", json!({ "instance": home.instance() }));
    Ok(())
}
