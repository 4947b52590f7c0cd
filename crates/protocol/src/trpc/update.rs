//! `updateSession` (spec/session.md 2.7): what is absent is kept, `null` or an empty collection removes, a value sets.

use super::fields::Fields;
use super::fields::Issue;
use super::mcp;
use super::parts;
use super::parts::Admits;
use super::parts::CallbackTarget;
use super::parts::Mode;
use super::prepare::PrepareSession;
use super::rules;
use crate::envelope::Envelope;
use crate::id::BranchName;
use crate::id::InvalidId;
use crate::id::SessionId;
use crate::sandbox::Secret;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// `updateSession`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateSession {
    pub session: SessionId,
    pub changes: Vec<Change>,
}

/// One changed field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    AppendSystemPrompt(Option<String>),
    AutoCommit(bool),
    CallbackTarget(Option<CallbackTarget>),
    CondenseOnComplete(bool),
    EncryptedSecrets(BTreeMap<String, Envelope>),
    EnvVars(BTreeMap<String, Secret>),
    GitToken(Option<Secret>),
    GithubToken(Option<Secret>),
    McpServers(Option<Value>),
    Mode(Mode),
    Model(String),
    SetupCommands(Vec<String>),
    UpstreamBranch(Option<BranchName>),
    Variant(Option<String>),
}

impl Change {
    /// Makes the change. A token is for its own kind of host only.
    pub fn apply(self, session: &mut PrepareSession) {
        let github = session.git.github_repo.is_some();
        match self {
            Change::AppendSystemPrompt(prompt) => session.append_system_prompt = prompt,
            Change::AutoCommit(flag) => session.auto_commit = flag,
            Change::CallbackTarget(target) => session.callback_target = target,
            Change::CondenseOnComplete(flag) => session.condense_on_complete = flag,
            Change::EncryptedSecrets(secrets) => session.encrypted_secrets = secrets,
            Change::EnvVars(variables) => session.env_vars = variables,
            Change::GitToken(token) if !github => session.git.token = token,
            Change::GithubToken(token) if github => session.git.token = token,
            Change::GitToken(_) | Change::GithubToken(_) => {}
            Change::McpServers(servers) => session.mcp_servers = servers,
            Change::Mode(mode) => session.mode = mode,
            Change::Model(model) => session.model = model,
            Change::SetupCommands(commands) => session.setup_commands = commands,
            Change::UpstreamBranch(branch) => session.upstream_branch = branch,
            Change::Variant(variant) => session.variant = variant,
        }
    }
}

/// Parses `updateSession`.
pub fn parse_update_session(input: &Value, admits: Admits) -> Result<UpdateSession, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let session = fields.required("cloudAgentSessionId", SessionId::parse);
    for field in ["mode", "model"] {
        if input.get(field).is_some_and(Value::is_null) {
            fields.issue(field, "Cannot be removed: a session needs it");
        }
    }
    let changes = [
        fields.parsed("mode", Mode::parse).map(Change::Mode),
        fields.parsed("model", rules::model).map(Change::Model),
        scalar(&mut fields, input, "variant", rules::variant, Change::Variant),
        scalar(&mut fields, input, "upstreamBranch", BranchName::parse, Change::UpstreamBranch),
        scalar(&mut fields, input, "appendSystemPrompt", rules::system_prompt, Change::AppendSystemPrompt),
        scalar(&mut fields, input, "gitToken", rules::secret, Change::GitToken),
        scalar(&mut fields, input, "githubToken", rules::secret, Change::GithubToken),
        input.get("autoCommit").map(|_| Change::AutoCommit(fields.flag("autoCommit").unwrap_or(false))),
        input
            .get("condenseOnComplete")
            .map(|_| Change::CondenseOnComplete(fields.flag("condenseOnComplete").unwrap_or(false))),
        input.get("callbackTarget").map(|_| Change::CallbackTarget(parts::callback_target(&mut fields, admits))),
        input.get("encryptedSecrets").map(|_| Change::EncryptedSecrets(parts::encrypted_secrets(&mut fields))),
        input.get("envVars").map(|_| Change::EnvVars(parts::env_vars(&mut fields))),
        input.get("setupCommands").map(|_| Change::SetupCommands(parts::setup_commands(&mut fields))),
        input.get("mcpServers").map(|_| Change::McpServers(mcp::mcp_servers(&mut fields))),
    ];
    let changes = changes.into_iter().flatten().collect();
    fields.finish(session.map(|session| UpdateSession { session, changes }))
}

fn scalar<T>(
    fields: &mut Fields,
    input: &Value,
    field: &str,
    parse: impl Fn(&str) -> Result<T, InvalidId>,
    change: fn(Option<T>) -> Change,
) -> Option<Change> {
    match input.get(field)? {
        Value::Null => Some(change(None)),
        _ => fields.parsed(field, parse).map(|value| change(Some(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ADMITS: Admits = Admits { loopback: false, callback_url: |_, _| Ok(()) };

    fn parse(fields: Value) -> Result<Vec<Change>, Vec<Issue>> {
        let mut input = json!({"cloudAgentSessionId": "agent_01234567-89ab-cdef-0123-456789abcdef"});
        input.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        parse_update_session(&input, ADMITS).map(|update| update.changes)
    }

    #[test]
    fn absent_keeps_null_removes_a_value_sets() {
        assert_eq!(parse(json!({})).unwrap(), []);
        assert_eq!(parse(json!({"variant": null})).unwrap(), [Change::Variant(None)]);
        assert_eq!(parse(json!({"variant": "high"})).unwrap(), [Change::Variant(Some("high".into()))]);
        assert_eq!(
            parse(json!({"encryptedSecrets": {}, "envVars": {}, "setupCommands": []})).unwrap(),
            [
                Change::EncryptedSecrets(BTreeMap::new()),
                Change::EnvVars(BTreeMap::new()),
                Change::SetupCommands(vec![])
            ]
        );
        assert_eq!(parse(json!({"callbackTarget": null})).unwrap(), [Change::CallbackTarget(None)]);
    }

    #[test]
    fn what_is_invalid_is_named() {
        for bad in [
            json!({"mode": "x"}),
            json!({"model": null}),
            json!({"variant": 1}),
            json!({"envVars": {"HOME": "x"}}),
            json!({"gitToken": ""}),
            json!({"encryptedSecrets": {"A": "plain"}}),
        ] {
            let field = bad.as_object().unwrap().keys().next().unwrap().clone();
            assert_eq!(parse(bad).unwrap_err()[0].path, [field]);
        }
    }
}
