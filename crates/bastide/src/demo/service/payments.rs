//! Charges and refunds.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Told;

#[derive(Clone, Serialize)]
struct Charge {
    id: String,
    owner: String,
    cents: u64,
    refunded: bool,
}

#[derive(Deserialize)]
struct NewCharge {
    owner: String,
    cents: u64,
}

#[derive(Deserialize)]
struct NewRefund {
    charge: String,
}

type ChargeStore = Arc<Mutex<Vec<Charge>>>;

pub(super) fn routes() -> Router {
    let charge = |number: u32, owner: &str, cents| Charge {
        id: format!("ch-{number}"),
        owner: owner.to_owned(),
        cents,
        refunded: false,
    };
    let store: ChargeStore = Arc::new(Mutex::new(vec![
        charge(1001, "alice", 1_490),
        charge(1002, "alice", 1_250),
        charge(2001, "bob", 1_800),
    ]));
    Router::new()
        .route("/charges", post(new_charge))
        .route("/refunds", get(refunds).post(refund))
        .with_state(store)
}

async fn new_charge(told: Told, State(store): State<ChargeStore>, Json(new): Json<NewCharge>) -> Response {
    let mut charges = store.lock().unwrap_or_else(PoisonError::into_inner);
    let id = format!("ch-{}", 3001 + charges.len());
    let charge = Charge { id, owner: new.owner, cents: new.cents, refunded: false };
    charges.push(charge.clone());
    told.answer(StatusCode::CREATED, charge)
}

async fn refunds(told: Told, State(store): State<ChargeStore>) -> Response {
    let charges = store.lock().unwrap_or_else(PoisonError::into_inner);
    let refunded: Vec<_> = charges.iter().filter(|charge| charge.refunded).cloned().collect();
    told.answer(StatusCode::OK, refunded)
}

async fn refund(told: Told, State(store): State<ChargeStore>, Json(new): Json<NewRefund>) -> Response {
    let mut charges = store.lock().unwrap_or_else(PoisonError::into_inner);
    match charges.iter_mut().find(|charge| charge.id == new.charge) {
        Some(charge) => {
            charge.refunded = true;
            told.answer(StatusCode::CREATED, charge.clone())
        }
        None => told.answer(StatusCode::NOT_FOUND, Value::Null),
    }
}
