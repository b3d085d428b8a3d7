//! The end user on the way through the mesh. The gateway tells services of the mesh for whom it
//! calls, by a token that its own SVID signs ([`keys::UserToken`]); the proxy of a service
//! verifies it and hands it to the program, which sends it along when it calls others for that
//! user; the proxy there verifies it again. Policies read it as `context.user`.
//!
//! A call for a user ends with the token. The gateway's own calls do not: it judges its users as
//! long as the calls last, and the token only says who it is.
//!
//! What it must never do: read one that did not come over the mesh, or pass over one that is
//! wrong.

use std::sync::Arc;

use foldhash::fast::RandomState;
use http::StatusCode;
use keys::{CoreIdentities, Refusal as Unproven, SecureRandom, Signer};
use lru::LruCache;
use model::event::Step;
use model::{Principal, PrincipalKind, Timestamp, growing};
use policy::Policies;
use proxy::{Additions, ConnectionInfo, RequestHead};

use crate::core::Core;
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
    known: LruCache<Box<[u8]>, Verified, RandomState>,
}

impl Default for Users {
    fn default() -> Self {
        Self { known: growing(USERS_MAX) }
    }
}

impl Users {
    /// Whom a token is about.
    fn of(&mut self, token: &[u8], verifier: &UserVerifier, now: Timestamp) -> Result<Verified, Unproven> {
        if let Some(known) = self.known.get(token)
            && known.user.expires.is_some_and(|until| now < until)
        {
            return Ok(known.clone());
        }
        let verified = verifier.verify(token, now)?;
        self.known.put(token.into(), verified.clone());
        Ok(verified)
    }
}

/// A token that was verified.
#[derive(Clone)]
struct Verified {
    /// Whom it is about, until the token or its signer's certificate ends.
    user: Arc<Principal>,
    /// The same, spoken for by who signed it: without an end of its own.
    user_of_signer: Arc<Principal>,
    /// The SPIFFE ID of who signed it.
    signer: Arc<str>,
}

impl Verified {
    /// The user of a call by this caller.
    fn called_for_by(self, caller: &Principal) -> Arc<Principal> {
        let by_signer = caller.kind == PrincipalKind::Service && *caller.id == *self.signer;
        if by_signer { self.user_of_signer } else { self.user }
    }
}

impl UserVerifier {
    fn verify(&self, token: &[u8], now: Timestamp) -> Result<Verified, Unproven> {
        let opened = keys::open_user_token(token, &self.audience, now)?;
        (self.verify)(&opened.chain, now).map_err(|why| Unproven::UserTokenSigner { why })?;
        let leaf = opened.chain.first().ok_or(Unproven::Signature)?;
        let trust_domain = self.audience.strip_prefix("spiffe://").unwrap_or_default();
        let signer = keys::identify(leaf, &keys::CertificateRules::of_trust_domain(trust_domain), now)?;
        if signer.principal.id != opened.issuer {
            let why =
                format!("it says {}, and its certificate is that of {}", opened.issuer, signer.principal.id);
            return Err(Unproven::UserTokenSigner { why });
        }
        let ends = |expires| Arc::new(Principal { expires, ..Principal::clone(&opened.user) });
        Ok(Verified {
            user: ends(Some(opened.until.min(signer.not_after))),
            user_of_signer: ends(None),
            signer: opened.issuer.into(),
        })
    }
}

/// The token that a call over the mesh brings, if any.
///
/// # Errors
/// It brings two.
fn token<'h>(connection: &ConnectionInfo, head: &'h RequestHead) -> Result<Option<&'h [u8]>, Refusal> {
    // Without TLS it is the service's own program, at its outbound proxy: the other end will look.
    if connection.tls.is_none() {
        return Ok(None);
    }
    let mut tokens = head.fields.named(HEADER_USER.as_bytes());
    let token = tokens.next();
    if tokens.next().is_some() {
        let why = format!("more than one {HEADER_USER} field");
        return Err(Refusal::new(Step::Authenticate, "two_credentials", StatusCode::BAD_REQUEST, why));
    }
    Ok(token)
}

/// The user of a call that is under way, as the newest snapshot and this moment have it.
///
/// # Errors
/// The token does not count any more.
pub(crate) fn carried_still(
    core: &Core,
    connection: &ConnectionInfo,
    head: &RequestHead,
    before: Option<&Arc<Principal>>,
    now: Timestamp,
) -> Result<Option<Arc<Principal>>, Unproven> {
    let Some(before) = before else { return Ok(None) };
    // The signer's own call: its certificate is judged with the connection.
    if before.expires.is_none() {
        return Ok(Some(Arc::clone(before)));
    }
    let newest = core.newest();
    let token = token(connection, head).ok().flatten();
    let Some((verifier, token)) = newest.user.verifier.as_ref().zip(token) else { return Ok(None) };
    let verified = core.caches().users.borrow_mut().of(token, verifier, now)?;
    Ok(Some(verified.user))
}

/// The end user for whom a service of the mesh calls, when it says so.
///
/// # Errors
/// It says so twice (400), or by a token that is not good (401).
pub fn carried(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    head: &RequestHead,
    caller: &Principal,
) -> Result<Option<Arc<Principal>>, Stop> {
    let Some(verifier) = &gateway.snapshot().user.verifier else { return Ok(None) };
    let Some(token) = token(journey.connection(), head)? else { return Ok(None) };
    match gateway.caches().users.borrow_mut().of(token, verifier, journey.time) {
        Ok(verified) => {
            journey.is_for_user = true;
            Ok(Some(verified.called_for_by(caller)))
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
        if let Some(signed) = gateway.caches().user_tokens.borrow_mut().as_mut()
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
