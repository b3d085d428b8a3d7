//! What `RuleSet::lint` proves about rules, and what it leaves alone.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use support::{Raw, rules, run};
use waf::{Options, Weight};

fn lint(text: &str) -> Vec<String> {
    let text = format!("SecRequestBodyAccess On\nSecResponseBodyAccess On\n{text}");
    let found = rules(&text, &Options::default()).lint();
    let of = |weight| if weight == Weight::Warning { "warning" } else { "note" };
    found.iter().map(|note| format!("{} {note}", of(note.weight))).collect()
}

#[test]
fn what_never_matches_or_never_runs_is_told_with_its_place() {
    for (text, told) in [
        (
            "SecRule ARGS|!ARGS \"@rx a\" \"id:1,phase:2\"",
            "warning test.conf:3:1: rule 1 can never match: everything that it looks at is excluded",
        ),
        (
            "SecRule ARGS \"@rx a\" \"id:1,phase:2\"\nSecRuleUpdateTargetById 1 \"!ARGS\"",
            "warning test.conf:3:1: rule 1 can never match: everything that it looks at is excluded",
        ),
        (
            "SecRule RESPONSE_BODY|RESPONSE_STATUS \"@rx a\" \"id:1,phase:2\"",
            "warning test.conf:3:1: rule 1 can never match: RESPONSE_BODY is empty before phase 4, and the rule runs in phase 2",
        ),
        (
            "SecRule ARGS \"@rx UNION\" \"id:1,phase:2,t:none,t:lowercase\"",
            "warning test.conf:3:1: rule 1 can never match: its operator asks for bytes that t:lowercase never leaves",
        ),
        (
            "SecRule ARGS \"@streq a b\" \"id:1,phase:2,t:none,t:removeWhitespace\"",
            "t:removeWhitespace never leaves",
        ),
        ("SecRule ARGS \"@noMatch\" \"id:1,phase:2\"", "its operator matches nothing"),
        ("SecRule ARGS \"!@unconditionalMatch\" \"id:1,phase:2\"", "its operator matches nothing"),
        ("SecRule &ARGS \"@lt 0\" \"id:1,phase:2\"", "a number of values is never below 0"),
        (
            "SecRule ARGS a \"id:1,phase:2,chain\"\nSecRule ARGS \"@noMatch\"",
            "rule 1 can never match: its operator matches nothing",
        ),
        (
            "SecAction \"id:1,phase:1,deny\"\nSecRule ARGS a \"id:2,phase:1\"\nSecRule ARGS a \"id:3,phase:1\"",
            "warning test.conf:4:1: rule 2 never runs, nor the next 1 behind it: rule 1 at test.conf:3:1 always matches and refuses",
        ),
        (
            "SecAction \"id:1,phase:1,pass,skipAfter:end\"\nSecRule ARGS a \"id:2,phase:1\"\nSecMarker end",
            "warning test.conf:4:1: rule 2 never runs: rule 1 at test.conf:3:1 always matches and skips",
        ),
        (
            "SecRule ARGS \"@contains ab\" \"id:1,phase:2,deny\"\nSecRule ARGS \"@streq cabd\" \"id:2,phase:2,deny\"",
            "warning test.conf:4:1: rule 2 never matches while rules block: rule 1 at test.conf:3:1 refuses all of it before",
        ),
        (
            "SecRule ARGS \"@rx a\" \"id:1,phase:2,pass,skipAfter:ennd\"\nSecMarker end",
            "warning test.conf:3:1: rule 1: no marker \"ennd\" follows: the rest of the phase is skipped (did you mean \"end\"?)",
        ),
        (
            "SecMarker end\nSecRule ARGS \"@rx a\" \"id:1,phase:2,pass,skipAfter:end\"",
            "warning test.conf:4:1: rule 1: no marker \"end\" follows (it stands before the rule): the rest of the phase is skipped",
        ),
        ("SecMarker end", "note test.conf:3:11: no rule skips to marker \"end\""),
        ("SecRuleRemoveById 7", "warning test.conf:3:19: no rule defined above is meant by \"7\""),
        (
            "SecAction \"id:1,phase:1,pass,ctl:ruleRemoveById=7\"",
            "note test.conf:3:1: rule 1: a ctl:ruleRemove",
        ),
        (
            "SecResponseBodyAccess Off\nSecRule RESPONSE_BODY a \"id:1,phase:4\"",
            "note test.conf:4:1: 1 rule looks at RESPONSE_BODY and never matches: SecResponseBodyAccess is Off",
        ),
        (
            "SecRequestBodyAccess Off\nSecRule ARGS a \"id:1,phase:1\"\nSecRule ARGS|REQUEST_URI a \"id:2,phase:2\"\nSecRule XML:/* a \"id:3,phase:2\"",
            "note test.conf:5:1: 2 rules look at ARGS and its kin and see nothing of bodies: SecRequestBodyAccess is Off",
        ),
    ] {
        let found = lint(text);
        assert!(found.iter().any(|line| line.contains(told)), "{text}\n{found:#?}\n{told}");
    }
}

