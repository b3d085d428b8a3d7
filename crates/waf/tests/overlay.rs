//! Overlays: what lies over a shared rule set does what the same words in its files would.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::sync::Arc;
use support::{Raw, rules, run};
use waf::{Cause, Chosen, EngineMode, Excluded, LimitAction, Options, Overlay, RuleSet, Verdict};

const RULES: &str = r#"
SecRuleEngine On
SecRequestBodyAccess On
SecRule &TX:set_level "@eq 1" "id:1,phase:1,pass,nolog,setvar:tx.level=%{tx.set_level}"
SecRule TX:level "@eq 3" "id:3,phase:1,pass,nolog,setvar:tx.other=1"
SecRule ARGS|REQUEST_COOKIES "@contains attack" "id:10,phase:2,deny,log,tag:'a/b',tag:'shared'"
SecRule ARGS:q "@contains attack" "id:11,phase:2,deny,log,chain,tag:'shared'"
    SecRule REQUEST_HEADERS:X-Also "@streq yes"
SecRule REQUEST_HEADERS:X-Level "@unconditionalMatch" "id:20,phase:1,deny,status:410,log,chain"
    SecRule TX:level "@eq 3" ""
SecRule TX:level "@eq 9" "id:30,phase:2,deny,log,tag:'tx'"
SecRule TX:other "@eq 1" "id:31,phase:2,pass,log"
SecRule &ARGS "@ge 2" "id:40,phase:2,pass,log,chain,tag:'long'"
    SecRule ARGS "@gt 5" "t:length"
"#;

fn overlaid(set: &Arc<RuleSet>, exclusions: &[Excluded], variables: &[(&str, &str)]) -> Arc<RuleSet> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let overlay = Overlay { settings: set.settings().clone(), variables, exclusions: exclusions.to_vec() };
    Arc::new(set.overlaid(&overlay).unwrap_or_else(|fault| panic!("{fault}")))
}

fn ids(set: &Arc<RuleSet>, request: &[u8]) -> (Verdict, Vec<u64>) {
    let (transaction, verdict) = run(set, &Raw::parse(request));
    (verdict, transaction.matches().iter().map(|found| found.rule).collect())
}

const REQUESTS: [&[u8]; 9] = [
    b"GET /?q=longer-than-five&a=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?q=1&comment=longer-than-five HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?q=attack HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?comment=attack HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?comment=attack&q=attack HTTP/1.1\r\nHost: x\r\nX-Also: yes\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nCookie: _ga1=attack\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nCookie: sid=attack\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-Level: ?\r\n\r\n",
    b"GET /?q=honest HTTP/1.1\r\nHost: x\r\n\r\n",
];

#[test]
fn an_exclusion_does_what_the_directive_of_a_file_does() {
    let shared = rules(RULES, &Options::default());
    let ids_of = |first, last| Chosen::Ids(first, last);
    let tag = |tag: &str| Chosen::Tag(tag.to_owned());
    let mut changed = 0;
    for (directive, which, target) in [
        ("SecRuleRemoveById 10", ids_of(10, 10), None),
        ("SecRuleRemoveById 10-11", ids_of(10, 11), None),
        ("SecRuleRemoveByTag ^shared$", tag("shared"), None),
        ("SecRuleUpdateTargetById 10 \"!ARGS:comment\"", ids_of(10, 10), Some("ARGS:comment")),
        ("SecRuleUpdateTargetById 10 \"!ARGS\"", ids_of(10, 10), Some("ARGS")),
        (
            "SecRuleUpdateTargetById 10 \"!REQUEST_COOKIES:/^_ga/\"",
            ids_of(10, 10),
            Some("REQUEST_COOKIES:/^_ga/"),
        ),
        ("SecRuleUpdateTargetByTag ^shared$ \"!ARGS:q\"", tag("shared"), Some("ARGS:q")),
        ("SecRuleUpdateTargetByTag ^tx$ \"!TX:level\"", tag("tx"), Some("TX:level")),
        ("SecRuleRemoveById 3", ids_of(3, 3), None),
        ("SecRuleUpdateTargetById 3 \"!TX:level\"", ids_of(3, 3), Some("TX:level")),
        // What only the last link of a chain looks at.
        (
            "SecRuleUpdateTargetById 11 \"!REQUEST_HEADERS:X-Also\"",
            ids_of(11, 11),
            Some("REQUEST_HEADERS:X-Also"),
        ),
        ("SecRuleUpdateTargetById 40 \"!ARGS:q\"", ids_of(40, 40), Some("ARGS:q")),
        ("SecRuleUpdateTargetByTag ^long$ \"!ARGS:/comment/\"", tag("long"), Some("ARGS:/comment/")),
        ("SecRuleUpdateTargetById 20 \"!TX:level\"", ids_of(20, 20), Some("TX:level")),
        ("SecRuleUpdateTargetById 1000 \"!ARGS\"", ids_of(1000, 1000), Some("ARGS")),
    ] {
        for level in [None, Some("3"), Some("9")] {
            let set: Vec<_> = level.iter().map(|level| ("set_level", *level)).collect();
            let exclusion = Excluded { rules: which.clone(), target: target.map(str::to_owned) };
            let over = overlaid(&shared, &[exclusion], &set);
            let level = level.map_or_else(String::new, |level| {
                format!("SecAction \"id:2,phase:1,pass,nolog,setvar:tx.level={level}\"\n")
            });
            let text = format!("{level}{RULES}{directive}\n");
            let written = rules(&text, &Options::default());
            for request in REQUESTS {
                let found = ids(&over, request);
                changed += usize::from(level.is_empty() && found != ids(&shared, request));
                assert_eq!(
                    found,
                    ids(&written, request),
                    "{directive}: {}",
                    String::from_utf8_lossy(request)
                );
            }
        }
    }
    assert!(changed > 8, "the exclusions have hardly any effect: {changed}");
}

