//! Devices without keyboard.

use identity::login::acr::AcrLevel;
use identity::{ClientAuthentication, GrantType, RealmSettings};
use serde_json::Value;

use crate::factors::App;
use crate::support::{Browser, ISSUER, Reply, TestBed, client, payload, read_form};

const GRANT: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");

async fn testbed() -> TestBed {
    let testbed = TestBed::new().await;
    for name in ["tv", "radio"] {
        put(&testbed, name, None).await;
    }
    testbed
}

async fn put(testbed: &TestBed, name: &str, acr: Option<&str>) {
    let mut device = client(name, ClientAuthentication::None);
    device.name = format!("The {name}");
    device.grant_types = [GrantType::DeviceCode, GrantType::RefreshToken].into();
    device.scopes = ["openid", "orders:read"].map(str::to_owned).into();
    device.acr = acr.map(str::to_owned);
    testbed.put(device).await;
}

/// A test bed whose tv asks for this class.
async fn strict(acr: &str, change: impl FnOnce(&mut RealmSettings)) -> TestBed {
    let testbed = TestBed::with(change).await;
    put(&testbed, "tv", Some(acr)).await;
    testbed
}

async fn begin(testbed: &TestBed) -> Value {
    let reply =
        testbed.post("/device_authorization", &[("client_id", "tv"), ("scope", "openid orders:read")]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

async fn ask(testbed: &TestBed, client: &str, device: &Value) -> Reply {
    let code = device["device_code"].as_str().unwrap();
    testbed.post("/token", &[GRANT, ("device_code", code), ("client_id", client)]).await
}

async fn open<'a>(testbed: &'a TestBed, address: &str) -> (Browser<'a>, Reply) {
    let mut browser = Browser::new(testbed);
    let login = browser.go(address).await;
    let page = browser.log_in(&login).await;
    (browser, page)
}

#[tokio::test]
async fn a_person_allows_what_the_device_shows() {
    let testbed = testbed().await;
    let device = begin(&testbed).await;
    assert_eq!((&device["expires_in"], &device["interval"]), (&600.into(), &5.into()));
    ask(&testbed, "tv", &device).await.refused(400, "authorization_pending");
    let complete = device["verification_uri_complete"].as_str().unwrap();
    let (mut browser, page) = open(&testbed, complete).await;
    // Opening the address decides nothing.
    let shown = device["user_code"].as_str().unwrap();
    assert!(page.text.contains(shown), "{}", page.text);
    testbed.advance(5);
    ask(&testbed, "tv", &device).await.refused(400, "authorization_pending");
    let confirm = browser.submit(&page, &[("user_code", &shown.to_lowercase().replace('-', " "))]).await;
    assert!(confirm.text.contains("The tv") && confirm.text.contains("see your orders"), "{}", confirm.text);
    assert!(browser.submit(&confirm, &[("decision", "allow")]).await.text.contains("Connected"));
    ask(&testbed, "radio", &device).await.refused(400, "invalid_grant");
    testbed.advance(5);
    let tokens = ask(&testbed, "tv", &device).await.json();
    assert_eq!(tokens["scope"], "openid orders:read");
    assert!(
        tokens["id_token"].is_string() && testbed.is_active(tokens["access_token"].as_str().unwrap()).await
    );
    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
        ("client_id", "tv"),
    ];
    assert_eq!(testbed.post("/token", &refresh).await.status, 200);
    ask(&testbed, "tv", &device).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn a_person_denies_and_a_code_ends() {
    let testbed = testbed().await;
    let device = begin(&testbed).await;
    let (mut browser, page) = open(&testbed, &format!("{ISSUER}/device")).await;
    let confirm = browser.submit(&page, &[("user_code", device["user_code"].as_str().unwrap())]).await;
    browser.submit(&confirm, &[("decision", "deny")]).await;
    ask(&testbed, "tv", &device).await.refused(400, "access_denied");
    let device = begin(&testbed).await;
    testbed.advance(600);
    ask(&testbed, "tv", &device).await.refused(400, "expired_token");
    let late = browser.submit(&page, &[("user_code", device["user_code"].as_str().unwrap())]).await;
    assert!(late.text.contains("No device waits"), "{}", late.text);
    testbed.advance(300);
    ask(&testbed, "tv", &device).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn a_decision_counts_at_a_moment_at_which_the_device_asks_and_is_told_twice() {
    let testbed = testbed().await;
    let (mut browser, page) = open(&testbed, &format!("{ISSUER}/device")).await;
    for (decision, other, told) in [("allow", "deny", "Connected"), ("deny", "allow", "Not connected")] {
        let device = begin(&testbed).await;
        let confirm = browser.submit(&page, &[("user_code", device["user_code"].as_str().unwrap())]).await;
        let pressed = [("decision", decision)];
        let (asked, reply) = tokio::join!(ask(&testbed, "tv", &device), browser.submit(&confirm, &pressed));
        assert!(reply.text.contains(told), "{}", reply.text);
        // A browser shows the answer to the last of two.
        let again = browser.submit(&confirm, &pressed).await;
        assert!(again.text.contains(told), "{}", again.text);
        let another = browser.submit(&confirm, &[("decision", other)]).await;
        assert!(another.text.contains("No device waits"), "{}", another.text);
        if asked.text.contains("authorization_pending") {
            testbed.advance(5);
            let status = if decision == "allow" { 200 } else { 400 };
            assert_eq!(ask(&testbed, "tv", &device).await.status, status);
        }
    }
}

#[tokio::test]
async fn a_device_that_asks_too_often_slows_down() {
    let testbed = testbed().await;
    let device = begin(&testbed).await;
    ask(&testbed, "tv", &device).await.refused(400, "authorization_pending");
    testbed.advance(4);
    ask(&testbed, "tv", &device).await.refused(400, "slow_down");
    testbed.advance(9);
    ask(&testbed, "tv", &device).await.refused(400, "slow_down");
    testbed.advance(15);
    ask(&testbed, "tv", &device).await.refused(400, "authorization_pending");
}

#[tokio::test]
async fn codes_cannot_be_guessed_or_decided_by_others() {
    let testbed = testbed().await;
    let device = begin(&testbed).await;
    let (mut browser, page) = open(&testbed, &format!("{ISSUER}/device")).await;
    let code = device["user_code"].as_str().unwrap();
    // A form that is not ours (RFC 8628 §5.4).
    let (action, _) = crate::support::read_form(&page.text);
    let forged = [("user_code", code), ("decision", "allow"), ("csrf", "x")];
    assert_eq!(browser.post(&action, &forged).await.status, 400);
    for _ in 0..20 {
        let wrong = browser.submit(&page, &[("user_code", "BBBB-BBBB")]).await;
        assert!(wrong.text.contains("No device waits"), "{}", wrong.text);
    }
    assert_eq!(browser.submit(&page, &[("user_code", code)]).await.status, 400, "twenty were enough");
    testbed.advance(5);
    ask(&testbed, "tv", &device).await.refused(400, "authorization_pending");
    let other = [("client_id", "web"), ("client_secret", crate::support::SECRET)];
    testbed.post("/device_authorization", &other).await.refused(400, "unauthorized_client");
    let scope = [("client_id", "tv"), ("scope", "admin")];
    testbed.post("/device_authorization", &scope).await.refused(400, "invalid_scope");
}

#[tokio::test]
async fn a_client_that_asks_for_a_stronger_login_gets_it_for_its_devices_too() {
    let testbed = strict("2", |_| {}).await;
    let device = begin(&testbed).await;
    let code = device["user_code"].as_str().unwrap();
    let (mut browser, page) = open(&testbed, &format!("{ISSUER}/device")).await;
    assert!(page.text.contains("name=\"user_code\""), "the password is enough for the page: {page:?}");
    // The decision without the question: the same.
    for pairs in [&[("user_code", code), ("decision", "allow")][..], &[("user_code", code)]] {
        let more = browser.submit(&page, pairs).await;
        assert!(more.text.contains("Set up a second factor"), "{more:?}");
        testbed.advance(5);
        ask(&testbed, "tv", &device).await.refused(400, "authorization_pending");
    }
    let more = browser.submit(&page, &[("user_code", code)]).await;
    let app = App::scan(&more);
    browser.submit(&more, &[("code", &app.code(&testbed, 0))]).await;
    let (_, hidden) = read_form(&more.text);
    let page = browser.go(&format!("/realms/shop/flow?flow={}", hidden["flow"])).await;
    assert!(page.text.contains(code), "back with the code: {page:?}");
    let confirm = browser.submit(&page, &[("user_code", code)]).await;
    assert!(browser.submit(&confirm, &[("decision", "allow")]).await.text.contains("Connected"));
    testbed.advance(5);
    let tokens = ask(&testbed, "tv", &device).await.json();
    assert_eq!(payload(tokens["id_token"].as_str().unwrap())["acr"], "2");
}

#[tokio::test]
async fn whoever_cannot_log_in_as_strongly_connects_no_device_and_may_deny() {
    // By password, code and passkey: out of reach of who has neither.
    let all =
        AcrLevel { name: "3".to_owned(), any_of: vec![["pwd", "otp", "hwk"].map(str::to_owned).into()] };
    let testbed = strict("3", |settings| settings.acr_levels.push(all)).await;
    let device = begin(&testbed).await;
    let code = device["user_code"].as_str().unwrap();
    let (mut browser, page) = open(&testbed, &format!("{ISSUER}/device")).await;
    for pairs in [&[("user_code", code)][..], &[("user_code", code), ("decision", "allow")]] {
        let refused = browser.submit(&page, pairs).await;
        assert!(refused.status == 400 && refused.text.contains("a stronger login"), "{refused:?}");
    }
    ask(&testbed, "tv", &device).await.refused(400, "authorization_pending");
    browser.submit(&page, &[("user_code", code), ("decision", "deny")]).await;
    ask(&testbed, "tv", &device).await.refused(400, "access_denied");
}

#[tokio::test]
async fn what_is_asked_of_a_person_meanwhile_is_asked_of_their_device() {
    let testbed =
        TestBed::with(|settings| drop(settings.factors.roles.insert("admin".into(), "2".into()))).await;
    put(&testbed, "tv", None).await;
    let allowed = async || {
        let device = begin(&testbed).await;
        let (mut browser, page) = open(&testbed, &format!("{ISSUER}/device")).await;
        let confirm = browser.submit(&page, &[("user_code", device["user_code"].as_str().unwrap())]).await;
        assert!(browser.submit(&confirm, &[("decision", "allow")]).await.text.contains("Connected"));
        device
    };
    let device = allowed().await;
    assert_eq!(ask(&testbed, "tv", &device).await.status, 200);
    let device = allowed().await;
    put(&testbed, "tv", Some("2")).await;
    ask(&testbed, "tv", &device).await.refused(400, "invalid_grant");
    put(&testbed, "tv", None).await;
    let device = allowed().await;
    let mut alice = testbed.realm.find_user("alice").await.unwrap().unwrap();
    alice.roles.insert("admin".to_owned());
    testbed.realm.put_user(&alice).await.unwrap();
    ask(&testbed, "tv", &device).await.refused(400, "invalid_grant");
}
