//! Plays the agent server where a test decides what it says: the API of `kilo serve` that a session uses, on the port that
//! `sandboxd` chose, beside a real process that `sandboxd` starts, watches and ends.
//!
//! Each binary uses a part of it.
#![allow(dead_code)]

use crate::program;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
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
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// The program: exports any session, as an empty one; says when it is asked to listen, waits until somebody does, and then only lives, with a tool in a
/// session of its own. Where nobody can, because the port was taken meanwhile, it says so and ends.
const KILO: &str = r#"#!/bin/sh
[ "$1" = export ] && echo "{\"info\":{\"id\":\"$2\"},\"messages\":[]}"
[ "$1" = serve ] || exit 0
while [ "$1" != --port ]; do shift; done
echo $$ > "FOLDER/$2.tmp" && mv "FOLDER/$2.tmp" "FOLDER/$2.asked"
while [ ! -e "FOLDER/$2.ready" ]; do
  rm "FOLDER/$2.taken" 2> /dev/null && echo "Is port $2 in use?" && exit 1
  sleep 0.01
done
echo "kilo server listening on http://127.0.0.1:$2"
setsid sleep 7777 > /dev/null 2>&1 &
exec sleep 86400
"#;

/// The agent server's part.
#[derive(Clone)]
pub struct Agent {
    folder: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    said: Mutex<Said>,
    /// The open event streams.
    streams: Mutex<Vec<mpsc::Sender<Bytes>>>,
    /// How many streams were opened, and how many prompts were taken.
    counts: watch::Sender<(u64, u64)>,
    /// How many aborts were answered.
    aborts: watch::Sender<u64>,
}

/// What it answers when it is asked.
pub struct Said {
    /// `GET /session/{id}/message`.
    pub messages: Value,
    /// A prompt, which is refused with these words.
    pub refusal: Option<String>,
    /// `GET /session/status`.
    pub status: Value,
}

impl Agent {
    /// Stands by in `folder`, which is for the search path of `sandboxd`.
    pub fn start(folder: &Path) -> Self {
        program::install(&folder.join("kilo"), &KILO.replace("FOLDER", folder.to_str().unwrap()));
        let shared = Shared {
            said: Mutex::new(Said { messages: json!([]), refusal: None, status: json!({}) }),
            streams: Mutex::default(),
            counts: watch::channel((0, 0)).0,
            aborts: watch::channel(0).0,
        };
        let agent = Self { folder: folder.to_owned(), shared: Arc::new(shared) };
        tokio::spawn(agent.clone().listen_where_asked());
        agent
    }

    /// Says this on every open stream; waits while they are full.
    pub async fn say(&self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let streams = self.shared.streams.lock().unwrap().clone();
        for stream in streams {
            // One that has ended hears nothing.
            let _ = stream.send(bytes.clone()).await;
        }
    }

    /// Says one event.
    pub async fn event(&self, event: &Value) {
        self.say(format!("data: {event}\n\n")).await;
    }

    /// Ends every stream in the middle.
    pub fn cut(&self) {
        self.shared.streams.lock().unwrap().clear();
    }

    /// Changes what it answers when it is asked.
    pub fn answer(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.shared.said.lock().unwrap());
    }

    /// Waits for the stream with this number, from 1.
    pub async fn streamed(&self, number: u64) {
        self.shared.counts.subscribe().wait_for(|(streams, _)| *streams >= number).await.unwrap();
    }

    /// How many streams were opened so far.
    pub fn streams(&self) -> u64 {
        self.shared.counts.borrow().0
    }

    /// Waits for the prompt with this number, from 1.
    pub async fn prompted(&self, number: u64) {
        self.shared.counts.subscribe().wait_for(|(_, prompts)| *prompts >= number).await.unwrap();
    }

    /// Waits for the abort with this number, from 1.
    pub async fn aborted(&self, number: u64) {
        self.shared.aborts.subscribe().wait_for(|aborts| *aborts >= number).await.unwrap();
    }

    /// The process that plays `kilo serve`; the newest.
    pub fn pid(&self) -> i32 {
        let asked = fs::read_dir(&self.folder).unwrap().flatten().map(|entry| entry.path());
        let asked = asked.filter(|path| path.extension().is_some_and(|extension| extension == "asked"));
        let newest = asked.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap();
        fs::read_to_string(newest).unwrap().trim().parse().unwrap()
    }

    async fn listen_where_asked(self) {
        loop {
            let names = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
            for asked in names.filter(|path| path.extension().is_some_and(|extension| extension == "asked")) {
                let ready = asked.with_extension("ready");
                if !ready.exists() {
                    let port = asked.file_stem().unwrap().to_str().unwrap().parse::<u16>().unwrap();
                    let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await else {
                        fs::rename(&asked, asked.with_extension("taken")).unwrap();
                        continue;
                    };
                    let router = router(self.shared.clone());
                    tokio::spawn(async move { axum::serve(listener, router).await });
                    fs::write(ready, "").unwrap();
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/event", get(events))
        .route("/permission", get(|| async { Json(json!([])) }))
        .route("/question", get(|| async { Json(json!([])) }))
        .route("/session/status", get(|State(of): State<Arc<Shared>>| async move { answer(&of, |said| &said.status) }))
        .route("/session/{id}", get(|| async { Json(json!({})) }))
        .route("/session/{id}/abort", post(abort))
        .route("/session/{id}/children", get(|| async { Json(json!([])) }))
        .route(
            "/session/{id}/message",
            get(|State(of): State<Arc<Shared>>| async move { answer(&of, |said| &said.messages) }),
        )
        .route("/session/{id}/prompt_async", post(prompt))
        .with_state(shared)
}

fn answer(shared: &Shared, which: impl FnOnce(&Said) -> &Value) -> Json<Value> {
    Json(which(&shared.said.lock().unwrap()).clone())
}

/// The same answer whether it does something or not.
async fn abort(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.aborts.send_modify(|aborts| *aborts += 1);
    Json(json!(true))
}

async fn prompt(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    if let Some(words) = &shared.said.lock().unwrap().refusal {
        return (StatusCode::INTERNAL_SERVER_ERROR, words.clone());
    }
    shared.counts.send_modify(|(_, prompts)| *prompts += 1);
    (StatusCode::NO_CONTENT, String::new())
}

async fn events(State(shared): State<Arc<Shared>>) -> Body {
    let (stream, waiting) = mpsc::channel(16);
    let hello = Bytes::from_static(b"data: {\"type\":\"server.connected\",\"properties\":{}}\n\n");
    stream.send(hello).await.unwrap();
    shared.streams.lock().unwrap().push(stream);
    shared.counts.send_modify(|(streams, _)| *streams += 1);
    Body::from_stream(
        stream::unfold(waiting, |mut waiting| async move { waiting.recv().await.map(|bytes| (bytes, waiting)) })
            .map(Ok::<_, Infallible>),
    )
}
