//! Records: versions, expectations, transactions, ends, scans.

use std::time::Duration;

use model::Clock as _;
use store::{Cursor, Error, Expect, Key, Record, Transaction, Version, limits};

use crate::testbed::{Place, TestBed, on_every_store};

on_every_store!(
    a_record_is_read_as_it_was_written,
    of_two_who_read_the_same_version_one_wins,
    expectations_hold_or_nothing_happens,
    a_transaction_happens_whole_or_not_at_all,
    a_record_past_its_end_is_absent,
    a_scan_finds_what_lies_below_by_whole_segments,
    pages_cover_everything_once,
    numbers_are_scanned_in_their_order,
    a_search_reads_within_its_bounds,
    everything_below_a_prefix_can_be_deleted,
    bounds_hold_at_the_limit_and_one_past_it,
    many_writers_at_once_lose_nothing,
    a_store_is_still_what_it_was_until_something_is_written,
);

fn user(name: &str) -> Key {
    Key::new("user").hidden("acme").hidden(name)
}

fn value(record: Option<Record>) -> Option<String> {
    record.map(|record| String::from_utf8(record.value.to_vec()).unwrap())
}

async fn a_record_is_read_as_it_was_written(testbed: TestBed) {
    let store = &testbed.store;
    assert!(store.get(&user("alice")).await.unwrap().is_none());
    let end = testbed.clock.now().plus(Duration::from_secs(5));
    let first = store.put(user("alice"), "one", Some(end), Expect::Any).await.unwrap();
    for _ in 0..2 {
        let record = store.get(&user("alice")).await.unwrap().unwrap();
        assert_eq!(record.key, user("alice"));
        assert_eq!((&record.value[..], record.version, record.expires), (&b"one"[..], first, Some(end)));
    }
    let second = store.put(user("alice"), "two", None, Expect::Any).await.unwrap();
    assert!(second > first);
    let record = store.get(&user("alice")).await.unwrap().unwrap();
    assert_eq!((&record.value[..], record.version, record.expires), (&b"two"[..], second, None));
    let third = store.delete(user("alice"), Expect::Any).await.unwrap();
    assert!(third > second);
    assert!(store.get(&user("alice")).await.unwrap().is_none());
    assert_eq!(store.version(), third);
    // What is not there is deleted already, and nothing has changed by that.
    assert_eq!(store.delete(user("alice"), Expect::Any).await.unwrap(), third);
    store.put(user("alice"), vec![], None, Expect::Absent).await.unwrap();
    assert_eq!(value(store.get(&user("alice")).await.unwrap()).unwrap(), "");
}

