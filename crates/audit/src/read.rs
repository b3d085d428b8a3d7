//! Finds events again: for `bastide explain`.
//!
//! Reading takes no lock and disturbs no writer: a line that is being written has no
//! newline yet and is skipped like a torn one.

use std::io::ErrorKind;
use std::path::Path;

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
