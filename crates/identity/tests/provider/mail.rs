//! Letters: a lost password, an invitation, an address that is shown to be somebody's.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use identity::mail::{MailMessage, MailTransport, NotSent, Sending};
use identity::{NoObserver, Realm, RealmSettings, User, World, router};
use keys::SystemRandom;
use model::{Clock, Secret};

use crate::support::{Browser, HandClock, ISSUER, Mailbox, PASSWORD, Reply, Steps, TestBed};

const ANOTHER: &str = "another horse battery staple";

/// Keeps letters; fails while told to.
#[derive(Default)]
pub(crate) struct Post {
    letters: Mutex<Vec<MailMessage>>,
    fault: Mutex<Option<NotSent>>,
    dead: AtomicBool,
    /// How often it was asked to send.
    asked: AtomicUsize,
}

impl MailTransport for Post {
    fn send(&self, letter: MailMessage) -> Sending<'_> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if self.dead.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if let Some(fault) = self.fault.lock().unwrap().clone() {
                return Err(fault);
            }
            self.letters.lock().unwrap().push(letter);
            Ok(())
        })
    }
}

impl Post {
    pub(crate) fn take(&self) -> Vec<MailMessage> {
        std::mem::take(&mut self.letters.lock().unwrap())
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

/// A test bed with a mail server.
async fn testbed() -> (TestBed, Arc<Post>) {
    let post = Arc::new(Post::default());
    let mail_transport = Arc::clone(&post) as Arc<dyn MailTransport>;
    (TestBed::with_mail(mail_transport, |_| {}).await, post)
}

pub(crate) async fn recover(browser: &mut Browser<'_>, who: &str) -> Reply {
    let page = browser.go(&format!("{ISSUER}/recover")).await;
    browser.submit(&page, &[("username", who)]).await
}

/// The link of a letter, in both of its forms.
pub(crate) fn link(letter: &MailMessage) -> String {
    let start = letter.text.find("https://").unwrap();
    let link = letter.text[start..].split_whitespace().next().unwrap().to_owned();
    assert!(letter.html.contains(&format!("href=\"{}\"", link.replace('&', "&#38;"))), "{}", letter.html);
    link
}

pub(crate) async fn choose(browser: &mut Browser<'_>, link: &str, password: &str) -> Reply {
    let page = browser.go(link).await;
    if page.status != 200 {
        return page;
    }
    browser.submit(&page, &[("password", password), ("again", password)]).await
}

#[tokio::test]
async fn a_lost_password_is_replaced_by_a_link_that_is_good_once() {
    let (testbed, post) = testbed().await;
    let tokens = testbed.tokens("web", "openid offline_access").await;
    let mut stolen = Browser::new(&testbed);
    stolen.log_in_for("web", &[]).await;
    let mut browser = Browser::new(&testbed);
    let login = browser.authorize("web", &[]).await;
    assert!(login.text.contains("href=\"/realms/shop/recover\""), "{}", login.text);
    assert!(recover(&mut browser, "Alice").await.text.contains("Look into your mailbox"));
    testbed.realm.send_mail().await.unwrap();
    assert!(post.take().is_empty(), "who is meant is found out first");
    testbed.realm.send_mail().await.unwrap();
    let letters = post.take();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter.to.as_str(), letter.language), ("alice@example.org", "en"));
    assert!(letter.subject.contains("Choose another password") && letter.text.starts_with("Hello alice,"));
    let link = link(letter);
    assert!(link.starts_with(&format!("{ISSUER}/recover/password?token=")), "{link}");
    // Opening it changes nothing, as often as a mail server likes.
    for _ in 0..3 {
        assert_eq!(Browser::new(&testbed).go(&link).await.status, 200);
    }
    for (password, said) in
        [("password1", "easy to guess"), ("short", "at least 8"), ("alice@example.org", "easy")]
    {
        let weak = choose(&mut browser, &link, password).await;
        assert_eq!(weak.status, 422, "{password}");
        assert!(weak.text.contains(said), "{password}: {}", weak.text);
    }
    let page = browser.go(&link).await;
    let different = browser.submit(&page, &[("password", ANOTHER), ("again", PASSWORD)]).await;
    assert!(different.status == 422 && different.text.contains("not the same"));
    let done = choose(&mut browser, &link, ANOTHER).await;
    assert!(done.text.contains("The password is changed"), "{}", done.text);
    assert!(browser.session().is_none(), "a link logs nobody in");
    // It is used up, and everything that was begun with the other password is over.
    assert_eq!(choose(&mut browser, &link, "yet another horse battery").await.status, 400);
    assert!(stolen.authorize("web", &[]).await.text.contains("type=\"password\""));
    testbed.refresh("web", tokens["refresh_token"].as_str().unwrap()).await.refused(400, "invalid_grant");
    assert!(!testbed.is_active(tokens["access_token"].as_str().unwrap()).await);
    let page = browser.authorize("web", &[]).await;
    assert_eq!(browser.log_in(&page).await.status, 401, "the password of before");
    let page = browser.authorize("web", &[]).await;
    let good = browser.submit(&page, &[("username", "alice"), ("password", ANOTHER)]).await;
    assert!(good.answer().contains_key("code"));
    assert!(testbed.realm.find_user("alice").await.unwrap().unwrap().email_verified);
    // And she is told.
    testbed.realm.send_mail().await.unwrap();
    let [told] = post.take().try_into().unwrap();
    assert!(told.subject.contains("was changed"), "{told:?}");
}

