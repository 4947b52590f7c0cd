//! The town API: what `sandboxd town` and the town object say to each other (spec/town.md 2.2, 5).
//!
//! | Method, path | Body | `data` of the answer |
//! | --- | --- | --- |
//! | `POST /api/towns/{town}/container-eviction` | [`Eviction`], optional | [`EvictionAnswer`] |
//! | `POST /api/towns/{town}/container-ready` | [`Ready`] | [`ReadyAnswer`] |
//! | `GET /api/towns/{town}/drain-status` | – | [`DrainStatus`] |
//! | `POST /api/towns/{town}/rigs/{rig}/agents/{agent}/heartbeat` | [`Heartbeat`], optional | [`HeartbeatAnswer`] |
//!
//! Every call carries a container JWT as its bearer. Answers travel in [`Success`] and [`Failure`].
//!
//! A container names its *instance*, an id made once per process. That is how the object tells a dying container from its
//! replacement. A container that has seen SIGTERM ignores every nonce, whatever way it came.
//!
//! The objects of the ledger, as they travel and as they are kept, are in modules by subject.

pub mod agent;
pub mod bead;
pub mod config;
pub mod container;
pub mod convoy;
pub mod header;
pub mod mayor;
pub mod status;
mod words;

use crate::id::InstanceId;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

/// On calls of a container: the agent it speaks for. The path decides where it names one.
pub const AGENT_ID_HEADER: &str = "x-gastown-agent-id";
/// On `GET /health` of a container, with [`TOWN_ID_HEADER`]: the nonce to acknowledge.
pub const DRAIN_NONCE_HEADER: &str = "x-drain-nonce";
/// On calls of a container: the rig it speaks for. The path decides where it names one.
pub const RIG_ID_HEADER: &str = "x-gastown-rig-id";
/// On every request to a town's container: the town's configuration, JSON in ASCII.
pub const TOWN_CONFIG_HEADER: &str = "x-town-config";
/// On `GET /health` of a container: the town that asks.
pub const TOWN_ID_HEADER: &str = "x-town-id";

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success<T> {
    /// Always true.
    pub success: bool,
    /// What was asked for.
    pub data: T,
}

impl<T> Success<T> {
    /// An answer.
    pub fn new(data: T) -> Self {
        Self { success: true, data }
    }
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Always false.
    pub success: bool,
    /// What is wrong.
    pub error: String,
}

impl Failure {
    /// An error answer.
    pub fn new(error: impl Into<String>) -> Self {
        Self { success: false, error: error.into() }
    }
}

/// A container was told to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Eviction {
    /// Which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_instance_id: Option<InstanceId>,
}

impl Eviction {
    /// Reads a body that may be missing: an eviction is heard in any case.
    pub fn read(body: &[u8]) -> Self {
        Self { container_instance_id: instance(&object(body)) }
    }
}

/// An eviction was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvictionAnswer {
    /// Always true.
    pub acknowledged: bool,
    /// For the record only: the caller is the container that dies, and must not use it.
    pub drain_nonce: String,
}

/// A container says that it replaces the evicted one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// What the town handed it.
    pub nonce: String,
    /// Which one it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_instance_id: Option<InstanceId>,
}

impl Ready {
    /// Reads a body; the error is for the caller.
    pub fn read(body: &[u8]) -> Result<Self, &'static str> {
        let body = object(body);
        match text(&body, "nonce") {
            Some(nonce) if !nonce.is_empty() => Ok(Self { nonce, container_instance_id: instance(&body) }),
            _ => Err("Missing required field: nonce"),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyAnswer {
    /// Whether the town is not draining any more; false if the nonce is not the current one.
    pub cleared: bool,
}

/// Whether a town drains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// Whether it does.
    pub draining: bool,
    /// What ends it; null if it does not.
    pub drain_nonce: Option<String>,
}

/// An agent lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// The newest event of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_type: Option<String>,
    /// When it was, in ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<String>,
    /// The tools that it is using.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active_tools: Vec<String>,
    /// The container it lives in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_instance_id: Option<InstanceId>,
    /// Whether that container has seen SIGTERM.
    #[serde(default)]
    pub draining: bool,
}

impl Heartbeat {
    /// Texts that are longer, and tools beyond this many, are left out.
    pub const MAX_TEXT_CHARS: usize = 256;
    /// See [`Self::MAX_TEXT_CHARS`].
    pub const MAX_TOOLS: usize = 64;

