//! Delivers a callback (spec/session.md 9, design 5), signed as Standard Webhooks has it.

use crate::config::Config;
use crate::object::now_ms;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::Mac;
use object_core::time::SECOND;
use session_core::callback::check_url;
use session_core::message::CallbackPost;
use session_core::message::Outcome;
use sha2::Sha256;
use worker::Fetch;
use worker::Headers;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::RequestRedirect;

/// One try. 2xx is delivered; a network error, 429 and 5xx are tried again; everything else, a redirect too, is final.
pub async fn deliver(config: &Config, post: &CallbackPost) -> Outcome {
    // The platform's own words may name the URL or a header, and are shown to whoever asks for the session.
    let words = "the receiver could not be reached".to_owned();
    attempt(config, post).await.unwrap_or(Outcome::Failed { code: "CALLBACK".into(), message: words })
}

async fn attempt(config: &Config, post: &CallbackPost) -> worker::Result<Outcome> {
    let refused = |message: String| Outcome::Refused { code: "CALLBACK".into(), message };
    if let Err(error) = check_url(&post.target.url, config.allow_loopback) {
        return Ok(refused(error.message.to_owned()));
    }
    let headers = Headers::new();
    for (name, value) in &post.target.headers {
        headers.set(name, value.expose())?;
    }
    headers.set("content-type", "application/json")?;
    let (id, timestamp) = (format!("msg_{}", post.execution), now_ms().div_euclid(SECOND).to_string());
    headers.set("webhook-id", &id)?;
    headers.set("webhook-timestamp", &timestamp)?;
    if let Some(signature) = config.callback_secret.as_deref().and_then(|key| sign(key, &id, &timestamp, &post.body)) {
        headers.set("webhook-signature", &signature)?;
    }
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_headers(headers).with_body(Some(post.body.as_str().into()));
    init.with_redirect(RequestRedirect::Manual);
    let answer = Fetch::Request(Request::new_with_init(&post.target.url, &init)?).send().await?;
    let status = answer.status_code();
    Ok(match status {
        200..=299 => Outcome::Done,
        429 | 500.. => Outcome::Failed { code: "CALLBACK".into(), message: format!("the receiver answered {status}") },
        _ => refused(format!("the receiver answered {status}")),
    })
}

/// `v1,<base64 of HMAC-SHA256 over id.timestamp.body>`. The key is `whsec_<base64>`, or any text.
fn sign(key: &str, id: &str, timestamp: &str, body: &str) -> Option<String> {
    let decoded = key.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    let key = decoded.unwrap_or_else(|| key.as_bytes().to_vec());
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        let signature = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }
}
