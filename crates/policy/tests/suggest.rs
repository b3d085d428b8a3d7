//! Policies suggested from calls that were seen: they allow those, and nothing beside.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use std::collections::{BTreeMap, BTreeSet};

use model::{Principal, PrincipalKind};
use policy::suggest::{Call, Caller, Form, Suggester, Suggestion, Unsuggestible};
use policy::{Policies, would_permit};
use proptest::prelude::*;
use proptest::sample::select;
use testbed::*;

const ROUTES: [(&str, usize, &str); 3] = [
    ("orders", ORDERS, "/orders/{owner}/{id}"),
    ("refunds", REFUNDS, "/refunds/{id}"),
    ("catalogue", CATALOGUE, "/catalogue/**"),
];

fn forms() -> BTreeMap<String, Form> {
    let form = |pattern: &str| Form { pattern: pattern.into(), by_service: false };
    ROUTES.iter().map(|(name, _, pattern)| ((*name).to_owned(), form(pattern))).collect()
}

/// Who, method, route, path and the parameters that the router finds in it.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    who: Principal,
    method: String,
    route: usize,
    path: String,
}

impl Asked {
    fn parameters(&self) -> BTreeMap<String, String> {
        let pattern = ROUTES[self.route].2.split('/').zip(self.path.split('/'));
        pattern
            .filter_map(|(name, value)| {
                Some((name.strip_prefix('{')?.strip_suffix('}')?.to_owned(), value.to_owned()))
            })
            .collect()
    }

    fn call(&self, seconds: u64) -> Call {
        let roles = match self.who.id.as_str() {
            "bob" => vec!["merchant".to_owned()],
            _ => self.who.roles.clone(),
        };
        Call {
            caller: Caller { kind: self.who.kind, id: self.who.id.clone(), roles },
            user: None,
            for_nobody: false,
            method: self.method.clone(),
            route: ROUTES[self.route].0.to_owned(),
            path: self.path.clone(),
            parameters: self.parameters(),
            seconds,
            id: format!("request-{seconds}"),
        }
    }

    fn is_permitted(&self, policies: &Policies) -> bool {
        let mut what = request(ROUTES[self.route].1, &self.method, &[]);
        what.path = self.path.clone().into_bytes();
        what.parameters = self.parameters();
        would_permit(policies, &self.who, &circumstances(), &what)
    }

    /// Everything that a policy may not leave open: the roles that say who it is, or the name;
    /// method; route; the segments of the path that are neither parameters nor numbers.
    fn class(&self) -> (BTreeSet<String>, &str, usize, Vec<String>) {
        let roles: BTreeSet<String> = match (self.who.id.as_str(), self.who.kind) {
            (_, PrincipalKind::User) if self.who.id == "bob" || !self.who.roles.is_empty() => {
                let given = self.who.roles.iter().map(String::as_str);
                let given = given.chain((self.who.id == "bob").then_some("merchant"));
                given
                    .flat_map(|role| match role {
                        "admin" => vec!["admin", "merchant", "customer"],
                        "merchant" => vec!["merchant", "customer"],
                        other => vec![other],
                    })
                    .map(|role| format!("role {role}"))
                    .collect()
            }
            (id, kind) => BTreeSet::from([format!("{kind:?} {id}")]),
        };
        let pattern: Vec<&str> = ROUTES[self.route].2.split('/').collect();
        let segments = self.path.split('/').enumerate();
        let path = segments.map(|(place, segment)| segment_class(&pattern, place, segment)).collect();
        (roles, &self.method, self.route, path)
    }

    fn was_seen(&self, seen: &[Self]) -> bool {
        let (who, method, route, path) = self.class();
        seen.iter().any(|other| {
            let of = other.class();
            !of.0.is_disjoint(&who) && (of.1, of.2) == (method, route) && opens(&of.3, &path)
        })
    }
}

/// Whether a path that was seen stands for that one: where it has a parameter or a number, any
/// segment may be that is not empty.
fn opens(seen: &[String], path: &[String]) -> bool {
    let stands_for =
        |(seen, segment): (&String, &String)| seen == segment || (seen == "*" && !segment.is_empty());
    seen.len() == path.len() && seen.iter().zip(path).all(stands_for)
}

