//! Performs what a town owes, and says what became of it.
//!
//! Each try takes less time than the pause before the next, so no two tries of one debt overlap. A debt that is replaced while it is being performed has a
//! new performer: only the newest one's outcome is reported, or an old success would settle what is still owed.
//!
//! | Module | What it owns |
//! | --- | --- |
//! | `container` | requests to the town's container |
//! | `observe` | what is asked of a container that runs, and never starts one |
//! | `settings` | the container's environment and configuration |
//! | `start` | tokens and environment of an agent |

mod container;
mod observe;
mod settings;
mod start;

use super::object::Shell;
use crate::agent;
use crate::container::town::CONTAINER;
use crate::forge;
use crate::log;
use crate::object::within;
use crate::store;
use container::Reply;
use protocol::id::AgentId;
use protocol::id::RigId;
use protocol::town::config::Rig;
use protocol::town::config::TownConfig;
use protocol::town::container::StartAgent;
use serde_json::json;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use town_core::limits::Limits;
use town_core::message::Answer;
use town_core::message::Call;
use town_core::message::Input;
use town_core::message::call::TownCall;
use town_core::message::effect::Effect;
use town_core::message::effect::Outcome;
use worker::Error;
use worker::Method;

/// Who performs what: the number of the newest performer of each key.
#[derive(Default)]
pub struct InFlight {
    last: Cell<u64>,
    newest: RefCell<BTreeMap<String, u64>>,
}

impl InFlight {
    fn enter(&self, key: &str) -> u64 {
        let number = self.last.get().wrapping_add(1);
        self.last.set(number);
        self.newest.borrow_mut().insert(key.to_owned(), number);
        number
    }

    /// Whether it is still the newest.
    fn leave(&self, key: &str, number: u64) -> bool {
        let mut newest = self.newest.borrow_mut();
        let is_newest = newest.get(key) == Some(&number);
        if is_newest {
            newest.remove(key);
        }
        is_newest
    }
}

/// One try at a debt.
pub struct Try {
    /// From 1.
    pub attempt: i64,
    /// When it came to be owed.
    pub since: i64,
    /// The body of a start.
    pub start: Option<Box<StartAgent>>,
}

