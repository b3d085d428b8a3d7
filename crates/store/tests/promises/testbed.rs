//! Stores of every kind, and the macro that runs a test on each.

use std::path::PathBuf;
use std::sync::Arc;

use store::{CacheLimits, Store, UnsealKey};
use tempfile::TempDir;

use crate::clock::ManualClock;
use crate::server;

/// Where a store lies.
pub(crate) enum Place {
    Memory,
    File(PathBuf),
    Database(String),
}

/// A store of some kind, new and empty.
pub(crate) struct TestBed {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) place: Place,
    key: String,
    cache: CacheLimits,
    /// For what a test writes beside.
    pub(crate) folder: TempDir,
}

impl TestBed {
    pub(crate) async fn in_memory() -> Option<Self> {
        let clock = Arc::new(ManualClock::new());
        let store = Store::in_memory(clock.clone()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheLimits::default();
        Some(Self { store, clock, place: Place::Memory, key: String::new(), cache, folder })
    }

    pub(crate) async fn sqlite() -> Option<Self> {
        Some(Self::sqlite_with(CacheLimits::default()).await)
    }

    pub(crate) async fn sqlite_uncached() -> Option<Self> {
        Some(Self::sqlite_with(CacheLimits { records_max: 0, bytes_max: 0 }).await)
    }

    async fn sqlite_with(cache: CacheLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let key = UnsealKey::generate().unwrap();
        Store::initialise_sqlite(&path, &key).unwrap();
        Self::opened(Place::File(path), &key, cache, folder).await
    }

    pub(crate) async fn postgres() -> Option<Self> {
        let server = match server::shared() {
            Ok(server) => server,
            Err(why) => {
                server::skip(why);
                return None;
            }
        };
        let address = server.database().await;
        let key = UnsealKey::generate().unwrap();
        Store::initialise_postgres(&server::settings(&address), &key).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Some(Self::opened(Place::Database(address), &key, CacheLimits::default(), folder).await)
    }

    async fn opened(place: Place, key: &UnsealKey, cache: CacheLimits, folder: TempDir) -> Self {
        let clock = Arc::new(ManualClock::new());
        let key = key.to_text().to_string();
        let store = open(&place, &key, clock.clone(), cache).await.unwrap();
        Self { store, clock, place, key, cache, folder }
    }

    pub(crate) fn key(&self) -> UnsealKey {
        UnsealKey::parse(&self.key, "test").unwrap()
    }

    /// The same store once more, as another process would open it; `None`: in memory it is
    /// nobody else's.
    pub(crate) async fn again(&self) -> Option<Store> {
        if matches!(self.place, Place::Memory) {
            return None;
        }
        Some(open(&self.place, &self.key, self.clock.clone(), self.cache).await.unwrap())
    }

    /// How opening it with another key ends; `None`: in memory there is no other.
    pub(crate) async fn open_with(&self, key: &UnsealKey) -> Option<Result<Store, store::Error>> {
        if matches!(self.place, Place::Memory) {
            return None;
        }
        Some(open(&self.place, key.to_text().as_str(), self.clock.clone(), self.cache).await)
    }
}

async fn open(
    place: &Place,
    key: &str,
    clock: Arc<ManualClock>,
    cache: CacheLimits,
) -> Result<Store, store::Error> {
    let key = UnsealKey::parse(key, "test").unwrap();
    match place {
        Place::Memory => Store::in_memory(clock),
        Place::File(path) => Store::open_sqlite(path, key, clock, cache),
        Place::Database(address) => Store::open_postgres(&server::settings(address), key, clock).await,
    }
}

/// Runs each test on each kind of store.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        crate::testbed::on_stores!(in_memory, in_memory: $($name),*);
        crate::testbed::on_stores!(sqlite, sqlite: $($name),*);
        crate::testbed::on_stores!(sqlite_uncached, sqlite_uncached: $($name),*);
        crate::testbed::on_stores!(postgres, postgres: $($name),*);
    };
}
pub(crate) use on_every_store;

/// Runs each test on one kind of store, in a module of this name.
macro_rules! on_stores {
    ($module:ident, $kind:ident: $($name:ident),* $(,)?) => {
        mod $module { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
            if let Some(testbed) = crate::testbed::TestBed::$kind().await { super::$name(testbed).await; }
        })* }
    };
}
pub(crate) use on_stores;
