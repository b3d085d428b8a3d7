//! Random policies, people and requests.

use model::principal::Attribute;
use model::{Principal, PrincipalKind};
use policy::Circumstances;
use proptest::prelude::*;

use super::*;

const CONDITIONS: &[&str] = &[
    "",
    "when { context.hour >= 21 }",
    "when { context.weekday == 7 }",
    "when { context.address.isInRange(ip(\"10.0.0.0/8\")) }",
    "when { resource.params has owner && resource.params.owner == principal.id }",
    "unless { resource.params has id }",
    "when { principal.claims has level && principal.claims.level > 2 }",
    "when { context.claims has mfa && context.claims.mfa }",
    "when { context.headers has \"x-tenant\" && context.headers[\"x-tenant\"].contains(\"a\") }",
    "when { context has certificate }",
    "when { context has user }",
    "when { context has user && context.user.roles.contains(\"customer\") }",
    "unless { context has user.acr || context has user && context.user.kind == \"Client\" }",
    "when { context has certificate && context.certificate.dns_names.contains(\"orders.internal\") }",
    "when { principal in Role::\"merchant\" }",
    "unless { principal in Role::\"auditor\" || context.tls }",
    "when { principal.scopes.contains(\"orders\") }",
    "when { context.hour + 9223372036854775807 > 0 }",
    "when { resource.service == \"orders\" && context.method == \"GET\" }",
    "when { principal has issuer && principal.issuer == \"https://id.shop.example\" }",
];
const SCOPES: &[&str] = &[
    "principal, action, resource",
    "principal is User, action, resource",
    "principal in Role::\"customer\", action, resource == Route::\"orders\"",
    "principal == User::\"alice\", action in Action::\"read\", resource",
    "principal in Role::\"auditor\", action, resource",
];

pub fn policies() -> impl Strategy<Value = String> {
    let one = (any::<bool>(), 0..SCOPES.len(), 0..CONDITIONS.len()).prop_map(|(permit, scope, condition)| {
        let effect = if permit { "permit" } else { "forbid" };
        format!("{effect}({}) {};\n", SCOPES[scope], CONDITIONS[condition])
    });
    proptest::collection::vec(one, 0..5).prop_map(|all| all.concat())
}

pub fn person() -> impl Strategy<Value = Principal> {
    let kinds =
        prop_oneof![Just(PrincipalKind::User), Just(PrincipalKind::ApiKey), Just(PrincipalKind::Anonymous)];
    let roles = proptest::collection::vec(prop_oneof!["customer", "merchant", "auditor"], 0..3);
    (kinds, "alice|bob|ci", roles, 0i64..5, any::<bool>(), any::<bool>()).prop_map(
        |(kind, id, roles, level, mfa, scoped)| {
            let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
            let mut who = somebody(kind, &id, &roles);
            if level > 0 {
                who = claim(who, "level", Attribute::Long(level));
            }
            if mfa {
                who = claim(who, "mfa", Attribute::Boolean(level > 2));
            }
            if scoped {
                who.scopes.push("orders".into());
            }
            who
        },
    )
}

pub fn requests() -> impl Strategy<Value = (Principal, Circumstances, Request)> {
    let tenants = proptest::option::of(prop_oneof![Just(&b"a"[..]), Just(&b"\xff"[..])]);
    let owners = proptest::option::of("alice|bob");
    (person(), owners, tenants, any::<bool>(), "GET|POST|BREW", any::<bool>(), 0..3_u8).prop_map(
        |(who, owner, tenant, certified, method, inside, named)| {
            let roles = if named == 1 { &["customer"][..] } else { &[] };
            let around = Circumstances {
                address: if inside { "10.1.2.3" } else { "192.0.2.1" }.parse().unwrap(),
                certificate: certified.then(certificate),
                user: (named > 0).then(|| Arc::new(user("erin", roles))),
                ..circumstances()
            };
            let mut what = request(ORDERS, &method, &[]);
            what.parameters.extend(owner.map(|owner| ("owner".to_owned(), owner)));
            what.headers.extend(tenant.map(|tenant| ("x-tenant".to_owned(), tenant.to_vec())));
            (who, around, what)
        },
    )
}
