//! The handle that everybody holds.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use model::{Clock, Timestamp};

use crate::backend::Backend;
use crate::barrier::{Barrier, Opened, Row, StoredKey, Unopened};
use crate::cache::{Cache, Known};
use crate::error::Error;
use crate::group::Prepared;
use crate::key::Key;
use crate::limits::{
    CACHE_BYTES_DEFAULT, CACHE_RECORDS_DEFAULT, SCAN_RECORDS_MAX, SEARCH_RECORDS_MAX,
    TRANSACTION_OPERATIONS_MAX,
};
use crate::postgres::{self, Postgres, PostgresSettings};
use crate::record::{Record, Value, Version};
use crate::rows::Range;
use crate::sqlite::{self, Sqlite};
use crate::transaction::{Expect, Transaction};
use crate::unseal::UnsealKey;

/// How much a store in a file keeps in memory. Both bounds hold; 0 of either: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Records.
    pub records_max: usize,
    /// Their keys and values, bytes.
    pub bytes_max: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { records_max: CACHE_RECORDS_DEFAULT, bytes_max: CACHE_BYTES_DEFAULT }
    }
}

/// A place between two records of a scan. Good for the same prefix, and as long as the
/// store exists; says nothing about hidden segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub(crate) StoredKey);

impl Cursor {
    /// As a text for a client: base64url.
    pub fn to_text(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.0.as_bytes())
    }

    /// Reads what [`Cursor::to_text`] wrote. Any text that a client invents is harmless:
    /// it names a place below the prefix, or none.
    ///
    /// # Errors
    /// [`Error::Usage`]: it is no base64url.
    pub fn parse(text: &str) -> Result<Self, Error> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text);
        bytes.map(|bytes| Self(StoredKey::from_bytes(bytes))).map_err(|_| Error::Usage("this is no cursor"))
    }
}

/// Records that a scan or a search found.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In the order of their stored keys.
    pub records: Vec<Record>,
    /// Where to go on; `None`: nothing is left.
    pub next: Option<Cursor>,
    /// How many records were looked at.
    pub examined: usize,
}

/// An unsealed store. Cheap to clone; all clones are the same store.
///
/// Every call is one moment: a page of a scan, a transaction, a record are never half old
/// and half new. What a call wrote when it returned is on disk, and every later call sees
/// it. A call that is dropped before it returns may still be done.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) barrier: Arc<Barrier>,
    pub(crate) backend: Backend,
    pub(crate) clock: Arc<dyn Clock>,
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Store({}, version {})", self.inner.backend.name(), self.version())
    }
}

impl Store {
    /// Makes a new store in a SQLite file, mode 0600. The folder must be there.
    ///
    /// # Errors
    /// [`Error::Initialised`], [`Error::File`], and as the database says.
    pub fn initialise_sqlite(path: &Path, unseal_key: &UnsealKey) -> Result<(), Error> {
        sqlite::initialise(path, unseal_key)
    }

    /// Opens the store in a SQLite file. Several processes may do so on one machine: what
    /// they write is exact, what one reads may be 50 ms behind what the other wrote.
    ///
    /// # Errors
    /// [`Error::Uninitialised`], [`Error::WrongKey`], [`Error::Format`],
    /// [`Error::Corrupt`], and as the database says.
    pub fn open_sqlite(
        path: &Path,
        unseal_key: UnsealKey,
        clock: Arc<dyn Clock>,
        cache: CacheLimits,
    ) -> Result<Self, Error> {
        Self::open(Some(path), unseal_key, clock, cache)
    }

