//! What is known of an agent from outside: for its status, its heartbeat, and the drain.

use crate::town::git::Worktree;
use protocol::id::KiloSessionId;
use protocol::time::iso8601;
use protocol::town::agent::Role;
use protocol::town::container::StartAgent;
use sandbox_core::agent::AgentEvent;
use sandbox_core::drain::Kind;
use sandbox_core::drain::Standing;
use sandbox_core::managed::Managed;
use sandbox_core::managed::Status;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;

/// The role of an agent that decides what to do with stuck ones.
const TRIAGE: &str = "triage";
/// Messages that are counted one by one.
const MESSAGES_MAX: usize = 10_000;
/// Tools at the same time: more than an agent ever has.
const TOOLS_MAX: usize = 64;

/// What an agent is for, as far as a drain cares.
pub fn kind(role: &Role) -> Kind {
    match role {
        Role::Mayor => Kind::Mayor,
        Role::Other(name) if name == TRIAGE => Kind::Triage,
        Role::Other(_) | Role::Polecat | Role::Refinery => Kind::Worker,
    }
}

/// An agent at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Its machine says what it is doing.
    pub machine: Managed,
    /// Where its server listens.
    pub port: Option<u16>,
    /// Its session.
    pub session: Option<KiloSessionId>,
    /// Where it works.
    pub worktree: Option<Arc<Worktree>>,
    /// It was ended, and something that it started still runs.
    pub is_loose: bool,
    /// Its agent server was given back, with all that it started.
    pub is_released: bool,
    /// When it was started.
    pub started_at_ms: i64,
    /// When it was last heard.
    pub last_activity_ms: i64,
    /// What was heard then.
    pub last_event: Option<String>,
    tools: BTreeMap<String, String>,
    messages: HashSet<String>,
}

#[derive(Deserialize)]
struct OfPart {
    part: Part,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(rename = "callID")]
    call_id: Option<String>,
    tool: Option<String>,
    state: Option<State>,
}

#[derive(Deserialize)]
struct State {
    status: String,
}

#[derive(Deserialize)]
struct OfMessage {
    info: Message,
}

#[derive(Deserialize)]
struct Message {
    id: String,
}

impl View {
    /// Of an agent that starts now.
    pub fn new(machine: Managed, now_ms: i64) -> Self {
        Self {
            machine,
            port: None,
            session: None,
            worktree: None,
            is_loose: false,
            is_released: false,
            started_at_ms: now_ms,
            last_activity_ms: now_ms,
            last_event: None,
            tools: BTreeMap::new(),
            messages: HashSet::new(),
        }
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.machine.status()
    }

    /// What it is doing, as far as a drain cares.
    pub fn standing(&self) -> Standing {
        match self.status() {
            Status::Starting => Standing::Starting,
            // It is being ended, and may still write.
            Status::Stopping => Standing::Working,
            Status::Exited | Status::Failed if self.is_loose => Standing::Loose,
            Status::Exited | Status::Failed => Standing::Ended,
            Status::Running if self.machine.is_at_rest() => Standing::AtRest,
            Status::Running if self.machine.is_idle() => Standing::Idle,
            Status::Running => Standing::Working,
        }
    }

    /// The tools that it is using.
    pub fn active_tools(&self) -> Vec<String> {
        self.tools.values().cloned().collect()
    }

    /// It was heard.
    pub fn hear(&mut self, event: &AgentEvent<'_>, now_ms: i64) {
        self.last_activity_ms = now_ms;
        self.last_event = Some(event.kind.to_string());
        let properties = event.properties.unwrap_or("{}");
        match event.kind.as_ref() {
            "message.part.updated" => {
                if let Ok(OfPart { part }) = serde_json::from_str(properties) {
                    self.hear_part(part);
                }
            }
            "message.updated" if self.messages.len() < MESSAGES_MAX => {
                if let Ok(OfMessage { info }) = serde_json::from_str(properties) {
                    self.messages.insert(info.id);
                }
            }
            "session.idle" => self.tools.clear(),
            _ => {}
        }
    }

    fn hear_part(&mut self, part: Part) {
        let (Some(call), Some(tool), Some(state)) = (part.call_id, part.tool, part.state) else { return };
        if state.status == "running" && self.tools.len() < TOOLS_MAX {
            self.tools.insert(call, tool);
        } else if state.status != "running" {
            self.tools.remove(&call);
        }
    }

    /// The answer of `GET /agents/{id}/status`.
    pub fn status_answer(&self, request: &StartAgent) -> Value {
        json!({
            "agentId": request.agent_id,
            "status": self.status().as_str(),
            "serverPort": self.port,
            "sessionId": self.session,
            "startedAt": iso8601(self.started_at_ms),
            "lastActivityAt": iso8601(self.last_activity_ms),
            "activeTools": self.active_tools(),
            "messageCount": self.messages.len(),
            "exitReason": self.machine.exit_reason(),
        })
    }

    /// The agent as `POST /agents/start` answers it: without tokens, and without the town's address.
    pub fn agent_answer(&self, request: &StartAgent) -> Value {
        let mut answer = self.status_answer(request);
        if let Some(fields) = answer.as_object_mut() {
            for (name, value) in [
                ("rigId", json!(request.rig_id)),
                ("townId", json!(request.town_id)),
                ("role", json!(request.role)),
                ("name", json!(request.name)),
                ("model", json!(request.model)),
                ("workdir", json!(self.worktree.as_ref().map(|worktree| worktree.path()))),
                ("lastEventType", json!(self.last_event)),
            ] {
                fields.insert(name.to_owned(), value);
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox_core::managed::Waits;

    fn heard(events: &[&str]) -> View {
        let waits = Waits { idle_ms: 1, draining_idle_ms: 1 };
        let mut view = View::new(Managed::new(false, waits, false), 0);
        for event in events {
            view.hear(&AgentEvent::parse(event).unwrap(), 7);
        }
        view
    }

    #[test]
    fn tools_are_active_while_they_run_and_messages_are_counted_once() {
        let part = |status: &str| {
            format!(
                r#"{{"type":"message.part.updated","properties":{{"part":{{"id":"p","callID":"c","tool":"bash","state":{{"status":"{status}"}}}}}}}}"#
            )
        };
        let message = r#"{"type":"message.updated","properties":{"info":{"id":"msg_1"}}}"#;
        let view = heard(&[message, message, &part("running")]);
        assert_eq!(view.active_tools(), ["bash"]);
        assert_eq!((view.messages.len(), view.last_activity_ms), (1, 7));
        assert!(heard(&[&part("running"), &part("completed")]).active_tools().is_empty());
        let idle = r#"{"type":"session.idle","properties":{"sessionID":"s"}}"#;
        assert!(heard(&[&part("running"), idle]).active_tools().is_empty());
    }
}
