use std::time::Duration;

use keys::svid::{AuthorityTerms, WorkloadKey, X509Authority};
use keys::{Algorithm, LocalSigner, SystemRandom};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, SanType};

use super::*;
use crate::testing::{NOW, workload_key};

const HOUR: Duration = Duration::from_secs(3600);

fn authority(trust_domain: &str) -> X509Authority {
    let signer = LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0;
    let terms =
        AuthorityTerms { trust_domain, from: NOW, until: NOW.plus(24 * HOUR), signs_authorities: false };
    X509Authority::self_signed(Arc::new(signer), &terms, &SystemRandom::new()).unwrap()
}

fn svid(authority: &X509Authority, id: &str, key: &WorkloadKey) -> Vec<u8> {
    let id = id.parse().unwrap();
    authority.issue(&id, key, NOW, HOUR, &SystemRandom::new()).unwrap().certificate
}

fn verifier(domains: &[(&str, &X509Authority)], expected: Option<&str>) -> Verifier {
    let anchors = domains.iter().map(|(name, of)| ((*name).to_owned(), vec![of.certificate().to_vec()]));
    let expected = expected.map(|id| vec![id.parse().unwrap()]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Verifier::new(&anchors.collect(), expected, &provider).unwrap()
}

/// Both directions say the same.
fn verify(verifier: &Verifier, leaf: &[u8], now: Timestamp) -> Result<(), String> {
    let leaf = CertificateDer::from(leaf);
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.unix_seconds()));
    let name = ServerName::try_from("orders").unwrap();
    let server = verifier.verify_server_cert(&leaf, &[], &name, &[], time).map(|_| ());
    let client = verifier.verify_client_cert(&leaf, &[], time).map(|_| ());
    assert_eq!(server.is_ok(), client.is_ok(), "{server:?} {client:?}");
    server.map_err(|error| error.to_string())
}

#[test]
fn a_workload_of_each_trusted_domain_is_taken_under_its_own_authority_alone() {
    let (shop, partner) = (authority("shop.example"), authority("partner.example"));
    let key = workload_key();
    let both = verifier(&[("shop.example", &shop), ("partner.example", &partner)], None);
    assert_eq!(verify(&both, &svid(&shop, "spiffe://shop.example/orders", &key), NOW), Ok(()));
    assert_eq!(verify(&both, &svid(&partner, "spiffe://partner.example/billing", &key), NOW), Ok(()));
    // A partner's authority says that somebody is ours.
    let forged = svid(&partner, "spiffe://shop.example/orders", &key);
    assert!(verify(&both, &forged, NOW).is_err());
    let own = verifier(&[("shop.example", &shop)], None);
    let foreign = verify(&own, &svid(&partner, "spiffe://partner.example/billing", &key), NOW).unwrap_err();
    assert!(foreign.contains("partner.example is not trusted"), "{foreign}");
    assert!(verify(&verifier(&[], None), &svid(&shop, "spiffe://shop.example/orders", &key), NOW).is_err());
}

