//! The cache of verified tokens: what it may answer, and what it must not.

use std::sync::Arc;
use std::time::Duration;

use keys::{
    Algorithm, CACHE_ENTRIES_MAX, CoreVerifier, IssuerSettings, Issuers, IssuersSettings, Refusal, Verdict,
    VerifierCounts, sign_token,
};
use serde_json::json;

use crate::support::{ISSUER, NOW_SECONDS, TestBed, claims, later, now, pinned, settled, signer, with};

fn counts(hits: u64, misses: u64) -> VerifierCounts {
    VerifierCounts { hits, misses }
}

#[test]
fn a_second_look_is_a_hit_and_says_the_same() {
    let mut testbed = TestBed::new();
    let first = testbed.judge(&claims()).unwrap();
    let token = sign_token(&testbed.signer, "at+jwt", &claims()).unwrap();
    let second = testbed.verify(token.as_bytes()).unwrap();
    let third = testbed.verify(token.as_bytes()).unwrap();
    assert_eq!((&first, &second), (&second, &third));
    assert!(Arc::ptr_eq(&second, &third));
    assert_eq!(testbed.verifier.counts(), counts(1, 2), "ES256 signs differently each time");
}

#[test]
fn the_times_are_checked_again_at_each_hit() {
    let mut testbed = TestBed::new();
    let mut timed = with("nbf", json!(NOW_SECONDS));
    timed.insert("exp".to_owned(), json!(NOW_SECONDS + 300));
    let token = sign_token(&testbed.signer, "at+jwt", &timed).unwrap();
    let mut at = |time| settled(testbed.verifier.verify(token.as_bytes(), time));
    assert!(at(now()).is_ok());
    assert!(at(later(329)).is_ok());
    assert!(matches!(at(later(330)), Err(Refusal::Expired { .. })));
    let early = at(now().minus(std::time::Duration::from_secs(31)));
    assert!(matches!(early, Err(Refusal::NotYetValid { .. })), "the clock was set back: {early:?}");
    assert!(at(now()).is_ok());
    assert_eq!(testbed.verifier.counts(), counts(2, 1));
}

#[test]
fn a_changed_signature_is_never_a_hit() {
    let mut testbed = TestBed::new();
    let token = sign_token(&testbed.signer, "at+jwt", &claims()).unwrap();
    assert!(testbed.verify(token.as_bytes()).is_ok());
    let other = sign_token(&signer(Algorithm::Es256), "at+jwt", &claims()).unwrap();
    let (message, _) = token.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    assert_eq!(testbed.verify(format!("{message}.{signature}").as_bytes()), Err(Refusal::Signature));
}

#[test]
fn refused_tokens_are_not_remembered_as_good() {
    let mut testbed = TestBed::new();
    let token = sign_token(&testbed.signer, "at+jwt", &with("aud", json!("other"))).unwrap();
    for _ in 0..2 {
        assert!(matches!(testbed.verify(token.as_bytes()), Err(Refusal::Audience { .. })));
    }
    assert_eq!(testbed.verifier.counts(), counts(0, 2));
}

#[test]
fn another_configuration_judges_anew() {
    let one = signer(Algorithm::Es256);
    let settings = |audience: &str| {
        let mut issuer = pinned(ISSUER, &one);
        issuer.audiences = vec![audience.to_owned()];
        Issuers::new(IssuersSettings { issuers: vec![issuer], ..IssuersSettings::default() }, None).unwrap()
    };
    let token = sign_token(&one, "at+jwt", &claims()).unwrap();
    let mut verifier = CoreVerifier::new(settings(crate::support::AUDIENCE));
    assert!(settled(verifier.verify(token.as_bytes(), now())).is_ok());
    verifier.adopt(settings("other"));
    assert!(matches!(settled(verifier.verify(token.as_bytes(), now())), Err(Refusal::Audience { .. })));
    verifier.adopt(settings(crate::support::AUDIENCE));
    assert!(settled(verifier.verify(token.as_bytes(), now())).is_ok());
    assert_eq!(verifier.counts(), counts(0, 3));
}

/// Each difference that could make another judgement, and the reload without one.
#[test]
fn a_reload_that_judges_alike_verifies_nothing_anew() {
    let (one, two) = (signer(Algorithm::Es256), signer(Algorithm::Es256));
    let testbed = |change: &dyn Fn(&mut IssuersSettings)| {
        let roles = std::collections::BTreeSet::from(["customer".to_owned()]);
        let mut settings =
            IssuersSettings { issuers: vec![pinned(ISSUER, &one)], roles, ..IssuersSettings::default() };
        change(&mut settings);
        Issuers::new(settings, None).unwrap()
    };
    let issuer = |change: fn(&mut IssuerSettings)| {
        move |testbed: &mut IssuersSettings| change(&mut testbed.issuers[0])
    };
    type Change<'a> = &'a dyn Fn(&mut IssuersSettings);
    let table: [(&str, bool, Change<'_>); 9] = [
        ("nothing", true, &|_| {}),
        ("a role", false, &|testbed| testbed.roles = ["merchant".to_owned()].into()),
        ("the keys", false, &|testbed| testbed.issuers[0].source = pinned(ISSUER, &two).source),
        ("an audience", false, &issuer(|issuer| issuer.audiences.push("more".to_owned()))),
        ("the leeway", false, &issuer(|issuer| issuer.leeway += Duration::from_secs(1))),
        ("a prefix", false, &issuer(|issuer| issuer.prefix = "corp/".to_owned())),
        ("a type", false, &issuer(|issuer| issuer.types.clear())),
        ("role claims", false, &issuer(|issuer| issuer.role_claims.clear())),
        ("another issuer", false, &|testbed| {
            let other = IssuerSettings { prefix: "two/".to_owned(), ..pinned("https://two.example", &two) };
            testbed.issuers.push(other);
        }),
    ];
    let token = sign_token(&one, "at+jwt", &claims()).unwrap();
    for (what, alike, change) in table {
        let mut verifier = CoreVerifier::new(testbed(&|_| {}));
        assert!(settled(verifier.verify(token.as_bytes(), now())).is_ok());
        verifier.adopt(testbed(change));
        let judged = verifier.verify(token.as_bytes(), now());
        assert_eq!(verifier.counts().hits == 1, alike, "{what}: {judged:?}");
    }
}

/// Two configurations count their lists apart: that the numbers are equal says nothing.
#[test]
fn what_is_revoked_over_a_reload_does_not_hide_behind_a_number() {
    let one = signer(Algorithm::Es256);
    let list = |id: &str| {
        let named = keys::Revocation { token: Some(id.to_owned()), ..Default::default() };
        Arc::new(keys::Revocations::new(&[named], now()).unwrap())
    };
    let issuers = || crate::support::issuers(vec![pinned(ISSUER, &one)]);
    let token = sign_token(&one, "at+jwt", &with("jti", json!("stolen"))).unwrap();
    let old = issuers();
    old.set_revocations(list("other"));
    let mut verifier = CoreVerifier::new(old);
    assert!(settled(verifier.verify(token.as_bytes(), now())).is_ok());
    let new = issuers();
    new.set_revocations(list("stolen"));
    verifier.adopt(new);
    let refused = settled(verifier.verify(token.as_bytes(), now()));
    assert!(matches!(refused, Err(Refusal::Revoked { by: "token" })), "{refused:?}");
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
