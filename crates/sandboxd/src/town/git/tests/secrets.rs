//! A host that asks for a password, and everything that could keep it.

use super::*;
use axum::Router;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use protocol::sandbox::Secret;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::net::TcpListener;

const TOKEN: &str = "ghp_VerySecretToken";

/// Answers 401 until it is shown a password, which it keeps, and takes none.
async fn host() -> (String, Arc<Mutex<Vec<String>>>) {
    let shown = Arc::new(Mutex::new(Vec::new()));
    let kept = shown.clone();
    let router = Router::new().fallback(async move |headers: HeaderMap| {
        if let Some(basic) = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
        {
            let text = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
            kept.lock().unwrap().push(text);
        }
        (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"git\"")], format!("no, {TOKEN}"))
            .into_response()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a/b.git", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, shown)
}

fn files_with(folder: &Path, text: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            files_with(&path, text, found);
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes())) {
            found.push(path);
        }
    }
}

#[tokio::test]
async fn the_token_is_shown_to_its_host_and_is_nowhere_else() {
    let stage = Stage::new();
    let (url, shown) = host().await;
    let tokens = Tokens { git: Some(Secret(TOKEN.into())), ..Tokens::default() };
    let rig = RigId::parse("rig-0001").unwrap();
    let repo = RigRepo::parse(rig, &url, "main", &tokens, author(), true).unwrap();
    let error = stage.manager.set_up(&repo).await.unwrap_err();
    assert!(error.to_string().contains("git clone"), "{error}");
    assert!(!error.to_string().contains(TOKEN) && !format!("{error:?}").contains(TOKEN), "{error:?}");
    assert_eq!(shown.lock().unwrap().first().unwrap(), &format!("x-access-token:{TOKEN}"));

    // A push with the token: neither the configuration, nor a log of refs, nor a receipt has it.
    let worktree = stage.worktree("gt/toast/1").await;
    git(worktree.path(), &["config", "remote.origin.url", &url]);
    let receipt = stage.save_at(&worktree, "gt/toast/1", &repo).await;
    assert!(receipt.commit.is_some());
    assert!(!serde_json::to_string(&receipt).unwrap().contains(TOKEN), "{receipt:?}");
    let mut found = Vec::new();
    files_with(stage.folder.path(), TOKEN, &mut found);
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn another_host_is_not_shown_the_token() {
    let stage = Stage::new();
    let (url, shown) = host().await;
    let worktree = stage.worktree("gt/toast/1").await;
    let (elsewhere, shown_elsewhere) = host().await;
    // The repository sends git elsewhere.
    git(worktree.path(), &["config", &format!("url.{elsewhere}.insteadOf"), &url]);
    let tokens = Tokens { git: Some(Secret(TOKEN.into())), ..Tokens::default() };
    let rig = RigId::parse("rig-0001").unwrap();
    let repo = RigRepo::parse(rig, &url, "main", &tokens, author(), true).unwrap();
    stage.save_at(&worktree, "gt/toast/1", &repo).await;
    assert_eq!((shown.lock().unwrap().len(), shown_elsewhere.lock().unwrap().len()), (0, 0));
}
