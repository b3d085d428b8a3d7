//! The authorities of a trust domain as they are kept: which there are, and when each
//! begins to sign, ends, and is taken back.
//!
//! The times of an authority are fixed when it is made, and every process reads from them
//! what it is now. So a rotation is one compare-and-set of one record, and nobody can sign
//! with an authority that the others do not trust yet.
//!
//! ```text
//! created ──── active_from ─────── active_until ──── ends
//!   prepared      active             retired          forgotten
//!   in bundles    signs, in bundles  in bundles
//! ```
//! At half of its life the next is prepared, at five sixths that one signs. Tainted, an
//! authority signs nothing more and what it signed is replaced at once; revoked, it is in
//! no bundle.

use std::sync::Arc;

use keys::encoding::{decode_base64url, encode_base64url};
use keys::svid::{AuthorityTerms, BACKDATE, X509Authority};
use keys::{Algorithm, LocalSigner, SecureRandom, Signer};
use model::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::settings::{Anchor, Settings};

/// Most authorities that are kept at once: a rotation every second for a minute.
pub const AUTHORITIES_MAX: usize = 64;

/// What an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Issuing authorities.
    Root,
    /// X.509-SVIDs.
    Issuing,
    /// JWT-SVIDs.
    Jwt,
}

impl Kind {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
            Self::Jwt => "jwt",
        }
    }
}

/// What an authority is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In bundles, does not sign yet.
    Prepared,
    /// Signs.
    Active,
    /// In bundles, signs no more.
    Retired,
    /// In bundles, and what it signed is being replaced.
    Tainted,
    /// In no bundle.
    Revoked,
}

impl State {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
        }
    }
}

/// One authority, as kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct Entry {
    /// What it signs.
    pub kind: Kind,
    /// The thumbprint of its key (RFC 7638).
    pub id: String,
    /// PKCS #8, base64url.
    document: Zeroizing<String>,
    /// Its certificate, DER in base64url. Empty for JWT keys.
    certificate: String,
    /// The certificates between it and the anchor, DER in base64url.
    above: Vec<String>,
    /// What verifiers trust, DER in base64url: its own certificate, or one above. Empty
    /// for JWT keys.
    anchor: String,
    /// Since when it is in bundles.
    pub created: Timestamp,
    /// Since when it signs.
    pub active_from: Timestamp,
    /// Until when it signs if another one is there.
    pub active_until: Timestamp,
    /// When nothing of it is good any more.
    pub ends: Timestamp,
    /// Since when it is tainted.
    pub tainted: Option<Timestamp>,
    /// Since when it is revoked.
    pub revoked: Option<Timestamp>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("kind", &self.kind).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Entry {
    /// What it is now.
    pub fn state(&self, now: Timestamp) -> State {
        match self {
            Self { revoked: Some(_), .. } => State::Revoked,
            Self { tainted: Some(_), .. } => State::Tainted,
            _ if now < self.active_from => State::Prepared,
            _ if now < self.active_until => State::Active,
            _ => State::Retired,
        }
    }

    /// Whether verifiers trust it.
    pub fn is_published(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.ends
    }

    /// Whether it may sign: from its time on, until its end when nothing follows it.
    fn may_sign(&self, now: Timestamp) -> bool {
        self.tainted.is_none() && self.revoked.is_none() && self.active_from <= now && now < self.ends
    }

    /// Whether what it signs now is good now: one that was made while the clock was set ahead is not, for as long as
    /// that was.
    fn has_begun(&self, now: Timestamp) -> bool {
        self.created <= now.plus(BACKDATE)
    }

    /// Its signer.
    pub(crate) fn signer(&self) -> Result<LocalSigner, Error> {
        let broken = || Error::Record(format!("the key {} is not base64url", self.id));
        let document = decode_base64url(self.document.as_bytes()).ok_or_else(broken)?;
        Ok(LocalSigner::from_pkcs8(&Zeroizing::new(document))?)
    }

    /// The authority, ready to sign.
    pub(crate) fn x509(&self) -> Result<X509Authority, Error> {
        let signer = Arc::new(self.signer()?);
        Ok(X509Authority::from_parts(self.der(&self.certificate)?, signer)?)
    }

    /// The certificates to send with what it signed, its own first, without the anchor.
    pub(crate) fn chain(&self) -> Result<Vec<Vec<u8>>, Error> {
        let own = (self.certificate != self.anchor).then_some(&self.certificate);
        own.into_iter().chain(&self.above).map(|certificate| self.der(certificate)).collect()
    }

    /// What verifiers trust, DER.
    pub(crate) fn anchor(&self) -> Result<Vec<u8>, Error> {
        self.der(&self.anchor)
    }

    fn der(&self, text: &str) -> Result<Vec<u8>, Error> {
        decode_base64url(text.as_bytes())
            .ok_or_else(|| Error::Record(format!("a certificate of {} is not base64url", self.id)))
    }
}

