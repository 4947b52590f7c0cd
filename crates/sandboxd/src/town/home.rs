//! The calls to the town object, and which of them are still to be made.

use super::ack::Acknowledgements;
use super::config::Config;
use crate::log;
use protocol::id::AgentId;
use protocol::id::InstanceId;
use protocol::id::RigId;
use protocol::town::AGENT_ID_HEADER;
use protocol::town::Eviction;
use protocol::town::Heartbeat;
use protocol::town::HeartbeatAnswer;
use protocol::town::RIG_ID_HEADER;
use protocol::town::Ready;
use protocol::town::Success;
use reqwest::Client;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::redirect::Policy;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::watch;

const ROLE: &str = "town";
/// An answer of the town object to one of these calls is a few hundred bytes.
const ANSWER_LIMIT_BYTES: usize = 64 * 1024;

/// An agent that starts or runs, and the repository it works on.
pub type RunningAgent = (RigId, AgentId);

/// The town object, as seen from its container.
#[derive(Debug)]
pub struct Home {
    config: Config,
    client: Client,
    instance: InstanceId,
    acks: Mutex<Acknowledgements>,
}

impl Home {
    /// A client of the town's API for the process that is `instance`.
    pub fn new(config: Config, instance: InstanceId) -> Result<Self, reqwest::Error> {
        // A redirect would carry the container's token to whoever it names.
        let client = Client::builder().redirect(Policy::none()).build()?;
        Ok(Self { config, client, instance, acks: Mutex::default() })
    }

    /// Made once per process.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Whether this process was told to end.
    pub fn is_draining(&self) -> bool {
        self.acks().is_draining()
    }

    /// Marks that this process was told to end.
    pub fn drain(&self) {
        self.acks().drain();
    }

    /// Reports the eviction. A town that cannot be reached must not keep the container from ending.
    pub async fn report_eviction(&self) {
        let eviction = Eviction { container_instance_id: Some(self.instance.clone()) };
        let request = self.post("container-eviction", self.config.limits.eviction_timeout_ms).json(&eviction);
        match send(request).await {
            // The answer holds the nonce for the replacement: it is not this container's to use.
            Ok(_) => log::info(ROLE, "eviction_reported", self.ids()),
            Err(error) => log::warn(ROLE, "eviction_not_reported", self.ids_and(&error)),
        }
    }

    /// Sends a heartbeat for each agent, one after the other, and acknowledges a nonce that comes back.
    pub async fn beat(self: &Arc<Self>, agents: &[RunningAgent]) {
        for (rig, agent) in agents {
            match self.beat_once(rig, agent).await {
                Ok(Some(nonce)) => self.acknowledge(nonce).await,
                Ok(None) => {}
                Err(error) => {
                    let fields = json!({ "town": self.config.town, "agent": agent, "error": error });
                    log::warn(ROLE, "heartbeat_failed", fields);
                }
            }
        }
    }

    /// Beats for whatever agents there are, for ever.
    pub async fn keep_beating(self: Arc<Self>, agents: watch::Receiver<Vec<RunningAgent>>) {
        loop {
            tokio::time::sleep(self.config.limits.heartbeat_interval()).await;
            let running = agents.borrow().clone();
            self.beat(&running).await;
        }
    }

    /// Tells the town that this container is the replacement, unless it has been told or this container is not.
    pub async fn acknowledge(self: &Arc<Self>, nonce: String) {
        if !self.acks().offer(&nonce) {
            return;
        }
        let ready = Ready { nonce: nonce.clone(), container_instance_id: Some(self.instance.clone()) };
        let request = self.post("container-ready", self.config.limits.ready_timeout_ms).json(&ready);
        let outcome = send(request).await;
        self.acks().settle(&nonce, outcome.is_ok());
        match outcome {
            Ok(_) => log::info(ROLE, "ready_acknowledged", self.ids()),
            Err(error) => log::warn(ROLE, "ready_not_acknowledged", self.ids_and(&error)),
        }
    }

    async fn beat_once(&self, rig: &RigId, agent: &AgentId) -> Result<Option<String>, String> {
        let heartbeat = Heartbeat {
            container_instance_id: Some(self.instance.clone()),
            draining: self.is_draining(),
            ..Heartbeat::default()
        };
        let request = self
            .post(&format!("rigs/{rig}/agents/{agent}/heartbeat"), self.config.limits.heartbeat_timeout_ms)
            .header(AGENT_ID_HEADER, agent.as_str())
            .header(RIG_ID_HEADER, rig.as_str())
            .json(&heartbeat);
        let answer = body(send(request).await?).await?;
        let answer: Success<HeartbeatAnswer> = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        Ok(answer.data.drain_nonce)
    }

