//! Clients that show certificates, and the services and policies that come with realms.

use identity::client::CertificateSubject;
use identity::{ClientAuthentication, Pkce};

use super::super::{ADMINISTRATION, Area};
use super::{certificate, read_with, said_with};

fn testbed(client: &str) -> String {
    format!(
        "listen: [ 127.0.0.1:0 ]\nrealms:\n  town:\n    issuer: https://id.example.org\n    clients:\n      one: {client}\n\
         routes: [ {{ match: id.example.org/**, to: identity, authenticate: none, allow: anyone }} ]\n"
    )
}

#[test]
fn clients_by_certificate_are_declared() {
    let (pem, _) = certificate();
    let more = [("own.pem", pem.as_str()), ("empty.pem", "")];
    let dn =
        |text: &str| ClientAuthentication::TlsClientAuth { subject: CertificateSubject::Dn(text.to_owned()) };
    let uri = CertificateSubject::SanUri("spiffe://example.org/one".to_owned());
    for (written, expected) in [
        ("{ tls_client_auth: { dn: \"CN=one, O=Example\" } }", Some(dn("CN=one, O=Example"))),
        (
            "{ tls_client_auth: { san_uri: \"spiffe://example.org/one\" } }",
            Some(ClientAuthentication::TlsClientAuth { subject: uri }),
        ),
        ("{ certificates: [ own.pem ], certificate_bound_access_tokens: true }", None),
    ] {
        let configuration = read_with(&testbed(written), &more).unwrap();
        let client = &configuration.realms[0].clients[0];
        match (expected, &client.authentication) {
            (Some(expected), found) => assert_eq!(&expected, found, "{written}"),
            (None, ClientAuthentication::SelfSignedTlsClientAuth { thumbprints }) => {
                assert_eq!((thumbprints.len(), thumbprints[0].len()), (1, 43));
                assert!(client.certificate_bound_access_tokens);
            }
            (None, other) => panic!("{other:?}"),
        }
    }
    for (written, expected) in [
        (
            "{ tls_client_auth: { dn: a, san_dns: b } }",
            "expected exactly one of `dn`, `san_dns` and `san_uri`",
        ),
        ("{ tls_client_auth: {} }", "expected exactly one of"),
        ("{ tls_client_auth: { san_dn: b } }", "did you mean"),
        ("{ certificates: [ empty.pem ] }", "expected PEM certificates, found none"),
        ("{ certificates: [] }", "thumbprints: expected at least one"),
        ("{ certificates: [ own.pem ], tls_client_auth: { dn: a } }", "the weaker way would do"),
        ("{ jwks: own.pem, certificates: [ own.pem ] }", "the weaker way would do"),
    ] {
        let said = said_with(&testbed(written), &more);
        assert!(said.iter().any(|line| line.contains(expected)), "{written}: {said:?}");
    }
}

#[test]
fn a_client_that_authenticates_may_be_let_off_pkce() {
    let (pem, _) = certificate();
    let more = [("own.pem", pem.as_str())];
    for (written, expected) in [
        ("{ certificates: [ own.pem ] }", Pkce::Required),
        ("{ certificates: [ own.pem ], pkce: required }", Pkce::Required),
        ("{ certificates: [ own.pem ], pkce: optional }", Pkce::Optional),
        ("{ redirect_uris: [ \"https://a.example.org/\" ], pkce: required }", Pkce::Required),
    ] {
        let configuration = read_with(&testbed(written), &more).unwrap();
        assert_eq!(configuration.realms[0].clients[0].pkce, expected, "{written}");
    }
    for (written, expected) in [
        ("{ redirect_uris: [ \"https://a.example.org/\" ], pkce: optional }", "the client is public"),
        ("{ certificates: [ own.pem ], pkce: false }", "write \"optional\""),
        ("{ certificates: [ own.pem ], pkce: never }", "expected optional or required"),
    ] {
        let said = said_with(&testbed(written), &more);
        assert!(said.iter().any(|line| line.contains(expected)), "{written}: {said:?}");
    }
}

/// The metadata names certificates where somebody is asked for one.
#[test]
fn a_realm_knows_whether_a_listener_asks_for_certificates() {
    let asked = "{ address: 127.0.0.1:0, tls: { local: true, client: { ca: local } } }";
    for (listener, expected) in [("127.0.0.1:0", false), (asked, true)] {
        let main =
            testbed("{ redirect_uris: [ \"https://a.example.org/\" ] }").replace("127.0.0.1:0", listener);
        let configuration = read_with(&main, &[]).unwrap();
        assert_eq!(configuration.realms[0].settings.client_certificates, expected, "{listener}");
    }
}

