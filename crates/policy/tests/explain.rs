//! Explanations, live and from a record, and policy tests.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use model::{Principal, PrincipalKind, Timestamp};
use policy::testing::{Case, run, run_with};
use policy::{Circumstances, Policies, Unexplainable, explain_record, explain_request};
use testbed::*;

const SHOP: &str = r#"// The shop.
permit(principal in Role::"merchant", action, resource == Route::"refunds");

permit(principal is User, action == Action::"GET", resource == Route::"orders")
when {
    resource.params has owner &&
    resource.params.owner == principal.id
};

@id("office hours")
permit(principal in Role::"auditor", action in Action::"read", resource == Route::"orders")
when { context.weekday <= 5 && context.hour >= 9 && context.hour < 17 };

@id("strangers")
forbid(principal, action, resource == Route::"orders")
unless { context.address.isInRange(ip("10.0.0.0/8")) };
"#;

fn text(policies: &Policies, who: &Principal, around: &Circumstances, what: &Request) -> String {
    // The live explanation, the recorded one and the decision must say the same.
    let live = explain_request(policies, who, around, what);
    let (record, allowed) = match decide(policies, who, around, what.clone()) {
        Ok(permit) => (permit.record(policies), true),
        Err(denied) => (denied.record(policies), false),
    };
    assert_eq!(live.allowed, allowed);
    let kept = serde_json::to_string(&record).unwrap();
    let again =
        Policies::from_retained(&serde_json::from_str(&policies.to_retained().to_string()).unwrap()).unwrap();
    let recorded = explain_record(&again, &serde_json::from_str(&kept).unwrap()).unwrap();
    assert_eq!(recorded.to_string(), live.to_string());
    assert_eq!(serde_json::to_value(&recorded).unwrap(), serde_json::to_value(&live).unwrap());
    live.to_string()
}

#[test]
fn a_default_deny_names_the_first_false_condition_of_each_policy_and_what_it_saw() {
    let policies = load(SHOP);
    let what = request(ORDERS, "GET", &[("owner", "bob"), ("id", "7")]);
    let found = text(&policies, &user("alice", &["auditor"]), &circumstances(), &what);
    assert_eq!(
        found,
        r#"denied: no policy permits it
  who   User::"alice" (roles: auditor)
  what  GET on route "orders", policies of generation 7
  shop.cedar:14 (strangers) forbids when !(context.address.isInRange(ip("10.0.0.0/8"))): saw "10.1.2.3"
  shop.cedar:4 permits when resource.params.owner == principal.id: saw "bob" and "alice"
  shop.cedar:10 (office hours) permits when context.weekday <= 5: saw 7
"#
    );
}

#[test]
fn an_absent_attribute_is_seen_as_nothing() {
    let policies = load(SHOP);
    let found = text(&policies, &user("alice", &[]), &circumstances(), &request(ORDERS, "GET", &[]));
    assert!(found.contains("permits when resource.params has owner: saw nothing"), "{found}");
    assert!(
        found.contains(
            r#"office hours permits others: principal in Role::"auditor", action in [Action::"read"], resource == Route::"orders""#
        ),
        "{found}"
    );
}

#[test]
fn a_forbid_names_the_condition_that_was_true() {
    let policies = load(SHOP);
    let what = request(ORDERS, "GET", &[("owner", "alice")]);
    let outside = Circumstances { address: "198.51.100.7".parse().unwrap(), ..circumstances() };
    let found = text(&policies, &user("alice", &[]), &outside, &what);
    assert!(found.starts_with("denied: forbidden by strangers\n"), "{found}");
    assert!(
        found.contains(
            r#"(strangers) forbids because !(context.address.isInRange(ip("10.0.0.0/8"))): saw "198.51.100.7""#
        ),
        "{found}"
    );
    let inside = text(&policies, &user("alice", &[]), &circumstances(), &what);
    assert!(inside.starts_with("allowed: permitted by shop.cedar:4\n"), "{inside}");
}

#[test]
fn an_error_and_an_expired_credential_are_explained_as_such() {
    let policies = load(
        r#"permit(principal, action, resource);
        @id("sum") forbid(principal, action, resource) when { context.hour + 9223372036854775807 > 0 };"#,
    );
    let what = request(ORDERS, "GET", &[]);
    let found = text(&policies, &user("x", &[]), &circumstances(), &what);
    assert!(found.starts_with("denied: policy sum failed: integer overflow"), "{found}");
    assert!(found.contains("could not be evaluated"), "{found}");

    let ended = Principal { expires: Some(Timestamp::from_unix_seconds(NOW)), ..user("x", &[]) };
    let midnight = Circumstances { now: Timestamp::from_unix_seconds(NOW + 3 * 3600), ..circumstances() };
    let found = text(&policies, &ended, &midnight, &what);
    assert!(found.starts_with("denied: the credential has expired\n"), "{found}");
}

