//! The plan's shortcuts change nothing: a transaction comes to the same verdict with the
//! same matches as when every rule is run plainly, one after the other. Over the Core Rule
//! Set's regression tests and mutations of them where present, over a small corpus always.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::sync::Arc;
use support::{Raw, corpus::cases};
use waf::{Options, RuleSet};

const RULES: &str = r#"
SecRuleEngine On
SecRequestBodyAccess On
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule ARGS|ARGS_NAMES|!ARGS:free "@rx (?i)union\s+select" "id:10,phase:2,pass,t:none,t:urlDecodeUni,t:lowercase,capture,msg:'%{TX.0} in %{MATCHED_VAR_NAME}',setvar:tx.score=+5"
SecRule ARGS "@pm passwd shadow" "id:11,phase:2,pass,t:none,t:removeWhitespace,msg:'file',setvar:tx.score=+3,chain"
    SecRule MATCHED_VARS "@contains etc" "t:none"
SecRule ARGS|REQUEST_HEADERS "@rx [;|`]\s*(?:cat|ls)\b" "id:12,phase:2,pass,t:none,t:htmlEntityDecode,t:cmdLine,multiMatch,msg:'command'"
SecRule REQUEST_FILENAME|REQUEST_HEADERS:Referer "@detectXSS" "id:13,phase:1,pass,t:none,t:urlDecodeUni,t:jsDecode,msg:'script'"
SecRule ARGS "@detectSQLi" "id:14,phase:2,pass,t:none,t:utf8toUnicode,t:urlDecodeUni,multiMatch,msg:'sql'"
SecRule ARGS "!@rx ^[a-z0-9 ]*$" "id:15,phase:2,pass,t:none,t:lowercase,msg:'odd'"
SecRule ARGS|REQUEST_URI "@validateByteRange 32-126" "id:16,phase:2,pass,t:none,t:urlDecodeUni,msg:'bytes'"
SecRule ARGS "@rx ^.*$" "id:17,phase:2,pass,t:none,t:length,nolog,setvar:tx.lengths=+1"
SecRule &ARGS "@gt 3" "id:18,phase:2,pass,msg:'many'"
SecRule ARGS "@rx n['\x5c]*e['\x5c]*t['\x5c]*c['\x5c]*a['\x5c]*t" "id:20,phase:2,pass,t:none,msg:'taken apart'"
SecRule ARGS "@contains passwd" "id:21,phase:2,pass,t:none,t:removeWhitespace,t:lowercase,msg:'spaced'"
SecRule TX:score "@ge 5" "id:19,phase:2,deny,status:403,msg:'score %{tx.score}'"
"#;

const REQUESTS: &[&str] = &[
    "GET /?q=UNION%20%20SELECT&free=union%20select HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a?f=/e%20tc/pass%20wd HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a?f=%26%23x3b%3Bcat+x&g=;c^at%20x HTTP/1.1\r\nHost: a\r\nX: a | ls\r\n\r\n",
    "GET /%3Cscript%3Ealert(1)%3C/script%3E HTTP/1.1\r\nHost: a\r\nReferer: <img src=x onerror=\\u0061>\r\n\r\n",
    "GET /?a=1'+or+'1'='1&b=plain&c=&d HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /?a=ne't'c'at&b=netcat&c=ne+tcat HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 37\r\n\r\n{\"a\":{\"b\":\"union select\",\"c\":[1,\"x\"]}}",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 23\r\n\r\na=%01&b=union+select+1&",
];

/// Everything that a transaction came to, as text.
fn outcome(set: &Arc<RuleSet>, raw: &Raw) -> String {
    let (transaction, verdict) = support::run(set, raw);
    format!("{verdict:?} {:?} {:#?}", transaction.intended(), transaction.matches())
}

/// Deterministic changes of bytes: flips, doublings, cuts, and what attackers put in.
fn mutate(bytes: &[u8], seed: u64) -> Vec<u8> {
    const PIECES: &[&[u8]] = &[
        b"'", b"%00", b"%3C", b"/**/", b" ", b"\\", b"&#x27;", b"A", b"..", b";", b"%u0027", b"\xff",
        b"+or+1=1",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap()
    };
    let mut out = bytes.to_vec();
    for _ in 0..=next(4) {
        let at = next(out.len());
        match next(4) {
            0 => out[at] ^= 1 << next(8),
            1 => out.insert(at, out[at]),
            2 => drop(out.remove(at)),
            _ => drop(out.splice(at..at, PIECES[next(PIECES.len())].iter().copied())),
        }
    }
    out
}

fn compare(planned: &Arc<RuleSet>, plain: &Arc<RuleSet>, bytes: &[u8], name: &str) {
    let raw = Raw::parse(bytes);
    let (left, right) = (outcome(planned, &raw), outcome(plain, &raw));
    assert_eq!(left, right, "{name}: {}", String::from_utf8_lossy(bytes));
}