fn segment_class(pattern: &[&str], place: usize, segment: &str) -> String {
    let is_parameter = pattern.get(place).is_some_and(|part| part.starts_with('{'));
    let is_number = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    if is_parameter || is_number { "*" } else { segment }.to_owned()
}

fn callers() -> Vec<Principal> {
    vec![
        user("alice", &["customer"]),
        user("carol", &["customer", "auditor"]),
        user("dora", &["auditor"]),
        user("erin", &["admin"]),
        user("bob", &[]),
        user("nemo", &[]),
        user("nero", &[]),
        somebody(PrincipalKind::Service, "spiffe://shop.example/orders", &[]),
        somebody(PrincipalKind::Service, "spiffe://shop.example/payments", &[]),
        somebody(PrincipalKind::ApiKey, "ci", &[]),
        Principal::anonymous(),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let segment = select(vec!["items", "pages", "1", "22", "new*", "a\"b"]);
    let rest = proptest::collection::vec(segment, 0..4);
    let methods = select(vec!["GET", "POST", "PUT", "BREW", "STEW"]);
    (select(callers()), methods, 0..3usize, select(vec!["alice", "bob", "7"]), rest).prop_map(
        |(who, method, route, word, rest)| {
            let path = match route {
                0 => format!("/orders/{word}/{}", rest.len()),
                1 => format!("/refunds/{word}"),
                _ => format!("/catalogue/{}", rest.join("/")),
            };
            Asked { who, method: method.to_owned(), route, path }
        },
    )
}

fn suggest(seen: &[Asked]) -> Vec<Suggestion> {
    let vocabulary = vocabulary();
    let mut suggester = Suggester::new(&vocabulary, forms(), false);
    for (number, asked) in (1_000..).zip(seen) {
        assert!(suggester.see(asked.call(number)).unwrap());
    }
    suggester.suggestions()
}

fn loaded(suggestions: &[Suggestion]) -> Policies {
    load(&suggestions.iter().map(|one| one.text.as_str()).collect::<Vec<_>>().join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 64, ..ProptestConfig::default() })]

    /// What was seen is allowed; a call that differs in one thing from one that was seen, and
    /// is none that was seen, is denied.
    #[test]
    fn what_was_seen_is_allowed_and_a_mutated_call_is_denied(
        seen in proptest::collection::vec(asked(), 1..12),
        others in proptest::collection::vec(asked(), 12),
    ) {
        let policies = loaded(&suggest(&seen));
        for asked in &seen {
            prop_assert!(asked.is_permitted(&policies), "{asked:?}");
        }
        for (asked, other) in seen.iter().cycle().zip(&others) {
            let mutants = [
                Asked { who: other.who.clone(), ..asked.clone() },
                Asked { method: other.method.clone(), ..asked.clone() },
                Asked { route: other.route, path: other.path.clone(), ..asked.clone() },
                Asked { path: format!("{}/more", asked.path), ..asked.clone() },
                Asked { path: format!("{}x", asked.path), ..asked.clone() },
                Asked { path: format!("{}/", asked.path), ..asked.clone() },
                Asked { path: format!("{}//", asked.path), ..asked.clone() },
                other.clone(),
            ];
            for mutant in mutants {
                // Paths that the router would not bring to this route decide nothing.
                let arrives = mutant.route == 2 || mutant.path.split('/').count() == ROUTES[mutant.route].2.split('/').count();
                if arrives && !mutant.was_seen(&seen) {
                    prop_assert!(!mutant.is_permitted(&policies), "{mutant:?} after {seen:?}");
                }
            }
        }
    }
}

fn one(who: &Principal, method: &str, route: usize, path: &str) -> Asked {
    Asked { who: who.clone(), method: method.to_owned(), route, path: path.to_owned() }
}

