//! Properties over generated policies and requests: slicing and our reading of scopes
//! equal Cedar's own authorizer over the whole set, deny dominates, reading never
//! panics.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use std::collections::{HashMap, HashSet};

use cedar_policy_core::ast::{
    Context, Entity, EntityUID, Request as CedarRequest, RequestSchemaAllPass, RestrictedExpr,
};
use cedar_policy_core::authorizer::{Authorizer, Decision};
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::extensions::Extensions;
use model::{Principal, PrincipalKind, Timestamp};
use policy::{Circumstances, Reason};
use proptest::prelude::*;
use proptest::sample::select;
use testbed::*;

const PRINCIPALS: [&str; 10] = [
    "principal",
    "principal is User",
    "principal is ApiKey",
    "principal == User::\"alice\"",
    "principal in User::\"alice\"",
    "principal in Role::\"customer\"",
    "principal in Role::\"admin\"",
    "principal is User in Role::\"merchant\"",
    "principal is ApiKey in Role::\"admin\"",
    "principal is User in User::\"alice\"",
];
const ACTIONS: [&str; 5] = [
    "action",
    "action == Action::\"GET\"",
    "action in Action::\"read\"",
    "action in [Action::\"POST\", Action::\"GET\"]",
    "action in [Action::\"write\", Action::\"HEAD\"]",
];
const RESOURCES: [&str; 5] = [
    "resource",
    "resource is Route",
    "resource == Route::\"orders\"",
    "resource in Route::\"catalogue\"",
    "resource is Route in Route::\"orders\"",
];
const CONDITIONS: [&str; 14] = [
    "true",
    "context.hour < 12",
    "context.hour + 9223372036854775800 > 0",
    "principal in Role::\"merchant\"",
    "principal in [Role::\"auditor\", Role::\"customer\"]",
    "principal == User::\"alice\"",
    "principal is ApiKey",
    "resource.params has owner && resource.params.owner == principal.id",
    "resource.service == \"orders\"",
    "action in Action::\"write\"",
    "context.scopes.contains(\"x\")",
    "context.headers has \"x-tenant\" && context.headers[\"x-tenant\"] == [\"a\"]",
    "if context.hour == 3 then principal has acr else context.tls",
    "context has acr && context.acr like \"s*\"",
];

#[derive(Clone, Debug)]
struct Asked {
    who: Principal,
    hour: u64,
    tls: bool,
    what: Request,
}

fn condition() -> impl Strategy<Value = String> {
    let leaf = select(CONDITIONS.as_slice()).prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) && ({b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) || ({b}))")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

fn policy(effects: &'static [&'static str]) -> impl Strategy<Value = String> {
    (
        select(effects),
        select(PRINCIPALS.as_slice()),
        select(ACTIONS.as_slice()),
        select(RESOURCES.as_slice()),
        prop::collection::vec((select(["when", "unless"].as_slice()), condition()), 0..3),
    )
        .prop_map(|(effect, principal, action, resource, conditions)| {
            let conditions = conditions.iter().map(|(word, text)| format!(" {word} {{ {text} }}"));
            format!("{effect}({principal}, {action}, {resource}){};\n", conditions.collect::<String>())
        })
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        select([PrincipalKind::User, PrincipalKind::ApiKey, PrincipalKind::Anonymous].as_slice()),
        select(["alice", "bob", "ci"].as_slice()),
        prop::sample::subsequence(["customer", "merchant", "admin", "auditor", "root"].to_vec(), 0..3),
        prop::option::of(select(["strong", "weak"].as_slice())),
        (0..24_u64, any::<bool>(), any::<bool>()),
        select([ORDERS, CATALOGUE].as_slice()),
        select(["GET", "HEAD", "POST", "DELETE", "PURGE"].as_slice()),
        prop::option::of(select(["alice", "bob"].as_slice())),
        prop::collection::vec(select(["a", "b"].as_slice()), 0..3),
    )
        .prop_map(|(kind, id, roles, acr, (hour, tls, scoped), route, method, owner, tenants)| {
            let mut who = if kind == PrincipalKind::Anonymous {
                Principal::anonymous()
            } else {
                somebody(kind, id, &roles)
            };
            who.acr = acr.map(Into::into);
            who.scopes = if scoped { vec!["x".into()] } else { Vec::new() };
            let owner = owner.filter(|_| route == ORDERS);
            let parameters: Vec<(&str, &str)> = owner.map(|owner| ("owner", owner)).into_iter().collect();
            let headers: Vec<(&str, &str)> = tenants.iter().map(|tenant| ("x-tenant", *tenant)).collect();
            Asked { who, hour, tls, what: with_headers(request(route, method, &parameters), &headers) }
        })
}

impl Asked {
    fn around(&self) -> Circumstances {
        Circumstances {
            now: Timestamp::from_unix_seconds(self.hour * 3600),
            tls_version: self.tls.then_some("1.3"),
            ..circumstances()
        }
    }
}

