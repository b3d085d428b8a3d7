//! Whose an e-mail address is: of all who have it written down, whoever showed that it is theirs.

use std::sync::Arc;

use identity::mail::MailTransport;
use identity::{Error, User};

use crate::mail::{Post, choose, link, recover};
use crate::support::{Browser, PASSWORD, Steps, TestBed};

const ADDRESS: &str = "alice@example.org";
const ANOTHER: &str = "another horse battery staple";

async fn testbed() -> (TestBed, Arc<Post>) {
    let post = Arc::new(Post::default());
    let mail_transport = Arc::clone(&post) as Arc<dyn MailTransport>;
    (TestBed::with_mail(mail_transport, |_| {}).await, post)
}

async fn person(testbed: &TestBed, name: &str, email: &str, email_verified: bool) -> Result<User, Error> {
    let mut user = User::new(name, name, testbed.now());
    user.email = Some(email.to_owned());
    user.email_verified = email_verified;
    testbed.realm.put_user(&user).await.map(|()| user)
}

/// Whom letters about recovery go to, by name, for what was typed.
async fn recovered(testbed: &TestBed, post: &Post, typed: &str) -> Vec<String> {
    recover(&mut Browser::new(testbed), typed).await;
    for _ in 0..3 {
        testbed.realm.send_mail().await.unwrap();
    }
    let whom = |text: &str| text.split_once(',').unwrap().0.trim_start_matches("Hello ").to_owned();
    let mut found: Vec<String> = post.take().iter().map(|letter| whom(&letter.text)).collect();
    found.sort_unstable();
    found
}

async fn is_verified(testbed: &TestBed, name: &str) -> bool {
    testbed.realm.find_user(name).await.unwrap().unwrap().email_verified
}

#[tokio::test]
async fn an_address_has_one_owner_however_it_is_written() {
    let (testbed, _) = testbed().await;
    person(&testbed, "alice", ADDRESS, true).await.unwrap();
    for address in [ADDRESS, "Alice@Example.ORG"] {
        let refused = person(&testbed, "eve", address, true).await.unwrap_err();
        assert!(matches!(refused, Error::Owned { .. }), "{refused}");
        assert!(!refused.to_string().contains("alice"), "{refused}");
    }
    // Written down, without being theirs.
    let eve = person(&testbed, "eve", ADDRESS, false).await.unwrap();
    let proud = User { email_verified: true, ..eve.clone() };
    assert!(matches!(testbed.realm.put_user(&proud).await, Err(Error::Owned { .. })));
    // The owner goes on, and so does whoever has another address.
    let mut alice = person(&testbed, "alice", ADDRESS, true).await.unwrap();
    alice.name = Some("Alice Archer".to_owned());
    testbed.realm.put_user(&alice).await.unwrap();
    person(&testbed, "eve", "eve@example.org", true).await.unwrap();
    testbed.realm.put_user(&eve).await.unwrap();
    // It is free when its owner has another, has it no more, or goes.
    for freed in ["moved", "unverified", "removed"] {
        person(&testbed, "alice", ADDRESS, true).await.unwrap();
        match freed {
            "moved" => drop(person(&testbed, "alice", "alice2@example.org", true).await.unwrap()),
            "unverified" => drop(person(&testbed, "alice", ADDRESS, false).await.unwrap()),
            _ => drop(testbed.realm.remove_user("alice", store::Expect::Any).await.unwrap()),
        }
        testbed.realm.put_user(&proud).await.unwrap_or_else(|error| panic!("{freed}: {error}"));
        testbed.realm.put_user(&eve).await.unwrap();
    }
}

