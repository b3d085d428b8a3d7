//! Rotation: new keys at once, old records under them in the background, old keys gone.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use store::{Event, Expect, Key, Transaction, Version};

use crate::testbed::{TestBed, on_every_store, on_stores};

on_every_store!(
    rotation_loses_nothing_and_old_keys_end,
    a_reencryption_goes_on_after_an_interruption,
    a_rotation_in_the_middle_of_a_reencryption_leaves_nothing_behind,
    rotation_goes_on_while_others_write,
    another_process_follows_a_rotation,
);
// In memory one thread does one thing after the other, and on a connection to PostgreSQL nobody is
// answered before those who asked earlier have taken their answers.
on_stores!(slow, sqlite_uncached: who_reads_while_keys_end_reads_all_the_same, a_check_goes_on_while_keys_end);

fn user(number: usize) -> Key {
    Key::new("user").hidden(format!("user {number}"))
}

async fn fill(testbed: &TestBed, count: usize) {
    for part in (0..count).collect::<Vec<_>>().chunks(400) {
        let some = part
            .iter()
            .fold(Transaction::new(), |all, n| all.put(user(*n), n.to_string().as_str(), None, Expect::Any));
        testbed.store.commit(some).await.unwrap();
    }
}

async fn rotation_loses_nothing_and_old_keys_end(testbed: TestBed) {
    let store = &testbed.store;
    fill(&testbed, 700).await;
    store.delete(user(699), Expect::Present).await.unwrap();
    let before: Vec<_> = store.scan_all(&Key::new("user"), 1_000).await.unwrap();
    assert_eq!(store.rotate().await.unwrap(), 2);
    assert_eq!(store.generations().await.unwrap(), [1, 2]);
    assert_eq!(store.status().await.unwrap().stale, 700, "records and the deletion");
    let mut work = store.reencryption();
    let mut taken = 0;
    loop {
        match work.step().await.unwrap() {
            0 => break,
            count => taken += count,
        }
    }
    assert_eq!(taken, 700);
    assert_eq!(store.generations().await.unwrap(), [2], "the old keys are destroyed");
    let status = store.status().await.unwrap();
    assert_eq!((status.generation, status.stale, status.records), (2, 0, 699));
    // Versions stay: nobody who compares and sets is disturbed, no watcher is told.
    assert_eq!(store.scan_all(&Key::new("user"), 1_000).await.unwrap(), before);
    assert_eq!(store.verify().await.unwrap(), 700);
    if let Some(again) = testbed.again().await {
        assert_eq!(again.scan_all(&Key::new("user"), 1_000).await.unwrap(), before);
    }
}

async fn a_reencryption_goes_on_after_an_interruption(testbed: TestBed) {
    let store = &testbed.store;
    fill(&testbed, 600).await;
    store.rotate().await.unwrap();
    let first = store.reencryption().step().await.unwrap();
    assert!(first > 0 && first < 600);
    // Rotated once more in the middle: three generations at once.
    store.rotate().await.unwrap();
    assert_eq!(store.generations().await.unwrap(), [1, 2, 3]);
    assert_eq!(store.scan_all(&Key::new("user"), 1_000).await.unwrap().len(), 600);
    let mut rounds = 0;
    while store.generations().await.unwrap().len() > 1 {
        assert!(store.maintain().await.unwrap().unwrap().reencrypted <= 8 * 256);
        rounds += 1;
        assert!(rounds < 10);
    }
    assert_eq!(store.generations().await.unwrap(), [3]);
    assert_eq!(store.scan_all(&Key::new("user"), 1_000).await.unwrap().len(), 600);
}

async fn a_rotation_in_the_middle_of_a_reencryption_leaves_nothing_behind(testbed: TestBed) {
    let store = &testbed.store;
    fill(&testbed, 600).await;
    store.rotate().await.unwrap();
    let mut work = store.reencryption();
    assert!(work.step().await.unwrap() > 0);
    // What was done until here is old again, and lies behind the place of the work.
    store.rotate().await.unwrap();
    while work.step().await.unwrap() > 0 {}
    assert_eq!(store.generations().await.unwrap(), [3]);
    assert_eq!(store.status().await.unwrap().stale, 0);
    assert_eq!(store.verify().await.unwrap(), 600);
}

