//! Damage and forgery: what was changed beside the store is never taken for what was
//! written.

use std::fs;

use store::{CacheLimits, Error, Expect, Key, Store, UnsealKey};

use crate::clock::ManualClock;
use crate::testbed::{Place, TestBed, on_stores};

on_stores!(
    sqlite, sqlite_uncached:
    a_changed_column_is_noticed,
    rows_that_were_swapped_are_noticed,
    a_forged_end_frees_no_key,
    a_state_from_before_its_keyring_is_not_opened,
);
on_stores!(sqlite_cached, sqlite: a_write_is_judged_by_what_memory_knows_of_its_key);
on_stores!(
    postgres, postgres:
    a_changed_column_is_noticed,
    rows_that_were_swapped_are_noticed,
    a_forged_end_frees_no_key,
    a_state_from_before_its_keyring_is_not_opened,
);

const RECORDS: u32 = 120;

fn user(number: u32) -> Key {
    Key::new("user").hidden(number.to_string())
}

fn value(number: u32) -> Vec<u8> {
    number.to_string().repeat(100).into_bytes()
}

/// Runs SQL on the database behind the store's back.
async fn forge(testbed: &TestBed, sql: &str) {
    match &testbed.place {
        Place::File(path) => {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection
                .execute_batch(&sql.replace("RECORD", "record").replace("STATE", "state").replace("HEX", "X"))
                .unwrap();
        }
        Place::Database(address) => {
            let client = crate::server::shared().unwrap().client(address.rsplit('=').next().unwrap()).await;
            let sql = sql.replace("RECORD", "bastide.store_record").replace("STATE", "bastide.store_state");
            client.batch_execute(&sql).await.unwrap();
        }
        Place::Memory => panic!("there is nothing behind it"),
    }
}

async fn a_changed_column_is_noticed(testbed: TestBed) {
    for (place, change) in [
        "version = version + 1",
        "expires = 4000000000000000000",
        "generation = generation + 1",
        "live = NOT live",
        "sealed = (SELECT sealed FROM RECORD ORDER BY version LIMIT 1)",
    ]
    .into_iter()
    .enumerate()
    {
        let key = user(u32::try_from(place).unwrap());
        testbed.store.put(user(1_000), "oldest", None, Expect::Any).await.unwrap();
        let version = testbed.store.put(key.clone(), "honest", None, Expect::Any).await.unwrap();
        assert!(testbed.store.get(&key).await.unwrap().is_some());
        forge(&testbed, &format!("UPDATE RECORD SET {change} WHERE version = {version}")).await;
        let read = testbed.store.get(&key).await;
        match change {
            // What is not live is not there: that rows can be taken away is said in SECURITY.md.
            "live = NOT live" => assert!(read.unwrap().is_none()),
            _ => assert!(matches!(read, Err(Error::Corrupt(_))), "{change}: {read:?}"),
        }
        let written = testbed.store.put(key.clone(), "next", None, Expect::Version(version)).await;
        assert!(matches!(written, Err(Error::Corrupt(_))), "{change}: {written:?}");
        assert!(matches!(testbed.store.verify().await, Err(Error::Corrupt(_))), "{change}");
        // Written anew without a look at what stands there, it is whole again.
        testbed.store.put(key.clone(), "repaired", None, Expect::Any).await.unwrap();
        testbed.store.verify().await.unwrap();
    }
}

async fn rows_that_were_swapped_are_noticed(testbed: TestBed) {
    // Alike in everything but the key: version, end, generation, length.
    let both = store::Transaction::new().put(user(1), "may enter", None, Expect::Any).put(
        user(2),
        "may never",
        None,
        Expect::Any,
    );
    testbed.store.commit(both).await.unwrap();
    let swap = "CREATE TABLE held AS SELECT * FROM RECORD; UPDATE RECORD SET sealed =
        (SELECT held.sealed FROM held WHERE held.key <> RECORD.key)";
    forge(&testbed, swap).await;
    for number in [1, 2] {
        assert!(matches!(testbed.store.get(&user(number)).await, Err(Error::Corrupt(_))));
    }
    assert!(matches!(testbed.store.scan(&Key::new("user"), None, 10).await, Err(Error::Corrupt(_))));
    assert!(matches!(testbed.store.backup(&testbed.folder.path().join("b")).await, Err(Error::Corrupt(_))));
}

async fn a_forged_end_frees_no_key(testbed: TestBed) {
    // A code that was used must not become free by a forged end.
    testbed.store.put(user(1), "used", None, Expect::Absent).await.unwrap();
    forge(&testbed, "UPDATE RECORD SET expires = 1").await;
    let again = testbed.store.put(user(1), "used again", None, Expect::Absent).await;
    assert!(matches!(again, Err(Error::Corrupt(_))), "{again:?}");
    let removed = testbed.store.maintain().await;
    assert!(matches!(removed, Err(Error::Corrupt(_))), "{removed:?}");
}

