//! A full disk: refused writes undo themselves, what was acknowledged stays, and with room
//! it goes on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use store::{CacheLimits, Error, Expect, Key, Store, Transaction, UnsealKey};

use crate::clock::ManualClock;

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
    let ballast = small.path().join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let write = async |number: usize| {
        let both = user(number).into_iter().fold(Transaction::new(), |all, key| {
            all.put(key, number.to_string().repeat(2_000), None, Expect::Absent)
        });
        store.commit(both).await
    };
    let mut acknowledged = 0;
    let refused = loop {
        match write(acknowledged).await {
            Ok(_) => acknowledged += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Error::Full(_)), "{refused:?}");
    assert!(acknowledged > 20, "{acknowledged}");
    assert!(write(acknowledged + 1).await.is_err());
    let whole = async |store: &Store, count: usize| {
        for number in 0..count + 2 {
            for key in user(number) {
                let there = store.get(&key).await.unwrap().is_some();
                assert_eq!(there, number < count, "{number} of {count}");
            }
        }
    };
    whole(&store, acknowledged).await;
    // As after a crash at this moment.
    let again = Store::open_sqlite(&path, UnsealKey::parse(&text, "test").unwrap(), clock, none).unwrap();
    whole(&again, acknowledged).await;
    fs::remove_file(&ballast).unwrap();
    write(acknowledged).await.unwrap();
    whole(&store, acknowledged + 1).await;
    store.verify().await.unwrap();
}
