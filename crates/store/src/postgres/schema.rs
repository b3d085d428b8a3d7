//! The tables, the statements that are run on them, and what their faults mean.

use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, Row as SqlRow, Statement};

use crate::barrier::{Head, Row, StoredKey};
use crate::error::Error;
use crate::rows::{Changes, State};

/// The format of the tables that this version makes and knows.
pub(super) const FORMAT: u32 = 1;
/// Migrations of several processes wait for each other at this number.
const MIGRATION_LOCK: i64 = 0x4241_5354_4944_4531;
/// Where changes are told.
pub(super) const CHANNEL: &str = "bastide_store";

/// What leads from each format to the next, from none on.
const MIGRATIONS: &[&str] = &["
CREATE TABLE bastide.store_state (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    revision BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    compacted BIGINT NOT NULL,
    keyring BYTEA NOT NULL
);
CREATE TABLE bastide.store_record (
    key BYTEA PRIMARY KEY,
    version BIGINT NOT NULL,
    expires BIGINT,
    generation BIGINT NOT NULL,
    live BOOLEAN NOT NULL,
    sealed BYTEA NOT NULL
);
ALTER TABLE bastide.store_record ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX store_record_version ON bastide.store_record (version, key);
CREATE INDEX store_record_expires ON bastide.store_record (expires) WHERE expires IS NOT NULL;
"];

/// What each session is set to. What the server's own settings say about durability does
/// not count here, except for `fsync`, which only it can switch.
pub(super) const SESSION: &str = "
SET synchronous_commit = on;
SET statement_timeout = '30s';
SET lock_timeout = '10s';
SET idle_in_transaction_session_timeout = '10s';
SET default_transaction_isolation = 'read committed';
SET search_path = pg_catalog";

/// Writes rows, given by columns, in the place of those that stand there.
pub(super) const PUT: &str =
    "INSERT INTO bastide.store_record (key, version, expires, generation, live, sealed)
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bool[], $6::bytea[])
    ON CONFLICT (key) DO UPDATE SET version = excluded.version, expires = excluded.expires,
        generation = excluded.generation, live = excluded.live, sealed = excluded.sealed";
/// Tells a number in a channel.
pub(super) const NOTIFY: &str = "SELECT pg_notify($1::text, $2::text)";

/// The statements of one session, prepared.
pub(super) struct Statements {
    pub(super) get: Statement,
    pub(super) get_many: Statement,
    pub(super) range: Statement,
    pub(super) changes: Statement,
    pub(super) state: Statement,
    pub(super) keyring: Statement,
    pub(super) lock: Statement,
    pub(super) put: Statement,
    pub(super) set_revision: Statement,
    pub(super) notify: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let get = select!("WHERE key = $1");
        let get_many = select!("WHERE key = ANY($1)");
        let range = select!(
            "WHERE key >= $1 AND key < $2 AND live AND (expires IS NULL OR expires > $3) ORDER BY key LIMIT $4"
        );
        let changes = concat!(
            "SELECT r.key, r.version, r.expires, r.generation, r.live, r.sealed,
                s.revision, s.generation, s.compacted
            FROM bastide.store_state s LEFT JOIN LATERAL (",
            select!("WHERE version > $1 AND key >= $2 AND key < $3 ORDER BY version, key LIMIT $4"),
            ") r ON true ORDER BY r.version, r.key"
        );
        let state = "SELECT revision, generation, compacted FROM bastide.store_state";
        let lock = "SELECT revision, generation, compacted FROM bastide.store_state FOR UPDATE";
        let set_revision = "UPDATE bastide.store_state SET revision = $1";
        let all = [get, get_many, range, changes, state, KEYRING, lock, PUT, set_revision, NOTIFY];
        let mut prepared = Vec::with_capacity(all.len());
        for text in all {
            prepared.push(client.prepare(text).await.map_err(|error| fault(&error))?);
        }
        let [get, get_many, range, changes, state, keyring, lock, put, set_revision, notify] =
            <[Statement; 10]>::try_from(prepared).map_err(|_| Error::Closed)?;
        Ok(Self { get, get_many, range, changes, state, keyring, lock, put, set_revision, notify })
    }
}

/// What a fault of PostgreSQL means for the caller, when nothing was committed.
pub(super) fn fault(error: &tokio_postgres::Error) -> Error {
    let text = match error.as_db_error() {
        Some(told) => format!("{}: {}", told.code().code(), told.message()),
        None => {
            let source = std::error::Error::source(error).map(|source| format!(": {source}"));
            format!("{error}{}", source.unwrap_or_default())
        }
    };
    let Some(code) = error.code() else { return Error::Unavailable(text) };
    let full = [SqlState::DISK_FULL, SqlState::OUT_OF_MEMORY, SqlState::INSUFFICIENT_RESOURCES];
    let corrupt = [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED];
    let uninitialised = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
    if full.contains(code) {
        Error::Full(text)
    } else if corrupt.contains(code) {
        Error::Corrupt(text)
    } else if uninitialised.contains(code) {
        Error::Uninitialised
    } else {
        Error::Unavailable(text)
    }
}