#[test]
fn overlays_share_what_is_compiled_and_leave_it_alone() {
    let shared = rules(RULES, &Options::default());
    let exclusion = Excluded { rules: Chosen::Ids(10, 10), target: None };
    let over = overlaid(&shared, std::slice::from_ref(&exclusion), &[("SET_level", "3")]);
    let beside = overlaid(&shared, &[], &[]);
    assert!(over.shares_rules(&shared) && over.shares_rules(&beside));
    assert!(!over.shares_rules(&rules(RULES, &Options::default())));
    assert_eq!(over.statistics().rules + 1, shared.statistics().rules);
    assert_eq!(ids(&shared, REQUESTS[2]), (Verdict::Deny { status: 403, rule: 10, cause: None }, vec![10]));
    assert_eq!(ids(&beside, REQUESTS[7]), (Verdict::Pass, vec![]));
    assert_eq!(ids(&over, REQUESTS[7]), (Verdict::Deny { status: 410, rule: 20, cause: None }, vec![20]));
    // An overlay over an overlay is laid over the rules.
    assert_eq!(
        ids(&overlaid(&over, &[], &[]), REQUESTS[2]).0,
        Verdict::Deny { status: 403, rule: 10, cause: None }
    );
}

#[test]
fn settings_of_an_overlay_count() {
    let shared = rules(RULES, &Options::default());
    let mut settings = shared.settings().clone();
    settings.engine = EngineMode::DetectionOnly;
    settings.request_body_bytes_max = 4;
    settings.request_body_limit_action = LimitAction::Reject;
    let overlay = |settings| Overlay { settings, variables: Vec::new(), exclusions: Vec::new() };
    let detecting = Arc::new(shared.overlaid(&overlay(settings.clone())).unwrap());
    assert_eq!(ids(&detecting, REQUESTS[2]), (Verdict::Pass, vec![10]));
    settings.engine = EngineMode::On;
    let limiting = Arc::new(shared.overlaid(&overlay(settings)).unwrap());
    let long = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\na=1&b=2";
    assert_eq!(
        ids(&limiting, long).0,
        Verdict::Deny { status: 413, rule: 0, cause: Some(Cause::BodyTooLong) }
    );
    assert_eq!(ids(&shared, long).0, Verdict::Pass);
}

#[test]
fn a_target_that_is_none_is_refused_and_a_rule_that_is_none_is_noted() {
    let shared = rules(RULES, &Options::default());
    let overlay = |target: &str| Overlay {
        settings: shared.settings().clone(),
        variables: Vec::new(),
        exclusions: vec![Excluded { rules: Chosen::Ids(7, 7), target: Some(target.to_owned()) }],
    };
    for (target, said) in [
        ("ARG:comment", "unknown variable \"ARG\" (did you mean \"ARGS\"?)"),
        ("REQUEST_URI:x", "takes no selector"),
        ("ARGS|REQUEST_COOKIES", "no target"),
        ("ARGS\" \"x", "no target"),
        ("", ""),
    ] {
        let fault = shared.overlaid(&overlay(target)).unwrap_err().to_string();
        assert!(fault.contains(said), "{target}: {fault}");
    }
    let noted = shared.overlaid(&overlay("ARGS:comment")).unwrap();
    let notes: Vec<_> = noted.notes().iter().map(ToString::to_string).collect();
    assert!(
        notes.iter().any(|note| note.contains("no rule is meant by the exclusion of rule 7")),
        "{notes:?}"
    );
}

#[test]
fn an_exclusion_reaches_what_only_a_later_link_looks_at_and_one_of_nothing_is_noted() {
    let shared = rules(RULES, &Options::default());
    for (rule, target, request, found, warned) in [
        (40, "ARGS:q", 0, false, false),
        (40, "ARGS:q", 1, true, false),
        (40, "ARGS:other", 0, true, false),
        (40, "REQUEST_COOKIES:q", 0, true, true),
        (11, "ARGS:comment", 0, false, true),
        (20, "TX:level", 0, false, false),
        (20, "TX:other", 0, false, true),
    ] {
        let exclusion = Excluded { rules: Chosen::Ids(rule, rule), target: Some(target.to_owned()) };
        let over = overlaid(&shared, &[exclusion], &[]);
        assert_eq!(ids(&over, REQUESTS[request]).1.contains(&rule), found, "{rule} {target}");
        let noted = over.notes().iter().any(|note| note.to_string().contains("does not look at"));
        assert_eq!(noted, warned, "{rule} {target}");
    }
}
