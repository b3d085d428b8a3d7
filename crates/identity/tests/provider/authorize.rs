//! Authorization requests: what is told to whom, and what a browser is asked.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use identity::{Client, Written};
use serde_json::json;
use store::Expect;

use crate::support::{
    Browser, CALLBACK, HandClock, ISSUER, Reply, TestBed, authorization, form, payload, query, read_form,
    secret, web,
};

#[tokio::test]
async fn nothing_is_sent_to_an_address_that_is_not_registered() {
    let testbed = TestBed::new().await;
    for uri in [
        "https://evil.example/cb",
        "https://app.example/cb/",
        "https://app.example/cb?x=1",
        "https://app.example/cb#x",
        "https://app.example.evil.example/cb",
        "https://app.example@evil.example/cb",
        "https://app.example/cb/../../evil",
        "https://APP.example/cb",
        "http://app.example/cb",
        "javascript:alert(1)//https://app.example/cb",
        "//app.example/cb",
        "/cb",
        "",
    ] {
        for more in [[("x", "x")], [("prompt", "none")], [("response_type", "token")]] {
            let mut pairs = vec![("redirect_uri", uri)];
            pairs.extend(more);
            let reply = testbed.get(&authorization("web", &pairs)).await;
            assert_eq!((reply.status.as_u16(), reply.field("location")), (400, ""), "{uri}");
            assert!(reply.field("content-type").starts_with("text/html"), "{uri}");
            assert!(!reply.text.contains("evil"), "{uri}");
        }
    }
    let unknown = testbed.get(&authorization("nobody", &[])).await;
    assert_eq!((unknown.status.as_u16(), unknown.field("location")), (400, ""));
    let twice = format!("{}&redirect_uri=https%3A%2F%2Fevil.example", authorization("web", &[]));
    assert_eq!(testbed.get(&twice).await.field("location"), "");
}

/// OAuth 2.1 §4.1.1: who has one address need not name it, unless OpenID Connect is asked for.
#[tokio::test]
async fn an_address_may_be_left_out_where_one_is_registered_and_nothing_of_openid_is_asked() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let (none, orders) = (("redirect_uri", ""), ("scope", "orders:read"));
    for pairs in [[none, ("scope", "openid")], [none, ("scope", "orders:read openid")]] {
        let reply = browser.authorize("web", &pairs).await;
        assert_eq!((reply.status.as_u16(), reply.field("location")), (400, ""), "{pairs:?}");
    }
    let page = browser.authorize("web", &[none, orders]).await;
    let answer = browser.log_in(&page).await.answer();
    assert_eq!(testbed.redeem("web", &answer["code"]).await.status, 200);
    assert!(browser.authorize("web", &[none, ("scope", "")]).await.answer().contains_key("code"));
    // To one address that is wrong nothing is sent, nor to one of several.
    let reply = browser.authorize("web", &[("redirect_uri", "https://evil.example/cb"), orders]).await;
    assert_eq!((reply.status.as_u16(), reply.field("location")), (400, ""));
    let mut two = web("web", secret());
    two.redirect_uris.push("https://app.example/other".to_owned());
    testbed.put(two).await;
    let reply = browser.authorize("web", &[none, orders]).await;
    assert_eq!((reply.status.as_u16(), reply.field("location")), (400, ""));
}

#[tokio::test]
async fn the_client_is_told_by_code_with_state_and_issuer() {
    let testbed = TestBed::new().await;
    for (error, pairs) in [
        ("unsupported_response_type", &[("response_type", "token")][..]),
        ("unsupported_response_type", &[("response_type", "code id_token")]),
        ("invalid_request", &[("response_type", "")]),
        ("invalid_request", &[("code_challenge", "")]),
        ("invalid_request", &[("code_challenge_method", "plain")]),
        ("invalid_request", &[("code_challenge_method", "")]),
        ("invalid_scope", &[("scope", "admin")]),
        ("invalid_scope", &[("scope", "openid \"email\"")]),
        ("invalid_request", &[("response_mode", "web_message")]),
        ("invalid_target", &[("resource", "https://payments.example.org")]),
        ("invalid_target", &[("resource", "https://orders.example.org#x")]),
        ("invalid_request", &[("prompt", "none login")]),
        ("invalid_request", &[("max_age", "-1")]),
        ("invalid_request", &[("claims", "[]")]),
        ("invalid_request", &[("id_token_hint", "x")]),
        ("request_not_supported", &[("request", "x")]),
        ("request_uri_not_supported", &[("request_uri", "https://app.example/request")]),
        ("registration_not_supported", &[("registration", "{}")]),
        ("login_required", &[("prompt", "none")]),
    ] {
        let answer = testbed.get(&authorization("web", pairs)).await.answer();
        let found = (answer["error"].as_str(), answer["state"].as_str(), answer["iss"].as_str());
        assert_eq!(found, (error, "the state", ISSUER), "{pairs:?}");
        assert!(!answer.contains_key("code"));
    }
}

