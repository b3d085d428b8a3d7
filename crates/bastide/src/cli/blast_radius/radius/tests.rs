//! Blast radii of a small test bed, against a question for every request that could be thought of.

use std::path::Path;

use policy::testing::{What, Who};

use super::*;
use crate::config::{self, Disk};

const TESTBED: &str = "\
mesh:
  trust_domain: shop.example
  socket: api.sock
  services: { orders: 127.0.0.1:7001, payments: 127.0.0.1:7002, catalogue: 127.0.0.1:7003 }
roles: { customer: {}, merchant: { includes: [ customer ] } }
policies: mesh.cedar
";

const GATEWAY_FILE: &str = "\
include: mesh.yaml
listen: [ { address: 127.0.0.1:0, tls: { mesh: true } }, 127.0.0.1:0 ]
authentication: { api_keys: keys.json }
policies: gate.cedar
routes:
  - { name: products, match: GET shop.example/products/**, to: catalogue, authenticate: none, allow: anyone }
  - { name: orders, match: \"GET,POST shop.example/orders/{owner}/**\", to: orders, authenticate: api_key }
  - { name: refunds, match: POST shop.example/refunds, to: payments, authenticate: api_key }
  - { name: stock, match: GET shop.example/stock, to: catalogue, authenticate: mtls }
";

const MESH: &str = r#"
@id("gateway calls") permit (principal == Service::"spiffe://shop.example/gateway", action in [Action::"GET", Action::"POST"], resource)
when { ["orders", "catalogue"].contains(resource.service) };
@id("orders pays") permit (principal == Service::"spiffe://shop.example/orders", action == Action::"POST", resource)
when { resource.service == "payments" && context.path like "/charges*" };
@id("payments looks") permit (principal == Service::"spiffe://shop.example/payments", action in Action::"read", resource)
when { resource.service == "catalogue" };
@id("nights") forbid (principal, action == Action::"HEAD", resource) when { resource.service == "catalogue" && context.hour < 6 };
"#;

const GATE: &str = r#"
@id("own orders") permit (principal in Role::"customer", action, resource == Route::"orders")
when { resource.params has owner && resource.params.owner == principal.id };
@id("refunds") permit (principal in Role::"merchant", action, resource == Route::"refunds");
@id("stock") permit (principal == Service::"spiffe://shop.example/orders", action, resource == Route::"stock");
"#;

fn testbed(at: &Path, mesh: &str) -> Deployment {
    for (name, text) in
        [("mesh.yaml", TESTBED), ("bastide.yaml", GATEWAY_FILE), ("mesh.cedar", mesh), ("gate.cedar", GATE)]
    {
        std::fs::write(at.join(name), text).unwrap();
    }
    let gateway = config::load(&at.join("bastide.yaml"), &|_| None, &Disk);
    let gateway = gateway.unwrap_or_else(|faults| panic!("{faults:#?}"));
    let mut points = vec![EnforcementPoint::gateway(&gateway).unwrap()];
    let mut services = Vec::new();
    for name in ["orders", "payments", "catalogue"] {
        let of = crate::process::run::configuration(name, &at.join("mesh.yaml")).unwrap();
        points.push(
            EnforcementPoint::service(name, &of.unwrap_or_else(|faults| panic!("{faults:#?}"))).unwrap(),
        );
        services.push((name.to_owned(), id(name)));
    }
    Deployment { points, services, gateway: Some(id("gateway")) }
}

fn id(name: &str) -> SpiffeId {
    format!("spiffe://shop.example/{name}").parse().unwrap()
}

fn lines(radius: &Radius) -> Vec<String> {
    let one = |reached: &Reached| {
        let Reached { from, depth, point, reach } = reached;
        format!("{depth} {from}: {} {point}/{} {:?}", reach.method, reach.route, reach.certainty)
    };
    radius.reached.iter().map(one).collect()
}

#[test]
fn a_service_reaches_what_it_may_call_and_what_those_may_call() {
    let folder = tempfile::tempdir().unwrap();
    let testbed = testbed(folder.path(), MESH);
    let radius = testbed.radius(&Intruder::service("orders", id("orders")));
    assert_eq!(
        lines(&radius),
        [
            "0 service orders (spiffe://shop.example/orders): GET gateway/stock Always",
            "0 service orders (spiffe://shop.example/orders): POST payments/payments When",
            // The gateway and the services share these policies, so they hold there too.
            "1 payments: GET gateway/stock Always",
            "1 payments: GET catalogue/catalogue Always",
            "1 payments: HEAD catalogue/catalogue When",
            "1 payments: OPTIONS catalogue/catalogue Always",
        ]
    );
    assert_eq!(radius.services, ["catalogue", "payments"]);
    let pays = &radius.reached[1].reach.by[0];
    assert_eq!(
        (pays.policy.as_str(), pays.conditions.as_slice()),
        ("orders pays", &["context.path like \"/charges*\"".to_owned()][..])
    );
    assert!(testbed.radius(&Intruder::service("catalogue", id("catalogue"))).is_empty());
}

#[test]
fn a_role_reaches_through_the_gateway_as_far_as_the_gateway_is_let() {
    let folder = tempfile::tempdir().unwrap();
    let testbed = testbed(folder.path(), MESH);
    let merchant = Principal {
        kind: PrincipalKind::User,
        id: "whoever".into(),
        roles: vec!["merchant".into()],
        credential: Credential::Jwt,
        ..Principal::anonymous()
    };
    let radius = testbed.radius(&Intruder::role("merchant", merchant.clone()));
    // Refunds are permitted at the gateway, but payments lets the gateway not in.
    assert_eq!(
        lines(&radius)[..2],
        ["0 role merchant: GET gateway/orders When", "0 role merchant: POST gateway/orders When"]
    );
    assert!(radius.reached.iter().all(|reached| reached.reach.route != "refunds"), "{:?}", lines(&radius));
    assert_eq!(radius.services[0], "orders");
    assert_eq!(radius.reached[2].from, "orders");
    // A token of a customer that is only a token is not asked for here.
    let token = testbed.radius(&Intruder::token(merchant));
    assert!(token.is_empty(), "{:?}", lines(&token));
}

#[test]
fn a_tighter_policy_shrinks_it() {
    let folder = tempfile::tempdir().unwrap();
    let who = Intruder::service("orders", id("orders"));
    let before = testbed(folder.path(), MESH).radius(&who);
    let tight = MESH.replace("context.path like \"/charges*\"", "false");
    let after = testbed(folder.path(), &tight).radius(&who);
    assert_eq!(lines(&after), ["0 service orders (spiffe://shop.example/orders): GET gateway/stock Always"]);
    assert!(after.reached.len() < before.reached.len());
}

/// Asks the points about every request that could be thought of.
#[test]
fn it_is_what_asking_about_every_request_says() {
    let folder = tempfile::tempdir().unwrap();
    let testbed = testbed(folder.path(), MESH);
    for caller in ["orders", "payments", "catalogue", "gateway", "stranger"] {
        let who = Intruder::service(caller, id(caller));
        for point in testbed.points.iter().filter(|point| point.proofs.is_none()) {
            let radius: BTreeSet<(String, bool)> = point
                .reach(&who)
                .into_iter()
                .map(|reach| (reach.method, reach.certainty == Certainty::Always))
                .collect();
            let mut asked = BTreeSet::new();
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "BREW"] {
                let all = answers(point, &who, method);
                if all.iter().any(|permitted| *permitted) {
                    let action = if method == "BREW" { "other" } else { method };
                    asked.insert((action.to_owned(), all.iter().all(|permitted| *permitted)));
                }
            }
            assert_eq!(radius, asked, "{caller} at {}", point.name);
        }
    }
}

/// What a point says to a method, for several paths, hours, addresses and end users.
fn answers(point: &EnforcementPoint, who: &Intruder, method: &str) -> Vec<bool> {
    let mut answers = Vec::new();
    for path in ["/", "/charges", "/charges/17", "/refunds", "/products/1"] {
        for hour in [3, 12] {
            for user in [None, Some("User:alice")] {
                let what = What {
                    method: Some(method.to_owned()),
                    route: Some(point.name.clone()),
                    host: Some("any.example".to_owned()),
                    path: Some(path.to_owned()),
                    time: Some(format!("2026-11-23T{hour:02}:30:00Z")),
                    user: user.map(|user| Who::Short(user.to_owned())),
                    ..What::default()
                };
                let (around, request) =
                    what.request(&point.policies, &|_| Err("it is named".to_owned())).unwrap();
                answers.push(policy::would_permit(&point.policies, &who.principal, &around, &request));
            }
        }
    }
    answers
}
