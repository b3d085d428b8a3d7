//! What somebody could do, against what the decision says of many requests.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use model::PrincipalKind;
use policy::Policies;
use policy::reach::{Certainty, Reach, Somebody, reach};
use proptest::prelude::*;
use testbed::random::{policies, requests};
use testbed::*;

fn whole(principal: model::Principal) -> Somebody {
    Somebody { principal, is_whole: true, tls_version: Some("1.3"), certificate: None }
}

fn orders() -> Somebody {
    let mut who = somebody(PrincipalKind::Service, "spiffe://shop.example/orders", &[]);
    who.issuer = None;
    who.credential = model::Credential::Certificate;
    who.spiffe_id = who.id.parse().ok();
    Somebody { certificate: Some(true), ..whole(who) }
}

fn said(reaches: &[Reach]) -> Vec<String> {
    let conditions = |reach: &Reach| {
        let of = |grants: &[policy::reach::Grant]| {
            let all = grants.iter().map(|grant| format!("{}{:?}", grant.policy, grant.conditions));
            all.collect::<Vec<_>>().join(" ")
        };
        format!("{:?} {} unless {}", reach.certainty, of(&reach.by), of(&reach.unless))
    };
    reaches
        .iter()
        .filter(|reach| !["status", "profile"].contains(&reach.route.as_str()))
        .map(|reach| format!("{} {} {}", reach.method, reach.route, conditions(reach)))
        .collect()
}

#[test]
fn what_is_known_is_settled_and_what_is_open_is_named() {
    let policies = load(
        r#"
        @id("pay") permit (principal == Service::"spiffe://shop.example/orders", action == Action::"POST", resource)
        when { resource.service == "payments" && context.path like "/refunds/*" };
        @id("look") permit (principal is Service, action == Action::"GET", resource == Route::"orders")
        when { context.tls && context.credential == "mtls" && context has certificate.spiffe_id };
        @id("others") permit (principal, action, resource == Route::"catalogue")
        when { principal.id == "spiffe://shop.example/payments" || principal in Role::"customer" };
        @id("night") forbid (principal, action == Action::"GET", resource) when { context.hour < 6 };
        "#,
    );
    assert_eq!(
        said(&reach(&policies, &orders())),
        [
            r#"GET orders When look[] unless night["context.hour < 6"]"#,
            r#"POST refunds When pay["context.path like \"/refunds/*\""] unless "#,
        ]
    );
    let paying = Somebody {
        principal: model::Principal { id: "spiffe://shop.example/payments".into(), ..orders().principal },
        ..orders()
    };
    let found = said(&reach(&policies, &paying));
    assert!(found.iter().any(|line| line == "DELETE catalogue Always others[] unless "), "{found:?}");
    // A role: who holds it is open, but is nobody whom policies name.
    let customer = Somebody { is_whole: false, ..whole(user("somebody", &["customer"])) };
    assert!(said(&reach(&policies, &customer)).iter().all(|line| line.contains("catalogue")));
    // Nor on the machine itself, as the administration asks it of those who need no role.
    let policies = load(
        r#"
        @id("here") permit (principal, action == Action::"GET", resource == Route::"orders")
        when { context.credential == "local" };
        @id("there") permit (principal, action == Action::"GET", resource == Route::"catalogue")
        when { !("local" == context.credential) && context.credential == "mtls" };
        "#,
    );
    assert_eq!(
        said(&reach(&policies, &customer)),
        [r#"GET catalogue When there["context.credential == \"mtls\""] unless "#]
    );
    let mut owner = customer.clone();
    owner.principal.credential = model::Credential::Local;
    assert_eq!(
        said(&reach(&policies, &owner))[0],
        r#"GET orders When here["context.credential == \"local\""] unless "#
    );
}

#[test]
fn a_tighter_policy_reaches_less() {
    let wide = load(r#"permit (principal is Service, action, resource);"#);
    let tight =
        load(r#"permit (principal is Service, action, resource) when { resource.service == "payments" };"#);
    let (wide, tight) = (reach(&wide, &orders()), reach(&tight, &orders()));
    assert!(tight.len() < wide.len());
    assert!(tight.iter().all(|of| of.service == "payments" || of.by.is_empty()), "{tight:?}");
}

fn method_of<'p>(policies: &'p Policies, method: &'p str) -> &'p str {
    let schema = policy::schema_text(policies.vocabulary());
    if schema.contains(&format!("{method:?}")) { method } else { "other" }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 64, ..ProptestConfig::default() })]

    /// Whoever may is in the answer; whom the answer is sure of may.
    #[test]
    fn nothing_that_is_permitted_is_missing_and_nothing_that_is_sure_is_denied(
        text in policies(), asked in proptest::collection::vec(requests(), 40),
    ) {
        let Ok(policies) = policy::load(vocabulary(), &source(&text), 1) else { return Ok(()) };
        for (who, around, mut what) in asked {
            let somebody = Somebody {
                principal: who.clone(),
                is_whole: true,
                tls_version: around.tls_version,
                certificate: None,
            };
            let route = &policies.vocabulary().routes[what.route];
            // What the router would not bring here.
            if !route.methods.contains(&what.method) {
                what.method = "GET".into();
            }
            // What cannot be read denies whatever is sure otherwise.
            let readable = what.headers.iter().all(|(_, value)| value.is_ascii());
            let found = reach(&policies, &somebody).into_iter().find(|reach| {
                reach.route == route.name && reach.method == method_of(&policies, &what.method)
            });
            let known = found.as_ref().map(|reach| reach.certainty);
            let permitted = decide(&policies, &who, &around, what).is_ok();
            prop_assert!(!permitted || found.is_some(), "{who:?} {text}");
            if known == Some(Certainty::Always) && readable {
                prop_assert!(permitted, "{found:?} {who:?} {text}");
            }
            let role = Somebody { is_whole: false, ..somebody.clone() };
            let open = reach(&policies, &role).len();
            prop_assert!(open >= reach(&policies, &somebody).len(), "what is known less can do more");
        }
    }
}

#[test]
fn who_proves_nothing_reaches_no_route_that_asks_for_a_proof_whatever_is_permitted() {
    let policies = load(r#"@id("all") permit (principal, action, resource);"#);
    let reaches = |kind| {
        let found = reach(&policies, &whole(somebody(kind, "somebody", &[])));
        ["status", "catalogue", "profile"].map(|route| found.iter().any(|reach| reach.route == route))
    };
    assert_eq!(reaches(PrincipalKind::User), [true; 3]);
    assert_eq!(reaches(PrincipalKind::Anonymous), [true, true, false]);
}
