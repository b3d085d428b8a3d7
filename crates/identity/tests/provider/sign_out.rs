//! People who are switched off, removed, given another password or signed out: what they
//! began is over here and at the gateways, and their neighbours' is not.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use identity::observe::{AccountActivity, Failure};
use identity::{ClientAuthentication, GrantType, Written};
use keys::Revocation;
use model::{Clock as _, Secret};
use serde_json::Value;
use store::Expect;

use crate::factors::App;
use crate::support::{
    Browser, ORDERS, PASSWORD, PAYMENTS, Reply, SECRET, Steps, TestBed, client, payload, read_form, secret,
    web,
};

/// Whether a gateway that knows the realm's revocations would still take a token.
pub(crate) async fn gateway_takes(testbed: &TestBed, tokens: &Value) -> bool {
    let claims = payload(tokens["access_token"].as_str().unwrap());
    let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
    let names = |entry: &Revocation| {
        let is = |name: &Option<String>, value: &str| name.as_deref() == Some(value);
        is(&entry.token, &text("jti"))
            || is(&entry.session, &text("sid"))
            || is(&entry.grant, text("jti").split_once('.').map_or("", |(grant, _)| grant))
            || (is(&entry.subject, &text("sub")) || is(&entry.client, &text("client_id")))
                && entry.issued_until.is_none_or(|until| claims["iat"].as_u64().unwrap() <= until)
                && entry
                    .role_version_until
                    .is_none_or(|until| claims["role_version"].as_u64().unwrap_or(0) <= until)
    };
    !testbed.realm.revocations().await.unwrap().iter().any(names)
}

/// Whether a token is good, here and at the gateways.
pub(crate) async fn is_good(testbed: &TestBed, tokens: &Value) -> bool {
    let active = testbed.is_active(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!(active, gateway_takes(testbed, tokens).await, "provider and gateway disagree");
    active
}

/// alice with an ordinary grant, one that goes on offline, and a browser; bob beside her.
struct Scene<'a> {
    testbed: &'a TestBed,
    browser: Browser<'a>,
    online: Value,
    offline: Value,
    of_bob: Value,
}

impl<'a> Scene<'a> {
    async fn new(testbed: &'a TestBed) -> Self {
        testbed.give_password("bob").await;
        let mut browser = Browser::new(testbed);
        let online = browser.log_in_for("web", &[("scope", "openid orders:read")]).await;
        let online = testbed.redeem("web", &online["code"]).await.json();
        let offline = offline(testbed, &mut browser).await;
        let mut other = Browser::new(testbed);
        let page = other.authorize("web", &[("scope", "openid offline_access")]).await;
        let of_bob = other.submit(&page, &[("username", "bob"), ("password", PASSWORD)]).await.answer();
        let of_bob = testbed.redeem("web", &of_bob["code"]).await.json();
        testbed.advance(2);
        Self { testbed, browser, online, offline, of_bob }
    }

    /// Everything of alice's is over, nothing of bob's.
    async fn is_over(&mut self) {
        let testbed = self.testbed;
        for (name, tokens) in [("online", &self.online), ("offline", &self.offline)] {
            assert!(!is_good(testbed, tokens).await, "{name}");
            let reply = testbed.refresh("web", tokens["refresh_token"].as_str().unwrap()).await;
            reply.refused(400, "invalid_grant");
        }
        assert!(self.browser.authorize("web", &[]).await.text.contains("type=\"password\""));
        assert!(testbed.realm.sessions("alice").await.unwrap().is_empty());
        assert!(testbed.realm.grants("alice").await.unwrap().is_empty());
        assert!(is_good(testbed, &self.of_bob).await, "bob's");
        assert_eq!(testbed.refresh("web", self.of_bob["refresh_token"].as_str().unwrap()).await.status, 200);
        assert_eq!(testbed.realm.sessions("bob").await.unwrap().len(), 1);
    }
}

async fn switch(testbed: &TestBed, disabled: bool) {
    let (mut alice, version) = testbed.realm.find_user_by_id("alice").await.unwrap().unwrap();
    alice.disabled = disabled;
    let written = testbed.realm.write_user(&alice, Expect::Version(version)).await.unwrap();
    assert_eq!(written, Written::Done);
}

