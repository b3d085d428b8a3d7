//! The end user on the way through the mesh. The gateway tells services of the mesh for whom it
//! calls, by a token that its own SVID signs ([`keys::UserToken`]); the proxy of a service
//! verifies it and hands it to the program, which sends it along when it calls others for that
//! user; the proxy there verifies it again. Policies read it as `context.user`.
//!
//! What it must never do: read one that did not come over the mesh, or pass over one that is
//! wrong.

use std::num::NonZeroUsize;
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::StatusCode;
use keys::{CoreIdentities, Refusal as Unproven, SecureRandom, Signer};
use lru::LruCache;
use model::event::Step;
use model::{Principal, PrincipalKind, Timestamp};
use policy::Policies;
use proxy::{Additions, RequestHead};

use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::snapshot::Route;

/// The token about the end user.
pub const HEADER_USER: &str = "x-bastide-user";

/// Verified tokens that a core remembers.
const USERS_MAX: usize = 1024;

/// What this process does about end users in the mesh.
#[derive(Clone, Default)]
pub struct UserSettings {
    /// Tells services for whom it calls.
    pub signer: Option<UserSigner>,
    /// Verifies for whom it is called.
    pub verifier: Option<UserVerifier>,
}

/// Signs tokens about end users.
#[derive(Clone)]
pub struct UserSigner {
    /// Signs: the key of the process' own SVID.
    pub signer: Arc<dyn Signer>,
    /// The SVID's chain, its name, and how long a token is good.
    pub settings: keys::IdentitySettings,
    /// `aud`: the trust domain.
    pub audience: String,
    /// Makes the `jti`.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
}

/// Verifies a chain of certificates (DER, the leaf first) at a time, or says why it is refused.
pub type ChainVerifier = dyn Fn(&[Vec<u8>], Timestamp) -> Result<(), String> + Send + Sync;

/// Verifies tokens about end users.
#[derive(Clone)]
pub struct UserVerifier {
    /// Takes the chains of those who may speak for users, and no others.
    pub verify: Arc<ChainVerifier>,
    /// `aud`: the trust domain.
    pub audience: String,
}

impl UserSigner {
    /// What one core signs with, and nothing signed yet.
    pub(crate) fn on_core(&self) -> CoreIdentities {
        CoreIdentities::new(Arc::clone(&self.signer), self.settings.clone(), Arc::clone(&self.random))
    }
}

/// Tokens that one core has verified, until they end.
pub(crate) struct Users {
    known: LruCache<Box<[u8]>, (Arc<Principal>, Timestamp), RandomState>,
}

impl Default for Users {
    fn default() -> Self {
        let most = NonZeroUsize::new(USERS_MAX).unwrap_or(NonZeroUsize::MIN);
        Self { known: LruCache::with_hasher(most, RandomState::default()) }
    }
}

impl Users {
    /// Whom a token is about.
    fn of(
        &mut self,
        token: &[u8],
        verifier: &UserVerifier,
        now: Timestamp,
    ) -> Result<Arc<Principal>, Unproven> {
        if let Some((user, until)) = self.known.get(token)
            && now < *until
        {
            return Ok(Arc::clone(user));
        }
        let (user, until) = verifier.verify(token, now)?;
        self.known.put(token.into(), (Arc::clone(&user), until));
        Ok(user)
    }
}

impl UserVerifier {
    /// The user, and until when that is known.
    fn verify(&self, token: &[u8], now: Timestamp) -> Result<(Arc<Principal>, Timestamp), Unproven> {
        let opened = keys::open_user_token(token, &self.audience, now)?;
        (self.verify)(&opened.chain, now).map_err(|why| Unproven::UserTokenSigner { why })?;
        let leaf = opened.chain.first().ok_or(Unproven::Signature)?;
        let trust_domain = self.audience.strip_prefix("spiffe://").map(str::to_owned);
        let signer = keys::identify(leaf, &keys::CertificateRules { trust_domain }, now)?;
        if signer.principal.id != opened.issuer {
            let why =
                format!("it says {}, and its certificate is that of {}", opened.issuer, signer.principal.id);
            return Err(Unproven::UserTokenSigner { why });
        }
        Ok((opened.user, opened.until.min(signer.not_after)))
    }
}

/// The end user for whom a service of the mesh calls, when it says so.
///
/// # Errors
/// It says so twice (400), or by a token that is not good (401).
pub fn carried(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    head: &RequestHead,
) -> Result<Option<Arc<Principal>>, Stop> {
    let Some(verifier) = &gateway.snapshot().user.verifier else { return Ok(None) };
    // Without TLS it is the service's own program, on its way out: the other end will look.
    if journey.connection().tls.is_none() {
        return Ok(None);
    }
    let mut tokens = head.fields.named(HEADER_USER.as_bytes());
    let Some(token) = tokens.next() else { return Ok(None) };
    if tokens.next().is_some() {
        let why = format!("more than one {HEADER_USER} field");
        return Err(Refusal::new(Step::Authenticate, "two_credentials", StatusCode::BAD_REQUEST, why).into());
    }
    match gateway.remembered().users.borrow_mut().of(token, verifier, journey.time) {
        Ok(user) => {
            journey.is_for_user = true;
            Ok(Some(user))
        }
        Err(unproven) => {
            let why = format!("the token about the end user is refused: {unproven}");
            Err(Refusal::new(Step::Authenticate, "user_token", StatusCode::UNAUTHORIZED, why).into())
        }
    }
}

/// Tells the service behind a route for whom it is called: the gateway in its own words, a
/// service's proxy in those that came.
///
/// INVARIANT: a program reads only what was verified. What its callers said without TLS goes no
/// further; what it says itself goes to other services of the mesh alone, which verify it.
///
/// # Errors
/// The token cannot be signed.
pub(crate) fn tell(
    gateway: &Gateway,
    journey: &Journey<'_>,
    route: &Route,
    head: &RequestHead,
    principal: &Arc<Principal>,
    request: &mut Additions,
) -> Result<(), keys::Error> {
    let settings = &gateway.snapshot().user;
    if let Some(signer) = settings.signer.as_ref().filter(|_| route.in_mesh) {
        let policies: &Policies = &gateway.snapshot().policies;
        if let Some(signed) = gateway.remembered().user_tokens.borrow_mut().as_mut()
            && matches!(principal.kind, PrincipalKind::User | PrincipalKind::Client | PrincipalKind::ApiKey)
        {
            // One audience: a service sends the token along.
            let roles = || policies.roles_of(principal);
            let token = signed.token(principal, 0, &signer.audience, journey.time, roles)?;
            let _ = request.push(HEADER_USER, token.as_bytes());
        }
    } else if settings.verifier.is_some() && (route.in_mesh || journey.is_for_user) {
        for token in head.fields.named(HEADER_USER.as_bytes()) {
            let _ = request.push(HEADER_USER, token);
        }
    }
    Ok(())
}