#[tokio::test]
async fn nobody_learns_by_recovery_who_exists() {
    let (testbed, post) = testbed().await;
    let mut gone = User::new("gone", "gone", testbed.clock.now());
    gone.email = Some("gone@example.org".to_owned());
    gone.disabled = true;
    testbed.realm.put_user(&gone).await.unwrap();
    let mut poor = User::new("poor", "poor", testbed.clock.now());
    poor.email = Some("poor@example.org\r\nBcc: eve@evil.example".to_owned());
    let refused = testbed.realm.put_user(&poor).await;
    assert!(refused.is_err(), "an address that is none");
    let mut pages = Vec::new();
    for who in ["alice", "ALICE@example.org ", "nobody", "nobody@example.org", "gone", "gone@example.org", ""]
    {
        let mut browser = Browser::new(&testbed);
        let reply = recover(&mut browser, who).await;
        pages.push((reply.status, reply.text));
    }
    assert!(pages.windows(2).all(|pair| pair[0] == pair[1]), "{pages:#?}");
    for _ in 0..3 {
        testbed.realm.send_mail().await.unwrap();
    }
    let letters = post.take();
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().all(|letter| letter.to == "alice@example.org"), "{letters:?}");
}

#[tokio::test]
async fn letters_are_bounded_by_name_by_person_and_by_address() {
    let (testbed, post) = testbed().await;
    for name in ["alice", "alice", "alice", "alice", "alice", "alice@example.org", "alice@example.org"] {
        assert_eq!(recover(&mut Browser::at(&testbed, "192.0.2.1"), name).await.status, 200);
        for _ in 0..3 {
            testbed.realm.send_mail().await.unwrap();
        }
    }
    assert_eq!(post.take().len(), 5, "three by name, two by address; then the person has had five");
    recover(&mut Browser::at(&testbed, "192.0.2.2"), "alice@example.org").await;
    for _ in 0..3 {
        testbed.realm.send_mail().await.unwrap();
    }
    assert!(post.take().is_empty());
    let mut statuses = Vec::new();
    for number in 0..22 {
        let reply = recover(&mut Browser::at(&testbed, "192.0.2.3"), &format!("somebody {number}")).await;
        statuses.push(reply.status.as_u16());
    }
    assert_eq!((&statuses[..20], &statuses[20..]), (&[200; 20][..], &[429; 2][..]));
    assert_eq!(recover(&mut Browser::at(&testbed, "192.0.2.4"), "bob").await.status, 200, "others are not");
}

