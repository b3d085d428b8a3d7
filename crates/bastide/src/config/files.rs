//! The files that a configuration names, behind a trait so that tests and the fuzzer
//! need no disk.

use std::collections::BTreeMap;
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

/// Files in memory, for tests and the fuzzer. Names are what was given, no folders.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Memory {
    /// These files and no others.
    pub fn new(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Self {
        Self { files: files.into_iter().collect() }
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let folder = folder.strip_prefix(".").unwrap_or(folder);
        let inside = self.files.keys().filter_map(|path| path.strip_prefix(folder).ok());
        let mut names: Vec<PathBuf> = inside
            .filter_map(|rest| rest.components().next())
            .map(|name| PathBuf::from(name.as_os_str()))
            .collect();
        names.dedup();
        Ok(names)
    }

    fn world_readable(&self, _: &Path) -> bool {
        false
    }
}
