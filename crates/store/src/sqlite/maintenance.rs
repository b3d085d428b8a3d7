//! What is done beside the records' daily business: forgetting, rotating, exporting,
//! restoring.

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc;

use super::{Sqlite, schema};
use crate::barrier::{Head, Row, StoredKey};
use crate::error::Error;
use crate::rows::{Counts, Exported, Incoming, PIECE_ROWS, Range, Restored, State};

impl Sqlite {
    /// Records that are past their end.
    pub(crate) async fn expired(&self, now: u64, limit: usize) -> Result<Vec<Row>, Error> {
        self.read(move |connection| schema::expired(connection, now, limit)).await
    }

    /// Forgets deletions up to a revision, at most so many. Gives how many.
    pub(crate) async fn forget(&self, until: u64, limit: usize) -> Result<usize, Error> {
        self.exclusive(move |connection, _| {
            let count = schema::forget(connection, until, limit)?;
            if count > 0 {
                schema::set_compacted(connection, until)?;
            }
            Ok(count)
        })
        .await
    }

    /// Stores a keyring with a new current generation, if `before` is the current one.
    pub(crate) async fn advance(
        &self,
        before: u32,
        keyring: Vec<u8>,
        generation: u32,
    ) -> Result<bool, Error> {
        self.exclusive(move |connection, state| {
            if state.generation != before {
                return Ok(false);
            }
            schema::set_keyring(connection, &keyring, generation).map(|()| true)
        })
        .await
    }

    /// Stores a keyring without old generations, if nothing is sealed under them any more.
    pub(crate) async fn retire(&self, current: u32, keyring: Vec<u8>) -> Result<bool, Error> {
        self.exclusive(move |connection, state| {
            let stale = schema::stale(connection, &Range::everything(), current, 1)?;
            if state.generation != current || !stale.is_empty() {
                return Ok(false);
            }
            schema::set_keyring(connection, &keyring, current).map(|()| true)
        })
        .await
    }

    /// Rows under other generations than the current one, after a key.
    pub(crate) async fn stale(
        &self,
        after: Option<StoredKey>,
        current: u32,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        let range = match after {
            Some(key) => Range::everything().after(&key),
            None => Range::everything(),
        };
        self.read(move |connection| schema::stale(connection, &range, current, limit)).await
    }

    /// Stores the same records under the current generation, except those that were written
    /// meanwhile. `false`: it is not current any more, nothing was done.
    pub(crate) async fn reseal(&self, current: u32, rows: Vec<Row>) -> Result<bool, Error> {
        self.exclusive(move |connection, state| {
            if state.generation != current {
                return Ok(false);
            }
            rows.iter().try_for_each(|row| schema::reseal(connection, row)).map(|()| true)
        })
        .await
    }

    pub(crate) async fn counts(&self) -> Result<Counts, Error> {
        self.read(|connection| schema::counts(connection)).await
    }

    /// What SQLite finds wrong with the file.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.read(|connection| schema::check(connection)).await
    }

    /// Hands the whole store on, as it is at one moment. Writing goes on meanwhile.
    pub(crate) async fn export(&self, pieces: mpsc::Sender<Exported>) -> Result<(), Error> {
        self.read(move |connection| {
            let transaction = connection.transaction().map_err(schema::fault)?;
            let send = |piece| pieces.blocking_send(piece).map_err(|_| Error::Closed);
            let keyring = schema::keyring(&transaction)?;
            send(Exported::Head { state: schema::state(&transaction)?, keyring })?;
            let mut range = Range::everything();
            loop {
                let rows = schema::all(&transaction, &range, PIECE_ROWS)?;
                let Some(last) = rows.last() else { return send(Exported::End) };
                range = range.after(&last.key);
                send(Exported::Rows(rows))?;
            }
        })
        .await
    }

    /// Puts these records in the place of everything, at one moment. Gives how many.
    pub(crate) async fn restore(&self, mut records: mpsc::Receiver<Incoming>) -> Result<u64, Error> {
        let barrier = std::sync::Arc::clone(&self.shared.barrier);
        self.exclusive(move |connection, state| {
            if barrier.keyring().current() != state.generation {
                barrier.take_keyring(&schema::keyring(connection)?)?;
            }
            let version = state.revision + 1;
            connection.execute("DELETE FROM record", []).map_err(schema::fault)?;
            let mut count = 0;
            while let Incoming::Records(piece) = records.blocking_recv().ok_or(Error::Closed)? {
                for Restored { key, plain, expires } in piece {
                    let head = Head { version, expires, generation: state.generation, live: true };
                    schema::put(connection, &barrier.seal(&key, head, &plain)?)?;
                    count += 1;
                }
            }
            schema::set_revision(connection, version)?;
            schema::set_compacted(connection, version)?;
            Ok(count)
        })
        .await
    }

    /// Does something on the connection that writes, in a transaction of its own.
    async fn exclusive<T: Send + 'static>(
        &self,
        task: impl FnOnce(&Connection, State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.write(move |connection| {
            let behaviour = TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(behaviour).map_err(schema::fault)?;
            let state = schema::state(&transaction)?;
            let done = task(&transaction, state)?;
            transaction.commit().map_err(schema::commit_fault)?;
            Ok(done)
        })
        .await
    }
}
