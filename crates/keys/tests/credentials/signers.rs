//! Signing keys in files, and the tokens that tell upstreams who asks.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use keys::jws::Unverified;
use keys::{
    Algorithm, IDENTITY_TOKEN_LIFETIME_MAX, IdentityToken, KeySet, LocalSigner, Signer, SystemRandom,
    publish, sign_identity, sign_token,
};
use model::principal::Attribute;
use model::{Credential, Principal, PrincipalKind};
use serde_json::{Map, Value, json};

use crate::support::{NOW_SECONDS, later, now, signer};

fn principal() -> Principal {
    Principal {
        kind: PrincipalKind::User,
        id: "alice".to_owned(),
        credential: Credential::Jwt,
        issuer: Some("https://id.example.org".to_owned()),
        roles: vec!["customer".to_owned()],
        scopes: vec!["read".to_owned(), "write".to_owned()],
        acr: Some("2".to_owned()),
        amr: vec!["otp".to_owned()],
        claims: BTreeMap::from([("tenant".to_owned(), Attribute::Text("acme".to_owned()))]),
        expires: None,
        ..Principal::anonymous()
    }
}

fn claims(signer: &dyn Signer, principal: &Principal, lifetime: Duration) -> Map<String, Value> {
    let token = IdentityToken {
        issuer: "https://gateway.example",
        audience: "orders",
        now: now(),
        lifetime,
        certificates: &[],
    };
    let text = sign_identity(signer, principal, token, &SystemRandom::new()).unwrap();
    let (set, skipped) = KeySet::parse(publish(&[signer]).as_bytes(), &Algorithm::ALL).unwrap();
    assert!(skipped.is_empty());
    let verified = set.verify(Unverified::parse(text.as_bytes()).unwrap(), "gateway").unwrap();
    assert_eq!(verified.token_type(), Some("bastide-identity+jwt"));
    serde_json::from_slice(verified.payload()).unwrap()
}

#[test]
fn an_upstream_learns_who_asks() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let signer = signer(algorithm);
        let mut one = claims(&signer, &principal(), Duration::from_secs(60));
        let two = claims(&signer, &principal(), Duration::from_secs(60));
        assert_ne!(one["jti"], two["jti"]);
        assert_eq!(one["jti"].as_str().unwrap().len(), 32);
        one.remove("jti");
        let expected = json!({
            "iss": "https://gateway.example", "sub": "alice", "aud": "orders",
            "iat": NOW_SECONDS, "exp": NOW_SECONDS + 60, "principal_type": "User", "credential": "jwt",
            "roles": ["customer"], "scope": "read write", "acr": "2", "amr": ["otp"],
            "idp": "https://id.example.org", "claims": { "tenant": "acme" },
        });
        assert_eq!(Value::Object(one), expected);
    }
}

#[test]
fn an_identity_token_outlives_neither_the_credential_nor_the_limit() {
    let signer = signer(Algorithm::EdDsa);
    let short = Principal { expires: Some(later(5)), ..principal() };
    assert_eq!(claims(&signer, &short, Duration::from_secs(60))["exp"], json!(NOW_SECONDS + 5));
    let most = IDENTITY_TOKEN_LIFETIME_MAX.as_secs();
    let long = claims(&signer, &principal(), IDENTITY_TOKEN_LIFETIME_MAX + Duration::from_secs(1));
    assert_eq!(long["exp"], json!(NOW_SECONDS + most));
}

#[test]
fn a_signing_key_is_made_once_and_kept_from_others() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let path = folder.path().join(algorithm.name());
        let load = || LocalSigner::load_or_create(&path, algorithm, &SystemRandom::new());
        let first = load().unwrap();
        assert_eq!(load().unwrap().public_jwk(), first.public_jwk());
        assert_eq!(first.algorithm(), algorithm);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(load().unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, "something else").unwrap();
        assert!(load().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"something else", "never overwritten");
    }
    for unsupported in [Algorithm::Rs384, Algorithm::Ps256, Algorithm::Es384] {
        assert!(LocalSigner::generate(unsupported, &SystemRandom::new()).is_err());
    }
}

