//! A realm at work: its settings, records, keys, and the world that it was given.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use keys::SecureRandom;
use model::{Clock, Secret, Timestamp};
use store::{Cursor, Expect, Store, Transaction, Version};

use crate::Error;
use crate::caches::Clients;
use crate::client::Client;
use crate::deliver::Deliver;
use crate::key::{KeyEntry, KeyRecord, KeyRing, SigningKey};
use crate::login::password::Passwords;
use crate::mail::MailTransport;
use crate::observe::Observe;
use crate::random::Names;
use crate::record::{ATTEMPTS_MAX, Change, Kind, Records, Stored, Written, is_as};
use crate::settings::{RealmSettings, SettingsChange};
use crate::user::{User, described, folded};

/// How often the keys are looked at, and deliveries that failed tried again.
const KEEP_EVERY: Duration = Duration::from_secs(30);
/// The least pause between two rounds of messages.
const MAIL_PAUSE_MIN: Duration = Duration::from_millis(200);

/// What a realm is given of the world.
#[derive(Clone)]
pub struct World {
    /// Where records are kept.
    pub store: Store,
    /// Where the time comes from: every lifetime and every rotation.
    pub clock: Arc<dyn Clock>,
    /// Where keys, codes and secrets come from.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
    /// Sends logout tokens to clients.
    pub deliver: Arc<dyn Deliver>,
    /// Is told of logins, logouts and changes of what one logs in with.
    pub observer: Arc<dyn Observe>,
    /// Sends e-mail; `None`: none is sent.
    pub mail_transport: Option<Arc<dyn MailTransport>>,
}

/// Some of a realm's records.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// They, each with its version.
    pub items: Vec<(T, Version)>,
    /// Where to go on; `None`: nothing is left.
    pub next: Option<Cursor>,
}

impl<T> Listing<T> {
    fn of((records, next): (Vec<Stored<T>>, Option<Cursor>)) -> Self {
        let items = records.into_iter().map(|stored| (stored.value, stored.version)).collect();
        Self { items, next }
    }
}

/// A realm, open: the state of its router.
pub struct Realm {
    pub(crate) settings: RealmSettings,
    /// Without what was changed since.
    pub(crate) configured: RealmSettings,
    /// What was changed before is among the settings.
    pub(crate) settled: Version,
    pub(crate) records: Records,
    pub(crate) random: Arc<dyn SecureRandom + Send + Sync>,
    pub(crate) deliver: Arc<dyn Deliver>,
    pub(crate) observer: Arc<dyn Observe>,
    pub(crate) mail_transport: Option<Arc<dyn MailTransport>>,
    /// About as many messages wait.
    pub(crate) mail_waiting: AtomicUsize,
    pub(crate) passwords: Passwords,
    pub(crate) delivery_due: tokio::sync::Notify,
    /// Of access tokens and the like.
    pub(crate) token_names: Names,
    clock: Arc<dyn Clock>,
    key_ring: RwLock<Arc<KeyRing>>,
    clients: Clients,
}

impl std::fmt::Debug for Realm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Realm").field("issuer", &self.settings.issuer).finish_non_exhaustive()
    }
}

impl Realm {
    /// Checks the settings, takes what was changed of them, and makes the realm's keys when it
    /// has none.
    ///
    /// # Errors
    /// The settings contradict themselves; the store or the cryptographic library fails.
    pub async fn open(configured: RealmSettings, world: World) -> Result<Arc<Self>, Error> {
        configured.check()?;
        let records = Records::new(world.store, configured.name.clone(), Arc::clone(&world.random));
        let settled = records.version();
        let settings = match records.get::<SettingsChange>(Kind::Settings, &[]).await? {
            Some(stored) => stored.value.over_lenient(&configured),
            None => configured.clone(),
        };
        if let Some(path) = &settings.passwords.breached {
            crate::login::password::breached::check(path).map_err(|error| Error::Settings {
                realm: settings.name.clone(),
                why: format!("breached passwords {}: {error}", path.display()),
            })?;
        }
        let key_ring = rotate(&records, &settings, &world.random, world.clock.now()).await?;
        Ok(Arc::new(Self {
            passwords: Passwords::new(settings.password_hashes_at_once)?,
            settings,
            configured,
            settled,
            records,
            random: world.random,
            deliver: world.deliver,
            observer: world.observer,
            mail_transport: world.mail_transport,
            mail_waiting: AtomicUsize::new(0),
            delivery_due: tokio::sync::Notify::new(),
            token_names: Names::default(),
            clock: world.clock,
            key_ring: RwLock::new(Arc::new(key_ring)),
            clients: Clients::default(),
        }))
    }

