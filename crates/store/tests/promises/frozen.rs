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

/// A server with an empty store, its address, and the store's key; `None`: there is no server here.
async fn server_with_store() -> Option<(Server, String, UnsealKey)> {
    let server = Server::start(&[]).map_err(|why| server::skip(&why)).ok()?;
    let address = server.database().await;
    let unseal_key = UnsealKey::generate().unwrap();
    Store::initialise_postgres(&server::settings(&address), &unseal_key).await.unwrap();
    Some((server, address, unseal_key))
}

async fn opened(address: &str, key: &str) -> Result<Store, Error> {
    let key = UnsealKey::parse(key, "test").unwrap();
    Store::open_postgres(&server::settings(address), key, Arc::new(ManualClock::new())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_holds_nobody_for_ever() {
    let Some((server, address, unseal_key)) = server_with_store().await else { return };
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

fn database(address: &str) -> &str {
    address.rsplit_once("dbname=").unwrap().1
}

/// Waits until so many wait for a lock.
async fn until_locked_out(client: &tokio_postgres::Client, count: i64) {
    let waiting = async {
        let text = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while client.query_one(text, &[]).await.unwrap().get::<_, i64>(0) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, waiting).await.expect("that somebody waits for a lock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_ends_though_the_server_freezes_in_the_middle_of_it() {
    let server = match Server::start(&[]) {
        Ok(server) => server,
        Err(why) => return server::skip(&why),
    };
    let [address, new] = [server.database().await, server.database().await];
    let unseal_key = UnsealKey::generate().unwrap();
    Store::initialise_postgres(&server::settings(&address), &unseal_key).await.unwrap();
    let store = opened(&address, &unseal_key.to_text()).await.unwrap();
    store.put(key("before"), "1", None, Expect::Absent).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (before, path) = (folder.path().join("before"), folder.path().join("backup"));
    store.backup(&before).await.unwrap();
    let another = opened(&address, &unseal_key.to_text()).await.unwrap();
    // Each comes to a lock that it is not given, and there the server stands still.
    let [holder, other] = [server.client(database(&address)).await, server.client(database(&new)).await];
    let lock = "BEGIN; LOCK TABLE bastide.store_record IN ACCESS EXCLUSIVE MODE";
    holder.batch_execute(lock).await.unwrap();
    other.batch_execute("BEGIN; CREATE SCHEMA bastide").await.unwrap();
    let (one, two) = (store.clone(), store.clone());
    let (from, to, settings) = (before.clone(), path.clone(), server::settings(&new));
    let restored = tokio::spawn(async move { one.restore(&from, None).await.map(drop) });
    let backed_up = tokio::spawn(async move { two.backup(&to).await.map(drop) });
    let initialised = tokio::spawn(async move {
        let unseal_key = UnsealKey::generate().unwrap();
        Store::initialise_postgres(&settings, &unseal_key).await
    });
    until_locked_out(&holder, 3).await;
    // Behind the restore.
    let rotated = tokio::spawn(async move { another.rotate().await.map(drop) });
    until_locked_out(&holder, 4).await;
    server.freeze(true);
    let mut wrong = Vec::new();
    for (what, command) in
        [("restore", restored), ("backup", backed_up), ("initialise", initialised), ("rotate", rotated)]
    {
        match tokio::time::timeout(WITHIN, command).await.map(Result::unwrap) {
            Ok(Err(Error::Unavailable(_))) => {}
            // It may have been done.
            Ok(Err(Error::Unknown(_))) if what == "rotate" => {}
            ended => wrong.push((what, ended)),
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    server.freeze(false);
    for client in [holder, other] {
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    eventually("that it answers is known", || store.fault().is_none()).await;
    store.maintain().await.unwrap();
    store.rotate().await.unwrap();
    store.put(key("after"), "1", None, Expect::Absent).await.unwrap();
    store.backup(&path).await.unwrap();
    assert_eq!(store.restore(&before, None).await.unwrap().records, 1);
    assert!(store.get(&key("after")).await.unwrap().is_none());
    Store::initialise_postgres(&server::settings(&new), &unseal_key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_long_holds_no_read_that_does_not() {
    let Some((server, address, unseal_key)) = server_with_store().await else { return };
    // Counting takes as long as a lock is held.
    let holder = server.client(database(&address)).await;
    let slow = "CREATE FUNCTION bastide.slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
            IF current_query() LIKE '%GROUP BY generation%' THEN
                PERFORM pg_advisory_xact_lock_shared(7);
            END IF;
            RETURN true;
        END $$;
        ALTER TABLE bastide.store_record RENAME TO all_records;
        CREATE VIEW bastide.store_record AS SELECT * FROM bastide.all_records WHERE (SELECT bastide.slow());
        SELECT pg_advisory_lock(7)";
    holder.batch_execute(slow).await.unwrap();
    let store = opened(&address, &unseal_key.to_text()).await.unwrap();
    let counting = tokio::spawn({
        let store = store.clone();
        async move { store.status().await }
    });
    until_locked_out(&holder, 1).await;
    for number in 0..8 {
        // On each connection.
        assert_eq!(store.get(&key(&number.to_string())).await.unwrap(), None);
    }
    assert!(!counting.is_finished());
    holder.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
    assert_eq!(counting.await.unwrap().unwrap().records, 0);
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
