//! Tokens and keys: JWTs signed with HS256, the only algorithm that is accepted, and shared secrets (spec/session.md 2.2).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Hmac;
use hmac::Mac;
use object_core::time::SECOND;
use protocol::id::SessionId;
use protocol::id::UserId;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
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
    serde_json::from_slice(&bytes).map_err(|_| JwtError::Invalid)
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

/// Verifies a user's token. The error is the text of the 401.
pub fn user(header: Option<&str>, secret: Option<&str>, now_ms: i64) -> Result<UserId, String> {
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
    UserId::parse(&claims.kilo_user_id).map_err(|_| "Token validation failed".into())
}

/// The claims of a stream ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketClaims {
    #[serde(rename = "type")]
    pub kind: String,
    pub user_id: String,
    pub kilo_session_id: String,
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
    let claims: TicketClaims = verify(token, secret, now_ms).map_err(|error| match error {
        JwtError::Expired => "Ticket expired",
        JwtError::Signature => "Invalid ticket signature",
        JwtError::Invalid => "Ticket validation failed",
    })?;
    if claims.kind != "stream_ticket" {
        return Err("Invalid ticket type");
    }
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
    fn no_other_algorithm_is_accepted() {
        let payload = URL_SAFE_NO_PAD.encode(br#"{"kiloUserId":"u","version":3}"#);
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#);
        let forged = format!("Bearer {header}.{payload}.");
        assert_eq!(user(Some(&forged), Some("s"), NOW).unwrap_err(), "Invalid token signature");
    }

    #[test]
    fn a_user_token_is_no_ticket() {
        let claims = json!({"type": "x", "userId": "u", "kiloSessionId": "k", "nonce": "n", "iat": 0, "exp": NOW,
            "cloudAgentSessionId": "agent_01234567-89ab-cdef-0123-456789abcdef"});
        assert_eq!(ticket(&sign(&claims, "s").unwrap(), Some("s"), NOW), Err("Invalid ticket type"));
    }
}
