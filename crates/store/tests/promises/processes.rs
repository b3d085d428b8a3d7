//! Several processes on one store: exact writes, watches across them, one of them first.

use std::time::Duration;

use store::{Error, Event, Expect, Key, Store, UnsealKey, Value};

use crate::server;
use crate::testbed::{Place, TestBed, on_every_store, on_stores};
use crate::watches::next;

on_every_store!(
    what_one_writes_the_other_reads_and_is_told,
    counting_by_two_is_exact,
    a_write_is_judged_by_what_others_wrote_whatever_was_read_before,
    another_key_opens_nothing,
    a_store_is_made_once,
);
on_stores!(
    connections,
    postgres: a_lost_notice_is_made_up_for,
    a_broken_connection_is_made_anew,
    a_connection_that_ends_under_a_question_is_made_anew,
);

fn user(name: &str) -> Key {
    Key::new("user").hidden(name)
}

async fn what_one_writes_the_other_reads_and_is_told(testbed: TestBed) {
    let Some(other) = testbed.again().await else { return };
    let mut watch = other.watch(&Key::new("user"), other.version());
    testbed.store.put(user("a"), "1", None, Expect::Any).await.unwrap();
    assert!(matches!(next(&mut watch).await, Event::Put(record) if &record.value[..] == b"1"));
    assert_eq!(&other.get(&user("a")).await.unwrap().unwrap().value[..], b"1");
    testbed.store.put(user("a"), "2", None, Expect::Any).await.unwrap();
    // Whoever was told reads what it was told of, cache or not.
    assert!(matches!(next(&mut watch).await, Event::Put(record) if &record.value[..] == b"2"));
    assert_eq!(&other.get(&user("a")).await.unwrap().unwrap().value[..], b"2");
}

async fn counting_by_two_is_exact(testbed: TestBed) {
    let Some(other) = testbed.again().await else { return };
    let counters: Vec<_> = [testbed.store.clone(), other]
        .into_iter()
        .map(|store| {
            tokio::spawn(async move {
                for _ in 0..100 {
                    while !add_one(&store).await {}
                }
            })
        })
        .collect();
    for counter in counters {
        counter.await.unwrap();
    }
    let third = testbed.again().await.unwrap();
    let count: u64 = third.get(&user("count")).await.unwrap().unwrap().json().unwrap();
    assert_eq!(count, 200);
}

async fn a_write_is_judged_by_what_others_wrote_whatever_was_read_before(testbed: TestBed) {
    let Some(other) = testbed.again().await else { return };
    let first = testbed.store.put(user("a"), "1", None, Expect::Absent).await.unwrap();
    assert!(testbed.store.get(&user("b")).await.unwrap().is_none());
    let second = other.put(user("a"), "2", None, Expect::Version(first)).await.unwrap();
    other.put(user("b"), "2", None, Expect::Absent).await.unwrap();
    // At once: nobody has told this process yet.
    for (name, expect) in [("a", Expect::Version(first)), ("a", Expect::Absent), ("b", Expect::Absent)] {
        let late = testbed.store.put(user(name), "3", None, expect).await;
        assert!(matches!(late, Err(Error::Conflict { .. })), "{name} {expect:?}: {late:?}");
    }
    testbed.store.put(user("a"), "3", None, Expect::Version(second)).await.unwrap();
    testbed.store.delete(user("b"), Expect::Present).await.unwrap();
    let gone = other.put(user("b"), "4", None, Expect::Present).await;
    assert!(matches!(gone, Err(Error::Conflict { .. })), "{gone:?}");
    other.put(user("b"), "4", None, Expect::Absent).await.unwrap();
}

async fn add_one(store: &Store) -> bool {
    let read = store.get(&user("count")).await.unwrap();
    let count: u64 = read.as_ref().map_or(0, |record| record.json().unwrap());
    let expect = read.map_or(Expect::Absent, |record| Expect::Version(record.version));
    match store.put(user("count"), Value::from_json(&(count + 1)).unwrap(), None, expect).await {
        Ok(_) => true,
        Err(Error::Conflict { .. }) => {
            tokio::time::sleep(Duration::from_millis(1)).await;
            false
        }
        Err(other) => panic!("{other}"),
    }
}

async fn another_key_opens_nothing(testbed: TestBed) {
    let Some(wrong) = testbed.open_with(&UnsealKey::generate().unwrap()).await else { return };
    assert!(matches!(wrong, Err(Error::WrongKey)));
    assert!(testbed.open_with(&testbed.key()).await.unwrap().is_ok());
}

