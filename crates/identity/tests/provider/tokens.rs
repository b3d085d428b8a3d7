//! Client credentials, introspection, revocation, userinfo.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::support::{ISSUER, NOW, ORDERS, PAYMENTS, SECRET, TestBed, payload};

async fn machine(testbed: &TestBed, pairs: &[(&str, &str)]) -> crate::support::Reply {
    let mut all =
        vec![("grant_type", "client_credentials"), ("client_id", "service"), ("client_secret", SECRET)];
    all.extend(pairs);
    testbed.post("/token", &all).await
}

fn access(tokens: &Value) -> &str {
    tokens["access_token"].as_str().unwrap()
}

async fn userinfo(testbed: &TestBed, authorization: &str) -> crate::support::Reply {
    let request = Request::get(format!("{ISSUER}/userinfo")).header("authorization", authorization);
    testbed.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_machine_gets_tokens_for_what_it_may_reach() {
    let testbed = TestBed::new().await;
    let tokens = machine(&testbed, &[("scope", "orders:read"), ("resource", ORDERS)]).await.json();
    assert!(tokens.get("refresh_token").is_none() && tokens.get("id_token").is_none());
    let (token_type, mut claims) = testbed.claims(access(&tokens)).await;
    assert!(claims.as_object_mut().unwrap().remove("jti").is_some());
    assert_eq!(token_type, "at+jwt");
    let expected = json!({
        "iss": ISSUER, "sub": "service", "aud": ORDERS, "client_id": "service", "iat": NOW, "exp": NOW + 300,
        "scope": "orders:read", "roles": ["machine"],
    });
    assert_eq!(claims, expected);
    let both = machine(&testbed, &[("resource", ORDERS), ("resource", PAYMENTS)]).await.json();
    assert_eq!(payload(access(&both))["aud"], json!([ORDERS, PAYMENTS]));
    machine(&testbed, &[("resource", "https://other.example.org")]).await.refused(400, "invalid_target");
    machine(&testbed, &[("resource", "orders")]).await.refused(400, "invalid_target");
    machine(&testbed, &[("scope", "openid")]).await.refused(400, "invalid_scope");
    machine(&testbed, &[("scope", "admin")]).await.refused(400, "invalid_scope");
}

#[tokio::test]
async fn resources_choose_algorithm_and_life() {
    let testbed = TestBed::with(|settings| {
        let own = identity::Resource {
            algorithm: Some(keys::Algorithm::Rs256),
            access_token: Some(std::time::Duration::from_secs(30)),
            scopes: ["pay".to_owned()].into(),
        };
        settings.resources.insert(PAYMENTS.to_owned(), own);
    })
    .await;
    let tokens = machine(&testbed, &[("resource", PAYMENTS), ("scope", "pay")]).await.json();
    assert_eq!(tokens["expires_in"], json!(30));
    let header = keys::jws::Unverified::parse(access(&tokens).as_bytes()).unwrap();
    assert_eq!(header.algorithm(), keys::Algorithm::Rs256);
    machine(&testbed, &[("resource", PAYMENTS), ("scope", "orders:read")])
        .await
        .refused(400, "invalid_scope");
}

#[tokio::test]
async fn introspection_tells_those_who_may_know() {
    let testbed = TestBed::new().await;
    let tokens = testbed.tokens("web", "openid offline_access").await;
    let ask = |client: &'static str, token: String| {
        let testbed = &testbed;
        async move {
            let pairs = [("token", token.as_str()), ("client_id", client), ("client_secret", SECRET)];
            testbed.post("/introspect", &pairs).await
        }
    };
    let told = ask("api", access(&tokens).to_owned()).await.json();
    for (name, value) in [
        ("active", json!(true)),
        ("sub", json!("alice")),
        ("username", json!("alice")),
        ("client_id", json!("web")),
        ("token_type", json!("Bearer")),
        ("iss", json!(ISSUER)),
        ("roles", json!(["customer"])),
    ] {
        assert_eq!(told[name], value, "{name}");
    }
    let refresh = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(ask("web", refresh.to_owned()).await.json()["token_type"], "refresh_token");
    let nothing = json!({ "active": false });
    // Another client, a resource server that asks for refresh tokens, ID tokens, nonsense.
    assert_eq!(ask("service", access(&tokens).to_owned()).await.json(), nothing);
    assert_eq!(ask("api", refresh.to_owned()).await.json(), nothing);
    assert_eq!(ask("api", tokens["id_token"].as_str().unwrap().to_owned()).await.json(), nothing);
    for wrong in ["x", "a.b.c", &access(&tokens)[..access(&tokens).len() - 3]] {
        assert_eq!(ask("api", wrong.to_owned()).await.json(), nothing);
    }
    let public = [("token", access(&tokens)), ("client_id", "spa")];
    testbed.post("/introspect", &public).await.refused(401, "invalid_client");
    testbed.post("/introspect", &[("token", access(&tokens))]).await.refused(401, "invalid_client");
    testbed.advance(299);
    assert!(testbed.is_active(access(&tokens)).await);
    testbed.advance(1);
    assert!(!testbed.is_active(access(&tokens)).await);
}

