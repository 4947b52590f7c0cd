//! Which model a turn is answered by.

use crate::outcome;
use crate::stage::Stage;
use crate::worker::Worker;
use serde_json::Value;
use serde_json::json;

/// Runs a turn that asks for `model`. Returns the model that answered, and how the conversation went on.
async fn turn(stage: &Stage, worker: &Worker, attempt: u64, model: &str) -> (String, Value) {
    let mut work = stage.work_with_turn(worker, attempt, &format!("@say turn {attempt}"));
    work["turn"]["model"] = json!(model);
    work["turn"]["autoCommit"] = json!(false);
    worker.watch(attempt);
    stage.call("POST", "work", Some(&work)).await;
    let reports = worker.outcome(attempt).await;
    assert_eq!(outcome(&reports)["type"], "done", "{reports:#?}");
    worker.stored("complete").await;
    let info = |event: &Value| event["data"]["properties"]["info"].clone();
    let events = worker.events();
    let answer = events.iter().map(info).find(|info| info["role"] == "assistant").unwrap();
    assert_eq!(answer["providerID"], "holdfast");
    let model = answer["modelID"].as_str().unwrap();
    (model.to_owned(), outcome(&reports)["resume"].clone())
}

#[tokio::test]
async fn a_turn_gets_the_model_of_our_provider_that_it_names_and_else_the_deployments_own() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    let of = |model: &str| (model.to_owned(), json!("resumed"));
    assert_eq!(turn(&stage, &worker, 1, "anthropic/other").await.0, "scripted");
    assert_eq!(turn(&stage, &worker, 2, "holdfast/larger").await, of("larger"));
    assert_eq!(turn(&stage, &worker, 3, "kilo/auto").await, of("scripted"));
    let said: Vec<String> = (1..=3).map(|n| format!("@say turn {n}")).collect();
    assert_eq!(stage.conversation(), said);
}
