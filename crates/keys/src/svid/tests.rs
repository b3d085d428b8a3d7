use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::KeyPair;
use x509_parser::prelude::GeneralName;

use super::*;
use crate::signer::LocalSigner;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_384_267);
const DAY: Duration = Duration::from_secs(86_400);

fn signer(algorithm: Algorithm) -> Arc<dyn Signer> {
    Arc::new(LocalSigner::generate(algorithm, &SystemRandom::new()).unwrap().0)
}

fn terms(until: Timestamp) -> AuthorityTerms<'static> {
    AuthorityTerms { trust_domain: "shop.example", from: NOW, until, signs_authorities: false }
}

fn authority() -> X509Authority {
    X509Authority::self_signed(signer(Algorithm::Es256), &terms(NOW.plus(DAY)), &SystemRandom::new()).unwrap()
}

fn orders() -> SpiffeId {
    "spiffe://shop.example/orders".parse().unwrap()
}

fn key() -> WorkloadKey {
    WorkloadKey::from_spki(&KeyPair::generate().unwrap().subject_public_key_info()).unwrap()
}

fn uris(der: &[u8]) -> Vec<String> {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    names
        .iter()
        .map(|name| match name {
            GeneralName::URI(uri) => (*uri).to_owned(),
            other => panic!("a name that is no URI: {other:?}"),
        })
        .collect()
}

#[test]
fn an_svid_names_its_workload_once_and_ends_with_its_authority() {
    let authority = authority();
    let random = SystemRandom::new();
    for (lifetime, until) in [(3600, 3600), (86_400, 86_400), (200_000, 86_400)] {
        let lifetime = Duration::from_secs(lifetime);
        let svid = authority.issue(&orders(), &key(), NOW, lifetime, &random).unwrap();
        assert_eq!(svid.not_after, NOW.plus(Duration::from_secs(until)));
        assert_eq!(uris(&svid.certificate), ["spiffe://shop.example/orders"]);
        let (_, parsed) = X509Certificate::from_der(&svid.certificate).unwrap();
        assert!(!parsed.is_ca() && parsed.basic_constraints().unwrap().is_some());
        assert_eq!(hex(parsed.raw_serial()), svid.serial);
        let rules = crate::CertificateRules::of_trust_domain("shop.example");
        assert!(crate::identify(&svid.certificate, &rules, NOW).is_ok());
    }
    let late = authority.issue(&orders(), &key(), NOW.plus(DAY), Duration::from_secs(60), &random);
    assert!(late.is_err(), "an authority that has ended signs nothing");
    let domain = "spiffe://shop.example".parse().unwrap();
    assert!(authority.issue(&domain, &key(), NOW, DAY, &random).is_err());
}

#[test]
fn only_keys_of_known_kinds_and_sizes_are_taken() {
    assert!(WorkloadKey::from_spki(b"\x30\x00").is_err());
    assert!(WorkloadKey::from_spki(&vec![0x30; SPKI_BYTES_MAX + 1]).is_err());
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    assert!(WorkloadKey::from_spki(&rsa.subject_public_key_info()).is_err());
}

#[test]
fn chains_of_every_kind_of_signer_hold_for_openssl() {
    let random = SystemRandom::new();
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let above = AuthorityTerms { signs_authorities: true, ..terms(NOW.plus(2 * DAY)) };
        let root = X509Authority::self_signed(signer(algorithm), &above, &random).unwrap();
        let issuing = root.subordinate(signer(algorithm), &terms(NOW.plus(DAY)), &random).unwrap();
        let svid = issuing.issue(&orders(), &key(), NOW, DAY, &random).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, der) in [
            ("root", root.certificate()),
            ("issuing", issuing.certificate()),
            ("svid", svid.certificate.as_slice()),
        ] {
            let pem = crate::encoding::encode_pem("CERTIFICATE", der);
            std::fs::write(folder.path().join(name), pem).unwrap();
        }
        let verify = |trusted: &str| {
            let run = std::process::Command::new("openssl")
                .current_dir(folder.path())
                .args([
                    "verify",
                    "-x509_strict",
                    "-purpose",
                    "sslclient",
                    "-attime",
                    &(NOW.unix_seconds() + 5).to_string(),
                    "-CAfile",
                    trusted,
                    "-untrusted",
                    "issuing",
                    "svid",
                ])
                .output();
            run.unwrap()
        };
        let good = verify("root");
        assert!(good.status.success(), "{algorithm}: {}", String::from_utf8_lossy(&good.stderr));
        assert!(!verify("svid").status.success(), "without the root nothing holds");
    }
}

#[test]
fn an_authority_is_read_back_only_with_its_own_key() {
    let own = signer(Algorithm::Es256);
    let made = X509Authority::self_signed(Arc::clone(&own), &terms(NOW.plus(DAY)), &SystemRandom::new());
    let certificate = made.unwrap().certificate().to_vec();
    assert!(X509Authority::from_parts(certificate.clone(), own).is_ok());
    assert!(X509Authority::from_parts(certificate, signer(Algorithm::Es256)).is_err());
    let own = signer(Algorithm::Es256);
    let spki = CertificateSigner::new(Arc::clone(&own)).unwrap().subject_public_key_info();
    let leaf_key = WorkloadKey::from_spki(&spki).unwrap();
    let leaf = authority().issue(&orders(), &leaf_key, NOW, DAY, &SystemRandom::new()).unwrap();
    let refused = X509Authority::from_parts(leaf.certificate, own).unwrap_err().to_string();
    assert!(refused.contains("may not sign"), "{refused}");
}

proptest::proptest! {
    /// The numbers of a signature begin with zeros or a high bit every few hundred times.
    #[test]
    fn signatures_are_read_by_others(message in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
        let signer = CertificateSigner::new(signer(Algorithm::Es256)).unwrap();
        let signature = SigningKey::sign(&signer, &message).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &signer.public);
        proptest::prop_assert!(key.verify(&message, &signature).is_ok());
    }

    #[test]
    fn numbers_become_shortest_integers(mut fixed in proptest::collection::vec(proptest::num::u8::ANY, 64), zeros in 0_usize..33) {
        fixed.iter_mut().take(zeros).for_each(|byte| *byte = 0);
        let value = ecdsa_value(&fixed).unwrap();
        let digits = fixed.iter().take(32).position(|byte| *byte != 0).map_or(1, |at| 32 - at);
        let pad = usize::from(fixed[32 - digits] >= 0x80);
        proptest::prop_assert_eq!(usize::from(value[3]), digits + pad);
        proptest::prop_assert_eq!(usize::from(value[1]) + 2, value.len());
    }
}
