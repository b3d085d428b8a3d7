//! Who the customers are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post, put};
use axum::{Json, Router, body::Bytes};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Told;

#[derive(Clone, Serialize, Deserialize)]
struct Profile {
    name: String,
    town: String,
}

type People = Arc<Mutex<BTreeMap<String, Profile>>>;

pub(super) fn routes() -> Router {
    let person = |id: &str, name: &str, town: &str| {
        (id.to_owned(), Profile { name: name.to_owned(), town: town.to_owned() })
    };
    let people: People = Arc::new(Mutex::new(BTreeMap::from([
        person("alice", "Alice", "Monpazier"),
        person("bob", "Bob", "Mirepoix"),
        person("eve", "Eve", "Carcassonne"),
    ])));
    Router::new()
        .route("/{user}/profile", get(profile))
        .route("/{user}/picture", put(picture))
        .route("/sign-up", post(sign_up))
        // The limit on bodies is the gateway's business here: without it, one would see.
        .layer(DefaultBodyLimit::disable())
        .with_state(people)
}

async fn profile(told: Told, State(people): State<People>, Path(user): Path<String>) -> Response {
    told.found(people.lock().unwrap_or_else(PoisonError::into_inner).get(&user).cloned())
}

async fn picture(told: Told, Path(user): Path<String>, picture: Bytes) -> Response {
    told.answer(StatusCode::OK, json!({ "user": user, "bytes": picture.len() }))
}

async fn sign_up(told: Told, State(people): State<People>, Json(new): Json<Profile>) -> Response {
    let id = new.name.to_lowercase();
    people.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), new);
    told.answer(StatusCode::CREATED, json!({ "user": id }))
}
