//! Recorded decisions, made again under other policies.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use model::event::DecisionRecord;
use model::principal::Attribute;
use model::{Principal, PrincipalKind};
use policy::{Beside, Circumstances, Policies, Replayed, Role, Undecidable, replay};
use proptest::prelude::*;
use testbed::random::{policies, requests};
use testbed::*;

/// The record of a decision, through the JSON of the log.
fn record(policies: &Policies, who: &Principal, around: &Circumstances, what: Request) -> DecisionRecord {
    let record = match decide(policies, who, around, what) {
        Ok(permit) => permit.record(policies),
        Err(denied) => denied.record(policies),
    };
    serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap()
}

fn again(new: &str, old: &str, who: &Principal, what: Request) -> Result<Replayed, Undecidable> {
    let (old, new) = (load(old), load(new));
    let record = record(&old, who, &circumstances(), what);
    replay(&new, &old, &record, &Beside::new())
}

const ALL: &str = "permit(principal, action, resource);";

fn orders(owner: &str) -> Request {
    request(ORDERS, "GET", &[("owner", owner)])
}

#[test]
fn what_the_record_holds_is_enough() {
    let old = r#"permit(principal, action, resource) when { resource.params has owner && resource.params.owner != "x" };"#;
    let new = r#"@id("own") permit(principal, action, resource) when { resource.params has owner && resource.params.owner == principal.id };"#;
    let own = again(new, old, &user("alice", &[]), orders("alice")).unwrap();
    assert_eq!((own.allowed, own.reason.as_str()), (true, "permitted by own"));
    assert_eq!(own.policies, ["own"]);
    let other = again(new, old, &user("alice", &[]), orders("bob")).unwrap();
    assert_eq!((other.allowed, other.reason.as_str()), (false, "no policy permits it"));
    // The record would hold the parameter if it had been there.
    let none = again(new, old, &user("alice", &[]), request(ORDERS, "GET", &[])).unwrap();
    assert!(!none.allowed);
}

#[test]
fn what_the_record_lacks_is_not_guessed() {
    let new = r#"permit(principal, action, resource) when { context.hour >= 9 };"#;
    let lack = again(new, ALL, &user("alice", &[]), orders("alice")).unwrap_err();
    assert_eq!(lack, Undecidable::Attribute("context.hour".into()));
    assert_eq!(lack.to_string(), "the log does not say context.hour");
    let new = r#"permit(principal, action, resource) when { principal.claims has level && principal.claims.level > 2 };"#;
    let who = claim(user("alice", &[]), "level", Attribute::Long(3));
    let lack = again(new, ALL, &who, orders("alice")).unwrap_err();
    assert_eq!(lack, Undecidable::Attribute("principal.claims.level".into()));
    // Under another name, the same claim is known.
    let old = r#"permit(principal, action, resource) when { context.claims has level && context.claims.level > 5 };"#;
    assert!(again(new, old, &who, orders("alice")).unwrap().allowed);
}

/// Whom a service called for is known, whatever the policies of then read.
#[test]
fn the_end_user_of_a_service_s_call_is_always_recorded() {
    let new = r#"@id("customers") permit(principal, action, resource)
        when { context has user && context.user.kind == "User" && context.user.roles.contains("customer") };
        @id("nobody") permit(principal, action, resource) when { !(context has user) };"#;
    let orders = somebody(PrincipalKind::Service, "spiffe://shop.example/orders", &[]);
    let (old, new) = (load(""), load(new));
    let mut cache = policy::DecisionCache::new();
    let mut again = |who: &Principal, user: Option<Principal>| {
        let around = Circumstances { user: user.map(std::sync::Arc::new), ..circumstances() };
        // Remembered, a decision is recorded like another.
        let who = std::sync::Arc::new(who.clone());
        let records = [0; 2].map(|_| {
            let denied = policy::decide_cached(&mut cache, &old, &who, &around, self::orders("alice"));
            let mut record = Vec::new();
            denied.unwrap_err().append_record(&old, &mut record);
            serde_json::from_slice::<DecisionRecord>(&record).unwrap()
        });
        assert_eq!(records[0], records[1]);
        replay(&new, &old, &records[0], &Beside::new())
    };
    let (erin, dora) = (user("erin", &["customer"]), user("dora", &["auditor"]));
    assert_eq!(again(&orders, Some(erin)).unwrap().policies, ["customers"]);
    assert!(!again(&orders, Some(dora)).unwrap().allowed);
    let client = somebody(PrincipalKind::Client, "batch", &["customer"]);
    assert!(!again(&orders, Some(client)).unwrap().allowed);
    assert_eq!(again(&orders, None).unwrap().policies, ["nobody"]);
    // A record that says nothing of it: whose callers are end users themselves.
    let lack = again(&user("alice", &[]), None).unwrap_err();
    assert!(matches!(&lack, Undecidable::Attribute(name) if name.starts_with("context.user.")), "{lack}");
}