    fn post(&self, path: &str, timeout_ms: u64) -> RequestBuilder {
        self.client
            .post(format!("{}/api/towns/{}/{path}", self.config.api_url, self.config.town))
            .bearer_auth(self.config.container_token.expose())
            .timeout(Duration::from_millis(timeout_ms))
    }

    fn acks(&self) -> MutexGuard<'_, Acknowledgements> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ids(&self) -> serde_json::Value {
        json!({ "town": self.config.town, "instance": self.instance })
    }

    fn ids_and(&self, error: &str) -> serde_json::Value {
        json!({ "town": self.config.town, "instance": self.instance, "error": error })
    }
}

/// A 2xx answer, or why there is none.
async fn send(request: RequestBuilder) -> Result<Response, String> {
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(answer),
        Ok(answer) => Err(format!("answered {}", answer.status())),
        Err(error) => Err(error.without_url().to_string()),
    }
}

async fn body(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_LIMIT_BYTES {
            return Err(format!("the answer is longer than {ANSWER_LIMIT_BYTES} bytes"));
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Json;
    use axum::Router;
    use axum::extract::Path;
    use axum::extract::State;
    use axum::http::HeaderMap;
    use axum::routing::post;
    use serde_json::Value;
    use tokio::net::TcpListener;

    /// A town object that drains if it has a nonce, and keeps the calls it got.
    #[derive(Debug, Default)]
    struct TownObject {
        nonce: Mutex<Option<&'static str>>,
        calls: Mutex<Vec<(String, Value)>>,
    }

    impl TownObject {
        fn drain(&self, nonce: &'static str) {
            *self.nonce.lock().unwrap() = Some(nonce);
        }

        /// The nonces that were acknowledged.
        fn acknowledged(&self) -> Vec<Value> {
            let calls = self.calls.lock().unwrap();
            let ready = calls.iter().filter(|(path, _)| path == "container-ready");
            ready.map(|(_, body)| body["nonce"].clone()).collect()
        }
    }

    async fn called(
        State(town): State<Arc<TownObject>>,
        Path(path): Path<String>,
        headers: HeaderMap,
        Json(body): Json<Value>,
    ) -> Json<Value> {
        assert_eq!(headers["authorization"], "Bearer container-token");
        let mut data = json!({});
        if path.ends_with("/heartbeat") {
            assert_eq!(headers["x-gastown-agent-id"], "a1");
            data = json!({ "heartbeat": true });
            if let Some(nonce) = *town.nonce.lock().unwrap() {
                data["drainNonce"] = nonce.into();
            }
        }
        town.calls.lock().unwrap().push((path, body));
        Json(json!({ "success": true, "data": data }))
    }

    async fn town_and_home() -> (Arc<TownObject>, Arc<Home>) {
        let object = Arc::new(TownObject::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api_url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/api/towns/t1/{*path}", post(called)).with_state(object.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let variables = [
            ("GASTOWN_TOWN_ID", "t1".to_owned()),
            ("GASTOWN_API_URL", api_url),
            ("GASTOWN_CONTAINER_TOKEN", "container-token".to_owned()),
            ("HOLDFAST_SANDBOX_TOKEN", "sandbox-token".to_owned()),
        ];
        let config = Config::read(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()));
        (object, Arc::new(Home::new(config.unwrap(), InstanceId::parse("i1").unwrap()).unwrap()))
    }

    fn agent() -> RunningAgent {
        (RigId::parse("r1").unwrap(), AgentId::parse("a1").unwrap())
    }

    #[tokio::test]
    async fn a_nonce_in_heartbeats_is_acknowledged_once_and_that_of_a_later_drain_again() {
        let (object, home) = town_and_home().await;
        home.beat(&[agent()]).await;
        assert!(object.acknowledged().is_empty(), "the town does not drain");

        object.drain("n1");
        home.beat(&[agent()]).await;
        home.beat(&[agent()]).await;
        assert_eq!(object.acknowledged(), ["n1"]);

        object.drain("n2");
        home.beat(&[agent()]).await;
        home.beat(&[agent()]).await;
        assert_eq!(object.acknowledged(), ["n1", "n2"]);

        let calls = object.calls.lock().unwrap();
        let (path, beat) = &calls[0];
        assert_eq!(path, "rigs/r1/agents/a1/heartbeat");
        assert_eq!(beat["containerInstanceId"], "i1");
    }

    #[tokio::test]
    async fn a_container_that_was_told_to_end_acknowledges_nothing() {
        let (object, home) = town_and_home().await;
        object.drain("n1");
        home.drain();
        home.beat(&[agent()]).await;
        home.acknowledge("n1".to_owned()).await;
        assert!(object.acknowledged().is_empty());
    }

    #[tokio::test]
    async fn without_agents_nothing_is_sent() {
        let (object, home) = town_and_home().await;
        home.beat(&[]).await;
        assert!(object.calls.lock().unwrap().is_empty());
    }
}