/// What Cedar's authorizer says over the whole set and the whole entity store: allowed,
/// and whether a policy erred. Built from its own reading of the same facts.
fn oracle(text: &str, asked: &Asked) -> (bool, bool) {
    let extensions = Extensions::all_available();
    let uid = |ty: &str, id: &str| EntityUID::with_eid_and_type(ty, id).unwrap();
    let string = |text: &str| RestrictedExpr::val(text);
    let set =
        |texts: &[String]| RestrictedExpr::set(texts.iter().map(|text| RestrictedExpr::val(text.as_str())));
    let entity = |uid: EntityUID, attrs: Vec<(&str, RestrictedExpr)>, parents: Vec<EntityUID>| {
        let attrs = attrs.into_iter().map(|(name, value)| (name.into(), value));
        Entity::new(uid, attrs, HashSet::new(), parents.into_iter().collect(), [], extensions).unwrap()
    };
    let vocabulary = vocabulary();
    let who = &asked.who;
    let mut roles: Vec<EntityUID> = Vec::new();
    if who.kind != PrincipalKind::Anonymous {
        for role in &vocabulary.roles {
            let member = role.members.iter().any(|m| m.kind == who.kind && m.id == who.id);
            if member || who.roles.contains(&role.name) {
                roles.push(uid("Role", &role.name));
            }
        }
    }
    let empty = || RestrictedExpr::record([]).unwrap();
    let mut principal = vec![("id", string(&who.id)), ("scopes", set(&who.scopes)), ("claims", empty())];
    principal.extend(who.acr.as_deref().map(|acr| ("acr", string(acr))));
    let route = &vocabulary.routes[asked.what.route];
    let parameters = asked.what.parameters.iter().map(|(name, value)| (name.as_str().into(), string(value)));
    let resource =
        vec![("service", string(&route.service)), ("params", RestrictedExpr::record(parameters).unwrap())];
    let (group, action) = match asked.what.method.as_str() {
        method @ ("GET" | "HEAD") => ("read", method),
        method @ ("POST" | "DELETE") => ("write", method),
        _ => ("write", "other"),
    };
    let (me, act, thing) = (uid(who.kind.name(), &who.id), uid("Action", action), uid("Route", &route.name));
    let mut entities = vec![
        entity(me.clone(), principal, roles),
        entity(thing.clone(), resource, vec![]),
        entity(act.clone(), vec![], vec![uid("Action", group)]),
    ];
    for role in &vocabulary.roles {
        let parents = role.includes.iter().map(|name| uid("Role", name)).collect();
        entities.push(entity(uid("Role", &role.name), vec![], parents));
    }
    let entities =
        Entities::from_entities(entities, None::<&NoEntitiesSchema>, TCComputation::ComputeNow, extensions)
            .unwrap();

    let mut by_name: HashMap<&str, Vec<String>> = HashMap::new();
    for (name, value) in &asked.what.headers {
        by_name.entry(name).or_default().push(String::from_utf8(value.clone()).unwrap());
    }
    let headers = by_name.iter().map(|(name, values)| ((*name).into(), set(values)));
    let mut context = vec![
        ("hour", RestrictedExpr::val(i64::try_from(asked.hour).unwrap())),
        ("tls", RestrictedExpr::val(asked.tls)),
        ("scopes", set(&who.scopes)),
        ("headers", RestrictedExpr::record(headers).unwrap()),
    ];
    context.extend(who.acr.as_deref().map(|acr| ("acr", string(acr))));
    let context =
        RestrictedExpr::record(context.into_iter().map(|(name, value)| (name.into(), value))).unwrap();
    let context = Context::from_expr(context.as_borrowed(), extensions).unwrap();
    let request = CedarRequest::new(
        (me, None),
        (act, None),
        (thing, None),
        context,
        None::<&RequestSchemaAllPass>,
        extensions,
    )
    .unwrap();
    let set = cedar_policy_core::parser::parse_policyset(text).unwrap();
    let response = Authorizer::new().is_authorized(request, &set, &entities);
    (response.decision == Decision::Allow, !response.diagnostics.errors.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Slices, plain scopes, hoisted roles and sparse entities change nothing: the
    /// decision is Cedar's over the whole, except that an error denies.
    #[test]
    fn slicing_equals_the_whole_set(
        policies in prop::collection::vec(policy(&["permit", "permit", "forbid"]), 1..6),
        requests in prop::collection::vec(asked(), 8),
    ) {
        let text: String = policies.concat();
        let loaded = load(&text);
        for asked in &requests {
            let (allowed, erred) = oracle(&text, asked);
            let decision = decide(&loaded, &asked.who, &asked.around(), asked.what.clone());
            prop_assert_eq!(decision.is_ok(), allowed && !erred, "{}\n{:?}\n{:?}", text, asked, decision);
            if let Err(denied) = &decision && erred {
                let told = matches!(denied.reason(), Reason::Error { .. } | Reason::Forbidden(_));
                prop_assert!(told, "{}\n{:?}", text, denied.reason());
            }
            let explained = policy::explain_request(&loaded, &asked.who, &asked.around(), &asked.what);
            prop_assert_eq!(explained.allowed, decision.is_ok());
            let record = match &decision {
                Ok(permit) => permit.record(&loaded),
                Err(denied) => denied.record(&loaded),
            };
            let replayed = policy::explain_record(&loaded, &record).unwrap();
            prop_assert_eq!(replayed.to_string(), explained.to_string());
        }
    }

    /// Whatever is added as a forbid, nothing that was denied becomes allowed; and a
    /// forbid whose condition is true denies.
    #[test]
    fn deny_dominates(
        policies in prop::collection::vec(policy(&["permit", "permit", "forbid"]), 0..4),
        forbid in policy(&["forbid"]),
        requests in prop::collection::vec(asked(), 8),
    ) {
        let before = load(&policies.concat());
        let after = load(&(policies.concat() + &forbid));
        let closed = load(&(policies.concat() + "forbid(principal, action, resource);"));
        for asked in &requests {
            let old = decide(&before, &asked.who, &asked.around(), asked.what.clone());
            let new = decide(&after, &asked.who, &asked.around(), asked.what.clone());
            prop_assert!(old.is_ok() || new.is_err(), "{}{}{:?}", policies.concat(), forbid, asked);
            prop_assert!(decide(&closed, &asked.who, &asked.around(), asked.what.clone()).is_err());
        }
    }

    /// A policy that errs denies, whatever else there is.
    #[test]
    fn an_error_denies(
        policies in prop::collection::vec(policy(&["permit", "forbid"]), 0..4),
        effect in select(["permit", "forbid"].as_slice()),
        asked in asked(),
    ) {
        let broken = format!("{effect}(principal, action, resource) when {{ context.hour + 9223372036854775807 < 0 }};");
        let mut asked = asked;
        asked.hour = asked.hour.max(1);
        let loaded = load(&("permit(principal, action, resource);".to_owned() + &policies.concat() + &broken));
        prop_assert!(decide(&loaded, &asked.who, &asked.around(), asked.what.clone()).is_err());
    }

    /// Any text at all is read or refused.
    #[test]
    fn reading_never_panics(text in ".{0,200}") {
        policy::fuzz(text.as_bytes());
    }

    /// So is text that looks like policies.
    #[test]
    fn reading_policy_like_text_never_panics(
        parts in prop::collection::vec(select([
            "permit", "forbid", "(", ")", "{", "}", "[", "]", "principal", "action", "resource", "context", ",", ";",
            "when", "unless", "==", "in", "is", "has", "like", "&&", "||", "!", "-", "if", "then", "else", ".", "\"x\"",
            "\"", "User::\"a\"", "Role::", "::", "ip(\"1.1.1.1\")", ".isInRange", "9223372036854775808", "@id", "?principal",
            "params", "headers", "\\u{0}", "//", "\n", "é", "decimal", "datetime",
        ].as_slice()), 0..60),
    ) {
        policy::fuzz(parts.join(" ").as_bytes());
        policy::fuzz(format!("permit(principal, action, resource) when {{ {} }};", parts.join(" ")).as_bytes());
    }
}

/// The deepest and longest that the limits let through, on a stack as small as a
/// worker thread's.
#[test]
fn the_largest_allowed_policy_fits_a_small_stack() {
    let deep = policy::limits::NESTING_MAX - 1;
    let long = policy::limits::OPERATORS_MAX;
    let texts = [
        format!("{}context.tls{}", "(".repeat(deep), ")".repeat(deep)),
        format!("context.tls{}", " && context.tls".repeat((long - 3) / 3)),
        format!("context.tls{}", " || context.tls".repeat((long - 3) / 3)),
        format!("context.hour{} > 0", " + 1".repeat(long - 4)),
        format!("{}context.tls", "if context.tls then true else ".repeat((long - 3) / 4)),
        format!("context{}", ".a".repeat(long - 2)),
        format!("{}1{} == [1]", "[".repeat(deep), "]".repeat(deep)),
        format!("{}context.tls", "!".repeat(long - 3)),
        format!("context.tls{}", " == true".repeat((long - 3) / 2)),
    ];
    let run = move || {
        for text in texts {
            let text = format!("permit(principal, action, resource) when {{ {text} }};");
            policy::fuzz(text.as_bytes());
            if let Ok(policies) = policy::load(vocabulary(), &source(&text), 1) {
                let _ = decide(&policies, &user("x", &[]), &circumstances(), request(ORDERS, "GET", &[]));
                let _ = policy::explain_request(
                    &policies,
                    &user("x", &[]),
                    &circumstances(),
                    &request(ORDERS, "GET", &[]),
                );
            }
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}
