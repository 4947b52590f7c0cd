//! The calls about one agent, and the registry of live ones (spec/town.md 2.3, 2.4, 6.8, 6.10).

use super::Home;
use super::HomeError;
use super::read;
use super::send;
use crate::clock::now_ms;
use crate::town::git::Merge;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::AGENT_ID_HEADER;
use protocol::town::RIG_ID_HEADER;
use protocol::town::Success;
use protocol::town::agent::Agent;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Nudge;
use protocol::town::container::EvictionContext;
use protocol::town::container::RegistryEntry;
use reqwest::Method;
use reqwest::RequestBuilder;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;
use std::time::Duration;

/// How an agent ended, for the town (spec/town.md 6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// As it should.
    Completed(&'static str),
    /// Not.
    Failed(&'static str),
}

/// An agent, and where it belongs: what every call about it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its rig.
    pub rig: RigId,
    /// Itself.
    pub agent: AgentId,
}

impl Home {
    /// Tells that an agent's run on a bead has ended.
    pub async fn report_completed(
        &self,
        place: &Place,
        bead: Option<&BeadId>,
        completion: Completion,
    ) -> Result<(), HomeError> {
        let (status, reason) = match completion {
            Completion::Completed(reason) => ("completed", reason),
            Completion::Failed(reason) => ("failed", reason),
        };
        let body = json!({ "status": status, "reason": reason, "agentId": place.agent, "bead_id": bead });
        self.tell(place, "completed", &body).await
    }

    /// Tells that the mayor waits for its user.
    pub async fn report_waiting(&self, place: &Place) -> Result<(), HomeError> {
        self.tell(place, "waiting", &json!({ "agentId": place.agent, "firedAt": now_ms() })).await
    }

    /// What was left for an agent, the most urgent first.
    pub async fn pending_nudges(&self, place: &Place) -> Result<Vec<Nudge>, HomeError> {
        let answer = self.send_renewing(|| self.about(Method::GET, place, "pending-nudges")).await?;
        Ok(read::<Success<Vec<Nudge>>>(answer).await?.data)
    }

    /// Tells that a nudge was delivered.
    pub async fn nudge_delivered(&self, place: &Place, nudge: &str) -> Result<(), HomeError> {
        self.tell(place, "nudge-delivered", &json!({ "nudge_id": nudge })).await
    }

    /// Tells where the work of an evicted agent is.
    pub async fn tell_receipt(&self, place: &Place, receipt: &EvictionContext) -> Result<(), HomeError> {
        let bound = Duration::from_millis(self.config.limits.receipt_timeout_ms);
        self.insist(bound, || self.about(Method::POST, place, "eviction-context").json(receipt)).await
    }

    /// Tells of one event of an agent.
    pub async fn tell_event(
        &self,
        place: &Place,
        name: &str,
        data: &RawValue,
        timeout: Duration,
    ) -> Result<(), HomeError> {
        #[derive(serde::Serialize)]
        struct Told<'a> {
            agent_id: &'a AgentId,
            event_type: &'a str,
            data: &'a RawValue,
        }
        let body = Told { agent_id: &place.agent, event_type: name, data };
        let call = self.post(&format!("rigs/{}/agent-events", place.rig), self.config.limits.town_call_timeout_ms);
        send(signed(call, place).timeout(timeout).json(&body)).await.map(drop)
    }

    /// Tells what came of a merge, at the address that the town named if it is one of its own.
    pub async fn tell_merge(
        &self,
        rig: &RigId,
        entry: &BeadId,
        agent: &AgentId,
        callback: Option<&str>,
        merge: &Merge,
    ) -> Result<(), HomeError> {
        let mut body = serde_json::to_value(merge).unwrap_or_default();
        if let Some(fields) = body.as_object_mut() {
            fields.insert("entry_id".to_owned(), entry.as_str().into());
        }
        let own = format!("{}/api/towns/{}/", self.config.api_url, self.config.town);
        // The token goes with the call: it goes nowhere else.
        let path = callback.and_then(|url| url.strip_prefix(&own)).map(str::to_owned);
        let path = path.unwrap_or_else(|| format!("rigs/{rig}/review-queue/{entry}/complete"));
        let place = Place { rig: rig.clone(), agent: agent.clone() };
        let limit_ms = self.config.limits.town_call_timeout_ms;
        let call = || signed(self.post(&path, limit_ms), &place).json(&body);
        self.insist(Duration::from_millis(limit_ms), call).await
    }

    /// The bead that an agent works on, as the town has it now.
    pub async fn work_of(&self, place: &Place) -> Result<Option<BeadId>, HomeError> {
        let path = format!("rigs/{}/agents/{}", place.rig, place.agent);
        let call = || signed(self.call(Method::GET, &path, self.config.limits.town_call_timeout_ms), place);
        let agent = read::<Success<Agent>>(self.send_renewing(call).await?).await?.data;
        Ok(agent.current_hook_bead_id.filter(|_| agent.status == AgentStatus::Working))
    }

    /// The agents that ran when the last container ended without a drain.
    pub async fn registry(&self) -> Result<Vec<RegistryEntry>, HomeError> {
        let call = || self.call(Method::GET, "container-registry", self.config.limits.town_call_timeout_ms);
        let entries = read::<Success<Vec<Value>>>(self.send_renewing(call).await?).await?.data;
        Ok(entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
    }

    /// Tells which agents are live.
    pub async fn set_registry(&self, entries: &[RegistryEntry]) -> Result<(), HomeError> {
        let limit_ms = self.config.limits.town_call_timeout_ms;
        self.insist(Duration::from_millis(limit_ms), || self.post("container-registry", limit_ms).json(entries)).await
    }

    async fn tell(&self, place: &Place, verb: &str, body: &Value) -> Result<(), HomeError> {
        let bound = Duration::from_millis(self.config.limits.town_call_timeout_ms);
        self.insist(bound, || self.about(Method::POST, place, verb).json(body)).await
    }

    pub(super) fn about(&self, method: Method, place: &Place, verb: &str) -> RequestBuilder {
        let path = format!("rigs/{}/agents/{}/{verb}", place.rig, place.agent);
        signed(self.call(method, &path, self.config.limits.town_call_timeout_ms), place)
    }
}

/// Names the agent on whose behalf the container calls.
pub(super) fn signed(call: RequestBuilder, place: &Place) -> RequestBuilder {
    call.header(AGENT_ID_HEADER, place.agent.as_str()).header(RIG_ID_HEADER, place.rig.as_str())
}
