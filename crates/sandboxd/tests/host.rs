//! `sandboxd host` with real containers: each is `sandboxd init` with `sandboxd town` below it.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use nix::sys::signal::Signal;
use reqwest::Client;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use support::Recorder;
use support::children;
use support::lives;
use support::sandboxd;
use support::send;
use support::until;
use support::until_async;

struct Host {
    process: Child,
    url: String,
    root: PathBuf,
    client: Client,
}

impl Host {
    fn start(root: &Path) -> Self {
        let mut process = sandboxd(["host", "--listen", "127.0.0.1:0", "--exit-with-stdin", "--root"])
            .arg(root)
            .env("HOLDFAST_HOST_TOKEN", "host-token")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["event"], "ready");
        let url = ready["url"].as_str().unwrap().to_owned();
        Self { process, url, root: root.canonicalize().unwrap(), client: Client::new() }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth("host-token").json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn start_town(&self, name: &str, home: &Recorder, on_exit: Option<&Recorder>) -> (u16, Value) {
        let mut start = json!({ "role": "town", "env": {
            "GASTOWN_TOWN_ID": name, "GASTOWN_API_URL": home.url,
            "GASTOWN_CONTAINER_TOKEN": "container-token", "HOLDFAST_SANDBOX_TOKEN": "sandbox-token",
        }});
        if let Some(hook) = on_exit {
            start["onExit"] = json!({ "url": format!("{}/ended/{name}", hook.url), "token": "exit-token" });
        }
        self.call(Method::PUT, &format!("/containers/{name}"), start).await
    }

    /// Starts a container and waits until it answers on its port.
    async fn ready_town(&self, name: &str, home: &Recorder, on_exit: Option<&Recorder>) -> Running {
        let (status, container) = self.start_town(name, home, on_exit).await;
        assert_eq!(status, 201, "{container}");
        assert_eq!((&container["name"], &container["running"]), (&name.into(), &true.into()));
        until_async("the container's health", async || {
            let answer = self.through(Method::GET, name, "/health").send().await.unwrap();
            (answer.status() == 200).then_some(())
        })
        .await;
        let instance = container["instance"].as_str().unwrap().to_owned();
        let folder = self.root.join(name).join(&instance);
        let variable = format!("HOLDFAST_ROOT={}", folder.display());
        let is_init = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|given| given == variable.as_bytes())
        };
        let init = children(self.pid()).into_iter().find(is_init).unwrap();
        let child = until("the child of init", || children(init).first().copied());
        Running { instance, folder, init, child }
    }

    /// A call to a container's port.
    fn through(&self, method: Method, name: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/containers/{name}/ports/8080{path}", self.url);
        self.client.request(method, url).header("x-holdfast-host-token", "host-token")
    }

    async fn running(&self, name: &str) -> bool {
        self.call(Method::GET, &format!("/containers/{name}"), json!({})).await.1["running"] == true
    }

    async fn signal(&self, name: &str, signal: &str) -> u16 {
        self.call(Method::POST, &format!("/containers/{name}/signal"), json!({ "signal": signal })).await.0
    }

    fn ended(&mut self) -> Option<i32> {
        until("the end of the host", || self.process.try_wait().unwrap()).code()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its end takes the containers along.
        drop(self.process.stdin.take());
        until("the end of the host", || self.process.try_wait().unwrap());
    }
}

/// How often a container told its town that it is evicted.
fn evictions(home: &Recorder, town: &str) -> usize {
    let path = format!("/api/towns/{town}/container-eviction");
    home.calls().iter().filter(|call| call.path == path).count()
}

struct Running {
    instance: String,
    folder: PathBuf,
    init: i32,
    child: i32,
}

