//! The realm's records: which kinds there are, how each is named in the store, and
//! reading and writing them as typed values.
//!
//! Everything that comes from outside or names somebody is a hidden segment of a key; a
//! secret is a segment only as its hash.

use std::sync::Arc;
use std::time::Duration;

use keys::SecureRandom;
use model::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::limits::{KEY_SEGMENT_BYTES_MAX, SCAN_RECORDS_MAX};
use store::{Cursor, Expect, Key, Record, Store, Transaction, Value, Version, Watch};

use crate::Error;
use crate::observe::Telling;

/// The kinds of records, and the word of the key that each stands under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The realm's signing keys and secrets: one record.
    Keys,
    /// Settings that were changed: one record.
    Settings,
    /// A client, by id.
    Client,
    /// A user, by id.
    User,
    /// A user's id, by folded user name.
    UserName,
    /// A user's password hash, by user id.
    Password,
    /// What a user enrolled beside it, by user id.
    Factors,
    /// What somebody at their account is offered to enrol, by `sid`.
    Offer,
    /// Whose passkey it is, by the hash of its credential id, which may be longer than a segment.
    Credential,
    /// A browser session, by `sid`.
    Session,
    /// The sessions of a user, by user and `sid`.
    UserSession,
    /// The grants of a user, by user and grant.
    UserGrant,
    /// An authorization that waits for a person, by hash of its id.
    Interaction,
    /// A pushed authorization request, by hash of its name.
    Pushed,
    /// An authorization code, by its hash.
    Code,
    /// A grant and its refresh family, by id.
    Grant,
    /// The grants of a session, by `sid` and grant.
    SessionGrant,
    /// The clients that got tokens in a session, by `sid` and client.
    SessionClient,
    /// What was consented to, by user and client.
    Consent,
    /// When consent was taken back, by user and client; everybody's, by client.
    Withdrawn,
    /// A `jti` that was used, by hash of its owner and itself.
    Seen,
    /// A device authorization, by hash of the device code.
    Device,
    /// How many user codes a person tried, by user.
    CodeAttempts,
    /// A device code's hash, by user code.
    UserCode,
    /// The users of an e-mail address, by folded address and id.
    UserEmail,
    /// The id of the user who showed that an e-mail address is theirs, by folded address.
    EmailOwner,
    /// A message that waits, by a name of its own.
    MailMessage,
    /// The secret of a link in a message, by its hash.
    MailSecret,
    /// What failed so far, by account, address or browser.
    Failures,
    /// An access token that was revoked, by `jti`.
    Revoked,
    /// A logout token that is still to be delivered, by a name of its own.
    Delivery,
    /// What has ended and left something to do, by what it is.
    Ended,
}

impl Kind {
    /// How often a contended record is read again.
    const fn attempts_max(self) -> u32 {
        match self {
            Self::Failures => COUNT_ATTEMPTS_MAX,
            _ => ATTEMPTS_MAX,
        }
    }

    /// What belongs to a user and goes with them, by user.
    pub(crate) const OF_USER: [Self; 4] = [Self::Password, Self::Factors, Self::Consent, Self::CodeAttempts];

    const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Settings => "settings",
            Self::Client => "client",
            Self::User => "user",
            Self::UserName => "user_name",
            Self::Password => "password",
            Self::Factors => "factors",
            Self::Offer => "offer",
            Self::Credential => "credential",
            Self::Session => "session",
            Self::UserSession => "user_session",
            Self::UserGrant => "user_grant",
            Self::Interaction => "interaction",
            Self::Pushed => "pushed",
            Self::Code => "code",
            Self::Grant => "grant",
            Self::SessionGrant => "session_grant",
            Self::SessionClient => "session_client",
            Self::Consent => "consent",
            Self::Withdrawn => "withdrawn",
            Self::Seen => "seen",
            Self::Device => "device",
            Self::CodeAttempts => "code_attempts",
            Self::UserCode => "user_code",
            Self::UserEmail => "user_email",
            Self::EmailOwner => "email_owner",
            Self::MailMessage => "mail_message",
            Self::MailSecret => "mail_secret",
            Self::Failures => "failures",
            Self::Revoked => "revoked",
            Self::Delivery => "delivery",
            Self::Ended => "ended",
        }
    }
}

