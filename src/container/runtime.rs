//! What is asked of a platform that runs containers, and which platform that is.

use crate::config::Config;
use crate::container::cloudflare::Cloudflare;
use crate::container::local::Local;
use crate::route::ContainerKind;
use wasm_bindgen::JsValue;
use worker::Headers;
use worker::Request;
use worker::RequestInit;
use worker::Response;
use worker::State;

/// A platform that runs one container for one object.
pub trait ContainerRuntime {
    /// Starts it on a fresh disk, ending what runs already. Its calls need `token` from then on.
    async fn start(&self, instance: &str, token: &str) -> worker::Result<()>;
    /// Waits until it has ended, and says true; false at once, where the platform calls instead.
    async fn ended(&self) -> worker::Result<bool>;
    /// Whether its first process lives.
    async fn running(&self) -> worker::Result<bool>;
    /// Sends a request with this body to its port.
    async fn fetch(
        &self,
        request: &Request,
        body: Option<JsValue>,
        path: &str,
        token: &str,
    ) -> worker::Result<Response>;
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
    async fn start(&self, instance: &str, token: &str) -> worker::Result<()> {
        delegate!(self, start, instance, token)
    }

    async fn ended(&self) -> worker::Result<bool> {
        delegate!(self, ended)
    }

    async fn running(&self) -> worker::Result<bool> {
        delegate!(self, running)
    }

    async fn fetch(
        &self,
        request: &Request,
        body: Option<JsValue>,
        path: &str,
        token: &str,
    ) -> worker::Result<Response> {
        delegate!(self, fetch, request, body, path, token)
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
    config.model.iter().cloned().chain(loopback).collect()
}

/// A request with everything of `request` but its body and its bearer, which are given.
pub fn readdressed(request: &Request, body: Option<JsValue>, url: &str, token: &str) -> worker::Result<Request> {
    let headers = Headers::new();
    for (name, value) in request.headers().entries() {
        headers.append(&name, &value)?;
    }
    headers.set("authorization", &format!("Bearer {token}"))?;
    let mut init = RequestInit::new();
    init.with_method(request.method()).with_headers(headers).with_body(body);
    Request::new_with_init(url, &init)
}
