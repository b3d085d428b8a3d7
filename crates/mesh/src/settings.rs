//! What a trust domain is, as configured.

use std::sync::Arc;
use std::time::Duration;

use keys::Signer;
use model::SpiffeId;

use crate::error::Error;

/// Shortest life of anything that is issued.
pub const LIFETIME_MIN: Duration = Duration::from_secs(1);

/// How long what is issued lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// The root's certificate, where there is one of ours.
    pub root: Duration,
    /// An issuing authority's certificate, and a key that signs JWT-SVIDs.
    pub authority: Duration,
    /// An X.509-SVID.
    pub x509_svid: Duration,
    /// A JWT-SVID.
    pub jwt_svid: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            root: Duration::from_secs(10 * 365 * 86_400),
            authority: Duration::from_secs(86_400),
            x509_svid: Duration::from_secs(3_600),
            jwt_svid: Duration::from_secs(300),
        }
    }
}

/// What verifiers trust.
#[derive(Clone)]
pub enum Anchor {
    /// Each issuing authority is its own root: bundles hold one or two of them, and one
    /// that is revoked is trusted nowhere as soon as the bundle has arrived.
    Issuing,
    /// A root of ours, kept in the store, signs the issuing authorities.
    Root,
    /// Somebody else's authority signs them.
    Given(Given),
}

/// An authority that was given: the organisation's intermediate or root.
#[derive(Clone)]
pub struct Given {
    /// Its certificate first, then those above it up to the root, DER.
    pub chain: Vec<Vec<u8>>,
    /// Its key.
    pub signer: Arc<dyn Signer>,
}

impl PartialEq for Given {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.signer.key_id() == other.signer.key_id()
    }
}

impl PartialEq for Anchor {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Issuing, Self::Issuing) | (Self::Root, Self::Root) => true,
            (Self::Given(one), Self::Given(other)) => one == other,
            _ => false,
        }
    }
}

impl std::fmt::Debug for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Issuing => "Issuing",
            Self::Root => "Root",
            Self::Given(_) => "Given(…)",
        })
    }
}

/// A trust domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its name, such as `shop.example`.
    pub trust_domain: String,
    /// What verifiers trust.
    pub anchor: Anchor,
    /// How long everything lasts.
    pub lifetimes: Lifetimes,
}

impl Settings {
    /// The usual lifetimes, each issuing authority its own root.
    pub fn new(trust_domain: impl Into<String>) -> Self {
        Self { trust_domain: trust_domain.into(), anchor: Anchor::Issuing, lifetimes: Lifetimes::default() }
    }

    /// Whether these can be kept to.
    ///
    /// # Errors
    /// [`Error::Settings`], with what has to change.
    pub fn check(&self) -> Result<(), Error> {
        let Lifetimes { root, authority, x509_svid, jwt_svid } = self.lifetimes;
        let refused = |why: String| Err(Error::Settings(why));
        if let Err(why) = format!("spiffe://{}", self.trust_domain).parse::<SpiffeId>() {
            return refused(format!("{:?} is no trust domain: {why}", self.trust_domain));
        }
        if self.trust_domain.contains('/') {
            return refused(format!("{:?} is no trust domain: it has a path", self.trust_domain));
        }
        for (name, lifetime) in [("x509_svid", x509_svid), ("jwt_svid", jwt_svid)] {
            if lifetime < LIFETIME_MIN {
                return refused(format!("`{name}` is {lifetime:?}, at least 1s is needed"));
            }
            // What is signed last still lives whole: see `authority::ACTIVE`.
            if lifetime * 6 > authority {
                return refused(format!(
                    "`{name}` is {lifetime:?}; it may be at most a sixth of `authority`, which is {authority:?}"
                ));
            }
        }
        if matches!(self.anchor, Anchor::Root) && authority * 6 > root {
            return refused(format!(
                "`authority` is {authority:?}; it may be at most a sixth of `root`, which is {root:?}"
            ));
        }
        Ok(())
    }

    /// The name of a workload of this domain.
    ///
    /// # Errors
    /// [`Error::Settings`]: the path cannot be one.
    pub fn workload(&self, path: &str) -> Result<SpiffeId, Error> {
        let text = format!("spiffe://{}/{}", self.trust_domain, path.trim_start_matches('/'));
        text.parse().map_err(|why| Error::Settings(format!("{path:?} names no workload: {why}")))
    }
}
