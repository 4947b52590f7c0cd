//! The Worker's part: takes progress over HTTP and events over the ingest WebSocket, which it acknowledges.

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::routing::get;
use axum::routing::post;
use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::ErrorResponse;
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::handshake::server::Response;

/// A cold start of the agent and a turn, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The bearer of the ingest socket.
pub const INGEST_SECRET: &str = "ingest-secret-1234";

/// The execution that an attempt of the tests runs.
pub fn execution_of(attempt: u64) -> String {
    format!("exc_{attempt:026}")
}

/// The Worker.
#[derive(Clone)]
pub struct Worker {
    progress_url: String,
    ingest_url: String,
    snapshot_url: String,
    posts: Arc<Mutex<Posts>>,
    snapshots: Arc<Mutex<Snapshots>>,
    logs: Arc<Mutex<Logs>>,
}

/// What is kept of the conversation.
#[derive(Default)]
struct Snapshots {
    kept: Option<Bytes>,
    puts: usize,
    /// What the next calls are answered with; as usual after that.
    statuses: VecDeque<u16>,
}

/// What arrived at the progress endpoint.
struct Posts {
    reports: Vec<Value>,
    /// What the next posts are answered with; 200 after that.
    statuses: VecDeque<u16>,
}

/// What arrived at the ingest sockets, by execution.
#[derive(Default)]
struct Logs {
    watched: String,
    of: HashMap<String, Log>,
}

/// What arrived at the ingest sockets of one execution.
#[derive(Default)]
struct Log {
    /// Everything, volatile events too, in order of arrival.
    events: Vec<Value>,
    last_seq: u64,
    connections: usize,
    closed: Vec<u16>,
    down: Option<mpsc::UnboundedSender<Down>>,
}

enum Down {
    Command(Value),
    Cut,
}

