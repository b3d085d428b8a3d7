//! What tests share: a clock that is moved by hand, and a verifier that is not ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keys::svid::WorkloadKey;
use model::{Clock, Timestamp};
use rcgen::PublicKeyData as _;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;

/// Sunday, 2026-11-22.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_384_267);

pub(crate) struct Hands(AtomicU64);

impl Hands {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NOW.unix_nanos())))
    }

    pub(crate) fn forward(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) fn workload_key() -> WorkloadKey {
    let pair = rcgen::KeyPair::generate().unwrap();
    WorkloadKey::from_spki(&pair.subject_public_key_info()).unwrap()
}

/// Whether rustls takes a client with this chain, trusting these anchors.
pub(crate) fn verifies(chain: &[Vec<u8>], anchors: &[Vec<u8>], now: Timestamp) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(CertificateDer::from(anchor.clone())).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    let chain: Vec<CertificateDer<'_>> =
        chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let (leaf, above) = chain.split_first().unwrap();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.unix_seconds()));
    verifier.verify_client_cert(leaf, above, time).map(|_| ()).map_err(|error| error.to_string())
}
