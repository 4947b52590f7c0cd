//! A person's word to the agent, over the container's own routes.

use crate::outcome;
use crate::stage::Stage;
use crate::worker::Worker;
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test]
async fn a_verdict_that_nobody_waits_for_or_that_cannot_be_read_is_refused_by_its_code() {
    let stage = Stage::without_kilo().await;
    for (route, body, code) in [
        ("answer-question", json!({ "questionId": "que_1", "answers": [["A"]] }), "NO_JOB"),
        ("reject-question", json!({ "questionId": "que_1" }), "NO_JOB"),
        ("answer-permission", json!({ "permissionId": "per_1", "response": "once" }), "NO_JOB"),
        ("answer-question", json!({ "questionId": "que_1", "answers": ["A"] }), "INVALID_REQUEST"),
        ("reject-question", json!({ "questionId": "../session" }), "INVALID_REQUEST"),
        ("answer-permission", json!({ "permissionId": "per_1", "response": "never" }), "INVALID_REQUEST"),
    ] {
        let (status, answer) = stage.call("POST", &format!("job/{route}"), Some(&body)).await;
        assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!(code)), "{body}");
    }
}

#[tokio::test]
async fn the_agent_takes_one_answer_and_goes_on_with_it() {
    let (stage, worker) = (Stage::new().await, Worker::start(&[]).await);
    let work = stage.work_with_turn(&worker, 1, "@question Which?|Left|Right\n@say Thanks.");
    stage.call("POST", "work", Some(&work)).await;
    assert_eq!(outcome(&worker.outcome(1).await)["type"], "done");
    let asked = worker.event_with("question.asked").await;
    let question = &asked["data"]["properties"]["id"];

    let answer = json!({ "questionId": question, "answers": [["Right"]] });
    let taken = stage.call("POST", "job/answer-question", Some(&answer)).await;
    assert_eq!(taken, (StatusCode::OK, json!({ "status": "answered", "success": true })));
    let again = stage.call("POST", "job/reject-question", Some(&json!({ "questionId": question }))).await;
    assert_eq!(again, (StatusCode::OK, json!({ "status": "rejected", "success": false })));
    let unknown = json!({ "permissionId": "per_1fc4d915b001drcenBkxqwfcEg", "response": "reject" });
    let unknown = stage.call("POST", "job/answer-permission", Some(&unknown)).await;
    assert_eq!(unknown, (StatusCode::OK, json!({ "status": "answered", "success": false })));
    worker.stored("complete").await;
}
