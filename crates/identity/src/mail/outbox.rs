//! Messages that wait: written by requests, sent by [`Realm::run`].

use std::sync::atomic::Ordering;
use std::time::Duration;

use model::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Expect, Transaction};

use super::{MailTransport, NotSent, Purpose, compose, index, is_address, secret};
use crate::Error;
use crate::realm::Realm;
use crate::record::{Kind, Stored, Written};
use crate::text::Language;
use crate::throttle;
use crate::user::{User, described};

/// Most messages that wait; whoever asks for one more is told to come again.
const WAITING_MAX: usize = 10_000;
/// How long a message is tried.
const TRIED_FOR: Duration = Duration::from_secs(24 * 3600);
/// The pause after the first attempt; doubled each time, up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(30);
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// For one message, whatever the transport does.
const SENDING_MAX: Duration = Duration::from_secs(60);
/// Most accounts of one address that get a message.
const ACCOUNTS_OF_ADDRESS_MAX: usize = 5;
/// Messages about recovery to one person within an hour or so.
const RECOVERIES_MAX: u32 = 5;

/// Who is meant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Whom {
    /// A user, by id.
    User(String),
    /// Whoever has this user name or address, if anybody: what was typed.
    Typed(String),
}

/// A message that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting {
    purpose: Purpose,
    whom: Whom,
    language: Language,
    attempts: u32,
    due: Timestamp,
}

/// How a round of sending went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    GoOn,
    /// The server does not work.
    Stop,
}

/// Puts a message into the outbox. Of a realm without mail it is an error.
pub(crate) async fn put(
    realm: &Realm,
    purpose: Purpose,
    whom: Whom,
    language: Language,
    now: Timestamp,
) -> Result<(), Error> {
    let changes = add(realm, Transaction::new(), purpose, whom, language, now)?;
    match realm.records.commit(changes).await? {
        Written::Done => Ok(()),
        Written::Conflict => Err(Error::Random),
    }
}

/// The same as part of a transaction.
pub(crate) fn add(
    realm: &Realm,
    changes: Transaction,
    purpose: Purpose,
    whom: Whom,
    language: Language,
    now: Timestamp,
) -> Result<Transaction, Error> {
    if realm.mail_transport.is_none() {
        return Err(Error::NoMail);
    }
    if realm.mail_waiting.fetch_add(1, Ordering::AcqRel) >= WAITING_MAX {
        realm.mail_waiting.fetch_sub(1, Ordering::AcqRel);
        return Err(Error::Contended("the outbox, which is full"));
    }
    let until = now.plus(TRIED_FOR);
    let waiting = Waiting { purpose, whom, language, attempts: 0, due: now };
    let name = crate::random::name(realm.random.as_ref())?;
    realm.records.write(changes, Kind::MailMessage, &[&name], &waiting, Some(until), Expect::Absent)
}

impl Realm {
    /// Whether people can be written to.
    pub fn has_mail(&self) -> bool {
        self.mail_transport.is_some()
    }

    /// Sends somebody a link to choose their first password.
    ///
    /// # Errors
    /// [`Error::NoMail`], [`Error::Record`] for somebody without an address, [`Error::Owned`] for an
    /// address that another has shown to be theirs; the store fails.
    pub async fn invite(&self, user: &User) -> Result<(), Error> {
        self.write_to(user, Purpose::Invitation).await
    }

    /// Sends somebody a link by which they show that their address is theirs.
    ///
    /// # Errors
    /// As [`Self::invite`].
    pub async fn ask_verification(&self, user: &User) -> Result<(), Error> {
        self.write_to(user, Purpose::Verification).await
    }

    async fn write_to(&self, user: &User, purpose: Purpose) -> Result<(), Error> {
        let what = || described(&user.username);
        let Some(email) = user.email.as_deref().filter(|email| is_address(email)) else {
            let why = "there is no e-mail address to write to".to_owned();
            return Err(Error::Record { what: what(), why });
        };
        if index::is_anothers(&self.records, user, email).await?.0 {
            return Err(Error::Owned { what: what() });
        }
        let language = language_of(self, user);
        put(self, purpose, Whom::User(user.id.clone()), language, self.now()).await
    }

