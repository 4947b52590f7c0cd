//! WebSockets to whoever watches an agent (spec/town.md 9.3): what is kept of its events, then each new one.

use super::agents::shared::Shared;
use super::feed::Event;
use super::feed::Feed;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use futures_util::SinkExt;
use futures_util::StreamExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use protocol::id::AgentId;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// A viewer says little.
const INCOMING_BYTES_MAX: usize = 16 * 1024;
/// A viewer that takes nothing for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// What a viewer may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// Whatever it names: it has the bearer.
    All,
    /// This agent: it has a ticket.
    One(String),
}

/// What a viewer says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Wish {
    /// From now on, this agent.
    #[serde(rename_all = "camelCase")]
    Subscribe { agent_id: AgentId },
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Upgrades the call and streams `agent`, until the viewer names another, to it. None: the call is no WebSocket.
pub fn open(shared: Arc<Shared>, mut request: Request, agent: Option<AgentId>, right: Right) -> Option<Response> {
    let accept = accept_key(request.headers())?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let config = WebSocketConfig::default()
                .max_message_size(Some(INCOMING_BYTES_MAX))
                .max_frame_size(Some(INCOMING_BYTES_MAX));
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
            Viewer { socket, agent: None, right, last: 0 }.serve(&shared.feed, agent).await;
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Body::empty())
        .ok()
}

/// The answer to a handshake (RFC 6455, 4.2). None: it is none.
fn accept_key(headers: &HeaderMap) -> Option<String> {
    let text = |name: header::HeaderName| headers.get(name)?.to_str().ok().map(str::to_ascii_lowercase);
    let upgrades = text(header::CONNECTION)?.split(',').any(|option| option.trim() == "upgrade");
    let is_socket = text(header::UPGRADE)? == "websocket" && text(header::SEC_WEBSOCKET_VERSION)? == "13";
    (upgrades && is_socket)
        .then(|| headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes())))?
}

struct Viewer {
    socket: Socket,
    agent: Option<AgentId>,
    right: Right,
    /// The last event that it got, or that is not for it.
    last: u64,
}

impl Viewer {
    async fn serve(mut self, feed: &Feed, agent: Option<AgentId>) {
        // Before what is kept is read, so that nothing falls in between.
        let mut live = feed.live();
        if let Some(agent) = agent
            && !self.subscribe(feed, agent).await
        {
            return;
        }
        loop {
            let goes_on = tokio::select! {
                event = live.recv() => match event {
                    Ok(event) => self.pass_on(&event).await,
                    // It was too slow: what is kept fills the gap.
                    Err(RecvError::Lagged(_)) => self.catch_up(feed).await,
                    Err(RecvError::Closed) => false,
                },
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                        Ok(Wish::Subscribe { agent_id }) => self.subscribe(feed, agent_id).await,
                        Err(_) => true,
                    },
                    Some(Ok(Message::Close(_)) | Err(_)) | None => false,
                    Some(Ok(_)) => true,
                },
            };
            if !goes_on {
                break;
            }
        }
        let _ = tokio::time::timeout(SEND_TIMEOUT, self.socket.close(None)).await;
    }

    /// What it has no right to is not an error: it gets nothing of it.
    async fn subscribe(&mut self, feed: &Feed, agent: AgentId) -> bool {
        let may = match &self.right {
            Right::All => true,
            Right::One(own) => own == agent.as_str(),
        };
        if !may || self.agent.as_ref() == Some(&agent) {
            return true;
        }
        self.agent = Some(agent);
        self.last = 0;
        self.catch_up(feed).await
    }

    async fn catch_up(&mut self, feed: &Feed) -> bool {
        let Some(agent) = self.agent.clone() else { return true };
        for event in feed.after(&agent, self.last) {
            if !self.pass_on(&event).await {
                return false;
            }
        }
        true
    }

    /// False: it is gone.
    async fn pass_on(&mut self, event: &Event) -> bool {
        if self.agent.as_ref() != Some(&event.agent) || event.id <= self.last {
            return true;
        }
        self.last = event.id;
        let sent = self.socket.send(Message::text(event.frame()));
        matches!(tokio::time::timeout(SEND_TIMEOUT, sent).await, Ok(Ok(())))
    }
}