#[tokio::test]
async fn tokens_are_revoked_by_their_client_alone() {
    let testbed = TestBed::new().await;
    let tokens = testbed.tokens("web", "openid offline_access").await;
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let revoke = |client: &'static str, token: String| {
        let testbed = &testbed;
        async move {
            let pairs = [("token", token.as_str()), ("client_id", client), ("client_secret", SECRET)];
            testbed.post("/revoke", &pairs).await
        }
    };
    // RFC 7009 §2.2: a token that is not valid is no error, whoever's it is.
    for token in [access(&tokens), refresh, "x"] {
        assert_eq!(revoke("service", token.to_owned()).await.status, 200);
    }
    assert!(testbed.is_active(access(&tokens)).await);
    assert_eq!(revoke("web", access(&tokens).to_owned()).await.status, 200);
    assert!(!testbed.is_active(access(&tokens)).await);
    let fresh = testbed.refresh("web", refresh).await.json();
    assert!(testbed.is_active(access(&fresh)).await, "the refresh token goes on");
    assert_eq!(revoke("web", fresh["refresh_token"].as_str().unwrap().to_owned()).await.status, 200);
    assert!(!testbed.is_active(access(&fresh)).await);
    testbed.refresh("web", fresh["refresh_token"].as_str().unwrap()).await.refused(400, "invalid_grant");
    // The one token, and the grant with all that came of it.
    let told = testbed.realm.revocations().await.unwrap();
    let id = payload(access(&tokens))["jti"].as_str().unwrap().to_owned();
    let grant = payload(access(&fresh))["jti"].as_str().unwrap().split('.').next().unwrap().to_owned();
    assert_eq!(told.iter().find_map(|one| one.token.clone()), Some(id));
    assert_eq!(told.iter().find_map(|one| one.grant.clone()), Some(grant));
    assert_eq!(told.len(), 2);
    // And forgets it when the tokens would be over, that of a refresh sent again in its grace too.
    testbed.advance(300 + 9 + keys::LEEWAY_MAX.as_secs());
    assert_eq!(testbed.realm.revocations().await.unwrap().len(), 1);
    testbed.advance(1);
    assert!(testbed.realm.revocations().await.unwrap().is_empty());
}

#[tokio::test]
async fn userinfo_says_what_was_granted() {
    let testbed = TestBed::new().await;
    let tokens = testbed.tokens("web", "openid email").await;
    let told = userinfo(&testbed, &format!("Bearer {}", access(&tokens))).await;
    assert_eq!(told.json(), json!({ "sub": "alice", "email": "alice@example.org", "email_verified": false }));
    assert_eq!(told.field("cache-control"), "no-store");
    let posted = testbed.post("/userinfo", &[("access_token", access(&tokens))]).await;
    assert_eq!(posted.json(), told.json());
    let in_address = testbed.get(&format!("{ISSUER}/userinfo?access_token={}", access(&tokens))).await;
    assert_eq!(in_address.status, 401);

    let none = testbed.get(&format!("{ISSUER}/userinfo")).await;
    assert_eq!((none.status.as_u16(), none.field("www-authenticate")), (401, "Bearer"));
    let api = testbed.tokens("web", "orders:read").await;
    let reply = userinfo(&testbed, &format!("Bearer {}", access(&api))).await;
    reply.refused(403, "insufficient_scope");
    assert!(reply.field("www-authenticate").contains("insufficient_scope"));
    let own = machine(&testbed, &[("scope", "orders:read")]).await.json();
    userinfo(&testbed, &format!("Bearer {}", access(&own))).await.refused(403, "insufficient_scope");
    for wrong in [tokens["id_token"].as_str().unwrap(), "x", ""] {
        userinfo(&testbed, &format!("Bearer {wrong}")).await.refused(401, "invalid_token");
    }
    let mut alice = identity::User::new("alice", "alice", model::Timestamp::default());
    alice.disabled = true;
    testbed.realm.put_user(&alice).await.unwrap();
    userinfo(&testbed, &format!("Bearer {}", access(&tokens))).await.refused(401, "invalid_token");
}