/// All authorities of a trust domain: one record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// In the order in which they were made.
    pub entries: Vec<Entry>,
    /// Grows with every change of the bundle (SPIFFE Trust Domain and Bundle §4.1.1).
    pub sequence: u64,
}

/// When the next authority is prepared, and when it takes over, in sixths of a life.
const PREPARED: u32 = 3;
const ACTIVE: u32 = 5;

/// What stands above a new authority.
struct Certified {
    certificate: Vec<u8>,
    above: Vec<Vec<u8>>,
    anchor: Vec<u8>,
    ends: Timestamp,
}

impl Record {
    /// The authority of a kind that signs now.
    pub fn signing(&self, kind: Kind, settings: &Settings, now: Timestamp) -> Option<&Entry> {
        let fitting = self.entries.iter().filter(|entry| entry.kind == kind && self.fits(entry, settings));
        fitting.filter(|entry| entry.may_sign(now)).max_by_key(|entry| entry.active_from)
    }

    /// Forgets, prepares and makes what is due; `None`: nothing is. Where none can sign,
    /// one that is prepared begins at once, or a new one does.
    ///
    /// # Errors
    /// A key or certificate cannot be made.
    pub fn rotated(
        &self,
        settings: &Settings,
        random: &dyn SecureRandom,
        now: Timestamp,
    ) -> Result<Option<Self>, Error> {
        let kept = self.entries.iter().filter(|entry| now < entry.ends);
        let mut next = Self { entries: kept.cloned().collect(), sequence: self.sequence };
        let roots = matches!(settings.anchor, Anchor::Root).then_some(Kind::Root);
        for kind in roots.into_iter().chain([Kind::Issuing, Kind::Jwt]) {
            if let Some(prepared) = next.needed_at_once(kind, settings, now) {
                prepared.active_from = now;
            }
            if let Some(from) = next.due(kind, settings, now) {
                let made = next.make(kind, settings, random, now, from)?;
                next.entries.push(made);
            }
        }
        if next.entries.len() > AUTHORITIES_MAX {
            return Err(Error::Authority(format!(
                "more than {AUTHORITIES_MAX} authorities would be kept; they are changed too often"
            )));
        }
        Ok(self.succeeded_by(next, now))
    }

    /// Prepares another authority although none is due. It signs when the present one
    /// retires, or is taken back.
    ///
    /// # Errors
    /// One is prepared already, or it cannot be made.
    pub fn prepared(
        &self,
        kind: Kind,
        settings: &Settings,
        random: &dyn SecureRandom,
        now: Timestamp,
    ) -> Result<Self, Error> {
        if self.entries.iter().any(|entry| entry.kind == kind && entry.state(now) == State::Prepared) {
            return Err(Error::Authority(format!("another {} authority is prepared already", kind.name())));
        }
        let from = self.signing(kind, settings, now).map_or(now, |entry| entry.active_until.max(now));
        let mut next = self.clone();
        next.entries.push(self.make(kind, settings, random, now, from)?);
        next.sequence = self.sequence_after(now);
        Ok(next)
    }

    /// Lets a prepared authority sign from now on.
    ///
    /// # Errors
    /// There is none of this id that is prepared.
    pub fn activated(&self, id: &str, now: Timestamp) -> Result<Self, Error> {
        self.changed(id, now, &[State::Prepared], |entry| entry.active_from = now)
    }

    /// Lets an authority sign no more; whoever holds something of it gets anew. It stays
    /// in the bundle until it is revoked, so that nothing breaks meanwhile.
    ///
    /// # Errors
    /// There is none of this id that is active or retired.
    pub fn tainted(&self, id: &str, now: Timestamp) -> Result<Self, Error> {
        self.changed(id, now, &[State::Active, State::Retired], |entry| entry.tainted = Some(now))
    }

