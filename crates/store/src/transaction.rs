//! Several operations that happen together or not at all.

use model::Timestamp;

use crate::error::Error;
use crate::key::Key;
use crate::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_OPERATIONS_MAX, VALUE_BYTES_MAX};
use crate::record::{Value, Version};

/// What a record has to be for a transaction to happen. A record past its end is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it is.
    Any,
    /// There is none.
    Absent,
    /// There is one.
    Present,
    /// It is of this version: nobody has written it since it was read.
    Version(Version),
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Require,
    Put { value: Value, expires: Option<Timestamp> },
    Delete,
}

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) key: Key,
    pub(crate) expect: Expect,
    pub(crate) action: Action,
}

/// Operations that happen together or not at all. Every expectation is about the state
/// before the transaction; one that fails is [`Error::Conflict`] and undoes all.
///
/// ```
/// use store::{Expect, Key, Transaction, Version};
/// let (old, new) = (Key::new("refresh").hidden("old token"), Key::new("refresh").hidden("new token"));
/// let rotation = Transaction::new()
///     .put(old, "used", None, Expect::Version(Version::from_number(7)))
///     .put(new, "family 1", None, Expect::Absent);
/// assert_eq!(rotation.len(), 2);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    operations: Vec<Operation>,
}

impl Transaction {
    /// No operation yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record has to be as expected, and stays as it is.
    #[must_use]
    pub fn require(self, key: Key, expect: Expect) -> Self {
        self.with(key, expect, Action::Require)
    }

    /// Writes a record that is as expected until now. From `expires` on it is absent.
    #[must_use]
    pub fn put(self, key: Key, value: impl Into<Value>, expires: Option<Timestamp>, expect: Expect) -> Self {
        self.with(key, expect, Action::Put { value: value.into(), expires })
    }

    /// Removes a record that is as expected until now.
    #[must_use]
    pub fn delete(self, key: Key, expect: Expect) -> Self {
        self.with(key, expect, Action::Delete)
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn with(mut self, key: Key, expect: Expect, action: Action) -> Self {
        self.operations.push(Operation { key, expect, action });
        self
    }

    /// The operations, when they can be stored.
    pub(crate) fn checked(self) -> Result<Vec<Operation>, Error> {
        let over = |what, found, most| Err(Error::TooLarge { what, found, most });
        if self.operations.len() > TRANSACTION_OPERATIONS_MAX {
            let what = "operations of a transaction";
            return over(what, self.operations.len(), TRANSACTION_OPERATIONS_MAX);
        }
        let mut bytes = 0;
        for operation in &self.operations {
            operation.key.check()?;
            if operation.key.is_empty() {
                return Err(Error::Usage("a record needs a key of at least one segment"));
            }
            if let Action::Put { value, .. } = &operation.action {
                if value.len() > VALUE_BYTES_MAX {
                    return over("bytes of a value", value.len(), VALUE_BYTES_MAX);
                }
                bytes += value.len();
            }
        }
        if bytes > TRANSACTION_BYTES_MAX {
            return over("bytes of a transaction", bytes, TRANSACTION_BYTES_MAX);
        }
        let writes = self.operations.iter().filter(|one| !matches!(one.action, Action::Require));
        let mut keys: Vec<&Key> = writes.map(|one| &one.key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Error::Usage("a transaction writes each record at most once"));
        }
        Ok(self.operations)
    }
}
