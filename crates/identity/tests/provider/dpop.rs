//! Tokens that are bound to a key.

use axum::body::Body;
use axum::http::Request;
use keys::encoding::encode_base64url;
use keys::{Algorithm, LocalSigner, Signer, SystemRandom};
use serde_json::{Value, json};

use crate::support::{Browser, CALLBACK, ISSUER, NOW, Reply, TestBed, VERIFIER, challenge, form, payload};

pub(crate) struct Key(LocalSigner);

impl Key {
    pub(crate) fn new() -> Self {
        Self(LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0)
    }

    pub(crate) fn proof(&self, method: &str, endpoint: &str, id: &str, more: Value) -> String {
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.0.public_jwk() });
        let mut claims =
            json!({ "htm": method, "htu": format!("{ISSUER}{endpoint}"), "iat": NOW, "jti": id });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let input = [header, claims].map(|part| encode_base64url(part.to_string().as_bytes())).join(".");
        let signature = encode_base64url(&self.0.sign(input.as_bytes()).unwrap());
        format!("{input}.{signature}")
    }
}

async fn redeem(testbed: &TestBed, code: &str, proof: &str) -> Reply {
    let pairs = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("client_id", "spa"),
    ];
    testbed.post_with("/token", ("dpop", proof), &pairs).await
}

async fn refresh(testbed: &TestBed, token: &str, proof: &str) -> Reply {
    let pairs = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "spa")];
    testbed.post_with("/token", ("dpop", proof), &pairs).await
}

async fn userinfo(testbed: &TestBed, scheme: &str, token: &str, proof: Option<&str>) -> Reply {
    let mut request =
        Request::get(format!("{ISSUER}/userinfo")).header("authorization", format!("{scheme} {token}"));
    if let Some(proof) = proof {
        request = request.header("dpop", proof);
    }
    testbed.send(request.body(Body::empty()).unwrap()).await
}

fn hash(token: &str) -> Value {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    json!({ "ath": encode_base64url(digest.as_ref()) })
}

#[tokio::test]
async fn a_bound_token_is_worth_nothing_without_its_key() {
    let testbed = TestBed::new().await;
    let (key, thief) = (Key::new(), Key::new());
    let code = Browser::new(&testbed).log_in_for("spa", &[]).await["code"].clone();
    let tokens = redeem(&testbed, &code, &key.proof("POST", "/token", "1", json!({}))).await.json();
    assert_eq!(tokens["token_type"], "DPoP");
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(payload(access)["cnf"], json!({ "jkt": key.0.key_id() }));

    let with = |key: &Key, id: &str, more: Value| key.proof("GET", "/userinfo", id, more);
    let good = with(&key, "2", hash(access));
    assert_eq!(userinfo(&testbed, "DPoP", access, Some(&good)).await.status, 200);
    for (why, scheme, proof, error) in [
        ("the proof again", "DPoP", Some(good.clone()), "invalid_dpop_proof"),
        ("as a bearer token", "Bearer", Some(with(&key, "3", hash(access))), "invalid_token"),
        ("as a bearer token without proof", "Bearer", None, "invalid_token"),
        ("without proof", "DPoP", None, "invalid_dpop_proof"),
        ("another key", "DPoP", Some(with(&thief, "4", hash(access))), "invalid_token"),
        ("another token's proof", "DPoP", Some(with(&key, "5", hash("x"))), "invalid_dpop_proof"),
        ("a proof of no token", "DPoP", Some(with(&key, "6", json!({}))), "invalid_dpop_proof"),
        (
            "another method",
            "DPoP",
            Some(key.proof("POST", "/userinfo", "7", hash(access))),
            "invalid_dpop_proof",
        ),
        (
            "another address",
            "DPoP",
            Some(key.proof("GET", "/token", "8", hash(access))),
            "invalid_dpop_proof",
        ),
    ] {
        let reply = userinfo(&testbed, scheme, access, proof.as_deref()).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]), (401, &json!(error)), "{why}");
        assert!(reply.field("www-authenticate").starts_with("DPoP"), "{why}");
    }
    // What opens nothing leaves nothing.
    let before = testbed.store.version();
    userinfo(&testbed, "DPoP", access, Some(&with(&thief, "10", hash(access))))
        .await
        .refused(401, "invalid_token");
    assert_eq!(testbed.store.version(), before);
    let bearer = testbed.tokens("web", "openid").await;
    let bearer = bearer["access_token"].as_str().unwrap();
    let proof = with(&key, "9", hash(bearer));
    userinfo(&testbed, "DPoP", bearer, Some(&proof)).await.refused(401, "invalid_token");
}

