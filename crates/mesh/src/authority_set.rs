//! The authorities of one moment, parsed and ready: what signs, what verifiers trust.

use std::collections::BTreeSet;
use std::time::Duration;

use keys::svid::X509Authority;
use keys::{KeySet, LocalSigner, Signer as _};
use model::Timestamp;

use crate::authority::{Kind, Record};
use crate::bundle::{Bundle, REFRESH_DEFAULT};
use crate::error::Error;
use crate::settings::Settings;

/// The authority that signs X.509-SVIDs.
#[derive(Debug)]
pub(crate) struct Issuing {
    pub(crate) id: String,
    pub(crate) authority: X509Authority,
    /// What is sent behind an SVID, DER.
    pub(crate) chain: Vec<Vec<u8>>,
}

/// The authorities of one moment.
#[derive(Debug)]
pub struct AuthoritySet {
    pub(crate) issuing: Option<Issuing>,
    pub(crate) jwt: Option<(LocalSigner, Timestamp)>,
    /// What this domain's documents are verified with.
    pub bundle: Bundle,
    /// The same keys, ready; `None`: there is none.
    pub(crate) jwt_keys: Option<KeySet>,
    /// Whose documents may still be shown.
    good: BTreeSet<String>,
    /// When it is another one although nothing was written.
    pub(crate) next: Option<Timestamp>,
}

impl AuthoritySet {
    pub(crate) fn at(record: &Record, settings: &Settings, now: Timestamp) -> Result<Self, Error> {
        let issuing = match record.signing(Kind::Issuing, settings, now) {
            Some(entry) => {
                Some(Issuing { id: entry.id.clone(), authority: entry.x509()?, chain: entry.chain()? })
            }
            None => None,
        };
        let jwt = match record.signing(Kind::Jwt, settings, now) {
            Some(entry) => Some((entry.signer()?, entry.ends)),
            None => None,
        };
        let mut published = Vec::new();
        for entry in record.entries.iter().filter(|entry| entry.kind == Kind::Jwt && entry.is_published(now))
        {
            if let serde_json::Value::Object(jwk) = entry.signer()?.public_jwk() {
                published.push(jwk);
            }
        }
        let bundle = Bundle {
            trust_domain: settings.trust_domain.clone(),
            x509: record.anchors(now)?,
            jwt: published,
            sequence: record.sequence,
            refresh: refresh(settings),
        };
        let jwt_keys = if bundle.jwt.is_empty() { None } else { Some(bundle.jwt_keys()?) };
        let good =
            record.entries.iter().filter(|entry| entry.is_published(now) && record.fits(entry, settings));
        let turns = record.entries.iter().flat_map(|entry| [entry.active_from, entry.ends]);
        Ok(Self {
            issuing,
            jwt,
            bundle,
            jwt_keys,
            good: good.map(|entry| entry.id.clone()).collect(),
            next: turns.filter(|turn| *turn > now).min(),
        })
    }

    /// Of a control plane elsewhere: its bundle, and the authorities that it still shows.
    pub(crate) fn elsewhere(bundle: Bundle, good: BTreeSet<String>) -> Result<Self, Error> {
        let jwt_keys = if bundle.jwt.is_empty() { None } else { Some(bundle.jwt_keys()?) };
        Ok(Self { issuing: None, jwt: None, bundle, jwt_keys, good, next: None })
    }

    /// Whose documents may still be shown.
    pub(crate) fn good(&self) -> impl Iterator<Item = &str> {
        self.good.iter().map(String::as_str)
    }

    /// Whether what this authority signed may still be shown.
    pub fn is_good(&self, authority: &str) -> bool {
        self.good.contains(authority)
    }

    /// Whether others are to be told of this one in the place of `before`.
    pub(crate) fn differs(&self, before: &Self) -> bool {
        let id = |authorities: &Self| authorities.issuing.as_ref().map(|issuing| issuing.id.clone());
        let key = |authorities: &Self| authorities.jwt.as_ref().map(|(signer, _)| signer.key_id().to_owned());
        self.bundle != before.bundle
            || self.good != before.good
            || id(self) != id(before)
            || key(self) != key(before)
    }
}

/// An authority is in the bundle for a third of its life before it signs: verifiers look
/// several times in that time.
fn refresh(settings: &Settings) -> Duration {
    REFRESH_DEFAULT.min(settings.lifetimes.authority / 12).max(Duration::from_secs(1))
}
