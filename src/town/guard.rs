//! Who may call a town (spec/town.md 2.1). Never skipped, also in development.
//!
//! | Guard | Whom it lets through |
//! | --- | --- |
//! | [`Guard::Container`] (C) | a container token of the town |
//! | [`Guard::Debug`] (D) | the key of the deployment's own back end |
//! | [`Guard::Expired`] | the same, also when it has expired |
//! | [`Guard::Rig`] (R, X) | a container token of the town, or an agent token of the town and, where the path names one, of the rig |
//! | [`Guard::Agent`] (A) | the same; an agent token must be this agent's |
//! | [`Guard::Mayor`] (M) | any token of the town's container |
//! | [`Guard::User`] (U) | a user's token; whose town it is, the town says |

use super::caller::Caller;
use super::error::TownError;
use super::route::Ids;
use super::token;
use super::token::Claims;
use crate::auth;
use protocol::id::AgentId;
use protocol::id::TownId;
use protocol::town::AGENT_ID_HEADER;
use worker::Request;

const OTHER_TOWN: &str = "Cross-town access denied";

/// Which rule a route has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    Agent,
    Container,
    Debug,
    Expired,
    Mayor,
    Rig,
    User,
}

/// What a request shows.
#[derive(Default)]
pub struct Shown {
    /// The whole `Authorization` header.
    pub authorization: Option<String>,
    /// Whom a container says it speaks for.
    pub agent: Option<String>,
    /// The internal key.
    pub key: Option<String>,
}

impl Shown {
    /// Reads the headers.
    pub fn of(request: &Request) -> worker::Result<Self> {
        let headers = request.headers();
        let (authorization, agent) = (headers.get("authorization")?, headers.get(AGENT_ID_HEADER)?);
        Ok(Self { authorization, agent, key: headers.get("x-internal-api-key")? })
    }

    fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.authorization.as_deref()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

/// The deployment's secrets.
#[derive(Clone, Copy, Default)]
pub struct Secrets<'a> {
    /// Of container and agent tokens.
    pub town: Option<&'a str>,
    /// Of user tokens.
    pub user: Option<&'a str>,
    /// The internal key.
    pub internal: Option<&'a str>,
}

impl Guard {
    /// Lets a request to the place of `ids` through, or says why not.
    pub fn check(self, shown: &Shown, secrets: Secrets<'_>, now_ms: i64, ids: &Ids) -> Result<Caller, TownError> {
        match self {
            Self::Agent | Self::Rig => {
                let claims = inside(shown, secrets, now_ms)?;
                let of_container = claims.is_container();
                if !of_container && ids.rig.as_ref().is_some_and(|rig| claims.rig_id.as_deref() != Some(rig.as_str())) {
                    return Err(TownError::Forbidden("Token rigId does not match route"));
                }
                same_town(&claims, ids.town()?, OTHER_TOWN)?;
                let own = claims.agent_id.filter(|own| !of_container && !own.is_empty());
                let path = ids.agent.as_ref().map(AgentId::as_str);
                if self == Self::Agent && own.is_some() && own.as_deref() != path {
                    return Err(TownError::Forbidden("Token agentId does not match route"));
                }
                let claimed = path.or(shown.agent.as_deref()).filter(|_| of_container);
                identity(own.as_deref().or(claimed))
            }
            Self::Mayor => {
                let claims = inside(shown, secrets, now_ms)?;
                same_town(&claims, ids.town()?, "Token townId does not match route")?;
                identity(claims.agent_id.as_deref().or(shown.agent.as_deref()))
            }
            Self::Container => {
                let claims = container(shown, secrets, Some(now_ms))?;
                if claims.is_too_old(now_ms) {
                    return Err(TownError::Unauthorized("Token expired".into()));
                }
                same_town(&claims, ids.town()?, OTHER_TOWN)?;
                identity(shown.agent.as_deref())
            }
            Self::Debug => match auth::internal_key(secrets.internal, shown.key.as_deref()) {
                Ok(()) => Ok(Caller::Operator),
                Err(_) => Err(TownError::Unauthorized("Unauthorized".into())),
            },
            Self::Expired => {
                let claims = container(shown, secrets, None)?;
                same_town(&claims, ids.town()?, OTHER_TOWN)?;
                Caller::user(&claims.user_id)
            }
            Self::User => {
                let user = auth::user(shown.authorization.as_deref(), secrets.user, now_ms);
                let user = user.map_err(TownError::Unauthorized)?;
                match &ids.user {
                    Some(path) if *path != user => Err(TownError::Forbidden("Forbidden")),
                    _ => Ok(Caller::User(user)),
                }
            }
        }
    }
}

