//! The town's HTTP surface inside `TownDO`: a request becomes a call, the town's answer the response.
//!
//! The Worker has checked who asks, bounded the body, and passed the request on under its own path. Paths outside `/api` are the Worker's own:
//!
//! | Request | What becomes of it |
//! | --- | --- |
//! | `GET /owner` | whether the caller owns this town: 200, 403, 404 |
//! | `GET /town`, `GET /agents/{agent}` | whether it is there: 200, 404 |
//! | `PUT /town` | the town is made: it belongs to the caller |
//! | `DELETE /town` | all of it is deleted, with its agents' logs |
//! | `PUT /rigs/{rig}`, `DELETE /rigs/{rig}` | a rig is added or changed; removed with all its beads |

mod body;
mod manage;
mod read;
mod write;

pub use body::Body;

use super::caller::CALLER_HEADER;
use super::caller::Caller;
use super::error::TownError;
use super::guard::Guard;
use super::object::Shell;
use super::op::Op;
use super::op::TownOp;
use super::route::Ids;
use super::route::TownRoute;
use super::table::Target;
use crate::http;
use crate::log;
use body::Query;
use protocol::town::config::TownConfig;
use read::Ask;
use read::Asked;
use serde_json::json;
use std::rc::Rc;
use town_core::message::Answer;
use town_core::message::Call;
use town_core::message::call::TownCall;
use worker::Request;
use worker::Response;
use worker::ResponseBuilder;
use write::Reply;

/// Answers one request that the Worker let through.
pub async fn serve(shell: &Rc<Shell>, mut request: Request) -> worker::Result<Response> {
    let path = request.path();
    let public =
        path.strip_prefix("/api/").or_else(|| path.strip_prefix('/').filter(|path| path.starts_with("debug/")));
    let result = match public {
        Some(path) => {
            let body = request.bytes().await?;
            respond(shell, &request, path, &body)
        }
        None => manage::respond(shell, request).await,
    };
    result.or_else(|error| fail(&error))
}

/// The answer of a refusal; what the caller is not told goes to the log.
pub fn fail(error: &TownError) -> worker::Result<Response> {
    if let TownError::Internal(cause) = error {
        log::error("town", &[("error", &cause.to_string())]);
    }
    http::json(error.status(), &error.body())
}

fn respond(shell: &Rc<Shell>, request: &Request, path: &str, body: &[u8]) -> Result<Response, TownError> {
    let segments: Vec<&str> = path.split('/').collect();
    let route = TownRoute::parse(request.method().as_ref(), &segments).map_err(|_| TownError::NotFound("Not found"))?;
    let Target::Ledger(op) = route.target else { return Err(TownError::NotBuilt) };
    let caller = caller(request)?;
    if route.guard == Guard::User {
        owned(shell, &caller)?;
    }
    let query = Query(request.url()?.query_pairs().map(|(key, value)| (key.into(), value.into())).collect());
    let asked = Asked { op, guard: route.guard, ids: &route.ids, caller: &caller, query: &query, body };
    if op == Op::Town(TownOp::MayorId) {
        return mayor_id(shell);
    }
    let answer = answer(shell, &asked, &route.ids)?;
    match route.guard {
        Guard::Debug => json(answer.status, answer.data),
        _ => reply(&answer),
    }
}

fn answer(shell: &Rc<Shell>, asked: &Asked<'_>, ids: &Ids) -> Result<Reply, TownError> {
    let town = ids.town()?;
    match asked.read()? {
        Ask::Container(call) => write::container(shell.ask_container(call)?),
        Ask::Nothing => write::done(asked.op),
        Ask::Town(calls) => {
            let mut last = Answer::Done {};
            for call in calls {
                last = shell.ask(call)?;
                if matches!(last, Answer::Refused { .. }) {
                    break;
                }
            }
            write::town(asked.op, asked.guard, town, last)
        }
    }
}

fn reply(reply: &Reply) -> Result<Response, TownError> {
    json(reply.status, reply.body())
}

fn json(status: u16, body: String) -> Result<Response, TownError> {
    let response = ResponseBuilder::new().with_status(status).with_header("content-type", "application/json")?;
    Ok(response.body(worker::ResponseBody::Body(body.into_bytes())))
}

/// Whoever the Worker's guard let through.
fn caller(request: &Request) -> Result<Caller, TownError> {
    let header = request.headers().get(CALLER_HEADER)?;
    header.as_deref().and_then(Caller::parse).ok_or_else(|| TownError::Unauthorized("Authentication required".into()))
}

/// Refuses whoever does not own the town.
fn owned(shell: &Rc<Shell>, caller: &Caller) -> Result<(), TownError> {
    let config = config(shell)?;
    let owner = config.owner_id.or(config.owner_user_id).ok_or(TownError::NotFound("Town not found"))?;
    match caller {
        Caller::User(user) if user.as_str() == owner && config.owner_type == "user" => Ok(()),
        Caller::User(_) | Caller::Inside(_) | Caller::Operator => Err(TownError::Forbidden("Forbidden")),
    }
}

fn config(shell: &Rc<Shell>) -> Result<TownConfig, TownError> {
    match shell.ask(Call::Town(TownCall::Config {}))? {
        Answer::Config { config } => Ok(*config),
        _ => Err(TownError::NotFound("Town not found")),
    }
}

/// What the container needs to restart its mayor; outside the envelope. Its own container may see its own secrets.
fn mayor_id(shell: &Rc<Shell>) -> Result<Response, TownError> {
    let config = config(shell)?;
    let Answer::MayorSeen { session: Some(mayor) } = shell.ask(Call::Town(TownCall::MayorStatus {}))? else {
        return Ok(http::json(200, &json!({"success": true, "agentId": null}))?);
    };
    let mut body = json!({"success": true, "agentId": mayor.agent_id.as_str()});
    let known = [
        ("githubCliPat", config.github_cli_pat),
        ("githubToken", config.git_auth.github_token),
        ("kilocodeToken", config.kilocode_token),
        ("model", config.role_models.mayor.or(config.default_model)),
        ("organizationId", config.organization_id),
        ("smallModel", config.small_model),
    ];
    if let Some(fields) = body.as_object_mut() {
        fields.extend(known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
    }
    Ok(http::json(200, &body)?)
}