#[test]
fn roles_asked_for_in_conditions_are_shown() {
    let policies = load(
        r#"permit(principal, action, resource == Route::"orders") when { principal in Role::"admin" };
        permit(principal, action, resource == Route::"orders")
            when { context.headers has "x-tenant" && context.claims has level && context.hour < 3 };"#,
    );
    let what = with_headers(request(ORDERS, "GET", &[]), &[("x-tenant", "a"), ("x-tenant", "b")]);
    let found = text(&policies, &user("bob", &[]), &circumstances(), &what);
    assert!(
        found.contains(r#"permits when principal in Role::"admin": saw ["customer","merchant"]"#),
        "{found}"
    );
    assert!(found.contains("permits when context.claims has level: saw nothing"), "{found}");
}

#[test]
fn open_routes_say_so() {
    let policies = load("permit(principal, action, resource == Route::\"catalogue\");");
    let found = text(&policies, &Principal::anonymous(), &circumstances(), &request(STATUS, "GET", &[]));
    assert!(found.starts_with("allowed: the route permits it without a policy\n"), "{found}");
    let found = text(&policies, &Principal::anonymous(), &circumstances(), &request(PROFILE, "GET", &[]));
    assert!(found.starts_with("denied: the route asks for a proven identity\n"), "{found}");
}

#[test]
fn a_record_is_explained_only_by_the_policies_that_made_it() {
    let policies = load(SHOP);
    let what = request(ORDERS, "GET", &[("owner", "alice")]);
    let record = decide(&policies, &user("alice", &[]), &circumstances(), what).unwrap().record(&policies);
    assert!(explain_record(&policies, &record).is_ok());
    let later = policy::load(vocabulary(), &source(SHOP), 8).unwrap();
    let error = explain_record(&later, &record).unwrap_err();
    assert_eq!(error, Unexplainable::OtherGeneration { record: 7, policies: 8 });
    let other = policy::load(vocabulary(), &source("permit(principal, action, resource);"), 7).unwrap();
    assert_eq!(explain_record(&other, &record).unwrap_err(), Unexplainable::OtherContent(7));
    for key in ["principal", "principal.roles", "action", "resource"] {
        let mut torn = record.clone();
        torn.read.remove(key);
        assert!(matches!(explain_record(&policies, &torn), Err(Unexplainable::Incomplete(_))), "{key}");
    }
}

#[test]
fn json_form_names_policy_condition_and_values() {
    let policies = load(SHOP);
    let what = request(ORDERS, "GET", &[("owner", "bob")]);
    let found = explain_request(&policies, &user("alice", &[]), &circumstances(), &what);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["allowed"], false);
    assert_eq!(json["considered"][1]["policy"], "shop.cedar:4");
    assert_eq!(json["considered"][1]["finding"], "does_not_apply");
    assert_eq!(
        json["considered"][1]["condition"],
        serde_json::json!({
            "text": "resource.params.owner == principal.id",
            "position": "7:5",
            "saw": [
                { "expression": "resource.params.owner", "value": "bob" },
                { "expression": "principal.id", "value": "alice" },
            ],
        })
    );
    let back: policy::Explanation = serde_json::from_value(json).unwrap();
    assert_eq!(back, found);
}

#[test]
fn a_retained_generation_that_is_not_one_is_a_fault() {
    for odd in [serde_json::json!(null), serde_json::json!({ "generation": 1 }), serde_json::json!([])] {
        assert_eq!(Policies::from_retained(&odd).unwrap_err().len(), 1);
    }
    let policies = load(SHOP);
    let again = Policies::from_retained(&policies.to_retained()).unwrap();
    assert_eq!((again.generation(), again.snapshot()), (7, policies.snapshot()));
}

fn cases(json: serde_json::Value) -> Vec<Case> {
    serde_json::from_value(json).unwrap()
}

