//! What a session needs around it: `sandboxd session`, the scripted model, a bare remote.

use crate::process;
use crate::program;
use crate::worker::INGEST_SECRET;
use crate::worker::Worker;
use crate::worker::execution_of;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use reqwest::StatusCode;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;

/// One agent server takes up to 0.8 GB.
static ROOM: Semaphore = Semaphore::const_new(3);
const TOKEN: &str = "sandbox-token-1234";
const MODEL_KEY: &str = "model-key-1234";
const SESSION: &[&str] = &["session"];

/// A folder with everything in it. Dropping it ends every process.
pub struct Stage {
    pub folder: TempDir,
    pub session: String,
    pub kilo_session: String,
    model: Model,
    kilo: Option<PathBuf>,
    sandboxd: Option<Child>,
    /// What `sandboxd` is started as.
    role: &'static [&'static str],
    limits: Value,
    url: String,
    http: reqwest::Client,
    /// Last, so that it is given back when everything has ended.
    _room: Option<SemaphorePermit<'static>>,
}

impl Stage {
    /// A remote with one commit on `main`, the model, and `sandboxd session`.
    pub async fn new() -> Self {
        let room = ROOM.acquire().await.unwrap();
        Self::build(Some(kilo()), Some(room), SESSION, json!({}))
    }

    /// The same as a container has it: `sandboxd init` starts the role, and starts it again.
    pub async fn supervised() -> Self {
        let room = ROOM.acquire().await.unwrap();
        Self::build(Some(kilo()), Some(room), &["init", "--", "session"], json!({}))
    }

    /// The same as [`Stage::new`] with these `HOLDFAST_LIMITS` for the role.
    pub async fn limited(limits: Value) -> Self {
        let room = ROOM.acquire().await.unwrap();
        Self::build(Some(kilo()), Some(room), SESSION, limits)
    }

    /// The same where there is no agent to start.
    pub async fn without_kilo() -> Self {
        Self::build(None, None, SESSION, json!({}))
    }

