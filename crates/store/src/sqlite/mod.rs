//! SQLite: the store of one machine. One thread writes and commits in groups, some read.

mod maintenance;
mod reader;
mod schema;
mod writer;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use model::Clock;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::barrier::{Barrier, Keyring, Row, StoredKey};
use crate::cache::{Cache, Known};
use crate::error::Error;
use crate::group::{Job, Prepared};
use crate::limits::WAITING_TRANSACTIONS_MAX;
use crate::record::Version;
use crate::rows::{Changes, Range};
use crate::unseal::UnsealKey;
use reader::Readers;
use writer::{Message, Writer, WriterTask};

/// A store in one file.
pub(crate) struct Sqlite {
    shared: Arc<Shared>,
    writer: mpsc::Sender<Message>,
    /// `None`: the database is in the writer's memory, and it reads too.
    readers: Option<Readers>,
    waiting: Arc<Semaphore>,
}

/// What the threads share.
struct Shared {
    barrier: Arc<Barrier>,
    cache: Cache,
    clock: Arc<dyn Clock>,
    /// The last revision that can be read.
    revision: watch::Sender<u64>,
}

/// How a store in a file is opened.
pub(crate) struct Opening<'a> {
    /// `None`: in memory, new.
    pub(crate) path: Option<&'a Path>,
    pub(crate) unseal_key: UnsealKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cache: Cache,
}

/// Makes the file of a new store, readable by its owner alone.
pub(crate) fn initialise(path: &Path, unseal_key: &UnsealKey) -> Result<(), Error> {
    let fault = |source| Error::File { path: path.to_owned(), source };
    // The write-ahead log and its index get the mode of the database.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(fault)?;
    let mut connection = schema::connect(Some(path))?;
    let (keyring, generation) = new_keyring(unseal_key)?;
    schema::initialise(&mut connection, &keyring, generation)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| PathBuf::from("."));
    File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| Error::File { path: folder.clone(), source })
}

/// Whether there is a store in this file.
pub(crate) fn is_initialised(path: &Path) -> Result<bool, Error> {
    if !path.exists() {
        return Ok(false);
    }
    Ok(schema::format(&schema::connect(Some(path))?)? != 0)
}

fn new_keyring(unseal_key: &UnsealKey) -> Result<(Vec<u8>, u32), Error> {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let keyring = Keyring::generate(&random)?;
    Ok((keyring.seal(unseal_key, &random)?, keyring.current()))
}

impl Sqlite {
    pub(crate) fn open(opening: Opening<'_>) -> Result<(Self, Arc<Barrier>), Error> {
        let Opening { path, unseal_key, clock, cache } = opening;
        // SQLite would make the file.
        if path.is_some_and(|path| !path.exists()) {
            return Err(Error::Uninitialised);
        }
        let mut connection = schema::connect(path)?;
        if path.is_none() {
            let (keyring, generation) = new_keyring(&unseal_key)?;
            schema::initialise(&mut connection, &keyring, generation)?;
        }
        schema::check_format(&connection)?;
        let keyring = Keyring::open(&schema::keyring(&connection)?, &unseal_key)?;
        let state = schema::state(&connection)?;
        state.check_keyring(&keyring)?;
        let barrier = Arc::new(Barrier::new(unseal_key, keyring));
        let shared = Arc::new(Shared {
            barrier: Arc::clone(&barrier),
            cache,
            clock,
            revision: watch::Sender::new(state.revision),
        });
        let readers = path.map(Readers::start).transpose()?;
        let (writer, inbox) = mpsc::channel();
        let writing = Writer::new(connection, Arc::clone(&shared), inbox);
        spawn("store-writer", move || writing.run())?;
        let waiting = Arc::new(Semaphore::new(WAITING_TRANSACTIONS_MAX));
        Ok((Self { shared, writer, readers, waiting }, barrier))
    }

    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Whether this is the last revision that can be read.
    pub(crate) fn is_still(&self, revision: u64) -> bool {
        *self.shared.revision.borrow() == revision
    }

    pub(crate) async fn commit(&self, operations: Vec<Prepared>) -> Result<Version, Error> {
        let permit = Arc::clone(&self.waiting).acquire_owned().await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job = Job { operations, reply, _permit: permit };
        self.writer.send(Message::Commit(job)).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// What the cache knows of a key; a record that is past its end too.
    pub(crate) fn cached(&self, key: &StoredKey) -> Option<Known> {
        self.shared.cache.get(key)
    }

    /// Keeps in the cache what was read at this revision or after it.
    pub(crate) fn keep(&self, key: StoredKey, known: Known, revision: u64) {
        self.shared.cache.keep(key, known, revision);
    }

    pub(crate) async fn row(&self, key: StoredKey) -> Result<Option<Row>, Error> {
        self.read(move |connection| schema::get(connection, key.as_bytes())).await
    }

    pub(crate) async fn range(&self, range: Range, now: u64, limit: usize) -> Result<Vec<Row>, Error> {
        self.read(move |connection| schema::range(connection, &range, now, limit)).await
    }

    pub(crate) async fn changes(&self, range: Range, since: u64, limit: usize) -> Result<Changes, Error> {
        self.read(move |connection| schema::changes(connection, &range, since, limit)).await
    }

    pub(crate) async fn keyring(&self) -> Result<Vec<u8>, Error> {
        self.read(|connection| schema::keyring(connection)).await
    }

    /// Does something on a connection that reads.
    async fn read<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(readers) = &self.readers else { return self.write(task).await };
        let (reply, answer) = oneshot::channel();
        readers.run(Box::new(move |connection: &mut Connection| {
            let _ = reply.send(task(connection));
        }))?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Does something on the connection that writes, between two commits.
    async fn write<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let task: WriterTask = Box::new(move |connection| {
            let done = task(connection);
            Box::new(move || drop(reply.send(done)))
        });
        self.writer.send(Message::Task(task)).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(|_| ()).map_err(|error| Error::Unavailable(format!("no thread: {error}")))
}
