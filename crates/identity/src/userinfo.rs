//! The userinfo endpoint (OpenID Connect Core §5.3).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::claim::{self, Subject, Target};
use crate::live;
use crate::proof;
use crate::realm::Realm;
use crate::refusal::{Answer, Code, Refusal};
use crate::token::uncached;

/// Answers `GET` and `POST /userinfo`.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Answer {
    let Some((scheme, token)) = presented(&call)? else { return Ok(no_token()) };
    let refused = |code: Code, told: &'static str, reason: String| {
        let refusal = Refusal::new(code, told, reason);
        let value = format!("Bearer error=\"{}\"", code.name());
        refusal.with_field(header::WWW_AUTHENTICATE, &value)
    };
    let found = live::access_token(&realm, &token, call.now).await?;
    let live = found.map_err(|why| refused(Code::InvalidToken, "the access token is not valid", why))?;
    proof::with_token(&realm, &call, &realm.address("/userinfo"), &scheme, &token, live.key()).await?;
    if let Some(bound) = live.certificate()
        && call.certificate().map(crate::client::thumbprint).as_deref() != Some(bound)
    {
        let reason = "another certificate, or none".to_owned();
        return Err(refused(Code::InvalidToken, "the token is bound to a certificate", reason));
    }
    let ours = live.audiences().contains(&realm.settings.issuer.as_str());
    let (true, true, Some(user)) = (ours, live.has_scope("openid"), live.user()) else {
        let reason = format!("scope {:?}, aud {:?}", live.text("scope"), live.claims().get("aud"));
        return Err(refused(
            Code::InsufficientScope,
            "the token is not for userinfo: it needs scope openid",
            reason,
        ));
    };
    let scopes: BTreeSet<String> =
        live.text("scope").unwrap_or_default().split(' ').map(str::to_owned).collect();
    let asked = live.grant().map(|grant| grant.asked.clone()).unwrap_or_default();
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), json!(user.id));
    claim::add(&mut claims, &realm.settings.claims, Subject::User(user), Target::Userinfo, &scopes, &asked);
    let mut response = uncached(Json(Value::Object(claims)).into_response());
    proof::offer_nonce(&realm, &call, response.headers_mut());
    Ok(response)
}

/// RFC 6750 §3.1: where there is no token, there is no error either.
fn no_token() -> Response {
    let mut response = uncached(StatusCode::UNAUTHORIZED.into_response());
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Scheme and token: of the field, or of a form (RFC 6750 §2). Never of the address,
/// which logs keep.
fn presented(call: &Call) -> Answer<Option<(String, String)>> {
    let field = call.authorization()?.and_then(|field| field.split_once(' '));
    let field =
        field.filter(|(scheme, _)| ["bearer", "dpop"].iter().any(|known| scheme.eq_ignore_ascii_case(known)));
    let posted =
        if call.method == axum::http::Method::POST { call.parameters.get("access_token") } else { None };
    match (field, posted) {
        (Some((scheme, token)), None) => Ok(Some((scheme.to_owned(), token.trim().to_owned()))),
        (None, Some(token)) => Ok(Some(("Bearer".to_owned(), token.to_owned()))),
        (Some(_), Some(_)) => Err(Refusal::plain(Code::InvalidRequest, "two access tokens")),
        (None, None) => Ok(None),
    }
}
