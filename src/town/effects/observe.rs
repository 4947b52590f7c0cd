//! What is asked of a container that runs. Nobody starts one to be asked.

use super::super::object::Shell;
use super::container;
use crate::container::town::OBSERVE;
use crate::container::town::Seen;
use crate::http;
use crate::log;
use crate::object::ask;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::town::DRAIN_NONCE_HEADER;
use protocol::town::TOWN_ID_HEADER;
use protocol::town::TownHealth;
use protocol::town::container::ContainerAgentStatus;
use std::rc::Rc;
use town_core::message::Input;
use town_core::message::container::ContainerInput;
use worker::Request;
use worker::RequestInit;

/// How long a container may take to answer a health check (spec/town.md 5.5).
const HEALTH_MS: i64 = 5 * SECOND;

impl Shell {
    /// Asks what these agents do, beside everything else, and reports those that do not run.
    pub fn observe(self: &Rc<Self>, agents: Vec<AgentId>) {
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            match shell.look(&agents).await {
                Ok(seen) => {
                    for Seen { agent, status, exit_reason } in seen.into_iter().filter(tells) {
                        shell.report(&Input::Observed { agent, status, exit_reason });
                    }
                }
                Err(error) => {
                    log::info("town_observe_failed", &[("town", &shell.name()), ("error", &error.to_string())]);
                }
            }
        });
    }

    /// One request for all: between objects each one costs. No container has no agent.
    async fn look(&self, agents: &[AgentId]) -> worker::Result<Vec<Seen>> {
        let body = serde_json::to_string(agents)?;
        let reply = container::send(&self.env, &self.name(), worker::Method::Post, OBSERVE, Some(&body)).await?;
        if reply.status == 410 {
            let gone = |agent: &AgentId| Seen {
                agent: agent.clone(),
                status: ContainerAgentStatus::NotFound,
                exit_reason: None,
            };
            return Ok(agents.iter().map(gone).collect());
        }
        if reply.status != 200 {
            return Err(worker::Error::RustError(reply.text()));
        }
        Ok(http::parse(&reply.body)?)
    }

    /// Offers the nonce beside everything else. What the container says is an input; if it says nothing, the core will offer again.
    pub fn hand_off(self: &Rc<Self>, nonce: String) {
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            match shell.health(&nonce).await {
                Ok(Some(health)) => {
                    let (instance, draining) = (health.container_instance_id, health.draining);
                    shell.report(&Input::Container(ContainerInput::Health { instance, draining }));
                }
                Ok(None) => {}
                Err(error) => {
                    log::info("drain_handoff_failed", &[("town", &shell.name()), ("error", &error.to_string())]);
                }
            }
        });
    }

    /// A health check of the container; None if it does not run.
    async fn health(&self, nonce: &str) -> worker::Result<Option<TownHealth>> {
        let name = self.name();
        let init = RequestInit::new();
        init.headers.set(DRAIN_NONCE_HEADER, nonce)?;
        init.headers.set(TOWN_ID_HEADER, &name)?;
        let request = Request::new_with_init("http://container/health", &init)?;
        let mut response = ask(&self.env, "TOWN_CONTAINER", &name, request, HEALTH_MS).await?;
        let body = response.bytes().await?;
        match response.status_code() {
            200 => Ok(Some(http::parse(&body)?)),
            410 => Ok(None),
            status => Err(worker::Error::RustError(format!("the container answered {status}"))),
        }
    }
}

/// Whether the rules do anything with it: an agent that runs, starts, or of which nothing is known changes nothing, and would cost a row each tick.
fn tells(seen: &Seen) -> bool {
    matches!(seen.status, ContainerAgentStatus::Exited | ContainerAgentStatus::Failed | ContainerAgentStatus::NotFound)
}
