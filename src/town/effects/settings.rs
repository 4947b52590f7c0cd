//! A town's settings as its container takes them: the environment of its next boot, and the `X-Town-Config` header (spec/town.md 3.5, 3.8).

use super::super::object::Shell;
use super::container;
use super::container::Reply;
use crate::container::town::SETTINGS;
use crate::container::town::Settings;
use crate::object::now_ms;
use protocol::town::config::TownConfig;
use std::collections::BTreeMap;
use std::rc::Rc;
use town_core::message::effect::Outcome;
use worker::Method;

/// Who a token speaks for.
pub fn owner(config: &TownConfig) -> &str {
    config.owner_user_id.as_deref().or(config.owner_id.as_deref()).unwrap_or_default()
}

/// Access to git hosts, as git in the container takes it.
pub fn git_tokens(config: &TownConfig) -> BTreeMap<String, String> {
    let auth = &config.git_auth;
    present([
        ("GIT_TOKEN", &auth.github_token),
        ("GITLAB_INSTANCE_URL", &auth.gitlab_instance_url),
        ("GITLAB_TOKEN", &auth.gitlab_token),
    ])
}

/// The variables that a town's settings stand for. The town's own variables are not among them: agents get those.
pub fn environment(config: &TownConfig) -> BTreeMap<String, String> {
    let mut variables = git_tokens(config);
    variables.extend(present([
        ("GASTOWN_GIT_AUTHOR_EMAIL", &config.git_author_email),
        ("GASTOWN_GIT_AUTHOR_NAME", &config.git_author_name),
        ("GASTOWN_ORGANIZATION_ID", &config.organization_id),
        ("GITHUB_CLI_PAT", &config.github_cli_pat),
        ("KILOCODE_TOKEN", &config.kilocode_token),
    ]));
    if config.disable_ai_coauthor {
        variables.insert("GASTOWN_DISABLE_AI_COAUTHOR".into(), "1".into());
    }
    variables
}

fn present<const N: usize>(pairs: [(&str, &Option<String>); N]) -> BTreeMap<String, String> {
    let set = |(name, value): (&str, &Option<String>)| Some((name.to_owned(), value.clone()?));
    pairs.into_iter().filter_map(set).filter(|(_, value)| !value.is_empty()).collect()
}

impl Shell {
    /// The environment of the next container, and the configuration of one that runs.
    pub(super) async fn sync_config(self: &Rc<Self>) -> worker::Result<Outcome> {
        let kept = self.push_settings(&self.town_config()?).await?;
        if kept.status != 200 {
            return Ok(kept.outcome());
        }
        Ok(self.post("/sync-config", "{}").await?.outcome())
    }

    /// Gives the container's object what it starts with and sends along. Repeating it costs nothing.
    pub(super) async fn push_settings(&self, config: &TownConfig) -> worker::Result<Reply> {
        let settings = Settings {
            at: now_ms(),
            user: owner(config).to_owned(),
            env: environment(config),
            config: config.header(self.config.worker_url.as_deref()),
        };
        let body = serde_json::to_string(&settings)?;
        container::send(&self.env, &self.name(), Method::Put, SETTINGS, Some(&body)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::town::config::GitAuth;

    #[test]
    fn settings_become_the_variables_that_the_container_reads() {
        let config = TownConfig {
            git_auth: GitAuth { github_token: Some("g".into()), ..GitAuth::default() },
            kilocode_token: Some(String::new()),
            disable_ai_coauthor: true,
            env_vars: [("OWN".to_owned(), "x".to_owned())].into(),
            ..TownConfig::default()
        };
        let expected = [("GASTOWN_DISABLE_AI_COAUTHOR", "1"), ("GIT_TOKEN", "g")];
        assert_eq!(environment(&config), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
