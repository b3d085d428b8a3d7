//! Short and long forms mean the same.

use proptest::prelude::*;

use super::super::Configuration;
use super::read_with;

fn whole(more: &str, route: &str) -> String {
    let listen = if more.contains("listen:") { "" } else { "listen: [ 127.0.0.1:0 ]\n" };
    let services = if more.contains("services:") { "" } else { "services: { a: [ http://10.0.0.1 ] }\n" };
    format!("{listen}{services}{more}\nroutes:\n  - to: a\n    {}\n", route.replace('\n', "\n    "))
}

/// Everything but positions.
fn meaning(text: &str) -> Configuration {
    let mut read = read_with(text, &[]).unwrap_or_else(|f| panic!("{text}\n{f:#?}"));
    for route in &mut read.routes {
        route.position.clear();
    }
    for role in &mut read.roles {
        role.position.clear();
    }
    read.warnings.clear();
    read
}

#[test]
fn short_and_long_forms_mean_the_same() {
    let open = "match: /**\nallow: anyone";
    let tokens = "authentication:\n  issuers: [ https://id.example.org ]\n";
    let long_tokens = "authentication:\n  issuers:\n    - issuer: https://id.example.org\n";
    let table = [
        ("listen: [ 127.0.0.1:0 ]\n", open, "listen:\n  - address: 127.0.0.1:0\n", open),
        (
            "listen: 127.0.0.1:0\n",
            open,
            "listen:\n  - { address: \"127.0.0.1:0\", trusted_proxies: [] }\n",
            open,
        ),
        (
            "listen: [ { address: 127.0.0.1:0, tls: { acme: a@b.c } } ]\n",
            "match: Shop.example.org/x\nallow: anyone",
            "listen: [ { address: 127.0.0.1:0, https_redirect: false, tls: { acme: { email: a@b.c, directory: letsencrypt, names: shop.example.org, challenge: tls-alpn-01, allow_private_addresses: false } } } ]\n",
            "name: shop.example.org/x\nmatch: { host: shop.example.org, path: /x }\nallow: anyone",
        ),
        ("admin: 127.0.0.1:1\n", open, "admin: { address: 127.0.0.1:1 }\n", open),
        ("", open, "admin: { address: 127.0.0.1:9901, danger_admin_not_loopback: false }\n", open),
        ("services: { a: [ http://10.0.0.1 ] }\n", open, "services: { a: http://10.0.0.1:80 }\n", open),
        (
            "services: { a: [ http://10.0.0.1 ] }\n",
            open,
            "services:\n  a:\n    endpoints: [ http://10.0.0.1/ ]\n    protocol: http1\n    retries: 1\n    eject: { failures: 5, for: 10s, success_percent_min: 0, requests_min: 20 }\n    breaker: false\n    health: false\n    balance: ewma\n    retry_budget: 20%\n    waiting_max: 1024\n    connections_per_core_max: 256\n    timeouts: { connect: 2s, first_byte: 30s, idle: 60s, total: 5m }\n    audience: a\n",
            open,
        ),
        (
            "services: { a: { endpoints: [ http://b, http://c ], health: /h, breaker: true, retry_budget: 30% } }\n",
            open,
            "services:\n  a:\n    endpoints: [ { url: http://b, weight: 1 }, { url: http://c } ]\n    health: { http: /h, status: 200-299, interval: 5s, jitter: 10, timeout: 2s, healthy: 2, unhealthy: 3 }\n    breaker: { failures_percent: 50, requests_min: 20, for: 5s, trials: 3 }\n    retry_budget: { percent: 30, per_second_min: 10 }\n",
            open,
        ),
        (
            "services: { a: [ https://pay.internal ] }\n",
            open,
            "services: { a: { endpoints: [ \"https://pay.internal:443\" ] } }\n",
            open,
        ),
        (
            "",
            "match: GET,POST shop.example.org/orders/{owner}/**\nallow: anyone",
            "",
            "name: GET,POST shop.example.org/orders/{owner}/**\nallow: anyone\nmatch:\n  methods: [ POST, GET ]\n  host: SHOP.example.org\n  path: /orders/{owner}/**",
        ),
        (
            "",
            "match: \"*.example.org/x\"\nallow: anyone",
            "",
            "match: { host: \"*.example.org\", path: /x }\nallow: anyone",
        ),
        ("", "match: GET /x\nallow: anyone", "", "match: { methods: GET, path: /x }\nallow: anyone"),
        ("", open, "", "match: {}\nallow: anyone"),
        (
            "",
            "match: /**\nallow: anyone\nlimit: 100/minute per address burst 20",
            "",
            "match: /**\nallow: anyone\nlimit: [ { rate: 100, per: minute, by: address, burst: 20 } ]",
        ),
        (
            "",
            "match: /**\nallow: anyone\ncors: [ https://app.example.org ]",
            "",
            "match: /**\nallow: anyone\ncors: { origins: https://APP.example.org:443, credentials: false, max_age: 10m }",
        ),
        (
            tokens,
            "match: a.b/**\nallow: authenticated",
            long_tokens,
            "match: a.b/**\nallow: authenticated\nauthenticate: [ jwt ]",
        ),
        (
            tokens,
            "match: a.b/**\nallow: authenticated",
            "authentication:\n  audience: a.b\n  issuers:\n    - issuer: https://id.example.org\n      leeway: 30s\n      key_age_max: 24h\n      prefix: \"\"\n      type: [ at+jwt, JWT, none ]\n      roles: [ roles, groups, realm_access.roles ]\n      algorithms: [ RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA ]\n",
            "match: a.b/**\nallow: authenticated\nauthenticate: jwt",
        ),
        (
            "policies: policies/*.cedar\n",
            open,
            "policies: [ policies/all.cedar, \"policies/a*.cedar\" ]\n",
            open,
        ),
        ("roles: { r: }\n", open, "roles: { r: { includes: [], members: [] } }\n", open),
        (
            "security_headers: true\n",
            open,
            "security_headers: { hsts: 365d, frame_options: SAMEORIGIN, referrer_policy: strict-origin-when-cross-origin }\n",
            open,
        ),
        (
            "audit: bastide-state/audit\n",
            open,
            "audit: { folder: bastide-state/audit, rotate_bytes: 64MiB, rotate_after: 24h, keep: 32, when_full: refuse }\n",
            open,
        ),
        ("", open, "identity: { headers: true, token: true, lifetime: 60s, issuer: bastide }\n", open),
        ("", open, "limits: { head_bytes_max: 64KiB, request_ms_max: 300s }\n", open),
        ("limits: { request_ms_max: 1000 }\n", open, "limits: { request_ms_max: 1s }\n", open),
        ("state: bastide-state\n", open, "state: ./x/../bastide-state\n", open),
        ("", open, "authentication: { api_keys: state }\n", open),
    ];
    for (short_top, short_route, long_top, long_route) in table {
        let short = meaning(&whole(short_top, short_route));
        let mut long = meaning(&whole(long_top, long_route));
        long.globs.clone_from(&short.globs);
        assert_eq!(short, long, "{short_top}{short_route}\n---\n{long_top}{long_route}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_limit_means_the_same_in_both_forms(
        rate in 1u32..1_000_000_000, share in 1u32..100,
        per in prop::sample::select(vec!["second", "minute", "hour", "day"]),
        by in prop::sample::select(vec!["address", "route"]),
    ) {
        let burst = (rate / share).max(1);
        let short = whole("", &format!("match: /**\nallow: anyone\nlimit: {rate}/{per} per {by} burst {burst}"));
        let long = whole("", &format!("match: /**\nallow: anyone\nlimit: {{ rate: {rate}, per: {per}, by: {by}, burst: {burst} }}"));
        prop_assert_eq!(meaning(&short).routes, meaning(&long).routes);
    }

    #[test]
    fn any_match_means_the_same_in_both_forms(
        host in "[a-z]{1,8}(\\.[a-z]{1,8}){0,3}", segments in prop::collection::vec("[a-zA-Z0-9_~-]{1,8}", 0..4),
        method in prop::sample::select(vec!["GET", "POST", "DELETE"]),
    ) {
        let path = format!("/{}", segments.join("/"));
        let short = whole("", &format!("match: {method} {host}{path}\nallow: anyone"));
        let long = whole("", &format!("match: {{ host: \"{host}\", path: {path}, methods: [ {method} ] }}\nallow: anyone"));
        prop_assert_eq!(meaning(&short).routes, meaning(&long).routes);
    }
}