fn plain() -> Options {
    Options { plain: true, ..Options::default() }
}

#[test]
fn shortcuts_change_nothing_on_a_small_corpus() {
    let (planned, plain) = (support::rules(RULES, &Options::default()), support::rules(RULES, &plain()));
    let mut matched = 0;
    for (number, request) in REQUESTS.iter().enumerate() {
        compare(&planned, &plain, request.as_bytes(), &number.to_string());
        matched += support::run(&planned, &Raw::parse(request.as_bytes())).0.matches().len();
        for seed in 0..300 {
            compare(&planned, &plain, &mutate(request.as_bytes(), seed), &format!("{number}/{seed}"));
        }
    }
    assert!(matched >= 10, "the corpus must match rules: {matched}");
}

/// One transaction after the other in the same memory, over one rule set and another: each comes
/// to what it comes to in memory of its own.
#[test]
fn memory_that_was_used_before_changes_nothing() {
    let further = "SecRuleEngine On\nSecRule ARGS|REQUEST_HEADERS|TX:/./ \"@rx (.)\" \
        \"id:1,phase:2,pass,capture,t:lowercase,setvar:tx.%{MATCHED_VAR_NAME}=%{TX.1},msg:'%{MATCHED_VAR}'\"\n";
    let sets = [support::rules(RULES, &Options::default()), support::rules(further, &Options::default())];
    let (mut spare, mut reused) = (None, 0);
    for (number, request) in REQUESTS.iter().enumerate() {
        for seed in 0..100 {
            let raw = Raw::parse(&mutate(request.as_bytes(), seed));
            let set = &sets[(number + usize::try_from(seed).unwrap()) % 2];
            reused += usize::from(spare.is_some());
            let before = spare.take().unwrap_or_default();
            let (transaction, verdict) =
                support::run_in(before, set, &raw, &support::memory(), 1_700_000_000_000);
            let found = format!("{verdict:?} {:?} {:#?}", transaction.intended(), transaction.matches());
            assert_eq!(found, outcome(set, &raw), "{number}/{seed}");
            spare = transaction.into_spare();
        }
    }
    assert!(reused > 500, "hardly any memory was used again: {reused}");
}

/// First rules that are worked out at load as far as they do not depend on the request, each
/// with something in their midst that does.
const OPENINGS: &[&str] = &[
    // Nothing.
    "SecRule &TX:a \"@eq 0\" \"id:2,phase:1,pass,nolog,setvar:tx.b=%{tx.a}2\"",
    "SecRule TX:a \"!@eq 1\" \"id:2,phase:1,pass,nolog,setvar:tx.b=2\"",
    "SecRule TX:a \"@eq 1\" \"id:2,phase:1,pass,nolog,setvar:!tx.a,setvar:tx.b=+3,chain\"\n SecRule TX:b \"@eq 3\" \"setvar:tx.b=-1\"",
    "SecRule TX:/^[ab]$/ \"@eq 1\" \"id:2,phase:1,pass,nolog,setvar:tx.%{MATCHED_VAR_NAME}=2\"",
    "SecRule TX:a|!TX:a \"@eq 1\" \"id:2,phase:1,pass,nolog,setvar:tx.b=2\"",
    // A rule that runs in between and leaves the variables alone.
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,pass,log,msg:'%{tx.a}'\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,deny,log\"",
    // One that changes what follows.
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,pass,nolog,setvar:tx.a=7\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,pass,nolog,setvar:tx.b=%{REQUEST_HEADERS.X}\"",
    "SecRule REQUEST_HEADERS:X \"@streq 4\" \"id:2,phase:1,pass,nolog,setvar:tx.a=7\"",
    "SecAction \"id:2,phase:1,pass,nolog,setvar:tx.b=%{REQUEST_HEADERS.X}\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,pass,nolog,skipAfter:END\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,pass,nolog,skip:2\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,allow:phase,nolog\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,allow,nolog\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,pass,nolog,ctl:ruleEngine=Off\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,pass,nolog,ctl:ruleRemoveById=5\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,pass,nolog,ctl:ruleRemoveTargetById=5;TX:a\"",
    "SecRule REQUEST_HEADERS:X \"@rx (.)\" \"id:2,phase:1,pass,nolog,capture\"\nSecRule TX:1 \"@eq 4\" \"id:3,phase:1,pass,nolog,setvar:tx.b=%{tx.1}\"",
    "SecRule TX:a \"@rx (1)\" \"id:2,phase:1,pass,nolog,capture,setvar:tx.b=%{tx.1}\"",
    "SecRule TX:a \"@eq 1\" \"id:2,phase:1,pass,nolog,setenv:e=%{tx.a}\"\nSecRule ENV:e \"@eq 1\" \"id:3,phase:1,pass,nolog,setvar:tx.b=2\"",
    "SecRule TX:a \"@eq %{REQUEST_HEADERS.X}\" \"id:2,phase:1,pass,nolog,setvar:tx.b=2\"",
    "SecRule TX:a \"@eq 1\" \"id:2,phase:1,pass,nolog,setvar:tx.b=2,ctl:ruleRemoveById=5\"",
    "SecRule TX:a \"@eq 1\" \"id:2,phase:1,deny,nolog,status:410\"",
    "SecRule TX:a \"@eq 2\" \"id:2,phase:1,deny,nolog,status:410\"",
    "SecRule TX:a \"@eq 1\" \"id:2,phase:1,pass,log,msg:'said',severity:1\"",
    "SecRule TX:a \"@eq 1\" \"id:2,phase:1,pass,nolog,skipAfter:END\"",
    // Seen from the first rule that is run.
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:2,phase:1,pass,log,msg:'%{MATCHED_VAR_NAME} %{RULE.id}'\"",
];

