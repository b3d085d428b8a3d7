//! A realm at work: its settings, records, keys, and the world that it was given.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use keys::SecureRandom;
use model::{Clock, Secret, Timestamp};
use store::{Expect, Store, Transaction};

use crate::Error;
use crate::client::Client;
use crate::deliver::Deliver;
use crate::key::{KeyRecord, Ring};
use crate::login::password::Passwords;
use crate::mail::Courier;
use crate::record::{ATTEMPTS_MAX, Kind, Records, Written, pause};
use crate::settings::RealmSettings;
use crate::user::{User, folded};

/// How often the keys are looked at, and deliveries that failed tried again.
const KEEP_EVERY: Duration = Duration::from_secs(30);
/// The least pause between two rounds of letters.
const LETTERS_PAUSE_MIN: Duration = Duration::from_millis(200);
/// Most users or clients that one listing gives.
const LISTING_MAX: usize = 1000;

/// What a realm is given of the world.
#[derive(Clone)]
pub struct World {
    /// Where records are kept.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
    /// The way out, for logout tokens.
    pub deliver: Arc<dyn Deliver>,
    /// The way to the mail server; `None`: nobody is written to.
    pub courier: Option<Arc<dyn Courier>>,
}

/// A realm, open: the state of its router.
pub struct Realm {
    pub(crate) settings: RealmSettings,
    pub(crate) records: Records,
    pub(crate) random: Arc<dyn SecureRandom + Send + Sync>,
    pub(crate) deliver: Arc<dyn Deliver>,
    pub(crate) courier: Option<Arc<dyn Courier>>,
    /// About as many letters wait.
    pub(crate) letters_waiting: AtomicUsize,
    pub(crate) passwords: Passwords,
    pub(crate) delivery_due: tokio::sync::Notify,
    clock: Arc<dyn Clock>,
    ring: RwLock<Arc<Ring>>,
}

impl std::fmt::Debug for Realm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Realm").field("issuer", &self.settings.issuer).finish_non_exhaustive()
    }
}

impl Realm {
    /// Checks the settings, and makes the realm's keys when it has none.
    ///
    /// # Errors
    /// The settings contradict themselves; the store or the cryptographic library fails.
    pub async fn open(settings: RealmSettings, world: World) -> Result<Arc<Self>, Error> {
        settings.check()?;
        if let Some(path) = &settings.passwords.breached {
            crate::login::password::breached::check(path).map_err(|error| Error::Settings {
                realm: settings.name.clone(),
                why: format!("breached passwords {}: {error}", path.display()),
            })?;
        }
        let records = Records::new(world.store, settings.name.clone());
        let ring = rotate(&records, &settings, &world.random, world.clock.now()).await?;
        Ok(Arc::new(Self {
            passwords: Passwords::new(settings.password_hashes_at_once),
            settings,
            records,
            random: world.random,
            deliver: world.deliver,
            courier: world.courier,
            letters_waiting: AtomicUsize::new(0),
            delivery_due: tokio::sync::Notify::new(),
            clock: world.clock,
            ring: RwLock::new(Arc::new(ring)),
        }))
    }

    /// Rotates keys when they are due, delivers logout tokens and sends letters, for as long
    /// as it is polled. Spawn it on the control plane's runtime.
    pub async fn keep(self: Arc<Self>) {
        // Apart: a slow mail server holds nothing else up.
        tokio::join!(self.keep_keys(), self.keep_letters());
    }