#[test]
fn what_may_be_meant_is_left_alone() {
    for text in [
        "SecRule ARGS|!ARGS:a \"@rx a\" \"id:1,phase:2\"",
        "SecRule ARGS|ARGS_POST \"@rx a\" \"id:1,phase:1\"",
        "SecRule &ARGS_POST \"@eq 0\" \"id:1,phase:1\"",
        "SecRule ARGS \"@rx (?i)UNION\" \"id:1,phase:2,t:lowercase\"",
        "SecRule ARGS \"!@rx UNION\" \"id:1,phase:2,t:lowercase\"",
        "SecRule ARGS \"@rx UNION\" \"id:1,phase:2,t:lowercase,t:urlDecode\"",
        "SecRule ARGS \"@rx UNION\" \"id:1,phase:2,t:lowercase,multiMatch\"",
        "SecRule ARGS \"@streq %{tx.A}\" \"id:1,phase:2,t:lowercase\"",
        "SecRule &ARGS \"@gt 2\" \"id:1,phase:2\"",
        "SecRule &ARGS \"@ge 0\" \"id:1,phase:2\"",
        // A condition, a way around, a ctl: the second may run all the same.
        "SecAction \"id:1,phase:1,pass\"\nSecRule ARGS a \"id:2,phase:1\"",
        "SecRule ARGS a \"id:1,phase:1,deny\"\nSecRule ARGS b \"id:2,phase:1\"",
        "SecAction \"id:1,phase:1,deny\"\nSecRule ARGS a \"id:2,phase:2\"",
        "SecRule ARGS x \"id:9,phase:1,pass,skipAfter:b\"\nSecAction \"id:1,phase:1,pass,skipAfter:end\"\nSecMarker b\nSecRule ARGS a \"id:2,phase:1\"\nSecMarker end",
        "SecRule ARGS x \"id:9,phase:2,pass,skipAfter:b\"\nSecRule ARGS \"@contains a\" \"id:1,phase:2,deny\"\nSecMarker b\nSecRule ARGS \"@contains ab\" \"id:2,phase:2,deny\"",
        "SecRule ARGS x \"id:9,phase:1,pass,ctl:ruleRemoveById=1\"\nSecRule ARGS \"@contains a\" \"id:1,phase:2,deny\"\nSecRule ARGS \"@contains ab\" \"id:2,phase:2,deny\"",
        "SecRule ARGS \"@contains a\" \"id:1,phase:2,pass\"\nSecRule ARGS \"@contains ab\" \"id:2,phase:2,deny\"",
        "SecRule ARGS|!ARGS:x \"@contains a\" \"id:1,phase:2,deny\"\nSecRule ARGS \"@contains ab\" \"id:2,phase:2,deny\"",
        "SecRule ARGS \"@contains a\" \"id:1,phase:2,deny,t:lowercase\"\nSecRule ARGS \"@contains ab\" \"id:2,phase:2,deny\"",
        "SecRequestBodyAccess Off\nSecRule ARGS a \"id:1,phase:1\"\nSecRule ARGS_GET a \"id:2,phase:2\"",
        "SecRequestBodyAccess Off\nSecRule ARGS x \"id:1,phase:1,pass,ctl:requestBodyAccess=On\"\nSecRule ARGS a \"id:2,phase:2\"",
        "SecResponseBodyAccess Off\nSecRule ARGS x \"id:1,phase:1,pass,ctl:responseBodyAccess=On\"\nSecRule RESPONSE_BODY a \"id:2,phase:4\"",
    ] {
        assert_eq!(lint(text), [""; 0], "{text}");
    }
}

