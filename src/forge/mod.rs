//! Pull requests on the hosts of git repositories (spec/town.md 8.4).
//!
//! The address of a pull request comes from an agent, so it never says where a token goes: each host that is known has its API, and a host that is
//! not known is not asked. Redirects are not followed.

mod github;
mod gitlab;

use crate::config::Config;
use crate::http;
use futures_util::StreamExt;
use protocol::town::config::TownConfig;
use serde::de::DeserializeOwned;
use town_core::message::effect::Outcome;
use town_core::message::effect::PullRequestState;
use url::Url;
use worker::Fetch;
use worker::Headers;
use worker::Request;
use worker::RequestInit;
use worker::RequestRedirect;

/// The largest answer that is read: a pull request of GitHub takes 30 KB and its description at most 64 KB.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Why nothing is known of a pull request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    #[error("host_mismatch: {0} is neither github.com nor a GitLab of this town")]
    HostMismatch(String),
    #[error("http_error: the host answered {0}")]
    Http(u16),
    #[error("invalid_response: {0}")]
    InvalidResponse(String),
    #[error("no_token: the town has no token for this host")]
    NoToken,
    #[error("unreachable: {0}")]
    Unreachable(String),
    #[error("unrecognized_url: neither a pull request of GitHub nor a merge request of GitLab")]
    UnrecognizedUrl,
}

impl ForgeError {
    /// Whether it may pass by itself.
    fn is_transient(&self) -> bool {
        matches!(self, ForgeError::Http(429 | 500..) | ForgeError::Unreachable(_))
    }
}

