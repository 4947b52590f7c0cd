//! The tools that an agent has for its town (spec/town.md 7): `gt_prime`, `gt_done`, `gt_sling` and the others.
//!
//! They are an MCP server in this process, at `POST /mcp/{agent}`, because here the container's token lives: it is
//! refreshed here, and no agent sees it. An agent server has a bearer of its own, good for the tools of one agent and for
//! as long as that runs; so it also says who calls, whatever the model writes.
//!
//! | Module | Subject |
//! | --- | --- |
//! | [`table`] | what a tool is; [`rig`] and [`mayor`] are the tools |
//! | [`request`], [`answer`] | from a model's words to a call, and back |
//! | [`review`] | what is looked at before a review ends |
//! | [`rpc`] | the protocol |

mod answer;
mod mayor;
mod request;
mod review;
mod rig;
mod rpc;
mod table;
#[cfg(test)]
mod tests;

pub use request::Request;
pub use review::Review;

use super::git::GitManager;
use super::home::Home;
use super::home::Place;
use crate::bearer;
use answer::Said;
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::post;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::sandbox::Secret;
use protocol::town::agent::Role;
use rpc::Ask;
use rpc::Message;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use table::Kind;
use table::Tool;
use uuid::Uuid;

/// The name of the server, which the agent server puts before each tool's: `gt_done`.
const SERVER: &str = "gt";
/// A convoy of 50 tasks with long texts.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longer than one call home and its repetition with a new token, and than [`review::CHECK_TIMEOUT`] with one of them.
const TIMEOUT_MS: u64 = 60_000;

/// The role of a town agent that decides about stuck ones.
const TRIAGE: &str = "triage";

/// The tools of all agents of this container.
#[derive(Debug)]
pub struct Tools {
    home: Arc<Home>,
    git: Arc<GitManager>,
    callers: Mutex<HashMap<AgentId, Caller>>,
}

/// What an agent works on.
#[derive(Clone, Debug)]
pub struct Work {
    /// The bead that it was started for; none for the mayor. What it says of its work, however late, is said of this one.
    pub bead: Option<BeadId>,
    /// The branch that it was given.
    pub branch: String,
    /// What it is to see merged.
    pub review: Option<Review>,
}

/// One agent, while it runs.
#[derive(Clone, Debug)]
struct Caller {
    place: Place,
    role: Role,
    work: Work,
    bearer: Secret,
}

impl Tools {
    /// Nobody may call yet.
    pub fn new(home: Arc<Home>, git: Arc<GitManager>) -> Self {
        Self { home, git, callers: Mutex::default() }
    }

    /// Lets an agent call: what its agent server's configuration says under `mcp`, where this process listens at `address`.
    /// The same agent gets the same answer until it is forgotten.
    pub fn admit(&self, place: &Place, role: &Role, work: Work, address: SocketAddr) -> Value {
        let mut callers = self.callers();
        let caller = callers.entry(place.agent.clone()).or_insert_with(|| new_caller(place, role, work.clone()));
        if caller.place != *place || caller.role != *role {
            *caller = new_caller(place, role, work.clone());
        }
        caller.work = work;
        json!({ SERVER: {
            "type": "remote",
            "url": format!("http://127.0.0.1:{}/mcp/{}", address.port(), place.agent),
            "headers": { "Authorization": format!("Bearer {}", caller.bearer.expose()) },
            "oauth": false,
            "enabled": true,
            "timeout": TIMEOUT_MS,
        } })
    }

    /// From now on the agent may not call any more.
    pub fn forget(&self, agent: &AgentId) {
        self.callers().remove(agent);
    }

    /// The caller that `headers` speak for.
    fn caller(&self, agent: &str, headers: &HeaderMap) -> Option<Caller> {
        let agent = AgentId::parse(agent).ok()?;
        let caller = self.callers().get(&agent).cloned()?;
        bearer::authorized(headers, &caller.bearer).then_some(caller)
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<AgentId, Caller>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request.
    async fn answer(&self, caller: &Caller, id: &Value, ask: Ask) -> Value {
        match ask {
            Ask::Initialize { revision } => rpc::result(id, rpc::introduction(revision)),
            Ask::Ping => rpc::result(id, json!({})),
            Ask::List => {
                let list: Vec<Value> = tools_of(&caller.role).map(Tool::listed).collect();
                rpc::result(id, json!({ "tools": list }))
            }
            Ask::Call { name, arguments } => match tools_of(&caller.role).find(|tool| tool.name == name) {
                Some(tool) => rpc::result(id, self.call(caller, tool, &arguments).await.result()),
                None => rpc::unknown_tool(id, &name),
            },
        }
    }

    async fn call(&self, caller: &Caller, tool: &Tool, arguments: &Map<String, Value>) -> Said {
        let arguments = caller.complete(tool, arguments);
        let request = match request::request(tool, self.home.town(), &caller.place, &caller.work, &arguments) {
            Ok(request) => request,
            Err(wrong) => return Said::error(wrong),
        };
        if let Some(review) = caller.work.review.as_ref().filter(|_| tool.ends_review(&arguments))
            && let Err(wrong) = review.check(&self.git, self.home.live()).await
        {
            return Said::error(wrong);
        }
        match self.home.tool_call(&caller.place, &request).await {
            Ok((status, body)) => Said::read(tool, status, &body),
            Err(error) => Said::error(format!("The town could not be reached: {error}")),
        }
    }
}

impl Caller {
    /// What the model gave, with the branch that it was told to stay on where it names none. What a reviewer names is left out: the town knows its
    /// review by the branch.
    fn complete(&self, tool: &Tool, arguments: &Map<String, Value>) -> Map<String, Value> {
        let mut arguments = arguments.clone();
        for input in tool.inputs.iter().filter(|input| input.kind == Kind::Branch) {
            let value = arguments.entry(input.name).or_insert(Value::Null);
            if value.is_null() || self.work.review.is_some() {
                *value = self.work.branch.as_str().into();
            }
        }
        arguments
    }
}

/// The tools of a role.
fn tools_of(role: &Role) -> impl Iterator<Item = &'static Tool> {
    let (all, own): (&'static [Tool], &'static [Tool]) = match role {
        Role::Mayor => (&[], &mayor::MAYOR),
        Role::Refinery => (&rig::COMMON, &rig::REFINERY),
        Role::Other(name) if name == TRIAGE => (&rig::COMMON, &rig::TRIAGE),
        Role::Other(_) | Role::Polecat => (&rig::COMMON, &[]),
    };
    all.iter().chain(own)
}

fn new_caller(place: &Place, role: &Role, work: Work) -> Caller {
    // 244 random bits.
    let bearer = Secret(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
    Caller { place: place.clone(), role: role.clone(), work, bearer }
}

/// `POST /mcp/{agent}`. It has a guard of its own: the control server's bearer does not open it.
pub fn router(tools: Arc<Tools>) -> Router {
    Router::new().route("/mcp/{agent}", post(serve)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(tools)
}

async fn serve(
    State(tools): State<Arc<Tools>>,
    Path(agent): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(caller) = tools.caller(&agent, &headers) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    match rpc::read(&body) {
        Message::Notification => StatusCode::ACCEPTED.into_response(),
        Message::Wrong(answer) if answer.get("id").is_none_or(Value::is_null) => {
            (StatusCode::BAD_REQUEST, Json(answer)).into_response()
        }
        Message::Wrong(answer) => Json(answer).into_response(),
        Message::Request { id, ask } => Json(tools.answer(&caller, &id, ask).await).into_response(),
    }
}
