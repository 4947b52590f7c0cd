//! Bearer tokens of the HTTP servers in this crate.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use protocol::sandbox::Secret;
use subtle::ConstantTimeEq;

/// Whether `headers` carry `Authorization: Bearer <token>`.
pub fn authorized(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    given.is_some_and(|given| same(given, token))
}

/// Compares in constant time; only the length shows.
pub fn same(given: &[u8], token: &Secret) -> bool {
    given.ct_eq(token.expose().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_exact_token_is_let_in() {
        let token = Secret("abc".into());
        assert!(authorized(&headers("Bearer abc"), &token));
        for wrong in ["Bearer abd", "Bearer ab", "Bearer abcd", "Bearer ", "Basic abc", "abc", ""] {
            assert!(!authorized(&headers(wrong), &token), "{wrong}");
        }
        assert!(!authorized(&HeaderMap::new(), &token));
    }
}