impl Shell {
    /// Performs an effect beside everything else. Should this object die, the row that it came from brings it back.
    pub fn perform(self: &Rc<Self>, key: String, this: Try, effect: Effect) {
        let (number, attempt) = (self.in_flight.enter(&key), this.attempt);
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            let limit = timeout_ms(&shell.config.limits.town, &effect);
            let outcome = match within(limit, shell.attempt(&effect, this)).await {
                Some(Ok(outcome)) => outcome,
                Some(Err(error)) => Some(Outcome::Unknown { reason: error.to_string() }),
                None => Some(Outcome::Unknown { reason: format!("no answer within {limit} ms") }),
            };
            if attempt > 1 || !matches!(outcome, Some(Outcome::Done | Outcome::NotRunning | Outcome::PullRequest(_))) {
                let (town, tries) = (shell.name(), attempt.to_string());
                let words = reason(outcome.as_ref());
                log::info("town_effect", &[("town", &town), ("key", &key), ("attempt", &tries), ("outcome", words)]);
            }
            if shell.in_flight.leave(&key, number)
                && let Some(outcome) = outcome
            {
                shell.report(&Input::Outcome { key, outcome });
            }
        });
    }

    /// One try. None: it did not happen, and is to be tried again when it is due.
    async fn attempt(self: &Rc<Self>, effect: &Effect, this: Try) -> worker::Result<Option<Outcome>> {
        Ok(Some(match effect {
            Effect::EndContainer {} => {
                container::send(&self.env, &self.name(), Method::Delete, CONTAINER, None).await?.outcome()
            }
            Effect::Forget { agent } => {
                let town = self.name();
                agent::forget(&self.env, &town, agent).await?;
                store::remove(&self.env, &store::agent_snapshot(&town, agent.as_str())).await?;
                Outcome::Done
            }
            Effect::Poll { url, .. } => forge::poll(&self.config, &self.town_config()?, url).await,
            Effect::RefreshToken {} => self.refresh_token().await?,
            Effect::RemoveSnapshots {} => {
                store::remove_all(&self.env, &store::agent_snapshots(&self.name())).await?;
                Outcome::Done
            }
            Effect::SetupRig { rig } => self.set_up_rig(rig).await?,
            Effect::Start { .. } => return self.start(this).await,
            Effect::Stop { agent, .. } => {
                let reply = self.post(&format!("/agents/{agent}/stop"), "{}").await?;
                // Nobody there is what was wanted.
                if reply.status == 404 { Outcome::Done } else { reply.outcome() }
            }
            Effect::SyncConfig {} => self.sync_config().await?,
            Effect::Tell { agent, text, .. } => self.tell(agent, text).await?,
        }))
    }

    async fn tell(&self, agent: &AgentId, text: &str) -> worker::Result<Outcome> {
        let body = json!({ "prompt": text }).to_string();
        let reply = self.post(&format!("/agents/{agent}/message"), &body).await?;
        Ok(match reply.status {
            404 => Outcome::NotRunning,
            500 if reply.text().contains("not running") => Outcome::NotRunning,
            _ => reply.outcome(),
        })
    }

    async fn set_up_rig(self: &Rc<Self>, rig: &RigId) -> worker::Result<Outcome> {
        let Answer::Rig { rig } = self.ask(Call::Town(TownCall::Rig { rig: rig.clone() }))? else {
            // It was removed: there is nothing to set up.
            return Ok(Outcome::Done);
        };
        let Rig { id, git_url, default_branch, .. } = rig;
        let config = self.town_config()?;
        let body = json!({ "rigId": id, "gitUrl": git_url, "defaultBranch": default_branch,
            "envVars": settings::git_tokens(&config), "platformIntegrationId": config.git_auth.platform_integration_id });
        Ok(self.post("/repos/setup", &body.to_string()).await?.outcome())
    }

    /// To a container that runs. It is not started for it.
    async fn post(&self, path: &str, body: &str) -> worker::Result<Reply> {
        container::send(&self.env, &self.name(), Method::Post, path, Some(body)).await
    }

    pub(super) fn town_config(self: &Rc<Self>) -> worker::Result<TownConfig> {
        match self.ask(Call::Town(TownCall::Config {}))? {
            Answer::Config { config } => Ok(*config),
            _ => Err(Error::RustError("a town without a configuration".into())),
        }
    }
}

fn reason(outcome: Option<&Outcome>) -> &str {
    match outcome {
        None => "the container was not reached",
        Some(Outcome::Done) => "done",
        Some(Outcome::Draining) => "the container drains",
        Some(Outcome::Failed { reason } | Outcome::Unknown { reason }) => reason,
        Some(Outcome::Full) => "the container is full",
        Some(Outcome::NotRunning) => "nobody is there",
        Some(Outcome::PullRequest(_)) => "seen",
    }
}

/// Nine tenths of the pause before the next try.
fn timeout_ms(limits: &Limits, effect: &Effect) -> i64 {
    let retry = match effect {
        Effect::Start { .. } => limits.start_retry_ms,
        _ => limits.effect_retry_ms,
    };
    retry.saturating_sub(retry.checked_div(10).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_ends_before_the_next_begins() {
        let limits = Limits::default();
        let start = Effect::Start { agent: AgentId::parse("a").unwrap(), bead: None, prompt: None };
        assert_eq!((timeout_ms(&limits, &start), timeout_ms(&limits, &Effect::SyncConfig {})), (67_500, 27_000));
        assert!(timeout_ms(&limits, &start) < limits.start_retry_ms);
    }

    #[test]
    fn only_the_newest_performer_of_a_debt_may_settle_it() {
        let in_flight = InFlight::default();
        let (first, second, other) = (in_flight.enter("config"), in_flight.enter("config"), in_flight.enter("token"));
        assert!(!in_flight.leave("config", first));
        assert!(in_flight.leave("config", second) && in_flight.leave("token", other));
        assert!(in_flight.newest.borrow().is_empty());
    }
}
