//! The files of the log: `access-0000000042-1795384267123.jsonl`, by number and by the
//! milliseconds since the epoch when the file was begun.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use model::Timestamp;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::Error;

const PREFIX: &str = "access-";
const SUFFIX: &str = ".jsonl";
const LOCK_NAME: &str = "access.lock";

/// One file's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    /// Counts up, whatever the clock does.
    pub(crate) number: u64,
    /// When it was begun.
    pub(crate) begun_millis: u64,
}

impl Segment {
    pub(crate) fn next(previous: Option<&Self>, now: Timestamp) -> Self {
        Self { number: previous.map_or(1, |p| p.number.saturating_add(1)), begun_millis: now.unix_millis() }
    }

    pub(crate) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{PREFIX}{:010}-{}{SUFFIX}", self.number, self.begun_millis))
    }

    fn parse(name: &str) -> Option<Self> {
        let (number, begun) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(number) && digits(begun)).then_some(())?;
        Some(Self { number: number.parse().ok()?, begun_millis: begun.parse().ok()? })
    }
}

/// The segments of a folder, oldest first. Other files are none of ours.
pub(crate) fn list(folder: &Path) -> Result<Vec<Segment>, Error> {
    let failed = |source| Error::Io { doing: "list", path: folder.to_owned(), source };
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        segments.extend(name.to_str().and_then(Segment::parse));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Makes the folder and takes the lock that keeps a second process out. The lock ends
/// with the file handle.
pub(crate) fn lock(folder: &Path) -> Result<File, Error> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make", folder))?;
    let path = folder.join(LOCK_NAME);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::InUse { folder: folder.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

/// Opens a segment for appending and gives its length.
pub(crate) fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Takes room on the disk for so many bytes behind the end of the file, which stays where it is. A file
/// system that cannot say is believed to have it.
pub(crate) fn make_room(file: &File, length: u64, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, length, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        made => Ok(made?),
    }
}

/// Whether the file's last line lacks its newline.
pub(crate) fn is_torn(file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// Deletes the oldest segments until `keep` are left. Gives how many went.
pub(crate) fn prune(folder: &Path, keep: usize) -> Result<usize, Error> {
    let segments = list(folder)?;
    let excess = segments.len().saturating_sub(keep.max(1));
    for segment in segments.iter().take(excess) {
        let path = segment.path(folder);
        fs::remove_file(&path).map_err(|source| Error::Io { doing: "delete", path, source })?;
    }
    Ok(excess)
}

/// The whole of a segment, for the reader.
pub(crate) fn read(path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(0))?;
    into.clear();
    file.read_to_end(into)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_others_ignored() {
        let segment = Segment { number: 42, begun_millis: 1_795_384_267_123 };
        let path = segment.path(Path::new("/x"));
        assert_eq!(path, Path::new("/x/access-0000000042-1795384267123.jsonl"));
        assert_eq!(Segment::parse(path.file_name().unwrap().to_str().unwrap()), Some(segment));
        for other in [
            "access.lock",
            "access-1-2.jsonl.gz",
            "access--2.jsonl",
            "access-+1-2.jsonl",
            "access-1-x.jsonl",
            "access-1-2-3.jsonl",
            "access-99999999999999999999-1.jsonl",
        ] {
            assert_eq!(Segment::parse(other), None, "{other}");
        }
    }

    #[test]
    fn numbers_order_segments_when_the_clock_went_back() {
        let first = Segment::next(None, Timestamp::from_unix_seconds(100));
        let second = Segment::next(Some(&first), Timestamp::from_unix_seconds(50));
        assert!(first < second);
    }
}