/// One question to the API of a host.
#[derive(Debug)]
struct Question {
    url: String,
    headers: Vec<(&'static str, String)>,
    read: fn(&[u8]) -> Result<PullRequestState, ForgeError>,
}

/// Looks at a pull request.
pub async fn poll(config: &Config, town: &TownConfig, url: &str) -> Outcome {
    let state = match question(config, town, url) {
        Ok(question) => ask(&question).await,
        Err(error) => Err(error),
    };
    match state {
        Ok(state) => Outcome::PullRequest(state),
        Err(error) if error.is_transient() => Outcome::Unknown { reason: error.to_string() },
        Err(error) => Outcome::Failed { reason: error.to_string() },
    }
}

fn question(config: &Config, town: &TownConfig, url: &str) -> Result<Question, ForgeError> {
    let url = Url::parse(url).map_err(|_| ForgeError::UnrecognizedUrl)?;
    let is_plain = url.scheme() == "https" && url.username().is_empty() && url.password().is_none();
    let host = url.host_str().filter(|_| is_plain && url.port().is_none()).ok_or(ForgeError::UnrecognizedUrl)?;
    if host == github::HOST {
        return github::question(config, town, &url);
    }
    gitlab::question(config, town, host, &url)
}

async fn ask(question: &Question) -> Result<PullRequestState, ForgeError> {
    let unreachable = |error: worker::Error| ForgeError::Unreachable(error.to_string());
    let headers = Headers::new();
    for (name, value) in &question.headers {
        headers.set(name, value).map_err(unreachable)?;
    }
    let mut init = RequestInit::new();
    init.with_headers(headers).with_redirect(RequestRedirect::Manual);
    let request = Request::new_with_init(&question.url, &init).map_err(unreachable)?;
    let mut answer = Fetch::Request(request).send().await.map_err(unreachable)?;
    if answer.status_code() != 200 {
        return Err(ForgeError::Http(answer.status_code()));
    }
    let mut stream = answer.stream().map_err(unreachable)?;
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        body.extend(chunk.map_err(unreachable)?);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(ForgeError::InvalidResponse("more than 1 MiB".into()));
        }
    }
    (question.read)(&body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ForgeError> {
    http::parse(body).map_err(|error| ForgeError::InvalidResponse(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::town::config::GitAuth;

    fn town() -> TownConfig {
        let git_auth = GitAuth {
            github_token: Some("gh".into()),
            gitlab_token: Some("gl".into()),
            gitlab_instance_url: Some("https://git.example.com/".into()),
            ..GitAuth::default()
        };
        TownConfig { git_auth, ..TownConfig::default() }
    }

    type Headers = Vec<(&'static str, String)>;

    fn asked(town: &TownConfig, url: &str) -> Result<(String, Headers), ForgeError> {
        question(&Config::read(|_| None), town, url).map(|question| (question.url, question.headers))
    }

    fn header(headers: &[(&'static str, String)], name: &str) -> Option<String> {
        headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn a_pull_request_of_github_is_asked_of_its_api_with_the_first_token() {
        let (url, headers) = asked(&town(), "https://github.com/o/r.x/pull/7").unwrap();
        assert_eq!(url, "https://api.github.com/repos/o/r.x/pulls/7");
        assert_eq!(header(&headers, "authorization").as_deref(), Some("Bearer gh"));
        let personal = TownConfig { github_cli_pat: Some("pat".into()), ..town() };
        let (_, headers) = asked(&personal, "https://github.com/o/r/pull/7").unwrap();
        assert_eq!(header(&headers, "authorization").as_deref(), Some("Bearer pat"));
        assert_eq!(asked(&TownConfig::default(), "https://github.com/o/r/pull/7"), Err(ForgeError::NoToken));
    }

    #[test]
    fn a_merge_request_of_gitlab_is_asked_of_the_town_s_own_instance_only() {
        let (url, headers) = asked(&town(), "https://gitlab.com/g/s/p/-/merge_requests/3").unwrap();
        assert_eq!(url, "https://gitlab.com/api/v4/projects/g%2Fs%2Fp/merge_requests/3");
        assert_eq!(header(&headers, "private-token").as_deref(), Some("gl"));
        let (url, _) = asked(&town(), "https://git.example.com/g/p/-/merge_requests/3").unwrap();
        assert_eq!(url, "https://git.example.com/api/v4/projects/g%2Fp/merge_requests/3");
        let other = asked(&town(), "https://evil.example.com/g/p/-/merge_requests/3");
        assert_eq!(other, Err(ForgeError::HostMismatch("evil.example.com".into())));
        for inside in ["https://127.0.0.1", "https://[::1]", "https://localhost", "http://git.example.com"] {
            let git_auth = GitAuth { gitlab_instance_url: Some(inside.into()), ..town().git_auth };
            let url = format!("{}/g/p/-/merge_requests/3", inside.replace("http:", "https:"));
            let refused = asked(&TownConfig { git_auth, ..TownConfig::default() }, &url);
            assert!(matches!(refused, Err(ForgeError::HostMismatch(_))), "{inside}: {refused:?}");
        }
    }

    #[test]
    fn what_is_no_pull_request_is_not_asked_for() {
        for url in [
            "github.com/o/r/pull/7",
            "http://github.com/o/r/pull/7",
            "https://user@github.com/o/r/pull/7",
            "https://github.com:444/o/r/pull/7",
            "https://github.com/o/r/pull/x",
            "https://github.com/o/r/pull/7/files",
            "https://github.com/o/../../pull/7",
            "https://gitlab.com/p/-/merge_requests/3",
            "https://gitlab.com/g/p/-/merge_requests/x",
            "https://gitlab.com/g/p/merge_requests/3",
        ] {
            assert_eq!(asked(&town(), url), Err(ForgeError::UnrecognizedUrl), "{url}");
        }
    }

    #[test]
    fn states_are_read_as_the_hosts_write_them() {
        let github = |body: &str| github::read(body.as_bytes());
        assert_eq!(github(r#"{"state":"closed","merged":true}"#), Ok(PullRequestState::Merged));
        assert_eq!(github(r#"{"state":"closed","merged":false}"#), Ok(PullRequestState::Closed));
        assert_eq!(github(r#"{"state":"open","merged":false,"x":1}"#), Ok(PullRequestState::Open));
        let gitlab = |body: &str| gitlab::read(body.as_bytes());
        assert_eq!(gitlab(r#"{"state":"merged"}"#), Ok(PullRequestState::Merged));
        assert_eq!(gitlab(r#"{"state":"closed"}"#), Ok(PullRequestState::Closed));
        assert_eq!(gitlab(r#"{"state":"locked"}"#), Ok(PullRequestState::Open));
        assert!(matches!(gitlab("[]"), Err(ForgeError::InvalidResponse(_))));
    }

    #[test]
    fn only_what_may_pass_is_unknown() {
        for (error, transient) in [
            (ForgeError::Http(429), true),
            (ForgeError::Http(503), true),
            (ForgeError::Unreachable("x".into()), true),
            (ForgeError::Http(404), false),
            (ForgeError::Http(302), false),
            (ForgeError::NoToken, false),
        ] {
            assert_eq!(error.is_transient(), transient, "{error}");
        }
    }
}
