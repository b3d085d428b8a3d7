//! The tables, and each statement that is run on them.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use crate::barrier::{Head, Row, StoredKey};
use crate::error::Error;
use crate::rows::{Changes, Counts, Range, State};

/// The format of the tables that this version makes and knows.
pub(super) const FORMAT: u32 = 1;
/// `application_id` in the file's header: "BAST".
const APPLICATION: i32 = 0x4241_5354;
/// How long a write waits for another process, milliseconds.
const BUSY_TIMEOUT_MS: u64 = 10_000;

const TABLES: &str = "
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    compacted INTEGER NOT NULL,
    keyring BLOB NOT NULL
) STRICT;
CREATE TABLE record (
    key BLOB PRIMARY KEY,
    version INTEGER NOT NULL,
    expires INTEGER,
    generation INTEGER NOT NULL,
    live INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX record_version ON record (version);
CREATE INDEX record_expires ON record (expires) WHERE expires IS NOT NULL;
";

/// A query for rows.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT key, version, expires, generation, live, sealed FROM record ", $rest)
    };
}

/// What a fault of SQLite means for the caller.
pub(super) fn fault(error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Corrupt(text),
        // What stands in a column is not of its type, or out of its range.
        None => Error::Corrupt(text),
        Some(_) => Error::Unavailable(text),
    }
}

/// What a fault of SQLite at a commit means: when the disk fails after the last byte was
/// written, a later start may find the transaction whole.
pub(super) fn commit_fault(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::SystemIoFailure) => Error::Unknown(error.to_string()),
        _ => fault(error),
    }
}

/// Opens a connection and sets what every connection needs.
pub(super) fn connect(path: Option<&Path>) -> Result<Connection, Error> {
    let connection = match path {
        Some(path) => Connection::open(path),
        None => Connection::open_in_memory(),
    };
    let connection = connection.map_err(fault)?;
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS)).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA cell_size_check = ON;
             PRAGMA trusted_schema = OFF;
             PRAGMA temp_store = MEMORY;
             PRAGMA journal_size_limit = 67108864;",
        )
        .map_err(fault)?;
    Ok(connection)
}

/// Makes the tables of a new store, with its sealed keyring.
pub(super) fn initialise(connection: &mut Connection, keyring: &[u8], generation: u32) -> Result<(), Error> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fault)?;
    if format(&transaction)? != 0 {
        return Err(Error::Initialised);
    }
    transaction.execute_batch(TABLES).map_err(fault)?;
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(fault)?;
    transaction.pragma_update(None, "user_version", FORMAT).map_err(fault)?;
    let state = "INSERT INTO state (one, revision, generation, compacted, keyring) VALUES (1, 0, ?1, 0, ?2)";
    transaction.execute(state, params![generation, keyring]).map_err(fault)?;
    transaction.commit().map_err(fault)
}

/// The format of the tables; 0: there are none.
pub(super) fn format(connection: &Connection) -> Result<u32, Error> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fault)
}

/// Refuses a file that is no store, or one that this version does not know.
pub(super) fn check_format(connection: &Connection) -> Result<(), Error> {
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(fault)?;
    match format(connection)? {
        0 => Err(Error::Uninitialised),
        _ if application != APPLICATION => {
            Err(Error::Settings("the file is a SQLite database of another program".to_owned()))
        }
        found if found > FORMAT => Err(Error::Format { found, known: FORMAT }),
        _ => Ok(()),
    }
}

pub(super) fn state(connection: &Connection) -> Result<State, Error> {
    let mut statement = connection
        .prepare_cached("SELECT revision, generation, compacted FROM state WHERE one = 1")
        .map_err(fault)?;
    let state = |row: &SqlRow<'_>| {
        Ok(State { revision: row.get(0)?, generation: row.get(1)?, compacted: row.get(2)? })
    };
    statement.query_row([], state).map_err(fault)
}

pub(super) fn keyring(connection: &Connection) -> Result<Vec<u8>, Error> {
    connection.query_row("SELECT keyring FROM state WHERE one = 1", [], |row| row.get(0)).map_err(fault)
}

pub(super) fn set_keyring(connection: &Connection, keyring: &[u8], generation: u32) -> Result<(), Error> {
    let text = "UPDATE state SET keyring = ?1, generation = ?2 WHERE one = 1";
    connection.execute(text, params![keyring, generation]).map_err(fault).map(|_| ())
}

pub(super) fn set_revision(connection: &Connection, revision: u64) -> Result<(), Error> {
    let mut statement =
        connection.prepare_cached("UPDATE state SET revision = ?1 WHERE one = 1").map_err(fault)?;
    statement.execute([revision]).map_err(fault).map(|_| ())
}

pub(super) fn set_compacted(connection: &Connection, compacted: u64) -> Result<(), Error> {
    let text = "UPDATE state SET compacted = max(compacted, ?1) WHERE one = 1";
    connection.execute(text, [compacted]).map_err(fault).map(|_| ())
}

fn read_row(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let head =
        Head { version: row.get(1)?, expires: row.get(2)?, generation: row.get(3)?, live: row.get(4)? };
    Ok(Row { key: StoredKey::from_bytes(row.get(0)?), head, sealed: row.get(5)? })
}

pub(super) fn get(connection: &Connection, key: &[u8]) -> Result<Option<Row>, Error> {
    let text = select!("WHERE key = ?1");
    let mut statement = connection.prepare_cached(text).map_err(fault)?;
    statement.query_row([key], read_row).optional().map_err(fault)
}

