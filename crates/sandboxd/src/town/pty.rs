//! Terminals of an agent, which are the agent server's (spec/town.md 6.2, 9.3): calls and WebSockets are passed on to it.

use super::agents::Agent;
use super::api::body::Answer;
use super::api::body::Refusal;
use super::api::body::fine;
use crate::host::forward::forward;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use protocol::town::DRAIN_NONCE_HEADER;
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;
use url::form_urlencoded;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The id of a terminal is much shorter.
const PART_BYTES_MAX: usize = 128;

/// A terminal, as the agent server lists it.
#[derive(Deserialize)]
struct Pty {
    #[serde(default)]
    title: String,
    #[serde(default)]
    status: String,
}

/// Where an agent's server is, and where the agent works.
struct Door {
    address: SocketAddr,
    query: String,
}

impl Door {
    fn of(agent: &Agent) -> Option<Self> {
        let view = agent.view();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, view.port?));
        let directory = view.worktree.as_ref()?.path().to_string_lossy().into_owned();
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("directory", &directory).finish();
        Some(Self { address, query })
    }
}

/// Passes a call about the terminals of `agent` on; `rest` is what follows `/pty` in its path.
pub async fn pass_on(agent: &Agent, rest: &str, mut request: Request) -> Answer {
    if !is_plain(rest) {
        return Err(Refusal::not_found());
    }
    let door = Door::of(agent).ok_or_else(not_running)?;
    // The container's own token, and what the town says to the container, is nothing for an agent.
    for name in [header::AUTHORIZATION.as_str(), "x-town-config", DRAIN_NONCE_HEADER] {
        request.headers_mut().remove(name);
    }
    let own = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let own = own.filter(|(name, _)| !["ticket", "directory"].contains(&name.as_ref()));
    let query = form_urlencoded::Serializer::for_suffix(door.query.clone(), 0).extend_pairs(own).finish();
    let target = format!("/pty{rest}?{query}");
    Ok(forward(door.address, &target, request).await.unwrap_or_else(IntoResponse::into_response))
}

/// The terminal that shows the agent's session: the one that runs, else a new one.
pub async fn attach(http: &Client, kilo: &str, agent: &Agent) -> Answer {
    let door = Door::of(agent).ok_or_else(not_running)?;
    let session = agent.view().session.clone().ok_or_else(not_running)?;
    let base = format!("http://{}", door.address);
    let title = format!("attach {session}");
    let listed = async {
        let call = http.get(format!("{base}/pty?{}", door.query)).timeout(CALL_TIMEOUT);
        call.send().await?.error_for_status()?.json::<Vec<Value>>().await
    };
    let made = async {
        let body = json!({
            "command": kilo,
            "args": ["attach", base, format!("--session={session}")],
            "title": title,
        });
        let call = http.post(format!("{base}/pty?{}", door.query)).timeout(CALL_TIMEOUT).json(&body);
        call.send().await?.error_for_status()?.json::<Value>().await
    };
    let is_ours = |pty: &&Value| Pty::deserialize(*pty).is_ok_and(|pty| pty.title == title && pty.status == "running");
    let found = listed.await.ok().and_then(|listed| listed.iter().find(is_ours).cloned());
    let pty = match found {
        Some(pty) => pty,
        None => made.await.map_err(|failed| Refusal::failed(failed.without_url()))?,
    };
    fine(pty)
}

/// Whether a path below `/pty` is one of the agent server's own: its names hold nothing that leads elsewhere.
fn is_plain(rest: &str) -> bool {
    let is_name = |part: &str| {
        (1..=PART_BYTES_MAX).contains(&part.len())
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-".contains(&c))
    };
    rest.is_empty() || rest.strip_prefix('/').is_some_and(|parts| parts.split('/').all(is_name))
}

fn not_running() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "The agent has no agent server now")
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn a_path_stays_below_the_terminals() {
        for good in ["", "/pty_01ABC-x", "/pty_1/connect"] {
            assert!(is_plain(good), "{good}");
        }
        let long = format!("/{}", "x".repeat(129));
        for bad in [
            "/..",
            "/../session",
            "/a/../../session",
            "/a//b",
            "/",
            "/a?directory=/",
            "/a#",
            "/a b",
            "/a\r\nb",
            "/%2e",
            &long,
        ] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
