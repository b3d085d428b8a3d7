//! Client certificates: whom a leaf names, and leaves that name two.

use std::time::Duration;

use keys::certificate::{CERTIFICATE_BYTES_MAX, CERTIFICATE_NAME_BYTES_MAX, identify};
use keys::{CertificateRules, Refusal};
use model::{Credential, PrincipalKind, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, KeyPair, SanType,
};
use time::OffsetDateTime;

use crate::support::{NOW_SECONDS, now};

const START: u64 = NOW_SECONDS - 1_000;
const END: u64 = NOW_SECONDS + 1_000;

fn rules() -> CertificateRules {
    CertificateRules::of_trust_domain("shop.example")
}

fn leaf(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = OffsetDateTime::from_unix_timestamp(START as i64).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(END as i64).unwrap();
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(Ia5String::try_from(text).unwrap())
}

fn named<'a>(common: impl Into<Option<&'a str>>, sans: Vec<SanType>) -> Vec<u8> {
    let common = common.into();
    leaf(|params| {
        if let Some(name) = common {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = sans;
    })
}

/// Subject alternative names as raw DER: (tag, bytes) for each.
fn raw_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let body: Vec<u8> =
        names.iter().flat_map(|(tag, bytes)| [&[*tag, bytes.len() as u8], *bytes].concat()).collect();
    let content = [&[0x30, body.len() as u8][..], &body].concat();
    leaf(|params| {
        params.distinguished_name.push(DnType::CommonName, "orders");
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], content));
    })
}

/// An organisation made into a second common name; nobody here checks the signature.
fn two_common_names() -> Vec<u8> {
    let mut der = leaf(|params| {
        params.distinguished_name.push(DnType::CommonName, "one");
        params.distinguished_name.push(DnType::OrganizationName, "two");
    });
    let organisation = [0x55, 0x04, 0x0a];
    for place in 0..der.len() - 3 {
        if der[place..place + 3] == organisation {
            der[place + 2] = 0x03;
        }
    }
    der
}

fn who(der: &[u8]) -> Result<(PrincipalKind, String), Refusal> {
    identify(der, &rules(), now()).map(|found| (found.principal.kind, found.principal.id.clone()))
}

#[test]
fn a_workload_and_a_client_are_named() {
    let id = "spiffe://shop.example/orders";
    let der = named("ignored", vec![dns("orders.internal"), uri(id)]);
    let found = identify(&der, &rules(), now()).unwrap();
    assert_eq!((found.principal.kind, found.principal.id.as_str()), (PrincipalKind::Service, id));
    assert_eq!(found.principal.spiffe_id.as_ref().map(|id| id.as_str()), Some(id));
    assert_eq!(found.principal.credential, Credential::Certificate);
    assert_eq!(found.principal.expires, Some(Timestamp::from_unix_seconds(END + 1)));
    assert_eq!(found.not_after, Timestamp::from_unix_seconds(END));
    assert_eq!((found.fingerprint.len(), found.serial.is_empty()), (64, false));
    assert_eq!(found.subject, "CN=ignored");

    let client = |name: &str| Ok((PrincipalKind::Client, name.to_owned()));
    assert_eq!(who(&named("partner", vec![dns("a.example"), dns("b.example")])), client("partner"));
    assert_eq!(who(&named(None, vec![dns("a.example")])), client("a.example"));
    assert_eq!(who(&named("partner", vec![uri("https://partner.example")])), client("partner"));
    let long = "n".repeat(CERTIFICATE_NAME_BYTES_MAX);
    assert_eq!(who(&named(long.as_str(), Vec::new())), client(&long));
}

#[test]
fn a_leaf_that_can_be_read_in_two_ways_is_refused() {
    let id = "spiffe://shop.example/orders";
    let two = named("x", vec![uri(id), uri("spiffe://shop.example/payments")]);
    assert_eq!(who(&two), Err(Refusal::CertificateUris { found: 2 }));
    let beside = named("x", vec![uri(id), uri("https://shop.example")]);
    assert_eq!(who(&beside), Err(Refusal::CertificateUris { found: 2 }));
    for der in [
        two_common_names(),
        named(None, Vec::new()),
        named(None, vec![dns("a.example"), dns("b.example")]),
        named("a\0b", Vec::new()),
        named("a\nb", Vec::new()),
        named("", Vec::new()),
        named("n".repeat(CERTIFICATE_NAME_BYTES_MAX + 1).as_str(), Vec::new()),
        raw_names(&[(0x86, b"spiffe://shop.example/orders\0.evil.example")]),
        raw_names(&[(0x82, b"shop.example\0.evil.example")]),
        raw_names(&[(0x81, b"ops\0@example.org")]),
        raw_names(&[(0x86, b"spiffe://shop.example/\xff")]),
    ] {
        let found = who(&der);
        assert!(matches!(found, Err(Refusal::Certificate { .. })), "{found:?}");
    }
    assert!(who(&raw_names(&[(0x86, b"spiffe://shop.example/orders")])).is_ok());
}

/// A listener whose clients are certified by somebody who is not the mesh.
fn partners(trust_domain: Option<&str>, prefix: &str) -> CertificateRules {
    CertificateRules {
        trust_domain: trust_domain.map(str::to_owned),
        reserved: Some("shop.example".to_owned()),
        prefix: prefix.to_owned(),
        other_prefixes: vec!["corp/".to_owned()],
    }
}

