//! Tells a container's owner that it ended.

use crate::log;
use protocol::host::Exit;
use protocol::host::ExitHook;
use reqwest::Client;
use reqwest::Url;
use reqwest::redirect::Policy;
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;
use url::Host;

/// Pauses between the attempts, one more of which is made than there are pauses. An owner that stays unreachable for longer
/// finds out by asking: the hook saves time, it is not the truth.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(10)];
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// Whether a hook may be called: plain HTTP to this machine.
pub fn is_loopback(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| {
        url.scheme() == "http"
            && match url.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(address)) => address.is_loopback(),
                Some(Host::Ipv6(address)) => address.is_loopback(),
                None => false,
            }
    })
}

/// Posts `exit` to `hook` until it is answered with 2xx or the attempts are used up.
pub async fn report(hook: &ExitHook, exit: &Exit) {
    let client = match Client::builder().no_proxy().redirect(Policy::none()).timeout(ATTEMPT_LIMIT).build() {
        Ok(client) => client,
        Err(error) => {
            log::error("host", "exit_hook_failed", json!({ "instance": exit.instance, "error": error.to_string() }));
            return;
        }
    };
    for pause in PAUSES.map(Some).into_iter().chain([None]) {
        let error = match client.post(&hook.url).bearer_auth(hook.token.expose()).json(exit).send().await {
            Ok(answer) if answer.status().is_success() => return,
            Ok(answer) => format!("answered {}", answer.status()),
            // Without the address: its query could hold a secret.
            Err(error) => error.without_url().to_string(),
        };
        log::warn(
            "host",
            "exit_hook_failed",
            json!({ "instance": exit.instance, "error": error, "last": pause.is_none() }),
        );
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_called() {
        for good in ["http://127.0.0.1:8787/exit", "http://localhost/exit", "http://[::1]:1/"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in ["https://127.0.0.1/", "http://example.com/", "http://10.0.0.1/", "http://localhost.example/", "x"] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
