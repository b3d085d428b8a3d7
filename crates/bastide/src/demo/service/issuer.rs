//! Who signs the users' tokens: discovery (OpenID Connect Discovery §4), a JWK set, and
//! a mint that only the demo may use.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::Clock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::demo::jose::SigningKey;
use crate::process::clock::SystemClock;

/// The demo's users and the roles that their tokens carry.
const USERS: [(&str, &[&str]); 3] = [("alice", &["customer"]), ("bob", &["merchant"]), ("eve", &[])];

/// What to mint. Whatever is left out comes from the user's entry.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::demo) struct Order {
    /// The subject.
    pub sub: String,
    /// Seconds from now to its end; negative is in the past.
    pub lifetime_seconds: Option<i64>,
    /// Claims that replace or join the usual ones.
    pub claims: Map<String, Value>,
}

struct Mint {
    address: SocketAddr,
    secret: String,
    key: SigningKey,
}

pub(super) fn routes(address: SocketAddr, secret: String) -> anyhow::Result<Router> {
    let mint = Arc::new(Mint { address, secret, key: SigningKey::generate("shop-1")? });
    Ok(Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/jwks.json", get(jwks))
        .route("/token", post(token))
        .with_state(mint))
}

async fn discovery(State(mint): State<Arc<Mint>>) -> Json<Value> {
    let issuer = format!("http://{}", mint.address);
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/jwks.json"),
        "token_endpoint": format!("{issuer}/token"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}

async fn jwks(State(mint): State<Arc<Mint>>) -> Json<Value> {
    Json(json!({ "keys": [mint.key.public_jwk()] }))
}

async fn token(
    State(mint): State<Arc<Mint>>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Result<Json<Value>, StatusCode> {
    let expected = format!("Bearer {}", mint.secret);
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    if aws_lc_rs::constant_time::verify_slices_are_equal(given, expected.as_bytes()).is_err() {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let now = SystemClock::start().now().unix_seconds();
    let roles = USERS.iter().find(|(user, _)| *user == order.sub).map_or(&[][..], |(_, roles)| roles);
    let end = now.saturating_add_signed(order.lifetime_seconds.unwrap_or(12 * 3600));
    let mut claims = json!({
        "iss": format!("http://{}", mint.address),
        "sub": order.sub,
        "aud": "shop",
        // Issued a little earlier than now, or before its end when that is past.
        "iat": now.min(end) - 5,
        "exp": end,
        "roles": roles,
        "amr": ["pwd", "otp"],
    });
    if let Some(claims) = claims.as_object_mut() {
        claims.extend(order.claims);
    }
    let token = mint.key.sign(&claims).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(json!({ "access_token": token, "token_type": "Bearer" })))
}
