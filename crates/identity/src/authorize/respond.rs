//! Answers to the client, by way of the browser. Each names the issuer (RFC 9207), so
//! that a client with several providers cannot be made to mix them up.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::request::{Mode, Target};
use crate::call::Call;
use crate::page;
use crate::parameter::{with_fragment, with_query};
use crate::realm::Realm;
use crate::refusal::{Answer, Code, Refusal};

/// Sends the browser to the client with these parameters, `state` and `iss`.
pub(super) fn to_client(realm: &Realm, call: &Call, target: &Target, pairs: &[(&str, &str)]) -> Answer {
    let mut pairs = pairs.to_vec();
    if let Some(state) = &target.state {
        pairs.push(("state", state));
    }
    pairs.push(("iss", &realm.settings.issuer));
    match target.mode {
        Mode::FormPost => page::form_post(realm, call.language, &target.redirect_uri, &pairs),
        Mode::Query | Mode::Fragment => {
            let with = if target.mode == Mode::Query { with_query } else { with_fragment };
            let address = with(&target.redirect_uri, &pairs);
            if HeaderValue::from_str(&address).is_err() {
                return Err(Refusal::new(Code::ServerError, "the answer cannot be sent", address));
            }
            Ok(see_other(&address))
        }
    }
}

/// Tells the client of a refusal.
pub(super) fn refused(realm: &Realm, call: &Call, target: &Target, refusal: &Refusal) -> Answer {
    refusal.record();
    to_client(
        realm,
        call,
        target,
        &[("error", refusal.code.name()), ("error_description", &refusal.description)],
    )
}

/// RFC 9700 §4.12: 303, so that no browser posts a password on.
pub(crate) fn see_other(address: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(address) = HeaderValue::from_str(address) {
        headers.insert(header::LOCATION, address);
    }
    response
}
