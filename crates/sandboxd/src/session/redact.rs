//! Keeps secrets out of what people read: output of commands that knew one, or printed one.

use super::config::Config;
use protocol::sandbox::Secret;
use protocol::sandbox::Work;
use serde_json::Value;
use std::cmp::Reverse;
use std::fmt;
use std::iter;

/// Shorter values are too common to be replaced; no token is that short.
const SECRET_BYTES_MIN: usize = 6;

/// Replaces secrets in texts.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor of {} secrets", self.secrets.len())
    }
}

impl Redactor {
    /// Hides each of `secrets`.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut secrets: Vec<String> = secrets
            .into_iter()
            // Of a key of many lines an output may show some, or all as one line with `\n` in two characters.
            .flat_map(|secret| iter::once(secret.expose()).chain(secret.expose().lines().map(str::trim)))
            .filter(|secret| secret.len() >= SECRET_BYTES_MIN)
            .map(str::to_owned)
            .collect();
        // The longest first: one secret may contain another.
        secrets.sort_by_key(|secret| Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// Hides every secret that a program could show which is run for `work`.
    pub fn of_work(config: &Config, work: &Work) -> Self {
        let plan = &work.workspace;
        let own = config.token.iter().chain(config.model.as_ref().map(|model| &model.api_key));
        let turn = work.turn.as_ref().map(|turn| &turn.ingest_secret);
        let of_tools: Vec<Secret> = plan.mcp_servers.iter().flat_map(secrets_of_tools).collect();
        let of_plan = plan.git_token.iter().chain(plan.env.values()).chain(&of_tools);
        Self::new(own.chain(of_plan).chain(turn).chain([&work.report.token]))
    }

    /// `text` without secrets.
    pub fn clean(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[redacted]"))
    }
}

/// What tools are given to show that they may: variables, and headers, whose last word is the token.
pub fn secrets_of_tools(servers: &Value) -> Vec<Secret> {
    let servers = servers.as_object().into_iter().flat_map(|servers| servers.values());
    let given = servers.flat_map(|server| [server.get("environment"), server.get("headers")]).flatten();
    let texts = given.filter_map(Value::as_object).flat_map(|named| named.values()).filter_map(Value::as_str);
    texts
        .flat_map(|text| [text, text.rsplit(' ').next().unwrap_or_default()])
        .map(|text| Secret(text.to_owned()))
        .collect()
}

/// `url` without user, password, query and fragment.
pub fn url_for_people(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_the_longest_first() {
        let secrets = [Secret("abcdef".into()), Secret("abcdefghi".into()), Secret("a".into())];
        let redactor = Redactor::new(&secrets);
        assert_eq!(redactor.clean("a abcdefghi abcdef"), "a [redacted] [redacted]");
    }

    #[test]
    fn what_tools_are_given_is_secret_too() {
        let servers = serde_json::json!({
            "near": { "type": "local", "command": ["not-secret"], "environment": { "KEY": "near-secret" } },
            "far": { "type": "remote", "url": "https://not-secret/", "headers": { "authorization": "Bearer far-secret" } },
        });
        let redactor = Redactor::new(&secrets_of_tools(&servers));
        let said = "near-secret, Bearer far-secret, far-secret, not-secret";
        assert_eq!(redactor.clean(said), "[redacted], [redacted], [redacted], not-secret");
    }

    #[test]
    fn no_line_of_a_secret_of_many_lines_is_shown() {
        let redactor =
            Redactor::new(&[Secret("-----BEGIN KEY-----\nMIIBVwIBADAN\nBgkqhkiG9w0B\n-----END KEY-----\n".into())]);
        assert_eq!(redactor.clean("the end of it: BgkqhkiG9w0B"), "the end of it: [redacted]");
        let escaped = redactor.clean(r#"{"key":"-----BEGIN KEY-----\nMIIBVwIBADAN\nBgkqhkiG9w0B\n"}"#);
        assert_eq!(escaped, r#"{"key":"[redacted]\n[redacted]\n[redacted]\n"}"#);
    }

    #[test]
    fn a_url_loses_its_credentials() {
        assert_eq!(url_for_people("https://user:pw@git.example/a.git?t=1#x"), "https://git.example/a.git");
        assert_eq!(url_for_people("file:///srv/a.git"), "file:///srv/a.git");
    }
}
