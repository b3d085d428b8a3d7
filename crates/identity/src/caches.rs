//! What was read or verified a moment ago, so that a busy realm does it once: clients as
//! values, tokens whose signature was checked, and what else was found of them.
//!
//! INVARIANT: nothing here is an answer by itself. A token's signature counts only with the
//! keys that it was checked with: its memory is a part of the [`KeyRing`](crate::key::KeyRing). What
//! the store said counts for as long as nothing at all was written to it
//! ([`Store::is_still`](store::Store::is_still)), so that a revocation is seen by whoever asks
//! after it; then everything is asked again, and a client is taken at the version that its
//! record has now. When a token ends is looked at each time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use keys::sha256;
use lru::LruCache;
use model::growing;
use serde_json::{Map, Value};
use store::Version;

use crate::client::Client;
use crate::live::Origin;

/// Clients that are remembered.
const CLIENTS_MAX: usize = 256;
/// Tokens that are remembered, until the keys are looked at again.
const TOKENS_MAX: usize = 2_048;
/// Longer tokens are verified each time, bytes.
const TOKEN_BYTES_MAX: usize = 4_096;

/// Clients as they were read, by id.
pub(crate) struct Clients(Mutex<LruCache<String, KnownClient, RandomState>>);

struct KnownClient {
    client: Arc<Client>,
    /// The version of its record.
    version: Version,
    /// The version of the store before it was read.
    as_of: Version,
}

impl Default for Clients {
    fn default() -> Self {
        Self(Mutex::new(growing(CLIENTS_MAX)))
    }
}

impl Clients {
    /// The client, if the store is still as it was when it was read.
    pub(crate) fn standing(&self, id: &str, is_still: impl FnOnce(Version) -> bool) -> Option<Arc<Client>> {
        let mut clients = lock(&self.0);
        clients.get(id).filter(|known| is_still(known.as_of)).map(|known| Arc::clone(&known.client))
    }

    /// The client as it was at this version of its record.
    pub(crate) fn at(&self, id: &str, version: Version) -> Option<Arc<Client>> {
        let mut clients = lock(&self.0);
        clients.get(id).filter(|known| known.version == version).map(|known| Arc::clone(&known.client))
    }

    pub(crate) fn keep(&self, id: &str, (version, as_of): (Version, Version), client: &Arc<Client>) {
        let client = Arc::clone(client);
        lock(&self.0).put(id.to_owned(), KnownClient { client, version, as_of });
    }
}

/// An access token with a good signature.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) claims: Map<String, Value>,
    good: Mutex<Option<Good>>,
}

/// That nothing in the store spoke against a token.
#[derive(Debug)]
struct Good {
    /// Of the store before it was asked.
    as_of: Version,
    origin: Arc<Origin>,
}

impl Verified {
    pub(crate) fn new(claims: Map<String, Value>) -> Self {
        Self { claims, good: Mutex::default() }
    }

    /// Whose it is, if nothing spoke against it and the store is still as it was then.
    pub(crate) fn good(&self, is_still: impl FnOnce(Version) -> bool) -> Option<Arc<Origin>> {
        let good = lock(&self.good);
        good.as_ref().filter(|good| is_still(good.as_of)).map(|good| Arc::clone(&good.origin))
    }

    /// Nothing spoke against it in a store that had this version before it was asked.
    pub(crate) fn keep_good(&self, as_of: Version, origin: &Arc<Origin>) {
        *lock(&self.good) = Some(Good { as_of, origin: Arc::clone(origin) });
    }
}

/// Access tokens that the keys beside it signed, by the hash of the whole token.
pub(crate) struct Tokens(Mutex<ByHash>);

type ByHash = LruCache<[u8; 32], Arc<Verified>, RandomState>;

impl Default for Tokens {
    fn default() -> Self {
        Self(Mutex::new(growing(TOKENS_MAX)))
    }
}

impl Tokens {
    /// A token that was verified before; else `verify` gives its claims.
    pub(crate) fn verified(
        &self,
        token: &str,
        verify: impl FnOnce() -> Result<Map<String, Value>, String>,
    ) -> Result<Arc<Verified>, String> {
        let verify = || verify().map(|claims| Arc::new(Verified::new(claims)));
        if token.len() > TOKEN_BYTES_MAX {
            return verify();
        }
        let name = sha256(token.as_bytes());
        let known = lock(&self.0).get(&name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let verified = verify()?;
        lock(&self.0).put(name, Arc::clone(&verified));
        Ok(verified)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientAuthentication;

    #[test]
    fn a_client_counts_at_its_version_or_in_the_store_that_it_was_read_from() {
        let clients = Clients::default();
        let client = Arc::new(Client::new("web", ClientAuthentication::None));
        let [before, after, store] = [1, 2, 7].map(Version::from_number);
        clients.keep("web", (before, store), &client);
        assert!(clients.at("web", before).is_some());
        assert!(clients.at("web", after).is_none() && clients.at("other", before).is_none());
        assert!(clients.standing("web", |as_of| as_of == store).is_some());
        assert!(clients.standing("web", |as_of| as_of != store).is_none());
        assert!(clients.standing("other", |_| true).is_none());
    }

    #[test]
    fn a_token_is_good_in_the_store_that_said_so() {
        let token = Verified::new(Map::new());
        assert!(token.good(|_| true).is_none(), "nobody asked yet");
        let store = Version::from_number(7);
        token.keep_good(store, &Arc::default());
        assert!(token.good(|as_of| as_of == store).is_some());
        assert!(token.good(|as_of| as_of != store).is_none());
    }

    #[test]
    fn a_token_is_verified_once_and_a_bad_one_each_time() {
        let tokens = Tokens::default();
        let mut asked = 0;
        let mut ask = |token: &str, good: bool| {
            let found = tokens.verified(token, || {
                asked += 1;
                if good { Ok(Map::new()) } else { Err("bad".to_owned()) }
            });
            (found.is_ok(), asked)
        };
        assert_eq!([ask("a", true), ask("a", true), ask("b", true)], [(true, 1), (true, 1), (true, 2)]);
        assert_eq!([ask("c", false), ask("c", false)], [(false, 3), (false, 4)]);
        // Cut off, lengthened, or too long to be remembered.
        assert_eq!([ask("", false), ask("aa", false)], [(false, 5), (false, 6)]);
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        assert_eq!([ask(&long, true), ask(&long, true)], [(true, 7), (true, 8)]);
        let at_most = "x".repeat(TOKEN_BYTES_MAX);
        assert_eq!([ask(&at_most, true), ask(&at_most, true)], [(true, 9), (true, 9)]);
    }
}
