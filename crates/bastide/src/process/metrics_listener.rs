//! The operator's listener: `/metrics`, `/healthz`, `/readyz` and the public keys of the
//! identity token. It answers `GET` on loopback and changes nothing.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// What the listener can show. Each function is called per request.
pub struct MetricsListener {
    /// Prometheus text. It is asked for on a thread that nobody else waits for: what it reads of the
    /// system may take long.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Reasons why the process is not well; empty when it is.
    pub unwell: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Reasons why it should not get requests; empty when it should.
    pub unready: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Endpoints that no document describes, as JSON.
    pub undocumented: Box<dyn Fn() -> String + Send + Sync>,
    /// The JWK set that verifies the identity token.
    pub jwks: Box<dyn Fn() -> String + Send + Sync>,
}

/// The listener's routes.
pub fn router(admin: Arc<MetricsListener>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/undocumented", get(undocumented))
        .route("/.well-known/bastide/jwks.json", get(jwks))
        .with_state(admin)
}

async fn metrics(State(admin): State<Arc<MetricsListener>>) -> Response {
    let metrics = Arc::clone(&admin.metrics);
    match tokio::task::spawn_blocking(move || metrics()).await {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn undocumented(State(admin): State<Arc<MetricsListener>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], (admin.undocumented)()).into_response()
}

async fn jwks(State(admin): State<Arc<MetricsListener>>) -> Response {
    let fields = [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, "max-age=300")];
    (fields, (admin.jwks)()).into_response()
}

async fn healthz(State(admin): State<Arc<MetricsListener>>) -> Response {
    judge((admin.unwell)())
}

async fn readyz(State(admin): State<Arc<MetricsListener>>) -> Response {
    judge((admin.unready)())
}

fn judge(reasons: Vec<String>) -> Response {
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if reasons.is_empty() { "ok" } else { "unavailable" };
    let body = serde_json::json!({ "status": word, "reasons": reasons });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}
