//! What a town needs around it: `sandboxd town`, the Worker, a bare remote, and agents that do what they are told.

use crate::agent;
use crate::support::sandboxd;
use crate::support::send;
use crate::support::until;
use crate::support::until_async;
use crate::worker::Worker;
use nix::sys::signal::Signal;
use reqwest::Client;
use reqwest::Method;
use reqwest::RequestBuilder;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use tempfile::TempDir;

/// Short enough for a test, long enough for a busy machine.
pub const FAST: &str = r#"{"sandbox_town":{"heartbeat_interval_ms":200,"idle_ms":60000,"draining_idle_ms":100,"drain_wait_ms":3000,"drain_close_ms":30000}}"#;

/// A folder with everything in it. Dropping it ends every process.
pub struct Stage {
    pub folder: TempDir,
    pub worker: Worker,
    pub process: Child,
    pub url: String,
    pub client: Client,
    model_url: String,
}

/// Where nobody listens: agents that are played need no model.
const NO_MODEL: &str = "http://127.0.0.1:9/v1";

impl Stage {
    pub async fn new() -> Self {
        Self::with_limits(FAST).await
    }

    pub async fn with_limits(limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_remote(folder.path());
        agent::install(&folder.path().join("bin"));
        let stage = Self::in_folder(folder, Worker::start(), limits, NO_MODEL.to_owned()).await;
        // From here on it reads no list of agents, which a test may leave for the next container.
        stage.worker.wait_for("container-registry", 1).await;
        stage
    }

    /// With the agent's real program, which talks to the model there.
    pub async fn with_agent(kilo: &Path, model_url: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_remote(folder.path());
        fs::create_dir(folder.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(kilo, folder.path().join("bin/kilo")).unwrap();
        Self::in_folder(folder, Worker::start(), FAST, model_url).await
    }

    /// The same container, whose process was killed: the disk is as it was.
    pub async fn restarted(mut self, limits: &str) -> Self {
        self.end();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let (worker, model_url) = (self.worker.clone(), self.model_url.clone());
        Self::in_folder(folder, worker, limits, model_url).await
    }

    /// Another container for the same town: an empty disk, the same remote and the same Worker.
    pub async fn replaced(mut self) -> Self {
        self.end();
        let old = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        fs::remove_dir_all(old.path().join("root")).unwrap();
        let (worker, model_url) = (self.worker.clone(), self.model_url.clone());
        Self::in_folder(old, worker, FAST, model_url).await
    }

    async fn in_folder(folder: TempDir, worker: Worker, limits: &str, model_url: String) -> Self {
        let path = format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").unwrap());
        let log = folder.path().join("log");
        // Those of the containers before.
        let earlier = fs::read_to_string(&log).map_or(0, |text| events(&text, "ready").len());
        let log = File::options().create(true).append(true).open(log).unwrap();
        let process = sandboxd(["town"])
            .env("PATH", path)
            .env("ALLOW_LOOPBACK", "1")
            .env("GASTOWN_TOWN_ID", "t1")
            .env("GASTOWN_API_URL", &worker.url)
            .env("GASTOWN_CONTAINER_TOKEN", "container-token")
            .env("HOLDFAST_SANDBOX_TOKEN", "sandbox-token")
            .env("HOLDFAST_MODEL_BASE_URL", &model_url)
            .env("HOLDFAST_MODEL", "scripted")
            .env("HOLDFAST_LISTEN", "127.0.0.1:0")
            .env("HOLDFAST_LIMITS", limits)
            .env("HOLDFAST_ROOT", folder.path().join("root"))
            .stderr(log)
            .spawn()
            .unwrap();
        let mut stage = Self { folder, worker, process, url: String::new(), client: Client::new(), model_url };
        let own = async || stage.logged("ready").get(earlier).map(|line| line["listen"].as_str().unwrap().to_owned());
        stage.url = format!("http://{}", until_async("the town to be ready", own).await);
        stage
    }

    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth("sandbox-token")
    }

    /// Status and body.
    pub async fn answer(&self, call: RequestBuilder) -> (u16, Value) {
        let answer = call.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.answer(self.call(Method::POST, path).json(&body)).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.answer(self.call(Method::GET, path)).await
    }

