//! An agent's start: what the ledger does not know, its tokens and environment, and what the container says (spec/town.md 6.3).

use super::super::object::Shell;
use super::Try;
use super::container;
use super::container::Reply;
use super::settings;
use crate::http;
use crate::log;
use crate::object::now_ms;
use crate::town::token;
use object_core::time::SECOND;
use protocol::id::TownId;
use protocol::time::parse_iso8601;
use protocol::town::config::TownConfig;
use protocol::town::container::ContainerAgentStatus;
use protocol::town::container::StartAgent;
use serde::Deserialize;
use serde_json::json;
use std::rc::Rc;
use town_core::message::effect::Outcome;
use worker::Method;

/// Without it nothing can speak for a town.
const NO_SECRET: &str = "GASTOWN_JWT_SECRET is not configured";

/// How far the clock of a container may be behind this one's.
const CLOCKS_MS: i64 = 5 * SECOND;

/// Of the answer to `GET /agents/{agent}/status`, what counts here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    status: ContainerAgentStatus,
    started_at: String,
}

impl Shell {
    /// Starts an agent, and the container for it. None: the container was not asked, did not answer, or is not up yet; the next try asks it first.
    pub(super) async fn start(self: &Rc<Self>, this: Try) -> worker::Result<Option<Outcome>> {
        let body = match self.prepare(this).await {
            Ok(Ok(body)) => body,
            // It was not asked, so this try started nothing.
            Ok(Err(Outcome::Unknown { reason })) => return Ok(self.try_again(&reason)),
            Ok(Err(outcome)) => return Ok(Some(outcome)),
            Err(error) => return Ok(self.try_again(&error.to_string())),
        };
        let path = "/agents/start?wake=1";
        match container::send(&self.env, &self.name(), Method::Post, path, Some(&body)).await {
            Ok(reply) => Ok(started(&reply)),
            Err(error) => Ok(self.try_again(&error.to_string())),
        }
    }

    fn try_again(&self, reason: &str) -> Option<Outcome> {
        log::info("town_start_again", &[("town", &self.name()), ("reason", reason)]);
        None
    }

    /// All that comes before the container is asked: the body, or the outcome where it need not be asked.
    async fn prepare(self: &Rc<Self>, this: Try) -> worker::Result<Result<String, Outcome>> {
        let Some(mut start) = this.start else {
            return Ok(Err(Outcome::Failed { reason: "nothing to start".into() }));
        };
        if this.attempt > 1 && self.has_started(this.since, &start).await? {
            return Ok(Err(Outcome::Done));
        }
        let settings = self.town_config()?;
        let Some(token) = self.container_token(&settings) else {
            return Ok(Err(Outcome::Failed { reason: NO_SECRET.into() }));
        };
        start.env_vars.extend(settings::environment(&settings));
        start.env_vars.insert("GASTOWN_CONTAINER_TOKEN".into(), token);
        // Before its first boot, a container must know whose it is.
        let kept = self.push_settings(&settings).await?;
        if kept.status != 200 {
            return Ok(Err(kept.outcome()));
        }
        Ok(Ok(serde_json::to_string(&start)?))
    }

    /// Whether an earlier try started it after all: a second start would end the agent and begin anew. One that runs since before its start came to
    /// be owed has another bead.
    async fn has_started(&self, owed_since: i64, start: &StartAgent) -> worker::Result<bool> {
        let path = format!("/agents/{}/status", start.agent_id);
        let reply = container::send(&self.env, &self.name(), Method::Get, &path, None).await?;
        Ok(reply.status == 200 && runs_since(&reply.body, owed_since))
    }

    /// What the whole container speaks with; None without a secret.
    fn container_token(&self, settings: &TownConfig) -> Option<String> {
        let town = TownId::parse(&self.name()).ok()?;
        token::container(&town, settings::owner(settings), self.config.gastown_jwt_secret.as_deref()?, now_ms())
    }

    /// A fresh token for a container that runs.
    pub(super) async fn refresh_token(self: &Rc<Self>) -> worker::Result<Outcome> {
        let token = self.container_token(&self.town_config()?);
        let Some(token) = token else { return Ok(Outcome::Failed { reason: NO_SECRET.into() }) };
        Ok(self.post("/refresh-token", &json!({ "token": token }).to_string()).await?.outcome())
    }
}

/// Whether the agent runs, and not since long before `at`.
fn runs_since(body: &[u8], at: i64) -> bool {
    http::parse::<Told>(body).is_ok_and(|told| {
        matches!(told.status, ContainerAgentStatus::Running | ContainerAgentStatus::Starting)
            && parse_iso8601(&told.started_at).is_some_and(|started| started >= at.saturating_sub(CLOCKS_MS))
    })
}

fn started(reply: &Reply) -> Option<Outcome> {
    if reply.is_unreached() {
        return None;
    }
    let text = reply.text();
    Some(match reply.status {
        500 if text.contains("already running") => Outcome::Done,
        503 if text.contains("draining") => Outcome::Draining,
        503 if text.contains("is full") => Outcome::Full,
        _ => reply.outcome(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, error: &str) -> Option<Outcome> {
        started(&Reply { status, body: serde_json::to_vec(&serde_json::json!({ "error": error })).unwrap() })
    }

    #[test]
    fn an_agent_that_an_earlier_try_started_is_known_by_its_age() {
        let body = |status, at| format!(r#"{{"status":"{status}","startedAt":"{at}","agentId":"a"}}"#).into_bytes();
        let owed_since = 2_000 + CLOCKS_MS;
        assert!(runs_since(&body("running", "1970-01-01T00:00:02.000Z"), owed_since));
        assert!(!runs_since(&body("running", "1970-01-01T00:00:01.999Z"), owed_since));
        assert!(!runs_since(&body("exited", "1970-01-01T00:00:02.000Z"), owed_since));
        assert!(!runs_since(b"{}", 0));
    }

    #[test]
    fn a_container_that_ends_or_is_full_takes_nobody_and_one_that_has_the_agent_has_started_it() {
        assert_eq!(told(201, ""), Some(Outcome::Done));
        assert_eq!(told(500, "Agent a is already running"), Some(Outcome::Done));
        assert_eq!(told(503, "Container is draining, cannot start new agents"), Some(Outcome::Draining));
        assert_eq!(told(503, "Container is full: 14 agent servers run already"), Some(Outcome::Full));
        assert_eq!(told(500, "clone failed"), Some(Outcome::Failed { reason: "clone failed".into() }));
        assert_eq!(told(410, "NOT_RUNNING"), Some(Outcome::NotRunning));
    }
}
