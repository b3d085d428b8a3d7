//! A Unix socket that processes hand on to one another: bound beside its path, and moved there once
//! this process is the one to ask.
//!
//! What it must never do: take away a socket that another process has put there, or leave a
//! moment in which there is none.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The file of a bound socket. Dropped, the file is gone from there, unless it was left.
#[derive(Debug)]
pub struct BoundSocket {
    path: PathBuf,
    /// Where the socket is until it is published.
    beside: Option<PathBuf>,
    /// Device and inode, to tell our socket from one that another process put there.
    own: Option<(u64, u64)>,
}

impl BoundSocket {
    /// Listens beside the path, for those whom `mode` permits to connect: whoever is there stays
    /// until [`Self::publish`], and for good when this is dropped before.
    ///
    /// # Errors
    /// What the system said.
    pub fn prepare(path: &Path, mode: u32) -> io::Result<(UnixListener, Self)> {
        // Short: the system takes no long path for a socket.
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}{}", std::process::id()));
        // Left by a process of the same number that was killed.
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode))?;
        let own = identity(&beside);
        Ok((listener, Self { path: path.to_owned(), beside: Some(beside), own }))
    }

    /// Moves the socket to its path, in the place of any that is there.
    ///
    /// # Errors
    /// What the system said; what was there stays.
    pub fn publish(&mut self) -> io::Result<()> {
        if let Some(beside) = &self.beside {
            std::fs::rename(beside, &self.path)?;
            self.beside = None;
        }
        Ok(())
    }

    /// Where it is, once it is published.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves what it has published there, for whoever takes the place: they may do so between a look
    /// at whose it is and its removal.
    pub fn leave(&mut self) {
        if self.beside.is_none() {
            self.own = None;
        }
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let place = self.beside.as_ref().unwrap_or(&self.path);
        if self.own.is_some() && identity(place) == self.own {
            let _ = std::fs::remove_file(place);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn count(folder: &tempfile::TempDir) -> usize {
        std::fs::read_dir(folder.path()).unwrap().count()
    }

    #[tokio::test]
    async fn a_path_is_whose_it_was_last_and_who_leaves_takes_their_own_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (_first, mut place) = BoundSocket::prepare(&path, 0o600).unwrap();
        assert!(UnixStream::connect(&path).is_err(), "not before it is published");
        place.publish().unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // One that never comes to be published changes nothing.
        drop(BoundSocket::prepare(&path, 0o600).unwrap());
        UnixStream::connect(&path).unwrap();
        let (_second, mut next) = BoundSocket::prepare(&path, 0o600).unwrap();
        next.publish().unwrap();
        drop(place);
        UnixStream::connect(&path).unwrap();
        drop(next);
        assert_eq!(count(&folder), 0);
    }

    #[tokio::test]
    async fn who_is_succeeded_leaves_what_it_published_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (_first, mut place) = BoundSocket::prepare(&path, 0o600).unwrap();
        place.publish().unwrap();
        place.leave();
        drop(place);
        UnixStream::connect(&path).expect("it stays until another is put in its place");
        let (_second, mut next) = BoundSocket::prepare(&path, 0o600).unwrap();
        // Left before it was published: nobody takes a place beside.
        next.leave();
        drop(next);
        assert_eq!(count(&folder), 1);
        UnixStream::connect(&path).unwrap();
    }
}
