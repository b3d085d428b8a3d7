//! Logout: by the client, by the person, told to everybody.

use std::sync::atomic::Ordering;

use identity::{GrantType, RealmSettings, User, Written};
use model::Secret;
use serde_json::{Value, json};
use store::{Expect, Key};

use crate::support::{Browser, ISSUER, PASSWORD, Steps, TestBed, form, payload, secret, web};

fn address(pairs: &[(&str, &str)]) -> String {
    format!("{ISSUER}/logout?{}", form(pairs))
}

async fn id_token(testbed: &TestBed, browser: &mut Browser<'_>) -> (String, Value) {
    let code = browser.authorize("web", &[]).await.answer()["code"].clone();
    let tokens = testbed.redeem("web", &code).await.json();
    (tokens["id_token"].as_str().unwrap().to_owned(), tokens)
}

#[tokio::test]
async fn a_client_logs_its_person_out() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    let (hint, tokens) = id_token(&testbed, &mut browser).await;
    let bye = [
        ("id_token_hint", hint.as_str()),
        ("post_logout_redirect_uri", "https://app.example/bye"),
        ("state", "s"),
    ];
    let reply = browser.go(&address(&bye)).await;
    assert_eq!(reply.field("location"), "https://app.example/bye?state=s");
    assert!(browser.session().is_none());
    assert!(browser.authorize("web", &[]).await.text.contains("type=\"password\""));
    assert!(!testbed.is_active(tokens["access_token"].as_str().unwrap()).await);
    let told = testbed.realm.revocations().await.unwrap();
    let session = payload(&hint)["sid"].as_str().unwrap().to_owned();
    assert!(told.iter().any(|entry| entry.session.as_ref() == Some(&session)), "gateways are told: {told:?}");
}

#[tokio::test]
async fn nobody_else_logs_a_person_out_without_asking() {
    let testbed = TestBed::new().await;
    testbed.give_password("bob").await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    let mut other = Browser::new(&testbed);
    let page = other.authorize("web", &[]).await;
    other.submit(&page, &[("username", "bob"), ("password", crate::support::PASSWORD)]).await.answer();
    let (of_bob, _) = id_token(&testbed, &mut other).await;
    for pairs in [&[][..], &[("client_id", "web")], &[("id_token_hint", of_bob.as_str())]] {
        let page = browser.go(&address(pairs)).await;
        assert!(page.text.contains("Log out?"), "{pairs:?}");
        assert!(browser.session().is_some());
    }
    // Not by a form of somebody else's either.
    let page = browser.go(&address(&[])).await;
    let forged = [("decision", "logout"), ("csrf", "x")];
    assert_eq!(browser.post(&format!("{ISSUER}/logout"), &forged).await.status, 400);
    assert!(browser.session().is_some());
    assert!(browser.submit(&page, &[("decision", "logout")]).await.text.contains("Logged out"));
    assert!(browser.session().is_none());
}

#[tokio::test]
async fn a_browser_is_sent_only_to_registered_addresses() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    let (hint, _) = id_token(&testbed, &mut browser).await;
    for uri in ["https://evil.example", "https://app.example/bye/", "https://app.example/cb", "javascript:x"]
    {
        let pairs = [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", uri)];
        let reply = browser.go(&address(&pairs)).await;
        assert_eq!((reply.status.as_u16(), reply.field("location")), (400, ""), "{uri}");
    }
    // Without a client there is no registered address.
    let reply = browser.go(&address(&[("post_logout_redirect_uri", "https://app.example/bye")])).await;
    assert_eq!(reply.status, 400);
    let mixed = [("id_token_hint", hint.as_str()), ("client_id", "spa")];
    assert_eq!(browser.go(&address(&mixed)).await.status, 400);
    assert!(browser.session().is_some());
}