/// Whoever reads the certificates of their clients, or is told of them, is a listener here.
#[test]
fn clients_by_certificate_need_a_listener_that_asks_for_one() {
    let (pem, _) = certificate();
    let more = [("own.pem", pem.as_str())];
    let asked = "{ address: 127.0.0.1:0, tls: { local: true, client: { ca: local } } }";
    let member = "{ address: 127.0.0.1:0, tls: { mesh: true } }, 127.0.0.1:0";
    for (client, warned) in [
        ("{ tls_client_auth: { san_dns: one.internal } }", true),
        ("{ certificates: [ own.pem ] }", true),
        ("{ redirect_uris: [ \"https://a.example.org/\" ] }", false),
    ] {
        let about = |main: &str| {
            let said = said_with(main, &more);
            said.iter().filter(|line| line.contains("but no listener asks for client certificates")).count()
        };
        assert_eq!(about(&testbed(client)), usize::from(warned), "{client}");
        assert_eq!(about(&testbed(client).replace("127.0.0.1:0", asked)), 0, "{client}");
        let mesh = testbed(client).replace("127.0.0.1:0", member) + "mesh: shop.example\n";
        assert_eq!(about(&mesh), 0, "{client}");
    }
}

#[test]
fn policies_may_name_the_administration_where_there_are_realms() {
    let with = testbed("{ redirect_uris: [ \"https://a.example.org/\" ] }");
    let policies =
        "policies: { inline: 'permit (principal, action, resource == Route::\"administration:users\");' }\n";
    let configuration = read_with(&format!("{with}{policies}"), &[]).unwrap();
    let names: Vec<String> = configuration.vocabulary().routes.into_iter().map(|route| route.name).collect();
    for area in Area::ALL {
        assert!(names.contains(&area.route()), "{names:?}");
    }
    assert!(configuration.service(ADMINISTRATION).is_some());
    let typo = format!("{with}{}", policies.replace("users", "user"));
    assert!(said_with(&typo, &[]).iter().any(|line| line.contains("administration:users")));
    // And nowhere else: there it would be a name that nothing has.
    let without = format!(
        "listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://10.0.0.1 ] }}\nroutes: [ {{ match: /**, to: a }} ]\n{policies}"
    );
    assert!(said_with(&without, &[]).iter().any(|line| line.contains("administration:users")));
    let taken = with.replace("routes:", "services: { administration: [ http://10.0.0.1 ] }\nroutes:");
    assert!(said_with(&taken, &[]).iter().any(|line| line.contains("is a service of Bastide's own")));
}

#[test]
fn whoever_may_everything_may_administer_and_that_is_said() {
    let realms = testbed("{ redirect_uris: [ \"https://a.example.org/\" ] }") + "policies: p.cedar\n";
    let route =
        "  - { name: admin, match: admin.example.org/**, to: administration, authenticate: api_key }\n";
    let with = realms.replace("policies:", &format!("{route}policies:")).replace(
        "routes: [ { match: id.example.org/**, to: identity, authenticate: none, allow: anyone } ]\n",
        "routes:\n  - { match: id.example.org/**, to: identity, authenticate: none, allow: anyone }\n",
    );
    let warned = |main: &str, policies: &str| {
        let said = said_with(main, &[("p.cedar", policies)]);
        let about = |line: &&String| line.contains("permits all of the administration too");
        said.iter().filter(about).cloned().collect::<Vec<_>>()
    };
    let all = "// Everybody.\n  permit (principal, action, resource);\n";
    let [said] = warned(&with, all).try_into().unwrap();
    assert!(said.starts_with("p.cedar:2:3: warning: policy \"p.cedar:2\" is about every resource"), "{said}");
    assert!(said.contains("add `when { resource.service != \"administration\" }`"), "{said}");
    for (policies, count) in [
        ("@id(\"a\") permit (principal in Role::\"chief\", action, resource);", 1),
        ("permit (principal, action, resource is Route) when { context.minute < 30 };", 1),
        // It looks at the resource, or is about one; it forbids; nobody is meant.
        ("permit (principal, action, resource) when { resource.service != \"administration\" };", 0),
        ("permit (principal, action, resource) when { resource.service == \"administration\" };", 0),
        ("permit (principal, action, resource == Route::\"admin\");", 0),
        ("forbid (principal, action, resource);", 0),
    ] {
        let with = format!("roles: {{ chief: {{}} }}\n{with}");
        assert_eq!(warned(&with, policies).len(), count, "{policies}");
    }
    // Where no route leads there, nobody who comes from outside can use it.
    assert_eq!(warned(&realms, all), [""; 0]);
}
