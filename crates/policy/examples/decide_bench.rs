//! What a decision costs: 100 roles, 500 users, 1,000 role bindings, 104 policies with
//! tenant, owner, clearance, second-factor and hour conditions.
//!
//! `cargo run --release -p policy --example decide_bench`

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark reads the clock and prints")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use model::principal::Attribute;
use model::{ClaimType, Credential, Principal, PrincipalKind, Timestamp};
use policy::{Circumstances, DecisionCache, Member, Policies, Role, Route, Source, Subject, Vocabulary};

const ROLES: usize = 100;
const USERS: usize = 500;
const BINDINGS: usize = 1000;
const ROUNDS: usize = 20;

struct Request {
    route: usize,
    owner: String,
    tenant: &'static [u8],
}

impl Subject for &Request {
    fn route(&self) -> usize {
        self.route
    }
    fn method(&self) -> &'static str {
        "GET"
    }
    fn path(&self) -> &[u8] {
        b"/documents/1"
    }
    fn host(&self) -> &[u8] {
        b"shop.example"
    }
    fn parameter(&self, name: &str) -> Option<&str> {
        (name == "owner").then_some(&self.owner)
    }
    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        (name == "x-tenant").then_some(self.tenant).into_iter()
    }
}

fn vocabulary() -> Vocabulary {
    let mut roles: Vec<Role> =
        (0..ROLES).map(|number| Role { name: format!("role{number}"), ..Role::default() }).collect();
    for binding in 0..BINDINGS {
        let member = Member { kind: PrincipalKind::User, id: format!("user{}", binding % USERS) };
        if let Some(role) = roles.get_mut((binding * 7 + binding / USERS) % ROLES) {
            role.members.push(member);
        }
    }
    let route = |number: usize| Route {
        name: format!("route{number}"),
        service: "documents".to_owned(),
        parameters: vec!["owner".to_owned()],
        ..Route::default()
    };
    Vocabulary {
        roles,
        routes: (0..100).map(route).collect(),
        claims: BTreeMap::from([
            ("tenant".to_owned(), ClaimType::Text),
            ("clearance".to_owned(), ClaimType::Long),
            ("mfa".to_owned(), ClaimType::Boolean),
        ]),
        headers: vec!["x-tenant".to_owned()],
        ..Vocabulary::default()
    }
}

const CONDITIONS: &str = r#"resource.params has owner && resource.params.owner == principal.id
    && context.claims has clearance && context.claims.clearance >= 2
    && context.claims has mfa && context.claims.mfa
    && context.hour >= 6 && context.hour < 22"#;

const FORBIDS: &str = r#"
forbid(principal, action, resource) unless { context.claims has tenant && context.headers has "x-tenant"
    && context.headers["x-tenant"].contains(context.claims.tenant) };
forbid(principal, action in Action::"write", resource) unless { context.claims has mfa && context.claims.mfa };
forbid(principal, action, resource) when { context.hour == 3 };
forbid(principal, action, resource) when { context.weekday > 7 };
"#;

fn sets() -> Vec<(&'static str, String)> {
    let by_scope = (0..ROLES).map(|n| {
        format!("permit(principal in Role::\"role{n}\", action, resource) when {{ {CONDITIONS} }};\n")
    });
    let by_when = (0..ROLES).map(|n| {
        format!(
            "permit(principal, action, resource) when {{ principal in Role::\"role{n}\" && {CONDITIONS} }};\n"
        )
    });
    let unguarded = (0..ROLES).map(|n| {
        format!(
            "permit(principal, action, resource) when {{ context.hour != {n} && principal in Role::\"role{n}\" \
             && {CONDITIONS} }};\n"
        )
    });
    let by_route = (0..ROLES).map(|n| {
        format!(
            "permit(principal in Role::\"role{n}\", action, resource == Route::\"route{n}\") when {{ {CONDITIONS} }};\n"
        )
    });
    let scopes_only =
        (0..ROLES).map(|n| format!("permit(principal in Role::\"role{n}\", action, resource);\n"));
    vec![
        ("a policy per role, in the scope", by_scope.collect::<String>() + FORBIDS),
        ("a policy per role, first in `when`", by_when.collect::<String>() + FORBIDS),
        ("a policy per role and route", by_route.collect::<String>() + FORBIDS),
        ("scopes alone", scopes_only.collect::<String>()),
        ("the role hidden in the condition", unguarded.collect::<String>() + FORBIDS),
    ]
}