#[test]
fn what_is_published_holds_nothing_secret() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let (signer, document) = LocalSigner::generate(algorithm, &SystemRandom::new()).unwrap();
        let published = signer.public_jwk();
        let mut members: Vec<&str> = published.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        let expected: &[&str] = match algorithm {
            Algorithm::Es256 => &["alg", "crv", "kid", "kty", "use", "x", "y"],
            Algorithm::Rs256 => &["alg", "e", "kid", "kty", "n", "use"],
            _ => &["alg", "crv", "kid", "kty", "use", "x"],
        };
        assert_eq!(members, expected);
        assert!(!format!("{signer:?}").contains("pair"));
        assert!(!document.is_empty());
    }
}

#[test]
fn the_key_id_is_the_thumbprint() {
    // RFC 8037 appendix A: the key of A.1 and its thumbprint of A.3.
    let document = [
        &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20][..],
        &[
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
            0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ],
    ]
    .concat();
    let signer = LocalSigner::from_pkcs8(&document).unwrap();
    assert_eq!(signer.key_id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn a_kept_identity_token_is_its_principals_and_its_services_alone() {
    use std::sync::Arc;
    let settings = keys::IdentitySettings {
        issuer: "https://gateway.example".to_owned(),
        lifetime: Duration::from_secs(60),
        certificates: Vec::new(),
    };
    let signer = Arc::new(signer(Algorithm::EdDsa));
    let mut core = keys::CoreIdentities::new(signer, settings, Arc::new(SystemRandom::new()));
    let alice = Arc::new(Principal { expires: Some(later(40)), ..principal() });
    let bob = Arc::new(Principal { id: "bob".to_owned(), ..principal() });
    let payload = |token: &str| {
        let payload = Unverified::parse(token.as_bytes()).unwrap().unverified_payload().to_vec();
        serde_json::from_slice::<Value>(&payload).unwrap()
    };
    let mut get = |who: &Arc<Principal>, service, audience: &str, time| {
        core.token(who, service, audience, time, || who.roles.clone()).unwrap()
    };
    let first = get(&alice, 0, "orders", now());
    assert_eq!(payload(&first)["exp"], json!(NOW_SECONDS + 40));
    assert_eq!(get(&alice, 0, "orders", later(19)), first);
    let other = get(&alice, 1, "payments", now());
    assert_eq!(payload(&other)["aud"], json!("payments"));
    assert_eq!(payload(&get(&bob, 0, "orders", now()))["sub"], json!("bob"));
    let second = get(&alice, 0, "orders", later(20));
    assert_ne!(second, first, "half of its time is over");
    assert_eq!(get(&bob, 0, "orders", later(29)), get(&bob, 0, "orders", later(29)));
    let back = get(&alice, 0, "orders", now().minus(Duration::from_secs(100)));
    assert_ne!(back, second, "a clock that was set back makes a new one");
    // An address is not a name: principals that come and go never share a token.
    for place in 0..200 {
        let id = format!("user-{place}");
        let passing = Arc::new(Principal { id: id.clone(), ..principal() });
        assert_eq!(payload(&get(&passing, 0, "orders", now()))["sub"], json!(id));
    }
}

#[test]
fn a_tokens_header_names_algorithm_key_and_type_and_its_claims_stand_as_they_are() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let signer = LocalSigner::generate(algorithm, &SystemRandom::new()).unwrap().0;
        let claims = json!({ "sub": "a\"b", "exp": 9, "aud": ["x", "y"] });
        let token = sign_token(&signer, "at+jwt", claims.as_object().unwrap()).unwrap();
        let parts: Vec<_> =
            token.split('.').map(|part| keys::encoding::decode_base64url(part.as_bytes()).unwrap()).collect();
        let header = json!({ "alg": algorithm.name(), "kid": signer.key_id(), "typ": "at+jwt" });
        assert_eq!(String::from_utf8_lossy(&parts[0]), header.to_string());
        assert_eq!(String::from_utf8_lossy(&parts[1]), claims.to_string());
        assert_eq!((parts.len(), parts[2].len()), (3, 64));
    }
}
