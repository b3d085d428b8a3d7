//! Watches: nothing is lost, in order, and whoever is too far behind is told so.

use std::time::Duration;

use model::Clock as _;
use store::{Event, Expect, Key, Transaction, Version, Watch};

use crate::testbed::{TestBed, on_every_store};

on_every_store!(
    a_watch_tells_what_changes_below_its_prefix,
    a_watch_goes_on_from_a_version,
    a_watch_that_waits_is_woken,
    a_watch_tells_whole_transactions_of_many,
);

fn user(name: &str) -> Key {
    Key::new("user").hidden(name)
}

/// The next event, in bounded time.
pub(crate) async fn next(watch: &mut Watch) -> Event {
    tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("no event").unwrap()
}

fn text(event: &Event) -> String {
    match event {
        Event::Put(record) => {
            let name = record.key.last_text().unwrap();
            format!("put {name} {}", String::from_utf8_lossy(&record.value))
        }
        Event::Deleted { key, .. } => format!("deleted {}", key.last_text().unwrap()),
        Event::Resync { .. } => "resync".to_owned(),
    }
}

async fn a_watch_tells_what_changes_below_its_prefix(testbed: TestBed) {
    let store = &testbed.store;
    store.put(user("before"), "0", None, Expect::Any).await.unwrap();
    let mut watch = store.watch(&Key::new("user"), store.version());
    store.put(Key::new("usher"), "", None, Expect::Any).await.unwrap();
    store.put(user("a"), "1", None, Expect::Any).await.unwrap();
    assert_eq!(text(&next(&mut watch).await), "put a 1");
    store.delete(user("a"), Expect::Any).await.unwrap();
    assert_eq!(text(&next(&mut watch).await), "deleted a");
    // A record that is past its end when it is told is told as deleted.
    let end = testbed.clock.now().plus(Duration::from_secs(1));
    store.put(user("b"), "2", Some(end), Expect::Any).await.unwrap();
    testbed.clock.advance(Duration::from_secs(1));
    assert_eq!(text(&next(&mut watch).await), "deleted b");
}

async fn a_watch_goes_on_from_a_version(testbed: TestBed) {
    let store = &testbed.store;
    let first = store.put(user("a"), "1", None, Expect::Any).await.unwrap();
    store.put(user("b"), "1", None, Expect::Any).await.unwrap();
    store.put(user("a"), "2", None, Expect::Any).await.unwrap();
    store.delete(user("b"), Expect::Any).await.unwrap();
    let mut watch = store.watch(&Key::new("user"), Version::default());
    // Of several changes of one record, the last is told, in the order of versions.
    assert_eq!(text(&next(&mut watch).await), "put a 2");
    assert_eq!(text(&next(&mut watch).await), "deleted b");
    let mut again = store.watch(&Key::new("user"), first);
    assert_eq!(text(&next(&mut again).await), "put a 2");
}

async fn a_watch_that_waits_is_woken(testbed: TestBed) {
    let mut watch = testbed.store.watch(&Key::new("user"), testbed.store.version());
    let waiting = tokio::spawn(async move {
        let first = text(&next(&mut watch).await);
        (first, watch)
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    // A wait that is given up loses nothing.
    let mut other = testbed.store.watch(&Key::new("user"), testbed.store.version());
    assert!(tokio::time::timeout(Duration::from_millis(20), other.next()).await.is_err());
    testbed.store.put(user("late"), "1", None, Expect::Any).await.unwrap();
    assert_eq!(waiting.await.unwrap().0, "put late 1");
    assert_eq!(text(&next(&mut other).await), "put late 1");
}

async fn a_watch_tells_whole_transactions_of_many(testbed: TestBed) {
    let store = &testbed.store;
    let mut watch = store.watch(&Key::new("user"), store.version());
    let mut versions = Vec::new();
    for round in 0..5 {
        let many = (0..400)
            .fold(Transaction::new(), |all, n| all.put(user(&format!("{round} {n}")), "", None, Expect::Any));
        versions.push(store.commit(many).await.unwrap());
    }
    for version in versions {
        for _ in 0..400 {
            match next(&mut watch).await {
                Event::Put(record) => assert_eq!(record.version, version),
                other => panic!("{other:?}"),
            }
        }
    }
}