#[test]
fn what_the_rest_settles_is_decided() {
    let hour = r#"permit(principal, action, resource) when { context.hour >= 9 };"#;
    let forbid = r#"@id("no") forbid(principal, action, resource == Route::"orders");"#;
    let found = again(&format!("{hour}{forbid}"), ALL, &user("alice", &[]), orders("alice")).unwrap();
    assert_eq!((found.allowed, found.reason.as_str()), (false, "forbidden by no"));
    let found = again(&format!("{hour}{ALL}"), ALL, &user("alice", &[]), orders("alice")).unwrap();
    assert!(found.allowed);
    let doubt = r#"forbid(principal, action, resource) when { context.hour >= 9 };"#;
    assert!(again(&format!("{doubt}{ALL}"), ALL, &user("alice", &[]), orders("alice")).is_err());
    // An unreadable header denies, so a permit beside one that was not recorded is no answer.
    let header = r#"permit(principal, action, resource) when { context.headers has "x-tenant" && context.headers["x-tenant"].contains("a") };"#;
    let lack = again(&format!("{header}{ALL}"), ALL, &user("alice", &[]), orders("alice")).unwrap_err();
    assert_eq!(lack, Undecidable::Attribute("context.headers.x-tenant".into()));
}

#[test]
fn what_stands_beside_the_record_counts() {
    let (old, new) = (
        load(ALL),
        load(r#"permit(principal, action, resource) when { context.address.isInRange(ip("10.0.0.0/8")) };"#),
    );
    let record = record(&old, &user("alice", &[]), &circumstances(), orders("alice"));
    assert!(replay(&new, &old, &record, &Beside::new()).is_err());
    let mut beside = Beside::from([("context.address".to_owned(), Some("10.1.2.3".into()))]);
    assert!(replay(&new, &old, &record, &beside).unwrap().allowed);
    beside.insert("context.address".to_owned(), Some("192.0.2.1".into()));
    assert!(!replay(&new, &old, &record, &beside).unwrap().allowed);
}

#[test]
fn roles_that_were_not_declared_or_not_the_credentials_are_in_doubt() {
    let old = load(ALL);
    let permits = |role: &str| source(&format!("permit(principal in Role::{role:?}, action, resource);"));
    // Declared and not recorded: not held.
    let alice = record(&old, &user("alice", &["customer"]), &circumstances(), orders("alice"));
    let auditors = policy::load(vocabulary(), &permits("auditor"), 1).unwrap();
    assert!(!replay(&auditors, &old, &alice, &Beside::new()).unwrap().allowed);
    let customers = policy::load(vocabulary(), &permits("customer"), 1).unwrap();
    assert!(replay(&customers, &old, &alice, &Beside::new()).unwrap().allowed);
    // Not declared then: the token may have named it.
    let mut wider = vocabulary();
    wider.roles.push(Role { name: "root".into(), ..Role::default() });
    let roots = policy::load(wider, &permits("root"), 1).unwrap();
    let lack = replay(&roots, &old, &alice, &Beside::new()).unwrap_err();
    assert_eq!(lack, Undecidable::Role("root".into()));
    // Given by the configuration then and not now: the token may name it too.
    let bob = record(&old, &user("bob", &[]), &circumstances(), orders("bob"));
    let merchants = policy::load(vocabulary(), &permits("merchant"), 1).unwrap();
    assert!(replay(&merchants, &old, &bob, &Beside::new()).unwrap().allowed);
    let mut without = vocabulary();
    without.roles[1].members.clear();
    let merchants = policy::load(without, &permits("merchant"), 1).unwrap();
    assert_eq!(
        replay(&merchants, &old, &bob, &Beside::new()).unwrap_err(),
        Undecidable::Role("merchant".into())
    );
    // Given by the configuration now.
    let mut more = vocabulary();
    more.roles[3].members.push(policy::Member { kind: PrincipalKind::User, id: "bob".into() });
    let auditors = policy::load(more, &permits("auditor"), 1).unwrap();
    assert!(replay(&auditors, &old, &bob, &Beside::new()).unwrap().allowed);
}

#[test]
fn records_of_others_and_torn_ones_are_refused() {
    let (old, other) = (load(ALL), load("permit(principal is User, action, resource);"));
    let mut record = record(&old, &user("alice", &[]), &circumstances(), orders("alice"));
    assert_eq!(replay(&old, &other, &record, &Beside::new()), Err(Undecidable::OtherContent));
    let mut fewer = vocabulary();
    fewer.routes.remove(0);
    let fewer = policy::load(fewer, &source(ALL), 1).unwrap();
    assert_eq!(replay(&fewer, &old, &record, &Beside::new()), Err(Undecidable::Route("orders".into())));
    record.read.remove("principal.roles");
    assert_eq!(replay(&old, &old, &record, &Beside::new()), Err(Undecidable::Incomplete("principal.roles")));
}

proptest! {
    // Loading costs most: few sets of policies, many requests for each.
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 64, ..ProptestConfig::default() })]

    /// A replay is what the decision would have been, or says that it does not know.
    #[test]
    fn a_replay_is_never_wrong(
        old in policies(), new in policies(), asked in proptest::collection::vec(requests(), 40),
    ) {
        let (Ok(old), Ok(new)) = (
            policy::load(vocabulary(), &source(&old), 1), policy::load(vocabulary(), &source(&new), 2),
        ) else { return Ok(()) };
        for (who, around, what) in asked {
            let record = record(&old, &who, &around, what.clone());
            let same = replay(&old, &old, &record, &Beside::new()).unwrap();
            prop_assert_eq!(same.allowed, decide(&old, &who, &around, what.clone()).is_ok());
            if let Ok(found) = replay(&new, &old, &record, &Beside::new()) {
                let decided = decide(&new, &who, &around, what);
                prop_assert_eq!(found.allowed, decided.is_ok(), "{:?} {:?}", found, who);
            }
        }
    }
}
