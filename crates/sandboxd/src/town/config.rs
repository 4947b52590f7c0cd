//! What the town role is told by its environment.

use super::limits::Limits;
use protocol::id::TownId;
use protocol::sandbox::CONTAINER_PORT;
use protocol::sandbox::Secret;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use url::Url;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bearer of every call to it but `/health`.
    pub sandbox_token: Secret,
    /// The town it serves.
    pub town: TownId,
    /// Where the town's API is; without a slash at the end.
    pub api_url: String,
    /// The bearer of its own calls there.
    pub container_token: Secret,
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
        let overridden =
            variable("HOLDFAST_LIMITS").filter(|_| variable("ENVIRONMENT").as_deref() != Some("production"));
        let limits = match overridden {
            None => Limits::default(),
            Some(text) => serde_json::from_str(&text).map_err(|error| wrong("HOLDFAST_LIMITS", error))?,
        };
        Ok(Self {
            listen,
            sandbox_token: Secret(required("HOLDFAST_SANDBOX_TOKEN")?),
            town,
            api_url: api_url.trim_end_matches('/').to_owned(),
            container_token: Secret(required("GASTOWN_CONTAINER_TOKEN")?),
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
        ("HOLDFAST_LIMITS", r#"{"heartbeat_interval_ms":7}"#),
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
        ] {
            let error = read_with(name, value).unwrap_err().to_string();
            assert!(error.contains(name), "{name}={value:?}: {error}");
        }
    }
}
