//! Logout: by the client, by the person, told to everybody.

use std::sync::atomic::Ordering;

use identity::{GrantType, RealmSettings, User, Written};
use model::Secret;
use serde_json::{Value, json};
use store::{Expect, Key};

use crate::support::{Browser, ISSUER, PASSWORD, Steps, Town, form, payload, secret, web};

fn address(pairs: &[(&str, &str)]) -> String {
    format!("{ISSUER}/logout?{}", form(pairs))
}

async fn id_token(town: &Town, browser: &mut Browser<'_>) -> (String, Value) {
    let code = browser.authorize("web", &[]).await.answer()["code"].clone();
    let tokens = town.redeem("web", &code).await.json();
    (tokens["id_token"].as_str().unwrap().to_owned(), tokens)
}

#[tokio::test]
async fn a_client_logs_its_person_out() {
    let town = Town::new().await;
    let mut browser = Browser::new(&town);
    browser.log_in_for("web", &[]).await;
    let (hint, tokens) = id_token(&town, &mut browser).await;
    let bye = [
        ("id_token_hint", hint.as_str()),
        ("post_logout_redirect_uri", "https://app.example/bye"),
        ("state", "s"),
    ];
    let reply = browser.go(&address(&bye)).await;
    assert_eq!(reply.field("location"), "https://app.example/bye?state=s");
    assert!(browser.session().is_none());
    assert!(browser.authorize("web", &[]).await.text.contains("type=\"password\""));
    assert!(!town.is_active(tokens["access_token"].as_str().unwrap()).await);
    let told = town.realm.revocations().await.unwrap();
    let session = payload(&hint)["sid"].as_str().unwrap().to_owned();
    assert!(told.iter().any(|entry| entry.session.as_ref() == Some(&session)), "gateways are told: {told:?}");
}

#[tokio::test]
async fn nobody_else_logs_a_person_out_without_asking() {
    let town = Town::new().await;
    town.give_password("bob").await;
    let mut browser = Browser::new(&town);
    browser.log_in_for("web", &[]).await;
    let mut other = Browser::new(&town);
    let page = other.authorize("web", &[]).await;
    other.submit(&page, &[("username", "bob"), ("password", crate::support::PASSWORD)]).await.answer();
    let (of_bob, _) = id_token(&town, &mut other).await;
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
    let town = Town::new().await;
    let mut browser = Browser::new(&town);
    browser.log_in_for("web", &[]).await;
    let (hint, _) = id_token(&town, &mut browser).await;
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
    let town = Town::new().await;
    let mut hears = web("hears", secret());
    hears.backchannel_logout_uri = Some("https://hears.example/logout".to_owned());
    town.put(hears).await;
    let mut browser = Browser::new(&town);
    browser.log_in_for("web", &[]).await;
    let (hint, _) = id_token(&town, &mut browser).await;
    let code = browser.authorize("hears", &[]).await.answer()["code"].clone();
    assert_eq!(town.redeem("hears", &code).await.status, 200);
    let letters = || town.mailbox.letters.lock().unwrap().clone();
    town.mailbox.closed.store(true, Ordering::SeqCst);
    browser.go(&address(&[("id_token_hint", &hint)])).await;
    town.realm.deliver_logouts().await.unwrap();
    town.mailbox.closed.store(false, Ordering::SeqCst);
    town.realm.deliver_logouts().await.unwrap();
    assert!(letters().is_empty(), "tried again at once");
    // Five times it does not hear, at growing pauses; a round comes between.
    town.mailbox.closed.store(true, Ordering::SeqCst);
    for pause in [20, 40, 80, 160] {
        town.advance(pause);
        town.realm.deliver_logouts().await.unwrap();
        town.store.maintain().await.unwrap();
    }
    town.mailbox.closed.store(false, Ordering::SeqCst);
    town.advance(319);
    town.realm.deliver_logouts().await.unwrap();
    assert!(letters().is_empty(), "too early");
    town.advance(1);
    for _ in 0..2 {
        town.realm.deliver_logouts().await.unwrap();
    }
    let letters = letters();
    assert_eq!(letters.len(), 1, "told once: {letters:?}");
    let (url, body) = &letters[0];
    assert_eq!(url, "https://hears.example/logout");
    let token = crate::support::query(&format!("?{body}"))["logout_token"].clone();
    let (token_type, claims) = town.claims(&token).await;
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
async fn without_refresh(town: &Town) {
    let mut brief = web("brief", secret());
    brief.grant_types = [GrantType::AuthorizationCode].into();
    brief.backchannel_logout_uri = Some("https://brief.example/logout".to_owned());
    town.put(brief).await;
}

/// The session of a person who is there, of which that client knows.
async fn session_of_brief(town: &Town, browser: &mut Browser<'_>) -> String {
    browser.log_in_for("brief", &[]).await;
    let code = browser.authorize("brief", &[]).await.answer()["code"].clone();
    let tokens = town.redeem("brief", &code).await.json();
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
        let town = Town::with(ask_nobody).await;
        without_refresh(&town).await;
        let mut browser = Browser::new(&town);
        let sid = session_of_brief(&town, &mut browser).await;
        town.advance(absolute - 60);
        if renewed {
            let page = browser.authorize("brief", &[("prompt", "login")]).await;
            browser.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.answer();
            town.advance(absolute - 60);
        }
        town.store.maintain().await.unwrap();
        town.realm.end_session(&sid).await.unwrap();
        town.realm.deliver_logouts().await.unwrap();
        let letters = town.mailbox.letters.lock().unwrap().clone();
        assert_eq!(letters.len(), 1, "renewed: {renewed}");
        let token = crate::support::query(&format!("?{}", letters[0].1))["logout_token"].clone();
        assert_eq!(payload(&token)["sid"], sid.as_str());
    }
}

