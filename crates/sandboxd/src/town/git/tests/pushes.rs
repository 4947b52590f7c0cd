//! Saves to a remote that cannot be reached for a while, or that an agent has unsaid.

use super::*;
use crate::town::git::Outcome;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

const BRANCH: &str = "gt/toast/1";

/// How a gateway takes a call.
enum Mood {
    Well,
    Refuses,
    Hangs,
}

/// Git's own server of `folder`, behind a gateway whose `mood` depends on how many calls of a push came before.
async fn gateway(folder: &Path, mood: fn(u32) -> Mood) -> (String, Arc<AtomicU32>) {
    let (folder, calls) = (folder.to_owned(), Arc::new(AtomicU32::new(0)));
    let count = calls.clone();
    let router = Router::new().fallback(async move |request: Request| {
        if request.uri().to_string().contains("git-receive-pack") {
            match mood(count.fetch_add(1, Ordering::SeqCst)) {
                Mood::Well => {}
                Mood::Refuses => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
                Mood::Hangs => std::future::pending().await,
            }
        }
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let folder = folder.clone();
        tokio::task::spawn_blocking(move || serve(&folder, &parts, &body)).await.unwrap()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/remote.git", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, calls)
}

/// One call, as a web server hands it to git (RFC 3875).
fn serve(folder: &Path, parts: &axum::http::request::Parts, body: &Bytes) -> Response {
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
    let mut child = command(folder, &["http-backend"])
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "somebody")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let said = child.wait_with_output().unwrap().stdout;
    let end = said.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&said[..end]).unwrap();
    let mut response = said[end + 4..].to_vec().into_response();
    response.headers_mut().clear();
    for (name, value) in head.lines().map(|line| line.split_once(": ").unwrap()) {
        if name == "Status" {
            *response.status_mut() = StatusCode::from_u16(value[..3].parse().unwrap()).unwrap();
        } else {
            let name = axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            response.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    response
}

#[tokio::test]
async fn a_remote_that_is_out_of_reach_for_a_while_is_tried_again() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::write(worktree.path().join("a"), "a").unwrap();
    let mood = |before| if before < 2 { Mood::Refuses } else { Mood::Well };
    let (url, calls) = gateway(stage.folder.path(), mood).await;
    let receipt = stage.save_at(&worktree, BRANCH, &stage.repo_at(&url)).await;
    assert_eq!(receipt.outcome, Outcome::Pushed, "{receipt:?}");
    assert_eq!(stage.on_remote(BRANCH, "a").as_deref(), Some("a"));
    assert!(calls.load(Ordering::SeqCst) > 2);
}

/// The reason for which the commit is not on such a remote, after ten seconds.
async fn reason_not_pushed(mood: fn(u32) -> Mood) -> String {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::write(worktree.path().join("a"), "a").unwrap();
    let (url, _) = gateway(stage.folder.path(), mood).await;
    let (repo, own) = (stage.repo_at(&url), branch(BRANCH));
    let until = Instant::now() + Duration::from_secs(10);
    let save = Save { worktree: &worktree, author: &agent(), remote: Some((&repo, &own)), until };
    let receipt = tokio::time::timeout(Duration::from_secs(60), stage.manager.save(save, Frozen)).await.unwrap();
    assert_eq!(git(worktree.path(), &["rev-parse", "HEAD"]).trim(), receipt.commit.unwrap());
    let Outcome::NotPushed { reason } = receipt.outcome else { panic!("{:?}", receipt.outcome) };
    reason
}

#[tokio::test]
async fn a_remote_that_stays_out_of_reach_is_told_in_time_with_the_commit() {
    let reason = reason_not_pushed(|_| Mood::Refuses).await;
    assert!(reason.contains("503"), "{reason}");
}

#[tokio::test]
async fn a_last_try_that_is_cut_off_is_told_with_what_the_remote_said_before() {
    let reason = reason_not_pushed(|before| if before == 0 { Mood::Refuses } else { Mood::Hangs }).await;
    assert!(reason.contains("503"), "{reason}");
}

#[tokio::test]
async fn an_agent_that_removes_the_remote_costs_nobody_a_save() {
    let stage = Stage::new();
    let (worktree, other) = (stage.worktree(BRANCH).await, stage.worktree("gt/maple/2").await);
    git(worktree.path(), &["remote", "remove", "origin"]);
    for (worktree, own) in [(&worktree, BRANCH), (&other, "gt/maple/2")] {
        fs::write(worktree.path().join("a"), own).unwrap();
        assert_eq!(stage.save(worktree, own).await.outcome, Outcome::Pushed);
        assert_eq!(stage.on_remote(own, "a").as_deref(), Some(own));
    }
}

#[tokio::test]
async fn a_configuration_that_is_locked_costs_no_save() {
    let stage = Stage::new();
    let worktree = stage.worktree(BRANCH).await;
    fs::write(worktree.common_dir().join("config.lock"), "").unwrap();
    git(worktree.path(), &["remote"]);
    fs::write(worktree.path().join("a"), "a").unwrap();
    assert_eq!(stage.save(&worktree, BRANCH).await.outcome, Outcome::Pushed);
    assert_eq!(stage.on_remote(BRANCH, "a").as_deref(), Some("a"));
}
