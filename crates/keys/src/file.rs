//! Secrets in files: readable by the owner alone, replaced whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SecureRandom;
use zeroize::Zeroizing;

use crate::encoding::hex;
use crate::error::Error;

/// Reads a file of at most so many bytes.
pub(crate) fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    read_open(&File::open(path)?, bytes_max)
}

fn read_open(file: &File, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        let why = format!("more than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(bytes)
}

/// Reads a secret, unless others may read it too. `None` when there is no such file.
pub(crate) fn read_secret(path: &Path, bytes_max: usize) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let fault = |source| Error::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    // Asked of the open file, so that it cannot be swapped between check and reading.
    let mode = file.metadata().map_err(fault)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("others may use this secret (mode {mode:03o}); expected 600: chmod 600 it");
        return Err(Error::Content { path: path.to_owned(), why });
    }
    read_open(&file, bytes_max).map(|bytes| Some(Zeroizing::new(bytes))).map_err(fault)
}

/// Writes a file beside its place, makes it durable, then moves it there: a reader
/// and a crash see the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32, random: &dyn SecureRandom) -> Result<(), Error> {
    let fault = |source| Error::File { path: path.to_owned(), source };
    let mut suffix = [0; 8];
    random.fill(&mut suffix).map_err(|_| Error::Cryptography("random numbers"))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", hex(&suffix)));
    let beside = folder.join(name);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        fault(error)
    })
}

/// Holds other processes off while a file is read, changed and replaced. Released
/// when dropped or when the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of `path`, a file beside it that stays.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        let open = || {
            let options = &mut OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).mode(0o600).open(&lock)?;
            file.lock()?;
            Ok(file)
        };
        open().map(|file| Self { _file: file }).map_err(|source| Error::File { path: lock, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_more_bytes_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for bytes in [0, 99, 100, 101, 100_000] {
            std::fs::write(&path, vec![b'x'; bytes]).unwrap();
            assert_eq!(read_bounded(&path, 100).is_ok(), bytes <= 100, "{bytes}");
        }
    }
}
