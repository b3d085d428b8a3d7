//! What tests share: a clock that is moved by hand, and a verifier that is not ours.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keys::svid::WorkloadKey;
use model::{Clock, Timestamp};
use rcgen::PublicKeyData as _;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;

use crate::registry::Declared;
use crate::workload::{Conditions, Workload, Workloads};
use crate::workload_api::{AuditRecorder, Event};

/// Sunday, 2026-11-22.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_384_267);

pub(crate) struct Hands {
    wall: AtomicU64,
    passed: AtomicU64,
}

impl Hands {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { wall: AtomicU64::new(NOW.unix_nanos()), passed: AtomicU64::new(0) })
    }

    pub(crate) fn forward(&self, by: Duration) {
        self.passed.fetch_add(nanos(by), Ordering::SeqCst);
        self.set_on(by);
    }

    /// Sets the clock on, while no time passes.
    pub(crate) fn set_on(&self, by: Duration) {
        self.wall.fetch_add(nanos(by), Ordering::SeqCst);
    }

    pub(crate) fn set_back(&self, by: Duration) {
        self.wall.fetch_sub(nanos(by), Ordering::SeqCst);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.passed.load(Ordering::SeqCst))
    }
}

/// The real time: what renews here renews by the clock of the machine.
pub(crate) struct Real;

impl Clock for Real {
    #[expect(clippy::disallowed_methods, reason = "renewal is tested in seconds of the machine")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_unix_nanos(nanos(since))
    }

    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp::default())
    }
}

#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) full: std::sync::atomic::AtomicBool,
}

impl AuditRecorder for Notes {
    fn record(&self, event: Event) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        let full = self.full.load(std::sync::atomic::Ordering::SeqCst);
        if !full {
            self.events.lock().unwrap().push(event);
        }
        Box::pin(std::future::ready(!full))
    }
}

/// A configuration that declares workloads of these names.
pub(crate) fn declared(names: &[&str]) -> Declared {
    let workload = |name: &&str| Workload {
        name: (*name).to_owned(),
        id: format!("spiffe://shop.example/{name}").parse().unwrap(),
        hint: (*name).to_owned(),
        conditions: Conditions::default(),
        nodes: Vec::new(),
    };
    let list = names.iter().map(workload).collect();
    Declared { workloads: Workloads { list }, ..Declared::default() }
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

/// The last second of a certificate.
pub(crate) fn not_after(der: &[u8]) -> Timestamp {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
    Timestamp::from_unix_seconds(u64::try_from(certificate.validity().not_after.timestamp()).unwrap())
}
