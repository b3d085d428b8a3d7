//! The realm's signing keys: made, published before they sign, and published until
//! nothing that they signed is good any more.
//!
//! The times of a key are fixed when it is made, and each process reads from them what
//! it is now; so a rotation is one compare-and-set of one record, and no process can
//! sign with a key that the others do not publish yet.
//!
//! ```text
//! created ──────── signs_from ──────────── signs_until ──────── published_until
//!     published          published, signs          published        remembered
//! ```
//!
//! Remembered: for as long as a session lasts an ID token that is over still says, as a hint,
//! who was meant. Nothing else verifies with such a key, and nobody else is told of it.
//!
//! Lifetimes change while keys sign: a key that still signs stays published for the longest token
//! that was ever allowed in its time.
//!
//! INVARIANT: however many keys there are, one signs. Of more than verifiers read the newest are
//! published, and of more than that the newest are remembered.

use std::time::Duration;

use aws_lc_rs::hmac;
use keys::encoding::{decode_base64url, encode_base64url};
use keys::{
    Algorithm, KeySet, LocalSigner, SEAL_KEY_BYTES, SealKey, SecureRandom, Signer, TokenHeader, publish,
};
use model::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Error;
use crate::caches::Tokens;
use crate::mint::ACCESS_TOKEN_TYPE;
use crate::settings::{Lifetimes, RealmSettings};

/// How much longer than the longest token a key stays published.
const PUBLISHED_AFTER: Duration = Duration::from_secs(3600);
/// Longest time for which verifiers may keep the key set.
const CACHE_MAX: Duration = Duration::from_secs(300);

/// One key, as kept.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyEntry {
    pub(crate) algorithm: Algorithm,
    /// PKCS #8, base64url.
    document: Zeroizing<String>,
    pub(crate) created: Timestamp,
    pub(crate) signs_from: Timestamp,
    pub(crate) signs_until: Timestamp,
    pub(crate) published_until: Timestamp,
    /// Until when what it signed is still read as a hint of who was meant: as long as a
    /// session lasts, no token of which it verifies any more.
    #[serde(default)]
    remembered_until: Timestamp,
}

impl KeyEntry {
    fn is_published(&self, now: Timestamp) -> bool {
        self.published_until > now
    }

    fn is_remembered(&self, now: Timestamp) -> bool {
        self.published_until.max(self.remembered_until) > now
    }

    /// The longest life of anything that it may have signed.
    fn longest_token(&self) -> Duration {
        self.published_until.since(self.signs_until).saturating_sub(PUBLISHED_AFTER)
    }

    /// The same key where it outlives what may be signed with it, by the settings of now.
    fn outliving(&self, settings: &RealmSettings, now: Timestamp) -> Self {
        if self.signs_until <= now {
            return self.clone();
        }
        let (published, remembered) = ends(settings, self.signs_until);
        Self {
            published_until: self.published_until.max(published),
            remembered_until: self.remembered_until.max(remembered),
            ..self.clone()
        }
    }
}

/// A signing key, without what signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Its `kid`.
    pub id: String,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// When it was made and published.
    pub created: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
    /// Until when it signs.
    pub signs_until: Timestamp,
    /// Until when it is published.
    pub published_until: Timestamp,
}

/// Keys and secrets of a realm: one record.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    pub(crate) keys: Vec<KeyEntry>,
    /// From which refresh tokens and nonces are derived, base64url.
    secret: Zeroizing<String>,
}

impl KeyRecord {
    pub(crate) fn new(random: &dyn SecureRandom) -> Result<Self, Error> {
        Ok(Self { keys: Vec::new(), secret: Zeroizing::new(crate::random::secret(random)?) })
    }

    /// Forgets and makes keys as [`plan`] says; `None` when there is nothing to do.
    pub(crate) fn rotated(
        &self,
        settings: &RealmSettings,
        random: &dyn SecureRandom,
        now: Timestamp,
    ) -> Result<Option<Self>, Error> {
        let kept: Vec<KeyEntry> = self.keys.iter().filter(|key| key.is_remembered(now)).cloned().collect();
        let wanted = plan(&kept, settings, now);
        let kept = newest(kept, keys::JWKS_KEYS_MAX.saturating_sub(wanted.len()), now);
        let kept: Vec<KeyEntry> = kept.iter().map(|key| key.outliving(settings, now)).collect();
        if wanted.is_empty() && kept == self.keys {
            return Ok(None);
        }
        let mut record = Self { keys: kept, secret: self.secret.clone() };
        for (algorithm, signs_from) in wanted {
            let (_, document) = LocalSigner::generate(algorithm, random)?;
            let signs_until = signs_from.plus(settings.lifetimes.key_signs);
            let (published_until, remembered_until) = ends(settings, signs_until);
            record.keys.push(KeyEntry {
                algorithm,
                document: Zeroizing::new(encode_base64url(&document)),
                created: now,
                signs_from,
                signs_until,
                published_until,
                remembered_until,
            });
        }
        Ok(Some(record))
    }

