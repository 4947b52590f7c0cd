//! The container side of Holdfast in one binary, and the local container host (design 4).
//!
//! | Module | Role |
//! | --- | --- |
//! | [`init`] | PID 1 of a container: starts the role, passes signals on, leaves no orphan behind |
//! | [`session`] | serves the sessions of one sandbox |
//! | [`town`] | serves one town |
//! | [`host`] | stands in for a container platform on one machine |
//!
//! `restore` is no role but a tool: [`session::restore`].
//!
//! `init` runs without an event loop: it must keep working when everything else is in trouble. The other roles are
//! processes of one thread each; what they wait for is I/O.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod args;
mod bearer;
mod clock;
mod host;
mod init;
mod log;
mod memory;
mod overrides;
mod processes;
#[cfg(test)]
#[path = "../tests/support/program.rs"]
mod program;
mod secrecy;
mod session;
mod town;

use args::Command;
use memory::Memory;
use std::error::Error;
use std::future::Future;
use std::process::ExitCode;

/// The exit code of a command line that makes no sense.
const EXIT_MISUSE: u8 = 2;

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => {
            println!("{}", args::USAGE);
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            println!("sandboxd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Init { child }) => {
            secrecy::guard();
            secrecy::give_up_sight();
            init::run(&child)
        }
        Ok(Command::Restore(options)) => restore(options),
        Ok(Command::Session) => {
            secrecy::guard();
            serve("session", session::run(Memory::inherited()))
        }
        Ok(Command::Town) => {
            secrecy::guard();
            // A town remembers nothing there, and its agents inherit nothing.
            drop(Memory::inherited());
            serve("town", town::run())
        }
        Ok(Command::Host(options)) => serve("host", host::run(options)),
        Err(misuse) => {
            eprintln!("sandboxd: {misuse}\n\n{}", args::USAGE);
            ExitCode::from(EXIT_MISUSE)
        }
    }
}

/// Runs the tool, which says itself what came of it.
fn restore(options: session::restore::Options) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(session::restore::run(options)),
        Err(error) => {
            log::error("restore", "failed", serde_json::json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

/// Runs a role to its end on one thread.
fn serve<E: Error>(role: &'static str, role_run: impl Future<Output = Result<(), E>>) -> ExitCode {
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(role_run).map_err(|error| error.to_string());
            // What still runs has no say: a read of standard input, for one, cannot be cancelled.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(format!("cannot start the event loop: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(role, "failed", serde_json::json!({ "error": error }));
            ExitCode::FAILURE
        }
    }
}
