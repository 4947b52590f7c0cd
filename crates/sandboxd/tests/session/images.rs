//! What the user shows with a prompt: it reaches the model as it is, or nothing is begun.

use crate::outcome;
use crate::stage::Stage;
use crate::steps;
use crate::worker::Worker;
use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

/// One pixel, and its SHA-256.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const PNG_HASH: &str = "497790947d4666760ce38f3c00e852c71fdb66cae849bae8e9ede352719e1581";

/// The pixel, and after its end a lot that no compression makes smaller.
fn heavy() -> Vec<u8> {
    let noise = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761).rotate_left(n % 31) >> 17) as u8);
    STANDARD.decode(PNG).unwrap().into_iter().chain(noise).collect()
}

/// Serves the pixel as `here.png`, from the second call on; `heavy.png`; `large.png`, which is too large; `text.png`, which is none; and nothing else.
async fn images() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let serve = move |Path(file): Path<String>, headers: HeaderMap| async move {
        assert_eq!(headers["authorization"], "Bearer report-token-1234");
        match file.as_str() {
            "here.png" if calls.fetch_add(1, Ordering::Relaxed) == 0 => Err(StatusCode::SERVICE_UNAVAILABLE),
            "here.png" => Ok(STANDARD.decode(PNG).unwrap()),
            "heavy.png" => Ok(heavy()),
            "large.png" => Ok(vec![0; 5 * 1024 * 1024 + 1]),
            "text.png" => Ok(b"in words only".to_vec()),
            "broken.png" => Err(StatusCode::BAD_GATEWAY),
            _ => Err(StatusCode::NOT_FOUND),
        }
    };
    let router = Router::new().route("/{file}", get(serve));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn work(stage: &Stage, worker: &Worker, attempt: u64, images: &str, files: &[&str]) -> Value {
    let mut work = stage.work_with_turn(worker, attempt, "What is this?\n@look");
    let image = |file: &&str| json!({ "url": format!("{images}/{file}"), "filename": file, "mime": "image/png" });
    work["turn"]["images"] = files.iter().map(image).collect();
    work["turn"]["autoCommit"] = json!(false);
    work
}

#[tokio::test]
async fn the_model_sees_what_the_user_shows_and_viewers_are_spared_its_bytes() {
    let (stage, worker, images) = (Stage::new().await, Worker::start(&[]).await, images().await);
    stage.call("POST", "work", Some(&work(&stage, &worker, 1, &images, &["here.png", "here.png"]))).await;
    let reports = worker.outcome(1).await;
    assert_eq!(outcome(&reports)["type"], "done", "{reports:#?}");
    worker.stored("complete").await;
    let seen = format!("I see: image/png {PNG_HASH} | image/png {PNG_HASH}");
    worker.event_with(&seen).await;
    // The part itself is told, without its contents.
    worker.event_with("\"filename\":\"here.png\"").await;
    assert!(worker.events().iter().all(|event| !event.to_string().contains(PNG)));
}

#[tokio::test]
async fn an_image_that_cannot_be_had_fails_the_start_before_anything_is_begun() {
    let (stage, worker, images) = (Stage::without_kilo().await, Worker::start(&[]).await, images().await);
    for (attempt, file, retryable, reason) in [
        (1, "missing.png", false, "there is none"),
        (2, "large.png", false, "more than 5242880 bytes came"),
        (3, "broken.png", true, "the answer was 502 Bad Gateway"),
    ] {
        stage.call("POST", "work", Some(&work(&stage, &worker, attempt, &images, &[file]))).await;
        let reports = worker.outcome(attempt).await;
        assert_eq!(steps(&reports), ["failed"]);
        let message = format!("Image {file} could not be fetched: {reason}");
        let expected =
            json!({ "type": "failed", "code": "IMAGE_UNAVAILABLE", "message": message, "retryable": retryable });
        assert_eq!(outcome(&reports), &expected);
    }
    assert!(!stage.workspace().exists());
    assert_eq!(worker.connections().0, 0);
}

#[tokio::test]
async fn what_is_no_image_ends_its_turn_with_an_error_and_the_next_turn_runs() {
    let (stage, worker, images) = (Stage::new().await, Worker::start(&[]).await, images().await);
    stage.call("POST", "work", Some(&work(&stage, &worker, 1, &images, &["text.png"]))).await;
    let error = worker.stored("error").await;
    assert_eq!(error["data"]["fatal"], true);
    assert!(error["data"]["error"].as_str().unwrap().contains("Image could not be decoded"), "{error}");

    worker.watch(2);
    stage.call("POST", "work", Some(&work(&stage, &worker, 2, &images, &[]))).await;
    worker.stored("complete").await;
    worker.event_with("I see nothing.").await;
}

#[tokio::test]
async fn a_conversation_with_more_images_than_can_be_kept_is_kept_without_them_and_says_so() {
    let limits = json!({ "snapshot_bytes_max": 200_000 });
    let (mut stage, worker, images) = (Stage::limited(limits).await, Worker::start(&[]).await, images().await);
    let turn = |stage: &Stage, attempt: u64, files: &[&str]| {
        let mut work = work(stage, &worker, attempt, &images, files);
        work["snapshot"] = json!({ "url": worker.snapshot_url(), "restore": attempt > 1 });
        worker.watch(attempt);
        work
    };
    stage.call("POST", "work", Some(&turn(&stage, 1, &["heavy.png"]))).await;
    worker.stored("complete").await;
    worker.event_with("I see: image/png").await;
    assert!(worker.snapshot(1).await.len() < 200_000);

    stage.lose_container().await;
    stage.call("POST", "work", Some(&turn(&stage, 2, &[]))).await;
    let reports = worker.outcome(2).await;
    assert_eq!(outcome(&reports)["resume"], "replayed");
    let told = |report: &Value| report["message"].as_str().unwrap().contains("without the 1 images shown before");
    assert!(reports.iter().any(|report| report["step"] == "kilo_session" && told(report)), "{reports:#?}");
    worker.stored("complete").await;
    assert_eq!(stage.conversation().len(), 2);
    // From now on there is nothing to leave out.
    worker.snapshot(2).await;
}
