//! What reaches a container: requests to its object, and those that are passed on to it.

use super::EXITED;
use super::RELEASE;
use super::error;
use super::runtime::Call;
use super::runtime::ContainerRuntime;
use super::shell::Running;
use super::shell::Shell;
use super::town;
use crate::object::failed;
use crate::object::within;
use crate::route::ContainerKind;
use js_sys::Uint8Array;
use object_core::lifecycle::Input;
use std::rc::Rc;
use url::form_urlencoded;
use wasm_bindgen::JsValue;
use worker::Method;
use worker::Request;
use worker::Response;

/// How long the container may take to answer.
const FORWARD_MS: i64 = 60_000;

/// What a request asks for in its query. All of the query that is not for the object is for the container.
struct Asked {
    wake: bool,
    lease: Option<String>,
    /// The path and the rest of the query.
    path: String,
}

impl Asked {
    fn read(path: &str, query: Option<&str>) -> Self {
        let (mut wake, mut lease, mut rest) = (false, None, form_urlencoded::Serializer::new(String::new()));
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "wake" => wake = true,
                "lease" => lease = Some(value.into_owned()),
                _ => drop(rest.append_pair(&key, &value)),
            }
        }
        let rest = rest.finish();
        let path = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
        Self { wake, lease, path }
    }
}

impl Shell {
    pub async fn fetch(self: &Rc<Self>, request: Request) -> worker::Result<Response> {
        self.wake()?;
        let path = request.path();
        if let Some(instance) = path.strip_prefix(EXITED) {
            self.turn(&Input::Ended { instance: instance.to_owned() })?;
            return Response::empty();
        }
        if let Some(holder) = path.strip_prefix(RELEASE) {
            self.turn(&Input::Release { lease: holder.to_owned() })?;
            return Response::empty();
        }
        if self.kind == ContainerKind::Town {
            if path != town::CONTAINER && town::is_gone(&self.db).map_err(failed)? {
                return error(410, "NOT_RUNNING", "The town was deleted");
            }
            if path.starts_with(town::PATHS) {
                return self.serve_town(request, &path).await;
            }
        }
        let asked = Asked::read(&path, request.url()?.query());
        if asked.wake {
            return self.wake_and_forward(request, &asked.path, asked.lease).await;
        }
        match self.known_running()? {
            Some(running) => {
                // Somebody works with it, though nobody wakes it. Who only looks at it keeps it for nobody.
                if self.kind == ContainerKind::Town && !is_look(&request)? {
                    self.turn(&Input::Want { lease: None })?;
                }
                match self.forward(&request, body_of(&request), &asked.path, &running).await? {
                    Some(answer) => Ok(answer),
                    None => error(410, "NOT_RUNNING", "The container has ended"),
                }
            }
            None => error(410, "NOT_RUNNING", "The container does not run"),
        }
    }

    /// A container that turns out to have ended is started anew, once: the body is kept for that.
    async fn wake_and_forward(
        self: &Rc<Self>,
        mut request: Request,
        path: &str,
        lease: Option<String>,
    ) -> worker::Result<Response> {
        let body = request.bytes().await?;
        for _ in 0..2 {
            let Some(running) = self.running(lease.clone()).await? else { break };
            // A request without a body, such as an upgrade, may not be given one.
            let body = (!body.is_empty()).then(|| Uint8Array::from(body.as_slice()).into());
            if let Some(answer) = self.forward(&request, body, path, &running).await? {
                return Ok(answer);
            }
        }
        error(503, "SANDBOX_CONNECT_FAILED", "The container is not up yet: try again")
    }

    /// Forwards a request. None: the container has ended.
    pub async fn forward(
        self: &Rc<Self>,
        request: &Request,
        body: Option<JsValue>,
        path: &str,
        to: &Running,
    ) -> worker::Result<Option<Response>> {
        let town_config = match self.kind {
            ContainerKind::Sandbox => None,
            ContainerKind::Town => town::config(&self.db).map_err(failed)?,
        };
        let call = Call { request, body, path, token: &to.token, town_config: town_config.as_deref() };
        let answer = within(FORWARD_MS, self.runtime.fetch(call)).await;
        if let Some(Ok(response)) = answer
            && response.status_code() != 502
        {
            return Ok(Some(response));
        }
        // A platform that says nothing has not said that it ended.
        if !matches!(self.runtime.running().await, Ok(false)) {
            return error(503, "SANDBOX_CONNECT_FAILED", "The container did not answer: try again").map(Some);
        }
        self.turn(&Input::Ended { instance: to.instance.clone() })?;
        Ok(None)
    }
}

/// Whether a request changes nothing in the container, and is over with its answer.
fn is_look(request: &Request) -> worker::Result<bool> {
    Ok(request.method() == Method::Get && !request.headers().has("upgrade")?)
}

/// The body as it is, to be passed on untouched.
fn body_of(request: &Request) -> Option<JsValue> {
    request.inner().body().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_gets_the_query_that_is_meant_for_it() {
        let asked = Asked::read("/agents/a/events", Some("wake=1&after=5&lease=x&q=a%26b"));
        assert_eq!((asked.wake, asked.lease.as_deref()), (true, Some("x")));
        assert_eq!(asked.path, "/agents/a/events?after=5&q=a%26b");
        assert_eq!(Asked::read("/health", None).path, "/health");
    }
}