fn principals() -> Vec<Arc<Principal>> {
    let one = |number: usize| {
        Arc::new(Principal {
            kind: PrincipalKind::User,
            id: format!("user{number}"),
            credential: Credential::Jwt,
            claims: BTreeMap::from([
                ("tenant".to_owned(), Attribute::Text("acme".to_owned())),
                ("clearance".to_owned(), Attribute::Long(3)),
                ("mfa".to_owned(), Attribute::Boolean(true)),
            ]),
            ..Principal::anonymous()
        })
    };
    (0..USERS).map(one).collect()
}

/// What a decision costs: medians over rounds of the mean, in microseconds.
struct Costs {
    decided: f64,
    /// With its record for the audit log.
    recorded: f64,
    /// With its record, from the cache.
    cached: f64,
    /// Share of the cached decisions that the cache knew.
    hits: f64,
    allowed: f64,
}

fn measure(policies: &Policies) -> Costs {
    let around = Circumstances {
        now: Timestamp::from_unix_seconds(1_795_384_267),
        address: [10, 0, 0, 1].into(),
        tls_version: Some("1.3"),
        certificate: None,
        user: None,
    };
    let principals = principals();
    let requests: Vec<Request> = (0..USERS)
        .map(|number| Request {
            route: (number * 7) % 100,
            // Three of four ask for what is theirs.
            owner: format!("user{}", if number % 4 == 3 { 0 } else { number }),
            tenant: b"acme",
        })
        .collect();
    let mut allowed = 0_usize;
    let mut cache = DecisionCache::new();
    let mut text = Vec::new();
    let mut round = |with_record: bool| {
        let start = Instant::now();
        for _ in 0..4 {
            for (principal, request) in principals.iter().zip(&requests) {
                match policy::decide(policies, principal, &around, request) {
                    Ok(permit) => {
                        allowed += 1;
                        if with_record {
                            black_box(permit.record(policies));
                        }
                    }
                    Err(denied) => {
                        if with_record {
                            black_box(denied.record(policies));
                        }
                    }
                }
            }
        }
        start.elapsed().as_secs_f64() * 1e6 / (4 * USERS) as f64
    };
    let mut median = |with_record| {
        let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(with_record)).collect();
        rounds.sort_by(f64::total_cmp);
        rounds.get(ROUNDS / 2).copied().unwrap_or_default()
    };
    let (decided, recorded) = (median(false), median(true));
    let mut round = || {
        let start = Instant::now();
        for _ in 0..4 {
            for (principal, request) in principals.iter().zip(&requests) {
                text.clear();
                match policy::decide_cached(&mut cache, policies, principal, &around, request) {
                    Ok(permit) => permit.append_record(policies, &mut text),
                    Err(denied) => denied.append_record(policies, &mut text),
                }
                black_box(&text);
            }
        }
        start.elapsed().as_secs_f64() * 1e6 / (4 * USERS) as f64
    };
    round();
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_by(f64::total_cmp);
    let counts = cache.counts();
    Costs {
        decided,
        recorded,
        cached: rounds.get(ROUNDS / 2).copied().unwrap_or_default(),
        hits: counts.hits as f64 / (counts.hits + counts.misses + counts.bypassed) as f64,
        allowed: allowed as f64 / (2 * ROUNDS * 4 * USERS) as f64,
    }
}

fn main() {
    println!(
        "{:36} {:>8} {:>10} {:>10} {:>8} {:>8} {:>8}",
        "policies", "decide", "and record", "cached", "hits", "allowed", "load ms"
    );
    for (name, text) in sets() {
        let start = Instant::now();
        let loaded = policy::load(vocabulary(), &[Source { name: "bench.cedar".to_owned(), text }], 1);
        let load_ms = start.elapsed().as_secs_f64() * 1e3;
        match loaded {
            Ok(policies) => {
                let Costs { decided, recorded, cached, hits, allowed } = measure(&policies);
                println!(
                    "{name:36} {decided:>5.1} µs {recorded:>7.1} µs {cached:>7.2} µs {:>6.1} % {:>6.0} % {load_ms:>8.0}",
                    hits * 100.0,
                    allowed * 100.0
                );
            }
            Err(faults) => faults.iter().for_each(|fault| println!("{fault}")),
        }
    }
}