#[tokio::test]
async fn a_public_clients_refresh_token_needs_the_key_too() {
    let testbed = TestBed::new().await;
    let (key, thief) = (Key::new(), Key::new());
    let code = Browser::new(&testbed).log_in_for("spa", &[]).await["code"].clone();
    let tokens = redeem(&testbed, &code, &key.proof("POST", "/token", "1", json!({}))).await.json();
    let token = tokens["refresh_token"].as_str().unwrap();
    refresh(&testbed, token, &thief.proof("POST", "/token", "2", json!({})))
        .await
        .refused(400, "invalid_grant");
    testbed.refresh("spa", token).await.refused(400, "invalid_grant");
    let next = refresh(&testbed, token, &key.proof("POST", "/token", "3", json!({}))).await;
    assert_eq!(next.status, 200, "the thief ended nothing: {next:?}");
    // Reuse by the thief does not end it either.
    testbed.advance(11);
    refresh(&testbed, token, &thief.proof("POST", "/token", "4", json!({})))
        .await
        .refused(400, "invalid_grant");
    let next = next.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(refresh(&testbed, &next, &key.proof("POST", "/token", "5", json!({}))).await.status, 200);
}

#[tokio::test]
async fn what_was_used_is_taken_back_whatever_proof_comes_with_it() {
    let testbed = TestBed::new().await;
    let key = Key::new();
    let proof = |id: &str| key.proof("POST", "/token", id, json!({}));
    let log_in = async || Browser::new(&testbed).log_in_for("spa", &[]).await["code"].clone();
    for (why, second) in [("the whole request again", "first"), ("by its client, with a new proof", "second")]
    {
        let id = |name: &str| format!("{name} where {why}");
        let code = log_in().await;
        let tokens = redeem(&testbed, &code, &proof(&id("first"))).await.json();
        redeem(&testbed, &code, &proof(&id(second))).await.refused(400, "invalid_grant");
        let refresh_token = tokens["refresh_token"].as_str().unwrap();
        assert!(!testbed.is_active(tokens["access_token"].as_str().unwrap()).await, "{why}");
        refresh(&testbed, refresh_token, &proof(&id("third"))).await.refused(400, "invalid_grant");
        // What gives nothing leaves nothing.
        let before = testbed.store.version();
        redeem(&testbed, &code, &proof(&id("fourth"))).await.refused(400, "invalid_grant");
        assert_eq!(testbed.store.version(), before, "{why}");
    }
    // A refresh token: within the grace nobody gets tokens by a proof that was used.
    let tokens = redeem(&testbed, &log_in().await, &proof("1")).await.json();
    let token = tokens["refresh_token"].as_str().unwrap();
    let next = refresh(&testbed, token, &proof("2")).await.json();
    refresh(&testbed, token, &proof("2")).await.refused(400, "invalid_dpop_proof");
    assert_eq!(refresh(&testbed, token, &proof("3")).await.status, 200);
    let next = next["access_token"].as_str().unwrap();
    assert!(testbed.is_active(next).await);
    testbed.advance(11);
    refresh(&testbed, token, &proof("2")).await.refused(400, "invalid_grant");
    assert!(!testbed.is_active(next).await, "stolen: the family is revoked");
}

#[tokio::test]
async fn a_code_can_be_bound_ahead() {
    let testbed = TestBed::new().await;
    let (key, thief) = (Key::new(), Key::new());
    let mut browser = Browser::new(&testbed);
    let code = browser.log_in_for("spa", &[("dpop_jkt", key.0.key_id())]).await["code"].clone();
    redeem(&testbed, &code, &thief.proof("POST", "/token", "1", json!({})))
        .await
        .refused(400, "invalid_grant");
    testbed.redeem("spa", &code).await.refused(400, "invalid_grant");
    assert_eq!(redeem(&testbed, &code, &key.proof("POST", "/token", "2", json!({}))).await.status, 200);
}

