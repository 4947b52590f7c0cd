//! What the town role is told by its environment.

use super::limits::Limits;
use crate::overrides;
use crate::overrides::Section;
use crate::session::config::Model;
use crate::session::config::find_program;
use protocol::id::TownId;
use protocol::sandbox::CONTAINER_PORT;
use protocol::sandbox::Secret;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use url::Url;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bearer of every call to it but `/health`. None only on loopback.
    pub sandbox_token: Option<Secret>,
    /// The town it serves.
    pub town: TownId,
    /// Where the town's API is; without a slash at the end.
    pub api_url: String,
    /// The bearer of its own calls there.
    pub container_token: Secret,
    /// Every path of the container is below it.
    pub root: PathBuf,
    /// The search path handed to git and the agents.
    pub path: String,
    /// The agent server's program, if [`Config::path`] has it.
    pub kilo: Option<PathBuf>,
    /// The model's provider, if one is named.
    pub model: Option<Model>,
    /// Admits `file://` and `http://127.0.0.1` as git URLs.
    pub allow_loopback: bool,
    /// Its bounds.
    pub limits: Limits,
}

/// A variable that is missing or wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{name}: {problem}")]
    Wrong { name: &'static str, problem: String },
}

impl Config {
    /// Reads the variables through `variable`.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let required = |name| variable(name).filter(|value| !value.is_empty()).ok_or(ConfigError::Missing(name));
        let listen = match variable("HOLDFAST_LISTEN") {
            None => SocketAddr::from((Ipv4Addr::UNSPECIFIED, CONTAINER_PORT)),
            Some(text) => text.parse().map_err(|_| wrong("HOLDFAST_LISTEN", "not an address such as 0.0.0.0:8080"))?,
        };
        let town =
            TownId::parse(&required("GASTOWN_TOWN_ID")?).map_err(|error| wrong("GASTOWN_TOWN_ID", error.message))?;
        let api_url = required("GASTOWN_API_URL")?;
        if !Url::parse(&api_url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none()) {
            return Err(wrong("GASTOWN_API_URL", "not an http or https address"));
        }
        let limits = overrides::limits(Section::SandboxTown, &variable);
        let mut limits: Limits = limits.map_err(|error| wrong(overrides::VARIABLE, error))?;
        for (name, limit) in
            [("AGENT_IDLE_TIMEOUT_MS", &mut limits.idle_ms), ("REFINERY_IDLE_TIMEOUT_MS", &mut limits.refinery_idle_ms)]
        {
            if let Some(text) = variable(name) {
                *limit = text.parse().map_err(|_| wrong(name, "not a number of milliseconds"))?;
            }
        }
        let path = variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
        let root = PathBuf::from(variable("HOLDFAST_ROOT").unwrap_or_else(|| "/".to_owned()));
        Ok(Self {
            listen,
            sandbox_token: match required("HOLDFAST_SANDBOX_TOKEN") {
                Ok(token) => Some(Secret(token)),
                // On the network, anybody could run commands.
                Err(missing) if !listen.ip().is_loopback() => return Err(missing),
                Err(_) => None,
            },
            town,
            api_url: api_url.trim_end_matches('/').to_owned(),
            container_token: Secret(required("GASTOWN_CONTAINER_TOKEN")?),
            // Everything that is started has a folder of its own to start in.
            root: std::path::absolute(&root).unwrap_or(root),
            kilo: find_program(&path, "kilo"),
            path,
            model: Model::read(&variable),
            allow_loopback: variable("ALLOW_LOOPBACK").as_deref() == Some("1"),
            limits,
        })
    }
}

fn wrong(name: &'static str, problem: impl ToString) -> ConfigError {
    ConfigError::Wrong { name, problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("GASTOWN_TOWN_ID", "t1"),
        ("GASTOWN_API_URL", "https://api.example/base/"),
        ("GASTOWN_CONTAINER_TOKEN", "c"),
        ("HOLDFAST_SANDBOX_TOKEN", "s"),
        ("HOLDFAST_LIMITS", r#"{"sandbox_town":{"heartbeat_interval_ms":7}}"#),
    ];

    fn read_with(changed: &str, value: Option<&str>) -> Result<Config, ConfigError> {
        Config::read(|name| {
            if name == changed {
                return value.map(str::to_owned);
            }
            GOOD.iter().find(|(good, _)| *good == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_complete_environment_is_read() {
        let config = read_with("", None).unwrap();
        assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(config.api_url, "https://api.example/base");
        assert_eq!(config.limits.heartbeat_interval_ms, 7);
        assert_eq!(read_with("REFINERY_IDLE_TIMEOUT_MS", Some("9")).unwrap().limits.refinery_idle_ms, 9);
    }

    #[test]
    fn the_fast_limits_of_tests_and_demonstrations_can_work() {
        let fast = include_str!("../../../../limits.fast.json");
        let limits = read_with("HOLDFAST_LIMITS", Some(fast)).unwrap().limits;
        assert!(limits.drain_wait_ms < Limits::default().drain_wait_ms);
    }

    #[test]
    fn production_keeps_its_limits() {
        assert_eq!(read_with("ENVIRONMENT", Some("production")).unwrap().limits, Limits::default());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (name, value) in [
            ("GASTOWN_TOWN_ID", None),
            ("GASTOWN_TOWN_ID", Some("a/b")),
            ("GASTOWN_API_URL", None),
            ("GASTOWN_API_URL", Some("ftp://x")),
            ("GASTOWN_CONTAINER_TOKEN", Some("")),
            ("HOLDFAST_SANDBOX_TOKEN", None),
            ("HOLDFAST_LISTEN", Some("8080")),
            ("HOLDFAST_LIMITS", Some("fast")),
            ("AGENT_IDLE_TIMEOUT_MS", Some("soon")),
        ] {
            let error = read_with(name, value).unwrap_err().to_string();
            assert!(error.contains(name), "{name}={value:?}: {error}");
        }
    }
}
