//! Work that only one process may do at a time.

use std::time::Duration;

use aws_lc_rs::rand::SecureRandom as _;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::key::Key;
use crate::record::{Value, Version};
use crate::store::Store;
use crate::transaction::{Expect, Transaction};

/// Who holds a lease, for whoever looks at it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// Random, new for each time that it is taken.
    holder: u64,
}

/// A lease that this process holds until its end, unless it is renewed.
///
/// The end is judged by each process's own clock. Work that must not be done twice, even
/// when clocks differ, puts [`Lease::fence`] into its transactions: they fail once somebody
/// else has taken the lease.
#[derive(Debug)]
pub struct Lease {
    key: Key,
    holder: Holder,
    version: Version,
    lifetime: Duration,
}

impl Store {
    /// Takes the lease of this name for a time; `None`: somebody else holds it.
    ///
    /// # Errors
    /// As [`Store::commit`], but for [`Error::Conflict`].
    pub async fn take_lease(&self, name: &'static str, lifetime: Duration) -> Result<Option<Lease>, Error> {
        let mut number = [0; 8];
        let random = self.inner().barrier.random();
        random.fill(&mut number).map_err(|_| Error::Cryptography("random numbers"))?;
        let holder = Holder { holder: u64::from_be_bytes(number) };
        let key = Key::new("store").name("lease").name(name);
        let end = self.clock().now().plus(lifetime);
        match self.put(key.clone(), Value::from_json(&holder)?, Some(end), Expect::Absent).await {
            Ok(version) => Ok(Some(Lease { key, holder, version, lifetime })),
            Err(Error::Conflict { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

impl Lease {
    /// Holds it for its time from now on; `false`: it was lost.
    ///
    /// # Errors
    /// As [`Store::commit`], but for [`Error::Conflict`].
    pub async fn renew(&mut self, store: &Store) -> Result<bool, Error> {
        let end = store.clock().now().plus(self.lifetime);
        let value = Value::from_json(&self.holder)?;
        match store.put(self.key.clone(), value, Some(end), Expect::Version(self.version)).await {
            Ok(version) => {
                self.version = version;
                Ok(true)
            }
            Err(Error::Conflict { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Gives it up, so that somebody else need not wait for its end.
    ///
    /// # Errors
    /// As [`Store::commit`], but for [`Error::Conflict`].
    pub async fn release(self, store: &Store) -> Result<(), Error> {
        match store.delete(self.key, Expect::Version(self.version)).await {
            Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Makes a transaction fail with [`Error::Conflict`] when the lease is not held any
    /// more.
    #[must_use]
    pub fn fence(&self, transaction: Transaction) -> Transaction {
        transaction.require(self.key.clone(), Expect::Version(self.version))
    }
}
