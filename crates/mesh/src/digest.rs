//! Digests of executables: whoever starts a program of any size asks for one, so they are made by few at a
//! time, only as long as somebody waits, and not twice where nothing can have changed.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest::{Context, SHA256};
use keys::encoding::hex;
use tokio::sync::Semaphore;

/// Largest executable whose digest is made, bytes.
const EXECUTABLE_BYTES_MAX: u64 = 1 << 30;
/// Most digests that are made at once. Of the executables of one user it is one.
const MADE_AT_ONCE: usize = 2;
/// Most that are kept.
const KEPT_MAX: usize = 1_024;
/// What is read at once, bytes; then it is seen whether anybody still waits.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Which file it is, in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl FileState {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified_ns: (meta.mtime(), meta.mtime_nsec()),
            changed_ns: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// That of whatever a path leads to.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|meta| Self::of(&meta))
    }
}

/// A file that is open to be read.
#[derive(Debug)]
pub(crate) struct Executable {
    file: File,
    state: FileState,
    /// Whether only root, or this process' own user, can write to it.
    is_settled: bool,
}

impl Executable {
    /// Opens it.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if meta.size() > EXECUTABLE_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let is_ours = meta.uid() == 0 || meta.uid() == rustix::process::geteuid().as_raw();
        let is_settled = is_ours && meta.mode() & 0o022 == 0;
        Ok(Self { file, state: FileState::of(&meta), is_settled })
    }
}

/// The digest of a file in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) of: FileState,
    /// SHA-256, lower-case hexadecimal.
    pub(crate) sha256: String,
}

/// Makes digests.
#[derive(Clone, Debug)]
pub struct Digests(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kept: Mutex<HashMap<FileState, String>>,
    turns: Arc<Semaphore>,
    users: Mutex<HashMap<u32, Weak<Semaphore>>>,
}

impl Default for Digests {
    fn default() -> Self {
        let turns = Arc::new(Semaphore::new(MADE_AT_ONCE));
        Self(Arc::new(Inner { kept: Mutex::default(), turns, users: Mutex::default() }))
    }
}

/// Set when nobody waits any more.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Digests {
    /// The digest of an executable that a user runs; `None`: it cannot be read. Dropped, it is made no
    /// further.
    pub(crate) async fn of(&self, uid: u32, executable: Executable) -> Option<Digest> {
        let state = executable.state;
        let found = |sha256| Digest { of: state, sha256 };
        if let Some(sha256) = self.kept(&executable) {
            return Some(found(sha256));
        }
        // A user's own turn comes first, so that of each at most one waits for those of all.
        let own = self.of_user(uid).acquire_owned().await.ok()?;
        if let Some(sha256) = self.kept(&executable) {
            return Some(found(sha256));
        }
        let turn = Arc::clone(&self.0.turns).acquire_owned().await.ok()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let _wanted = Wanted(Arc::clone(&is_over));
        let is_settled = executable.is_settled;
        let made = tokio::task::spawn_blocking(move || {
            // The turns are over when nothing is read any more, not when nobody waits any more.
            let _turns = (own, turn);
            sha256(executable.file, &is_over)
        });
        let sha256 = made.await.ok()?.ok()?;
        if is_settled {
            self.keep(state, &sha256);
        }
        Some(found(sha256))
    }

    /// INVARIANT: only of files that nobody else can write to. Whoever can may write through a mapping, which
    /// changes no time of a file on tmpfs.
    fn kept(&self, executable: &Executable) -> Option<String> {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&executable.state).filter(|_| executable.is_settled).cloned()
    }

    fn keep(&self, state: FileState, sha256: &str) {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(state, sha256.to_owned());
    }

    fn of_user(&self, uid: u32) -> Arc<Semaphore> {
        let mut users = self.0.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = users.get(&uid).and_then(Weak::upgrade) {
            return known;
        }
        users.retain(|_, known| known.strong_count() > 0);
        let turn = Arc::new(Semaphore::new(1));
        users.insert(uid, Arc::downgrade(&turn));
        turn
    }
}

