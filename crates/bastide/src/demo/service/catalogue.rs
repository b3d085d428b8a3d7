//! What the shop sells.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::Told;

#[derive(Clone, Serialize)]
struct Product {
    id: u32,
    name: &'static str,
    cents: u64,
}

/// `?q=walnut`: products whose name holds this, in any case.
#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    q: String,
}

#[derive(Deserialize)]
struct NewPrice {
    cents: u64,
}

type Catalogue = Arc<Mutex<Vec<Product>>>;

pub(super) fn routes() -> Router {
    let catalogue: Catalogue = Arc::new(Mutex::new(vec![
        Product { id: 1, name: "Olive oil, 1 l", cents: 1_490 },
        Product { id: 2, name: "Walnuts, 500 g", cents: 890 },
        Product { id: 3, name: "Prunes from Agen, 1 kg", cents: 1_250 },
        Product { id: 4, name: "Madiran, 75 cl", cents: 1_800 },
    ]));
    Router::new()
        .route("/products", get(list))
        .route("/products/{id}", get(one).put(reprice))
        .route("/recommendations", get(recommendations))
        .route("/stock", get(stock))
        .with_state(catalogue)
}

fn products(catalogue: &Catalogue) -> Vec<Product> {
    catalogue.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn list(told: Told, State(catalogue): State<Catalogue>, Query(search): Query<Search>) -> Response {
    let wanted = search.q.to_lowercase();
    let mut products = products(&catalogue);
    products.retain(|product| product.name.to_lowercase().contains(&wanted));
    told.answer(StatusCode::OK, products)
}

async fn one(told: Told, State(catalogue): State<Catalogue>, Path(id): Path<u32>) -> Response {
    told.found(products(&catalogue).into_iter().find(|product| product.id == id))
}

async fn reprice(
    told: Told,
    State(catalogue): State<Catalogue>,
    Path(id): Path<u32>,
    Json(new): Json<NewPrice>,
) -> Response {
    let mut products = catalogue.lock().unwrap_or_else(PoisonError::into_inner);
    let product = products.iter_mut().find(|product| product.id == id).map(|product| {
        product.cents = new.cents;
        product.clone()
    });
    told.found(product)
}

async fn recommendations(told: Told, State(catalogue): State<Catalogue>) -> Response {
    let mut products = products(&catalogue);
    products.sort_by_key(|product| std::cmp::Reverse(product.cents));
    products.truncate(2);
    told.answer(StatusCode::OK, products)
}

async fn stock(told: Told, State(catalogue): State<Catalogue>) -> Response {
    let stock: Vec<_> = products(&catalogue).iter().map(|product| (product.id, 40 + product.id)).collect();
    told.answer(StatusCode::OK, stock)
}
