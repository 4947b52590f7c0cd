//! The configuration of a town and its rigs (spec/town.md 3.8).
//!
//! Secrets are whole inside and masked on the wire: [`TownConfig::masked`]. An update that brings a mask back keeps what is stored.

use super::convoy::MergeMode;
use super::header::CONFIG_BYTES_MAX;
use super::words::words;
use crate::id::RigId;
use crate::time::iso;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

words! {
    /// How a reviewed branch reaches the default branch.
    MergeStrategy {
        /// The refinery merges.
        Direct = "direct",
        /// The refinery opens a pull request.
        Pr = "pr",
    }
}

words! {
    /// What a refinery does with what it dislikes.
    ReviewMode {
        /// Comments on the pull request.
        Comments = "comments",
        /// Sends it back to a polecat.
        Rework = "rework",
    }
}

/// Access to the git hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GitAuth {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab_instance_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_integration_id: Option<String>,
}

/// One value per role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PerRole {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mayor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refinery: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub polecat: Option<String>,
}

/// How reviews are done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefineryConfig {
    /// Commands that must pass.
    pub gates: Vec<String>,
    /// Whether a reviewer merges. Otherwise it opens a pull request, whatever the merge strategy.
    pub auto_merge: bool,
    /// Whether a reviewer sends work back that does not merge cleanly, and resolves no conflict itself.
    pub require_clean_merge: bool,
    /// Whether pull requests of agents are reviewed before they are waited for.
    pub code_review: bool,
    /// Kept for front ends; no rule reads it.
    pub review_mode: ReviewMode,
    /// Kept for front ends; no rule reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_resolve_pr_feedback: Option<bool>,
    /// Kept for front ends; no rule reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_merge_delay_minutes: Option<u32>,
}

/// The container of a town.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// 5 to 120. Kept for front ends; no rule reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_after_minutes: Option<i64>,
}

impl Default for RefineryConfig {
    fn default() -> Self {
        Self {
            gates: Vec::new(),
            auto_merge: true,
            require_clean_merge: true,
            code_review: true,
            review_mode: ReviewMode::Rework,
            auto_resolve_pr_feedback: None,
            auto_merge_delay_minutes: None,
        }
    }
}

/// The whole configuration of a town.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TownConfig {
    pub env_vars: BTreeMap<String, String>,
    pub git_auth: GitAuth,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<String>,
    /// `user` or `org`.
    pub owner_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by_user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kilocode_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_model: Option<String>,
    pub role_models: PerRole,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub small_model: Option<String>,
    pub merge_strategy: MergeStrategy,
    pub refinery: RefineryConfig,
    pub staged_convoys_default: bool,
    pub convoy_merge_mode: MergeMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github_cli_pat: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_author_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_author_email: Option<String>,
    pub disable_ai_coauthor: bool,
    /// At most 2,000 characters each.
    pub custom_instructions: PerRole,
    /// 1 to 50. Kept for front ends; no rule reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_polecats_per_rig: Option<i64>,
    /// Seconds, 5 to 600. Kept for front ends; no rule reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm_interval_active: Option<i64>,
    /// Seconds, 30 to 3,600. Kept for front ends; no rule reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm_interval_idle: Option<i64>,
    pub container: ContainerConfig,
}

impl Default for TownConfig {
    fn default() -> Self {
        Self {
            env_vars: BTreeMap::new(),
            git_auth: GitAuth::default(),
            owner_user_id: None,
            owner_type: "user".into(),
            owner_id: None,
            created_by_user_id: None,
            organization_id: None,
            kilocode_token: None,
            default_model: None,
            role_models: PerRole::default(),
            small_model: None,
            merge_strategy: MergeStrategy::Direct,
            refinery: RefineryConfig::default(),
            staged_convoys_default: false,
            convoy_merge_mode: MergeMode::ReviewThenLand,
            github_cli_pat: None,
            git_author_name: None,
            git_author_email: None,
            disable_ai_coauthor: false,
            custom_instructions: PerRole::default(),
            max_polecats_per_rig: None,
            alarm_interval_active: None,
            alarm_interval_idle: None,
            container: ContainerConfig::default(),
        }
    }
}

/// The most characters of one role's instructions.
const INSTRUCTIONS_MAX: usize = 2_000;

