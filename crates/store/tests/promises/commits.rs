//! What became of a commit whose connection broke, with a writer that outlives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use store::{Error, Expect, Key, Store, UnsealKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::clock::ManualClock;
use crate::server::{self, Server};

/// What happens to the next commit on its way.
const GOES: u8 = 0;
/// It never comes to the server; the connection stays.
const IS_HELD: u8 = 1;
/// It never comes to the server, and the connection ends.
const IS_CUT: u8 = 2;
/// The server does it; the connection ends before the answer.
const IS_UNANSWERED: u8 = 3;

/// A way to the server on which commits get lost.
struct Way {
    port: u16,
    next: Arc<AtomicU8>,
    /// Whether new connections wait.
    shut: Arc<AtomicBool>,
    /// Told when it happened to a commit.
    happened: Arc<Notify>,
}

impl Way {
    async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Self {
            port: listener.local_addr().unwrap().port(),
            next: Arc::default(),
            shut: Arc::default(),
            happened: Arc::default(),
        };
        let (to, next) = (server.port(), Arc::clone(&way.next));
        let (shut, happened) = (Arc::clone(&way.shut), Arc::clone(&way.happened));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (next, shut, happened) = (Arc::clone(&next), Arc::clone(&shut), Arc::clone(&happened));
                tokio::spawn(async move {
                    while shut.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await {
                        carry(client, server, &next, &happened).await;
                    }
                });
            }
        });
        way
    }

    fn address(&self, of: &str) -> String {
        let port = of.split_whitespace().find(|part| part.starts_with("port=")).unwrap();
        of.replace(port, &format!("port={}", self.port))
    }

    /// What happens to the next commit.
    fn let_it(&self, what: u8) {
        self.next.store(what, Ordering::SeqCst);
    }

    /// Waits until it has happened to it.
    async fn happened(&self) {
        self.happened.notified().await;
    }
}

async fn carry(client: TcpStream, server: TcpStream, next: &AtomicU8, happened: &Notify) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut sent, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let (mut is_held, mut is_unanswered) = (false, false);
    loop {
        tokio::select! {
            read = from_client.read(&mut sent) => {
                let Ok(count @ 1..) = read else { return };
                let is_commit = sent[..count].windows(6).any(|part| part == b"COMMIT");
                let what = if is_commit { next.swap(GOES, Ordering::SeqCst) } else { GOES };
                is_held |= what == IS_HELD;
                is_unanswered |= what == IS_UNANSWERED;
                if what != GOES {
                    happened.notify_one();
                }
                if what == IS_CUT {
                    return;
                }
                if !is_held && to_server.write_all(&sent[..count]).await.is_err() {
                    return;
                }
            }
            read = from_server.read(&mut answered) => {
                let Ok(count @ 1..) = read else { return };
                // What ends a commit: its tag, in the last of the answers.
                let is_done = answered[..count].windows(6).any(|part| part == b"COMMIT");
                if is_unanswered && is_done {
                    return;
                }
                if !is_unanswered && to_client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn key(name: &str) -> Key {
    Key::new("commits").hidden(name)
}

async fn open(address: &str, unseal_key: &str) -> Store {
    let key = UnsealKey::parse(unseal_key, "test").unwrap();
    Store::open_postgres(&server::settings(address), key, Arc::new(ManualClock::new())).await.unwrap()
}

/// A new store of the server, and its key.
async fn make(server: &Server) -> (String, String) {
    let address = server.database().await;
    let key = UnsealKey::generate().unwrap();
    Store::initialise_postgres(&server::settings(&address), &key).await.unwrap();
    (address, key.to_text().to_string())
}

/// What stands there, for whoever comes anew.
async fn found(address: &str, unseal_key: &str, name: &str) -> Option<String> {
    let record = open(address, unseal_key).await.get(&key(name)).await.unwrap();
    record.map(|record| String::from_utf8(record.value.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_a_commit_is_found_out() {
    let server = match server::shared() {
        Ok(server) => server,
        Err(why) => return server::skip(why),
    };
    let (address, unseal_key) = make(server).await;
    let way = Way::to(server).await;
    let (one, other) = (open(&way.address(&address), &unseal_key).await, open(&address, &unseal_key).await);
    for round in 0..5 {
        // Committed: it is not done a second time, when it would be refused.
        let name = format!("unanswered {round}");
        way.let_it(IS_UNANSWERED);
        one.put(key(&name), "1", None, Expect::Absent).await.unwrap();
        within(way.happened()).await;
        assert_eq!(found(&address, &unseal_key, &name).await.as_deref(), Some("1"));
        // Not committed: it is done.
        let name = format!("cut {round}");
        way.let_it(IS_CUT);
        one.put(key(&name), "1", None, Expect::Absent).await.unwrap();
        within(way.happened()).await;
        assert_eq!(found(&address, &unseal_key, &name).await.as_deref(), Some("1"));
        // Not committed, and another has written since, under the same number.
        let name = format!("cut and taken {round}");
        way.let_it(IS_CUT);
        way.shut.store(true, Ordering::SeqCst);
        let (writer, own) = (one.clone(), key(&name));
        let put = tokio::spawn(async move { writer.put(own, "1", None, Expect::Absent).await });
        within(way.happened()).await;
        other.put(key(&name), "2", None, Expect::Absent).await.unwrap();
        way.shut.store(false, Ordering::SeqCst);
        assert!(matches!(put.await.unwrap(), Err(Error::Conflict { .. })), "{round}");
        assert_eq!(found(&address, &unseal_key, &name).await.as_deref(), Some("2"));
        // Committed, and another has written over it: nobody can say.
        let name = format!("unanswered and gone {round}");
        way.let_it(IS_UNANSWERED);
        way.shut.store(true, Ordering::SeqCst);
        let (writer, own) = (one.clone(), key(&name));
        let put = tokio::spawn(async move { writer.put(own, "1", None, Expect::Absent).await });
        within(way.happened()).await;
        within(async {
            while other.put(key(&name), "2", None, Expect::Present).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        way.shut.store(false, Ordering::SeqCst);
        assert!(matches!(put.await.unwrap(), Err(Error::Unknown(_))), "{round}");
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it does not happen within a minute")
}

/// A server that lost a transaction in a crash gives its number to the next, which is somebody
/// else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_crash_took_is_acknowledged_to_nobody() {
    // Nothing that is not committed is on the disk by chance.
    let server = match Server::start(&["wal_writer_delay = 10s", "autovacuum = off"]) {
        Ok(server) => Arc::new(server),
        Err(why) => return server::skip(&why),
    };
    let (address, unseal_key) = make(&server).await;
    let way = Way::to(&server).await;
    let (one, other) = (open(&way.address(&address), &unseal_key).await, open(&address, &unseal_key).await);
    for round in 0..3 {
        let name = round.to_string();
        // Both are connected.
        one.put(key("one"), "there", None, Expect::Any).await.unwrap();
        other.put(key("other"), "there", None, Expect::Any).await.unwrap();
        way.let_it(IS_HELD);
        let (writer, own) = (one.clone(), key(&name));
        let put = tokio::spawn(async move { writer.put(own, "1", None, Expect::Any).await });
        within(way.happened()).await;
        let crashed = Arc::clone(&server);
        tokio::task::spawn_blocking(move || crashed.crash()).await.unwrap();
        within(async {
            while other.put(key("other"), "again", None, Expect::Any).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let is_acknowledged = put.await.unwrap().is_ok();
        let is_there = found(&address, &unseal_key, &name).await.is_some();
        assert!(is_there || !is_acknowledged, "{round}: acknowledged and lost");
    }
}
