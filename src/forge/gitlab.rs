//! Merge requests of GitLab: of gitlab.com, and of the instance that the town names.

use super::ForgeError;
use super::Question;
use super::parse;
use crate::config::Config;
use protocol::town::config::TownConfig;
use serde::Deserialize;
use session_core::callback::check_url;
use town_core::message::effect::PullRequestState;
use url::Url;
use url::form_urlencoded;

const HOST: &str = "gitlab.com";

#[derive(Deserialize)]
struct Merge {
    state: String,
}

/// `https://{host}/{group}/…/{project}/-/merge_requests/{number}`.
pub fn question(config: &Config, town: &TownConfig, host: &str, url: &Url) -> Result<Question, ForgeError> {
    let api = api(config, town, host).ok_or_else(|| ForgeError::HostMismatch(host.to_owned()))?;
    let segments: Vec<&str> = url.path_segments().map(Iterator::collect).unwrap_or_default();
    let [project @ .., "-", "merge_requests", number] = segments.as_slice() else {
        return Err(ForgeError::UnrecognizedUrl);
    };
    let number: u64 = number.parse().map_err(|_| ForgeError::UnrecognizedUrl)?;
    if project.len() < 2 || project.iter().any(|part| part.is_empty()) {
        return Err(ForgeError::UnrecognizedUrl);
    }
    let token = town.git_auth.gitlab_token.as_ref().filter(|token| !token.is_empty()).ok_or(ForgeError::NoToken)?;
    let project: String = form_urlencoded::byte_serialize(project.join("/").as_bytes()).collect();
    Ok(Question {
        url: format!("{api}/api/v4/projects/{project}/merge_requests/{number}"),
        headers: vec![("private-token", token.clone()), ("user-agent", "holdfast".into())],
        read,
    })
}

/// Where the API of `host` is. The instance of a town is a public host, or it is not asked.
fn api(config: &Config, town: &TownConfig, host: &str) -> Option<String> {
    if host == HOST {
        return Some(config.gitlab_api_url.clone());
    }
    let instance = town.git_auth.gitlab_instance_url.as_deref()?;
    let is_named = Url::parse(instance).is_ok_and(|url| url.host_str() == Some(host));
    (is_named && check_url(instance, false).is_ok()).then(|| instance.trim_end_matches('/').to_owned())
}

pub fn read(body: &[u8]) -> Result<PullRequestState, ForgeError> {
    let merge: Merge = parse(body)?;
    Ok(match merge.state.as_str() {
        "merged" => PullRequestState::Merged,
        "closed" => PullRequestState::Closed,
        _ => PullRequestState::Open,
    })
}
