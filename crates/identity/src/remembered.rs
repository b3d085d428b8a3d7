//! What was read or verified a moment ago, so that a busy realm does it once: clients as
//! values, and tokens whose signature was checked.
//!
//! INVARIANT: nothing here is an answer by itself. A client counts only at the version that
//! the store names now, and a token's signature only with the keys that it was checked with:
//! its memory is a part of the [`Ring`](crate::key::Ring). When a token ends, whether it was
//! revoked, and whose it is are asked each time.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use keys::sha256;
use lru::LruCache;
use serde_json::{Map, Value};
use store::Version;

use crate::client::Client;

/// Clients that are remembered.
const CLIENTS_MAX: usize = 256;
/// Tokens that are remembered, until the keys are looked at again.
const TOKENS_MAX: usize = 2_048;
/// Longer tokens are verified each time, bytes.
const TOKEN_BYTES_MAX: usize = 4_096;

/// Clients as they were read, by id.
pub(crate) struct Clients(Mutex<LruCache<String, (Version, Arc<Client>), RandomState>>);

impl Default for Clients {
    fn default() -> Self {
        Self(Mutex::new(cache(CLIENTS_MAX)))
    }
}

impl Clients {
    /// The client as it was at this version.
    pub(crate) fn get(&self, id: &str, version: Version) -> Option<Arc<Client>> {
        let mut clients = lock(&self.0);
        clients.get(id).filter(|(known, _)| *known == version).map(|(_, client)| Arc::clone(client))
    }

    pub(crate) fn keep(&self, id: &str, version: Version, client: &Arc<Client>) {
        lock(&self.0).put(id.to_owned(), (version, Arc::clone(client)));
    }
}

/// The claims of access tokens that the keys beside it signed, by the hash of the whole token.
pub(crate) struct Tokens(Mutex<Verified>);

type Verified = LruCache<[u8; 32], Arc<Map<String, Value>>, RandomState>;

impl Default for Tokens {
    fn default() -> Self {
        Self(Mutex::new(cache(TOKENS_MAX)))
    }
}

impl Tokens {
    /// What a token says, when it was verified before; else `verify` says it.
    pub(crate) fn claims(
        &self,
        token: &str,
        verify: impl FnOnce() -> Result<Map<String, Value>, String>,
    ) -> Result<Map<String, Value>, String> {
        if token.len() > TOKEN_BYTES_MAX {
            return verify();
        }
        let name = sha256(token.as_bytes());
        let known = lock(&self.0).get(&name).cloned();
        if let Some(claims) = known {
            return Ok(Map::clone(&claims));
        }
        let claims = verify()?;
        lock(&self.0).put(name, Arc::new(claims.clone()));
        Ok(claims)
    }
}

fn cache<K: Hash + Eq, V>(most: usize) -> LruCache<K, V, RandomState> {
    LruCache::with_hasher(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN), RandomState::default())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientAuthentication;

    #[test]
    fn a_client_counts_at_its_version_alone() {
        let clients = Clients::default();
        let client = Arc::new(Client::new("web", ClientAuthentication::None));
        let (before, after) = (Version::from_number(1), Version::from_number(2));
        clients.keep("web", before, &client);
        assert!(clients.get("web", before).is_some());
        assert!(clients.get("web", after).is_none() && clients.get("other", before).is_none());
    }

    #[test]
    fn a_token_is_verified_once_and_a_bad_one_each_time() {
        let tokens = Tokens::default();
        let mut asked = 0;
        let mut ask = |token: &str, good: bool| {
            let found = tokens.claims(token, || {
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
