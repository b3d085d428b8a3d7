//! What is left to do when something has ended: to tell clients, and to tidy up. It is noted in
//! the transaction that ends it, and done although whoever asked for the end has gone away, or
//! the process has.

use std::time::Duration;

use model::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Expect, Key, Transaction};

use crate::Error;
use crate::realm::Realm;
use crate::record::Kind;

/// From then on nobody is at it any more, and whoever looks does it.
const LEFT_AFTER: Duration = Duration::from_secs(10);
/// Most that are looked at in one round: what somebody is at must not hide what is left.
const ROUND_MAX: usize = 10_000;

/// The word before those of sessions.
const SESSION: &str = "session";

/// What ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ended {
    /// One session.
    Session { id: String, user: String },
    /// Everything that somebody began until then.
    User { id: String, until: Timestamp },
    /// What a client was granted.
    Client { id: String },
}

/// What is left to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Left {
    ended: Ended,
    due: Timestamp,
}

impl Ended {
    fn path(&self) -> Vec<&str> {
        match self {
            Self::Session { id, user } => vec![SESSION, user, id],
            Self::User { id, .. } => vec!["user", id],
            Self::Client { id } => vec!["client", id],
        }
    }

    /// Where what is left of it is noted.
    pub(crate) fn key(&self, realm: &Realm) -> Key {
        realm.records.key(Kind::Ended, &self.path())
    }

    /// Whether something of it is left.
    pub(crate) async fn is_noted(&self, realm: &Realm) -> Result<bool, Error> {
        realm.records.exists(Kind::Ended, &self.path()).await
    }

    /// Adds to the transaction that ends it what is left then.
    pub(crate) fn note(
        &self,
        realm: &Realm,
        changes: Transaction,
        now: Timestamp,
    ) -> Result<Transaction, Error> {
        let left = Left { ended: self.clone(), due: now.plus(LEFT_AFTER) };
        // Until it is done, however long nobody is there to do it.
        realm.records.write(changes, Kind::Ended, &self.path(), &left, None, Expect::Any)
    }

    /// Notes that nothing is left.
    pub(crate) async fn done(&self, realm: &Realm) -> Result<(), Error> {
        realm.records.remove(Kind::Ended, &self.path()).await
    }
}

/// Does what others left. What two do at once harms nobody: a client may be told twice. What
/// cannot be done holds nothing else up, unless its record cannot be read; the first error, when
/// there is one.
pub(super) async fn follow(realm: &Realm, now: Timestamp) -> Result<(), Error> {
    let mut first = Ok(());
    for (_, stored) in realm.records.list::<Left>(Kind::Ended, &[], ROUND_MAX).await? {
        if stored.value.due > now {
            continue;
        }
        let done = follow_one(realm, &stored.value.ended, now).await;
        if first.is_ok() {
            first = done;
        }
    }
    first
}

async fn follow_one(realm: &Realm, ended: &Ended, now: Timestamp) -> Result<(), Error> {
    match ended {
        Ended::Session { id, user } => super::tell(realm, id, user, now).await?,
        Ended::User { id, until } => {
            realm.tidy_up(id, Some(*until)).await?;
        }
        Ended::Client { id } => realm.tidy_up_client(id).await?,
    }
    ended.done(realm).await
}

/// Does what is left of a user's sessions, before their grants go, by which the clients are
/// known.
pub(crate) async fn follow_sessions(realm: &Realm, user: &str, now: Timestamp) -> Result<(), Error> {
    for (id, stored) in realm.records.list_all::<Left>(Kind::Ended, &[SESSION, user]).await? {
        super::tell(realm, &id, user, now).await?;
        stored.value.ended.done(realm).await?;
    }
    Ok(())
}