#[test]
fn an_authority_that_cannot_be_used_keeps_no_other_from_counting() {
    let (shop, partner) = (authority("shop.example"), authority("partner.example"));
    let (key, unusable) = (workload_key(), vec![1, 2, 3]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let with = |of_partner: Vec<Vec<u8>>| {
        let own = vec![unusable.clone(), shop.certificate().to_vec()];
        let anchors = [("shop.example".to_owned(), own), ("partner.example".to_owned(), of_partner)];
        Verifier::new(&anchors.into(), None, &provider).unwrap()
    };
    let orders = svid(&shop, "spiffe://shop.example/orders", &key);
    let billing = svid(&partner, "spiffe://partner.example/billing", &key);
    for verifier in
        [with(vec![unusable.clone()]), with(vec![unusable.clone(), partner.certificate().to_vec()])]
    {
        assert_eq!(verify(&verifier, &orders, NOW), Ok(()));
    }
    assert_eq!(verify(&with(vec![unusable.clone(), partner.certificate().to_vec()]), &billing, NOW), Ok(()));
    let why = verify(&with(vec![unusable.clone()]), &billing, NOW).unwrap_err();
    assert!(why.contains("partner.example is not trusted"), "{why}");
}

#[test]
fn only_who_is_expected_is_taken_and_only_in_its_time() {
    let shop = authority("shop.example");
    let expected = verifier(&[("shop.example", &shop)], Some("spiffe://shop.example/orders"));
    let orders = svid(&shop, "spiffe://shop.example/orders", &workload_key());
    assert_eq!(verify(&expected, &orders, NOW), Ok(()));
    let other = svid(&shop, "spiffe://shop.example/orders2", &workload_key());
    let why = verify(&expected, &other, NOW).unwrap_err();
    assert!(why.contains("expected spiffe://shop.example/orders, found"), "{why}");
    assert_eq!(verify(&expected, &orders, NOW.plus(HOUR)), Ok(()));
    assert!(verify(&expected, &orders, NOW.plus(HOUR + Duration::from_secs(1))).is_err());
    assert_eq!(verify(&expected, &orders, NOW.minus(HOUR)), Ok(()), "a clock that is behind");
    assert!(verify(&expected, &orders, NOW.minus(HOUR + Duration::from_secs(1))).is_err());
}

#[test]
fn who_is_revoked_is_refused_by_number_and_by_name_and_nobody_else_is() {
    let shop = authority("shop.example");
    let number = |leaf: &[u8]| {
        let rules = CertificateRules::of_trust_domain("shop.example");
        identify(leaf, &rules, NOW).unwrap().serial
    };
    let [one, other] = [0, 1].map(|_| svid(&shop, "spiffe://shop.example/orders", &workload_key()));
    let without = |serials: Vec<String>, ids: &[&str]| {
        let ids: Vec<SpiffeId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        verifier(&[("shop.example", &shop)], None).without(Arc::new(Revoked::of(serials, ids)))
    };
    let by_number = without(vec![number(&one)], &[]);
    assert!(verify(&by_number, &one, NOW).unwrap_err().contains("is revoked"));
    assert_eq!(verify(&by_number, &other, NOW), Ok(()));
    let by_name = without(Vec::new(), &["spiffe://shop.example/orders"]);
    assert!(verify(&by_name, &one, NOW).is_err() && verify(&by_name, &other, NOW).is_err());
    let payments = svid(&shop, "spiffe://shop.example/payments", &workload_key());
    assert_eq!(verify(&by_name, &payments, NOW), Ok(()));
}

#[test]
fn a_leaf_with_two_names_an_authoritys_or_none_is_refused() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(&key).unwrap();
    let anchors = BTreeMap::from([("shop.example".to_owned(), vec![root.der().to_vec()])]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new(&anchors, None, &provider).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf = |uris: &[&str], ca: bool| {
        let mut params = CertificateParams::new(vec!["orders".to_owned()]).unwrap();
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names.extend(uris.iter().map(uri));
        params.is_ca = if ca { IsCa::Ca(rcgen::BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec()
    };
    let orders = "spiffe://shop.example/orders";
    assert_eq!(verify(&verifier, &leaf(&[orders], false), NOW), Ok(()));
    for (what, attack) in [
        ("two names", leaf(&[orders, "spiffe://shop.example/payments"], false)),
        ("the same name twice", leaf(&[orders, orders], false)),
        ("another scheme beside it", leaf(&[orders, "https://shop.example"], false)),
        ("no name", leaf(&[], false)),
        ("the trust domain itself", leaf(&["spiffe://shop.example"], false)),
        ("an authority", leaf(&[orders], true)),
        ("a name that is none", leaf(&["spiffe://shop.example/a/../orders"], false)),
    ] {
        assert!(verify(&verifier, &attack, NOW).is_err(), "{what}");
    }
}