    /// A new store in memory, for tests: gone with its last clone.
    ///
    /// # Errors
    /// [`Error::Cryptography`], [`Error::Unavailable`].
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::open(None, UnsealKey::generate()?, clock, CacheLimits::default())
    }

    /// Makes the tables of a new store in a PostgreSQL database, in the schema `bastide`.
    /// Of several processes that do so at once, one succeeds.
    ///
    /// # Errors
    /// [`Error::Initialised`], and as the database says.
    pub async fn initialise_postgres(
        settings: &PostgresSettings,
        unseal_key: &UnsealKey,
    ) -> Result<(), Error> {
        postgres::initialise(settings, unseal_key).await
    }

    /// Opens the store in a PostgreSQL database, 13 or newer, which several processes on
    /// several machines share. Must be called in a Tokio runtime, whose tasks keep the
    /// connections.
    ///
    /// # Errors
    /// [`Error::Uninitialised`], [`Error::WrongKey`], [`Error::Format`],
    /// [`Error::Settings`]: the server has `fsync` off. Otherwise as the database says.
    pub async fn open_postgres(
        settings: &PostgresSettings,
        unseal_key: UnsealKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let (postgres, barrier) = Postgres::open(settings.clone(), unseal_key, Arc::clone(&clock)).await?;
        Ok(Self::new(Inner { barrier, backend: Backend::Postgres(Box::new(postgres)), clock }))
    }

    /// Whether there is a store in a SQLite file.
    ///
    /// # Errors
    /// As the database says.
    pub fn is_initialised_sqlite(path: &Path) -> Result<bool, Error> {
        sqlite::is_initialised(path)
    }

    /// Whether there is a store in a PostgreSQL database.
    ///
    /// # Errors
    /// As the database says.
    pub async fn is_initialised_postgres(settings: &PostgresSettings) -> Result<bool, Error> {
        postgres::is_initialised(settings).await
    }

    fn open(
        path: Option<&Path>,
        unseal_key: UnsealKey,
        clock: Arc<dyn Clock>,
        cache: CacheLimits,
    ) -> Result<Self, Error> {
        let cache = Cache::new(cache.records_max, cache.bytes_max);
        let opening = sqlite::Opening { path, unseal_key, clock: Arc::clone(&clock), cache };
        let (sqlite, barrier) = Sqlite::open(opening)?;
        Ok(Self::new(Inner { barrier, backend: Backend::Sqlite(sqlite), clock }))
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The clock that decides what is past its end.
    pub fn clock(&self) -> &dyn Clock {
        self.inner.clock.as_ref()
    }

    /// The record of this key; `None`: there is none, or it is past its end.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unavailable`].
    pub async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        key.check()?;
        let record = self.inner.get(self.inner.barrier.stored_key(key)).await?;
        let now = self.inner.clock.now();
        let record = record.filter(|record| record.expires.is_none_or(|end| end > now));
        // Two texts with one hash: as good as impossible, and never taken for each other.
        match record {
            Some(record) if record.key != *key => {
                Err(Error::Corrupt("a record stands under the hash of another key".to_owned()))
            }
            other => Ok(other),
        }
    }

    /// Writes one record that is as expected until now, and gives its new version. From
    /// `expires` on it is absent.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn put(
        &self,
        key: Key,
        value: impl Into<Value>,
        expires: Option<Timestamp>,
        expect: Expect,
    ) -> Result<Version, Error> {
        self.commit(Transaction::new().put(key, value, expires, expect)).await
    }

    /// Removes one record that is as expected until now. With [`Expect::Any`], a record
    /// that is not there is no fault.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn delete(&self, key: Key, expect: Expect) -> Result<Version, Error> {
        self.commit(Transaction::new().delete(key, expect)).await
    }

    /// Does all operations of a transaction, or none, and gives the version that what it
    /// wrote has now. When it returns, that is on disk.
    ///
    /// # Errors
    /// [`Error::Conflict`]: an expectation does not hold. [`Error::TooLarge`],
    /// [`Error::Usage`], [`Error::Full`], [`Error::Unavailable`], [`Error::Corrupt`]:
    /// nothing was done. [`Error::Unknown`]: whether it was done is not known.
    pub async fn commit(&self, transaction: Transaction) -> Result<Version, Error> {
        let keyring = self.inner.barrier.keyring();
        let operations = transaction.checked()?.into_iter();
        let operations = operations.map(|operation| Prepared::new(operation, &keyring)).collect();
        self.inner.backend.commit(operations).await
    }

    /// Up to `limit` records below a prefix, after a cursor. The order is that of the
    /// stored keys: by words, by numbers, and for hidden segments one that means nothing
    /// but stays.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: more than [`SCAN_RECORDS_MAX`] are asked for.
    /// [`Error::Corrupt`], [`Error::Unavailable`].
    pub async fn scan(&self, prefix: &Key, after: Option<&Cursor>, limit: usize) -> Result<Page, Error> {
        if limit > SCAN_RECORDS_MAX {
            let what = "records of a page";
            return Err(Error::TooLarge { what, found: limit, most: SCAN_RECORDS_MAX });
        }
        prefix.check()?;
        let below = Range::below(&self.inner.barrier.stored_key(prefix));
        let range = match after {
            Some(cursor) => below.after(&cursor.0),
            None => below,
        };
        loop {
            let now = self.inner.clock.now().unix_nanos();
            // One more says whether there is more.
            let mut rows = self.inner.backend.range(range.clone(), now, limit + 1).await?;
            let more = rows.len() > limit;
            rows.truncate(limit);
            if let Some(records) = self.inner.records(&rows).await? {
                let next = rows.last().filter(|_| more).map(|row| Cursor(row.key.clone()));
                return Ok(Page { examined: records.len(), records, next });
            }
        }
    }

    /// All records below a prefix.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: there are more than `most`. Otherwise as [`Store::scan`].
    pub async fn scan_all(&self, prefix: &Key, most: usize) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        let mut after = None;
        loop {
            let page = self.scan(prefix, after.as_ref(), SCAN_RECORDS_MAX).await?;
            records.extend(page.records);
            if records.len() > most {
                return Err(Error::TooLarge { what: "records below a prefix", found: records.len(), most });
            }
            match page.next {
                Some(cursor) => after = Some(cursor),
                None => return Ok(records),
            }
        }
    }

    /// Up to `limit` records below a prefix that `wanted` accepts: what hashed keys and
    /// sealed values leave of a search is to read one after the other. After `examined_max`
    /// records, at most [`SEARCH_RECORDS_MAX`], it gives what it found and a cursor.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: `examined_max` is more. Otherwise as [`Store::scan`].
    pub async fn search(
        &self,
        prefix: &Key,
        after: Option<&Cursor>,
        limit: usize,
        examined_max: usize,
        mut wanted: impl FnMut(&Record) -> bool,
    ) -> Result<Page, Error> {
        if examined_max > SEARCH_RECORDS_MAX {
            let what = "records of a search";
            return Err(Error::TooLarge { what, found: examined_max, most: SEARCH_RECORDS_MAX });
        }
        let mut found = Page { next: after.cloned(), ..Page::default() };
        while found.examined < examined_max {
            let count = SCAN_RECORDS_MAX.min(examined_max - found.examined);
            let page = self.scan(prefix, found.next.as_ref(), count).await?;
            found.next = page.next;
            for record in page.records {
                found.examined += 1;
                let place = self.inner.barrier.stored_key(&record.key);
                if wanted(&record) {
                    found.records.push(record);
                    if found.records.len() == limit {
                        found.next = Some(Cursor(place));
                        return Ok(found);
                    }
                }
            }
            if found.next.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Removes everything below a prefix, in transactions of
    /// [`TRANSACTION_OPERATIONS_MAX`] records: not all at one moment. Gives how many.
    ///
    /// # Errors
    /// As [`Store::commit`]; what was removed until then stays so.
    pub async fn delete_all(&self, prefix: &Key) -> Result<usize, Error> {
        let mut removed = 0;
        loop {
            let page = self.scan(prefix, None, TRANSACTION_OPERATIONS_MAX).await?;
            if page.records.is_empty() {
                return Ok(removed);
            }
            removed += page.records.len();
            let keys = page.records.into_iter().map(|record| record.key);
            let transaction =
                keys.fold(Transaction::new(), |transaction, key| transaction.delete(key, Expect::Any));
            self.commit(transaction).await?;
        }
    }

    /// Whether nothing was written since the store had this version: then what was read of it
    /// since stands there still, but for what has come to its end. Of another process on the
    /// same file that is known as late as everything that it writes. Never so where every
    /// read asks the database (PostgreSQL): there nothing tells as soon.
    pub fn is_still(&self, version: Version) -> bool {
        self.inner.backend.is_still(version.number())
    }

    /// Why the database does not answer, by what the last attempts found: it is asked every second
    /// anyway, and not for this. `None`: it does.
    pub fn fault(&self) -> Option<String> {
        self.inner.backend.fault()
    }

    /// The version of the last transaction that changed something.
    pub fn version(&self) -> Version {
        Version::from_number(*self.inner.backend.revision().borrow())
    }
}

impl Inner {
    /// The record of a stored key, from memory or the database; what is past its end too.
    async fn get(&self, key: StoredKey) -> Result<Option<Record>, Error> {
        match self.backend.cached(&key) {
            Some(Known::Record(record)) => Ok(Some(record)),
            Some(Known::Absent) => Ok(None),
            // What waits for the database is large, and most that is read is in memory.
            None => Box::pin(self.read(key)).await,
        }
    }

    /// The same from the database.
    async fn read(&self, key: StoredKey) -> Result<Option<Record>, Error> {
        loop {
            let revision = *self.backend.revision().borrow();
            let row = self.backend.row(key.clone()).await?.filter(|row| row.head.live);
            let Some(mut records) = self.records(row.as_slice()).await? else { continue };
            let record = records.pop();
            self.backend.keep(key, record.clone().map_or(Known::Absent, Known::Record), revision);
            return Ok(record);
        }
    }

    /// Opens a row that was read a while ago, with a keyring that somebody has changed since if need
    /// be. `None`: it is not there any more as it was read; read again.
    pub(crate) async fn opened(&self, row: &Row) -> Result<Option<Opened>, Error> {
        for newer in [false, true] {
            if newer {
                self.barrier.take_keyring(&self.backend.keyring().await?)?;
            }
            match self.barrier.open(row) {
                Err(Unopened::Generation(_)) => {}
                opened => return Ok(Some(opened?)),
            }
        }
        // The keys of then have ended: it was put under others before, or it never was as it says.
        match self.backend.row(row.key.clone()).await? {
            Some(now) if now == *row => Err(Unopened::Generation(row.head.generation).into()),
            _ => Ok(None),
        }
    }

    /// The records that rows were which were read at one moment; `None`: some of it is not there any
    /// more as it was read, read all of it again.
    pub(crate) async fn records(&self, rows: &[Row]) -> Result<Option<Vec<Record>>, Error> {
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(Opened { key, value }) = self.opened(row).await? else { return Ok(None) };
            records.push(Record {
                key,
                value,
                version: Version::from_number(row.head.version),
                expires: row.head.expires.map(Timestamp::from_unix_nanos),
            });
        }
        Ok(Some(records))
    }
}
