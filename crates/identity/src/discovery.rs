//! What clients find out by themselves: metadata (RFC 8414, OpenID Connect Discovery §3)
//! and keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keys::Algorithm;
use serde_json::{Value, json};

use crate::authorize::request::Mode;
use crate::claim::Target;
use crate::client::GrantType;
use crate::realm::Realm;
use crate::settings::STANDARD_SCOPES;
use crate::text::Language;

/// Seconds for which metadata may be kept.
const METADATA_SECONDS: u64 = 300;

/// Answers `GET /.well-known/…`.
pub(crate) async fn metadata(State(realm): State<Arc<Realm>>) -> Response {
    cached(Json(document(&realm)).into_response(), METADATA_SECONDS)
}

fn document(realm: &Realm) -> Value {
    let settings = &realm.settings;
    let scopes: Vec<&str> =
        STANDARD_SCOPES.into_iter().chain(settings.scopes.keys().map(String::as_str)).collect();
    let mut claims: Vec<&str> =
        vec!["sub", "iss", "aud", "exp", "iat", "auth_time", "acr", "amr", "sid", "nonce"];
    // What only access tokens carry is none of what a client can ask for (Discovery §3).
    let about = settings.claims.iter().filter(|rule| rule.into.iter().any(|to| *to != Target::AccessToken));
    claims.extend(about.map(|rule| rule.claim.as_str()));
    claims.sort_unstable();
    claims.dedup();
    let classes: Vec<&str> = settings.acr_levels.iter().map(|level| level.name.as_str()).collect();
    // Whoever may be anybody learns nothing about tokens.
    let mut proving = vec!["client_secret_basic", "client_secret_post", "private_key_jwt"];
    if settings.client_certificates {
        proving.extend(["tls_client_auth", "self_signed_tls_client_auth"]);
    }
    let ways: Vec<&str> = ["none"].into_iter().chain(proving.iter().copied()).collect();
    let verified = verified();
    let mut document = json!({
        "issuer": settings.issuer,
        "scopes_supported": scopes,
        "response_types_supported": ["code"],
        "response_modes_supported": Mode::ALL.map(Mode::name),
        "grant_types_supported": GrantType::ALL.map(GrantType::name),
        "subject_types_supported": ["public"],
        "code_challenge_methods_supported": ["S256"],
        "id_token_signing_alg_values_supported": settings.algorithms,
        "token_endpoint_auth_methods_supported": ways,
        "token_endpoint_auth_signing_alg_values_supported": verified,
        "introspection_endpoint_auth_methods_supported": proving,
        "introspection_endpoint_auth_signing_alg_values_supported": verified,
        "revocation_endpoint_auth_methods_supported": ways,
        "revocation_endpoint_auth_signing_alg_values_supported": verified,
        "dpop_signing_alg_values_supported": verified,
        "acr_values_supported": classes,
        "claims_supported": claims,
        "claim_types_supported": ["normal"],
        "ui_locales_supported": Language::ALL.map(Language::tag),
        "claims_parameter_supported": true,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "require_pushed_authorization_requests": settings.require_pushed_requests,
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "tls_client_certificate_bound_access_tokens": settings.client_certificates,
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
    });
    for (name, endpoint) in [
        ("authorization_endpoint", "/authorize"),
        ("token_endpoint", "/token"),
        ("userinfo_endpoint", "/userinfo"),
        ("jwks_uri", "/jwks"),
        ("introspection_endpoint", "/introspect"),
        ("revocation_endpoint", "/revoke"),
        ("pushed_authorization_request_endpoint", "/par"),
        ("device_authorization_endpoint", "/device_authorization"),
        ("end_session_endpoint", "/logout"),
    ] {
        if let Some(members) = document.as_object_mut() {
            members.insert(name.to_owned(), json!(realm.address(endpoint)));
        }
    }
    document
}

/// The algorithms of what others sign: of assertions and proofs.
pub(crate) fn verified() -> Vec<&'static str> {
    // RFC 9864 §2.2: the same, said whole.
    Algorithm::ALL.map(Algorithm::name).into_iter().chain(["Ed25519"]).collect()
}

/// Answers `GET /jwks`.
pub(crate) async fn jwks(State(realm): State<Arc<Realm>>, headers: HeaderMap) -> Response {
    let key_ring = realm.key_ring();
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    // RFC 9110 §13.1.2: weakly, since whoever compresses on the way makes tags weak.
    let is_same = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == key_ring.tag;
    let same = known.is_some_and(|known| known.split(',').any(|tag| is_same(tag.trim())));
    let mut response = if same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/jwk-set+json")], key_ring.jwks.clone()).into_response()
    };
    if let Ok(tag) = HeaderValue::from_str(&key_ring.tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    cached(response, key_ring.cache.as_secs())
}

/// Public, and for pages of every origin: there is nothing in it that is anybody's.
fn cached(mut response: Response, seconds: u64) -> Response {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={seconds}")) {
        headers.insert(header::CACHE_CONTROL, value);
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
