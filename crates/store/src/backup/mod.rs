//! A whole store in one file, taken and put back while it runs.
//!
//! A backup holds the rows as they lie in the database, sealed, with the keyring that they
//! were sealed under, itself sealed under the unseal key; and at its end an HMAC over all
//! of it under a key of that keyring. It says as little as the database does.

mod format;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::barrier::{Barrier, Keyring, Opened, Plain, Row};
use crate::error::Error;
use crate::record::Version;
use crate::rows::{Exported, Incoming, PIECE_ROWS, PIECES_WAITING, Restored};
use crate::store::Store;
use crate::unseal::UnsealKey;
use format::{Reader, Writer};

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Records.
    pub records: u64,
    /// The version of the last transaction that is in it.
    pub version: Version,
    /// Its file, bytes.
    pub bytes: u64,
}

impl Store {
    /// Writes the whole store, as it is at one moment, to a new file of mode 0600, and
    /// reads it back to the last record. Reading and writing go on meanwhile.
    ///
    /// # Errors
    /// [`Error::File`]: there is such a file, or it cannot be written. [`Error::Corrupt`]:
    /// what is stored, or what was written, does not open. Then there is no file.
    pub async fn backup(&self, path: &Path) -> Result<Backup, Error> {
        let inner = self.inner();
        let file = NewFile::create(path)?;
        let (pieces, taken) = mpsc::channel(PIECES_WAITING);
        let barrier = Arc::clone(&inner.barrier);
        let writing = in_thread(move || write(file, taken, &barrier))?;
        let (exported, written) = tokio::join!(inner.backend.export(pieces), writing);
        let file = match (exported, written.map_err(|_| Error::Closed)?) {
            // The one ends early because the other did: what happened first is told.
            (Err(Error::Closed), Err(why)) | (Err(why), Err(_)) => return Err(why),
            (exported, written) => exported.and(written)?,
        };
        let barrier = Arc::clone(&inner.barrier);
        let checking = in_thread(move || {
            let backup = check(&file.beside, |sealed| barrier.open_keyring(sealed))?;
            file.keep().map(|()| backup)
        })?;
        checking.await.map_err(|_| Error::Closed)?
    }

    /// Puts what a backup holds in the place of everything, at one moment: before it, or
    /// when it fails, all is as it was. Records get a new version, so that nobody who read
    /// an older one overwrites them; watchers are told to read anew. `unseal_key`: that of
    /// the backup, when it is of a store with another one.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: the backup was changed or cut off. [`Error::WrongKey`].
    /// [`Error::File`]. Otherwise as [`Store::commit`].
    pub async fn restore(&self, path: &Path, unseal_key: Option<UnsealKey>) -> Result<Backup, Error> {
        let inner = self.inner();
        let barrier = Arc::clone(&inner.barrier);
        let now = self.clock().now();
        let (records, taken) = mpsc::channel(PIECES_WAITING);
        let path = path.to_owned();
        let reading = in_thread(move || {
            let open = |sealed: &[u8]| match &unseal_key {
                Some(unseal_key) => Keyring::open(sealed, unseal_key),
                None => barrier.open_keyring(sealed),
            };
            let current = barrier.keyring();
            let send = |piece| records.blocking_send(piece).map_err(|_| Error::Closed);
            let mut piece = Vec::with_capacity(PIECE_ROWS);
            let read = read(&path, open, |row, Opened { key, value }| {
                if row.head.is_present(now) {
                    let plain = Plain::new(&key, &value);
                    piece.push(Restored { key: current.stored_key(&key), plain, expires: row.head.expires });
                }
                if piece.len() == PIECE_ROWS {
                    let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_ROWS));
                    return send(Incoming::Records(full));
                }
                Ok(())
            });
            // INVARIANT: what was handed on is restored only after the end of a whole backup.
            let backup = read?;
            send(Incoming::Records(piece))?;
            send(Incoming::End).map(|()| backup)
        })?;
        let (restored, read) = tokio::join!(inner.backend.restore(taken), reading);
        match (restored, read.map_err(|_| Error::Closed)?) {
            (Err(Error::Closed), Err(why)) | (Err(why), _) => Err(why),
            (Ok(records), read) => read.map(|backup| Backup { records, ..backup }),
        }
    }
}

/// Reads a backup to its end: that it is whole, unchanged, and that each record opens.
///
/// # Errors
/// [`Error::Corrupt`], [`Error::WrongKey`], [`Error::File`].
pub fn check_backup(path: &Path, unseal_key: &UnsealKey) -> Result<Backup, Error> {
    check(path, |sealed| Keyring::open(sealed, unseal_key))
}

