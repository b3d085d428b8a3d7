//! The authorization code: one use, one client, one verifier.

use serde_json::{Value, json};

use crate::support::{Browser, CALLBACK, ISSUER, NOW, ORDERS, SECRET, TestBed, VERIFIER, payload};

#[tokio::test]
async fn a_person_logs_in_and_the_client_gets_its_tokens() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[("scope", "openid email orders:read")]).await;
    assert!(page.text.contains("type=\"password\""), "{page:?}");
    let answer = browser.log_in(&page).await.answer();
    assert_eq!((answer["state"].as_str(), answer["iss"].as_str()), ("the state", ISSUER));

    let reply = testbed.redeem("web", &answer["code"]).await;
    assert_eq!(reply.field("cache-control"), "no-store");
    let tokens = reply.json();
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(300)));
    assert_eq!(tokens["scope"], "email openid orders:read");
    let (token_type, mut access) = testbed.claims(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!(token_type, "at+jwt");
    let session = access["sid"].clone();
    let grant = |claims: &Value| claims["jti"].as_str().unwrap().split_once('.').unwrap().0.to_owned();
    let granted = grant(&access);
    for random in ["jti", "sid"] {
        assert!(access.as_object_mut().unwrap().remove(random).unwrap().as_str().unwrap().len() >= 22);
    }
    let expected = json!({
        "iss": ISSUER, "sub": "alice", "aud": [ORDERS, ISSUER], "client_id": "web", "iat": NOW, "exp": NOW + 300,
        "scope": "email openid orders:read", "auth_time": NOW, "acr": "1", "amr": ["pwd"], "roles": ["customer"],
    });
    assert_eq!(access, expected);

    let (token_type, mut id) = testbed.claims(tokens["id_token"].as_str().unwrap()).await;
    assert_eq!(token_type, "JWT");
    assert_eq!(grant(&id), granted, "it ends with its grant");
    for random in ["jti", "at_hash"] {
        assert!(id.as_object_mut().unwrap().remove(random).is_some(), "{random}");
    }
    let expected = json!({
        "iss": ISSUER, "sub": "alice", "aud": "web", "iat": NOW, "exp": NOW + 300, "nonce": "the nonce",
        "auth_time": NOW, "acr": "1", "amr": ["pwd"], "sid": session,
        "email": "alice@example.org", "email_verified": false,
    });
    assert_eq!(id, expected);

    // The browser is known now: the next client gets its answer without a page.
    let answer = browser.authorize("spa", &[]).await.answer();
    assert!(answer.contains_key("code"));
}

