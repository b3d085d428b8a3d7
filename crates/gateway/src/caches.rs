//! What one core remembers of a snapshot. It is true under that one alone and goes with it: a
//! request that outlives its snapshot goes on with what it began with, and leaves nothing to those
//! of the next.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use keys::{CertificateIdentity, CertificateRules, CoreIdentities, Refusal as Unproven};
use lru::LruCache;
use model::{Timestamp, growing};
use proxy::ListenerKey;

use crate::snapshot::Snapshot;
use crate::step::user::{UserSigner, Users};

/// Client certificates that a core remembers to have read.
const CERTIFICATES_MAX: usize = 1024;

/// A client certificate, as principal and as what policies can read.
pub(crate) struct KnownCertificate {
    /// Who it is.
    pub(crate) identity: CertificateIdentity,
    /// What policies can read.
    pub(crate) facts: Arc<policy::Certificate>,
}

/// What came of reading a certificate.
pub(crate) type Read = Rc<Result<KnownCertificate, Unproven>>;

/// The same of one that was shown at this listener.
type Shown = (ListenerKey, Read);

/// What was found out under one snapshot.
pub(crate) struct Caches {
    /// Identity tokens that are still fresh.
    pub(crate) identity_tokens: RefCell<CoreIdentities>,
    /// Tokens about end users that are still fresh.
    pub(crate) user_tokens: RefCell<Option<CoreIdentities>>,
    /// End users that services of the mesh called for.
    pub(crate) users: RefCell<Users>,
    /// Each as the listener had it where it was shown last: not all take a name alike.
    certificates: RefCell<LruCache<Box<[u8]>, Shown, RandomState>>,
}

impl Caches {
    /// Nothing yet.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self {
            identity_tokens: RefCell::new(snapshot.identity.on_core()),
            user_tokens: RefCell::new(snapshot.user.signer.as_ref().map(UserSigner::on_core)),
            users: RefCell::default(),
            certificates: RefCell::new(growing(CERTIFICATES_MAX)),
        }
    }

    /// Who a client certificate names at a listener; read once, remembered by its whole bytes.
    pub(crate) fn certificate(
        &self,
        listener: ListenerKey,
        leaf: &[u8],
        rules: &CertificateRules,
        now: Timestamp,
    ) -> Read {
        let mut known = self.certificates.borrow_mut();
        if let Some((_, found)) = known.get(leaf).filter(|(at, _)| *at == listener) {
            return Rc::clone(found);
        }
        let read = keys::identify(leaf, rules, now).map(|identity| KnownCertificate {
            facts: Arc::new(policy::Certificate {
                subject: identity.subject.clone(),
                issuer: identity.issuer.clone(),
                fingerprint: identity.fingerprint.clone(),
                spiffe_id: identity.principal.spiffe_id.as_ref().map(ToString::to_string),
                dns_names: identity.dns_names.clone(),
            }),
            identity,
        });
        let read = Rc::new(read);
        // A certificate that is not valid yet may be later.
        if !matches!(&*read, Err(Unproven::CertificateValidity { .. })) {
            known.put(leaf.into(), (listener, Rc::clone(&read)));
        }
        read
    }
}