#[tokio::test]
async fn a_container_is_started_asked_signalled_and_deleted() {
    let root = tempfile::tempdir().unwrap();
    let (host, home) = (Host::start(root.path()), Recorder::start(&[]));
    assert_eq!(host.call(Method::GET, "/containers/t1", json!({})).await.0, 404);
    assert_eq!(host.signal("t1", "SIGTERM").await, 404);
    let town = host.ready_town("t1", &home, None).await;

    let (status, again) = host.start_town("t1", &home, None).await;
    assert_eq!((status, &again["instance"]), (200, &town.instance.clone().into()), "it runs already");

    // The container's own bearer passes through.
    let refused = host.through(Method::POST, "t1", "/agents/start").send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let asked = host.through(Method::POST, "t1", "/agents/start").bearer_auth("sandbox-token").send().await.unwrap();
    assert_eq!(asked.status(), 400, "it has no body");

    assert_eq!(host.signal("t1", "SIGHUP").await, 400);
    assert_eq!(host.signal("t1", "SIGTERM").await, 202);
    until_async("the end", async || (!host.running("t1").await).then_some(())).await;
    assert_eq!(evictions(&home, "t1"), 1);
    assert_eq!(host.signal("t1", "SIGTERM").await, 409);
    assert_eq!(host.through(Method::GET, "t1", "/health").send().await.unwrap().status(), 502);

    assert_eq!(host.call(Method::DELETE, "/containers/t1", json!({})).await.0, 200);
    assert!(!town.folder.exists());
    assert_eq!(host.call(Method::GET, "/containers/t1", json!({})).await.0, 404);
    assert_eq!(host.call(Method::DELETE, "/containers/t1", json!({})).await.0, 200, "nothing left to do");
}