/// How often a contended record is read again.
pub(crate) const ATTEMPTS_MAX: u32 = 8;
/// The same for a count of failures, which many change at once while somebody guesses.
const COUNT_ATTEMPTS_MAX: u32 = 32;

/// A record as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) version: Version,
    pub(crate) expires: Option<Timestamp>,
}

impl<T: DeserializeOwned> Stored<T> {
    /// A record of this kind.
    pub(crate) fn read(kind: Kind, record: &Record) -> Result<Self, Error> {
        let value = read(kind, &record.value)?;
        Ok(Self { value, version: record.version, expires: record.expires })
    }
}

/// How long an attempt waits: longer each time, and between half and one and a half of that by
/// `chance`, so that those who collided do not meet again.
fn pause(attempt: u32, chance: u8) -> Duration {
    Duration::from_millis(5) * attempt * (128 + u32::from(chance)) / 256
}

/// How a write that expected something came out.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was written.
    Done,
    /// Something else stands there; nothing was written.
    Conflict,
}

/// Whether a record of this version, or none, is as expected.
pub(crate) fn is_as(expect: Expect, version: Option<Version>) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => version.is_none(),
        Expect::Present => version.is_some(),
        Expect::Version(wanted) => version == Some(wanted),
    }
}

/// What a record becomes, and what is done beside that in the same transaction.
pub(crate) struct Change<T> {
    pub(crate) value: T,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) besides: Transaction,
}

impl<T> Change<T> {
    /// The record alone.
    pub(crate) fn to(value: T, expires: Option<Timestamp>) -> Self {
        Self { value, expires, besides: Transaction::new() }
    }
}

/// The records of one realm.
#[derive(Clone)]
pub(crate) struct Records {
    store: Store,
    realm: String,
    random: Arc<dyn SecureRandom + Send + Sync>,
}

impl Records {
    pub(crate) fn new(store: Store, realm: String, random: Arc<dyn SecureRandom + Send + Sync>) -> Self {
        Self { store, realm, random }
    }

    /// Waits a little before a contended record is read again: what another process wrote is
    /// seen here within 50 ms.
    pub(crate) async fn pause(&self, attempt: u32) {
        // The first attempt is at once: a sleep of nothing takes a turn of the timer.
        if attempt > 0 {
            // Without a random number it is as long as it would be on average.
            let [chance] = crate::random::bytes(self.random.as_ref()).unwrap_or([128]);
            tokio::time::sleep(pause(attempt, chance)).await;
        }
    }

    fn prefix(&self, kind: Kind) -> Key {
        Key::new("identity").hidden(self.realm.clone()).name(kind.name())
    }

    /// The key of a record.
    pub(crate) fn key(&self, kind: Kind, path: &[&str]) -> Key {
        path.iter().fold(self.prefix(kind), |key, segment| key.hidden(*segment))
    }

    /// A record as the store has it. Under what is too long to be a name there is none: browsers
    /// and clients send what they like.
    async fn record(&self, kind: Kind, path: &[&str]) -> Result<Option<Record>, Error> {
        if path.iter().any(|segment| segment.len() > KEY_SEGMENT_BYTES_MAX) {
            return Ok(None);
        }
        Ok(self.store.get(&self.key(kind, path)).await?)
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        kind: Kind,
        path: &[&str],
    ) -> Result<Option<Stored<T>>, Error> {
        let record = self.record(kind, path).await?;
        record.map(|record| Stored::read(kind, &record)).transpose()
    }

    /// The record and its version, or what is `known` of that version: then it is not read.
    pub(crate) async fn get_known<T: DeserializeOwned, K>(
        &self,
        kind: Kind,
        path: &[&str],
        known: impl FnOnce(Version) -> Option<K>,
    ) -> Result<Option<(Result<K, T>, Version)>, Error> {
        let Some(record) = self.record(kind, path).await? else { return Ok(None) };
        let value = match known(record.version) {
            Some(known) => Ok(known),
            None => Err(read(kind, &record.value)?),
        };
        Ok(Some((value, record.version)))
    }