#[tokio::test]
async fn a_code_that_is_used_again_takes_back_what_it_gave() {
    let testbed = TestBed::new().await;
    let answer = Browser::new(&testbed).log_in_for("web", &[]).await;
    let tokens = testbed.redeem("web", &answer["code"]).await.json();
    let access = tokens["access_token"].as_str().unwrap();
    let refresh = tokens["refresh_token"].as_str().unwrap();
    assert!(testbed.is_active(access).await);
    // A thief without the verifier ends nothing.
    let stolen = [
        ("grant_type", "authorization_code"),
        ("code", &answer["code"]),
        ("code_verifier", &VERIFIER.replace('d', "e")),
        ("client_id", "web"),
        ("client_secret", SECRET),
    ];
    testbed.post("/token", &stolen).await.refused(400, "invalid_grant");
    testbed.redeem("spa", &answer["code"]).await.refused(400, "invalid_grant");
    assert!(testbed.is_active(access).await);

    testbed.redeem("web", &answer["code"]).await.refused(400, "invalid_grant");
    assert!(!testbed.is_active(access).await);
    testbed.refresh("web", refresh).await.refused(400, "invalid_grant");
    // Gateways learn of it too.
    let revoked = testbed.realm.revocations().await.unwrap();
    assert_eq!(revoked.len(), 1);
    let id = payload(access)["jti"].as_str().unwrap().to_owned();
    assert_eq!(revoked[0].grant.as_deref(), id.split('.').next());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_uses_at_once_one_wins_and_even_that_is_taken_back() {
    let testbed = std::sync::Arc::new(TestBed::new().await);
    let answer = Browser::new(&testbed).log_in_for("web", &[]).await;
    let uses = (0..16).map(|_| {
        let (testbed, code) = (std::sync::Arc::clone(&testbed), answer["code"].clone());
        tokio::spawn(async move { testbed.redeem("web", &code).await })
    });
    let mut won = Vec::new();
    for reply in uses.collect::<Vec<_>>() {
        let reply = reply.await.unwrap();
        match reply.status.as_u16() {
            200 => won.push(reply.json()["access_token"].as_str().unwrap().to_owned()),
            _ => reply.refused(400, "invalid_grant"),
        }
    }
    assert_eq!(won.len(), 1);
    assert!(!testbed.is_active(&won[0]).await);
}

#[tokio::test]
async fn a_code_is_for_its_client_its_address_its_verifier_and_a_minute() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    let usual = |code: &str| {
        vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("redirect_uri", CALLBACK.to_owned()),
            ("code_verifier", VERIFIER.to_owned()),
            ("client_id", "web".to_owned()),
            ("client_secret", SECRET.to_owned()),
        ]
    };
    for (why, name, value, error) in [
        ("another address", "redirect_uri", "https://app.example/cb2", "invalid_grant"),
        ("no verifier", "code_verifier", "", "invalid_grant"),
        ("the challenge for a verifier", "code_verifier", &crate::support::challenge(), "invalid_grant"),
        ("a short verifier", "code_verifier", "abc", "invalid_grant"),
        ("no code", "code", "", "invalid_request"),
        ("another code", "code", "abc", "invalid_grant"),
        ("another resource", "resource", "https://payments.example.org", "invalid_target"),
    ] {
        let code = browser.authorize("web", &[]).await.answer()["code"].clone();
        let mut pairs = usual(&code);
        pairs.retain(|(known, _)| *known != name);
        pairs.push((name, value.to_owned()));
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = testbed.post("/token", &pairs).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]), (400, &json!(error)), "{why}");
        if name == "code_verifier" {
            testbed.redeem("web", &code).await.refused(400, "invalid_grant");
        }
    }
    let code = browser.authorize("web", &[]).await.answer()["code"].clone();
    testbed.redeem("spa", &code).await.refused(400, "invalid_grant");
    assert_eq!(testbed.redeem("web", &code).await.status, 200, "another client did not end it");
    let (almost, over) = (59, 60);
    for (seconds, good) in [(almost, true), (over, false)] {
        let code = browser.authorize("web", &[]).await.answer()["code"].clone();
        testbed.advance(seconds);
        assert_eq!(testbed.redeem("web", &code).await.status == 200, good, "{seconds} s");
    }
}

#[tokio::test]
async fn no_code_is_redeemed_for_somebody_who_is_gone() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let code = browser.log_in_for("web", &[]).await["code"].clone();
    let session = browser.session().unwrap().split('.').next().unwrap().to_owned();
    testbed.realm.end_session(&session).await.unwrap();
    testbed.redeem("web", &code).await.refused(400, "invalid_grant");

    let code = Browser::new(&testbed).log_in_for("web", &[]).await["code"].clone();
    let mut alice = identity::User::new("alice", "alice", model::Timestamp::default());
    alice.disabled = true;
    testbed.realm.put_user(&alice).await.unwrap();
    testbed.redeem("web", &code).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn what_is_asked_of_a_person_meanwhile_is_asked_of_their_code() {
    let testbed =
        TestBed::with(|settings| drop(settings.factors.roles.insert("admin".into(), "2".into()))).await;
    let mut browser = Browser::new(&testbed);
    let code = browser.log_in_for("web", &[]).await["code"].clone();
    testbed.set_roles("alice", &["admin"]).await;
    let refused = testbed.redeem("web", &code).await;
    refused.refused(400, "invalid_grant");
    assert_eq!(refused.json()["error_description"], "a stronger login is needed");
    assert!(testbed.realm.grants("alice").await.unwrap().is_empty());
    testbed.set_roles("alice", &["customer"]).await;
    let mut web = crate::support::web("web", crate::support::secret());
    web.acr = Some("2".to_owned());
    testbed.put(web.clone()).await;
    testbed.redeem("web", &code).await.refused(400, "invalid_grant");
    // It was not used by that.
    web.acr = Some("1".to_owned());
    testbed.put(web).await;
    assert_eq!(testbed.redeem("web", &code).await.status, 200);
}
