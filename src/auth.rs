//! Tokens and keys: JWTs signed with HS256, the only algorithm that is accepted, and shared secrets (spec/session.md 2.2).

use crate::http;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Hmac;
use hmac::Mac;
use object_core::entropy::constant_time_eq;
use object_core::time::SECOND;
use protocol::id::SessionId;
use protocol::id::UserId;
use protocol::sandbox::Secret;
use protocol::trpc::Code;
use protocol::trpc::TrpcError;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::Sha256;

/// The life of a stream ticket.
pub const TICKET_LIFE_MS: i64 = 60 * SECOND;

/// Why a JWT is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtError {
    Expired,
    Invalid,
    Signature,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Expiry {
    exp: Option<i64>,
}

/// Signs claims.
pub fn sign<T: Serialize>(claims: &T, secret: &str) -> Option<String> {
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).ok()?);
    let signed = format!("{header}.{payload}");
    let signature = URL_SAFE_NO_PAD.encode(mac(&signed, secret)?.finalize().into_bytes());
    Some(format!("{signed}.{signature}"))
}

/// Verifies a token and reads its claims. The comparison takes the same time wherever it fails.
pub fn verify<T: DeserializeOwned>(token: &str, secret: &str, now_ms: i64) -> Result<T, JwtError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Invalid)?;
    let (header, payload) = signed.split_once('.').ok_or(JwtError::Invalid)?;
    let header: Header = decode(header)?;
    if header.alg != "HS256" {
        return Err(JwtError::Signature);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Signature)?;
    mac(signed, secret).ok_or(JwtError::Invalid)?.verify_slice(&signature).map_err(|_| JwtError::Signature)?;
    let expiry: Expiry = decode(payload)?;
    if expiry.exp.is_some_and(|exp| exp.saturating_mul(SECOND) <= now_ms) {
        return Err(JwtError::Expired);
    }
    decode(payload)
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Invalid)?;
    http::parse(&bytes).map_err(|_| JwtError::Invalid)
}

fn mac(text: &str, secret: &str) -> Option<Hmac<Sha256>> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(text.as_bytes());
    Some(mac)
}

/// The claims of a user's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserClaims {
    pub kilo_user_id: String,
    pub version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_id: Option<String>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    /// The bot that acts for the user.
    pub bot: Option<String>,
}

/// Verifies a user's token. The error is the text of the 401.
pub fn user(header: Option<&str>, secret: Option<&str>, now_ms: i64) -> Result<UserId, String> {
    caller(header, secret, now_ms).map(|caller| caller.user)
}

/// The same, with all that the token says.
pub fn caller(header: Option<&str>, secret: Option<&str>, now_ms: i64) -> Result<Caller, String> {
    let header = header.ok_or("Missing Authorization header")?;
    let token = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Err("Invalid Authorization header format".into()),
    };
    let secret = secret.ok_or("Token validation failed")?;
    let claims: UserClaims = verify(token, secret, now_ms).map_err(|error| match error {
        JwtError::Expired => "Token expired",
        JwtError::Signature => "Invalid token signature",
        JwtError::Invalid => "Token validation failed",
    })?;
    if claims.version != 3 {
        return Err(format!("Invalid token version: {}, expected 3", claims.version));
    }
    let user = UserId::parse(&claims.kilo_user_id).map_err(|_| "Token validation failed")?;
    Ok(Caller { user, bot: claims.bot_id })
}

/// Who shows up at the routes of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A container, with a secret that only the session's object knows.
    Container(Secret),
    /// The session's own user.
    Owner,
}

