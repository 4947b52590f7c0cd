//! Plays `kilo serve` where a test has many agents: a real process in its worktree, with the agent's environment, which does what its prompts say.
//!
//! It is this test binary itself, started by a script named `kilo`. Each line of a prompt is one order:
//!
//! | Order | What it does |
//! | --- | --- |
//! | `write FILE TEXT` | writes a file |
//! | `sh COMMAND` | runs a command to its end, as a tool |
//! | `think MS` | does nothing for so long, or until it is aborted |
//! | `work FILE` | appends to a file until it is told of the eviction or aborted |
//! | `tool FILE` | starts a process that appends to a file for ever, and waits for it: an abort does not end the process |
//! | `stubborn` | from now on nobody is listened to but an abort |
//! | `deaf` | from now on an abort is not answered |
//! | `clinging` | from now on SIGTERM does not end the server |
//! | `die` | ends the server |

use crate::program;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::routing::post;
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::Value;
use serde_json::json;
use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::path;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::broadcast;

/// Each prompt of an eviction begins like this.
const EVICTION: &str = "This container is about to be shut down.";

/// Puts the program `kilo` into `folder`, which is for the search path of `sandboxd`.
pub fn install(folder: &path::Path) {
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = serve ] || exit 0\nPLAYED_PORT=$5 exec {} --exact agent::plays_the_agent_server --ignored --nocapture\n",
        this.display()
    );
    program::install(&folder.join("kilo"), &script);
}

#[test]
#[ignore = "a program, not a test"]
fn plays_the_agent_server() {
    let Ok(port) = std::env::var("PLAYED_PORT") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Ok(listener) = TcpListener::bind(("127.0.0.1", port.parse::<u16>().unwrap())).await else {
            println!("Is port {port} in use?");
            std::process::exit(1);
        };
        println!("kilo server listening on http://127.0.0.1:{port}");
        let played = Arc::new(Played::default());
        axum::serve(listener, router(played)).await.unwrap();
    });
}

struct Played {
    events: broadcast::Sender<String>,
    session: Mutex<Value>,
    messages: Mutex<Vec<Value>>,
    stubborn: AtomicBool,
    deaf: AtomicBool,
    /// Ends the turn that runs.
    turn: Mutex<Option<tokio::task::AbortHandle>>,
}

impl Default for Played {
    fn default() -> Self {
        Self {
            events: broadcast::channel(1024).0,
            session: Mutex::new(json!({})),
            messages: Mutex::default(),
            stubborn: AtomicBool::default(),
            deaf: AtomicBool::default(),
            turn: Mutex::default(),
        }
    }
}

fn router(played: Arc<Played>) -> Router {
    Router::new()
        .route("/event", get(events))
        .route("/pty", get(async || Json(json!([]))).post(async |Json(body): Json<Value>| Json(body)))
        .route("/session", post(create))
        .route("/session/{id}", get(session))
        .route("/session/{id}/abort", post(abort))
        .route("/session/{id}/message", get(messages))
        .route("/session/{id}/prompt_async", post(prompt))
        .with_state(played)
}

type Of = State<Arc<Played>>;

async fn create(State(played): Of, Json(body): Json<Value>) -> Json<Value> {
    // As long as a real one.
    let id = format!("ses_{}", &uuid::Uuid::new_v4().simple().to_string()[..26]);
    let session = json!({ "id": id, "title": body["title"] });
    *played.session.lock().unwrap() = session.clone();
    Json(session)
}

async fn session(State(played): Of) -> Json<Value> {
    Json(played.session.lock().unwrap().clone())
}

async fn messages(State(played): Of) -> Json<Value> {
    Json(json!(*played.messages.lock().unwrap()))
}

async fn abort(State(played): Of) -> Json<bool> {
    if played.deaf.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    played.end_turn();
    Json(true)
}

