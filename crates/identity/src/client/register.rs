//! Clients are registered, changed and removed.
//!
//! What a client was granted ends when it is switched off or removed: the change, the end of its own
//! tokens at the gateways and of what people allowed it and it did not fetch yet, and a note of what
//! is left to do ([`Ended`]) are one transaction. Its grants follow; with one that is removed, what
//! people consented to as well.
//!
//! INVARIANT: nothing of that is left when a client of its name is registered or written again.

use model::Timestamp;
use store::{Expect, Transaction};

use super::Client;
use crate::Error;
use crate::authorize::consent;
use crate::grant::{self, Grant};
use crate::logout::ended::Ended;
use crate::realm::Realm;
use crate::record::{ATTEMPTS_MAX, Kind, Records, Stored, Written, is_as};
use crate::revocation::{self, Named};

/// Records that are looked at, and changed, at once.
const PAGE_RECORDS: usize = 500;

impl Realm {
    /// Registers a client, or changes it. One that is switched off may refer to scopes and
    /// resources that are gone; what it was granted ends. Where one loses a role, its own tokens end.
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
        let ended = Ended::Client { id: client.id.clone() };
        for attempt in 0..ATTEMPTS_MAX {
            records.pause(attempt).await;
            if ended.is_noted(self).await? {
                self.finish_client(&client.id).await?;
            }
            let before = records.get::<Client>(Kind::Client, &path).await?;
            let version = before.as_ref().map(|before| before.version);
            if !is_as(expect, version) {
                return Ok(Written::Conflict);
            }
            self.check_told_at(client, before.as_ref().map(|before| &before.value))?;
            let mut changes = Transaction::new().require(ended.key(self), Expect::Absent);
            if before.is_none() {
                changes = unused(records, changes, Kind::User, &client.id).await?;
            }
            let before = before.map(|before| before.value);
            let switched_off = client.disabled && before.as_ref().is_some_and(|before| !before.disabled);
            if switched_off {
                changes = self.end_granted(changes, &client.id, self.now())?;
            } else if before.is_some_and(|before| !before.roles.is_subset(&client.roles)) {
                changes = self.end_issued(changes, &client.id, self.now())?;
            }
            let expect = version.map_or(Expect::Absent, Expect::Version);
            let changes = records.write(changes, Kind::Client, &path, client, None, expect)?;
            if records.commit(changes).await? == Written::Done {
                if switched_off {
                    self.finish_client(&client.id).await?;
                }
                return Ok(Written::Done);
            }
        }
        Err(Error::Contended("a client"))
    }

    /// Refuses an address at which no logout token arrives. One that is told there already stays as it
    /// is: otherwise nothing of it could be changed any more, not even a secret that others know.
    fn check_told_at(&self, client: &Client, before: Option<&Client>) -> Result<(), Error> {
        let Some(uri) = told_at(client).filter(|uri| before.and_then(told_at) != Some(uri)) else {
            return Ok(());
        };
        let Some(why) = self.deliver.refusal(uri) else { return Ok(()) };
        let what = format!("client \"{}\"", keys::encoding::quote(&client.id));
        Err(Error::Record { what, why: format!("backchannel_logout_uri: {why}") })
    }

    /// Removes a client that is as expected. What it was granted, and what people consented to, is
    /// of no use to anybody from then on, also when there is a client of its name again.
    ///
    /// # Errors
    /// The store fails.
    pub async fn remove_client(&self, id: &str, expect: Expect) -> Result<Written, Error> {
        // Nothing of a person's of this id ends.
        if is_as(expect, None) && !self.records.exists(Kind::Client, &[id]).await? {
            return Ok(Written::Done);
        }
        let key = self.records.key(Kind::Client, &[id]);
        let gone = Transaction::new().require(key.clone(), Expect::Present).delete(key, expect);
        let gone = self.end_granted(gone, id, self.now())?;
        if self.records.commit(gone).await? == Written::Conflict {
            return Ok(Written::Conflict);
        }
        self.finish_client(id).await?;
        Ok(Written::Done)
    }

    /// Adds the end of a client's own tokens at the gateways to a transaction, that of codes and
    /// devices, and what is left to do.
    fn end_granted(&self, changes: Transaction, id: &str, now: Timestamp) -> Result<Transaction, Error> {
        let until = now.plus(self.longest_token());
        let changes = Ended::Client { id: id.to_owned() }.note(self, changes, now)?;
        let changes = consent::withdrawn(self, changes, &[id], now)?;
        // Those of the second under way too: no session and no grant tells them apart. What others
        // got about it, and what it got about others by exchange, of grants that are not its own.
        let seconds = now.unix_seconds();
        let changes = revocation::write(self, changes, Named::Subject(id, seconds), until)?;
        revocation::write(self, changes, Named::Client(id, seconds), until)
    }

    /// Does what [`Self::end_granted`] left to do.
    async fn finish_client(&self, id: &str) -> Result<(), Error> {
        self.tidy_up_client(id).await?;
        Ended::Client { id: id.to_owned() }.done(self).await
    }

    /// Ends what a client was granted, and forgets what people consented to if it is gone.
    pub(crate) async fn tidy_up_client(&self, id: &str) -> Result<(), Error> {
        let records = &self.records;
        let mut pages = records.pages(Kind::Grant, PAGE_RECORDS);
        while let Some(page) = pages.next().await? {
            let mut grants: Vec<Stored<Grant>> =
                page.iter().map(|record| Stored::read(Kind::Grant, record)).collect::<Result<_, _>>()?;
            grants.retain(|grant| grant.value.client == id);
            grant::revoke_all(self, &grants, grant::Why::ClientGone).await?;
        }
        if records.exists(Kind::Client, &[id]).await? {
            return Ok(());
        }
        // What somebody consented to, and which sessions it knew of.
        for kind in [Kind::Consent, Kind::SessionClient] {
            let mut pages = records.pages(kind, PAGE_RECORDS);
            while let Some(page) = pages.next().await? {
                let of_client = page.into_iter().filter(|record| record.key.last_text() == Some(id));
                let gone =
                    of_client.fold(Transaction::new(), |gone, record| gone.delete(record.key, Expect::Any));
                match records.commit(gone).await? {
                    Written::Done | Written::Conflict => {}
                }
            }
        }
        Ok(())
    }
}

/// Where a client is told that a session has ended.
fn told_at(client: &Client) -> Option<&str> {
    client.backchannel_logout_uri.as_deref().filter(|_| !client.disabled)
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
