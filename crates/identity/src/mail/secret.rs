//! The secrets in the links of messages: 256 random bits, kept as their hash, good once and
//! for a while.
//!
//! INVARIANT: a secret is good only as long as its person has the password, or none, that
//! they had when it was made: with the first change all links of before are worth nothing, those
//! that are used at this moment too. Nor is it good once somebody else has shown that the address it
//! went to is theirs.

use std::time::Duration;

use model::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Expect, Key, Transaction, Version};

use super::{Purpose, index};
use crate::Error;
use crate::realm::Realm;
use crate::record::{Kind, Stored, Written};
use crate::user::User;

/// How long a link of each kind is good.
pub(crate) const fn life(purpose: Purpose) -> Duration {
    match purpose {
        Purpose::Recovery => Duration::from_secs(30 * 60),
        Purpose::Invitation => Duration::from_secs(3 * 24 * 3600),
        Purpose::Verification => Duration::from_secs(24 * 3600),
        Purpose::PasswordChanged => Duration::ZERO,
    }
}

/// What a secret is good for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Secret {
    pub(crate) purpose: Purpose,
    pub(crate) user: String,
    /// The address that it was sent to.
    pub(crate) email: String,
    /// Which password they had: [`generation`].
    generation: String,
    until: Timestamp,
}

/// A secret that is good, and whose.
pub(crate) struct Good {
    pub(crate) secret: Stored<Secret>,
    pub(crate) user: User,
    version: Version,
    /// The password that they have, or none.
    pub(crate) password: Expect,
    /// The record of who owns the address: not somebody else.
    owner: (Key, Expect),
}

impl Good {
    /// Adds to a transaction that its person, and who owns their address, is as it was when it was found
    /// to be good.
    pub(crate) fn as_judged(&self, realm: &Realm, changes: Transaction) -> Transaction {
        let (key, expect) = self.owner.clone();
        realm.as_judged(changes.require(key, expect), (&self.user.id, self.version), None)
    }
}

/// Makes one; gives what stands in the link.
pub(super) async fn make(
    realm: &Realm,
    purpose: Purpose,
    user: &User,
    email: &str,
    now: Timestamp,
) -> Result<String, Error> {
    let secret = crate::random::secret(realm.random.as_ref())?;
    let until = now.plus(life(purpose));
    let record = Secret {
        purpose,
        user: user.id.clone(),
        email: email.to_owned(),
        generation: generation(realm, &user.id).await?.0,
        until,
    };
    let path = crate::random::hash(&secret);
    match realm.records.put(Kind::MailSecret, &[&path], &record, Some(until), Expect::Absent).await? {
        Written::Done => Ok(secret),
        Written::Conflict => Err(Error::Random),
    }
}

/// A secret, if it is good now.
pub(crate) async fn find(
    realm: &Realm,
    secret: &str,
    purposes: &[Purpose],
    now: Timestamp,
) -> Result<Option<Good>, Error> {
    let path = crate::random::hash(secret);
    let Some(found) = realm.records.get::<Secret>(Kind::MailSecret, &[&path]).await? else { return Ok(None) };
    let known = &found.value;
    if !purposes.contains(&known.purpose) || known.until <= now {
        return Ok(None);
    }
    let person = realm.find_user_by_id(&known.user).await?.filter(|(user, _)| !user.disabled);
    let Some((user, version)) = person else { return Ok(None) };
    let (generation, password) = generation(realm, &user.id).await?;
    let (owned, owner) = index::is_anothers(&realm.records, &user, &known.email).await?;
    // Of another password, or to an address that is theirs no more, or somebody else's.
    let same = generation == known.generation && user.email.as_deref() == Some(known.email.as_str());
    Ok((same && !owned).then_some(Good { secret: found, user, version, password, owner }))
}

/// Adds the end of a secret to a transaction: it fails when the secret was used meanwhile.
pub(crate) fn spend(
    realm: &Realm,
    changes: Transaction,
    secret: &str,
    found: &Stored<Secret>,
) -> Transaction {
    let key = realm.records.key(Kind::MailSecret, &[&crate::random::hash(secret)]);
    changes.delete(key, Expect::Version(found.version))
}

/// Which password a person has, without telling anything about it, and its record.
async fn generation(realm: &Realm, user: &str) -> Result<(String, Expect), Error> {
    Ok(match realm.records.get::<String>(Kind::Password, &[user]).await? {
        Some(hash) => (crate::random::hash(&hash.value), Expect::Version(hash.version)),
        None => (String::new(), Expect::Absent),
    })
}
