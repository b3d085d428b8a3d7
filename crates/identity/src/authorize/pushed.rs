//! Pushed authorization requests (RFC 9126): the client sends the request itself, and
//! the browser carries only its name.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Expect, Transaction};

use super::request::{self, Request, Target};
use crate::Error;
use crate::call::Call;
use crate::client::{Client, authenticate_at};
use crate::parameter::Parameters;
use crate::proof;
use crate::realm::Realm;
use crate::record::{Kind, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::text::Notice;
use crate::throttle;
use crate::token::uncached;

/// How the names of pushed requests begin (§2.2).
const URI_PREFIX: &str = "urn:ietf:params:oauth:request_uri:";
/// Parameters that authenticate the client, and are not kept.
const AUTHENTICATION: [&str; 3] = ["client_secret", "client_assertion", "client_assertion_type"];

/// A pushed request, as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    client: String,
    parameters: String,
    jkt: Option<String>,
}

/// Answers `POST /par`.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Answer {
    let client = authenticate_at(&realm, &call, "/par").await?.client;
    if call.parameters.get("request_uri").is_some() {
        return Err(Refusal::plain(
            Code::InvalidRequest,
            "`request_uri` cannot be pushed (RFC 9126, section 2.1)",
        ));
    }
    let parameters = call.parameters.without(&AUTHENTICATION);
    let proof = proof::verified_at(&realm, &call, "/par")?;
    let jkt = proof.as_ref().map(|proof| proof.thumbprint.clone());
    // Refused now rather than in front of a person.
    let target = Target::read(&client, &parameters)?;
    Request::read(&realm, &client, &target, &parameters, jkt.clone())?;
    // Whoever may be anybody is counted, and before anything is kept: a proof is as well.
    if client.is_public() {
        throttle::keep_for_stranger(&realm, &call).await?;
    }
    if let Some(proof) = &proof {
        proof::remember(&realm, proof).await?;
    }
    let life: Duration = realm.settings.lifetimes.pushed_request;
    let name = crate::random::secret(realm.random.as_ref())?;
    let until = call.now.plus(life);
    let record = Record { client: client.id.clone(), parameters: parameters.to_text(), jkt };
    let path = crate::random::hash(&name);
    match realm.records.put(Kind::Pushed, &[&path], &record, Some(until), Expect::Absent).await? {
        Written::Done => {}
        Written::Conflict => return Err(Error::Random.into()),
    }
    let body = json!({ "request_uri": format!("{URI_PREFIX}{name}"), "expires_in": life.as_secs() });
    let mut response = uncached((StatusCode::CREATED, Json(body)).into_response());
    proof::offer_nonce(&realm, &call, response.headers_mut());
    Ok(response)
}

/// Client and parameters of an authorization request: its own, or those that were
/// pushed. A pushed request is used once.
pub(super) async fn resolve(realm: &Realm, call: &Call) -> Answer<(Arc<Client>, Parameters, Option<String>)> {
    let client = request::client(realm, call.parameters.require("client_id")?).await?;
    let pushed = call.parameters.get("request_uri").and_then(|uri| uri.strip_prefix(URI_PREFIX));
    let Some(name) = pushed else {
        if realm.settings.require_pushed_requests || client.require_pushed_requests {
            let told = "The application has to push its request (RFC 9126).";
            return Err(Refusal::plain(Code::InvalidRequest, told));
        }
        return Ok((client, call.parameters.clone(), None));
    };
    let over = |reason: &str| Refusal::person(Code::InvalidRequestUri, Notice::RequestOver, reason);
    let path = crate::random::hash(name);
    let found = realm.records.get::<Record>(Kind::Pushed, &[&path]).await?;
    let found = found.ok_or_else(|| over("no such pushed request"))?;
    if found.value.client != client.id {
        return Err(over("a pushed request of another client"));
    }
    let key = realm.records.key(Kind::Pushed, &[&path]);
    match realm.records.commit(Transaction::new().delete(key, Expect::Version(found.version))).await? {
        Written::Done => {}
        Written::Conflict => return Err(over("a pushed request used twice at once")),
    }
    // Only what was pushed counts (§4).
    let parameters = Parameters::parse(found.value.parameters.as_bytes())?;
    Ok((client, parameters, found.value.jkt))
}