    /// Rotates keys when they are due, delivers logout tokens and sends messages, for as long
    /// as it is polled. Spawn it on the control plane's runtime.
    pub async fn run(self: Arc<Self>) {
        // Apart: a slow mail server holds nothing else up.
        tokio::join!(self.keep_keys(), self.keep_mail());
    }

    async fn keep_mail(&self) {
        if self.mail_transport.is_none() {
            return;
        }
        let mut watch = self.records.watch(Kind::MailMessage);
        loop {
            let next = match self.send_mail().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(issuer = self.settings.issuer, %error, "identity: messages were not sent");
                    None
                }
            };
            let pause = next.map_or(KEEP_EVERY, |next| next.since(self.now()));
            let pause = pause.clamp(MAIL_PAUSE_MIN, KEEP_EVERY);
            // Whichever it is, it is time: a message that another process wrote too.
            let _ = tokio::time::timeout(pause, watch.next()).await;
            tokio::time::sleep(MAIL_PAUSE_MIN).await;
        }
    }

    async fn keep_keys(&self) {
        loop {
            if let Err(error) = self.rotate_keys().await {
                tracing::error!(issuer = self.settings.issuer, %error, "identity: keys were not looked after");
            }
            if let Err(error) = self.deliver_logouts().await {
                tracing::error!(issuer = self.settings.issuer, %error, "identity: logout tokens were not delivered");
            }
            // Either way it is time.
            let _ = tokio::time::timeout(KEEP_EVERY, self.delivery_due.notified()).await;
        }
    }

    /// Makes, prepares and forgets keys as their times say, and takes over what other
    /// processes made.
    ///
    /// # Errors
    /// The store or the cryptographic library fails; the keys of before stay in use.
    pub async fn rotate_keys(&self) -> Result<(), Error> {
        let key_ring = rotate(&self.records, &self.settings, &self.random, self.now()).await?;
        *self.key_ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key_ring);
        Ok(())
    }

    /// Ends the signing of every key now and makes others. With `forget`, everything that
    /// they signed is good no more: for keys that somebody else may know.
    ///
    /// # Errors
    /// As for [`Self::rotate_keys`]; [`Error::Record`] when more would be published than
    /// verifiers take.
    pub async fn replace_keys(&self, forget: bool) -> Result<(), Error> {
        const WHAT: &str = "the realm's keys";
        let decide = |stored: Option<Stored<KeyRecord>>| {
            let before = stored.ok_or(Error::Contended(WHAT))?.value;
            if !forget && before.is_full(&self.settings, self.now()) {
                let why = "so many were made recently that verifiers would accept no more; wait for an hour";
                return Err(Error::Record { what: "keys".to_owned(), why: why.to_owned() });
            }
            Ok((Some(Change::to(before.ended(&self.settings, self.now(), forget), None)), ()))
        };
        self.records.change(Kind::Keys, &[], WHAT, decide).await?;
        self.rotate_keys().await
    }

    /// The keys of now.
    pub(crate) fn key_ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.key_ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The longest life of anything that was signed and may still be good: lifetimes may have been
    /// longer than they are. What is revoked has to be remembered for as long.
    pub(crate) fn longest_token(&self) -> Duration {
        self.key_ring().longest_token(&self.settings)
    }

    /// The present time by [`World::clock`].
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What it is configured to be.
    pub fn settings(&self) -> &RealmSettings {
        &self.settings
    }

    /// The signing keys, without what signs.
    pub fn signing_keys(&self) -> Vec<SigningKey> {
        let key_ring = self.key_ring();
        let one = |(id, entry): (&str, &KeyEntry)| SigningKey {
            id: id.to_owned(),
            algorithm: entry.algorithm,
            created: entry.created,
            signs_from: entry.signs_from,
            signs_until: entry.signs_until,
            published_until: entry.published_until,
        };
        key_ring.entries().map(one).collect()
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// The address of an endpoint.
    pub(crate) fn address(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.settings.issuer)
    }

    /// The path of an endpoint.
    pub(crate) fn path(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.settings.path())
    }

    /// A client that may be used; `None` for one that is unknown or switched off.
    pub(crate) async fn client(&self, id: &str) -> Result<Option<Arc<Client>>, Error> {
        if id.is_empty() || id.len() > crate::client::CLIENT_ID_BYTES_MAX {
            return Ok(None);
        }
        if let Some(client) = self.clients.standing(id, |as_of| self.records.is_still(as_of)) {
            return Ok(Some(client).filter(|client| !client.disabled));
        }
        let as_of = self.records.version();
        let known = |version| self.clients.at(id, version);
        let Some((client, version)) = self.records.get_known(Kind::Client, &[id], known).await? else {
            return Ok(None);
        };
        let client = client.unwrap_or_else(Arc::new);
        self.clients.keep(id, (version, as_of), &client);
        Ok(Some(client).filter(|client| !client.disabled))
    }

    /// A user who may do something; `None` for one who is unknown or switched off.
    pub(crate) async fn user(&self, id: &str) -> Result<Option<User>, Error> {
        let found = self.records.get::<User>(Kind::User, &[id]).await?;
        Ok(found.map(|stored| stored.value).filter(|user| !user.disabled))
    }

    /// The same, while what they began at this time is not over.
    pub(crate) async fn user_since(&self, id: &str, begun: Timestamp) -> Result<Option<User>, Error> {
        Ok(self.user(id).await?.filter(|user| !user.is_over(begun)))
    }

    /// A user by what they log in with.
    pub(crate) async fn user_by_name(&self, username: &str) -> Result<Option<User>, Error> {
        Ok(self.named(username).await?.filter(|user| !user.disabled))
    }

    /// The same, switched off or not.
    pub(crate) async fn named(&self, username: &str) -> Result<Option<User>, Error> {
        let folded = folded(username);
        if folded.is_empty() || folded.len() > crate::user::USERNAME_BYTES_MAX {
            return Ok(None);
        }
        let Some(id) = self.records.get::<String>(Kind::UserName, &[&folded]).await? else { return Ok(None) };
        Ok(self.records.get::<User>(Kind::User, &[&id.value]).await?.map(|stored| stored.value))
    }

    /// A client, switched off or not, and its version.
    ///
    /// # Errors
    /// The store fails.
    pub async fn find_client(&self, id: &str) -> Result<Option<(Client, Version)>, Error> {
        let found = self.records.get::<Client>(Kind::Client, &[id]).await?;
        Ok(found.map(|stored| (stored.value, stored.version)))
    }

    /// The clients, switched off or not.
    ///
    /// # Errors
    /// The store fails.
    pub async fn clients(&self) -> Result<Vec<Client>, Error> {
        let found = self.records.list_all::<Client>(Kind::Client, &[]).await?;
        Ok(found.into_iter().map(|(_, stored)| stored.value).collect())
    }

    /// Some of the clients, and where to go on.
    ///
    /// # Errors
    /// The store fails.
    pub async fn clients_page(&self, after: Option<&Cursor>, limit: usize) -> Result<Listing<Client>, Error> {
        self.records.page(Kind::Client, &[], after, limit).await.map(Listing::of)
    }

    /// The users, switched off or not.
    ///
    /// # Errors
    /// The store fails.
    pub async fn users(&self) -> Result<Vec<User>, Error> {
        let found = self.records.list_all::<User>(Kind::User, &[]).await?;
        Ok(found.into_iter().map(|(_, stored)| stored.value).collect())
    }

    /// Some of the users, and where to go on.
    ///
    /// # Errors
    /// The store fails.
    pub async fn users_page(&self, after: Option<&Cursor>, limit: usize) -> Result<Listing<User>, Error> {
        self.records.page(Kind::User, &[], after, limit).await.map(Listing::of)
    }

    /// A user by id, switched off or not, and their version.
    ///
    /// # Errors
    /// The store fails.
    pub async fn find_user_by_id(&self, id: &str) -> Result<Option<(User, Version)>, Error> {
        let found = self.records.get::<User>(Kind::User, &[id]).await?;
        Ok(found.map(|stored| (stored.value, stored.version)))
    }

    /// A user by what they log in with, switched off or not.
    ///
    /// # Errors
    /// The store fails.
    pub async fn find_user(&self, username: &str) -> Result<Option<User>, Error> {
        let Some(id) = self.records.get::<String>(Kind::UserName, &[&folded(username)]).await? else {
            return Ok(None);
        };
        Ok(self.records.get::<User>(Kind::User, &[&id.value]).await?.map(|stored| stored.value))
    }

    /// A new id for a user: 128 random bits.
    ///
    /// # Errors
    /// The generator fails.
    pub fn new_user_id(&self) -> Result<String, Error> {
        crate::random::name(self.random.as_ref())
    }

    /// Adds a user, or changes one. Switching one off ends what they began, see
    /// [`Self::sign_out`]. Taking a role or a group away ends their access tokens: what they began
    /// goes on without it.
    ///
    /// # Errors
    /// [`Error::Record`] for a malformed user, for a user name that is another's, and for a new
    /// user of a client's id; [`Error::Owned`] for an address that they would have verified and another
    /// did; the store fails.
    pub async fn put_user(&self, user: &User) -> Result<(), Error> {
        match self.write_user(user, Expect::Any).await? {
            Written::Done => Ok(()),
            Written::Conflict => Err(Error::Contended("a user")),
        }
    }

    /// Judges a user as [`Self::put_user`] does, and writes nothing.
    ///
    /// # Errors
    /// As [`Self::put_user`].
    pub async fn judge_user(&self, user: &User) -> Result<(), Error> {
        user.check()?;
        let before = self.records.get::<User>(Kind::User, &[&user.id]).await?;
        self.user_changes(user, before.as_ref(), None).await.map(drop)
    }

    /// Writes a user as [`Self::put_user`] does, when they are as expected until now.
    ///
    /// # Errors
    /// As [`Self::put_user`].
    pub async fn write_user(&self, user: &User, expect: Expect) -> Result<Written, Error> {
        user.check()?;
        for attempt in 0..ATTEMPTS_MAX {
            self.records.pause(attempt).await;
            let before = self.records.get::<User>(Kind::User, &[&user.id]).await?;
            let version = before.as_ref().map(|before| before.version);
            if !is_as(expect, version) {
                return Ok(Written::Conflict);
            }
            let now = self.now();
            let switched_off = user.disabled && before.as_ref().is_some_and(|before| !before.value.disabled);
            let changes = self.user_changes(user, before.as_ref(), switched_off.then_some(now)).await?;
            if self.records.commit(changes).await? == Written::Done {
                if switched_off {
                    self.finish(&user.id).await?;
                }
                return Ok(Written::Done);
            }
        }
        Err(Error::Contended("a user"))
    }

    /// What writing a user changes; `ends`: when everything that they began is over.
    async fn user_changes(
        &self,
        user: &User,
        before: Option<&Stored<User>>,
        ends: Option<Timestamp>,
    ) -> Result<Transaction, Error> {
        let records = &self.records;
        let name = folded(&user.username);
        let owner = records.get::<String>(Kind::UserName, &[&name]).await?;
        let expect = match &owner {
            None => Expect::Absent,
            Some(owner) if owner.value == user.id => Expect::Version(owner.version),
            Some(_) => {
                let what = described(&user.username);
                return Err(Error::Record { what, why: "the user name is another's".to_owned() });
            }
        };
        let mut user = user.clone();
        let was = before.and_then(|before| before.value.signed_out);
        user.signed_out = user.signed_out.max(was).max(ends);
        let role_version = before.map_or(0, |before| before.value.role_version);
        let loses = before.is_some_and(|before| before.value.loses(&user));
        user.role_version = role_version.saturating_add(u64::from(loses));
        let mut changes = Transaction::new();
        if before.is_none() {
            changes = crate::client::register::unused(records, changes, Kind::Client, &user.id).await?;
        }
        if let Some(old) = before.map(|before| folded(&before.value.username)).filter(|old| *old != name) {
            changes = changes.delete(records.key(Kind::UserName, &[&old]), Expect::Any);
        }
        if let Some(now) = ends {
            changes = self.end_tokens(changes, &user.id, now)?;
        }
        if loses {
            changes = self.end_roles(changes, &user.id, role_version)?;
        }
        let changes = records.write(changes, Kind::UserName, &[&name], &user.id, None, expect)?;
        let old = before.map(|before| &before.value);
        let changes = crate::mail::index::change(records, changes, old, Some(&user)).await?;
        let expect = before.map_or(Expect::Absent, |before| Expect::Version(before.version));
        records.write(changes, Kind::User, &[&user.id], &user, None, expect)
    }

    /// Adds to a transaction that a person is as they were when they were judged, and that the session
    /// by which they were, if any, has not ended.
    pub(crate) fn as_judged(
        &self,
        changes: Transaction,
        (user, version): (&str, Version),
        session: Option<&str>,
    ) -> Transaction {
        let key = |kind, id: &str| self.records.key(kind, &[id]);
        let changes = changes.require(key(Kind::User, user), Expect::Version(version));
        let Some(session) = session else { return changes };
        changes.require(key(Kind::Session, session), Expect::Present)
    }

    /// Removes a user who is as expected, and everything that is theirs. Their tokens end at
    /// the gateways too.
    ///
    /// # Errors
    /// The store fails.
    pub async fn remove_user(&self, id: &str, expect: Expect) -> Result<Written, Error> {
        let records = &self.records;
        let Some(stored) = records.get::<User>(Kind::User, &[id]).await? else {
            return Ok(Written::Conflict);
        };
        let gone = Transaction::new()
            .require(records.key(Kind::User, &[id]), Expect::Version(stored.version))
            .delete(records.key(Kind::User, &[id]), expect)
            .delete(records.key(Kind::UserName, &[&folded(&stored.value.username)]), Expect::Any);
        let gone = crate::mail::index::change(records, gone, Some(&stored.value), None).await?;
        let gone = self.end_tokens(gone, id, self.now())?;
        let gone = crate::revocation::forget_roles(self, gone, id);
        if records.commit(gone).await? == Written::Conflict {
            return Ok(Written::Conflict);
        }
        self.finish(id).await?;
        Ok(Written::Done)
    }

    /// Gives a user a password, which ends everything that they began with another.
    ///
    /// # Errors
    /// [`Error::Record`] when there is no such user; the hash cannot be computed; the store
    /// fails.
    pub async fn set_password(&self, user: &str, password: Secret<String>) -> Result<(), Error> {
        let salt = crate::random::bytes::<16>(self.random.as_ref())?;
        let hash = self.passwords.hash(password, salt).await?;
        self.put_password_hash(user, &hash).await
    }

    /// The same with a hash (PHC string) that was made before, here or by another program.
    ///
    /// # Errors
    /// [`Error::Record`] when there is no such user, or the hash cannot be verified here; the
    /// store fails.
    pub async fn put_password_hash(&self, user: &str, hash: &str) -> Result<(), Error> {
        crate::check_password_hash(hash)
            .map_err(|why| Error::Record { what: "password hash".to_owned(), why })?;
        let records = &self.records;
        let change = |changes, expect| records.write(changes, Kind::Password, &[user], &hash, None, expect);
        // The first one has nothing before it to end.
        let first = change(Transaction::new(), Expect::Absent)?;
        let first = first.require(records.key(Kind::User, &[user]), Expect::Present);
        if records.commit(first).await? == Written::Conflict {
            self.change_and_end(user, None, |changes| change(changes, Expect::Any)).await?;
        }
        Ok(())
    }

    /// The hash of a user's password, for an export.
    ///
    /// # Errors
    /// The store fails.
    pub async fn password_hash(&self, user: &str) -> Result<Option<String>, Error> {
        let found = self.records.get::<String>(Kind::Password, &[user]).await?;
        Ok(found.map(|stored| stored.value))
    }
}

