//! What is permitted and what is denied, feature by feature of the schema. Each row
//! that denies stands beside one that permits.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use std::sync::Arc;

use model::principal::Attribute;
use model::{Principal, PrincipalKind, Timestamp};
use policy::{Circumstances, Reason};
use testbed::*;

struct Row {
    why: &'static str,
    policy: &'static str,
    who: Principal,
    around: Circumstances,
    what: Request,
    allowed: bool,
}

fn row(
    why: &'static str,
    policy: &'static str,
    who: Principal,
    around: Circumstances,
    what: Request,
    allowed: bool,
) -> Row {
    Row { why, policy, who, around, what, allowed }
}

fn at(seconds: u64) -> Circumstances {
    Circumstances { now: Timestamp::from_unix_seconds(seconds), ..circumstances() }
}

fn from(address: &str) -> Circumstances {
    Circumstances { address: address.parse().unwrap(), ..circumstances() }
}

fn check(rows: Vec<Row>) {
    for row in rows {
        let policies = load(row.policy);
        let decision = decide(&policies, &row.who, &row.around, row.what);
        let reason = decision.as_ref().err().map(|denied| denied.reason().to_string());
        assert_eq!(decision.is_ok(), row.allowed, "{}: {}: {reason:?}", row.policy, row.why);
    }
}

const OWNER: &str = r#"permit(principal is User, action == Action::"GET", resource == Route::"orders")
    when { resource.params has owner && resource.params.owner == principal.id };"#;

#[test]
fn ownership_by_path_parameter() {
    let get = |parameters: &[(&str, &str)]| request(ORDERS, "GET", parameters);
    let alice = || user("alice", &[]);
    check(vec![
        row("hers", OWNER, alice(), circumstances(), get(&[("owner", "alice")]), true),
        row("bob's", OWNER, alice(), circumstances(), get(&[("owner", "bob")]), false),
        row("nobody's", OWNER, alice(), circumstances(), get(&[]), false),
        row("case matters", OWNER, alice(), circumstances(), get(&[("owner", "Alice")]), false),
        row(
            "other method",
            OWNER,
            alice(),
            circumstances(),
            request(ORDERS, "PUT", &[("owner", "alice")]),
            false,
        ),
        row(
            "other route",
            OWNER,
            alice(),
            circumstances(),
            request(PROFILE, "GET", &[("owner", "alice")]),
            true,
        ),
        row(
            "a key named like her",
            OWNER,
            somebody(PrincipalKind::ApiKey, "alice", &[]),
            circumstances(),
            get(&[("owner", "alice")]),
            false,
        ),
    ]);
}

#[test]
fn roles_and_their_hierarchy() {
    const SCOPE: &str = r#"permit(principal in Role::"customer", action, resource == Route::"orders");"#;
    const WHEN: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context.hour >= 0 && principal in Role::"customer" };"#;
    const LEADING: &str = r#"permit(principal, action, resource == Route::"orders")
        when { principal in Role::"customer" && context.hour >= 0 };"#;
    const SET: &str = r#"permit(principal, action, resource == Route::"orders")
        when { principal in [Role::"auditor", Role::"customer"] };"#;
    const TYPED: &str =
        r#"permit(principal is User in Role::"customer", action, resource == Route::"orders");"#;
    let get = || request(ORDERS, "GET", &[]);
    for policy in [SCOPE, WHEN, LEADING, SET, TYPED] {
        check(vec![
            row("holds it", policy, user("x", &["customer"]), circumstances(), get(), true),
            row("merchant includes it", policy, user("x", &["merchant"]), circumstances(), get(), true),
            row("admin includes merchant", policy, user("x", &["admin"]), circumstances(), get(), true),
            row("bob by configuration", policy, user("bob", &[]), circumstances(), get(), true),
            row("no role", policy, user("x", &[]), circumstances(), get(), false),
            row("undeclared role", policy, user("x", &["root"]), circumstances(), get(), false),
            row(
                "anonymous has no roles",
                policy,
                somebody(PrincipalKind::Anonymous, "anonymous", &["customer"]),
                circumstances(),
                get(),
                false,
            ),
        ]);
    }
    // Includes go down only.
    const ADMIN: &str = r#"permit(principal in Role::"admin", action, resource == Route::"orders");"#;
    check(vec![
        row("admin", ADMIN, user("x", &["admin"]), circumstances(), get(), true),
        row("merchant is not", ADMIN, user("x", &["merchant"]), circumstances(), get(), false),
        row("ci is a key", ADMIN, somebody(PrincipalKind::ApiKey, "ci", &[]), circumstances(), get(), true),
        row("a user named ci", ADMIN, user("ci", &[]), circumstances(), get(), false),
    ]);
}

