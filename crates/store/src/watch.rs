//! What changes below a prefix, told as it happens.

use std::collections::VecDeque;

use tokio::sync::watch;

use crate::barrier::Row;
use crate::error::Error;
use crate::key::Key;
use crate::record::{Record, Version};
use crate::rows::Range;
use crate::store::Store;

/// Rows that are fetched at once: more than a transaction has.
const FETCHED_MAX: usize = 1_000;

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A record was written.
    Put(Record),
    /// A record was deleted, or is past its end.
    Deleted {
        /// Its key.
        key: Key,
        /// Of the transaction that deleted it.
        version: Version,
    },
    /// The watcher was so far behind, or the store was restored, that single changes are
    /// not known: read everything anew. What changed after this version will be told.
    Resync {
        /// What a scan that begins now sees, at least.
        version: Version,
    },
}

/// Follows what changes below a prefix. Nothing is lost: after a pause or a broken
/// connection it goes on where it was. Changes come in the order of their versions; of
/// several changes of one record that come together, only the last is told.
pub struct Watch {
    store: Store,
    range: Range,
    revision: watch::Receiver<u64>,
    /// Everything up to here was told, or waits in `ready`.
    seen: u64,
    ready: VecDeque<Event>,
}

impl Store {
    /// Follows what changes below a prefix after a version: [`Store::version`] before a
    /// scan, so that scan and watch leave no gap; or the version of the last event, to go
    /// on.
    pub fn watch(&self, prefix: &Key, after: Version) -> Watch {
        let inner = self.inner();
        let range = Range::below(&inner.barrier.stored_key(prefix));
        let revision = inner.backend.revision();
        Watch { store: self.clone(), range, revision, seen: after.number(), ready: VecDeque::new() }
    }
}

impl Watch {
    /// The next change. Can be dropped and called again without losing one.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the database cannot be reached; calling again goes on where
    /// it was. [`Error::Corrupt`]. [`Error::Closed`]: the store is gone.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let current = *self.revision.borrow_and_update();
            if current <= self.seen {
                self.revision.changed().await.map_err(|_| Error::Closed)?;
                continue;
            }
            self.fetch().await?;
        }
    }

    /// Fetches what changed and moves on. Nothing is kept of it when it fails or is dropped.
    async fn fetch(&mut self) -> Result<(), Error> {
        let inner = self.store.inner();
        let mut changes = inner.backend.changes(self.range.clone(), self.seen, FETCHED_MAX).await?;
        if changes.state.compacted > self.seen {
            let version = Version::from_number(changes.state.revision);
            self.ready.push_back(Event::Resync { version });
            self.seen = changes.state.revision;
            return Ok(());
        }
        let mut until = changes.state.revision;
        if changes.rows.len() == FETCHED_MAX {
            // A transaction is not told by halves: one whose rows may go on is left for the
            // next time. None has as many rows as are fetched.
            let last = changes.rows.last().map_or(until, |row| row.head.version);
            changes.rows.retain(|row| row.head.version < last);
            until = last.saturating_sub(1);
        }
        let now = inner.clock.now();
        // Where it has to be read again, it is next time.
        let Some(records) = inner.records(&changes.rows).await? else { return Ok(()) };
        let told = |(row, record): (&Row, Record)| match row.head.is_present(now) {
            true => Event::Put(record),
            false => Event::Deleted { key: record.key, version: record.version },
        };
        self.ready = changes.rows.iter().zip(records).map(told).collect();
        self.seen = until;
        Ok(())
    }
}