#[test]
fn nobody_else_speaks_for_a_reserved_trust_domain() {
    for mut uris in [
        vec![uri("spiffe://shop.example/orders")],
        vec![uri("spiffe://shop.example")],
        vec![uri("SPIFFE://Shop.Example/orders")],
        vec![uri("spiffe://shop.example?orders")],
        // Others that read names take any of several.
        vec![uri("https://partner.example"), uri("spiffe://shop.example/orders")],
    ] {
        uris.push(dns("a\u{1}b.example"));
        for trust_domain in [None, Some("shop.example"), Some("partner.example")] {
            let found = identify(&named("x", uris.clone()), &partners(trust_domain, ""), now());
            let reserved = Refusal::ReservedTrustDomain { found: "shop.example".to_owned() };
            assert_eq!(found.unwrap_err(), reserved, "{uris:?}");
        }
    }
    let own = named("x", vec![uri("spiffe://partner.example/orders")]);
    assert!(identify(&own, &partners(Some("partner.example"), ""), now()).is_ok());
    for other in ["spiffe://sub.shop.example/orders", "spiffe://shop.example.org/orders"] {
        let found = identify(&named("x", vec![uri(other)]), &partners(None, ""), now());
        assert!(matches!(found, Err(Refusal::TrustDomain { .. })), "{other}");
    }
    let client = identify(&named("x", vec![uri("https://shop.example/orders")]), &partners(None, ""), now());
    assert_eq!(client.unwrap().principal.id, "x");
}

#[test]
fn a_prefix_keeps_clients_apart_and_no_name_reaches_into_another() {
    let id = |name: &str, prefix| {
        identify(&named(name, Vec::new()), &partners(None, prefix), now())
            .map(|found| found.principal.id.clone())
    };
    assert_eq!(id("reports", "partner/"), Ok("partner/reports".to_owned()));
    assert_eq!(id("reports", ""), Ok("reports".to_owned()));
    assert_eq!(id("corp/reports", "partner/"), Ok("partner/corp/reports".to_owned()));
    let found = id("corp/reports", "");
    let other = Refusal::NameOfOther { found: "corp/reports".to_owned(), prefix: "corp/".to_owned() };
    assert_eq!(found, Err(other));
}

#[test]
fn only_workloads_of_the_trust_domain_are_services() {
    let refusal = |text: &str| who(&named("x", vec![uri(text)])).unwrap_err();
    for stranger in ["spiffe://other.example/orders", "spiffe://sub.shop.example/orders"] {
        assert!(matches!(refusal(stranger), Refusal::TrustDomain { .. }), "{stranger}");
    }
    for wrong in [
        "spiffe://shop.example",
        "spiffe://shop.example/",
        "spiffe://shop.example/a/../b",
        "spiffe://SHOP.example/a",
        "SPIFFE://shop.example/a",
        "spiffe:orders",
    ] {
        assert!(matches!(refusal(wrong), Refusal::SpiffeId { .. }), "{wrong}");
    }
    let der = named("x", vec![uri("spiffe://shop.example/orders")]);
    let nowhere = identify(&der, &CertificateRules::default(), now());
    assert!(matches!(nowhere, Err(Refusal::TrustDomain { .. })), "{nowhere:?}");
    let authority = leaf(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names = vec![uri("spiffe://shop.example/orders")];
    });
    assert!(matches!(who(&authority), Err(Refusal::Certificate { .. })));
}

#[test]
fn validity_holds_at_both_ends() {
    let der = named("partner", Vec::new());
    let at = |seconds| identify(&der, &rules(), Timestamp::from_unix_seconds(seconds)).is_ok();
    assert!(at(START) && at(END));
    assert!(!at(START - 1) && !at(END + 1));
    // Read once and asked again: the same, to the end of the last second.
    let read = identify(&der, &rules(), Timestamp::from_unix_seconds(START)).unwrap();
    let [start, end] = [START, END].map(Timestamp::from_unix_seconds);
    let almost = Duration::from_millis(999);
    assert!(read.is_good_at(start) && read.is_good_at(end.plus(almost)));
    assert!(!read.is_good_at(start.minus(Duration::from_millis(1))));
    assert!(!read.is_good_at(end.plus(Duration::from_secs(1))));
}

#[test]
fn what_is_no_certificate_is_refused() {
    let der = named("partner", Vec::new());
    assert!(who(&der).is_ok());
    let behind = [der.as_slice(), b"\0"].concat();
    for wrong in [&b""[..], b"\x30", &der[..der.len() - 1], &behind, &vec![0x30; 70_000]] {
        assert!(matches!(who(wrong), Err(Refusal::Certificate { .. })));
    }
}

#[test]
fn boundary_certificate_bytes_max() {
    for (bytes, expected) in [
        (CERTIFICATE_BYTES_MAX, "it is not an X.509 certificate"),
        (CERTIFICATE_BYTES_MAX + 1, "it is too large"),
    ] {
        let refused = identify(&vec![0; bytes], &rules(), now());
        assert!(matches!(refused, Err(Refusal::Certificate { what }) if what == expected), "{bytes}");
    }
}
