//! A decision from the cache is the decision that would have been made.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use std::sync::Arc;

use model::principal::Attribute;
use model::{Credential, Principal, PrincipalKind, Timestamp};
use policy::limits::{CACHE_BYTES_MAX, CACHE_ENTRIES_MAX, CACHE_ENTRY_BYTES_MAX};
use policy::{Circumstances, DecisionCache, Policies, Reason, decide_cached};
use proptest::prelude::*;
use proptest::sample::select;
use testbed::*;

#[derive(Clone, Debug)]
struct Asked {
    who: Principal,
    around: Circumstances,
    what: Request,
}

fn asked() -> Asked {
    let who = user("alice", &[]);
    Asked { who, around: circumstances(), what: request(ORDERS, "GET", &[("owner", "alice")]) }
}

/// What came of a decision, in a shape that can be compared.
#[derive(Debug, PartialEq)]
struct Told {
    allowed: bool,
    reason: Option<Reason>,
    expires: Option<Timestamp>,
    generation: u64,
    record: String,
}

fn told<S: policy::Subject>(
    policies: &Policies,
    decision: Result<policy::Permit<S>, Box<policy::Denied<S>>>,
) -> Told {
    let mut record = Vec::new();
    let told = |record: Vec<u8>| String::from_utf8(record).unwrap();
    match decision {
        Ok(permit) => {
            permit.append_record(policies, &mut record);
            Told {
                allowed: true,
                reason: None,
                expires: permit.expires(),
                generation: permit.generation(),
                record: told(record),
            }
        }
        Err(denied) => {
            denied.append_record(policies, &mut record);
            Told {
                allowed: false,
                reason: Some(denied.reason().clone()),
                expires: None,
                generation: denied.generation(),
                record: told(record),
            }
        }
    }
}

fn fresh(policies: &Policies, asked: &Asked) -> Told {
    told(policies, decide(policies, &asked.who, &asked.around, asked.what.clone()))
}

fn cached(cache: &mut DecisionCache, policies: &Policies, asked: &Asked) -> Told {
    let who = Arc::new(asked.who.clone());
    told(policies, decide_cached(cache, policies, &who, &asked.around, asked.what.clone()))
}

const CONDITIONS: [&str; 24] = [
    "context.minute < 30",
    "context.hour < 12",
    "context.weekday == 7",
    "context.address.isInRange(ip(\"10.0.0.0/8\"))",
    "context.tls",
    "context has tls_version && context.tls_version == \"1.3\"",
    "context.host == \"shop.example\"",
    "context.path like \"/orders/*\"",
    "context.method == \"HEAD\"",
    "context.credential == \"jwt\"",
    "context has certificate",
    "context has certificate && context.certificate.subject == \"CN=orders\"",
    "context has certificate && context.certificate.dns_names.contains(\"orders.internal\")",
    "context.headers has \"x-tenant\" && context.headers[\"x-tenant\"].contains(\"a\")",
    "context.claims has level && context.claims.level + 9223372036854775806 > 0",
    "principal has acr && principal.acr == \"strong\"",
    "principal.scopes.containsAll([\"x\"])",
    "principal.claims has teams && principal.claims.teams.contains(\"red\")",
    "principal in Role::\"merchant\"",
    "principal in [Role::\"auditor\", Role::\"customer\"]",
    "resource.params has owner && resource.params.owner == principal.id",
    "resource.service == \"orders\"",
    "action in Action::\"write\"",
    "if context.hour == 3 then principal has acr else principal.id == \"bob\"",
];

fn policies() -> impl Strategy<Value = String> {
    let condition = select(CONDITIONS.as_slice()).prop_map(str::to_owned);
    let condition = condition.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) && ({b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) || ({b}))")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    });
    let scopes =
        ["principal", "principal is User", "principal == User::\"alice\"", "principal in Role::\"admin\""];
    let actions = ["action", "action in Action::\"read\"", "action == Action::\"POST\""];
    let resources = ["resource", "resource == Route::\"orders\""];
    let one = (
        select(["permit", "permit", "forbid"].as_slice()),
        select(scopes.to_vec()),
        select(actions.to_vec()),
        select(resources.to_vec()),
        condition,
    );
    let one = one.prop_map(|(effect, who, action, route, condition)| {
        format!("{effect}({who}, {action}, {route}) when {{ {condition} }};\n")
    });
    prop::collection::vec(one, 1..5).prop_map(|all| all.concat())
}

