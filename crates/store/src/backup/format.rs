//! The file of a backup: `BASTIDE-BACKUP-1`, keyring, version, rows, count, HMAC-SHA-256.
//! Numbers are big-endian; each row follows a 1, the count a 0.

use std::io::{self, Read, Write};

use aws_lc_rs::hmac;

use crate::barrier::{Head, Keyring, Row, StoredKey};
use crate::error::Error;
use crate::limits::{KEY_SEGMENT_BYTES_MAX, KEY_SEGMENTS_MAX, VALUE_BYTES_MAX};
use crate::record::Version;

const MAGIC: &[u8; 17] = b"BASTIDE-BACKUP-1\n";
const ROW: u8 = 1;
const END: u8 = 0;
/// The largest keyring that is read, bytes.
const KEYRING_BYTES_MAX: usize = 64 * 1024;
/// The largest stored key, bytes: each segment with its tag and end.
const KEY_BYTES_MAX: usize = KEY_SEGMENTS_MAX * (KEY_SEGMENT_BYTES_MAX + 2);
/// The largest sealed row, bytes: the value, the hidden texts with their lengths, nonce
/// and tag.
const SEALED_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + 28;

/// Writes a backup, front to back.
pub(super) struct Writer<W> {
    output: W,
    tag: hmac::Context,
    count: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(
        output: W,
        keyring: &Keyring,
        sealed_keyring: &[u8],
        version: Version,
    ) -> io::Result<Self> {
        let mut writer = Self { output, tag: hmac::Context::with_key(keyring.backups()), count: 0 };
        writer.put(MAGIC)?;
        writer.put_sized(sealed_keyring)?;
        writer.put(&version.number().to_be_bytes())?;
        Ok(writer)
    }

    pub(super) fn row(&mut self, row: &Row) -> io::Result<()> {
        self.count += 1;
        self.put(&[ROW])?;
        self.put_sized(row.key.as_bytes())?;
        self.put(&row.head.version.to_be_bytes())?;
        self.put(&[u8::from(row.head.expires.is_some())])?;
        self.put(&row.head.expires.unwrap_or(0).to_be_bytes())?;
        self.put(&row.head.generation.to_be_bytes())?;
        self.put_sized(&row.sealed)
    }

    /// Writes the end; gives the output back, flushed.
    pub(super) fn end(mut self) -> io::Result<W> {
        self.put(&[END])?;
        let count = self.count.to_be_bytes();
        self.put(&count)?;
        self.output.write_all(self.tag.sign().as_ref())?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tag.update(bytes);
        self.output.write_all(bytes)
    }

    fn put_sized(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.put(&length.to_be_bytes())?;
        self.put(bytes)
    }
}

/// Reads a backup, front to back. Only what ends with `None` was whole and unchanged.
pub(super) struct Reader<R> {
    input: R,
    tag: hmac::Context,
    backups: hmac::Key,
    count: u64,
    /// The version of the last transaction that is in it.
    pub(super) version: Version,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning; `open` opens the keyring.
    pub(super) fn begin(
        mut input: R,
        open: impl FnOnce(&[u8]) -> Result<Keyring, Error>,
    ) -> Result<(Self, Keyring), Error> {
        let magic: [u8; MAGIC.len()] = array(&mut input)?;
        if magic != *MAGIC {
            return Err(Error::Corrupt("this is no backup of a store of this version".to_owned()));
        }
        let sealed = sized(&mut input, KEYRING_BYTES_MAX)?;
        let keyring = open(&sealed)?;
        let backups = keyring.backups().clone();
        let mut tag = hmac::Context::with_key(&backups);
        tag.update(&magic);
        tag.update(&u32::try_from(sealed.len()).unwrap_or(0).to_be_bytes());
        tag.update(&sealed);
        let mut reader = Self { input, tag, backups, count: 0, version: Version::default() };
        reader.version = Version::from_number(u64::from_be_bytes(reader.array()?));
        Ok((reader, keyring))
    }

    /// The next row; `None`: that was all, and all of it was as it was written.
    pub(super) fn row(&mut self) -> Result<Option<Row>, Error> {
        match self.array()? {
            [ROW] => {}
            [END] => return self.end().map(|()| None),
            _ => return Err(damaged()),
        }
        self.count += 1;
        let key = StoredKey::from_bytes(self.sized(KEY_BYTES_MAX)?);
        let version = u64::from_be_bytes(self.array()?);
        let has_end = self.array()?;
        let end = u64::from_be_bytes(self.array()?);
        let expires = match has_end {
            [0] => None,
            [1] => Some(end),
            _ => return Err(damaged()),
        };
        let generation = u32::from_be_bytes(self.array()?);
        let head = Head { version, expires, generation, live: true };
        Ok(Some(Row { key, head, sealed: self.sized(SEALED_BYTES_MAX)? }))
    }

    fn end(&mut self) -> Result<(), Error> {
        let count = u64::from_be_bytes(self.array()?);
        let tag: [u8; 32] = array(&mut self.input)?;
        let expected = std::mem::replace(&mut self.tag, hmac::Context::with_key(&self.backups)).sign();
        let same: bool = subtle::ConstantTimeEq::ct_eq(expected.as_ref(), &tag[..]).into();
        if !same || count != self.count {
            return Err(damaged());
        }
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(damaged()),
            Err(error) => Err(unreadable(&error)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let bytes = array(&mut self.input)?;
        self.tag.update(&bytes);
        Ok(bytes)
    }

    fn sized(&mut self, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let bytes = sized(&mut self.input, bytes_max)?;
        self.tag.update(&u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
        self.tag.update(&bytes);
        Ok(bytes)
    }
}

fn array<const N: usize>(input: &mut impl Read) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(|error| unreadable(&error))?;
    Ok(bytes)
}

fn sized(input: &mut impl Read, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let length = u32::from_be_bytes(array(input)?);
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes_max).ok_or_else(damaged)?;
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).map_err(|error| unreadable(&error))?;
    Ok(bytes)
}

fn damaged() -> Error {
    Error::Corrupt("the backup was changed or damaged".to_owned())
}

fn unreadable(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Corrupt("the backup is cut off".to_owned()),
        _ => Error::Unavailable(format!("the backup cannot be read: {error}")),
    }
}
