//! The routes of the town role (spec/town.md 6.2). Answers are plain JSON; errors are `{"error": text}`.
//!
//! Agents cannot be started yet: every route that is about them is known, guarded, and answers 501.

use super::Town;
use crate::bearer;
use axum::Json;
use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::patch;
use axum::routing::post;
use axum::routing::put;
use protocol::time::iso8601;
use protocol::town::DRAIN_NONCE_HEADER;
use protocol::town::TOWN_ID_HEADER;
use protocol::town::TownHealth;
use serde_json::json;
use std::sync::Arc;

/// A nonce is a UUID; anything much longer is not one.
const NONCE_LIMIT_BYTES: usize = 128;

/// All routes.
pub fn router(town: Arc<Town>) -> Router {
    let agents = Router::new()
        .route("/agents/start", post(start_agent))
        .route("/agents/{id}/events", get(not_built))
        .route("/agents/{id}/message", post(not_built))
        .route("/agents/{id}/model", patch(not_built))
        .route("/agents/{id}/nudge-delivered", post(not_built))
        .route("/agents/{id}/pending-nudges", get(not_built))
        .route("/agents/{id}/pty", get(not_built).post(not_built))
        .route("/agents/{id}/pty/{pty}", get(not_built).put(not_built).delete(not_built))
        .route("/agents/{id}/status", get(not_built))
        .route("/agents/{id}/stop", post(not_built))
        .route("/agents/{id}/stream-ticket", post(not_built))
        .route("/agents/{id}/system-prompt", put(not_built))
        .route("/dashboard-context", post(not_built))
        .route("/git/merge", post(not_built))
        .route("/refresh-token", post(not_built))
        .route("/repos/setup", post(not_built))
        .route("/sync-config", post(not_built))
        .fallback(async || error(StatusCode::NOT_FOUND, "Not found"))
        .method_not_allowed_fallback(async || error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"))
        .layer(middleware::from_fn_with_state(town.clone(), guard));
    Router::new().route("/health", get(health)).fallback_service(agents.with_state(town.clone())).with_state(town)
}

/// The bearer is asked for before anything else, so that without it not even the routes can be told apart.
async fn guard(State(town): State<Arc<Town>>, request: Request, next: Next) -> Response {
    if bearer::authorized(request.headers(), &town.sandbox_token) {
        next.run(request).await
    } else {
        error(StatusCode::UNAUTHORIZED, "Authentication required")
    }
}

/// Open to all: a platform's own check has no token. The nonce needs no guard either, since only the town knows it.
async fn health(State(town): State<Arc<Town>>, headers: HeaderMap) -> Json<TownHealth> {
    if let Some(nonce) = handed_over(&headers, town.id.as_str()) {
        let home = town.home.clone();
        tokio::spawn(async move { home.acknowledge(nonce).await });
    }
    let running = town.agents.borrow().len();
    Json(TownHealth {
        status: "ok".to_owned(),
        agents: u64::try_from(running).unwrap_or(u64::MAX),
        servers: 0,
        uptime: u64::try_from(town.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        container_instance_id: town.home.instance().clone(),
        draining: town.home.is_draining(),
        started_at: iso8601(town.started_at_ms),
    })
}

/// The nonce that the town asks this container to acknowledge.
fn handed_over(headers: &HeaderMap, town: &str) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let nonce = text(DRAIN_NONCE_HEADER).filter(|nonce| !nonce.is_empty() && nonce.len() <= NONCE_LIMIT_BYTES)?;
    (text(TOWN_ID_HEADER) == Some(town)).then(|| nonce.to_owned())
}

async fn start_agent(State(town): State<Arc<Town>>) -> Response {
    if town.home.is_draining() {
        return error(StatusCode::SERVICE_UNAVAILABLE, "Container is draining, cannot start new agents");
    }
    not_built().await
}

async fn not_built() -> Response {
    error(StatusCode::NOT_IMPLEMENTED, "Agents cannot run in this version of the town container")
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(nonce: Option<&str>, town: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(DRAIN_NONCE_HEADER, nonce), (TOWN_ID_HEADER, town)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        headers
    }

    #[test]
    fn a_nonce_counts_only_together_with_the_id_of_this_town() {
        assert_eq!(handed_over(&headers(Some("n"), Some("t1")), "t1").as_deref(), Some("n"));
        assert_eq!(handed_over(&headers(Some("n"), None), "t1"), None);
        assert_eq!(handed_over(&headers(None, Some("t1")), "t1"), None);
        assert_eq!(handed_over(&headers(Some("n"), Some("t2")), "t1"), None);
        assert_eq!(handed_over(&headers(Some(""), Some("t1")), "t1"), None);
        assert_eq!(handed_over(&headers(Some(&"n".repeat(129)), Some("t1")), "t1"), None);
    }
}
