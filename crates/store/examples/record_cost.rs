//! What durable records cost: puts one after the other and from many at once, gets from the
//! cache and from the file, beside plain SQLite with the same settings.
//! `cargo run --release -p store --example record_cost [-- --short]`

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "a measurement prints")]

#[path = "../../model/examples/support/real_clock.rs"]
mod real_clock;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use real_clock::RealClock;
use rusqlite::Connection;
use store::{CacheLimits, Expect, Key, Store, UnsealKey};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Bytes of a value: what a session or a token takes.
const VALUE_BYTES: usize = 300;
/// Who writes at once.
const WRITERS: usize = 64;
/// Records that gets choose from.
const RECORDS: u64 = 20_000;
/// Records of one page of a scan.
const PAGE: usize = 500;

fn main() -> Outcome<()> {
    let short = std::env::args().any(|argument| argument == "--short");
    let time = Duration::from_millis(if short { 300 } else { 3_000 });
    // On a disk: the folder for temporary files may be memory.
    let folder = tempfile::tempdir_in(".")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let store = open(&folder.path().join("store.db"), CacheLimits::default())?;
    let uncached = open(&folder.path().join("uncached.db"), CacheLimits { records_max: 0, bytes_max: 0 })?;
    let plain = plain(&folder.path().join("plain.db"))?;
    println!("values of {VALUE_BYTES} bytes, {} s per figure", time.as_secs_f64());
    row("durable puts, one after the other", runtime.block_on(puts(&store, 1, time))?);
    row("  plain SQLite, a transaction each", plain_puts(&plain, 1, time)?);
    row("durable puts, 64 at once", runtime.block_on(puts(&store, WRITERS, time))?);
    row("  plain SQLite, 64 threads, a transaction each", plain_puts(&plain, WRITERS, time)?);
    runtime.block_on(fill(&store))?;
    runtime.block_on(fill(&uncached))?;
    plain_fill(&plain)?;
    row("gets, from the cache", runtime.block_on(gets(&store, 1_000, time))?);
    row("gets, from the file", runtime.block_on(gets(&uncached, RECORDS, time))?);
    row("  plain SQLite, a prepared statement", plain_gets(&plain, time)?);
    row("records of scans by 500", runtime.block_on(scans(&uncached, time))?);
    Ok(())
}

fn row(name: &str, rate: f64) {
    println!("{name:<50}{rate:>12.0} /s {:>10.1} µs each", 1e6 / rate);
}

fn open(path: &Path, cache: CacheLimits) -> Outcome<Store> {
    let key = UnsealKey::generate()?;
    Store::initialise_sqlite(path, &key)?;
    Ok(Store::open_sqlite(path, key, Arc::new(RealClock(Instant::now())), cache)?)
}

fn key(number: u64) -> Key {
    Key::new("session").hidden("realm").hidden(number.to_string())
}

/// Repeats for a time; gives how often in a second.
async fn puts(store: &Store, writers: usize, time: Duration) -> Outcome<f64> {
    let begin = Instant::now();
    let writers: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut count = 0_u64;
                while begin.elapsed() < time {
                    let name = format!("{writers} {writer} {count}");
                    let value = vec![7; VALUE_BYTES];
                    store.put(Key::new("put").hidden(name), value, None, Expect::Absent).await?;
                    count += 1;
                }
                Outcome::Ok(count)
            })
        })
        .collect();
    let mut count = 0;
    for writer in writers {
        count += writer.await??;
    }
    Ok(per_second(count, begin))
}

async fn fill(store: &Store) -> Outcome<()> {
    for first in (0..RECORDS).step_by(500) {
        let some = (first..first + 500).fold(store::Transaction::new(), |all, number| {
            all.put(key(number), vec![7; VALUE_BYTES], None, Expect::Any)
        });
        store.commit(some).await?;
    }
    Ok(())
}

async fn gets(store: &Store, records: u64, time: Duration) -> Outcome<f64> {
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < time {
        for number in 0..100 {
            let key = key((count + number * 7_919) % records);
            std::hint::black_box(store.get(&key).await?.ok_or("a record is missing")?);
        }
        count += 100;
    }
    Ok(per_second(count, begin))
}

async fn scans(store: &Store, time: Duration) -> Outcome<f64> {
    let (begin, mut count, mut after) = (Instant::now(), 0, None);
    while begin.elapsed() < time {
        let page = store.scan(&Key::new("session"), after.as_ref(), PAGE).await?;
        count += u64::try_from(page.records.len())?;
        after = page.next;
    }
    Ok(per_second(count, begin))
}

fn per_second(count: u64, begin: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate has few digits")]
    let count = count as f64;
    count / begin.elapsed().as_secs_f64()
}

/// What one would write by hand: a table of keys and values, as durable as ours.
fn plain(path: &Path) -> Outcome<Arc<Mutex<Connection>>> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE record (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;",
    )?;
    Ok(Arc::new(Mutex::new(connection)))
}

const PLAIN_PUT: &str = "INSERT INTO record (key, value) VALUES (?1, ?2)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

fn plain_puts(plain: &Arc<Mutex<Connection>>, writers: usize, time: Duration) -> Outcome<f64> {
    let begin = Instant::now();
    let writers: Vec<_> = (0..writers)
        .map(|writer| {
            let plain = Arc::clone(plain);
            std::thread::spawn(move || {
                let mut count = 0_u64;
                while begin.elapsed() < time {
                    let name = format!("put {writers} {writer} {count}");
                    let connection = plain.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut statement = connection.prepare_cached(PLAIN_PUT)?;
                    statement.execute((name.as_bytes(), &[7_u8; VALUE_BYTES][..]))?;
                    count += 1;
                }
                Outcome::Ok(count)
            })
        })
        .collect();
    let mut count = 0;
    for writer in writers {
        count += writer.join().map_err(|_| "a writer panicked")??;
    }
    Ok(per_second(count, begin))
}

fn plain_fill(plain: &Mutex<Connection>) -> Outcome<()> {
    let mut connection = plain.lock().unwrap_or_else(PoisonError::into_inner);
    let transaction = connection.transaction()?;
    for number in 0..RECORDS {
        let (key, value) = (number.to_string(), [7_u8; VALUE_BYTES]);
        transaction.prepare_cached(PLAIN_PUT)?.execute((key.as_bytes(), &value[..]))?;
    }
    Ok(transaction.commit()?)
}

fn plain_gets(plain: &Mutex<Connection>, time: Duration) -> Outcome<f64> {
    let connection = plain.lock().unwrap_or_else(PoisonError::into_inner);
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < time {
        for number in 0..100 {
            let name = ((count + number * 7_919) % RECORDS).to_string();
            let mut statement = connection.prepare_cached("SELECT value FROM record WHERE key = ?1")?;
            let value: Vec<u8> = statement.query_row([name.as_bytes()], |row| row.get(0))?;
            std::hint::black_box(value);
        }
        count += 100;
    }
    Ok(per_second(count, begin))
}
