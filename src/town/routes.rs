//! The Worker's side of the town routes: the guard, then whoever answers. Requests to an object travel as they came, with the caller that the guard
//! found and nothing else of their headers.

use super::caller::CALLER_HEADER;
use super::caller::Caller;
use super::edge;
use super::error::TownError;
use super::guard::Secrets;
use super::guard::Shown;
use super::ledger::fail;
use super::proxy;
use super::route::TownRoute;
use super::table::Target;
use super::users;
use crate::config::Config;
use crate::http;
use crate::http::BodyError;
use crate::object::ask_by_method;
use crate::object::ask_status;
use crate::object::now_ms;
use crate::route::Refusal;
use object_core::time::SECOND;
use protocol::id::TownId;
use worker::Env;
use worker::Headers;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::Response;

/// How long a town may take to answer: it asks nobody.
const ANSWER_MS: i64 = 8 * SECOND;

/// Serves one request of the family.
pub async fn serve(route: TownRoute, request: Request, env: &Env, config: &Config) -> worker::Result<Response> {
    match handle(&route, request, env, config).await {
        Ok(response) => Ok(response),
        Err(error) => fail(&error),
    }
}

/// Answers a request without a route.
pub fn refuse(refusal: Refusal) -> worker::Result<Response> {
    fail(&match refusal {
        Refusal::MethodNotAllowed => TownError::MethodNotAllowed,
        Refusal::BadImage | Refusal::BadUserId | Refusal::NotFound => TownError::NotFound("Not found"),
    })
}

async fn handle(route: &TownRoute, mut request: Request, env: &Env, config: &Config) -> Result<Response, TownError> {
    let secrets = Secrets {
        town: config.gastown_jwt_secret.as_deref(),
        user: config.nextauth_secret.as_deref(),
        internal: config.internal_api_secret.as_deref(),
    };
    let (shown, now) = (Shown::of(&request)?, now_ms());
    // A browser shows a ticket where it opens a socket: it can send no header there.
    match route.target {
        Target::Socket => return proxy::socket(&request, env, &shown, secrets, &route.ids).await,
        Target::StatusSocket => return proxy::status_socket(&request, env, &shown, secrets, &route.ids).await,
        _ => {}
    }
    let caller = route.guard.check(&shown, secrets, now, &route.ids)?;
    let body = match route.target {
        Target::Snapshot => vec![],
        _ => body(&mut request).await?,
    };
    match route.target {
        Target::AgentLog => edge::agent_log(&request, env, &route.ids, &body).await,
        Target::Container => proxy::container(&request, env, &route.ids, &caller, secrets, &body).await,
        Target::Edge(op) => edge::answer(op, env, &route.ids, &caller, secrets, &body).await,
        Target::Ledger(_) => Ok(to_town(env, route.ids.town()?, &request, &caller, &body).await?),
        Target::NotBuilt | Target::Socket | Target::StatusSocket => Err(TownError::NotBuilt),
        Target::Registry => proxy::registry(&request, env, route.ids.town()?, body).await,
        Target::Snapshot => edge::snapshot(&request, env, &route.ids).await,
        Target::User(op) => users::answer(op, &request, env, &route.ids, &caller, &body).await,
    }
}

/// The same request to the town's object. The body was read once, so that it is bounded and the call can be tried again.
async fn to_town(
    env: &Env,
    town: &TownId,
    request: &Request,
    caller: &Caller,
    body: &[u8],
) -> worker::Result<Response> {
    let forwarded = forwarded(request.method(), request.url()?.as_str(), caller, body)?;
    // A bead or a mail whose answer was lost is not made again: its caller knows whether it wants that.
    ask_by_method(env, "TOWN", town.as_str(), forwarded, ANSWER_MS).await
}

/// A request to an object, with the caller that the guard found.
pub fn forwarded(method: Method, url: &str, caller: &Caller, body: &[u8]) -> worker::Result<Request> {
    let headers = Headers::new();
    headers.set(CALLER_HEADER, &caller.header())?;
    let mut init = RequestInit::new();
    // A `GET` that came with a body is answered without it: the platform forwards none.
    let bodiless = body.is_empty() || method == Method::Get;
    init.with_method(method).with_headers(headers);
    if !bodiless {
        init.with_body(Some(js_sys::Uint8Array::from(body).into()));
    }
    Request::new_with_init(url, &init)
}

/// Refuses whoever does not own the town: the town knows.
pub async fn owned(env: &Env, town: &TownId, caller: &Caller) -> Result<(), TownError> {
    let request = forwarded(Method::Get, "http://town/owner", caller, &[])?;
    match ask_status(env, "TOWN", town.as_str(), request, ANSWER_MS).await? {
        200 => Ok(()),
        403 => Err(TownError::Forbidden("Forbidden")),
        404 => Err(TownError::NotFound("Town not found")),
        status => Err(worker::Error::RustError(format!("the town answered {status}")).into()),
    }
}

async fn body(request: &mut Request) -> Result<Vec<u8>, TownError> {
    http::body(request).await.map_err(|error| match error {
        BodyError::Broken => TownError::BadRequest("Request body could not be read"),
        BodyError::TooLarge => TownError::TooLarge,
    })
}
