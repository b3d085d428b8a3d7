//! A server that is there and says nothing: whoever asks is told so within seconds, and all goes on
//! when it does.

use std::sync::Arc;
use std::time::Duration;

use store::{Error, Expect, Key, Store, UnsealKey};

use crate::clock::ManualClock;
use crate::server::{self, Server};

/// An answer of ours, whatever the server does: what is lost in a commit is looked for for 10 s.
const WITHIN: Duration = Duration::from_secs(40);

fn key(name: &str) -> Key {
    Key::new("frozen").hidden(name)
}

async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let waits = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, waits).await.expect(what);
}

async fn opened(address: &str, key: &str) -> Result<Store, Error> {
    let key = UnsealKey::parse(key, "test").unwrap();
    Store::open_postgres(&server::settings(address), key, Arc::new(ManualClock::new())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_holds_nobody_for_ever() {
    let server = match Server::start(&[]) {
        Ok(server) => server,
        Err(why) => return server::skip(&why),
    };
    let address = server.database().await;
    let unseal_key = UnsealKey::generate().unwrap();
    Store::initialise_postgres(&server::settings(&address), &unseal_key).await.unwrap();
    let unseal_key = unseal_key.to_text().to_string();
    let store = opened(&address, &unseal_key).await.unwrap();
    store.put(key("before"), "1", None, Expect::Absent).await.unwrap();
    for _ in 0..4 {
        // On each connection.
        store.get(&key("before")).await.unwrap();
    }
    assert_eq!(store.fault(), None);
    server.freeze(true);
    let asked = async {
        let (one, other, all) = (key("before"), key("meanwhile"), Key::new("frozen"));
        tokio::join!(
            store.get(&one),
            store.put(other, "1", None, Expect::Any),
            store.scan(&all, None, 10),
            opened(&address, &unseal_key),
        )
    };
    let answered = tokio::time::timeout(WITHIN, asked).await;
    let (got, put, scanned, another) = answered.expect("an answer while the server is frozen");
    for error in [got.err(), scanned.err(), another.err()] {
        assert!(matches!(error, Some(Error::Unavailable(_))), "{error:?}");
    }
    assert!(matches!(put, Err(Error::Unavailable(_) | Error::Unknown(_))), "{put:?}");
    eventually("that it does not answer is known", || store.fault().is_some()).await;
    // However many wait for the connection that cannot be had, they wait for it once.
    let reads: Vec<_> = (0..40).map(|_| store.clone()).collect();
    let reads = reads.into_iter().map(|store| tokio::spawn(async move { store.get(&key("before")).await }));
    let reads: Vec<_> = reads.collect();
    let answered = tokio::time::timeout(WITHIN, async {
        for read in reads {
            assert!(matches!(read.await.unwrap(), Err(Error::Unavailable(_))));
        }
    });
    answered.await.expect("an answer for each who waits");
    server.freeze(false);
    eventually("that it answers is known", || store.fault().is_none()).await;
    assert!(store.get(&key("before")).await.unwrap().is_some());
    store.put(key("after"), "1", None, Expect::Absent).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_frozen_takes_no_time_from_the_next() {
    let server = match server::shared() {
        Ok(server) => server,
        Err(why) => return server::skip(why),
    };
    let address = server.database().await;
    // It takes connections, as the kernel does for a process that is frozen, and says nothing.
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (first, next) = (frozen.local_addr().unwrap().port(), server.port());
    let both = address
        .replace("host=127.0.0.1", "host=127.0.0.1,127.0.0.1")
        .replace(&format!("port={next}"), &format!("port={first},{next}"));
    let using = async {
        let unseal_key = UnsealKey::generate().unwrap();
        Store::initialise_postgres(&server::settings(&both), &unseal_key).await.unwrap();
        let store = opened(&both, &unseal_key.to_text()).await.unwrap();
        store.put(key("one"), "1", None, Expect::Absent).await.unwrap();
        assert!(store.get(&key("one")).await.unwrap().is_some());
        store.rotate().await.unwrap();
    };
    tokio::time::timeout(3 * WITHIN, using).await.expect("the next server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stays_wrong_is_told_as_such() {
    let server = match Server::start_in(&std::env::temp_dir(), &[], |data| {
        let rules = "local all all trust\nhost all bastide 127.0.0.1/32 trust\n\
                     host all alice 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    }) {
        Ok(server) => server,
        Err(why) => return server::skip(&why),
    };
    let address = server.database().await;
    let client = server.client("postgres").await;
    client.batch_execute("CREATE ROLE alice LOGIN PASSWORD 'right'").await.unwrap();
    let alice = address.replace("user=bastide", "user=alice");
    for (address, code) in [
        (format!("{alice} password=wrong"), "28P01"),
        (alice.clone(), "password missing"),
        (address.replace("user=bastide", "user=mallory"), "28000"),
        (server.address("nowhere"), "3D000"),
    ] {
        let key = UnsealKey::generate().unwrap();
        let opened =
            Store::open_postgres(&server::settings(&address), key, Arc::new(ManualClock::new())).await;
        let Err(Error::Settings(why)) = opened else { panic!("{address}: {opened:?}") };
        assert!(why.contains(code), "{why}");
        let place = server::settings(&address).place();
        assert!(place.contains(&format!("at 127.0.0.1:{}", server.port())), "{place}");
        assert!(!place.contains("wrong"), "{place}");
    }
    // A server that is not there may come.
    let absent = address.replace(&format!("port={}", server.port()), "port=1");
    assert!(matches!(
        opened(&absent, &UnsealKey::generate().unwrap().to_text()).await,
        Err(Error::Unavailable(_))
    ));
}
