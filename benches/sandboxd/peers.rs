//! What `benches/sandboxd/run.mjs` measures with: plays the agent server and the session object around a real `sandboxd session`.
//!
//! ```text
//! peers throughput SANDBOXD EVENTS BYTES CORE   events from the stream to an acknowledging socket, `sandboxd` on one core
//! peers large SANDBOXD MEGABYTES                memory while one event of that size passes
//! peers start SANDBOXD                          from exec of `init` to an answer of `session`, and the memory of both
//! ```
//!
//! One JSON object on standard output.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "../../crates/sandboxd/tests/support/agent.rs"]
mod agent;
#[path = "../../crates/sandboxd/tests/support/process.rs"]
mod process;
#[path = "../../crates/sandboxd/tests/support/program.rs"]
mod program;

use agent::Agent;
use axum::body::Bytes;
use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

const SESSION: &str = "agent_01234567-89ab-cdef-0123-456789abcdef";
const KILO_SESSION: &str = "ses_e03b2959effeetYLbSKCsEOEU2";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["throughput", sandboxd, events, bytes, core] => {
            throughput(Path::new(sandboxd), events.parse().unwrap(), bytes.parse().unwrap(), Some(core)).await
        }
        ["large", sandboxd, megabytes] => large(Path::new(sandboxd), megabytes.parse().unwrap()).await,
        ["start", sandboxd] => start(Path::new(sandboxd)),
        // `cargo bench` runs every bench without arguments of ours.
        _ => json!({ "usage": "node benches/sandboxd/run.mjs" }),
    };
    println!("{result}");
}

/// `sandboxd session` with a turn that runs.
struct Stage {
    sandboxd: Child,
    agent: Agent,
    object: Arc<Object>,
    _folder: TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        process::end(&mut self.sandboxd, SESSION);
    }
}

/// What the session object has taken.
#[derive(Default)]
struct Object {
    last_seq: AtomicU64,
    /// Of all frames: what was announced as lost is missing here.
    bytes: AtomicU64,
}

