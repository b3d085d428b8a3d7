//! A full disk: refused writes undo themselves, what was acknowledged stays, and with room
//! it goes on.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use store::{CacheLimits, Error, Expect, Key, Store, Transaction, UnsealKey};

use crate::clock::ManualClock;
use crate::server::{self, Server};

/// A small file system of our own, taken away at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(size: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .map_err(|error| error.to_string())?;
        match mounted.status.success() {
            true => Ok(Self(folder)),
            false => Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned()),
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn user(number: usize) -> [Key; 2] {
    ["a", "b"].map(|half| Key::new("user").hidden(number.to_string()).name(half))
}

/// Room that is taken, and given back.
fn fill(small: &Small, bytes: usize) -> PathBuf {
    let ballast = small.path().join("ballast");
    fs::write(&ballast, vec![1; bytes]).unwrap();
    ballast
}

/// Two large records, or none.
async fn write(store: &Store, number: usize) -> Result<(), Error> {
    let both = user(number).into_iter().fold(Transaction::new(), |all, key| {
        all.put(key, number.to_string().repeat(2_000), None, Expect::Absent)
    });
    store.commit(both).await.map(drop)
}

/// Writes until it is refused; gives how much was acknowledged, and the refusal.
async fn write_until_refused(store: &Store) -> (usize, Error) {
    let mut acknowledged = 0;
    loop {
        match write(store, acknowledged).await {
            Ok(()) => acknowledged += 1,
            Err(refused) => return (acknowledged, refused),
        }
    }
}

/// Whether both records are there; never one alone.
async fn is_whole(store: &Store, number: usize) -> Result<bool, Error> {
    let [a, b] = user(number);
    let (a, b) = (store.get(&a).await?.is_some(), store.get(&b).await?.is_some());
    assert_eq!(a, b, "half of {number}");
    Ok(a)
}

/// What comes of it when the server is back, which takes a while, or goes once more.
async fn in_the_end<T>(ask: impl AsyncFn() -> Result<T, Error>) -> T {
    for _ in 0..600 {
        match ask().await {
            Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            done => return done.unwrap(),
        }
    }
    panic!("the server does not come back");
}

/// What was acknowledged is there, and nothing behind it.
async fn only(store: &Store, acknowledged: usize) {
    for number in 0..acknowledged + 2 {
        assert_eq!(
            is_whole(store, number).await.unwrap(),
            number < acknowledged,
            "{number} of {acknowledged}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_halves_nothing() {
    let small = match Small::mount("6m") {
        Ok(small) => small,
        Err(why) => return println!("skipped: no small file system to fill: {why}"),
    };
    let path = small.path().join("store.db");
    let key = UnsealKey::generate().unwrap();
    Store::initialise_sqlite(&path, &key).unwrap();
    let text = key.to_text().to_string();
    let none = CacheLimits { records_max: 0, bytes_max: 0 };
    let clock = Arc::new(ManualClock::new());
    let store = Store::open_sqlite(&path, key, clock.clone(), none).unwrap();
    let ballast = fill(&small, 1 << 20);
    let (acknowledged, refused) = write_until_refused(&store).await;
    assert!(matches!(refused, Error::Full(_)), "{refused:?}");
    assert!(acknowledged > 20, "{acknowledged}");
    assert!(write(&store, acknowledged + 1).await.is_err());
    only(&store, acknowledged).await;
    // As after a crash at this moment.
    let again = Store::open_sqlite(&path, UnsealKey::parse(&text, "test").unwrap(), clock, none).unwrap();
    only(&again, acknowledged).await;
    fs::remove_file(&ballast).unwrap();
    write(&store, acknowledged).await.unwrap();
    only(&store, acknowledged + 1).await;
    store.verify().await.unwrap();
}

/// A PostgreSQL on a small file system, and a store in it.
async fn postgres_on(small: &Small, prepare: impl FnOnce(&Path)) -> Result<(Server, Store), String> {
    // The server's user looks for its folder.
    fs::set_permissions(small.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::start_in(small.path(), &["checkpoint_timeout = 1h"], prepare)?;
    let settings = server::settings(&server.database().await);
    let key = UnsealKey::generate().unwrap();
    Store::initialise_postgres(&settings, &key).await.unwrap();
    let store = Store::open_postgres(&settings, key, Arc::new(ManualClock::new())).await.unwrap();
    Ok((server, store))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_tables_of_postgres_refuses_writes_alone() {
    let small = match Small::mount("80m") {
        Ok(small) => small,
        Err(why) => return println!("skipped: no small file system to fill: {why}"),
    };
    // The log of PostgreSQL has room: the tables alone have none.
    let elsewhere = tempfile::tempdir().unwrap();
    let prepare = |data: &Path| {
        let (inside, outside) = (data.join("pg_wal"), elsewhere.path().join("wal"));
        let moved = Command::new("cp").arg("-a").args([&inside, &outside]).status().unwrap();
        assert!(moved.success());
        fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_dir_all(&inside).unwrap();
        symlink(outside, inside).unwrap();
    };
    let (_server, store) = match postgres_on(&small, prepare).await {
        Ok(both) => both,
        Err(why) => return server::skip(&why),
    };
    let ballast = fill(&small, 20 << 20);
    let (acknowledged, refused) = write_until_refused(&store).await;
    assert!(matches!(refused, Error::Full(_)), "{refused:?}");
    assert!(acknowledged > 20, "{acknowledged}");
    // Reads may be refused, too: PostgreSQL writes other pages to make room for theirs.
    fs::remove_file(&ballast).unwrap();
    only(&store, acknowledged).await;
    write(&store, acknowledged).await.unwrap();
    only(&store, acknowledged + 1).await;
    store.verify().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_log_of_postgres_loses_nothing() {
    let small = match Small::mount("80m") {
        Ok(small) => small,
        Err(why) => return println!("skipped: no small file system to fill: {why}"),
    };
    let (server, store) = match postgres_on(&small, |_| ()).await {
        Ok(both) => both,
        Err(why) => return server::skip(&why),
    };
    let ballast = fill(&small, 20 << 20);
    // The server may give up: then the outcome of the last commit cannot be known.
    let (acknowledged, refused) = write_until_refused(&store).await;
    assert!(matches!(refused, Error::Full(_) | Error::Unavailable(_) | Error::Unknown(_)), "{refused:?}");
    assert!(acknowledged > 20, "{acknowledged}");
    fs::remove_file(&ballast).unwrap();
    server.revive();
    for number in 0..acknowledged {
        assert!(in_the_end(async || is_whole(&store, number).await).await, "{number} of {acknowledged}");
    }
    in_the_end(async || {
        if is_whole(&store, acknowledged).await? {
            return Ok(());
        }
        match write(&store, acknowledged).await {
            // Then it is looked for once more.
            Err(Error::Unknown(why)) => Err(Error::Unavailable(why)),
            written => written,
        }
    })
    .await;
    in_the_end(async || store.verify().await).await;
}
