//! Policies that are tried and not kept: nothing is denied, and what would have been is said.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use model::Timestamp;
use policy::{DecisionCache, Reason, decide_cached};
use proptest::prelude::*;
use std::sync::Arc;
use testbed::random::{policies, requests};
use testbed::*;

fn tried(text: &str) -> Option<policy::Policies> {
    let mut vocabulary = vocabulary();
    vocabulary.routes[ORDERS].dry_run = true;
    policy::load(vocabulary, &source(text), 7).ok()
}

#[test]
fn a_denial_is_permitted_and_its_record_says_why_it_would_not_have_been() {
    let policies = tried(
        r#"@id("own") permit (principal is User, action == Action::"GET", resource)
        when { resource.params has owner && resource.params.owner == principal.id };"#,
    )
    .unwrap();
    let ask = |owner| {
        decide(&policies, &user("alice", &[]), &circumstances(), request(ORDERS, "GET", &[("owner", owner)]))
    };
    let allowed = ask("alice").unwrap();
    assert_eq!((allowed.would_deny(), allowed.record(&policies).would_deny), (None, None));
    let other = ask("bob").unwrap();
    assert_eq!(other.would_deny(), Some(&Reason::Default));
    let record = other.record(&policies);
    assert_eq!(record.would_deny.as_deref(), Some("no policy permits it"));
    assert_eq!(record.read["resource.params.owner"], "bob");
    // Elsewhere policies are kept, and an expired credential is none here either.
    assert!(decide(&policies, &user("alice", &[]), &circumstances(), request(REFUNDS, "POST", &[])).is_err());
    let mut late = user("alice", &[]);
    late.expires = Some(Timestamp::from_unix_seconds(NOW));
    let refused = decide(&policies, &late, &circumstances(), request(ORDERS, "GET", &[])).unwrap_err();
    assert_eq!(refused.reason(), &Reason::Expired);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 64, ..ProptestConfig::default() })]

    /// Never a denial; and `would_deny` is exactly the reason of the decision that is kept, from
    /// the cache too.
    #[test]
    fn trying_never_denies_and_never_reports_what_is_allowed(
        text in policies(), asked in proptest::collection::vec(requests(), 40),
    ) {
        let (Ok(kept), Some(tried)) = (policy::load(vocabulary(), &source(&text), 7), tried(&text)) else {
            return Ok(());
        };
        let mut cache = DecisionCache::new();
        for (who, around, what) in asked.iter().chain(&asked) {
            let expected = decide(&kept, who, around, what.clone()).map_err(|denied| denied.reason().clone());
            let permit = decide_cached(&mut cache, &tried, &Arc::new(who.clone()), around, what.clone());
            let Ok(permit) = permit else { return Err(TestCaseError::fail("denied")) };
            prop_assert_eq!(permit.would_deny(), expected.as_ref().err());
            let said = permit.record(&tried).would_deny;
            prop_assert_eq!(said, expected.err().map(|reason| reason.to_string()));
        }
    }
}