/// Checks a ticket for the status stream of `town`.
pub fn status_ticket(ticket: &str, secrets: Secrets<'_>, now_ms: i64, town: &TownId) -> Result<(), TownError> {
    let claims = ticket_claims(ticket, secrets, now_ms, town)?;
    if claims.is_status_ticket() { Ok(()) } else { Err(invalid_ticket()) }
}

/// Checks a ticket for a socket to `agent`, before anything of the town is asked. The ticket in it, which its container gave.
pub fn agent_ticket(
    ticket: &str,
    secrets: Secrets<'_>,
    now_ms: i64,
    town: &TownId,
    agent: &AgentId,
) -> Result<String, TownError> {
    ticket_claims(ticket, secrets, now_ms, town)?.agent_ticket(agent).ok_or_else(invalid_ticket)
}

fn ticket_claims(ticket: &str, secrets: Secrets<'_>, now_ms: i64, town: &TownId) -> Result<Claims, TownError> {
    let secret = secrets.town.ok_or(TownError::NoSecret)?;
    let claims = token::read(ticket, secret, Some(now_ms)).map_err(|text| TownError::Unauthorized(text.into()))?;
    same_town(&claims, town, OTHER_TOWN)?;
    Ok(claims)
}

fn invalid_ticket() -> TownError {
    TownError::Unauthorized("Invalid ticket".into())
}

/// The token of a container or an agent.
fn inside(shown: &Shown, secrets: Secrets<'_>, now_ms: i64) -> Result<Claims, TownError> {
    let claims = claims(shown, secrets, Some(now_ms))?;
    if claims.is_container() && claims.is_too_old(now_ms) {
        return Err(TownError::Unauthorized("Token expired".into()));
    }
    if claims.is_container() || claims.is_agent() {
        Ok(claims)
    } else {
        Err(TownError::Unauthorized("Invalid token payload".into()))
    }
}

fn container(shown: &Shown, secrets: Secrets<'_>, now_ms: Option<i64>) -> Result<Claims, TownError> {
    let claims = claims(shown, secrets, now_ms)?;
    let refusal = || TownError::Unauthorized("Invalid container token payload".into());
    if claims.is_container() { Ok(claims) } else { Err(refusal()) }
}

fn claims(shown: &Shown, secrets: Secrets<'_>, now_ms: Option<i64>) -> Result<Claims, TownError> {
    let bearer = shown.bearer().ok_or_else(|| TownError::Unauthorized("Authentication required".into()))?;
    let secret = secrets.town.ok_or(TownError::NoSecret)?;
    token::read(bearer, secret, now_ms).map_err(|text| TownError::Unauthorized(text.into()))
}

/// Empty: nobody in particular.
fn identity(agent: Option<&str>) -> Result<Caller, TownError> {
    let agent = agent.filter(|agent| !agent.is_empty()).map(AgentId::parse).transpose()?;
    Ok(Caller::Inside(agent))
}

fn same_town(claims: &Claims, town: &TownId, refusal: &'static str) -> Result<(), TownError> {
    if claims.town_id == town.as_str() { Ok(()) } else { Err(TownError::Forbidden(refusal)) }
}

#[cfg(test)]
mod tests;