async fn rotate(
    records: &Records,
    settings: &RealmSettings,
    random: &Arc<dyn SecureRandom + Send + Sync>,
    now: Timestamp,
) -> Result<KeyRing, Error> {
    for attempt in 0..ATTEMPTS_MAX {
        records.pause(attempt).await;
        let stored = records.get::<KeyRecord>(Kind::Keys, &[]).await?;
        let (record, expect) = match stored {
            Some(stored) => (stored.value, Expect::Version(stored.version)),
            None => (KeyRecord::new(random.as_ref())?, Expect::Absent),
        };
        // An RSA key takes its time.
        let (random, own_settings) = (Arc::clone(random), settings.clone());
        let task = tokio::task::spawn_blocking(move || {
            let rotated = record.rotated(&own_settings, random.as_ref(), now)?;
            Ok::<_, Error>((record, rotated))
        });
        let (record, rotated) = task.await.map_err(|_| Error::Contended("the thread that makes keys"))??;
        let Some(rotated) = rotated else { return KeyRing::new(&record, settings, now) };
        // What cannot be used is not written.
        let key_ring = KeyRing::new(&rotated, settings, now)?;
        if records.put(Kind::Keys, &[], &rotated, None, expect).await? == Written::Done {
            tracing::info!(
                issuer = settings.issuer,
                keys = rotated.keys.len(),
                "identity: keys were rotated"
            );
            return Ok(key_ring);
        }
    }
    Err(Error::Contended("the realm's keys"))
}