    /// Sends the messages that are due, as [`Self::run`] does all the time. Gives when the
    /// next one is.
    ///
    /// # Errors
    /// The store fails. A message that cannot be sent is tried again later.
    pub async fn send_mail(&self) -> Result<Option<Timestamp>, Error> {
        let Some(mail_transport) = self.mail_transport.as_ref() else { return Ok(None) };
        let found = self.records.list::<Waiting>(Kind::MailMessage, &[], WAITING_MAX).await?;
        self.mail_waiting.store(found.len(), Ordering::Release);
        let mut next: Option<Timestamp> = None;
        for (name, stored) in found {
            let due = stored.value.due;
            if due > self.now() {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            if send(self, mail_transport.as_ref(), &name, stored).await? == Round::Stop {
                return Ok(Some(self.now().plus(RETRY_FIRST)));
            }
        }
        Ok(next)
    }
}

/// Whom a message goes to by itself: what they said, else the realm's.
fn language_of(realm: &Realm, user: &User) -> Language {
    let said = user.attributes.get("locale").and_then(serde_json::Value::as_str);
    said.and_then(Language::of_tag).unwrap_or(realm.settings.language)
}

async fn send(
    realm: &Realm,
    mail_transport: &dyn MailTransport,
    name: &str,
    stored: Stored<Waiting>,
) -> Result<Round, Error> {
    let (now, mut waiting) = (realm.now(), stored.value);
    waiting.attempts += 1;
    let pause = RETRY_FIRST * 2_u32.pow((waiting.attempts - 1).min(10));
    waiting.due = now.plus(pause.min(RETRY_MAX));
    // Taken by this write: of several processes one sends it.
    let expect = Expect::Version(stored.version);
    if realm.records.put(Kind::MailMessage, &[name], &waiting, stored.expires, expect).await?
        == Written::Conflict
    {
        return Ok(Round::GoOn);
    }
    let user = match &waiting.whom {
        Whom::User(id) => realm.user(id).await?,
        Whom::Typed(typed) => {
            resolve(realm, name, typed, &waiting, now).await?;
            return Ok(Round::GoOn);
        }
    };
    let sent = match user {
        Some(user) => deliver(realm, mail_transport, &waiting, &user, now).await?,
        None => Ok(()),
    };
    let (attempts, purpose) = (waiting.attempts, waiting.purpose);
    match sent {
        Ok(()) => done(realm, name).await?,
        Err(NotSent::Never(why)) => {
            tracing::error!(?purpose, why, "identity: a message cannot be sent");
            done(realm, name).await?;
        }
        Err(NotSent::Later(why)) => {
            tracing::warn!(?purpose, attempts, why, "identity: a message was not sent");
        }
        Err(NotSent::Server(why)) => {
            tracing::warn!(?purpose, attempts, why, "identity: the mail server does not work");
            return Ok(Round::Stop);
        }
    }
    Ok(Round::GoOn)
}

async fn done(realm: &Realm, name: &str) -> Result<(), Error> {
    realm.mail_waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1)).ok();
    realm.records.remove(Kind::MailMessage, &[name]).await
}

/// Puts one message to each person who is meant in the place of one to whoever is.
async fn resolve(
    realm: &Realm,
    name: &str,
    typed: &str,
    waiting: &Waiting,
    now: Timestamp,
) -> Result<(), Error> {
    let mut changes = Transaction::new().delete(realm.records.key(Kind::MailMessage, &[name]), Expect::Any);
    for user in meant(realm, typed).await? {
        // However the same person is called, the messages to them are counted together.
        if !throttle::recovery_of_person(realm, &user.id, RECOVERIES_MAX, now).await? {
            tracing::warn!(user = user.id, "identity: too many messages about recovery");
            continue;
        }
        let whom = Whom::User(user.id.clone());
        changes = add(realm, changes, waiting.purpose, whom, waiting.language, now)?;
    }
    realm.mail_waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1)).ok();
    match realm.records.commit(changes).await? {
        Written::Done => Ok(()),
        Written::Conflict => Err(Error::Random),
    }
}

/// The people who have this user name or address. Who owns an address is meant by it, whatever names
/// others give themselves.
async fn meant(realm: &Realm, typed: &str) -> Result<Vec<User>, Error> {
    let named = realm.user_by_name(typed).await?;
    let mut users: Vec<User> = named.into_iter().collect();
    if is_address(typed.trim()) {
        for id in index::people(&realm.records, typed, ACCOUNTS_OF_ADDRESS_MAX).await? {
            if users.iter().all(|user| user.id != id) {
                users.extend(realm.user(&id).await?);
            }
        }
    }
    Ok(users)
}

async fn deliver(
    realm: &Realm,
    mail_transport: &dyn MailTransport,
    waiting: &Waiting,
    user: &User,
    now: Timestamp,
) -> Result<Result<(), NotSent>, Error> {
    let Some(email) = user.email.as_deref().filter(|email| is_address(email)) else { return Ok(Ok(())) };
    let purpose = waiting.purpose;
    let secret = match purpose {
        Purpose::PasswordChanged => None,
        Purpose::Recovery | Purpose::Invitation | Purpose::Verification => {
            if index::is_anothers(&realm.records, user, email).await?.0 {
                let user = &user.id;
                tracing::warn!(
                    user,
                    ?purpose,
                    "identity: no link is sent to an address that is another user's"
                );
                return Ok(Ok(()));
            }
            Some(secret::make(realm, purpose, user, email, now).await?)
        }
    };
    let message = compose::message(realm, purpose, waiting.language, user, email, secret.as_deref())?;
    match tokio::time::timeout(SENDING_MAX, mail_transport.send(message)).await {
        Ok(sent) => Ok(sent),
        Err(_) => Ok(Err(NotSent::Server(format!("no answer in {} s", SENDING_MAX.as_secs())))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mail::SentElsewhere;

    #[tokio::test]
    async fn so_many_messages_wait_and_not_one_more() {
        let realm = crate::testing::realm(Some(Arc::new(SentElsewhere))).await;
        let put =
            || put(&realm, Purpose::Recovery, Whom::Typed(String::new()), Language::English, realm.now());
        realm.mail_waiting.store(WAITING_MAX - 1, Ordering::Release);
        put().await.unwrap();
        for _ in 0..2 {
            assert!(matches!(put().await, Err(Error::Contended("the outbox, which is full"))));
        }
        // What was refused does not count, and the next round counts anew.
        assert_eq!(realm.mail_waiting.load(Ordering::Acquire), WAITING_MAX);
        realm.send_mail().await.unwrap();
        put().await.unwrap();
    }
}
