//! Metadata and keys.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use keys::{Algorithm, KeySet};

use crate::support::{ISSUER, TestBed};

#[tokio::test]
async fn metadata_is_where_both_specifications_put_it_and_says_the_truth() {
    let testbed = TestBed::new().await;
    let oidc = testbed.get(&format!("{ISSUER}/.well-known/openid-configuration")).await;
    let oauth =
        testbed.get("https://id.example.org/.well-known/oauth-authorization-server/realms/shop").await;
    assert_eq!((oidc.status.as_u16(), oidc.json()), (200, oauth.json()));
    assert_eq!(oidc.field("cache-control"), "public, max-age=300");
    let document = oidc.json();
    assert_eq!(document["issuer"], ISSUER);
    for (name, value) in document.as_object().unwrap() {
        if let Some(address) = value.as_str().filter(|_| name.ends_with("_endpoint") || name == "jwks_uri") {
            let got = testbed.get(address).await.status;
            assert_ne!(got, 404, "{name}");
        }
    }
    for name in ["id_token_signing_alg_values_supported", "dpop_signing_alg_values_supported"] {
        let list = document[name].as_array().unwrap();
        assert!(list.contains(&"RS256".into()) && !list.contains(&"none".into()), "{name}");
    }
    assert_eq!(document["code_challenge_methods_supported"], serde_json::json!(["S256"]));
}

#[tokio::test]
async fn keys_are_cached_for_less_than_a_rotation_takes() {
    let testbed = TestBed::new().await;
    let reply = testbed.get(&format!("{ISSUER}/jwks")).await;
    assert_eq!(reply.field("cache-control"), "public, max-age=300");
    assert!(!reply.text.contains("\"d\""));
    let tag = reply.field("etag").to_owned();
    let again = Request::get(format!("{ISSUER}/jwks")).header("if-none-match", &tag);
    assert_eq!(testbed.send(again.body(Body::empty()).unwrap()).await.status, 304);
    let other = Request::get(format!("{ISSUER}/jwks")).header("if-none-match", "\"x\"");
    assert_eq!(testbed.send(other.body(Body::empty()).unwrap()).await.status, 200);
    let (set, skipped) = KeySet::parse(reply.text.as_bytes(), &Algorithm::ALL).unwrap();
    assert!(skipped.is_empty());
    assert_eq!(set.len(), 3);
}

#[tokio::test]
async fn a_rotation_leaves_no_moment_without_a_good_key() {
    let day = 24 * 3600;
    let testbed = TestBed::new().await;
    let token = testbed.tokens("web", "openid").await["access_token"].as_str().unwrap().to_owned();
    let first = testbed.get(&format!("{ISSUER}/jwks")).await.text;
    testbed.advance(29 * day);
    testbed.realm.rotate_keys().await.unwrap();
    let both = testbed.get(&format!("{ISSUER}/jwks")).await.text;
    let count = |text: &str| KeySet::parse(text.as_bytes(), &Algorithm::ALL).unwrap().0.len();
    assert_eq!((count(&first), count(&both)), (3, 6));
    // What is signed now, those who fetched the keys a month ago still verify.
    let early = testbed.tokens("web", "openid").await["access_token"].as_str().unwrap().to_owned();
    let verifies = |keys: &str, token: &str| {
        let (keys, _) = KeySet::parse(keys.as_bytes(), &Algorithm::ALL).unwrap();
        keys.verify(keys::jws::Unverified::parse(token.as_bytes()).unwrap(), ISSUER).is_ok()
    };
    assert!(verifies(&first, &early) && verifies(&first, &token));
    testbed.advance(day);
    let late = testbed.tokens("web", "openid").await["access_token"].as_str().unwrap().to_owned();
    assert!(verifies(&both, &late) && !verifies(&first, &late));

    // A key that may be known to others is gone at once, and what it signed with it.
    testbed.realm.replace_keys(true).await.unwrap();
    assert!(!testbed.is_active(&late).await);
    let after = testbed.tokens("web", "openid").await["access_token"].as_str().unwrap().to_owned();
    assert!(testbed.is_active(&after).await);
}

#[tokio::test]
async fn processes_on_one_store_have_one_set_of_keys() {
    let first = TestBed::new().await;
    let second = TestBed::on(first.store.clone(), Arc::clone(&first.clock), |_| {}).await;
    let jwks = format!("{ISSUER}/jwks");
    assert_eq!(first.get(&jwks).await.text, second.get(&jwks).await.text);
    let tokens = first.tokens("web", "openid offline_access").await;
    assert!(second.is_active(tokens["access_token"].as_str().unwrap()).await);
    assert_eq!(second.refresh("web", tokens["refresh_token"].as_str().unwrap()).await.status, 200);
}
