//! The cache of verified tokens: what it may answer, and what it must not.

use std::sync::Arc;

use keys::{
    Algorithm, CACHE_ENTRIES_MAX, CoreVerifier, Issuers, IssuersSettings, Refusal, Verdict, VerifierCounts,
    sign_token,
};
use serde_json::json;

use crate::support::{ISSUER, NOW_SECONDS, Town, claims, later, now, pinned, settled, signer, with};

fn counts(hits: u64, misses: u64) -> VerifierCounts {
    VerifierCounts { hits, misses }
}

#[test]
fn a_second_look_is_a_hit_and_says_the_same() {
    let mut town = Town::new();
    let first = town.judge(&claims()).unwrap();
    let token = sign_token(&town.signer, "at+jwt", &claims()).unwrap();
    let second = town.verify(token.as_bytes()).unwrap();
    let third = town.verify(token.as_bytes()).unwrap();
    assert_eq!((&first, &second), (&second, &third));
    assert!(Arc::ptr_eq(&second, &third));
    assert_eq!(town.verifier.counts(), counts(1, 2), "ES256 signs differently each time");
}

#[test]
fn the_times_are_checked_again_at_each_hit() {
    let mut town = Town::new();
    let mut timed = with("nbf", json!(NOW_SECONDS));
    timed.insert("exp".to_owned(), json!(NOW_SECONDS + 300));
    let token = sign_token(&town.signer, "at+jwt", &timed).unwrap();
    let mut at = |time| settled(town.verifier.verify(token.as_bytes(), time));
    assert!(at(now()).is_ok());
    assert!(at(later(329)).is_ok());
    assert!(matches!(at(later(330)), Err(Refusal::Expired { .. })));
    let early = at(now().minus(std::time::Duration::from_secs(31)));
    assert!(matches!(early, Err(Refusal::NotYetValid { .. })), "the clock was set back: {early:?}");
    assert!(at(now()).is_ok());
    assert_eq!(town.verifier.counts(), counts(2, 1));
}

#[test]
fn a_changed_signature_is_never_a_hit() {
    let mut town = Town::new();
    let token = sign_token(&town.signer, "at+jwt", &claims()).unwrap();
    assert!(town.verify(token.as_bytes()).is_ok());
    let other = sign_token(&signer(Algorithm::Es256), "at+jwt", &claims()).unwrap();
    let (message, _) = token.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    assert_eq!(town.verify(format!("{message}.{signature}").as_bytes()), Err(Refusal::Signature));
}

#[test]
fn refused_tokens_are_not_remembered_as_good() {
    let mut town = Town::new();
    let token = sign_token(&town.signer, "at+jwt", &with("aud", json!("other"))).unwrap();
    for _ in 0..2 {
        assert!(matches!(town.verify(token.as_bytes()), Err(Refusal::Audience { .. })));
    }
    assert_eq!(town.verifier.counts(), counts(0, 2));
}

#[test]
fn another_configuration_judges_anew() {
    let one = signer(Algorithm::Es256);
    let settings = |generation, audience: &str| {
        let mut issuer = pinned(ISSUER, &one);
        issuer.audiences = vec![audience.to_owned()];
        let settings = IssuersSettings { generation, issuers: vec![issuer], ..IssuersSettings::default() };
        Issuers::new(settings, None).unwrap()
    };
    let token = sign_token(&one, "at+jwt", &claims()).unwrap();
    for generation in [1, 2] {
        let mut verifier = CoreVerifier::new(settings(1, crate::support::AUDIENCE));
        assert!(settled(verifier.verify(token.as_bytes(), now())).is_ok());
        verifier.adopt(settings(generation, "other"));
        assert!(matches!(settled(verifier.verify(token.as_bytes(), now())), Err(Refusal::Audience { .. })));
        verifier.adopt(settings(generation, crate::support::AUDIENCE));
        assert!(settled(verifier.verify(token.as_bytes(), now())).is_ok());
    }
}

#[test]
fn a_revocation_ends_the_token_it_names_on_every_core_and_no_other() {
    let one = signer(Algorithm::Es256);
    let issuers = crate::support::issuers(vec![pinned(ISSUER, &one)]);
    let mut verifier = CoreVerifier::new(Arc::clone(&issuers));
    let token = |id: &str| sign_token(&one, "at+jwt", &with("jti", json!(id))).unwrap();
    let (stolen, honest, unseen) = (token("stolen"), token("honest"), token("stolen-too"));
    for token in [&stolen, &honest] {
        assert!(settled(verifier.verify(token.as_bytes(), now())).is_ok());
    }
    let named = |id: &str| keys::Revocation { token: Some(id.to_owned()), ..Default::default() };
    let list = keys::Revocations::new(&[named("stolen"), named("stolen-too")], now()).unwrap();
    issuers.set_revocations(Arc::new(list));
    let mut another_core = CoreVerifier::new(Arc::clone(&issuers));
    for token in [&stolen, &unseen, &stolen] {
        for verifier in [&mut verifier, &mut another_core] {
            let refused = settled(verifier.verify(token.as_bytes(), now()));
            assert!(matches!(refused, Err(Refusal::Revoked { by: "token" })), "{refused:?}");
        }
    }
    // Judged again without its signature being verified again.
    let misses = verifier.counts().misses;
    assert!(settled(verifier.verify(honest.as_bytes(), now())).is_ok());
    assert_eq!(verifier.counts().misses, misses);
    // Taken back.
    issuers.set_revocations(Arc::default());
    assert!(settled(verifier.verify(stolen.as_bytes(), now())).is_ok());
}

#[test]
fn the_cache_is_bounded_by_entries_and_by_bytes() {
    // Ed25519 here: quicker in a debug build.
    let one = signer(Algorithm::EdDsa);
    let mut verifier = CoreVerifier::new(crate::support::issuers(vec![pinned(ISSUER, &one)]));
    let mut verify = |claims: &_| {
        let token = sign_token(&one, "at+jwt", claims).unwrap();
        assert!(matches!(verifier.verify(token.as_bytes(), now()), Verdict::Accepted(_)));
        verifier.cached()
    };
    let fill = "x".repeat(11_000);
    let mut most = (0, 0);
    for place in 0..1_200 {
        let mut claims = with("jti", json!(place.to_string()));
        claims.insert("fill".to_owned(), json!(fill));
        let (entries, bytes) = verify(&claims);
        assert!(bytes <= keys::CACHE_BYTES_MAX);
        most = (entries.max(most.0), bytes.max(most.1));
    }
    assert!(most.0 < 1_200 && most.1 > keys::CACHE_BYTES_MAX - 16_384, "{most:?}");
    let mut entries = 0;
    for place in 0..=CACHE_ENTRIES_MAX + 10 {
        (entries, _) = verify(&with("jti", json!(place.to_string())));
    }
    assert_eq!(entries, CACHE_ENTRIES_MAX);
}
