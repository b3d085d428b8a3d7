//! Introspection (RFC 7662): what a token is worth now, for those who may know.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::call::Call;
use crate::client::{BASIC, Client, authenticate_at};
use crate::grant;
use crate::live::{self, Live};
use crate::realm::Realm;
use crate::refusal::{Answer, Code, Refusal};
use crate::token::{self, uncached};

/// Answers `POST /introspect`. A token that is not good, that is nobody's, or that is none
/// of the asking client's business: the same `{"active": false}` (§2.2).
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Answer {
    let client = authenticate_at(&realm, &call, "/introspect").await?.client;
    if client.is_public() {
        let reason = format!("public client {:?} asked for introspection", client.id);
        let refusal = Refusal::new(Code::InvalidClient, "this client cannot introspect", reason);
        return Err(refusal.with_field(header::WWW_AUTHENTICATE, BASIC));
    }
    let token = call.parameters.require("token")?;
    if let Some((stored, generation)) = grant::refresh::find(&realm, token).await? {
        let grant = &stored.value;
        let is_good = grant::refresh::is_good(&realm, &client, (grant, generation), call.now);
        if grant.client == client.id && is_good.await? {
            return Ok(told(&refresh_token(&realm, grant)));
        }
    } else {
        match live::access_token(&realm, token, call.now).await? {
            Ok(live) if may_know(&client, &live) => return Ok(access_token(&live)),
            Ok(_) => tracing::info!(client = client.id, "identity: introspection of a token of others"),
            Err(why) => tracing::info!(client = client.id, why, "identity: introspected token is not active"),
        }
    }
    Ok(told(&json!({ "active": false })))
}

fn told(body: &impl Serialize) -> Response {
    uncached(Json(body).into_response())
}

fn may_know(client: &Client, live: &Live) -> bool {
    client.may_introspect || live.text("client_id") == Some(client.id.as_str())
}

/// Tells of an access token.
fn access_token(live: &Live) -> Response {
    match live.told(|| serde_json::to_vec(&AccessToken(live))) {
        Ok(body) => token::json(body),
        Err(_) => told(&AccessToken(live)),
    }
}

/// What is told of an access token: its claims as they are, and what is known besides.
struct AccessToken<'a>(&'a Live);

impl Serialize for AccessToken<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let live = self.0;
        let token_type = if live.key().is_some() { "DPoP" } else { "Bearer" };
        let username = live.user().map(|user| user.username.as_str());
        let mut body = serializer.serialize_map(None)?;
        // What we say ourselves no rule for claims says otherwise.
        let is_ours = |name: &str| {
            matches!(name, "token_type" | "active") || (name == "username" && username.is_some())
        };
        for (name, value) in live.claims().iter().filter(|(name, _)| !is_ours(name)) {
            body.serialize_entry(name, value)?;
        }
        body.serialize_entry("token_type", token_type)?;
        if let Some(username) = username {
            body.serialize_entry("username", username)?;
        }
        body.serialize_entry("active", &true)?;
        body.end()
    }
}

fn refresh_token(realm: &Realm, grant: &grant::Grant) -> Value {
    json!({
        "iss": realm.settings.issuer,
        "sub": grant.user,
        "client_id": grant.client,
        "scope": crate::scope::join(&grant.scopes),
        "exp": grant.until.unix_seconds(),
        "token_type": "refresh_token",
        "active": true,
    })
}