#[tokio::test]
async fn who_only_has_an_address_written_down_takes_nothing_from_its_owner() {
    let (testbed, post) = testbed().await;
    // While it is nobody's, all are written to who have it.
    person(&testbed, "eve", ADDRESS, false).await.unwrap();
    assert_eq!(recovered(&testbed, &post, ADDRESS).await, ["alice", "eve"]);
    person(&testbed, "alice", ADDRESS, true).await.unwrap();
    assert_eq!(recovered(&testbed, &post, ADDRESS).await, ["alice"]);
    // Nor is the mailbox of an owner the way into the account of another.
    assert_eq!(recovered(&testbed, &post, "eve").await, [""; 0]);
    let eve = testbed.realm.find_user("eve").await.unwrap().unwrap();
    assert!(matches!(testbed.realm.invite(&eve).await, Err(Error::Owned { .. })));
    assert!(matches!(testbed.realm.ask_verification(&eve).await, Err(Error::Owned { .. })));
    // Many who have it do not crowd its owner out.
    for number in 0..9 {
        person(&testbed, &format!("a-clerk-{number}"), ADDRESS, false).await.unwrap();
    }
    testbed.advance(7200);
    assert_eq!(recovered(&testbed, &post, ADDRESS).await, ["alice"]);
}

#[tokio::test]
async fn nor_does_who_is_called_like_an_address() {
    let (testbed, post) = testbed().await;
    person(&testbed, "alice", ADDRESS, true).await.unwrap();
    person(&testbed, ADDRESS, "eve@example.org", false).await.unwrap();
    assert_eq!(recovered(&testbed, &post, ADDRESS).await, ["alice", ADDRESS]);
    // Who is called like their own address gets one letter.
    person(&testbed, "carol@example.org", "carol@example.org", true).await.unwrap();
    assert_eq!(recovered(&testbed, &post, "carol@example.org").await, ["carol@example.org"]);
}

#[tokio::test]
async fn links_die_when_another_shows_that_the_address_is_theirs() {
    let (testbed, post) = testbed().await;
    let eve = person(&testbed, "eve", ADDRESS, false).await.unwrap();
    testbed.give_password("eve").await;
    testbed.realm.ask_verification(&eve).await.unwrap();
    testbed.realm.send_mail().await.unwrap();
    let verification = link(&post.take()[0]);
    recover(&mut Browser::new(&testbed), "eve").await;
    testbed.realm.send_mail().await.unwrap();
    testbed.realm.send_mail().await.unwrap();
    let recovery = link(&post.take()[0]);
    // Opened before, and sent after.
    let (mut early, mut late) = (Browser::new(&testbed), Browser::new(&testbed));
    let (verify_page, recover_page) = (early.go(&verification).await, late.go(&recovery).await);
    assert!(verify_page.status == 200 && recover_page.status == 200);
    let alice = testbed.realm.find_user("alice").await.unwrap().unwrap();
    testbed.realm.put_user(&User { email_verified: true, ..alice }).await.unwrap();
    let fields = [("password", ANOTHER), ("again", ANOTHER)];
    let refused = [
        early.submit(&verify_page, &[]).await,
        late.submit(&recover_page, &fields).await,
        Browser::new(&testbed).go(&verification).await,
        Browser::new(&testbed).go(&recovery).await,
    ];
    let over = Browser::new(&testbed).go(&format!("{verification}x")).await;
    assert_eq!(over.status, 400);
    for reply in refused {
        // As every link that is over: nothing is told of anybody else.
        assert_eq!(
            (reply.status, heading(&reply.text)),
            (over.status, heading(&over.text)),
            "{}",
            reply.text
        );
    }
    assert!(!is_verified(&testbed, "eve").await && is_verified(&testbed, "alice").await);
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let good = browser.submit(&page, &[("username", "eve"), ("password", PASSWORD)]).await;
    assert!(good.answer().contains_key("code"), "the password is the one of before");
}

