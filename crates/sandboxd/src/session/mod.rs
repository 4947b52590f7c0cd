//! `sandboxd session`: serves the sessions of one sandbox (design 4, spec/session.md 8).
//!
//! Each session has a workspace, a home, one agent server and a loop of its own; they share this process and nothing
//! else. From a call to its effect:
//!
//! | Module | Subject |
//! | --- | --- |
//! | [`config`], [`limits`], [`paths`] | what is fixed at the start |
//! | [`http`] | the API |
//! | [`verdict`] | a person's answers to what the agent asks |
//! | [`sessions`], [`state`] | which sessions there are, and what each is doing |
//! | [`attempt`], [`cold_start`] | one piece of work, step by step; [`report`] tells the object |
//! | [`images`] | what the user shows with the prompt |
//! | [`workspace`], [`git`] | clone, branch, setup commands; [`made_from`] says when they are done anew |
//! | [`kilo`], [`places`] | the agent server, and how many run at a time |
//! | [`driver`] | the loop around the machines of sandbox-core |
//! | [`events`] | from the agent server: its event stream |
//! | [`link`], [`socket`], [`spool_file`] | to the object: the ingest connection |
//! | [`logs`] | what the agent server and sandboxd said of an execution |
//! | [`autocommit`], [`staging`] | what happens to the files at the end of a turn |
//! | [`keep`], [`snapshot`], [`wip`] | what outlives the container: the conversation, and work in progress |
//! | [`recovery`] | what a killed process left |
//! | [`restore`] | `sandboxd restore`: an exported session back into the agent's storage |
//! | [`transfer`] | files over HTTP |
//! | [`command`], [`reap`], [`redact`], [`error`] | running programs, ending them, quoting them |

mod attempt;
mod autocommit;
mod cold_start;
pub mod command;
pub mod config;
mod driver;
mod error;
pub mod events;
pub mod git;
mod http;
mod images;
mod keep;
pub mod kilo;
pub mod limits;
mod link;
mod logs;
mod made_from;
mod paths;
mod places;
mod prompted;
pub mod reap;
mod recovery;
pub mod redact;
pub mod report;
pub mod restore;
mod sessions;
pub mod snapshot;
mod socket;
mod spool_file;
mod staging;
mod state;
pub mod transfer;
mod verdict;
mod wip;
mod workspace;

use crate::log;
use crate::memory::Memory;
use config::Config;
use config::ConfigError;
use http::Api;
use places::Places;
use serde_json::json;
use sessions::Sessions;
use state::Shared;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Semaphore;

/// Why the role ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionRoleError {
    /// The environment cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No client for calls out.
    #[error("cannot make an HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The API ended.
    #[error("cannot serve: {0}")]
    Serve(io::Error),
    /// No handler for signals.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// A session was not at its end when the time was.
    #[error("not everything was put away within {0} ms")]
    Unfinished(u64),
}

/// Serves until the process is told to end. `memory` has what a killed one before it knew.
pub async fn run(memory: Memory) -> Result<(), SessionRoleError> {
    let config = Config::from_env()?;
    let (address, token) = (config.listen, config.token.clone());
    let shutdown_ms_max = config.limits.shutdown_ms_max;
    let mut terminate = signal(SignalKind::terminate()).map_err(SessionRoleError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SessionRoleError::Signals)?;
    let listener = TcpListener::bind(address).await.map_err(|error| SessionRoleError::Listen { address, error })?;
    // The port may have been chosen by the system.
    let address = listener.local_addr().unwrap_or(address);
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let places = Places::new(limits::MAX_AGENT_SERVERS);
    let exports = Semaphore::new(limits::EXPORTS_AT_ONCE);
    let sessions = Sessions::new(Arc::new(Shared { config, http, places, exports, memory }));
    let api = Arc::new(Api { sessions, token, instance: uuid::Uuid::new_v4().to_string() });
    api.sessions.recover();
    log::info("session", "listening", json!({ "address": address.to_string(), "instance": api.instance }));
    // A task of its own: `/health` is also answered while the sessions end.
    let mut serving = tokio::spawn(axum::serve(listener, http::router(api.clone())).into_future());
    let signal = tokio::select! {
        served = &mut serving => return served.unwrap_or_else(|error| Err(error.into())).map_err(SessionRoleError::Serve),
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    log::info("session", "shutting_down", json!({ "signal": signal }));
    if api.sessions.shut_down(signal).await { Ok(()) } else { Err(SessionRoleError::Unfinished(shutdown_ms_max)) }
}
