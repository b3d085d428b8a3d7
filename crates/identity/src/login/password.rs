//! Passwords: argon2id (RFC 9106), on threads of their own, only so many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use model::Secret;
use tokio::sync::Semaphore;

use super::PASSWORD_BYTES_MAX;
use crate::Error;
use crate::realm::Realm;
use crate::record::Kind;
use crate::refusal::{Answer, Code, Refusal};
use crate::user::User;

/// Memory of one hash, KiB; passes over it; lanes. OWASP's first recommendation.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// Hashes that may wait; more are told to come again. Memory stays bounded.
const WAITING_MAX: usize = 256;
/// What is verified for users that do not exist or have no password, so that they take
/// as long as others. No password has this hash.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Computes and compares hashes.
#[derive(Debug)]
pub(crate) struct Passwords {
    at_once: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Passwords {
    pub(crate) fn new(at_once: usize) -> Self {
        Self { at_once: Arc::new(Semaphore::new(at_once.max(1))), waiting: AtomicUsize::new(0) }
    }

    /// A PHC string to keep.
    pub(crate) async fn hash(&self, password: Secret<String>, salt: [u8; 16]) -> Result<String, Error> {
        let hashed = self
            .work(move || {
                let hash = argon2()?.hash_password_with_salt(password.expose().as_bytes(), &salt);
                hash.map(|hash| hash.to_string()).map_err(|error| Error::Password(error.to_string()))
            })
            .await?;
        hashed.unwrap_or_else(|| Err(Error::Contended("the queue of password hashes")))
    }

    /// Whether the password is that of the hash; `None`: too many wait already.
    async fn verify(&self, password: Secret<String>, hash: String) -> Result<Option<bool>, Error> {
        self.work(move || {
            let parsed = PasswordHash::new(&hash);
            let argon2 = argon2();
            match (parsed, argon2) {
                (Ok(hash), Ok(argon2)) => argon2.verify_password(password.expose().as_bytes(), &hash).is_ok(),
                _ => false,
            }
        })
        .await
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
        let task = tokio::task::spawn_blocking(move || {
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

fn argon2() -> Result<Argon2<'static>, Error> {
    let (memory, passes, lanes) = COST;
    let params =
        Params::new(memory, passes, lanes, None).map_err(|error| Error::Password(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The user of this name and password. Who does not exist, is switched off or has no
/// password takes as long as who does.
pub(crate) async fn check(realm: &Realm, username: &str, password: Secret<String>) -> Answer<Option<User>> {
    if password.expose().len() > PASSWORD_BYTES_MAX {
        return Ok(None);
    }
    let user = realm.user_by_name(username).await?;
    let hash = match &user {
        Some(user) => realm.records.get::<String>(Kind::Password, &[&user.id]).await?,
        None => None,
    };
    let hash = hash.map_or_else(|| NOBODY.to_owned(), |hash| hash.value);
    let good = realm.passwords.verify(password, hash).await?;
    let good = good.ok_or_else(|| {
        Refusal::new(
            Code::TemporarilyUnavailable,
            "Too many people log in at this moment. Try again.",
            format!("{WAITING_MAX} password hashes wait"),
        )
    })?;
    Ok(user.filter(|_| good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_its_passwords_alone() {
        let passwords = Passwords::new(2);
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
            assert_eq!(passwords.verify(secret(password), hash.to_owned()).await.unwrap(), Some(good));
        }
    }

    #[tokio::test]
    async fn only_so_many_wait() {
        let passwords = Passwords::new(1);
        passwords.waiting.store(WAITING_MAX, Ordering::Release);
        assert_eq!(passwords.verify(Secret::new(String::new()), NOBODY.to_owned()).await.unwrap(), None);
        passwords.waiting.store(WAITING_MAX - 1, Ordering::Release);
        assert_eq!(
            passwords.verify(Secret::new(String::new()), NOBODY.to_owned()).await.unwrap(),
            Some(false)
        );
        assert_eq!(passwords.waiting.load(Ordering::Acquire), WAITING_MAX - 1);
    }
}