fn rows(connection: &Connection, text: &str, values: impl rusqlite::Params) -> Result<Vec<Row>, Error> {
    let mut statement = connection.prepare_cached(text).map_err(fault)?;
    let rows = statement.query_map(values, read_row).map_err(fault)?;
    rows.collect::<rusqlite::Result<Vec<_>>>().map_err(fault)
}

/// Records in the order of their stored keys, at this time.
pub(super) fn range(
    connection: &Connection,
    range: &Range,
    now: u64,
    limit: usize,
) -> Result<Vec<Row>, Error> {
    let text = select!(
        "WHERE key >= ?1 AND key < ?2 AND live = 1 AND (expires IS NULL OR expires > ?3)
          ORDER BY key LIMIT ?4"
    );
    rows(connection, text, params![range.from, range.upper(), now, limit])
}

/// Rows of all kinds in the order of their stored keys.
pub(super) fn all(connection: &Connection, range: &Range, limit: usize) -> Result<Vec<Row>, Error> {
    let text = select!("WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3");
    rows(connection, text, params![range.from, range.upper(), limit])
}

/// What changed since a revision, with the state, read at one moment.
pub(super) fn changes(
    connection: &mut Connection,
    range: &Range,
    since: u64,
    limit: usize,
) -> Result<Changes, Error> {
    let transaction = connection.transaction().map_err(fault)?;
    let text = select!(
        "INDEXED BY record_version WHERE version > ?1 AND key >= ?2 AND key < ?3 ORDER BY version, key LIMIT ?4"
    );
    let rows = rows(&transaction, text, params![since, range.from, range.upper(), limit])?;
    let state = state(&transaction)?;
    Ok(Changes { rows, state })
}

/// Records that are past their end.
pub(super) fn expired(connection: &Connection, now: u64, limit: usize) -> Result<Vec<Row>, Error> {
    let text = select!("WHERE expires IS NOT NULL AND expires <= ?1 ORDER BY expires LIMIT ?2");
    rows(connection, text, params![now, limit])
}

/// Rows under other generations than this one, in the order of their stored keys.
pub(super) fn stale(
    connection: &Connection,
    range: &Range,
    generation: u32,
    limit: usize,
) -> Result<Vec<Row>, Error> {
    let text = select!("WHERE key >= ?1 AND key < ?2 AND generation <> ?3 ORDER BY key LIMIT ?4");
    rows(connection, text, params![range.from, range.upper(), generation, limit])
}

pub(super) fn put(connection: &Connection, row: &Row) -> Result<(), Error> {
    let mut statement = connection
        .prepare_cached(
            "INSERT INTO record (key, version, expires, generation, live, sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (key) DO UPDATE SET version = excluded.version, expires = excluded.expires,
                 generation = excluded.generation, live = excluded.live, sealed = excluded.sealed",
        )
        .map_err(fault)?;
    let Head { version, expires, generation, live } = row.head;
    let values = params![row.key.as_bytes(), version, expires, generation, live, row.sealed];
    statement.execute(values).map_err(fault).map(|_| ())
}

/// Puts the same record under another generation, unless it was written meanwhile.
pub(super) fn reseal(connection: &Connection, row: &Row) -> Result<(), Error> {
    let mut statement = connection
        .prepare_cached("UPDATE record SET generation = ?3, sealed = ?4 WHERE key = ?1 AND version = ?2")
        .map_err(fault)?;
    let values = params![row.key.as_bytes(), row.head.version, row.head.generation, row.sealed];
    statement.execute(values).map_err(fault).map(|_| ())
}

/// Forgets deletions up to this revision, at most so many. Gives how many.
pub(super) fn forget(connection: &Connection, until: u64, limit: usize) -> Result<usize, Error> {
    let text = "DELETE FROM record WHERE key IN
        (SELECT key FROM record WHERE version <= ?1 AND live = 0 ORDER BY version LIMIT ?2)";
    connection.execute(text, params![until, limit]).map_err(fault)
}

pub(super) fn counts(connection: &Connection) -> Result<Counts, Error> {
    let mut counts = Counts::default();
    let mut statement = connection
        .prepare_cached("SELECT generation, live, count(*) FROM record GROUP BY generation, live")
        .map_err(fault)?;
    let groups = statement
        .query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, bool>(1)?, row.get::<_, u64>(2)?)))
        .map_err(fault)?;
    for group in groups {
        let (generation, live, count) = group.map_err(fault)?;
        *if live { &mut counts.records } else { &mut counts.deleted } += count;
        match counts.generations.last_mut() {
            Some((number, sum)) if *number == generation => *sum += count,
            _ => counts.generations.push((generation, count)),
        }
    }
    let bytes = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
    counts.bytes = connection.query_row(bytes, [], |row| row.get(0)).map_err(fault)?;
    Ok(counts)
}

/// What SQLite finds wrong with its file, at most one line.
pub(super) fn check(connection: &Connection) -> Result<(), Error> {
    let found: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(fault)?;
    if found == "ok" { Ok(()) } else { Err(Error::Corrupt(found)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        for _ in 0..2 {
            let connection = connect(Some(&path)).unwrap();
            let log: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
            let sync: u32 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
            // 2: FULL, the log is synced at each commit.
            assert_eq!((log.as_str(), sync), ("wal", 2));
        }
    }
}
