//! The routes about repositories: what takes long is accepted, and done in the background.

use super::Town;
use super::body;
use super::body::Answer;
use super::body::Refusal;
use super::body::draining;
use crate::log;
use crate::town::agents::environment::repo;
use crate::town::agents::environment::town_author;
use crate::town::git::Branch;
use crate::town::git::InvalidName;
use axum::Json;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const ROLE: &str = "town";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetUp {
    rig_id: RigId,
    git_url: String,
    default_branch: String,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MergeOrder {
    rig_id: RigId,
    branch: String,
    target_branch: String,
    git_url: String,
    /// The bead of the merge request.
    entry_id: BeadId,
    agent_id: AgentId,
    callback_url: Option<String>,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
}

/// `POST /repos/setup`.
pub async fn set_up(State(town): State<Arc<Town>>, request: Request) -> Answer {
    if town.is_draining() {
        return Err(draining());
    }
    let SetUp { rig_id, git_url, default_branch, env_vars } = body::read(request).await?;
    let author = town_author(&town.agents.shared, &env_vars);
    let repo = repo(&town.agents.shared, &rig_id, &git_url, &default_branch, &env_vars, author).map_err(wrong)?;
    let shared = town.agents.shared.clone();
    town.agents.shared.background.spawn(async move {
        match shared.git.set_up(&repo).await {
            Ok(()) => log::info(ROLE, "rig_set_up", json!({ "rig": repo.rig })),
            Err(error) => log::warn(ROLE, "rig_not_set_up", json!({ "rig": repo.rig, "error": error.to_string() })),
        }
    });
    accepted("The repository is being set up")
}

/// `POST /git/merge`.
pub async fn merge(State(town): State<Arc<Town>>, request: Request) -> Answer {
    if town.is_draining() {
        return Err(draining());
    }
    let order: MergeOrder = body::read(request).await?;
    let shared = town.agents.shared.clone();
    let author = town_author(&shared, &order.env_vars);
    let repo = repo(&shared, &order.rig_id, &order.git_url, &order.target_branch, &order.env_vars, author);
    let repo = repo.map_err(wrong)?;
    let branch = Branch::parse(&order.branch).map_err(wrong)?;
    let target = Branch::parse(&order.target_branch).map_err(wrong)?;
    town.agents.shared.background.spawn(async move {
        let merge = shared.git.merge(&repo, &branch, &target).await;
        let fields = json!({ "rig": order.rig_id, "entry": order.entry_id, "status": merge.status });
        log::info(ROLE, "merge_ended", fields);
        let callback = order.callback_url.as_deref();
        let told = shared.home.tell_merge(&order.rig_id, &order.entry_id, &order.agent_id, callback, &merge).await;
        if let Err(error) = told {
            log::warn(ROLE, "town_not_told", json!({ "what": "merge", "error": error.to_string() }));
        }
    });
    accepted("The merge has begun")
}

fn wrong(name: InvalidName) -> Refusal {
    Refusal::invalid("", name)
}

fn accepted(message: &str) -> Answer {
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": "accepted", "message": message }))).into_response())
}