#[tokio::test]
async fn a_client_of_the_same_name_is_told_of_nothing_that_the_one_before_it_knew() {
    let town = Town::with(|settings| settings.factors.ask_enrolled = false).await;
    without_refresh(&town).await;
    let mut browser = Browser::new(&town);
    let sid = session_of_brief(&town, &mut browser).await;
    assert_eq!(town.realm.remove_client("brief", Expect::Present).await.unwrap(), Written::Done);
    without_refresh(&town).await;
    town.realm.end_session(&sid).await.unwrap();
    town.realm.deliver_logouts().await.unwrap();
    assert!(town.mailbox.letters.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_never_hears_is_given_up() {
    let town = Town::with(|settings| settings.factors.ask_enrolled = false).await;
    let (mut browser, hint) = of_carol(&town).await;
    town.mailbox.closed.store(true, Ordering::SeqCst);
    browser.go(&address(&[("id_token_hint", &hint)])).await;
    for pause in [0, 20, 40, 80, 160, 320] {
        town.advance(pause);
        town.realm.deliver_logouts().await.unwrap();
    }
    town.mailbox.closed.store(false, Ordering::SeqCst);
    town.advance(24 * 3600);
    town.realm.deliver_logouts().await.unwrap();
    assert!(town.mailbox.letters.lock().unwrap().is_empty());
}

/// Carol's browser, with a session that a client who hears has a grant of; and her ID token.
async fn of_carol(town: &Town) -> (Browser<'_>, String) {
    let mut hears = web("hears", secret());
    hears.backchannel_logout_uri = Some("https://hears.example/logout".to_owned());
    town.put(hears).await;
    town.realm.put_user(&User::new("carol", "carol", town.now())).await.unwrap();
    let hash = town.realm.password_hash("alice").await.unwrap().unwrap();
    town.realm.put_password_hash("carol", &hash).await.unwrap();
    town.realm.put_totp("carol", "phone", Secret::new(b"12345678901234567890".to_vec())).await.unwrap();
    let mut browser = Browser::new(town);
    let page = browser.authorize("hears", &[]).await;
    let code = browser.submit(&page, &[("username", "carol"), ("password", PASSWORD)]).await.answer();
    let tokens = town.redeem("hears", &code["code"]).await.json();
    (browser, tokens["id_token"].as_str().unwrap().to_owned())
}

/// The clients of whoever left are told, and nothing stands there any more.
async fn is_finished(town: &Town, what: &str) {
    assert_eq!(town.realm.grants("carol").await.unwrap().len(), 0, "{what}");
    assert_eq!(town.realm.sessions("carol").await.unwrap().len(), 0, "{what}");
    let letters = std::mem::take(&mut *town.mailbox.letters.lock().unwrap());
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
        let town = Town::with(ask_nobody).await;
        let (mut cut_short, mut polls) = (0, 0);
        loop {
            polls += 1;
            let what = format!("{how:?} after {polls} polls");
            let (mut browser, hint) = of_carol(&town).await;
            town.advance(1);
            let mut off = town.realm.find_user("carol").await.unwrap().unwrap();
            off.disabled = true;
            let end = async {
                match how {
                    How::LogOut => drop(browser.go(&address(&[("id_token_hint", &hint)])).await),
                    How::SignOut => town.realm.sign_out("carol").await.map(drop).unwrap(),
                    How::SwitchOff => town.realm.put_user(&off).await.unwrap(),
                    How::Remove => {
                        town.realm.remove_user("carol", Expect::Any).await.map(drop).unwrap();
                    }
                }
            };
            let whole = Steps::of(end).go(polls).await.is_some();
            // What was on its way to the store is there before this is.
            town.put(web("later", secret())).await;
            let carol = town.realm.find_user("carol").await.unwrap();
            let begun = match how {
                How::LogOut => town.realm.sessions("carol").await.unwrap().is_empty(),
                _ => carol.is_none_or(|carol| carol.signed_out == Some(town.now())),
            };
            // Nobody was there for longer than any token of hers was good.
            town.advance(301);
            town.realm.deliver_logouts().await.unwrap();
            town.realm.deliver_logouts().await.unwrap();
            if begun {
                is_finished(&town, &what).await;
                cut_short += usize::from(!whole);
                if how == How::Remove {
                    assert!(town.realm.password_hash("carol").await.unwrap().is_none(), "{what}");
                    assert!(town.realm.factors("carol").await.unwrap().is_empty(), "{what}");
                }
            } else {
                assert!(town.mailbox.letters.lock().unwrap().is_empty(), "{what}");
            }
            if whole {
                break;
            }
            // Begin anew.
            town.realm.remove_user("carol", Expect::Any).await.map(drop).unwrap();
            town.advance(20);
            town.realm.deliver_logouts().await.unwrap();
            town.mailbox.letters.lock().unwrap().clear();
        }
        assert!(cut_short > 5, "{how:?}: {cut_short} of {polls}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_answer_delays_no_other() {
    const CLIENTS: usize = 9;
    let town = Town::new().await;
    let mut browser = Browser::new(&town);
    browser.log_in_for("web", &[]).await;
    let (hint, _) = id_token(&town, &mut browser).await;
    for number in 0..CLIENTS {
        let id = format!("client-{number}");
        let mut client = web(&id, secret());
        client.backchannel_logout_uri = Some(format!("https://{id}.example/logout"));
        town.put(client).await;
        let code = browser.authorize(&id, &[]).await.answer()["code"].clone();
        assert_eq!(town.redeem(&id, &code).await.status, 200);
    }
    *town.mailbox.silent.lock().unwrap() = "https://client-4.example/logout".to_owned();
    browser.go(&address(&[("id_token_hint", &hint)])).await;
    let delivering = town.realm.deliver_logouts();
    let told = async {
        while town.mailbox.letters.lock().unwrap().len() < CLIENTS - 1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = delivering => panic!("it did not wait for the silent one: {ended:?}"),
        () = told => {}
        () = tokio::time::sleep(std::time::Duration::from_secs(60)) => panic!("the silent one held up the others"),
    }
    let letters = town.mailbox.letters.lock().unwrap().clone();
    assert!(letters.iter().all(|(url, _)| !url.contains("client-4")), "{letters:?}");
}

#[tokio::test]
async fn what_cannot_be_read_holds_no_other_logout_up() {
    let town = Town::with(|settings| settings.factors.ask_enrolled = false).await;
    let mut of_alice = Browser::new(&town);
    of_alice.log_in_for("web", &[]).await;
    let (hint, tokens) = id_token(&town, &mut of_alice).await;
    let grant = tokens["refresh_token"].as_str().unwrap().split('.').next().unwrap().to_owned();
    let key = Key::new("identity").hidden("shop").name("grant").hidden(grant);
    town.store.put(key, "no grant", None, Expect::Present).await.unwrap();
    // It has ended all the same, and what is left is tried for as long as it takes.
    of_alice.go(&address(&[("id_token_hint", &hint)])).await;
    let sid = payload(&hint)["sid"].as_str().unwrap().to_owned();
    let ended = town.realm.revocations().await.unwrap();
    assert!(ended.iter().any(|entry| entry.session.as_ref() == Some(&sid)));
    town.advance(11);
    let (mut of_carol, hint) = of_carol(&town).await;
    of_carol.go(&address(&[("id_token_hint", &hint)])).await;
    town.realm.deliver_logouts().await.unwrap_err();
    assert_eq!(town.mailbox.letters.lock().unwrap().len(), 1, "carol's client is told");
}