#[tokio::test]
async fn what_is_pushed_with_a_proof_is_for_its_key() {
    let testbed = TestBed::new().await;
    let (key, thief) = (Key::new(), Key::new());
    let challenge = challenge();
    let push = async |id: &str, jkt: &str| {
        let mut pairs = vec![
            ("client_id", "spa"),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        pairs.extend((!jkt.is_empty()).then_some(("dpop_jkt", jkt)));
        testbed.post_with("/par", ("dpop", &key.proof("POST", "/par", id, json!({}))), &pairs).await
    };
    push("1", thief.0.key_id()).await.refused(400, "invalid_dpop_proof");
    for (number, jkt) in ["", key.0.key_id()].into_iter().enumerate() {
        let pushed = push(&format!("{number} is good"), jkt).await.json();
        let pairs = form(&[("client_id", "spa"), ("request_uri", pushed["request_uri"].as_str().unwrap())]);
        let mut browser = Browser::new(&testbed);
        let page = browser.go(&format!("{ISSUER}/authorize?{pairs}")).await;
        let code = browser.log_in(&page).await.answer()["code"].clone();
        redeem(&testbed, &code, &thief.proof("POST", "/token", &format!("{number} redeems"), json!({})))
            .await
            .refused(400, "invalid_grant");
        let proof = key.proof("POST", "/token", &format!("{number} redeems"), json!({}));
        assert_eq!(redeem(&testbed, &code, &proof).await.status, 200);
    }
}

#[tokio::test]
async fn a_proof_is_used_once_and_clients_can_be_held_to_it() {
    let testbed = TestBed::new().await;
    let mut spa = crate::support::web("spa", identity::ClientAuthentication::None);
    spa.dpop_bound_access_tokens = true;
    testbed.put(spa).await;
    let key = Key::new();
    let mut browser = Browser::new(&testbed);
    let code = browser.log_in_for("spa", &[]).await["code"].clone();
    testbed.redeem("spa", &code).await.refused(400, "invalid_dpop_proof");
    let proof = key.proof("POST", "/token", "1", json!({}));
    assert_eq!(redeem(&testbed, &code, &proof).await.status, 200);
    let code = browser.authorize("spa", &[]).await.answer()["code"].clone();
    redeem(&testbed, &code, &proof).await.refused(400, "invalid_dpop_proof");
    redeem(&testbed, &code, "x").await.refused(400, "invalid_dpop_proof");
    let other = Key::new().proof("POST", "/token", "1", json!({}));
    assert_eq!(redeem(&testbed, &code, &other).await.status, 200, "names are per key");
}

#[tokio::test]
async fn a_nonce_is_asked_for_and_grows_old() {
    let testbed = TestBed::with(|settings| settings.require_dpop_nonce = true).await;
    let key = Key::new();
    let mut browser = Browser::new(&testbed);
    let code = browser.log_in_for("spa", &[]).await["code"].clone();
    let asked = redeem(&testbed, &code, &key.proof("POST", "/token", "1", json!({}))).await;
    asked.refused(400, "use_dpop_nonce");
    let nonce = asked.field("dpop-nonce").to_owned();
    redeem(&testbed, &code, &key.proof("POST", "/token", "2", json!({ "nonce": "x" })))
        .await
        .refused(400, "use_dpop_nonce");
    let good = redeem(&testbed, &code, &key.proof("POST", "/token", "3", json!({ "nonce": nonce }))).await;
    assert_eq!((good.status.as_u16(), good.field("dpop-nonce")), (200, nonce.as_str()));
    testbed.advance(120);
    let code = browser.authorize("spa", &[]).await.answer()["code"].clone();
    let late = key.proof("POST", "/token", "4", json!({ "nonce": nonce, "iat": NOW + 120 }));
    redeem(&testbed, &code, &late).await.refused(400, "use_dpop_nonce");
}
