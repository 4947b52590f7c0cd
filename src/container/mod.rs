//! `SandboxDO` and `TownContainerDO`: two names of one shell around `object_core::lifecycle`.
//!
//! | Request | Effect |
//! | --- | --- |
//! | any `/…?wake=1[&lease=…]` | starts the container if it does not run, takes the lease, forwards |
//! | any `/…` | forwards if it runs; 410 `NOT_RUNNING` otherwise: nothing is started only to be looked at |
//! | `POST /lease/release/{holder}` | gives a lease back |
//! | `POST /exited/{instance}` | the platform's notice that it ended |
//! | below `/town/` | of a town's container: `town` |
//!
//! What is forwarded, a WebSocket too, is passed through as it is: its path, the rest of its query, its headers but the bearer. A town's container gets the
//! town's configuration with each request.
//!
//! | Module | What it owns |
//! | --- | --- |
//! | `shell` | the lifecycle: one input, one transaction, its outputs |
//! | `power` | starting and ending the container |
//! | `forward` | what reaches it |
//! | [`town`] | what only a town's container has: settings, registry, agents, the notice of its end |
//! | `runtime`, `cloudflare`, `local` | the platforms |

mod cloudflare;
mod forward;
mod local;
mod power;
mod runtime;
mod shell;
pub mod town;

use crate::config::Config;
use crate::http;
use crate::object::ask;
use crate::route::ContainerKind;
use object_core::entropy::constant_time_eq;
use protocol::sandbox::ApiError;
use shell::Shell;
use std::rc::Rc;
use worker::DurableObject;
use worker::Env;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::Response;
use worker::State;
use worker::durable_object;
use worker::wasm_bindgen;

/// The path under which leases are given back.
pub const RELEASE: &str = "/lease/release/";
const EXITED: &str = "/exited/";

/// How long the exit notice may take.
const EXITED_MS: i64 = 10_000;

/// The container that a user's sessions share.
#[durable_object(alarm)]
pub struct SandboxDO {
    shell: Rc<Shell>,
}

/// The container of a town.
#[durable_object(alarm)]
pub struct TownContainerDO {
    shell: Rc<Shell>,
}

impl DurableObject for SandboxDO {
    fn new(state: State, env: Env) -> Self {
        Self { shell: Shell::new(state, env, ContainerKind::Sandbox) }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        self.shell.fetch(request).await
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.shell.alarm()
    }
}

impl DurableObject for TownContainerDO {
    fn new(state: State, env: Env) -> Self {
        Self { shell: Shell::new(state, env, ContainerKind::Town) }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        self.shell.fetch(request).await
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.shell.alarm()
    }
}

/// What the platform calls when a container ended. Guard: the host's token.
pub async fn exited(
    request: Request,
    env: &Env,
    config: &Config,
    kind: ContainerKind,
    name: &str,
    instance: &str,
) -> worker::Result<Response> {
    let token = config.host.as_ref().map(|host| host.token.as_str());
    let authorised = token.zip(http::bearer(&request)).is_some_and(|(token, given)| constant_time_eq(token, &given));
    if !authorised {
        return error(401, "UNAUTHORIZED", "The host's token is required");
    }
    let mut init = RequestInit::new();
    init.with_method(Method::Post);
    let notice = Request::new_with_init(&format!("http://container{EXITED}{instance}"), &init)?;
    ask(env, runtime::binding(kind), name, notice, EXITED_MS).await
}

fn error(status: u16, code: &str, message: &str) -> worker::Result<Response> {
    http::json(status, &ApiError { error: code.to_owned(), message: message.to_owned() })
}
