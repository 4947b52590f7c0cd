//! Stands in for a container platform on one machine (docs/host-api.md): each container is a supervised process group with an
//! empty folder as its disk.
//!
//! It is for development and tests. What it does not do is isolate: a container's processes run as this user.
//!
//! Containers do not survive their host. A host that was killed leaves processes; the next one on the same root kills them
//! before it listens, and starts with no containers.

mod api;
mod container;
mod error;
mod exit_hook;
pub mod forward;
mod output;
mod registry;
mod root;
mod tree;

use crate::args::HostOptions;
use crate::log;
use api::Host;
use axum::serve::ListenerExt;
use nix::sys::prctl;
use protocol::sandbox::Secret;
use registry::Registry;
use root::Root;
use serde_json::json;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

const ROLE: &str = "host";
const TOKEN_VARIABLE: &str = "HOLDFAST_HOST_TOKEN";

/// Why the host did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("cannot listen on {address}: {error}")]
    Listen { address: std::net::SocketAddr, error: io::Error },
    #[error("{TOKEN_VARIABLE} is missing: set it to a secret that only callers of the host know")]
    NoToken,
    #[error(transparent)]
    Root(#[from] root::RootError),
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Runs containers until SIGTERM, SIGINT or, if asked for, the end of standard input; then ends them all.
pub async fn run(options: HostOptions) -> Result<(), HostError> {
    let token = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()).ok_or(HostError::NoToken)?;
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Before any child: see tree.
    prctl::set_child_subreaper(true).map_err(io::Error::from)?;
    let root = Root::take(&options.root)?;
    let leftovers = tree::kill_leftovers(root.path()).await;
    root.clear()?;
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.map_err(|error| HostError::Listen { address: options.listen, error })?;
    let address = listener.local_addr()?;

    let containers = Registry::new(std::env::current_exe()?, root.path().to_owned());
    let host = Arc::new(Host { token: Secret(token), containers });
    println!("{}", json!({ "event": "ready", "url": format!("http://{address}") }));
    log::info(ROLE, "ready", json!({ "listen": address, "root": root.path(), "leftovers_killed": leftovers }));

    let router = api::router(host.clone());
    // Small frames of a forwarded socket must not wait for each other.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    tokio::select! {
        served = axum::serve(listener, router) => served?,
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        () = end_of_stdin(), if options.exit_with_stdin => {}
    }
    log::info(ROLE, "ending", json!({}));
    host.containers.stop_all().await;
    Ok(())
}

async fn end_of_stdin() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    while stdin.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
}