#[tokio::test]
async fn every_client_of_the_session_is_told_until_it_hears() {
    let testbed = TestBed::new().await;
    let mut hears = web("hears", secret());
    hears.backchannel_logout_uri = Some("https://hears.example/logout".to_owned());
    testbed.put(hears).await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    let (hint, _) = id_token(&testbed, &mut browser).await;
    let code = browser.authorize("hears", &[]).await.answer()["code"].clone();
    assert_eq!(testbed.redeem("hears", &code).await.status, 200);
    let letters = || testbed.mailbox.letters.lock().unwrap().clone();
    testbed.mailbox.closed.store(true, Ordering::SeqCst);
    browser.go(&address(&[("id_token_hint", &hint)])).await;
    testbed.realm.deliver_logouts().await.unwrap();
    testbed.mailbox.closed.store(false, Ordering::SeqCst);
    testbed.realm.deliver_logouts().await.unwrap();
    assert!(letters().is_empty(), "tried again at once");
    // Five times it does not hear, at growing pauses; a round comes between.
    testbed.mailbox.closed.store(true, Ordering::SeqCst);
    for pause in [20, 40, 80, 160] {
        testbed.advance(pause);
        testbed.realm.deliver_logouts().await.unwrap();
        testbed.store.maintain().await.unwrap();
    }
    testbed.mailbox.closed.store(false, Ordering::SeqCst);
    testbed.advance(319);
    testbed.realm.deliver_logouts().await.unwrap();
    assert!(letters().is_empty(), "too early");
    testbed.advance(1);
    for _ in 0..2 {
        testbed.realm.deliver_logouts().await.unwrap();
    }
    let letters = letters();
    assert_eq!(letters.len(), 1, "told once: {letters:?}");
    let (url, body) = &letters[0];
    assert_eq!(url, "https://hears.example/logout");
    let token = crate::support::query(&format!("?{body}"))["logout_token"].clone();
    let (token_type, claims) = testbed.claims(&token).await;
    assert_eq!(token_type, "logout+jwt");
    let event = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
    assert_eq!(
        (&claims["events"], &claims["sub"], &claims["aud"]),
        (&event, &json!("alice"), &json!("hears"))
    );
    assert_eq!(claims["sid"], payload(&hint)["sid"]);
    assert!(claims["jti"].is_string() && claims.get("nonce").is_none());
    // It is no ID token, though all it says would fit.
    let hint = browser.authorize("hears", &[("id_token_hint", &token)]).await.answer();
    assert_eq!(hint["error"], "invalid_request");
}

/// A client that hears of logouts and has no refresh tokens.
async fn without_refresh(testbed: &TestBed) {
    let mut brief = web("brief", secret());
    brief.grant_types = [GrantType::AuthorizationCode].into();
    brief.backchannel_logout_uri = Some("https://brief.example/logout".to_owned());
    testbed.put(brief).await;
}