#[test]
fn a_suggestion_is_explained_by_its_evidence() {
    let (alice, carol) = (user("alice", &["customer"]), user("carol", &["customer", "auditor"]));
    let seen = [
        one(&alice, "GET", 0, "/orders/alice/1"),
        one(&alice, "GET", 0, "/orders/alice/2"),
        one(&carol, "GET", 0, "/orders/carol/3"),
        one(&alice, "GET", 0, "/orders/alice/1"),
    ];
    let suggestions = suggest(&seen);
    assert_eq!(suggestions.len(), 1, "{suggestions:#?}");
    let one_policy = &suggestions[0];
    assert_eq!(
        one_policy.text,
        "@id(\"suggested 1: customer GET orders\")\npermit (principal is User in Role::\"customer\", \
         action == Action::\"GET\", resource == Route::\"orders\")\nwhen { resource.params has \"owner\" && \
         resource.params[\"owner\"] == principal.id };"
    );
    assert_eq!(one_policy.generalised, ["everybody in role \"customer\"", "every id"]);
    let evidence = &one_policy.evidence;
    assert_eq!((evidence.count, evidence.first, evidence.last, evidence.callers), (4, 1_000, 1_003, 2));
    assert_eq!(evidence.requests, ["request-1000", "request-1001", "request-1002"]);
    // Only the own orders were seen: another's is none of them.
    let policies = loaded(&suggestions);
    assert!(one(&alice, "GET", 0, "/orders/alice/9").is_permitted(&policies));
    assert!(!one(&alice, "GET", 0, "/orders/carol/9").is_permitted(&policies));
    // One call for another lifts that.
    let wider = [seen.as_slice(), &[one(&carol, "GET", 0, "/orders/alice/1")]].concat();
    assert!(one(&alice, "GET", 0, "/orders/carol/9").is_permitted(&loaded(&suggest(&wider))));
}

#[test]
fn a_path_that_reads_like_the_pattern_opens_no_other() {
    let alice = user("alice", &["customer"]);
    let policies = loaded(&suggest(&[one(&alice, "GET", 2, "/catalogue/**")]));
    assert!(one(&alice, "GET", 2, "/catalogue/**").is_permitted(&policies));
    assert!(!one(&alice, "GET", 2, "/catalogue/secret").is_permitted(&policies));
}

#[test]
fn a_path_of_many_segments_leaves_the_policies_readable() {
    let alice = user("alice", &["customer"]);
    let path = |last: &str| format!("/catalogue{}/{last}", "/1".repeat(500));
    for (seen, other) in [("2", ""), ("pages", "items"), ("", "2")] {
        let policies = loaded(&suggest(&[one(&alice, "GET", 2, &path(seen))]));
        assert!(one(&alice, "GET", 2, &path(seen)).is_permitted(&policies), "{seen}");
        let without = path(seen).replacen("/1/1", "//1", 1);
        for denied in [path(other), format!("{}/x", path(seen)), without] {
            assert!(!one(&alice, "GET", 2, &denied).is_permitted(&policies), "{denied}");
        }
    }
}

#[test]
fn people_are_named_when_that_is_asked_for_and_routes_that_need_no_policy_get_none() {
    let vocabulary = vocabulary();
    let mut suggester = Suggester::new(&vocabulary, forms(), true);
    let alice = user("alice", &["customer"]);
    assert!(suggester.see(one(&alice, "GET", 0, "/orders/alice/1").call(1)).unwrap());
    let open = Call { route: "status".into(), ..one(&alice, "GET", 0, "/x").call(2) };
    assert!(!suggester.see(open).unwrap());
    let gone = Call { route: "gone".into(), ..one(&alice, "GET", 0, "/x").call(3) };
    assert_eq!(suggester.see(gone), Err(Unsuggestible::Route("gone".into())));
    let policies = loaded(&suggester.suggestions());
    assert!(one(&alice, "GET", 0, "/orders/alice/1").is_permitted(&policies));
    assert!(!one(&user("anna", &["customer"]), "GET", 0, "/orders/anna/1").is_permitted(&policies));
}

