//! The tools against a town that keeps what it was asked, called as an agent server calls them.

mod calls;
mod reviews;
mod serving;

use super::*;
use crate::town::config::Config;
use crate::town::git::Settings;
use crate::town::live::Live;
use axum::extract::Request;
use axum::response::Json as Answer;
use protocol::id::InstanceId;
use protocol::id::RigId;
use std::collections::VecDeque;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// One call, as the town got it.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    pub method: String,
    /// With the query.
    pub path: String,
    pub bearer: String,
    pub agent: String,
    pub rig: String,
    pub body: Value,
}

/// A town's API.
#[derive(Debug, Default)]
pub struct Town {
    pub calls: Mutex<Vec<Called>>,
    /// What it answers next; a success with its own name for everything after that.
    pub answers: Mutex<VecDeque<(u16, Value)>>,
}

/// A container with one agent.
pub struct Stage {
    pub town: Arc<Town>,
    pub tools: Arc<Tools>,
    pub address: SocketAddr,
    pub client: reqwest::Client,
    pub folder: TempDir,
    /// What the agent reviews.
    pub review: Mutex<Option<Review>>,
}

impl Stage {
    pub async fn new() -> Self {
        let town = Arc::new(Town::default());
        let api = listen(Router::new().fallback(answer_call).with_state(town.clone())).await;
        let variables = [
            ("GASTOWN_TOWN_ID", "t1".to_owned()),
            ("GASTOWN_API_URL", format!("http://{api}")),
            ("GASTOWN_CONTAINER_TOKEN", "container-token".to_owned()),
            ("HOLDFAST_SANDBOX_TOKEN", "sandbox-token".to_owned()),
        ];
        let config = Config::read(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()));
        let config = config.unwrap();
        let live = Arc::new(Live::new(&config));
        let home = Home::new(config, live, InstanceId::parse("i1").unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let git = GitManager::new(Settings {
            root: folder.path().join("root"),
            path: std::env::var("PATH").unwrap(),
            allow_loopback: true,
            command_timeout: Duration::from_secs(60),
        });
        let tools = Arc::new(Tools::new(Arc::new(home), Arc::new(git)));
        let address = listen(router(tools.clone())).await;
        Self { town, tools, address, client: reqwest::Client::new(), folder, review: Mutex::default() }
    }

    /// Lets an agent in and returns where its tools are, and its header.
    pub fn admit(&self, role: &Role) -> (String, String) {
        let server = self.tools.admit(&place(), role, self.work(), self.address);
        let server = &server["gt"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&server["url"]), text(&server["headers"]["Authorization"]))
    }

    pub fn work(&self) -> Work {
        let (bead, review) = (BeadId::parse("b7").ok(), self.review.lock().unwrap().clone());
        Work { bead, branch: "gt/a/1".to_owned(), review }
    }

    pub async fn ask(&self, role: &Role, method: &str, parameters: Value) -> Value {
        let (url, authorization) = self.admit(role);
        let message = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": parameters });
        let answer = self.client.post(url).header("authorization", authorization).json(&message).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)));
        answer
    }

    /// The text that a tool says, and whether that is an error.
    pub async fn call(&self, role: &Role, tool: &str, arguments: Value) -> (String, bool) {
        let answer = self.ask(role, "tools/call", json!({ "name": tool, "arguments": arguments })).await;
        let result = &answer["result"];
        (result["content"][0]["text"].as_str().unwrap().to_owned(), result["isError"].as_bool().unwrap())
    }

    pub fn calls(&self) -> Vec<Called> {
        std::mem::take(&mut *self.town.calls.lock().unwrap())
    }

    pub fn will_answer(&self, status: u16, body: Value) {
        self.town.answers.lock().unwrap().push_back((status, body));
    }
}

pub fn place() -> Place {
    Place { rig: RigId::parse("r1").unwrap(), agent: AgentId::parse("a1").unwrap() }
}

pub fn triage() -> Role {
    Role::Other("triage".into())
}

async fn listen(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn answer_call(State(town): State<Arc<Town>>, request: Request) -> (StatusCode, Answer<Value>) {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let header =
        |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let path = head.uri.path_and_query().unwrap().as_str().to_owned();
    town.calls.lock().unwrap().push(Called {
        method: head.method.to_string(),
        path: path.clone(),
        bearer: header("authorization").trim_start_matches("Bearer ").to_owned(),
        agent: header("x-gastown-agent-id"),
        rig: header("x-gastown-rig-id"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let next = town.answers.lock().unwrap().pop_front();
    let (status, body) = next.unwrap_or_else(|| (200, json!({ "success": true, "data": { "asked": path } })));
    (StatusCode::from_u16(status).unwrap(), Answer(body))
}
