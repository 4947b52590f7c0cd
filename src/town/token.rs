//! The tokens of a town (spec/town.md 2.1), all HS256 under one secret. A *container token* speaks for the whole container of one town; an
//! *agent token*, the older form, for one agent of one rig; a *status ticket* opens the status stream, and nothing else; an *agent ticket* one socket to
//! one agent: it holds the ticket that the container gave, which is good once.

use crate::auth;
use crate::auth::JwtError;
use object_core::time::HOUR;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::TownId;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

/// How long a container token lives. None is accepted longer than this after it was issued, whatever it says itself.
pub const CONTAINER_TOKEN_MS: i64 = 8 * HOUR;
/// How long a ticket lives.
pub const TICKET_MS: i64 = 60 * SECOND;

const AGENT_SOCKET: &str = "agent-socket";
const CONTAINER: &str = "container";
const STATUS: &str = "status";

/// What a token says of itself; its scope tells the kinds apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Claims {
    pub town_id: String,
    pub user_id: String,
    pub scope: String,
    pub rig_id: Option<String>,
    pub agent_id: Option<String>,
    /// The container's own ticket.
    pub ticket: Option<String>,
    pub iat: Option<i64>,
    pub exp: Option<i64>,
}

impl Claims {
    /// Whether it is a container token: nothing of one may be missing.
    pub fn is_container(&self) -> bool {
        self.scope == CONTAINER && !self.town_id.is_empty() && self.iat.is_some() && self.exp.is_some()
    }

    /// Whether it is an agent token.
    pub fn is_agent(&self) -> bool {
        self.scope.is_empty() && !self.town_id.is_empty() && self.rig_id.is_some() && self.agent_id.is_some()
    }

    /// Whether it is a ticket for the status stream.
    pub fn is_status_ticket(&self) -> bool {
        self.scope == STATUS && self.exp.is_some()
    }

    /// The container's ticket, if this is one for a socket to `agent`.
    pub fn agent_ticket(self, agent: &AgentId) -> Option<String> {
        let fits = self.scope == AGENT_SOCKET && self.exp.is_some() && self.agent_id.as_deref() == Some(agent.as_str());
        self.ticket.filter(|_| fits)
    }

    /// Whether it was issued too long ago.
    pub fn is_too_old(&self, now_ms: i64) -> bool {
        let issued_at = self.iat.unwrap_or_default().saturating_mul(SECOND);
        now_ms.saturating_sub(issued_at) > CONTAINER_TOKEN_MS
    }
}

/// Reads a token; without a time, an expired one too. The error is the text of the 401.
pub fn read(token: &str, secret: &str, now_ms: Option<i64>) -> Result<Claims, &'static str> {
    auth::verify(token, secret, now_ms.unwrap_or(i64::MIN)).map_err(|error| match error {
        JwtError::Expired => "Token expired",
        JwtError::Signature => "Invalid token signature",
        JwtError::Invalid => "Token validation failed",
    })
}

/// A container token for the container of `town`, which works for `user`.
pub fn container(town: &TownId, user: &str, secret: &str, now_ms: i64) -> Option<String> {
    sign(CONTAINER, town, json!({"userId": user}), CONTAINER_TOKEN_MS, secret, now_ms)
}

/// A ticket for the status stream of `town`.
pub fn status_ticket(town: &TownId, user: &str, secret: &str, now_ms: i64) -> Option<String> {
    sign(STATUS, town, json!({"userId": user}), TICKET_MS, secret, now_ms)
}

/// A ticket for a socket to `agent`, around the one that its container gave.
pub fn agent_ticket(town: &TownId, agent: &AgentId, ticket: &str, secret: &str, now_ms: i64) -> Option<String> {
    sign(AGENT_SOCKET, town, json!({"agentId": agent.as_str(), "ticket": ticket}), TICKET_MS, secret, now_ms)
}

fn sign(scope: &str, town: &TownId, mut claims: Value, life_ms: i64, secret: &str, now_ms: i64) -> Option<String> {
    let claimed = claims.as_object_mut()?;
    claimed.insert("townId".into(), town.as_str().into());
    claimed.insert("scope".into(), scope.into());
    claimed.insert("iat".into(), (now_ms / SECOND).into());
    claimed.insert("exp".into(), (now_ms.saturating_add(life_ms) / SECOND).into());
    auth::sign(&claims, secret)
}
