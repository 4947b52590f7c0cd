//! The Worker's part: keeps every call that the container makes, and answers as the town would.

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;

use crate::support::until_async;

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub authorization: String,
    pub body: Value,
}

/// What the town knows and says.
#[derive(Debug, Default)]
pub struct Town {
    pub calls: Vec<Call>,
    /// Handed out with heartbeats.
    pub nonce: Option<String>,
    /// Left for an agent.
    pub nudges: Vec<Value>,
    pub registry: Value,
    /// By agent.
    pub snapshots: HashMap<String, Bytes>,
    /// Paths that end like this are not answered while they are here.
    pub silent: Vec<&'static str>,
    /// Method and end of a path that is answered with 500 so many times.
    pub failing: Vec<(Method, &'static str, usize)>,
    /// The token that the container was started with is good for nothing but another one.
    pub expired: bool,
}

#[derive(Clone, Debug)]
pub struct Worker {
    pub url: String,
    pub town: Arc<Mutex<Town>>,
}

impl Worker {
    /// It has a thread of its own, so that it answers while a test waits for the end of a process.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let worker = Self { url: format!("http://{}", listener.local_addr().unwrap()), town: Arc::default() };
        worker.town.lock().unwrap().registry = json!([]);
        let router = Router::new().fallback(called).with_state(worker.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { axum::serve(TcpListener::from_std(listener).unwrap(), router).await.unwrap() });
        });
        worker
    }

    /// The calls whose path ends like this, oldest first.
    pub fn calls(&self, suffix: &str) -> Vec<Call> {
        let town = self.town.lock().unwrap();
        town.calls.iter().filter(|call| call.path.ends_with(suffix)).cloned().collect()
    }

    /// The same, as soon as there are so many.
    pub async fn wait_for(&self, suffix: &str, count: usize) -> Vec<Call> {
        let what = format!("call {count} of {suffix}");
        until_async(&what, async || Some(self.calls(suffix)).filter(|calls| calls.len() >= count)).await
    }

    /// The same of those calls that were not refused for their token.
    pub fn fresh_calls(&self, suffix: &str) -> Vec<Call> {
        let mut calls = self.calls(suffix);
        calls.retain(|call| call.authorization == "Bearer fresh");
        calls
    }

    fn is_silent_about(&self, path: &str) -> bool {
        self.town.lock().unwrap().silent.iter().any(|suffix| path.ends_with(suffix))
    }

    /// Where in the order of calls the first one is whose path ends like this.
    pub fn position(&self, suffix: &str) -> usize {
        let town = self.town.lock().unwrap();
        let at = town.calls.iter().position(|call| call.path.ends_with(suffix));
        at.unwrap_or_else(|| panic!("no call of {suffix}"))
    }
}

async fn called(State(worker): State<Worker>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let agent = path.split("/agents/").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default().to_owned();
    let answer = {
        let mut town = worker.town.lock().unwrap();
        let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        town.calls.push(Call {
            path: path.clone(),
            authorization: authorization.unwrap_or_default(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        });
        let authorization = town.calls.last().map(|call| call.authorization.clone()).unwrap_or_default();
        let refused = town.refusal(&method, &path, &authorization);
        refused.map(StatusCode::into_response).unwrap_or_else(|| town.answer(&method, &path, &agent, body))
    };
    while worker.is_silent_about(&path) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    answer
}

impl Town {
    fn refusal(&mut self, method: &Method, path: &str, authorization: &str) -> Option<StatusCode> {
        if self.expired && authorization == "Bearer container-token" && !path.ends_with("refresh-container-token") {
            return Some(StatusCode::UNAUTHORIZED);
        }
        let mut failing = self.failing.iter_mut().filter(|(of, _, times)| of == method && *times > 0);
        let (_, _, times) = failing.find(|(_, suffix, _)| path.ends_with(suffix))?;
        *times -= 1;
        Some(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn answer(&mut self, method: &Method, path: &str, agent: &str, body: Bytes) -> Response {
        let data = match path.rsplit('/').next().unwrap_or_default() {
            "heartbeat" => match &self.nonce {
                Some(nonce) => json!({ "heartbeat": true, "drainNonce": nonce }),
                None => json!({ "heartbeat": true }),
            },
            "refresh-container-token" => json!({ "token": "fresh" }),
            "pending-nudges" => json!(self.nudges),
            "nudge-delivered" => {
                self.nudges.clear();
                json!({ "marked": true })
            }
            "container-registry" if method == Method::POST => {
                self.registry = serde_json::from_slice(&body).unwrap();
                json!({})
            }
            "container-registry" => self.registry.clone(),
            "db-snapshot" if method == Method::POST => {
                self.snapshots.insert(agent.to_owned(), body);
                json!({})
            }
            "db-snapshot" => {
                return match self.snapshots.get(agent) {
                    Some(bytes) => bytes.clone().into_response(),
                    None => StatusCode::NOT_FOUND.into_response(),
                };
            }
            _ => json!({}),
        };
        Json(json!({ "success": true, "data": data })).into_response()
    }
}