/// Tells a container's secret from a user's token, which is a JWT and has dots, and verifies the latter. A request without either is answered as a
/// user's that forgot it.
pub fn bearer(header: Option<&str>, owner: &UserId, secret: Option<&str>, now_ms: i64) -> Result<Bearer, TrpcError> {
    let shown =
        header.and_then(|header| header.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    if let Some((_, token)) = shown
        && !token.contains('.')
    {
        return Ok(Bearer::Container(Secret(token.trim().to_owned())));
    }
    match user(header, secret, now_ms) {
        Err(message) => Err(TrpcError::new(Code::Unauthorized, message)),
        Ok(user) if user != *owner => Err(TrpcError::new(Code::Forbidden, "Token does not match session user")),
        Ok(_) => Ok(Bearer::Owner),
    }
}

/// Checks the key that the deployment's own back end shows beside its user's token.
pub fn internal_key(secret: Option<&str>, given: Option<&str>) -> Result<(), TrpcError> {
    match (secret, given) {
        (None, _) => Err(TrpcError::new(Code::InternalServerError, "INTERNAL_API_SECRET is not configured")),
        (Some(secret), Some(given)) if constant_time_eq(secret, given) => Ok(()),
        (Some(_), _) => Err(TrpcError::new(Code::Unauthorized, "Invalid or missing internal API key")),
    }
}

/// The claims of a stream ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketClaims {
    #[serde(rename = "type")]
    pub kind: String,
    pub user_id: String,
    /// Absent where the preparation has failed: then there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kilo_session_id: Option<String>,
    #[serde(alias = "sessionId")]
    pub cloud_agent_session_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    pub nonce: String,
    pub iat: i64,
    pub exp: i64,
}

/// A valid stream ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub user: UserId,
    pub session: SessionId,
    /// Good for one connection.
    pub nonce: String,
    /// Milliseconds.
    pub expires_at: i64,
}

