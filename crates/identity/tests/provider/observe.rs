//! What is told of logins, logouts and changes of what one logs in with: who, from where, for which
//! client, and why not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use identity::observe::{AccountActivity, Event, Failure};
use model::Secret;
use serde_json::{Value, json};
use store::{Expect, Key};

use crate::account;
use crate::factors::App;
use crate::support::{Browser, PASSWORD, Steps, TestBed, read_form, secret, web};

const ADDRESS: &str = "192.0.2.7";
const ANOTHER: &str = "another correct horse battery";
const KEY: &[u8] = b"12345678901234567890";

/// What was told since the last time.
fn told(testbed: &TestBed) -> Vec<Event> {
    std::mem::take(&mut *testbed.diary.events.lock().unwrap())
}

/// The one event that was told, once it was: some are beside the answer.
async fn one(testbed: &TestBed) -> Event {
    for _ in 0..1000 {
        let mut events = told(testbed);
        if let Some(event) = events.pop() {
            assert!(events.is_empty(), "{event:?} {events:?}");
            return event;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing was told");
}

#[tokio::test]
async fn each_login_is_told_with_its_person_address_client_and_reason() {
    let testbed = TestBed::new().await;
    testbed.give_password("bob").await;
    let mut bob = testbed.realm.find_user("bob").await.unwrap().unwrap();
    bob.disabled = true;
    testbed.realm.put_user(&bob).await.unwrap();
    let carol = identity::User::new("carol", "carol", testbed.now());
    testbed.realm.put_user(&carol).await.unwrap();
    told(&testbed);
    for (typed, password, user, failure) in [
        ("Alice", PASSWORD, "alice", None),
        ("alice", "wrong", "alice", Some(Failure::WrongPassword)),
        ("bob", PASSWORD, "bob", Some(Failure::Disabled)),
        ("bob", "wrong", "bob", Some(Failure::Disabled)),
        ("carol", "wrong", "carol", Some(Failure::NoPassword)),
        ("my secret pass phrase", "wrong", "", Some(Failure::UnknownUser)),
    ] {
        let mut browser = Browser::at(&testbed, ADDRESS);
        let page = browser.authorize("web", &[]).await;
        browser.submit(&page, &[("username", typed), ("password", password)]).await;
        let event = one(&testbed).await;
        assert_eq!((event.activity, event.failure), (AccountActivity::LogOn, failure), "{typed}");
        assert_eq!((event.user_id.as_str(), event.client.as_str()), (user, "web"), "{typed}");
        assert_eq!((event.realm.as_str(), event.path.as_str()), ("shop", "/realms/shop/login"));
        assert_eq!(event.address.unwrap().to_string(), ADDRESS);
        assert_eq!(event.session.is_empty(), failure.is_some());
        let methods: &[&str] = if failure.is_some() { &[] } else { &["pwd"] };
        assert_eq!(event.methods, methods);
        if user.is_empty() {
            // It may be a password: not a word of it, and the same for the same.
            assert!(event.user_name.starts_with("unknown:") && event.user_name.len() == 24, "{event:?}");
            assert!(!format!("{event:?}").contains("secret"), "{event:?}");
        } else {
            assert_eq!(event.user_name, user);
        }
    }
}

#[tokio::test]
async fn attempts_that_are_not_judged_are_told() {
    let testbed = TestBed::new().await;
    let mut failures = Vec::new();
    for _ in 0..7 {
        let mut browser = Browser::at(&testbed, ADDRESS);
        let page = browser.authorize("web", &[]).await;
        browser.submit(&page, &[("username", "alice"), ("password", "wrong")]).await;
        let event = one(&testbed).await;
        assert_eq!((event.user_name.as_str(), event.client.as_str()), ("alice", "web"));
        failures.push(event.failure.unwrap());
    }
    // The sixth is the first that others wait for.
    assert_eq!(failures[..6], [Failure::WrongPassword; 6]);
    assert_eq!(failures[6], Failure::Throttled);
}

#[tokio::test]
async fn no_session_begins_that_is_not_told_of() {
    let testbed = TestBed::new().await;
    testbed.diary.is_full.store(true, Ordering::SeqCst);
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let refused = browser.log_in(&page).await;
    assert_eq!(refused.status.as_u16(), 503, "{}", refused.text);
    assert!(browser.session().is_none());
    assert!(testbed.realm.sessions("alice").await.unwrap().is_empty());
    testbed.diary.is_full.store(false, Ordering::SeqCst);
    let page = browser.authorize("web", &[]).await;
    assert!(browser.log_in(&page).await.field("location").contains("code="));
    assert_eq!(testbed.realm.sessions("alice").await.unwrap().len(), 1);
}

/// Nor does one end for it: neither that which is renewed or stepped up, nor another person's.
#[tokio::test]
async fn a_login_that_cannot_be_told_of_ends_no_session() {
    let testbed = TestBed::with(|settings| settings.factors.ask_enrolled = false).await;
    testbed.give_password("bob").await;
    testbed.realm.put_totp("alice", "phone", Secret::new(KEY.to_vec())).await.unwrap();
    let mut hears = web("hears", secret());
    hears.backchannel_logout_uri = Some("https://hears.example/logout".to_owned());
    testbed.put(hears).await;
    let mut browser = Browser::new(&testbed);
    let code = browser.log_in_for("hears", &[]).await["code"].clone();
    let tokens = testbed.redeem("hears", &code).await.json();
    let cookie = browser.session().cloned();
    told(&testbed);
    let code = App::of(KEY).code(&testbed, 0);
    for (asked, fields) in [
        (("prompt", "login"), &[("username", "alice"), ("password", PASSWORD)][..]),
        (("prompt", "login"), &[("username", "bob"), ("password", PASSWORD)]),
        (("acr_values", "2"), &[("code", &code)]),
    ] {
        let page = browser.authorize("web", &[asked]).await;
        testbed.diary.is_full.store(true, Ordering::SeqCst);
        let refused = browser.submit(&page, fields).await;
        testbed.diary.is_full.store(false, Ordering::SeqCst);
        assert_eq!(refused.status.as_u16(), 503, "{fields:?}: {refused:?}");
        assert_eq!(browser.session(), cookie.as_ref(), "{fields:?}");
        assert!(browser.authorize("web", &[]).await.answer().contains_key("code"), "{fields:?}");
        assert_eq!(testbed.realm.sessions("alice").await.unwrap().len(), 1, "{fields:?}");
    }
    assert!(testbed.realm.sessions("bob").await.unwrap().is_empty());
    testbed.realm.deliver_logouts().await.unwrap();
    assert!(testbed.mailbox.letters.lock().unwrap().is_empty());
    assert!(testbed.is_active(tokens["access_token"].as_str().unwrap()).await);
    assert_eq!(testbed.refresh("hears", tokens["refresh_token"].as_str().unwrap()).await.status, 200);
    assert_eq!(told(&testbed).len(), 0);
}

/// What somebody does whose client may hang up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    LogIn,
    FailAtFactor,
    LogOut,
    ChangePassword,
    AddFactor,
    NewCodes,
    RemoveFactor,
}

impl Deed {
    const ALL: [Self; 7] = [
        Self::LogIn,
        Self::FailAtFactor,
        Self::LogOut,
        Self::ChangePassword,
        Self::AddFactor,
        Self::NewCodes,
        Self::RemoveFactor,
    ];

    fn needs_factor(self) -> bool {
        matches!(self, Self::FailAtFactor | Self::NewCodes | Self::RemoveFactor)
    }

    /// The form by which alice does it, ready to be sent.
    async fn form(self, testbed: &TestBed, browser: &mut Browser<'_>) -> (String, Vec<(String, String)>) {
        const ACCOUNT: &str = "/realms/shop/account";
        let login = browser.go(ACCOUNT).await;
        let mut page = if self == Self::LogIn { login } else { browser.log_in(&login).await };
        if matches!(self, Self::NewCodes | Self::RemoveFactor) {
            page = browser.submit(&page, &[("code", &App::of(KEY).code(testbed, 0))]).await;
        }
        let at = match self {
            Self::LogOut => "/realms/shop/logout",
            Self::ChangePassword => "/realms/shop/account/password",
            Self::AddFactor => "/realms/shop/account/factor",
            Self::LogIn | Self::FailAtFactor | Self::NewCodes | Self::RemoveFactor => "",
        };
        if !at.is_empty() {
            page = browser.go(at).await;
        }
        let (action, mut fields) = read_form(&page.text);
        let own = |more: (&str, &str)| {
            let fields = [("csrf", &*account::csrf(&page)), more];
            let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
            (format!("{ACCOUNT}/factors"), fields.to_vec())
        };
        let more = match self {
            Self::LogIn => vec![("username", "alice".to_owned()), ("password", PASSWORD.to_owned())],
            Self::FailAtFactor => vec![("code", App::of(KEY).wrong(testbed))],
            Self::LogOut => vec![("decision", "logout".to_owned())],
            Self::ChangePassword => vec![("password", ANOTHER.to_owned()), ("again", ANOTHER.to_owned())],
            Self::AddFactor => vec![("code", App::scan(&page).code(testbed, 0))],
            Self::NewCodes => return own(("recovery", "new")),
            Self::RemoveFactor => return own(("remove", &account::buttons(&page, "remove")[0])),
        };
        fields.remove("credential");
        fields.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        (action, fields.into_iter().collect())
    }

    /// How often it was done, from what stands in the store; and of events, how many say so.
    async fn done(self, testbed: &TestBed, hash: &str, events: &[Event]) -> (usize, usize) {
        let sessions = testbed.realm.sessions("alice").await.unwrap().len();
        let key = Key::new("identity").hidden("shop").name("factors").hidden("alice");
        let factors = testbed.store.get(&key).await.unwrap().map(|record| record.json::<Value>().unwrap());
        let enrolled = testbed.realm.factors("alice").await.unwrap().len();
        let codes = usize::from(factors.as_ref().is_some_and(|record| record["recovery"] != json!([])));
        let changed = testbed.realm.password_hash("alice").await.unwrap().as_deref() != Some(hash);
        let wrong = factors.and_then(|record| record["wrong"].as_u64()).unwrap_or_default();
        let (done, activity, failure) = match self {
            Self::LogIn => (sessions, AccountActivity::LogOn, None),
            Self::FailAtFactor => {
                (usize::try_from(wrong).unwrap(), AccountActivity::LogOn, Some(Failure::WrongFactor))
            }
            Self::LogOut => (1 - sessions, AccountActivity::LogOff, None),
            Self::ChangePassword => (usize::from(changed), AccountActivity::ChangePassword, None),
            // With the first one come codes.
            Self::AddFactor => (enrolled + codes, AccountActivity::AddFactor, None),
            Self::NewCodes => (codes, AccountActivity::AddFactor, None),
            Self::RemoveFactor => (1 - enrolled, AccountActivity::RemoveFactor, None),
        };
        let says_so = |event: &&Event| (event.activity, event.failure) == (activity, failure);
        (done, events.iter().filter(says_so).count())
    }
}

/// At any moment of it.
#[tokio::test]
async fn whoever_hangs_up_leaves_the_event_of_what_they_did() {
    for deed in Deed::ALL {
        let (mut cut_short, mut polls, mut rounds) = (0, 0, 0);
        // Once more where the store was faster than whoever hung up.
        while rounds == 0 || (cut_short == 0 && rounds < 50) {
            polls += 1;
            let testbed = TestBed::new().await;
            if deed.needs_factor() {
                testbed.realm.put_totp("alice", "phone", Secret::new(KEY.to_vec())).await.unwrap();
            }
            let hash = testbed.realm.password_hash("alice").await.unwrap().unwrap();
            let mut browser = Browser::new(&testbed);
            let (action, fields) = deed.form(&testbed, &mut browser).await;
            let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
            told(&testbed);
            let whole = Steps::of(browser.post_and_stay(&action, &fields)).go(polls).await.is_some();
            testbed.settle().await;
            let events = told(&testbed);
            let (done, said) = deed.done(&testbed, &hash, &events).await;
            assert_eq!(said, done, "{deed:?} after {polls} polls: {events:?}");
            if whole {
                assert!(done > 0, "{deed:?}");
                (polls, rounds) = (0, rounds + 1);
            } else {
                cut_short += usize::from(done > 0);
            }
        }
        assert!(cut_short > 0, "{deed:?}: never between the deed and its answer");
    }
}

#[tokio::test]
async fn whom_the_store_does_not_tell_is_not_called_unknown() {
    let testbed = TestBed::new().await;
    for attempt in 0..7 {
        let mut browser = Browser::at(&testbed, ADDRESS);
        let page = browser.authorize("web", &[]).await;
        if attempt == 6 {
            let key = Key::new("identity").hidden("shop").name("user_name").hidden("alice");
            testbed.store.put(key, "no id", None, Expect::Present).await.unwrap();
        }
        browser.submit(&page, &[("username", "alice"), ("password", "wrong")]).await;
        let event = one(&testbed).await;
        let is_told = event.user_name.starts_with("not_looked_up:") && event.user_name.len() == 30;
        assert_eq!((is_told, event.failure == Some(Failure::Throttled)), (attempt == 6, attempt == 6));
    }
}

#[tokio::test]
async fn logouts_and_changes_of_what_one_logs_in_with_are_told() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::at(&testbed, ADDRESS);
    browser.log_in_for("web", &[]).await;
    let session = one(&testbed).await.session;
    let page = browser.go("/realms/shop/logout").await;
    browser.submit(&page, &[("decision", "logout")]).await;
    let event = one(&testbed).await;
    assert_eq!((event.activity, event.why), (AccountActivity::LogOff, "logged_out"));
    assert_eq!((event.user_name.as_str(), &event.session), ("alice", &session));
    assert_eq!(event.address.unwrap().to_string(), ADDRESS);

    browser.log_in_for("web", &[]).await;
    let session = one(&testbed).await.session;
    testbed.realm.end_session(&session).await.unwrap();
    let event = one(&testbed).await;
    assert_eq!((event.why, event.address), ("ended_by_administrator", None));

    // Of several who end one session at once, one has done it.
    browser.log_in_for("web", &[]).await;
    let session = one(&testbed).await.session;
    let end = || testbed.realm.end_session(&session);
    let (first, second, third) = tokio::join!(end(), end(), end());
    assert_eq!([first, second, third].map(|ended| usize::from(ended.unwrap())).iter().sum::<usize>(), 1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(told(&testbed).len(), 1);

    browser.log_in_for("web", &[]).await;
    told(&testbed);
    let page = browser.go("/realms/shop/account/password").await;
    let other = "another correct horse battery";
    browser.submit(&page, &[("password", other), ("again", other)]).await;
    let events: Vec<_> = told(&testbed).into_iter().map(|event| (event.activity, event.user_id)).collect();
    let alice = || "alice".to_owned();
    // In the order in which it is done: the password is why the session ends.
    assert_eq!(events, [(AccountActivity::ChangePassword, alice()), (AccountActivity::LogOff, alice())]);
}
