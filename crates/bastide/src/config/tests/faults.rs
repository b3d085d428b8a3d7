//! One row per class of fault: what is written, and what is said about it.

use std::path::Path;

use super::super::{Report, check_with};
use super::{certificate, said_with};

/// A whole configuration around one section. `«»` stands at the place of the fault.
const BASE: &str = "listen: [ 127.0.0.1:0 ]
services: { a: [ http://10.0.0.1 ] }
routes: [ { match: /**, to: a, allow: anyone } ]
";

/// Takes the mark out of `text` and says where it stood.
fn marked(text: &str) -> (String, String) {
    let before = text.split('«').next().unwrap();
    assert!(before.len() < text.len(), "no mark in {text}");
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    (text.replacen('«', "", 1), format!("bastide.yaml:{line}:{column}: "))
}

fn each(rows: &[(&str, &str)], around: impl Fn(&str) -> String) {
    for (written, said) in rows {
        let (text, position) = marked(&around(written));
        assert_eq!(said_with(&text, &[]), [format!("{position}{said}")], "{text}");
    }
}

#[test]
fn the_file_itself() {
    for (text, said) in [
        ("", "bastide.yaml:1:1: the file holds no configuration"),
        ("# only a comment\n", "bastide.yaml:1:1: the file holds no configuration"),
        ("[]", "bastide.yaml:1:1: expected a map of settings, found a list"),
        ("listen", "bastide.yaml:1:1: expected a map of settings, found a text"),
    ] {
        assert_eq!(said_with(text, &[]), [said], "{text}");
    }
    for text in ["a: [", "a: b: c", "a: \"", "a: *b", "a: !!int x", "? [a]\n: b", "--- {}\n--- {}"] {
        let said = said_with(text, &[]);
        assert_eq!(said.len(), 1, "{text}: {said:?}");
        let place: Vec<&str> = said[0].split(':').take(3).collect();
        assert!(
            place[0] == "bastide.yaml" && place[1].parse::<u32>().is_ok() && place[2].parse::<u32>().is_ok(),
            "{said:?}"
        );
    }
}

#[test]
fn what_yaml_reads_otherwise_is_to_be_quoted() {
    const FINE: &str = "listen: [ 127.0.0.1:0 ]\nservices: { a: http://10.0.0.1 }\n";
    for (line, said) in [
        ("listen: [ «${LISTEN} ]", "a text with braces has to be quoted here: \"${LISTEN}\""),
        (
            "listen: [ «127.0.0.1:${PORT}, x ]",
            "a text with braces has to be quoted here: \"127.0.0.1:${PORT}\"",
        ),
        (
            "routes: [ { match: «GET /a/{id}/{part}, to: a } ]",
            "a text with braces has to be quoted here: \"GET /a/{id}/{part}\"",
        ),
        ("routes: [ {match: «${HOST}/**} ]", "a text with braces has to be quoted here: \"${HOST}/**\""),
        ("state: «{folder}/state # here", "a text with braces has to be quoted here: \"{folder}/state\""),
        ("listen: [ «[::1]:8080 ]", "an address in brackets has to be quoted here: \"[::1]:8080\""),
        ("admin: «[::1]:9901", "an address in brackets has to be quoted here: \"[::1]:9901\""),
        ("admin: { address: «[::1]:9901 }", "an address in brackets has to be quoted here: \"[::1]:9901\""),
        (
            "services: { a: «http://[2001:db8::1]:80, b: http://10.0.0.1 }",
            "an address in brackets has to be quoted here: \"http://[2001:db8::1]:80\"",
        ),
        ("state: a«: b", "a second colon and blank on one line: quote the text in which it stands"),
        ("state: x\n  workers«: 1", "no key is expected here: indent it as those that it stands beside"),
        ("state: «@x", "no text begins with @: quote it"),
        ("state: «`x", "no text begins with `: quote it"),
        (
            "routes: [ { match: «GET,POST /x, to: a, allow: anyone } ]",
            "a text without quotes ends at a comma here, after \"GET\" (write match: \"GET,POST /x\")",
        ),
        (
            "routes: [ { match: «GET, put x.example/x, to: a, allow: anyone } ]",
            "a text without quotes ends at a comma here, after \"GET\" (write match: \"GET,put x.example/x\")",
        ),
    ] {
        let before = if line.starts_with("listen") { "" } else { FINE };
        let (text, position) = marked(&format!("{before}{line}\n"));
        let found = said_with(&text, &[]);
        // What YAML cannot take apart is the only fault; where it can, nothing follows from it.
        assert_eq!(found, [format!("{position}{said}")], "{text}");
    }
    let quoted = "listen: [ \"${LISTEN}\" ]\nservices: { a: http://10.0.0.1 }\nroutes: [ { match: \"GET,POST /a/{id}\", to: a, allow: anyone } ]\n";
    assert_eq!(said_with(quoted, &[]), Vec::<String>::new());
}

#[test]
fn a_mistake_is_said_once_and_not_again_where_something_misses_what_it_hides() {
    const ROUTE: &str = "routes: [ { match: x.example/**, to: a, allow: anyone } ]\n";
    const PROVEN: &str =
        "routes: [ { match: x.example/**, to: a, authenticate: [ jwt, session ], allow: authenticated } ]\n";
    const LISTEN: &str = "listen: [ 127.0.0.1:0 ]\n";
    const A: &str = "services: { a: http://10.0.0.1 }\n";
    for (text, said) in [
        (
            format!("{LISTEN}«service: {{ a: http://10.0.0.1 }}\n{ROUTE}"),
            "unknown key \"service\" (did you mean \"services\"?)",
        ),
        (
            format!("{LISTEN}services: «[ http://10.0.0.1 ]\n{ROUTE}"),
            "expected a map of service names, found a list",
        ),
        (format!("{LISTEN}include: [ «none.yaml ]\n{PROVEN}"), "cannot read none.yaml: no such file"),
        (
            format!("{LISTEN}{A}authentication: {{ «isuers: [ https://id.example ] }}\n{PROVEN}"),
            "unknown key of authentication \"isuers\" (did you mean \"issuers\"?)",
        ),
        (
            format!("{LISTEN}{A}«authentification: {{ issuers: [ https://id.example ] }}\n{PROVEN}"),
            "unknown key \"authentification\" (did you mean \"authentication\"?)",
        ),
        (
            format!(
                "{LISTEN}{A}«polices: policies/*.cedar\nroutes: [ {{ match: /**, to: a, authenticate: none }} ]\n"
            ),
            "unknown key \"polices\" (did you mean \"policies\"?)",
        ),
        (
            format!(
                "{LISTEN}realms: {{ shop: {{ «isuer: https://id.example }} }}\nroutes: [ {{ match: id.example/**, to: identity, allow: anyone }} ]\n"
            ),
            "unknown key of realms.NAME \"isuer\" (did you mean \"issuer\"?)",
        ),
        (
            format!("listen: [ {{ address: 127.0.0.1:0, tls: {{ «loca: true }} }} ]\n{A}{ROUTE}"),
            "unknown key of listen[].tls \"loca\" (did you mean \"local\"?)",
        ),
        (
            format!("{LISTEN}{A}storage: {{ unseal: {{ «file: x }} }}\n{ROUTE}"),
            "unknown key of storage.unseal \"file\" (known: key_file, environment)",
        ),
    ] {
        let (text, position) = marked(&text);
        assert_eq!(said_with(&text, &[]), [format!("{position}{said}")], "{text}");
    }
    // What is wrong besides is still said: the issuers that are there have nothing to do with the listener.
    let text =
        format!("«lisen: [ 127.0.0.1:0 ]\n{A}routes: [ {{ match: /**, to: b, authenticate: jwt }} ]\n");
    let (text, _) = marked(&text);
    let found = said_with(&text, &[]);
    assert_eq!(found.len(), 3, "{found:?}");
    // Policies with a fault are not also said to permit nothing.
    let policy = "policies: { inline: 'permit (principal, action, resource == Route::\"order\");' }\n";
    let text =
        format!("{LISTEN}{A}{policy}routes: [ {{ name: orders, match: /**, to: a, authenticate: none }} ]\n");
    let found = said_with(&text, &[]);
    assert!(found.len() == 1 && found[0].contains("unknown route \"order\""), "{found:?}");
}

#[test]
fn several_faults_at_once() {
    let text = "lisen: 1
listen: [ 127.0.0.1 ]
services: { orders: [ http://10.0.0.1 ], orders: [ ftp://x ] }
routes:
  - match: /a/*
    to: oders
    allow: anyone
    limit: 5/minute per usr
    timeouts: { idel: 3s, total: 3 }
identity: { token: yes }
policies: none/*.cedar
";
    assert_eq!(
        said_with(text, &[]),
        [
            "bastide.yaml:1:1: unknown key \"lisen\" (did you mean \"listen\"?)",
            "bastide.yaml:2:11: expected an IP address with port such as 0.0.0.0:8443 or [::]:8443, found \"127.0.0.1\" (write \"127.0.0.1:8443\")",
            "bastide.yaml:3:42: duplicate key \"orders\" (first at bastide.yaml:3)",
            "bastide.yaml:3:52: expected an endpoint such as http://10.0.0.5:7001 or https://pay.internal:8443, found \"ftp://x\"",
            "bastide.yaml:5:12: expected {name} for one segment and ** for any rest, found \"/a/*\" (write \"/a/{name}\")",
            "bastide.yaml:6:9: unknown service \"oders\" (did you mean \"orders\"?)",
            "bastide.yaml:8:12: expected a limit such as 100/minute per user or 5/second per address burst 20 (per address, user, key or route), found \"5/minute per usr\" (write \"5/minute per user\")",
            "bastide.yaml:9:17: unknown key of services.NAME.timeouts \"idel\" (did you mean \"idle\"?)",
            "bastide.yaml:9:34: expected a duration such as 250ms, 2s, 5m, 1h or 7d, found \"3\" (write \"3s\")",
            "bastide.yaml:10:20: expected true or false, found \"yes\" (write true)",
            "bastide.yaml:11:11: \"none/*.cedar\" matches no file",
        ]
    );
}

#[test]
fn at_the_top() {
    each(
        &[
            ("«lisen: x", "unknown key \"lisen\" (did you mean \"listen\"?)"),
            ("workers: «0", "expected a whole number from 1 to 1024, found \"0\""),
            ("workers: «1025", "expected a whole number from 1 to 1024, found \"1025\""),
            ("workers: «two", "expected a whole number from 1 to 1024, found \"two\""),
            ("workers: «[ 1 ]", "expected a whole number from 1 to 1024, found a list"),
            ("«services: {}", "duplicate key \"services\" (first at bastide.yaml:2)"),
            (
                "admin: «127.0.0.1",
                "expected a loopback address with port such as 127.0.0.1:9901 or [::1]:9901, found \"127.0.0.1\" (write \"127.0.0.1:9901\")",
            ),
            (
                "admin: «9902",
                "expected a loopback address with port such as 127.0.0.1:9901 or [::1]:9901, found \"9902\" (write \"127.0.0.1:9902\")",
            ),
            (
                "admin: «localhost",
                "expected a loopback address with port such as 127.0.0.1:9901 or [::1]:9901, found \"localhost\" (write \"127.0.0.1:9901\")",
            ),
            (
                "admin: «0.0.0.0",
                "expected a loopback address with port such as 127.0.0.1:9901 or [::1]:9901, found \"0.0.0.0\" (write \"127.0.0.1:9901\")",
            ),
            (
                "admin: «\"::1\"",
                "expected a loopback address with port such as 127.0.0.1:9901 or [::1]:9901, found \"::1\" (write \"[::1]:9901\")",
            ),
            (
                "admin: { address: «localhost:9901 }",
                "expected a loopback address with port such as 127.0.0.1:9901 or [::1]:9901, found \"localhost:9901\" (write \"127.0.0.1:9901\")",
            ),
            (
                "admin: «off",
                "expected the address of the admin listener, found \"off\" (it is always open, to this machine alone; 127.0.0.1:0 is a port that the system picks)",
            ),
            (
                "admin: «true",
                "expected the address of the admin listener, found \"true\" (remove it: 127.0.0.1:9901 is the default)",
            ),
            (
                "admin: «0.0.0.0:9901",
                "the admin listener has no authentication, and \"0.0.0.0:9901\" is not loopback (use 127.0.0.1, or set admin.danger_admin_not_loopback: true)",
            ),
            (
                "admin: { address: «\"[::]:1\" }",
                "the admin listener has no authentication, and \"[::]:1\" is not loopback (use 127.0.0.1, or set admin.danger_admin_not_loopback: true)",
            ),
            (
                "admin: { «danger_admin_not_loopback: true, address: 0.0.0.0:1 }",
                "warning: danger_admin_not_loopback: anybody who reaches the admin listener can read the metrics of every route (remove it when you can)",
            ),
            (
                "«danger_no_security_headers: true",
                "warning: danger_no_security_headers: browsers are not told to protect the users (remove it when you can)",
            ),
            (
                "security_headers: «false",
                "answers without security headers are a danger (write danger_no_security_headers: true instead, or set the values you need)",
            ),
            (
                "security_headers: { frame_options: «ALLOW }",
                "unknown X-Frame-Options \"ALLOW\" (known: DENY, SAMEORIGIN)",
            ),
            ("identity: { lifetime: «4s }", "expected a duration from 5s to 1h, found \"4s\""),
            ("identity: { lifetime: «2h }", "expected a duration from 5s to 1h, found \"2h\""),
            ("identity: «on", "expected a map (identity), found \"on\""),
            (
                "limits: { «head_byte_max: 1KiB }",
                "unknown limit \"head_byte_max\" (did you mean \"head_bytes_max\"?)",
            ),
            ("limits: { head_bytes_max: «1023 }", "head_bytes_max is from 1KiB to 1MiB, found \"1023\""),
            (
                "limits: { head_bytes_max: «64KB }",
                "expected a size such as 512, 64KiB, 1MiB or 2GiB, found \"64KB\" (write \"64KiB\")",
            ),
            ("limits: { header_count_max: «257 }", "header_count_max is from 1 to 256, found \"257\""),
            (
                "addresses: { deny: [ «10.0.0.1/8 ] }",
                "expected a network whose host bits are zero, found \"10.0.0.1/8\" (write \"10.0.0.0/8\")",
            ),
            (
                "addresses: { allow: «[] }",
                "an empty allow list would let everybody in (remove the key, or name networks)",
            ),
            ("addresses: { deny: [ «file:gone ] }", "cannot read gone: no such file"),
            ("audit: { rotate_bytes: «1KiB }", "expected a size from 64KiB to 16GiB, found \"1KiB\""),
            ("audit: { rotate_after: «30s }", "expected a duration of at least 1m, or 0s, found \"30s\""),
            (
                "audit: { rotate_after: «1min }",
                "expected a duration such as 250ms, 2s, 5m, 1h or 7d, found \"1min\" (write \"1m\")",
            ),
            (
                "audit: { when_full: «ignore }",
                "unknown answer to a full log \"ignore\" (known: refuse, drop)",
            ),
            (
                "audit: «on",
                "expected the folder of the log, found \"on\" (remove it: the audit log is always on)",
            ),
            (
                "audit: «false",
                "expected the folder of the log, found \"false\" (the audit log cannot be turned off; audit: { rotate_bytes: 64KiB, keep: 2 } keeps little of it, and when_full: drop lets requests pass when it cannot be written)",
            ),
            (
                "storage: «off",
                "expected the file of the store, found \"off\" (remove it: without realms and mesh there is no store)",
            ),
            ("storage: «true", "expected the file of the store, found \"true\" (write storage: store.db)"),
            ("mesh: «off", "expected a trust domain, found \"off\" (remove it: without mesh there is none)"),
            (
                "waf: «on",
                "expected block, detect, off or a path of rules, found \"on\" (write block or detect, with rules: waf: { mode: block, rules: /opt/coreruleset })",
            ),
            (
                "waf: «\"false\"",
                "expected block, detect, off or a path of rules, found \"false\" (write off)",
            ),
            ("waf: «/nowhere", "cannot read /nowhere: no such file"),
            ("waf: { mode: block, rules: «/nowhere }", "cannot read /nowhere: no such file"),
            ("audit: { keep: «1 }", "expected a whole number from 2 to 100000, found \"1\""),
            ("policies: «gone.cedar", "cannot read gone.cedar: no such file"),
            (
                "policies: { «inlin: x, inline: \"\" }",
                "unknown key of policies \"inlin\" (did you mean \"inline\"?)",
            ),
            (
                "policy: { headers: [ «x_tenant ] }",
                "expected a header name without underscores, found \"x_tenant\" (write \"x-tenant\")",
            ),
            ("roles: { a: { includes: [ «b ] } }", "unknown role \"b\" (known: a)"),
            ("roles: { «a: { includes: [ a ] } }", "role \"a\" includes itself"),
            (
                "roles: { a: { members: [ «bob ] } }",
                "expected a member such as User:alice, Service:spiffe://…, Client:… or ApiKey:…, found \"bob\"",
            ),
            (
                "roles: { a: { members: [ «user:bob ] } }",
                "expected a member such as User:alice, Service:spiffe://…, Client:… or ApiKey:…, found \"user:bob\" (write \"User:bob\")",
            ),
            (
                "roles: { a: { members: [ «'User::\"bob\"' ] } }",
                "expected a member such as User:alice, Service:spiffe://…, Client:… or ApiKey:…, found \"User::\\\"bob\\\"\" (write \"User:bob\")",
            ),
        ],
        |row| format!("{BASE}{row}\n"),
    );
}

#[test]
fn role_circles() {
    let said = said_with(
        &format!(
            "{BASE}roles:\n  a: {{ includes: [ b ] }}\n  b: {{ includes: [ c ] }}\n  c: {{ includes: [ a ] }}\n  d: {{ includes: [ a ] }}\n"
        ),
        &[],
    );
    assert_eq!(
        said,
        [
            "bastide.yaml:5:3: role \"a\" includes itself",
            "bastide.yaml:6:3: role \"b\" includes itself",
            "bastide.yaml:7:3: role \"c\" includes itself"
        ]
    );
}

#[test]
fn listeners() {
    each(
        &[
            ("listen: «[]", "no listener (write listen: [ 127.0.0.1:8080 ])"),
            (
                "listen: [ «localhost:80 ]",
                "expected an IP address with port such as 0.0.0.0:8443 or [::]:8443, found \"localhost:80\" (write \"127.0.0.1:80\")",
            ),
            (
                "listen: [ «::1:8080 ]",
                "expected an IP address with port such as 0.0.0.0:8443 or [::]:8443, found \"::1:8080\" (write \"[::1]:8080\")",
            ),
            (
                "listen: [ «2001:db8::8080 ]",
                "expected an IP address with port such as 0.0.0.0:8443 or [::]:8443, found \"2001:db8::8080\" (write \"[2001:db8::8080]:8443\")",
            ),
            ("listen: [ «{ tls: { local: true } } ]", "listen[] needs \"address\" (address: address:port)"),
            ("listen: [ 127.0.0.1:80, «127.0.0.1:80 ]", "two listeners on 127.0.0.1:80"),
            (
                "listen: [ { address: 127.0.0.1:0, «tsl: {} } ]",
                "unknown key of listen[] \"tsl\" (did you mean \"tls\"?)",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, tls: «true } ]",
                "expected a map (listen[].tls), found \"true\" (use acme: MAIL-ADDRESS, certificates: [ {cert: chain.pem, key: key.pem} ], or local: true for development)",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, tls: «{} } ]",
                "tls takes one of local, certificates, acme and mesh, found none of them (use acme: MAIL-ADDRESS, certificates: [ {cert: chain.pem, key: key.pem} ], or local: true for development)",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, tls: «{ acme: a@b.c, local: true } } ]",
                "tls takes one of local, certificates, acme and mesh, found several (use acme: MAIL-ADDRESS, certificates: [ {cert: chain.pem, key: key.pem} ], or local: true for development)",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, «https_redirect: true, tls: { local: true } } ]",
                "only a listener without tls sends to https",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, https_redirect: «0 } ]",
                "expected true, or a port such as 443, found \"0\"",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, tls: { local: true, min_version: «1.1 } } ]",
                "unknown TLS version \"1.1\" (did you mean \"1.2\"?)",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, tls: { local: true, client: «{ mode: required } } } ]",
                "listen[].tls.client needs \"ca\" (ca: path or `local`)",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, tls: { local: true, client: { ca: «gone.pem } } } ]",
                "cannot read gone.pem: no such file",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, tls: { local: true, client: { ca: «policies/all.cedar } } } ]",
                "policies/all.cedar: expected a PEM file with certificates, found none in it",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, tls: { certificates: [ «{ cert: policies/all.cedar } ] } } ]",
                "listen[].tls.certificates[] needs \"key\" (key: path)",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, trusted_proxies: [ «0.0.0.0/0 ] } ]",
                "trusting \"0.0.0.0/0\" lets every client choose its own address (name the networks of your proxies)",
            ),
            (
                "listen: [ { address: 127.0.0.1:0, trusted_proxies: «proxy } ]",
                "expected an address or network such as 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32, found \"proxy\"",
            ),
        ],
        |row| {
            format!(
                "services: {{ a: [ http://10.0.0.1 ] }}\nroutes: [ {{ match: /**, to: a, allow: anyone }} ]\n{row}\n"
            )
        },
    );
}

#[test]
fn acme() {
    let around = |row: &str, host: &str| {
        format!(
            "services: {{ a: [ http://10.0.0.1 ] }}\nroutes: [ {{ match: {host}/**, to: a, allow: anyone }} ]\n\
             listen: [ {{ address: 127.0.0.1:0, tls: {{ {row} }} }} ]\n"
        )
    };
    each(
        &[
            ("acme: «ops", "expected a mail address such as ops@example.org, found \"ops\""),
            (
                "acme: «\"a@b.c,d@e.f\"",
                "expected a mail address such as ops@example.org, found \"a@b.c,d@e.f\"",
            ),
            (
                "acme: «\"mailto:a@b.c\"",
                "expected a mail address such as ops@example.org, found \"mailto:a@b.c\" (write \"a@b.c\")",
            ),
            (
                "acme: { directory: «http://acme.internal/dir }",
                "expected letsencrypt, letsencrypt-staging or an https URL, found \"http://acme.internal/dir\" (write \"https://acme.internal/dir\")",
            ),
            (
                "acme: { directory: «letsencypt }",
                "expected letsencrypt, letsencrypt-staging or an https URL, found \"letsencypt\" (write \"letsencrypt\")",
            ),
            (
                "acme: { names: [ «\"*.example.org\" ] }",
                "expected host names, each in full: a certificate for all names below one needs DNS-01, which this does not do, found \"*.example.org\"",
            ),
            (
                "acme: { names: «10.0.0.1 }",
                "expected a host name: certificates are not ordered for addresses, found \"10.0.0.1\"",
            ),
            ("acme: { names: «[] }", "expected at least one host name, found a list"),
            ("acme: { challenge: «dns-01 }", "unknown challenge \"dns-01\" (known: tls-alpn-01, http-01)"),
            (
                "«acme: { challenge: http-01 }",
                "http-01 is asked without TLS, and every listener has TLS (add the listener { address: 0.0.0.0:80, https_redirect: true })",
            ),
            (
                "acme: { external_account: «{ key_id: a } }",
                "listen[].tls.acme.external_account needs \"hmac_key\" (hmac_key: base64url text)",
            ),
            (
                "acme: { external_account: { key_id: a, hmac_key: «c2hvcnQ } }",
                "expected a key of at least 16 bytes in base64url, as the authority shows it, found \"c2hvcnQ\"",
            ),
            ("acme: { trust: «gone.pem }", "cannot read gone.pem: no such file"),
            ("acme: { renew_before: «0s }", "expected a duration of at least 1000ms, found \"0s\""),
        ],
        |row| around(row, "shop.example.org"),
    );
    for (host, said) in [
        (
            "",
            "no route names an exact host, so there is no name to order a certificate for (list the names: acme: { names: [ … ] })",
        ),
        (
            "\"*.example.org",
            "no certificate can be ordered for *.example.org: that needs DNS-01, which this does not do (list the names: acme: { names: [ … ] })",
        ),
        (
            "10.1.1.1",
            "no certificate can be ordered for 10.1.1.1: expected a host name: certificates are not ordered for addresses (list the names: acme: { names: [ … ] })",
        ),
    ] {
        let (text, position) = marked(&around("«acme: a@b.c", host));
        let text = if host.starts_with('"') { text.replacen("/**,", "/**\",", 1) } else { text };
        assert_eq!(said_with(&text, &[]), [format!("{position}{said}")], "{text}");
        // Where the names are listed, routes may say what they like.
        assert_eq!(said_with(&text.replace("a@b.c", "{ names: shop.example.org }"), &[]), [""; 0], "{text}");
    }
    let two = "services: { a: [ http://10.0.0.1 ] }\nroutes: [ { match: a.b/**, to: a, allow: anyone } ]\n\
               listen:\n  - { address: 127.0.0.1:1, tls: { acme: a@b.c } }\n  - { address: 127.0.0.1:2, tls: { acme: MAIL } }\n";
    assert_eq!(said_with(&two.replace("MAIL", "a@b.c"), &[]), [""; 0]);
    assert_eq!(
        said_with(&two.replace("MAIL", "d@e.f"), &[]),
        [
            "bastide.yaml:5:36: two accounts at https://acme-v02.api.letsencrypt.org/directory: write the same for both"
        ]
    );
}

#[test]
fn certificates_must_fit_their_keys() {
    let (cert, key) = certificate();
    let (_, other) = certificate();
    let files = [("a.pem", cert.as_str()), ("a.key", &key), ("b.key", &other)];
    let text = |key: &str| {
        format!(
            "{}listen: [ {{ address: 127.0.0.1:0, tls: {{ certificates: [ {{ cert: a.pem, key: {key} }} ] }} }} ]\n",
            &BASE[BASE.find("services").unwrap()..]
        )
    };
    assert_eq!(said_with(&text("a.key"), &files), [""; 0]);
    assert_eq!(
        said_with(&text("b.key"), &files),
        ["bastide.yaml:3:78: the key is not the certificate's key"]
    );
    let said = said_with(&text("a.pem"), &files);
    assert!(
        said.len() == 1 && said[0].starts_with("bastide.yaml:3:78: expected a PEM file with a private key"),
        "{said:?}"
    );
    for encrypted in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHj\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMIHj\n-----END EC PRIVATE KEY-----\n",
    ] {
        let said = said_with(&text("c.key"), &[files[0], ("c.key", encrypted)]);
        assert!(said.len() == 1 && said[0].contains(": the key is encrypted"), "{said:?}");
    }
}

#[test]
fn authentication() {
    each(
        &[
            (
                "{ issuers: [ «id.example.org ] }",
                "expected a URL such as https://id.example.org, found \"id.example.org\" (write \"https://id.example.org\")",
            ),
            ("{ issuers: [ «http://id.example.org ] }", "keys must be fetched with https (https://)"),
            (
                "{ issuers: [ «http://127.0.0.1:1 ] }",
                "keys must be fetched with https (allow_private_addresses: true, for an issuer on this machine)",
            ),
            (
                "{ issuers: [ «\"https://a.b/?x\" ] }",
                "expected a URL such as https://id.example.org, found \"https://a.b/?x\"",
            ),
            (
                "{ issuers: [ { issuer: x, jwks: «http://a.b } ] }",
                "keys must be fetched with https (https://)",
            ),
            (
                "{ issuers: [ { issuer: https://a.b, «danger_plain_http: true } ] }",
                "warning: danger_plain_http: keys are fetched without TLS (remove it when you can)",
            ),
            (
                "{ issuers: [ «{ jwks: https://a.b } ] }",
                "authentication.issuers[] needs \"issuer\" (issuer: URL)",
            ),
            (
                "{ issuers: [ { issuer: x, jwks: https://a.b, «jwks_file: y } ] }",
                "an issuer's keys come from one place, found jwks and jwks_file",
            ),
            (
                "{ issuers: [ { issuer: x, jwks_file: «policies/all.cedar } ] }",
                "policies/all.cedar: key set: expected a JWK Set as strict JSON: expected value at line 1 column 1",
            ),
            (
                "{ issuers: [ { issuer: x, key: «\"{\\\"d\\\": 1}\" } ] }",
                "this is a private key (an issuer is known by its public key)",
            ),
            (
                "{ issuers: [ { issuer: https://a.b, algorithms: [ «HS256 ] } ] }",
                "unknown signature algorithm \"HS256\" (did you mean \"RS256\"?)",
            ),
            (
                "{ issuers: [ { issuer: https://a.b, algorithms: [ «none ] } ] }",
                "unknown signature algorithm \"none\" (known: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA)",
            ),
            (
                "{ issuers: [ { issuer: https://a.b, leeway: «6m } ] }",
                "expected a leeway of at most 5m, found \"6m\"",
            ),
            (
                "{ issuers: [ https://a.b, «https://c.d ] }",
                "issuers \"https://a.b\" and \"https://c.d\" have the same prefix \"\": each could speak for the other's users (give all but one a prefix)",
            ),
            ("{ issuers: [ https://a.b, «https://a.b ] }", "issuer \"https://a.b\" is configured twice"),
            (
                "{ claims: { level: «integer } }",
                "unknown claim type \"integer\" (known: text, long, boolean, texts)",
            ),
            (
                "{ certificates: { trust_domain: «Shop } }",
                "expected a trust domain such as shop.example (lower-case letters, digits, dots, dashes), found \"Shop\"",
            ),
        ],
        |row| {
            format!(
                "listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://10.0.0.1 ] }}\nroutes: [ {{ match: a.b/**, to: a, allow: anyone }} ]\nauthentication: {row}\n"
            )
        },
    );
    let (text, position) = marked(&format!("{BASE}«authentication: {{ issuers: [ https://a.b ] }}\n"));
    assert_eq!(
        said_with(&text, &[]),
        [format!(
            "{position}no audience for tokens of https://a.b: no route names an exact host (add authentication.audience)"
        )]
    );
}

#[test]
fn services() {
    each(
        &[
            ("«[]", "service \"a\" has no endpoint"),
            (
                "[ «10.0.0.1:80 ]",
                "expected an endpoint such as http://10.0.0.5:7001 or https://pay.internal:8443, found \"10.0.0.1:80\" (write \"http://10.0.0.1:80\")",
            ),
            (
                "«7001",
                "expected an endpoint such as http://10.0.0.5:7001 or https://pay.internal:8443, found \"7001\" (write \"http://127.0.0.1:7001\")",
            ),
            (
                "«\":7001\"",
                "expected an endpoint such as http://10.0.0.5:7001 or https://pay.internal:8443, found \":7001\" (write \"http://127.0.0.1:7001\")",
            ),
            (
                "«localhost:7001",
                "expected an endpoint such as http://10.0.0.5:7001 or https://pay.internal:8443, found \"localhost:7001\" (write \"http://localhost:7001\")",
            ),
            (
                "[ «http://10.0.0.1/x ]",
                "expected an endpoint without path: a route puts one before its own with add_prefix, found \"http://10.0.0.1/x\" (write \"http://10.0.0.1\")",
            ),
            (
                "[ «http://u@10.0.0.1 ]",
                "expected an endpoint without user, path and query, found \"http://u@10.0.0.1\" (write \"http://10.0.0.1\")",
            ),
            (
                "[ «http://10.0.0.1:0 ]",
                "expected an endpoint such as http://10.0.0.5:7001 or https://pay.internal:8443, found \"http://10.0.0.1:0\"",
            ),
            (
                "[ http://10.0.0.1, «http://10.0.0.1 ]",
                "endpoint \"http://10.0.0.1\" is there twice (give it a weight instead)",
            ),
            (
                "[ http://10.0.0.1, «https://10.0.0.1 ]",
                "the endpoints of a service are all http or all https",
            ),
            (
                "«{}",
                "services.NAME needs \"endpoints\" (endpoints: list of http:// or https:// URLs without path, or of maps)",
            ),
            (
                "{ endpoints: http://b, protocol: «http3 }",
                "unknown protocol \"http3\" (did you mean \"http1\"?)",
            ),
            (
                "{ endpoints: http://b, «tls: {} }",
                "tls is set, but the endpoints are http (write https:// endpoints)",
            ),
            ("{ endpoints: https://b, tls: { ca: «gone.pem } }", "cannot read gone.pem: no such file"),
            (
                "{ endpoints: https://b, tls: { server_name: «\"b:1\" } }",
                "expected a host name without port, found \"b:1\" (write \"b\")",
            ),
            ("{ endpoints: http://b, retries: «6 }", "expected a whole number from 0 to 5, found \"6\""),
            (
                "{ endpoints: http://b, timeouts: { connect: «0s } }",
                "expected a duration of at least 1ms, found \"0s\"",
            ),
            (
                "{ endpoints: http://b, eject: { failures: «0 } }",
                "expected a whole number from 1 to 1000, found \"0\"",
            ),
            (
                "{ endpoints: http://b, connections_per_core_max: «0 }",
                "expected a whole number from 1 to 65536, found \"0\"",
            ),
            (
                "{ endpoints: [ { url: http://b, weight: «0 } ] }",
                "expected a whole number from 1 to 1000, found \"0\"",
            ),
            (
                "{ endpoints: [ «{ weight: 2 } ] }",
                "services.NAME.endpoints[] needs \"url\" (url: http:// or https:// URL without path)",
            ),
            (
                "{ endpoints: [ { url: http://b, «wieght: 2 } ] }",
                "unknown key of services.NAME.endpoints[] \"wieght\" (did you mean \"weight\"?)",
            ),
            (
                "«srv+http://orders.test",
                "expected a name of SRV records such as srv+http://_orders._tcp.example.org, found \"srv+http://orders.test\"",
            ),
            (
                "«srv+https://_a._tcp.test",
                "a certificate of a srv+https endpoint cannot be checked against what DNS says (set tls.server_name)",
            ),
            (
                "{ endpoints: http://b, balance: «ewmma }",
                "unknown balance \"ewmma\" (did you mean \"ewma\"?)",
            ),
            (
                "{ endpoints: http://b, health: «healthz }",
                "expected a path such as /healthz, found \"healthz\" (write \"/healthz\")",
            ),
            (
                "{ endpoints: http://b, health: «{ interval: 1s } }",
                "health takes one of http, grpc and tcp, found none of them (write http: /healthz)",
            ),
            (
                "{ endpoints: http://b, health: «{ http: /, tcp: true } }",
                "health takes one of http, grpc and tcp, found several (write http: /healthz)",
            ),
            (
                "{ endpoints: http://b, health: { tcp: true, «host: x } }",
                "host belongs to an http check (remove it)",
            ),
            (
                "{ endpoints: http://b, health: { http: /, status: «200-99 } }",
                "expected a status or a range of them such as 200 or 200-399, found \"200-99\"",
            ),
            (
                "{ endpoints: http://b, health: { http: /, unhealthy: «101 } }",
                "expected a whole number from 1 to 100, found \"101\"",
            ),
            (
                "{ endpoints: http://b, health: { http: /, interval: «9ms } }",
                "expected a duration of at least 10ms, found \"9ms\"",
            ),
            (
                "{ endpoints: http://b, health: { grpc: «a b } }",
                "expected a gRPC service name such as shop.Orders, or \"\", found \"a b\"",
            ),
            ("{ endpoints: http://b, breaker: «maybe }", "expected true or false, found \"maybe\""),
            (
                "{ endpoints: http://b, breaker: { failures_percent: «101 } }",
                "expected a whole number from 1 to 100, found \"101\"",
            ),
            (
                "{ endpoints: http://b, retry_budget: «20 }",
                "expected a share such as 20%, found \"20\" (write \"20%\")",
            ),
            (
                "{ endpoints: http://b, retry_budget: { percent: «1001 } }",
                "expected a whole number from 0 to 1000, found \"1001\"",
            ),
            (
                "{ endpoints: http://b, connections_max: «0 }",
                "expected a whole number from 1 to 1000000, found \"0\"",
            ),
        ],
        |row| {
            format!(
                "listen: [ 127.0.0.1:0 ]\nservices:\n  a: {row}\nroutes: [ {{ match: /**, to: a, allow: anyone }} ]\n"
            )
        },
    );
}

#[test]
fn routes() {
    each(
        &[
            ("«{ to: a, allow: anyone }", "routes[] needs \"match\" (match: text or map)"),
            ("«{ match: /**, allow: anyone }", "routes[] needs \"to\" (to: service name, or list of maps)"),
            ("{ match: /**, to: «b, allow: anyone }", "unknown service \"b\" (known: a, two)"),
            ("{ match: /**, to: [ a, «b ], allow: anyone }", "unknown service \"b\" (known: a, two)"),
            (
                "{ match: /**, to: «[ { service: a, headers: { x: y } } ], allow: anyone }",
                "requests without these headers would go nowhere (add { service: NAME, weight: 1 })",
            ),
            (
                "{ match: /**, to: [ a, { service: a, headers: { x: y }, «weight: 2 } ], allow: anyone }",
                "what has headers takes no share of the others (add a second entry of this service with the weight)",
            ),
            (
                "{ match: /**, to: [ { service: a, weight: «-1 } ], allow: anyone }",
                "expected a whole number from 0 to 1000000, found \"-1\"",
            ),
            ("{ match: /**, to: a, mirror: «b, allow: anyone }", "unknown service \"b\" (known: a, two)"),
            (
                "{ match: /**, to: a, mirror: { to: a, percent: «0 }, allow: anyone }",
                "expected a whole number from 1 to 100, found \"0\"",
            ),
            (
                "{ match: «shop.example.org, to: a, allow: anyone }",
                "expected a path after the host, found \"shop.example.org\" (write \"shop.example.org/**\")",
            ),
            (
                "{ match: «\"shop.example.org:443/\", to: a, allow: anyone }",
                "expected a host name without port, found \"shop.example.org:443/\" (write \"shop.example.org/\")",
            ),
            (
                "{ match: «\"/a b/**\", to: a, allow: anyone }",
                "expected a path without blanks, which stand in it as %20, found \"/a b/**\" (write \"/a%20b/**\")",
            ),
            (
                "{ match: «\"GET a.b/x  y z\", to: a, allow: anyone }",
                "expected a path without blanks, which stand in it as %20, found \"GET a.b/x  y z\" (write \"GET a.b/x%20y%20z\")",
            ),
            (
                "{ match: «\"a.b/x GET,POST\", to: a, allow: anyone }",
                "expected methods in front of the path, found \"a.b/x GET,POST\" (write \"GET,POST a.b/x\")",
            ),
            (
                "{ match: «\"GTE /x\", to: a, allow: anyone }",
                "expected a method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, found \"GTE /x\" (write \"GET /x\")",
            ),
            (
                "{ match: «\"get,POST a.b/x\", to: a, allow: anyone }",
                "expected a method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, found \"get,POST a.b/x\" (write \"GET,POST a.b/x\")",
            ),
            (
                "{ match: «\"GET a.b/x/*\", to: a, allow: anyone }",
                "expected {name} for one segment and ** for any rest, found \"GET a.b/x/*\" (write \"GET a.b/x/{name}\")",
            ),
            (
                "{ match: «\"GET /orders*\", to: a, allow: anyone }",
                "expected ** as a whole segment, for any rest, found \"GET /orders*\" (write \"GET /orders/**\")",
            ),
            (
                "{ match: «'~/orders/\\d+', to: a, allow: anyone }",
                "expected a path without regular expressions: {parameter} takes one segment, ** at the end any rest, found \"~/orders/\\\\d+\"",
            ),
            (
                "{ match: { path: «'/orders/.*' }, to: a, allow: anyone }",
                "expected a path without regular expressions: {parameter} takes one segment, ** at the end any rest, found \"/orders/.*\"",
            ),
            (
                "{ «mtch: /**, to: a, allow: anyone }",
                "unknown key of routes[] \"mtch\" (did you mean \"match\"?)",
            ),
            (
                "{ match: /**, to: a, «alow: anyone }",
                "unknown key of routes[] \"alow\" (did you mean \"allow\"?)",
            ),
            (
                "{ match: { methods: «TRACE }, to: a, allow: anyone }",
                "expected a method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, found \"TRACE\"",
            ),
            (
                "{ match: { headers: { «x_a: b } }, to: a, allow: anyone }",
                "expected a header name without underscores, found \"x_a\" (write \"x-a\")",
            ),
            (
                "{ match: «/a/../b, to: a, allow: anyone }",
                "expected a path without dot segments, found \"/a/../b\"",
            ),
            (
                "{ match: /**, to: a, authenticate: «jwt }",
                "authenticate: jwt, but no issuer is configured (add authentication.issuers: [ https://… ])",
            ),
            (
                "{ match: /**, to: a, authenticate: «mtls }",
                "authenticate: mtls, but no listener asks for client certificates (add tls.client: {ca: ca.pem} to a listener)",
            ),
            (
                "{ match: /**, to: a, authenticate: «jtw }",
                "unknown proof of identity \"jtw\" (did you mean \"jwt\"?)",
            ),
            (
                "{ match: /**, to: a, authenticate: «[ none, api_key ] }",
                "authenticate is either none or a list of proofs",
            ),
            (
                "{ match: /**, to: a, authenticate: «[] }",
                "authenticate names no proof (write authenticate: none if that is meant)",
            ),
            (
                "{ match: /**, to: a, authenticate: api_key, «allow: anyone }",
                "allow: anyone lets everybody in, whatever authenticate says (remove one of the two)",
            ),
            (
                "{ match: /**, to: a, authenticate: none, «allow: authenticated }",
                "allow: authenticated, but no proof of identity is looked for (configure authentication, or say allow: anyone)",
            ),
            (
                "{ match: /**, to: a, «allow: authenticated }",
                "allow: authenticated, but no proof of identity is looked for (configure authentication, or say allow: anyone)",
            ),
            (
                "«{ match: /**, to: a }",
                "no policy is configured, so nobody could use this route (add policies: policies/*.cedar, or allow: authenticated)",
            ),
            (
                "{ match: /**, to: a, allow: «everyone }",
                "unknown answer to allow \"everyone\" (known: policy, authenticated, anyone)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, limit: «100/minute }",
                "expected a limit such as 100/minute per user or 5/second per address burst 20 (per address, user, key or route), found \"100/minute\" (write \"100/minute per user\")",
            ),
            (
                "{ match: /**, to: a, allow: anyone, limit: «{ rate: 1, per: day } }",
                "routes[].limit needs \"by\" (by: address, user, key or route)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, limit: «1/day per route burst 400 }",
                "a burst of 400 takes more than a year to come back",
            ),
            (
                "{ match: /**, to: a, allow: anyone, limit: «1/day per user }",
                "warning: everybody is anonymous on this route, so this limit counts by address (write per address if that is meant)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, concurrency: «0 }",
                "expected a whole number from 1 to 1000000, found \"0\"",
            ),
            (
                "{ match: /**, to: a, allow: anyone, upgrades: [ «h2c ] }",
                "expected a protocol such as websocket (h2c and connect are never upgraded to), found \"h2c\"",
            ),
            (
                "{ match: /**, to: two, allow: anyone, upgrades: «[ websocket ] }",
                "service \"two\" speaks HTTP/2, which has no upgrade (RFC 9113 §8.6) (a service with protocol: http1 for this route)",
            ),
            (
                "{ match: /a/**, to: a, allow: anyone, strip_prefix: «/b }",
                "strip_prefix \"/b\" is not the beginning of \"/a/**\"",
            ),
            (
                "{ match: /ab/**, to: a, allow: anyone, strip_prefix: «/a }",
                "strip_prefix \"/a\" is not the beginning of \"/ab/**\"",
            ),
            (
                "{ match: /a/**, to: a, allow: anyone, strip_prefix: «/ }",
                "expected a literal path such as /orders, found \"/\"",
            ),
            (
                "{ match: \"/{a}/**\", to: a, allow: anyone, strip_prefix: «\"/{a}\" }",
                "expected a literal path such as /orders, found \"/{a}\"",
            ),
            (
                "{ match: /**, to: a, allow: anyone, validate: «none.yaml }",
                "cannot read none.yaml: no such file",
            ),
            (
                "{ match: /**, to: a, allow: anyone, validate: «{ mode: report } }",
                "validate needs one document (write openapi: FILE, or body: FILE)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, validate: { openapi: x, mode: «reprt } }",
                "unknown mode \"reprt\" (did you mean \"report\"?)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, validate: { body: x, «base: /x } }",
                "base has a meaning only with openapi",
            ),
            (
                "{ match: /**, to: a, allow: anyone, validate: { openapi: x, body_max: «65MiB } }",
                "expected a size of at most 64MiB, found \"65MiB\"",
            ),
            (
                "{ match: \"/{id}\", to: a, allow: anyone, rewrite: «\"/x/{ide}\" }",
                "unknown place {ide} (did you mean {id}?)",
            ),
            (
                "{ match: \"/{id}\", to: a, allow: anyone, rewrite: «\"/x/../{id}\" }",
                "expected a path that admission lets through as it stands, found \"/x/../{id}\"",
            ),
            (
                "{ match: /a/**, to: a, allow: anyone, rewrite: /x, «strip_prefix: /a }",
                "rewrite is the whole path, so strip_prefix has no meaning",
            ),
            (
                "{ match: /a, allow: anyone, redirect: «//evil.example }",
                "expected an absolute URI or a path such as https://new.example.org{path}, found \"//evil.example\"",
            ),
            (
                "{ match: /a, to: a, allow: anyone, «respond: 404 }",
                "a route with respond goes nowhere else (remove to)",
            ),
            (
                "{ match: /a, to: a, allow: anyone, compress: { codings: [ «deflate ] } }",
                "unknown coding \"deflate\" (known: zstd, br, gzip)",
            ),
            (
                "{ match: { grpc: «shop.v1.Orders/* }, to: a, allow: anyone }",
                "expected a gRPC service or method such as shop.v1.Orders/Place, found \"shop.v1.Orders/*\" (write \"shop.v1.Orders\")",
            ),
            (
                "{ match: { grpc: a.B, «path: /x }, to: a, allow: anyone }",
                "grpc says path and method, so path has no meaning",
            ),
            (
                "{ match: /a, to: a, allow: anyone, headers: { request: { set: { x-a: «\"{b}\" } } } }",
                "unknown place {b} (the match has no parameters; write {{ for a brace)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, body_max: «9999TiB }",
                "expected a size of at most 1024TiB, found \"9999TiB\"",
            ),
            (
                "{ match: /**, to: a, allow: anyone, cors: «true }",
                "expected the origins whose pages may read answers, found \"true\" (write [ https://app.example.org ])",
            ),
            (
                "{ match: /**, to: a, allow: anyone, cors: { origins: «on } }",
                "expected the origins whose pages may read answers, found \"on\" (write [ https://app.example.org ])",
            ),
            (
                "{ match: /**, to: a, allow: anyone, cors: «off }",
                "expected the origins whose pages may read answers, found \"off\" (leave cors out)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, cors: «any }",
                "expected the origins whose pages may read answers, found \"any\" (write \"*\" for every page)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, cors: «\"*.example.org\" }",
                "expected an origin such as https://app.example.org, each by its whole name, found \"*.example.org\"",
            ),
            (
                "{ match: /**, to: a, allow: anyone, limit: { rate: 5, per: minute, by: user, burst: «0 } }",
                "expected a burst of at least 1, which admits one request at a time (0 would admit none), found \"0\" (write 1, or remove it: the default is the rate)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, limit: «5/min per ip burst 0 }",
                "expected a burst of at least 1, which admits one request at a time (0 would admit none), found \"5/min per ip burst 0\" (write \"5/minute per address burst 1\")",
            ),
            (
                "{ match: «get https://shop.example.org/x/*, to: a, allow: anyone }",
                "expected a host and a path without scheme, found \"get https://shop.example.org/x/*\" (write \"GET shop.example.org/x/{name}\")",
            ),
            (
                "{ match: «https://shop.example.org:443, to: a, allow: anyone }",
                "expected a host and a path without scheme, found \"https://shop.example.org:443\" (write \"shop.example.org/**\")",
            ),
            (
                "{ match: «get /a/:id/*, to: a, allow: anyone }",
                "expected a method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, found \"get /a/:id/*\" (write \"GET /a/{id}/{name}\")",
            ),
            (
                "{ match: { path: «/a//:id/* }, to: a, allow: anyone }",
                "expected a path without empty segments (//), found \"/a//:id/*\" (write \"/a/{id}/{name}\")",
            ),
            (
                "{ match: «ANY /x, to: a, allow: anyone }",
                "expected no method where any is meant, found \"ANY /x\" (write \"/x\")",
            ),
            (
                "{ match: /**, to: a, allow: anyone, cors: «\"null\" }",
                "expected the origins whose pages may read answers, found \"null\" (leave cors out)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, cors: «https://a.b/ }",
                "expected an origin such as https://app.example.org, found \"https://a.b/\" (write \"https://a.b\")",
            ),
            (
                "{ match: /**, to: a, allow: anyone, cors: { origins: \"*\", «credentials: true } }",
                "credentials with origins \"*\" would let every page act as its visitor (name the origins)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, headers: { request: «{ set: { Host: x } } } }",
                "header \"host\" belongs to Bastide and cannot be changed",
            ),
            (
                "{ match: /**, to: a, allow: anyone, headers: { request: «{ remove: [ x-bastide-principal ] } } }",
                "header \"x-bastide-principal\" belongs to Bastide and cannot be changed",
            ),
            (
                "{ match: /**, to: a, allow: anyone, headers: { request: { set: { x-a: «\"a\\r\\nb\" } } } }",
                "expected a header value: printable ASCII without spaces around it, found \"a\\r\\nb\"",
            ),
            (
                "{ match: /**, to: a, allow: anyone, «nam: x }",
                "unknown key of routes[] \"nam\" (did you mean \"name\"?)",
            ),
            (
                "{ match: /**, to: a, allow: anyone, name: «\"\" }",
                "expected a name of 1 to 200 bytes without quotes, backslashes and control characters, found \"\"",
            ),
        ],
        |row| {
            format!(
                "listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://10.0.0.1 ], two: {{ endpoints: [ http://10.0.0.2 ], protocol: http2 }} }}\nroutes:\n  - {row}\n"
            )
        },
    );
}

#[test]
fn routes_beside_each_other() {
    each(
        &[
            (
                "{ match: /a, to: a, allow: anyone }\n  - «{ match: /a, to: a, allow: anyone, name: b }",
                "routes \"/a\" and \"b\" both match any host /a: make one of them more specific by host, path, method or header (the first is at bastide.yaml:4)",
            ),
            (
                "{ match: /a, to: a, allow: anyone, name: x }\n  - «{ match: /b, to: a, allow: anyone, name: x }",
                "two routes are called \"x\" (first at bastide.yaml:4; give one of them a name)",
            ),
            (
                "{ match: \"/a/{x}\", to: a, allow: anyone }\n  - «{ match: \"/a/{y}\", to: a, allow: anyone }",
                "routes \"/a/{x}\" and \"/a/{y}\" both match any host /a/{x}: make one of them more specific by host, path, method or header (the first is at bastide.yaml:4)",
            ),
        ],
        |row| {
            format!("listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://10.0.0.1 ] }}\nroutes:\n  - {row}\n")
        },
    );
    let honest = "{ match: GET /a, to: a, allow: anyone }\n  - { match: /a, to: a, allow: anyone }\n  - { match: /a/**, to: a, allow: anyone }";
    let text =
        format!("listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://10.0.0.1 ] }}\nroutes:\n  - {honest}\n");
    assert_eq!(said_with(&text, &[]), [""; 0]);
}

#[test]
fn what_policy_finds_is_said_too() {
    let text = "listen: [ 127.0.0.1:0 ]\nservices: { a: [ http://10.0.0.1 ] }\nauthentication: { api_keys: state }\nroles: { admin: }\nroutes: [ { match: /**, name: all, to: a } ]\npolicies: p.cedar\n";
    let good = "@id(\"p\")\npermit (principal in Role::\"admin\", action, resource == Route::\"all\");\n";
    assert_eq!(said_with(text, &[("p.cedar", good)]), [""; 0]);
    for (wrong, place) in [
        (good.replace("admin", "admni"), "p.cedar:2:"),
        (good.replace("\"all\"", "\"al\""), "p.cedar:2:"),
        (good.replace("permit", "permti"), "p.cedar:"),
    ] {
        let said = said_with(text, &[("p.cedar", &wrong)]);
        assert!(said.iter().any(|line| line.starts_with(place)), "{wrong}: {said:?}");
    }
}

#[test]
fn secrets_that_everybody_can_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (main, token) = (folder.path().join("bastide.yaml"), folder.path().join("token"));
    std::fs::write(&token, "s3cret").unwrap();
    std::fs::write(&main, format!("{BASE}identity: {{ issuer: \"${{file:token}}\" }}\n")).unwrap();
    for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
        let report = super::super::check(&main, &super::environment);
        assert_eq!((report.exit_code(), report.warnings.len()), (0, warnings), "{mode:o}");
    }
}

fn report(text: &str) -> Report {
    check_with(Path::new("bastide.yaml"), &super::environment, &super::disk(text, &[]))
}

#[test]
fn reports_say_what_came_of_it() {
    let good = report(BASE);
    assert_eq!(
        good.to_string(),
        "bastide.yaml: ok: 1 listener, 1 route, 1 service, 0 policy files, 0 warnings"
    );
    assert_eq!((good.exit_code(), good.to_json()["ok"].as_bool()), (0, Some(true)));
    let own = report(&format!("{BASE}realms: {{ town: https://id.example.org }}\nmesh: shop.example\n"));
    assert_eq!((own.exit_code(), own.services), (0, 1), "those that nobody declares: {own}");
    let bad = report("listen: [ 127.0.0.1:0 ]\nlisen: 1\nroutes: []\n");
    assert_eq!(
        bad.to_string(),
        "bastide.yaml:2:1: unknown key \"lisen\" (did you mean \"listen\"?)\nbastide.yaml: refused: 1 fault, 0 warnings"
    );
    assert_eq!(bad.exit_code(), 1);
    let json = bad.to_json();
    assert_eq!(json["faults"][0]["line"], 2);
    assert_eq!(json["faults"][0]["column"], 1);
    assert_eq!(json["faults"][0]["suggestion"], "did you mean \"listen\"?");
}

#[test]
fn faults_of_an_api_document_stand_in_its_own_file() {
    let main = BASE.replace("allow: anyone", "allow: anyone, validate: api.yaml");
    let api = "openapi: 3.0.3\npaths:\n  /a/{id}:\n    get: {}\n";
    assert_eq!(
        said_with(&main, &[("api.yaml", api)]),
        ["api.yaml:4:5: path parameter \"id\" is not declared at #/paths/~1a~1{id}/get"]
    );
    let good =
        api.replace("get: {}", "get: { parameters: [ { name: id, in: path, required: true, schema: {} } ] }");
    assert_eq!(said_with(&main, &[("api.yaml", &good)]), [""; 0]);
}

/// The parser is a library with words for those who program with it.
#[test]
fn what_is_not_yaml_is_said_in_our_own_words() {
    let key = "a key is missing before the colon, or it is null: a text is expected (quote it where null is the name)";
    let document = "a second document begins here (---), and one is read: put it into a file of its own";
    let tab = "a tab cannot indent a line: use spaces";
    for (text, said) in [
        ("listen: [ 127.0.0.1:0 ]\n: x\n", format!("2:1: {key}")),
        ("listen: [ 127.0.0.1:0 ]\nnull: x\n", format!("2:1: {key}")),
        ("services:\n  ~: x\n", format!("2:3: {key}")),
        ("a: 1\n---\nb: 2\n", format!("2:1: {document}")),
        ("---\na: 1\n---\nb: 2\n", format!("3:1: {document}")),
        ("a: &a [ *a ]\n", "1:9: an alias (*NAME) stands within what it repeats (&NAME)".to_owned()),
        ("services:\n  a:\n    endpoints: x\n\ttls: y\n", format!("4:1: {tab}")),
        ("services:\n  a: x\nroutes:\n  - match: /**\n  \tto: a\n", format!("5:3: {tab}")),
        ("a:\n\tb: 1\n", format!("2:1: {tab}")),
        ("a: *b\n", "1:4: an alias (*NAME) repeats what no anchor (&NAME) before it names (quote a text that begins with *)".to_owned()),
    ] {
        assert_eq!(said_with(text, &[]), [format!("bastide.yaml:{said}")], "{text:?}");
    }
    // Where tabs indent nothing they are text.
    assert_eq!(said_with(&format!("{BASE}#\tof tabs\n"), &[]), [""; 0]);
}

#[test]
fn a_page_that_cannot_send_its_credential_is_warned_of() {
    let route = |proof: &str, cors: &str| {
        let text = format!(
            "listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://10.0.0.1 ] }}\nauthentication: {{ api_keys: state, issuers: [ https://id.example.org ], audience: a }}\npolicies: policies/*.cedar\nroutes:\n  - {{ match: /**, to: a, authenticate: {proof}, cors: {cors} }}\n"
        );
        said_with(&text, &[])
    };
    let said = "bastide.yaml:6:PLACE: warning: no page can send the credential that this route asks for: the preflight's answer allows no header for it (write cors: { origins: …, headers: [ authorization, content-type ] })";
    for proof in ["jwt", "api_key"] {
        for cors in
            ["[ https://a.b ]", "{ origins: \"*\" }", "{ origins: https://a.b, headers: [ content-type ] }"]
        {
            let column = 48 + proof.len();
            assert_eq!(route(proof, cors), [said.replace("PLACE", &column.to_string())], "{proof} {cors}");
        }
        assert_eq!(route(proof, "{ origins: https://a.b, headers: [ Authorization ] }"), [""; 0]);
    }
    assert_eq!(route("api_key", "{ origins: https://a.b, headers: [ x-api-key ] }"), [""; 0]);
    assert_eq!(route("none", "[ https://a.b ]"), [""; 0]);
}

#[test]
fn a_fault_counts_behind_however_many_warnings_and_faults() {
    const MANY: usize = 1_200;
    let warned = "  - { match: /a/N, to: a, authenticate: none, allow: anyone, limit: 5/second per user }\n";
    let wrong = "  - { match: /b/N, to: oder, allow: anyone }\n";
    let each = |row: &str| (0..MANY).map(|number| row.replace('N', &number.to_string())).collect::<String>();
    let base = "listen: [ 127.0.0.1:0 ]\nservices: { a: http://10.0.0.1, order: http://10.0.0.2 }\nroutes:\n";
    let text = format!("{base}{}", each(warned));
    let said = said_with(&text, &[]);
    assert!(said.iter().all(|one| one.starts_with("bastide.yaml:") && one.contains(" warning: ")));
    assert_eq!(said.last().unwrap(), "bastide.yaml: warning: 200 further warnings are not listed");
    let end = |text: &str| report(text).to_string().lines().last().unwrap().to_owned();
    assert!(end(&text).ends_with(", 2 services, 0 policy files, 1200 warnings"), "{}", end(&text));
    let many = format!("{text}{}", each(wrong));
    assert_eq!(end(&many), "bastide.yaml: refused: 1200 faults, 1200 warnings");
    let said = said_with(&format!("{text}{}", wrong.replace('N', "0")), &[]);
    assert!(said.iter().any(|one| one.ends_with("unknown service \"oder\" (did you mean \"order\"?)")));
    let said = said_with(&format!("{text}{}", each(wrong)), &[]);
    let faults: Vec<&String> = said.iter().filter(|one| one.contains("unknown service")).collect();
    assert!(faults.len() == 1_000 && faults.iter().all(|one| one.contains("did you mean")));
    assert!(said.contains(&"bastide.yaml: 200 further faults are not listed".to_owned()));
    // What was meant is looked for among a million names, then no more.
    let services = each("  service-N: http://10.0.0.1\n");
    let services = format!("listen: [ 127.0.0.1:0 ]\nservices:\n  order: http://10.0.0.1\n{services}");
    let said = said_with(&format!("{services}routes:\n{}", each(wrong)), &[]);
    let meant = said.iter().filter(|one| one.contains("(did you mean \"order\"?)")).count();
    assert_eq!((said.len(), meant), (1_001, 1_000_000 / (MANY + 1)));
}

#[test]
fn what_other_products_call_a_key_leads_to_ours() {
    for (key, ours) in [
        ("auth: none", "authenticate"),
        ("strip_path: true", "strip_prefix"),
        ("rate-limit: 5/minute per user", "limit"),
        ("upstream: a", "to"),
        ("grpc: shop.Orders", "match"),
        ("host: shop.example.org", "match"),
    ] {
        let text = format!(
            "listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://10.0.0.1 ] }}\n\
             routes: [ {{ match: /**, to: a, allow: anyone, {key} }} ]\n"
        );
        let said = said_with(&text, &[]);
        let written = key.split(':').next().unwrap();
        let expected = format!("unknown key of routes[] {written:?} (did you mean {ours:?}?)");
        assert!(said.len() == 1 && said[0].ends_with(&expected), "{said:?}");
    }
}