#[tokio::test]
async fn prompts_and_ages_ask_for_a_login() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    assert!(browser.authorize("web", &[("prompt", "none")]).await.answer().contains_key("code"));
    let at_once = browser.authorize("web", &[("max_age", "0")]).await;
    assert!(at_once.text.contains("type=\"password\""), "zero: whenever they logged in");
    testbed.advance(100);
    for (pairs, asks) in [
        (&[("max_age", "100")][..], false),
        (&[("max_age", "99")], true),
        (&[("max_age", "0")], true),
        (&[("prompt", "login")], true),
        (&[("prompt", "select_account")], true),
        (&[("acr_values", "1")], false),
        (&[("acr_values", "2")], false),
    ] {
        let reply = browser.authorize("web", pairs).await;
        assert_eq!(reply.text.contains("type=\"password\""), asks, "{pairs:?}");
    }
    let quiet = browser.authorize("web", &[("prompt", "none"), ("max_age", "99")]).await.answer();
    assert_eq!(quiet["error"], "login_required");
    // Logging in again renews the session, and the token says so.
    let page = browser.authorize("web", &[("prompt", "login")]).await;
    let answer = browser.log_in(&page).await.answer();
    let tokens = testbed.redeem("web", &answer["code"]).await.json();
    assert_eq!(payload(tokens["id_token"].as_str().unwrap())["auth_time"], json!(crate::support::NOW + 100));
}

#[tokio::test]
async fn a_class_that_cannot_be_reached_is_told_when_it_is_essential() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    let claims =
        |value: &str| format!(r#"{{"id_token":{{"acr":{{"essential":true,"values":["{value}"]}}}}}}"#);
    let met = browser.authorize("web", &[("claims", &claims("1"))]).await.answer();
    assert!(met.contains_key("code"));
    let unmet = browser.authorize("web", &[("claims", &claims("3"))]).await.answer();
    assert_eq!(unmet["error"], "unmet_authentication_requirements");
}

#[tokio::test]
async fn a_hint_names_the_person_who_has_to_be_there() {
    let testbed = TestBed::new().await;
    testbed.give_password("bob").await;
    let mut browser = Browser::new(&testbed);
    let code = browser.log_in_for("web", &[]).await["code"].clone();
    let tokens = testbed.redeem("web", &code).await.json();
    let hint = tokens["id_token"].as_str().unwrap();
    assert!(
        browser
            .authorize("web", &[("prompt", "none"), ("id_token_hint", hint)])
            .await
            .answer()
            .contains_key("code")
    );
    // An access token is no ID token, and another client's is none of this client's.
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(
        browser.authorize("web", &[("id_token_hint", access)]).await.answer()["error"],
        "invalid_request"
    );
    assert_eq!(
        browser.authorize("spa", &[("id_token_hint", hint)]).await.answer()["error"],
        "invalid_request"
    );

    let mut other = Browser::new(&testbed);
    let page = other.authorize("web", &[]).await;
    other.submit(&page, &[("username", "bob"), ("password", crate::support::PASSWORD)]).await.answer();
    let quiet = other.authorize("web", &[("prompt", "none"), ("id_token_hint", hint)]).await.answer();
    assert_eq!(quiet["error"], "login_required");
    let page = other.authorize("web", &[("id_token_hint", hint)]).await;
    let wrong = other.submit(&page, &[("username", "bob"), ("password", crate::support::PASSWORD)]).await;
    assert_eq!(wrong.answer()["error"], "login_required");
    // Asked for by claims, the same.
    let claims = r#"{"id_token":{"sub":{"value":"alice"}}}"#;
    assert_eq!(
        other.authorize("web", &[("prompt", "none"), ("claims", claims)]).await.answer()["error"],
        "login_required"
    );
    assert!(
        browser
            .authorize("web", &[("prompt", "none"), ("claims", claims)])
            .await
            .answer()
            .contains_key("code")
    );
}

