//! Finds events again: one for `bastide explain`, all for `bastide policy diff`.
//!
//! Reading takes no lock and disturbs no writer: a line that is being written has no
//! newline yet and is skipped like a torn one.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;
use model::RequestId;

use crate::segment::{self, Segment};
use crate::{Error, record};

pub use crate::record::StoredEvent;

/// The event of this request, or `None` when no file holds it (any more).
///
/// An id begins with the time of arrival, and an event is written after its request
/// arrived: files that were closed before then come last, and are looked through only
/// for the case that the clock was set back.
///
/// # Errors
/// The folder or a file in it cannot be read. A file that is rotated away meanwhile
/// is no error.
pub fn find(folder: &Path, id: RequestId) -> Result<Option<StoredEvent>, Error> {
    let segments = segment::list(folder)?;
    let mut content = Vec::new();
    let needle = format!("\"uid\":\"{id}\"");
    let finder = Finder::new(needle.as_bytes());
    for segment in in_order(&segments, id.unix_millis()) {
        let path = segment.path(folder);
        match segment::read(&path, &mut content) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::Io { doing: "read", path, source }),
        }
        if let Some(found) = find_in(&content, &finder, id) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// First the files that can hold an event of that time, from the one that was current
/// then to the newest; then the older ones, newest first.
fn in_order(segments: &[Segment], millis: u64) -> impl Iterator<Item = &Segment> {
    let current_then = segments.iter().rposition(|segment| segment.begun_millis <= millis).unwrap_or(0);
    let (before, since) = segments.split_at_checked(current_then).unwrap_or((segments, &[]));
    since.iter().chain(before.iter().rev())
}

fn find_in(content: &[u8], finder: &Finder<'_>, id: RequestId) -> Option<StoredEvent> {
    finder.find_iter(content).find_map(|at| {
        let (before, after) = content.split_at_checked(at)?;
        let start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let end = at + memchr::memchr(b'\n', after)?;
        let stored = record::parse(content.get(start..end)?).ok()?;
        (stored.event.id == id).then_some(stored)
    })
}

/// Longest line that is read as an event, bytes. The writer's are shorter.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 18;

/// Hands out every event of a log, the oldest file first; `log` is its folder or one of
/// its files. A line that is no event is handed out as `None`.
///
/// # Errors
/// The folder or a file cannot be read. A file that is rotated away meanwhile is no error.
pub fn each(log: &Path, visit: &mut dyn FnMut(Option<StoredEvent>)) -> Result<(), Error> {
    let paths: Vec<PathBuf> = if log.is_dir() {
        segment::list(log)?.iter().map(|segment| segment.path(log)).collect()
    } else {
        vec![log.to_owned()]
    };
    for path in paths {
        let failed = |source| Error::Io { doing: "read", path: path.clone(), source };
        match File::open(&path) {
            Ok(file) => each_in(BufReader::with_capacity(READ_BYTES, file), visit).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound && path != log => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn each_in(mut file: impl BufRead, visit: &mut dyn FnMut(Option<StoredEvent>)) -> std::io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\n") {
            Some(whole) => visit(record::parse(whole).ok()),
            None if line.is_empty() => return Ok(()),
            // Too long, or still being written at the end of the file.
            None => {
                visit(None);
                file.skip_until(b'\n')?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_in_the_order_of_likelihood() {
        let segments: Vec<Segment> = [100, 200, 300, 400]
            .iter()
            .zip(1..)
            .map(|(&begun_millis, number)| Segment { number, begun_millis })
            .collect();
        for (millis, expected) in [
            (50, [1, 2, 3, 4]),
            (100, [1, 2, 3, 4]),
            (250, [2, 3, 4, 1]),
            (300, [3, 4, 2, 1]),
            (999, [4, 3, 2, 1]),
        ] {
            let order: Vec<u64> = in_order(&segments, millis).map(|segment| segment.number).collect();
            assert_eq!(order, expected, "{millis}");
        }
        assert_eq!(in_order(&[], 1).count(), 0);
    }
}