    /// Whether so many are published that other ones would be more than verifiers read.
    pub(crate) fn is_full(&self, settings: &RealmSettings, now: Timestamp) -> bool {
        let published = self.keys.iter().filter(|key| key.is_published(now)).count();
        published + settings.algorithms.len() > keys::JWKS_KEYS_MAX
    }

    /// Ends the signing of every key of today: the next [`KeyRecord::rotated`] makes
    /// others, which sign at once. They stay published until nothing that they signed is good;
    /// with `forget`, it is good no more.
    pub(crate) fn ended(&self, settings: &RealmSettings, now: Timestamp, forget: bool) -> Self {
        let (last, last_remembered) = ends(settings, now);
        let ended = |key: &KeyEntry| {
            let last = last.max(now.plus(key.longest_token()).plus(PUBLISHED_AFTER));
            KeyEntry {
                signs_from: key.signs_from.min(now),
                signs_until: key.signs_until.min(now),
                published_until: if forget { now } else { key.published_until.min(last) },
                remembered_until: if forget { now } else { key.remembered_until.min(last_remembered) },
                ..key.clone()
            }
        };
        Self { keys: self.keys.iter().map(ended).collect(), secret: self.secret.clone() }
    }
}

/// Until when a key is published and remembered that signs until then.
fn ends(settings: &RealmSettings, signs_until: Timestamp) -> (Timestamp, Timestamp) {
    let after = |life: Duration| signs_until.plus(life).plus(PUBLISHED_AFTER);
    (after(longest_token(settings)), after(settings.lifetimes.session_absolute))
}

/// The published ones, and as many of the others as make `most` with them, the newest. They stand
/// in the order in which they were made.
fn newest(keys: Vec<KeyEntry>, most: usize, now: Timestamp) -> Vec<KeyEntry> {
    let published = keys.iter().filter(|key| key.is_published(now)).count();
    let remembered = most.saturating_sub(published);
    let mut too_many = (keys.len() - published).saturating_sub(remembered);
    let mut kept = keys;
    kept.retain(|key| {
        let goes = too_many > 0 && !key.is_published(now);
        too_many -= usize::from(goes);
        !goes
    });
    kept
}

/// How many keys of an algorithm may be published at the same time.
pub(crate) fn published_at_once(settings: &RealmSettings) -> u64 {
    let Lifetimes { key_signs, key_prepared, .. } = settings.lifetimes;
    let published = key_prepared.saturating_add(longest_token(settings)).saturating_add(PUBLISHED_AFTER);
    // The one that signs, and all that are published before or after they do.
    published.as_secs().div_ceil(key_signs.as_secs().max(1)).saturating_add(2)
}

/// The longest life of anything that a realm signs.
fn longest_token(settings: &RealmSettings) -> Duration {
    let Lifetimes { access_token, id_token, .. } = settings.lifetimes;
    let of_resources = settings.resources.values().filter_map(|resource| resource.access_token);
    of_resources.fold(access_token.max(id_token), Duration::max)
}

/// Which keys have to be made now, and from when on each signs.
fn plan(keys: &[KeyEntry], settings: &RealmSettings, now: Timestamp) -> Vec<(Algorithm, Timestamp)> {
    let next = |algorithm: &Algorithm| {
        let ends = keys.iter().filter(|key| key.algorithm == *algorithm).map(|key| key.signs_until);
        match ends.max() {
            Some(end) if end > now => {
                let due = end.since(now) <= settings.lifetimes.key_prepared;
                due.then_some((*algorithm, end))
            }
            _ => Some((*algorithm, now)),
        }
    };
    settings.algorithms.iter().filter_map(next).collect()
}

/// A key, ready to sign.
pub(crate) struct Signing {
    pub(crate) signer: LocalSigner,
    /// Of the access tokens that it signs.
    pub(crate) access_header: TokenHeader,
}