/// The form of a link, and at any moment of it another shows that the address is theirs: from then on
/// nothing comes of it.
#[tokio::test]
async fn nor_is_a_link_good_that_is_used_at_that_moment() {
    let (testbed, post) = testbed().await;
    let alice = testbed.realm.find_user("alice").await.unwrap().unwrap();
    let (mut cut_off, mut polls) = (0, 0);
    loop {
        polls += 1;
        testbed.realm.put_user(&alice).await.unwrap();
        let eve = person(&testbed, "eve", ADDRESS, false).await.unwrap();
        testbed.realm.invite(&eve).await.unwrap();
        testbed.realm.send_mail().await.unwrap();
        let letters = post.take();
        // Another one says that the password was changed.
        let letter = letters.iter().find(|letter| letter.text.contains("token=")).unwrap();
        let mut browser = Browser::new(&testbed);
        let page = browser.go(&link(letter)).await;
        let mut sent = Steps::of(browser.submit(&page, &[("password", ANOTHER), ("again", ANOTHER)]));
        let whole = sent.go(polls).await;
        let hers = testbed.realm.put_user(&User { email_verified: true, ..alice.clone() }).await.is_ok();
        assert_ne!(hers, is_verified(&testbed, "eve").await, "after {polls} polls");
        let before = testbed.realm.password_hash("eve").await.unwrap();
        let is_last = whole.is_some();
        let reply = match whole {
            Some(reply) => reply,
            None => sent.go(usize::MAX).await.unwrap(),
        };
        testbed.settle().await;
        let after = testbed.realm.password_hash("eve").await.unwrap();
        assert!(!hers || after == before, "after {polls} polls");
        if is_last {
            assert!(reply.text.contains("The password is changed"), "{}", reply.text);
            break;
        }
        cut_off += usize::from(reply.status == 400);
    }
    assert!(cut_off > 0, "{cut_off}");
}

fn heading(page: &str) -> String {
    let main = page.split_once("<main").unwrap().1;
    main.split_once("</main>").unwrap().0.split('\n').map(str::trim).collect()
}

/// The forms of two people who have one address, one sent at any moment of the other.
#[tokio::test]
async fn of_two_who_show_at_once_that_an_address_is_theirs_one_does() {
    let (testbed, post) = testbed().await;
    let (mut between, mut polls) = (0, 0);
    loop {
        polls += 1;
        let mut forms = Vec::new();
        for name in ["one", "other"] {
            // The one of before has it no more.
            person(&testbed, name, &format!("{name}@example.org"), true).await.unwrap();
        }
        for name in ["one", "other"] {
            let user = person(&testbed, name, "both@example.org", false).await.unwrap();
            testbed.realm.ask_verification(&user).await.unwrap();
            testbed.realm.send_mail().await.unwrap();
            let mut browser = Browser::new(&testbed);
            let page = browser.go(&link(&post.take()[0])).await;
            forms.push((browser, page));
        }
        let [(mut one, one_page), (mut other, other_page)] = forms.try_into().ok().unwrap();
        let mut early = Steps::of(one.submit(&one_page, &[]));
        let whole = early.go(polls).await;
        let late = other.submit(&other_page, &[]).await;
        let is_last = whole.is_some();
        let early = match whole {
            Some(early) => early,
            None => early.go(usize::MAX).await.unwrap(),
        };
        let shown = [early, late].map(|reply| reply.text.contains("Confirmed"));
        let stands = [is_verified(&testbed, "one").await, is_verified(&testbed, "other").await];
        assert_eq!(shown, stands, "after {polls} polls");
        assert_ne!(stands[0], stands[1], "after {polls} polls");
        if is_last {
            break;
        }
        between += usize::from(stands[1]);
    }
    assert!(between > 0, "{between}");
}

#[tokio::test]
async fn a_lost_password_makes_an_address_the_owners_too() {
    let (testbed, post) = testbed().await;
    recover(&mut Browser::new(&testbed), "alice").await;
    testbed.realm.send_mail().await.unwrap();
    testbed.realm.send_mail().await.unwrap();
    let done = choose(&mut Browser::new(&testbed), &link(&post.take()[0]), ANOTHER).await;
    assert!(done.text.contains("The password is changed"), "{}", done.text);
    assert!(matches!(person(&testbed, "eve", ADDRESS, true).await, Err(Error::Owned { .. })));
}
