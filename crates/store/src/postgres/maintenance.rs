//! What is done beside the records' daily business: forgetting, rotating, exporting,
//! restoring.

use tokio::sync::{MutexGuard, mpsc};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Row as SqlRow, Transaction};

use super::schema::{self, signed};
use super::session::{self, Dialled, SLOW_ANSWER_WITHIN, within};
use super::writer::Columns;
use super::{Postgres, rows_max};
use crate::barrier::{Head, Row, StoredKey};
use crate::error::Error;
use crate::limits::GROUP_BYTES_MAX;
use crate::rows::{Counts, Exported, Incoming, PIECE_ROWS, Restored, State};

/// Rows that a restore deletes at once.
const CLEARED_ROWS: i64 = 2_000;

impl Postgres {
    /// Records that are past their end.
    pub(crate) async fn expired(&self, now: u64, limit: usize) -> Result<Vec<Row>, Error> {
        let text = select!("WHERE expires IS NOT NULL AND expires <= $1 ORDER BY expires LIMIT $2");
        schema::read_rows(&self.read(text, &[&signed(now), &rows_max(limit)]).await?)
    }

    /// Rows under other generations than the current one, after a key.
    pub(crate) async fn stale(
        &self,
        after: Option<StoredKey>,
        current: u32,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        let text = select!("WHERE key > $1 AND generation <> $2 ORDER BY key LIMIT $3");
        let after = after.as_ref().map_or(&[][..], StoredKey::as_bytes);
        let values: [&(dyn ToSql + Sync); 3] = [&after, &i64::from(current), &rows_max(limit)];
        schema::read_rows(&self.read(text, &values).await?)
    }

    /// Forgets deletions up to a revision, at most so many. Gives how many.
    pub(crate) async fn forget(&self, until: u64, limit: usize) -> Result<usize, Error> {
        self.in_maintenance(async |client| {
            let (transaction, _) = take_turn(client).await?;
            let until = signed(until);
            let text = "DELETE FROM bastide.store_record WHERE key IN (SELECT key FROM bastide.store_record
                WHERE version <= $1 AND NOT live ORDER BY version LIMIT $2)";
            let count = execute(&transaction, text, &[&until, &rows_max(limit)]).await?;
            if count > 0 {
                let text = "UPDATE bastide.store_state SET compacted = greatest(compacted, $1)";
                execute(&transaction, text, &[&until]).await?;
            }
            commit(transaction).await?;
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
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
        self.in_maintenance(async |client| {
            let (transaction, state) = take_turn(client).await?;
            if state.generation != before {
                return Ok(false);
            }
            set_keyring(&transaction, &keyring, generation).await?;
            commit(transaction).await.map(|()| true)
        })
        .await
    }

    /// Stores a keyring without old generations, if nothing is sealed under them any more.
    pub(crate) async fn retire(&self, current: u32, keyring: Vec<u8>) -> Result<bool, Error> {
        self.in_maintenance(async |client| {
            let (transaction, state) = take_turn(client).await?;
            let text = "SELECT 1 FROM bastide.store_record WHERE generation <> $1 LIMIT 1";
            let stale = transaction.query_opt(text, &[&i64::from(current)]).await;
            let is_stale = stale.map_err(|error| schema::fault(&error))?.is_some();
            if state.generation != current || is_stale {
                return Ok(false);
            }
            set_keyring(&transaction, &keyring, current).await?;
            commit(transaction).await.map(|()| true)
        })
        .await
    }

    /// Stores the same records under the current generation, except those that were written
    /// meanwhile. `false`: it is not current any more, nothing was done.
    pub(crate) async fn reseal(&self, current: u32, rows: Vec<Row>) -> Result<bool, Error> {
        self.in_maintenance(async |client| {
            let (transaction, state) = take_turn(client).await?;
            if state.generation != current {
                return Ok(false);
            }
            let keys: Vec<&[u8]> = rows.iter().map(|row| row.key.as_bytes()).collect();
            let versions: Vec<i64> = rows.iter().map(|row| signed(row.head.version)).collect();
            let sealed: Vec<&[u8]> = rows.iter().map(|row| row.sealed.as_slice()).collect();
            let text = "UPDATE bastide.store_record r SET generation = $4, sealed = n.sealed
                FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) AS n (key, version, sealed)
                WHERE r.key = n.key AND r.version = n.version";
            execute(&transaction, text, &[&keys, &versions, &sealed, &i64::from(current)]).await?;
            commit(transaction).await.map(|()| true)
        })
        .await
    }