    async fn keep_letters(&self) {
        if self.courier.is_none() {
            return;
        }
        let mut watch = self.records.watch(Kind::Letter);
        loop {
            let next = match self.send_letters().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(issuer = self.settings.issuer, %error, "identity: letters were not sent");
                    None
                }
            };
            let pause = next.map_or(KEEP_EVERY, |next| next.since(self.now()));
            let pause = pause.clamp(LETTERS_PAUSE_MIN, KEEP_EVERY);
            // Whichever it is, it is time: a letter that another process wrote too.
            let _ = tokio::time::timeout(pause, watch.next()).await;
            tokio::time::sleep(LETTERS_PAUSE_MIN).await;
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
        let ring = rotate(&self.records, &self.settings, &self.random, self.now()).await?;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(())
    }

    /// Ends the signing of every key now and makes others. With `forget`, everything that
    /// they signed is good no more: for keys that somebody else may know.
    ///
    /// # Errors
    /// As for [`Self::rotate_keys`].
    pub async fn replace_keys(&self, forget: bool) -> Result<(), Error> {
        for attempt in 0..ATTEMPTS_MAX {
            pause(attempt).await;
            let Some(stored) = self.records.get::<KeyRecord>(Kind::Keys, &[]).await? else { break };
            let ended = stored.value.ended(self.now(), forget);
            let expect = Expect::Version(stored.version);
            if self.records.put(Kind::Keys, &[], &ended, None, expect).await? == Written::Done {
                return self.rotate_keys().await;
            }
        }
        Err(Error::Contended("the realm's keys"))
    }

    /// The keys of now.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
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
        let found = self.records.get::<Client>(Kind::Client, &[id]).await?;
        Ok(found.map(|stored| stored.value).filter(|client| !client.disabled).map(Arc::new))
    }

    /// A user who may do something; `None` for one who is unknown or switched off.
    pub(crate) async fn user(&self, id: &str) -> Result<Option<User>, Error> {
        let found = self.records.get::<User>(Kind::User, &[id]).await?;
        Ok(found.map(|stored| stored.value).filter(|user| !user.disabled))
    }

    /// A user by what they log in with.
    pub(crate) async fn user_by_name(&self, username: &str) -> Result<Option<User>, Error> {
        let folded = folded(username);
        if folded.is_empty() || folded.len() > crate::user::USERNAME_BYTES_MAX {
            return Ok(None);
        }
        match self.records.get::<String>(Kind::UserName, &[&folded]).await? {
            Some(id) => self.user(&id.value).await,
            None => Ok(None),
        }
    }

    /// Registers a client, or changes it.
    ///
    /// # Errors
    /// [`Error::Record`], see [`Client::check`]; the store fails.
    pub async fn put_client(&self, client: &Client) -> Result<(), Error> {
        client.check(&self.settings)?;
        match self.records.put(Kind::Client, &[&client.id], client, None, Expect::Any).await? {
            Written::Done => Ok(()),
            Written::Conflict => Err(Error::Contended("a client")),
        }
    }

    /// Keeps a client that is switched off, whatever it refers to: a scope or a resource of
    /// its may be gone.
    ///
    /// # Errors
    /// [`Error::Record`] for one that is not switched off; the store fails.
    pub async fn put_disabled_client(&self, client: &Client) -> Result<(), Error> {
        if !client.disabled {
            return self.put_client(client).await;
        }
        match self.records.put(Kind::Client, &[&client.id], client, None, Expect::Any).await? {
            Written::Done => Ok(()),
            Written::Conflict => Err(Error::Contended("a client")),
        }
    }

    /// The clients, switched off or not.
    ///
    /// # Errors
    /// The store fails.
    pub async fn clients(&self) -> Result<Vec<Client>, Error> {
        let found = self.records.list::<Client>(Kind::Client, &[], LISTING_MAX).await?;
        Ok(found.into_iter().map(|(_, stored)| stored.value).collect())
    }

    /// The users, switched off or not.
    ///
    /// # Errors
    /// The store fails.
    pub async fn users(&self) -> Result<Vec<User>, Error> {
        let found = self.records.list::<User>(Kind::User, &[], LISTING_MAX).await?;
        Ok(found.into_iter().map(|(_, stored)| stored.value).collect())
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

    /// Adds a user, or changes one.
    ///
    /// # Errors
    /// [`Error::Record`] for a malformed user and for a user name that is another's; the
    /// store fails.
    pub async fn put_user(&self, user: &User) -> Result<(), Error> {
        user.check()?;
        let name = folded(&user.username);
        for attempt in 0..ATTEMPTS_MAX {
            pause(attempt).await;
            let owner = self.records.get::<String>(Kind::UserName, &[&name]).await?;
            let expect = match &owner {
                None => Expect::Absent,
                Some(owner) if owner.value == user.id => Expect::Version(owner.version),
                Some(_) => {
                    let what = format!("user \"{}\"", keys::encoding::quote(&user.username));
                    return Err(Error::Record { what, why: "the user name is another's".to_owned() });
                }
            };
            let before = self.records.get::<User>(Kind::User, &[&user.id]).await?;
            let mut changes = Transaction::new();
            let mut expect_user = Expect::Absent;
            if let Some(before) = before {
                expect_user = Expect::Version(before.version);
                let old = folded(&before.value.username);
                if old != name {
                    changes = changes.delete(self.records.key(Kind::UserName, &[&old]), Expect::Any);
                }
            }
            let changes = self.records.write(changes, Kind::UserName, &[&name], &user.id, None, expect)?;
            let changes = self.records.write(changes, Kind::User, &[&user.id], user, None, expect_user)?;
            if self.records.commit(changes).await? == Written::Done {
                return Ok(());
            }
        }
        Err(Error::Contended("a user"))
    }

    /// Gives a user a password.
    ///
    /// # Errors
    /// The hash cannot be computed; the store fails.
    pub async fn set_password(&self, user: &str, password: Secret<String>) -> Result<(), Error> {
        let salt = crate::random::bytes::<16>(self.random.as_ref())?;
        let hash = self.passwords.hash(password, salt).await?;
        match self.records.put(Kind::Password, &[user], &hash, None, Expect::Any).await? {
            Written::Done => Ok(()),
            Written::Conflict => Err(Error::Contended("a password")),
        }
    }
}

async fn rotate(
    records: &Records,
    settings: &RealmSettings,
    random: &Arc<dyn SecureRandom + Send + Sync>,
    now: Timestamp,
) -> Result<Ring, Error> {
    for attempt in 0..ATTEMPTS_MAX {
        pause(attempt).await;
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
        let Some(rotated) = rotated else { return Ring::new(&record, settings, now) };
        if records.put(Kind::Keys, &[], &rotated, None, expect).await? == Written::Done {
            tracing::info!(
                issuer = settings.issuer,
                keys = rotated.keys.len(),
                "identity: keys were rotated"
            );
            return Ring::new(&rotated, settings, now);
        }
    }
    Err(Error::Contended("the realm's keys"))
}