#[tokio::test]
async fn whoever_is_switched_off_has_nothing_left_and_gets_nothing_back() {
    let testbed = TestBed::new().await;
    let mut scene = Scene::new(&testbed).await;
    assert_eq!(testbed.realm.sessions("alice").await.unwrap().len(), 1);
    assert_eq!(testbed.realm.grants("alice").await.unwrap().len(), 2);
    // A change that switches nobody off ends nothing.
    switch(&testbed, false).await;
    assert!(is_good(&testbed, &scene.online).await && is_good(&testbed, &scene.offline).await);
    switch(&testbed, true).await;
    scene.is_over().await;
    switch(&testbed, false).await;
    scene.is_over().await;
    // And can begin anew at once.
    let anew = testbed.tokens("web", "openid offline_access").await;
    assert!(is_good(&testbed, &anew).await);
    assert_eq!(testbed.refresh("web", anew["refresh_token"].as_str().unwrap()).await.status, 200);
}

#[tokio::test]
async fn who_has_the_id_of_somebody_removed_has_not_lost_their_roles() {
    let testbed = TestBed::new().await;
    let mut scene = Scene::new(&testbed).await;
    let (alice, version) = testbed.realm.find_user_by_id("alice").await.unwrap().unwrap();
    testbed.set_roles("alice", &[]).await;
    assert!(!is_good(&testbed, &scene.online).await);
    assert_eq!(
        testbed.realm.remove_user("alice", Expect::Version(version)).await.unwrap(),
        Written::Conflict
    );
    assert_eq!(testbed.realm.remove_user("alice", Expect::Present).await.unwrap(), Written::Done);
    testbed.advance(1);
    testbed.realm.put_user(&alice).await.unwrap();
    testbed.give_password("alice").await;
    testbed.advance(1);
    scene.is_over().await;
    let anew = testbed.tokens("web", "openid").await;
    assert!(is_good(&testbed, &anew).await);
    testbed.set_roles("alice", &[]).await;
    assert!(!is_good(&testbed, &anew).await);
}

#[tokio::test]
async fn another_password_ends_what_the_old_one_began() {
    let testbed = TestBed::new().await;
    let mut scene = Scene::new(&testbed).await;
    testbed.realm.set_password("alice", Secret::new("another password".to_owned())).await.unwrap();
    scene.is_over().await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    assert!(browser.log_in(&page).await.text.contains("type=\"password\""), "the old password");
    let page = browser.authorize("web", &[("scope", "openid")]).await;
    let answer = browser.submit(&page, &[("username", "alice"), ("password", "another password")]).await;
    // In the same second as the change: good all the same.
    let tokens = testbed.redeem("web", &answer.answer()["code"]).await.json();
    assert!(is_good(&testbed, &tokens).await);
    let nobody = testbed.realm.set_password("nobody", Secret::new("x".to_owned())).await;
    assert!(nobody.unwrap_err().to_string().contains("there is none"));
}

#[tokio::test]
async fn an_administrator_signs_somebody_out_everywhere() {
    let testbed = TestBed::new().await;
    let mut scene = Scene::new(&testbed).await;
    let ended = testbed.realm.sign_out("alice").await.unwrap();
    assert_eq!(ended, 2, "a session with its grant, and the offline grant");
    scene.is_over().await;
    assert_eq!(testbed.realm.sign_out("alice").await.unwrap(), 0);
}

#[tokio::test]
async fn one_session_or_one_grant_ends_alone() {
    let testbed = TestBed::new().await;
    let scene = Scene::new(&testbed).await;
    let session = testbed.realm.sessions("alice").await.unwrap().remove(0);
    assert_eq!((session.user.as_str(), &session.amr), ("alice", &vec!["pwd".to_owned()]));
    testbed.realm.end_session(&session.id).await.unwrap();
    assert!(!is_good(&testbed, &scene.online).await);
    assert!(is_good(&testbed, &scene.offline).await, "it goes on without its session");
    let grants = testbed.realm.grants("alice").await.unwrap();
    assert_eq!((grants.len(), grants[0].offline), (1, true));
    testbed.realm.end_grant(&grants[0].id).await.unwrap();
    assert!(!is_good(&testbed, &scene.offline).await);
    assert!(is_good(&testbed, &scene.of_bob).await);
}

