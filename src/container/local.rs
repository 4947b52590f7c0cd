//! Containers on a `sandboxd host` beside `wrangler dev`. Its API is `protocol::host`.

use crate::config::Host;
use crate::container::runtime::Call;
use crate::container::runtime::ContainerRuntime;
use crate::container::runtime::TOKEN;
use crate::container::runtime::Variables;
use crate::container::runtime::readdressed;
use crate::http;
use crate::object::within;
use crate::route::ContainerKind;
use protocol::host::Container;
use protocol::host::ExitHook;
use protocol::host::FORWARD_TOKEN_HEADER;
use protocol::host::Role;
use protocol::host::Signal;
use protocol::host::Start;
use protocol::sandbox::CONTAINER_PORT;
use protocol::sandbox::Secret;
use std::collections::BTreeMap;
use worker::Error;
use worker::Fetch;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::Response;

/// How long the host may take for a verb of its own.
const VERB_MS: i64 = 15_000;

/// One container of a host.
pub struct Local {
    host: Host,
    role: Role,
    /// `sandbox` or `town`: part of the container's name and of the exit notice's path.
    kind: &'static str,
    name: String,
    env: Vec<(&'static str, String)>,
    worker_url: String,
}

impl Local {
    pub fn new(
        host: Host,
        kind: ContainerKind,
        name: String,
        env: Vec<(&'static str, String)>,
        worker_url: String,
    ) -> Self {
        let (kind, role) = match kind {
            ContainerKind::Sandbox => ("sandbox", Role::Session),
            ContainerKind::Town => ("town", Role::Town),
        };
        Self { host, role, kind, name, env, worker_url }
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/containers/{}-{}{rest}", self.host.url, self.kind, self.name)
    }

    async fn verb(&self, method: Method, rest: &str, body: Option<String>) -> worker::Result<Response> {
        let mut init = RequestInit::new();
        init.with_method(method);
        init.headers.set("authorization", &format!("Bearer {}", self.host.token))?;
        if let Some(body) = body {
            init.headers.set("content-type", "application/json")?;
            init.with_body(Some(body.into()));
        }
        let request = Request::new_with_init(&self.url(rest), &init)?;
        within(VERB_MS, Fetch::Request(request).send())
            .await
            .unwrap_or_else(|| Err(Error::RustError("the container host did not answer".into())))
    }
}

impl ContainerRuntime for Local {
    async fn start(&self, instance: &str, token: &str, environment: Variables) -> worker::Result<()> {
        // A leftover of an interrupted start holds another token.
        self.destroy().await?;
        let common = self.env.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let mut env: BTreeMap<_, _> =
            environment.into_iter().chain(common).map(|(name, value)| (name, Secret(value))).collect();
        env.insert(TOKEN.to_owned(), Secret(token.to_owned()));
        let url = format!("{}/internal/containers/{}/{}/{instance}/exited", self.worker_url, self.kind, self.name);
        let on_exit = Some(ExitHook { url, token: Secret(self.host.token.clone()) });
        let start = serde_json::to_string(&Start { role: self.role, env, on_exit })?;
        let mut answer = self.verb(Method::Put, "", Some(start)).await?;
        if answer.status_code() != 201 {
            return Err(Error::RustError(format!("the host refused: {}", answer.text().await?)));
        }
        Ok(())
    }

    /// The host calls `on_exit`.
    async fn ended(&self) -> worker::Result<bool> {
        Ok(false)
    }

    async fn running(&self) -> worker::Result<bool> {
        let mut answer = self.verb(Method::Get, "", None).await?;
        match answer.status_code() {
            200 => Ok(http::parse::<Container>(&answer.bytes().await?)?.running),
            404 => Ok(false),
            status => Err(Error::RustError(format!("the container host answered {status}"))),
        }
    }

    async fn fetch(&self, call: Call<'_>) -> worker::Result<Response> {
        let url = self.url(&format!("/ports/{CONTAINER_PORT}{}", call.path));
        let mut request = readdressed(&call, &url)?;
        request.headers_mut()?.set(FORWARD_TOKEN_HEADER, &self.host.token)?;
        Fetch::Request(request).send().await
    }

    async fn signal(&self, name: &str) -> worker::Result<()> {
        let body = serde_json::to_string(&Signal { signal: name.to_owned() })?;
        self.verb(Method::Post, "/signal", Some(body)).await.map(drop)
    }

    async fn destroy(&self) -> worker::Result<()> {
        self.verb(Method::Delete, "", None).await.map(drop)
    }
}
