//! Client certificates beside the mesh and beside issuers.

use super::{certificate, read_with, said_with};
use crate::config::Configuration;

/// A listener with these settings of `client`, these of authentication, and this way in.
fn text(client: &str, authentication: &str, more: &str) -> String {
    format!(
        "listen: [ {{ address: 127.0.0.1:0, tls: {{ local: true, client: {{ ca: ca.pem{client} }} }} }} ]\n\
         authentication: {{ {authentication} }}\nservices: {{ a: [ http://10.0.0.1 ] }}\n{more}"
    )
}

const BY_CERTIFICATE: &str =
    "routes: [ { match: a.b/**, to: a, authenticate: mtls, allow: authenticated } ]\n";
const BY_TOKEN: &str = "routes: [ { match: a.b/**, to: a, authenticate: jwt, allow: authenticated } ]\n";
const ISSUER: &str = "issuers: [ https://c.d ]";
const ISSUERS: &str =
    "issuers: [ { issuer: https://c.d, prefix: corp/ }, { issuer: https://e.f, prefix: more/ } ]";

fn said(text: &str) -> Vec<String> {
    said_with(text, &[("ca.pem", &certificate().0)])
}

fn read(text: &str) -> Configuration {
    read_with(text, &[("ca.pem", &certificate().0)]).unwrap()
}

#[test]
fn a_certificate_is_no_issuers_client_unless_that_is_said() {
    let would_be = "bastide.yaml:1:63: a certificate named like a client of issuer \"https://c.d\" would be that client, \
                    with its roles (add prefix: \"certificate/\" to `client`, which makes CN=reports \
                    Client::\"certificate/reports\"; or prefix: \"\" if the client is meant)";
    assert_eq!(said(&text("", ISSUER, BY_CERTIFICATE)), [would_be]);
    // Nobody is a principal by it, no issuer names clients so, or it is said.
    for (client, authentication, way) in [
        ("", ISSUER, BY_TOKEN),
        ("", "", BY_CERTIFICATE),
        ("", ISSUERS, BY_CERTIFICATE),
        (", prefix: partner/", ISSUER, BY_CERTIFICATE),
        (", prefix: partner/", ISSUERS, BY_CERTIFICATE),
        (", prefix: \"\"", ISSUER, BY_CERTIFICATE),
    ] {
        assert_eq!(said(&text(client, authentication, way)), [""; 0], "{client} {authentication} {way}");
    }
    for prefix in ["corp/", "corp/x", "co"] {
        let found = said(&text(&format!(", prefix: {prefix}"), ISSUERS, BY_CERTIFICATE));
        let expected = format!(
            "the prefix {prefix:?} and that of issuer \"https://c.d\", \"corp/\", cannot be told apart"
        );
        assert!(matches!(&found[..], [one] if one.contains(&expected)), "{found:?}");
    }
    let prefix = |client: &str| {
        let read = read(&text(client, "", BY_CERTIFICATE));
        read.listeners[0].tls.clone().unwrap().client.unwrap().prefix
    };
    assert_eq!(prefix(""), None);
    assert_eq!(prefix(", prefix: \"\"").as_deref(), Some(""));
    assert_eq!(prefix(", prefix: partner/").as_deref(), Some("partner/"));
}

#[test]
fn workloads_of_the_mesh_are_certified_by_the_mesh_alone() {
    let with = |trust_domain: &str| {
        let certificates = format!("certificates: {{ trust_domain: {trust_domain} }}");
        text("", &certificates, &format!("{BY_CERTIFICATE}mesh: shop.example\n"))
    };
    let found = said(&with("shop.example"));
    let expected = "bastide.yaml:2:49: workloads of shop.example are certified by the mesh alone: no `client.ca` of a \
                    listener makes any (remove it: listeners with `tls: { mesh: true }` take the mesh's certificates; \
                    name another trust domain if others certify workloads)";
    assert_eq!(found, [expected]);
    let other = read(&with("partner.example"));
    assert_eq!(other.authentication.certificates.trust_domain.as_deref(), Some("partner.example"));
    let none = read(&text("", "", &format!("{BY_CERTIFICATE}mesh: shop.example\n")));
    assert_eq!(none.authentication.certificates.trust_domain, None);
}