impl TownConfig {
    /// Refuses numbers and texts beyond their bounds, by name.
    pub fn check(&self) -> Result<(), String> {
        let numbers = [
            ("max_polecats_per_rig", self.max_polecats_per_rig, 1..=50),
            ("alarm_interval_active", self.alarm_interval_active, 5..=600),
            ("alarm_interval_idle", self.alarm_interval_idle, 30..=3_600),
            ("container.sleep_after_minutes", self.container.sleep_after_minutes, 5..=120),
        ];
        for (name, number, range) in numbers {
            if number.is_some_and(|number| !range.contains(&number)) {
                return Err(format!("{name} must be {} to {}", range.start(), range.end()));
            }
        }
        let texts = &self.custom_instructions;
        let mut texts = [&texts.mayor, &texts.polecat, &texts.refinery].into_iter().flatten();
        if texts.any(|text| text.chars().count() > INSTRUCTIONS_MAX) {
            return Err(format!("custom_instructions may have at most {INSTRUCTIONS_MAX} characters each"));
        }
        let bytes = self.header(None).len();
        if bytes > CONFIG_BYTES_MAX {
            return Err(format!(
                "env_vars, git_auth, the models, tokens and names must fit into {} KiB of JSON in ASCII: they take {bytes} bytes",
                CONFIG_BYTES_MAX.div_euclid(1024)
            ));
        }
        Ok(())
    }

    /// As it may be shown: of each secret only the last characters.
    pub fn masked(mut self) -> Self {
        for value in self.env_vars.values_mut() {
            *value = mask(value);
        }
        let secrets = [
            &mut self.git_auth.github_token,
            &mut self.git_auth.gitlab_token,
            &mut self.kilocode_token,
            &mut self.github_cli_pat,
        ];
        for secret in secrets.into_iter().flatten() {
            *secret = mask(secret);
        }
        self
    }
}

/// What is shown of a secret. A short one would be given away by four of its characters.
fn mask(secret: &str) -> String {
    let mut tail: Vec<char> = secret.chars().rev().take(4).collect();
    tail.reverse();
    if secret.chars().count() < 12 { "****".into() } else { format!("****{}", tail.into_iter().collect::<String>()) }
}

/// Whether a text is what [`TownConfig::masked`] makes of a secret.
pub fn is_mask(text: &str) -> bool {
    text.strip_prefix("****").is_some_and(|tail| tail.chars().count() <= 4)
}

/// One repository of a town.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rig {
    pub id: RigId,
    pub name: String,
    pub git_url: String,
    pub default_branch: String,
    #[serde(with = "iso")]
    pub created_at: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_shown_holds_no_secret() {
        let secret = || Some("ghp_0123456789abcdef".to_owned());
        let config = TownConfig {
            env_vars: BTreeMap::from([("KEY".into(), "short".into())]),
            git_auth: GitAuth { github_token: secret(), gitlab_token: secret(), ..GitAuth::default() },
            kilocode_token: secret(),
            github_cli_pat: secret(),
            ..TownConfig::default()
        };
        let shown = serde_json::to_string(&config.masked()).unwrap();
        assert!(!shown.contains("0123456789") && !shown.contains("short"), "{shown}");
        assert!(shown.contains(r#""KEY":"****""#) && shown.contains(r#""github_cli_pat":"****cdef""#), "{shown}");
        assert!(is_mask("****") && is_mask("****cdef") && !is_mask("****abcde") && !is_mask("***"));
    }

    #[test]
    fn the_defaults_are_pinned() {
        let wire = json!({
            "env_vars": {}, "git_auth": {}, "owner_type": "user", "role_models": {}, "merge_strategy": "direct",
            "refinery": {"gates": [], "auto_merge": true, "require_clean_merge": true, "code_review": true, "review_mode": "rework"},
            "staged_convoys_default": false, "convoy_merge_mode": "review-then-land", "disable_ai_coauthor": false,
            "custom_instructions": {}, "container": {}
        });
        assert_eq!(serde_json::to_value(TownConfig::default()).unwrap(), wire);
        assert_eq!(serde_json::from_value::<TownConfig>(json!({})).unwrap(), TownConfig::default());
    }
}
