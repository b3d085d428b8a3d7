//! What has to be done now and then: forget what is past its end, forget deletions, go on
//! with a re-encryption. And what an operator asks: how it stands.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::barrier::Plain;
use crate::error::Error;
use crate::group::{Change, Prepared};
use crate::limits::{HISTORY_REVISIONS, TRANSACTION_OPERATIONS_MAX};
use crate::record::Version;
use crate::rows::{Exported, PIECES_WAITING};
use crate::store::Store;
use crate::transaction::Expect;

/// Deletions that are forgotten in one transaction.
const FORGOTTEN_MAX: usize = 1_000;
/// Steps of a re-encryption in one round.
const REENCRYPTION_STEPS: usize = 8;
/// Rounds that follow each other at once while each leaves something to be removed.
const ROUNDS_MAX: usize = 1_000;
/// How long the lease of the work is held: longer than a round takes.
const LEASE: Duration = Duration::from_secs(120);
/// The lease of the work.
const LEASE_NAME: &str = "maintenance";

/// What maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Records past their end that were removed.
    pub expired: usize,
    /// Deletions that were forgotten.
    pub forgotten: usize,
    /// Records that were put under the current keys.
    pub reencrypted: usize,
}

impl Maintained {
    /// Whether a round came to one of its bounds: there may be more to remove.
    const fn leaves_some(&self) -> bool {
        self.expired >= TRANSACTION_OPERATIONS_MAX || self.forgotten >= FORGOTTEN_MAX
    }
}

impl std::ops::Add for Maintained {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            expired: self.expired + other.expired,
            forgotten: self.forgotten + other.forgotten,
            reencrypted: self.reencrypted + other.reencrypted,
        }
    }
}

/// How a store stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// The version of the last transaction that changed something.
    pub version: Version,
    /// Records, those past their end included.
    pub records: u64,
    /// Deletions that are remembered for watchers.
    pub deletions: u64,
    /// The generation that is written under.
    pub generation: u32,
    /// Records and deletions under other generations, which wait to be re-encrypted.
    pub stale: u64,
    /// What the database takes on disk, bytes.
    pub bytes: u64,
}

impl Store {
    /// What has to be done now and then, once a minute or so, in bounded rounds: as many as it
    /// takes to remove what is past its end, however fast that comes. Between two, others write.
    /// `None`: another process is at it.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn maintain(&self) -> Result<Option<Maintained>, Error> {
        let mut all = None;
        for _ in 0..ROUNDS_MAX {
            let Some(lease) = self.take_lease(LEASE_NAME, LEASE).await? else { break };
            let done = self.round().await;
            lease.release(self).await?;
            let done = done?;
            all = Some(all.unwrap_or_default() + done);
            if !done.leaves_some() {
                break;
            }
        }
        Ok(all)
    }

    async fn round(&self) -> Result<Maintained, Error> {
        let mut done = Maintained { expired: self.remove_expired().await?, ..Maintained::default() };
        let until = self.version().number().saturating_sub(HISTORY_REVISIONS);
        if until > 0 {
            done.forgotten = self.inner().backend.forget(until, FORGOTTEN_MAX).await?;
        }
        if self.generations().await?.len() > 1 {
            let mut work = self.reencryption();
            for _ in 0..REENCRYPTION_STEPS {
                match work.step().await? {
                    0 => break,
                    count => done.reencrypted += count,
                }
            }
        }
        Ok(done)
    }

    /// Removes records past their end, as many as one transaction takes. Watchers are told.
    async fn remove_expired(&self) -> Result<usize, Error> {
        let inner = self.inner();
        let now = self.clock().now().unix_nanos();
        let rows = inner.backend.expired(now, TRANSACTION_OPERATIONS_MAX).await?;
        let mut operations = Vec::with_capacity(rows.len());
        for row in rows {
            // Another one stands there now.
            let Some(opened) = inner.opened(&row).await? else { continue };
            let plain = Plain::new(&opened.key, &[]);
            let change = Change::Expire { plain, version: row.head.version };
            operations.push(Prepared { key: row.key, expect: Expect::Any, change });
        }
        let count = operations.len();
        if count > 0 {
            inner.backend.commit(operations).await?;
        }
        Ok(count)
    }

    /// How the store stands: reads all of it.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Corrupt`].
    pub async fn status(&self) -> Result<Status, Error> {
        let backend = &self.inner().backend;
        let generation = self.generations().await?.last().copied().unwrap_or(0);
        let counts = backend.counts().await?;
        let other = counts.generations.iter().filter(|(number, _)| *number != generation);
        Ok(Status {
            backend: backend.name(),
            version: self.version(),
            records: counts.records,
            deletions: counts.deleted,
            generation,
            stale: other.map(|(_, count)| count).sum(),
            bytes: counts.bytes,
        })
    }

    /// Reads everything, opens everything, and lets the database check its own structure.
    /// Gives how many records and deletions were opened.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: what is damaged first. [`Error::Unavailable`].
    pub async fn verify(&self) -> Result<u64, Error> {
        let inner = self.inner();
        inner.backend.check().await?;
        let (pieces, mut taken) = tokio::sync::mpsc::channel(PIECES_WAITING);
        // Owns the receiver: the export ends when this does.
        let opening = async move {
            let (mut count, mut whole) = (0, false);
            // Of the same moment as the rows, whoever rotates meanwhile.
            let mut keyring = inner.barrier.keyring();
            while let Some(piece) = taken.recv().await {
                match piece {
                    Exported::Head { keyring: sealed, .. } => {
                        keyring = Arc::new(inner.barrier.open_keyring(&sealed)?);
                    }
                    Exported::Rows(rows) => {
                        for row in &rows {
                            keyring.open_row(row)?;
                            count += 1;
                        }
                    }
                    Exported::End => whole = true,
                }
            }
            if whole { Ok(count) } else { Err(Error::Closed) }
        };
        let (exported, opened) = tokio::join!(inner.backend.export(pieces), opening);
        match (exported, opened) {
            // The export ends early when what it gave does not open.
            (Err(Error::Closed), Err(why)) => Err(why),
            (exported, opened) => exported.and(opened),
        }
    }
}
