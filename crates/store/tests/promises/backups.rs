//! Backups: one moment, sealed, checked; put back whole or not at all, into any store.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::Clock as _;
use store::{Error, Event, Expect, Key, Store, Transaction, UnsealKey, check_backup};

use crate::testbed::{TestBed, on_every_store, on_stores};
use crate::watches::next;

on_every_store!(
    a_backup_is_put_back_as_it_was,
    a_backup_is_one_moment_of_a_running_store,
    a_backup_of_one_store_is_put_into_another,
);
on_stores!(once, in_memory: a_changed_backup_is_refused_whole, a_backup_takes_no_place_of_another);

fn user(name: &str) -> Key {
    Key::new("user").hidden(name)
}

async fn contents(store: &Store) -> Vec<(Key, Vec<u8>)> {
    let all = store.scan_all(&Key::new("user"), 10_000).await.unwrap();
    let mut all: Vec<_> = all.into_iter().map(|record| (record.key, record.value.to_vec())).collect();
    all.sort();
    all
}

async fn a_backup_is_put_back_as_it_was(testbed: TestBed) {
    let store = &testbed.store;
    let end = Some(testbed.clock.now().plus(Duration::from_secs(60)));
    store.put(user("ends"), "soon", end, Expect::Any).await.unwrap();
    let many = (0..500)
        .fold(Transaction::new(), |all, n| all.put(user(&n.to_string()), vec![1; 100], None, Expect::Any));
    store.commit(many).await.unwrap();
    store.delete(user("7"), Expect::Present).await.unwrap();
    store.rotate().await.unwrap();
    store.put(user("new generation"), "x", None, Expect::Any).await.unwrap();
    let before = contents(store).await;
    let path = testbed.folder.path().join("backup");
    let backup = store.backup(&path).await.unwrap();
    assert_eq!((backup.records, backup.version), (501, store.version()));
    let file = fs::metadata(&path).unwrap();
    assert_eq!((file.mode() & 0o777, file.len()), (0o600, backup.bytes));
    if !matches!(testbed.place, crate::testbed::Place::Memory) {
        assert_eq!(check_backup(&path, &testbed.key()).unwrap(), backup);
    }
    // After the backup: changed, deleted, added.
    let changed = store.put(user("1"), "changed", None, Expect::Any).await.unwrap();
    store.delete(user("2"), Expect::Any).await.unwrap();
    store.put(user("added"), "x", None, Expect::Any).await.unwrap();
    let mut watch = store.watch(&Key::new("user"), store.version());
    let restored = store.restore(&path, None).await.unwrap();
    assert_eq!(restored.records, 501);
    assert_eq!(contents(store).await, before);
    assert_eq!(store.get(&user("ends")).await.unwrap().unwrap().expires, end);
    // Whoever read before the restore does not overwrite what it brought.
    let late = store.put(user("1"), "late", None, Expect::Version(changed)).await;
    assert!(matches!(late, Err(Error::Conflict { .. })));
    let Event::Resync { .. } = next(&mut watch).await else { panic!("a watcher has to read anew") };
    store.put(user("after"), "x", None, Expect::Absent).await.unwrap();
    assert!(matches!(next(&mut watch).await, Event::Put(record) if record.key == user("after")));
    store.verify().await.unwrap();
    // What is past its end is not brought back.
    testbed.clock.advance(Duration::from_secs(60));
    assert_eq!(store.restore(&path, None).await.unwrap().records, 500);
}