async fn prompt(State(played): Of, Path(id): Path<String>, Json(body): Json<Value>) -> StatusCode {
    {
        // One that was imported.
        let mut session = played.session.lock().unwrap();
        if session["id"] != id.as_str() {
            *session = json!({ "id": id, "title": std::env::var("PLAYED_TITLE").unwrap_or_default() });
        }
    }
    let text = body["parts"][0]["text"].as_str().unwrap().to_owned();
    played.messages.lock().unwrap().push(json!({ "info": { "role": "user" }, "parts": body["parts"] }));
    if played.stubborn.load(Ordering::Relaxed) {
        return StatusCode::NO_CONTENT;
    }
    if text.starts_with(EVICTION) {
        // Whoever is told to finish finishes: also that is a turn.
        played.say("session.turn.open", json!({}));
        played.end_turn();
        return StatusCode::NO_CONTENT;
    }
    played.say("session.turn.open", json!({}));
    played.say("session.status", json!({ "status": { "type": "busy" } }));
    let of = played.clone();
    let turn = tokio::spawn(async move {
        for line in text.lines() {
            of.obey(line).await;
        }
        of.say("session.idle", json!({}));
        // What a real server says after a turn: nobody may take that for work.
        of.say("session.updated", json!({ "info": { "title": "t" } }));
    });
    *played.turn.lock().unwrap() = Some(turn.abort_handle());
    StatusCode::NO_CONTENT
}

async fn events(State(played): Of) -> Body {
    let hello = stream::once(async { "data: {\"type\":\"server.connected\",\"properties\":{}}\n\n".to_owned() });
    let later = stream::unfold(played.events.subscribe(), |mut events| async move {
        let event = events.recv().await.ok()?;
        Some((format!("data: {event}\n\n"), events))
    });
    Body::from_stream(hello.chain(later).map(|text| Ok::<_, Infallible>(Bytes::from(text))))
}

impl Played {
    fn say(&self, kind: &str, mut properties: Value) {
        properties["sessionID"] = self.session.lock().unwrap()["id"].clone();
        let _ = self.events.send(json!({ "type": kind, "properties": properties }).to_string());
    }

    fn end_turn(&self) {
        if let Some(turn) = self.turn.lock().unwrap().take() {
            turn.abort();
        }
        self.say("session.idle", json!({}));
    }

    fn tool(&self, status: &str) {
        let part = json!({ "id": "prt_1", "callID": "c", "tool": "bash", "state": { "status": status } });
        self.say("message.part.updated", json!({ "part": part }));
    }

    async fn obey(&self, line: &str) {
        let (order, rest) = line.split_once(' ').unwrap_or((line, ""));
        match order {
            "write" => {
                let (file, text) = rest.split_once(' ').unwrap();
                fs::write(file, text).unwrap();
            }
            "sh" => {
                let done = Command::new("sh").args(["-c", rest]).status().unwrap();
                assert!(done.success(), "{rest}");
            }
            "think" => tokio::time::sleep(Duration::from_millis(rest.parse().unwrap())).await,
            "work" => loop {
                append(path::Path::new(rest));
                tokio::time::sleep(Duration::from_millis(5)).await;
            },
            "tool" => {
                self.tool("running");
                spawn(&format!("while :; do echo tool >> {rest}; sleep 0.01; done"));
                std::future::pending::<()>().await;
            }
            "stubborn" => self.stubborn.store(true, Ordering::Relaxed),
            "deaf" => self.deaf.store(true, Ordering::Relaxed),
            // The handler stays.
            "clinging" => drop(signal(SignalKind::terminate()).unwrap()),
            "die" => std::process::exit(1),
            _ => {}
        }
    }
}

/// In a session of its own, as a real tool; and waited for when it ends.
fn spawn(script: &str) {
    let mut tool = tokio::process::Command::new("setsid").args(["sh", "-c", script]).spawn().unwrap();
    tokio::spawn(async move { tool.wait().await });
}

fn append(file: &path::Path) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(b"work\n").unwrap();
}
