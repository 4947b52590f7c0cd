//! Event streams, their tickets, and terminals (spec/town.md 9.3).

use crate::stage::Stage;
use crate::support::until_async;
use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The socket, or the status that it was refused with.
async fn connect(stage: &Stage, path: &str, bearer: Option<&str>) -> Result<Socket, u16> {
    let url = format!("{}{path}", stage.url.replacen("http", "ws", 1));
    let mut request = url.into_client_request().unwrap();
    if let Some(bearer) = bearer {
        request.headers_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

async fn next(socket: &mut Socket) -> Value {
    let message = tokio::time::timeout(std::time::Duration::from_secs(20), socket.next()).await.unwrap();
    serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap()
}

/// Reads until this event of this agent.
async fn wait_for(socket: &mut Socket, agent: &str, event: &str) {
    loop {
        let frame = next(socket).await;
        if frame["agentId"] == agent && frame["event"] == event {
            assert!(frame["timestamp"].as_str().unwrap().ends_with('Z') && frame["data"].is_object());
            return;
        }
    }
}

#[tokio::test]
async fn a_ticket_opens_the_stream_of_its_agent_once_with_what_happened_and_what_happens() {
    let stage = Stage::new().await;
    stage.start("a", "write a.txt a").await;
    stage.wait_for_event("a", "session.idle").await;
    let (status, ticket) = stage.post("/agents/a/stream-ticket", json!({})).await;
    assert_eq!(status, 200);
    assert!(ticket["expiresAt"].as_str().unwrap().ends_with('Z'));
    let path = format!("/api/prefix/agents/a/stream?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut socket = connect(&stage, &path, None).await.unwrap();
    wait_for(&mut socket, "a", "session.idle").await;
    stage.post("/agents/a/message", json!({ "prompt": "write b.txt b" })).await;
    wait_for(&mut socket, "a", "session.turn.open").await;
    stage.post("/agents/a/stop", json!({})).await;
    wait_for(&mut socket, "a", "agent.exited").await;

    assert_eq!(connect(&stage, &path, None).await.unwrap_err(), 401, "it is used up");
    assert_eq!(connect(&stage, "/agents/a/stream", None).await.unwrap_err(), 401);
    assert_eq!(connect(&stage, "/agents/a/stream?ticket=no", None).await.unwrap_err(), 401);
    let (_, ticket) = stage.post("/agents/b/stream-ticket", json!({})).await;
    let other = format!("/agents/a/stream?ticket={}", ticket["ticket"].as_str().unwrap());
    assert_eq!(connect(&stage, &other, None).await.unwrap_err(), 401, "it is for another agent");
    let (_, ticket) = stage.post("/agents/a/stream-ticket", json!({})).await;
    let plain =
        stage.client.get(format!("{}/agents/a/status?ticket={}", stage.url, ticket["ticket"].as_str().unwrap()));
    assert_eq!(plain.send().await.unwrap().status(), 401, "it opens a stream and nothing else");
}

#[tokio::test]
async fn a_viewer_with_the_bearer_changes_the_agent_that_it_sees() {
    let stage = Stage::new().await;
    for agent in ["a", "b"] {
        stage.start(agent, "write a.txt a").await;
        stage.wait_for_event(agent, "session.idle").await;
    }
    let mut socket = connect(&stage, "/ws?agentId=a", Some("sandbox-token")).await.unwrap();
    wait_for(&mut socket, "a", "session.idle").await;
    socket.send(Message::text(r#"{"type":"subscribe","agentId":"b"}"#)).await.unwrap();
    wait_for(&mut socket, "b", "session.idle").await;
    assert_eq!(stage.get("/ws").await.0, 426, "not a socket");
}

#[tokio::test]
async fn terminals_are_the_agent_servers() {
    let stage = Stage::new().await;
    stage.start("a", "write a.txt a").await;
    assert_eq!(stage.get("/agents/a/pty").await, (200, json!([])));
    let (status, made) = stage.post("/agents/a/pty", json!({})).await;
    assert_eq!(status, 200);
    let session = stage.status("a").await["sessionId"].as_str().unwrap().to_owned();
    assert_eq!((&made["args"][0], &made["args"][2]), (&json!("attach"), &json!(format!("--session={session}"))));
    assert_eq!(stage.get("/agents/nobody/pty").await.0, 404);
    assert_eq!(connect(&stage, "/agents/a/pty/pty_1/connect", None).await.unwrap_err(), 401);
}

#[tokio::test]
async fn the_town_hears_every_event_of_a_burst_and_in_its_order() {
    let stage = Stage::new().await;
    stage.start("a", "").await;
    let turns = 40;
    for n in 0..turns {
        let prompt = json!({ "prompt": format!("write {n}.txt x") });
        assert_eq!(stage.post("/agents/a/message", prompt).await.0, 200);
    }
    stage.wait_for_file("a", &format!("{}.txt", turns - 1)).await;
    // What a turn ends with.
    let ends = || -> Vec<String> {
        let calls = stage.worker.calls("rigs/r1/agent-events");
        let names = calls.iter().filter_map(|call| call.body["event_type"].as_str());
        names.filter(|name| ["session.idle", "session.updated"].contains(name)).map(str::to_owned).collect()
    };
    let all = ["session.idle", "session.updated"].repeat(turns + 1);
    until_async("the town to hear of every turn", async || (ends().len() >= all.len()).then_some(())).await;
    assert_eq!(ends(), all);
}
