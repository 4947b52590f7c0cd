//! The role's configuration, read once from the environment.
//!
//! What a single session needs (the agent server's program, the model) may be missing: it fails where it is used, so
//! that the rest still works.

use crate::overrides;
use crate::overrides::Section;
use protocol::sandbox::Secret;
use sandbox_core::limits::Limits;
use std::env;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

const LISTEN_DEFAULT: &str = "0.0.0.0:8080";

/// The configuration.
#[derive(Debug)]
pub struct Config {
    /// Every path of the container is below it.
    pub root: PathBuf,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// The bearer of the API. None only on loopback.
    pub token: Option<Secret>,
    /// Admits `file://` and `http://127.0.0.1` as git URLs.
    pub allow_loopback: bool,
    /// The search path handed to git, setup commands and the agent.
    pub path: String,
    /// The agent server's program, if [`Config::path`] has it.
    pub kilo: Option<PathBuf>,
    /// The model's provider, if one is named.
    pub model: Option<Model>,
    /// The author of automatic commits.
    pub author: Author,
    /// The bounds of the machines.
    pub limits: Limits,
}

/// An OpenAI-compatible provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Such as `https://models.example/v1`.
    pub base_url: String,
    /// Reaches the agent's configuration and nothing else.
    pub api_key: Secret,
    /// The model's name at the provider.
    pub name: String,
    /// Whether it takes images. To one that does not, the agent says in words that there was one.
    pub sees_images: bool,
}

/// Who automatic commits are by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// `GIT_AUTHOR_NAME`.
    pub name: String,
    /// `GIT_AUTHOR_EMAIL`.
    pub email: String,
}

/// Why the environment cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Not of the form that [`overrides`] has, or numbers that cannot work together.
    #[error("HOLDFAST_LIMITS cannot be used: {0}")]
    Limits(String),
    /// Not an address.
    #[error("HOLDFAST_LISTEN is {0:?}; it must be an address and port such as 0.0.0.0:8080")]
    Listen(String),
    /// Anybody on the network could run commands.
    #[error("HOLDFAST_SANDBOX_TOKEN is not set; without it HOLDFAST_LISTEN must be a loopback address, not {0}")]
    OpenToTheNetwork(SocketAddr),
}

impl Config {
    /// Reads the environment of this process.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let listen = var("HOLDFAST_LISTEN").unwrap_or_else(|| LISTEN_DEFAULT.to_owned());
        let listen: SocketAddr = listen.parse().map_err(|_| ConfigError::Listen(listen.clone()))?;
        let token = var("HOLDFAST_SANDBOX_TOKEN").map(Secret);
        if token.is_none() && !listen.ip().is_loopback() {
            return Err(ConfigError::OpenToTheNetwork(listen));
        }
        let limits: Limits = overrides::limits(Section::Sandbox, &var).map_err(ConfigError::Limits)?;
        limits.check().map_err(|error| ConfigError::Limits(error.to_string()))?;
        let path = var("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
        let root = PathBuf::from(var("HOLDFAST_ROOT").unwrap_or_else(|| "/".to_owned()));
        Ok(Self {
            // Everything that is started has a folder of its own to start in.
            root: std::path::absolute(&root).unwrap_or(root),
            listen,
            token,
            allow_loopback: var("ALLOW_LOOPBACK").as_deref() == Some("1"),
            kilo: find_program(&path, "kilo"),
            path,
            model: Model::read(&var),
            author: Author {
                name: var("GIT_AUTHOR_NAME").unwrap_or_else(|| "Kilo".to_owned()),
                email: var("GIT_AUTHOR_EMAIL").unwrap_or_else(|| "agent@holdfast.local".to_owned()),
            },
            limits,
        })
    }
}

impl Model {
    /// The provider that the environment names, if it does.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let base_url = var("HOLDFAST_MODEL_BASE_URL")?;
        Some(Self {
            base_url,
            api_key: Secret(var("HOLDFAST_MODEL_API_KEY").unwrap_or_default()),
            name: var("HOLDFAST_MODEL").unwrap_or_else(|| "default".to_owned()),
            sees_images: var("HOLDFAST_MODEL_IMAGES").as_deref() != Some("0"),
        })
    }
}

/// The first executable file `name` in the folders of `path`.
pub fn find_program(path: &str, name: &str) -> Option<PathBuf> {
    env::split_paths(OsStr::new(path)).map(|folder| folder.join(name)).find(|program| is_executable(program))
}

fn is_executable(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    program.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let vars: HashMap<_, _> = vars.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Config::from_vars(|name| vars.get(name).cloned())
    }

    #[test]
    fn without_a_token_only_loopback_is_served() {
        let open = "0.0.0.0:8080".parse().unwrap();
        assert_eq!(read(&[]).unwrap_err(), ConfigError::OpenToTheNetwork(open));
        assert!(read(&[("HOLDFAST_LISTEN", "127.0.0.1:0")]).is_ok());
        assert!(read(&[("HOLDFAST_SANDBOX_TOKEN", "t")]).is_ok());
    }

    #[test]
    fn a_missing_model_or_agent_is_not_an_error_yet() {
        let config = read(&[("HOLDFAST_SANDBOX_TOKEN", "t"), ("PATH", "/nonexistent")]).unwrap();
        assert_eq!((config.model, config.kilo), (None, None));
    }

    #[test]
    fn limits_are_overridden_by_section_and_name_but_not_in_production() {
        let limits = ("HOLDFAST_LIMITS", r#"{"session":{"hung_ms":1},"sandbox":{"batch_ms":7}}"#);
        let base = ("HOLDFAST_SANDBOX_TOKEN", "t");
        assert_eq!(read(&[base, limits]).unwrap().limits, Limits { batch_ms: 7, ..Limits::default() });
        let production = read(&[base, limits, ("ENVIRONMENT", "production")]).unwrap();
        assert_eq!(production.limits, Limits::default());
        for wrong in [r#"{"sandbox":{"batch_ms":"x"}}"#, r#"{"sandbox":{"finish_ms_max":1}}"#] {
            let wrong = read(&[base, ("HOLDFAST_LIMITS", wrong)]);
            assert!(matches!(wrong, Err(ConfigError::Limits(_))));
        }
    }

    #[test]
    fn programs_are_found_on_the_path_given_and_must_be_executable() {
        assert_eq!(find_program("/nonexistent:/bin", "sh"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find_program("/etc", "passwd"), None);
    }
}
