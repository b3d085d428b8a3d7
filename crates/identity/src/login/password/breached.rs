//! Passwords that are known from breaches: a file of SHA-1 hashes, sorted, one per line in
//! hexadecimal with `:` and a count behind it, as Have I Been Pwned distributes it.
//!
//! It has tens of gigabytes: a line is found by halving the file, with some forty reads of
//! a hundred bytes, and nothing is kept. It is opened for each question, so that a newer
//! file can be put in its place.

use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Longest line, bytes; each has 40 digits of hash and its count.
const LINE_BYTES_MAX: usize = 128;
/// Digits of a hash.
const DIGITS: usize = 40;

/// Checks that a file is one of this kind, as far as its first line shows.
///
/// # Errors
/// It cannot be read, or is another kind of file.
pub fn check(path: &Path) -> io::Result<()> {
    let list = List::open(path)?;
    list.hash_at(0).map(drop)
}

/// Whether a password is in the file.
///
/// # Errors
/// It cannot be read, or is not of this kind where it was read.
pub(super) fn contains(path: &Path, password: &[u8]) -> io::Result<bool> {
    let mut wanted = [0; DIGITS];
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
    for (place, byte) in wanted.chunks_exact_mut(2).zip(hash.as_ref()) {
        for (digit, half) in place.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = b"0123456789ABCDEF".get(usize::from(half)).copied().unwrap_or_default();
        }
    }
    List::open(path)?.find(&wanted)
}

/// An open file.
struct List {
    file: File,
    length: u64,
}

impl List {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length == 0 {
            return Err(malformed("it is empty"));
        }
        Ok(Self { file, length })
    }

    /// INVARIANT: `low` is where a line begins; the wanted line, if there is one, begins
    /// between `low` and `high`.
    fn find(&self, wanted: &[u8; DIGITS]) -> io::Result<bool> {
        let (mut low, mut high) = (0, self.length);
        while low < high {
            let middle = low + (high - low) / 2;
            let line = if middle == low { low } else { self.line_from(middle)? };
            if line >= high {
                high = middle;
                continue;
            }
            match self.hash_at(line)?.cmp(wanted) {
                Ordering::Equal => return Ok(true),
                Ordering::Less => low = self.line_from(line + 1)?,
                Ordering::Greater => high = middle,
            }
        }
        Ok(false)
    }

    /// Where the first line begins that begins at `at` or later.
    fn line_from(&self, at: u64) -> io::Result<u64> {
        // The end of the line before is the byte before, when a line begins right there.
        let from = at.saturating_sub(1);
        let read = self.read(from)?;
        match read.iter().position(|byte| *byte == b'\n') {
            Some(end) => Ok(from + end as u64 + 1),
            // The last line need not have an end.
            None if read.len() < LINE_BYTES_MAX => Ok(self.length),
            None => Err(malformed("a line is too long")),
        }
    }

    /// The hash of the line that begins here, in capital letters.
    fn hash_at(&self, line: u64) -> io::Result<[u8; DIGITS]> {
        let read = self.read(line)?;
        let mut hash: [u8; DIGITS] = read
            .get(..DIGITS)
            .and_then(|digits| digits.try_into().ok())
            .ok_or_else(|| malformed("a line is too short"))?;
        let ends = matches!(read.get(DIGITS), None | Some(b':' | b'\r' | b'\n'));
        if !ends || !hash.iter().all(u8::is_ascii_hexdigit) {
            return Err(malformed("expected lines of a SHA-1 hash in hexadecimal, `:` and a count"));
        }
        hash.make_ascii_uppercase();
        Ok(hash)
    }

    fn read(&self, from: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; LINE_BYTES_MAX];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, from + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(password: &str, count: u64) -> String {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        format!("{digits}:{count}")
    }

    fn file(lines: &[String], ending: &str, last: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines.join(ending) + last).unwrap();
        file
    }

    #[test]
    fn a_password_is_found_wherever_it_stands_and_no_other_is() {
        for count in [1_usize, 2, 3, 10, 1000] {
            let passwords: Vec<String> = (0..count).map(|number| format!("password {number}")).collect();
            let mut lines: Vec<String> =
                passwords.iter().zip(0_u32..).map(|(one, at)| line(one, 10_u64.pow(at % 12))).collect();
            lines.sort();
            for (ending, last) in [("\r\n", "\r\n"), ("\n", "\n"), ("\n", "")] {
                let file = file(&lines, ending, last);
                for password in &passwords {
                    assert!(contains(file.path(), password.as_bytes()).unwrap(), "{password} of {count}");
                }
                for other in 0..count {
                    assert!(!contains(file.path(), format!("other {other}").as_bytes()).unwrap());
                }
            }
        }
        let small = file(&[line("a", 1).to_lowercase()], "\n", "\n");
        assert!(contains(small.path(), b"a").unwrap(), "small letters");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_answer() {
        assert!(check(Path::new("/nowhere/breached.txt")).is_err());
        let long = vec!["A".repeat(500)];
        let words = vec!["password".to_owned(), "letmein".to_owned()];
        for wrong in [long, words, vec![String::new()], vec![format!("{}0", line("a", 1).replace(':', ""))]] {
            let file = file(&wrong, "\n", "");
            assert!(check(file.path()).is_err(), "{wrong:?}");
            assert!(contains(file.path(), b"password").is_err(), "{wrong:?}");
        }
        // Good where it begins, and broken where it is looked at.
        let broken = vec![line("a", 1), "x".repeat(300), line("b", 1)];
        let file = file(&broken, "\n", "\n");
        assert!(check(file.path()).is_ok() && contains(file.path(), b"c").is_err());
    }
}
