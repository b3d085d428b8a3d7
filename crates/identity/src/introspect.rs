//! Introspection (RFC 7662): what a token is worth now, for those who may know.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::client::{Client, authenticate};
use crate::grant;
use crate::live::{self, Live};
use crate::realm::Realm;
use crate::refusal::{Answer, Code, Refusal};
use crate::token::uncached;

/// Answers `POST /introspect`. A token that is not good, that is nobody's, or that is none
/// of the asking client's business: the same `{"active": false}` (§2.2).
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Answer {
    let client = authenticate(&realm, &call).await?.client;
    if client.is_public() {
        let reason = format!("public client {:?} asked for introspection", client.id);
        return Err(Refusal::new(Code::InvalidClient, "this client cannot introspect", reason));
    }
    let token = call.parameters.require("token")?;
    let mut body = Map::new();
    if let Some((stored, generation)) = grant::refresh::find(&realm, token).await? {
        let grant = &stored.value;
        if grant.client == client.id && grant::refresh::is_good(&realm, grant, generation, call.now).await? {
            body = refresh_token(&realm, grant);
        }
    } else {
        match live::access_token(&realm, token, call.now).await? {
            Ok(live) if may_know(&client, &live) => body = access_token(live),
            Ok(_) => tracing::info!(client = client.id, "identity: introspection of a token of others"),
            Err(why) => tracing::info!(client = client.id, why, "identity: introspected token is not active"),
        }
    }
    body.insert("active".to_owned(), json!(!body.is_empty()));
    Ok(uncached(Json(Value::Object(body)).into_response()))
}

fn may_know(client: &Client, live: &Live) -> bool {
    client.may_introspect || live.text("client_id") == Some(client.id.as_str())
}

fn access_token(live: Live) -> Map<String, Value> {
    let token_type = if live.key().is_some() { "DPoP" } else { "Bearer" };
    let mut body = live.claims;
    body.insert("token_type".to_owned(), json!(token_type));
    if let Some(user) = live.user {
        body.insert("username".to_owned(), json!(user.username));
    }
    body
}

fn refresh_token(realm: &Realm, grant: &grant::Grant) -> Map<String, Value> {
    let body = json!({
        "iss": realm.settings.issuer,
        "sub": grant.user,
        "client_id": grant.client,
        "scope": crate::scope::join(&grant.scopes),
        "exp": grant.until.unix_seconds(),
        "token_type": "refresh_token",
    });
    body.as_object().cloned().unwrap_or_default()
}
