//! What the tests share: an issuer of our own and a clock that is moved by hand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keys::{
    Algorithm, CoreVerifier, IssuerSettings, Issuers, IssuersSettings, KeySet, KeySource, LocalSigner,
    Refusal, Signer, SystemRandom, Verdict, publish, sign_token,
};
use model::{Clock, Principal, Timestamp};
use serde_json::{Map, Value, json};

/// 2026-11-22, in seconds.
pub(crate) const NOW_SECONDS: u64 = 1_795_384_267;

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_seconds(NOW_SECONDS)
}

pub(crate) fn later(seconds: u64) -> Timestamp {
    Timestamp::from_unix_seconds(NOW_SECONDS + seconds)
}

pub(crate) fn signer(algorithm: Algorithm) -> LocalSigner {
    LocalSigner::generate(algorithm, &SystemRandom::new()).unwrap().0
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now().unix_nanos())))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp::default())
    }
}

pub(crate) const ISSUER: &str = "https://id.example.org";
pub(crate) const AUDIENCE: &str = "shop.example.org";

/// The claims of an honest token, good for five minutes.
pub(crate) fn claims() -> Map<String, Value> {
    object(json!({
        "iss": ISSUER, "sub": "alice", "aud": AUDIENCE,
        "iat": NOW_SECONDS, "exp": NOW_SECONDS + 300,
    }))
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// The honest claims with one replaced; `null` removes it.
pub(crate) fn with(name: &str, value: Value) -> Map<String, Value> {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.remove(name)),
        value => drop(claims.insert(name.to_owned(), value)),
    }
    claims
}

/// An issuer whose one key is pinned, and tokens of it.
pub(crate) struct TestBed {
    pub(crate) signer: LocalSigner,
    pub(crate) verifier: CoreVerifier,
}

impl TestBed {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut IssuerSettings)) -> Self {
        let signer = signer(Algorithm::Es256);
        let mut settings = pinned(ISSUER, &signer);
        change(&mut settings);
        let verifier = CoreVerifier::new(issuers(vec![settings]));
        Self { signer, verifier }
    }

    pub(crate) fn judge(&mut self, claims: &Map<String, Value>) -> Result<Arc<Principal>, Refusal> {
        let token = sign_token(&self.signer, "at+jwt", claims).unwrap();
        self.verify(token.as_bytes())
    }

    pub(crate) fn verify(&mut self, token: &[u8]) -> Result<Arc<Principal>, Refusal> {
        settled(self.verifier.verify(token, now()))
    }
}

/// A verdict that must not need a key.
pub(crate) fn settled(verdict: Verdict) -> Result<Arc<Principal>, Refusal> {
    match verdict {
        Verdict::Accepted(principal) => Ok(principal),
        Verdict::Refused(refusal) => Err(refusal),
        Verdict::NeedsKey(_) => panic!("a refresh was asked for"),
        Verdict::Bound(_) => panic!("the token is bound"),
    }
}

pub(crate) fn pinned(issuer: &str, signer: &dyn Signer) -> IssuerSettings {
    let keys = KeySet::parse_pinned(publish(&[signer]).as_bytes(), &Algorithm::ALL).unwrap();
    IssuerSettings {
        source: KeySource::Pinned(keys),
        ..IssuerSettings::new(issuer, vec![AUDIENCE.to_owned()])
    }
}

pub(crate) fn issuers(list: Vec<IssuerSettings>) -> Arc<Issuers> {
    let roles = BTreeSet::from(["customer", "merchant"].map(str::to_owned));
    Issuers::new(IssuersSettings { issuers: list, roles, ..IssuersSettings::default() }, None).unwrap()
}
