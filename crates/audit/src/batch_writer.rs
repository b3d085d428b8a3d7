//! Batches of lines onto a medium that may take a part of them, or nothing.
//!
//! INVARIANT: bytes go to the medium in order and once; what was taken in part is
//! completed by the next try, or cut back to the last whole line by
//! [`BatchWriter::give_up`]. Another medium gets the batch from its start ([`BatchWriter::rewind`]),
//! and so does one that could not say that it keeps it: after a failed `fdatasync` the
//! system may take what is lost for written, so that only writing it again helps.

use std::fs::File;
use std::io::{self, ErrorKind, Write};

/// Room of the buffer: a usual batch of a busy process, with a last line past its end. What nobody
/// has written to costs nothing.
const BATCH_BYTES_USUAL: usize = (1 << 17) + (1 << 13);

/// What lines are written to: a file, or in tests something that fails as told.
pub(crate) trait Medium {
    /// Appends some of the bytes and says how many.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts the medium to so many bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Makes sure that what was appended survives a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A batch on its way to a medium.
#[derive(Debug, Default)]
pub(crate) struct BatchWriter {
    batch: Vec<u8>,
    events: u64,
    written: usize,
    /// Whether the medium may have lost what it took.
    doubted: bool,
}

/// What a batch held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl BatchWriter {
    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.batch.len()
    }

    #[cfg(test)]
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Whether the medium stands between two lines: only then may it be exchanged.
    pub(crate) fn at_start(&self) -> bool {
        self.written == 0
    }

    /// Adds a line, newline included, behind what is still to be written.
    pub(crate) fn add(&mut self, line: &[u8]) {
        if self.batch.capacity() == 0 {
            // At once: what a buffer leaves behind on its way there would stay, too.
            self.batch.reserve(BATCH_BYTES_USUAL);
        }
        self.batch.extend_from_slice(line);
        self.events += 1;
    }

    /// Writes what is left of the batch onto the medium, which was `length` bytes long before
    /// its first byte, and when all is written (and with `durable` safe) forgets it. After an
    /// error it can be called again.
    pub(crate) fn write(
        &mut self,
        medium: &mut impl Medium,
        length: u64,
        durable: bool,
    ) -> io::Result<Batch> {
        if self.doubted {
            medium.truncate(length)?;
            self.rewind();
        }
        while let Some(rest) = self.batch.get(self.written..).filter(|rest| !rest.is_empty()) {
            match medium.append(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => self.written += taken,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if durable && !self.batch.is_empty() {
            medium.sync().inspect_err(|_| self.doubted = true)?;
        }
        let done = Batch { events: self.events, bytes: self.batch.len() as u64 };
        self.batch.clear();
        self.events = 0;
        self.rewind();
        Ok(done)
    }

    /// Cuts the medium, which is `length` bytes long, back to the last whole line.
    /// Gives how many events are thereby written and how many bytes they have; the
    /// batch is left with those that are not.
    pub(crate) fn give_up(&mut self, medium: &mut impl Medium, length: u64) -> io::Result<Batch> {
        if self.doubted {
            // The lines may be there; nobody can say so.
            return Ok(Batch::default());
        }
        let taken = self.batch.get(..self.written).unwrap_or_default();
        let whole = taken.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let torn = (self.written - whole) as u64;
        if torn > 0 {
            medium.truncate(length.saturating_sub(torn))?;
        }
        let events = taken.get(..whole).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count();
        self.batch.drain(..whole);
        self.written = 0;
        self.events -= events as u64;
        Ok(Batch { events: events as u64, bytes: whole as u64 })
    }

    /// Forgets what the medium took of the batch: another takes its place.
    pub(crate) fn rewind(&mut self) {
        (self.written, self.doubted) = (0, false);
    }

    /// Bytes of the batch that the medium holds.
    pub(crate) fn taken(&self) -> u64 {
        self.written as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A disk with a quota, which takes at most `chunk` bytes at once.
    struct Quota {
        held: Vec<u8>,
        room: usize,
        chunk: usize,
        syncs: u32,
    }

    impl Medium for Quota {
        fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room).min(self.chunk);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.held.extend_from_slice(&bytes[..taken]);
            self.room -= taken;
            Ok(taken)
        }

        fn truncate(&mut self, length: u64) -> io::Result<()> {
            self.room += self.held.len() - length as usize;
            self.held.truncate(length as usize);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            self.syncs += 1;
            Ok(())
        }
    }

    fn batch_writer(lines: &[&str]) -> BatchWriter {
        let mut writer = BatchWriter::default();
        lines.iter().for_each(|line| writer.add(line.as_bytes()));
        writer
    }

    #[test]
    fn a_usual_batch_is_gathered_in_the_first_buffer() {
        let mut writer = batch_writer(&["one\n"]);
        let room = writer.batch.capacity();
        while writer.bytes() < 1 << 17 {
            writer.add(&[b'x'; 1 << 13]);
        }
        assert_eq!(writer.batch.capacity(), room);
    }

    #[test]
    fn a_line_taken_in_part_is_completed_when_there_is_room_again() {
        let mut disk = Quota { held: Vec::new(), room: 6, chunk: 4, syncs: 0 };
        let mut writer = batch_writer(&["one\n", "two\n", "three\n"]);
        for _ in 0..3 {
            assert_eq!(writer.write(&mut disk, 0, false).unwrap_err().kind(), ErrorKind::StorageFull);
            assert_eq!(disk.held, b"one\ntw");
        }
        assert!(!writer.at_start());
        disk.room = 100;
        assert_eq!(writer.write(&mut disk, 0, true).unwrap(), Batch { events: 3, bytes: 14 });
        assert_eq!(disk.held, b"one\ntwo\nthree\n");
        assert!(writer.is_empty() && writer.at_start());
        assert_eq!(disk.syncs, 1);
    }

    /// A disk that fails so often to write back, and takes what it lost for written.
    #[derive(Default)]
    struct Forgetful {
        /// What a reader sees.
        cached: Vec<u8>,
        /// From here on it is still to be written back.
        dirty: usize,
        /// What survives a power cut.
        kept: Vec<u8>,
        failures: u32,
    }

    impl Medium for Forgetful {
        fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.cached.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn truncate(&mut self, length: u64) -> io::Result<()> {
            let length = length as usize;
            self.cached.truncate(length);
            self.kept.truncate(length);
            self.dirty = self.dirty.min(length);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            let dirty = std::mem::replace(&mut self.dirty, self.cached.len());
            self.kept.resize(self.cached.len(), 0);
            if self.failures > 0 {
                self.failures -= 1;
                return Err(io::Error::other("written back in vain"));
            }
            self.kept[dirty..].copy_from_slice(&self.cached[dirty..]);
            Ok(())
        }
    }

    #[test]
    fn what_the_disk_could_not_write_back_is_written_again() {
        for failures in 0..3 {
            let mut disk = Forgetful::default();
            let mut first = batch_writer(&["one\n"]);
            first.write(&mut disk, 0, true).unwrap();
            disk.failures = failures;
            let mut writer = batch_writer(&["two\n", "three\n"]);
            for _ in 0..failures {
                writer.write(&mut disk, 4, true).unwrap_err();
                assert_eq!(writer.give_up(&mut disk, 14).unwrap(), Batch::default());
            }
            assert_eq!(writer.write(&mut disk, 4, true).unwrap(), Batch { events: 2, bytes: 10 });
            assert_eq!(disk.kept, b"one\ntwo\nthree\n", "{failures} failures");
            assert_eq!(disk.kept, disk.cached);
        }
    }

    #[test]
    fn a_line_that_cannot_be_completed_is_cut_off() {
        for (room, kept, events) in
            [(0, "", 0), (3, "", 0), (4, "one\n", 1), (6, "one\n", 1), (8, "one\ntwo\n", 2)]
        {
            let mut disk = Quota { held: Vec::new(), room, chunk: 100, syncs: 0 };
            let mut writer = batch_writer(&["one\n", "two\n", "three\n"]);
            writer.write(&mut disk, 0, false).unwrap_err();
            let length = disk.held.len() as u64;
            let saved = writer.give_up(&mut disk, length).unwrap();
            assert_eq!((disk.held.as_slice(), saved.events), (kept.as_bytes(), events), "room {room}");
            assert_eq!(writer.events(), 3 - events);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_disk_does_lines_arrive_whole_in_order_and_once(
            rooms in prop::collection::vec(0usize..40, 1..20),
            chunk in 1usize..20,
            lengths in prop::collection::vec(0usize..12, 1..20),
        ) {
            let lines: Vec<String> =
                lengths.iter().enumerate().map(|(at, &length)| format!("{at}{}\n", "x".repeat(length))).collect();
            let mut writer = BatchWriter::default();
            lines.iter().for_each(|line| writer.add(line.as_bytes()));
            let mut disk = Quota { held: Vec::new(), room: 0, chunk, syncs: 0 };
            for room in rooms {
                disk.room = room;
                if writer.write(&mut disk, 0, false).is_ok() {
                    break;
                }
            }
            let length = disk.held.len() as u64;
            let _ = writer.give_up(&mut disk, length).unwrap();
            let all = lines.concat();
            prop_assert!(all.as_bytes().starts_with(&disk.held));
            prop_assert!(disk.held.is_empty() || disk.held.ends_with(b"\n"));
            let on_disk = disk.held.iter().filter(|&&byte| byte == b'\n').count();
            prop_assert_eq!(on_disk as u64 + writer.events(), if writer.is_empty() { on_disk as u64 } else { lines.len() as u64 });
        }
    }
}
