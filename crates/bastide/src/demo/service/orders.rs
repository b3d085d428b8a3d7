//! Who ordered what. Placing an order calls payments over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::Told;
use crate::demo::client::{self, Endpoint, Request};

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    id: String,
    owner: String,
    product: u32,
    cents: u64,
    charge: String,
}

#[derive(Deserialize)]
struct NewOrder {
    product: u32,
    cents: u64,
}

struct OrderService {
    payments: SocketAddr,
    /// One order a line; what several instances share.
    ledger: PathBuf,
}

pub(super) fn routes(payments: SocketAddr, ledger: PathBuf) -> Router {
    Router::new()
        .route("/orders/{owner}", get(list).post(place))
        .route("/orders/{owner}/{id}", get(one))
        .with_state(Arc::new(OrderService { payments, ledger }))
}

impl OrderService {
    async fn orders(&self, owner: &str) -> Vec<Order> {
        let standing = [("alice", 1001, 1, 1_490), ("alice", 1002, 3, 1_250), ("bob", 2001, 4, 1_800)];
        let standing = standing.map(|(owner, number, product, cents)| Order {
            id: number.to_string(),
            owner: owner.to_owned(),
            product,
            cents,
            charge: format!("ch-{number}"),
        });
        let written = tokio::fs::read_to_string(&self.ledger).await.unwrap_or_default();
        let written = written.lines().filter_map(|line| serde_json::from_str(line).ok());
        standing.into_iter().chain(written).filter(|order: &Order| order.owner == owner).collect()
    }

    async fn charge(&self, owner: &str, cents: u64, told: &Told) -> std::io::Result<Value> {
        let mut request = Request::new("POST", "payments", "/charges")
            .json(&json!({ "owner": owner, "cents": cents }))
            .field("connection", "close");
        if let Some(trace) = told.fields.get("traceparent") {
            request = request.field("traceparent", trace);
        }
        let answer = client::http1::ask(&Endpoint::clear(self.payments), &request).await?;
        Ok(answer.json().get("data").cloned().unwrap_or_default())
    }

    async fn write(&self, order: &Order) -> std::io::Result<()> {
        let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(&self.ledger).await?;
        // One write of one line: appends of other instances do not fall into it.
        file.write_all(format!("{}\n", serde_json::to_string(order)?).as_bytes()).await?;
        file.flush().await
    }
}

async fn list(told: Told, State(service): State<Arc<OrderService>>, Path(owner): Path<String>) -> Response {
    told.answer(StatusCode::OK, service.orders(&owner).await)
}

async fn one(
    told: Told,
    State(service): State<Arc<OrderService>>,
    Path((owner, id)): Path<(String, String)>,
) -> Response {
    told.found(service.orders(&owner).await.into_iter().find(|order| order.id == id))
}

async fn place(
    told: Told,
    State(service): State<Arc<OrderService>>,
    Path(owner): Path<String>,
    Json(new): Json<NewOrder>,
) -> Response {
    let charged = service.charge(&owner, new.cents, &told).await;
    let charge = charged.ok().and_then(|data| data.get("id").and_then(Value::as_str).map(str::to_owned));
    let Some(charge) = charge else {
        return told.answer(StatusCode::BAD_GATEWAY, json!({ "error": "payments did not answer" }));
    };
    let id = charge.trim_start_matches("ch-").to_owned();
    let order = Order { id, owner, product: new.product, cents: new.cents, charge };
    match service.write(&order).await {
        Ok(()) => told.answer(StatusCode::CREATED, order),
        Err(_) => told.answer(StatusCode::INTERNAL_SERVER_ERROR, Value::Null),
    }
}
