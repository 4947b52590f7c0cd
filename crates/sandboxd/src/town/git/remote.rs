//! One rig's repository, and what its host is shown.

use super::names::Branch;
use super::names::InvalidName;
use super::names::parse_url;
use crate::session::config::Author;
use crate::session::git::GitUrl;
use crate::session::git::TOKEN_USER;
use protocol::id::RigId;
use protocol::sandbox::Secret;

/// The user that GitLab expects beside a token.
const GITLAB_USER: &str = "oauth2";

/// What one operation works on, and as whom. Tokens change: it is made anew for each operation from what is known then.
#[derive(Clone, Debug)]
pub struct RigRepo {
    /// Which rig.
    pub rig: RigId,
    /// Its repository, without credentials.
    pub url: GitUrl,
    /// Its default branch.
    pub default_branch: Branch,
    /// What the repository's host is shown; None if it asks for nothing.
    pub credential: Option<Credential>,
    /// Who the commits are by that are made here.
    pub author: Author,
}

/// A token and the user that its host expects beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Never part of an argument, a URL, a configuration or a log.
    pub token: Secret,
    /// Fixed by the kind of host.
    pub user: &'static str,
}

/// The tokens of a town (spec/town.md 6.1).
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// `GIT_TOKEN`, else `GITHUB_TOKEN`: for every host but a GitLab whose token is known.
    pub git: Option<Secret>,
    /// `GITLAB_TOKEN`.
    pub gitlab: Option<Secret>,
    /// `GITLAB_INSTANCE_URL`: the GitLab that is not `https://gitlab.com`.
    pub gitlab_instance: Option<String>,
}

impl Tokens {
    /// Reads them from an agent's variables, else from those of the container.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        Self {
            git: given("GIT_TOKEN").or_else(|| given("GITHUB_TOKEN")).map(Secret),
            gitlab: given("GITLAB_TOKEN").map(Secret),
            gitlab_instance: given("GITLAB_INSTANCE_URL"),
        }
    }

    /// What the host of `url` is shown.
    pub fn for_url(&self, url: &GitUrl) -> Option<Credential> {
        let instance = self.gitlab_instance.as_deref().unwrap_or("https://gitlab.com").trim_end_matches('/');
        match &self.gitlab {
            Some(token) if url.origin() == Some(instance) => {
                Some(Credential { token: token.clone(), user: GITLAB_USER })
            }
            _ => self.git.clone().map(|token| Credential { token, user: TOKEN_USER }),
        }
    }
}

impl RigRepo {
    /// Reads what a start, a set-up or a merge names.
    pub fn parse(
        rig: RigId,
        url: &str,
        default_branch: &str,
        tokens: &Tokens,
        author: Author,
        allow_loopback: bool,
    ) -> Result<Self, InvalidName> {
        let url = parse_url(url, allow_loopback)?;
        let credential = tokens.for_url(&url);
        Ok(Self { rig, default_branch: Branch::parse(default_branch)?, credential, url, author })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tokens: &Tokens, url: &str) -> Option<(String, &'static str)> {
        let url = parse_url(url, false).unwrap();
        tokens.for_url(&url).map(|credential| (credential.token.expose().to_owned(), credential.user))
    }

    #[test]
    fn a_token_goes_to_the_kind_of_host_that_it_is_for() {
        let variables = [("GIT_TOKEN", ""), ("GITHUB_TOKEN", "hub"), ("GITLAB_TOKEN", "lab")];
        let read = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let tokens = Tokens::read(read);
        assert_eq!(shown(&tokens, "https://github.com/a/b"), Some(("hub".into(), "x-access-token")));
        assert_eq!(shown(&tokens, "https://gitlab.com/a/b"), Some(("lab".into(), "oauth2")));
        assert_eq!(shown(&tokens, "https://gitlab.com.evil.example/a"), Some(("hub".into(), "x-access-token")));
        let own = Tokens { gitlab_instance: Some("https://git.example:444/".into()), ..tokens };
        assert_eq!(shown(&own, "https://git.example:444/a/b"), Some(("lab".into(), "oauth2")));
        assert_eq!(shown(&own, "https://gitlab.com/a/b"), Some(("hub".into(), "x-access-token")));
        assert_eq!(shown(&Tokens::default(), "https://github.com/a/b"), None);
    }
}