#[tokio::test]
async fn somebody_who_is_removed_leaves_nothing_behind() {
    let testbed = TestBed::new().await;
    let mut scene = Scene::new(&testbed).await;
    let (_, version) = testbed.realm.find_user_by_id("alice").await.unwrap().unwrap();
    switch(&testbed, false).await;
    let stale = testbed.realm.remove_user("alice", Expect::Version(version)).await.unwrap();
    assert_eq!(stale, Written::Conflict, "changed in between");
    assert_eq!(testbed.realm.remove_user("alice", Expect::Any).await.unwrap(), Written::Done);
    scene.is_over().await;
    assert!(testbed.realm.find_user("alice").await.unwrap().is_none());
    assert!(testbed.realm.password_hash("alice").await.unwrap().is_none());
    // Somebody else may have the name, and has nothing of hers.
    testbed.realm.put_user(&identity::User::new("alice2", "alice", testbed.clock.now())).await.unwrap();
    assert!(testbed.realm.sessions("alice2").await.unwrap().is_empty());
}

/// A login that had begun when the password was changed, by somebody who knew the old one.
#[tokio::test]
async fn a_session_that_began_before_the_change_and_was_written_after_it_is_over() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    let session = testbed.realm.sessions("alice").await.unwrap().remove(0);
    // As if the session's record had come after the sign-out had looked for it.
    sign_out_and_no_more(&testbed).await;
    assert!(session.authenticated < testbed.clock.now());
    assert!(browser.authorize("web", &[]).await.text.contains("type=\"password\""));
}

/// Whoever knew the old password, and stands before the second step.
#[tokio::test]
async fn a_login_that_was_half_done_goes_no_further() {
    const KEY: &[u8] = b"12345678901234567890";
    for (enrolled, another) in [(false, true), (false, false), (true, true), (true, false)] {
        let testbed =
            TestBed::with(|settings| drop(settings.factors.roles.insert("customer".into(), "2".into())))
                .await;
        if enrolled {
            testbed.realm.put_totp("alice", "phone", Secret::new(KEY.to_vec())).await.unwrap();
        }
        let mut thief = Browser::new(&testbed);
        let page = thief.authorize("web", &[]).await;
        let page = thief.log_in(&page).await;
        let app = if enrolled { App::of(KEY) } else { App::scan(&page) };
        testbed.advance(1);
        if another {
            let password = Secret::new("another password".to_owned());
            testbed.realm.set_password("alice", password).await.unwrap();
        } else {
            testbed.realm.sign_out("alice").await.unwrap();
        }
        testbed.advance(1);
        let what = format!("enrolled {enrolled}, another password {another}");
        let (_, hidden) = read_form(&page.text);
        let around = thief.go(&format!("/realms/shop/flow?flow={}", hidden["flow"])).await;
        assert_eq!(around.status, 400, "{what}: {around:?}");
        let reply = thief.submit(&page, &[("code", &app.code(&testbed, 0))]).await;
        assert!(reply.status == 400 && reply.text.contains("This login is over"), "{what}: {reply:?}");
        assert!(thief.session().is_none(), "{what}");
        assert_eq!(testbed.realm.factors("alice").await.unwrap().len(), usize::from(enrolled), "{what}");
        // Whoever begins after it is asked for the same, and gets on.
        let password = if another { "another password" } else { PASSWORD };
        let mut alice = Browser::new(&testbed);
        let page = alice.authorize("web", &[]).await;
        let page = alice.submit(&page, &[("username", "alice"), ("password", password)]).await;
        let app = if enrolled { App::of(KEY) } else { App::scan(&page) };
        alice.submit(&page, &[("code", &app.code(&testbed, 0))]).await;
        assert!(alice.session().is_some(), "{what}");
    }
}

/// What stands first of a sign-out, as if whoever did it had gone away before the rest.
async fn sign_out_and_no_more(testbed: &TestBed) {
    testbed.advance(1);
    let (mut alice, _) = testbed.realm.find_user_by_id("alice").await.unwrap().unwrap();
    alice.signed_out = Some(testbed.clock.now());
    testbed.realm.put_user(&alice).await.unwrap();
    testbed.advance(1);
}