#[test]
fn policy_tests_pass_fail_and_count_what_they_cover() {
    let policies = load(SHOP);
    let inside = "10.0.0.1";
    let report = run(
        &policies,
        &cases(serde_json::json!([
            { "name": "own order", "principal": "User:alice", "expect": "allow", "why": "shop.cedar:4",
              "request": { "route": "orders", "params": { "owner": "alice" }, "address": inside } },
            { "name": "wrong way round", "principal": "User:alice", "expect": "allow",
              "request": { "route": "orders", "params": { "owner": "bob" }, "address": inside } },
            { "name": "from outside", "principal": "User:alice", "expect": "deny", "why": "strangers",
              "request": { "route": "orders", "params": { "owner": "alice" }, "address": "192.0.2.9" } },
            { "name": "wrong reason", "principal": "User:alice", "expect": "deny", "why": "strangers",
              "request": { "route": "orders", "params": { "owner": "bob" }, "address": inside } },
            { "name": "the reason in words", "principal": "User:alice", "expect": "deny",
              "why": "saw \"bob\" and \"alice\"",
              "request": { "route": "orders", "params": { "owner": "bob" }, "address": inside } },
            { "name": "auditor at noon", "expect": "allow",
              "principal": { "kind": "User", "id": "x", "roles": ["auditor"] },
              "request": { "route": "orders", "address": inside, "time": "2026-11-23T12:00:00Z" } },
            { "name": "typing error", "principal": { "kind": "User", "id": "x", "roles": ["auditer"] },
              "expect": "deny", "request": { "route": "orders" } },
            { "name": "unknown route", "expect": "deny", "request": { "route": "oders" } },
            { "name": "unknown parameter", "expect": "deny",
              "request": { "route": "orders", "params": { "onwer": "x" } } },
            { "name": "nobody", "expect": "deny", "request": { "route": "orders" } },
        ])),
    );
    let failures: Vec<(&str, &str)> =
        report.outcomes.iter().filter_map(|o| Some((o.name.as_str(), o.failure.as_deref()?))).collect();
    assert_eq!(
        failures,
        [
            ("wrong way round", "expected allow, found deny"),
            ("wrong reason", "expected it because of \"strangers\", found: no policy permits it"),
            ("typing error", "unknown role \"auditer\" (did you mean \"auditor\"?)"),
            ("unknown route", "unknown route \"oders\" (did you mean \"orders\"?)"),
            ("unknown parameter", "route \"orders\" has no parameter \"onwer\" (did you mean \"owner\"?)"),
        ]
    );
    assert!(!report.passed());
    assert_eq!(report.unexercised, ["shop.cedar:2"]);
    assert!(report.to_string().contains("FAILED  wrong way round"), "{report}");
    assert!(report.to_string().contains(r#"saw "bob" and "alice""#), "{report}");
}

#[test]
fn host_and_path_go_through_the_callers_router() {
    let policies = load(SHOP);
    let by_path = cases(serde_json::json!([
        { "name": "own order", "principal": "User:alice", "expect": "allow",
          "request": { "host": "shop.example", "path": "/orders/alice/7", "address": "10.0.0.1" } },
        { "name": "nowhere", "expect": "deny", "request": { "host": "shop.example", "path": "/none" } },
    ]));
    let report = run_with(&policies, &by_path, &|what| {
        let path = what.path.as_deref().unwrap_or_default();
        let owner = path.split('/').nth(2).ok_or("no route matches")?;
        Ok(("orders".to_owned(), [("owner".to_owned(), owner.to_owned())].into()))
    });
    assert_eq!(report.outcomes[0].failure, None);
    assert_eq!(report.outcomes[1].failure.as_deref(), Some("no route matches"));
}

#[test]
fn a_misspelt_key_in_a_case_is_refused() {
    let honest = serde_json::json!({ "name": "x", "expect": "deny", "request": { "route": "orders" } });
    assert!(serde_json::from_value::<Case>(honest).is_ok());
    for odd in [
        serde_json::json!({ "name": "x", "expects": "deny", "request": { "route": "orders" } }),
        serde_json::json!({ "name": "x", "expect": "deny", "request": { "rout": "orders" } }),
        serde_json::json!({ "name": "x", "expect": "refuse", "request": { "route": "orders" } }),
    ] {
        assert!(serde_json::from_value::<Case>(odd.clone()).is_err(), "{odd}");
    }
}

#[test]
fn who_is_named_is_known_wherever_that_stands() {
    let policies = load(
        r#"@id("scope") permit(principal == ApiKey::"ci", action, resource);
        @id("condition") permit(principal, action, resource) when { principal == User::"alice" };
        @id("id") permit(principal is Client, action, resource) when { principal.id == "batch" };
        @id("like") permit(principal is User, action, resource) when { principal.id like "ops-*" };
        @id("workload") permit(principal, action, resource)
        when { context has certificate.spiffe_id && context.certificate.spiffe_id == "spiffe://shop.example/ledger" };
        @id("unless") forbid(principal, action, resource) unless { principal == User::"root" };
        @id("shunned") forbid(principal == User::"mallory", action, resource);
        @id("text") permit(principal, action, resource) when { resource.name == "orders" };"#,
    );
    for (kind, id, named) in [
        (PrincipalKind::ApiKey, "ci", Some("scope")),
        (PrincipalKind::User, "ci", None),
        (PrincipalKind::User, "alice", Some("condition")),
        (PrincipalKind::ApiKey, "alice", None),
        (PrincipalKind::Client, "batch", Some("id")),
        (PrincipalKind::User, "ops-1", Some("like")),
        (PrincipalKind::User, "ops", None),
        (PrincipalKind::Service, "spiffe://shop.example/ledger", Some("workload")),
        (PrincipalKind::User, "root", Some("unless")),
        (PrincipalKind::User, "mallory", None),
        (PrincipalKind::User, "orders", None),
    ] {
        assert_eq!(policies.naming(kind, id), named, "{kind:?} {id}");
    }
}

#[test]
fn nothing_that_was_seen_moves_the_cursor() {
    let policies = load(SHOP);
    let owner = "\u{1b}[31m\u{7}\r\n\u{9b}2J\u{7f}\u{202e}b";
    let what = request(ORDERS, "GET", &[("owner", owner)]);
    let found = text(&policies, &user("al\u{9b}ice", &["customer"]), &circumstances(), &what);
    assert!(
        found.contains(r#"saw "\u001b[31m\u0007\r\n\u009b2J\u007f\u202eb" and "al\u009bice""#),
        "{found}"
    );
    let lines = |character| character == '\n';
    assert!(!found.chars().any(|one| model::printable::is_control(one) && !lines(one)), "{found:?}");
}