async fn a_backup_is_one_moment_of_a_running_store(testbed: TestBed) {
    let store = testbed.store.clone();
    // Both records always hold the same number.
    let pair = move |n: u32| {
        Transaction::new()
            .put(user("first"), n.to_string().as_str(), None, Expect::Any)
            .put(user("second"), n.to_string().as_str(), None, Expect::Any)
            .put(user(&format!("filling {n}")), vec![0; 1_000], None, Expect::Any)
    };
    for n in 0..200 {
        store.commit(pair(n)).await.unwrap();
    }
    // It ends after a commit, never within one: what was begun would land after the restore.
    let taken = Arc::new(AtomicBool::new(false));
    let writing = {
        let (store, taken) = (store.clone(), Arc::clone(&taken));
        tokio::spawn(async move {
            for n in (200..2_000).take_while(|_| !taken.load(Ordering::Relaxed)) {
                store.commit(pair(n)).await.unwrap();
            }
        })
    };
    let path = testbed.folder.path().join("backup");
    let backup = store.backup(&path).await.unwrap();
    taken.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    store.restore(&path, None).await.unwrap();
    let read = async |name| store.get(&user(name)).await.unwrap().unwrap().value.to_vec();
    let first = read("first").await;
    assert_eq!(first, read("second").await);
    let number: u64 = String::from_utf8(first).unwrap().parse().unwrap();
    assert_eq!(backup.records, number + 3, "as many fillings as the number says");
}

async fn a_backup_of_one_store_is_put_into_another(testbed: TestBed) {
    testbed.store.put(user("alice"), "hers", None, Expect::Any).await.unwrap();
    let path = testbed.folder.path().join("backup");
    testbed.store.backup(&path).await.unwrap();
    let other = TestBed::sqlite().await.unwrap();
    other.store.put(user("bob"), "his", None, Expect::Any).await.unwrap();
    let wrong = other.store.restore(&path, None).await;
    assert!(matches!(wrong, Err(Error::WrongKey)), "{wrong:?}");
    assert!(matches!(check_backup(&path, &UnsealKey::generate().unwrap()), Err(Error::WrongKey)));
    assert!(other.store.get(&user("bob")).await.unwrap().is_some(), "nothing was touched");
    if matches!(testbed.place, crate::testbed::Place::Memory) {
        return;
    }
    other.store.restore(&path, Some(testbed.key())).await.unwrap();
    assert_eq!(contents(&other.store).await, [(user("alice"), b"hers".to_vec())]);
    other.store.put(user("alice"), "new", None, Expect::Present).await.unwrap();
    other.store.verify().await.unwrap();
}

async fn a_changed_backup_is_refused_whole(testbed: TestBed) {
    let store = &testbed.store;
    for n in 0..5 {
        store.put(user(&n.to_string()), "backed up", None, Expect::Any).await.unwrap();
    }
    let path = testbed.folder.path().join("backup");
    store.backup(&path).await.unwrap();
    store.put(user("0"), "newer", None, Expect::Any).await.unwrap();
    let before = contents(store).await;
    let honest = fs::read(&path).unwrap();
    let refused = async |bytes: &[u8], why: &str| {
        fs::write(&path, bytes).unwrap();
        let outcome = store.restore(&path, None).await;
        assert!(matches!(outcome, Err(Error::Corrupt(_) | Error::WrongKey)), "{why}: {outcome:?}");
        assert_eq!(contents(store).await, before, "{why}");
    };
    for place in 0..honest.len() {
        let mut changed = honest.clone();
        changed[place] ^= 1 << (place % 8);
        refused(&changed, &format!("byte {place}")).await;
    }
    for length in [0, 1, 20, honest.len() / 2, honest.len() - 33, honest.len() - 1] {
        refused(&honest[..length], &format!("cut to {length}")).await;
    }
    refused(&[&honest[..], b"x"].concat(), "something behind its end").await;
    fs::write(&path, &honest).unwrap();
    store.restore(&path, None).await.unwrap();
    assert_ne!(contents(store).await, before);
}

async fn a_backup_takes_no_place_of_another(testbed: TestBed) {
    let path = testbed.folder.path().join("backup");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(testbed.store.backup(&path).await, Err(Error::File { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    let nowhere = testbed.folder.path().join("nowhere/backup");
    assert!(matches!(testbed.store.backup(&nowhere).await, Err(Error::File { .. })));
    assert!(matches!(testbed.store.restore(&nowhere, None).await, Err(Error::File { .. })));
    assert_eq!(fs::read_dir(testbed.folder.path()).unwrap().count(), 1, "nothing is left beside");
}
