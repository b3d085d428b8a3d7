//! Devices without keyboard.

use identity::login::acr::AcrLevel;
use identity::{ClientAuthentication, GrantType, RealmSettings};
use serde_json::Value;

use crate::factors::App;
use crate::support::{Browser, ISSUER, Reply, Town, client, payload, read_form};

const GRANT: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");

async fn town() -> Town {
    let town = Town::new().await;
    for name in ["tv", "radio"] {
        put(&town, name, None).await;
    }
    town
}

async fn put(town: &Town, name: &str, acr: Option<&str>) {
    let mut device = client(name, ClientAuthentication::None);
    device.name = format!("The {name}");
    device.grant_types = [GrantType::DeviceCode, GrantType::RefreshToken].into();
    device.scopes = ["openid", "orders:read"].map(str::to_owned).into();
    device.acr = acr.map(str::to_owned);
    town.put(device).await;
}

/// A town whose tv asks for this class.
async fn strict(acr: &str, change: impl FnOnce(&mut RealmSettings)) -> Town {
    let town = Town::with(change).await;
    put(&town, "tv", Some(acr)).await;
    town
}

async fn begin(town: &Town) -> Value {
    let reply =
        town.post("/device_authorization", &[("client_id", "tv"), ("scope", "openid orders:read")]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

async fn ask(town: &Town, client: &str, device: &Value) -> Reply {
    let code = device["device_code"].as_str().unwrap();
    town.post("/token", &[GRANT, ("device_code", code), ("client_id", client)]).await
}

async fn open<'a>(town: &'a Town, address: &str) -> (Browser<'a>, Reply) {
    let mut browser = Browser::new(town);
    let login = browser.go(address).await;
    let page = browser.log_in(&login).await;
    (browser, page)
}

#[tokio::test]
async fn a_person_allows_what_the_device_shows() {
    let town = town().await;
    let device = begin(&town).await;
    assert_eq!((&device["expires_in"], &device["interval"]), (&600.into(), &5.into()));
    ask(&town, "tv", &device).await.refused(400, "authorization_pending");
    let complete = device["verification_uri_complete"].as_str().unwrap();
    let (mut browser, page) = open(&town, complete).await;
    // Opening the address decides nothing.
    let shown = device["user_code"].as_str().unwrap();
    assert!(page.text.contains(shown), "{}", page.text);
    town.advance(5);
    ask(&town, "tv", &device).await.refused(400, "authorization_pending");
    let confirm = browser.submit(&page, &[("user_code", &shown.to_lowercase().replace('-', " "))]).await;
    assert!(confirm.text.contains("The tv") && confirm.text.contains("see your orders"), "{}", confirm.text);
    assert!(browser.submit(&confirm, &[("decision", "allow")]).await.text.contains("Connected"));
    ask(&town, "radio", &device).await.refused(400, "invalid_grant");
    town.advance(5);
    let tokens = ask(&town, "tv", &device).await.json();
    assert_eq!(tokens["scope"], "openid orders:read");
    assert!(tokens["id_token"].is_string() && town.is_active(tokens["access_token"].as_str().unwrap()).await);
    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
        ("client_id", "tv"),
    ];
    assert_eq!(town.post("/token", &refresh).await.status, 200);
    ask(&town, "tv", &device).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn a_person_denies_and_a_code_ends() {
    let town = town().await;
    let device = begin(&town).await;
    let (mut browser, page) = open(&town, &format!("{ISSUER}/device")).await;
    let confirm = browser.submit(&page, &[("user_code", device["user_code"].as_str().unwrap())]).await;
    browser.submit(&confirm, &[("decision", "deny")]).await;
    ask(&town, "tv", &device).await.refused(400, "access_denied");
    let device = begin(&town).await;
    town.advance(600);
    ask(&town, "tv", &device).await.refused(400, "expired_token");
    let late = browser.submit(&page, &[("user_code", device["user_code"].as_str().unwrap())]).await;
    assert!(late.text.contains("No device waits"), "{}", late.text);
    town.advance(300);
    ask(&town, "tv", &device).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn a_device_that_asks_too_often_slows_down() {
    let town = town().await;
    let device = begin(&town).await;
    ask(&town, "tv", &device).await.refused(400, "authorization_pending");
    town.advance(4);
    ask(&town, "tv", &device).await.refused(400, "slow_down");
    town.advance(9);
    ask(&town, "tv", &device).await.refused(400, "slow_down");
    town.advance(15);
    ask(&town, "tv", &device).await.refused(400, "authorization_pending");
}

#[tokio::test]
async fn codes_cannot_be_guessed_or_decided_by_others() {
    let town = town().await;
    let device = begin(&town).await;
    let (mut browser, page) = open(&town, &format!("{ISSUER}/device")).await;
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
    town.advance(5);
    ask(&town, "tv", &device).await.refused(400, "authorization_pending");
    let other = [("client_id", "web"), ("client_secret", crate::support::SECRET)];
    town.post("/device_authorization", &other).await.refused(400, "unauthorized_client");
    let scope = [("client_id", "tv"), ("scope", "admin")];
    town.post("/device_authorization", &scope).await.refused(400, "invalid_scope");
}

#[tokio::test]
async fn a_client_that_asks_for_a_stronger_login_gets_it_for_its_devices_too() {
    let town = strict("2", |_| {}).await;
    let device = begin(&town).await;
    let code = device["user_code"].as_str().unwrap();
    let (mut browser, page) = open(&town, &format!("{ISSUER}/device")).await;
    assert!(page.text.contains("name=\"user_code\""), "the password is enough for the page: {page:?}");
    // The decision without the question: the same.
    for pairs in [&[("user_code", code), ("decision", "allow")][..], &[("user_code", code)]] {
        let more = browser.submit(&page, pairs).await;
        assert!(more.text.contains("Set up a second factor"), "{more:?}");
        town.advance(5);
        ask(&town, "tv", &device).await.refused(400, "authorization_pending");
    }
    let more = browser.submit(&page, &[("user_code", code)]).await;
    let app = App::scan(&more);
    browser.submit(&more, &[("code", &app.code(&town, 0))]).await;
    let (_, hidden) = read_form(&more.text);
    let page = browser.go(&format!("/realms/shop/flow?flow={}", hidden["flow"])).await;
    assert!(page.text.contains(code), "back with the code: {page:?}");
    let confirm = browser.submit(&page, &[("user_code", code)]).await;
    assert!(browser.submit(&confirm, &[("decision", "allow")]).await.text.contains("Connected"));
    town.advance(5);
    let tokens = ask(&town, "tv", &device).await.json();
    assert_eq!(payload(tokens["id_token"].as_str().unwrap())["acr"], "2");
}

#[tokio::test]
async fn whoever_cannot_log_in_as_strongly_connects_no_device_and_may_deny() {
    // By password, code and passkey: out of reach of who has neither.
    let all =
        AcrLevel { name: "3".to_owned(), any_of: vec![["pwd", "otp", "hwk"].map(str::to_owned).into()] };
    let town = strict("3", |settings| settings.acr_levels.push(all)).await;
    let device = begin(&town).await;
    let code = device["user_code"].as_str().unwrap();
    let (mut browser, page) = open(&town, &format!("{ISSUER}/device")).await;
    for pairs in [&[("user_code", code)][..], &[("user_code", code), ("decision", "allow")]] {
        let refused = browser.submit(&page, pairs).await;
        assert!(refused.status == 400 && refused.text.contains("a stronger login"), "{refused:?}");
    }
    ask(&town, "tv", &device).await.refused(400, "authorization_pending");
    browser.submit(&page, &[("user_code", code), ("decision", "deny")]).await;
    ask(&town, "tv", &device).await.refused(400, "access_denied");
}

#[tokio::test]
async fn what_is_asked_of_a_person_meanwhile_is_asked_of_their_device() {
    let town = Town::with(|settings| drop(settings.factors.roles.insert("admin".into(), "2".into()))).await;
    put(&town, "tv", None).await;
    let allowed = async || {
        let device = begin(&town).await;
        let (mut browser, page) = open(&town, &format!("{ISSUER}/device")).await;
        let confirm = browser.submit(&page, &[("user_code", device["user_code"].as_str().unwrap())]).await;
        assert!(browser.submit(&confirm, &[("decision", "allow")]).await.text.contains("Connected"));
        device
    };
    let device = allowed().await;
    assert_eq!(ask(&town, "tv", &device).await.status, 200);
    let device = allowed().await;
    put(&town, "tv", Some("2")).await;
    ask(&town, "tv", &device).await.refused(400, "invalid_grant");
    put(&town, "tv", None).await;
    let device = allowed().await;
    let mut alice = town.realm.find_user("alice").await.unwrap().unwrap();
    alice.roles.insert("admin".to_owned());
    town.realm.put_user(&alice).await.unwrap();
    ask(&town, "tv", &device).await.refused(400, "invalid_grant");
}
