//! Which pages of other origins may call `/api` and `/trpc` from a browser (spec/town.md 2.1): those that the deployment names in
//! `CORS_ALLOWED_ORIGINS`, none by default.
//!
//! Every answer to such a page carries its origin, refusals too: without it a page could not read why it was refused.

use worker::Headers;
use worker::Request;
use worker::Response;
use worker::ResponseBuilder;

const ALLOWED_HEADERS: &str = "Content-Type, Authorization";
const ALLOWED_METHODS: &str = "GET, POST, PUT, PATCH, DELETE, OPTIONS";
/// How long a browser may keep the answer to a preflight, in seconds.
const MAX_AGE: &str = "3600";

/// The page that asks, if it may.
pub struct Page {
    origin: Option<String>,
    is_preflight: bool,
}

impl Page {
    /// Reads what a request says of its page.
    pub fn of(request: &Request, path: &str, allowed: &[String]) -> worker::Result<Self> {
        let headers = request.headers();
        let open = path.starts_with("/api/") || path.starts_with("/trpc/");
        let origin = headers.get("origin")?.filter(|origin| open && admits(allowed, origin));
        let asks = headers.has("access-control-request-method")?;
        Ok(Self { origin, is_preflight: asks && request.method() == worker::Method::Options })
    }

    /// The answer to a preflight. None: it is none, or its page may not ask.
    pub fn preflight(&self) -> Option<worker::Result<Response>> {
        let origin = self.origin.as_deref().filter(|_| self.is_preflight)?;
        let answer = || {
            let headers = Headers::new();
            admit(&headers, origin)?;
            headers.set("access-control-allow-headers", ALLOWED_HEADERS)?;
            headers.set("access-control-allow-methods", ALLOWED_METHODS)?;
            headers.set("access-control-max-age", MAX_AGE)?;
            Ok(ResponseBuilder::new().with_status(204).with_headers(headers).empty())
        };
        Some(answer())
    }

    /// Lets the page read an answer. A socket is none: it knows no such rule.
    pub fn readable(&self, answer: Response) -> worker::Result<Response> {
        let Some(origin) = self.origin.as_deref().filter(|_| answer.status_code() != 101) else { return Ok(answer) };
        // Those of an answer that came from elsewhere cannot be changed.
        let headers = Headers::new();
        for (name, value) in answer.headers().entries() {
            headers.append(&name, &value)?;
        }
        admit(&headers, origin)?;
        Ok(answer.with_headers(headers))
    }
}

fn admit(headers: &Headers, origin: &str) -> worker::Result<()> {
    headers.set("access-control-allow-origin", origin)?;
    headers.set("access-control-allow-credentials", "true")?;
    headers.append("vary", "Origin")
}

/// An entry that ends in `:*` stands for every port.
fn admits(allowed: &[String], origin: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    allowed.iter().any(|entry| match entry.strip_suffix(":*") {
        Some(host) => origin.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')).is_some_and(is_port),
        None => entry == origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_origins_may_ask() {
        let allowed = ["https://app.example".to_owned(), "http://localhost:*".to_owned()];
        for good in ["https://app.example", "http://localhost:3000", "http://localhost:80"] {
            assert!(admits(&allowed, good), "{good}");
        }
        for bad in [
            "null",
            "",
            "https://app.example.evil",
            "https://app.example:444",
            "http://app.example",
            "https://localhost:3000",
            "http://localhost",
            "http://localhost:",
            "http://localhost:80.evil",
            "http://localhost:8o",
        ] {
            assert!(!admits(&allowed, bad), "{bad}");
        }
        assert!(!admits(&[], "https://app.example"), "nobody by default");
    }
}
