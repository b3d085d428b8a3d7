//! The relying party's own endpoints, as the service that routes with `to: sessions` lead
//! to, and what keeps the party's knowledge of its provider fresh.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use gateway::session::{BODY_BYTES_MAX, EndpointRequest, EndpointResponse, Level, RelyingParty, Sessions};
use gateway::snapshot::Snapshot;
use model::Clock;
use proxy::upstream::{InProcessConnector, in_process_pair};
use tokio::task::JoinHandle;

use super::in_process;

/// How often sessions that are over are put out of memory.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What is served.
type Current = Arc<RwLock<Option<(Arc<RelyingParty>, Arc<[Level]>)>>>;

/// The endpoints, the sessions that outlive every configuration, and who keeps the party
/// fresh.
pub struct SessionService {
    connector: InProcessConnector,
    sessions: Arc<Sessions>,
    current: Current,
    server: JoinHandle<()>,
    sweeper: JoinHandle<()>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl SessionService {
    /// Serves whoever connects in process; until [`Self::follow`] with 503. Must be
    /// called on the control plane's runtime.
    pub fn start(clock: Arc<dyn Clock>) -> Self {
        let (connector, listener) = in_process_pair();
        let current = Current::default();
        let serving = Arc::clone(&current);
        let server = in_process::serve(listener, clock, move |request: Request| {
            let current = serving.read().unwrap_or_else(PoisonError::into_inner).clone();
            answer(current, request)
        });
        let server = tokio::spawn(server);
        let sessions = Arc::<Sessions>::default();
        let sweeper = tokio::spawn(sweep(Arc::clone(&sessions), Arc::clone(&current)));
        Self { connector, sessions, current, server, sweeper, tasks: Mutex::default() }
    }

    /// The way in.
    pub fn connector(&self) -> &InProcessConnector {
        &self.connector
    }

    /// All sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Serves the party of this snapshot in the place of the one before.
    pub fn follow(&self, snapshot: &Snapshot) {
        let party = snapshot.party.clone();
        let mut kept = Vec::new();
        if let Some(party) = &party {
            kept.push(tokio::spawn(Arc::clone(party).run()));
            kept.push(tokio::spawn(Arc::clone(party).keep_keys()));
        }
        let levels: Arc<[Level]> = snapshot.levels.as_slice().into();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = party.map(|party| (party, levels));
        let before = std::mem::replace(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner), kept);
        before.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for SessionService {
    fn drop(&mut self) {
        self.server.abort();
        self.sweeper.abort();
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(JoinHandle::abort);
    }
}

async fn sweep(sessions: Arc<Sessions>, current: Current) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        let party = current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|(party, _)| Arc::clone(party));
        match party {
            Some(party) => party.sweep(),
            None => sessions.end_all(),
        };
    }
}

async fn answer(current: Option<(Arc<RelyingParty>, Arc<[Level]>)>, request: Request) -> Response {
    let Some((party, levels)) = current else { return plain(StatusCode::SERVICE_UNAVAILABLE) };
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text("x-forwarded-host").is_empty() {
        let text = "The request does not say which host it is for.";
        return respond(&EndpointResponse { status: StatusCode::BAD_REQUEST, fields: Vec::new(), text });
    }
    let bytes =
        |name: HeaderName| head.headers.get(name).map(|value| Bytes::copy_from_slice(value.as_bytes()));
    let cookies = head.headers.get_all(header::COOKIE).iter();
    let asked = EndpointRequest {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        // Written by the gateway: what a client sends under these names counts only where
        // the configuration says that it is a trusted proxy.
        origin: format!("{}://{}", text("x-forwarded-proto"), text("x-forwarded-host")),
        cookies: cookies.map(|value| Bytes::copy_from_slice(value.as_bytes())).collect(),
        from: bytes(header::ORIGIN),
        fetch_site: bytes(HeaderName::from_static("sec-fetch-site")),
        body,
    };
    respond(&party.answer(&asked, &levels).await)
}

fn respond(told: &EndpointResponse) -> Response {
    let mut response = Response::new(Body::from(told.text));
    *response.status_mut() = told.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    for (name, value) in &told.fields {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    response
}

fn plain(status: StatusCode) -> Response {
    respond(&EndpointResponse { status, fields: vec![("retry-after", "5".to_owned())], text: "" })
}
