//! A user's towns and rigs (spec/town.md 2.5): the user's object keeps what the user is shown, the town's object is made, changed and ended with it.
//!
//! What is made is there for the user first, and is taken back if its town does not take it. What is deleted goes from the town first, so that a call
//! that broke off can be made again.

use super::caller::Caller;
use super::edge;
use super::error::TownError;
use super::ledger::Body;
use super::route::Ids;
use super::routes::forwarded;
use super::table::UserOp;
use crate::http;
use crate::log;
use crate::object;
use crate::object::ask;
use crate::user::towns::NEW_ID_HEADER;
use object_core::time::SECOND;
use protocol::id::TownId;
use protocol::id::UserId;
use serde_json::Value;
use worker::Env;
use worker::Method;
use worker::Request;
use worker::Response;

/// How long the user's object may take, and a town that asks nobody.
const ANSWER_MS: i64 = 8 * SECOND;
/// How long a town may take to end: it ends its agents, and their logs.
const DESTROY_MS: i64 = 30 * SECOND;

/// Answers a request about a user's towns and rigs.
pub async fn answer(
    op: UserOp,
    request: &Request,
    env: &Env,
    ids: &Ids,
    caller: &Caller,
    body: &[u8],
) -> Result<Response, TownError> {
    let user = ids.user()?;
    let own = |method: Method, path: &str| forwarded(method, &format!("http://user{path}"), caller, body);
    match op {
        UserOp::Rig | UserOp::Rigs | UserOp::Town | UserOp::Towns => {
            Ok(to_user(env, user, own(Method::Get, &request.path())?).await?)
        }
        UserOp::CreateRig | UserOp::CreateTown => {
            let id = object::entropy()?.uuid();
            let new = own(Method::Post, &request.path())?;
            new.headers().set(NEW_ID_HEADER, &id)?;
            let mut response = to_user(env, user, new).await?;
            if response.status_code() != 201 {
                return Ok(response);
            }
            let mut copy = response.cloned()?;
            let made: Value = http::parse(&copy.bytes().await?).map_err(worker::Error::from)?;
            match add_to_town(op, env, caller, &id, &made, body).await {
                Ok(()) => Ok(response),
                Err(error) => {
                    log::error("town_not_made", &[("id", &id), ("error", &error.to_string())]);
                    to_user(env, user, own(Method::Delete, &format!("{}/{id}", request.path()))?).await?;
                    let text =
                        if op == UserOp::CreateRig { "Failed to configure rig" } else { "Failed to create town" };
                    Err(TownError::Refused { status: 500, text: text.into() })
                }
            }
        }
        UserOp::DeleteRig => {
            let mut found = to_user(env, user, own(Method::Get, &request.path())?).await?;
            if found.status_code() != 200 {
                return Ok(found);
            }
            let rig: Value = http::parse(&found.bytes().await?).map_err(worker::Error::from)?;
            let remove = forwarded(Method::Delete, &format!("http://town/rigs/{}", ids.rig()?), caller, &[])?;
            // Not there any more: what is wanted.
            ended(ask(env, "TOWN", town_of(&rig)?.as_str(), remove, ANSWER_MS).await?.status_code())?;
            Ok(to_user(env, user, own(Method::Delete, &request.path())?).await?)
        }
        UserOp::DeleteTown => {
            let town = ids.town()?;
            let found = to_user(env, user, own(Method::Get, &request.path())?).await?;
            if found.status_code() != 200 {
                return Ok(found);
            }
            let destroy = forwarded(Method::Delete, "http://town/town", caller, &[])?;
            ended(ask(env, "TOWN", town.as_str(), destroy, DESTROY_MS).await?.status_code())?;
            edge::remove_snapshots(env, town).await?;
            Ok(to_user(env, user, own(Method::Delete, &request.path())?).await?)
        }
    }
}

async fn to_user(env: &Env, user: &UserId, request: Request) -> worker::Result<Response> {
    ask(env, "USER", &format!("user:{user}"), request, ANSWER_MS).await
}

/// Makes the town that is new, or adds the new rig to its town. The token that comes with a rig is the town's, and kept nowhere else.
async fn add_to_town(
    op: UserOp,
    env: &Env,
    caller: &Caller,
    id: &str,
    made: &Value,
    body: &[u8],
) -> Result<(), TownError> {
    let (town, request) = if op == UserOp::CreateRig {
        let mut rig = made.get("data").cloned().unwrap_or_default();
        if let (Some(token), Some(fields)) = (Body::parse(body)?.text_or_none("kilocode_token")?, rig.as_object_mut()) {
            fields.insert("kilocode_token".into(), token.into());
        }
        let (path, rig) = (format!("http://town/rigs/{id}"), rig.to_string());
        (town_of(made)?, forwarded(Method::Put, &path, caller, rig.as_bytes())?)
    } else {
        (TownId::parse(id)?, forwarded(Method::Put, "http://town/town", caller, &[])?)
    };
    let status = ask(env, "TOWN", town.as_str(), request, ANSWER_MS).await?.status_code();
    if status == 200 { Ok(()) } else { Err(unexpected(status)) }
}

/// The town that an answer of the user's object names.
fn town_of(rig: &Value) -> Result<TownId, TownError> {
    let town = rig.pointer("/data/town_id").and_then(Value::as_str).unwrap_or_default();
    Ok(TownId::parse(town)?)
}

/// Whether a town did, or had done before, what ends something.
fn ended(status: u16) -> Result<(), TownError> {
    if matches!(status, 200 | 404) { Ok(()) } else { Err(unexpected(status)) }
}

fn unexpected(status: u16) -> TownError {
    worker::Error::RustError(format!("the town answered {status}")).into()
}
