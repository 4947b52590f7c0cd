//! Real processes of the program under test, and the servers they call.
//!
//! Each test binary uses a part of it.
#![allow(dead_code)]

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::Uri;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `sandboxd` with a clean environment.
pub fn sandboxd<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandboxd"));
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).stderr(Stdio::null());
    command
}

/// Asks until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The same without blocking the servers of the test.
pub async fn until_async<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether the process is there and not a zombie.
pub fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rfind(')').is_some_and(|end| !stat[end..].starts_with(") Z"))
}

pub fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// The numbers in a file, one per line; none as long as there is no file.
pub fn numbers(path: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// The children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// A call that the program made.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub authorization: String,
    pub body: Value,
}

/// A server that keeps the calls it gets.
#[derive(Clone, Debug)]
pub struct Recorder {
    pub url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    answer: Arc<Mutex<Value>>,
}

impl Recorder {
    /// Answers the first calls with `first`, one status each, and the others with 200. Status 100 stands for no answer at all.
    ///
    /// It has a thread of its own, so that it answers while a test waits for the end of a process.
    pub fn start(first: &[u16]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(json!({ "success": true, "data": {} })));
        let recorder = Self { url, calls: Arc::default(), answer };
        let state = (recorder.clone(), Arc::<[u16]>::from(first));
        let router = Router::new().fallback(Self::called).with_state(state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { axum::serve(TcpListener::from_std(listener).unwrap(), router).await.unwrap() });
        });
        recorder
    }

    async fn called(
        State((recorder, first)): State<(Self, Arc<[u16]>)>,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, Json<Value>) {
        let number = {
            let mut calls = recorder.calls.lock().unwrap();
            calls.push(Call {
                path: uri.path().to_owned(),
                authorization: headers.get("authorization").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            });
            calls.len() - 1
        };
        match first.get(number) {
            Some(100) => std::future::pending().await,
            Some(status) => (StatusCode::from_u16(*status).unwrap(), Json(json!({}))),
            None => (StatusCode::OK, Json(recorder.answer.lock().unwrap().clone())),
        }
    }

    /// From now on this is what calls are answered with.
    pub fn give(&self, answer: &Value) {
        *self.answer.lock().unwrap() = answer.clone();
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The calls, as soon as there are `count`.
    pub async fn wait_for(&self, count: usize) -> Vec<Call> {
        until_async(&format!("call {count}"), async || Some(self.calls()).filter(|calls| calls.len() >= count)).await
    }
}
