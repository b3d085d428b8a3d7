//! Killed while it writes: what was acknowledged is there, and nothing is there by half.
//!
//! A child of this test program writes and says what was acknowledged; it is killed
//! without warning, again and again, and each time what it left is looked through.
//! `BASTIDE_STORE_KILLS` says how often; `cargo xtask suite store` kills 1,000 times.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use store::{CacheLimits, Error, Expect, Key, Store, Transaction, UnsealKey, Value};

use crate::clock::ManualClock;
use crate::server::{self, Server};

/// How often in a bounded run.
const KILLS_DEFAULT: u32 = 20;
/// One server in so many kills is killed too.
const SERVER_KILLS: u32 = 20;
/// Tasks of the child that write at once.
const WRITERS: u64 = 8;
/// Records that each of them writes over and over, in pairs.
const PAIRS: u64 = 40;

#[expect(clippy::disallowed_methods, reason = "how the test is told what to do")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn kills() -> u32 {
    variable("BASTIDE_STORE_KILLS").map_or(KILLS_DEFAULT, |text| text.parse().unwrap())
}

fn counter(writer: u64) -> Key {
    Key::new("counter").number(writer)
}

fn half(writer: u64, count: u64, half: &'static str) -> Key {
    Key::new("pair").hidden(format!("{writer} {}", count % PAIRS)).name(half)
}

async fn open(place: &str, key: &str) -> Store {
    let key = UnsealKey::parse(key, "test").unwrap();
    let clock = Arc::new(ManualClock::new());
    match place.contains("host=") {
        true => Store::open_postgres(&server::settings(place), key, clock).await.unwrap(),
        false => Store::open_sqlite(Path::new(place), key, clock, CacheLimits::default()).unwrap(),
    }
}