fn check(path: &Path, open: impl Fn(&[u8]) -> Result<Keyring, Error>) -> Result<Backup, Error> {
    read(path, open, |_, _| Ok(()))
}

/// Reads a backup and hands on what each row was made from. What was handed on counts only
/// when this ends well.
fn read(
    path: &Path,
    open: impl Fn(&[u8]) -> Result<Keyring, Error>,
    mut hand: impl FnMut(&Row, Opened) -> Result<(), Error>,
) -> Result<Backup, Error> {
    let fault = |source| Error::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(fault)?;
    let bytes = file.metadata().map_err(fault)?.len();
    let (mut reader, keyring) = Reader::begin(BufReader::new(file), open)?;
    let mut records = 0;
    while let Some(row) = reader.row()? {
        hand(&row, keyring.open_row(&row)?)?;
        records += 1;
    }
    Ok(Backup { records, version: reader.version, bytes })
}

/// Writes the pieces of an export.
fn write(file: NewFile, mut pieces: mpsc::Receiver<Exported>, barrier: &Barrier) -> Result<NewFile, Error> {
    let cut_off = || Error::Unavailable("the store could not be read to its end".to_owned());
    let fault = |error| file.fault(error);
    let Some(Exported::Head { state, keyring }) = pieces.blocking_recv() else { return Err(cut_off()) };
    let opened = barrier.open_keyring(&keyring)?;
    let output = BufWriter::new(file.open.try_clone().map_err(fault)?);
    let version = Version::from_number(state.revision);
    let mut writer = Writer::begin(output, &opened, &keyring, version).map_err(fault)?;
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Exported::Head { .. } => return Err(cut_off()),
            Exported::Rows(rows) => {
                for row in rows.iter().filter(|row| row.head.live) {
                    writer.row(row).map_err(fault)?;
                }
            }
            Exported::End => {
                writer.end().map_err(fault)?;
                file.open.sync_all().map_err(fault)?;
                return Ok(file);
            }
        }
    }
    Err(cut_off())
}

/// A file that appears under its name when it is whole. Until then it is locked and has `.new`
/// after its name; what a killed process left there is written anew.
struct NewFile {
    path: PathBuf,
    beside: PathBuf,
    open: File,
}

impl NewFile {
    fn create(path: &Path) -> Result<Self, Error> {
        let fault = |source| Error::File { path: path.to_owned(), source };
        if path.exists() {
            let why = "there is one already, and it is left as it is";
            return Err(fault(io::Error::new(ErrorKind::AlreadyExists, why)));
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let open = alone(&beside).map_err(|source| Error::File { path: beside.clone(), source })?;
        Ok(Self { path: path.to_owned(), beside, open })
    }

    /// Gives it its name.
    fn keep(&self) -> Result<(), Error> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let kept = std::fs::rename(&self.beside, &self.path);
        let kept = kept.and_then(|()| File::open(folder.unwrap_or(Path::new(".")))?.sync_all());
        kept.map_err(|error| self.fault(error))
    }

    fn fault(&self, source: io::Error) -> Error {
        Error::File { path: self.path.clone(), source }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.beside);
    }
}

/// A new file of mode 0600, locked; what a killed process left in its place is removed.
fn alone(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let made = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            remove_left_over(path)?;
            options.open(path)
        }
        made => made,
    }?;
    lock(&made)?;
    Ok(made)
}

fn remove_left_over(path: &Path) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let left = File::from(rustix::fs::open(path, OFlags::RDONLY | flags, Mode::empty())?);
    lock(&left)?;
    // Whoever held the lock may have given the file its name in between.
    let (locked, named) = (left.metadata()?, std::fs::symlink_metadata(path)?);
    if (locked.dev(), locked.ino()) != (named.dev(), named.ino()) {
        return Err(busy());
    }
    std::fs::remove_file(path)
}

fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => busy(),
        TryLockError::Error(error) => error,
    })
}

fn busy() -> io::Error {
    io::Error::new(ErrorKind::ResourceBusy, "another backup is writing it")
}

/// Runs what blocks on a thread of its own.
fn in_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<oneshot::Receiver<Result<T, Error>>, Error> {
    let (reply, answer) = oneshot::channel();
    let work = move || {
        let _ = reply.send(run());
    };
    let spawned = thread::Builder::new().name("store-backup".to_owned()).spawn(work);
    spawned.map(|_| answer).map_err(|error| Error::Unavailable(format!("no thread: {error}")))
}
