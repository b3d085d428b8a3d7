//! The operator's listener: `/metrics`, `/healthz`, `/readyz` and the public keys of the
//! identity token. It answers `GET` on loopback and changes nothing.
//!
//! On loopback a page in a browser of this machine reaches it too, by a name of its own that it has
//! made to lead here (DNS rebinding): there it answers only for names of loopback.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
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

/// The listener's routes, where it listens at this address.
pub fn router(admin: Arc<MetricsListener>, address: SocketAddr) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/undocumented", get(undocumented))
        .route("/.well-known/bastide/jwks.json", get(jwks))
        .with_state(admin);
    if address.ip().to_canonical().is_loopback() { router.layer(from_fn(own_names)) } else { router }
}

/// Lets through what asks for loopback, or for no name at all, which no browser does.
async fn own_names(request: Request, next: Next) -> Response {
    let named = request.headers().get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    if named.chain(request.uri().authority().map(axum::http::uri::Authority::as_str)).all(is_loopback) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "this listener answers for localhost\n").into_response()
}

/// Whether a host, perhaps with its port, is this machine by definition (RFC 6761 §6.3).
fn is_loopback(host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !bare.ends_with(':') => bare,
        _ => host,
    };
    let address = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(bare);
    if let Ok(address) = address.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
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

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt as _;

    use super::*;

    #[test]
    fn only_names_of_loopback_are_its_own() {
        for own in [
            "localhost",
            "LOCALHOST:9901",
            "a.localhost.",
            "127.0.0.1:9901",
            "127.8.8.8",
            "[::1]:9901",
            "[::1]",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "",
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "10.0.0.1",
            "[2001:db8::1]:9901",
            "notlocalhost",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[tokio::test]
    async fn a_page_that_makes_its_name_lead_here_reads_nothing() {
        let admin = Arc::new(MetricsListener {
            metrics: Arc::new(|| "metrics".to_owned()),
            unwell: Box::new(Vec::new),
            unready: Box::new(Vec::new),
            undocumented: Box::new(String::new),
            jwks: Box::new(String::new),
        });
        let ask = async |address: &str, host: Option<&str>| {
            let mut request = Request::builder().uri("/metrics");
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            let router = router(Arc::clone(&admin), address.parse().unwrap());
            router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
        };
        assert_eq!(ask("127.0.0.1:9901", Some("evil.example:9901")).await, 421);
        assert_eq!(ask("127.0.0.1:9901", Some("localhost:9901")).await, 200);
        assert_eq!(ask("127.0.0.1:9901", None).await, 200);
        assert_eq!(ask("10.0.0.1:9901", Some("metrics.internal:9901")).await, 200);
    }
}