#[test]
fn kinds_of_principal() {
    let get = || request(ORDERS, "GET", &[]);
    let kinds = [
        (PrincipalKind::Anonymous, "anonymous", r#"Anonymous::"anonymous""#),
        (PrincipalKind::User, "alice", r#"User::"alice""#),
        (
            PrincipalKind::Service,
            "spiffe://shop.example/orders",
            r#"Service::"spiffe://shop.example/orders""#,
        ),
        (PrincipalKind::Client, "batch", r#"Client::"batch""#),
        (PrincipalKind::ApiKey, "ci", r#"ApiKey::"ci""#),
    ];
    for (named, _, literal) in kinds {
        for scope in [format!("principal == {literal}"), format!("principal is {}", named.name())] {
            let policies = load(&format!(r#"permit({scope}, action, resource == Route::"orders");"#));
            for (kind, id, _) in kinds {
                let decision = decide(&policies, &somebody(kind, id, &[]), &circumstances(), get());
                assert_eq!(decision.is_ok(), kind == named, "{scope} {kind:?}");
            }
        }
    }
}

#[test]
fn methods_are_actions_and_groups() {
    let table = [
        (r#"action == Action::"GET""#, vec!["GET"]),
        (r#"action in [Action::"GET", Action::"PUT"]"#, vec!["GET", "PUT"]),
        (r#"action in Action::"read""#, vec!["GET", "HEAD", "OPTIONS", "TRACE"]),
        (r#"action in Action::"write""#, vec!["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "get"]),
        (r#"action == Action::"other""#, vec!["PROPFIND", "get"]),
    ];
    let methods = ["GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "get"];
    for (action, taken) in table {
        let scoped = format!(r#"permit(principal, {action}, resource == Route::"catalogue");"#);
        let when =
            format!(r#"permit(principal, action, resource == Route::"catalogue") when {{ {action} }};"#);
        for policy in [scoped, when] {
            let policies = load(&policy);
            for method in methods {
                let decision =
                    decide(&policies, &user("x", &[]), &circumstances(), request(CATALOGUE, method, &[]));
                assert_eq!(decision.is_ok(), taken.contains(&method), "{policy} {method}");
            }
        }
    }
}

#[test]
fn time_in_utc() {
    const OFFICE: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context.weekday <= 5 && context.hour >= 9 && context.hour < 17 };"#;
    const LATE: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context.minute == 51 };"#;
    // NOW is Sunday 21:51; the Monday after it at 09:00 is 40,133 seconds later.
    let monday_nine = NOW + 40_133;
    let get = || request(ORDERS, "GET", &[]);
    let x = || user("x", &[]);
    check(vec![
        row("Sunday", OFFICE, x(), at(NOW), get(), false),
        row("Monday 08:59:59", OFFICE, x(), at(monday_nine - 1), get(), false),
        row("Monday 09:00", OFFICE, x(), at(monday_nine), get(), true),
        row("Monday 16:59:59", OFFICE, x(), at(monday_nine + 8 * 3600 - 1), get(), true),
        row("Monday 17:00", OFFICE, x(), at(monday_nine + 8 * 3600), get(), false),
        row("minute 51", LATE, x(), at(NOW), get(), true),
        row("minute 52", LATE, x(), at(NOW + 60), get(), false),
    ]);
}

#[test]
fn addresses() {
    const INSIDE: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context.address.isInRange(ip("10.0.0.0/8")) || context.address.isInRange(ip("fd00::/8")) };"#;
    let get = || request(ORDERS, "GET", &[]);
    let x = || user("x", &[]);
    check(vec![
        row("first", INSIDE, x(), from("10.0.0.0"), get(), true),
        row("last", INSIDE, x(), from("10.255.255.255"), get(), true),
        row("before", INSIDE, x(), from("9.255.255.255"), get(), false),
        row("after", INSIDE, x(), from("11.0.0.0"), get(), false),
        row("IPv6", INSIDE, x(), from("fd12::1"), get(), true),
        row("other IPv6", INSIDE, x(), from("fe80::1"), get(), false),
        row("IPv4 on an IPv6 socket", INSIDE, x(), from("::ffff:10.1.2.3"), get(), true),
        row("other IPv4 on an IPv6 socket", INSIDE, x(), from("::ffff:11.1.2.3"), get(), false),
    ]);
}

#[test]
fn transport_and_certificate() {
    const TLS: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context.tls && context has tls_version && context.tls_version == "1.3" };"#;
    const PINNED: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context has certificate && context.certificate.subject == "CN=orders"
            && context.certificate.dns_names.contains("orders.internal") };"#;
    const WORKLOAD: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context has certificate.spiffe_id
            && context.certificate.spiffe_id like "spiffe://shop.example/*" };"#;
    let get = || request(ORDERS, "GET", &[]);
    let x = || user("x", &[]);
    let version = |tls_version| Circumstances { tls_version, ..circumstances() };
    let bearing = || Circumstances { certificate: Some(certificate()), ..circumstances() };
    let nameless = || {
        let mut plain = (*certificate()).clone();
        plain.spiffe_id = None;
        plain.subject = "CN=other".into();
        Circumstances { certificate: Some(plain.into()), ..circumstances() }
    };
    check(vec![
        row("1.3", TLS, x(), version(Some("1.3")), get(), true),
        row("1.2", TLS, x(), version(Some("1.2")), get(), false),
        row("cleartext", TLS, x(), version(None), get(), false),
        row("pinned", PINNED, x(), bearing(), get(), true),
        row("another", PINNED, x(), nameless(), get(), false),
        row("none", PINNED, x(), circumstances(), get(), false),
        row("workload", WORKLOAD, x(), bearing(), get(), true),
        row("no SPIFFE ID", WORKLOAD, x(), nameless(), get(), false),
        row("no certificate", WORKLOAD, x(), circumstances(), get(), false),
    ]);
}

#[test]
fn what_the_token_says() {
    const SCOPE: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context.scopes.contains("orders:read") };"#;
    const STRONG: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context has acr && context.acr == "urn:strong" && context.amr.contains("hwk") };"#;
    const LEVEL: &str = r#"permit(principal, action, resource == Route::"orders")
        when { principal.claims has level && principal.claims.level >= 3
            && context.claims has teams && context.claims.teams.contains("blue")
            && context.claims has mfa && context.claims.mfa
            && principal.claims has department && principal.claims.department == "sales" };"#;
    const ISSUER: &str = r#"permit(principal, action, resource == Route::"orders")
        when { principal has issuer && principal.issuer == "https://id.shop.example"
            && context.credential == "jwt" };"#;
    let get = || request(ORDERS, "GET", &[]);
    let scoped = |scope: &str| Principal { scopes: vec!["x".into(), scope.into()], ..user("x", &[]) };
    let strong = |acr: Option<&str>, amr: &str| Principal {
        acr: acr.map(Into::into),
        amr: vec![amr.into()],
        ..user("x", &[])
    };
    let levelled = |level: i64, team: &str, mfa: bool, department: &str| {
        let who = claim(user("x", &[]), "level", Attribute::Long(level));
        let who = claim(who, "teams", Attribute::Texts(vec!["red".into(), team.into()]));
        let who = claim(who, "mfa", Attribute::Boolean(mfa));
        claim(who, "department", Attribute::Text(department.into()))
    };
    let elsewhere = Principal { issuer: Some("https://evil.example".into()), ..user("x", &[]) };
    check(vec![
        row("scope", SCOPE, scoped("orders:read"), circumstances(), get(), true),
        row("part of a scope", SCOPE, scoped("orders:reads"), circumstances(), get(), false),
        row("no scope", SCOPE, user("x", &[]), circumstances(), get(), false),
        row("strong", STRONG, strong(Some("urn:strong"), "hwk"), circumstances(), get(), true),
        row("weak factor", STRONG, strong(Some("urn:strong"), "pwd"), circumstances(), get(), false),
        row("no acr", STRONG, strong(None, "hwk"), circumstances(), get(), false),
        row("claims", LEVEL, levelled(3, "blue", true, "sales"), circumstances(), get(), true),
        row("level", LEVEL, levelled(2, "blue", true, "sales"), circumstances(), get(), false),
        row("team", LEVEL, levelled(3, "green", true, "sales"), circumstances(), get(), false),
        row("mfa", LEVEL, levelled(3, "blue", false, "sales"), circumstances(), get(), false),
        row("department", LEVEL, levelled(3, "blue", true, "legal"), circumstances(), get(), false),
        row("no claims", LEVEL, user("x", &[]), circumstances(), get(), false),
        row("issuer", ISSUER, user("x", &[]), circumstances(), get(), true),
        row("other issuer", ISSUER, elsewhere, circumstances(), get(), false),
    ]);
}

#[test]
fn headers_with_all_their_values() {
    const ONE: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context.headers has "x-tenant" && context.headers["x-tenant"] == ["acme"] };"#;
    const NOT: &str = r#"permit(principal, action, resource == Route::"orders");
        forbid(principal, action, resource)
        when { context.headers has "x-tenant" && context.headers["x-tenant"].contains("evil") };"#;
    let get = |headers: &[(&str, &str)]| with_headers(request(ORDERS, "GET", &[]), headers);
    let x = || user("x", &[]);
    let acme = ("x-tenant", "acme");
    let evil = ("x-tenant", "evil");
    check(vec![
        row("exactly that", ONE, x(), circumstances(), get(&[acme]), true),
        row("twice the same", ONE, x(), circumstances(), get(&[acme, acme]), true),
        row("a second value", ONE, x(), circumstances(), get(&[acme, evil]), false),
        row("second value first", ONE, x(), circumstances(), get(&[evil, acme]), false),
        row("absent", ONE, x(), circumstances(), get(&[]), false),
        row(
            "a list in one field is one value",
            ONE,
            x(),
            circumstances(),
            get(&[("x-tenant", "acme, evil")]),
            false,
        ),
        row("harmless", NOT, x(), circumstances(), get(&[acme]), true),
        row("hidden behind another", NOT, x(), circumstances(), get(&[acme, evil]), false),
    ]);
}

#[test]
fn host_path_method_and_route() {
    const HOST: &str = r#"permit(principal, action, resource)
        when { context.host == "shop.example" && context.path like "/orders/*" && context.method == "GET"
            && resource.service == "orders" && resource.name == "orders" };"#;
    let get = || request(ORDERS, "GET", &[]);
    let mut other_host = get();
    other_host.host = b"admin.shop.example".to_vec();
    let mut other_path = get();
    other_path.path = b"/refunds/1".to_vec();
    let x = || user("x", &[]);
    check(vec![
        row("all fit", HOST, x(), circumstances(), get(), true),
        row("host", HOST, x(), circumstances(), other_host, false),
        row("path", HOST, x(), circumstances(), other_path, false),
        row("method", HOST, x(), circumstances(), request(ORDERS, "PUT", &[]), false),
        row("route", HOST, x(), circumstances(), request(CATALOGUE, "GET", &[]), false),
    ]);
}

#[test]
fn unless_and_choices_evaluate_as_written() {
    const UNLESS: &str = r#"permit(principal, action, resource == Route::"orders")
        when { context.tls } unless { context.hour == 21 } unless { principal in Role::"auditor" };"#;
    const CHOICE: &str = r#"permit(principal, action, resource == Route::"orders")
        when { if principal in Role::"auditor" then context.hour == 21 else context.hour == 22 };"#;
    let get = || request(ORDERS, "GET", &[]);
    let auditor = || user("x", &["auditor"]);
    check(vec![
        row("hour 21", UNLESS, user("x", &[]), at(NOW), get(), false),
        row("hour 22", UNLESS, user("x", &[]), at(NOW + 3600), get(), true),
        row("auditor", UNLESS, auditor(), at(NOW + 3600), get(), false),
        row("auditor at 21", CHOICE, auditor(), at(NOW), get(), true),
        row("auditor at 22", CHOICE, auditor(), at(NOW + 3600), get(), false),
        row("other at 22", CHOICE, user("x", &[]), at(NOW + 3600), get(), true),
    ]);
}

#[test]
fn nothing_permits_by_default() {
    let policies = policy::load(vocabulary(), &[], 1).unwrap();
    for route in [ORDERS, REFUNDS, CATALOGUE] {
        let denied = decide(&policies, &user("x", &["admin"]), &circumstances(), request(route, "GET", &[]))
            .unwrap_err();
        assert_eq!(denied.reason(), &Reason::Default);
        assert!(!denied.asks_for_credentials());
    }
}

#[test]
fn forbid_wins_over_every_permit_and_every_access() {
    let policies = load(
        r#"permit(principal, action, resource);
        @id("closed") forbid(principal, action, resource) when { context.hour == 21 };"#,
    );
    let later = at(NOW + 3600);
    for route in [ORDERS, REFUNDS, CATALOGUE, PROFILE, STATUS] {
        let denied =
            decide(&policies, &user("x", &[]), &circumstances(), request(route, "GET", &[])).unwrap_err();
        assert_eq!(denied.reason(), &Reason::Forbidden("closed".into()));
        assert!(decide(&policies, &user("x", &[]), &later, request(route, "GET", &[])).is_ok());
    }
}

#[test]
fn access_of_the_route() {
    let policies = load(r#"permit(principal is Anonymous, action, resource == Route::"catalogue");"#);
    let nobody = Principal::anonymous();
    let ask = |who: &Principal, route| decide(&policies, who, &circumstances(), request(route, "GET", &[]));
    assert!(ask(&nobody, STATUS).is_ok());
    assert!(ask(&nobody, CATALOGUE).is_ok());
    let denied = ask(&nobody, PROFILE).unwrap_err();
    assert_eq!(denied.reason(), &Reason::Unauthenticated);
    assert!(denied.asks_for_credentials());
    assert!(ask(&nobody, ORDERS).unwrap_err().asks_for_credentials());
    assert!(ask(&user("x", &[]), PROFILE).is_ok());
    assert!(ask(&user("x", &[]), STATUS).is_ok());
    // A permit for everybody does not let anonymous into an authenticated route.
    let wide = load("permit(principal, action, resource);");
    let denied = decide(&wide, &nobody, &circumstances(), request(PROFILE, "GET", &[])).unwrap_err();
    assert_eq!(denied.reason(), &Reason::Unauthenticated);
}

#[test]
fn an_error_denies_wherever_it_happens() {
    const OVERFLOW: &str = "context.hour + 9223372036854775807 > 0";
    // Cedar alone would skip each of these.
    let permit = r#"@id("wide") permit(principal, action, resource);"#;
    for effect in ["permit", "forbid"] {
        let text =
            format!(r#"{permit} @id("broken") {effect}(principal, action, resource) when {{ {OVERFLOW} }};"#);
        for text in [text.clone(), text.replacen(permit, "", 1) + permit] {
            let policies = load(&text);
            for route in [ORDERS, PROFILE, STATUS] {
                let denied = decide(&policies, &user("x", &[]), &circumstances(), request(route, "GET", &[]))
                    .unwrap_err();
                let Reason::Error { policy, message } = denied.reason() else { panic!("{denied:?}") };
                assert_eq!(policy, "broken");
                assert!(message.contains("overflow"), "{message}");
            }
            // At hour 0 nothing overflows: the neighbour that is honest.
            let midnight = at(NOW + 3 * 3600);
            let decision = decide(&policies, &user("x", &[]), &midnight, request(ORDERS, "GET", &[]));
            assert_eq!(decision.is_ok(), effect == "permit");
        }
    }
}

#[test]
fn a_value_that_is_not_what_the_schema_says_denies() {
    let policies = load(
        r#"permit(principal, action, resource);
        forbid(principal, action, resource) when { principal.claims has level && principal.claims.level < 3 };
        forbid(principal, action, resource == Route::"catalogue")
            when { context.headers has "x-tenant" && context.headers["x-tenant"].contains("evil") };"#,
    );
    let get = |route| request(route, "GET", &[]);
    let honest = claim(user("x", &[]), "level", Attribute::Long(3));
    let odd = claim(user("x", &[]), "level", Attribute::Text("9".into()));
    assert!(decide(&policies, &honest, &circumstances(), get(ORDERS)).is_ok());
    let denied = decide(&policies, &odd, &circumstances(), get(ORDERS)).unwrap_err();
    assert!(matches!(denied.reason(), Reason::Error { .. }), "{denied:?}");

    let mut bytes = get(CATALOGUE);
    bytes.headers.push(("x-tenant".into(), b"\xffevil".to_vec()));
    let denied = decide(&policies, &honest, &circumstances(), bytes.clone()).unwrap_err();
    assert!(matches!(denied.reason(), Reason::Error { .. }), "{denied:?}");
    // Where nothing reads the header, its bytes do not matter.
    bytes.route = ORDERS;
    assert!(decide(&policies, &honest, &circumstances(), bytes).is_ok());
}

#[test]
fn a_credential_that_ended_decides_nothing() {
    let policies = load("permit(principal, action, resource);");
    let until = |end: u64| Principal { expires: Some(Timestamp::from_unix_seconds(end)), ..user("x", &[]) };
    let permit = decide(&policies, &until(NOW + 1), &circumstances(), request(ORDERS, "GET", &[])).unwrap();
    assert_eq!(permit.expires(), Some(Timestamp::from_unix_seconds(NOW + 1)));
    for route in [ORDERS, STATUS] {
        let denied =
            decide(&policies, &until(NOW), &circumstances(), request(route, "GET", &[])).unwrap_err();
        assert_eq!(denied.reason(), &Reason::Expired);
        assert!(denied.asks_for_credentials());
    }
}

#[test]
fn what_is_decided_for_an_end_user_ends_with_what_proves_them() {
    let policies = load("permit(principal, action, resource);");
    let end = |seconds| Some(Timestamp::from_unix_seconds(seconds));
    let ask = |own: Option<u64>, of_user: Option<u64>| {
        let ending = |who: Principal, at: Option<u64>| Principal { expires: at.and_then(end), ..who };
        let around = Circumstances {
            user: Some(std::sync::Arc::new(ending(user("erin", &["customer"]), of_user))),
            ..circumstances()
        };
        decide(&policies, &ending(user("x", &[]), own), &around, request(ORDERS, "GET", &[]))
    };
    for (own, of_user, expected) in [
        (Some(NOW + 9), Some(NOW + 1), end(NOW + 1)),
        (Some(NOW + 1), Some(NOW + 9), end(NOW + 1)),
        (None, Some(NOW + 2), end(NOW + 2)),
        (Some(NOW + 3), None, end(NOW + 3)),
        (None, None, None),
    ] {
        assert_eq!(ask(own, of_user).unwrap().expires(), expected, "{own:?} {of_user:?}");
    }
    let denied = ask(Some(NOW + 9), Some(NOW)).unwrap_err();
    assert_eq!(denied.reason(), &Reason::Expired);
    assert_eq!(denied.record(&policies).read["expired"], true);
}

#[test]
fn a_route_of_another_generation_is_denied() {
    let policies = load("permit(principal, action, resource);");
    let denied = decide(&policies, &user("x", &[]), &circumstances(), request(99, "GET", &[])).unwrap_err();
    assert_eq!(denied.reason(), &Reason::UnknownRoute);
    assert_eq!(denied.into_subject().route, 99);
}

#[test]
fn the_record_names_what_was_read_and_nothing_else() {
    let policies = load(OWNER);
    let mut what = request(ORDERS, "GET", &[("owner", "bob"), ("id", "7")]);
    what.headers.push(("x-tenant".into(), b"acme".to_vec()));
    let denied = decide(&policies, &user("bob", &["auditor"]), &circumstances(), what.clone());
    let record = denied.as_ref().unwrap().record(&policies);
    assert_eq!(record.generation, 7);
    assert_eq!(record.policies, ["shop.cedar:1"]);
    assert_eq!(record.snapshot, policies.snapshot());
    let expected = serde_json::json!({
        "action": "GET",
        "principal": { "type": "User", "id": "bob" },
        "principal.id": "bob",
        "principal.roles": ["merchant", "auditor"],
        "resource": "orders",
        "resource.params.owner": "bob",
    });
    assert_eq!(serde_json::to_value(&record.read).unwrap(), expected);
    // Policies of another generation cannot say what was read.
    let other = policy::load(vocabulary(), &source(OWNER), 8).unwrap();
    assert!(denied.unwrap().record(&other).read.is_empty());
}

#[test]
fn the_snapshot_hash_covers_policies_and_vocabulary_but_not_the_number() {
    let hash = |vocabulary, text: &str, generation| {
        policy::load(vocabulary, &source(text), generation).unwrap().snapshot().to_owned()
    };
    let first = hash(vocabulary(), OWNER, 1);
    assert_eq!(first.len(), 64);
    assert_eq!(first, hash(vocabulary(), OWNER, 2));
    assert_ne!(first, hash(vocabulary(), &format!("{OWNER} "), 1));
    let mut promoted = vocabulary();
    promoted.roles[2].members.clear();
    assert_ne!(first, hash(promoted, OWNER, 1));
}

#[test]
fn an_error_before_a_role_is_asked_for_is_still_an_error() {
    let ordered = |condition: &str| {
        let text = format!(
            "permit(principal, action, resource); forbid(principal, action, resource) when {{ {condition} }};"
        );
        decide(&load(&text), &user("x", &[]), &circumstances(), request(ORDERS, "GET", &[])).is_ok()
    };
    const OVERFLOW: &str = "context.hour + 9223372036854775807 > 0";
    assert!(!ordered(&format!("{OVERFLOW} && principal in Role::\"admin\"")));
    assert!(ordered(&format!("principal in Role::\"admin\" && {OVERFLOW}")));
    assert!(ordered(&format!("context.tls && principal in Role::\"admin\" && {OVERFLOW}")));
}

#[test]
fn the_end_user_of_a_service_s_call_is_read_when_there_is_one() {
    let policies = load(
        r#"permit (principal == Service::"spiffe://shop.example/orders", action == Action::"POST", resource == Route::"refunds")
        when { context has user && context.user.kind == "User" && context.user.roles.contains("customer") };"#,
    );
    let orders = somebody(PrincipalKind::Service, "spiffe://shop.example/orders", &[]);
    let on_behalf = |user| Circumstances { user, ..circumstances() };
    let pay = || request(REFUNDS, "POST", &[("id", "7")]);
    let alice = Arc::new(user("alice", &["customer"]));
    assert!(decide(&policies, &orders, &on_behalf(Some(alice)), pay()).is_ok());
    for nobody in [None, Some(Arc::new(user("dora", &["auditor"])))] {
        assert!(decide(&policies, &orders, &on_behalf(nobody), pay()).is_err());
    }
    // Asked without `has`, it is refused at load.
    let faults = faults(r#"permit (principal, action, resource) when { context.user.id == "alice" };"#);
    assert!(!faults.is_empty());
}
