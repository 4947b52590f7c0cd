//! More sessions than places for agent servers: the one that has been idle the longest gives way, one at work never does.

use crate::object::Object;
use crate::stage::KILO_SESSION;
use crate::stage::Stage;
use crate::store::Store;
use axum::http::StatusCode;
use serde_json::Value;
use serde_json::json;

/// What one container has.
const PLACES: usize = 6;

/// Sessions beside the stage's own.
fn others(stage: &Stage, count: usize) -> Vec<String> {
    let sessions: Vec<String> = (0..count).map(|_| format!("agent_{}", uuid::Uuid::new_v4())).collect();
    sessions.iter().for_each(|session| stage.make_workspace(session));
    sessions
}

async fn prepare(stage: &Stage, session: &str) -> Value {
    stage.outcome(&stage.work(session, 1)).await
}

/// The agent takes the prompt, and works from then on.
async fn work(stage: &Stage, session: &str, attempt: u64) -> Value {
    // Nobody looks at what it stores.
    let object = Object::start().await;
    stage.outcome(&stage.work_with_turn(session, attempt, &object.url)).await
}

fn with_server<'a>(stage: &Stage, sessions: &'a [String]) -> Vec<&'a str> {
    sessions.iter().map(String::as_str).filter(|session| !stage.processes_of(session).is_empty()).collect()
}

#[tokio::test]
async fn where_no_place_is_free_the_longest_idle_session_gives_way_and_comes_back_with_its_next_turn() {
    let stage = Stage::new(json!({})).await;
    stage.agent.answer(|said| said.status = json!({ KILO_SESSION: { "type": "busy" } }));
    let sessions = others(&stage, PLACES + 1);
    for session in &sessions[..PLACES] {
        assert_eq!(prepare(&stage, session).await["type"], "done");
    }
    assert_eq!(with_server(&stage, &sessions), sessions[..PLACES]);

    // The oldest is at work, so the second gives way.
    assert_eq!(work(&stage, &sessions[0], 2).await["type"], "done");
    let last = &sessions[PLACES];
    assert_eq!(prepare(&stage, last).await["type"], "done");
    assert_eq!(with_server(&stage, &sessions), [&sessions[..1], &sessions[2..]].concat());

    // It comes back in the place of the third.
    let outcome = work(&stage, &sessions[1], 2).await;
    assert_eq!((&outcome["type"], &outcome["resume"]), (&json!("done"), &json!("resumed")));
    assert_eq!(with_server(&stage, &sessions), [&sessions[..2], &sessions[3..]].concat());
}

#[tokio::test]
async fn where_all_agents_are_at_work_no_other_is_started_and_none_is_stopped() {
    let stage = Stage::new(json!({})).await;
    stage.agent.answer(|said| said.status = json!({ KILO_SESSION: { "type": "busy" } }));
    let sessions = others(&stage, PLACES + 1);
    for session in &sessions[..PLACES] {
        assert_eq!(work(&stage, session, 1).await["type"], "done");
    }
    let refused = prepare(&stage, &sessions[PLACES]).await;
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("SANDBOX_CONNECT_FAILED"), &json!(true)));
    assert_eq!(with_server(&stage, &sessions), sessions[..PLACES]);
}

#[tokio::test]
async fn nobody_but_its_own_next_turn_waits_for_the_conversation_of_a_session_that_gave_way() {
    let (stage, mut store) = (Stage::new(json!({})).await, Store::start().await);
    let sessions = others(&stage, PLACES + 1);
    let first = &stage.session;
    let mut work = stage.work_with_turn(first, 1, &stage.object.url);
    work["snapshot"] = json!({ "url": store.url });
    assert_eq!(stage.outcome(&work).await["type"], "done");
    stage.open_turn().await;
    stage.end_turn().await;
    // So it has something to keep when it gives way.
    store.put().await.answer(StatusCode::SERVICE_UNAVAILABLE);

    for session in &sessions[..PLACES] {
        assert_eq!(prepare(&stage, session).await["type"], "done");
    }
    assert_eq!(with_server(&stage, &sessions), sessions[..PLACES]);
    // The agent's session can be exported when its server is gone.
    let kept = store.put().await;
    assert_eq!((&kept.conversation["info"]["id"], stage.processes()), (&json!(KILO_SESSION), vec![]));

    // Its next turn has begun to wait before another one gets a place.
    work["attempt"] = json!(2);
    work["turn"] = Value::Null;
    stage.ask(&work).await;
    assert_eq!(prepare(&stage, &sessions[PLACES]).await["type"], "done");
    assert_eq!((stage.ask(&work).await["n"].take(), stage.processes()), (json!(0), vec![]));
    kept.answer(StatusCode::NO_CONTENT);
    assert_eq!(stage.outcome(&work).await["type"], "done");
}