#[tokio::test]
async fn a_dead_mail_server_loses_nothing_and_holds_nobody_up() {
    let (testbed, post) = testbed().await;
    *post.fault.lock().unwrap() = Some(NotSent::Server("connection refused".to_owned()));
    assert_eq!(recover(&mut Browser::new(&testbed), "alice").await.status, 200);
    for _ in 0..5 {
        testbed.realm.send_mail().await.unwrap();
        testbed.advance(40);
    }
    *post.fault.lock().unwrap() = None;
    // Another process takes over where this one was.
    let post_there = Arc::new(Post::default());
    let there = again(&testbed, Arc::clone(&post_there)).await;
    testbed.advance(3600);
    there.send_mail().await.unwrap();
    testbed.realm.send_mail().await.unwrap();
    assert_eq!((post_there.take().len(), post.take().len()), (1, 0), "sent once, by whoever came first");
    // A server that refuses this very letter is not asked again; one that is busy is.
    for (fault, sent) in [(NotSent::Never("550".to_owned()), 0), (NotSent::Later("450".to_owned()), 1)] {
        *post.fault.lock().unwrap() = Some(fault);
        testbed.realm.invite(&testbed.realm.find_user("bob").await.unwrap().unwrap()).await.unwrap();
        testbed.realm.send_mail().await.unwrap();
        *post.fault.lock().unwrap() = None;
        testbed.advance(3600);
        testbed.realm.send_mail().await.unwrap();
        assert_eq!(post.take().len(), sent);
    }
    // It ends after a day.
    *post.fault.lock().unwrap() = Some(NotSent::Server("down".to_owned()));
    testbed.realm.invite(&testbed.realm.find_user("bob").await.unwrap().unwrap()).await.unwrap();
    testbed.realm.send_mail().await.unwrap();
    testbed.advance(25 * 3600);
    *post.fault.lock().unwrap() = None;
    testbed.realm.send_mail().await.unwrap();
    assert!(post.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let (testbed, post) = testbed().await;
    testbed.realm.invite(&testbed.realm.find_user("bob").await.unwrap().unwrap()).await.unwrap();
    post.dead.store(true, Ordering::SeqCst);
    assert!(testbed.realm.send_mail().await.unwrap().is_some(), "tried again later");
    post.dead.store(false, Ordering::SeqCst);
    testbed.advance(60);
    testbed.realm.send_mail().await.unwrap();
    assert_eq!(post.take().len(), 1);
}

#[tokio::test]
async fn a_letter_is_tried_at_growing_pauses_of_at_most_an_hour() {
    let (testbed, post) = testbed().await;
    *post.fault.lock().unwrap() = Some(NotSent::Later("450".to_owned()));
    testbed.realm.invite(&testbed.realm.find_user("bob").await.unwrap().unwrap()).await.unwrap();
    let mut tried = Vec::new();
    for second in (0..25 * 3600).step_by(30) {
        testbed.realm.send_mail().await.unwrap();
        tried.extend((post.asked() > 0).then_some(second));
        testbed.advance(30);
    }
    let pauses: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses[..9], [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    assert!(pauses[9..].iter().all(|pause| *pause == 3600), "{pauses:?}");
    assert!(tried.last().is_some_and(|last| (22 * 3600..24 * 3600).contains(last)), "{tried:?}");
}

#[tokio::test]
async fn a_server_that_does_not_work_is_asked_once_and_a_letter_of_its_own_fault_stops_no_other() {
    let (testbed, post) = testbed().await;
    let bob = testbed.realm.find_user("bob").await.unwrap().unwrap();
    for fault in [NotSent::Server("refused".to_owned()), NotSent::Later("450".to_owned())] {
        for _ in 0..3 {
            testbed.realm.invite(&bob).await.unwrap();
        }
        let asks = if matches!(fault, NotSent::Server(_)) { 1 } else { 3 };
        *post.fault.lock().unwrap() = Some(fault);
        let next = testbed.realm.send_mail().await.unwrap();
        assert_eq!(post.asked(), asks);
        assert!(asks > 1 || next == Some(testbed.now().plus(Duration::from_secs(30))), "{next:?}");
        *post.fault.lock().unwrap() = None;
        testbed.advance(3600);
        testbed.realm.send_mail().await.unwrap();
        assert_eq!((post.asked(), post.take().len()), (3, 3));
    }
}

#[tokio::test]
async fn of_two_processes_one_sends_each_letter() {
    let (testbed, post) = testbed().await;
    let post_there = Arc::new(Post::default());
    let there = again(&testbed, Arc::clone(&post_there)).await;
    let bob = testbed.realm.find_user("bob").await.unwrap().unwrap();
    for _ in 0..40 {
        testbed.realm.invite(&bob).await.unwrap();
    }
    let (one, other) = tokio::join!(testbed.realm.send_mail(), there.send_mail());
    one.and(other).unwrap();
    assert_eq!(post.take().len() + post_there.take().len(), 40);
}

#[tokio::test]
async fn an_address_of_many_gets_few_letters() {
    let (testbed, post) = testbed().await;
    for number in 0..6 {
        let name = format!("clerk-{number}");
        let mut clerk = User::new(&name, &name, testbed.clock.now());
        clerk.email = Some("office@example.org".to_owned());
        testbed.realm.put_user(&clerk).await.unwrap();
    }
    recover(&mut Browser::new(&testbed), "office@example.org").await;
    for _ in 0..3 {
        testbed.realm.send_mail().await.unwrap();
    }
    assert_eq!(post.take().len(), 5);
}

/// The same realm in another process.
async fn again(testbed: &TestBed, post: Arc<Post>) -> Arc<Realm> {
    let world = World {
        store: testbed.store.clone(),
        clock: Arc::clone(&testbed.clock) as Arc<dyn Clock>,
        random: Arc::new(SystemRandom::new()),
        deliver: Arc::new(Mailbox::default()),
        observer: Arc::new(NoObserver),
        mail_transport: Some(post),
    };
    let realm = Realm::open(RealmSettings::new("shop", ISSUER), world).await.unwrap();
    drop(router(Arc::clone(&realm)));
    realm
}

#[tokio::test]
async fn an_invitation_gives_the_first_password_and_dies_with_it() {
    let (testbed, post) = testbed().await;
    let bob = testbed.realm.find_user("bob").await.unwrap().unwrap();
    testbed.realm.invite(&bob).await.unwrap();
    testbed.realm.invite(&bob).await.unwrap();
    testbed.realm.send_mail().await.unwrap();
    let links: Vec<String> = post.take().iter().map(link).collect();
    assert_eq!(links.len(), 2);
    let done = choose(&mut Browser::new(&testbed), &links[0], ANOTHER).await;
    assert!(done.text.contains("The password is changed"), "{}", done.text);
    // The other was of the time before he had a password.
    assert_eq!(choose(&mut Browser::new(&testbed), &links[1], PASSWORD).await.status, 400);
    let nobody = User::new("new", "new", testbed.clock.now());
    testbed.realm.put_user(&nobody).await.unwrap();
    assert!(testbed.realm.invite(&nobody).await.is_err(), "no address");
}

#[tokio::test]
async fn links_end() {
    let (testbed, post) = testbed().await;
    let (bob, mut links) = (testbed.realm.find_user("bob").await.unwrap().unwrap(), Vec::new());
    for _ in 0..3 {
        testbed.realm.invite(&bob).await.unwrap();
        testbed.realm.send_mail().await.unwrap();
        links.push(link(&post.take()[0]));
    }
    let mut moved = bob.clone();
    moved.email = Some("robert@example.org".to_owned());
    testbed.realm.put_user(&moved).await.unwrap();
    assert_eq!(Browser::new(&testbed).go(&links[0]).await.status, 400, "another address");
    testbed.realm.put_user(&bob).await.unwrap();
    testbed.give_password("bob").await;
    assert_eq!(Browser::new(&testbed).go(&links[1]).await.status, 400, "another password");
    recover(&mut Browser::new(&testbed), "bob").await;
    testbed.realm.send_mail().await.unwrap();
    testbed.realm.send_mail().await.unwrap();
    let recovery = link(&post.take()[0]);
    assert_eq!(
        Browser::new(&testbed).go(&recovery.replace("/recover/password", "/verify")).await.status,
        400
    );
    assert_eq!(Browser::new(&testbed).go(&recovery).await.status, 200);
    let mut off = bob.clone();
    off.disabled = true;
    testbed.realm.put_user(&off).await.unwrap();
    assert_eq!(Browser::new(&testbed).go(&recovery).await.status, 400, "switched off");
    testbed.realm.put_user(&bob).await.unwrap();
    assert_eq!(Browser::new(&testbed).go(&recovery).await.status, 200);
    testbed.advance(30 * 60);
    assert_eq!(Browser::new(&testbed).go(&recovery).await.status, 400, "half an hour");
    for token in ["", "x", &"x".repeat(5000)] {
        let address = format!("{ISSUER}/recover/password?token={token}");
        assert_eq!(Browser::new(&testbed).go(&address).await.status, 400);
    }
}

/// The forms of two links, one sent at any moment of the other.
#[tokio::test]
async fn of_two_links_at_once_one_gives_the_password() {
    const LAST: &str = "the last horse battery staple";
    let (testbed, post) = testbed().await;
    let bob = testbed.realm.find_user("bob").await.unwrap().unwrap();
    let (mut between, mut polls) = (0, 0);
    loop {
        polls += 1;
        let mut forms = Vec::new();
        for _ in 0..2 {
            testbed.realm.invite(&bob).await.unwrap();
            testbed.realm.send_mail().await.unwrap();
            let letters = post.take();
            // Another one says that the password was changed.
            let letter = letters.iter().find(|letter| letter.text.contains("token=")).unwrap();
            let mut browser = Browser::new(&testbed);
            let page = browser.go(&link(letter)).await;
            forms.push((browser, page));
        }
        let [(mut one, one_page), (mut other, other_page)] = forms.try_into().ok().unwrap();
        let mut early = Steps::of(one.submit(&one_page, &[("password", ANOTHER), ("again", ANOTHER)]));
        let whole = early.go(polls).await;
        let late = other.submit(&other_page, &[("password", LAST), ("again", LAST)]).await;
        let is_last = whole.is_some();
        let early = match whole {
            Some(early) => early,
            None => early.go(usize::MAX).await.unwrap(),
        };
        let changed = [early, late].map(|reply| reply.text.contains("The password is changed"));
        assert_ne!(changed[0], changed[1], "after {polls} polls");
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize("web", &[]).await;
        let password = if changed[0] { ANOTHER } else { LAST };
        browser.submit(&page, &[("username", "bob"), ("password", password)]).await.answer();
        if is_last {
            break;
        }
        between += usize::from(changed[1]);
    }
    assert!(between > 0, "{between}");
}

#[tokio::test]
async fn an_address_is_verified_by_its_person() {
    let (testbed, post) = testbed().await;
    let alice = testbed.realm.find_user("alice").await.unwrap().unwrap();
    testbed.realm.ask_verification(&alice).await.unwrap();
    testbed.realm.send_mail().await.unwrap();
    let link = link(&post.take()[0]);
    let mut browser = Browser::new(&testbed);
    let page = browser.go(&link).await;
    assert!(page.text.contains("alice@example.org"));
    let token = link.split_once("token=").unwrap().1;
    assert_eq!(
        testbed.post("/verify", &[("token", token), ("csrf", "x")]).await.status,
        400,
        "another's form"
    );
    assert!(!testbed.realm.find_user("alice").await.unwrap().unwrap().email_verified);
    assert!(browser.submit(&page, &[]).await.text.contains("Confirmed"));
    assert!(testbed.realm.find_user("alice").await.unwrap().unwrap().email_verified);
    assert_eq!(browser.go(&link).await.status, 400, "used");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_switched_off_while_they_verify_their_address_stays_so() {
    let clock = HandClock::new();
    let store = store::Store::in_memory(HandClock::new()).unwrap();
    let post = Arc::new(Post::default());
    let mail_transport = Arc::clone(&post) as Arc<dyn MailTransport>;
    let testbed = TestBed::whole(store, Arc::clone(&clock), Some(mail_transport), |_| {}).await;
    let bob = testbed.realm.find_user("bob").await.unwrap().unwrap();
    let mut reads = 0;
    loop {
        testbed.realm.put_user(&bob).await.unwrap();
        testbed.realm.ask_verification(&bob).await.unwrap();
        testbed.realm.send_mail().await.unwrap();
        let mut browser = Browser::new(&testbed);
        let page = browser.go(&link(&post.take()[0])).await;
        let (realm, off) = (Arc::clone(&testbed.realm), User { disabled: true, ..bob.clone() });
        clock.meanwhile(reads, async move { realm.put_user(&off).await.unwrap() });
        browser.submit(&page, &[]).await;
        let now = testbed.realm.find_user("bob").await.unwrap().unwrap();
        if !clock.was_done() {
            assert!(now.email_verified && !now.disabled, "nobody came between");
            break;
        }
        assert!(now.disabled, "after {reads} looks at the clock");
        reads += 1;
    }
    assert!(reads > 1, "{reads}");
}

#[tokio::test]
async fn letters_speak_the_language_of_whoever_asked_and_carry_no_markup_of_others() {
    let (testbed, post) = testbed().await;
    let mut alice = testbed.realm.find_user("alice").await.unwrap().unwrap();
    alice.name = Some("<b>Alice</b> \"x\"\r\nBcc: eve@evil.example".to_owned());
    alice.attributes.insert("locale".to_owned(), "de-AT".into());
    testbed.realm.put_user(&alice).await.unwrap();
    testbed.realm.ask_verification(&alice).await.unwrap();
    testbed.realm.send_mail().await.unwrap();
    let [letter] = post.take().try_into().unwrap();
    assert_eq!((letter.language, letter.to.as_str()), ("de", "alice@example.org"));
    assert!(letter.subject.contains("bestätigen") && !letter.subject.contains('\n'));
    assert!(!letter.html.contains("<b>") && letter.html.contains("lang=\"de\""), "{}", letter.html);
    assert!(letter.text.starts_with("Guten Tag <b>Alice</b> \"x\"  Bcc:"), "{}", letter.text);
}

#[tokio::test]
async fn without_a_mail_server_there_is_no_such_page() {
    let testbed = TestBed::new().await;
    let login = Browser::new(&testbed).authorize("web", &[]).await;
    assert!(!login.text.contains("/recover"));
    for page in ["/recover", "/recover/password?token=x"] {
        assert!(testbed.get(&format!("{ISSUER}{page}")).await.status.is_client_error());
    }
    let alice = testbed.realm.find_user("alice").await.unwrap().unwrap();
    assert!(testbed.realm.invite(&alice).await.is_err());
    testbed.realm.set_password("alice", Secret::new(ANOTHER.to_owned())).await.unwrap();
}

#[tokio::test]
async fn forms_of_recovery_are_taken_only_from_our_page() {
    let (testbed, post) = testbed().await;
    let forged = testbed.post("/recover", &[("username", "alice"), ("csrf", "x")]).await;
    assert_eq!(forged.status, 400);
    testbed.realm.invite(&testbed.realm.find_user("bob").await.unwrap().unwrap()).await.unwrap();
    testbed.realm.send_mail().await.unwrap();
    let link = link(&post.take()[0]);
    let token = link.split_once("token=").unwrap().1.to_owned();
    let fields = [("token", token.as_str()), ("password", ANOTHER), ("again", ANOTHER), ("csrf", "x")];
    assert_eq!(testbed.post("/recover/password", &fields).await.status, 400);
}
