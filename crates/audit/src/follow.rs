//! Events as they are written, from another process than the writer's: the files are read
//! from where they end now, and nobody who writes notices.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::read::StoredEvent;
use crate::segment::{self, Segment};
use crate::{Error, record};

/// Most bytes that are read at one look; what came besides is read at the next.
const LOOK_BYTES_MAX: u64 = 4 << 20;
/// Longest line that is waited for, bytes. The writer's are shorter.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A reader of what is appended to a log.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    at: Option<(Segment, u64)>,
    /// The beginning of a line that is not whole yet.
    rest: Vec<u8>,
    /// Whether bytes are thrown away up to the end of a line.
    skips: bool,
}

impl Follower {
    /// Begins at the end of the log; a folder that is not there yet is waited for.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn at_end(folder: &Path) -> Result<Self, Error> {
        let mut follower = Self { folder: folder.to_owned(), at: None, rest: Vec::new(), skips: false };
        if let Some(last) = follower.segments()?.pop() {
            let length = std::fs::metadata(last.path(folder)).map_or(0, |found| found.len());
            follower.at = Some((last, length));
            // It may end within a line.
            follower.skips = length > 0 && !follower.ends_a_line(length);
        }
        Ok(follower)
    }

    fn segments(&self) -> Result<Vec<Segment>, Error> {
        if self.folder.is_dir() { segment::list(&self.folder) } else { Ok(Vec::new()) }
    }

    fn ends_a_line(&self, length: u64) -> bool {
        let Some((segment, _)) = &self.at else { return true };
        let read = File::open(segment.path(&self.folder)).and_then(|mut file| {
            file.seek(SeekFrom::Start(length.saturating_sub(1)))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            Ok(last == *b"\n")
        });
        read.unwrap_or(false)
    }

    /// Shows every event that was written since the last look. `true`: there may be more already.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn look(&mut self, visit: &mut dyn FnMut(StoredEvent)) -> Result<bool, Error> {
        let segments = self.segments()?;
        let current = match &self.at {
            Some((segment, _)) => Some(segment.clone()),
            None => segments.first().cloned(),
        };
        let Some(current) = current else { return Ok(false) };
        let from = self.at.as_ref().map_or(0, |(_, offset)| *offset);
        let path = current.path(&self.folder);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.take(LOOK_BYTES_MAX).read_to_end(&mut bytes)
        });
        let came = match read {
            Ok(came) => came as u64,
            // It was pruned: what was not read of it is gone.
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(source) => return Err(Error::Io { doing: "read", path, source }),
        };
        self.lines(&bytes, visit);
        self.at = Some((current.clone(), from + came));
        if came > 0 {
            return Ok(true);
        }
        // Nothing new here: the writer goes on in the next file, when there is one.
        let Some(next) = segments.into_iter().find(|segment| *segment > current) else { return Ok(false) };
        self.at = Some((next, 0));
        self.rest.clear();
        self.skips = false;
        Ok(true)
    }

    fn lines(&mut self, bytes: &[u8], visit: &mut dyn FnMut(StoredEvent)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_end = part.ends_with(b"\n");
            if !self.skips {
                self.rest.extend_from_slice(part.strip_suffix(b"\n").unwrap_or(part));
                self.skips = self.rest.len() > LINE_BYTES_MAX;
            }
            if is_end {
                if !self.skips
                    && let Ok(stored) = record::parse(&self.rest)
                {
                    visit(stored);
                }
                self.rest.clear();
                self.skips = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use model::event::AccessEvent;

    use super::*;

    fn line(number: u64) -> Vec<u8> {
        let event = AccessEvent { bytes_in: number, ..crate::record::tests::event(1) };
        crate::record::tests::line(&event)
    }

    fn write(folder: &Path, number: u64, bytes: &[u8]) {
        let path = Segment { number, begun_millis: number }.path(folder);
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    fn looked(follower: &mut Follower) -> Vec<u64> {
        let mut seen = Vec::new();
        let number = |event: &AccessEvent<'_>| event.bytes_in;
        while follower.look(&mut |stored| seen.push(number(&stored.event))).unwrap() {}
        seen
    }

    #[test]
    fn what_is_appended_is_shown_once_and_whole_over_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let half = line(2).len() / 2;
        write(at, 1, &[line(1), line(2)[..half].to_vec()].concat());
        let mut follower = Follower::at_end(at).unwrap();
        assert!(looked(&mut follower).is_empty());
        // The line within which it began is nobody's.
        write(at, 1, &line(2)[half..]);
        write(at, 1, &[line(3), line(4)[..half].to_vec()].concat());
        assert_eq!(looked(&mut follower), [3]);
        write(at, 1, &line(4)[half..]);
        write(at, 2, &line(5));
        assert_eq!(looked(&mut follower), [4, 5]);
        // No event, a line that is too long, and then one again.
        write(at, 2, b"torn\n");
        write(at, 2, &[vec![b'x'; LINE_BYTES_MAX + 2], b"\n".to_vec(), line(6)].concat());
        assert_eq!(looked(&mut follower), [6]);
        // The file is pruned away under it.
        std::fs::remove_file(Segment { number: 2, begun_millis: 2 }.path(at)).unwrap();
        write(at, 3, &line(7));
        assert_eq!(looked(&mut follower), [7]);
    }

    #[test]
    fn a_log_that_is_not_there_yet_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("audit");
        let mut follower = Follower::at_end(&at).unwrap();
        assert!(looked(&mut follower).is_empty());
        std::fs::create_dir(&at).unwrap();
        write(&at, 1, &line(1));
        assert_eq!(looked(&mut follower), [1]);
    }
}
