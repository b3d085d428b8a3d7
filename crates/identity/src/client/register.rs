//! Clients are registered, changed and removed.

use store::{Expect, Transaction};

use super::Client;
use crate::Error;
use crate::realm::Realm;
use crate::record::{ATTEMPTS_MAX, Kind, Records, Written, is_as, pause};

impl Realm {
    /// Registers a client, or changes it. One that is switched off may refer to scopes and
    /// resources that are gone.
    ///
    /// # Errors
    /// [`Error::Record`] for what [`Client::check`] finds, and for a new client of a user's id;
    /// the store fails.
    pub async fn put_client(&self, client: &Client) -> Result<(), Error> {
        match self.write_client(client, Expect::Any).await? {
            Written::Done => Ok(()),
            Written::Conflict => Err(Error::Contended("a client")),
        }
    }

    /// The same, when it is as expected until now.
    ///
    /// # Errors
    /// As [`Self::put_client`].
    pub async fn write_client(&self, client: &Client, expect: Expect) -> Result<Written, Error> {
        client.check(&self.settings)?;
        let (records, path) = (&self.records, [client.id.as_str()]);
        for attempt in 0..ATTEMPTS_MAX {
            pause(attempt).await;
            let before = records.get::<Client>(Kind::Client, &path).await?;
            let version = before.as_ref().map(|before| before.version);
            if !is_as(expect, version) {
                return Ok(Written::Conflict);
            }
            let mut changes = Transaction::new();
            if before.is_none() {
                changes = unused(records, changes, Kind::User, &client.id).await?;
            }
            let expect = version.map_or(Expect::Absent, Expect::Version);
            let changes = records.write(changes, Kind::Client, &path, client, None, expect)?;
            if records.commit(changes).await? == Written::Done {
                return Ok(Written::Done);
            }
        }
        Err(Error::Contended("a client"))
    }

    /// Removes a client that is as expected. What it was granted is of no use to anybody
    /// from then on.
    ///
    /// # Errors
    /// The store fails.
    pub async fn remove_client(&self, id: &str, expect: Expect) -> Result<Written, Error> {
        self.records.commit(Transaction::new().delete(self.records.key(Kind::Client, &[id]), expect)).await
    }
}

/// Adds to a transaction that an id is not that of somebody of the other kind, a user's or a
/// client's. A token whose `sub` is its `client_id` is about the client to whoever reads it: nobody
/// else may be called so (RFC 9700 §4.15).
pub(crate) async fn unused(
    records: &Records,
    changes: Transaction,
    other: Kind,
    id: &str,
) -> Result<Transaction, Error> {
    if records.exists(other, &[id]).await? {
        let (what, whose) = if other == Kind::User { ("client", "a user's") } else { ("user", "a client's") };
        let what = format!("{what} \"{}\"", keys::encoding::quote(id));
        return Err(Error::Record { what, why: format!("id: expected one that is not {whose}") });
    }
    Ok(changes.require(records.key(other, &[id]), Expect::Absent))
}
