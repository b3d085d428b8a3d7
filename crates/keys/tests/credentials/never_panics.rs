//! Whatever comes from outside is judged; nothing of it panics.

use std::sync::Arc;
use std::time::Duration;

use keys::api_key::is_api_key;
use keys::certificate::identify;
use keys::jws::Unverified;
use keys::jwt::unverified_issuer;
use keys::svid::{AuthorityTerms, WorkloadKey, X509Authority};
use keys::{Algorithm, CertificateRules, Fetched, KeySet, Signer as _, SystemRandom, sign_token};
use model::ClaimType;
use proptest::collection::vec;
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value, json};

use crate::support::{TestBed, claims, now, signer};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!(crate::support::ISSUER)),
        Just(json!(crate::support::AUDIENCE)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec(("[a-z]{1,6}", inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn claim_name() -> impl Strategy<Value = String> {
    let names = [
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "roles",
        "realm_access",
        "groups",
        "scope",
        "scp",
        "acr",
        "amr",
        "azp",
        "client_id",
        "level",
        "other",
    ];
    proptest::sample::select(names.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tokens_of_any_bytes(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Unverified::parse(&bytes);
        let _ = unverified_issuer(&bytes);
        prop_assert!(!is_api_key(&bytes) || bytes.len() == keys::api_key::API_KEY_BYTES);
    }

    #[test]
    fn tokens_of_almost_the_right_form(text in "[A-Za-z0-9_=-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,90}") {
        let _ = Unverified::parse(text.as_bytes());
    }

    #[test]
    fn key_sets_of_any_members(
        members in vec((prop_oneof!["kty|crv|x|y|n|e|alg|use|kid|d|key_ops", "[a-z]{1,4}"], json_value()), 0..8),
        kind in prop_oneof!["RSA", "EC", "OKP"],
        bytes in vec(any::<u8>(), 0..64),
    ) {
        let mut key: Map<String, Value> = members.into_iter().collect();
        key.insert("kty".to_owned(), Value::String(kind));
        let set = json!({ "keys": [key] }).to_string();
        let _ = KeySet::parse(set.as_bytes(), &Algorithm::ALL);
        let _ = KeySet::parse_pinned(Value::Object(key).to_string().as_bytes(), &Algorithm::ALL);
        let _ = KeySet::parse(&bytes, &Algorithm::ALL);
        let _ = KeySet::parse_pinned(&bytes, &Algorithm::ALL);
    }

    #[test]
    fn a_mutated_key_verifies_nothing(place in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let one = signer(Algorithm::EdDsa);
        let mut set = keys::publish(&[&one]).into_bytes();
        let place = place.index(set.len());
        set[place] ^= 1 << bit;
        let token = sign_token(&one, "at+jwt", &claims()).unwrap();
        if let Ok((changed, _)) = KeySet::parse(&set, &Algorithm::ALL)
            && let Ok(parsed) = Unverified::parse(token.as_bytes())
            && changed.verify(parsed, "test").is_ok()
        {
            // Only what does not belong to the key was changed.
            let now: Value = serde_json::from_slice(&set).unwrap();
            prop_assert_eq!(&now["keys"][0]["x"], &one.public_jwk()["x"]);
        }
    }

    #[test]
    fn signed_claims_of_any_kind(changes in vec((claim_name(), json_value()), 1..6)) {
        let mut testbed = TestBed::with(|settings| {
            settings.claims.insert("level".to_owned(), ClaimType::Long);
            settings.claims.insert("other.a".to_owned(), ClaimType::Texts);
        });
        let mut claims = claims();
        claims.extend(changes);
        if let Ok(principal) = testbed.judge(&claims) {
            prop_assert!(principal.expires.unwrap() > now());
            prop_assert_eq!(claims["iss"].as_str(), principal.issuer.as_deref());
            prop_assert!(!principal.id.chars().any(char::is_control));
            prop_assert!(principal.roles.iter().all(|role| role == "customer" || role == "merchant"));
        }
    }

    #[test]
    fn certificates_of_any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        let _ = identify(&bytes, &CertificateRules::default(), now());
    }

    #[test]
    fn cache_control_of_any_text(text in ".{0,60}") {
        let _ = Fetched { body: Vec::new(), cache_control: Some(text) }.max_age();
    }
}

#[test]
fn certificates_with_any_one_byte_changed() {
    let day = Duration::from_secs(86_400);
    let terms = AuthorityTerms {
        trust_domain: "shop.example",
        from: now(),
        until: now().plus(day),
        signs_authorities: false,
    };
    let random = SystemRandom::new();
    let authority = X509Authority::self_signed(Arc::new(signer(Algorithm::Es256)), &terms, &random).unwrap();
    let name = "spiffe://shop.example/orders".parse().unwrap();
    let key = WorkloadKey::of(Arc::new(signer(Algorithm::Es256))).unwrap();
    let der = CertificateDer::from(authority.issue(&name, &key, now(), day, &random).unwrap().certificate);
    let rules = CertificateRules::of_trust_domain("shop.example");
    assert!(identify(&der, &rules, now()).is_ok());
    for place in 0..der.len() {
        for change in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut changed = der.to_vec();
            changed[place] = changed[place].wrapping_add(change);
            if let Ok(found) = identify(&changed, &rules, now()) {
                assert!(!found.principal.id.chars().any(char::is_control));
            }
        }
    }
}