async fn a_store_is_made_once(testbed: TestBed) {
    testbed.store.put(user("a"), "1", None, Expect::Any).await.unwrap();
    let key = UnsealKey::generate().unwrap();
    let again = match &testbed.place {
        Place::Memory => return,
        Place::File(path) => Store::initialise_sqlite(path, &key),
        Place::Database(address) => Store::initialise_postgres(&server::settings(address), &key).await,
    };
    assert!(matches!(again, Err(Error::Initialised)));
    assert!(testbed.store.get(&user("a")).await.unwrap().is_some());
}

async fn a_lost_notice_is_made_up_for(testbed: TestBed) {
    let Place::Database(address) = &testbed.place else { return };
    let name = address.rsplit('=').next().unwrap();
    let mut watch = testbed.store.watch(&Key::new("user"), testbed.store.version());
    testbed.store.put(user("a"), "1", None, Expect::Any).await.unwrap();
    next(&mut watch).await;
    // Another process writes while nobody listens: the connection that does was ended.
    let other = testbed.again().await.unwrap();
    let client = server::shared().unwrap().client(name).await;
    let silence = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND (query LIKE 'LISTEN%' OR query = 'SELECT revision FROM bastide.store_state')";
    client.batch_execute(silence).await.unwrap();
    other.put(user("b"), "2", None, Expect::Any).await.unwrap();
    assert!(matches!(next(&mut watch).await, Event::Put(record) if record.key == user("b")));
}

async fn a_broken_connection_is_made_anew(testbed: TestBed) {
    let Place::Database(address) = &testbed.place else { return };
    let name = address.rsplit('=').next().unwrap();
    let client = server::shared().unwrap().client(name).await;
    for round in 0..20 {
        // Also before anybody here can have seen the end of the connections.
        let value = round.to_string();
        testbed.store.put(user("a"), value.as_str(), None, Expect::Any).await.unwrap();
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        client.batch_execute(all).await.unwrap();
        assert_eq!(&testbed.store.get(&user("a")).await.unwrap().unwrap().value[..], value.as_bytes());
        assert_eq!(testbed.store.status().await.unwrap().records, 1);
    }
}

async fn a_connection_that_ends_under_a_question_is_made_anew(testbed: TestBed) {
    let Place::Database(address) = &testbed.place else { return };
    let name = address.rsplit('=').next().unwrap();
    let server = server::shared().unwrap();
    let (holder, other) = (server.client(name).await, server.client(name).await);
    testbed.store.put(user("a"), "0", None, Expect::Any).await.unwrap();
    for round in 1..=5 {
        // Each that is asked is connected: one that ends while it is made is not made anew.
        for _ in 0..2 {
            testbed.store.get(&user("a")).await.unwrap();
        }
        let held = "BEGIN; LOCK TABLE bastide.store_state, bastide.store_record IN ACCESS EXCLUSIVE MODE";
        holder.batch_execute(held).await.unwrap();
        let reading = tokio::spawn({
            let store = testbed.store.clone();
            async move { store.get(&user("a")).await.map(|found| found.is_some()) }
        });
        let writing = tokio::spawn({
            let (store, value) = (testbed.store.clone(), round.to_string());
            async move { store.put(user("b"), value.as_str(), None, Expect::Any).await }
        });
        let waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
            AND (query LIKE '%store_record WHERE key%' OR query LIKE '%FOR UPDATE')";
        let both_wait = async {
            while other.query_one(&format!("SELECT count(*) {waiting}"), &[]).await.unwrap().get::<_, i64>(0)
                < 2
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), both_wait).await.unwrap();
        other.batch_execute(&format!("SELECT pg_terminate_backend(pid) {waiting}")).await.unwrap();
        holder.batch_execute("COMMIT").await.unwrap();
        assert!(reading.await.unwrap().unwrap());
        writing.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_wait_for_its_disk_is_refused() {
    let server = match server::Server::start(&["fsync = off"]) {
        Ok(server) => server,
        Err(why) => return server::skip(&why),
    };
    let settings = server::settings(&server.database().await);
    let key = UnsealKey::generate().unwrap();
    Store::initialise_postgres(&settings, &key).await.unwrap();
    let clock = std::sync::Arc::new(crate::clock::ManualClock::new());
    let opened = Store::open_postgres(&settings, key, clock).await;
    assert!(matches!(opened, Err(Error::Settings(why)) if why.contains("fsync")));
}