#[tokio::test]
async fn a_sign_out_counts_before_anything_is_tidied_up() {
    let testbed = TestBed::new().await;
    let mut tv = client("tv", ClientAuthentication::None);
    tv.grant_types = [GrantType::DeviceCode].into();
    tv.scopes = ["openid".to_owned()].into();
    testbed.put(tv).await;
    let scene = Scene::new(&testbed).await;
    let (mut browser, of_bob) = (scene.browser, scene.of_bob);
    let device =
        testbed.post("/device_authorization", &[("client_id", "tv"), ("scope", "openid")]).await.json();
    let device_code = device["device_code"].as_str().unwrap();
    let page = browser.go(device["verification_uri_complete"].as_str().unwrap()).await;
    let allow = [("user_code", device["user_code"].as_str().unwrap()), ("decision", "allow")];
    assert!(browser.submit(&page, &allow).await.text.contains("Connected"));
    let code = browser.authorize("web", &[("scope", "openid")]).await.answer()["code"].clone();
    let mut all = vec![];
    for tokens in [&scene.online, &scene.offline, &of_bob] {
        for name in ["access_token", "refresh_token"] {
            all.push(tokens[name].as_str().unwrap().to_owned());
        }
    }
    let introspect = async |token: &str, client: &str| {
        let pairs = [("token", token), ("client_id", client), ("client_secret", SECRET)];
        testbed.post("/introspect", &pairs).await.json()["active"].as_bool().unwrap()
    };
    let userinfo = async |token: &str| {
        testbed.post_with("/userinfo", ("authorization", &format!("Bearer {token}")), &[]).await.status
    };
    let exchange = async |token: &str| {
        let pairs = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("client_id", "service"),
            ("client_secret", SECRET),
            ("resource", ORDERS),
        ];
        testbed.post("/token", &pairs).await
    };
    for token in &all {
        assert!(introspect(token, "web").await);
    }
    assert_eq!((userinfo(&all[0]).await, exchange(&all[0]).await.status), (StatusCode::OK, StatusCode::OK));
    sign_out_and_no_more(&testbed).await;
    assert!(!testbed.realm.grants("alice").await.unwrap().is_empty(), "not tidied up");
    for (place, token) in all.iter().enumerate() {
        assert_eq!(introspect(token, "web").await, place >= 4, "token {place}");
    }
    assert_eq!(userinfo(&all[0]).await, StatusCode::UNAUTHORIZED);
    exchange(&all[0]).await.refused(400, "invalid_request");
    testbed.redeem("web", &code).await.refused(400, "invalid_grant");
    let device = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", device_code),
        ("client_id", "tv"),
    ];
    testbed.post("/token", &device).await.refused(400, "invalid_grant");
    // Her neighbour's are as good as before.
    assert_eq!((userinfo(&all[4]).await, exchange(&all[4]).await.status), (StatusCode::OK, StatusCode::OK));
}

/// By a process whose clock is behind, at any moment of the login. How many steps a login has
/// depends on how fast its threads are: the moment between the password and the session, which is
/// a step or two of it, is looked for until it is met.
#[tokio::test]
async fn a_login_that_another_password_overtakes_is_over() {
    const RUNS_MAX: usize = 20;
    let (mut runs, mut polls, mut not_begun) = (0, 0, 0);
    loop {
        let testbed = TestBed::new().await;
        testbed.realm.set_password("bob", Secret::new("another password".to_owned())).await.unwrap();
        let another = testbed.realm.password_hash("bob").await.unwrap().unwrap();
        let mut thief = Browser::new(&testbed);
        let page = thief.authorize("web", &[]).await;
        let mut login = Steps::of(thief.log_in(&page));
        polls += 1;
        let whole = login.go(polls).await.is_some();
        testbed.clock.set_back(1);
        testbed.realm.put_password_hash("alice", &another).await.unwrap();
        testbed.clock.advance(1);
        if !whole {
            login.go(usize::MAX).await;
        }
        drop(login);
        let told = std::mem::take(&mut *testbed.diary.events.lock().unwrap());
        let logins = told.iter().filter(|event| event.activity == AccountActivity::LogOn);
        let failures: Vec<_> = logins.map(|event| event.failure).collect();
        assert!(failures.len() <= 1, "after {polls} polls: {failures:?}");
        not_begun += usize::from(failures == [Some(Failure::NotBegun)]);
        let page = thief.authorize("web", &[]).await;
        assert!(page.text.contains("type=\"password\""), "after {polls} polls: {page:?}");
        if whole {
            assert!(polls > 1);
            if not_begun > 0 {
                break;
            }
            (runs, polls) = (runs + 1, 0);
            assert!(runs < RUNS_MAX, "no login of {runs} times all its steps was overtaken");
        }
    }
}

