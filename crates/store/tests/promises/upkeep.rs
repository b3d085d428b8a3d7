//! Maintenance: what is past its end goes, deletions are forgotten, watchers are told.

use std::time::Duration;

use model::Clock as _;
use store::{Event, Expect, Key, Transaction, Version, limits};

use crate::testbed::{TestBed, on_every_store, on_stores};
use crate::watches::next;

on_every_store!(
    what_is_past_its_end_is_removed_and_told,
    as_much_as_is_past_its_end_is_removed_at_once,
    two_do_not_maintain_at_once,
);
// Many revisions: once is enough.
on_stores!(once, in_memory: a_watcher_that_is_too_far_behind_is_told_so);

fn code(number: u32) -> Key {
    Key::new("code").hidden(number.to_string())
}

async fn what_is_past_its_end_is_removed_and_told(testbed: TestBed) {
    let store = &testbed.store;
    let soon = Some(testbed.clock.now().plus(Duration::from_secs(10)));
    let later = Some(testbed.clock.now().plus(Duration::from_secs(1_000)));
    for (number, end) in [(1, soon), (2, later), (3, None), (4, soon)] {
        store.put(code(number), "x", end, Expect::Any).await.unwrap();
    }
    assert_eq!(store.maintain().await.unwrap().unwrap().expired, 0);
    let before = store.version();
    testbed.clock.advance(Duration::from_secs(10));
    // Written anew before it is removed, it stays.
    store.put(code(4), "new", later, Expect::Absent).await.unwrap();
    assert_eq!(store.status().await.unwrap().records, 4);
    assert_eq!(store.maintain().await.unwrap().unwrap().expired, 1);
    assert_eq!(store.maintain().await.unwrap().unwrap().expired, 0);
    assert_eq!(store.status().await.unwrap().records, 3);
    assert_eq!(store.scan(&Key::new("code"), None, 10).await.unwrap().records.len(), 3);
    let mut watch = store.watch(&Key::new("code"), before);
    assert!(matches!(next(&mut watch).await, Event::Put(record) if record.key == code(4)));
    assert!(matches!(next(&mut watch).await, Event::Deleted { key, .. } if key == code(1)));
}

async fn as_much_as_is_past_its_end_is_removed_at_once(testbed: TestBed) {
    let store = &testbed.store;
    let soon = Some(testbed.clock.now().plus(Duration::from_secs(10)));
    for some in (0..5_000).collect::<Vec<u32>>().chunks(500) {
        let put = |all: Transaction, number: &u32| all.put(code(*number), "x", soon, Expect::Absent);
        store.commit(some.iter().fold(Transaction::new(), put)).await.unwrap();
    }
    store.put(code(5_000), "x", None, Expect::Absent).await.unwrap();
    testbed.clock.advance(Duration::from_secs(10));
    assert_eq!(store.maintain().await.unwrap().unwrap().expired, 5_000);
    assert_eq!(store.status().await.unwrap().records, 1);
}

async fn two_do_not_maintain_at_once(testbed: TestBed) {
    let other = testbed.store.take_lease("maintenance", Duration::from_secs(60)).await.unwrap().unwrap();
    assert!(testbed.store.maintain().await.unwrap().is_none());
    other.release(&testbed.store).await.unwrap();
    assert!(testbed.store.maintain().await.unwrap().is_some());
}

async fn a_watcher_that_is_too_far_behind_is_told_so(testbed: TestBed) {
    let store = &testbed.store;
    store.put(code(1), "x", None, Expect::Any).await.unwrap();
    let behind = store.version();
    store.delete(code(1), Expect::Any).await.unwrap();
    let after_deletion = store.version();
    // Many at a time, each a revision of its own.
    let rounds = u32::try_from(limits::HISTORY_REVISIONS).unwrap() / 500 + 1;
    for round in 0..rounds {
        let writers: Vec<_> = (0..500)
            .map(|_| {
                let store = store.clone();
                let one = Transaction::new().put(Key::new("busy"), "x", None, Expect::Any);
                tokio::spawn(async move { store.commit(one).await.unwrap() })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        if round == 0 {
            // Not far enough: the deletion is remembered.
            store.maintain().await.unwrap();
            let mut watch = store.watch(&Key::new("code"), behind);
            assert!(matches!(next(&mut watch).await, Event::Deleted { key, .. } if key == code(1)));
        }
    }
    assert_eq!(store.status().await.unwrap().deletions, 1 + 1, "the code's and the lease's");
    assert!(store.maintain().await.unwrap().unwrap().forgotten > 0);
    let mut watch = store.watch(&Key::new("code"), behind);
    let Event::Resync { version } = next(&mut watch).await else {
        panic!("expected to be told to read anew")
    };
    assert!(version > after_deletion);
    // What was there at that version is read anew; what comes after is told again.
    store.put(code(2), "y", None, Expect::Any).await.unwrap();
    assert!(matches!(next(&mut watch).await, Event::Put(record) if record.key == code(2)));
    let mut never = store.watch(&Key::new("code"), Version::default());
    assert!(matches!(next(&mut never).await, Event::Resync { .. }));
}
