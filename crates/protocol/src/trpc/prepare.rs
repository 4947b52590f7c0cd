//! `prepareSession` (spec/session.md 2.6).

use super::fields::Fields;
use super::fields::Issue;
use super::images::Images;
use super::images::images;
use super::mcp::mcp_servers;
use super::parts::Admits;
use super::parts::CUSTOM_NEEDS_PROMPT;
use super::parts::CallbackTarget;
use super::parts::GateThreshold;
use super::parts::GitSource;
use super::parts::Mode;
use super::parts::Platform;
use super::parts::callback_target;
use super::parts::encrypted_secrets;
use super::parts::env_vars;
use super::parts::git_source;
use super::parts::setup_commands;
use super::rules::limited;
use super::rules::model;
use super::rules::prompt;
use super::rules::system_prompt;
use super::rules::uuid;
use super::rules::variant;
use crate::envelope::Envelope;
use crate::id::BranchName;
use crate::id::MessageId;
use crate::sandbox::Permissions;
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
    /// For the first turn, as the prompt is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,
    pub mode: Mode,
    pub model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    pub git: GitSource,
    /// Where the repository is hosted, as the caller knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub env_vars: BTreeMap<String, Secret>,
    /// Stored as given; opened only for the container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub encrypted_secrets: BTreeMap<String, Envelope>,
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
    #[serde(default)]
    pub permissions: Permissions,
    /// Kept for whoever judges the agent's work; the result comes back with the callback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_threshold: Option<GateThreshold>,
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

/// Parses `prepareSession`.
pub fn parse_prepare_session(input: &Value, admits: Admits) -> Result<PrepareSession, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let prompt = fields.required("prompt", prompt);
    let mode = fields.required("mode", Mode::parse);
    let model = fields.required("model", model);
    let git = git_source(&mut fields, admits.loopback);
    let append_system_prompt = fields.parsed("appendSystemPrompt", system_prompt);
    if mode.is_some_and(|mode| mode.lacks_prompt(append_system_prompt.as_deref())) {
        fields.issue("appendSystemPrompt", CUSTOM_NEEDS_PROMPT);
    }
    let parsed = PrepareSession {
        images: images(&mut fields),
        variant: fields.parsed("variant", variant),
        platform: fields.parsed("platform", Platform::parse),
        env_vars: env_vars(&mut fields),
        encrypted_secrets: encrypted_secrets(&mut fields),
        setup_commands: setup_commands(&mut fields),
        mcp_servers: mcp_servers(&mut fields),
        upstream_branch: fields.parsed("upstreamBranch", BranchName::parse),
        auto_commit: fields.flag("autoCommit").unwrap_or(false),
        condense_on_complete: fields.flag("condenseOnComplete").unwrap_or(false),
        append_system_prompt,
        permissions: fields.parsed("permissions", Permissions::parse).unwrap_or_default(),
        gate_threshold: fields.parsed("gateThreshold", GateThreshold::parse),
        callback_target: callback_target(&mut fields, admits),
        organization_id: fields.parsed("kilocodeOrganizationId", uuid),
        created_on_platform: fields
            .parsed("createdOnPlatform", |text| limited(text, 100, "At most 100 characters"))
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

    fn envelope(data: &str) -> Value {
        let dek = "A".repeat(344);
        json!({"encryptedData": data, "encryptedDEK": dek, "algorithm": "rsa-aes-256-gcm", "version": 1})
    }

    #[test]
    fn the_minimum_and_its_defaults() {
        let parsed = parse_prepare_session(&minimal(), STRICT).unwrap();
        assert_eq!(
            (parsed.auto_initiate, parsed.shallow, parsed.created_on_platform.as_str()),
            (false, false, "cloud-agent")
        );
        assert_eq!(parsed.permissions, Permissions::Allow);
        assert_eq!(with("permissions", json!("ask")).unwrap().permissions, Permissions::Ask);
    }

    #[test]
    fn every_bad_field_is_named() {
        for (field, value) in [
            ("prompt", json!("")),
            ("prompt", json!(" \n")),
            ("permissions", json!("deny")),
            ("prompt", json!("x".repeat(100_001))),
            ("prompt", Value::Null),
            ("mode", json!("bad")),
            ("model", json!("a b")),
            ("gitUrl", json!("http://example.com/r")),
            ("gitUrl", json!("https://user:pw@example.com/r")),
            ("setupCommands", json!(vec!["x"; 21])),
            ("setupCommands", json!(["x".repeat(501)])),
            ("envVars", json!({"HOME": "x"})),
            ("envVars", json!({"A": "x".repeat(4097)})),
            ("envVars", json!({"A=B": "x"})),
            ("encryptedSecrets", json!({"A": "plain"})),
            ("encryptedSecrets", json!({"A": envelope("AAAA")})),
            ("encryptedSecrets", json!({"HOME": envelope(&"A".repeat(48))})),
            (
                "encryptedSecrets",
                Value::Object((0..51).map(|n| (format!("A{n}"), envelope(&"A".repeat(48)))).collect()),
            ),
            ("platform", json!("bitbucket")),
            ("upstreamBranch", json!("a..b")),
            ("gateThreshold", json!("sometimes")),
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
        assert!(with("encryptedSecrets", json!({"A": envelope(&"A".repeat(48))})).is_ok());
        assert!(with("gateThreshold", json!("warning")).is_ok());
        assert_eq!(with("platform", json!("gitlab")).unwrap().platform, Some(Platform::Gitlab));
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
}