/// Verifies a stream ticket. The error is the text of the 401.
pub fn ticket(token: &str, secret: Option<&str>, now_ms: i64) -> Result<Ticket, &'static str> {
    let secret = secret.ok_or("Ticket validation failed")?;
    // Step by step: the first thing that is missing is the one that is named.
    let claims: Value = verify(token, secret, now_ms).map_err(|error| match error {
        JwtError::Expired => "Ticket expired",
        JwtError::Signature => "Invalid ticket signature",
        JwtError::Invalid => "Ticket validation failed",
    })?;
    if claims.get("type").and_then(Value::as_str) != Some("stream_ticket") {
        return Err("Invalid ticket type");
    }
    if claims.get("userId").is_none_or(Value::is_null) {
        return Err("Invalid ticket: missing userId");
    }
    let claims: TicketClaims = serde_json::from_value(claims).map_err(|_| "Ticket validation failed")?;
    let user = UserId::parse(&claims.user_id).map_err(|_| "Invalid ticket: missing userId")?;
    let session = SessionId::parse(&claims.cloud_agent_session_id).map_err(|_| "Ticket validation failed")?;
    if claims.nonce.is_empty() || !claims.nonce.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err("Ticket validation failed");
    }
    Ok(Ticket { user, session, nonce: claims.nonce, expires_at: claims.exp.saturating_mul(SECOND) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_800_000_000_000;

    fn token(claims: serde_json::Value) -> String {
        format!("bEaReR {}", sign(&claims, "s").unwrap())
    }

    #[test]
    fn a_user_token_of_version_3_is_accepted() {
        let header = token(json!({"kiloUserId": "u", "version": 3, "exp": NOW / 1000 + 1, "env": "x"}));
        assert_eq!(user(Some(&header), Some("s"), NOW).unwrap().as_str(), "u");
    }

    #[test]
    fn each_fault_has_its_text() {
        let valid = token(json!({"kiloUserId": "u", "version": 3}));
        let error = |header: Option<&str>, secret| user(header, secret, NOW).unwrap_err();
        assert_eq!(error(None, Some("s")), "Missing Authorization header");
        assert_eq!(error(Some("Basic x"), Some("s")), "Invalid Authorization header format");
        assert_eq!(error(Some(&valid), Some("other")), "Invalid token signature");
        assert_eq!(error(Some("Bearer a.b"), Some("s")), "Token validation failed");
        assert_eq!(error(Some(&valid), None), "Token validation failed");
        assert_eq!(
            error(Some(&token(json!({"kiloUserId": "u", "version": 2}))), Some("s")),
            "Invalid token version: 2, expected 3"
        );
        assert_eq!(
            error(Some(&token(json!({"kiloUserId": "u", "version": 3, "exp": NOW / 1000}))), Some("s")),
            "Token expired"
        );
    }

    #[test]
    fn a_token_may_name_the_bot_that_acts_for_its_user() {
        let bot = |claims| caller(Some(&token(claims)), Some("s"), NOW).unwrap().bot;
        assert_eq!(bot(json!({"kiloUserId": "u", "version": 3, "botId": "reviewer"})).as_deref(), Some("reviewer"));
        assert_eq!(bot(json!({"kiloUserId": "u", "version": 3})), None);
    }

    #[test]
    fn a_session_is_shown_a_secret_of_its_container_or_the_token_of_its_user() {
        let owner = UserId::parse("u").unwrap();
        let shown = |header: Option<&str>| {
            bearer(header, &owner, Some("s"), NOW).map_err(|error| (error.code.facts().1, error.message))
        };
        let refused = |status, message: &str| Err((status, message.to_owned()));
        let of = |user: &str| token(json!({"kiloUserId": user, "version": 3}));
        assert_eq!(shown(Some("bearer abc")), Ok(Bearer::Container(Secret("abc".into()))));
        assert_eq!(shown(Some(&of("u"))), Ok(Bearer::Owner));
        assert_eq!(shown(Some(&of("v"))), refused(403, "Token does not match session user"));
        assert_eq!(shown(None), refused(401, "Missing Authorization header"));
        assert_eq!(shown(Some("Basic abc")), refused(401, "Invalid Authorization header format"));
        assert_eq!(shown(Some("Bearer a.b.c")), refused(401, "Token validation failed"));
    }

    #[test]
    fn the_internal_key_is_missed_wrong_or_not_configured() {
        let status = |secret, given| internal_key(secret, given).err().map(|error| error.code.facts().1);
        assert_eq!(status(Some("k"), Some("k")), None);
        for given in [None, Some(""), Some("K"), Some("kk")] {
            assert_eq!(status(Some("k"), given), Some(401));
            assert_eq!(status(None, given), Some(500), "without a secret nobody is let in");
        }
    }

    #[test]
    fn no_other_algorithm_is_accepted() {
        let payload = URL_SAFE_NO_PAD.encode(br#"{"kiloUserId":"u","version":3}"#);
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#);
        let forged = format!("Bearer {header}.{payload}.");
        assert_eq!(user(Some(&forged), Some("s"), NOW).unwrap_err(), "Invalid token signature");
    }

    #[test]
    fn a_ticket_that_lacks_something_is_told_what() {
        let fault = |without: &[&str], with: serde_json::Value| {
            let mut claims = json!({"type": "stream_ticket", "userId": "u", "kiloSessionId": "k", "nonce": "n", "iat": 0,
                "exp": NOW, "cloudAgentSessionId": "agent_01234567-89ab-cdef-0123-456789abcdef"});
            let map = claims.as_object_mut().unwrap();
            without.iter().for_each(|name| drop(map.remove(*name)));
            map.extend(with.as_object().unwrap().clone());
            ticket(&sign(&claims, "s").unwrap(), Some("s"), NOW).err()
        };
        assert_eq!(fault(&[], json!({})), None);
        assert_eq!(fault(&[], json!({"type": "x"})), Some("Invalid ticket type"));
        assert_eq!(fault(&["type", "userId"], json!({})), Some("Invalid ticket type"), "a user's token is no ticket");
        assert_eq!(fault(&["userId"], json!({})), Some("Invalid ticket: missing userId"));
        assert_eq!(fault(&[], json!({"userId": ""})), Some("Invalid ticket: missing userId"));
        assert_eq!(fault(&["nonce"], json!({})), Some("Ticket validation failed"));
        assert_eq!(fault(&["cloudAgentSessionId"], json!({})), Some("Ticket validation failed"));
        assert_eq!(fault(&[], json!({"exp": 0})), Some("Ticket expired"));
    }
}