    /// Whether there is such a record.
    pub(crate) async fn exists(&self, kind: Kind, path: &[&str]) -> Result<bool, Error> {
        Ok(self.record(kind, path).await?.is_some())
    }

    /// Follows what changes among the records of a kind from now on.
    pub(crate) fn watch(&self, kind: Kind) -> Watch {
        self.watch_after(kind, self.version())
    }

    /// The same after a version.
    pub(crate) fn watch_after(&self, kind: Kind, after: Version) -> Watch {
        self.store.watch(&self.key(kind, &[]), after)
    }

    /// What everything that is read from now on is at least as new as.
    pub(crate) fn version(&self) -> Version {
        self.store.version()
    }

    /// Whether nothing was written since then: see [`Store::is_still`].
    pub(crate) fn is_still(&self, version: Version) -> bool {
        self.store.is_still(version)
    }

    /// Writes one record.
    pub(crate) async fn put<T: Serialize>(
        &self,
        kind: Kind,
        path: &[&str],
        value: &T,
        expires: Option<Timestamp>,
        expect: Expect,
    ) -> Result<Written, Error> {
        self.commit(self.write(Transaction::new(), kind, path, value, expires, expect)?).await
    }

    /// Changes one record in one compare-and-set. `decide` is shown what stands there and may
    /// be asked several times; without a change of its, nothing is written. `what` names the
    /// record where others change it too often.
    pub(crate) async fn change<T, R, E>(
        &self,
        kind: Kind,
        path: &[&str],
        what: &'static str,
        decide: impl FnMut(Option<Stored<T>>) -> Result<(Option<Change<T>>, R), E>,
    ) -> Result<R, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        self.change_and_tell(kind, path, what, None, decide).await
    }

    /// The same, and tells of it once it is written, see [`Self::commit_and_tell`].
    pub(crate) async fn change_and_tell<T, R, E>(
        &self,
        kind: Kind,
        path: &[&str],
        what: &'static str,
        telling: Option<&Telling>,
        mut decide: impl FnMut(Option<Stored<T>>) -> Result<(Option<Change<T>>, R), E>,
    ) -> Result<R, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        for attempt in 0..kind.attempts_max() {
            self.pause(attempt).await;
            let stored = self.get::<T>(kind, path).await?;
            let expect = stored.as_ref().map_or(Expect::Absent, |stored| Expect::Version(stored.version));
            let (change, result) = decide(stored)?;
            let Some(Change { value, expires, besides }) = change else { return Ok(result) };
            let changes = self.write(besides, kind, path, &value, expires, expect)?;
            let written = match telling {
                Some(telling) => self.commit_and_tell(changes, telling.clone()).await?,
                None => self.commit(changes).await?,
            };
            if written == Written::Done {
                return Ok(result);
            }
        }
        Err(Error::Contended(what).into())
    }

    /// Removes one record, whatever it is.
    pub(crate) async fn remove(&self, kind: Kind, path: &[&str]) -> Result<(), Error> {
        let gone = self.commit(Transaction::new().delete(self.key(kind, path), Expect::Any)).await?;
        match gone {
            Written::Done | Written::Conflict => Ok(()),
        }
    }

    /// Adds a write to a transaction.
    pub(crate) fn write<T: Serialize>(
        &self,
        transaction: Transaction,
        kind: Kind,
        path: &[&str],
        value: &T,
        expires: Option<Timestamp>,
        expect: Expect,
    ) -> Result<Transaction, Error> {
        let value = Value::from_json(value)?;
        Ok(transaction.put(self.key(kind, path), value, expires, expect))
    }

    /// Does all of it or nothing.
    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<Written, Error> {
        match self.store.commit(transaction).await {
            Ok(_) => Ok(Written::Done),
            Err(store::Error::Conflict { .. }) => Ok(Written::Conflict),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, and tells of it once it is done, although whoever asked goes away meanwhile.
    pub(crate) async fn commit_and_tell(
        &self,
        transaction: Transaction,
        telling: Telling,
    ) -> Result<Written, Error> {
        let told = |done| async move {
            if done {
                telling.tell().await;
            }
        };
        self.commit_and_follow(transaction, told).await
    }

    /// The same, and what follows when it is done or not. INVARIANT: nobody who goes away comes between
    /// the two: what the store was given it finishes, whoever waits for it.
    pub(crate) async fn commit_and_follow<Followed>(
        &self,
        transaction: Transaction,
        follow: impl FnOnce(bool) -> Followed + Send + 'static,
    ) -> Result<Written, Error>
    where
        Followed: Future<Output = ()> + Send,
    {
        let records = self.clone();
        let committed = tokio::spawn(async move {
            let written = records.commit(transaction).await;
            if let Err(Error::Store(error @ store::Error::Unknown(_))) = &written {
                tracing::error!("what was done may have no event: {error}");
            }
            follow(matches!(written, Ok(Written::Done))).await;
            written
        });
        // It panicked, and the hook has said why.
        committed.await.unwrap_or(Err(Error::Contended("what a task wrote that did not end")))
    }

    /// All records below a path, with the last segment of each key.
    pub(crate) async fn list_all<T: DeserializeOwned>(
        &self,
        kind: Kind,
        path: &[&str],
    ) -> Result<Vec<(String, Stored<T>)>, Error> {
        self.list(kind, path, usize::MAX).await
    }

    /// All records of a kind with their keys; more than `most` of them are an error.
    pub(crate) async fn all<T: DeserializeOwned>(
        &self,
        kind: Kind,
        most: usize,
    ) -> Result<Vec<(Key, T)>, Error> {
        let records = self.store.scan_all(&self.key(kind, &[]), most).await?;
        records.into_iter().map(|record| Ok((record.key, read(kind, &record.value)?))).collect()
    }

    /// Up to `limit` records below a path, after a cursor, and where to go on.
    pub(crate) async fn page<T: DeserializeOwned>(
        &self,
        kind: Kind,
        path: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<(Vec<Stored<T>>, Option<Cursor>), Error> {
        let page = self.store.scan(&self.key(kind, path), after, limit.clamp(1, SCAN_RECORDS_MAX)).await?;
        let stored = page.records.iter().map(|record| Stored::read(kind, record));
        Ok((stored.collect::<Result<_, _>>()?, page.next))
    }

    /// All records of a kind, so many at a time.
    pub(crate) fn pages(&self, kind: Kind, limit: usize) -> Pages<'_> {
        Pages { records: self, kind, limit, after: None, is_over: false }
    }

    /// Removes everything below a path.
    pub(crate) async fn remove_all(&self, kind: Kind, path: &[&str]) -> Result<(), Error> {
        self.store.delete_all(&self.key(kind, path)).await?;
        Ok(())
    }

    /// The records below a path, at most `most` of them, with the last segment of each
    /// key.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        kind: Kind,
        path: &[&str],
        most: usize,
    ) -> Result<Vec<(String, Stored<T>)>, Error> {
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let limit = most.min(SCAN_RECORDS_MAX);
            let page = self.store.scan(&self.key(kind, path), cursor.as_ref(), limit).await?;
            for record in page.records {
                let name = record.key.last_text().unwrap_or_default().to_owned();
                found.push((name, Stored::read(kind, &record)?));
                if found.len() == most {
                    return Ok(found);
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(found),
            }
        }
    }
}