/// Whether this is the end of a connection. With FATAL and PANIC the server says so, a moment before
/// the client sees it closed ("Error and Notice Message Fields" of PostgreSQL's protocol).
pub(super) fn ends(error: &tokio_postgres::Error, client: &Client) -> bool {
    let said = error.as_db_error().and_then(tokio_postgres::error::DbError::parsed_severity);
    error.is_closed() || client.is_closed() || matches!(said, Some(Severity::Fatal | Severity::Panic))
}

/// A number as the database keeps it; ours stay below 2^63.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| Error::Corrupt(format!("{number} stands where no negative number can")))
}

fn generation(number: i64) -> Result<u32, Error> {
    u32::try_from(number)
        .map_err(|_| Error::Corrupt(format!("{number} stands where a generation is expected")))
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a SqlRow, place: usize) -> Result<T, Error> {
    row.try_get(place).map_err(|error| Error::Corrupt(error.to_string()))
}

pub(super) fn read_row(row: &SqlRow) -> Result<Row, Error> {
    let head = Head {
        version: unsigned(column(row, 1)?)?,
        expires: column::<Option<i64>>(row, 2)?.map(unsigned).transpose()?,
        generation: generation(column(row, 3)?)?,
        live: column(row, 4)?,
    };
    Ok(Row { key: StoredKey::from_bytes(column(row, 0)?), head, sealed: column(row, 5)? })
}

pub(super) fn read_rows(rows: &[SqlRow]) -> Result<Vec<Row>, Error> {
    rows.iter().map(read_row).collect()
}

pub(super) fn read_state(row: &SqlRow) -> Result<State, Error> {
    read_state_after(row, 0)
}

/// Rows beside the state of the same moment; it stands in each, and alone when there are
/// none.
pub(super) fn read_changes(rows: &[SqlRow]) -> Result<Changes, Error> {
    let first = rows.first().ok_or(Error::Uninitialised)?;
    let state = read_state_after(first, 6)?;
    let is_alone = column::<Option<&[u8]>>(first, 0)?.is_none();
    Ok(Changes { rows: if is_alone { Vec::new() } else { read_rows(rows)? }, state })
}

fn read_state_after(row: &SqlRow, columns: usize) -> Result<State, Error> {
    Ok(State {
        revision: unsigned(column(row, columns)?)?,
        generation: generation(column(row, columns + 1)?)?,
        compacted: unsigned(column(row, columns + 2)?)?,
    })
}

/// The keyring, sealed.
const KEYRING: &str = "SELECT keyring FROM bastide.store_state";

pub(super) fn read_keyring(row: Option<&SqlRow>) -> Result<Vec<u8>, Error> {
    column(row.ok_or(Error::Uninitialised)?, 0)
}

pub(super) async fn keyring(client: &Client) -> Result<Vec<u8>, Error> {
    let row = client.query_opt(KEYRING, &[]).await;
    read_keyring(row.map_err(|error| fault(&error))?.as_ref())
}

/// The format of the tables; 0: there are none.
pub(super) async fn format(client: &Client) -> Result<u32, Error> {
    let there = "SELECT to_regclass('bastide.store_format') IS NOT NULL";
    let there = client.query_one(there, &[]).await.map_err(|error| fault(&error))?;
    if !column::<bool>(&there, 0)? {
        return Ok(0);
    }
    let row = client.query_opt("SELECT format FROM bastide.store_format", &[]).await;
    let format: Option<i32> = row.map_err(|error| fault(&error))?.map(|row| column(&row, 0)).transpose()?;
    Ok(format.and_then(|format| u32::try_from(format).ok()).unwrap_or(0))
}

/// Brings the tables to the format of this version, one process at a time; `keyring` is
/// that of a new store.
pub(super) async fn migrate(client: &mut Client, keyring: Option<(&[u8], u32)>) -> Result<(), Error> {
    let wrong = |error| fault(&error);
    let transaction = client.transaction().await.map_err(wrong)?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await.map_err(wrong)?;
    let found = format(transaction.client()).await?;
    match keyring {
        None if found == 0 => return Err(Error::Uninitialised),
        Some(_) if found > 0 => return Err(Error::Initialised),
        _ if found > FORMAT => return Err(Error::Format { found, known: FORMAT }),
        _ if found == FORMAT => return Ok(()),
        _ => {}
    }
    if found == 0 {
        let tables = "CREATE SCHEMA IF NOT EXISTS bastide;
            CREATE TABLE IF NOT EXISTS bastide.store_format (format INTEGER NOT NULL);
            DELETE FROM bastide.store_format;
            INSERT INTO bastide.store_format VALUES (0)";
        transaction.batch_execute(tables).await.map_err(wrong)?;
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        transaction.batch_execute(migration).await.map_err(wrong)?;
    }
    let format = i32::try_from(FORMAT).unwrap_or(i32::MAX);
    transaction.execute("UPDATE bastide.store_format SET format = $1", &[&format]).await.map_err(wrong)?;
    if let Some((keyring, generation)) = keyring {
        let state = "INSERT INTO bastide.store_state (revision, generation, compacted, keyring)
            VALUES (0, $1, 0, $2)";
        transaction.execute(state, &[&i64::from(generation), &keyring]).await.map_err(wrong)?;
    }
    transaction.commit().await.map_err(wrong)
}
