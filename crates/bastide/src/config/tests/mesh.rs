//! `mesh:`.

use std::path::PathBuf;
use std::time::Duration;

use mesh::{Anchor, Settings};

use super::super::{Mesh, Partner};
use super::{certificate, read_with, said_with};

const BASE: &str = "listen: [ 127.0.0.1:0 ]
services: { a: [ http://10.0.0.1 ] }
routes: [ { match: /**, to: a, allow: anyone } ]
";

fn files() -> [(&'static str, String); 5] {
    let (certificate, key) = certificate();
    let (usual, usual_key) = intermediate();
    [
        ("ca.pem", certificate),
        ("ca.key", key),
        ("usual.pem", usual),
        ("usual.key", usual_key),
        ("bundle.json", "{}".to_owned()),
    ]
}

/// An authority that signs no further ones, as most intermediates.
fn intermediate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn mesh(written: &str) -> Option<Mesh> {
    let files = files();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let configuration = read_with(&format!("{BASE}{written}"), &files).unwrap();
    assert_eq!(
        configuration.storage.is_set,
        configuration.mesh.is_some(),
        "authorities are kept in the store"
    );
    configuration.mesh
}

#[test]
fn each_form_means_what_it_says() {
    assert_eq!(mesh(""), None);
    let short = mesh("mesh: shop.example").unwrap();
    assert_eq!(short.settings, Settings::new("shop.example"));
    assert_eq!((short.socket, short.workloads.list.len()), (None, 0));
    let long = mesh(
        "mesh:\n  trust_domain: shop.example\n  socket: run/api.sock\n  authority: root\n  \
         lifetimes: { root: 365d, authority: 12h, x509_svid: 30m, jwt_svid: 2m }\n  workloads:\n    \
         orders: { uid: [ 1000, 1001 ], path: /usr/bin/orders, sha256: ABababababababababababababababababababababababababababababababab }\n    \
         payments: { id: /ns/shop/payments, hint: pay, unit: payments.service }\n  federates:\n    \
         partner.example: https://partner.example/bundle\n",
    )
    .unwrap();
    assert_eq!(long.settings.anchor, Anchor::Root);
    assert_eq!(long.settings.lifetimes.x509_svid, Duration::from_secs(1800));
    assert_eq!(long.socket, Some(PathBuf::from("run/api.sock")));
    let [orders, payments] = long.workloads.list.as_slice() else { panic!("{long:?}") };
    assert_eq!((orders.id.as_str(), orders.hint.as_str()), ("spiffe://shop.example/orders", "orders"));
    assert_eq!((orders.conditions.uid.as_slice(), orders.conditions.path.len()), (&[1000, 1001][..], 1));
    assert_eq!(orders.conditions.sha256, ["ab".repeat(32)]);
    assert_eq!((payments.id.path(), payments.hint.as_str()), ("/ns/shop/payments", "pay"));
    let [Partner { trust_domain, endpoint: Some(endpoint), .. }] = long.partners.as_slice() else {
        panic!("{long:?}")
    };
    assert_eq!(
        (trust_domain.as_str(), endpoint.as_str()),
        ("partner.example", "https://partner.example/bundle")
    );
}

#[test]
fn agents_are_served_where_it_is_said_and_their_nodes_workloads_are_theirs() {
    let mesh = |agents: &str| mesh(&format!("mesh:\n  trust_domain: shop.example\n{agents}")).unwrap();
    assert_eq!(mesh("").agents, None);
    let short = mesh("  agents: 127.0.0.1:7443\n").agents.unwrap();
    assert_eq!((short.listen.port(), short.provers), (7443, mesh::node::Provers::default()));
    let long = mesh(
        "  agents: { listen: \"0.0.0.0:7443\", lifetime: 2h, x509: ca.pem }\n  workloads:\n    \
         orders: { uid: 1, node: [ edge-1, x509/edge-2 ] }\n    local: { uid: 1 }\n",
    );
    let agents = long.agents.unwrap();
    assert_eq!(agents.provers.lifetime, Duration::from_secs(7200));
    assert_eq!(agents.provers.x509.len(), 1);
    assert_eq!(long.workloads.list[0].nodes, ["edge-1", "x509/edge-2"]);
    assert_eq!(long.workloads.on(None).list.len(), 1);
}

#[test]
fn faults_say_what_and_where() {
    let table = [
        ("mesh: Shop.example", "bastide.yaml:4:7: \"Shop.example\" is no trust domain"),
        ("mesh: { trust_domain: shop.example, sokcet: a }", "(did you mean \"socket\"?)"),
        ("mesh: { socket: a }", "mesh needs \"trust_domain\""),
        (
            "mesh: { trust_domain: a.example, authority: rot }",
            "unknown authority \"rot\" (did you mean \"root\"?)",
        ),
        (
            "mesh: { trust_domain: a.example, lifetimes: { x509_svid: 5h } }",
            "`x509_svid` is 18000s; it may be at most a sixth of `authority`",
        ),
        ("mesh: { trust_domain: a.example, lifetimes: { jwt_svid: 10ms } }", "a duration of at least 1000ms"),
        (
            "mesh: { trust_domain: a.example, workloads: { orders: {} } }",
            "bastide.yaml:4:47: the workload \"orders\" has no condition: nobody could be it",
        ),
        (
            "mesh: { trust_domain: a.example, workloads: { orders: { uid: [], path: [] } } }",
            "expected at least one value",
        ),
        (
            "mesh: { trust_domain: a.example, workloads: { orders: { path: bin/orders } } }",
            "expected the absolute path of an executable",
        ),
        (
            "mesh: { trust_domain: a.example, workloads: { orders: { sha256: abc } } }",
            "expected 64 hexadecimal digits",
        ),
        (
            "mesh: { trust_domain: a.example, workloads: { orders: { unit: orders } } }",
            "(write \"orders.service\")",
        ),
        ("mesh: { trust_domain: a.example, workloads: { a b: { uid: 1 } } }", "names no workload"),
        (
            "mesh: { trust_domain: a.example, workloads: { orders: { uid: root } } }",
            "the number of a user or group",
        ),
        (
            "mesh: { trust_domain: a.example, federates: { a.example: https://a.example } }",
            "is the own trust domain",
        ),
        (
            "mesh: { trust_domain: a.example, federates: { b.example: http://b.example } }",
            "https://partner.example/bundle",
        ),
        (
            "mesh: { trust_domain: a.example, federates: { b.example: {} } }",
            "nothing says what to trust of \"b.example\"",
        ),
        (
            "mesh: { trust_domain: a.example, federates: { b.example: { bundle: bundle.json } } }",
            "expected a member `keys`",
        ),
        (
            "mesh: { trust_domain: a.example, federates: { b.example: { endpoint: \"https://b.example/\", endpoint_id: spiffe://b.example/x } } }",
            "`endpoint_id` needs `bundle`",
        ),
        (
            "mesh: { trust_domain: a.example, federates: { b.example: { endpoint: \"https://b.example/\", endpoint_id: spiffe://c.example/x, bundle: bundle.json } } }",
            "expected a SPIFFE ID of b.example, whose bundle verifies the endpoint, found spiffe://c.example/x",
        ),
        (
            "mesh: { trust_domain: a.example, authority: { cert: usual.pem, key: usual.key } }",
            "certificate 1 of the file has pathlen 0: it takes 1 or more, or none",
        ),
        (
            "mesh: { trust_domain: a.example, authority: { cert: ca.pem, key: ca.key } }",
            "may not sign certificates",
        ),
        ("mesh: { trust_domain: a.example, agents: localhost:7443 }", "(write \"127.0.0.1:7443\")"),
        ("mesh: { trust_domain: a.example, agents: { lifetime: 1h } }", "needs \"listen\""),
        (
            "mesh: { trust_domain: a.example, agents: { listen: \"127.0.0.1:1\", x509: bundle.json } }",
            "certificate",
        ),
        (
            "mesh: { trust_domain: a.example, agents: { listen: \"127.0.0.1:1\", kubernetes: { issuer: a, jwks: bundle.json, service_accounts: agent } } }",
            "expected a service account as namespace/name",
        ),
        (
            "mesh: { trust_domain: a.example, agents: { listen: \"127.0.0.1:1\", kubernetes: { issuer: a, jwks: bundle.json, service_accounts: a/b } } }",
            "bastide.yaml:4:",
        ),
        (
            "mesh: { trust_domain: a.example, workloads: { orders: { uid: 1, node: a b } } }",
            "expected a node's name such as edge-1",
        ),
        ("mesh: a.example\nservices: { bundle: [ http://10.0.0.2 ] }", "duplicate key \"services\""),
    ];
    let files = files();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    for (written, expected) in table {
        let said = said_with(&format!("{BASE}{written}"), &files).join("\n");
        assert!(said.contains(expected), "{written}\n{said}");
    }
    let own = "listen: [ 127.0.0.1:0 ]\nservices: { bundle: [ http://10.0.0.1 ] }\n\
               routes: [ { match: /**, to: bundle, allow: anyone } ]\nmesh: a.example\n";
    let said = said_with(own, &files).join("\n");
    assert!(said.contains("\"bundle\" is a service of Bastide's own"), "{said}");
}

#[test]
fn bundles_of_other_domains_that_no_client_could_take_together_are_refused() {
    let bundle = |bytes: usize| {
        let key = serde_json::json!({ "use": "jwt-svid", "kid": "a", "more": "x".repeat(bytes) });
        serde_json::json!({ "keys": [key] }).to_string()
    };
    let bundle = bundle(240_000);
    for (count, refused) in [(13, false), (14, true)] {
        let partners: Vec<String> =
            (0..count).map(|number| format!("p{number}.example: {{ bundle: large.json }}")).collect();
        let written =
            format!("mesh: {{ trust_domain: a.example, federates: {{ {} }} }}", partners.join(", "));
        let said = said_with(&format!("{BASE}{written}"), &[("large.json", &bundle)]).join("\n");
        let expected = "expected at most 3145728";
        assert_eq!(said.contains(expected), refused, "{count}: {said}");
    }
}

#[test]
fn a_service_that_no_workload_is_called_like_is_warned_of_where_one_nearly_is() {
    for (workloads, warned) in [
        ("paymets: { uid: 1 }", true),
        ("payments: { uid: 1 }", false),
        ("paymets: { uid: 1 }, payments: { uid: 2 }", false),
        ("orders: { uid: 1 }", false),
    ] {
        let text = format!(
            "{BASE}mesh: {{ trust_domain: a.example, socket: s, workloads: {{ {workloads} }}, services: {{ payments: \"10.0.0.1:1\" }} }}\n"
        );
        let said = said_with(&text, &[]).join("\n");
        let expected = "no workload of the mesh is called \"payments\": nobody gets its identity (did you mean \"paymets\" of mesh.workloads?)";
        assert_eq!(said.contains(expected), warned, "{workloads}: {said}");
    }
}

#[test]
fn services_say_what_they_speak_and_listeners_whom_they_are_for() {
    const SERVICES: &str = "mesh:\n  trust_domain: a.example\n  services:\n    db: { at: \"10.0.0.1:1\", protocol: tcp }\n    \
         quick: { at: \"10.0.0.1:2\", protocol: tcp, timeouts: { idle: 5s, tunnel: 1h } }\n    \
         old: { at: \"10.0.0.1:3\", danger_plain_text: true }\n    shop: 10.0.0.1:4\n";
    let configuration = read_with(&format!("{BASE}{SERVICES}"), &[]).unwrap();
    let service = |name: &str| configuration.services.iter().find(|service| service.name == name).unwrap();
    let times = |name: &str| (service(name).timeouts.idle.as_secs(), service(name).timeouts.tunnel.as_secs());
    assert_eq!(["db", "quick", "shop"].map(times), [(3600, 0), (5, 3600), (60, 0)]);
    let tls = |name: &str| (service(name).endpoints[0].tls, service(name).tls.mesh.is_some());
    assert_eq!((tls("db"), tls("old")), ((true, true), (false, false)));
    assert!(configuration.warnings.iter().any(|fault| fault.to_string().contains("danger_plain_text")));

    let one = |more: &str| {
        format!("mesh: {{ trust_domain: a.example, services: {{ db: {{ at: \"10.0.0.1:1\", {more} }} }} }}")
    };
    for (written, expected) in [
        (one("protocol: tpc"), "unknown protocol \"tpc\" (did you mean \"tcp\"?)"),
        (one("mode: permisive"), "unknown mode \"permisive\" (did you mean \"permissive\"?)"),
        (one("mode: permissive"), "warning: mode: permissive: callers without TLS are taken, as Anonymous"),
        (one("mode: permissive, danger_plain_text: true"), "there is no TLS that `mode` could speak of"),
    ] {
        let said = said_with(&format!("{BASE}{written}"), &[]).join("\n");
        assert!(said.contains(expected), "{written}\n{said}");
    }
    for (listener, expected) in [
        ("{ address: 127.0.0.1:0, protocol: tcp }", "(name the service: to: db)"),
        ("{ address: 127.0.0.1:0, protocol: detect, to: b }", "unknown service \"b\""),
        ("{ address: 127.0.0.1:0, to: b }", "unknown service \"b\""),
        ("{ address: 127.0.0.1:0, protocol: udp, to: a }", "unknown protocol \"udp\""),
        (
            "{ address: 127.0.0.1:0, tls: { local: true, plain_text: true } }",
            "only a listener with `mesh: true`",
        ),
        ("{ address: 127.0.0.1:0, protocol: tcp, to: a }", ""),
        ("{ address: 127.0.0.1:0, to: a, tls: { mesh: true, plain_text: false } }", ""),
        ("{ address: 127.0.0.1:0, to: bundle, tls: { mesh: true } }", ""),
        (
            "{ address: 127.0.0.1:0, to: bundle, tls: { mesh: true, plain_text: true } }",
            "without TLS nothing proves whose bundle it is (remove it)",
        ),
        (
            "{ address: 127.0.0.1:0, to: a, tls: { mesh: true, plain_text: true } }",
            "warning: plain_text: clients without TLS are taken, as Anonymous",
        ),
    ] {
        let mesh = if listener.contains("mesh: true") { "mesh: shop.example\n" } else { "" };
        let written = BASE.replace("127.0.0.1:0 ]", &format!("{listener} ]")) + mesh;
        let said = said_with(&written, &[]).join("\n");
        assert!(said.contains(expected) && (expected.is_empty() == said.is_empty()), "{written}\n{said}");
    }
}

#[test]
fn a_service_of_the_registry_has_no_address_and_always_a_certificate() {
    const SERVICES: &str = "mesh:\n  trust_domain: a.example\n  agents: 10.0.0.2:7443\n  services:\n    \
         short: registry\n    long: { at: registry, id: /ns/long, protocol: tcp }\n    named: registry:7001\n    \
         mine: registry\n";
    let base = BASE.replace(
        "services: { a: [ http://10.0.0.1 ] }",
        "services: { a: [ http://10.0.0.1 ], mine: [ http://10.0.0.2 ] }",
    );
    let configuration = read_with(&format!("{base}{SERVICES}"), &[]).unwrap();
    let service = |name: &str| configuration.services.iter().find(|service| service.name == name).unwrap();
    for name in ["short", "long"] {
        assert!(service(name).registry && service(name).endpoints.is_empty(), "{name}");
    }
    // A host of that name has a port; what `services:` has is what it says there.
    assert_eq!(
        ("registry", 7001),
        (service("named").endpoints[0].host.as_str(), service("named").endpoints[0].port)
    );
    assert!(!service("named").registry && !service("mine").registry);
    let mesh = configuration.mesh.unwrap();
    let looked_up: Vec<&str> = mesh.looked_up.iter().map(model::SpiffeId::path).collect();
    assert_eq!(looked_up, ["/short", "/ns/long"]);
    assert_eq!(
        mesh.declared().here,
        mesh::directory::LocalAddress::At("10.0.0.2".parse().unwrap()),
        "where agents come to"
    );
    let everywhere = SERVICES.replace("10.0.0.2", "0.0.0.0");
    let configuration = read_with(&format!("{base}{everywhere}"), &[]).unwrap();
    assert_eq!(configuration.mesh.unwrap().declared().here, mesh::directory::LocalAddress::ByRoute);

    let one = |written: &str| format!("mesh: {{ trust_domain: a.example, services: {{ db: {written} }} }}");
    for (written, expected) in [
        (one("regsitry"), "(write \"registry\")"),
        (one("{ at: Registry }"), "(write \"registry\")"),
        (one("[ registry, 10.0.0.1:1 ]"), "expected an address such as 10.0.0.5:7001"),
        (one("{ at: registry, danger_plain_text: true }"), "trusted for its certificate alone"),
        (one("[]"), "expected at least one address such as 10.0.0.5:7001"),
    ] {
        let said = said_with(&format!("{BASE}{written}"), &[]).join("\n");
        assert!(said.contains(expected), "{written}\n{said}");
    }
}

#[test]
fn editors_are_told_of_the_registry() {
    let schema: serde_json::Value = serde_json::from_str(&super::super::json_schema()).unwrap();
    let at = &schema["$defs"]["mesh.services.NAME"]["anyOf"][0]["properties"]["at"];
    assert_eq!(at["anyOf"][0]["const"], "registry", "{at}");
}

#[test]
fn a_service_of_the_mesh_bears_failures_as_any_other_does() {
    const BEARS: &str = "retries: 3, balance: random, health: /healthz, eject: { failures: 2, for: 1m }, breaker: true, retry_budget: 5%, connections_per_core_max: 8, connections_max: 16, waiting_max: 4";
    let written = BASE
        .replace("a: [ http://10.0.0.1 ]", &format!("a: {{ endpoints: [ \"http://10.0.0.1\" ], {BEARS} }}"));
    let of_mesh = format!(
        "mesh: {{ trust_domain: a.example, services: {{ m: {{ at: \"10.0.0.1:1\", {BEARS} }}, r: {{ at: registry, {BEARS} }}, p: 10.0.0.1:2 }} }}"
    );
    let configuration = read_with(&format!("{written}{of_mesh}"), &[]).unwrap();
    let bears = |name: &str| {
        let service = configuration.services.iter().find(|service| service.name == name).unwrap();
        (service.retries, service.connections_per_core_max, service.resilience.clone())
    };
    assert_eq!((bears("m"), bears("r")), (bears("a"), bears("a")));
    let (retries, per_core, rest) = bears("a");
    assert_eq!((retries, per_core, rest.connections_max, rest.waiting_max), (3, 8, Some(16), 4));
    assert_eq!(bears("p"), (1, 256, super::super::Resilience::default()));

    let one = |more: &str| {
        format!("mesh: {{ trust_domain: a.example, services: {{ db: {{ at: \"10.0.0.1:1\", {more} }} }} }}")
    };
    for (written, expected) in [
        (one("retries: 6"), "a whole number from 0 to 5"),
        (one("helth: /"), "(did you mean \"health\"?)"),
        (
            one("protocol: tcp, health: /healthz"),
            "bastide.yaml:4:85: db is spoken to by `protocol: tcp`, and a check by HTTP (health: { tcp: true })",
        ),
        (one("protocol: tcp, health: { tcp: true }"), ""),
    ] {
        let said = said_with(&format!("{BASE}{written}"), &[]).join("\n");
        assert!(said.contains(expected) && (expected.is_empty() == said.is_empty()), "{written}\n{said}");
    }
}

#[test]
fn a_digest_alone_is_warned_of() {
    let sha256 = format!("sha256: {}", "ab".repeat(32));
    for (besides, is_warned) in [
        ("", true),
        (", gid: 1", true),
        (", uid: 1", false),
        (", unit: a.service", false),
        (", path: /usr/bin/a", false),
        (&format!(", container: {}", "cd".repeat(32)), false),
    ] {
        let orders = format!("{{ orders: {{ {sha256}{besides} }} }}");
        let text = format!("{BASE}mesh: {{ trust_domain: a.example, workloads: {orders} }}\n");
        let warnings = read_with(&text, &[]).unwrap().warnings;
        let said = warnings.iter().any(|warning| warning.to_string().contains("sha256 alone"));
        assert_eq!(said, is_warned, "{besides}: {warnings:?}");
    }
}
