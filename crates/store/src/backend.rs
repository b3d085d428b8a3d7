//! The two databases, behind the same words.

use tokio::sync::watch;

use crate::barrier::{Row, StoredKey};
use crate::error::Error;
use crate::group::Prepared;
use crate::record::{Record, Version};
use crate::rows::{Changes, Range};
use crate::sqlite::Sqlite;

pub(crate) enum Backend {
    Sqlite(Sqlite),
}

impl Backend {
    /// The record of a key, when it is in memory; what is past its end too.
    pub(crate) fn cached(&self, key: &StoredKey) -> Option<Record> {
        match self {
            Self::Sqlite(sqlite) => sqlite.cached(key),
        }
    }

    /// Keeps in memory what was read at this revision or after it.
    pub(crate) fn keep(&self, key: StoredKey, record: &Record, revision: u64) {
        match self {
            Self::Sqlite(sqlite) => sqlite.keep(key, record, revision),
        }
    }

    /// The row of a key.
    pub(crate) async fn row(&self, key: StoredKey) -> Result<Option<Row>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.row(key).await,
        }
    }

    /// Up to `limit` records of a range that are not past their end at `now`.
    pub(crate) async fn range(&self, range: Range, now: u64, limit: usize) -> Result<Vec<Row>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.range(range, now, limit).await,
        }
    }

    /// Rows of all kinds that changed after a revision.
    pub(crate) async fn changes(&self, range: Range, since: u64, limit: usize) -> Result<Changes, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.changes(range, since, limit).await,
        }
    }

    pub(crate) async fn commit(&self, operations: Vec<Prepared>) -> Result<Version, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.commit(operations).await,
        }
    }

    /// The keyring as it is stored.
    pub(crate) async fn keyring(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keyring().await,
        }
    }

    /// Follows the last revision that can be read.
    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        match self {
            Self::Sqlite(sqlite) => sqlite.revision(),
        }
    }
}
