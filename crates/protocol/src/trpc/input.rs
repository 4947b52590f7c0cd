//! The inputs of the procedures, parsed (spec/session.md 2.4 to 2.8).

use super::fields::Fields;
use super::fields::Issue;
use super::rules::git_url;
use super::rules::github_repo;
use super::rules::limited;
use super::rules::model;
use super::rules::prompt;
use super::rules::secret;
use super::rules::uuid;
use super::rules::variant;
use crate::id::BranchName;
use crate::id::InvalidId;
use crate::id::MessageId;
use crate::id::SessionId;
use crate::sandbox::Secret;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// `prepareSession`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrepareSession {
    pub prompt: String,
    pub mode: Mode,
    pub model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    pub git: GitSource,
    #[serde(default)]
    pub env_vars: BTreeMap<String, Secret>,
    #[serde(default)]
    pub setup_commands: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_servers: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_branch: Option<BranchName>,
    #[serde(default)]
    pub auto_commit: bool,
    #[serde(default)]
    pub condense_on_complete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_system_prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_target: Option<CallbackTarget>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    pub created_on_platform: String,
    #[serde(default)]
    pub shallow: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_message_id: Option<MessageId>,
    /// Answer at once, prepare in the background, then start the first turn.
    #[serde(default)]
    pub auto_initiate: bool,
}

/// Where the code comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GitSource {
    /// What is cloned.
    pub url: String,
    /// `owner/name`, if the caller named a GitHub repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github_repo: Option<String>,
    /// Given to git only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

/// Who is told when an execution ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackTarget {
    /// `https://…`, and no private host.
    pub url: String,
    /// Sent along; they may hold the receiver's credentials.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
}

/// What a deployment admits.
#[derive(Clone, Copy, Debug)]
pub struct Admits {
    /// `file://` and `http://127.0.0.1` as git URLs.
    pub loopback: bool,
    /// A callback URL, or why not.
    pub callback_url: fn(&str, bool) -> Result<(), InvalidId>,
}

/// Which agent works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Architect,
    Ask,
    Build,
    Code,
    Custom,
    Orchestrator,
    Plan,
}

impl Mode {
    /// The agent server's name for it.
    pub fn agent(self) -> &'static str {
        match self {
            Mode::Architect | Mode::Ask | Mode::Plan => "plan",
            Mode::Build | Mode::Code | Mode::Orchestrator => "code",
            Mode::Custom => "custom",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, InvalidId> {
        serde_json::from_value(Value::String(text.to_owned())).map_err(|_| InvalidId {
            message: "Expected one of plan, code, build, orchestrator, architect, ask, custom",
        })
    }
}

/// `initiateFromKilocodeSessionV2`, and every other call that names only a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiate {
    pub session: SessionId,
}

/// `sendMessageV2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage {
    pub session: SessionId,
    pub prompt: String,
    pub mode: Option<Mode>,
    pub model: Option<String>,
    pub variant: Option<String>,
    pub auto_commit: Option<bool>,
    pub condense_on_complete: Option<bool>,
    pub git_token: Option<Secret>,
    pub github_token: Option<Secret>,
    pub message_id: Option<MessageId>,
}

/// The body of the stream-ticket endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTicket {
    pub session: SessionId,
    pub organization_id: Option<String>,
}

/// `listSessions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSessions {
    pub cursor: Option<String>,
    pub limit: i64,
}

/// Names that a caller may not set in the agent's environment.
const RESERVED_ENV: [&str; 3] = ["HOME", "SESSION_HOME", "SESSION_ID"];

