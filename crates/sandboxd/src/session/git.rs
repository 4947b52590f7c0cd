//! Runs git for one session, or for whoever says what its processes get.
//!
//! The token reaches exactly the git processes that talk to the remote, in their environment, and is given by a credential
//! helper only to the host of the plan's URL. Those processes run without hooks: the repository's own code must
//! not see it. It is never an argument, never part of a URL and never written to a configuration.

use super::command;
use super::command::CommandError;
use super::command::Finished;
use super::config::Config;
use super::limits;
use super::paths::SessionPaths;
use super::reap;
use super::redact::Redactor;
use super::redact::url_for_people;
use protocol::id::SessionId;
use protocol::sandbox::Secret;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// The user that most hosts expect beside a token.
pub const TOKEN_USER: &str = "x-access-token";
const TOKEN_VARIABLE: &str = "HOLDFAST_GIT_TOKEN";
const WITHOUT_HOOKS: [&str; 4] = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"];

/// Where to clone from: https, or this machine where that is allowed. Holds no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitUrl(String);

/// Why a text is not a [`GitUrl`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GitUrlError {
    /// A token in a URL ends up in logs and configurations.
    #[error("gitUrl must not hold credentials; put the token into gitToken")]
    Credentials,
    /// Another scheme, or no URL.
    #[error("gitUrl must be https://host/path")]
    NotHttps,
}

impl GitUrl {
    /// Parses `text`. With `allow_loopback` it may also be `file://` or `http://` to this machine.
    pub fn parse(text: &str, allow_loopback: bool) -> Result<Self, GitUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(GitUrlError::NotHttps)?;
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority.split(':').next().unwrap_or_default();
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(GitUrlError::NotHttps);
        }
        if authority.contains('@') {
            return Err(GitUrlError::Credentials);
        }
        match scheme {
            "https" if !host.is_empty() => Ok(Self(text.to_owned())),
            "http" if allow_loopback && matches!(host, "127.0.0.1" | "localhost") => Ok(Self(text.to_owned())),
            "file" if allow_loopback && rest.starts_with('/') => Ok(Self(text.to_owned())),
            _ => Err(GitUrlError::NotHttps),
        }
    }

    /// Of a repository without a remote: nobody can have this host (RFC 2606).
    pub fn nowhere() -> Self {
        Self("https://nowhere.invalid/".to_owned())
    }

    /// The URL as git takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `scheme://host:port`: what a credential is good for.
    pub fn origin(&self) -> Option<&str> {
        let host = self.0.find("://")?.saturating_add(3);
        let length = self.0.get(host..)?.find('/').unwrap_or(self.0.len());
        self.0.get(..host.saturating_add(length))
    }
}

/// Why a git command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It ended with an error.
    #[error("`{command}` failed with exit code {code}{}", command::quote(.tail))]
    Failed {
        /// For a person.
        command: String,
        /// -1 if a signal ended it.
        code: i32,
        /// The last lines it said.
        tail: String,
    },
    /// It did not end by itself.
    #[error("`{command}` {reason}")]
    Unfinished {
        /// For a person.
        command: String,
        /// What happened instead.
        reason: String,
        /// Whether time ran out.
        timed_out: bool,
    },
}

impl GitError {
    /// Whether the same command could succeed later: time, the network and the remote's own troubles pass.
    pub fn is_passing(&self) -> bool {
        const PASSING: [&str; 7] = [
            "Could not resolve host",
            "Failed to connect",
            "Connection reset",
            "Connection timed out",
            "early EOF",
            "RPC failed",
            "returned error: 5",
        ];
        match self {
            GitError::Failed { tail, .. } => PASSING.iter().any(|words| tail.contains(words)),
            GitError::Unfinished { timed_out, .. } => *timed_out,
        }
    }

    /// The exit code, if it ended by itself.
    pub fn code(&self) -> Option<i32> {
        match self {
            GitError::Failed { code, .. } => Some(*code),
            GitError::Unfinished { .. } => None,
        }
    }
}