/// The keys of a realm, ready to be used.
pub(crate) struct KeyRing {
    signers: Vec<(KeyEntry, Signing)>,
    /// What verifies our own tokens.
    pub(crate) verifying: KeySet,
    /// The same, with keys that signed tokens of sessions that still last.
    pub(crate) remembering: KeySet,
    /// The JWK Set (RFC 7517 §5).
    pub(crate) jwks: String,
    /// Its entity tag (RFC 9110 §8.8.3).
    pub(crate) tag: String,
    /// For how long verifiers may keep it.
    pub(crate) cache: Duration,
    secret: hmac::Key,
    /// What `verifying` has verified.
    pub(crate) verified: Tokens,
}

impl KeyRing {
    pub(crate) fn new(record: &KeyRecord, settings: &RealmSettings, now: Timestamp) -> Result<Self, Error> {
        let broken = |what: &str| Error::Record { what: "stored keys".to_owned(), why: what.to_owned() };
        let mut signers = Vec::new();
        // Lifetimes of before may have left more than verifiers read.
        let kept = newest(record.keys.clone(), keys::JWKS_KEYS_MAX, now);
        let too_many = kept.len().saturating_sub(keys::JWKS_KEYS_MAX);
        for entry in kept.iter().skip(too_many) {
            let document =
                decode_base64url(entry.document.as_bytes()).ok_or_else(|| broken("not base64url"))?;
            let signer = LocalSigner::from_pkcs8(&Zeroizing::new(document))?;
            if signer.algorithm() != entry.algorithm {
                return Err(broken("a key is not of its algorithm"));
            }
            let access_header = TokenHeader::new(&signer, ACCESS_TOKEN_TYPE)?;
            signers.push((entry.clone(), Signing { signer, access_header }));
        }
        let published = |signers: &[(KeyEntry, Signing)]| {
            let signers: Vec<&dyn Signer> =
                signers.iter().map(|(_, signing)| &signing.signer as &dyn Signer).collect();
            publish(&signers)
        };
        let (remembering, _) = KeySet::parse(published(&signers).as_bytes(), &Algorithm::ALL)?;
        signers.retain(|(entry, _)| entry.is_published(now));
        let jwks = published(&signers);
        let (verifying, _) = KeySet::parse(jwks.as_bytes(), &Algorithm::ALL)?;
        let secret = decode_base64url(record.secret.as_bytes()).map(Zeroizing::new);
        let secret = secret.ok_or_else(|| broken("not base64url"))?;
        Ok(Self {
            tag: format!("\"{}\"", crate::random::hash(&jwks)),
            cache: CACHE_MAX.min(settings.lifetimes.key_prepared / 2),
            signers,
            verifying,
            remembering,
            jwks,
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            verified: Tokens::default(),
        })
    }

    /// The key that signs now.
    pub(crate) fn signer(&self, algorithm: Algorithm, now: Timestamp) -> Result<&LocalSigner, Error> {
        self.signing(algorithm, now).map(|signing| &signing.signer)
    }

    /// The same with what it writes before every access token.
    pub(crate) fn signing(&self, algorithm: Algorithm, now: Timestamp) -> Result<&Signing, Error> {
        let of_algorithm = self.signers.iter().filter(|(entry, _)| entry.algorithm == algorithm);
        let signing = of_algorithm.filter(|(entry, _)| entry.signs_from <= now && now < entry.signs_until);
        let newest = signing.max_by_key(|(entry, _)| entry.signs_from);
        newest.map(|(_, signing)| signing).ok_or_else(|| Error::Record {
            what: format!("signing key for {algorithm}"),
            why: "none signs now; keys are rotated by the control plane".to_owned(),
        })
    }

    /// The longest life of anything that the keys may have signed and that is still good.
    pub(crate) fn longest_token(&self, settings: &RealmSettings) -> Duration {
        let of_keys = self.signers.iter().map(|(entry, _)| entry.longest_token());
        of_keys.fold(longest_token(settings), Duration::max)
    }

