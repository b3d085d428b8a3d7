//! The two databases, behind the same words.

use tokio::sync::{mpsc, watch};

use crate::barrier::{Row, StoredKey};
use crate::cache::Known;
use crate::error::Error;
use crate::group::Prepared;
use crate::postgres::Postgres;
use crate::record::Version;
use crate::rows::{Changes, Counts, Exported, Incoming, Range};
use crate::sqlite::Sqlite;

pub(crate) enum Backend {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

impl Backend {
    /// Its name, for a status.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// What is known of a key in memory; a record that is past its end too.
    pub(crate) fn cached(&self, key: &StoredKey) -> Option<Known> {
        match self {
            Self::Sqlite(sqlite) => sqlite.cached(key),
            // Other processes write, and are heard of later.
            Self::Postgres(_) => None,
        }
    }

    /// Keeps in memory what was read at this revision or after it.
    pub(crate) fn keep(&self, key: StoredKey, known: Known, revision: u64) {
        match self {
            Self::Sqlite(sqlite) => sqlite.keep(key, known, revision),
            Self::Postgres(_) => {}
        }
    }

    /// Follows the last revision that can be read.
    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        match self {
            Self::Sqlite(sqlite) => sqlite.revision(),
            Self::Postgres(postgres) => postgres.revision(),
        }
    }

    /// Why the database does not answer, as far as is known without asking it; `None`: it does.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            // A file of this machine: whoever asks hears.
            Self::Sqlite(_) => None,
            Self::Postgres(postgres) => postgres.fault(),
        }
    }

    /// Whether nothing was written since this revision, as far as its cache knows; `false`
    /// where there is none.
    pub(crate) fn is_still(&self, revision: u64) -> bool {
        match self {
            Self::Sqlite(sqlite) => sqlite.is_still(revision),
            Self::Postgres(_) => false,
        }
    }

    /// What the database itself finds wrong with what it keeps.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check().await,
            // It has checksums of its own pages; reading all of them checks those.
            Self::Postgres(_) => Ok(()),
        }
    }

    /// The row of a key.
    pub(crate) async fn row(&self, key: StoredKey) -> Result<Option<Row>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.row(key).await,
            Self::Postgres(postgres) => postgres.row(key).await,
        }
    }

    /// Up to `limit` records of a range that are not past their end at `now`.
    pub(crate) async fn range(&self, range: Range, now: u64, limit: usize) -> Result<Vec<Row>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.range(range, now, limit).await,
            Self::Postgres(postgres) => postgres.range(range, now, limit).await,
        }
    }

    /// Rows of all kinds that changed after a revision.
    pub(crate) async fn changes(&self, range: Range, since: u64, limit: usize) -> Result<Changes, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.changes(range, since, limit).await,
            Self::Postgres(postgres) => postgres.changes(range, since, limit).await,
        }
    }

    /// Does the operations together or not at all.
    pub(crate) async fn commit(&self, operations: Vec<Prepared>) -> Result<Version, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.commit(operations).await,
            Self::Postgres(postgres) => postgres.commit(operations).await,
        }
    }

    /// The keyring as it is stored.
    pub(crate) async fn keyring(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keyring().await,
            Self::Postgres(postgres) => postgres.keyring().await,
        }
    }

    /// Records that are past their end at `now`.
    pub(crate) async fn expired(&self, now: u64, limit: usize) -> Result<Vec<Row>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.expired(now, limit).await,
            Self::Postgres(postgres) => postgres.expired(now, limit).await,
        }
    }

    /// Forgets deletions up to a revision, at most so many. Gives how many.
    pub(crate) async fn forget(&self, until: u64, limit: usize) -> Result<usize, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.forget(until, limit).await,
            Self::Postgres(postgres) => postgres.forget(until, limit).await,
        }
    }

    /// Stores a keyring with a new current generation, if `before` is the current one.
    pub(crate) async fn advance(
        &self,
        before: u32,
        keyring: Vec<u8>,
        generation: u32,
    ) -> Result<bool, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.advance(before, keyring, generation).await,
            Self::Postgres(postgres) => postgres.advance(before, keyring, generation).await,
        }
    }

    /// Stores a keyring without old generations, if nothing is sealed under them any more.
    pub(crate) async fn retire(&self, current: u32, keyring: Vec<u8>) -> Result<bool, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.retire(current, keyring).await,
            Self::Postgres(postgres) => postgres.retire(current, keyring).await,
        }
    }

    /// Rows under other generations than the current one, after a key.
    pub(crate) async fn stale(
        &self,
        after: Option<StoredKey>,
        current: u32,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.stale(after, current, limit).await,
            Self::Postgres(postgres) => postgres.stale(after, current, limit).await,
        }
    }

    /// Stores the same records under the current generation, except those that were written
    /// meanwhile. `false`: it is not current any more, nothing was done.
    pub(crate) async fn reseal(&self, current: u32, rows: Vec<Row>) -> Result<bool, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.reseal(current, rows).await,
            Self::Postgres(postgres) => postgres.reseal(current, rows).await,
        }
    }

    /// Counts what is stored: reads all of it.
    pub(crate) async fn counts(&self) -> Result<Counts, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.counts().await,
            Self::Postgres(postgres) => postgres.counts().await,
        }
    }

    /// Hands the whole store on, as it is at one moment. Writing goes on meanwhile.
    pub(crate) async fn export(&self, pieces: mpsc::Sender<Exported>) -> Result<(), Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.export(pieces).await,
            Self::Postgres(postgres) => postgres.export(pieces).await,
        }
    }

    /// Puts these records in the place of everything, at one moment. Gives how many.
    pub(crate) async fn restore(&self, records: mpsc::Receiver<Incoming>) -> Result<u64, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.restore(records).await,
            Self::Postgres(postgres) => postgres.restore(records).await,
        }
    }
}