#[tokio::test]
async fn every_start_finds_an_empty_disk() {
    let root = tempfile::tempdir().unwrap();
    let (host, home) = (Host::start(root.path()), Recorder::start(&[]));
    let first = host.ready_town("t1", &home, None).await;
    std::fs::create_dir_all(first.folder.join("workspace/repo")).unwrap();
    // The child's death is not the container's: the disk stays.
    send(first.child, Signal::SIGKILL);
    until("another child", || children(first.init).first().copied().filter(|child| *child != first.child));
    assert!(first.folder.join("workspace/repo").exists());
    assert!(host.running("t1").await);

    host.signal("t1", "SIGKILL").await;
    until_async("the end", async || (!host.running("t1").await).then_some(())).await;
    let second = host.ready_town("t1", &home, None).await;
    assert_ne!(second.instance, first.instance);
    assert!(!first.folder.exists());
    assert_eq!(std::fs::read_dir(&second.folder).unwrap().count(), 0);
    let log = std::fs::read_to_string(second.folder.with_extension("log")).unwrap();
    assert!(log.contains(r#""event":"ready""#), "{log}");
}

#[tokio::test]
async fn a_container_whose_init_is_killed_leaves_no_process_and_its_owner_is_told() {
    let root = tempfile::tempdir().unwrap();
    let (host, home) = (Host::start(root.path()), Recorder::start(&[]));
    let owner = Recorder::start(&[500]);
    let town = host.ready_town("t1", &home, Some(&owner)).await;
    let other = host.ready_town("t2", &home, None).await;

    send(town.init, Signal::SIGKILL);
    let calls = owner.wait_for(2).await;
    assert!(!lives(town.child), "told after everything was killed");
    for call in &calls {
        assert_eq!(call.path, "/ended/t1");
        assert_eq!(call.authorization, "Bearer exit-token");
        assert_eq!(call.body, json!({ "instance": town.instance, "exitCode": null }));
    }
    assert!(!host.running("t1").await);
    assert_eq!(evictions(&home, "t1"), 0, "nobody could report an eviction");
    assert!(host.running("t2").await && lives(other.child), "another container is left alone");
}

#[tokio::test]
async fn the_exit_code_of_a_container_that_ended_well_is_told() {
    let root = tempfile::tempdir().unwrap();
    let (host, home) = (Host::start(root.path()), Recorder::start(&[]));
    let owner = Recorder::start(&[]);
    let town = host.ready_town("t1", &home, Some(&owner)).await;
    host.signal("t1", "SIGTERM").await;
    let calls = owner.wait_for(1).await;
    assert_eq!(calls[0].body, json!({ "instance": town.instance, "exitCode": 0 }));
}

#[tokio::test]
async fn a_deleted_container_is_killed_whole_and_its_owner_is_told() {
    let root = tempfile::tempdir().unwrap();
    let (host, home) = (Host::start(root.path()), Recorder::start(&[]));
    let owner = Recorder::start(&[]);
    let town = host.ready_town("t1", &home, Some(&owner)).await;
    assert_eq!(host.call(Method::DELETE, "/containers/t1", json!({})).await.0, 200);
    assert!(!lives(town.init) && !lives(town.child) && !town.folder.exists());
    assert_eq!(owner.wait_for(1).await[0].body["instance"], town.instance.as_str());
    assert_eq!(evictions(&home, "t1"), 0);
}

#[tokio::test]
async fn every_call_needs_the_token() {
    let root = tempfile::tempdir().unwrap();
    let (host, home) = (Host::start(root.path()), Recorder::start(&[]));
    host.ready_town("t1", &home, None).await;
    for (method, path) in [
        (Method::GET, "/containers/t1"),
        (Method::PUT, "/containers/t1"),
        (Method::DELETE, "/containers/t1"),
        (Method::POST, "/containers/t1/signal"),
        (Method::GET, "/containers/t1/ports/8080/health"),
    ] {
        let request = host.client.request(method.clone(), format!("{}{path}", host.url));
        // The container's bearer is not the host's, and the host's is not asked for in its place.
        let answer = request.bearer_auth("sandbox-token").send().await.unwrap();
        assert_eq!(answer.status(), 401, "{method} {path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["error"], "UNAUTHORIZED");
    }
    assert!(host.running("t1").await);
    assert_eq!(host.client.get(format!("{}/health", host.url)).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn bad_input_is_named() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::start(root.path());
    let start = json!({ "role": "town", "env": {} });
    for (method, path, body, status, word) in [
        (Method::PUT, "/containers/T1", start.clone(), 400, "name"),
        (Method::PUT, "/containers/..%2Fx", start.clone(), 400, "name"),
        (Method::PUT, "/containers/t1", json!({ "role": "host", "env": {} }), 400, "role"),
        (Method::PUT, "/containers/t1", json!({ "role": "town" }), 400, "env"),
        (
            Method::PUT,
            "/containers/t1",
            json!({ "role": "town", "env": { "HOLDFAST_ROOT": "/" } }),
            400,
            "HOLDFAST_ROOT",
        ),
        (Method::POST, "/containers/t1", start, 405, "method"),
        (Method::GET, "/nothing", json!({}), 404, "path"),
    ] {
        let (answered, error) = host.call(method, path, body).await;
        assert_eq!(answered, status, "{path}: {error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{path}: {error}");
    }
    let port = format!("{}/containers/t1/ports/22/", host.url);
    let refused = host.client.get(port).header("x-holdfast-host-token", "host-token").send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert_eq!(std::fs::read_dir(&host.root).unwrap().count(), 1, "nothing was made but the host's mark");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_is_sent() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::start(root.path());
    let mut stream = TcpStream::connect(host.url.strip_prefix("http://").unwrap()).unwrap();
    let head =
        "PUT /containers/t1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer host-token\r\nContent-Length: 2000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(answer.contains("413"), "{answer}");
}

#[tokio::test]
async fn the_end_of_the_host_ends_its_containers() {
    for by_signal in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let (mut host, home) = (Host::start(root.path()), Recorder::start(&[]));
        let town = host.ready_town("t1", &home, None).await;
        if by_signal {
            send(host.pid(), Signal::SIGTERM);
        } else {
            drop(host.process.stdin.take());
        }
        assert_eq!(host.ended(), Some(0));
        assert!(!lives(town.init) && !lives(town.child));
        assert_eq!(evictions(&home, "t1"), 1, "gently: the eviction was reported");
    }
}

#[tokio::test]
async fn a_container_that_does_not_end_by_itself_is_killed_with_the_host() {
    let root = tempfile::tempdir().unwrap();
    let (mut host, home) = (Host::start(root.path()), Recorder::start(&[100]));
    let town = host.ready_town("t1", &home, None).await;
    send(host.pid(), Signal::SIGTERM);
    assert_eq!(host.ended(), Some(0));
    assert!(!lives(town.init) && !lives(town.child));
}

#[tokio::test]
async fn what_a_killed_host_left_is_killed_by_the_next_one() {
    let root = tempfile::tempdir().unwrap();
    let (mut host, home) = (Host::start(root.path()), Recorder::start(&[]));
    let town = host.ready_town("t1", &home, None).await;
    send(host.pid(), Signal::SIGKILL);
    host.ended();
    assert!(lives(town.init) && lives(town.child));

    let host = Host::start(root.path());
    assert!(!lives(town.init) && !lives(town.child) && !town.folder.exists());
    assert_eq!(host.call(Method::GET, "/containers/t1", json!({})).await.0, 404);
}

#[test]
fn a_host_without_a_token_or_with_a_folder_of_others_does_not_start() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("mine"), "x").unwrap();
    for (token, word) in [("", "HOLDFAST_HOST_TOKEN"), ("t", "--root")] {
        let output = sandboxd(["host", "--listen", "127.0.0.1:0", "--root"])
            .arg(root.path())
            .env("HOLDFAST_HOST_TOKEN", token)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let line: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert!(line["error"].as_str().unwrap().contains(word), "{line}");
    }
    assert!(root.path().join("mine").exists());
}
