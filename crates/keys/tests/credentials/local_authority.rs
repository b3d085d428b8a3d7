//! The local certificate authority, judged by rustls' verifier.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use keys::ca::{CA_LIFETIME, LEAF_LIFETIME, LEAF_RENEW_BEFORE};
use keys::{Leaf, LocalCa, SystemRandom};
use model::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

use crate::support::now;

const RANDOM: fn() -> SystemRandom = SystemRandom::new;

fn names() -> Vec<String> {
    ["localhost", "127.0.0.1", "::1", "shop.example.org", "*.shop.example.org"].map(str::to_owned).to_vec()
}

fn chain(leaf: &Leaf) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(leaf.chain_pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn roots(ca: &LocalCa) -> Arc<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).unwrap()).unwrap();
    Arc::new(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.unix_seconds()))
}

fn serves(ca: &LocalCa, leaf: &Leaf, name: &str, time: Timestamp) -> bool {
    let chain = chain(leaf);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca), provider()).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], unix(time)).is_ok()
}

#[test]
fn a_server_certificate_is_good_for_its_names_while_it_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(folder.path(), now(), &RANDOM()).unwrap();
    let leaf = ca.issue_server(&names(), now(), &RANDOM()).unwrap();
    for name in ["localhost", "127.0.0.1", "::1", "shop.example.org", "a.shop.example.org"] {
        assert!(serves(&ca, &leaf, name, now()), "{name}");
    }
    for name in ["example.org", "127.0.0.2", "a.b.shop.example.org"] {
        assert!(!serves(&ca, &leaf, name, now()), "{name}");
    }
    let end = now().plus(LEAF_LIFETIME);
    assert_eq!(leaf.not_after, end);
    assert!(serves(&ca, &leaf, "localhost", end));
    assert!(!serves(&ca, &leaf, "localhost", end.plus(Duration::from_secs(1))));
    // rustls takes the pair.
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.expose().as_bytes()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    assert!(config.unwrap().with_no_client_auth().with_single_cert(chain(&leaf), key).is_ok());
    let other = tempfile::tempdir().unwrap();
    let other = LocalCa::open_or_create(other.path(), now(), &RANDOM()).unwrap();
    assert!(!serves(&other, &leaf, "localhost", now()), "another folder's authority");
}

#[test]
fn a_server_certificate_is_no_client_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(folder.path(), now(), &RANDOM()).unwrap();
    let chain = chain(&ca.issue_server(&names(), now(), &RANDOM()).unwrap());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(&ca), provider()).build().unwrap();
    assert!(verifier.verify_client_cert(&chain[0], &chain[1..], unix(now())).is_err());
}

#[test]
fn the_authority_is_made_once_and_its_key_is_kept_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let first = LocalCa::open_or_create(folder.path(), now(), &RANDOM()).unwrap();
    let leaf = first.issue_server(&names(), now(), &RANDOM()).unwrap();
    let again = LocalCa::open_or_create(folder.path(), now().plus(LEAF_LIFETIME), &RANDOM()).unwrap();
    assert_eq!(first.certificate_pem(), again.certificate_pem());
    assert!(serves(&again, &leaf, "localhost", now()));
    let later = again.issue_server(&names(), now(), &RANDOM()).unwrap();
    assert!(serves(&first, &later, "localhost", now()));

    let key = folder.path().join("ca.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let open = || LocalCa::open_or_create(folder.path(), now(), &RANDOM());
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(open().unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    assert!(open().is_ok());
    assert!(LocalCa::open_or_create(folder.path(), now().plus(CA_LIFETIME), &RANDOM()).is_err(), "ended");

    let other = tempfile::tempdir().unwrap();
    LocalCa::open_or_create(other.path(), now(), &RANDOM()).unwrap();
    std::fs::copy(other.path().join("ca.pem"), folder.path().join("ca.pem")).unwrap();
    assert!(open().unwrap_err().to_string().contains("not the certificate of the key"));
    std::fs::remove_file(&key).unwrap();
    assert!(open().is_err(), "a certificate without its key is not replaced in silence");
}

#[test]
fn the_kept_server_certificate_is_renewed_ahead_of_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(folder.path(), now(), &RANDOM()).unwrap();
    let get = |names: &[String], time| ca.server_certificate(names, time, &RANDOM()).unwrap().chain_pem;
    let first = get(&names(), now());
    assert_eq!(get(&names(), now()), first);
    assert_eq!(get(&names()[..2], now()), first, "fewer names are covered");
    let renewal = now().plus(LEAF_LIFETIME - LEAF_RENEW_BEFORE);
    assert_eq!(get(&names(), renewal.minus(Duration::from_secs(1))), first);
    let second = get(&names(), renewal);
    assert_ne!(second, first);
    let wider = get(&["new.example.org".to_owned()], renewal);
    assert_ne!(wider, second, "a new name needs a new certificate");
    let mode = std::fs::metadata(folder.path().join("local.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Of another authority: issued anew.
    std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
    std::fs::remove_file(folder.path().join("ca.key")).unwrap();
    let new = LocalCa::open_or_create(folder.path(), renewal, &RANDOM()).unwrap();
    let leaf = new.server_certificate(&["new.example.org".to_owned()], renewal, &RANDOM()).unwrap();
    assert_ne!(leaf.chain_pem, wider);
    assert!(serves(&new, &leaf, "new.example.org", renewal));
}

#[test]
fn names_that_no_server_has_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(folder.path(), now(), &RANDOM()).unwrap();
    let of = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ca.issue_server(&names, now(), &RANDOM()).is_ok()
    };
    assert!(of(&["a.example"]) && of(&["*.a.example"]) && of(&["fe80::1"]));
    assert!(!of(&[]));
    for wrong in ["", ".", "a..b", "a b", "*", "*.", "a.*.b", "a/b", "a:80", "ä.example", "a\0b"] {
        assert!(!of(&[wrong]), "{wrong}");
    }
    assert!(of(&vec!["a.example"; keys::ca::LEAF_NAMES_MAX]));
    assert!(!of(&vec!["a.example"; keys::ca::LEAF_NAMES_MAX + 1]));
}

#[test]
fn several_starts_at_once_get_one_authority() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let certificates: Vec<String> = std::thread::scope(|scope| {
        let start = || LocalCa::open_or_create(path, now(), &RANDOM()).unwrap().certificate_pem().to_owned();
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(certificates.windows(2).all(|pair| pair[0] == pair[1]));
}