#[tokio::test]
async fn an_answer_can_be_a_form() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    let hostile = "\"><script>alert(1)</script>";
    let reply = browser.authorize("web", &[("response_mode", "form_post"), ("state", hostile)]).await;
    let (action, fields) = crate::support::read_form(&reply.text);
    assert_eq!((action.as_str(), fields["iss"].as_str()), (CALLBACK, ISSUER));
    assert_eq!(testbed.redeem("web", &fields["code"]).await.status, 200);
    assert!(!reply.text.contains("<script>alert"), "{}", reply.text);
    let policy = reply.field("content-security-policy");
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("form-action 'self' https:;"), "{policy}");
}

#[tokio::test]
async fn consent_is_asked_once_and_for_more_again() {
    let testbed = TestBed::new().await;
    let mut other = web("other", secret());
    other.name = "The <b>Other</b>".to_owned();
    other.trusted = false;
    testbed.put(other).await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("other", &[("scope", "openid orders:read")]).await;
    let consent = browser.log_in(&page).await;
    for text in ["know who you are", "see your orders", "&#60;b&#62;Other"] {
        assert!(consent.text.contains(text), "{}", consent.text);
    }
    // No answer without a decision, from whoever knows the address.
    let quiet = browser.authorize("other", &[("prompt", "none")]).await.answer();
    assert_eq!(quiet["error"], "consent_required");
    let denied = browser.submit(&consent, &[("decision", "deny")]).await.answer();
    assert_eq!((denied["error"].as_str(), denied["state"].as_str()), ("access_denied", "the state"));

    let consent = browser.authorize("other", &[("scope", "openid orders:read")]).await;
    let answer = browser.submit(&consent, &[("decision", "allow")]).await.answer();
    assert!(answer.contains_key("code"));
    for (pairs, asks) in [
        (&[("scope", "openid orders:read")][..], false),
        (&[("scope", "orders:read")], false),
        (&[("scope", "openid orders:read"), ("prompt", "consent")], true),
        (&[("scope", "openid orders:write")], true),
        (&[("scope", "openid"), ("claims", r#"{"userinfo":{"email":null}}"#)], true),
    ] {
        let reply = browser.authorize("other", pairs).await;
        assert_eq!(reply.text.contains("asks for access"), asks, "{pairs:?}");
    }
    // A trusted client asks only when it wants to.
    assert!(browser.authorize("web", &[("prompt", "consent")]).await.text.contains("asks for access"));
}

#[tokio::test]
async fn the_page_names_scopes_in_the_order_of_the_configuration() {
    let clock = HandClock::new();
    let store = store::Store::in_memory(Arc::clone(&clock) as Arc<dyn model::Clock>).unwrap();
    let own = ["zebra", "apple", "middle"];
    let testbed = TestBed::on(store, clock, |settings| {
        for name in own.iter().chain(&["last"]) {
            settings.scopes.insert((*name).to_owned(), format!("see the {name}"));
        }
        settings.scope_order = own.map(str::to_owned).to_vec();
    })
    .await;
    let all = "address apple email last middle offline_access openid phone profile zebra";
    let mut other = web("other", secret());
    other.trusted = false;
    other.scopes = all.split(' ').map(str::to_owned).collect();
    testbed.put(other).await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("other", &[("scope", all)]).await;
    let consent = browser.log_in(&page).await;
    let texts = [
        "know who you are",
        "your name and profile",
        "your e-mail address",
        "your phone number",
        "your postal address",
        "see the zebra",
        "see the apple",
        "see the middle",
        "see the last",
        "while you are away",
    ];
    let places =
        texts.map(|text| consent.text.find(text).unwrap_or_else(|| panic!("{text}: {}", consent.text)));
    assert!(places.is_sorted(), "{places:?} {}", consent.text);
}

#[tokio::test]
async fn one_persons_consent_is_not_anothers() {
    let testbed = TestBed::new().await;
    testbed.give_password("bob").await;
    let mut other = web("other", secret());
    other.trusted = false;
    testbed.put(other).await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("other", &[("prompt", "consent")]).await;
    let consent = browser.log_in(&page).await;
    let (action, hidden) = crate::support::read_form(&consent.text);
    let mut fields: Vec<_> = hidden.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    fields.push(("decision", "allow"));
    let next = browser.post_and_stay(&action, &fields).await.field("location").to_owned();
    // In another tab, before the browser goes on.
    let page = browser.authorize("web", &[("prompt", "login")]).await;
    browser.submit(&page, &[("username", "bob"), ("password", crate::support::PASSWORD)]).await.answer();
    let asked = browser.go(&next).await;
    assert!(asked.text.contains("<strong>bob</strong>"), "{asked:?}");
}

#[tokio::test]
async fn the_request_can_be_posted() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let address = authorization("web", &[]);
    let pairs = query(&address);
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let page = browser.post(&format!("{ISSUER}/authorize"), &pairs).await;
    assert!(browser.log_in(&page).await.answer().contains_key("code"));
    let json = Request::post(format!("{ISSUER}/authorize"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(form(&pairs)))
        .unwrap();
    assert_eq!(testbed.send(json).await.status, 415);
}

#[tokio::test]
async fn what_is_not_understood_is_left_alone() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let pairs = [
        ("display", "popup"),
        ("ui_locales", "de en"),
        ("claims_locales", "de"),
        ("nonce", ""),
        ("something", "else"),
        ("acr_values", "gold silver"),
    ];
    let answer = browser.log_in_for("web", &pairs).await;
    let tokens = testbed.redeem("web", &answer["code"]).await.json();
    let claims = payload(tokens["id_token"].as_str().unwrap());
    assert_eq!((&claims["sub"], claims.get("nonce")), (&json!("alice"), None));
}

#[tokio::test]
async fn a_native_client_is_not_answered_by_a_session_alone() {
    let testbed = TestBed::new().await;
    for (id, trusted) in [("native", false), ("own-native", true)] {
        let mut native = web(id, identity::ClientAuthentication::None);
        native.redirect_uris = vec!["http://127.0.0.1/cb".to_owned(), CALLBACK.to_owned()];
        native.trusted = trusted;
        testbed.put(native).await;
    }
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    // Any program of this machine may listen there and call itself so.
    let port = ("redirect_uri", "http://127.0.0.1:49152/cb");
    for client in ["native", "own-native"] {
        for _ in 0..2 {
            let page = browser.authorize(client, &[port]).await;
            assert!(page.text.contains("asks for access"), "{client}: {page:?}");
            let quiet = browser.authorize(client, &[port, ("prompt", "none")]).await;
            assert_eq!(query(quiet.field("location"))["error"], "consent_required", "{client}");
            let answer = browser.submit(&page, &[("decision", "allow")]).await;
            assert!(query(answer.field("location")).contains_key("code"), "{client}");
        }
    }
    // An address that only the client can be at tells who it is.
    assert!(browser.authorize("own-native", &[]).await.answer().contains_key("code"));
    assert!(browser.authorize("native", &[]).await.answer().contains_key("code"));
    // Who logs in for it knows what for.
    let page = browser.authorize("own-native", &[port, ("prompt", "login")]).await;
    let answer = browser.log_in(&page).await;
    assert!(query(answer.field("location")).contains_key("code"));
}

#[tokio::test]
async fn a_hint_is_understood_for_as_long_as_the_session_lasts() {
    let day = 24 * 3600;
    let testbed = TestBed::with(|settings| {
        settings.lifetimes.session_idle = std::time::Duration::from_secs(day);
    })
    .await;
    // Logged in at the last moment of the keys.
    testbed.advance(29 * day);
    testbed.realm.rotate_keys().await.unwrap();
    testbed.advance(day - 1);
    testbed.realm.rotate_keys().await.unwrap();
    let mut browser = Browser::new(&testbed);
    let code = browser.log_in_for("web", &[]).await["code"].clone();
    let tokens = testbed.redeem("web", &code).await.json();
    let hint = tokens["id_token"].as_str().unwrap();
    let access = tokens["access_token"].as_str().unwrap();
    testbed.advance(day - 1);
    testbed.realm.rotate_keys().await.unwrap();
    let jwks = testbed.get(&format!("{ISSUER}/jwks")).await.json();
    let head = hint.split('.').next().unwrap();
    let head = keys::encoding::decode_base64url(head.as_bytes()).unwrap();
    let head: serde_json::Value = serde_json::from_slice(&head).unwrap();
    assert!(!jwks["keys"].as_array().unwrap().iter().any(|key| key["kid"] == head["kid"]), "published still");
    let quiet = browser.authorize("web", &[("prompt", "none"), ("id_token_hint", hint)]).await.answer();
    assert!(quiet.contains_key("code"), "{quiet:?}");
    // It is a hint and nothing more.
    let reply = testbed
        .send(
            Request::get(format!("{ISSUER}/userinfo"))
                .header(header::AUTHORIZATION, format!("Bearer {access}"))
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert_eq!(reply.status, 401);
    // And with the keys that somebody else may know, it ends.
    testbed.realm.replace_keys(true).await.unwrap();
    let quiet = browser.authorize("web", &[("prompt", "none"), ("id_token_hint", hint)]).await.answer();
    assert_eq!(quiet["error"], "invalid_request");
}

/// What may become of a client while a person is on their way.
const CHANGES: [&str; 3] = ["another address", "switched off", "removed"];

async fn change(testbed: &TestBed, client: &Client, how: &str) {
    let mut changed = client.clone();
    match how {
        "removed" => {
            assert_eq!(testbed.realm.remove_client(&client.id, Expect::Any).await.unwrap(), Written::Done);
            return;
        }
        "switched off" => changed.disabled = true,
        _ => changed.redirect_uris = vec!["https://app.example/other".to_owned()],
    }
    testbed.put(changed).await;
}

/// Refused by a page that says why, and nothing is sent anywhere.
fn stays_here(reply: &Reply, what: &str) {
    assert_eq!((reply.status.as_u16(), reply.field("location")), (400, ""), "{what}");
    assert!(reply.text.contains("not registered"), "{what}: {}", reply.text);
    assert!(!reply.text.contains(CALLBACK), "{what}: {}", reply.text);
}

#[tokio::test]
async fn an_answer_goes_only_where_the_client_is_registered_at_that_moment() {
    for how in CHANGES {
        for mode in ["query", "form_post"] {
            let testbed = TestBed::new().await;
            let mut asking = web("asking", secret());
            asking.trusted = false;
            testbed.put(asking.clone()).await;
            let begin = [("response_mode", mode)];
            // At the login, and with a login that was shown for another client meanwhile.
            let mut browser = Browser::new(&testbed);
            let login = browser.authorize("asking", &begin).await;
            let mut other = Browser::new(&testbed);
            let other_login = other.authorize("asking", &begin).await;
            let flow = read_form(&other_login.text).1["flow"].clone();
            other.log_in_for("web", &[]).await;
            // Before what was asked is allowed, denied, or looked at.
            let mut third = Browser::new(&testbed);
            let page = third.authorize("asking", &begin).await;
            let consent = third.log_in(&page).await;
            assert!(consent.text.contains("decision"), "{}", consent.text);
            change(&testbed, &asking, how).await;
            stays_here(&browser.log_in(&login).await, how);
            stays_here(&other.go(&format!("{ISSUER}/flow?{}", form(&[("flow", &flow)]))).await, how);
            let flow = read_form(&consent.text).1["flow"].clone();
            for page in ["consent", "flow"] {
                let address = format!("{ISSUER}/{page}?{}", form(&[("flow", &flow)]));
                stays_here(&third.go(&address).await, how);
            }
            for decision in ["allow", "deny"] {
                stays_here(&third.submit(&consent, &[("decision", decision)]).await, how);
            }
            // As it was, the person goes on.
            asking.disabled = false;
            testbed.put(asking.clone()).await;
            let reply = third.submit(&consent, &[("decision", "deny")]).await;
            let sent = if mode == "query" { reply.field("location") } else { reply.text.as_str() };
            assert!(sent.contains("access_denied") && sent.contains("app.example/cb"), "{how}: {sent}");
        }
    }
}

#[tokio::test]
async fn what_a_client_lost_since_somebody_decided_is_not_granted() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let scope = [("scope", "openid offline_access orders:read orders:write")];
    let code = browser.log_in_for("web", &scope).await["code"].clone();
    let mut fewer = web("web", secret());
    fewer.scopes.retain(|scope| scope != "orders:write" && scope != "offline_access");
    testbed.put(fewer).await;
    let tokens = testbed.redeem("web", &code).await.json();
    let claims = payload(tokens["access_token"].as_str().unwrap());
    assert_eq!(claims["scope"], "openid orders:read");
    assert!(claims["sid"].is_string(), "it ends with its session: {claims}");
}