fn sha256(file: File, is_over: &AtomicBool) -> std::io::Result<String> {
    let mut file = file.take(EXECUTABLE_BYTES_MAX + 1);
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; READ_BYTES_MAX];
    let mut total = 0;
    loop {
        if is_over.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(digest.finish().as_ref()));
        }
        total += count as u64;
        if total > EXECUTABLE_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        digest.update(buffer.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;

    /// One that is read for as long as the other end says.
    fn slow(inode: u64) -> (Executable, PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        let file = File::from(OwnedFd::from(reader));
        let state = FileState { device: 1, inode, bytes: 0, modified_ns: (1, 1), changed_ns: (1, 1) };
        (Executable { file, state, is_settled: true }, writer)
    }

    /// The SHA-256 of a text.
    fn expected(text: &[u8]) -> String {
        hex(aws_lc_rs::digest::digest(&SHA256, text).as_ref())
    }

    async fn for_a_while<T>(wanted: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_millis(50), wanted).await.ok()
    }

    /// Waits until so many turns are free.
    async fn turns_are(digests: &Digests, count: usize) {
        let reached = async {
            while digests.0.turns.available_permits() != count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached).await.unwrap();
    }

    #[tokio::test]
    async fn one_is_made_for_each_user_and_so_many_for_all() {
        let digests = Digests::default();
        let begin = |uid: u32, inode: u64| {
            let (executable, writer) = slow(inode);
            let digests = digests.clone();
            (tokio::spawn(async move { digests.of(uid, executable).await }), writer)
        };
        let (first, first_writer) = begin(1, 1);
        turns_are(&digests, MADE_AT_ONCE - 1).await;
        let (second, second_writer) = begin(1, 2);
        // Of the second nothing more is made than it waits, although there is a turn.
        drop(second_writer);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!second.is_finished());
        turns_are(&digests, MADE_AT_ONCE - 1).await;
        // Another user has a turn of their own.
        let (other, other_writer) = begin(2, 3);
        turns_are(&digests, 0).await;
        let (late, late_writer) = begin(3, 4);
        drop(late_writer);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!late.is_finished(), "one more than all have");
        drop((first_writer, other_writer));
        for task in [first, second, other, late] {
            assert_eq!(task.await.unwrap().unwrap().sha256, expected(b""));
        }
        assert!(digests.0.users.lock().unwrap().len() <= 3);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_made_no_further() {
        let digests = Digests::default();
        let (executable, mut writer) = slow(1);
        assert!(for_a_while(digests.of(1, executable)).await.is_none());
        // The read that it was at still ends; then no other begins, though there is more to read.
        writer.write_all(b"more").unwrap();
        turns_are(&digests, MADE_AT_ONCE).await;
        assert!(digests.0.kept.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_file_that_only_root_can_write_to_is_read_once_in_each_state() {
        let digests = Digests::default();
        let (executable, writer) = slow(1);
        drop(writer);
        assert_eq!(digests.of(1, executable).await.unwrap().sha256, expected(b""));
        // The same state: what is in it is not looked at, by whoever asks.
        for uid in [1, 2] {
            let (executable, _writer) = slow(1);
            assert_eq!(
                for_a_while(digests.of(uid, executable)).await.unwrap().unwrap().sha256,
                expected(b"")
            );
        }
        let changed = |change: fn(&mut Executable)| {
            let (mut executable, mut writer) = slow(1);
            change(&mut executable);
            writer.write_all(b"other").unwrap();
            executable
        };
        let changes: [fn(&mut Executable); 6] = [
            |other| other.state.device += 1,
            |other| other.state.inode += 1,
            |other| other.state.bytes += 1,
            |other| other.state.modified_ns.1 += 1,
            |other| other.state.changed_ns.1 += 1,
            |other| other.is_settled = false,
        ];
        for change in changes {
            assert_eq!(digests.of(1, changed(change)).await.unwrap().sha256, expected(b"other"));
        }
        // What others can write to is not kept either.
        let (executable, _writer) = slow(1);
        assert_eq!(digests.of(1, executable).await.unwrap().sha256, expected(b""));
    }

    #[test]
    fn only_so_many_are_kept() {
        let digests = Digests::default();
        let (executable, _writer) = slow(0);
        let most = u64::try_from(KEPT_MAX).unwrap();
        for inode in 0..=most {
            digests.keep(FileState { inode, ..executable.state }, "");
        }
        assert_eq!(digests.0.kept.lock().unwrap().len(), 1);
    }

    #[test]
    fn who_else_can_write_to_a_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, "text").unwrap();
        for (mode, expected) in [(0o755, true), (0o775, false), (0o757, false), (0o600, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Executable::open(&path).unwrap().is_settled, expected, "{mode:o}");
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(4011), None).unwrap();
            assert!(!Executable::open(&path).unwrap().is_settled);
        }
        for (bytes, is_read) in [(EXECUTABLE_BYTES_MAX, true), (EXECUTABLE_BYTES_MAX + 1, false)] {
            File::create(&path).unwrap().set_len(bytes).unwrap();
            assert_eq!(Executable::open(&path).is_ok(), is_read, "{bytes}");
        }
    }
}
