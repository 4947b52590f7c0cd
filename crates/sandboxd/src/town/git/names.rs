//! What a town may name to git, parsed once: a branch never is an option, a path or a revision expression.

use crate::session::git::GitUrl;
use crate::session::git::GitUrlError;
use std::fmt;

/// As git and most hosts allow them.
const BRANCH_BYTES_MAX: usize = 255;

/// A name that cannot be given to git.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not a branch.
    #[error("{name:?} is not a branch name: it must follow `git check-ref-format --branch` and have at most 255 bytes")]
    Branch { name: String },
    /// Not a repository that this container may reach.
    #[error("{0}")]
    Url(#[from] GitUrlError),
}

/// The short name of a branch, such as `main` or `gt/toast/1a2b3c4d`; or of what the remote has, such as `origin/main`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Branch(String);

impl Branch {
    /// Parses `name` (spec/town.md 6.9, and the rules of `git check-ref-format --branch`).
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        if is_branch(name) { Ok(Self(name.to_owned())) } else { Err(InvalidName::Branch { name: name.to_owned() }) }
    }

    /// The short name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `refs/heads/<name>`.
    pub fn local_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }

    /// `refs/remotes/origin/<name>`: where the remote had it when it was last fetched.
    pub fn remote_ref(&self) -> String {
        format!("refs/remotes/origin/{}", self.0)
    }

    /// The name as that of one folder (spec/town.md 6.9).
    pub fn folder(&self) -> String {
        self.0.replace('/', "__")
    }

    /// Where `commit` goes that belongs to this branch and cannot be part of it; `what` it is, in a word.
    pub fn beside(&self, what: &str, commit: &str) -> Self {
        Self(format!("{}-{what}-{}", self.0, commit.get(..8).unwrap_or(commit)))
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_branch(name: &str) -> bool {
    let forbidden = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    (1..=BRANCH_BYTES_MAX).contains(&name.len())
        && !name.starts_with('-')
        && !name.contains(forbidden)
        && !name.contains("..")
        && !name.contains("@{")
        && !matches!(name, "@" | "HEAD")
        && name
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with('.') && !part.ends_with(".lock"))
}

/// Parses what a rig names as its repository: https, or `git@host:path`, which is read as https because a token, not a
/// key, is what a container has.
pub fn parse_url(text: &str, allow_loopback: bool) -> Result<GitUrl, InvalidName> {
    let https = text
        .strip_prefix("git@")
        .and_then(|rest| rest.split_once(':'))
        .map(|(host, path)| format!("https://{host}/{}", path.trim_start_matches('/')));
    Ok(GitUrl::parse(https.as_deref().unwrap_or(text), allow_loopback)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_follow_git() {
        for good in ["main", "gt/toast/1a2b3c4d", "origin/main", "fix#12", "a+b", "für/alle", "x@y", "a__b"] {
            assert!(Branch::parse(good).is_ok(), "{good}");
        }
        let long = "x".repeat(256);
        for bad in [
            "",
            "-b",
            "--upload-pack=x",
            "a..b",
            "../a",
            "a/../b",
            "a/",
            "/a",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "[a",
            "a\\b",
            "a.",
            "@",
            "HEAD",
            "a@{1}",
            "a\nb",
            "a\0b",
            &long,
        ] {
            assert!(Branch::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_branch_is_one_folder() {
        assert_eq!(Branch::parse("gt/toast/1").unwrap().folder(), "gt__toast__1");
    }

    #[test]
    fn an_address_of_ssh_is_reached_with_the_token() {
        assert_eq!(parse_url("git@github.com:a/b.git", false).unwrap().as_str(), "https://github.com/a/b.git");
        for bad in ["git@", "git@host", "git@:a/b", "ssh://git@host/a", "-u", "ext::sh -c x", "https://t@git.example/a"]
        {
            assert!(parse_url(bad, true).is_err(), "{bad}");
        }
        for local in ["file:///srv/a.git", "http://127.0.0.1:1/a"] {
            assert!(parse_url(local, true).is_ok() && parse_url(local, false).is_err(), "{local}");
        }
    }
}