/// Git for one repository.
#[derive(Clone)]
pub struct Git {
    /// Where it is cloned from.
    pub url: GitUrl,
    /// What the host of [`Git::url`] is shown.
    pub token: Option<Secret>,
    /// The user beside it.
    pub user: &'static str,
    /// Knows the secrets that git's words must not hold.
    pub redactor: Redactor,
    /// Name, value: what every git process gets, and all that it gets.
    pub environment: Vec<(&'static str, String)>,
    /// How long a command that works on the disk alone may take.
    pub local_timeout: Duration,
}

impl Git {
    /// Git for `session`, which works with `url` and `token`.
    pub fn new(
        config: &Config,
        session: &SessionId,
        paths: &SessionPaths,
        url: GitUrl,
        token: Option<Secret>,
        redactor: Redactor,
    ) -> Self {
        let protocols = if config.allow_loopback { "https:http:file" } else { "https" };
        let author = &config.author;
        let environment = vec![
            ("PATH", config.path.clone()),
            ("HOME", paths.home.to_string_lossy().into_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("GIT_ALLOW_PROTOCOL", protocols.to_owned()),
            ("GIT_TERMINAL_PROMPT", "0".to_owned()),
            ("GIT_AUTHOR_NAME", author.name.clone()),
            ("GIT_AUTHOR_EMAIL", author.email.clone()),
            ("GIT_COMMITTER_NAME", author.name.clone()),
            ("GIT_COMMITTER_EMAIL", author.email.clone()),
            (reap::MARK, session.to_string()),
        ];
        Self { url, token, user: TOKEN_USER, redactor, environment, local_timeout: limits::GIT_LOCAL_TIMEOUT }
    }

    /// Where the repository is cloned from.
    pub fn url(&self) -> &GitUrl {
        &self.url
    }

    /// Runs a command that works on the disk alone, in `folder`, with the repository's hooks.
    pub async fn local(&self, folder: &Path, arguments: &[&str]) -> Result<Finished, GitError> {
        self.run(self.command(folder), arguments, self.local_timeout).await
    }

    /// Runs a command that works on the disk alone, in `folder`, without hooks; with another index than the repository's own if one is given.
    pub async fn plumbing(
        &self,
        folder: &Path,
        index: Option<&Path>,
        arguments: &[&str],
    ) -> Result<Finished, GitError> {
        let mut command = self.command(folder);
        command.args(WITHOUT_HOOKS).envs(index.map(|index| ("GIT_INDEX_FILE", index)));
        self.run(command, arguments, self.local_timeout).await
    }

    /// Runs a command that talks to the remote, in `folder`, with the token and without hooks.
    pub async fn remote(&self, folder: &Path, arguments: &[&str], timeout: Duration) -> Result<Finished, GitError> {
        let mut command = self.command(folder);
        command.args(WITHOUT_HOOKS).args(["-c", "credential.helper="]);
        if let (Some(token), Some(origin)) = (&self.token, self.url.origin()) {
            let helper = format!(
                "credential.{origin}.helper=!f() {{ test \"$1\" = get && \
                 printf 'username={}\\npassword=%s\\n' \"${TOKEN_VARIABLE}\"; }}; f",
                self.user
            );
            command.args(["-c", &helper]).env(TOKEN_VARIABLE, token.expose());
        }
        self.run(command, arguments, timeout).await
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new("git");
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value))).current_dir(folder);
        command
    }

    async fn run(&self, mut command: Command, arguments: &[&str], timeout: Duration) -> Result<Finished, GitError> {
        command.args(arguments);
        match command::run(command, timeout).await {
            Ok(finished) if finished.succeeded() => Ok(finished),
            Ok(finished) => Err(GitError::Failed {
                command: self.for_people(arguments),
                code: finished.code.unwrap_or(-1),
                tail: self.redactor.clean(&finished.tail),
            }),
            Err(error) => Err(GitError::Unfinished {
                command: self.for_people(arguments),
                timed_out: matches!(error, CommandError::Timeout { .. }),
                reason: self.redactor.clean(&error.to_string()),
            }),
        }
    }

    fn for_people(&self, arguments: &[&str]) -> String {
        let words: Vec<String> = arguments
            .iter()
            .map(|word| if word.contains("://") { url_for_people(word) } else { (*word).to_owned() })
            .collect();
        self.redactor.clean(&format!("git {}", words.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_without_credentials_is_cloned() {
        assert!(GitUrl::parse("https://git.example/a/b.git", false).is_ok());
        assert_eq!(GitUrl::parse("https://t@git.example/a", false), Err(GitUrlError::Credentials));
        for bad in ["", "git.example/a", "-u", "ssh://git.example/a", "https:///a", "ext::sh -c x", "https://a/b c"] {
            assert_eq!(GitUrl::parse(bad, true), Err(GitUrlError::NotHttps), "{bad}");
        }
    }

    #[test]
    fn this_machine_is_a_remote_only_where_that_is_allowed() {
        for url in ["file:///srv/a.git", "http://127.0.0.1:3000/a.git"] {
            assert!(GitUrl::parse(url, true).is_ok(), "{url}");
            assert!(GitUrl::parse(url, false).is_err(), "{url}");
        }
        assert!(GitUrl::parse("http://git.example/a", true).is_err());
        assert!(GitUrl::parse("http://127.0.0.1.evil.example/a", true).is_err());
    }

    #[test]
    fn a_credential_is_good_for_one_origin() {
        let url = GitUrl::parse("https://git.example:444/a/b.git", false).unwrap();
        assert_eq!(url.origin(), Some("https://git.example:444"));
    }
}
