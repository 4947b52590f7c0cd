//! The HTTP API of a container host: what is asked of a platform, over loopback (design 4).
//!
//! | Method, path | Body | Answer |
//! | --- | --- | --- |
//! | `GET /health` | – | 200 `{"healthy":true}` |
//! | `GET /containers/{name}` | – | 200 [`Container`]; 404 if it never ran on this host process, or was deleted |
//! | `PUT /containers/{name}` | [`Start`] | 201 [`Container`]; 200 with the running one if it runs already |
//! | `POST /containers/{name}/signal` | [`Signal`] | 202; 409 if it does not run |
//! | `DELETE /containers/{name}` | – | 200: killed, its disk gone |
//! | any `/containers/{name}/ports/{port}/{path}` | forwarded | what the container answers, WebSockets included; 502 if it does not |
//!
//! Every call but `/health` and the forwarded ones carries `Authorization: Bearer <HOLDFAST_HOST_TOKEN>`. A forwarded call carries
//! the same token as [`FORWARD_TOKEN_HEADER`], which the host takes off, so that `Authorization` reaches the container
//! untouched. Errors are [`crate::sandbox::ApiError`]. The whole contract is docs/host-api.md.

use crate::sandbox::Secret;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// Carries the host's token on forwarded calls.
pub const FORWARD_TOKEN_HEADER: &str = "x-holdfast-host-token";

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// `sandboxd session`
    Session,
    /// `sandboxd town`
    Town,
}

/// Starts a container on a fresh, empty disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Start {
    /// What it does.
    pub role: Role,
    /// Its environment, whole: nothing of the host's own is inherited but `PATH`.
    pub env: BTreeMap<String, Secret>,
    /// Told when the container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exit: Option<ExitHook>,
}

/// `POST {url}` with bearer `token` and an [`Exit`] when the container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExitHook {
    /// Loopback only.
    pub url: String,
    /// The bearer.
    pub token: Secret,
}

/// A container that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Which start of it ended.
    pub instance: String,
    /// None if a signal ended it.
    pub exit_code: Option<i32>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Another one for each start.
    pub instance: String,
    /// Whether its process lives.
    pub running: bool,
}

/// A signal to a container's first process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// `SIGTERM`, `SIGINT` or `SIGKILL`.
    pub signal: String,
}
