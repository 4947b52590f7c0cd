//! A real server stands for the town object.

use super::*;
use axum::Json;
use axum::Router;
use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;

/// A town object that drains if it has a nonce, and keeps the calls it got.
#[derive(Debug, Default)]
struct TownObject {
    nonce: Mutex<Option<&'static str>>,
    calls: Mutex<Vec<(String, Value)>>,
}

impl TownObject {
    fn drain(&self, nonce: &'static str) {
        *self.nonce.lock().unwrap() = Some(nonce);
    }

    /// The nonces that were acknowledged.
    fn acknowledged(&self) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        let ready = calls.iter().filter(|(path, _)| path == "container-ready");
        ready.map(|(_, body)| body["nonce"].clone()).collect()
    }
}

async fn called(
    State(town): State<Arc<TownObject>>,
    Path(path): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Json<Value> {
    assert_eq!(headers["authorization"], "Bearer container-token");
    let mut data = json!({});
    if path.ends_with("/heartbeat") {
        assert_eq!(headers["x-gastown-agent-id"], "a1");
        data = json!({ "heartbeat": true });
        if let Some(nonce) = *town.nonce.lock().unwrap() {
            data["drainNonce"] = nonce.into();
        }
    }
    town.calls.lock().unwrap().push((path, body));
    Json(json!({ "success": true, "data": data }))
}

async fn town_and_home() -> (Arc<TownObject>, Arc<Home>) {
    let object = Arc::new(TownObject::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api_url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/api/towns/t1/{*path}", post(called)).with_state(object.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let variables = [
        ("GASTOWN_TOWN_ID", "t1".to_owned()),
        ("GASTOWN_API_URL", api_url),
        ("GASTOWN_CONTAINER_TOKEN", "container-token".to_owned()),
        ("HOLDFAST_SANDBOX_TOKEN", "sandbox-token".to_owned()),
    ];
    let config = Config::read(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()));
    let config = config.unwrap();
    let live = Arc::new(Live::new(&config));
    (object, Arc::new(Home::new(config, live, InstanceId::parse("i1").unwrap()).unwrap()))
}

fn agent() -> Beat {
    Beat {
        rig: RigId::parse("r1").unwrap(),
        agent: AgentId::parse("a1").unwrap(),
        last_event: Some(("session.idle".to_owned(), 0)),
        active_tools: vec!["bash".to_owned()],
    }
}

#[tokio::test]
async fn a_nonce_in_heartbeats_is_acknowledged_once_and_that_of_a_later_drain_again() {
    let (object, home) = town_and_home().await;
    home.beat(&[agent()]).await;
    assert!(object.acknowledged().is_empty(), "the town does not drain");

    object.drain("n1");
    home.beat(&[agent()]).await;
    home.beat(&[agent()]).await;
    assert_eq!(object.acknowledged(), ["n1"]);

    object.drain("n2");
    home.beat(&[agent()]).await;
    home.beat(&[agent()]).await;
    assert_eq!(object.acknowledged(), ["n1", "n2"]);

    let calls = object.calls.lock().unwrap();
    let (path, beat) = &calls[0];
    assert_eq!(path, "rigs/r1/agents/a1/heartbeat");
    assert_eq!(beat["containerInstanceId"], "i1");
    assert_eq!((&beat["lastEventType"], &beat["activeTools"][0]), (&"session.idle".into(), &"bash".into()));
    assert_eq!(beat["lastEventAt"], "1970-01-01T00:00:00.000Z");
}

#[tokio::test]
async fn a_container_that_was_told_to_end_acknowledges_nothing() {
    let (object, home) = town_and_home().await;
    object.drain("n1");
    home.drain();
    home.beat(&[agent()]).await;
    home.acknowledge("n1".to_owned()).await;
    assert!(object.acknowledged().is_empty());
}

#[tokio::test]
async fn without_agents_nothing_is_sent() {
    let (object, home) = town_and_home().await;
    home.beat(&[]).await;
    assert!(object.calls.lock().unwrap().is_empty());
}