#[test]
fn rules_that_are_worked_out_at_load_come_to_the_same() {
    const SEEN: &str = "SecRule TX:a|TX:b \"@rx ^\" \"id:7,phase:1,pass,log,msg:'%{MATCHED_VAR_NAME}=%{MATCHED_VAR}'\"\n\
        SecAction \"id:8,phase:2,pass,log,msg:'%{tx.a} %{tx.b} %{HIGHEST_SEVERITY}'\"\n";
    let mut came_to = std::collections::BTreeSet::new();
    for opening in OPENINGS {
        let text = format!(
            "SecRuleEngine On\nSecAction \"id:1,phase:1,pass,nolog,setvar:tx.a=1\"\n{opening}\n\
             SecRule TX:a \"@ge 1\" \"id:5,phase:1,pass,nolog,setvar:tx.a=+1\"\n\
             SecAction \"id:4,phase:1,pass,log,msg:'%{{MATCHED_VAR_NAME}}'\"\nSecMarker END\n{SEEN}"
        );
        let (planned, plain) = (support::rules(&text, &Options::default()), support::rules(&text, &plain()));
        for field in ["", "X: 1\r\n", "X: 4\r\n"] {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n");
            compare(&planned, &plain, request.as_bytes(), opening);
            came_to.insert(outcome(&planned, &Raw::parse(request.as_bytes())));
        }
    }
    assert!(came_to.len() >= 12, "the openings differ too little: {}", came_to.len());
}

/// What may come between rules that compare a variable which the opening sets, each of which
/// might make it matter that they are not looked at.
const COURSES: &[&str] = &[
    // Nothing.
    "",
    // Jumps into what is skipped, over a jump, and onto its end.
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,pass,nolog,skipAfter:WITHIN\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,pass,nolog,skip:1\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,pass,nolog,skip:2\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,pass,nolog,skipAfter:END\"",
    // The variable is changed after all, or one of a name that may be its.
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,pass,nolog,setvar:tx.level=4\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,pass,nolog,setvar:!tx.level\"",
    "SecRule REQUEST_HEADERS:X \"@rx (.*)\" \"id:20,phase:2,pass,nolog,capture,setvar:tx.%{tx.1}=4\"",
    "SecRule REQUEST_HEADERS:X \"@rx (.*)\" \"id:20,phase:2,pass,nolog,capture,setvar:tx.LE%{REQUEST_HEADERS.Y}=4\"",
    "SecRule REQUEST_HEADERS:X \"@rx (.*)\" \"id:20,phase:2,pass,nolog,capture,setvar:tx.other_%{tx.1}=4\"",
    // Rules are taken out, or something of them.
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,pass,nolog,ctl:ruleRemoveById=31\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,pass,nolog,ctl:ruleRemoveTargetById=31;TX:level\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,pass,nolog,ctl:ruleRemoveTargetByTag=jump;TX:level\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:1,pass,nolog,ctl:ruleRemoveById=31\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:1,pass,nolog,ctl:ruleRemoveTargetById=31;TX:level\"",
    // The phase ends.
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,allow:phase,nolog\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:2,deny,nolog\"",
    "SecRule REQUEST_HEADERS:X \"@rx .\" \"id:20,phase:1,deny,nolog\"",
    // What matched last is seen.
    "SecAction \"id:20,phase:2,pass,log,msg:'%{MATCHED_VAR_NAME}=%{MATCHED_VAR} %{RULE.id}'\"",
    "SecRule MATCHED_VAR \"@rx 2\" \"id:20,phase:2,pass,log,msg:'seen'\"",
    "SecAction \"id:20,phase:2,pass,nolog,sanitiseMatched,setvar:tx.kept=%{MATCHED_VAR_NAME}\"",
];

