//! Tests of the whole language: what is written, what comes out, what is said.

use std::path::{Path, PathBuf};

use super::{Configuration, Fault, Memory, Severity, load};

mod administered;
mod certificates;
mod expansion;
mod faults;
mod formatting;
mod forms;
mod includes;
mod mesh;
mod outward;
mod pages;
mod properties;
mod realms;
mod storage;
mod themes;
mod waf;

const POLICY: &str = "@id(\"all\") permit(principal, action, resource);\n";

/// A certificate and its key, made once per test run.
pub(super) fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example.org".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Files beside `bastide.yaml` that tests name.
pub(super) fn disk(main: &str, more: &[(&str, &str)]) -> Memory {
    let mut files: Vec<(PathBuf, Vec<u8>)> =
        vec![("bastide.yaml".into(), main.into()), ("policies/all.cedar".into(), POLICY.into())];
    for (name, text) in more {
        files.push((PathBuf::from(name), text.as_bytes().to_vec()));
    }
    Memory::new(files)
}

pub(super) fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8443".to_owned()),
        "LISTEN" => Some("127.0.0.1:0".to_owned()),
        "EMPTY" => Some(String::new()),
        "BRACES" => Some("{not} a place".to_owned()),
        "TOKEN" => Some("s3cret".to_owned()),
        _ => None,
    }
}

pub(super) fn read_with(main: &str, more: &[(&str, &str)]) -> Result<Configuration, Vec<Fault>> {
    load(Path::new("bastide.yaml"), &environment, &disk(main, more))
}

/// What is said: faults and warnings, or the warnings of a good configuration.
pub(super) fn said_with(main: &str, more: &[(&str, &str)]) -> Vec<String> {
    let findings = match read_with(main, more) {
        Ok(configuration) => configuration.warnings,
        Err(findings) => {
            assert!(findings.iter().any(|f| f.severity == Severity::Fault), "refused without a fault");
            findings
        }
    };
    findings.iter().map(ToString::to_string).collect()
}

/// The example of the design, with what stands for `TLS`.
pub(super) fn design(tls: &str) -> String {
    format!(
        "listen:
  - address: 0.0.0.0:8443
    tls: {{ {tls} }}          # or cert/key files, or local: true
authentication:
  issuers:
    - https://id.example.org                 # keys are discovered, cached and refreshed
services:
  orders: [ http://10.0.0.5:7001, http://10.0.0.6:7001 ]
routes:
  - match: shop.example.org/orders/**
    to: orders
    authenticate: jwt
    limit: 100/minute per user
policies: policies/*.cedar
"
    )
}

#[test]
fn the_example_of_the_design_loads() {
    let configuration = read_with(&design("local: true"), &[]).unwrap();
    assert_eq!(configuration.warnings, []);
    let issuer = &configuration.authentication.issuers[0];
    assert_eq!(issuer.audience, ["shop.example.org"]);
    assert_eq!(issuer.keys, super::KeySource::Discovery);
    let route = &configuration.routes[0];
    assert_eq!(route.name, "shop.example.org/orders/**");
    assert_eq!(configuration.services[route.service].name, "orders");
    assert_eq!(configuration.services[0].endpoints.len(), 2);
    assert_eq!(route.authenticate, [super::Proof::Jwt]);
    assert_eq!(route.allow, super::Allow::Policy);
    assert_eq!(configuration.state, Path::new("bastide-state"));
    assert_eq!(configuration.files, [Path::new("bastide.yaml"), Path::new("policies/all.cedar")]);
    assert_eq!(configuration.globs, [Path::new("policies/*.cedar")]);
    assert!(design("local: true").lines().count() <= 15);
}

#[test]
fn the_example_of_the_design_with_acme_loads() {
    let configuration = read_with(&design("acme: ops@example.org"), &[]).unwrap();
    assert_eq!(configuration.warnings, []);
    let super::Certificates::Acme(acme) = &configuration.listeners[0].tls.as_ref().unwrap().certificates
    else {
        panic!("{:?}", configuration.listeners);
    };
    assert_eq!(acme.account.email.as_deref(), Some("ops@example.org"));
    assert_eq!(acme.account.directory, "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!(acme.names, ["shop.example.org"]);
    assert_eq!(acme.challenge, super::AcmeChallenge::TlsAlpn01);
}

#[test]
fn the_state_folder_is_found_whatever_else_is_wrong() {
    let folder = |text: Option<&str>| {
        let file = text.map(|text| (PathBuf::from("at/bastide.yaml"), text.as_bytes().to_vec()));
        let environment = |name: &str| (name == "PLACE").then(|| "/var/lib/bastide".to_owned());
        super::state_folder(Path::new("at/bastide.yaml"), &environment, &Memory::new(file))
    };
    for (text, found) in [
        (Some("state: here\nlisten: 7\nrutes: []\n"), Some("at/here")),
        (Some("listen: 7\nstate: ${PLACE}\n"), Some("/var/lib/bastide")),
        (Some("listen: 7\n"), Some("at/bastide-state")),
        (Some("listen: [\nstate: /srv/state # ours\nroutes:\n\t- x\n"), Some("/srv/state")),
        (Some("listen: [\n"), Some("at/bastide-state")),
        (None, Some("at/bastide-state")),
        // It names another than the default one: whoever serves there is not meant.
        (Some("state: [ here ]\n"), None),
        (Some("listen: 7\nstate: ${UNSET}\n"), None),
        (Some("listen: [\nstate: ${UNSET}\n"), None),
    ] {
        assert_eq!(folder(text).as_deref(), found.map(Path::new), "{text:?}");
    }
}

#[test]
fn a_prefix_is_stripped_as_admission_writes_it() {
    for (written, admitted) in [
        ("/orders", "/orders"),
        ("/orders/", "/orders"),
        ("/a/b", "/a/b"),
        ("/%7Eann", "/~ann"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a[1]", "/a%5B1%5D"),
    ] {
        let path = written.trim_end_matches('/');
        let text = format!(
            "listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://10.0.0.1 ] }}\n\
             routes: [ {{ match: \"{path}/**\", to: a, allow: anyone, strip_prefix: \"{written}\" }} ]\n"
        );
        let configuration = read_with(&text, &[]).unwrap();
        assert_eq!(configuration.routes[0].strip_prefix.as_deref(), Some(admitted), "{written}");
    }
}
