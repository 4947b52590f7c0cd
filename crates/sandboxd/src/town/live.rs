//! What the town tells its container after the start: the token of the calls home, and the town's configuration
//! (spec/town.md 6.2, `/refresh-token`, `X-Town-Config`).

use super::config::Config;
use protocol::sandbox::Secret;
use protocol::town::config::TownConfig;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Variables of ours that a town's own may not replace.
const RESERVED_PREFIXES: [&str; 5] = ["GASTOWN_", "GIT_CONFIG", "HOLDFAST_", "KILO", "LD_"];
/// The same, whole names.
const RESERVED: [&str; 7] = ["ALLOW_LOOPBACK", "BASH_ENV", "HOME", "LANG", "PATH", "SHELL", "XDG_DATA_HOME"];

/// What changes while the container runs.
#[derive(Debug)]
pub struct Live(Mutex<Known>);

#[derive(Debug)]
struct Known {
    token: Secret,
    config: TownConfig,
}

impl Live {
    /// As the container was started.
    pub fn new(config: &Config) -> Self {
        Self(Mutex::new(Known { token: config.container_token.clone(), config: TownConfig::default() }))
    }

    /// The bearer of calls home.
    pub fn token(&self) -> Secret {
        self.known().token.clone()
    }

    /// From now on this is the bearer.
    pub fn set_token(&self, token: Secret) {
        self.known().token = token;
    }

    /// From now on this is the town's configuration.
    pub fn set_config(&self, config: TownConfig) {
        self.known().config = config;
    }

    /// What the town's configuration adds to an agent's environment.
    pub fn environment(&self) -> BTreeMap<String, String> {
        environment(&self.known().config)
    }

    /// A variable that concerns one agent, or one rig: what the town said last, else what came with its start, else the container's own.
    ///
    /// The start may be hours old; a token that was exchanged since is good for nothing.
    pub fn variable(&self, own: &BTreeMap<String, String>, name: &str) -> Option<String> {
        let newest = self.environment().remove(name);
        let given = newest.or_else(|| own.get(name).cloned()).or_else(|| std::env::var(name).ok());
        given.filter(|value| !value.is_empty())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a variable may come from outside.
pub fn is_free(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['=', '\0'])
        && !RESERVED.contains(&name)
        && !RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn environment(config: &TownConfig) -> BTreeMap<String, String> {
    let own = config.env_vars.iter().filter(|(name, value)| is_free(name) && !value.contains('\0'));
    let mut environment: BTreeMap<String, String> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
    let auth = &config.git_auth;
    let coauthor = config.disable_ai_coauthor.then(|| "1".to_owned());
    for (name, value) in [
        ("GASTOWN_DISABLE_AI_COAUTHOR", &coauthor),
        ("GASTOWN_GIT_AUTHOR_EMAIL", &config.git_author_email),
        ("GASTOWN_GIT_AUTHOR_NAME", &config.git_author_name),
        ("GASTOWN_ORGANIZATION_ID", &config.organization_id),
        ("GITHUB_CLI_PAT", &config.github_cli_pat),
        ("GITLAB_INSTANCE_URL", &auth.gitlab_instance_url),
        ("GITLAB_TOKEN", &auth.gitlab_token),
        ("GIT_TOKEN", &auth.github_token),
        ("KILOCODE_TOKEN", &config.kilocode_token),
    ] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            environment.insert(name.to_owned(), value.clone());
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_configuration_becomes_variables_and_what_is_absent_is_unset() {
        let config = serde_json::from_value(json!({
            "env_vars": { "FOO": "bar", "PATH": "/evil", "HOLDFAST_SANDBOX_TOKEN": "evil", "KILO_CONFIG_CONTENT": "{}" },
            "git_auth": { "github_token": "gh", "gitlab_instance_url": "https://gl.example" },
            "github_cli_pat": "pat", "git_author_name": "A", "kilocode_token": "kt", "organization_id": "o",
            "disable_ai_coauthor": true
        }));
        let names = environment(&config.unwrap()).into_iter().map(|(name, value)| format!("{name}={value}"));
        assert_eq!(
            names.collect::<Vec<_>>(),
            [
                "FOO=bar",
                "GASTOWN_DISABLE_AI_COAUTHOR=1",
                "GASTOWN_GIT_AUTHOR_NAME=A",
                "GASTOWN_ORGANIZATION_ID=o",
                "GITHUB_CLI_PAT=pat",
                "GITLAB_INSTANCE_URL=https://gl.example",
                "GIT_TOKEN=gh",
                "KILOCODE_TOKEN=kt",
            ]
        );
        assert!(environment(&TownConfig::default()).is_empty());
    }
}
