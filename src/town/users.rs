//! A user's towns and rigs (spec/town.md 2.5): the user's object answers, and tells the town.

use super::caller::Caller;
use super::error::TownError;
use super::route::Ids;
use super::routes::forwarded;
use super::table::UserOp;
use crate::object;
use crate::object::ask;
use crate::user::towns::NEW_ID_HEADER;
use object_core::time::SECOND;
use worker::Env;
use worker::Request;
use worker::Response;

/// How long the user's object may take: it waits for the town once.
const ANSWER_MS: i64 = 12 * SECOND;

/// Answers a request about a user's towns and rigs. The id of what is made is drawn here, so that a call that is tried again makes one thing.
pub async fn answer(
    op: UserOp,
    request: &Request,
    env: &Env,
    ids: &Ids,
    caller: &Caller,
    body: &[u8],
) -> Result<Response, TownError> {
    let own = forwarded(request.method(), &format!("http://user{}", request.path()), caller, body)?;
    if matches!(op, UserOp::CreateRig | UserOp::CreateTown) {
        own.headers().set(NEW_ID_HEADER, &object::entropy()?.uuid())?;
    }
    Ok(ask(env, "USER", &format!("user:{}", ids.user()?), own, ANSWER_MS).await?)
}
