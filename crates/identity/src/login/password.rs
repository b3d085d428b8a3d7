//! Passwords: hashed on threads of their own, only so many at once, and judged when they
//! are new.

pub(crate) mod breached;
pub(crate) mod hash;
pub(crate) mod strength;
mod threads;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use model::Secret;
use store::Expect;
use tokio::sync::Semaphore;

use super::PASSWORD_BYTES_MAX;
use crate::Error;
use crate::observe::Failure;
use crate::realm::Realm;
use crate::record::{Kind, Stored, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::text::Notice;
use crate::user::User;
use hash::Verdict;
use strength::{PasswordRules, Weakness};
use threads::Threads;

/// Hashes that may wait; more are told to come again. Memory stays bounded.
const WAITING_MAX: usize = 256;
/// Seconds after which those may come again.
const RETRY_AFTER: &str = "5";
/// A wrong password is answered no sooner, so that hashes of other schemes do not show in
/// how long it takes.
const WRONG_AFTER: Duration = Duration::from_millis(250);
/// What is verified for users that do not exist or have no password, so that they take
/// as long as others. No password has this hash.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Computes and compares hashes.
#[derive(Debug)]
pub(crate) struct Passwords {
    at_once: Arc<Semaphore>,
    threads: Threads,
    waiting: AtomicUsize,
    /// Comparisons that were computed.
    compared: AtomicU64,
}

impl Passwords {
    /// # Errors
    /// As [`Threads::new`].
    pub(crate) fn new(at_once: usize) -> Result<Self, Error> {
        let at_once = at_once.max(1);
        Ok(Self {
            at_once: Arc::new(Semaphore::new(at_once)),
            threads: Threads::new(at_once)?,
            waiting: AtomicUsize::new(0),
            compared: AtomicU64::new(0),
        })
    }

    /// Whether one more may wait.
    fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < WAITING_MAX
    }

    /// A PHC string to keep.
    pub(crate) async fn hash(&self, password: Secret<String>, salt: [u8; 16]) -> Result<String, Error> {
        let hashed = self.work(move || hash::make(password.expose().as_bytes(), &salt)).await?;
        hashed.unwrap_or_else(|| Err(Error::Contended("the queue of password hashes")))
    }

    /// Whether the password is that of the hash; `None`: too many wait already.
    async fn verify(&self, password: Secret<String>, hash: String) -> Result<Option<Verdict>, Error> {
        let verdict = self.work(move || hash::verify(password.expose().as_bytes(), &hash)).await?;
        if verdict.is_some() {
            self.compared.fetch_add(1, Ordering::Relaxed);
        }
        Ok(verdict)
    }

    /// Why a new password is not good enough, if it is not.
    async fn judge(
        &self,
        rules: PasswordRules,
        words: Vec<String>,
        password: &Secret<String>,
    ) -> Result<Option<Weakness>, Error> {
        let password = Secret::new(password.expose().clone());
        let judged = self.work(move || strength::judge(&rules, &words, password.expose())).await?;
        judged.unwrap_or_else(|| Err(Error::Contended("the queue of password hashes")))
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Error> {
        // Counts this one as well.
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Ok(None);
        }
        let _counted = Counted(&self.waiting);
        let permit = Arc::clone(&self.at_once).acquire_owned().await;
        let task = self.threads.run(move || {
            // Held until the work is done, whoever has stopped waiting for it.
            let _permit = permit;
            job()
        });
        task.await.map(Some).map_err(|error| Error::Password(error.to_string()))
    }
}

/// Counts down when the request ends, also when its client went away.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An attempt that was judged and is wrong: why, and of whom the name is, if of anybody.
pub(crate) struct Wrong {
    pub(crate) failure: Failure,
    pub(crate) user: Option<User>,
}

/// The user of this name and password. Who does not exist, is switched off or has no
/// password takes as long as who does. `wrong` is done before that is answered, and also when
/// the client hangs up.
pub(crate) async fn check<Done: Future<Output = ()> + Send + 'static>(
    realm: &Realm,
    username: &str,
    password: Secret<String>,
    wrong: impl FnOnce(Wrong) -> Done,
) -> Answer<Option<User>> {
    let no_sooner = tokio::time::sleep(WRONG_AFTER);
    match compare(realm, username, password).await? {
        Ok(user) => Ok(Some(user)),
        Err(judged) => {
            // INVARIANT: nothing is waited for between the verdict and this, so nobody who hangs up
            // comes between them.
            let done = tokio::spawn(wrong(*judged));
            no_sooner.await;
            // The answer is the same, whatever comes of it.
            let _ = done.await;
            Ok(None)
        }
    }
}

