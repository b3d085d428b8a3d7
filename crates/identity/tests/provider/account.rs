//! The account page: what a person sees and changes of their own, and who else would.

use std::collections::BTreeSet;

use identity::GrantType;
use identity::observe::{AccountActivity, Failure};

use crate::support::{Browser, ISSUER, PASSWORD, Reply, SECRET, TestBed, form, secret, web};

const ACCOUNT: &str = "/realms/shop/account";

/// Alice, logged in and at her account.
async fn at_home(testbed: &TestBed) -> (Browser<'_>, Reply) {
    let mut browser = Browser::new(testbed);
    let page = browser.go(ACCOUNT).await;
    let page = browser.log_in(&page).await;
    assert!(page.text.contains("Your account"), "{page:?}");
    (browser, page)
}

/// The token in the page's forms.
pub(crate) fn csrf(page: &Reply) -> String {
    page.text.split_once("name=\"csrf\" value=\"").unwrap().1.split('"').next().unwrap().to_owned()
}

/// The values of the buttons of this name.
pub(crate) fn buttons(page: &Reply, name: &str) -> Vec<String> {
    let before = format!("name=\"{name}\" value=\"");
    let found = page.text.split(&before).skip(1);
    found.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

async fn press(browser: &mut Browser<'_>, page: &Reply, path: &str, pairs: &[(&str, &str)]) -> Reply {
    let token = csrf(page);
    let mut pairs = pairs.to_vec();
    pairs.push(("csrf", token.as_str()));
    browser.post(&format!("{ACCOUNT}/{path}"), &pairs).await
}

/// The `sid`s that the gateways are told of.
async fn revoked(testbed: &TestBed) -> BTreeSet<String> {
    testbed
        .realm
        .revocations()
        .await
        .unwrap()
        .into_iter()
        .filter_map(|revocation| revocation.session)
        .collect()
}

#[tokio::test]
async fn sessions_are_listed_and_ended_everywhere() {
    let testbed = TestBed::new().await;
    let (mut phone, _) = at_home(&testbed).await;
    let (mut tablet, _) = at_home(&testbed).await;
    let (mut home, page) = at_home(&testbed).await;
    let others = buttons(&page, "session");
    assert_eq!(others.len(), 2, "this one has no button: {}", page.text);
    assert_eq!(page.text.matches("this browser").count(), 1);
    let sid = phone.session().unwrap().split('.').next().unwrap().to_owned();
    assert!(others.contains(&sid));
    let page = press(&mut home, &page, "sessions", &[("session", &sid)]).await;
    assert!(page.text.contains("The session has ended.") && buttons(&page, "session").len() == 1);
    assert_eq!(revoked(&testbed).await, BTreeSet::from([sid]));
    assert!(phone.go(ACCOUNT).await.text.contains("type=\"password\""));
    assert!(tablet.go(ACCOUNT).await.text.contains("Your account"));
    // Somebody else's session is not hers to end, nor is hers theirs.
    testbed.give_password("bob").await;
    let mut bob = Browser::new(&testbed);
    let login = bob.go(ACCOUNT).await;
    let bobs = bob.submit(&login, &[("username", "bob"), ("password", PASSWORD)]).await;
    assert!(!bobs.text.contains(&home.session().unwrap()[..22]) && buttons(&bobs, "session").is_empty());
    let bob_sid = bob.session().unwrap().split('.').next().unwrap().to_owned();
    press(&mut home, &page, "sessions", &[("session", &bob_sid)]).await;
    assert!(bob.go(ACCOUNT).await.text.contains("Your account"));
    let page = press(&mut home, &page, "sessions", &[("others", "all")]).await;
    assert!(page.text.contains("All other sessions have ended.") && buttons(&page, "session").is_empty());
    assert!(tablet.go(ACCOUNT).await.text.contains("type=\"password\""));
    assert!(bob.go(ACCOUNT).await.text.contains("Your account"));
    assert_eq!(revoked(&testbed).await.len(), 2);
}

#[tokio::test]
async fn no_form_is_taken_that_is_not_of_this_sessions_page() {
    let testbed = TestBed::new().await;
    let (mut home, _) = at_home(&testbed).await;
    let (mut other, other_page) = at_home(&testbed).await;
    let page = home.go(ACCOUNT).await;
    let foreign = csrf(&other_page);
    for token in ["", "x", foreign.as_str()] {
        for (path, pairs) in [
            ("sessions", &[("others", "all")][..]),
            ("factors", &[("recovery", "new")]),
            ("applications", &[("client", "web")]),
            ("password", &[("password", "new"), ("again", "new")]),
            ("factor", &[("code", "123456")]),
        ] {
            let mut pairs = pairs.to_vec();
            pairs.push(("csrf", token));
            let reply = home.post(&format!("{ACCOUNT}/{path}"), &pairs).await;
            assert_eq!(reply.status, 400, "{path} {token}");
        }
    }
    assert!(other.go(ACCOUNT).await.text.contains("Your account"));
    // And without a session: the way to the login, and nothing is done.
    let stranger = testbed.post("/account/sessions", &[("others", "all"), ("csrf", &csrf(&page))]).await;
    assert!(stranger.field("location").contains("/flow?"), "{stranger:?}");
    let policy = page.field("content-security-policy");
    assert!(!page.text.contains("<script") && !policy.contains("script-src"), "{policy}");
    assert_eq!(page.field("cache-control"), "no-store");
}

#[tokio::test]
async fn factors_are_added_named_and_removed_by_who_logged_in_a_moment_ago() {
    let testbed = TestBed::new().await;
    let (mut home, page) = at_home(&testbed).await;
    assert!(page.text.contains("the password alone is enough"));
    let add = home.go(&format!("{ACCOUNT}/factor")).await;
    assert_eq!(add.text.matches("otpauth://").count(), 1);
    // Loaded again, it is the same secret.
    let again = home.go(&format!("{ACCOUNT}/factor")).await;
    let app = super::factors::App::scan(&add);
    assert_eq!(app.code(&testbed, 0), super::factors::App::scan(&again).code(&testbed, 0));
    let wrong = press(&mut home, &add, "factor", &[("code", &app.wrong(&testbed))]).await;
    assert_eq!(wrong.status, 401);
    let codes =
        press(&mut home, &add, "factor", &[("code", &app.code(&testbed, 0)), ("name", "blue <phone>")]).await;
    assert_eq!(codes.text.matches("<li><code>").count(), 10, "{codes:?}");
    // It asks for the factor now that there is one: the session showed none.
    let page = home.go(ACCOUNT).await;
    assert!(page.text.contains("blue &#60;phone&#62;"), "{}", page.text);
    let id = buttons(&page, "remove")[0].clone();
    let asked = press(&mut home, &page, "factors", &[("remove", &id)]).await;
    assert!(asked.text.contains("type=\"password\""), "{asked:?}");
    testbed.advance(30);
    let asked = home.log_in(&asked).await;
    let asked = home.submit(&asked, &[("code", &app.wrong(&testbed))]).await;
    let page = home.submit(&asked, &[("code", &app.code(&testbed, 0))]).await;
    assert!(page.text.contains("Your account"), "{page:?}");
    let page = press(&mut home, &page, "factors", &[("rename", &id), ("name", "old phone")]).await;
    assert!(page.text.contains("old phone") && !page.text.contains("blue"));
    let before = codes.text.split("<li><code>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let codes = press(&mut home, &page, "factors", &[("recovery", "new")]).await;
    assert!(codes.text.matches("<li><code>").count() == 10 && !codes.text.contains(&before));
    // Ten minutes later the login is not of a moment ago.
    testbed.advance(601);
    let asked = press(&mut home, &page, "factors", &[("remove", &id)]).await;
    assert!(
        asked.text.contains("type=\"password\"") && testbed.realm.factors("alice").await.unwrap().len() == 1
    );
    let asked = home.log_in(&asked).await;
    let page = home.submit(&asked, &[("code", &app.code(&testbed, 0))]).await;
    let page = press(&mut home, &page, "factors", &[("remove", &id)]).await;
    assert!(page.text.contains("The factor is removed."));
    assert!(testbed.realm.factors("alice").await.unwrap().is_empty());
    // All of it was told, and of a code that was not good for what.
    let told: Vec<_> = std::mem::take(&mut *testbed.diary.events.lock().unwrap())
        .into_iter()
        .map(|event| {
            assert_eq!((event.user_id.as_str(), event.user_name.as_str()), ("alice", "alice"));
            (event.activity, event.failure, event.methods.join(" "))
        })
        .collect();
    let expected = [
        (AccountActivity::LogOn, None, "pwd"),
        (AccountActivity::AddFactor, None, "totp"),
        (AccountActivity::AddFactor, None, "recovery_codes"),
        (AccountActivity::LogOn, Some(Failure::WrongFactor), "pwd"),
        (AccountActivity::LogOn, None, "pwd otp mfa"),
        (AccountActivity::AddFactor, None, "recovery_codes"),
        (AccountActivity::LogOn, None, "pwd otp mfa"),
        (AccountActivity::RemoveFactor, None, "totp"),
    ];
    assert_eq!(told, expected.map(|(activity, failure, methods)| (activity, failure, methods.to_owned())));
}

#[tokio::test]
async fn with_the_password_alone_nobody_gets_rid_of_a_factor() {
    // Where factors are asked for only when something needs them.
    let testbed = TestBed::with(|settings| settings.factors.ask_enrolled = false).await;
    testbed.realm.put_totp("alice", "phone", model::Secret::new(vec![7; 20])).await.unwrap();
    let (mut thief, page) = at_home(&testbed).await;
    let id = buttons(&page, "remove")[0].clone();
    for (path, pairs) in [
        ("factors", vec![("remove", id.as_str())]),
        ("factors", vec![("recovery", "new")]),
        ("factor", vec![("code", "123456")]),
        ("password", vec![("password", "another one entirely 7"), ("again", "another one entirely 7")]),
    ] {
        let asked = press(&mut thief, &page, path, &pairs).await;
        assert!(asked.text.contains("type=\"password\""), "{path}: {asked:?}");
        let asked = thief.log_in(&asked).await;
        assert!(asked.text.contains("one-time-code"), "{path}: {asked:?}");
    }
    assert_eq!(testbed.realm.factors("alice").await.unwrap().len(), 1);
}

#[tokio::test]
async fn another_password_ends_every_session() {
    let testbed = TestBed::new().await;
    let (mut phone, _) = at_home(&testbed).await;
    let (mut home, _) = at_home(&testbed).await;
    let page = home.go(&format!("{ACCOUNT}/password")).await;
    let new = "a horse of another colour 42";
    let differ = press(&mut home, &page, "password", &[("password", new), ("again", "x")]).await;
    assert_eq!(differ.status, 401);
    assert!(differ.text.contains("aria-describedby=\"error\""));
    let done = press(&mut home, &page, "password", &[("password", new), ("again", new)]).await;
    assert!(done.text.contains("The password is changed"), "{done:?}");
    for browser in [&mut phone, &mut home] {
        let page = browser.go(ACCOUNT).await;
        assert!(page.text.contains("type=\"password\""));
        assert_eq!(browser.log_in(&page).await.status, 401, "the old one");
        let page = browser.go(ACCOUNT).await;
        let page = browser.submit(&page, &[("username", "alice"), ("password", new)]).await;
        assert!(page.text.contains("Your account"));
    }
}

#[tokio::test]
async fn what_an_application_was_allowed_is_taken_back() {
    let testbed = TestBed::new().await;
    let mut asking = web("asking", secret());
    asking.trusted = false;
    asking.name = "Asking & Co".to_owned();
    testbed.put(asking).await;
    let (mut home, page) = at_home(&testbed).await;
    assert!(page.text.contains("You have not allowed any application anything."));
    let consent = home.authorize("asking", &[("scope", "openid offline_access orders:read")]).await;
    let code = home.submit(&consent, &[("decision", "allow")]).await.answer()["code"].clone();
    let tokens = testbed.redeem("asking", &code).await.json();
    let (access, refresh) =
        (tokens["access_token"].as_str().unwrap(), tokens["refresh_token"].as_str().unwrap());
    assert!(testbed.is_active(access).await);
    let page = home.go(ACCOUNT).await;
    assert!(page.text.contains("Asking &#38; Co") && page.text.contains("see your orders"), "{}", page.text);
    let page = press(&mut home, &page, "applications", &[("client", "asking")]).await;
    assert!(page.text.contains("has no access any more") && !page.text.contains("Asking"));
    assert!(!testbed.is_active(access).await);
    testbed.refresh("asking", refresh).await.refused(400, "invalid_grant");
    assert!(home.authorize("asking", &[]).await.text.contains("asks for access"), "asked anew");
}

#[tokio::test]
async fn what_an_application_has_not_fetched_yet_is_taken_back_too() {
    const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
    let testbed = TestBed::new().await;
    let mut asking = web("asking", secret());
    asking.trusted = false;
    asking.grant_types.insert(GrantType::DeviceCode);
    testbed.put(asking.clone()).await;
    asking.id = "other".to_owned();
    testbed.put(asking).await;
    let (mut home, _) = at_home(&testbed).await;
    let allowed = async |home: &mut Browser<'_>, client: &str| {
        let consent = home.authorize(client, &[]).await;
        let answer = if consent.text.contains("asks for access") {
            home.submit(&consent, &[("decision", "allow")]).await.answer()
        } else {
            consent.answer()
        };
        let begin = [("client_id", client), ("client_secret", SECRET), ("scope", "openid")];
        let device = testbed.post("/device_authorization", &begin).await.json();
        let page = home.go(device["verification_uri_complete"].as_str().unwrap()).await;
        let allow = [("user_code", device["user_code"].as_str().unwrap()), ("decision", "allow")];
        assert!(home.submit(&page, &allow).await.text.contains("Connected"));
        (answer["code"].clone(), device["device_code"].as_str().unwrap().to_owned())
    };
    let before = allowed(&mut home, "asking").await;
    let other = allowed(&mut home, "other").await;
    let page = home.go(ACCOUNT).await;
    press(&mut home, &page, "applications", &[("client", "asking")]).await;
    testbed.advance(1);
    let after = allowed(&mut home, "asking").await;
    for (client, (code, device), good) in
        [("asking", before, false), ("other", other, true), ("asking", after, true)]
    {
        let device = [
            ("grant_type", DEVICE),
            ("device_code", &*device),
            ("client_id", client),
            ("client_secret", SECRET),
        ];
        for reply in [testbed.redeem(client, &code).await, testbed.post("/token", &device).await] {
            if good {
                assert_eq!(reply.status, 200, "{client}: {reply:?}");
            } else {
                reply.refused(400, "invalid_grant");
            }
        }
    }
}

#[tokio::test]
async fn a_person_has_only_so_many_sessions() {
    let testbed = TestBed::with(|settings| settings.sessions_per_person = 3).await;
    let mut browsers = Vec::new();
    for _ in 0..4 {
        browsers.push(at_home(&testbed).await.0);
        testbed.advance(60);
    }
    // The one that was not seen for longest went; at the limit none does.
    assert!(browsers[0].go(ACCOUNT).await.text.contains("type=\"password\""));
    for browser in &mut browsers[1..] {
        assert!(browser.go(ACCOUNT).await.text.contains("Your account"));
    }
    assert_eq!(revoked(&testbed).await.len(), 1);
    // Logging in again in a browser that has one adds none.
    let page = browsers[1].authorize("web", &[("prompt", "login")]).await;
    browsers[1].log_in(&page).await.answer();
    for browser in &mut browsers[1..] {
        assert!(browser.go(ACCOUNT).await.text.contains("Your account"));
    }
}

#[tokio::test]
async fn a_session_ends_at_its_limits_and_not_before() {
    let (idle, absolute) = (600, 3000);
    let testbed = TestBed::with(|settings| {
        settings.lifetimes.session_idle = std::time::Duration::from_secs(idle);
        settings.lifetimes.session_absolute = std::time::Duration::from_secs(absolute);
    })
    .await;
    let (mut browser, _) = at_home(&testbed).await;
    testbed.advance(idle - 1);
    assert!(browser.go(ACCOUNT).await.text.contains("Your account"));
    testbed.advance(idle);
    assert!(browser.go(ACCOUNT).await.text.contains("type=\"password\""));
    let (mut browser, _) = at_home(&testbed).await;
    for _ in 0..5 {
        testbed.advance(500);
        assert!(browser.go(ACCOUNT).await.text.contains("Your account"));
    }
    testbed.advance(499);
    assert!(browser.go(ACCOUNT).await.text.contains("Your account"));
    testbed.advance(1);
    assert!(browser.go(ACCOUNT).await.text.contains("type=\"password\""));
}

#[tokio::test]
async fn the_page_is_in_the_language_of_its_reader() {
    let testbed = TestBed::new().await;
    let (home, _) = at_home(&testbed).await;
    let cookies: Vec<_> = home.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let request = axum::http::Request::get(format!("{ISSUER}/account"))
        .header(axum::http::header::COOKIE, cookies.join("; "))
        .header(axum::http::header::ACCEPT_LANGUAGE, "de-AT,de;q=0.9,en;q=0.5")
        .body(form(&[]).into())
        .unwrap();
    let page = testbed.send(request).await;
    assert!(page.text.contains("Ihr Konto") && page.text.contains("lang=\"de\""), "{}", page.text);
}

#[tokio::test]
async fn what_is_too_long_to_be_a_name_is_nobodys() {
    let testbed = TestBed::new().await;
    at_home(&testbed).await;
    let (mut browser, page) = at_home(&testbed).await;
    let long = "x".repeat(600);
    let reply = press(&mut browser, &page, "applications", &[("client", &long)]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    browser.cookies.insert("__Host-shop-session".to_owned(), format!("{long}.{long}"));
    let reply = browser.go(ACCOUNT).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.text.contains("type=\"password\""), "{reply:?}");
}
