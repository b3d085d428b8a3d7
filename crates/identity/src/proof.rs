//! DPoP at our own endpoints (RFC 9449): the proof itself is [`keys::dpop`]'s, what was
//! seen before and which nonces were given out is kept here.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use keys::dpop::{Expected, PROOF_AGE_MAX, PROOF_AHEAD_MAX, Proof};
use model::Timestamp;

use crate::call::Call;
use crate::realm::Realm;
use crate::record::Written;
use crate::refusal::{Answer, Code, Refusal};
use crate::seen;

const PROOF_FIELD: HeaderName = HeaderName::from_static("dpop");
const NONCE_FIELD: HeaderName = HeaderName::from_static("dpop-nonce");
/// How long a nonce is given out; it is taken for as long again.
const NONCE_SECONDS: u64 = 60;

/// The proof of a request to one of our endpoints, if it has one. It may have been used before, and is
/// not remembered yet.
pub(crate) fn verified_at(realm: &Realm, call: &Call, endpoint: &str) -> Answer<Option<Proof>> {
    if !call.headers.contains_key(PROOF_FIELD) {
        return Ok(None);
    }
    verified(realm, call, &realm.address(endpoint), None)
}

/// Checks that a request with an access token may use it: a bound token needs its key,
/// and a token that is bound to a key is no bearer token (RFC 9449 §7.1).
pub(crate) async fn with_token(
    realm: &Realm,
    call: &Call,
    url: &str,
    scheme: &str,
    token: &str,
    bound_to: Option<&str>,
) -> Answer<()> {
    let by_proof = scheme.eq_ignore_ascii_case("dpop");
    match (bound_to, by_proof) {
        (None, false) => Ok(()),
        (None, true) => Err(challenge(Refusal::plain(Code::InvalidToken, "the token is bound to no key"))),
        (Some(_), false) => Err(challenge(Refusal::plain(
            Code::InvalidToken,
            "the token is bound to a key: send a DPoP proof",
        ))),
        (Some(bound), true) => match verified(realm, call, url, Some(token)).map_err(challenge)? {
            Some(proof) if proof.thumbprint == bound => remember(realm, &proof).await.map_err(challenge),
            // It opens nothing: nothing is kept of it.
            Some(_) => {
                Err(challenge(Refusal::plain(Code::InvalidToken, "the token is bound to another key")))
            }
            None => Err(challenge(Refusal::plain(Code::InvalidDpopProof, "the DPoP proof is missing"))),
        },
    }
}

fn challenge(refusal: Box<Refusal>) -> Box<Refusal> {
    let algorithms = crate::discovery::verified().join(" ");
    let value = format!("DPoP error=\"{}\", algs=\"{algorithms}\"", refusal.code.name());
    refusal.with_field(header::WWW_AUTHENTICATE, &value).with_status(axum::http::StatusCode::UNAUTHORIZED)
}

fn verified(realm: &Realm, call: &Call, url: &str, token: Option<&str>) -> Answer<Option<Proof>> {
    let Some(field) = call.field(PROOF_FIELD)? else { return Ok(None) };
    let expected = Expected { method: call.method.as_str(), url, access_token: token, now: call.now };
    let proof = Proof::verify(field.as_bytes(), expected)
        .map_err(|why| Refusal::new(Code::InvalidDpopProof, "the DPoP proof is not valid", why))?;
    let nonce_known = proof.nonce.as_deref().map(|nonce| known_nonce(realm, nonce, call.now));
    if nonce_known == Some(false) || (nonce_known.is_none() && realm.settings.require_dpop_nonce) {
        let refusal = Refusal::plain(Code::UseDpopNonce, "the DPoP proof needs the nonce of this answer");
        return Err(refusal.with_field(NONCE_FIELD, &nonce(realm, call.now)));
    }
    Ok(Some(proof))
}

/// Refuses a proof that was used before, for as long as it could be used.
pub(crate) async fn remember(realm: &Realm, proof: &Proof) -> Answer<()> {
    let until = proof.issued.plus(PROOF_AGE_MAX).plus(PROOF_AHEAD_MAX);
    if seen::first(realm, &proof.thumbprint, &proof.id, until).await? == Written::Conflict {
        let reason = format!("jti {:?} of key {} again", proof.id, proof.thumbprint);
        return Err(Refusal::new(Code::InvalidDpopProof, "the DPoP proof was used before", reason));
    }
    Ok(())
}

/// The nonce of now: derived, so that every process knows it and none keeps it.
fn nonce(realm: &Realm, now: Timestamp) -> String {
    realm.key_ring().derive("dpop-nonce", &(now.unix_seconds() / NONCE_SECONDS).to_string())
}

fn known_nonce(realm: &Realm, given: &str, now: Timestamp) -> bool {
    let before = now.minus(std::time::Duration::from_secs(NONCE_SECONDS));
    given == nonce(realm, now) || given == nonce(realm, before)
}

/// Gives the next nonce ahead of need (RFC 9449 §8.2), to clients that send proofs.
pub(crate) fn offer_nonce(realm: &Realm, call: &Call, headers: &mut HeaderMap) {
    if realm.settings.require_dpop_nonce
        && call.headers.contains_key(PROOF_FIELD)
        && let Ok(value) = HeaderValue::from_str(&nonce(realm, call.now))
    {
        headers.insert(NONCE_FIELD, value);
    }
}