/// The table of what is empty before which phase, held against the engine: every variable
/// of it, in a request that has everything.
#[test]
fn a_variable_that_is_said_to_be_empty_is() {
    let body = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f.txt\"\r\n\r\ncontent\r\n--b--\r\n";
    let request = format!(
        "POST /?q=1 HTTP/1.1\r\nHost: a.example\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let raw = Raw::parse(request.as_bytes());
    let names = [
        "ARGS_POST",
        "ARGS_POST_NAMES",
        "FILES",
        "FILES_COMBINED_SIZE",
        "FILES_NAMES",
        "FILES_SIZES",
        "FILES_TMP_CONTENT",
        "FULL_REQUEST",
        "FULL_REQUEST_LENGTH",
        "INBOUND_DATA_ERROR",
        "MULTIPART_FILENAME",
        "MULTIPART_NAME",
        "MULTIPART_PART_HEADERS",
        "MULTIPART_STRICT_ERROR",
        "MULTIPART_UNMATCHED_BOUNDARY",
        "MULTIPART_LF_LINE",
        "REQBODY_PROCESSOR_ERROR",
        "REQUEST_BODY",
        "REQUEST_BODY_LENGTH",
        "RESPONSE_BODY",
        "RESPONSE_CONTENT_TYPE",
        "RESPONSE_HEADERS",
        "RESPONSE_HEADERS_NAMES",
        "RESPONSE_PROTOCOL",
        "RESPONSE_STATUS",
        "STATUS_LINE",
        "OUTBOUND_DATA_ERROR",
        // These have a value at once.
        "REQBODY_ERROR",
        "ARGS",
        "REQUEST_HEADERS",
        "REQUEST_URI",
        "ARGS_COMBINED_SIZE",
        "URLENCODED_ERROR",
    ];
    let mut said = 0;
    for name in names {
        for phase in 1..=4 {
            let text = format!("SecRule {name} \"@unconditionalMatch\" \"id:1,phase:{phase},pass,log\"");
            let empty = lint(&text).iter().any(|line| line.contains("is empty before phase"));
            let whole = format!(
                "SecRuleEngine On\nSecRequestBodyAccess On\nSecResponseBodyAccess On\nSecAction \"id:2,phase:1,pass,nolog,noauditlog,ctl:forceRequestBodyVariable=On\"\n{text}"
            );
            let (transaction, _) = run(&rules(&whole, &Options::default()), &raw);
            if empty {
                said += 1;
                assert_eq!(transaction.matches().len(), 0, "{name} has a value in phase {phase}");
            }
        }
    }
    // 19 of the request in one phase, 6 of the answer in two, 2 of its body in three.
    assert_eq!(said, 19 + 6 * 2 + 2 * 3, "the table says other things than this test");
}

#[test]
fn the_core_rule_set_gives_no_warning() {
    let settings = "SecResponseBodyAccess On\n";
    let Some(set) = support::core_rule_set(&Options::default(), settings) else { return };
    let warnings: Vec<String> =
        set.lint().iter().filter(|note| note.weight == Weight::Warning).map(ToString::to_string).collect();
    assert_eq!(warnings, [""; 0]);
}