    /// Reads a body that may be missing. What is not as it should be is left out: the heart beats in any case.
    pub fn read(body: &[u8]) -> Self {
        let body = object(body);
        let short = |text: &String| text.chars().count() <= Self::MAX_TEXT_CHARS;
        let tools = body.get("activeTools").and_then(Value::as_array);
        Self {
            last_event_type: text(&body, "lastEventType").filter(short),
            last_event_at: text(&body, "lastEventAt").filter(short),
            active_tools: tools
                .into_iter()
                .flatten()
                .filter_map(|tool| tool.as_str().map(str::to_owned))
                .filter(short)
                .take(Self::MAX_TOOLS)
                .collect(),
            container_instance_id: instance(&body),
            draining: body.get("draining").and_then(Value::as_bool).unwrap_or_default(),
        }
    }
}

/// The town heard it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatAnswer {
    /// Always true.
    pub heartbeat: bool,
    /// Only while the town drains, and never to the instance that was evicted: to be sent back with [`Ready`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_nonce: Option<String>,
}

/// The answer of a town container's `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TownHealth {
    /// Always `ok`.
    pub status: String,
    /// How many agents run.
    pub agents: u64,
    /// How many agent servers run.
    pub servers: u64,
    /// Milliseconds since the process started.
    pub uptime: u64,
    /// Made once per process.
    pub container_instance_id: InstanceId,
    /// Whether SIGTERM was seen.
    pub draining: bool,
    /// When the process started, in ISO 8601.
    pub started_at: String,
}

fn object(body: &[u8]) -> Value {
    std::str::from_utf8(body).ok().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn text(body: &Value, field: &str) -> Option<String> {
    body.get(field)?.as_str().map(str::to_owned)
}

fn instance(body: &Value) -> Option<InstanceId> {
    InstanceId::parse(body.get("containerInstanceId")?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json<T: Serialize>(value: &T) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn the_answers_are_pinned() {
        let nonce = || "n".to_owned();
        let eviction = EvictionAnswer { acknowledged: true, drain_nonce: nonce() };
        assert_eq!(json(&Success::new(eviction)), r#"{"success":true,"data":{"acknowledged":true,"drainNonce":"n"}}"#);
        assert_eq!(json(&ReadyAnswer { cleared: false }), r#"{"cleared":false}"#);
        let idle = DrainStatus { draining: false, drain_nonce: None };
        assert_eq!(json(&idle), r#"{"draining":false,"drainNonce":null}"#);
        let quiet = HeartbeatAnswer { heartbeat: true, drain_nonce: None };
        assert_eq!(json(&quiet), r#"{"heartbeat":true}"#);
        let handing = HeartbeatAnswer { heartbeat: true, drain_nonce: Some(nonce()) };
        assert_eq!(json(&handing), r#"{"heartbeat":true,"drainNonce":"n"}"#);
        assert_eq!(json(&Failure::new("why")), r#"{"success":false,"error":"why"}"#);
    }

    #[test]
    fn an_eviction_is_heard_whatever_its_body() {
        for body in ["", "{", "[]", "null", r#"{"containerInstanceId":7}"#, r#"{"containerInstanceId":""}"#] {
            assert_eq!(Eviction::read(body.as_bytes()), Eviction::default(), "{body}");
        }
        let named = Eviction { container_instance_id: Some(InstanceId::parse("i-1").unwrap()) };
        assert_eq!(Eviction::read(json(&named).as_bytes()), named);
    }

    #[test]
    fn ready_needs_a_nonce() {
        for body in ["", "{", "[]", "{}", r#"{"nonce":7}"#, r#"{"nonce":""}"#, r#"{"nonce":null}"#] {
            assert_eq!(Ready::read(body.as_bytes()), Err("Missing required field: nonce"), "{body}");
        }
        let ready = Ready { nonce: "n".into(), container_instance_id: Some(InstanceId::parse("i-1").unwrap()) };
        assert_eq!(Ready::read(json(&ready).as_bytes()), Ok(ready));
    }

    #[test]
    fn a_heartbeat_keeps_what_can_be_read() {
        assert_eq!(Heartbeat::read(b""), Heartbeat::default());
        let long = "x".repeat(Heartbeat::MAX_TEXT_CHARS + 1);
        let body = format!(
            r#"{{"status":"running","messageCount":7,"lastEventType":null,"lastEventAt":"{long}",
                "activeTools":["bash",7,"{long}"],"containerInstanceId":"i-1","draining":"yes"}}"#
        );
        let expected = Heartbeat {
            active_tools: vec!["bash".into()],
            container_instance_id: Some(InstanceId::parse("i-1").unwrap()),
            ..Heartbeat::default()
        };
        assert_eq!(Heartbeat::read(body.as_bytes()), expected);
        let full = Heartbeat {
            last_event_type: Some("t".into()),
            last_event_at: Some("2026-01-01T00:00:00.000Z".into()),
            draining: true,
            ..expected
        };
        assert_eq!(Heartbeat::read(json(&full).as_bytes()), full);
    }
}
