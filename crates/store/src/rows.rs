//! What the databases are asked for, in the same words for both.

use crate::barrier::{Keyring, Plain, Row, StoredKey, end_of};
use crate::error::Error;

/// Stored keys from `from` to before `to`; all from there on when there is no `to`.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Option<Vec<u8>>,
}

impl Range {
    /// What begins with these bytes.
    pub(crate) fn below(prefix: &StoredKey) -> Self {
        Self { from: prefix.as_bytes().to_vec(), to: end_of(prefix.as_bytes()) }
    }

    /// Every stored key.
    pub(crate) const fn everything() -> Self {
        Self { from: Vec::new(), to: None }
    }

    /// The rest of it after this key.
    pub(crate) fn after(self, key: &StoredKey) -> Self {
        // No key lies between a key and itself with a zero behind it.
        let next = [key.as_bytes(), &[0]].concat();
        Self { from: self.from.max(next), to: self.to }
    }

    /// An upper bound for databases that want one: beyond every stored key.
    pub(crate) fn upper(&self) -> Vec<u8> {
        // The first byte of a stored key is a tag, far below.
        self.to.clone().unwrap_or_else(|| vec![u8::MAX])
    }
}

/// Where the store stands, as one row of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The number of the last transaction that changed something.
    pub(crate) revision: u64,
    /// The generation that seals what is written.
    pub(crate) generation: u32,
    /// Deletions up to this revision may be forgotten.
    pub(crate) compacted: u64,
}

impl State {
    /// Refuses a keyring that was read before this and is newer: another process may have rotated between
    /// the two readings, but not back.
    pub(crate) fn check_keyring(&self, keyring: &Keyring) -> Result<(), Error> {
        if keyring.current() > self.generation {
            return Err(Error::Corrupt("the keyring is not the one that was written last".to_owned()));
        }
        Ok(())
    }
}

/// What changed since a revision.
#[derive(Debug)]
pub(crate) struct Changes {
    /// In the order of their versions.
    pub(crate) rows: Vec<Row>,
    /// Where the store stood when the rows were read.
    pub(crate) state: State,
}

/// Counts of what is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    pub(crate) deleted: u64,
    /// Rows by generation.
    pub(crate) generations: Vec<(u32, u64)>,
    /// What the database takes, bytes.
    pub(crate) bytes: u64,
}

/// A whole store, read at one moment, in pieces.
pub(crate) enum Exported {
    /// First: where it stood, and its keyring.
    Head { state: State, keyring: Vec<u8> },
    /// Then rows, in the order of their stored keys.
    Rows(Vec<Row>),
    /// Last: it is whole.
    End,
}

/// One record for a store that is being restored.
pub(crate) struct Restored {
    pub(crate) key: StoredKey,
    pub(crate) plain: Plain,
    pub(crate) expires: Option<u64>,
}

/// What a store is restored from, in pieces.
pub(crate) enum Incoming {
    Records(Vec<Restored>),
    /// Last: it was whole. Without it, nothing is restored.
    End,
}

/// Rows that are handed on at once.
pub(crate) const PIECE_ROWS: usize = 500;
/// Pieces that wait to be taken.
pub(crate) const PIECES_WAITING: usize = 4;