async fn compare(
    realm: &Realm,
    username: &str,
    password: Secret<String>,
) -> Answer<Result<User, Box<Wrong>>> {
    let user = realm.named(username).await?;
    let stored = match user.as_ref().filter(|user| !user.disabled) {
        Some(user) => realm.records.get::<String>(Kind::Password, &[&user.id]).await?,
        None => None,
    };
    let too_long = password.expose().len() > PASSWORD_BYTES_MAX;
    let tried = if too_long { Secret::new(String::new()) } else { Secret::new(password.expose().clone()) };
    let hash = stored.as_ref().map_or_else(|| NOBODY.to_owned(), |stored| stored.value.clone());
    let verdict = realm.passwords.verify(tried, hash).await?.ok_or_else(busy)?;
    let wrong = |failure, user| Ok(Err(Box::new(Wrong { failure, user })));
    let Some(user) = user else { return wrong(Failure::UnknownUser, None) };
    if user.disabled {
        return wrong(Failure::Disabled, Some(user));
    }
    let Some(stored) = stored else { return wrong(Failure::NoPassword, Some(user)) };
    if too_long || !verdict.good {
        return wrong(Failure::WrongPassword, Some(user));
    }
    if !verdict.current {
        renew(realm, &user, &stored, password).await?;
    }
    Ok(Ok(user))
}

/// Refuses whoever comes while too many wait already, before anything is looked up or counted for them:
/// of a flood of logins all but a few cost as much as a page does. Whoever comes between this and
/// [`check`] is refused there.
pub(crate) fn refuse_where_full(realm: &Realm) -> Answer<()> {
    if realm.passwords.has_room() { Ok(()) } else { Err(busy()) }
}

/// Whoever comes while too many wait is told to come again.
fn busy() -> Box<Refusal> {
    let reason = format!("{WAITING_MAX} password hashes wait");
    Refusal::person(Code::TemporarilyUnavailable, Notice::Busy, reason)
        .with_field(axum::http::header::RETRY_AFTER, RETRY_AFTER)
}

/// Keeps a password in today's scheme, now that it is here in clear.
async fn renew(
    realm: &Realm,
    user: &User,
    stored: &Stored<String>,
    password: Secret<String>,
) -> Result<(), Error> {
    let salt = crate::random::bytes::<16>(realm.random.as_ref())?;
    let hash = realm.passwords.hash(password, salt).await?;
    // Somebody who gave them another password meanwhile goes before.
    let expect = Expect::Version(stored.version);
    match realm.records.put(Kind::Password, &[&user.id], &hash, None, expect).await? {
        Written::Done => tracing::info!(user = user.id, "identity: a password hash was renewed"),
        Written::Conflict => {}
    }
    Ok(())
}

impl Realm {
    /// Why a new password of somebody is not good enough, if it is not.
    ///
    /// # Errors
    /// Too many passwords are being hashed; the file of breached passwords cannot be read.
    pub async fn judge_password(
        &self,
        user: &User,
        password: &Secret<String>,
    ) -> Result<Option<Weakness>, Error> {
        let words = strength::words_about(user, &self.settings.display_name);
        self.passwords.judge(self.settings.passwords.clone(), words, password).await
    }

    /// How many passwords were compared with a hash since the realm was opened: for tests.
    #[doc(hidden)]
    pub fn passwords_compared(&self) -> u64 {
        self.passwords.compared.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_its_passwords_alone() {
        let passwords = Passwords::new(2).unwrap();
        let secret = |text: &str| Secret::new(text.to_owned());
        let hash = passwords.hash(secret("correct horse"), [7; 16]).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash(secret("correct horse"), [8; 16]).await.unwrap());
        for (password, hash, good) in [
            ("correct horse", hash.as_str(), true),
            ("correct hors", hash.as_str(), false),
            ("", hash.as_str(), false),
            ("", NOBODY, false),
            ("correct horse", "not a hash", false),
        ] {
            let verdict = passwords.verify(secret(password), hash.to_owned()).await.unwrap();
            assert_eq!(verdict.map(|verdict| verdict.good), Some(good), "{password}");
        }
    }

    /// Also where those who asked hang up: the work goes on, and counts.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_so_many_work_at_once() {
        const AT_ONCE: usize = 2;
        let passwords = Arc::new(Passwords::new(AT_ONCE).unwrap());
        let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let (passwords, working, most) =
                (Arc::clone(&passwords), Arc::clone(&working), Arc::clone(&most));
            tokio::spawn(async move {
                let job = move || {
                    most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // Whoever is let in beside it has time to come.
                    std::thread::sleep(Duration::from_millis(20));
                    working.fetch_sub(1, Ordering::SeqCst);
                };
                passwords.work(job).await
            })
        };
        let asked: Vec<_> = (0..20).map(|_| ask()).collect();
        for (number, asked) in asked.into_iter().enumerate() {
            if number % 2 == 0 {
                asked.await.unwrap().unwrap().unwrap();
            } else {
                asked.abort();
                let _ = asked.await;
            }
        }
        assert!((1..=AT_ONCE).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        assert_eq!(passwords.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn only_so_many_wait() {
        let passwords = Passwords::new(1).unwrap();
        passwords.waiting.store(WAITING_MAX, Ordering::Release);
        assert!(!passwords.has_room());
        assert_eq!(passwords.verify(Secret::new(String::new()), NOBODY.to_owned()).await.unwrap(), None);
        passwords.waiting.store(WAITING_MAX - 1, Ordering::Release);
        assert!(passwords.has_room());
        assert!(passwords.verify(Secret::new(String::new()), NOBODY.to_owned()).await.unwrap().is_some());
        assert_eq!(passwords.waiting.load(Ordering::Acquire), WAITING_MAX - 1);
    }
}