/// Parses `prepareSession`.
pub fn parse_prepare_session(input: &Value, admits: Admits) -> Result<PrepareSession, Vec<Issue>> {
    let mut fields = Fields::new(input);
    for field in ["encryptedSecrets", "gateThreshold", "images"] {
        fields.unsupported(field);
    }
    let prompt = fields.required("prompt", prompt);
    let mode = fields.required("mode", Mode::parse);
    let model = fields.required("model", model);
    let git = git_source(&mut fields, admits.loopback);
    let append_system_prompt = fields.parsed("appendSystemPrompt", |text| limited(text, 10_000));
    if mode == Some(Mode::Custom) && append_system_prompt.as_deref().is_none_or(|text| text.trim().is_empty()) {
        fields.issue("appendSystemPrompt", "Required when mode is custom");
    }
    let parsed = PrepareSession {
        variant: fields.parsed("variant", variant),
        env_vars: env_vars(&mut fields),
        setup_commands: setup_commands(&mut fields),
        mcp_servers: mcp_servers(&mut fields),
        upstream_branch: fields.parsed("upstreamBranch", BranchName::parse),
        auto_commit: fields.flag("autoCommit").unwrap_or(false),
        condense_on_complete: fields.flag("condenseOnComplete").unwrap_or(false),
        append_system_prompt,
        callback_target: callback_target(&mut fields, admits),
        organization_id: fields.parsed("kilocodeOrganizationId", uuid),
        created_on_platform: fields
            .parsed("createdOnPlatform", |text| limited(text, 100))
            .unwrap_or_else(|| "cloud-agent".to_owned()),
        shallow: fields.flag("shallow").unwrap_or(false),
        initial_message_id: fields.parsed("initialMessageId", MessageId::parse),
        auto_initiate: fields.flag("autoInitiate").unwrap_or(false),
        prompt: prompt.clone().unwrap_or_default(),
        mode: mode.unwrap_or(Mode::Code),
        model: model.clone().unwrap_or_default(),
        git: git.clone().unwrap_or(GitSource { url: String::new(), github_repo: None, token: None }),
    };
    let complete = prompt.and(mode).and(model).and(git).is_some();
    fields.finish(complete.then_some(parsed))
}

/// Parses `sendMessageV2`.
pub fn parse_send_message(input: &Value) -> Result<SendMessage, Vec<Issue>> {
    let mut fields = Fields::new(input);
    fields.unsupported("images");
    let session = fields.required("cloudAgentSessionId", SessionId::parse);
    let prompt = fields.required("prompt", prompt);
    let mode = fields.parsed("mode", Mode::parse);
    if mode == Some(Mode::Custom) {
        fields.issue("mode", "A follow-up cannot change to custom");
    }
    let message = SendMessage {
        mode,
        model: fields.parsed("model", model),
        variant: fields.parsed("variant", variant),
        auto_commit: fields.flag("autoCommit"),
        condense_on_complete: fields.flag("condenseOnComplete"),
        git_token: token(&mut fields, "gitToken"),
        github_token: token(&mut fields, "githubToken"),
        message_id: fields.parsed("messageId", MessageId::parse),
        session: match session {
            Some(session) => session,
            None => return fields.finish(None),
        },
        prompt: prompt.clone().unwrap_or_default(),
    };
    fields.finish(prompt.map(|_| message))
}

/// Parses the input of a call that names only a session, in the field `name`.
pub fn parse_session_id(input: &Value, name: &str) -> Result<SessionId, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let session = fields.required(name, SessionId::parse);
    fields.finish(session)
}

/// Parses `initiateFromKilocodeSessionV2`.
pub fn parse_initiate(input: &Value) -> Result<Initiate, Vec<Issue>> {
    parse_session_id(input, "cloudAgentSessionId").map(|session| Initiate { session })
}

/// Parses the body of the stream-ticket endpoint.
pub fn parse_stream_ticket(input: &Value) -> Result<StreamTicket, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let session = fields.required("cloudAgentSessionId", SessionId::parse);
    let organization_id = fields.parsed("organizationId", uuid);
    fields.finish(session.map(|session| StreamTicket { session, organization_id }))
}

/// Parses `listSessions`; both fields are optional.
pub fn parse_list_sessions(input: &Value) -> Result<ListSessions, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let cursor = fields.parsed("cursor", |text| limited(text, 100));
    let limit = match fields.value("limit").map(Value::as_i64) {
        None => 20,
        Some(Some(limit)) if (1..=100).contains(&limit) => limit,
        Some(_) => {
            fields.issue("limit", "Expected a whole number from 1 to 100");
            0
        }
    };
    fields.finish(Some(ListSessions { cursor, limit }))
}

