//! What is told of logins, logouts and changes of what one logs in with: who, from where, for which
//! client, and why not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use identity::observe::{AccountActivity, Event, Failure};

use crate::support::{Browser, PASSWORD, TestBed};

const ADDRESS: &str = "192.0.2.7";

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

    browser.log_in_for("web", &[]).await;
    told(&testbed);
    let page = browser.go("/realms/shop/account/password").await;
    let other = "another correct horse battery";
    browser.submit(&page, &[("password", other), ("again", other)]).await;
    let events: Vec<_> = told(&testbed).into_iter().map(|event| (event.activity, event.user_id)).collect();
    let alice = || "alice".to_owned();
    assert_eq!(events, [(AccountActivity::LogOff, alice()), (AccountActivity::ChangePassword, alice())]);
}