impl Worker {
    /// Starts both servers; the first posts of progress are answered with `statuses`.
    pub async fn start(statuses: &[u16]) -> Self {
        let progress = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let statuses = statuses.iter().copied().collect();
        let worker = Self {
            progress_url: format!("http://{}/progress", progress.local_addr().unwrap()),
            ingest_url: format!("ws://{}", listener.local_addr().unwrap()),
            snapshot_url: format!("http://{}/snapshot", progress.local_addr().unwrap()),
            snapshots: Arc::default(),
            posts: Arc::new(Mutex::new(Posts { reports: Vec::new(), statuses })),
            logs: Arc::new(Mutex::new(Logs { watched: execution_of(1), ..Logs::default() })),
        };
        let snapshots = get(give_snapshot).put(take_snapshot).with_state(worker.snapshots.clone());
        let router = Router::new()
            .route("/progress", post(take_report))
            .with_state(worker.posts.clone())
            .route("/snapshot", snapshots)
            .layer(DefaultBodyLimit::disable());
        tokio::spawn(async move { axum::serve(progress, router).await });
        let logs = worker.logs.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, logs.clone()));
            }
        });
        worker
    }

    /// Where progress goes.
    pub fn progress_url(&self) -> String {
        self.progress_url.clone()
    }

    /// Where the conversation is kept.
    pub fn snapshot_url(&self) -> String {
        self.snapshot_url.clone()
    }

    /// How often the conversation was kept.
    pub fn snapshots_put(&self) -> usize {
        self.snapshots.lock().unwrap().puts
    }

    /// Replaces the kept snapshot.
    pub fn set_snapshot(&self, kept: &[u8]) {
        self.snapshots.lock().unwrap().kept = Some(Bytes::copy_from_slice(kept));
    }

    /// The next calls about the snapshot are answered with these.
    pub fn fail_snapshots(&self, statuses: &[u16]) {
        self.snapshots.lock().unwrap().statuses.extend(statuses);
    }

    /// How many calls about the snapshot will still be refused.
    pub fn snapshot_failures_left(&self) -> usize {
        self.snapshots.lock().unwrap().statuses.len()
    }

    /// Waits until the conversation was kept so often.
    pub async fn snapshot(&self, count: usize) -> Bytes {
        self.until("a snapshot", || {
            let snapshots = self.snapshots.lock().unwrap();
            snapshots.kept.clone().filter(|_| snapshots.puts >= count)
        })
        .await
    }

    /// Where events go.
    pub fn ingest_url(&self, execution: &str) -> String {
        format!("{}/ingest?executionId={execution}&generation=1", self.ingest_url)
    }

    /// All reports, repeats included.
    pub fn reports(&self) -> Vec<Value> {
        self.posts.lock().unwrap().reports.clone()
    }

    /// Waits for the outcome of an attempt and returns all of the attempt's reports.
    pub async fn outcome(&self, attempt: u64) -> Vec<Value> {
        self.until("an outcome", || {
            let reports: Vec<Value> =
                self.reports().into_iter().filter(|report| report["attempt"] == attempt).collect();
            reports.iter().any(|report| report["outcome"].is_object()).then_some(reports)
        })
        .await
    }

    /// Waits for a stored event of this type and returns it.
    pub async fn stored(&self, kind: &str) -> Value {
        self.until(kind, || self.log().into_iter().find(|event| event["streamEventType"] == kind)).await
    }

    /// Waits until some event holds `text`.
    pub async fn event_with(&self, text: &str) -> Value {
        self.until(text, || self.events().into_iter().find(|event| event.to_string().contains(text))).await
    }

    /// Every event that arrived.
    pub fn events(&self) -> Vec<Value> {
        self.watched(|log| log.events.clone())
    }

    /// The stored events, in order.
    pub fn log(&self) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["seq"].is_u64()).collect()
    }

    /// From now on everything here is about the execution of this attempt; in the beginning it is the first.
    pub fn watch(&self, attempt: u64) {
        self.logs.lock().unwrap().watched = execution_of(attempt);
    }

    /// How many sockets were opened so far, and with which codes they closed.
    pub fn connections(&self) -> (usize, Vec<u16>) {
        self.watched(|log| (log.connections, log.closed.clone()))
    }

    /// Sends a command down the socket.
    pub fn command(&self, command: Value) {
        self.watched(|log| log.down.as_ref().unwrap().send(Down::Command(command)).unwrap());
    }

    /// Ends the socket without a close frame.
    pub fn cut(&self) {
        self.watched(|log| log.down.as_ref().unwrap().send(Down::Cut).unwrap());
    }

    fn watched<T>(&self, look: impl FnOnce(&mut Log) -> T) -> T {
        let mut logs = self.logs.lock().unwrap();
        let watched = logs.watched.clone();
        look(logs.of.entry(watched).or_default())
    }

    /// Asks until there is an answer.
    pub async fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            let seen = || format!("reports {:#?}\nevents {:#?}", self.reports(), self.events());
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}\n{}", seen());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A git host that asks for credentials, and then has nothing.
pub struct GitHost {
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl GitHost {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Self { url: format!("http://{}", listener.local_addr().unwrap()), seen: Arc::default() };
        let router = Router::new().fallback(Self::asked).with_state(host.seen.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        host
    }

    /// The `Authorization` headers that came.
    pub fn credentials(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    async fn asked(
        State(seen): State<Arc<Mutex<Vec<String>>>>,
        headers: HeaderMap,
    ) -> (StatusCode, [(&'static str, &'static str); 1]) {
        const CHALLENGE: [(&str, &str); 1] = [("www-authenticate", "Basic realm=\"git\"")];
        match headers.get("authorization") {
            None => (StatusCode::UNAUTHORIZED, CHALLENGE),
            Some(value) => {
                seen.lock().unwrap().push(value.to_str().unwrap().to_owned());
                (StatusCode::NOT_FOUND, CHALLENGE)
            }
        }
    }
}

async fn take_report(
    State(posts): State<Arc<Mutex<Posts>>>,
    headers: HeaderMap,
    Json(report): Json<Value>,
) -> StatusCode {
    assert_eq!(headers["authorization"], "Bearer report-token-1234");
    let mut posts = posts.lock().unwrap();
    posts.reports.push(report);
    let status = posts.statuses.pop_front();
    status.map_or(StatusCode::OK, |status| StatusCode::from_u16(status).unwrap())
}

async fn take_snapshot(State(snapshots): State<Arc<Mutex<Snapshots>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["authorization"], "Bearer report-token-1234");
    // The store takes no body of unknown length.
    assert_eq!(headers["content-length"], body.len().to_string().as_str());
    let mut snapshots = snapshots.lock().unwrap();
    if let Some(status) = snapshots.statuses.pop_front() {
        return StatusCode::from_u16(status).unwrap();
    }
    snapshots.puts += 1;
    snapshots.kept = Some(body);
    StatusCode::OK
}

async fn give_snapshot(
    State(snapshots): State<Arc<Mutex<Snapshots>>>,
    headers: HeaderMap,
) -> Result<Bytes, StatusCode> {
    assert_eq!(headers["authorization"], "Bearer report-token-1234");
    let mut snapshots = snapshots.lock().unwrap();
    match snapshots.statuses.pop_front() {
        Some(status) => Err(StatusCode::from_u16(status).unwrap()),
        None => snapshots.kept.clone().ok_or(StatusCode::NOT_FOUND),
    }
}

/// Who may connect, and as which execution.
fn check(request: &Request, execution: &mut String) -> Result<(), ErrorResponse> {
    let bearer = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let query = request.uri().query().unwrap_or_default();
    let name = query.strip_prefix("executionId=").and_then(|rest| rest.strip_suffix("&generation=1"));
    if let Some(name) = name.filter(|_| bearer.as_deref() == Some(&format!("Bearer {INGEST_SECRET}"))) {
        *execution = name.to_owned();
        return Ok(());
    }
    let mut refusal = ErrorResponse::new(None);
    *refusal.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::UNAUTHORIZED;
    Err(refusal)
}

async fn serve(stream: TcpStream, logs: Arc<Mutex<Logs>>) {
    let mut execution = String::new();
    let callback = |request: &Request, response: Response| check(request, &mut execution).map(|()| response);
    let Ok(mut socket) = accept_hdr_async(stream, callback).await else { return };
    let (down, mut commands) = mpsc::unbounded_channel();
    let last_seq = {
        let mut logs = logs.lock().unwrap();
        let log = logs.of.entry(execution.clone()).or_default();
        log.connections += 1;
        log.down = Some(down);
        log.last_seq
    };
    socket.send(Message::text(json!({ "type": "resume", "lastSeq": last_seq }).to_string())).await.unwrap();
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            command = commands.recv() => match command {
                Some(Down::Command(command)) => {
                    socket.send(Message::text(command.to_string())).await.unwrap();
                    continue;
                }
                _ => return,
            },
        };
        match message {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                let acked = take(logs.lock().unwrap().of.get_mut(&execution).unwrap(), frame);
                if let Some(seq) = acked {
                    let _ = socket.send(Message::text(json!({ "type": "ack", "seq": seq }).to_string())).await;
                }
            }
            Some(Ok(Message::Close(frame))) => {
                let mut logs = logs.lock().unwrap();
                logs.of.get_mut(&execution).unwrap().closed.push(frame.map_or(1005, |frame| frame.code.into()));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// What the object does: a known number is dropped and acknowledged, a gap is an error.
fn take(log: &mut Log, frame: Value) -> Option<u64> {
    let events = match frame {
        Value::Array(events) => events,
        event => vec![event],
    };
    let numbered = events.iter().any(|event| event["seq"].is_u64());
    for event in events {
        match event["seq"].as_u64() {
            Some(seq) if seq <= log.last_seq => {}
            Some(seq) => {
                assert_eq!(seq, log.last_seq + 1, "a gap before {event}");
                log.last_seq = seq;
                log.events.push(event);
            }
            None => log.events.push(event),
        }
    }
    numbered.then_some(log.last_seq)
}