/// The forms of whoever has a session, or knew the password, at any moment of which its person
/// gives themselves another password, or ends the session.
#[tokio::test]
async fn a_change_of_credentials_that_a_sign_out_overtakes_is_none() {
    const STOLEN: &str = "a horse of another colour 42";
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum What {
        Password,
        Factor,
        FactorInLogin,
    }
    for what in [What::Password, What::Factor, What::FactorInLogin] {
        let role = |settings: &mut identity::RealmSettings| {
            if what == What::FactorInLogin {
                settings.factors.roles.insert("customer".into(), "2".into());
            }
        };
        let (mut between, mut polls) = (0, 0);
        loop {
            let testbed = TestBed::with(role).await;
            testbed.realm.set_password("bob", Secret::new("another password".to_owned())).await.unwrap();
            let another = testbed.realm.password_hash("bob").await.unwrap().unwrap();
            let mut thief = Browser::new(&testbed);
            let page = match what {
                What::Password => thief.go("/realms/shop/account/password").await,
                What::Factor => thief.go("/realms/shop/account/factor").await,
                What::FactorInLogin => thief.authorize("web", &[]).await,
            };
            let page = thief.log_in(&page).await;
            // The session is noted as used by the form: a moment of its own.
            testbed.advance(61);
            let (action, mut fields) = read_form(&page.text);
            fields.remove("credential");
            if what == What::Password {
                fields.extend(["password", "again"].map(|name| (name.to_owned(), STOLEN.to_owned())));
            } else {
                fields.insert("code".to_owned(), App::scan(&page).code(&testbed, 0));
            }
            let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
            let mut change = Steps::of(thief.post(&action, &fields));
            polls += 1;
            let whole = change.go(polls).await.is_some();
            testbed.settle().await;
            let before = testbed.realm.factors("alice").await.unwrap().len();
            if what == What::Factor {
                for session in testbed.realm.sessions("alice").await.unwrap() {
                    testbed.realm.end_session(&session.id).await.unwrap();
                }
            } else {
                testbed.clock.set_back(1);
                testbed.realm.put_password_hash("alice", &another).await.unwrap();
                testbed.clock.advance(1);
            }
            let reply = if whole { None } else { change.go(usize::MAX).await };
            drop(change);
            let told = format!("{what:?} after {polls} polls: {reply:?}");
            let hash = testbed.realm.password_hash("alice").await.unwrap();
            assert!(what == What::Factor || hash == Some(another), "{told}");
            assert_eq!(testbed.realm.factors("alice").await.unwrap().len(), before, "{told}");
            if whole {
                break;
            }
            between += 1;
        }
        assert!(between > 0, "{what:?}: {between}");
    }
}

#[tokio::test]
async fn a_family_ends_with_all_its_tokens_however_many_there_were() {
    let testbed = TestBed::new().await;
    let mut tokens = testbed.tokens("web", "openid offline_access").await;
    let mut all = vec![tokens.clone()];
    for _ in 0..40 {
        testbed.advance(1);
        tokens = testbed.refresh("web", tokens["refresh_token"].as_str().unwrap()).await.json();
        all.push(tokens.clone());
    }
    testbed.advance(60);
    testbed.refresh("web", all[0]["refresh_token"].as_str().unwrap()).await.refused(400, "invalid_grant");
    for (place, tokens) in all.iter().enumerate() {
        assert!(!is_good(&testbed, tokens).await, "token {place}");
    }
    let entries = testbed.realm.revocations().await.unwrap();
    assert_eq!(entries.len(), 1, "one entry says it: {entries:?}");
}

async fn offline(testbed: &TestBed, browser: &mut Browser<'_>) -> Value {
    let answer = browser.authorize("web", &[("scope", "openid offline_access")]).await.answer();
    testbed.redeem("web", &answer["code"]).await.json()
}

