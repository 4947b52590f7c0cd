//! `sandboxd session` between an agent server and an object that the test plays.

use crate::agent::Agent;
use crate::object::Object;
use crate::object::PATIENCE;
use crate::process;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// Not that of the recordings: what they say of their turns is not about ours.
pub const KILO_SESSION: &str = "ses_0123456789abABCDEFGHIJKLMN";
pub const EXECUTION: &str = "exc_00000000000000000000000001";

/// Dropping it ends every process.
pub struct Stage {
    pub agent: Agent,
    pub object: Object,
    pub session: String,
    folder: TempDir,
    /// All that have a workspace.
    sessions: Mutex<Vec<String>>,
    limits: Value,
    sandboxd: Option<Child>,
    url: String,
}

impl Stage {
    /// With these `HOLDFAST_LIMITS` for the machines.
    pub async fn new(limits: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let session = format!("agent_{}", uuid::Uuid::new_v4());
        let mut stage = Self {
            agent: Agent::start(&folder.path().join("bin")),
            object: Object::start().await,
            session,
            folder,
            sessions: Mutex::default(),
            limits: json!({ "sandbox": limits }),
            sandboxd: None,
            url: String::new(),
        };
        stage.make_workspace(&stage.session);
        stage.start_sandboxd();
        stage
    }

    /// A repository where that session expects its own: it clones nothing.
    pub fn make_workspace(&self, session: &str) {
        self.sessions.lock().unwrap().push(session.to_owned());
        let workspace = self.folder.path().join("root/workspace/sessions").join(session);
        fs::create_dir_all(&workspace).unwrap();
        assert!(Command::new("git").args(["init", "--quiet"]).current_dir(workspace).status().unwrap().success());
    }

    /// Where `sandboxd` keeps what is its own.
    pub fn own(&self) -> PathBuf {
        self.folder.path().join("root/home").join(&self.session).join(".holdfast")
    }

    pub fn start_sandboxd(&mut self) {
        let path = format!("{}:{}", self.folder.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandboxd"));
        command
            .arg("session")
            .env_clear()
            .env("PATH", path)
            .env("HOLDFAST_ROOT", self.folder.path().join("root"))
            .env("HOLDFAST_LIMITS", self.limits.to_string())
            .env("HOLDFAST_MODEL_BASE_URL", "http://127.0.0.1:1/v1");
        let (child, url) = process::listen(&mut command);
        (self.sandboxd, self.url) = (Some(child), url);
    }

    /// Starts a turn and waits until the agent has the prompt and says that it began.
    pub async fn start_turn(&self) {
        self.prompt().await;
        self.open_turn().await;
    }

    /// The agent says that it has taken up the prompt.
    pub async fn open_turn(&self) {
        self.agent.event(&own("session.turn.open", json!({}))).await;
    }

    /// Starts a turn and waits until the agent has the prompt.
    pub async fn prompt(&self) {
        self.ask(&self.work_with_turn(&self.session, 1, &self.object.url)).await;
        self.agent.prompted(1).await;
    }

    /// A plan without a turn.
    pub fn work(&self, session: &str, attempt: u64) -> Value {
        json!({
            "attempt": attempt,
            "workspace": {
                "sessionId": session,
                "kiloSessionId": KILO_SESSION,
                "gitUrl": "https://git.example/a.git",
                "env": {},
            },
            "report": { "url": format!("{}/nowhere", self.url), "token": "t" },
        })
    }

    /// The same with a prompt.
    pub fn work_with_turn(&self, session: &str, attempt: u64, object: &str) -> Value {
        let mut work = self.work(session, attempt);
        work["turn"] = json!({
            "executionId": EXECUTION,
            "messageId": "msg_00000000000000000000000001",
            "prompt": "p",
            "agent": "code",
            "model": "m",
            "autoCommit": false,
            "ingestUrl": object,
            "ingestSecret": "s",
        });
        work
    }

    /// Asks for the work, and waits for what comes of it.
    pub async fn outcome(&self, work: &Value) -> Value {
        let started = Instant::now();
        loop {
            // Who asks again is told where it stands.
            let outcome = self.ask(work).await["outcome"].take();
            if outcome.is_object() {
                return outcome;
            }
            assert!(started.elapsed() < PATIENCE, "no outcome of {work}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops the execution, as its user does.
    pub async fn abort(&self) {
        let url = format!("{}/sessions/{}/job/abort", self.url, self.session);
        let answer = reqwest::Client::new().post(url).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Asks for the work, and returns where it stands.
    pub async fn ask(&self, work: &Value) -> Value {
        let session = work["workspace"]["sessionId"].as_str().unwrap();
        let url = format!("{}/sessions/{session}/work", self.url);
        let answer = reqwest::Client::new().post(url).json(work).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// The agent says that its turn is over.
    pub async fn end_turn(&self) {
        self.agent.event(&own("session.turn.close", json!({ "reason": "completed" }))).await;
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.sandboxd.as_ref().unwrap().id()).unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub fn wait_for_sandboxd(&mut self) {
        self.sandboxd.take().unwrap().wait().unwrap();
    }

    /// Of `/proc/PID/status`, in KiB.
    pub fn memory(&self, field: &str) -> u64 {
        let pid = self.sandboxd.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The processes that carry the session's mark, by their command lines.
    pub fn processes(&self) -> Vec<String> {
        self.processes_of(&self.session)
    }

    /// The same of another session.
    pub fn processes_of(&self, session: &str) -> Vec<String> {
        process::processes(session).into_iter().map(|(_, line)| line).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut sandboxd) = self.sandboxd.take() {
            let sessions = self.sessions.lock().unwrap();
            sessions.iter().for_each(|session| process::end(&mut sandboxd, session));
        }
    }
}

/// An event of our agent session.
pub fn own(kind: &str, properties: Value) -> Value {
    let mut event = json!({ "type": kind, "properties": { "sessionID": KILO_SESSION } });
    event["properties"].as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
    event
}

/// A whole text of the agent.
pub fn part(id: &str, text: &str) -> Value {
    own(
        "message.part.updated",
        json!({ "part": { "id": id, "messageID": "msg_answer", "type": "text", "text": text } }),
    )
}
