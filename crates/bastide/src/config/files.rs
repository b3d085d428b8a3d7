//! The files that a configuration names, behind a trait so that tests and the fuzzer
//! need no disk.

use std::io;
use std::path::{Path, PathBuf};

/// Where configuration files come from.
pub trait Files {
    /// The whole content of one file.
    ///
    /// # Errors
    /// The file is not there or cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in one folder, without the folder.
    ///
    /// # Errors
    /// The folder is not there or cannot be read.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether others than owner and group may read the file.
    fn world_readable(&self, path: &Path) -> bool;
}

/// The real disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
    }

    fn world_readable(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o004 != 0)
    }
}