fn requests() -> impl Strategy<Value = Asked> {
    let who = (
        select([PrincipalKind::User, PrincipalKind::ApiKey, PrincipalKind::Anonymous].as_slice()),
        select(["alice", "bob", "ci"].as_slice()),
        prop::sample::subsequence(["customer", "merchant", "admin", "auditor"].to_vec(), 0..3),
        prop::option::of(select(["strong", "weak"].as_slice())),
        any::<bool>(),
        prop::option::of(0..3_i64),
        prop::option::of(prop::sample::subsequence(["blue", "red"].to_vec(), 0..3)),
        prop::option::of(select([NOW - 1, NOW + 7200].as_slice())),
    );
    let around = (
        0..3600_u64 * 30,
        select(["10.1.2.3", "192.0.2.1"].as_slice()),
        0..3_u8,
        any::<bool>(),
        any::<bool>(),
    );
    let what = (
        select([ORDERS, CATALOGUE, PROFILE, STATUS].as_slice()),
        select(["GET", "HEAD", "POST", "PURGE"].as_slice()),
        prop::option::of(select(["alice", "bob"].as_slice())),
        prop::collection::vec(select(["a", "b"].as_slice()), 0..3),
        select(["/orders/1", "/x"].as_slice()),
        select(["shop.example", "other.example"].as_slice()),
    );
    (who, around, what).prop_map(|(who, (later, address, tls, shown, named), what)| {
        let (kind, id, roles, acr, scoped, level, teams, expires) = who;
        let mut who = match kind {
            PrincipalKind::Anonymous => Principal::anonymous(),
            kind => somebody(kind, id, &roles),
        };
        who.acr = acr.map(Into::into);
        who.scopes = if scoped { vec!["x".into()] } else { Vec::new() };
        who.expires = expires.map(Timestamp::from_unix_seconds);
        who.claims.extend(level.map(|level| ("level".to_owned(), Attribute::Long(level))));
        let texts =
            |teams: Vec<&str>| Attribute::Texts(teams.iter().map(|team| (*team).to_owned()).collect());
        who.claims.extend(teams.map(|teams| ("teams".to_owned(), texts(teams))));
        let (route, method, owner, tenants, path, host) = what;
        let parameters: Vec<(&str, &str)> = owner.map(|owner| ("owner", owner)).into_iter().collect();
        let headers: Vec<(&str, &str)> = tenants.iter().map(|tenant| ("x-tenant", *tenant)).collect();
        let mut what = with_headers(request(route, method, &parameters), &headers);
        what.path = path.as_bytes().to_vec();
        what.host = host.as_bytes().to_vec();
        let around = Circumstances {
            now: Timestamp::from_unix_seconds(NOW + later),
            address: address.parse().unwrap(),
            tls_version: [None, Some("1.2"), Some("1.3")][usize::from(tls)],
            certificate: shown.then(certificate),
            user: named.then(|| Arc::new(user("erin", &["customer"]))),
        };
        Asked { who, around, what }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Over whatever policies and requests, in whatever order, twice: decision, reason,
    /// determining policies, everything that was read, and the end of the credential are
    /// those of a fresh decision. Two generations share the cache, so that an entry that
    /// outlived one would be found.
    #[test]
    fn cached_equals_uncached(
        texts in (policies(), policies()),
        requests in prop::collection::vec(requests(), 24),
    ) {
        let one = load(&texts.0);
        let two = policy::load(vocabulary(), &source(&texts.1), 8).unwrap();
        let mut cache = DecisionCache::new();
        for policies in [&one, &one, &two, &one, &two, &two] {
            for asked in &requests {
                let expected = fresh(policies, asked);
                prop_assert_eq!(cached(&mut cache, policies, asked), expected, "{}\n{:?}", texts.0, asked);
            }
        }
        let counts = cache.counts();
        prop_assert!(counts.hits > 0 || counts.bypassed > 0);
    }
}

/// A change of one attribute that a policy reads.
type Change = fn(&mut Asked);

/// Every attribute that a policy can read, with a change of it alone that changes the
/// decision.
const READS: [(&str, Change); 28] = [
    ("principal.id == \"alice\"", |asked| asked.who.id = "eve".into()),
    ("principal is User", |asked| asked.who.kind = PrincipalKind::Client),
    ("principal has issuer && principal.issuer == \"https://id.shop.example\"", |asked| {
        asked.who.issuer = None
    }),
    ("principal in Role::\"customer\" || !(principal in Role::\"admin\")", |asked| asked.who.id = "x".into()),
    ("!(principal in Role::\"customer\")", |asked| asked.who.roles = vec!["admin".into()]),
    ("!principal.scopes.contains(\"x\")", |asked| asked.who.scopes = vec!["x".into()]),
    ("!(principal has acr)", |asked| asked.who.acr = Some("strong".into())),
    ("!context.amr.contains(\"otp\")", |asked| asked.who.amr = vec!["otp".into()]),
    ("!(context.claims has mfa && context.claims.mfa)", |asked| {
        asked.who.claims.insert("mfa".into(), Attribute::Boolean(true));
    }),
    ("!(principal.claims has level && principal.claims.level > 2)", |asked| {
        asked.who.claims.insert("level".into(), Attribute::Long(3));
    }),
    ("resource == Route::\"orders\"", |asked| asked.what.route = CATALOGUE),
    ("resource.name == \"orders\"", |asked| asked.what.route = CATALOGUE),
    ("resource.service == \"orders\"", |asked| asked.what.route = CATALOGUE),
    ("resource.params has owner", |asked| asked.what.parameters.clear()),
    ("action in Action::\"read\"", |asked| asked.what.method = "POST".into()),
    ("context.method == \"GET\"", |asked| asked.what.method = "HEAD".into()),
    ("context.minute == 51", |asked| asked.around.now = Timestamp::from_unix_seconds(NOW + 60)),
    ("context.hour == 21", |asked| asked.around.now = Timestamp::from_unix_seconds(NOW + 3600)),
    ("context.weekday == 7", |asked| asked.around.now = Timestamp::from_unix_seconds(NOW + 86400)),
    ("context.address == ip(\"10.1.2.3\")", |asked| asked.around.address = "10.1.2.4".parse().unwrap()),
    ("context.tls", |asked| asked.around.tls_version = None),
    ("context has tls_version && context.tls_version == \"1.3\"", |asked| {
        asked.around.tls_version = Some("1.2")
    }),
    ("!(context has certificate)", |asked| asked.around.certificate = Some(certificate())),
    ("!(context has user)", |asked| asked.around.user = Some(Arc::new(user("erin", &["customer"])))),
    ("context.credential == \"jwt\"", |asked| asked.who.credential = Credential::ApiKey),
    ("!(context.headers has \"x-tenant\")", |asked| {
        asked.what = with_headers(asked.what.clone(), &[("x-tenant", "a")])
    }),
    ("context.host == \"shop.example\"", |asked| asked.what.host = b"other.example".to_vec()),
    ("context.path == \"/orders/alice/7\"", |asked| asked.what.path = b"/orders/alice/8".to_vec()),
];

#[test]
fn whatever_a_policy_reads_is_in_the_key() {
    for (condition, change) in READS {
        // The first entry about roles is a neighbour: nothing changes.
        let same = condition.contains("|| !(principal in");
        let policies = load(&format!("permit(principal, action, resource) when {{ {condition} }};"));
        let mut cache = DecisionCache::new();
        let before = asked();
        let mut after = before.clone();
        change(&mut after);
        assert!(cached(&mut cache, &policies, &before).allowed, "{condition}");
        assert_eq!(cached(&mut cache, &policies, &after).allowed, same, "{condition}");
        assert_eq!(cached(&mut cache, &policies, &after), fresh(&policies, &after), "{condition}");
        assert_eq!(cached(&mut cache, &policies, &before), fresh(&policies, &before), "{condition}");
        assert_eq!((cache.counts().hits, cache.counts().misses), (2, 2), "{condition}");
    }
}

/// Certificates differ below `context.certificate`, whose mere presence is no key.
#[test]
fn what_lies_below_a_record_that_is_read_whole_is_in_the_key() {
    let policies = load(
        "permit(principal, action, resource) when { context has certificate && context.certificate.subject == \"CN=orders\" };",
    );
    let mut cache = DecisionCache::new();
    let mut one = asked();
    one.around.certificate = Some(certificate());
    let mut other = one.clone();
    let mut shown = policy::Certificate::clone(&certificate());
    shown.subject = "CN=evil".into();
    other.around.certificate = Some(Arc::new(shown));
    assert!(cached(&mut cache, &policies, &one).allowed);
    assert!(!cached(&mut cache, &policies, &other).allowed);
}

#[test]
fn what_no_policy_reads_is_not_in_the_key() {
    let policies = load("permit(principal, action, resource) when { context.hour == 21 };");
    let mut cache = DecisionCache::new();
    let first = asked();
    let mut second = first.clone();
    second.around.now = Timestamp::from_unix_seconds(NOW + 60);
    second.around.address = "192.0.2.7".parse().unwrap();
    second.what.path = b"/elsewhere".to_vec();
    second.what.headers = vec![("x-tenant".into(), b"b".to_vec())];
    second.who.scopes = vec!["y".into()];
    assert!(cached(&mut cache, &policies, &first).allowed);
    assert!(cached(&mut cache, &policies, &second).allowed);
    assert_eq!((cache.counts().hits, cache.counts().misses, cache.len()), (1, 1, 1));
}

/// Two lists of values that would be alike written one after the other.
#[test]
fn values_are_kept_apart() {
    let policies = load(
        "permit(principal, action, resource) when { principal.scopes.contains(\"ab\") && context.path == \"/c\" };",
    );
    let mut cache = DecisionCache::new();
    let with = |scopes: &[&str], path: &str| {
        let mut asked = asked();
        asked.who.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        asked.what.path = path.as_bytes().to_vec();
        asked
    };
    assert!(cached(&mut cache, &policies, &with(&["ab"], "/c")).allowed);
    for (scopes, path) in [(&["a", "b"][..], "/c"), (&["ab/"], "c"), (&["a"], "b/c"), (&["ab", ""], "/d")] {
        assert!(!cached(&mut cache, &policies, &with(scopes, path)).allowed, "{scopes:?} {path}");
    }
}

#[test]
fn a_credential_that_ended_is_denied_although_the_decision_is_known() {
    let policies = load("permit(principal, action, resource);");
    let mut cache = DecisionCache::new();
    let mut asked = asked();
    asked.who.expires = Some(Timestamp::from_unix_seconds(NOW + 10));
    assert!(cached(&mut cache, &policies, &asked).allowed);
    asked.around.now = Timestamp::from_unix_seconds(NOW + 9);
    let told = cached(&mut cache, &policies, &asked);
    assert_eq!((told.allowed, told.expires), (true, asked.who.expires));
    asked.around.now = Timestamp::from_unix_seconds(NOW + 10);
    assert_eq!(cached(&mut cache, &policies, &asked).reason, Some(Reason::Expired));
    assert_eq!(cache.counts().hits, 1);
}

#[test]
fn an_entry_does_not_survive_other_policies_nor_another_generation() {
    let text = "permit(principal, action, resource);";
    let open = load(text);
    let closed = load("forbid(principal, action, resource);");
    let next = policy::load(vocabulary(), &source(text), 8).unwrap();
    let mut narrower = vocabulary();
    narrower.roles[1].members.clear();
    let by_role = "permit(principal in Role::\"merchant\", action, resource);";
    let (members, nobody) = (load(by_role), policy::load(narrower, &source(by_role), 7).unwrap());
    let mut cache = DecisionCache::new();
    let mut bob = asked();
    bob.who.id = "bob".into();
    for (policies, allowed) in
        [(&open, true), (&closed, false), (&open, true), (&members, true), (&nobody, false)]
    {
        assert_eq!(cached(&mut cache, policies, &bob).allowed, allowed);
    }
    cached(&mut cache, &open, &bob);
    assert_eq!(cached(&mut cache, &next, &bob).generation, 8);
    assert_eq!(cache.counts().hits, 0);
    assert_eq!(cache.len(), 1);
    cached(&mut cache, &next, &bob);
    assert_eq!(cache.counts().hits, 1);
    cache.clear();
    assert!(cache.is_empty() && cache.bytes() == 0);
    cached(&mut cache, &next, &bob);
    assert_eq!(cache.counts().hits, 1);
}

/// Outside the listed fragment, an error, and what cannot be read: judged each time.
#[test]
fn what_may_not_be_remembered_is_not() {
    let date =
        "permit(principal, action, resource) when { datetime(\"2026-01-01\") < datetime(\"2026-01-02\") };";
    let error = "permit(principal, action, resource) when { context.hour + 9223372036854775807 > 0 };";
    let path = "permit(principal, action, resource) when { context.path like \"/*\" };";
    let honest =
        "permit(principal, action, resource) when { context.address.isInRange(ip(\"10.0.0.0/8\")) };";
    let mut unreadable = asked();
    unreadable.what.path = b"/\xff".to_vec();
    for (text, asked, kept) in [
        (date, asked(), 0),
        (error, asked(), 0),
        (path, unreadable, 0),
        (path, asked(), 1),
        (honest, asked(), 1),
    ] {
        let policies = load(text);
        let mut cache = DecisionCache::new();
        for _ in 0..3 {
            assert_eq!(cached(&mut cache, &policies, &asked), fresh(&policies, &asked), "{text}");
        }
        assert_eq!((cache.len(), cache.counts().hits), (kept, kept as u64 * 2), "{text}");
    }
}

#[test]
fn the_cache_holds_its_most_entries_and_not_one_more() {
    let policies = load("permit(principal, action, resource);");
    let mut cache = DecisionCache::new();
    let mut asked = asked();
    let mut ask = |cache: &mut DecisionCache, number: usize| {
        asked.who.id = format!("u{number}");
        cached(cache, &policies, &asked);
        (cache.len(), cache.counts().hits)
    };
    for number in 0..CACHE_ENTRIES_MAX {
        ask(&mut cache, number);
    }
    assert_eq!(cache.len(), CACHE_ENTRIES_MAX);
    assert_eq!(ask(&mut cache, 0).1, 1, "the oldest is there");
    assert_eq!(ask(&mut cache, CACHE_ENTRIES_MAX), (CACHE_ENTRIES_MAX, 1));
    assert_eq!(ask(&mut cache, 0).1, 2, "used again, so not the one that went");
    assert_eq!(ask(&mut cache, 1).1, 2, "the least recently used went");
}

#[test]
fn the_cache_holds_its_most_bytes_and_not_one_more_entry() {
    let policies = load("permit(principal, action, resource) when { context.path like \"/*\" };");
    let mut cache = DecisionCache::new();
    let mut asked = asked();
    let mut ask = |cache: &mut DecisionCache, length: usize, number: usize| {
        asked.what.path = format!("/{number:010}{}", "x".repeat(length)).into_bytes();
        cached(cache, &policies, &asked);
    };
    // The longest path that is kept, and one past.
    let longest = (0..CACHE_ENTRY_BYTES_MAX)
        .rev()
        .find(|length| {
            let mut cache = DecisionCache::new();
            ask(&mut cache, *length, 0);
            cache.len() == 1
        })
        .unwrap();
    ask(&mut cache, longest, 0);
    let one = cache.bytes();
    assert!((CACHE_ENTRY_BYTES_MAX - 1..=CACHE_ENTRY_BYTES_MAX).contains(&one), "{one}");
    let most = CACHE_BYTES_MAX / one;
    for number in 1..most {
        ask(&mut cache, longest, number);
    }
    assert_eq!((cache.len(), cache.bytes()), (most, most * one));
    ask(&mut cache, longest, most);
    assert_eq!((cache.len(), cache.bytes()), (most, most * one));
}