    fn build(
        kilo: Option<PathBuf>,
        room: Option<SemaphorePermit<'static>>,
        role: &'static [&'static str],
        limits: Value,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_remote(folder.path());
        let id = uuid::Uuid::new_v4();
        // On a machine that does other things too, an end takes its time.
        let mut own = json!({ "shutdown_ms_max": 60_000 });
        own.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        let mut stage = Self {
            folder,
            session: format!("agent_{id}"),
            kilo_session: format!("ses_{}", &id.simple().to_string()[..26]),
            model: Model::start(),
            kilo,
            _room: room,
            sandboxd: None,
            role,
            limits: json!({ "sandbox": own }),
            url: String::new(),
            http: reqwest::Client::new(),
        };
        stage.start_sandboxd();
        stage
    }

    /// Starts `sandboxd session` on this disk.
    pub fn start_sandboxd(&mut self) {
        let path = path_with(self.kilo.as_deref());
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandboxd"));
        command
            .args(self.role)
            .env_clear()
            .env("PATH", path)
            .env("HOLDFAST_ROOT", self.root())
            .env("HOLDFAST_SANDBOX_TOKEN", TOKEN)
            .env("HOLDFAST_MODEL_BASE_URL", self.model.url())
            .env("HOLDFAST_MODEL_API_KEY", MODEL_KEY)
            .env("HOLDFAST_MODEL", "scripted")
            .env("HOLDFAST_LIMITS", self.limits.to_string())
            .env("ALLOW_LOOPBACK", "1");
        let (child, url) = process::listen(&mut command);
        (self.sandboxd, self.url) = (Some(child), url);
    }

    /// The container's disk.
    pub fn root(&self) -> PathBuf {
        let root = self.folder.path().join("root");
        fs::create_dir_all(&root).unwrap();
        root
    }

    /// The repository that the agent works in.
    pub fn workspace(&self) -> PathBuf {
        self.root().join("workspace/sessions").join(&self.session)
    }

    /// The bare repository that is cloned and pushed to.
    pub fn remote(&self) -> PathBuf {
        self.folder.path().join("remote.git")
    }

    /// Runs git in the remote.
    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.remote(), arguments)
    }

    /// Signals `sandboxd session`.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.sandboxd.as_ref().unwrap().id()).unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Kills the role where [`Stage::supervised`] has it started again.
    pub fn kill_role(&self) {
        let init = self.sandboxd.as_ref().unwrap().id();
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
        let role = children.split_whitespace().next().unwrap().parse().unwrap();
        nix::sys::signal::kill(Pid::from_raw(role), Signal::SIGKILL).unwrap();
    }

    /// In the next container, the agent's program is killed the first time that it imports a session, as where memory is short.
    pub fn end_the_next_import(&mut self) {
        let (folder, kilo) = (self.folder.path(), self.kilo.take().unwrap());
        let (script, ended) = (folder.join("short-of-memory/kilo"), folder.join("ended"));
        let (mark, real) = (ended.display(), kilo.display());
        let text = format!(
            "#!/bin/sh\n[ $1 = import ] && [ ! -e {mark} ] && touch {mark} && kill -9 $$\nexec {real} \"$@\"\n"
        );
        program::install(&script, &text);
        self.kilo = Some(script);
    }

    /// The container is lost, with its disk; `sandboxd session` starts on an empty one.
    pub async fn lose_container(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_sandboxd().await;
        self.replace_container();
    }

    /// The container has ended by itself; `sandboxd session` starts on an empty disk.
    pub fn replace_container(&mut self) {
        fs::remove_dir_all(self.root()).unwrap();
        self.start_sandboxd();
    }

    /// Waits for the end of the process and returns its exit code.
    pub async fn wait_for_sandboxd(&mut self) -> Option<i32> {
        let mut child = self.sandboxd.take().unwrap();
        // The Worker of the test must go on meanwhile.
        tokio::task::spawn_blocking(move || child.wait().unwrap().code()).await.unwrap()
    }

    /// A plan without a turn.
    pub fn work(&self, worker: &Worker, attempt: u64) -> Value {
        json!({
            "attempt": attempt,
            "workspace": {
                "sessionId": self.session,
                "kiloSessionId": self.kilo_session,
                "gitUrl": format!("file://{}", self.remote().display()),
                "gitToken": "git-token-1234",
                "env": { "GREETING": "hello" },
            },
            "report": { "url": worker.progress_url(), "token": "report-token-1234" },
        })
    }

    /// The same with a prompt.
    pub fn work_with_turn(&self, worker: &Worker, attempt: u64, prompt: &str) -> Value {
        let execution = execution_of(attempt);
        let mut work = self.work(worker, attempt);
        work["turn"] = json!({
            "executionId": execution,
            "messageId": format!("msg_{attempt:026}"),
            "prompt": prompt,
            "agent": "code",
            "model": "scripted",
            "autoCommit": true,
            "ingestUrl": worker.ingest_url(&execution),
            "ingestSecret": INGEST_SECRET,
        });
        work
    }

    /// Calls the session's API.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let url = format!("{}/sessions/{}/{path}", self.url, self.session);
        let mut call = self.http.request(method.parse().unwrap(), url).bearer_auth(TOKEN);
        if let Some(body) = body {
            call = call.json(body);
        }
        let answer = call.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Calls any path, with any token.
    pub async fn call_raw(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (StatusCode, Value) {
        let mut call = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url)).body(body.to_owned());
        if let Some(token) = token {
            call = call.bearer_auth(token);
        }
        let answer = call.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// The token of the API.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// What the user has said in the conversation that the agent has in mind, in order.
    pub fn conversation(&self) -> Vec<String> {
        let home = self.root().join("home").join(&self.session);
        let output = self.folder.path().join("conversation.json");
        // Into a file: the agent's program does not wait for a slow reader.
        let ended = Command::new(self.kilo.as_ref().unwrap())
            .args(["export", &self.kilo_session])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home)
            .env("KILO_DISABLE_MODELS_FETCH", "1")
            .env("KILO_TELEMETRY_LEVEL", "off")
            .current_dir(self.workspace())
            .stdout(fs::File::create(&output).unwrap())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(ended.success());
        let export: Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
        let messages = export["messages"].as_array().unwrap();
        let of_user = messages.iter().filter(|message| message["info"]["role"] == "user");
        of_user.map(|message| message["parts"][0]["text"].as_str().unwrap().to_owned()).collect()
    }

    /// The processes that carry the session's mark, by their command lines.
    pub fn processes(&self) -> Vec<String> {
        process::processes(&self.session).into_iter().map(|(_, line)| line).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.sandboxd.is_some() {
            self.signal(Signal::SIGTERM);
            let _ = self.sandboxd.take().unwrap().wait();
        }
    }
}

/// The scripted model server.
struct Model {
    child: Child,
    port: u64,
}

impl Model {
    fn start() -> Self {
        let mut child = Command::new("node")
            .arg(project().join("model-server/server.mjs"))
            .args(["--port", "0"])
            .env("HOLDFAST_MODEL_API_KEY", MODEL_KEY)
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is needed for the scripted model server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self { child, port: ready["port"].as_u64().unwrap() }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The real Kilo CLI. These tests are worth nothing without it, so they fail where it should be.
fn kilo() -> PathBuf {
    let of_project = project().join("node_modules/@kilocode/cli-linux-x64/bin/kilo");
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|folder| folder.join("kilo"))
        .chain([of_project])
        .find(|program| program.is_file())
        .expect("the Kilo CLI is missing: run `npm install` in the project's root folder")
}

/// The search path of this test with the agent in front, or with no agent at all.
fn path_with(kilo: Option<&Path>) -> String {
    let folders = std::env::var("PATH").unwrap();
    let Some(kilo) = kilo else {
        let others = folders.split(':').filter(|folder| !Path::new(folder).join("kilo").exists());
        return others.collect::<Vec<_>>().join(":");
    };
    format!("{}:{folders}", kilo.parent().unwrap().display())
}

/// Runs git and returns what it says.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn make_remote(folder: &Path) {
    let seed = folder.join("seed");
    fs::create_dir(&seed).unwrap();
    git(&seed, &["init", "--quiet", "--initial-branch", "main"]);
    fs::write(seed.join("README.md"), "A sample.\n").unwrap();
    git(&seed, &["add", "-A"]);
    git(&seed, &["commit", "--quiet", "-m", "First"]);
    git(folder, &["clone", "--quiet", "--bare", "seed", "remote.git"]);
}