#[tokio::test]
async fn one_realms_tokens_are_nothing_to_another() {
    let testbed = TestBed::new().await;
    let other =
        TestBed::with(|settings| settings.issuer = "https://id.example.org/realms/other".to_owned()).await;
    let tokens = machine(&testbed, &[]).await.json();
    let request = Request::get("https://id.example.org/realms/other/userinfo")
        .header("authorization", format!("Bearer {}", access(&tokens)));
    other.send(request.body(Body::empty()).unwrap()).await.refused(401, "invalid_token");
}

#[tokio::test]
async fn each_scope_gives_its_claims() {
    let testbed = TestBed::new().await;
    let mut web = crate::support::web("web", crate::support::secret());
    web.scopes.extend(["address", "phone"].map(str::to_owned));
    testbed.put(web).await;
    let mut alice = identity::User::new("alice", "alice", model::Timestamp::from_unix_seconds(NOW));
    alice.name = Some("Alice Example".to_owned());
    alice.email = Some("alice@example.org".to_owned());
    alice.attributes = [
        ("given_name", json!("Alice")),
        ("address", json!({ "country": "FR" })),
        ("phone_number", json!("+33 1 23 45 67 89")),
        ("department", json!("sales")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    testbed.realm.put_user(&alice).await.unwrap();
    let profile = json!({
        "preferred_username": "alice", "name": "Alice Example", "given_name": "Alice", "updated_at": NOW,
    });
    let email = json!({ "email": "alice@example.org", "email_verified": false });
    let address = json!({ "address": { "country": "FR" } });
    let phone = json!({ "phone_number": "+33 1 23 45 67 89" });
    for (scope, parts) in [
        ("openid", vec![]),
        ("profile openid", vec![&profile]),
        ("openid email", vec![&email]),
        ("address openid", vec![&address]),
        ("openid phone", vec![&phone]),
        ("phone address openid email profile", vec![&profile, &email, &address, &phone]),
    ] {
        let mut expected = json!({ "sub": "alice" });
        for part in parts {
            expected.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        let tokens = testbed.tokens("web", scope).await;
        let told = userinfo(&testbed, &format!("Bearer {}", access(&tokens))).await.json();
        assert_eq!(told, expected, "{scope}");
    }
}

#[tokio::test]
async fn the_short_way_answers_as_the_router_does() {
    let testbed = TestBed::new().await;
    let tokens = machine(&testbed, &[("scope", "orders:read"), ("resource", ORDERS)]).await.json();
    let told = access(&tokens);
    let asked = format!("client_id=service&client_secret={SECRET}&token={told}");
    let wrong = "client_id=service&client_secret=wrong&grant_type=client_credentials".to_owned();
    for (endpoint, form) in [("introspect", asked), ("introspect", "token=x".to_owned()), ("token", wrong)] {
        let request = || {
            let request = Request::post(format!("{ISSUER}/{endpoint}"));
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            request.body(Body::from(form.clone())).unwrap()
        };
        let busy = identity::Busy::of(testbed.realm.settings().path(), &request()).unwrap();
        let response = busy.answer(testbed.realm.clone(), None, request()).await;
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let by_router = testbed.send(request()).await;
        assert_eq!((head.status, &*body), (by_router.status, by_router.text.as_bytes()), "{endpoint}");
        for (name, value) in by_router.headers.iter().filter(|(name, _)| *name != "content-length") {
            assert_eq!(head.headers.get(name), Some(value), "{endpoint}: {name}");
        }
    }
    for (method, path) in [("GET", "/token"), ("POST", "/token/"), ("POST", "/tokens"), ("POST", "/revoke")] {
        let request = Request::builder().method(method).uri(format!("{ISSUER}{path}"));
        let request = request.body(Body::empty()).unwrap();
        assert_eq!(identity::Busy::of(testbed.realm.settings().path(), &request), None, "{method} {path}");
    }
    let elsewhere = Request::post("https://id.example.org/token").body(Body::empty()).unwrap();
    assert_eq!(identity::Busy::of(testbed.realm.settings().path(), &elsewhere), None);
}
