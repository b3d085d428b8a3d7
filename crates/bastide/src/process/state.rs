//! The state folder: made on first use, readable by its owner alone, held by one
//! process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The revocation list in the state folder.
pub const REVOCATIONS: &str = "revocations.json";
/// The key that signs for upstreams who asks, in the state folder.
pub const IDENTITY_KEY: &str = "identity.key";
/// The folder of the local certificate authority, in the state folder.
pub const LOCAL_AUTHORITY: &str = "ca";
/// The folder of what was got by ACME, in the state folder.
pub const ACME: &str = "acme";

/// A state folder that this process holds. Dropped, it is free again.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    lock: File,
}

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Somebody else holds it.
    #[error(
        "{path}: another bastide (process {holder}) already runs on this state folder; stop it or set another `state:`"
    )]
    Held {
        /// The folder.
        path: PathBuf,
        /// The other process' id, as it wrote it.
        holder: String,
    },
    /// Others can read what lies there.
    #[error("{path}: mode {mode:o} lets others in; it holds private keys: chmod 700 {path}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// The permission bits found.
        mode: u32,
    },
    /// Somebody else can take it away and put another in its place.
    #[error("{path}: belongs to user {owner}, and this process runs as user {user}: {}, or set another `state:`",
        way_out(path, *owner, *user))]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs this process.
        user: u32,
    },
    /// The folder cannot be made.
    #[error("cannot make {path}: {source}")]
    Make {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder cannot be looked at or locked.
    #[error("{path}: {source}")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateFolder {
    /// Makes the folder (mode 0700) when it is not there and takes its lock.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn hold(path: &Path) -> Result<Self, StateError> {
        let mode = make_state_folder(path)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StateError::Open { path: path.to_owned(), mode });
        }
        let lock_path = path.join("lock");
        let fault = |source| StateError::Io { path: lock_path.clone(), source };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&lock_path).unwrap_or_default();
                return Err(StateError::Held { path: path.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(fault(source)),
        }
        lock.set_len(0).map_err(fault)?;
        writeln!(lock, "{}", std::process::id()).map_err(fault)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// The folder that another process holds, with the lock that it has handed over.
    ///
    /// # Errors
    /// The lock cannot be written.
    pub fn taken_over(path: &Path, lock: File) -> Result<Self, StateError> {
        let fault = |source| StateError::Io { path: path.join("lock"), source };
        lock.set_len(0).map_err(fault)?;
        // The handle shares its position with the other process'.
        lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0).map_err(fault)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// The lock, for a process that takes over.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Whether a folder of this owner can be trusted by this user: their own, or that of root, who may do
/// everything anyway.
const fn may_own(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
}

/// What to do about a state folder of somebody else. Root that made it its own, as root can, would
/// close it to the service.
fn way_out(path: &Path, owner: u32, user: u32) -> String {
    if user == 0 {
        format!("run this as its owner: runuser -u \"$(id -nu {owner})\" -- bastide …")
    } else {
        format!("chown {user} {}", path.display())
    }
}

/// Makes the state folder when it is not there, and refuses that of somebody else: what root writes
/// there, the process that runs as its owner cannot read.
///
/// # Errors
/// [`StateError::Make`], [`StateError::Foreign`], [`StateError::Io`].
pub fn make_state_folder(path: &Path) -> Result<fs::Metadata, StateError> {
    make_private_folder(path).map_err(|source| StateError::Make { path: path.to_owned(), source })?;
    let found = fs::metadata(path).map_err(|source| StateError::Io { path: path.to_owned(), source })?;
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    if may_own(owner, user) {
        Ok(found)
    } else {
        Err(StateError::Foreign { path: path.to_owned(), owner, user })
    }
}

/// Makes a folder (mode 0700) and its parents when they are not there.
///
/// # Errors
/// What the system said.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file whole or not at all, readable by its owner alone: into a neighbour,
/// synced, then renamed over the old one.
///
/// # Errors
/// What the system said; the old file is untouched then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let neighbour = folder.join(format!(".{name}.{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&neighbour)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| fs::rename(&neighbour, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&neighbour);
        return renamed;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_once_and_free_after() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("state");
        let held = StateFolder::hold(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let refused = StateFolder::hold(&path).unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        assert!(StateFolder::hold(&path).is_ok());
    }

    #[test]
    fn a_folder_that_others_can_read_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(StateFolder::hold(&path), Err(StateError::Open { mode: 0o750, .. })));
    }

    #[test]
    fn a_folder_of_somebody_else_is_refused() {
        for (owner, user, good) in [(7, 7, true), (0, 7, true), (0, 0, true), (8, 7, false), (7, 0, false)] {
            assert_eq!(may_own(owner, user), good, "{owner} {user}");
        }
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("state");
        make_private_folder(&path).unwrap();
        // Only root can give it away.
        if std::os::unix::fs::chown(&path, Some(4_242), None).is_ok() {
            for refused in [StateFolder::hold(&path).unwrap_err(), make_state_folder(&path).unwrap_err()] {
                assert!(matches!(refused, StateError::Foreign { owner: 4_242, .. }), "{refused}");
            }
        }
    }

    #[test]
    fn root_is_told_to_become_the_owner_and_others_to_become_it() {
        let path = PathBuf::from("state");
        let as_root = StateError::Foreign { path: path.clone(), owner: 7, user: 0 }.to_string();
        assert!(as_root.contains("runuser -u \"$(id -nu 7)\" --") && !as_root.contains("chown"), "{as_root}");
        let as_other = StateError::Foreign { path, owner: 7, user: 8 }.to_string();
        assert!(as_other.contains("chown 8 state") && !as_other.contains("runuser"), "{as_other}");
    }

    #[test]
    fn an_atomic_write_replaces_whole_files() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("key");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
    }
}