#[test]
fn services_of_the_mesh_are_named_by_service() {
    let vocabulary = vocabulary();
    let form = Form { pattern: "/**".into(), by_service: true };
    let mut suggester = Suggester::new(&vocabulary, BTreeMap::from([("refunds".into(), form)]), false);
    let orders = somebody(PrincipalKind::Service, "spiffe://shop.example/orders", &[]);
    suggester.see(one(&orders, "POST", 1, "/charges/17/refund").call(1)).unwrap();
    let suggestions = suggester.suggestions();
    let text = &suggestions[0].text;
    assert!(text.contains("resource)\nwhen { resource.service == \"payments\" && "), "{text}");
    assert!(!text.contains("Route::"), "{text}");
    let policies = loaded(&suggestions);
    for (path, allowed) in [
        ("/charges/18/refund", true),
        ("/charges/18/other/refund", false),
        ("/charges//refund", false),
        ("/charges/18", false),
        ("/charges/18/refund/", false),
    ] {
        assert_eq!(one(&orders, "POST", 1, path).is_permitted(&policies), allowed, "{path}");
    }
}

#[test]
fn opaque_connections_are_permitted_as_such_and_nothing_else_is() {
    let vocabulary = vocabulary();
    let form = |by_service| Form { pattern: "/**".into(), by_service };
    for by_service in [true, false] {
        let forms = BTreeMap::from([("refunds".into(), form(by_service))]);
        let mut suggester = Suggester::new(&vocabulary, forms, false);
        let orders = somebody(PrincipalKind::Service, "spiffe://shop.example/orders", &[]);
        suggester.see(one(&orders, "CONNECT", 1, "/").call(1)).unwrap();
        let suggestions = suggester.suggestions();
        let policies = loaded(&suggestions);
        let text = &suggestions[0].text;
        assert!(one(&orders, "CONNECT", 1, "/").is_permitted(&policies), "{text}");
        assert!(!one(&orders, "GET", 1, "/").is_permitted(&policies), "{text}");
        let payments = somebody(PrincipalKind::Service, "spiffe://shop.example/payments", &[]);
        assert!(!one(&payments, "CONNECT", 1, "/").is_permitted(&policies), "{text}");
    }
}

#[test]
fn calls_for_nobody_are_permitted_for_nobody() {
    let vocabulary = vocabulary();
    let form = Form { pattern: "/**".into(), by_service: true };
    let mut suggester = Suggester::new(&vocabulary, BTreeMap::from([("refunds".into(), form)]), false);
    let orders = somebody(PrincipalKind::Service, "spiffe://shop.example/orders", &[]);
    suggester.see(Call { for_nobody: true, ..one(&orders, "POST", 1, "/charges").call(1) }).unwrap();
    let policies = loaded(&suggester.suggestions());
    let call = one(&orders, "POST", 1, "/charges");
    assert!(call.is_permitted(&policies));
    let around = policy::Circumstances {
        user: Some(std::sync::Arc::new(user("dora", &["auditor"]))),
        ..circumstances()
    };
    let mut what = request(REFUNDS, "POST", &[]);
    what.path = b"/charges".to_vec();
    assert!(!would_permit(&policies, &orders, &around, &what));
}

#[test]
fn calls_for_end_users_keep_the_kind_and_the_role_that_all_had() {
    let vocabulary = vocabulary();
    let form = Form { pattern: "/**".into(), by_service: true };
    let mut suggester = Suggester::new(&vocabulary, BTreeMap::from([("refunds".into(), form)]), false);
    let orders = somebody(PrincipalKind::Service, "spiffe://shop.example/orders", &[]);
    for (second, roles) in [(1, vec!["customer"]), (2, vec!["customer", "merchant"])] {
        let roles = roles.into_iter().map(str::to_owned).collect();
        let user = Some(Caller { kind: PrincipalKind::User, id: String::new(), roles });
        suggester.see(Call { user, ..one(&orders, "POST", 1, "/charges").call(second) }).unwrap();
    }
    let suggestions = suggester.suggestions();
    assert_eq!(suggestions.len(), 1);
    let policies = loaded(&suggestions);
    let ask = |user: Option<Principal>| {
        let mut what = request(REFUNDS, "POST", &[]);
        what.path = b"/charges".to_vec();
        let around = policy::Circumstances { user: user.map(std::sync::Arc::new), ..circumstances() };
        would_permit(&policies, &orders, &around, &what)
    };
    assert!(ask(Some(user("erin", &["customer"]))));
    assert!(!ask(Some(user("dora", &["auditor"]))));
    assert!(!ask(None));
    let client = somebody(PrincipalKind::Client, "batch", &["customer"]);
    assert!(!ask(Some(client)));
}