    /// What is published of each key: its `kid`, algorithm and times.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &KeyEntry)> {
        self.signers.iter().map(|(entry, signing)| (signing.signer.key_id(), entry))
    }

    /// A value that only this realm can derive, for `purpose`.
    pub(crate) fn derive(&self, purpose: &str, input: &str) -> String {
        encode_base64url(self.derive_tag(purpose, input).as_ref())
    }

    fn derive_tag(&self, purpose: &str, input: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in [purpose, "\0", input] {
            context.update(part.as_bytes());
        }
        context.sign()
    }

    /// A key that only processes of this realm can derive, for `purpose`.
    pub(crate) fn derive_seal(&self, purpose: &str, input: &str) -> Result<SealKey, Error> {
        let tag = self.derive_tag(purpose, input);
        let bytes =
            Zeroizing::new(<[u8; SEAL_KEY_BYTES]>::try_from(tag.as_ref()).map_err(|_| Error::Random)?);
        Ok(SealKey::new(&bytes)?)
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries().map(|(key_id, _)| key_id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use keys::SystemRandom;

    use super::*;

    const DAY: u64 = 24 * 3600;

    fn at(day: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_384_267 + day * DAY)
    }

    fn settings() -> RealmSettings {
        let mut settings = RealmSettings::new("shop", "https://id.example.org");
        settings.algorithms = vec![Algorithm::Es256];
        settings
    }

    fn kid(record: &KeyRecord, now: Timestamp) -> String {
        let key_ring = KeyRing::new(record, &settings(), now).unwrap();
        key_ring.signer(Algorithm::Es256, now).unwrap().key_id().to_owned()
    }

    #[test]
    fn keys_are_published_before_they_sign_and_until_nothing_of_theirs_is_good() {
        let random = SystemRandom::new();
        let record = KeyRecord::new(&random).unwrap();
        let rotate = |record: &KeyRecord, now| record.rotated(&settings(), &random, now).unwrap();
        let first = rotate(&record, at(0)).unwrap();
        let first_kid = kid(&first, at(0));
        assert!(rotate(&first, at(0)).is_none() && rotate(&first, at(28)).is_none());

        // A day ahead the next one is made; it is published and does not sign.
        let prepared = rotate(&first, at(29)).unwrap();
        assert_eq!(prepared.keys.len(), 2);
        assert_eq!(kid(&prepared, at(29)), first_kid);
        assert!(rotate(&prepared, at(29)).is_none());
        let published = KeyRing::new(&prepared, &settings(), at(29)).unwrap();
        assert_eq!(published.verifying.len(), 2);

        // Then it signs, and the first only verifies, then is remembered, then forgotten.
        let second_kid = kid(&prepared, at(30));
        assert_ne!(second_kid, first_kid);
        assert!(rotate(&prepared, at(30)).is_none());
        assert!(rotate(&prepared, at(31)).is_none());
        let remembered = KeyRing::new(&prepared, &settings(), at(31)).unwrap();
        assert_eq!((remembered.verifying.len(), remembered.remembering.len()), (1, 2));
        assert!(!remembered.jwks.contains(&first_kid));
        let forgotten = rotate(&prepared, at(32)).unwrap();
        assert_eq!(forgotten.keys.len(), 1);
        assert_eq!(kid(&forgotten, at(32)), second_kid);
    }

    #[test]
    fn after_a_long_silence_there_is_a_key_at_once() {
        let random = SystemRandom::new();
        let first = KeyRecord::new(&random).unwrap().rotated(&settings(), &random, at(0)).unwrap().unwrap();
        let later = first.rotated(&settings(), &random, at(400)).unwrap().unwrap();
        assert_eq!(later.keys.len(), 1);
        assert_ne!(kid(&later, at(400)), kid(&first, at(0)));
    }

    #[test]
    fn a_compromised_key_is_ended_and_forgotten() {
        let random = SystemRandom::new();
        let first = KeyRecord::new(&random).unwrap().rotated(&settings(), &random, at(0)).unwrap().unwrap();
        let ended =
            first.ended(&settings(), at(1), false).rotated(&settings(), &random, at(1)).unwrap().unwrap();
        assert_eq!(ended.keys.len(), 2, "what it signed is still good");
        // And published no longer than that: many rotations leave no heap of keys.
        let last = at(1).plus(longest_token(&settings())).plus(PUBLISHED_AFTER);
        assert_eq!(ended.keys[0].published_until, last);
        let mut many = ended.clone();
        many.keys.resize(keys::JWKS_KEYS_MAX - settings().algorithms.len(), ended.keys[0].clone());
        assert!(!many.is_full(&settings(), at(1)));
        many.keys.push(ended.keys[0].clone());
        assert!(many.is_full(&settings(), at(1)), "verifiers would take no more");
        assert_ne!(kid(&ended, at(1)), kid(&first, at(0)));
        let forgotten =
            first.ended(&settings(), at(1), true).rotated(&settings(), &random, at(1)).unwrap().unwrap();
        assert_eq!(forgotten.keys.len(), 1);
        assert_ne!(kid(&forgotten, at(1)), kid(&first, at(0)));
    }

    #[test]
    fn however_often_keys_are_rotated_one_signs() {
        let random = SystemRandom::new();
        let mut settings = settings();
        settings.lifetimes.key_signs = Duration::from_secs(DAY);
        settings.lifetimes.key_prepared = Duration::from_secs(DAY / 2);
        settings.lifetimes.session_absolute = Duration::from_secs(400 * DAY);
        assert!(published_at_once(&settings) < 5);
        let mut record = KeyRecord::new(&random).unwrap();
        for day in 0..150 {
            let now = at(day);
            if day % 2 == 1 {
                // By hand, too.
                assert!(!record.is_full(&settings, now), "day {day}: of few that are published");
                record = record.ended(&settings, now, false);
            }
            record = record.rotated(&settings, &random, now).unwrap().unwrap_or(record);
            let key_ring = KeyRing::new(&record, &settings, now).unwrap();
            assert!(key_ring.signer(Algorithm::Es256, now).is_ok(), "day {day}");
            assert!(record.keys.len() <= keys::JWKS_KEYS_MAX, "day {day}: {}", record.keys.len());
        }
        assert_eq!(record.keys.len(), keys::JWKS_KEYS_MAX, "the newest are remembered");
        // What was written before there was a bound, or under lifetimes that need more.
        let mut heap = record.clone();
        for _ in 0..2 {
            heap.keys.extend(record.keys.clone());
        }
        for published_until in [at(0), at(200)] {
            heap.keys.iter_mut().rev().skip(1).for_each(|key| key.published_until = published_until);
            let key_ring = KeyRing::new(&heap, &settings, at(149)).unwrap();
            assert!(key_ring.signer(Algorithm::Es256, at(149)).is_ok());
            assert!(key_ring.verifying.len() <= keys::JWKS_KEYS_MAX);
        }
    }

    #[test]
    fn a_key_outlives_the_longest_token_that_it_may_have_signed() {
        let random = SystemRandom::new();
        let (short, mut long) = (settings(), settings());
        long.lifetimes.access_token = Duration::from_secs(DAY);
        let rotate = |record: &KeyRecord, settings: &RealmSettings, now| {
            record.rotated(settings, &random, now).unwrap().unwrap_or_else(|| record.clone())
        };
        let is_verified = |record: &KeyRecord, kid: &str, now: Timestamp| {
            KeyRing::new(record, &short, now).unwrap().jwks.contains(kid)
        };
        let hour = Duration::from_secs(3600);
        // Raised while it signs, and lowered again before it ends.
        let first = rotate(&KeyRecord::new(&random).unwrap(), &short, at(0));
        let kid = kid(&first, at(0));
        assert_eq!(KeyRing::new(&first, &short, at(0)).unwrap().longest_token(&short), hour / 12);
        let raised = rotate(&first, &long, at(1));
        let lowered = rotate(&raised, &short, at(2));
        assert!(rotate(&lowered, &short, at(2)).keys == lowered.keys);
        assert_eq!(KeyRing::new(&lowered, &short, at(2)).unwrap().longest_token(&short), 24 * hour);
        let last = first.keys[0].signs_until.plus(23 * hour);
        let later = rotate(&rotate(&lowered, &short, at(29)), &short, last);
        assert!(is_verified(&later, &kid, last));
        assert!(!is_verified(&later, &kid, last.plus(3 * hour)));
        // Ended by hand, it is published for as long.
        let ended = rotate(&lowered.ended(&short, at(2), false), &short, at(2));
        assert!(is_verified(&ended, &kid, at(2).plus(23 * hour)));
        assert_eq!(KeyRing::new(&ended, &short, at(2)).unwrap().longest_token(&short), 24 * hour);
        // What it signed before is over already when it has ended before.
        let after = rotate(&rotate(&first, &short, at(29)), &long, at(30).plus(hour / 2));
        assert!(is_verified(&after, &kid, at(30).plus(hour)));
        assert!(!is_verified(&after, &kid, at(30).plus(2 * hour)));
    }

    #[test]
    fn every_algorithm_has_a_key_and_no_debug_shows_it() {
        let random = SystemRandom::new();
        let settings = RealmSettings::new("shop", "https://id.example.org");
        let record = KeyRecord::new(&random).unwrap().rotated(&settings, &random, at(0)).unwrap().unwrap();
        let key_ring = KeyRing::new(&record, &settings, at(0)).unwrap();
        for algorithm in &settings.algorithms {
            assert_eq!(key_ring.signer(*algorithm, at(0)).unwrap().algorithm(), *algorithm);
        }
        assert!(!key_ring.jwks.contains("\"d\""));
        assert!(!format!("{key_ring:?}").contains(record.secret.as_str()));
        assert_ne!(key_ring.derive("a", "b"), key_ring.derive("b", "a"));
    }
}
