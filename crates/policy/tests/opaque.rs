//! Opaque connections: judged by the same policies, of which those that read what only HTTP
//! has permit nothing and, where they forbid, deny.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use policy::explain_request;
use testbed::*;

const OPEN: &str = r#"@id("open") permit(principal == User::"alice", action, resource == Route::"orders");"#;

/// What is decided on `CONNECT`, and on the same policies for an honest `GET`.
fn judged(policies: &str) -> (Result<(), String>, bool) {
    let policies = load(policies);
    let ask = |method| {
        let decided = decide(
            &policies,
            &user("alice", &[]),
            &circumstances(),
            request(ORDERS, method, &[("owner", "alice")]),
        );
        decided.map(drop).map_err(|denied| denied.reason().to_string())
    };
    (ask("CONNECT"), ask("GET").is_ok())
}

#[test]
fn a_policy_that_needs_nothing_of_http_decides_as_ever() {
    assert_eq!(judged(OPEN), (Ok(()), true));
    let only = r#"permit(principal, action == Action::"CONNECT", resource == Route::"orders");"#;
    assert_eq!((judged(only).0, judged(only).1), (Ok(()), false));
    let write = r#"permit(principal, action in Action::"write", resource == Route::"orders");"#;
    assert_eq!((judged(write).0, judged(write).1), (Ok(()), false));
    assert!(judged("").0.unwrap_err().contains("no policy"));
}

#[test]
fn a_permit_that_needs_http_permits_no_opaque_connection() {
    for condition in [
        r#"context.path like "*""#,
        r#"context.host like "*""#,
        r#"resource.params has owner"#,
        r#"!(context.headers has "x-beta")"#,
    ] {
        let permit =
            format!(r#"permit(principal, action, resource == Route::"orders") when {{ {condition} }};"#);
        let (opaque, http) = judged(&permit);
        assert!(http, "{condition}");
        assert!(opaque.unwrap_err().contains("no policy"), "{condition}");
        // It takes nothing from one that needs none.
        assert_eq!(judged(&format!("{permit}{OPEN}")).0, Ok(()), "{condition}");
    }
}

#[test]
fn a_forbid_that_needs_http_denies_every_opaque_connection_that_it_would_look_into() {
    for (condition, reads) in [
        (r#"context.path like "/admin/*""#, "context.path"),
        (r#"context.headers has "x-beta""#, "context.headers"),
        (r#"context.host == "elsewhere""#, "context.host"),
    ] {
        let forbid = format!(r#"@id("no") forbid(principal, action, resource) when {{ {condition} }};"#);
        let (opaque, http) = judged(&format!("{OPEN}{forbid}"));
        assert!(http, "{condition}");
        let why = opaque.unwrap_err();
        assert!(why.contains(reads) && why.contains("not HTTP"), "{condition}: {why}");
        // One that comes to its end before it reads that is no denial, nor one for other actions.
        let narrow = format!(
            r#"forbid(principal, action, resource) when {{ resource.name == "refunds" && {condition} }};"#
        );
        assert_eq!(judged(&format!("{OPEN}{narrow}")).0, Ok(()), "{condition}");
        let get = format!(r#"forbid(principal, action == Action::"GET", resource) when {{ {condition} }};"#);
        assert_eq!(judged(&format!("{OPEN}{get}")).0, Ok(()), "{condition}");
    }
}

#[test]
fn an_explanation_says_the_same_as_the_decision() {
    let policies = load(&format!(
        r#"{OPEN} @id("no") forbid(principal, action, resource) when {{ context.path like "/admin/*" }};"#
    ));
    let said =
        explain_request(&policies, &user("alice", &[]), &circumstances(), &request(ORDERS, "CONNECT", &[]));
    assert!(!said.allowed);
    assert!(said.reason.contains("needs context.path, and this connection is not HTTP"), "{}", said.reason);
}
