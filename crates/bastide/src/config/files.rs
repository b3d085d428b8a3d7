//! The files that a configuration names, behind a trait so that tests and the fuzzer
//! need no disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where configuration files come from.
pub trait Files {
    /// The content of one file; of one that is longer the first `bytes_max + 1` bytes,
    /// as a device has no end.
    ///
    /// # Errors
    /// The file is not there or cannot be read.
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;

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
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if is_named_pipe(path) {
            let why = "it is a pipe, for whose writer everything would wait; expected a file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        File::open(path)?.take((bytes_max as u64).saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
    }

    fn world_readable(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o004 != 0)
    }
}

/// Whether it is a pipe that whoever started this process did not open: `<(…)` of a shell is one in `/dev/fd`.
fn is_named_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_given = ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder));
    !is_given && std::fs::metadata(path).is_ok_and(|data| data.file_type().is_fifo())
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
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such file");
        let mut bytes = self.files.get(path).cloned().ok_or_else(missing)?;
        bytes.truncate(bytes_max.saturating_add(1));
        Ok(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The read ends: nobody writes to the pipe.
    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(Disk.read(&pipe, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    /// What a shell makes of `<(…)`.
    #[test]
    fn a_pipe_that_was_given_is_read() {
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"listen: []").unwrap();
        drop(writer);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert_eq!(Disk.read(Path::new(&path), 100).unwrap(), b"listen: []");
    }

    #[test]
    fn a_file_without_an_end_is_read_up_to_the_limit_and_one_byte() {
        for (bytes_max, read) in [(0, 1), (4_096, 4_097)] {
            assert_eq!(Disk.read(Path::new("/dev/zero"), bytes_max).unwrap().len(), read);
            let long = Memory::new([(PathBuf::from("zero"), vec![0; 10_000])]);
            assert_eq!(long.read(Path::new("zero"), bytes_max).unwrap().len(), read);
        }
    }
}
