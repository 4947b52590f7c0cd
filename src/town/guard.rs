//! Who may call a town from inside its container (spec/town.md 2.1).
//!
//! A *container token* speaks for the whole container of one town. An *agent token*, the older form, speaks for one agent of one rig.

use super::error::TownError;
use crate::auth;
use crate::auth::JwtError;
use object_core::time::HOUR;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::RigId;
use protocol::id::TownId;
use serde::Deserialize;
use serde_json::Value;

/// A container token is not accepted longer than this after it was issued, whatever it says itself.
const CONTAINER_TOKEN_AGE_MS: i64 = 8 * HOUR;

const NO_TOKEN: &str = "Authentication required";
const OTHER_TOWN: &str = "Cross-town access denied";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerClaims {
    town_id: String,
    scope: String,
    iat: i64,
    #[serde(rename = "userId")]
    _user_id: String,
    #[serde(rename = "exp")]
    _exp: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentClaims {
    agent_id: String,
    rig_id: String,
    town_id: String,
    #[serde(rename = "userId")]
    _user_id: String,
}

/// Guard C: only a container token of this town.
pub fn container(bearer: Option<&str>, secret: Option<&str>, now_ms: i64, town: &TownId) -> Result<(), TownError> {
    let claims = claims(bearer, secret, now_ms)?;
    let container =
        container_claims(&claims, now_ms)?.ok_or(TownError::Unauthorized("Invalid container token payload"))?;
    same_town(&container.town_id, town)
}

/// Guards R and A: a container token of this town, or the token of this very agent.
pub fn agent(
    bearer: Option<&str>,
    secret: Option<&str>,
    now_ms: i64,
    town: &TownId,
    rig: &RigId,
    agent: &AgentId,
) -> Result<(), TownError> {
    let claims = claims(bearer, secret, now_ms)?;
    if let Some(container) = container_claims(&claims, now_ms)? {
        return same_town(&container.town_id, town);
    }
    let token: AgentClaims =
        serde_json::from_value(claims).map_err(|_| TownError::Unauthorized("Invalid token payload"))?;
    if token.rig_id != rig.as_str() {
        return Err(TownError::Forbidden("Token rigId does not match route"));
    }
    same_town(&token.town_id, town)?;
    // Empty: the token names no agent.
    if token.agent_id.is_empty() || token.agent_id == agent.as_str() {
        Ok(())
    } else {
        Err(TownError::Forbidden("Token agentId does not match route"))
    }
}

fn claims(bearer: Option<&str>, secret: Option<&str>, now_ms: i64) -> Result<Value, TownError> {
    let token = bearer.ok_or(TownError::Unauthorized(NO_TOKEN))?;
    let secret = secret.ok_or(TownError::NoSecret)?;
    auth::verify(token, secret, now_ms).map_err(|error| {
        TownError::Unauthorized(match error {
            JwtError::Expired => "Token expired",
            JwtError::Signature => "Invalid token signature",
            JwtError::Invalid => "Token validation failed",
        })
    })
}

/// None if it is another kind of token.
fn container_claims(claims: &Value, now_ms: i64) -> Result<Option<ContainerClaims>, TownError> {
    let container = ContainerClaims::deserialize(claims).ok().filter(|container| container.scope == "container");
    match container {
        Some(container) if now_ms.saturating_sub(container.iat.saturating_mul(SECOND)) > CONTAINER_TOKEN_AGE_MS => {
            Err(TownError::Unauthorized("Token expired"))
        }
        container => Ok(container),
    }
}

fn same_town(claimed: &str, town: &TownId) -> Result<(), TownError> {
    if claimed == town.as_str() { Ok(()) } else { Err(TownError::Forbidden(OTHER_TOWN)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_800_000_000_000;
    const SECRET: &str = "s";

    fn sign(claims: Value) -> String {
        auth::sign(&claims, SECRET).unwrap()
    }

    fn container_token(town: &str, age_ms: i64) -> String {
        let iat = (NOW - age_ms) / SECOND;
        sign(json!({"townId": town, "userId": "u", "scope": "container", "iat": iat, "exp": iat + 24 * 3600}))
    }

    fn agent_token(town: &str, rig: &str, agent: &str) -> String {
        sign(json!({"townId": town, "rigId": rig, "agentId": agent, "userId": "u", "exp": NOW / SECOND + 3600}))
    }

    /// The status and text of the refusal; None if let through.
    fn text(result: Result<(), TownError>) -> Option<(u16, String)> {
        result.err().map(|error| (error.status(), error.to_string()))
    }

    fn refused(status: u16, text: &str) -> Option<(u16, String)> {
        Some((status, text.to_owned()))
    }

    fn guard_c(token: Option<&str>) -> Option<(u16, String)> {
        text(container(token, Some(SECRET), NOW, &TownId::parse("t1").unwrap()))
    }

    fn guard_a(token: Option<&str>) -> Option<(u16, String)> {
        let (town, rig, id) = (TownId::parse("t1"), RigId::parse("r1"), AgentId::parse("a1"));
        text(agent(token, Some(SECRET), NOW, &town.unwrap(), &rig.unwrap(), &id.unwrap()))
    }

    #[test]
    fn both_guards_take_a_container_token_of_this_town_only() {
        for guard in [guard_c, guard_a] {
            assert_eq!(guard(Some(&container_token("t1", 0))), None);
            assert_eq!(guard(Some(&container_token("t2", 0))), refused(403, "Cross-town access denied"));
            assert_eq!(guard(None), refused(401, "Authentication required"));
            assert_eq!(guard(Some("a.b")), refused(401, "Token validation failed"));
            let forged = auth::sign(&json!({"townId": "t1", "scope": "container"}), "other").unwrap();
            assert_eq!(guard(Some(&forged)), refused(401, "Invalid token signature"));
        }
    }

    #[test]
    fn a_container_token_ends_after_8_hours_even_if_it_says_otherwise() {
        for guard in [guard_c, guard_a] {
            assert_eq!(guard(Some(&container_token("t1", 8 * HOUR))), None);
            assert_eq!(guard(Some(&container_token("t1", 8 * HOUR + SECOND))), refused(401, "Token expired"));
        }
        let iat = NOW / SECOND;
        let expired = sign(json!({"townId": "t1", "userId": "u", "scope": "container", "iat": iat - 9, "exp": iat}));
        assert_eq!(guard_c(Some(&expired)), refused(401, "Token expired"));
    }

    #[test]
    fn an_agent_token_speaks_for_its_agent_and_for_no_container() {
        assert_eq!(guard_a(Some(&agent_token("t1", "r1", "a1"))), None);
        assert_eq!(guard_a(Some(&agent_token("t1", "r1", ""))), None);
        assert_eq!(guard_a(Some(&agent_token("t1", "r2", "a1"))), refused(403, "Token rigId does not match route"));
        assert_eq!(guard_a(Some(&agent_token("t2", "r1", "a1"))), refused(403, "Cross-town access denied"));
        assert_eq!(guard_a(Some(&agent_token("t1", "r1", "a2"))), refused(403, "Token agentId does not match route"));
        let agent = agent_token("t1", "r1", "a1");
        assert_eq!(guard_c(Some(&agent)), refused(401, "Invalid container token payload"));
    }

    #[test]
    fn a_token_of_another_kind_is_none_of_ours() {
        let user = sign(json!({"kiloUserId": "u", "version": 3}));
        assert_eq!(guard_a(Some(&user)), refused(401, "Invalid token payload"));
        assert_eq!(guard_c(Some(&user)), refused(401, "Invalid container token payload"));
        let wide = sign(json!({"townId": "t1", "userId": "u", "scope": "town", "iat": NOW / SECOND, "exp": NOW}));
        assert_eq!(guard_c(Some(&wide)), refused(401, "Invalid container token payload"));
    }

    #[test]
    fn without_a_secret_nobody_passes() {
        let town = TownId::parse("t1").unwrap();
        let token = container_token("t1", 0);
        let refusal = text(container(Some(&token), None, NOW, &town));
        assert_eq!(refusal, refused(500, "Token verification is not configured"));
    }
}
