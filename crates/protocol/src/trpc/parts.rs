//! The parts that inputs are made of, each with the rule of its field (spec/session.md 2.4).

use super::fields::Fields;
use super::rules::git_url;
use super::rules::github_repo;
use super::rules::secret;
use crate::envelope::Envelope;
use crate::envelope::VALUE_BYTES_MAX;
use crate::id::InvalidId;
use crate::sandbox::Secret;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

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

    /// Whether a session in this mode may not do with this system prompt: `custom` is nothing but that.
    pub fn lacks_prompt(self, prompt: Option<&str>) -> bool {
        self == Mode::Custom && prompt.is_none_or(|text| text.trim().is_empty())
    }

    pub(super) fn parse(text: &str) -> Result<Self, InvalidId> {
        serde_json::from_value(Value::String(text.to_owned())).map_err(|_| InvalidId {
            message: "Expected one of plan, code, build, orchestrator, architect, ask, custom",
        })
    }
}

/// What [`Mode::lacks_prompt`] is refused with.
pub const CUSTOM_NEEDS_PROMPT: &str = "Required when mode is custom";

/// A host of repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    Github,
    Gitlab,
}

impl Platform {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidId> {
        serde_json::from_value(Value::String(text.to_owned()))
            .map_err(|_| InvalidId { message: "Expected one of github, gitlab" })
    }
}

/// From which severity on the agent's findings count (spec/session.md 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateThreshold {
    All,
    Critical,
    Off,
    Warning,
}

impl GateThreshold {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidId> {
        serde_json::from_value(Value::String(text.to_owned()))
            .map_err(|_| InvalidId { message: "Expected one of off, all, warning, critical" })
    }
}

/// Names that a caller may not set in the agent's environment.
const RESERVED_ENV: [&str; 3] = ["HOME", "SESSION_HOME", "SESSION_ID"];
const RESERVED: &str = "HOME, SESSION_ID and SESSION_HOME are reserved";
/// The most variables, and the most secrets.
const ENV_MAX: usize = 50;

pub(super) fn git_source(fields: &mut Fields, allow_loopback: bool) -> Option<GitSource> {
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
    match parsed {
        Some(map) if map.keys().any(|key| RESERVED_ENV.contains(&key.as_str())) => fields.issue("envVars", RESERVED),
        Some(map)
            if map.len() <= ENV_MAX
                && map.iter().all(|(key, value)| {
                    is_env_name(key) && value.expose().len() <= VALUE_BYTES_MAX && !value.expose().contains('\0')
                }) =>
        {
            return map;
        }
        _ => fields.issue(
            "envVars",
            format!(
                "Expected at most {ENV_MAX} names (128 of A-Z a-z 0-9 _) with values of at most {VALUE_BYTES_MAX} bytes"
            ),
        ),
    }
    BTreeMap::new()
}

fn is_env_name(key: &str) -> bool {
    key.len() <= 128
        && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

pub(super) fn encrypted_secrets(fields: &mut Fields) -> BTreeMap<String, Envelope> {
    const FIELD: &str = "encryptedSecrets";
    let Some(value) = fields.value(FIELD) else { return BTreeMap::new() };
    // By way of text, as it is read from the row: a second reader of the same type would be a kilobyte more of wasm.
    match serde_json::from_str::<BTreeMap<String, Envelope>>(&value.to_string()) {
        Ok(map) if map.keys().any(|key| RESERVED_ENV.contains(&key.as_str())) => fields.issue(FIELD, RESERVED),
        Ok(map)
            if map.len() <= ENV_MAX
                && map.iter().all(|(key, envelope)| is_env_name(key) && envelope.is_well_formed()) =>
        {
            return map;
        }
        _ => fields.issue(
            FIELD,
            format!(
                "Expected at most {ENV_MAX} names (128 of A-Z a-z 0-9 _), each with {{encryptedData, encryptedDEK, algorithm: \"rsa-aes-256-gcm\", \
                 version: 1}}, in base64, of a value of at most {VALUE_BYTES_MAX} bytes"
            ),
        ),
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
            && value.expose().len() <= VALUE_BYTES_MAX
            && value.expose().chars().all(|c| c == ' ' || c.is_ascii_graphic())
    };
    if target.headers.len() > 20 || !target.headers.iter().all(header) {
        fields.issue("callbackTarget", "Expected at most 20 headers with values of at most 4096 printable characters");
    }
    Some(target)
}

pub(super) fn token(fields: &mut Fields, field: &str) -> Option<Secret> {
    fields.parsed(field, secret)
}
