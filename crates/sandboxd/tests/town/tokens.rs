//! Tokens of git hosts change while agents run: what counts is what the town said last.

use crate::reviews::done;
use crate::stage::Stage;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::net::TcpListener;

/// A git host that lets in who shows its token.
#[derive(Clone)]
struct GitHost {
    folder: PathBuf,
    token: Arc<Mutex<&'static str>>,
    url: String,
}

impl GitHost {
    /// Serves the repositories in `folder`, from a thread of its own.
    fn start(folder: PathBuf, token: &'static str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/remote.git", listener.local_addr().unwrap());
        let host = Self { folder, token: Arc::new(Mutex::new(token)), url };
        let router = Router::new().fallback(serve).with_state(host.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { axum::serve(TcpListener::from_std(listener).unwrap(), router).await.unwrap() });
        });
        host
    }

    /// From now on only this token is good, and the town says so.
    async fn exchange(&self, stage: &Stage, token: &'static str) {
        *self.token.lock().unwrap() = token;
        let config = json!({ "git_auth": { "github_token": token } }).to_string();
        let synced = stage.call(Method::POST, "/sync-config").header("X-Town-Config", config).json(&json!({}));
        assert_eq!(stage.answer(synced).await.0, 200);
    }
}

async fn serve(State(host): State<GitHost>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let expected = format!("Basic {}", STANDARD.encode(format!("x-access-token:{}", host.token.lock().unwrap())));
    if headers.get("authorization").is_none_or(|given| given != expected.as_str()) {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"git\"")]).into_response();
    }
    let of = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let mut git = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &host.folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", of("git-protocol"))
        .env("HTTP_CONTENT_ENCODING", of("content-encoding"))
        .env("CONTENT_TYPE", of("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("REMOTE_USER", "agent")
        .env("REQUEST_METHOD", method.as_str())
        .env("PATH_INFO", uri.path())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = git.stdin.take().unwrap();
    let writing = std::thread::spawn(move || drop(input.write_all(&body)));
    let output = git.wait_with_output().unwrap().stdout;
    writing.join().unwrap();
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(output[..end].to_vec()).unwrap();
    let mut response = output[end + 4..].to_vec().into_response();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        if name == "Status" {
            *response.status_mut() = StatusCode::from_bytes(&value.as_bytes()[..3]).unwrap();
        } else {
            response.headers_mut().insert(name.parse::<axum::http::HeaderName>().unwrap(), value.parse().unwrap());
        }
    }
    response
}

#[tokio::test]
async fn work_is_saved_with_the_token_that_the_town_said_last_and_none_is_kept() {
    let mut stage = Stage::new().await;
    let host = GitHost::start(stage.folder.path().to_owned(), "old-token");
    let mut request = stage.request("a", "polecat", "write a.txt a");
    (request["gitUrl"], request["envVars"]) = (json!(host.url), json!({ "GIT_TOKEN": "old-token", "OWN": "x" }));
    let (status, body) = stage.post("/agents/start", request).await;
    assert_eq!(status, 201, "{body}");
    stage.wait_for_event("a", "session.idle").await;
    let registry = stage.worker.wait_for("container-registry", 2).await;
    let told = registry.last().unwrap().body.to_string();
    assert!(told.contains("OWN") && !told.contains("old-token"), "{told}");

    host.exchange(&stage, "new-token").await;
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("a"), "{:?}", stage.logged("work_not_pushed"));
}

#[tokio::test]
async fn a_merge_is_looked_for_with_the_token_that_the_town_said_last() {
    let stage = Stage::new().await;
    let host = GitHost::start(stage.folder.path().to_owned(), "old-token");
    let work =
        "write work.txt w\nsh git add work.txt && git commit -q -m W && git push -q origin HEAD\nsh env > env.txt";
    let mut request = stage.request("a", "refinery", work);
    (request["gitUrl"], request["envVars"]) = (json!(host.url), json!({ "GIT_TOKEN": "old-token" }));
    request["targetBranch"] = json!("main");
    assert_eq!(stage.post("/agents/start", request).await.0, 201);
    stage.wait_for_event("a", "session.idle").await;
    let mut merge = Command::new("git");
    merge.arg("push").arg("--quiet").arg(stage.remote()).arg("HEAD:main").current_dir(stage.worktree("a"));
    assert!(merge.status().unwrap().success());

    host.exchange(&stage, "new-token").await;
    let (said, is_error) = done(&stage, "a").await;
    assert!(!is_error, "{said}");
}