/// The child: writes until it is killed.
#[test]
#[ignore = "the child of the tests beside it"]
fn writes_until_it_is_killed() {
    let (Some(place), Some(key)) = (variable("BASTIDE_STORE_PLACE"), variable("BASTIDE_STORE_KEY")) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(&place, &key).await;
        // Behind what the harness prints before a test.
        println!();
        let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write(store: Store, writer: u64) {
    let read = store.get(&counter(writer)).await.unwrap();
    let mut count: u64 = read.as_ref().map_or(0, |record| record.json().unwrap());
    let mut expect = read.map_or(Expect::Absent, |record| Expect::Version(record.version));
    loop {
        count += 1;
        let value = || Value::from_json(&count).unwrap();
        let filled = || Value::from_json(&(count, "x".repeat(200))).unwrap();
        let mut all = Transaction::new()
            .put(counter(writer), value(), None, expect)
            .put(half(writer, count, "a"), filled(), None, Expect::Any)
            .put(half(writer, count, "b"), filled(), None, Expect::Any);
        if count.is_multiple_of(5) {
            // Pairs go, too: both or none.
            for name in ["a", "b"] {
                all = all.delete(half(writer, count + PAIRS / 2, name), Expect::Any);
            }
        }
        match store.commit(all).await {
            Ok(version) => {
                expect = Expect::Version(version);
                // One write: a line is whole or not there.
                std::io::stdout().lock().write_all(format!("{writer} {count}\n").as_bytes()).unwrap();
            }
            Err(Error::Unavailable(_) | Error::Unknown(_)) => {
                let record = loop {
                    match store.get(&counter(writer)).await {
                        Ok(record) => break record,
                        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                };
                count = record.as_ref().map_or(0, |record| record.json().unwrap());
                expect = record.map_or(Expect::Absent, |record| Expect::Version(record.version));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// How long a child may take to get something acknowledged.
const BUSY_WITHIN: Duration = Duration::from_secs(60);

/// Does not outlive the test, however that ends.
struct Leashed(Child);

impl Drop for Leashed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// When a child is killed.
#[derive(Clone, Copy)]
enum Moment {
    /// So long after it was started, whatever it does then.
    Started(Duration),
    /// So long after the first acknowledgement.
    Busy(Duration),
}

/// Starts the child, kills it at its moment, gives what was acknowledged.
fn kill_once(place: &str, key: &str, moment: Moment, server: Option<&Server>) -> HashMap<u64, u64> {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env("BASTIDE_STORE_PLACE", place)
        .env("BASTIDE_STORE_KEY", key)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = Leashed(child.unwrap());
    let output = BufReader::new(child.0.stdout.take().unwrap());
    let (acknowledges, is_busy) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let mut acknowledged = HashMap::new();
        for line in output.lines().map_while(Result::ok) {
            let mut words = line.split(' ').map(str::parse::<u64>);
            if let (Some(Ok(writer)), Some(Ok(count)), None) = (words.next(), words.next(), words.next()) {
                acknowledged.insert(writer, count);
                let _ = acknowledges.send(());
            }
        }
        acknowledged
    });
    let wait = match moment {
        Moment::Started(wait) => wait,
        Moment::Busy(wait) => {
            is_busy.recv_timeout(BUSY_WITHIN).unwrap();
            wait
        }
    };
    std::thread::sleep(wait);
    if let Some(server) = server {
        server.crash();
        std::thread::sleep(wait);
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    reading.join().unwrap()
}

/// Looks through what was left.
async fn look(store: &Store, acknowledged: &HashMap<u64, u64>) {
    for writer in 0..WRITERS {
        let count = store.get(&counter(writer)).await.unwrap();
        let count: u64 = count.map_or(0, |record| record.json().unwrap());
        let promised = acknowledged.get(&writer).copied().unwrap_or(0);
        assert!(count >= promised, "writer {writer}: {promised} was acknowledged, {count} is there");
        for number in count.saturating_sub(PAIRS - 1)..=count {
            let read = async |name| store.get(&half(writer, number, name)).await.unwrap();
            let (a, b) = (read("a").await, read("b").await);
            assert_eq!(
                a.as_ref().map(|r| r.version),
                b.as_ref().map(|r| r.version),
                "a half of pair {number}"
            );
            assert_eq!(a.as_ref().map(|r| &r.value), b.as_ref().map(|r| &r.value), "a half of pair {number}");
            if number == count && count > 0 {
                let (last, _): (u64, String) = a.unwrap().json().unwrap();
                assert_eq!(last, count, "the counter without its pair");
            }
        }
    }
}

/// Kills and looks, as often as wanted. Gives how much was acknowledged in all.
async fn kill_and_look(place: &str, key: &str, server: Option<&Server>) -> u64 {
    let mut promised: HashMap<u64, u64> = HashMap::new();
    for round in 0..kills() {
        let wait = Duration::from_millis(u64::from(round * 37 % 150) + 10);
        let moment = if round % 5 == 4 { Moment::Started(wait) } else { Moment::Busy(wait) };
        let crash = server.filter(|_| round % SERVER_KILLS == SERVER_KILLS / 2);
        let (place_now, key_now) = (place.to_owned(), key.to_owned());
        let acknowledged = tokio::task::block_in_place(|| kill_once(&place_now, &key_now, moment, crash));
        promised.extend(acknowledged);
        let store = open(place, key).await;
        look(&store, &promised).await;
        if round % 25 == 24 {
            store.verify().await.unwrap();
            println!("killed {} times", round + 1);
        }
    }
    let store = open(place, key).await;
    store.verify().await.unwrap();
    promised.values().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_survives_being_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let key = UnsealKey::generate().unwrap();
    Store::initialise_sqlite(&path, &key).unwrap();
    let done = kill_and_look(path.to_str().unwrap(), key.to_text().as_str(), None).await;
    assert!(done >= u64::from(kills() / 2), "only {done} transactions were acknowledged");
    println!("sqlite: {} kills, {done} transactions acknowledged, none lost", kills());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_survives_being_killed() {
    // Of its own: it is killed, too.
    let server = match Server::start(&[]) {
        Ok(server) => server,
        Err(why) => return server::skip(&why),
    };
    let address = server.database().await;
    let key = UnsealKey::generate().unwrap();
    Store::initialise_postgres(&server::settings(&address), &key).await.unwrap();
    let done = kill_and_look(&address, key.to_text().as_str(), Some(&server)).await;
    assert!(done >= u64::from(kills() / 2), "only {done} transactions were acknowledged");
    println!("postgres: {} kills, {done} transactions acknowledged, none lost", kills());
}
