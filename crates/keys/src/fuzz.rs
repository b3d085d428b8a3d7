//! The bodies of the fuzz targets: any bytes at all are read or refused, and nothing
//! that the key did not sign is ever verified.

use std::time::Duration;

use model::Timestamp;
use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::client::{ClientCredential, OwnClient};
use crate::dpop::{Expected, Proof};
use crate::encoding::encode_base64url;
use crate::fetch::Answered;
use crate::introspection::{IntrospectionSettings, Introspector};
use crate::issuer::IssuerSettings;
use crate::jwk::KeySet;
use crate::jwks::{Issuers, IssuersSettings};
use crate::jws::Unverified;
use crate::jwt::unverified_issuer;

/// The public key of RFC 8037 §A.2 and what it signed in §A.4.
const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const SIGNED: &[u8] = b"Example of Ed25519 signing";
/// The key of the proof of RFC 9449 §4.1; nobody here can sign with another.
const PROOF_KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

/// Reads bytes as a token. Behind an odd first byte the lines are header, claims and
/// signature before they are encoded, so that mutations reach what is inside.
///
/// # Panics
/// When a token is verified whose payload the key has not signed: that is the finding.
pub fn token(bytes: &[u8]) {
    let Some((form, rest)) = bytes.split_first() else { return };
    let text = if form & 1 == 0 { rest.to_vec() } else { encoded(rest) };
    let Ok(unverified) = Unverified::parse(&text) else { return };
    let _ = unverified_issuer(unverified.unverified_payload());
    let Ok(keys) = KeySet::parse_pinned(KEY.as_bytes(), &Algorithm::ALL) else { return };
    if let Ok(verified) = keys.verify(unverified, "fuzz") {
        assert_eq!(verified.payload(), SIGNED, "verified what the key has not signed");
    }
}

fn encoded(lines: &[u8]) -> Vec<u8> {
    let parts: Vec<String> = lines.splitn(3, |&byte| byte == b'\n').map(encode_base64url).collect();
    parts.join(".").into_bytes()
}

/// Reads bytes as a DPoP proof; in the same two forms as [`token`].
///
/// # Panics
/// When a proof is taken whose key is not the one that it names: that is the finding.
pub fn proof(bytes: &[u8]) {
    let Some((form, rest)) = bytes.split_first() else { return };
    let text = if form & 1 == 0 { rest.to_vec() } else { encoded(rest) };
    let expected = Expected {
        method: "POST",
        url: "https://server.example.com/token",
        access_token: None,
        now: Timestamp::from_unix_seconds(1_562_262_616),
    };
    if let Ok(proof) = Proof::verify(&text, expected) {
        assert_eq!(proof.thumbprint, PROOF_KEY, "another key than the seed's");
    }
}

/// Reads bytes as what an issuer publishes and as what an operator pins.
///
/// # Panics
/// When a set is taken that has no key, or a key for an algorithm that was not allowed:
/// that is the finding.
pub fn key_set(bytes: &[u8]) {
    const ALLOWED: [Algorithm; 2] = [Algorithm::EdDsa, Algorithm::Es256];
    let published = KeySet::parse(bytes, &ALLOWED).map(|(set, _)| set);
    for set in [published, KeySet::parse_pinned(bytes, &ALLOWED)].into_iter().flatten() {
        assert!(!set.is_empty(), "a key set without a key");
        assert!(set.keys().iter().all(|key| ALLOWED.contains(&key.algorithm())), "an algorithm too many");
    }
}

/// Reads bytes as what an authorization server says of an opaque token (RFC 7662 §2.2).
///
/// # Panics
/// When a token is taken of which it does not say that it is good now, from this issuer and
/// for us: that is the finding.
pub fn introspection(bytes: &[u8]) {
    const ISSUER: &str = "https://id.example.org";
    const AUDIENCE: &str = "orders";
    const NOW: u64 = 1_795_384_267;
    let issuer = IssuerSettings::new(ISSUER, vec![AUDIENCE.to_owned()]);
    let leeway = issuer.leeway.as_secs();
    let Ok(issuers) = Issuers::new(IssuersSettings { issuers: vec![issuer], ..Default::default() }, None)
    else {
        return;
    };
    let settings = IntrospectionSettings {
        issuer: ISSUER.to_owned(),
        endpoint: None,
        client: OwnClient { id: "gateway".to_owned(), credential: ClientCredential::None },
        cache: Duration::from_secs(30),
        audience_may_be_absent: false,
    };
    let Ok(introspector) = Introspector::new(settings, &issuers) else { return };
    let answered = Answered { status: 200, body: bytes.to_vec() };
    let now = Timestamp::from_unix_seconds(NOW);
    if introspector.judge(&answered, now).is_err() {
        return;
    }
    let said: Value = serde_json::from_slice(bytes).unwrap_or_default();
    assert_eq!(said.get("active"), Some(&Value::Bool(true)), "{said}");
    assert!(said.get("iss").is_none_or(|issuer| issuer == ISSUER), "{said}");
    let audience = said.get("aud");
    let among = |list: &Vec<Value>| list.iter().any(|one| one == AUDIENCE);
    let ours = audience.is_some_and(|one| one == AUDIENCE || one.as_array().is_some_and(among));
    assert!(ours, "{said}");
    let end = said.get("exp").and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
    let begin_of_now = NOW.saturating_sub(leeway) as f64;
    assert!(end.is_none_or(|end| end > begin_of_now), "{said}");
}
