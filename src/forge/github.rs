//! Pull requests of GitHub.

use super::ForgeError;
use super::Question;
use super::parse;
use crate::config::Config;
use protocol::town::config::TownConfig;
use serde::Deserialize;
use town_core::message::effect::PullRequestState;
use url::Url;

/// Where people see them.
pub const HOST: &str = "github.com";

#[derive(Deserialize)]
struct Pull {
    state: String,
    merged: bool,
}

/// `https://github.com/{owner}/{repository}/pull/{number}`.
pub fn question(config: &Config, town: &TownConfig, url: &Url) -> Result<Question, ForgeError> {
    let segments: Vec<&str> = url.path_segments().map(Iterator::collect).unwrap_or_default();
    let [owner, repository, "pull", number] = segments.as_slice() else { return Err(ForgeError::UnrecognizedUrl) };
    let number: u64 = number.parse().map_err(|_| ForgeError::UnrecognizedUrl)?;
    let token =
        [&town.github_cli_pat, &town.git_auth.github_token].into_iter().flatten().find(|token| !token.is_empty());
    let token = token.ok_or(ForgeError::NoToken)?;
    Ok(Question {
        url: format!("{}/repos/{owner}/{repository}/pulls/{number}", config.github_api_url),
        headers: vec![
            ("accept", "application/vnd.github+json".into()),
            ("authorization", format!("Bearer {token}")),
            // GitHub answers nobody without a name.
            ("user-agent", "holdfast".into()),
            ("x-github-api-version", "2022-11-28".into()),
        ],
        read,
    })
}

pub fn read(body: &[u8]) -> Result<PullRequestState, ForgeError> {
    let pull: Pull = parse(body)?;
    Ok(match pull {
        Pull { merged: true, .. } => PullRequestState::Merged,
        Pull { state, .. } if state == "closed" => PullRequestState::Closed,
        Pull { .. } => PullRequestState::Open,
    })
}