#[tokio::test]
async fn what_is_taken_back_is_read_once_and_then_as_it_changes() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[("scope", "openid")]).await;
    let revoke = async |browser: &mut Browser<'_>| {
        let tokens = offline(&testbed, browser).await;
        let token = tokens["refresh_token"].as_str().unwrap();
        let pairs = [("token", token), ("client_id", "web"), ("client_secret", SECRET)];
        assert_eq!(testbed.post("/revoke", &pairs).await.status, 200);
    };
    for _ in 0..20 {
        revoke(&mut browser).await;
    }
    let mut feed = testbed.realm.follow_revocations().await.unwrap();
    assert_eq!((feed.list().len(), feed.records_read()), (20, 20));
    for number in 21..=25 {
        revoke(&mut browser).await;
        feed.changed().await.unwrap();
        assert_eq!((feed.list().len() as u64, feed.records_read()), (number, number));
    }
    let sorted = |mut entries: Vec<Revocation>| {
        entries.sort_by(|one, other| one.grant.cmp(&other.grant));
        entries
    };
    assert_eq!(sorted(feed.list()), sorted(testbed.realm.revocations().await.unwrap()));
    // A sign-out takes several things back in one transaction, and that is one change.
    for _ in 0..2 {
        offline(&testbed, &mut browser).await;
    }
    testbed.realm.sign_out("alice").await.unwrap();
    feed.changed().await.unwrap();
    let told = testbed.realm.revocations().await.unwrap();
    assert!(told.len() > 26, "{told:?}");
    assert_eq!(feed.list().len(), told.len(), "all of it at once");
    // What is over is forgotten here too.
    testbed.advance(365 * 24 * 3600);
    testbed.store.maintain().await.unwrap();
    let gone = async {
        while !feed.list().is_empty() {
            feed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.unwrap();
    assert!(testbed.realm.revocations().await.unwrap().is_empty());
}

#[tokio::test]
async fn listings_go_on_past_a_thousand() {
    let testbed = TestBed::new().await;
    for number in 0..1_100 {
        let name = format!("user{number}");
        testbed.realm.put_user(&identity::User::new(&name, &name, testbed.clock.now())).await.unwrap();
    }
    assert_eq!(testbed.realm.users().await.unwrap().len(), 1_102);
    let (mut seen, mut after) = (std::collections::BTreeSet::new(), None);
    loop {
        let page = testbed.realm.users_page(after.as_ref(), 300).await.unwrap();
        assert!(page.items.len() <= 300);
        seen.extend(page.items.into_iter().map(|(user, _)| user.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 1_102);
}

#[tokio::test]
async fn a_client_that_is_switched_off_may_refer_to_what_is_gone() {
    let testbed = TestBed::new().await;
    let mut gone = web("gone", secret());
    gone.scopes.insert("no:such".to_owned());
    assert!(testbed.realm.put_client(&gone).await.is_err());
    gone.disabled = true;
    testbed.realm.put_client(&gone).await.unwrap();
    let (stored, version) = testbed.realm.find_client("gone").await.unwrap().unwrap();
    assert_eq!(stored, gone);
    gone.disabled = false;
    gone.scopes.remove("no:such");
    assert_eq!(testbed.realm.write_client(&gone, Expect::Version(version)).await.unwrap(), Written::Done);
    assert_eq!(testbed.realm.write_client(&gone, Expect::Version(version)).await.unwrap(), Written::Conflict);
    assert_eq!(testbed.realm.remove_client("gone", Expect::Any).await.unwrap(), Written::Done);
    assert!(testbed.realm.find_client("gone").await.unwrap().is_none());
    // Malformed is malformed, switched off or not.
    gone.disabled = true;
    gone.redirect_uris = vec!["javascript:x".to_owned()];
    assert!(testbed.realm.put_client(&gone).await.is_err());
}

/// Lifetimes are lowered because a token is in wrong hands: it is as old as it was.
#[tokio::test]
async fn what_is_revoked_stays_so_for_as_long_as_tokens_lasted_when_they_were_issued() {
    const HOUR: u64 = 3600;
    let testbed =
        TestBed::with(|settings| settings.lifetimes.access_token = Duration::from_secs(24 * HOUR)).await;
    let own = [("grant_type", "client_credentials"), ("client_id", "service"), ("client_secret", SECRET)];
    let tokens = testbed.post("/token", &own).await.json();
    assert_eq!(tokens["expires_in"], 24 * HOUR);
    let lowered = TestBed::on(testbed.store.clone(), Arc::clone(&testbed.clock), |_| {}).await;
    assert!(gateway_takes(&lowered, &tokens).await);
    let (mut service, _) = lowered.realm.find_client("service").await.unwrap().unwrap();
    service.disabled = true;
    lowered.put(service).await;
    lowered.realm.sign_out("bob").await.unwrap();
    let revoked = lowered.realm.revocations().await.unwrap().len();
    for hours in [0, 1, 22] {
        lowered.advance(hours * HOUR);
        // As it opens again, too.
        let _ = TestBed::on(testbed.store.clone(), Arc::clone(&testbed.clock), |_| {}).await;
        assert!(!gateway_takes(&lowered, &tokens).await, "{hours}");
        assert!(lowered.realm.revocations().await.unwrap().len() >= revoked, "{hours}");
    }
}

#[tokio::test]
async fn a_role_that_is_taken_away_ends_the_tokens_that_say_so_and_nothing_else() {
    for what in ["role", "group"] {
        let testbed = TestBed::new().await;
        let change = async |names: &[&str]| {
            let mut alice = testbed.realm.find_user("alice").await.unwrap().unwrap();
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            *(if what == "role" { &mut alice.roles } else { &mut alice.groups }) = names;
            testbed.realm.put_user(&alice).await.unwrap();
        };
        change(&["customer", "admin"]).await;
        let mut scene = Scene::new(&testbed).await;
        // Neither what is added nor what stays ends anything.
        change(&["customer", "admin", "helpdesk"]).await;
        assert!(testbed.realm.revocations().await.unwrap().is_empty(), "{what}");
        // Also what was issued in this very second.
        let online = testbed.refresh("web", scene.online["refresh_token"].as_str().unwrap()).await.json();
        let by_exchange = exchange(&testbed, &online).await.json();
        let issued = [&scene.online, &scene.offline, &online, &by_exchange];
        for tokens in issued {
            assert!(is_good(&testbed, tokens).await, "{what}");
        }
        change(&["customer"]).await;
        for tokens in issued {
            assert!(!is_good(&testbed, tokens).await, "{what}");
        }
        assert!(is_good(&testbed, &scene.of_bob).await, "{what}: bob's");
        // Sessions and grants stay: refreshed at once, the tokens are good and without it.
        let refreshed = [
            testbed.refresh("web", online["refresh_token"].as_str().unwrap()).await.json(),
            testbed.refresh("web", scene.offline["refresh_token"].as_str().unwrap()).await.json(),
        ];
        for tokens in &refreshed {
            assert!(is_good(&testbed, tokens).await, "{what}");
            let roles = &payload(tokens["access_token"].as_str().unwrap())["roles"];
            assert_eq!(roles, &serde_json::json!(["customer"]), "{what}");
        }
        let answer = scene.browser.authorize("web", &[("scope", "openid")]).await.answer();
        let anew = testbed.redeem("web", &answer["code"]).await.json();
        assert!(is_good(&testbed, &anew).await, "{what}: without another login");
        // Nor does a later change of something else.
        change(&["customer", "helpdesk"]).await;
        assert!(is_good(&testbed, &anew).await, "{what}");
        // A second loss in the same second ends what they got after the first, and so on.
        change(&["helpdesk"]).await;
        for tokens in [&anew, &refreshed[0], &refreshed[1]] {
            assert!(!is_good(&testbed, tokens).await, "{what}: twice in a second");
        }
        let again = testbed.refresh("web", refreshed[0]["refresh_token"].as_str().unwrap()).await.json();
        assert!(is_good(&testbed, &again).await, "{what}: after the second loss");
        change(&[]).await;
        assert!(!is_good(&testbed, &again).await, "{what}: three times in a second");
        testbed.advance(10);
        let later = testbed.refresh("web", again["refresh_token"].as_str().unwrap()).await.json();
        let second = payload(later["access_token"].as_str().unwrap())["iat"].as_u64().unwrap();
        assert_eq!(second, testbed.now().unix_seconds(), "{what}");
        // Nor does switching off and on again bring anything back.
        switch(&testbed, true).await;
        switch(&testbed, false).await;
        for tokens in issued.into_iter().chain([&anew, &refreshed[0], &refreshed[1], &again]) {
            assert!(!gateway_takes(&testbed, tokens).await, "{what}: switched off and on again");
        }
    }
}

/// By a process whose clock is behind, at any moment of what makes the token.
#[tokio::test]
async fn a_token_that_is_made_while_a_role_is_taken_away_is_not_good_with_it() {
    let mut kept = 0;
    for by in ["refresh", "exchange", "code"] {
        let mut polls = 0;
        loop {
            let testbed = TestBed::new().await;
            let change = async |roles: &[&str]| {
                let mut alice = testbed.realm.find_user("alice").await.unwrap().unwrap();
                alice.roles = roles.iter().map(|role| (*role).to_owned()).collect();
                testbed.realm.put_user(&alice).await.unwrap();
            };
            change(&["customer", "admin"]).await;
            let mut browser = Browser::new(&testbed);
            let answer = browser.log_in_for("web", &[("scope", "openid orders:read")]).await;
            let making: Pin<Box<dyn Future<Output = Reply>>> = if by == "code" {
                Box::pin(testbed.redeem("web", &answer["code"]))
            } else {
                let tokens = testbed.redeem("web", &answer["code"]).await.json();
                let testbed = &testbed;
                Box::pin(async move {
                    match by {
                        "refresh" => testbed.refresh("web", tokens["refresh_token"].as_str().unwrap()).await,
                        _ => exchange(testbed, &tokens).await,
                    }
                })
            };
            let mut making = Steps::of(making);
            polls += 1;
            let mut made = making.go(polls).await;
            let whole = made.is_some();
            testbed.clock.set_back(2);
            change(&["customer"]).await;
            testbed.clock.advance(2);
            if !whole {
                made = making.go(usize::MAX).await;
            }
            let made = made.unwrap();
            // An exchange may find that its token is not good any more.
            if made.status == StatusCode::OK {
                let tokens = made.json();
                let claims = payload(tokens["access_token"].as_str().unwrap());
                if claims["roles"].as_array().unwrap().contains(&"admin".into()) {
                    assert!(!is_good(&testbed, &tokens).await, "{by}, after {polls} polls");
                    kept += usize::from(!whole);
                }
            }
            if whole {
                break;
            }
        }
    }
    assert!(kept > 0, "nothing came in between");
}

#[tokio::test]
async fn a_role_that_is_taken_from_a_client_ends_the_tokens_about_it() {
    let testbed = TestBed::new().await;
    let of_alice = testbed.tokens("web", "openid orders:read").await;
    let machine = [
        ("grant_type", "client_credentials"),
        ("resource", ORDERS),
        ("client_id", "service"),
        ("client_secret", SECRET),
    ];
    let own = testbed.post("/token", &machine).await.json();
    let about_it = exchange(&testbed, &own).await.json();
    let for_alice = exchange(&testbed, &of_alice).await.json();
    let (mut service, _) = testbed.realm.find_client("service").await.unwrap().unwrap();
    service.roles.insert("reader".to_owned());
    testbed.put(service.clone()).await;
    assert!(testbed.realm.revocations().await.unwrap().is_empty());
    service.roles.remove("machine");
    testbed.put(service).await;
    for tokens in [&own, &about_it] {
        assert!(!is_good(&testbed, tokens).await);
    }
    for tokens in [&of_alice, &for_alice] {
        assert!(is_good(&testbed, tokens).await, "what it got about others says nothing of its roles");
    }
    testbed.advance(1);
    let anew = testbed.post("/token", &machine).await.json();
    assert!(is_good(&testbed, &anew).await);
    assert_eq!(payload(anew["access_token"].as_str().unwrap())["roles"], serde_json::json!(["reader"]));
}

/// What the service gets for a token, for payments.
async fn exchange(testbed: &TestBed, tokens: &Value) -> Reply {
    let exchange = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", tokens["access_token"].as_str().unwrap()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("resource", PAYMENTS),
        ("client_id", "service"),
        ("client_secret", SECRET),
    ];
    testbed.post("/token", &exchange).await
}
