//! `mcpServers` (spec/session.md 2.4): tools that the agent gets beside its own.
//!
//! They are stored and handed on as they came, into the agent server's configuration: what is in there without being known here would configure
//! it in ways that nobody meant, so what is not of the shape is refused.

use super::fields::Fields;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The most servers.
const SERVERS_MAX: usize = 20;
/// The longest name of one, in characters.
const NAME_CHARS_MAX: usize = 100;
/// All servers as JSON: they are part of the session's row, and of the agent server's environment.
const BYTES_MAX: usize = 64 * 1024;
/// The longest that the agent may wait for one.
const TIMEOUT_MS_MAX: u64 = 3_600_000;

/// One server, read only to be checked.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Server {
    /// A process beside the agent.
    Local(Local),
    /// Somewhere else.
    Remote(Remote),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Local {
    command: Vec<String>,
    #[serde(default, rename = "environment")]
    _environment: BTreeMap<String, String>,
    #[serde(default, rename = "enabled")]
    _enabled: Present<bool>,
    #[serde(default)]
    timeout: Present<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remote {
    url: String,
    #[serde(default, rename = "headers")]
    _headers: BTreeMap<String, String>,
    #[serde(default, rename = "enabled")]
    _enabled: Present<bool>,
    #[serde(default)]
    timeout: Present<u64>,
}

/// A field that may be absent but not null, which the agent server would not take.
#[derive(Deserialize)]
#[serde(transparent)]
struct Present<T>(T);

impl Default for Present<bool> {
    fn default() -> Self {
        Self(true)
    }
}

impl Default for Present<u64> {
    fn default() -> Self {
        Self(TIMEOUT_MS_MAX)
    }
}

impl Server {
    fn is_valid(&self) -> bool {
        let (complete, timeout) = match self {
            Server::Local(local) => (local.command.first().is_some_and(|program| !program.is_empty()), &local.timeout),
            Server::Remote(remote) => (is_url(&remote.url), &remote.timeout),
        };
        complete && (1..=TIMEOUT_MS_MAX).contains(&timeout.0)
    }
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.starts_with(['/', '?', '#']) && !rest.is_empty())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

pub(super) fn mcp_servers(fields: &mut Fields) -> Option<Value> {
    const FIELD: &str = "mcpServers";
    let value = fields.value(FIELD)?;
    let text = value.to_string();
    if text.len() > BYTES_MAX {
        fields.issue(FIELD, format!("Expected at most {BYTES_MAX} bytes of JSON in all, not {}", text.len()));
        return None;
    }
    let valid = serde_json::from_str::<BTreeMap<String, Server>>(&text).is_ok_and(|servers| {
        servers.len() <= SERVERS_MAX
            && servers.iter().all(|(name, server)| name.chars().count() <= NAME_CHARS_MAX && server.is_valid())
    });
    if !valid {
        fields.issue(
            FIELD,
            format!(
                "Expected at most {SERVERS_MAX} servers with names of at most {NAME_CHARS_MAX} characters, each {{type: \"local\", command: [string, …], \
                 environment?, enabled?, timeout?}} or {{type: \"remote\", url, headers?, enabled?, timeout?}}, with a timeout of 1 to {TIMEOUT_MS_MAX} ms"
            ),
        );
        return None;
    }
    Some(value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<Option<Value>, String> {
        let input = json!({ "mcpServers": value });
        let mut fields = Fields::new(&input);
        let servers = mcp_servers(&mut fields);
        fields.finish(Some(servers)).map_err(|issues| issues[0].message.clone())
    }

    fn one(server: Value) -> bool {
        read(&json!({ "s": server })).is_ok()
    }

    #[test]
    fn servers_of_both_kinds_are_handed_on_as_they_came() {
        let servers = json!({
            "l": {"type": "local", "command": ["x", "-y"], "environment": {"A": "1"}, "enabled": false, "timeout": 1},
            "r": {"type": "remote", "url": "https://mcp.example/", "headers": {"a": "b"}, "enabled": true, "timeout": 3_600_000},
        });
        assert_eq!(read(&servers), Ok(Some(servers)));
        assert!(one(json!({"type": "local", "command": ["x"]})) && one(json!({"type": "remote", "url": "http://h"})));
        assert_eq!((read(&json!({})), read(&Value::Null)), (Ok(Some(json!({}))), Ok(None)));
    }

    #[test]
    fn what_is_not_of_the_shape_is_refused() {
        for bad in [
            json!({}),
            json!({"command": ["x"]}),
            json!({"type": "stdio", "command": ["x"]}),
            json!({"type": "local"}),
            json!({"type": "local", "command": []}),
            json!({"type": "local", "command": [""]}),
            json!({"type": "local", "command": "x"}),
            json!({"type": "local", "command": ["x"], "url": "https://h"}),
            json!({"type": "local", "command": ["x"], "environment": {"A": 1}}),
            json!({"type": "local", "command": ["x"], "enabled": null}),
            json!({"type": "local", "command": ["x"], "enabled": "yes"}),
            json!({"type": "local", "command": ["x"], "timeout": 0}),
            json!({"type": "local", "command": ["x"], "timeout": 3_600_001}),
            json!({"type": "local", "command": ["x"], "timeout": 1.5}),
            json!({"type": "remote"}),
            json!({"type": "remote", "url": "mcp.example"}),
            json!({"type": "remote", "url": "https://"}),
            json!({"type": "remote", "url": "https://h", "headers": {"a": null}}),
            json!({"type": "remote", "url": "https://h", "environment": {}}),
            json!("x"),
        ] {
            assert!(!one(bad.clone()), "{bad}");
        }
        assert!(read(&json!([])).unwrap_err().contains("type: \"local\""));
    }

    #[test]
    fn there_are_not_too_many_nor_are_they_too_large() {
        let server = |program: String| json!({"type": "local", "command": [program]});
        let many = |n: usize| Value::Object((0..n).map(|n| (n.to_string(), server("x".into()))).collect());
        assert!(read(&many(SERVERS_MAX)).is_ok() && read(&many(SERVERS_MAX + 1)).is_err());
        let named = |chars: usize| json!({ "ü".repeat(chars): server("x".into()) });
        assert!(read(&named(NAME_CHARS_MAX)).is_ok() && read(&named(NAME_CHARS_MAX + 1)).is_err());
        let around = json!({ "s": server(String::new()) }).to_string().len();
        let large = |bytes: usize| json!({ "s": server("x".repeat(bytes - around)) });
        assert!(read(&large(BYTES_MAX)).is_ok());
        assert_eq!(read(&large(BYTES_MAX + 1)).unwrap_err(), "Expected at most 65536 bytes of JSON in all, not 65537");
    }
}
