//! `sandboxd town` as a process: its routes, its signals, and what it tells the town.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use nix::sys::signal::Signal;
use reqwest::Client;
use reqwest::Method;
use reqwest::RequestBuilder;
use serde_json::Value;
use std::process::Child;
use std::time::Duration;
use support::Recorder;
use support::sandboxd;
use support::send;
use support::until;
use support::until_async;

struct Town {
    process: Child,
    url: String,
    client: Client,
}

impl Town {
    async fn start(home: &Recorder, limits: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = sandboxd(["town"])
            .env("GASTOWN_TOWN_ID", "t1")
            .env("GASTOWN_API_URL", &home.url)
            .env("GASTOWN_CONTAINER_TOKEN", "container-token")
            .env("HOLDFAST_SANDBOX_TOKEN", "sandbox-token")
            .env("HOLDFAST_LISTEN", free.to_string())
            .env("HOLDFAST_LIMITS", limits)
            .spawn()
            .unwrap();
        let town = Self { process, url: format!("http://{free}"), client: Client::new() };
        until_async("the town to be ready", async || town.call(Method::GET, "/health").send().await.ok()).await;
        town
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Status and body of an authorised call.
    async fn answer(&self, method: Method, path: &str) -> (u16, Value) {
        let answer = self.call(method, path).bearer_auth("sandbox-token").send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn health(&self) -> Value {
        self.call(Method::GET, "/health").send().await.unwrap().json().await.unwrap()
    }

    fn send(&self, signal: Signal) {
        send(i32::try_from(self.process.id()).unwrap(), signal);
    }

    fn exit_code(&mut self) -> Option<i32> {
        until("the end of the town", || self.process.try_wait().unwrap()).code()
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        let _ = self.process.kill();
        until("the end of the town", || self.process.try_wait().unwrap());
    }
}

#[tokio::test]
async fn health_says_what_runs() {
    let town = Town::start(&Recorder::start(&[]), "{}").await;
    let health = town.health().await;
    assert_eq!(health["status"], "ok");
    assert_eq!((&health["agents"], &health["servers"]), (&0.into(), &0.into()));
    assert_eq!(health["draining"], false);
    assert!(health["uptime"].is_u64());
    assert!(health["startedAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(health["containerInstanceId"], town.health().await["containerInstanceId"]);
}

#[tokio::test]
async fn sigterm_reports_the_eviction_once_and_ends_well() {
    let home = Recorder::start(&[]);
    let mut town = Town::start(&home, "{}").await;
    let instance = town.health().await["containerInstanceId"].clone();
    town.send(Signal::SIGTERM);
    town.send(Signal::SIGTERM);
    assert_eq!(town.exit_code(), Some(0));

    let calls = home.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].path, "/api/towns/t1/container-eviction");
    assert_eq!(calls[0].authorization, "Bearer container-token");
    assert_eq!(calls[0].body["containerInstanceId"], instance);
}

#[tokio::test]
async fn a_town_that_does_not_answer_delays_the_end_but_does_not_prevent_it() {
    let home = Recorder::start(&[100]);
    let mut town = Town::start(&home, r#"{"eviction_timeout_ms":300}"#).await;
    town.send(Signal::SIGTERM);
    assert_eq!(town.exit_code(), Some(0));
    assert_eq!(home.calls().len(), 1);
}

#[tokio::test]
async fn while_it_drains_no_agent_is_started_and_no_nonce_acknowledged() {
    let home = Recorder::start(&[100]);
    let town = Town::start(&home, "{}").await;
    assert_eq!(town.answer(Method::POST, "/agents/start").await.0, 501);

    town.send(Signal::SIGTERM);
    home.wait_for(1).await;
    let (status, body) = town.answer(Method::POST, "/agents/start").await;
    assert_eq!((status, &body["error"]), (503, &"Container is draining, cannot start new agents".into()));
    let health = town.call(Method::GET, "/health").header("X-Drain-Nonce", "n1").header("X-Town-Id", "t1");
    assert_eq!(health.send().await.unwrap().json::<Value>().await.unwrap()["draining"], true);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(home.calls().len(), 1, "only the eviction");
}

#[tokio::test]
async fn sigint_ends_it_without_a_report() {
    let home = Recorder::start(&[]);
    let mut town = Town::start(&home, "{}").await;
    town.send(Signal::SIGINT);
    assert_eq!(town.exit_code(), Some(0));
    assert!(home.calls().is_empty());
}

#[tokio::test]
async fn a_nonce_in_the_headers_of_health_is_acknowledged_once_and_again_if_the_town_refused_it() {
    let home = Recorder::start(&[503]);
    let town = Town::start(&home, "{}").await;
    let ask = async |nonce: &str, id: &str| {
        let health = town.call(Method::GET, "/health").header("X-Drain-Nonce", nonce).header("X-Town-Id", id);
        assert_eq!(health.send().await.unwrap().status(), 200);
    };
    ask("n1", "another-town").await;
    ask("n1", "t1").await;
    home.wait_for(1).await;
    // The refusal reaches the container a moment after the call reached the town.
    tokio::time::sleep(Duration::from_millis(100)).await;
    ask("n1", "t1").await;
    home.wait_for(2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    ask("n1", "t1").await;
    ask("n2", "t1").await;
    let calls = home.wait_for(3).await;
    let nonces: Vec<&Value> = calls.iter().map(|call| &call.body["nonce"]).collect();
    assert_eq!(nonces, ["n1", "n1", "n2"]);
    assert!(calls.iter().all(|call| call.path == "/api/towns/t1/container-ready"));
    assert!(calls.iter().all(|call| call.authorization == "Bearer container-token"));
}

#[tokio::test]
async fn routes_are_guarded_and_what_is_not_built_says_so() {
    let town = Town::start(&Recorder::start(&[]), "{}").await;
    for (method, path) in [(Method::POST, "/agents/start"), (Method::GET, "/agents/a1/status"), (Method::GET, "/no")] {
        let answer = town.call(method, path).bearer_auth("wrong").send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
    }
    assert_eq!(town.answer(Method::GET, "/agents/a1/status").await.0, 501);
    assert_eq!(town.answer(Method::POST, "/git/merge").await.0, 501);
    assert_eq!(town.answer(Method::DELETE, "/git/merge").await.0, 405);
    assert_eq!(town.answer(Method::GET, "/no").await, (404, serde_json::json!({ "error": "Not found" })));
}

#[tokio::test]
async fn without_its_variables_it_does_not_start() {
    let output = sandboxd(["town"]).stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(line["error"].as_str().unwrap().contains("GASTOWN_TOWN_ID"));
}
