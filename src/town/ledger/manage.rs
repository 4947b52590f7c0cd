//! What the Worker asks for by itself: who owns the town, and making and ending it and its rigs.

use super::Body;
use super::caller;
use super::config;
use super::owned;
use super::reply;
use super::write;
use crate::http;
use crate::town::error::TownError;
use crate::town::guard::Guard;
use crate::town::object::Shell;
use crate::town::op::Op;
use crate::town::op::TownOp;
use protocol::id::AgentId;
use protocol::id::RigId;
use protocol::id::TownId;
use protocol::town::config::TownConfig;
use serde_json::json;
use std::rc::Rc;
use town_core::message::Answer;
use town_core::message::Call;
use town_core::message::call::AgentCall;
use town_core::message::call::TownCall;
use worker::Method;
use worker::Request;
use worker::Response;

/// Answers one request that has no public path.
pub async fn respond(shell: &Rc<Shell>, mut request: Request) -> Result<Response, TownError> {
    let (method, path) = (request.method(), request.path());
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let call = match (&method, segments.as_slice()) {
        (Method::Get, ["owner"]) => {
            owned(shell, &caller(&request)?)?;
            return so();
        }
        (Method::Get, ["town"]) => {
            config(shell)?;
            return so();
        }
        (Method::Get, ["agents", agent]) => {
            let call = AgentCall::Get { agent: AgentId::parse(agent)?, rig: None };
            return match shell.ask(Call::Agent(call))? {
                Answer::Agent { .. } => so(),
                _ => Err(TownError::NotFound("Agent not found")),
            };
        }
        (Method::Put, ["town"]) => {
            let caller = caller(&request)?;
            let owner = caller.user_id().ok_or(TownError::Forbidden("Forbidden"))?.to_string();
            let config = TownConfig {
                owner_id: Some(owner.clone()),
                owner_user_id: Some(owner.clone()),
                created_by_user_id: Some(owner),
                ..TownConfig::default()
            };
            TownCall::Create { town: TownId::parse(&shell.name())?, config: Box::new(config) }
        }
        (Method::Delete, ["town"]) => TownCall::Destroy {},
        (Method::Put, ["rigs", rig]) => {
            let (body, rig) = (Body::parse(&request.bytes().await?)?, RigId::parse(rig)?);
            let is_known = matches!(shell.ask(Call::Town(TownCall::Rig { rig: rig.clone() }))?, Answer::Rig { .. });
            // The token that comes with a new rig is the town's. The same call again may come later than another token.
            if let Some(token) = body.value("kilocode_token").filter(|_| !is_known) {
                let changes = [("kilocode_token".to_owned(), token.clone())].into_iter().collect();
                let changed = shell.ask(Call::Town(TownCall::UpdateConfig { changes }))?;
                if matches!(changed, Answer::Refused { .. }) {
                    return respond_with(shell, changed);
                }
            }
            TownCall::AddRig {
                rig,
                name: body.text("name")?,
                git_url: body.text("git_url")?,
                default_branch: body.text("default_branch")?,
            }
        }
        (Method::Delete, ["rigs", rig]) => TownCall::RemoveRig { rig: RigId::parse(rig)? },
        _ => return Err(TownError::NotFound("Not found")),
    };
    let answer = shell.ask(Call::Town(call))?;
    respond_with(shell, answer)
}

fn respond_with(shell: &Shell, answer: Answer) -> Result<Response, TownError> {
    let town = TownId::parse(&shell.name())?;
    reply(&write::town(Op::Town(TownOp::Config), Guard::User, &town, answer)?)
}

fn so() -> Result<Response, TownError> {
    Ok(http::json(200, &json!({"success": true}))?)
}