fn git_source(fields: &mut Fields, allow_loopback: bool) -> Option<GitSource> {
    let repo = fields.parsed("githubRepo", github_repo);
    let url = fields.parsed("gitUrl", |text| git_url(text, allow_loopback));
    let git_token = token(fields, "gitToken");
    let github_token = token(fields, "githubToken");
    if fields.value("githubRepo").is_some() == fields.value("gitUrl").is_some() {
        fields.issue("githubRepo", "Must provide either githubRepo or gitUrl, but not both");
        return None;
    }
    match (repo, url) {
        (Some(repo), _) => {
            if github_token.is_none() {
                fields.issue("githubToken", "GitHub token or active app installation required for this repository");
            }
            let url = format!("https://github.com/{repo}.git");
            Some(GitSource { url, github_repo: Some(repo), token: github_token })
        }
        (None, Some(url)) => Some(GitSource { url, github_repo: None, token: git_token }),
        (None, None) => None,
    }
}

pub(super) fn setup_commands(fields: &mut Fields) -> Vec<String> {
    fields.texts("setupCommands", 20, 500)
}

pub(super) fn env_vars(fields: &mut Fields) -> BTreeMap<String, Secret> {
    let Some(value) = fields.value("envVars") else { return BTreeMap::new() };
    let parsed: Option<BTreeMap<String, Secret>> = value.as_object().and_then(|map| {
        map.iter().map(|(key, value)| Some((key.clone(), Secret(value.as_str()?.to_owned())))).collect()
    });
    let valid_name = |key: &str| {
        key.len() <= 128
            && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match parsed {
        Some(map) if map.keys().any(|key| RESERVED_ENV.contains(&key.as_str())) => {
            fields.issue("envVars", "HOME, SESSION_ID and SESSION_HOME are reserved");
        }
        Some(map)
            if map.len() <= 50
                && map.iter().all(|(key, value)| {
                    valid_name(key) && value.expose().len() <= 4096 && !value.expose().contains('\0')
                }) =>
        {
            return map;
        }
        _ => fields
            .issue("envVars", "Expected at most 50 names (128 of A-Z a-z 0-9 _) with values of at most 4096 bytes"),
    }
    BTreeMap::new()
}

pub(super) fn callback_target(fields: &mut Fields, admits: Admits) -> Option<CallbackTarget> {
    let value = fields.value("callbackTarget")?;
    let Ok(target) = serde_json::from_value::<CallbackTarget>(value.clone()) else {
        fields.issue("callbackTarget", "Expected {url, headers?}, with headers as an object of strings");
        return None;
    };
    if let Err(error) = (admits.callback_url)(&target.url, admits.loopback) {
        fields.issue("callbackTarget", error.message);
    }
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let header = |(name, value): (&String, &Secret)| {
        (1..=128).contains(&name.len())
            && name.chars().all(token)
            && value.expose().len() <= 4096
            && value.expose().chars().all(|c| c == ' ' || c.is_ascii_graphic())
    };
    if target.headers.len() > 20 || !target.headers.iter().all(header) {
        fields.issue("callbackTarget", "Expected at most 20 headers with values of at most 4096 printable characters");
    }
    Some(target)
}

pub(super) fn mcp_servers(fields: &mut Fields) -> Option<Value> {
    let value = fields.value("mcpServers")?;
    let valid = value.as_object().is_some_and(|servers| {
        servers.len() <= 20 && servers.iter().all(|(key, server)| key.len() <= 100 && server.is_object())
    });
    if !valid {
        fields.issue("mcpServers", "Expected at most 20 servers, each an object, with names of at most 100 characters");
    }
    valid.then(|| value.clone())
}

fn token(fields: &mut Fields, field: &str) -> Option<Secret> {
    fields.parsed(field, secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STRICT: Admits = Admits { loopback: false, callback_url: |_, _| Ok(()) };

    fn minimal() -> Value {
        json!({"prompt": "p", "mode": "code", "model": "m", "gitUrl": "https://example.com/r.git"})
    }

    fn with(field: &str, value: Value) -> Result<PrepareSession, Vec<Issue>> {
        let mut input = minimal();
        input[field] = value;
        parse_prepare_session(&input, STRICT)
    }

    fn wrong_field(result: Result<PrepareSession, Vec<Issue>>) -> String {
        result.unwrap_err()[0].path.join(".")
    }

    #[test]
    fn the_minimum_and_its_defaults() {
        let parsed = parse_prepare_session(&minimal(), STRICT).unwrap();
        assert_eq!(
            (parsed.auto_initiate, parsed.shallow, parsed.created_on_platform.as_str()),
            (false, false, "cloud-agent")
        );
    }

    #[test]
    fn every_bad_field_is_named() {
        for (field, value) in [
            ("prompt", json!("")),
            ("prompt", json!(" \n")),
            ("prompt", json!("x".repeat(100_001))),
            ("prompt", Value::Null),
            ("mode", json!("bad")),
            ("model", json!("a b")),
            ("gitUrl", json!("http://example.com/r")),
            ("gitUrl", json!("https://user:pw@example.com/r")),
            ("setupCommands", json!(vec!["x"; 21])),
            ("setupCommands", json!(["x".repeat(501)])),
            ("mcpServers", Value::Object((0..21).map(|n| (n.to_string(), json!({}))).collect())),
            ("envVars", json!({"HOME": "x"})),
            ("envVars", json!({"A": "x".repeat(4097)})),
            ("envVars", json!({"A=B": "x"})),
            ("upstreamBranch", json!("a..b")),
            ("initialMessageId", json!("msg_1")),
            ("kilocodeOrganizationId", json!("x")),
            ("autoInitiate", json!("yes")),
            ("callbackTarget", json!({"headers": {}})),
            ("callbackTarget", json!({"url": "u", "headers": {"a b": "x"}})),
            ("callbackTarget", json!({"url": "u", "headers": {"a": "x\ny"}})),
            ("images", json!({"path": "p"})),
        ] {
            assert_eq!(wrong_field(with(field, value.clone())), field, "{value}");
        }
        assert!(with("envVars", json!({"A": "x".repeat(4096)})).is_ok());
        assert!(with("mcpServers", Value::Object((0..20).map(|n| (n.to_string(), json!({}))).collect())).is_ok());
    }

    #[test]
    fn several_issues_come_together() {
        let fields: Vec<_> =
            parse_prepare_session(&json!({}), STRICT).unwrap_err().into_iter().map(|i| i.path.join(".")).collect();
        assert_eq!(fields, ["prompt", "mode", "model", "githubRepo"]);
        assert_eq!(parse_prepare_session(&json!([]), STRICT).unwrap_err()[0].message, "Expected a JSON object");
    }

    #[test]
    fn exactly_one_repository() {
        assert_eq!(wrong_field(with("githubRepo", json!("a/b"))), "githubRepo");
        let github = json!({"prompt": "p", "mode": "code", "model": "m", "githubRepo": "a/b", "githubToken": "t"});
        assert_eq!(parse_prepare_session(&github, STRICT).unwrap().git.url, "https://github.com/a/b.git");
    }

    #[test]
    fn loopback_repositories_need_the_permission() {
        let mut input = minimal();
        input["gitUrl"] = json!("file:///srv/r.git");
        assert_eq!(wrong_field(parse_prepare_session(&input, STRICT)), "gitUrl");
        assert!(parse_prepare_session(&input, Admits { loopback: true, ..STRICT }).is_ok());
    }

    #[test]
    fn custom_mode_needs_a_system_prompt() {
        assert_eq!(wrong_field(with("mode", json!("custom"))), "appendSystemPrompt");
    }

    #[test]
    fn a_follow_up_names_its_session_and_cannot_be_custom() {
        let id = "agent_01234567-89ab-cdef-0123-456789abcdef";
        assert!(parse_send_message(&json!({"cloudAgentSessionId": id, "prompt": "p"})).is_ok());
        for bad in [
            json!({"prompt": "p"}),
            json!({"cloudAgentSessionId": "x", "prompt": "p"}),
            json!({"cloudAgentSessionId": id}),
            json!({"cloudAgentSessionId": id, "prompt": "p", "mode": "custom"}),
        ] {
            assert!(parse_send_message(&bad).is_err(), "{bad}");
        }
    }
}
