//! Identity tokens for upstreams, signed once per principal and service and used for
//! half of their lifetime: a signature costs more than the rest of a request.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SecureRandom;
use foldhash::fast::RandomState;
use lru::LruCache;
use model::{Principal, Timestamp, growing};

use crate::error::Error;
use crate::signer::{IDENTITY_TOKEN_LIFETIME_MAX, IdentityToken, Signer, sign_identity};

/// Most tokens that a core keeps.
pub(crate) const IDENTITIES_ENTRIES_MAX: usize = 16_384;

/// What identity tokens have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySettings {
    /// `iss`: this gateway.
    pub issuer: String,
    /// From `iat` to `exp`, unless the credential ends before; at most
    /// [`IDENTITY_TOKEN_LIFETIME_MAX`].
    pub lifetime: Duration,
    /// The chain of the signer's certificate, for tokens about end users in the mesh
    /// ([`IdentityToken::certificates`]).
    pub certificates: Vec<String>,
}

/// Signs identity tokens on one core and keeps them. Belongs to one configuration: make
/// a new one for another.
pub struct CoreIdentities {
    signer: Arc<dyn Signer>,
    settings: IdentitySettings,
    random: Arc<dyn SecureRandom + Send + Sync>,
    kept: LruCache<(usize, usize), Kept, RandomState>,
}

struct Kept {
    /// INVARIANT: held for as long as its address is a key of the cache, so that no
    /// other principal can come to lie there.
    _principal: Arc<Principal>,
    token: Arc<str>,
    from: Timestamp,
    until: Timestamp,
}

impl std::fmt::Debug for CoreIdentities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreIdentities").field("kept", &self.kept.len()).finish_non_exhaustive()
    }
}

impl CoreIdentities {
    /// Nothing is signed yet.
    pub fn new(
        signer: Arc<dyn Signer>,
        settings: IdentitySettings,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Self {
        Self { signer, settings, random, kept: growing(IDENTITIES_ENTRIES_MAX) }
    }

    /// The token that tells a service (its number in the configuration, and the `aud`
    /// that stands for it) who asks, and in which roles. The same one, `jti` included, until half of its
    /// time is over; it never outlives the principal's credential.
    ///
    /// # Errors
    /// As for [`sign_identity`].
    pub fn token(
        &mut self,
        principal: &Arc<Principal>,
        service: usize,
        audience: &str,
        now: Timestamp,
        roles: impl FnOnce() -> Vec<String>,
    ) -> Result<Arc<str>, Error> {
        let key = (Arc::as_ptr(principal).addr(), service);
        if let Some(kept) = self.kept.get(&key)
            && kept.from <= now
            && now < kept.until
        {
            return Ok(Arc::clone(&kept.token));
        }
        let lifetime = self.settings.lifetime.min(IDENTITY_TOKEN_LIFETIME_MAX);
        let IdentitySettings { issuer, certificates, .. } = &self.settings;
        let token = IdentityToken { issuer, audience, now, lifetime, certificates };
        let in_roles = Principal { roles: roles(), ..Principal::clone(principal) };
        let token: Arc<str> =
            sign_identity(self.signer.as_ref(), &in_roles, token, self.random.as_ref())?.into();
        let whole = principal.expires.map_or(lifetime, |end| end.since(now).min(lifetime));
        let until = now.plus(whole / 2);
        let _principal = Arc::clone(principal);
        self.kept.put(key, Kept { _principal, token: Arc::clone(&token), from: now, until });
        Ok(token)
    }
}