/// The records of a kind, page by page.
pub(crate) struct Pages<'a> {
    records: &'a Records,
    kind: Kind,
    limit: usize,
    after: Option<Cursor>,
    is_over: bool,
}

impl Pages<'_> {
    /// The next page; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Record>>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let limit = self.limit.clamp(1, SCAN_RECORDS_MAX);
        let all = self.records.prefix(self.kind);
        let page = self.records.store.scan(&all, self.after.as_ref(), limit).await?;
        self.is_over = page.next.is_none();
        self.after = page.next;
        Ok(Some(page.records))
    }
}

pub(crate) fn read<T: DeserializeOwned>(kind: Kind, value: &Value) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|source| Error::Content { kind: kind.name(), source })
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;
    use tokio::task::block_in_place;

    use super::*;
    use crate::testing::Still;

    const PATH: [&str; 1] = ["alice"];

    fn records() -> Records {
        let random = Arc::new(keys::SystemRandom::new());
        Records::new(Store::in_memory(Arc::new(Still)).unwrap(), "acme".to_owned(), random)
    }

    /// What somebody else does while a change is being decided.
    fn meanwhile(records: &Records, value: u64) {
        let written = records.put(Kind::CodeAttempts, &PATH, &value, None, Expect::Any);
        let written = block_in_place(|| Handle::current().block_on(written));
        assert_eq!(written.unwrap(), Written::Done);
    }

    async fn stands(records: &Records) -> Option<u64> {
        records.get(Kind::CodeAttempts, &PATH).await.unwrap().map(|stored| stored.value)
    }

    /// Adds one, while others write what `others` has, one at each decision.
    async fn add_one(records: &Records, others: &[u64]) -> (Result<u64, Error>, Vec<Option<u64>>) {
        let (mut seen, mut others) = (Vec::new(), others.iter());
        let changed = records.change(Kind::CodeAttempts, &PATH, "attempts", |stored: Option<Stored<u64>>| {
            let stored = stored.map(|stored| stored.value);
            seen.push(stored);
            if let Some(other) = others.next() {
                meanwhile(records, *other);
            }
            let next = stored.unwrap_or_default() + 1;
            Ok::<_, Error>((Some(Change::to(next, None)), next))
        });
        (changed.await, seen)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_is_decided_anew_when_somebody_else_was_faster() {
        let records = records();
        let (changed, seen) = add_one(&records, &[]).await;
        assert_eq!((changed.unwrap(), seen), (1, vec![None]), "alone, it is decided once");

        let (changed, seen) = add_one(&records, &[10, 20]).await;
        assert_eq!(changed.unwrap(), 21, "what the others wrote is counted");
        assert_eq!(seen, [Some(1), Some(10), Some(20)]);
        assert_eq!(stands(&records).await, Some(21));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nor_is_what_somebody_else_made_meanwhile_overwritten() {
        let records = records();
        let (changed, seen) = add_one(&records, &[10]).await;
        assert_eq!((changed.unwrap(), seen), (11, vec![None, Some(10)]));
        assert_eq!(stands(&records).await, Some(11));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_record_that_never_rests_is_given_up_and_left_to_the_others() {
        let records = records();
        let others: Vec<u64> = (0..u64::from(ATTEMPTS_MAX)).map(|number| 100 * number).collect();
        let (changed, seen) = add_one(&records, &others).await;
        assert!(matches!(changed, Err(Error::Contended("attempts"))), "{changed:?}");
        assert_eq!(seen.len(), others.len());
        assert_eq!(stands(&records).await, others.last().copied());

        let (changed, _) = add_one(&records, &others[1..]).await;
        assert_eq!(changed.unwrap(), 701, "with one fewer in the way the last attempt succeeds");
    }

    #[test]
    fn pauses_grow_and_differ_and_outlast_what_another_process_wrote() {
        assert_eq!(pause(0, 255), Duration::ZERO);
        assert_eq!(pause(1, 128), Duration::from_millis(5));
        assert_eq!((pause(4, 0), pause(4, 128)), (Duration::from_millis(10), Duration::from_millis(20)));
        assert!(pause(4, 255) < Duration::from_millis(30));
        let shortest: Duration = (0..ATTEMPTS_MAX).map(|attempt| pause(attempt, 0)).sum();
        assert!(shortest >= Duration::from_millis(50), "{shortest:?}");
    }

    #[tokio::test]
    async fn without_a_change_nothing_is_written() {
        let records = records();
        let looked = records.change(Kind::CodeAttempts, &PATH, "attempts", |stored: Option<Stored<u64>>| {
            Ok::<_, Error>((None::<Change<u64>>, stored.is_none()))
        });
        assert!(looked.await.unwrap());
        assert_eq!(stands(&records).await, None);
    }
}