/// The session of a person who is there, of which that client knows.
async fn session_of_brief(testbed: &TestBed, browser: &mut Browser<'_>) -> String {
    browser.log_in_for("brief", &[]).await;
    let code = browser.authorize("brief", &[]).await.answer()["code"].clone();
    let tokens = testbed.redeem("brief", &code).await.json();
    payload(tokens["id_token"].as_str().unwrap())["sid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_is_told_for_as_long_as_the_session_lives_whatever_became_of_its_tokens() {
    let absolute = RealmSettings::new("main", ISSUER).lifetimes.session_absolute.as_secs();
    let ask_nobody = |settings: &mut RealmSettings| {
        settings.factors.ask_enrolled = false;
        settings.lifetimes.session_idle = settings.lifetimes.session_absolute;
    };
    // After all tokens; and after a login has renewed the session, beyond its first end.
    for renewed in [false, true] {
        let testbed = TestBed::with(ask_nobody).await;
        without_refresh(&testbed).await;
        let mut browser = Browser::new(&testbed);
        let sid = session_of_brief(&testbed, &mut browser).await;
        testbed.advance(absolute - 60);
        if renewed {
            let page = browser.authorize("brief", &[("prompt", "login")]).await;
            browser.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.answer();
            testbed.advance(absolute - 60);
        }
        testbed.store.maintain().await.unwrap();
        testbed.realm.end_session(&sid).await.unwrap();
        testbed.realm.deliver_logouts().await.unwrap();
        let letters = testbed.mailbox.letters.lock().unwrap().clone();
        assert_eq!(letters.len(), 1, "renewed: {renewed}");
        let token = crate::support::query(&format!("?{}", letters[0].1))["logout_token"].clone();
        assert_eq!(payload(&token)["sid"], sid.as_str());
    }
}

#[tokio::test]
async fn a_client_of_the_same_name_is_told_of_nothing_that_the_one_before_it_knew() {
    let testbed = TestBed::with(|settings| settings.factors.ask_enrolled = false).await;
    without_refresh(&testbed).await;
    let mut browser = Browser::new(&testbed);
    let sid = session_of_brief(&testbed, &mut browser).await;
    assert_eq!(testbed.realm.remove_client("brief", Expect::Present).await.unwrap(), Written::Done);
    without_refresh(&testbed).await;
    testbed.realm.end_session(&sid).await.unwrap();
    testbed.realm.deliver_logouts().await.unwrap();
    assert!(testbed.mailbox.letters.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_never_hears_is_given_up() {
    let testbed = TestBed::with(|settings| settings.factors.ask_enrolled = false).await;
    let (mut browser, hint) = of_carol(&testbed).await;
    testbed.mailbox.closed.store(true, Ordering::SeqCst);
    browser.go(&address(&[("id_token_hint", &hint)])).await;
    for pause in [0, 20, 40, 80, 160, 320] {
        testbed.advance(pause);
        testbed.realm.deliver_logouts().await.unwrap();
    }
    testbed.mailbox.closed.store(false, Ordering::SeqCst);
    testbed.advance(24 * 3600);
    testbed.realm.deliver_logouts().await.unwrap();
    assert!(testbed.mailbox.letters.lock().unwrap().is_empty());
}

/// Carol's browser, with a session that a client who hears has a grant of; and her ID token.
async fn of_carol(testbed: &TestBed) -> (Browser<'_>, String) {
    let mut hears = web("hears", secret());
    hears.backchannel_logout_uri = Some("https://hears.example/logout".to_owned());
    testbed.put(hears).await;
    testbed.realm.put_user(&User::new("carol", "carol", testbed.now())).await.unwrap();
    let hash = testbed.realm.password_hash("alice").await.unwrap().unwrap();
    testbed.realm.put_password_hash("carol", &hash).await.unwrap();
    testbed.realm.put_totp("carol", "phone", Secret::new(b"12345678901234567890".to_vec())).await.unwrap();
    let mut browser = Browser::new(testbed);
    let page = browser.authorize("hears", &[]).await;
    let code = browser.submit(&page, &[("username", "carol"), ("password", PASSWORD)]).await.answer();
    let tokens = testbed.redeem("hears", &code["code"]).await.json();
    (browser, tokens["id_token"].as_str().unwrap().to_owned())
}

/// The clients of whoever left are told, and nothing stands there any more.
async fn is_finished(testbed: &TestBed, what: &str) {
    assert_eq!(testbed.realm.grants("carol").await.unwrap().len(), 0, "{what}");
    assert_eq!(testbed.realm.sessions("carol").await.unwrap().len(), 0, "{what}");
    let letters = std::mem::take(&mut *testbed.mailbox.letters.lock().unwrap());
    // What was done twice is told twice; here nobody did.
    assert_eq!(letters.len(), 1, "{what}: {letters:?}");
}

#[tokio::test]
async fn an_end_is_followed_up_although_whoever_asked_for_it_went_away() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum How {
        LogOut,
        SignOut,
        SwitchOff,
        Remove,
    }
    let ask_nobody = |settings: &mut RealmSettings| settings.factors.ask_enrolled = false;
    for how in [How::LogOut, How::SignOut, How::SwitchOff, How::Remove] {
        let testbed = TestBed::with(ask_nobody).await;
        let (mut cut_short, mut polls) = (0, 0);
        loop {
            polls += 1;
            let what = format!("{how:?} after {polls} polls");
            let (mut browser, hint) = of_carol(&testbed).await;
            testbed.advance(1);
            let mut off = testbed.realm.find_user("carol").await.unwrap().unwrap();
            off.disabled = true;
            let end = async {
                match how {
                    How::LogOut => drop(browser.go(&address(&[("id_token_hint", &hint)])).await),
                    How::SignOut => testbed.realm.sign_out("carol").await.map(drop).unwrap(),
                    How::SwitchOff => testbed.realm.put_user(&off).await.unwrap(),
                    How::Remove => {
                        testbed.realm.remove_user("carol", Expect::Any).await.map(drop).unwrap();
                    }
                }
            };
            let whole = Steps::of(end).go(polls).await.is_some();
            testbed.settle().await;
            let carol = testbed.realm.find_user("carol").await.unwrap();
            let begun = match how {
                How::LogOut => testbed.realm.sessions("carol").await.unwrap().is_empty(),
                _ => carol.is_none_or(|carol| carol.signed_out == Some(testbed.now())),
            };
            // Nobody was there for longer than any token of hers was good.
            testbed.advance(301);
            testbed.realm.deliver_logouts().await.unwrap();
            testbed.realm.deliver_logouts().await.unwrap();
            if begun {
                is_finished(&testbed, &what).await;
                cut_short += usize::from(!whole);
                if how == How::Remove {
                    assert!(testbed.realm.password_hash("carol").await.unwrap().is_none(), "{what}");
                    assert!(testbed.realm.factors("carol").await.unwrap().is_empty(), "{what}");
                }
            } else {
                assert!(testbed.mailbox.letters.lock().unwrap().is_empty(), "{what}");
            }
            if whole {
                break;
            }
            // Begin anew.
            testbed.realm.remove_user("carol", Expect::Any).await.map(drop).unwrap();
            testbed.advance(20);
            testbed.realm.deliver_logouts().await.unwrap();
            testbed.mailbox.letters.lock().unwrap().clear();
        }
        assert!(cut_short > 5, "{how:?}: {cut_short} of {polls}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_answer_delays_no_other() {
    const CLIENTS: usize = 9;
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    let (hint, _) = id_token(&testbed, &mut browser).await;
    for number in 0..CLIENTS {
        let id = format!("client-{number}");
        let mut client = web(&id, secret());
        client.backchannel_logout_uri = Some(format!("https://{id}.example/logout"));
        testbed.put(client).await;
        let code = browser.authorize(&id, &[]).await.answer()["code"].clone();
        assert_eq!(testbed.redeem(&id, &code).await.status, 200);
    }
    *testbed.mailbox.silent.lock().unwrap() = "https://client-4.example/logout".to_owned();
    browser.go(&address(&[("id_token_hint", &hint)])).await;
    let delivering = testbed.realm.deliver_logouts();
    let told = async {
        while testbed.mailbox.letters.lock().unwrap().len() < CLIENTS - 1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = delivering => panic!("it did not wait for the silent one: {ended:?}"),
        () = told => {}
        () = tokio::time::sleep(std::time::Duration::from_secs(60)) => panic!("the silent one held up the others"),
    }
    let letters = testbed.mailbox.letters.lock().unwrap().clone();
    assert!(letters.iter().all(|(url, _)| !url.contains("client-4")), "{letters:?}");
}

#[tokio::test]
async fn what_cannot_be_read_holds_no_other_logout_up() {
    let testbed = TestBed::with(|settings| settings.factors.ask_enrolled = false).await;
    let mut of_alice = Browser::new(&testbed);
    of_alice.log_in_for("web", &[]).await;
    let (hint, tokens) = id_token(&testbed, &mut of_alice).await;
    let grant = tokens["refresh_token"].as_str().unwrap().split('.').next().unwrap().to_owned();
    let key = Key::new("identity").hidden("shop").name("grant").hidden(grant);
    testbed.store.put(key, "no grant", None, Expect::Present).await.unwrap();
    // It has ended all the same, and what is left is tried for as long as it takes.
    of_alice.go(&address(&[("id_token_hint", &hint)])).await;
    let sid = payload(&hint)["sid"].as_str().unwrap().to_owned();
    let ended = testbed.realm.revocations().await.unwrap();
    assert!(ended.iter().any(|entry| entry.session.as_ref() == Some(&sid)));
    testbed.advance(11);
    let (mut of_carol, hint) = of_carol(&testbed).await;
    of_carol.go(&address(&[("id_token_hint", &hint)])).await;
    testbed.realm.deliver_logouts().await.unwrap_err();
    assert_eq!(testbed.mailbox.letters.lock().unwrap().len(), 1, "carol's client is told");
}
