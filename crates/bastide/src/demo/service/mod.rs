//! The shop's services: each a process of its own that speaks
//! plain HTTP on loopback, knows nothing of Bastide, and ends with its parent.
//!
//! Every answer shows what the service was told (`told`): whatever a client managed
//! to slip past the gateway would stand there. `/_shop/seen` counts the requests that
//! arrived, so that "the upstream saw nothing" is measured, not believed;
//! `/_shop/health` is what health checks ask.

mod accounts;
mod catalogue;
mod live;
mod orders;
mod payments;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;
use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, BufReader};

/// Which service a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What the shop sells.
    Catalogue,
    /// Who ordered what.
    Orders,
    /// Charges and refunds.
    Payments,
    /// Who the customers are.
    Accounts,
    /// What happens in it, as it happens.
    Live,
}

impl Role {
    /// Its name on the command line and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Catalogue => "catalogue",
            Self::Orders => "orders",
            Self::Payments => "payments",
            Self::Accounts => "accounts",
            Self::Live => "live",
        }
    }
}

/// `bastide demo-service`: one service of the demo, until standard input closes.
#[derive(Clone, Debug, Args)]
pub struct ServiceArguments {
    /// Which service to be.
    #[arg(value_enum)]
    pub role: Role,
    /// Where to listen; port 0 lets the system pick.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Which of several instances this is.
    #[arg(long, default_value_t = 1)]
    pub instance: u32,
    /// Where payments listens (orders needs it).
    #[arg(long)]
    pub payments: Option<SocketAddr>,
    /// The file that the instances of orders share.
    #[arg(long)]
    pub ledger: Option<PathBuf>,
}

/// What a service prints as its first and only line once it listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// Which service.
    pub role: Role,
    /// Which instance of it.
    pub instance: u32,
    /// Its process id.
    pub pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Serves until standard input closes, which it does when the parent ends.
///
/// # Errors
/// The address cannot be bound, or an option that this service needs is missing.
pub fn serve(args: ServiceArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve_until_orphaned(args));
    // A read of standard input may still be waiting: nobody waits for it.
    runtime.shutdown_background();
    served
}

async fn serve_until_orphaned(args: ServiceArguments) -> anyhow::Result<()> {
    let mut parent = BufReader::new(tokio::io::stdin());
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    let routes = match args.role {
        Role::Catalogue => catalogue::routes(),
        Role::Payments => payments::routes(),
        Role::Accounts => accounts::routes(),
        Role::Orders => orders::routes(
            args.payments.context("orders needs --payments ADDRESS")?,
            args.ledger.clone().context("orders needs --ledger FILE")?,
        ),
        // Speaks for itself: what it says is no HTTP for long.
        Role::Live => axum::Router::new(),
    };
    let announcement =
        Announcement { role: args.role, instance: args.instance, pid: std::process::id(), address };
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", serde_json::to_string(&announcement)?)?;
    stdout.flush()?;

    if args.role == Role::Live {
        let mut rest = Vec::new();
        return tokio::select! {
            served = live::serve(listener) => Ok(served?),
            _ = parent.read_to_end(&mut rest) => Ok(()),
        };
    }
    let (seen_so_far, unwell) = (AtomicU64::new(0), AtomicBool::new(false));
    let state =
        Arc::new(ServiceState { role: args.role, instance: args.instance, seen: seen_so_far, unwell });
    let app = routes
        .fallback(|| async { (StatusCode::NOT_FOUND, Json(json!({ "error": "no such page" }))) })
        .layer(middleware::from_fn_with_state(Arc::clone(&state), count))
        .route("/_shop/seen", get(seen).with_state(Arc::clone(&state)))
        .route("/_shop/health", get(health).put(fall_ill).delete(recover).with_state(state));
    let orphaned = async move {
        let mut rest = Vec::new();
        let _ = parent.read_to_end(&mut rest).await;
    };
    // No graceful drain: keep-alive connections of the gateway would hold it up.
    tokio::select! {
        served = async { axum::serve(listener, app).await } => Ok(served?),
        () = orphaned => Ok(()),
    }
}

/// What the service says of itself.
struct ServiceState {
    role: Role,
    instance: u32,
    seen: AtomicU64,
    /// Says so at its health check, and serves all the same.
    unwell: AtomicBool,
}

/// Counts the request, and tells the handlers who they are.
async fn count(State(state): State<Arc<ServiceState>>, mut request: Request, next: Next) -> Response {
    state.seen.fetch_add(1, Ordering::Relaxed);
    request.extensions_mut().insert((state.role, state.instance));
    next.run(request).await
}

async fn seen(State(state): State<Arc<ServiceState>>) -> Json<Value> {
    let requests = state.seen.load(Ordering::Relaxed);
    Json(json!({ "service": state.role, "instance": state.instance, "requests": requests }))
}

async fn health(State(state): State<Arc<ServiceState>>) -> StatusCode {
    if state.unwell.load(Ordering::Relaxed) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

async fn fall_ill(State(state): State<Arc<ServiceState>>) {
    state.unwell.store(true, Ordering::Relaxed);
}

async fn recover(State(state): State<Arc<ServiceState>>) {
    state.unwell.store(false, Ordering::Relaxed);
}

/// What a service was told: the request as it arrived.
struct Told {
    role: Role,
    instance: u32,
    target: String,
    fields: BTreeMap<String, String>,
}

impl<S: Sync> FromRequestParts<S> for Told {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let (role, instance) = parts.extensions.get().copied().unwrap_or((Role::Catalogue, 0));
        let mut fields = BTreeMap::<String, String>::new();
        for (name, value) in &parts.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            fields
                .entry(name.as_str().to_owned())
                .and_modify(|all| all.push_str(&format!(", {value}")))
                .or_insert_with(|| value.into_owned());
        }
        Ok(Self { role, instance, target: parts.uri.to_string(), fields })
    }
}

impl Told {
    /// An answer with `data` and what the service was told.
    fn answer(&self, status: StatusCode, data: impl Serialize) -> Response {
        let body = json!({ "service": self.role, "instance": self.instance, "data": data,
                           "told": { "target": self.target, "headers": self.fields } });
        (status, Json(body)).into_response()
    }

    fn found<T: Serialize>(&self, data: Option<T>) -> Response {
        match data {
            Some(data) => self.answer(StatusCode::OK, data),
            None => self.answer(StatusCode::NOT_FOUND, Value::Null),
        }
    }
}
