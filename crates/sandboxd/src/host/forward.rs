//! Forwards calls to a container's port: bodies are streamed both ways, upgraded connections (WebSockets) are joined.
//!
//! Each call has a connection of its own; on loopback that costs less than a pool that has to learn of dead containers. How long
//! an answer takes is the caller's affair: when the caller leaves, the connection to the container is closed.

use super::error::CallError;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::Response;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use protocol::host::FORWARD_TOKEN_HEADER;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Headers that speak of one connection and not of the message (RFC 9110 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Sends `request` to `address` under `path_and_query` and returns what comes back.
pub async fn forward(address: SocketAddr, path_and_query: &str, mut request: Request) -> Result<Response, CallError> {
    let target: Uri = path_and_query.parse().map_err(|_| CallError::InvalidRequest("path: not a path".to_owned()))?;
    let caller = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade_asked(request.headers());
    *request.uri_mut() = target;
    *request.version_mut() = axum::http::Version::HTTP_11;
    request.headers_mut().remove(FORWARD_TOKEN_HEADER);
    pass_on(request.headers_mut(), upgrade);

    let stream = match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(unreachable)?,
        Err(late) => return Err(unreachable(late)),
    };
    // Small frames of a socket must not wait for each other.
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
    // Ends when the answer's body, or the caller, is gone.
    tokio::spawn(connection.with_upgrades());
    let mut answer = sender.send_request(request).await.map_err(unreachable)?;

    let upgrade =
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS { upgrade_asked(answer.headers()) } else { None };
    if let (Some(_), Some(caller)) = (&upgrade, caller) {
        let container = hyper::upgrade::on(&mut answer);
        tokio::spawn(join(caller, container));
    }
    pass_on(answer.headers_mut(), upgrade);
    Ok(answer.map(Body::new))
}

fn unreachable(error: impl std::fmt::Display) -> CallError {
    CallError::ContainerUnreachable(error.to_string())
}

/// The protocol that a message wants to change to.
fn upgrade_asked(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = connection_options(headers).iter().any(|option| option == "upgrade");
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

/// Takes off what belongs to the connection that a message came on; puts `upgrade` on for the next one.
fn pass_on(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    for name in connection_options(headers) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

/// The names in `Connection`, in lower case.
fn connection_options(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|option| option.trim().to_ascii_lowercase()).collect()
}

/// Copies both ways until both ends are closed, or one breaks.
async fn join(caller: OnUpgrade, container: OnUpgrade) {
    if let (Ok(caller), Ok(container)) = tokio::join!(caller, container) {
        let _ = copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(container)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Bytes;
    use axum::routing::any;
    use futures_util::SinkExt;
    use futures_util::StreamExt;
    use http_body_util::BodyExt;
    use std::convert::Infallible;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    async fn serve(router: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// A server that forwards everything to `container`, as `/x…` to `/…`.
    async fn forwarding_to(container: SocketAddr) -> SocketAddr {
        let handler = async move |request: Request| {
            let target = request.uri().path_and_query().unwrap().as_str().strip_prefix("/x").unwrap().to_owned();
            forward(container, &target, request).await
        };
        serve(Router::new().fallback(any(handler))).await
    }

    #[tokio::test]
    async fn a_message_arrives_as_it_was_without_what_belongs_to_the_connection() {
        let echo = async |request: Request| {
            let mut answer = Response::new(Body::from(format!("{} {}", request.method(), request.uri())));
            *answer.headers_mut() = request.headers().clone();
            answer.headers_mut().remove("content-length");
            *answer.status_mut() = StatusCode::IM_A_TEAPOT;
            answer
        };
        let address = forwarding_to(serve(Router::new().fallback(any(echo))).await).await;
        let request = reqwest::Client::new()
            .patch(format!("http://{address}/x/a%2Fb//c?d=%20&e"))
            .header("authorization", "Bearer for-the-container")
            .header(FORWARD_TOKEN_HEADER, "for-the-host")
            .header("connection", "x-private, keep-alive")
            .header("x-private", "1")
            .header("te", "trailers")
            .body("text");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT);
        let headers = answer.headers();
        assert_eq!(headers["authorization"], "Bearer for-the-container");
        for gone in [FORWARD_TOKEN_HEADER, "x-private", "te"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(answer.text().await.unwrap(), "PATCH /a%2Fb//c?d=%20&e");
    }

    #[tokio::test]
    async fn bodies_are_streamed_both_ways() {
        let echo = async |request: Request| Response::new(request.into_body());
        let address = forwarding_to(serve(Router::new().fallback(any(echo))).await).await;
        let (sender, receiver) = mpsc::channel::<Bytes>(1);
        let stream = futures_util::stream::unfold(receiver, async |mut receiver| {
            let chunk = receiver.recv().await?;
            Some((Ok::<_, Infallible>(chunk), receiver))
        });
        let request =
            reqwest::Client::new().post(format!("http://{address}/x/")).body(reqwest::Body::wrap_stream(stream));
        let answer = request.send().await.unwrap();
        let mut body = reqwest::Body::from(answer);
        // Each part comes back before the next one is sent: nothing in between waits for the whole.
        for part in ["one", "two", "three"] {
            sender.send(part.into()).await.unwrap();
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), part);
        }
        drop(sender);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_websocket_is_joined_and_its_end_is_passed_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let container = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() || message.is_binary() {
                    socket.send(message).await.unwrap();
                }
            }
        });
        let address = forwarding_to(container).await;
        let request = format!("ws://{address}/x/socket").into_client_request().unwrap();
        let (mut socket, answer) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        for message in [Message::text("hello"), Message::binary(vec![7; 300_000])] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        socket.close(None).await.unwrap();
        assert!(socket.next().await.is_none_or(|last| last.is_ok_and(|message| message.is_close())));
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_said_to_be_unreachable() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let outcome = forward(free, "/", Request::new(Body::empty())).await;
        assert!(matches!(outcome, Err(CallError::ContainerUnreachable(_))));
    }
}
