//! The calls to the town object, and which of them are still to be made.
//!
//! Here are those of the container itself: its eviction, its heart, its readiness. Those about one agent are in [`calls`] and [`snapshots`];
//! how often each is made, in [`tries`].

mod calls;
mod snapshots;
mod tool;
mod tries;

pub use calls::Completion;
pub use calls::Place;
pub use tries::Pauses;

use super::config::Config;
use super::live::Live;
use crate::log;
use protocol::id::AgentId;
use protocol::id::InstanceId;
use protocol::id::RigId;
use protocol::time::iso8601;
use protocol::town::AGENT_ID_HEADER;
use protocol::town::Eviction;
use protocol::town::Heartbeat;
use protocol::town::HeartbeatAnswer;
use protocol::town::RIG_ID_HEADER;
use protocol::town::Ready;
use protocol::town::Success;
use reqwest::Client;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use sandbox_core::ack::Acknowledgements;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::oneshot;

const ROLE: &str = "town";
/// An answer of the town object to one of these calls is a few hundred bytes; a registry holds some prompts.
const ANSWER_LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// An agent that starts or runs, for its heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The repository that it works on.
    pub rig: RigId,
    /// Which.
    pub agent: AgentId,
    /// The newest event of it: its name, and when it was.
    pub last_event: Option<(String, i64)>,
    /// The tools that it is using.
    pub active_tools: Vec<String>,
}

/// Why the town could not be told or asked. Holds no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HomeError {
    /// It refused.
    #[error("answered {0}")]
    Answer(StatusCode),
    /// Nothing that could be understood came, or nothing in time.
    #[error("{0}")]
    Unreachable(String),
}

/// The town object, as seen from its container.
#[derive(Debug)]
pub struct Home {
    config: Config,
    client: Client,
    live: Arc<Live>,
    instance: InstanceId,
    acks: Mutex<Acknowledgements>,
    /// Held while the token is exchanged.
    renewing: tokio::sync::Mutex<()>,
}

impl Home {
    /// A client of the town's API for the process that is `instance`.
    pub fn new(config: Config, live: Arc<Live>, instance: InstanceId) -> Result<Self, reqwest::Error> {
        // A redirect would carry the container's token to whoever it names.
        let client = Client::builder().redirect(Policy::none()).build()?;
        Ok(Self { config, client, live, instance, acks: Mutex::default(), renewing: tokio::sync::Mutex::default() })
    }

    /// Made once per process.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// What the town said since the start of the process.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Whether this process was told to end.
    pub fn is_draining(&self) -> bool {
        self.acks().is_draining()
    }

    /// Marks that this process was told to end.
    pub fn drain(&self) {
        self.acks().drain();
    }

    /// Reports the eviction, until the town takes it: before that, it sends work into a container that ends. `tried` is told of the first try; a town
    /// that cannot be reached must not keep the container from ending.
    pub async fn report_eviction(&self, tried: oneshot::Sender<()>) {
        let eviction = Eviction { container_instance_id: Some(self.instance.clone()) };
        let call = || self.post("container-eviction", self.config.limits.eviction_timeout_ms).json(&eviction);
        let (mut tried, mut pauses) = (Some(tried), Pauses::new());
        loop {
            let outcome = self.send_renewing(call).await;
            if let Some(tried) = tried.take() {
                let _ = tried.send(());
            }
            match outcome {
                // The answer holds the nonce for the replacement: it is not this container's to use.
                Ok(_) => return log::info(ROLE, "eviction_reported", self.ids()),
                Err(error) => log::warn(ROLE, "eviction_not_reported", self.ids_and(&error)),
            }
            tokio::time::sleep(pauses.take()).await;
        }
    }

    /// Sends a heartbeat for each agent, one after the other, and acknowledges a nonce that comes back.
    pub async fn beat(self: &Arc<Self>, agents: &[Beat]) {
        for beat in agents {
            match self.beat_once(beat).await {
                Ok(Some(nonce)) => self.acknowledge(nonce).await,
                Ok(None) => {}
                Err(error) => {
                    let fields = json!({ "town": self.config.town, "agent": beat.agent, "error": error.to_string() });
                    log::warn(ROLE, "heartbeat_failed", fields);
                }
            }
        }
    }

    /// Beats for whatever agents there are, for ever.
    pub async fn keep_beating(self: Arc<Self>, agents: impl Fn() -> Vec<Beat>) {
        loop {
            tokio::time::sleep(self.config.limits.heartbeat_interval()).await;
            self.beat(&agents()).await;
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

    async fn beat_once(&self, beat: &Beat) -> Result<Option<String>, HomeError> {
        let Beat { rig, agent, last_event, active_tools } = beat;
        let heartbeat = Heartbeat {
            container_instance_id: Some(self.instance.clone()),
            draining: self.is_draining(),
            last_event_type: last_event.as_ref().map(|(name, _)| name.clone()),
            last_event_at: last_event.as_ref().map(|(_, at_ms)| iso8601(*at_ms)),
            active_tools: active_tools.clone(),
        };
        let call = || {
            self.post(&format!("rigs/{rig}/agents/{agent}/heartbeat"), self.config.limits.heartbeat_timeout_ms)
                .header(AGENT_ID_HEADER, agent.as_str())
                .header(RIG_ID_HEADER, rig.as_str())
                .json(&heartbeat)
        };
        Ok(read::<Success<HeartbeatAnswer>>(self.send_renewing(call).await?).await?.data.drain_nonce)
    }

    fn post(&self, path: &str, timeout_ms: u64) -> RequestBuilder {
        self.call(Method::POST, path, timeout_ms)
    }

    fn call(&self, method: Method, path: &str, timeout_ms: u64) -> RequestBuilder {
        self.client
            .request(method, format!("{}/api/towns/{}/{path}", self.config.api_url, self.config.town))
            .bearer_auth(self.live.token().expose())
            .timeout(Duration::from_millis(timeout_ms))
    }

    fn acks(&self) -> MutexGuard<'_, Acknowledgements> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ids(&self) -> serde_json::Value {
        json!({ "town": self.config.town, "instance": self.instance })
    }

    fn ids_and(&self, error: &HomeError) -> serde_json::Value {
        json!({ "town": self.config.town, "instance": self.instance, "error": error.to_string() })
    }
}

/// A 2xx answer, or why there is none.
async fn send(request: RequestBuilder) -> Result<Response, HomeError> {
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(answer),
        Ok(answer) => Err(HomeError::Answer(answer.status())),
        Err(error) => Err(unreachable(error)),
    }
}

/// What a 2xx answer says.
async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, HomeError> {
    read(send(request).await?).await
}

async fn read<T: DeserializeOwned>(mut answer: Response) -> Result<T, HomeError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_LIMIT_BYTES {
            return Err(HomeError::Unreachable(format!("the answer is longer than {ANSWER_LIMIT_BYTES} bytes")));
        }
    }
    serde_json::from_slice(&body).map_err(|error| HomeError::Unreachable(error.to_string()))
}

fn unreachable(error: reqwest::Error) -> HomeError {
    HomeError::Unreachable(error.without_url().to_string())
}

#[cfg(test)]
mod tests;
