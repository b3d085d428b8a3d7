//! The unseal key in a file that its owner alone can read.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{UnsealKey, access};
use crate::error::Error;

/// The largest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024;

impl UnsealKey {
    /// Reads the key from a file. `owner` is the user id that this process runs as.
    ///
    /// # Errors
    /// [`Error::Key`]: it is not a plain file, belongs to somebody else than `owner` or
    /// root, lets others read or write it (by its mode, or by an access control list), or
    /// holds no key. [`Error::File`]: it cannot be read.
    pub fn read_file(path: &Path, owner: u32) -> Result<Self, Error> {
        let fault = |source| Error::File { path: path.to_owned(), source };
        let place = path.display().to_string();
        let refused = |why: String| Err(Error::Key { place: place.clone(), why });
        // A pipe that nobody writes to is opened too, and refused.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(fault)?;
        // Asked of the open file, so that it cannot be swapped between check and reading.
        let found = file.metadata().map_err(fault)?;
        if !found.is_file() {
            return refused("expected a plain file that holds the unseal key".to_owned());
        }
        if found.uid() != owner && found.uid() != 0 {
            let other = found.uid();
            // Root that made it its own, as root can, would close it to the service.
            let way_out = if owner == 0 {
                format!("run this as that user: runuser -u \"$(id -nu {other})\" -- bastide …")
            } else {
                format!("chown {owner} {place}")
            };
            return refused(format!(
                "belongs to user {other}, expected {owner}, who runs this process: {way_out}"
            ));
        }
        let mode = found.mode() & 0o7777;
        // The group's bits may stand for a list that names this user alone.
        let is_listed = mode & 0o177 == 0o040 && access::is_for_user_alone(&file, owner);
        if mode & 0o177 != 0 && !is_listed {
            return refused(format!(
                "others may use the unseal key (mode {mode:03o}), expected 600: chmod 600 {place}"
            ));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(fault)?;
        Self::parse(&text, &place)
    }

    /// Writes the key to a new file of mode 0600 and makes it durable.
    ///
    /// # Errors
    /// [`Error::File`]: there is one already, or it cannot be written.
    pub fn write_new_file(&self, path: &Path) -> Result<(), Error> {
        let fault = |source| Error::File { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fault)?;
        let text = Zeroizing::new(format!("{}\n", self.to_text().as_str()));
        file.write_all(text.as_bytes()).map_err(fault)?;
        file.sync_all().map_err(fault)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(fault)
    }
}
