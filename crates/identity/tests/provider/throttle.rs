//! Who guesses is slowed down; whom they guess at is not locked out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use identity::User;
use model::Secret;
use store::Key;

use crate::support::{Browser, PASSWORD, Reply, TestBed};

/// Tries a password in a new login.
async fn attempt(browser: &mut Browser<'_>, username: &str, password: &str) -> Reply {
    let page = browser.authorize("web", &[("prompt", "login")]).await;
    browser.submit(&page, &[("username", username), ("password", password)]).await
}

fn is_in(reply: &Reply) -> bool {
    reply.field("location").contains("code=")
}

/// A page of a login that somebody has open, and what they will fill in.
type Ready = (BTreeMap<String, String>, Reply, (String, &'static str));

/// Each begins a login of their own.
async fn pages(testbed: &TestBed, address: &str, pairs: Vec<(String, &'static str)>) -> Vec<Ready> {
    let mut ready = Vec::new();
    for pair in pairs {
        let mut browser = Browser::at(testbed, address);
        let page = browser.authorize("web", &[]).await;
        ready.push((browser.cookies, page, pair));
    }
    ready
}

/// They try their passwords, all at once.
async fn submitted(testbed: &Arc<TestBed>, address: &str, ready: Vec<Ready>) -> Vec<Reply> {
    let tries = ready.into_iter().map(|(cookies, page, (username, password))| {
        let (testbed, address) = (Arc::clone(testbed), address.to_owned());
        tokio::spawn(async move {
            let mut browser = Browser { cookies, ..Browser::at(&testbed, &address) };
            browser.submit(&page, &[("username", username.as_str()), ("password", password)]).await
        })
    });
    let mut replies = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        replies.push(one.await.unwrap());
    }
    replies
}

/// Each tries a password of their own in a login of their own, all at once.
async fn at_once(testbed: &Arc<TestBed>, address: &str, pairs: Vec<(String, &'static str)>) -> Vec<Reply> {
    let ready = pages(testbed, address, pairs).await;
    submitted(testbed, address, ready).await
}

/// What seven get who guess at an address where attempts go in turn: whoever waits for theirs
/// goes away again (0), and whoever would wait for too long is refused. The clock stands.
async fn in_turn(testbed: &TestBed) -> Vec<u16> {
    let mut statuses = Vec::new();
    for number in 0..7 {
        let mut bot = Browser::at(testbed, "192.0.2.1");
        let page = bot.authorize("web", &[]).await;
        let username = format!("another-{number}");
        let pairs = [("username", username.as_str()), ("password", "wrong")];
        let begun = testbed.store.version().number();
        let turn_is_taken = async {
            while !(1..6).contains(&number) || testbed.store.version().number() < begun + WRITTEN_BEFORE_TURN
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        statuses.push(tokio::select! {
            reply = bot.submit(&page, &pairs) => reply.status.as_u16(),
            () = turn_is_taken => 0,
        });
    }
    statuses
}

const IN_TURN: [u16; 7] = [401, 0, 0, 0, 0, 0, 429];

/// What an attempt has written before it is judged: that it is one at an account at an address, and
/// one of its login.
const WRITTEN_BEFORE_JUDGED: u64 = 2;
/// Where attempts go in turn, what it has written before that comes: the first of these, and its turn.
const WRITTEN_BEFORE_TURN: u64 = 2;

/// So many who wait to have a password judged, and go no further.
async fn waiting<'a>(
    testbed: &'a TestBed,
    alice: &'a User,
    password: &'a Secret<String>,
    many: usize,
) -> Vec<impl Sized> {
    let mut waiting = Vec::new();
    // Of a login that was answered before, the place may not be free yet.
    let all_wait = async {
        while waiting.len() < many {
            let mut one = Box::pin(testbed.realm.judge_password(alice, password));
            let waits = std::future::poll_fn(|context| Poll::Ready(one.as_mut().poll(context).is_pending()));
            match waits.await {
                true => waiting.push(one),
                false => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_wait).await.unwrap();
    waiting
}

#[tokio::test]
async fn guessing_is_refused_without_being_computed_and_locks_nobody_out() {
    let testbed = TestBed::new().await;
    // Alice logged in once in her own browser, at the attacker's very address.
    let mut own = Browser::at(&testbed, "192.0.2.1");
    assert!(is_in(&attempt(&mut own, "alice", PASSWORD).await));
    let mut attacker = Browser::at(&testbed, "192.0.2.1");
    let before = testbed.realm.passwords_compared();
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(attempt(&mut attacker, " ALICE ", "wrong").await.status.as_u16());
    }
    assert_eq!(statuses[..6], [401; 6]);
    assert_eq!(statuses[6..], [429; 14]);
    assert_eq!(testbed.realm.passwords_compared() - before, 6, "what is refused costs nothing");
    let refused = attempt(&mut attacker, "alice", PASSWORD).await;
    assert_eq!((refused.status.as_u16(), refused.field("retry-after")), (429, "2"), "not even the right one");
    // Her browser, another one elsewhere, and another person at the same address.
    assert!(is_in(&attempt(&mut own, "alice", PASSWORD).await));
    assert!(is_in(&attempt(&mut Browser::at(&testbed, "198.51.100.7"), "alice", PASSWORD).await));
    testbed.give_password("bob").await;
    assert!(is_in(&attempt(&mut Browser::at(&testbed, "192.0.2.1"), "bob", PASSWORD).await));
    // It lasts longer with each failure, and ends.
    testbed.advance(2);
    assert_eq!(attempt(&mut attacker, "alice", "wrong").await.status, 401);
    testbed.advance(1);
    assert_eq!(attempt(&mut attacker, "alice", "wrong").await.status, 429);
    testbed.advance(3600);
    assert!(is_in(&attempt(&mut attacker, "alice", PASSWORD).await));
}

#[tokio::test]
async fn names_that_do_not_exist_are_refused_alike() {
    let testbed = TestBed::new().await;
    let mut seen = Vec::new();
    for username in ["alice", "nobody", &"x".repeat(300)] {
        let mut browser = Browser::at(&testbed, "2001:db8::1");
        let mut statuses = Vec::new();
        for number in 0..8 {
            // Another address of the same network.
            browser.address = Some(format!("2001:db8::{number}").parse().unwrap());
            statuses.push(attempt(&mut browser, username, "wrong").await.status.as_u16());
        }
        seen.push(statuses);
    }
    assert_eq!(seen[0], [401, 401, 401, 401, 401, 401, 429, 429]);
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

#[tokio::test]
async fn a_known_browser_is_known_to_its_own_account_alone_and_guesses_no_more_than_others() {
    let testbed = TestBed::new().await;
    testbed.give_password("bob").await;
    let mut bob = Browser::at(&testbed, "192.0.2.1");
    assert!(is_in(&attempt(&mut bob, "bob", PASSWORD).await));
    let known = bob.cookies["__Host-shop-known"].clone();
    // Bob guesses at alice: his cookie is worth nothing there.
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(attempt(&mut bob, "alice", "wrong").await.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 429, 429]);
    // Whoever stole it has a queue of its own, and then that of everybody.
    let mut thief = Browser::at(&testbed, "203.0.113.9");
    let mut judged = 0;
    for _ in 0..40 {
        thief.cookies.insert("__Host-shop-known".to_owned(), known.clone());
        judged += u32::from(attempt(&mut thief, "bob", "wrong").await.status == 401);
    }
    assert_eq!(judged, 11 + 6);
    // Forged, of another realm's key, or old.
    for forged in ["x.1795384267.y", "", "~~~~", &known.replace('.', "~"), &format!("{known}x")] {
        thief.cookies.insert("__Host-shop-known".to_owned(), forged.to_owned());
        assert_eq!(attempt(&mut thief, "bob", PASSWORD).await.status, 429, "{forged}");
    }
}

#[tokio::test]
async fn two_people_share_a_browser() {
    let testbed = TestBed::new().await;
    testbed.give_password("bob").await;
    let mut shared = Browser::at(&testbed, "192.0.2.1");
    for username in ["alice", "bob", "alice"] {
        assert!(is_in(&attempt(&mut shared, username, PASSWORD).await));
    }
    let mut attacker = Browser::at(&testbed, "192.0.2.1");
    for username in ["alice", "bob"] {
        for _ in 0..7 {
            attempt(&mut attacker, username, "wrong").await;
        }
        assert_eq!(attempt(&mut attacker, username, PASSWORD).await.status, 429);
    }
    for username in ["alice", "bob", "alice"] {
        assert!(is_in(&attempt(&mut shared, username, PASSWORD).await), "{username}");
    }
}

#[tokio::test]
async fn where_no_address_is_known_nobody_locks_others_out_and_accounts_are_counted() {
    let testbed = TestBed::new().await;
    testbed.give_password("bob").await;
    // More than are free at one address: none of them is refused.
    for number in 0..51 {
        assert_eq!(attempt(&mut Browser::new(&testbed), "alice", "wrong").await.status, 401, "{number}");
    }
    assert!(is_in(&attempt(&mut Browser::new(&testbed), "bob", PASSWORD).await));
    // The account goes in turn, as everywhere.
    let mut statuses = Vec::new();
    for _ in 0..9 {
        statuses.push(attempt(&mut Browser::new(&testbed), "alice", "wrong").await.status.as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 3, "{statuses:?}");
    testbed.advance(10);
    assert!(is_in(&attempt(&mut Browser::new(&testbed), "alice", PASSWORD).await));
}

#[tokio::test]
async fn who_hangs_up_before_the_answer_is_counted_all_the_same() {
    const FREE_OF_ADDRESS: usize = 100;
    let testbed = TestBed::new().await;
    for number in 0..=FREE_OF_ADDRESS {
        let mut bot = Browser::at(&testbed, "192.0.2.1");
        let page = bot.authorize("web", &[]).await;
        let before = testbed.realm.passwords_compared();
        let compared = async {
            while testbed.realm.passwords_compared() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let username = format!("person-{number}");
        let pairs = [("username", username.as_str()), ("password", "wrong")];
        if number == FREE_OF_ADDRESS {
            // When the last has its answer, those before are counted.
            assert_eq!(bot.submit(&page, &pairs).await.status, 401);
            break;
        }
        tokio::select! {
            // On a slow machine.
            _ = bot.submit(&page, &pairs) => {}
            () = compared => {}
        }
    }
    assert_eq!(in_turn(&testbed).await, IN_TURN);
    // Another address is as free as before, and whoever knows their password leaves no trace.
    for _ in 0..3 {
        assert!(is_in(&attempt(&mut Browser::at(&testbed, "192.0.2.2"), "alice", PASSWORD).await));
    }
}

#[tokio::test]
async fn who_is_counted_a_moment_after_another_who_came_later_is_let_in() {
    let testbed = TestBed::new().await;
    for password in ["wrong", PASSWORD] {
        testbed.advance(1);
        let reply = attempt(&mut Browser::at(&testbed, "192.0.2.1"), "alice", "wrong").await;
        assert_eq!(reply.status, 401, "{reply:?}");
        // Requests that come at once are counted in any order.
        testbed.clock.set_back(1);
        let reply = attempt(&mut Browser::at(&testbed, "192.0.2.1"), "alice", password).await;
        assert_eq!(reply.status, if password == PASSWORD { 303 } else { 401 }, "{reply:?}");
    }
}

#[tokio::test]
async fn who_knows_their_password_is_never_slowed_down() {
    let testbed = TestBed::new().await;
    // More than are free for an account, each in a browser that it does not know. The clock stands.
    for number in 0..60 {
        let reply = attempt(&mut Browser::at(&testbed, "192.0.2.1"), "alice", PASSWORD).await;
        assert!(is_in(&reply), "{number}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_people_log_in_at_once_from_one_address() {
    let testbed = Arc::new(TestBed::new().await);
    let hash = testbed.realm.password_hash("alice").await.unwrap().unwrap();
    let mut people = Vec::new();
    // More than are free for an address. The clock stands.
    for number in 0..120 {
        let name = format!("person-{number}");
        testbed.realm.put_user(&User::new(&name, &name, testbed.now())).await.unwrap();
        testbed.realm.put_password_hash(&name, &hash).await.unwrap();
        people.push((name, PASSWORD));
    }
    let replies = at_once(&testbed, "192.0.2.1", people).await;
    for (number, reply) in replies.iter().enumerate() {
        assert!(is_in(reply), "{number}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_guess_at_once_everybody_is_counted() {
    let testbed = Arc::new(TestBed::new().await);
    // As many as are free for an address, and the one with which it ends.
    let bots = (0..101).map(|number| (format!("person-{number}"), "wrong")).collect();
    for reply in at_once(&testbed, "192.0.2.1", bots).await {
        assert_eq!(reply.status, 401, "{reply:?}");
    }
    assert_eq!(in_turn(&testbed).await, IN_TURN);
}

#[tokio::test]
async fn what_is_refused_as_busy_is_not_counted() {
    const WAITING_MAX: usize = 256;
    let testbed = TestBed::with(|settings| settings.password_hashes_at_once = 1).await;
    let (alice, password) = (User::new("alice", "alice", testbed.now()), Secret::new(PASSWORD.to_owned()));
    let mut bot = Browser::at(&testbed, "192.0.2.1");
    let mut known = Browser::at(&testbed, "192.0.2.1");
    assert!(is_in(&attempt(&mut known, "alice", PASSWORD).await));
    let many = waiting(&testbed, &alice, &password, WAITING_MAX).await;
    let before = testbed.store.version().number();
    // More than are free for a known browser.
    for number in 0..12 {
        for browser in [&mut bot, &mut known] {
            let reply = attempt(browser, "alice", "wrong").await;
            assert_eq!(reply.status, 503, "{number}: {reply:?}");
        }
    }
    // Nor is anything written for them, which thousands would wait for.
    assert_eq!(testbed.store.version().number(), before);
    drop(many);
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(attempt(&mut bot, "alice", "wrong").await.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 429]);
    // It is known still: another would be refused here.
    assert!(is_in(&attempt(&mut known, "alice", PASSWORD).await));
}

/// They come at once, while one place is left, and find it taken when their password is to be compared.
#[tokio::test]
async fn what_finds_the_last_place_taken_is_not_counted() {
    const WAITING_MAX: usize = 256;
    const AT_ONCE: u64 = 5;
    let testbed = Arc::new(TestBed::with(|settings| settings.password_hashes_at_once = 1).await);
    let (alice, password) = (User::new("alice", "alice", testbed.now()), Secret::new(PASSWORD.to_owned()));
    let many = waiting(&testbed, &alice, &password, WAITING_MAX - 1).await;
    let ready = pages(&testbed, "192.0.2.1", vec![("alice".to_owned(), "wrong"); 5]).await;
    let begun = testbed.store.version().number();
    let tries = tokio::spawn({
        let testbed = Arc::clone(&testbed);
        async move { submitted(&testbed, "192.0.2.1", ready).await }
    });
    // All but the one that waits have taken back what was counted at the address.
    let all_but_one_are_over = async {
        while testbed.store.version().number() < begun + AT_ONCE * WRITTEN_BEFORE_JUDGED + AT_ONCE - 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_but_one_are_over).await.unwrap();
    drop(many);
    let mut statuses: Vec<_> = tries.await.unwrap().iter().map(|reply| reply.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [401, 503, 503, 503, 503]);
    let mut bot = Browser::at(&testbed, "192.0.2.1");
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(attempt(&mut bot, "alice", "wrong").await.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_right_password_is_none_of_the_failures_even_if_it_came_too_late() {
    let testbed = Arc::new(TestBed::with(|settings| settings.password_hashes_at_once = 1).await);
    let (alice, password) = (User::new("alice", "alice", testbed.now()), Secret::new(PASSWORD.to_owned()));
    let many = waiting(&testbed, &alice, &password, 20).await;
    let ready = pages(&testbed, "192.0.2.1", vec![("alice".to_owned(), PASSWORD); 6]).await;
    let begun = testbed.store.version().number();
    let logins = tokio::spawn({
        let testbed = Arc::clone(&testbed);
        async move { submitted(&testbed, "192.0.2.1", ready).await }
    });
    // They come to wait as well; meanwhile the time for their login ends.
    let all_are_counted = async {
        while testbed.store.version().number() < begun + 6 * WRITTEN_BEFORE_JUDGED {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_are_counted).await.unwrap();
    testbed.advance(901);
    drop(many);
    for reply in logins.await.unwrap() {
        assert_eq!(reply.status, 400, "{reply:?}");
    }
    for number in 0..6 {
        let reply = attempt(&mut Browser::at(&testbed, "192.0.2.1"), "alice", "wrong").await;
        assert_eq!(reply.status, 401, "{number}");
    }
}

#[tokio::test]
async fn counts_outlive_a_restart() {
    let testbed = TestBed::new().await;
    let mut attacker = Browser::at(&testbed, "192.0.2.1");
    for _ in 0..6 {
        attempt(&mut attacker, "alice", "wrong").await;
    }
    let again = TestBed::on(testbed.store.clone(), Arc::clone(&testbed.clock), |_| {}).await;
    assert_eq!(attempt(&mut Browser::at(&again, "192.0.2.1"), "alice", PASSWORD).await.status, 429);
}

#[tokio::test]
async fn an_account_that_everybody_guesses_at_is_tried_in_turn() {
    let testbed = TestBed::new().await;
    let mut own = Browser::at(&testbed, "192.0.2.1");
    assert!(is_in(&attempt(&mut own, "alice", PASSWORD).await));
    for number in 0..51 {
        let mut bot = Browser::at(&testbed, &format!("198.51.100.{number}"));
        assert_eq!(attempt(&mut bot, "alice", "wrong").await.status, 401);
    }
    // Turns are a second apart, and nobody waits for one longer than five. The clock stands.
    let mut late = 0;
    for number in 0..9 {
        let mut bot = Browser::at(&testbed, &format!("203.0.113.{number}"));
        late += u32::from(attempt(&mut bot, "alice", "wrong").await.status == 429);
    }
    assert_eq!(late, 3);
    // Her own browser does not wait, and others do no longer when it is over.
    assert!(is_in(&attempt(&mut own, "alice", PASSWORD).await));
    testbed.advance(10);
    assert!(is_in(&attempt(&mut Browser::at(&testbed, "203.0.113.77"), "alice", PASSWORD).await));
}

/// An ordinary home line has hundreds of /64s, each of which has failed at nothing.
#[tokio::test]
async fn one_line_with_many_addresses_keeps_nobody_else_waiting() {
    let testbed = TestBed::new().await;
    for number in 0..51 {
        let mut bot = Browser::at(&testbed, &format!("2001:db8:7:{number:x}::1"));
        assert_eq!(attempt(&mut bot, "alice", "wrong").await.status, 401);
    }
    // The clock stands: whoever is let in fills a place, and the line goes on until there is none.
    let mut refused = 0;
    for number in 100.. {
        let mut bot = Browser::at(&testbed, &format!("2001:db8:7:{number:x}::1"));
        refused += u32::from(attempt(&mut bot, "alice", "wrong").await.status == 429);
        if refused == 3 {
            break;
        }
    }
    for address in ["2001:db8:8::1", "192.0.2.1"] {
        assert!(is_in(&attempt(&mut Browser::at(&testbed, address), "alice", PASSWORD).await), "{address}");
    }
}

/// Many who each failed once elsewhere: from now on the account is tried in turn.
async fn guessed_at(testbed: &Arc<TestBed>) {
    let mut bots = Vec::new();
    for number in 0..51 {
        let address = format!("198.51.100.{number}");
        let ready = pages(testbed, &address, vec![("alice".to_owned(), "wrong")]).await;
        let testbed = Arc::clone(testbed);
        bots.push(tokio::spawn(async move { submitted(&testbed, &address, ready).await }));
    }
    for bot in bots {
        assert_eq!(bot.await.unwrap()[0].status, 401);
    }
}

/// Alice fails so often there that she is no newcomer any more.
async fn no_newcomer(testbed: &TestBed, address: &str) {
    for _ in 0..3 {
        assert_eq!(attempt(&mut Browser::at(testbed, address), "alice", "wrong").await.status, 401);
        testbed.advance(2);
    }
}

/// What stands where the turns of alice's account are counted, and of the newcomers to it.
async fn turns(testbed: &TestBed) -> [Option<store::Version>; 2] {
    let failures = Key::new("identity").hidden("shop").name("failures");
    let version = async |of: &str| {
        let record = testbed.store.get(&failures.clone().hidden(of).hidden("alice")).await.unwrap();
        record.map(|record| record.version)
    };
    [version("account").await, version("newcomers").await]
}

/// Whoever takes a turn and hangs up has asked nothing; of those who are no newcomers, too, one line
/// gets only so many.
#[tokio::test]
async fn one_line_that_takes_turns_and_hangs_up_fills_no_queue() {
    let testbed = Arc::new(TestBed::new().await);
    guessed_at(&testbed).await;
    no_newcomer(&testbed, "192.0.2.50").await;
    let taken = async |number: usize| {
        let mut bot = Browser::at(&testbed, &format!("2001:db8:7:{number:x}::1"));
        let page = bot.authorize("web", &[]).await;
        let before = turns(&testbed).await;
        let turn_is_taken = async {
            while turns(&testbed).await == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            reply = bot.submit(&page, &[("username", "alice"), ("password", "wrong")]) => reply.status != 429,
            () = turn_is_taken => true,
        }
    };
    let mut turns = 0;
    for number in 0..60 {
        turns += u32::from(taken(number).await);
        if number >= 20 {
            testbed.advance(1);
            turns += u32::from(taken(1000 + number).await);
        }
    }
    assert!((9..25).contains(&turns), "{turns}");
    let reply = attempt(&mut Browser::at(&testbed, "192.0.2.50"), "alice", PASSWORD).await;
    assert!(is_in(&reply), "{reply:?}");
}

/// The same form sent from as many addresses of a network, at once.
async fn sent_at_once(testbed: &Arc<TestBed>, form: &Ready, addresses: &[String]) -> Vec<u16> {
    let (cookies, page, (username, password)) = form;
    let sent = addresses.iter().map(|address| {
        let ready = (cookies.clone(), page.clone(), (username.clone(), *password));
        let (testbed, address) = (Arc::clone(testbed), address.clone());
        tokio::spawn(async move { submitted(&testbed, &address, vec![ready]).await })
    });
    let mut statuses = Vec::new();
    for one in sent.collect::<Vec<_>>() {
        statuses.push(one.await.unwrap()[0].status.as_u16());
    }
    statuses
}

/// Six addresses of an ordinary home line.
fn line(network: u16) -> Vec<String> {
    (0..6).map(|number| format!("2001:db8:{network:x}:{number}::1")).collect()
}

#[tokio::test]
async fn a_login_whose_attempts_are_used_up_takes_no_turns() {
    let testbed = Arc::new(TestBed::new().await);
    guessed_at(&testbed).await;
    no_newcomer(&testbed, "192.0.2.50").await;
    let mut bot = Browser::at(&testbed, "203.0.113.1");
    let page = bot.authorize("web", &[]).await;
    for number in 0..10 {
        let username = format!("person-{number}");
        let reply = bot.submit(&page, &[("username", username.as_str()), ("password", "wrong")]).await;
        assert_eq!(reply.status, 401, "{number}");
    }
    let before = testbed.store.version();
    let spent = (bot.cookies, page, ("alice".to_owned(), "wrong"));
    for round in 0..4 {
        // Two networks would fill the newcomers' turn as well.
        let statuses = sent_at_once(&testbed, &spent, &line(7 + round % 2)).await;
        assert_eq!(statuses, [400; 6], "{round}");
    }
    assert_eq!(testbed.store.version(), before, "it leaves nothing");
    for address in ["192.0.2.50", "192.0.2.51"] {
        let reply = attempt(&mut Browser::at(&testbed, address), "alice", PASSWORD).await;
        assert!(is_in(&reply), "{address}: {reply:?}");
    }
}

#[tokio::test]
async fn one_line_that_sends_each_form_several_times_fills_no_queue() {
    let testbed = Arc::new(TestBed::new().await);
    guessed_at(&testbed).await;
    no_newcomer(&testbed, "192.0.2.50").await;
    let mut taken = 0;
    for _ in 0..6 {
        testbed.advance(6);
        let mut bot = Browser::at(&testbed, "2001:db8:7::1");
        let page = bot.authorize("web", &[]).await;
        let statuses =
            sent_at_once(&testbed, &(bot.cookies, page, ("alice".to_owned(), "wrong")), &line(7)).await;
        taken += statuses.iter().filter(|status| **status != 429).count();
    }
    assert!((6..20).contains(&taken), "{taken}");
    let reply = attempt(&mut Browser::at(&testbed, "192.0.2.50"), "alice", PASSWORD).await;
    assert!(is_in(&reply), "{reply:?}");
}

#[tokio::test]
async fn one_line_takes_only_so_many_turns_in_which_all_is_busy() {
    const WAITING_MAX: usize = 256;
    let testbed = Arc::new(TestBed::with(|settings| settings.password_hashes_at_once = 1).await);
    let (alice, password) = (User::new("alice", "alice", testbed.now()), Secret::new(PASSWORD.to_owned()));
    guessed_at(&testbed).await;
    let many = waiting(&testbed, &alice, &password, WAITING_MAX - 1).await;
    let mut statuses = Vec::new();
    for number in 0..30 {
        let mut bot = Browser::at(&testbed, &format!("2001:db8:7:{number:x}::1"));
        let page = bot.authorize("web", &[]).await;
        let mut reply = Box::pin(bot.submit(&page, &[("username", "alice"), ("password", "wrong")]));
        // There is a place when it comes, or it would take no turn, and none when its turn is.
        let begun = std::future::poll_fn(|context| Poll::Ready(reply.as_mut().poll(context))).await;
        let reply = match begun {
            Poll::Ready(reply) => reply,
            Poll::Pending => {
                let _last = waiting(&testbed, &alice, &password, 1).await;
                reply.await
            }
        };
        statuses.push(reply.status.as_u16());
        testbed.advance(1);
    }
    drop(many);
    let taken = statuses.iter().filter(|status| **status == 503).count();
    assert!((13..20).contains(&taken), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 503 | 429)), "{statuses:?}");
}