async fn of_two_who_read_the_same_version_one_wins(testbed: TestBed) {
    let read = testbed.store.put(user("a"), "0", None, Expect::Absent).await.unwrap();
    let racers: Vec<_> = (0..32)
        .map(|number| {
            let store = testbed.store.clone();
            tokio::spawn(async move {
                store.put(user("a"), number.to_string().as_str(), None, Expect::Version(read)).await
            })
        })
        .collect();
    let mut won = Vec::new();
    for (number, racer) in racers.into_iter().enumerate() {
        match racer.await.unwrap() {
            Ok(version) => won.push((number.to_string(), version)),
            Err(Error::Conflict { operation: 0, found }) => assert!(found.unwrap() > read),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won.len(), 1);
    let record = testbed.store.get(&user("a")).await.unwrap().unwrap();
    assert_eq!(won, [(value(Some(record.clone())).unwrap(), record.version)]);
}

async fn expectations_hold_or_nothing_happens(testbed: TestBed) {
    let store = &testbed.store;
    let there = store.put(user("there"), "x", None, Expect::Any).await.unwrap();
    let other = Version::from_number(there.number() + 1);
    let table = [
        ("there", Expect::Any, true),
        ("there", Expect::Present, true),
        ("there", Expect::Version(there), true),
        ("there", Expect::Version(other), false),
        ("there", Expect::Absent, false),
        ("gone", Expect::Any, true),
        ("gone", Expect::Absent, true),
        ("gone", Expect::Present, false),
        ("gone", Expect::Version(there), false),
    ];
    for (name, expect, holds) in table {
        let before = store.version();
        let outcome = store.commit(Transaction::new().require(user(name), expect)).await;
        assert_eq!(outcome.is_ok(), holds, "{name} {expect:?}");
        assert_eq!(store.version(), before, "to look changes nothing");
        let found = (name == "there").then_some(there);
        if !holds {
            assert!(matches!(outcome, Err(Error::Conflict { operation: 0, found: f }) if f == found));
            for refused in
                [store.put(user(name), "y", None, expect).await, store.delete(user(name), expect).await]
            {
                assert!(matches!(refused, Err(Error::Conflict { .. })), "{name} {expect:?}");
            }
        }
    }
    assert_eq!(value(store.get(&user("there")).await.unwrap()).unwrap(), "x");
    assert!(store.get(&user("gone")).await.unwrap().is_none());
    // A deleted record is as absent as one that never was.
    let deleted = store.delete(user("there"), Expect::Version(there)).await.unwrap();
    for wrong in [Expect::Present, Expect::Version(there), Expect::Version(deleted)] {
        let refused = store.put(user("there"), "y", None, wrong).await;
        assert!(matches!(refused, Err(Error::Conflict { found: None, .. })), "{wrong:?}");
    }
    store.put(user("there"), "y", None, Expect::Absent).await.unwrap();
}

async fn a_transaction_happens_whole_or_not_at_all(testbed: TestBed) {
    let store = &testbed.store;
    let old = store.put(user("old"), "1", None, Expect::Any).await.unwrap();
    let rotate = |expected| {
        Transaction::new()
            .put(user("new"), "2", None, Expect::Absent)
            .delete(user("old"), Expect::Version(expected))
            .put(user("other"), "3", None, Expect::Any)
    };
    let wrong = Version::from_number(old.number() + 7);
    let refused = store.commit(rotate(wrong)).await;
    assert!(matches!(refused, Err(Error::Conflict { operation: 1, found: Some(found) }) if found == old));
    assert!(store.get(&user("new")).await.unwrap().is_none());
    assert!(store.get(&user("other")).await.unwrap().is_none());
    assert!(store.get(&user("old")).await.unwrap().is_some());
    let version = store.commit(rotate(old)).await.unwrap();
    assert!(store.get(&user("old")).await.unwrap().is_none());
    for name in ["new", "other"] {
        assert_eq!(
            store.get(&user(name)).await.unwrap().unwrap().version,
            version,
            "one moment, one version"
        );
    }
    // An expectation is about what was before the transaction.
    let both = Transaction::new().delete(user("new"), Expect::Present).require(user("new"), Expect::Present);
    store.commit(both).await.unwrap();
    let twice = Transaction::new().put(user("a"), "1", None, Expect::Any).delete(user("a"), Expect::Any);
    assert!(matches!(store.commit(twice).await, Err(Error::Usage(_))));
    let before = store.version();
    assert_eq!(store.commit(Transaction::new()).await.unwrap(), before);
}

async fn a_record_past_its_end_is_absent(testbed: TestBed) {
    let store = &testbed.store;
    let end = testbed.clock.now().plus(Duration::from_secs(10));
    let version = store.put(user("code"), "4711", Some(end), Expect::Absent).await.unwrap();
    testbed.clock.advance(Duration::from_nanos(9_999_999_999));
    assert!(store.get(&user("code")).await.unwrap().is_some());
    assert_eq!(store.scan(&Key::new("user"), None, 10).await.unwrap().records.len(), 1);
    testbed.clock.advance(Duration::from_nanos(1));
    assert!(store.get(&user("code")).await.unwrap().is_none());
    assert!(store.scan(&Key::new("user"), None, 10).await.unwrap().records.is_empty());
    for wrong in [Expect::Present, Expect::Version(version)] {
        let refused = store.put(user("code"), "again", None, wrong).await;
        assert!(matches!(refused, Err(Error::Conflict { found: None, .. })), "{wrong:?}");
    }
    store.put(user("code"), "new", None, Expect::Absent).await.unwrap();
    assert_eq!(value(store.get(&user("code")).await.unwrap()).unwrap(), "new");
}

async fn a_scan_finds_what_lies_below_by_whole_segments(testbed: TestBed) {
    let store = &testbed.store;
    let keys = [
        Key::new("a"),
        Key::new("a").name("b"),
        Key::new("a").hidden("b"),
        Key::new("a").hidden("b").hidden("c"),
        Key::new("a").hidden("bc"),
        Key::new("a").number(1),
        Key::new("ab"),
        Key::new("b").hidden("b"),
    ];
    for key in &keys {
        store.put(key.clone(), "", None, Expect::Absent).await.unwrap();
    }
    let below = |prefix: &Key| keys.iter().filter(|key| key.starts_with(prefix)).count();
    for prefix in keys.iter().chain([&Key::everything(), &Key::new("c"), &Key::new("a").hidden("c")]) {
        let found = store.scan(prefix, None, 100).await.unwrap().records;
        assert_eq!(found.len(), below(prefix), "{prefix:?}");
        assert!(found.iter().all(|record| record.key.starts_with(prefix) && keys.contains(&record.key)));
    }
}

async fn pages_cover_everything_once(testbed: TestBed) {
    let store = &testbed.store;
    let many = 57;
    let all =
        (0..many).fold(Transaction::new(), |all, n| all.put(user(&n.to_string()), "", None, Expect::Any));
    store.commit(all).await.unwrap();
    store.put(Key::new("usher"), "", None, Expect::Any).await.unwrap();
    for limit in [1, 10, 56, 57, 58] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.scan(&Key::new("user"), after.as_ref(), limit).await.unwrap();
            assert!(page.records.len() <= limit);
            seen.extend(page.records.into_iter().map(|record| record.key));
            let Some(next) = page.next else { break };
            after = Some(Cursor::parse(&next.to_text()).unwrap());
        }
        assert_eq!(seen.len(), many, "pages of {limit}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), many, "pages of {limit}");
    }
    assert_eq!(store.scan_all(&Key::new("user"), many).await.unwrap().len(), many);
    assert!(matches!(store.scan_all(&Key::new("user"), many - 1).await, Err(Error::TooLarge { .. })));
    // A cursor of elsewhere leads nowhere else.
    let outside = Cursor::parse("AA").unwrap();
    let page = store.scan(&Key::new("user"), Some(&outside), 100).await.unwrap();
    assert!(page.records.iter().all(|record| record.key.starts_with(&Key::new("user"))));
    assert!(Cursor::parse("no cursor!").is_err());
}