    pub async fn health(&self) -> Value {
        self.client.get(format!("{}/health", self.url)).send().await.unwrap().json().await.unwrap()
    }

    /// What `POST /agents/start` takes.
    pub fn request(&self, agent: &str, role: &str, prompt: &str) -> Value {
        json!({
            "agentId": agent, "rigId": "r1", "townId": "t1", "role": role, "name": agent, "identity": agent,
            "prompt": prompt, "model": "m", "gitUrl": format!("file://{}", self.remote().display()),
            "branch": format!("gt/{agent}"), "defaultBranch": "main",
        })
    }

    /// Starts a polecat.
    pub async fn start(&self, agent: &str, prompt: &str) {
        let (status, body) = self.post("/agents/start", self.request(agent, "polecat", prompt)).await;
        assert_eq!(status, 201, "{body}");
    }

    pub async fn status(&self, agent: &str) -> Value {
        self.get(&format!("/agents/{agent}/status")).await.1
    }

    /// Waits until an agent has this status.
    pub async fn wait_for_status(&self, agent: &str, status: &str) -> Value {
        let what = format!("{agent} to be {status}");
        until_async(&what, async || Some(self.status(agent).await).filter(|now| now["status"] == status)).await
    }

    /// Waits until an agent said this.
    pub async fn wait_for_event(&self, agent: &str, event: &str) {
        let path = format!("/agents/{agent}/events");
        let has = async || {
            let (_, body) = self.get(&path).await;
            body["events"].as_array().unwrap().iter().any(|said| said["event"] == event).then_some(())
        };
        until_async(&format!("{agent} to say {event}"), has).await;
    }

    pub fn remote(&self) -> PathBuf {
        self.folder.path().join("remote.git")
    }

    pub fn worktree(&self, agent: &str) -> PathBuf {
        self.folder.path().join("root/workspace/rigs/r1/worktrees").join(format!("gt__{agent}"))
    }

    /// Waits until a file in an agent's worktree is there and not empty.
    pub async fn wait_for_file(&self, agent: &str, file: &str) {
        let path = self.worktree(agent).join(file);
        until_async(&format!("{}", path.display()), async || {
            fs::metadata(&path).is_ok_and(|found| found.len() > 0).then_some(())
        })
        .await;
    }

    /// A file as the remote has it on a branch; None if it has not.
    pub fn on_remote(&self, branch: &str, file: &str) -> Option<String> {
        let output =
            output_of(Command::new("git").args(["show", &format!("{branch}:{file}")]).current_dir(self.remote()));
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// The log's lines of this event.
    pub fn logged(&self, event: &str) -> Vec<Value> {
        events(&fs::read_to_string(self.folder.path().join("log")).unwrap(), event)
    }

    /// SIGTERM, and waits for the end.
    pub fn evict(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.exit_code()
    }

    pub fn signal(&self, signal: Signal) {
        send(i32::try_from(self.process.id()).unwrap(), signal);
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        until("the end of the town", || self.process.try_wait().unwrap()).code()
    }

    /// The processes that work below this stage's folder.
    pub fn leftovers(&self) -> Vec<String> {
        let root = self.folder.path().to_string_lossy().into_owned();
        let own = i32::try_from(self.process.id()).unwrap();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let works_here = |pid: &i32| {
            *pid != own
                && crate::support::lives(*pid)
                && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.to_string_lossy().starts_with(&root))
        };
        let line = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        pids.filter(works_here).map(line).collect()
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let root = self.folder.path().to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            if cwd.starts_with(&root) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end();
    }
}

/// The lines of this event.
fn events(log: &str, event: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event).collect()
}

/// A bare repository with one commit on `main`.
fn make_remote(folder: &Path) {
    let script = "git init --quiet --bare --initial-branch=main remote.git && \
        git clone --quiet remote.git seed 2>/dev/null && cd seed && git checkout --quiet -b main && \
        echo hello > README && git add -A && \
        git -c user.name=s -c user.email=s@example.com commit --quiet -m first && git push --quiet origin main && \
        cd .. && rm -rf seed";
    let output = output_of(Command::new("sh").args(["-c", script]).current_dir(folder));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn output_of(command: &mut Command) -> std::process::Output {
    command.output().unwrap()
}
