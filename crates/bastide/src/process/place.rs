//! The place of a socket in the state folder: bound beside it, and moved there once this process
//! is the one to ask.
//!
//! What it must never do: take away a socket that another process has put there, or leave a
//! moment in which there is none.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// A socket's place. Dropped, the socket is gone from there, unless it was left.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Where the socket is until it is published.
    beside: Option<PathBuf>,
    /// Device and inode, to tell our socket from one that another process put there.
    own: Option<(u64, u64)>,
}

impl Place {
    /// Listens beside the path, for the owner alone: whoever is there stays until
    /// [`Self::publish`], and for good when this is dropped before.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn prepare(path: &Path) -> io::Result<(UnixListener, Self)> {
        // Short: the system takes no long path for a socket.
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}{}", std::process::id()));
        // Left by a process of the same number that was killed.
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
        let own = identity(&beside);
        Ok((listener, Self { path: path.to_owned(), beside: Some(beside), own }))
    }

    /// Moves the socket to its path, in the place of any that is there.
    ///
    /// # Errors
    /// What the system said; what was there stays.
    pub(super) fn publish(&mut self) -> io::Result<()> {
        if let Some(beside) = &self.beside {
            std::fs::rename(beside, &self.path)?;
            self.beside = None;
        }
        Ok(())
    }

    /// Leaves what it has published there, for whoever takes the place: they may do so between a look
    /// at whose it is and its removal.
    pub(super) fn leave(&mut self) {
        if self.beside.is_none() {
            self.own = None;
        }
    }
}

impl Drop for Place {
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
    async fn a_place_is_whose_it_was_last_and_who_leaves_takes_their_own_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (_first, mut place) = Place::prepare(&path).unwrap();
        assert!(UnixStream::connect(&path).is_err(), "not before it is published");
        place.publish().unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // One that never comes to be published changes nothing.
        drop(Place::prepare(&path).unwrap());
        UnixStream::connect(&path).unwrap();
        let (_second, mut next) = Place::prepare(&path).unwrap();
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
        let (_first, mut place) = Place::prepare(&path).unwrap();
        place.publish().unwrap();
        place.leave();
        drop(place);
        UnixStream::connect(&path).expect("it stays until another is put in its place");
        let (_second, mut next) = Place::prepare(&path).unwrap();
        // Left before it was published: nobody takes a place beside.
        next.leave();
        drop(next);
        assert_eq!(count(&folder), 1);
        UnixStream::connect(&path).unwrap();
    }
}
