//! Who signs for workloads: the trust domain of this process, or a control plane that an agent
//! asks.

use std::pin::Pin;
use std::sync::Arc;

use keys::SecureRandom;
use keys::svid::WorkloadKey;
use model::{SpiffeId, Timestamp};
use tokio::sync::watch;

use crate::authority_set::AuthoritySet;
use crate::error::Error;
use crate::revocation::Revoked;
use crate::trust_domain::{IssuedX509, TrustDomain};

/// What comes of asking for a document.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Signs documents, and says what others' are verified with.
pub trait Issuer: Send + Sync {
    /// The time of whoever signs.
    fn now(&self) -> Timestamp;

    /// A source of random numbers.
    fn random(&self) -> &(dyn SecureRandom + Send + Sync);

    /// The authorities, and each change of them.
    fn watch(&self) -> watch::Receiver<Arc<AuthoritySet>>;

    /// What is revoked, and each change of it.
    fn watch_revoked(&self) -> watch::Receiver<Arc<Revoked>>;

    /// Makes an X.509-SVID for a key.
    fn x509<'a>(&'a self, id: &'a SpiffeId, key: &'a WorkloadKey) -> Answer<'a, IssuedX509>;

    /// Makes a JWT-SVID for these audiences, and says when it ends.
    fn jwt<'a>(&'a self, id: &'a SpiffeId, audiences: &'a [String]) -> Answer<'a, (String, Timestamp)>;

    /// The authorities of now.
    fn authorities(&self) -> Arc<AuthoritySet> {
        Arc::clone(&self.watch().borrow())
    }

    /// What is revoked now.
    fn revoked(&self) -> Arc<Revoked> {
        Arc::clone(&self.watch_revoked().borrow())
    }
}

impl Issuer for TrustDomain {
    fn now(&self) -> Timestamp {
        self.now()
    }

    fn random(&self) -> &(dyn SecureRandom + Send + Sync) {
        self.random()
    }

    fn watch(&self) -> watch::Receiver<Arc<AuthoritySet>> {
        self.watch()
    }

    fn watch_revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.watch_revoked()
    }

    fn x509<'a>(&'a self, id: &'a SpiffeId, key: &'a WorkloadKey) -> Answer<'a, IssuedX509> {
        Box::pin(self.issue_x509(id, key))
    }

    fn jwt<'a>(&'a self, id: &'a SpiffeId, audiences: &'a [String]) -> Answer<'a, (String, Timestamp)> {
        Box::pin(self.issue_jwt(id, audiences))
    }
}