impl Stage {
    async fn start(sandboxd: &Path, core: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let workspace = root.join("workspace/sessions").join(SESSION);
        fs::create_dir_all(&workspace).unwrap();
        assert!(Command::new("git").args(["init", "--quiet"]).current_dir(&workspace).status().unwrap().success());
        let agent = Agent::start(&folder.path().join("bin"));
        let object = Arc::new(Object::default());
        let ingest_url = serve_object(object.clone()).await;

        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", core]).arg(sandboxd);
                command
            }
            None => Command::new(sandboxd),
        };
        let path = format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").unwrap());
        command.arg("session").env_clear().env("PATH", path).env("HOLDFAST_ROOT", &root);
        command.env("HOLDFAST_LISTEN", "127.0.0.1:0").env("HOLDFAST_MODEL_BASE_URL", "http://127.0.0.1:1/v1");
        let mut sandboxd = command.env("ALLOW_LOOPBACK", "1").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(sandboxd.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| {
                let entry: Value = serde_json::from_str(&line).unwrap_or_default();
                entry["address"].as_str().map(str::to_owned)
            })
            .expect("sandboxd says where it listens");
        // Shown if something goes wrong.
        std::thread::spawn(move || {
            lines.filter(|line| !line.contains("\"info\"")).for_each(|line| eprintln!("{line}"))
        });
        let stage = Self { sandboxd, agent, object, _folder: folder };
        stage.start_turn(&address, &ingest_url).await;
        stage
    }

    async fn start_turn(&self, address: &str, ingest_url: &str) {
        let work = json!({
            "attempt": 1,
            "workspace": {
                "sessionId": SESSION,
                "kiloSessionId": KILO_SESSION,
                "gitUrl": "https://git.example/a.git",
                "env": {},
            },
            "report": { "url": format!("http://{address}/nowhere"), "token": "t" },
            "turn": {
                "executionId": "exc_00000000000000000000000001",
                "messageId": "msg_00000000000000000000000001",
                "prompt": "p",
                "agent": "code",
                "model": "m",
                "autoCommit": false,
                "ingestUrl": ingest_url,
                "ingestSecret": "s",
            },
        });
        let url = format!("http://{address}/sessions/{SESSION}/work");
        let answer = reqwest::Client::new().post(url).json(&work).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        self.agent.prompted(1).await;
        let open = json!({ "type": "session.turn.open", "properties": { "sessionID": KILO_SESSION } });
        self.agent.event(&open).await;
    }

    fn memory(&self, field: &str) -> u64 {
        memory(self.sandboxd.id(), field)
    }

    /// Processor time so far, in seconds.
    fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.sandboxd.id())).unwrap();
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split_whitespace().collect();
        let ticks: u64 = fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap();
        // USER_HZ is 100 on every Linux that this runs on.
        ticks as f64 / 100.0
    }

    async fn wait_for_seq(&self, seq: u64) {
        let started = Instant::now();
        while self.object.last_seq.load(Ordering::Relaxed) < seq {
            assert!(started.elapsed() < Duration::from_secs(120), "stuck at {:?}", self.object.last_seq);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The object's part of the ingest socket: greets, acknowledges each frame, looks only at the last number in it.
async fn serve_object(object: Arc<Object>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ingest", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let object = object.clone();
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await.unwrap();
                let last_seq = object.last_seq.load(Ordering::Relaxed);
                socket.send(Message::text(format!(r#"{{"type":"resume","lastSeq":{last_seq}}}"#))).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    let Message::Text(text) = message else { continue };
                    object.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
                    let Some(at) = text.rfind("\"seq\":") else { continue };
                    let digits: String = text[at + 6..].chars().take_while(char::is_ascii_digit).collect();
                    let seq: u64 = digits.parse().unwrap();
                    object.last_seq.store(seq, Ordering::Relaxed);
                    socket.send(Message::text(format!(r#"{{"type":"ack","seq":{seq}}}"#))).await.unwrap();
                }
            });
        }
    });
    url
}

/// One update of a part of its own, `bytes` long as an SSE event: nothing can be coalesced.
fn part_event(n: u64, bytes: usize) -> String {
    let event = |text: &str| {
        format!(
            "data: {{\"id\":\"evt_{n:020}\",\"type\":\"message.part.updated\",\"properties\":{{\"sessionID\":\"{KILO_SESSION}\",\
             \"part\":{{\"id\":\"prt_{n:020}\",\"sessionID\":\"{KILO_SESSION}\",\"messageID\":\"msg_0123456789abcdef\",\
             \"type\":\"text\",\"text\":\"{text}\",\"time\":{{\"start\":1763719200000}}}},\"time\":1763719200000}}}}\n\n"
        )
    };
    // A line of a program.
    let filler = "    let greeting = compose(\\\"hello\\\", &[name, city], options.with_title(true))?;\\n"
        .repeat(bytes / 40 + 1);
    let room = bytes - event("").len();
    let end = (room.saturating_sub(1)..=room).rev().find(|end| filler.as_bytes()[end - 1] != b'\\').unwrap();
    event(&filler[..end])
}

async fn throughput(sandboxd: &Path, events: u64, bytes: usize, core: Option<&str>) -> Value {
    let stage = Stage::start(sandboxd, core).await;
    // The ingest of what came before is over: the numbers of the burst follow.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = stage.object.last_seq.load(Ordering::Relaxed);
    let blocks: Vec<Bytes> = (0..events)
        .collect::<Vec<_>>()
        .chunks(64 * 1024 / bytes + 1)
        .map(|numbers| Bytes::from(numbers.iter().map(|n| part_event(*n, bytes)).collect::<String>()))
        .collect();
    let idle = stage.memory("VmRSS");
    let (started, cpu) = (Instant::now(), stage.cpu_s());
    for block in blocks {
        stage.agent.say(block).await;
    }
    stage.wait_for_seq(before + events).await;
    let (wall_s, cpu_s) = (started.elapsed().as_secs_f64(), stage.cpu_s() - cpu);
    json!({
        "events": events,
        "bytes": bytes,
        "perSecond": (events as f64 / wall_s).round(),
        "perCpuSecond": (events as f64 / cpu_s.max(0.01)).round(),
        "complete": stage.object.bytes.load(Ordering::Relaxed) >= events * bytes as u64,
        "idleKiB": idle,
        "peakKiB": stage.memory("VmHWM"),
    })
}

async fn large(sandboxd: &Path, megabytes: usize) -> Value {
    let stage = Stage::start(sandboxd, None).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = stage.object.last_seq.load(Ordering::Relaxed);
    let idle = stage.memory("VmRSS");
    // From here on the high-water mark is that of the event alone.
    fs::write(format!("/proc/{}/clear_refs", stage.sandboxd.id()), "5").unwrap();
    let head = part_event(1, 400);
    let text = "\"text\":\"";
    let (head, tail) = head.split_at(head.find(text).unwrap() + text.len());
    stage.agent.say(head.to_owned()).await;
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let started = Instant::now();
    for _ in 0..megabytes * 16 {
        stage.agent.say(chunk.clone()).await;
    }
    stage.agent.say(tail.to_owned()).await;
    stage.wait_for_seq(before + 1).await;
    let peak = stage.memory("VmHWM");
    json!({
        "megabytes": megabytes,
        "seconds": started.elapsed().as_secs_f64(),
        "idleKiB": idle,
        "peakKiB": peak,
        "aboveIdleKiB": peak.saturating_sub(idle),
    })
}

/// Of /proc/PID/status, in KiB.
fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn start(sandboxd: &Path) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = Instant::now();
    let mut init = Command::new(sandboxd)
        .args(["init", "--", "session"])
        .env("HOLDFAST_ROOT", folder.path())
        .env("HOLDFAST_LISTEN", format!("127.0.0.1:{port}"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !is_healthy(port) {
        assert!(started.elapsed() < Duration::from_secs(10), "not ready");
        std::thread::sleep(Duration::from_micros(100));
    }
    let ready_ms = started.elapsed().as_secs_f64() * 1_000.0;
    std::thread::sleep(Duration::from_millis(500));
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", init.id())).unwrap();
    let session: u32 = children.split_whitespace().next().unwrap().parse().unwrap();
    let (of_init, of_session) = (memory(init.id(), "VmRSS"), memory(session, "VmRSS"));
    let _ = Command::new("kill").args(["-TERM", &init.id().to_string()]).status();
    let _ = init.wait();
    json!({ "readyMs": ready_ms, "initKiB": of_init, "sessionKiB": of_session })
}

fn is_healthy(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = [0; 12];
    let asked = stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    asked.is_ok() && stream.read_exact(&mut answer).is_ok() && answer.ends_with(b"200")
}