async fn numbers_are_scanned_in_their_order(testbed: TestBed) {
    let mut numbers = [5, 0, u64::MAX, 256, 255, 1 << 40];
    for number in numbers {
        testbed.store.put(Key::new("at").number(number), "", None, Expect::Any).await.unwrap();
    }
    let found = testbed.store.scan(&Key::new("at"), None, 10).await.unwrap().records;
    let found: Vec<_> = found.iter().map(|record| record.key.number_at(1).unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(found, numbers);
}

async fn a_search_reads_within_its_bounds(testbed: TestBed) {
    let store = &testbed.store;
    let all = (0..100).fold(Transaction::new(), |all, n| {
        let text = if n % 10 == 0 { "tenth" } else { "other" };
        all.put(user(&n.to_string()), text, None, Expect::Any)
    });
    store.commit(all).await.unwrap();
    let tenth = |record: &Record| &record.value[..] == b"tenth";
    let (mut found, mut after, mut examined) = (0, None, 0);
    loop {
        let page = store.search(&Key::new("user"), after.as_ref(), 3, 40, tenth).await.unwrap();
        assert!(page.records.len() <= 3 && page.examined <= 40);
        found += page.records.len();
        examined += page.examined;
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    assert_eq!((found, examined), (10, 100));
    let nothing = store.search(&Key::new("user"), None, 5, 0, tenth).await.unwrap();
    assert_eq!((nothing.records.len(), nothing.examined), (0, 0));
}

async fn everything_below_a_prefix_can_be_deleted(testbed: TestBed) {
    let store = &testbed.store;
    for part in 0..2 {
        let some = (0..500)
            .fold(Transaction::new(), |all, n| all.put(user(&format!("{part} {n}")), "", None, Expect::Any));
        store.commit(some).await.unwrap();
    }
    store.put(Key::new("usher"), "", None, Expect::Any).await.unwrap();
    assert_eq!(store.delete_all(&Key::new("user")).await.unwrap(), 1_000);
    assert_eq!(store.scan(&Key::everything(), None, 10).await.unwrap().records.len(), 1);
}

async fn bounds_hold_at_the_limit_and_one_past_it(testbed: TestBed) {
    let store = &testbed.store;
    let put = |key: Key, bytes: usize| store.put(key, vec![7; bytes], None, Expect::Any);
    let segments = |count: usize| (1..count).fold(Key::new("a"), |key, _| key.hidden("b"));
    let text = |bytes: usize| Key::new("a").hidden("x".repeat(bytes));
    let operations = |count: usize| {
        (0..count).fold(Transaction::new(), |all, n| all.put(user(&n.to_string()), "", None, Expect::Any))
    };
    put(segments(limits::KEY_SEGMENTS_MAX), 1).await.unwrap();
    put(text(limits::KEY_SEGMENT_BYTES_MAX), limits::VALUE_BYTES_MAX).await.unwrap();
    let largest = store.get(&text(limits::KEY_SEGMENT_BYTES_MAX)).await.unwrap().unwrap();
    assert!(largest.value.len() == limits::VALUE_BYTES_MAX && largest.value.iter().all(|byte| *byte == 7));
    store.commit(operations(limits::TRANSACTION_OPERATIONS_MAX)).await.unwrap();
    store.scan(&Key::everything(), None, limits::SCAN_RECORDS_MAX).await.unwrap();
    let whole = limits::TRANSACTION_BYTES_MAX / limits::VALUE_BYTES_MAX;
    let big = |count: usize, bytes: usize| {
        (0..count).fold(Transaction::new(), |all, n| {
            all.put(user(&n.to_string()), vec![0; bytes], None, Expect::Any)
        })
    };
    store.commit(big(whole, limits::VALUE_BYTES_MAX)).await.unwrap();
    let before = store.version();
    for refused in [
        put(segments(limits::KEY_SEGMENTS_MAX + 1), 1).await,
        put(text(limits::KEY_SEGMENT_BYTES_MAX + 1), 1).await,
        put(user("a"), limits::VALUE_BYTES_MAX + 1).await,
        store.commit(operations(limits::TRANSACTION_OPERATIONS_MAX + 1)).await,
        store.commit(big(whole, limits::VALUE_BYTES_MAX).put(Key::new("b"), "x", None, Expect::Any)).await,
    ] {
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    }
    assert!(store.scan(&Key::everything(), None, limits::SCAN_RECORDS_MAX + 1).await.is_err());
    let wide = store.search(&Key::everything(), None, 1, limits::SEARCH_RECORDS_MAX + 1, |_| true).await;
    assert!(wide.is_err());
    assert!(matches!(put(Key::everything(), 1).await, Err(Error::Usage(_))));
    assert!(matches!(put(Key::new(""), 1).await, Err(Error::Usage(_))));
    assert!(matches!(put(Key::new("a\0b"), 1).await, Err(Error::Usage(_))));
    assert_eq!(store.version(), before);
}

async fn many_writers_at_once_lose_nothing(testbed: TestBed) {
    const WRITERS: usize = 16;
    const ROUNDS: usize = 25;
    // Each adds one to the same counter, and leaves a record of its own beside it.
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = testbed.store.clone();
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    loop {
                        let read = store.get(&Key::new("counter")).await.unwrap();
                        let count: u64 = read.as_ref().map_or(0, |record| record.json().unwrap());
                        let expect = read.map_or(Expect::Absent, |record| Expect::Version(record.version));
                        let next = store::Value::from_json(&(count + 1)).unwrap();
                        let both = Transaction::new().put(Key::new("counter"), next, None, expect).put(
                            user(&format!("{writer} {round}")),
                            "",
                            None,
                            Expect::Absent,
                        );
                        match store.commit(both).await {
                            Ok(_) => break,
                            Err(Error::Conflict { operation: 0, .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let count: usize = testbed.store.get(&Key::new("counter")).await.unwrap().unwrap().json().unwrap();
    assert_eq!(count, WRITERS * ROUNDS);
    let left = testbed.store.scan_all(&Key::new("user"), 10_000).await.unwrap();
    assert_eq!(left.len(), WRITERS * ROUNDS);
}

async fn a_store_is_still_what_it_was_until_something_is_written(testbed: TestBed) {
    let store = &testbed.store;
    // Where other processes are heard of late, nothing is ever said to be so.
    let can_tell = !matches!(testbed.place, Place::Database(_));
    store.put(user("alice"), "one", None, Expect::Any).await.unwrap();
    let read = store.version();
    store.get(&user("alice")).await.unwrap();
    assert_eq!(store.is_still(read), can_tell);
    let refused = store.put(user("alice"), "two", None, Expect::Absent).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })));
    assert_eq!(store.is_still(read), can_tell, "nothing was written");
    store.delete(user("alice"), Expect::Any).await.unwrap();
    assert!(!store.is_still(read), "as soon as a write is acknowledged");
    assert!(!store.is_still(Version::from_number(u64::MAX)));
    let Some(other) = testbed.again().await else { return };
    let read = other.version();
    store.put(user("bob"), "one", None, Expect::Any).await.unwrap();
    for _ in 0..6_000 {
        if !other.is_still(read) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("what another process wrote is not noticed");
}
