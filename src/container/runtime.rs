//! What is asked of a platform that runs containers, and which platform that is.

use crate::config::Config;
use crate::container::cloudflare::Cloudflare;
use crate::container::local::Local;
use crate::route::ContainerKind;
use protocol::town::TOWN_CONFIG_HEADER;
use wasm_bindgen::JsValue;
use worker::Headers;
use worker::Request;
use worker::RequestInit;
use worker::Response;
use worker::State;

/// Environment variables.
pub type Variables = Vec<(String, String)>;

/// A request for a container.
pub struct Call<'a> {
    /// Its method and headers count.
    pub request: &'a Request,
    pub body: Option<JsValue>,
    /// With its query.
    pub path: &'a str,
    /// The bearer that the container asks for.
    pub token: &'a str,
    /// The configuration of a town, in ASCII.
    pub town_config: Option<&'a str>,
}

/// A platform that runs one container for one object.
pub trait ContainerRuntime {
    /// Starts it on a fresh disk, ending what runs already. Its calls need `token` from then on. `environment` is beside what every container
    /// of this deployment is told.
    async fn start(&self, instance: &str, token: &str, environment: Variables) -> worker::Result<()>;
    /// Waits until it has ended, and says true; false at once, where the platform calls instead.
    async fn ended(&self) -> worker::Result<bool>;
    /// Whether its first process lives.
    async fn running(&self) -> worker::Result<bool>;
    /// Sends a request to its port.
    async fn fetch(&self, call: Call<'_>) -> worker::Result<Response>;
    /// Sends a signal to its first process.
    async fn signal(&self, name: &str) -> worker::Result<()>;
    /// Ends it now. Its disk is gone.
    async fn destroy(&self) -> worker::Result<()>;
}

/// The platform of this deployment.
pub enum Runtime {
    Cloudflare(Cloudflare),
    Local(Local),
}

impl Runtime {
    /// A configured local host wins: production ignores it.
    pub fn new(state: &State, kind: ContainerKind, config: &Config) -> Self {
        match &config.host {
            Some(host) => {
                let name = state.id().name().unwrap_or_else(|| state.id().to_string());
                Runtime::Local(Local::new(
                    host.clone(),
                    kind,
                    name,
                    environment(config),
                    config.worker_url.clone().unwrap_or_default(),
                ))
            }
            None => Runtime::Cloudflare(Cloudflare::new(state.container(), kind, environment(config))),
        }
    }
}

macro_rules! delegate {
    ($self:ident, $verb:ident $(, $argument:expr)*) => {
        match $self {
            Runtime::Cloudflare(runtime) => runtime.$verb($($argument),*).await,
            Runtime::Local(runtime) => runtime.$verb($($argument),*).await,
        }
    };
}

impl ContainerRuntime for Runtime {
    async fn start(&self, instance: &str, token: &str, environment: Variables) -> worker::Result<()> {
        delegate!(self, start, instance, token, environment)
    }

    async fn ended(&self) -> worker::Result<bool> {
        delegate!(self, ended)
    }

    async fn running(&self) -> worker::Result<bool> {
        delegate!(self, running)
    }

    async fn fetch(&self, call: Call<'_>) -> worker::Result<Response> {
        delegate!(self, fetch, call)
    }

    async fn signal(&self, name: &str) -> worker::Result<()> {
        delegate!(self, signal, name)
    }

    async fn destroy(&self) -> worker::Result<()> {
        delegate!(self, destroy)
    }
}

/// The binding of the objects of a kind.
pub fn binding(kind: ContainerKind) -> &'static str {
    match kind {
        ContainerKind::Sandbox => "SANDBOX",
        ContainerKind::Town => "TOWN_CONTAINER",
    }
}

/// The variable that holds the token of a container's own API.
pub const TOKEN: &str = "HOLDFAST_SANDBOX_TOKEN";

/// What every container of this deployment is told, apart from its token.
fn environment(config: &Config) -> Vec<(&'static str, String)> {
    let loopback = config.allow_loopback.then(|| ("ALLOW_LOOPBACK", "1".to_owned()));
    let limits = config.limits_given.clone().map(|limits| ("HOLDFAST_LIMITS", limits));
    config.model.iter().cloned().chain(loopback).chain(limits).collect()
}

/// The call as a request for `url`. Of its headers the bearer and the configuration are ours to set, whatever it came with.
pub fn readdressed(call: &Call<'_>, url: &str) -> worker::Result<Request> {
    let headers = Headers::new();
    for (name, value) in call.request.headers().entries() {
        headers.append(&name, &value)?;
    }
    headers.set("authorization", &format!("Bearer {}", call.token))?;
    match call.town_config {
        Some(config) => headers.set(TOWN_CONFIG_HEADER, config)?,
        None => headers.delete(TOWN_CONFIG_HEADER)?,
    }
    let mut init = RequestInit::new();
    init.with_method(call.request.method()).with_headers(headers).with_body(call.body.clone());
    Request::new_with_init(url, &init)
}