#[test]
fn rules_whose_outcome_is_settled_come_to_the_same() {
    // The level compared as a number, and whether there is one.
    const JUMPS: &[(&str, &str)] = &[
        ("TX:level \"@lt 3", "TX:level \"@ge 3"),
        ("&TX:level \"@eq 1", "&TX:none \"!@eq 0"),
        ("TX:level \"@lt 1", "TX:none \"@eq 0"),
    ];
    const LAST: &str = "%{MATCHED_VAR_NAME}=%{MATCHED_VAR} %{tx.kept}";
    let mut came_to = std::collections::BTreeSet::new();
    for (course, (jump, other)) in
        COURSES.iter().flat_map(|course| JUMPS.iter().map(move |jump| (course, jump)))
    {
        for set_to in ["2", "2x"] {
            let text = format!(
                "SecRuleEngine On\nSecAction \"id:1,phase:1,pass,nolog,setvar:tx.level={set_to}\"\n{course}\n\
                 SecRule {jump}\" \"id:31,phase:2,pass,nolog,skipAfter:END,tag:jump\"\n\
                 SecRule {other}\" \"id:32,phase:2,pass,nolog,skipAfter:WITHIN,tag:jump\"\n\
                 SecRule REQUEST_HEADERS \"@rx a\" \"id:33,phase:2,pass,log,msg:'first {LAST}'\"\nSecMarker WITHIN\n\
                 SecRule REQUEST_HEADERS \"@rx a\" \"id:34,phase:2,pass,log,msg:'then {LAST}'\"\nSecMarker END\n\
                 SecAction \"id:35,phase:2,pass,log,msg:'{LAST} %{{RULE.id}}'\"\n\
                 SecRule {other}\" \"id:36,phase:2,pass,nolog,skip:1\"\n\
                 SecRule {jump}\" \"id:37,phase:2,pass,nolog,skip:1\"\n\
                 SecRule TX:level|MATCHED_VAR \"@rx ^\" \"id:38,phase:3,pass,log,msg:'{LAST}'\"\n\
                 SecRule {jump}\" \"id:39,phase:5,pass,log,setvar:tx.kept=5,msg:'{LAST}'\"\n"
            );
            let (planned, plain) =
                (support::rules(&text, &Options::default()), support::rules(&text, &plain()));
            for field in ["", "X: 1\r\n", "X: level\r\nY: VEL\r\n"] {
                let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n");
                compare(&planned, &plain, request.as_bytes(), &text);
                came_to.insert(outcome(&planned, &Raw::parse(request.as_bytes())));
            }
        }
    }
    assert!(came_to.len() >= 20, "the courses differ too little: {}", came_to.len());
}

#[test]
fn shortcuts_change_nothing_on_the_core_rule_set() {
    let Some(shared) = support::shared() else {
        eprintln!("skipped: no ../shared/crs beside the repository");
        return;
    };
    let settings = support::test_settings();
    let planned = support::core_rule_set(&Options::default(), &settings).unwrap();
    let plain = support::core_rule_set(&plain(), &settings).unwrap();
    for (number, case) in cases(&shared.join("crs/tests")).iter().enumerate() {
        // Plain evaluation is slow: one case in eight as it is, one in eight changed.
        match number % 8 {
            0 => compare(&planned, &plain, &case.bytes, &case.id),
            4 => compare(&planned, &plain, &mutate(&case.bytes, number as u64), &case.id),
            _ => {}
        }
    }
}

#[test]
fn shortcuts_change_nothing_where_the_core_rule_set_stops_what_it_finds() {
    let Some(shared) = support::shared() else {
        eprintln!("skipped: no ../shared/crs beside the repository");
        return;
    };
    // The rules that judge the scores stop at the first match of weight.
    let thresholds = "SecRuleEngine On\n\
        SecAction \"id:900999,phase:1,pass,nolog,setvar:tx.inbound_anomaly_score_threshold=1,\
        setvar:tx.outbound_anomaly_score_threshold=1\"\n";
    let settings = support::test_settings().replace("ctl:ruleEngine=DetectionOnly", "ctl:ruleEngine=On");
    let settings = format!("{settings}\n{thresholds}");
    let planned = support::core_rule_set(&Options::default(), &settings).unwrap();
    let plain = support::core_rule_set(&plain(), &settings).unwrap();
    let mut stopped = 0;
    for (number, case) in cases(&shared.join("crs/tests")).iter().enumerate() {
        // One in sixteen as it is, one in sixteen changed.
        let bytes = match number % 16 {
            2 => case.bytes.clone(),
            10 => mutate(&case.bytes, number as u64),
            _ => continue,
        };
        compare(&planned, &plain, &bytes, &case.id);
        stopped += usize::from(support::run(&planned, &Raw::parse(&bytes)).1 != waf::Verdict::Pass);
    }
    assert!(stopped > 50, "hardly anything was stopped: {stopped}");
}