async fn rotation_goes_on_while_others_write(testbed: TestBed) {
    fill(&testbed, 300).await;
    let writer = {
        let store = testbed.store.clone();
        tokio::spawn(async move {
            for round in 0..200 {
                let record = store.get(&user(round)).await.unwrap().unwrap();
                store.put(user(round), "rewritten", None, Expect::Version(record.version)).await.unwrap();
            }
        })
    };
    for _ in 0..3 {
        testbed.store.rotate().await.unwrap();
        let mut work = testbed.store.reencryption();
        while work.step().await.unwrap() > 0 {}
    }
    writer.await.unwrap();
    let all = testbed.store.scan_all(&Key::new("user"), 1_000).await.unwrap();
    assert_eq!(all.iter().filter(|record| &record.value[..] == b"rewritten").count(), 200);
    assert_eq!(all.len(), 300);
    let mut work = testbed.store.reencryption();
    while work.step().await.unwrap() > 0 {}
    assert_eq!(testbed.store.status().await.unwrap().stale, 0);
}

async fn another_process_follows_a_rotation(testbed: TestBed) {
    let Some(other) = testbed.again().await else { return };
    fill(&testbed, 10).await;
    assert_eq!(&other.get(&user(3)).await.unwrap().unwrap().value[..], b"3");
    // Rotated to the end by one: the other reads what it could not open, and writes under
    // the new keys although nobody told it.
    testbed.store.rotate().await.unwrap();
    let mut work = testbed.store.reencryption();
    while work.step().await.unwrap() > 0 {}
    other.put(user(20), "20", None, Expect::Absent).await.unwrap();
    assert_eq!(testbed.store.status().await.unwrap().stale, 0);
    for number in [4, 20] {
        let expected = number.to_string();
        assert_eq!(&other.get(&user(number)).await.unwrap().unwrap().value[..], expected.as_bytes());
        assert_eq!(&testbed.store.get(&user(number)).await.unwrap().unwrap().value[..], expected.as_bytes());
    }
    assert_eq!(other.scan_all(&Key::new("user"), 100).await.unwrap().len(), 11);
}

/// New keys, and none of those of before.
async fn end_keys(testbed: &TestBed) {
    testbed.store.rotate().await.unwrap();
    let mut work = testbed.store.reencryption();
    while work.step().await.unwrap() > 0 {}
    assert_eq!(testbed.store.generations().await.unwrap().len(), 1);
}

/// Something that is asked for, and looked at later.
struct Asked<'a, T>(Pin<Box<dyn Future<Output = T> + Send + 'a>>, Option<T>);

impl<'a, T> Asked<'a, T> {
    fn of(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self(Box::pin(future), None)
    }

    /// Goes on without waiting for anything.
    async fn go(&mut self) {
        if self.1.is_none() {
            let polled = std::future::poll_fn(|context| Poll::Ready(self.0.as_mut().poll(context)));
            if let Poll::Ready(answer) = polled.await {
                self.1 = Some(answer);
            }
        }
    }

    async fn answer(self) -> T {
        match self.1 {
            Some(answer) => answer,
            None => self.0.await,
        }
    }
}

async fn who_reads_while_keys_end_reads_all_the_same(testbed: TestBed) {
    let store = &testbed.store;
    fill(&testbed, 300).await;
    for round in 0..3 {
        let (key, users) = (user(7), Key::new("user"));
        let mut watch = store.watch(&users, Version::default());
        let mut got = Asked::of(store.get(&key));
        let mut found = Asked::of(store.scan(&users, None, 300));
        let mut told = Asked::of(watch.next());
        got.go().await;
        found.go().await;
        told.go().await;
        // What they asked for is there before they look at it.
        end_keys(&testbed).await;
        if round > 0 {
            store.put(user(7), round.to_string().as_str(), None, Expect::Present).await.unwrap();
            end_keys(&testbed).await;
        }
        assert!(got.answer().await.unwrap().is_some());
        assert_eq!(found.answer().await.unwrap().records.len(), 300);
        assert!(matches!(told.answer().await.unwrap(), Event::Put(_)));
    }
}

async fn a_check_goes_on_while_keys_end(testbed: TestBed) {
    // More than is read ahead.
    fill(&testbed, 4_000).await;
    let mut checked = Asked::of(testbed.store.verify());
    // The structure is looked at first.
    for _ in 0..2 {
        checked.go().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    end_keys(&testbed).await;
    assert_eq!(checked.answer().await.unwrap(), 4_000);
}
