//! What the deployment sets: variables and secrets. A missing one is missed where it is used, not at the start.

use crate::log;
use object_core::lifecycle::LifecycleLimits;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use worker::Env;

/// The settings of this deployment.
pub struct Config {
    /// Signs and verifies user tokens and stream tickets.
    pub nextauth_secret: Option<String>,
    /// Shared with the deployment's own back end.
    pub internal_api_secret: Option<String>,
    /// Signs and verifies container and agent tokens of towns.
    pub gastown_jwt_secret: Option<String>,
    /// Signs callbacks.
    pub callback_secret: Option<String>,
    /// Opens `encryptedSecrets`: PKCS#8 PEM.
    pub secrets_key: Option<String>,
    /// Where containers reach this Worker, without a slash at the end. Production has no default.
    pub worker_url: Option<String>,
    /// The local container host, if containers run there.
    pub host: Option<Host>,
    /// The model that agents use, handed to containers.
    pub model: Vec<(&'static str, String)>,
    /// The API of GitHub, without a slash at the end.
    pub github_api_url: String,
    /// gitlab.com, or what stands for it; without a slash at the end. Other instances are named by their towns.
    pub gitlab_api_url: String,
    /// Origins whose pages may call the API from a browser; empty means none.
    pub cors_origins: Vec<String>,
    /// Origins that may open streams from a browser; empty means any.
    pub allowed_origins: Vec<String>,
    /// Whether `file://` and `http://127.0.0.1` are admitted as git and callback URLs.
    pub allow_loopback: bool,
    /// The numbers.
    pub limits: Limits,
    /// The same as they were given, for containers: each of their roles reads its own section.
    pub limits_given: Option<String>,
}

/// `HOLDFAST_LIMITS`: the numbers of each kind of object, and those of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub container: LifecycleLimits,
    pub session: session_core::limits::Limits,
    pub town: town_core::limits::Limits,
    /// The names are known to `sandboxd session`, which does not start with a wrong one.
    sandbox: BTreeMap<String, NonZeroU64>,
    /// The same for `sandboxd town`.
    sandbox_town: BTreeMap<String, NonZeroU64>,
}

impl Limits {
    fn parse(json: &str) -> Result<Self, String> {
        let limits: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        limits.container.check().map_err(|error| error.to_string())?;
        limits.session.check().map_err(|error| error.to_string())?;
        limits.town.check().map_err(|error| error.to_string())?;
        Ok(limits)
    }

    /// None: it cannot work, which is announced, and changes nothing.
    fn parse_or_tell(json: &str) -> Option<Self> {
        Self::parse(json).map_err(|error| log::error("HOLDFAST_LIMITS", &[("error", &error)])).ok()
    }
}

/// A `sandboxd host`.
#[derive(Clone)]
pub struct Host {
    pub url: String,
    pub token: String,
}

impl Config {
    /// Reads the environment.
    pub fn from_env(env: &Env) -> Self {
        Self::read(|name| env.var(name).ok().map(|value| value.to_string()).filter(|value| !value.is_empty()))
    }

    /// Reads variables through `var`.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Self {
        let production = var("ENVIRONMENT").as_deref() == Some("production");
        // Overrides are for tests and demonstrations: production has one set of numbers.
        let given = var("HOLDFAST_LIMITS").filter(|_| !production);
        let limits = given.as_deref().and_then(Limits::parse_or_tell);
        let host = var("HOLDFAST_HOST_URL").zip(var("HOLDFAST_HOST_TOKEN")).map(|(url, token)| Host { url, token });
        Self {
            nextauth_secret: var("NEXTAUTH_SECRET"),
            internal_api_secret: var("INTERNAL_API_SECRET"),
            gastown_jwt_secret: var("GASTOWN_JWT_SECRET"),
            callback_secret: var("CALLBACK_SIGNING_SECRET"),
            secrets_key: var("AGENT_ENV_VARS_PRIVATE_KEY"),
            worker_url: var("WORKER_URL")
                .or_else(|| (!production).then(|| "http://localhost:8788".to_owned()))
                .map(|url| url.trim_end_matches('/').to_owned()),
            host: host.filter(|_| !production),
            model: ["HOLDFAST_MODEL_BASE_URL", "HOLDFAST_MODEL_API_KEY", "HOLDFAST_MODEL", "HOLDFAST_MODEL_IMAGES"]
                .into_iter()
                .filter_map(|name| Some((name, var(name)?)))
                .collect(),
            github_api_url: url(var("GITHUB_API_URL"), "https://api.github.com"),
            gitlab_api_url: url(var("GITLAB_API_URL"), "https://gitlab.com"),
            cors_origins: list(var("CORS_ALLOWED_ORIGINS")),
            allowed_origins: list(var("WS_ALLOWED_ORIGINS")),
            allow_loopback: var("ALLOW_LOOPBACK").as_deref() == Some("1") && !production,
            limits_given: given.filter(|_| limits.is_some()),
            limits: limits.unwrap_or_default(),
        }
    }
}

/// The words between commas.
fn list(set: Option<String>) -> Vec<String> {
    let words = set.unwrap_or_default();
    words.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// A base address: what is set, or the default.
fn url(set: Option<String>, default: &str) -> String {
    set.as_deref().unwrap_or(default).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(environment: &str) -> Config {
        let pairs = [
            ("ENVIRONMENT", environment),
            ("ALLOW_LOOPBACK", "1"),
            ("HOLDFAST_LIMITS", r#"{"session":{"hung_ms":60000}}"#),
            ("HOLDFAST_HOST_URL", "http://127.0.0.1:1"),
            ("HOLDFAST_HOST_TOKEN", "t"),
            ("WORKER_URL", "https://w.example/"),
        ];
        Config::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn production_ignores_what_is_for_development() {
        let (development, production) = (config("development"), config("production"));
        assert_eq!((development.allow_loopback, production.allow_loopback), (true, false));
        assert_eq!((development.limits.session.hung_ms, production.limits), (60_000, Limits::default()));
        assert_eq!((development.limits_given.is_some(), production.limits_given), (true, None));
        assert_eq!((development.host.is_some(), production.host.is_some()), (true, false));
        assert_eq!(production.worker_url.as_deref(), Some("https://w.example"));
        assert_eq!(Config::read(|name| (name == "ENVIRONMENT").then(|| "production".to_owned())).worker_url, None);
    }

    #[test]
    fn the_fast_limits_of_tests_and_demonstrations_can_work() {
        let limits = Limits::parse(include_str!("../limits.fast.json")).unwrap();
        assert!(limits.town.drain_expiry_ms < Limits::default().town.drain_expiry_ms);
    }

    #[test]
    fn limits_that_cannot_work_are_refused() {
        for bad in [
            "",
            r#"{"hung_ms":60000}"#,
            r#"{"session":{"hang_ms":60000}}"#,
            r#"{"session":{"hung_ms":0}}"#,
            r#"{"session":{"hung_ms":30000}}"#,
            r#"{"container":{"idle_ms":0}}"#,
            r#"{"town":{"drain_handoff_ms":0}}"#,
            r#"{"sandbox":{"batch_ms":0}}"#,
            r#"{"sandbox":7}"#,
        ] {
            assert!(Limits::parse(bad).is_err(), "{bad}");
        }
        assert!(Limits::parse(r#"{"sandbox":{"batch_ms":7},"sandbox_town":{"ready_timeout_ms":7}}"#).is_ok());
    }
}