    pub(crate) async fn counts(&self) -> Result<Counts, Error> {
        let text = "SELECT generation, count(*) FILTER (WHERE live), count(*) FILTER (WHERE NOT live)
            FROM bastide.store_record GROUP BY generation ORDER BY generation";
        let groups = self.read(text, &[]).await?;
        let mut counts = Counts::default();
        for row in &groups {
            let read = |place| row.try_get::<_, i64>(place).map_err(|error| schema::fault(&error));
            let [generation, live, deleted] =
                [read(0)?, read(1)?, read(2)?].map(|number| u64::try_from(number).unwrap_or(0));
            counts.records += live;
            counts.deleted += deleted;
            counts.generations.push((u32::try_from(generation).unwrap_or(0), live + deleted));
        }
        let text = "SELECT pg_total_relation_size('bastide.store_record')";
        let bytes = self.read(text, &[]).await?;
        let bytes = bytes.first().ok_or(Error::Uninitialised)?;
        let bytes: i64 = bytes.try_get(0).map_err(|error| schema::fault(&error))?;
        counts.bytes = u64::try_from(bytes).unwrap_or(0);
        Ok(counts)
    }

    /// Hands the whole store on, as it is at one moment. Writing goes on meanwhile.
    pub(crate) async fn export(&self, pieces: mpsc::Sender<Exported>) -> Result<(), Error> {
        let mut client = session::connect(&self.settings, None).await?;
        let snapshot =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = answer(snapshot.start()).await?;
        // Between two pieces the transaction waits for whoever takes them.
        answer(transaction.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0")).await?;
        let state = "SELECT revision, generation, compacted FROM bastide.store_state";
        let state = schema::read_state(&answer(transaction.query_one(state, &[])).await?)?;
        let keyring = within(SLOW_ANSWER_WITHIN, schema::keyring(transaction.client())).await??;
        let closed = |_| Error::Closed;
        pieces.send(Exported::Head { state, keyring }).await.map_err(closed)?;
        let statement = select!("WHERE key > $1 ORDER BY key LIMIT $2");
        let statement = answer(transaction.prepare(statement)).await?;
        let mut after = Vec::new();
        loop {
            let values: [&(dyn ToSql + Sync); 2] = [&after, &rows_max(PIECE_ROWS)];
            let rows = schema::read_rows(&answer(transaction.query(&statement, &values)).await?)?;
            let Some(last) = rows.last() else {
                return pieces.send(Exported::End).await.map_err(closed);
            };
            after = last.key.as_bytes().to_vec();
            pieces.send(Exported::Rows(rows)).await.map_err(closed)?;
        }
    }

    /// Puts these records in the place of everything, at one moment. Gives how many.
    pub(crate) async fn restore(&self, mut records: mpsc::Receiver<Incoming>) -> Result<u64, Error> {
        let barrier = &self.shared.barrier;
        // One of its own: it lasts as long as it takes to read what is restored.
        let mut client = session::connect(&self.settings, None).await?;
        let (transaction, state) = within(SLOW_ANSWER_WITHIN, take_turn(&mut client)).await??;
        answer(transaction.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0")).await?;
        if barrier.keyring().current() != state.generation {
            let keyring = within(SLOW_ANSWER_WITHIN, schema::keyring(transaction.client())).await??;
            barrier.take_keyring(&keyring)?;
        }
        let version = state.revision + 1;
        clear(&transaction).await?;
        let mut count = 0;
        while let Incoming::Records(piece) = records.recv().await.ok_or(Error::Closed)? {
            let sealed = piece.into_iter().map(|Restored { key, plain, expires }| {
                let head = Head { version, expires, generation: state.generation, live: true };
                barrier.seal(&key, head, &plain)
            });
            let sealed = sealed.collect::<Result<Vec<_>, _>>()?;
            for rows in by_bytes(&sealed, GROUP_BYTES_MAX) {
                count += answer(transaction.execute(schema::PUT, &Columns::of(rows).values())).await?;
            }
        }
        let text = "UPDATE bastide.store_state SET revision = $1, compacted = $1";
        answer(transaction.execute(text, &[&signed(version)])).await?;
        answer(transaction.execute(schema::NOTIFY, &[&schema::CHANNEL, &version.to_string()])).await?;
        within(SLOW_ANSWER_WITHIN, commit(transaction)).await.map_err(unknown)??;
        self.shared.publish(version);
        Ok(count)
    }

    /// Does what takes a transaction of its own; where no answer comes, its connection is dropped, and
    /// whether it was done is unknown.
    async fn in_maintenance<T>(
        &self,
        work: impl AsyncFnOnce(&mut Dialled) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut held = self.maintenance().await?;
        let client = held.as_mut().ok_or(Error::Closed)?;
        match within(SLOW_ANSWER_WITHIN, work(client)).await {
            Ok(done) => done,
            Err(silent) => {
                *held = None;
                Err(unknown(silent))
            }
        }
    }

    /// Reads what may take long, where nobody waits behind it who asks for what is soon there.
    async fn read(&self, text: &'static str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<SqlRow>, Error> {
        let mut held = self.maintenance().await?;
        match ask(&mut held, text, values).await? {
            Err(error) if held.as_ref().is_none_or(|client| schema::ends(&error, client)) => {
                tracing::debug!(%error, "a connection to the database broke; a new one is made");
                *held = None;
                *held = Some(session::connect(&self.settings, None).await?);
                ask(&mut held, text, values).await?.map_err(|error| schema::fault(&error))
            }
            asked => asked.map_err(|error| schema::fault(&error)),
        }
    }

    /// The connection for what is not in a hurry, for one at a time; a new one where it broke.
    async fn maintenance(&self) -> Result<MutexGuard<'_, Option<Dialled>>, Error> {
        let mut held = within(SLOW_ANSWER_WITHIN, self.maintenance.lock()).await?;
        if held.as_ref().is_none_or(|client| client.is_closed()) {
            *held = None;
            *held = Some(session::connect(&self.settings, None).await?);
        }
        Ok(held)
    }
}

/// Asks over a connection, and drops it when no answer comes.
async fn ask(
    held: &mut Option<Dialled>,
    text: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Result<Vec<SqlRow>, tokio_postgres::Error>, Error> {
    let client = held.as_ref().ok_or(Error::Closed)?;
    let answered = within(SLOW_ANSWER_WITHIN, client.query(text, values)).await;
    if answered.is_err() {
        *held = None;
    }
    answered
}

/// The answer to one question of a long work; the connection goes with the work when none comes.
async fn answer<T>(asking: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Error> {
    within(SLOW_ANSWER_WITHIN, asking).await?.map_err(|error| schema::fault(&error))
}

/// What it means that no answer came to what may have been committed.
fn unknown(silent: Error) -> Error {
    Error::Unknown(silent.to_string())
}

/// Deletes everything, in pieces: how long that takes for all of it has no bound.
async fn clear(transaction: &Transaction<'_>) -> Result<(), Error> {
    let last =
        "SELECT key FROM (SELECT key FROM bastide.store_record WHERE key > $1 ORDER BY key LIMIT $2) piece
        ORDER BY key DESC LIMIT 1";
    let last = answer(transaction.prepare(last)).await?;
    let delete = "DELETE FROM bastide.store_record WHERE key > $1 AND key <= $2";
    let delete = answer(transaction.prepare(delete)).await?;
    let mut after = Vec::new();
    while let Some(row) = answer(transaction.query_opt(&last, &[&after, &CLEARED_ROWS])).await? {
        let until: Vec<u8> = row.try_get(0).map_err(|error| schema::fault(&error))?;
        answer(transaction.execute(&delete, &[&after, &until])).await?;
        after = until;
    }
    Ok(())
}

/// Rows in pieces of so many sealed bytes, or of one row that has more.
fn by_bytes(rows: &[Row], most: usize) -> impl Iterator<Item = &[Row]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |row: &&Row| {
            bytes += row.sealed.len();
            bytes <= most
        };
        let fitting = rest.iter().take_while(fits).count();
        let (piece, others) = rest.split_at(fitting.max(1).min(rest.len()));
        rest = others;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Begins a transaction in which nobody else writes.
async fn take_turn(client: &mut Client) -> Result<(Transaction<'_>, State), Error> {
    let wrong = |error: tokio_postgres::Error| schema::fault(&error);
    let transaction = client.transaction().await.map_err(wrong)?;
    let text = "SELECT revision, generation, compacted FROM bastide.store_state FOR UPDATE";
    let state = schema::read_state(&transaction.query_one(text, &[]).await.map_err(wrong)?)?;
    Ok((transaction, state))
}

async fn commit(transaction: Transaction<'_>) -> Result<(), Error> {
    match transaction.commit().await {
        Ok(()) => Ok(()),
        Err(error) if error.as_db_error().is_some() => Err(schema::fault(&error)),
        Err(error) => Err(Error::Unknown(error.to_string())),
    }
}

async fn set_keyring(transaction: &Transaction<'_>, keyring: &[u8], generation: u32) -> Result<(), Error> {
    let text = "UPDATE bastide.store_state SET keyring = $1, generation = $2";
    execute(transaction, text, &[&keyring, &i64::from(generation)]).await.map(|_| ())
}

async fn execute(
    transaction: &Transaction<'_>,
    text: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<u64, Error> {
    transaction.execute(text, values).await.map_err(|error| schema::fault(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_in_pieces_of_bounded_bytes_and_none_is_left() {
        let row = |bytes: usize| {
            let head = Head { version: 1, expires: None, generation: 1, live: true };
            Row { key: StoredKey::from_bytes(vec![1]), head, sealed: vec![0; bytes] }
        };
        for (rows, pieces) in [
            (&[][..], &[][..]),
            (&[1], &[1]),
            (&[4, 6], &[2]),
            (&[4, 7], &[1, 1]),
            (&[11, 11, 1], &[1, 1, 1]),
            (&[1, 11, 4, 6, 1], &[1, 1, 2, 1]),
        ] {
            let rows: Vec<Row> = rows.iter().map(|bytes| row(*bytes)).collect();
            assert_eq!(by_bytes(&rows, 10).map(<[Row]>::len).collect::<Vec<_>>(), pieces);
        }
    }
}