/// It was sealed when it came there, so it decides, and the row is not read for it: that is what this
/// shows, by a row that cannot be.
async fn a_write_is_judged_by_what_memory_knows_of_its_key(testbed: TestBed) {
    let store = &testbed.store;
    let version = store.put(user(1), "honest", None, Expect::Absent).await.unwrap();
    forge(&testbed, "UPDATE RECORD SET sealed = X'00'").await;
    let late = store.put(user(1), "another", None, Expect::Absent).await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    store.put(user(1), "next", None, Expect::Version(version)).await.unwrap();
    store.verify().await.unwrap();
    // Nor is what is past its end.
    let end = store.clock().now().plus(std::time::Duration::from_secs(60));
    store.put(user(2), "for a while", Some(end), Expect::Absent).await.unwrap();
    forge(&testbed, "UPDATE RECORD SET sealed = X'00' WHERE expires IS NOT NULL").await;
    let early = store.put(user(2), "again", None, Expect::Absent).await;
    assert!(matches!(early, Err(Error::Conflict { .. })), "{early:?}");
    testbed.clock.advance(std::time::Duration::from_secs(60));
    store.put(user(2), "again", None, Expect::Absent).await.unwrap();
    store.verify().await.unwrap();
}

async fn a_state_from_before_its_keyring_is_not_opened(testbed: TestBed) {
    assert_eq!(testbed.store.rotate().await.unwrap(), 2);
    assert!(testbed.open_with(&testbed.key()).await.unwrap().is_ok());
    forge(&testbed, "UPDATE STATE SET generation = 1").await;
    let told = testbed.open_with(&testbed.key()).await.unwrap().err().unwrap().to_string();
    assert!(told.contains("the keyring is not the one that was written last"), "{told}");
}

/// A store in a file, closed, with its records.
async fn closed() -> (tempfile::TempDir, std::path::PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let key = UnsealKey::generate().unwrap();
    Store::initialise_sqlite(&path, &key).unwrap();
    let text = key.to_text().to_string();
    let store = open(&path, &text).unwrap();
    for number in 0..RECORDS {
        store.put(user(number), value(number), None, Expect::Absent).await.unwrap();
    }
    drop(store);
    // Everything from the log into the file.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    connection.close().unwrap();
    (folder, path, text)
}

fn open(path: &std::path::Path, key: &str) -> Result<Store, Error> {
    let key = UnsealKey::parse(key, "test").unwrap();
    Store::open_sqlite(path, key, std::sync::Arc::new(ManualClock::new()), CacheLimits::default())
}

#[tokio::test]
async fn a_damaged_page_is_never_taken_for_data() {
    let (folder, path, key) = closed().await;
    let honest = fs::read(&path).unwrap();
    let pages = honest.len() / 4096;
    assert!(pages > 10, "{pages}");
    let (mut noticed, mut harmless) = (0, 0);
    for page in 0..pages {
        // A page of zeros, a page of noise, and single bytes.
        for kind in 0..4_usize {
            let copy = folder.path().join(format!("copy-{page}-{kind}"));
            let mut bytes = honest.clone();
            let range = page * 4096..(page + 1) * 4096;
            match kind {
                0 => bytes[range].fill(0),
                1 => bytes[range]
                    .iter_mut()
                    .enumerate()
                    .for_each(|(n, byte)| *byte = byte.wrapping_add((n % 251) as u8 + 1)),
                _ => bytes[page * 4096 + (kind * 1_777 + page * 31) % 4096] ^= 0x10,
            }
            fs::write(&copy, bytes).unwrap();
            match judge(&copy, &key).await {
                true => noticed += 1,
                false => harmless += 1,
            }
            for end in ["", "-wal", "-shm"] {
                let _ = fs::remove_file(folder.path().join(format!("copy-{page}-{kind}{end}")));
            }
        }
    }
    assert!(noticed > pages * 2, "{noticed} noticed, {harmless} harmless");
}

/// Whether the damage was noticed. What is read is right, or a fault, or absent; and where
/// anything is absent, a check of the whole says why.
async fn judge(path: &std::path::Path, key: &str) -> bool {
    let Ok(store) = open(path, key) else { return true };
    let (mut faults, mut absent) = (0, 0);
    for number in 0..RECORDS {
        match store.get(&user(number)).await {
            Ok(Some(record)) => assert_eq!(&record.value[..], value(number), "a wrong value"),
            Ok(None) => absent += 1,
            Err(Error::Corrupt(_)) => faults += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    let checked = store.verify().await;
    assert!(checked.is_err() || (absent == 0 && faults == 0), "{absent} absent and nothing found");
    checked.is_err()
}

#[tokio::test]
async fn what_is_no_store_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let key = UnsealKey::generate().unwrap().to_text().to_string();
    let path = folder.path().join("file");
    assert!(matches!(open(&path, &key), Err(Error::Uninitialised)));
    assert!(!path.exists(), "opening makes nothing");
    fs::write(&path, "a text of somebody's, which is longer than the header of a database. ".repeat(100))
        .unwrap();
    let before = fs::read(&path).unwrap();
    assert!(open(&path, &key).is_err());
    assert!(Store::initialise_sqlite(&path, &UnsealKey::generate().unwrap()).is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    let other = folder.path().join("other.db");
    let connection = rusqlite::Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE theirs (a); PRAGMA user_version = 1").unwrap();
    assert!(matches!(open(&other, &key), Err(Error::Settings(_))));
    connection.execute_batch("PRAGMA application_id = 0x42415354; PRAGMA user_version = 99").unwrap();
    assert!(matches!(open(&other, &key), Err(Error::Format { found: 99, .. })));
}