    /// Takes an authority out of the bundle: what it signed is good no more.
    ///
    /// # Errors
    /// There is none of this id that is tainted.
    pub fn revoked(&self, id: &str, now: Timestamp) -> Result<Self, Error> {
        self.changed(id, now, &[State::Tainted], |entry| entry.revoked = Some(now))
    }

    fn changed(
        &self,
        id: &str,
        now: Timestamp,
        from: &[State],
        change: impl FnOnce(&mut Entry),
    ) -> Result<Self, Error> {
        let mut next = self.clone();
        let Some(entry) = next.entries.iter_mut().find(|entry| entry.id == id) else {
            return Err(Error::UnknownAuthority(id.to_owned()));
        };
        let state = entry.state(now);
        if !from.contains(&state) {
            let wanted: Vec<&str> = from.iter().map(|state| state.name()).collect();
            let (found, wanted) = (state.name(), wanted.join(" or "));
            return Err(Error::Authority(format!("the authority {id} is {found}; it has to be {wanted}")));
        }
        change(entry);
        next.sequence = self.sequence_after(now);
        Ok(next)
    }

    /// What verifiers trust, DER, each once.
    pub(crate) fn anchors(&self, now: Timestamp) -> Result<Vec<Vec<u8>>, Error> {
        let mut anchors = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.kind != Kind::Jwt && entry.is_published(now)) {
            // A root of ours speaks for itself: it may be revoked while what it signed is not.
            let speaks = entry.kind == Kind::Root || self.root_of(entry).is_none();
            let anchor = entry.anchor()?;
            if speaks && !anchors.contains(&anchor) {
                anchors.push(anchor);
            }
        }
        Ok(anchors)
    }

    /// Whether verifiers trust what this authority signed: it and the root of ours above it are in
    /// bundles.
    pub fn is_trusted(&self, authority: &str, now: Timestamp) -> bool {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.id == authority).is_some_and(|entry| {
            entry.is_published(now) && self.root_of(entry).is_none_or(|root| root.is_published(now))
        })
    }

    /// The root of ours above an issuing authority.
    fn root_of(&self, entry: &Entry) -> Option<&Entry> {
        let root = |other: &&Entry| other.kind == Kind::Root && other.certificate == entry.anchor;
        self.entries.iter().find(root)
    }

    /// Whether what an authority signed may still be shown: neither it nor what stands
    /// above it is taken back, and the settings still want its kind.
    pub(crate) fn fits(&self, entry: &Entry, settings: &Settings) -> bool {
        let taken_back = |entry: &Entry| entry.tainted.is_some() || entry.revoked.is_some();
        let placed = match (&settings.anchor, entry.kind) {
            (_, Kind::Root | Kind::Jwt) => true,
            (Anchor::Issuing, Kind::Issuing) => entry.anchor == entry.certificate,
            (Anchor::Root, Kind::Issuing) => self.root_of(entry).is_some_and(|root| !taken_back(root)),
            (Anchor::Given(given), Kind::Issuing) => {
                let above = given.chain.iter().map(|der| encode_base64url(der));
                entry.above.iter().chain([&entry.anchor]).cloned().eq(above)
            }
        };
        placed && !taken_back(entry)
    }

    /// The next record, when it is another one, with its number.
    fn succeeded_by(&self, mut next: Self, now: Timestamp) -> Option<Self> {
        let shape = |record: &Self| -> Vec<(String, Timestamp)> {
            record.entries.iter().map(|entry| (entry.id.clone(), entry.active_from)).collect()
        };
        if shape(self) == shape(&next) {
            return None;
        }
        next.sequence = self.sequence_after(now);
        Some(next)
    }

    /// The number of what follows this: the second at which it does, or the next number. So it is above all that
    /// partners were told before a store was lost, or put back from a backup: they take no lower one.
    fn sequence_after(&self, now: Timestamp) -> u64 {
        now.unix_seconds().max(self.sequence + 1)
    }

    /// The prepared authority that has to begin because none signs.
    fn needed_at_once(&mut self, kind: Kind, settings: &Settings, now: Timestamp) -> Option<&mut Entry> {
        if self.signing(kind, settings, now).is_some() {
            return None;
        }
        let fitting: Vec<bool> = self.entries.iter().map(|entry| self.fits(entry, settings)).collect();
        let mut prepared = self
            .entries
            .iter_mut()
            .zip(fitting)
            .filter(|(entry, fits)| *fits && entry.kind == kind && entry.state(now) == State::Prepared)
            .filter(|(entry, _)| entry.has_begun(now));
        prepared.next().map(|(entry, _)| entry)
    }

    /// From when on another authority of a kind has to sign; `None`: none is due.
    fn due(&self, kind: Kind, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
        let fitting = self.entries.iter().filter(|entry| entry.kind == kind && self.fits(entry, settings));
        let Some(last) = fitting.filter(|entry| entry.has_begun(now)).max_by_key(|entry| entry.active_from)
        else {
            return Some(now);
        };
        let prepared_at = last.active_from.plus(last.ends.since(last.active_from) / 6 * PREPARED);
        (now >= prepared_at).then_some(last.active_until.max(now))
    }

    fn make(
        &self,
        kind: Kind,
        settings: &Settings,
        random: &dyn SecureRandom,
        now: Timestamp,
        from: Timestamp,
    ) -> Result<Entry, Error> {
        let (signer, document) = LocalSigner::generate(Algorithm::Es256, random)?;
        let id = signer.key_id().to_owned();
        let lifetimes = &settings.lifetimes;
        let lifetime = if kind == Kind::Root { lifetimes.root } else { lifetimes.authority };
        // Certificates know whole seconds.
        let until = Timestamp::from_unix_seconds(from.plus(lifetime).unix_seconds());
        let terms = AuthorityTerms {
            trust_domain: &settings.trust_domain,
            from: now,
            until,
            signs_authorities: kind == Kind::Root,
        };
        let made = match kind {
            Kind::Jwt => {
                Certified { certificate: Vec::new(), above: Vec::new(), anchor: Vec::new(), ends: until }
            }
            Kind::Root => own_anchor(&X509Authority::self_signed(Arc::new(signer), &terms, random)?),
            Kind::Issuing => self.certify(Arc::new(signer), settings, random, &terms)?,
        };
        if made.ends <= from {
            return Err(Error::NoAuthority("the authority above ends too soon"));
        }
        Ok(Entry {
            kind,
            id,
            document: Zeroizing::new(encode_base64url(&document)),
            certificate: encode_base64url(&made.certificate),
            above: made.above.iter().map(|der| encode_base64url(der)).collect(),
            anchor: encode_base64url(&made.anchor),
            created: now,
            active_from: from,
            active_until: from.plus(made.ends.since(from) / 6 * ACTIVE),
            ends: made.ends,
            tainted: None,
            revoked: None,
        })
    }

    /// An issuing authority below whatever the settings say.
    fn certify(
        &self,
        signer: Arc<dyn Signer>,
        settings: &Settings,
        random: &dyn SecureRandom,
        terms: &AuthorityTerms<'_>,
    ) -> Result<Certified, Error> {
        match &settings.anchor {
            Anchor::Issuing => Ok(own_anchor(&X509Authority::self_signed(signer, terms, random)?)),
            Anchor::Root => {
                let root = self.signing(Kind::Root, settings, terms.from);
                let root = root.ok_or(Error::NoAuthority("there is no root"))?.x509()?;
                let made = root.subordinate(signer, terms, random)?;
                let anchor = root.certificate().to_vec();
                Ok(below(&made, Vec::new(), anchor))
            }
            Anchor::Given(given) => {
                let Some((own, anchor)) = given.chain.first().zip(given.chain.last()) else {
                    return Err(Error::Settings("the given authority has no certificate".to_owned()));
                };
                let given_authority = X509Authority::from_parts(own.clone(), Arc::clone(&given.signer))?;
                let made = given_authority.subordinate(signer, terms, random)?;
                let above = given.chain.iter().take(given.chain.len() - 1).cloned().collect();
                Ok(below(&made, above, anchor.clone()))
            }
        }
    }
}

fn own_anchor(authority: &X509Authority) -> Certified {
    let certificate = authority.certificate().to_vec();
    Certified { anchor: certificate.clone(), certificate, above: Vec::new(), ends: authority.not_after() }
}

fn below(authority: &X509Authority, above: Vec<Vec<u8>>, anchor: Vec<u8>) -> Certified {
    Certified { certificate: authority.certificate().to_vec(), above, anchor, ends: authority.not_after() }
}

#[cfg(test)]
mod tests;
