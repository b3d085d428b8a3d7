//! Stores of every kind, and the macro that runs a test on each.

use std::sync::Arc;

use store::{CacheLimits, Store, UnsealKey};
use tempfile::TempDir;

use crate::clock::ManualClock;

/// A store of some kind, new and empty.
pub(crate) struct Town {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    _folder: Option<TempDir>,
}

impl Town {
    pub(crate) fn in_memory() -> Option<Self> {
        let clock = Arc::new(ManualClock::new());
        let store = Store::in_memory(clock.clone()).unwrap();
        Some(Self { store, clock, _folder: None })
    }

    pub(crate) fn sqlite() -> Option<Self> {
        Some(Self::sqlite_with(CacheLimits::default()))
    }

    pub(crate) fn sqlite_uncached() -> Option<Self> {
        Some(Self::sqlite_with(CacheLimits { records_max: 0, bytes_max: 0 }))
    }

    fn sqlite_with(cache: CacheLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let key = UnsealKey::generate().unwrap();
        Store::initialise_sqlite(&path, &key).unwrap();
        let clock = Arc::new(ManualClock::new());
        let store = Store::open_sqlite(&path, key, clock.clone(), cache).unwrap();
        Self { store, clock, _folder: Some(folder) }
    }
}

/// Runs each test on each kind of store.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod in_memory { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
            if let Some(town) = crate::town::Town::in_memory() { super::$name(town).await; }
        })* }
        mod sqlite { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
            if let Some(town) = crate::town::Town::sqlite() { super::$name(town).await; }
        })* }
        mod sqlite_uncached { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
            if let Some(town) = crate::town::Town::sqlite_uncached() { super::$name(town).await; }
        })* }
    };
}
pub(crate) use on_every_store;
