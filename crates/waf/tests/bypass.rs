//! Known ways past firewalls and ways to stop them, each beside an honest neighbour: what
//! made an entry in a list of vulnerabilities of an engine or of the Core Rule Set must
//! not work here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod support;

use std::sync::{Arc, OnceLock};
use support::{Raw, rules, run};
use waf::{Budget, Cause, EngineMode, LimitAction, Options, RuleSet, Transaction, Verdict};

const HEAD: &str = "SecRuleEngine On\nSecRequestBodyAccess On\n";

/// One rule that denies, in phase 2.
fn denies(condition: &str) -> Arc<RuleSet> {
    rules(&format!("{HEAD}SecRule {condition},id:1,phase:2,deny,log\"\n"), &Options::default())
}

fn request(text: &str) -> Raw {
    Raw::parse(text.as_bytes())
}

fn get(target: &str) -> Raw {
    request(&format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n\r\n"))
}

fn post(content_type: &str, body: &str) -> Raw {
    post_bytes("/", content_type, body.as_bytes())
}

fn post_bytes(target: &str, content_type: &str, body: &[u8]) -> Raw {
    let mut bytes = format!(
        "POST {target} HTTP/1.1\r\nHost: shop.test\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    Raw::parse(&bytes)
}

fn is_denied(set: &Arc<RuleSet>, raw: &Raw) -> bool {
    match run(set, raw).1 {
        Verdict::Deny { .. } => true,
        Verdict::Pass => false,
        other => panic!("{other:?}"),
    }
}

fn ids(transaction: &Transaction) -> Vec<u64> {
    transaction.matches().iter().map(|found| found.rule).collect()
}

/// The Core Rule Set at paranoia level 1 and blocking, where it is at hand.
fn core_rule_set() -> Option<Arc<RuleSet>> {
    static SET: OnceLock<Option<Arc<RuleSet>>> = OnceLock::new();
    let load = || {
        let options = Options { engine: Some(EngineMode::On), ..Options::default() };
        support::core_rule_set(&options, "")
    };
    let set = SET.get_or_init(load).clone();
    if set.is_none() {
        eprintln!("skipped: no ../shared/crs beside the repository");
    }
    set
}

/// The attack is denied by the Core Rule Set with one of its rules; the neighbour passes.
fn core_denies(attack: &Raw, rule: u64, honest: &Raw) {
    let Some(set) = core_rule_set() else { return };
    let (transaction, verdict) = run(&set, attack);
    assert!(matches!(verdict, Verdict::Deny { .. }), "{verdict:?} of {:?}", ids(&transaction));
    assert!(ids(&transaction).contains(&rule), "{rule} is not among {:?}", ids(&transaction));
    let (transaction, verdict) = run(&set, honest);
    assert_eq!(verdict, Verdict::Pass, "{:?}", ids(&transaction));
}

/// Bodies that applications read otherwise than the rules were shown them passed where no rule
/// asked for that.
#[test]
fn a_body_that_can_be_read_in_two_ways_is_denied_unless_a_rule_judges_that() {
    let base = "SecRule REQUEST_HEADERS:Content-Type \"@contains json\" \"id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON\"\n\
        SecRule REQUEST_HEADERS:Content-Type \"@contains xml\" \"id:3,phase:1,pass,nolog,ctl:requestBodyProcessor=XML\"\n\
        SecRule ARGS|XML:/* \"@detectSQLi\" \"id:1,phase:2,deny,log\"\n";
    let set = |more: &str, options: &Options| rules(&format!("{HEAD}{base}{more}"), options);
    let judges = |what: &str| set(&format!("SecRule {what},id:4,phase:2,pass,nolog\""), &Options::default());
    let alone = set("", &Options::default());
    let detecting = set("", &Options { engine: Some(EngineMode::DetectionOnly), ..Options::default() });
    let strict = judges("MULTIPART_STRICT_ERROR \"!@eq 0\" \"t:none");
    let line = judges("MULTIPART_LF_LINE \"!@eq 0\" \"t:none");
    let unmatched = judges("MULTIPART_UNMATCHED_BOUNDARY \"!@eq 0\" \"t:none");
    let heads = judges("MULTIPART_PART_HEADERS \"@rx (?i)charset\" \"t:none");
    // As the Core Rule Set has it: another rule looks at what this one takes.
    let types = judges("MULTIPART_PART_HEADERS \"@rx ^content-type: (.*)$\" \"capture,t:none,t:lowercase");
    let encodings = judges("MULTIPART_PART_HEADERS \"@rx content-transfer-encoding\" \"t:none,t:lowercase");
    let charsets = judges("REQUEST_HEADERS:Content-Type \"@rx (?i)charset=utf-16\" \"t:none");

    let named = "Content-Disposition: form-data; name=\"q\"";
    let attack = "1' OR '1'='1";
    let of = |head: &str| multipart(&[part(&format!("{named}\r\n{head}"), "one")]);
    let raw = |body: &str| post("multipart/form-data; boundary=frontier", body);
    // To busboy, which looks for CRLF before a boundary, all of it is the field q.
    let inner = format!(
        "--frontier\r\n{named}\r\n\r\n1\n--frontier\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n{attack}\r\n--frontier--\r\n"
    );
    let behind = format!("{}--frontier--\r\n{attack}", field("a", "one"));
    let json = |charset: &str| post(&format!("application/json{charset}"), "{\"q\":\"1+ACc- OR +ACc-1\"}");
    for (doubtful, judging) in [
        (json("; charset=utf-7"), &charsets),
        (post("application/x-www-form-urlencoded; charset=ibm037", "q=1"), &charsets),
        (of("Content-Type: text/plain; charset=utf-7"), &heads),
        (of("Content-Type: text/plain; charset=utf-7"), &types),
        (of("Content-Transfer-Encoding: base64"), &encodings),
        (multipart(&[field("_charset_", "utf-7"), field("q", "1")]), &heads),
        (raw(&inner), &strict),
        (raw(&inner), &line),
        (
            raw(&inner.replace(
                "frontier\r\nContent-Disposition: form-data; name=\"f\"",
                "frontier\nContent-Disposition: form-data; name=\"f\"",
            )),
            &strict,
        ),
        (raw(&behind), &strict),
        (multipart(&[field("a", "one--frontier")]), &unmatched),
    ] {
        let what = String::from_utf8_lossy(&doubtful.body);
        let denied = Verdict::Deny { status: 400, rule: 0, cause: Some(Cause::BodyAmbiguous) };
        assert_eq!(run(&alone, &doubtful).1, denied, "{what}");
        assert_eq!(run(judging, &doubtful).1, Verdict::Pass, "{what}");
        let (transaction, verdict) = run(&detecting, &doubtful);
        assert_eq!((verdict, transaction.intended()), (Verdict::Pass, Some(&denied)), "{what}");
    }
    let file = "Content-Disposition: form-data; name=\"f\"; filename=\"f.csv\"";
    let dotnet =
        post("multipart/form-data; boundary=\"frontier\"", &format!("{}--frontier--\r\n", field("a", "one")));
    for honest in [
        post("application/json", "{\"q\":\"1\"}"),
        post("application/json; charset=UTF-8", "{\"q\":\"1\"}"),
        post("text/xml; charset=\"utf-8\"", "<a>1</a>"),
        post("application/x-www-form-urlencoded; charset=iso-8859-1", "q=1"),
        multipart(&[field("a", "one"), field("b", "-- \r\nsigned\r\n---\r\n--")]),
        multipart(&[part(&format!("{file}\r\nContent-Type: text/csv; charset=utf-16"), "a\n--b\n")]),
        multipart(&[part(&format!("{named}\r\nContent-Type: text/plain; charset=utf-8"), "one")]),
        multipart(&[part(&format!("{named}; filename=\"\"\r\nContent-Type: application/octet-stream"), "")]),
        dotnet,
    ] {
        assert_eq!(run(&alone, &honest).1, Verdict::Pass, "{}", String::from_utf8_lossy(&honest.body));
    }
    // As the manual has it: the rule decides.
    let own = "SecRule REQUEST_HEADERS:Content-Type \"@rx (?i)charset\" \"id:102,phase:1,deny,status:400,t:none,chain\"\n\
        SecRule REQUEST_HEADERS:Content-Type \"!@rx (?i)^[a-z/+.-]+; *charset=(?:utf-8|shift_jis)$\" \"t:none\"";
    let own = set(own, &Options::default());
    let denied = Verdict::Deny { status: 400, rule: 102, cause: None };
    assert_eq!(run(&own, &json("; charset=utf-7")).1, denied);
    for charset in ["", "; charset=utf-8", ";charset=Shift_JIS"] {
        assert_eq!(run(&own, &json(charset)).1, Verdict::Pass, "{charset}");
    }
    // What looks at something else, or has not looked while the body could be refused, judged nothing.
    for (doubtful, unrelated) in [
        (json("; charset=utf-7"), "REQUEST_HEADERS \"@rx charset=evil\" \"id:4,phase:1,deny"),
        (
            json("; charset=utf-7"),
            "REQUEST_HEADERS|!REQUEST_HEADERS:Content-Type \"@rx charset=evil\" \"id:4,phase:1,deny",
        ),
        (
            json("; charset=utf-7"),
            "REQUEST_HEADERS:Content-Type|!REQUEST_HEADERS:/^content/ \"@rx charset=evil\" \"id:4,phase:1,deny",
        ),
        (
            json("; charset=utf-7"),
            "&REQUEST_HEADERS:Content-Type \"@eq 0\" \"id:4,phase:1,deny,msg:'charset'",
        ),
        (json("; charset=utf-7"), "REQUEST_HEADERS:Content-Type \"@rx charset\" \"id:4,phase:3,pass"),
        (
            of("Content-Type: text/plain; charset=utf-7"),
            "MULTIPART_PART_HEADERS \"@contains ../\" \"id:4,phase:2,deny",
        ),
        (
            of("Content-Type: text/plain; charset=utf-7"),
            "MULTIPART_PART_HEADERS \"@rx content-transfer-encoding\" \"id:4,phase:2,deny",
        ),
        (
            of("Content-Transfer-Encoding: base64"),
            "MULTIPART_PART_HEADERS \"@contains ../\" \"id:4,phase:2,deny",
        ),
        (
            of("Content-Transfer-Encoding: base64"),
            "MULTIPART_PART_HEADERS \"@rx charset\" \"id:4,phase:2,deny",
        ),
        (
            of("Content-Transfer-Encoding: base64"),
            "&MULTIPART_PART_HEADERS:_charset_ \"!@eq 0\" \"id:4,phase:2,deny",
        ),
        (raw(&inner), "MULTIPART_STRICT_ERROR \"!@eq 0\" \"id:4,phase:5,pass,setvar:tx.a=1"),
        (raw(&inner), "MULTIPART_STRICT_ERROR \"!@eq 0\" \"id:4,phase:1,deny"),
        (raw(&inner), "&MULTIPART_STRICT_ERROR \"@eq 0\" \"id:4,phase:2,deny"),
        (
            raw(&inner),
            "ARGS|MULTIPART_STRICT_ERROR|!MULTIPART_STRICT_ERROR \"@contains zzz\" \"id:4,phase:2,deny",
        ),
        (raw(&inner), "ARGS \"@contains zzz\" \"id:4,phase:2,deny,logdata:'%{MULTIPART_STRICT_ERROR}'"),
        (raw(&inner), "ARGS \"@contains zzz\" \"id:4,phase:2,deny,msg:'%{MULTIPART_LF_LINE}'"),
        (raw(&inner), "ARGS \"@contains zzz\" \"id:4,phase:2,deny,tag:'%{MULTIPART_STRICT_ERROR}'"),
        (raw(&inner), "ARGS \"@contains zzz\" \"id:4,phase:2,pass,setvar:tx.a=%{MULTIPART_STRICT_ERROR}"),
        (
            raw(&inner),
            "ARGS \"@contains zzz\" \"id:4,phase:2,deny,chain\"\nSecRule MULTIPART_STRICT_ERROR \"!@eq 0\" \"t:none",
        ),
        (
            multipart(&[field("a", "one--frontier")]),
            "ARGS \"@contains zzz\" \"id:4,phase:2,deny,logdata:'%{MULTIPART_UNMATCHED_BOUNDARY}'",
        ),
    ] {
        let beside = set(&format!("SecRule {unrelated}\""), &Options::default());
        assert_eq!(
            run(&beside, &doubtful).1,
            Verdict::Deny { status: 400, rule: 0, cause: Some(Cause::BodyAmbiguous) },
            "{unrelated}"
        );
    }
    // Nobody looks at its body.
    let head = rules(
        &format!("{HEAD}SecRule REQUEST_HEADERS \"@contains attack\" \"id:1,phase:1,deny,log\""),
        &Options::default(),
    );
    assert_eq!(run(&head, &post("text/plain; charset=utf-16", "a")).1, Verdict::Pass);
}

/// CVE-2024-1019: `%3F` decoded before the target was split hid the path behind it.
#[test]
fn an_escaped_question_mark_stays_in_the_path() {
    let set = denies(r#"REQUEST_FILENAME "@contains /etc/passwd" "t:none,t:urlDecodeUni"#);
    assert!(is_denied(&set, &get("/a%3f/../etc/passwd")));
    assert!(is_denied(&set, &get("/a%3F/etc/passwd?b")));
    assert!(!is_denied(&set, &get("/a?/../etc/passwd")));
    assert!(!is_denied(&set, &get("/a%3fb?c=/etc/passwd")));
    let set = denies(r#"ARGS_NAMES "@streq b" "t:none"#);
    assert!(is_denied(&set, &get("/a?b=1")));
    assert!(!is_denied(&set, &get("/a%3fb=1")));
}

/// Arguments of nothing used up the limit, and what stood behind them no rule saw; that there
/// were too many was forgotten when the body, without one, was found faultless.
#[test]
fn empty_arguments_hide_nothing_of_a_query() {
    let many = |count: usize, last: &str| get(&format!("/?{}{last}", "&".repeat(count)));
    let args = denies(r#"ARGS "@contains attack" "t:none"#);
    let names = denies(r#"ARGS_NAMES "@contains attack" "t:none"#);
    for count in [1, 999, 1_000, 7_000] {
        assert!(is_denied(&args, &many(count, "q=an%20attack")), "{count}");
        assert!(is_denied(&names, &many(count, "attack=1")), "{count}");
        assert!(!is_denied(&args, &many(count, "q=honest")), "{count}");
    }
    let error = denies(r#"REQBODY_ERROR "!@eq 0" "t:none"#);
    assert!(is_denied(&error, &many(1_000, "q=1")));
    assert!(!is_denied(&error, &many(999, "q=1")));
    let form = |target: &str| post_bytes(target, "application/x-www-form-urlencoded", b"a=1");
    assert!(is_denied(&error, &form(&format!("/?{}q=1", "&".repeat(1_000)))));
    assert!(!is_denied(&error, &form("/?q=1")));
}

/// A chain over MATCHED_VARS saw the first thousand matches alone: the attack stood behind them.
#[test]
fn matches_that_find_no_place_are_denied() {
    let chain =
        "ARGS \"@contains call\" \"id:1,phase:2,deny,log,chain\"\nSecRule MATCHED_VARS \"@contains (\"";
    let text = format!("{HEAD}SecArgumentsLimit 5000\nSecRule {chain}\n");
    let block = rules(&text, &Options::default());
    let form = |decoys: usize, last: &str| {
        post("application/x-www-form-urlencoded", &format!("{}{last}", "a=call&".repeat(decoys)))
    };
    for decoys in [0, 999, 1_000, 3_000] {
        assert!(is_denied(&block, &form(decoys, "b=call()")), "{decoys}");
    }
    assert!(!is_denied(&block, &form(1_000, "b=honest")));
    let options = Options { engine: Some(EngineMode::DetectionOnly), ..Options::default() };
    let (transaction, verdict) = run(&rules(&text, &options), &form(1_000, "b=call()"));
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(
        transaction.intended(),
        Some(&Verdict::Deny { status: 500, rule: 0, cause: Some(Cause::MatchesTooMany) })
    );
}

/// Rules that name variables after what a client sends run out of them.
#[test]
fn variables_that_find_no_place_are_denied() {
    let text = format!(
        "{HEAD}SecArgumentsLimit 5000\nSecRule ARGS_NAMES \"@rx ^(n.*)$\" \"id:1,phase:2,pass,capture,setvar:tx.%{{TX.1}}=1\"\n"
    );
    let set = rules(&text, &Options::default());
    let form = |names: usize| {
        let pairs: String = (0..names).map(|number| format!("n{number}=1&")).collect();
        run(&set, &post("application/x-www-form-urlencoded", &pairs)).1
    };
    assert_eq!(form(1_000), Verdict::Pass);
    assert_eq!(form(1_001), Verdict::Deny { status: 500, rule: 0, cause: Some(Cause::NamesTooMany) });
}

/// What stood behind a fault of a body passed unseen where no rule asked for the fault.
#[test]
fn a_body_that_cannot_be_read_to_its_end_is_denied_unless_a_rule_judges_that() {
    let json = "SecRule REQUEST_HEADERS:Content-Type \"@contains json\" \"id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON\"\n";
    let args = "SecRule ARGS \"@contains attack\" \"id:1,phase:2,deny,log\"\n";
    let set = |more: &str| rules(&format!("{HEAD}{json}{args}{more}"), &Options::default());
    let (alone, allowed) = (set(""), set("SecRule REQUEST_URI \"@streq /\" \"id:3,phase:1,allow:request\""));
    let judged = set("SecRule REQBODY_ERROR \"!@eq 0\" \"id:4,phase:2,pass,log\"");
    let form = |body: &str| post("application/x-www-form-urlencoded", body);
    let many = |count: usize| form(&format!("{}q=1", "&".repeat(count)));
    let open = post("multipart/form-data; boundary=frontier", &field("a", "one"));
    for (broken, honest) in [
        (many(1_000), many(999)),
        (post("application/json", "{\"a\":1,}"), post("application/json", "{\"a\":1}")),
        (open, multipart(&[field("a", "one")])),
    ] {
        let what = String::from_utf8_lossy(&honest.body);
        assert_eq!(
            run(&alone, &broken).1,
            Verdict::Deny { status: 400, rule: 0, cause: Some(Cause::BodyUnreadable) },
            "beside {what}"
        );
        assert_eq!(run(&alone, &honest).1, Verdict::Pass, "{what}");
        assert_eq!(run(&judged, &broken).1, Verdict::Pass, "beside {what}");
        assert_eq!(run(&allowed, &broken).1, Verdict::Pass, "beside {what}");
    }
    // As in ModSecurity's own file, without its rule 200002.
    let strict = "SecRule MULTIPART_STRICT_ERROR \"!@eq 0\" \"id:200003,phase:2,deny,status:400,\
        msg:'Multipart request body failed strict validation: PE %{REQBODY_PROCESSOR_ERROR}'\"";
    for unrelated in [
        strict,
        "SecRule REQBODY_ERROR \"!@eq 0\" \"id:4,phase:1,deny\"",
        "SecRule REQBODY_ERROR \"!@eq 0\" \"id:4,phase:5,pass,log\"",
        "SecRule &REQBODY_ERROR \"@eq 0\" \"id:4,phase:2,deny\"",
        "SecRule ARGS|REQBODY_ERROR \"@contains zzz\" \"id:4,phase:2,deny\"\nSecRuleUpdateTargetById 4 \"!REQBODY_ERROR\"",
        "SecAction \"id:4,phase:2,pass,setvar:tx.a=%{REQBODY_ERROR}\"",
    ] {
        let broken = post("application/json", "{\"a\":1,}");
        assert_eq!(
            run(&set(unrelated), &broken).1,
            Verdict::Deny { status: 400, rule: 0, cause: Some(Cause::BodyUnreadable) },
            "{unrelated}"
        );
    }
    let partial = set("SecRequestBodyNoFilesLimit 64\nSecRequestBodyLimitAction ProcessPartial\n");
    for long in [form(&"a".repeat(100)), post("application/json", &format!("[\"{}\"]", "a".repeat(100)))] {
        assert_eq!(run(&partial, &long).1, Verdict::Pass, "what was cut is no fault");
    }
}

/// CVE-2025-29914: a path that starts with two slashes was taken for a host and a path.
#[test]
fn two_slashes_start_a_path() {
    let set = denies(r#"REQUEST_FILENAME "@beginsWith //bar/" "t:none"#);
    assert!(is_denied(&set, &get("//bar/uploads/x.php")));
    assert!(!is_denied(&set, &get("/bar/uploads/x.php")));
    let set = denies(r#"REQUEST_BASENAME "@endsWith .php" "t:none"#);
    assert!(is_denied(&set, &get("//bar/x.php?q=1")));
    assert!(is_denied(&set, &get("http://shop.test/x.php")));
    assert!(!is_denied(&set, &get("//x.php/bar")));
}

/// CVE-2025-27110: leading zeros kept an entity from being read.
#[test]
fn entities_with_leading_zeros_are_read() {
    let set = denies(r#"ARGS "@contains <script" "t:none,t:htmlEntityDecode"#);
    assert!(is_denied(&set, &get("/?q=%26%2300000000000000000060;script")));
    assert!(is_denied(&set, &get("/?q=%26%23x0000000000000000003c;script")));
    assert!(!is_denied(&set, &get("/?q=%26%2300000000000000000061;script")));
}

/// CVE-2026-30923: `t:hexDecode` of one character read past it.
#[test]
fn half_a_hexadecimal_byte_is_nothing() {
    let set = denies(r#"ARGS "@rx ^$" "t:none,t:hexDecode"#);
    assert!(is_denied(&set, &get("/?q=4")));
    assert!(!is_denied(&set, &get("/?q=41")));
}

fn part(headers: &str, text: &str) -> String {
    format!("--frontier\r\n{headers}\r\n\r\n{text}\r\n")
}

fn multipart(parts: &[String]) -> Raw {
    post("multipart/form-data; boundary=frontier", &format!("{}--frontier--\r\n", parts.concat()))
}

fn field(name: &str, text: &str) -> String {
    part(&format!("Content-Disposition: form-data; name=\"{name}\""), text)
}

/// CVE-2022-48279: parts that engines and applications read differently slipped through.
#[test]
fn multipart_that_can_be_read_in_two_ways_is_flagged() {
    let strict = denies(r#"MULTIPART_STRICT_ERROR|REQBODY_ERROR "!@eq 0" "t:none"#);
    let args = denies(r#"ARGS "@contains attack" "t:none"#);
    let honest = multipart(&[field("a", "one"), field("b", "two")]);
    assert!(!is_denied(&strict, &honest));
    assert!(!is_denied(&args, &honest));
    assert!(is_denied(&args, &multipart(&[field("a", "one"), field("b", "an attack")])));
    let twice = part(
        "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"; filename=\"f\"",
        "an attack",
    );
    let names = part("Content-Disposition: form-data; name=\"a\"; name=\"b\"", "an attack");
    let nameless = part("Content-Type: text/plain", "an attack");
    let broken = "--frontier\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nan attack".to_owned();
    for doubtful in [twice, names, nameless] {
        let raw = multipart(std::slice::from_ref(&doubtful));
        assert!(is_denied(&strict, &raw) || is_denied(&args, &raw), "{doubtful}");
    }
    let raw = post("multipart/form-data; boundary=frontier", &broken);
    assert!(is_denied(&strict, &raw), "no closing boundary");
}

/// A file name that is none made a file of a part that busboy, Go and others read as a field.
#[test]
fn a_field_is_not_hidden_by_an_empty_file_name() {
    let attack = "1' OR '1'='1";
    let with = |filename: &str, text: &str| {
        let head = format!(
            "Content-Disposition: form-data; name=\"q\"; filename=\"{filename}\"\r\nContent-Type: text/plain"
        );
        multipart(&[part(&head, text)])
    };
    let args = denies(r#"ARGS "@detectSQLi" "t:none"#);
    let posted = denies(r#"ARGS_POST:q "@contains OR" "t:none"#);
    for nameless in ["", " ", "/", "%20", "a/"] {
        for set in [&args, &posted] {
            assert!(is_denied(set, &with(nameless, attack)), "{nameless:?}");
            assert!(!is_denied(set, &with(nameless, "")), "{nameless:?}");
            assert!(!is_denied(set, &with("a.txt", attack)));
        }
    }
    let files = denies(r#"&FILES:q "@eq 1" "t:none"#);
    assert!(is_denied(&files, &with("", attack)) && is_denied(&files, &with("a.txt", attack)));
    core_denies(&with("", attack), 942_100, &with("", ""));
    core_denies(&with("/", attack), 942_100, &with("a.txt", ""));
}

/// The attack is denied by a rule on arguments and by the Core Rule Set; the neighbour passes both.
fn both_deny(attack: &Raw, honest: &Raw) {
    let args = denies(r#"ARGS "@detectSQLi" "t:none,t:urlDecodeUni"#);
    let what = String::from_utf8_lossy(&attack.body);
    for set in [Some(args), core_rule_set()].into_iter().flatten() {
        assert!(is_denied(&set, attack), "{what}");
        assert_eq!(run(&set, honest).1, Verdict::Pass, "beside {what}");
    }
}

/// What hid the name of a file from an application, or the end of a part's head, made a field of what
/// is a file here: nothing of it was looked at.
#[test]
fn a_field_is_not_hidden_behind_a_file_that_other_readers_do_not_see() {
    let attack = "' UNION SELECT name, password FROM users-- ";
    let named = "Content-Disposition: form-data; name=\"q\"";
    let file =
        multipart(&[part(&format!("{named}; filename=\"a.txt\"\r\nContent-Type: text/plain"), attack)]);
    for head in [
        // Werkzeug ends a line of a head, and the head, at a CR alone.
        format!("{named}; filename=\"x\ry\""),
        format!("X-A: a\rContent-Disposition: form-data; name=\"q\"\r\n{named}; filename=\"f\""),
        // A brace is none of a token; nor is a parameter one with a blank (PHP, Werkzeug).
        format!("{named}; filename={{x}}"),
        format!("{named}; filename =\"a filename=x\""),
        format!("{named}; filename\t=\"a filename=x\""),
        format!("{named}; filename= \"x\""),
        format!("{named}; filename=\t\"x\""),
        "Content-Disposition: form-data; name= \"q\"; filename=\"x\"".to_owned(),
        // To PHP the quotes go on, and the name is `q`.
        "Content-Disposition: form-data; name=\"q[]\\\\\"; filename=\"f\"".to_owned(),
    ] {
        both_deny(&multipart(&[part(&head, attack)]), &file);
    }
    both_deny(
        &multipart(&[part(&format!("{named}\r\nX-A: a\r\r{attack}"), "one")]),
        &multipart(&[field("q", "one")]),
    );
}

/// Readers look for a disposition and its parameters in more of a part's head than the one line that
/// says it, or in less: to each of these the part is a field, or has one in it.
#[test]
fn a_field_is_not_hidden_behind_a_file_by_the_other_headers_of_its_part() {
    let attack = "' UNION SELECT name, password FROM users-- ";
    let named = "Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\"";
    let bare = "Content-Disposition: form-data; name=q; filename=\"a.txt\"";
    let text = "Content-Type: text/plain";
    let with = |head: &str, content: &str| multipart(&[part(head, content)]);
    let long = "a".repeat(1_500);
    for head in [
        // Rack 2 looks for parameters in the whole head: the quote ends within the next line.
        format!("X-A: ; a=\"\r\n{bare}"),
        format!("X-A: \"; a=\"\r\n{bare}"),
        format!("Content-Type: text/plain; a=\"\r\n{bare}"),
        // Rack 3 takes the first such word for the header, wherever it stands, and none that is long.
        format!("X-Content-Disposition: form-data; name=\"q\"\r\n{named}"),
        format!("Content-ID: q\r\n{}", named.replace("a.txt", &long)),
        format!(
            "Content-ID: q\r\n{}",
            named.replace("form-data;", &format!("form-data;{}", " ".repeat(1_500)))
        ),
        // Perl's CGI finds headers within lines, wants a blank behind the colon, and takes the next
        // line for the value of an empty one.
        format!("{named}\r\nX@Content-Disposition: form-data; name=\"q\""),
        format!("{named}\r\nX-A:Content-Disposition:\tform-data; name=\"q\""),
        named.replace(": form", ":form"),
        format!("X-A:\r\n{named}"),
        // Mojolicious knows names in quotes alone; so does CGI not this one, which stands in another.
        "Content-Disposition: form-data; name=\"q\"; filename=a.txt".to_owned(),
        "Content-Disposition: form-data; name=\"q filename=\"; filename=a.txt".to_owned(),
        // The Rust crate multer.
        "Content-Disposition: form-data; name=\"q\"; filename*=utf-8''a; filename=\"a\"".to_owned(),
    ] {
        both_deny(&with(&head, attack), &with(&format!("{named}\r\n{text}"), attack));
    }
    // To multer a name that is no UTF-8 is none.
    let latin = |content: &str| {
        let body = String::from_utf8(with(named, content).body.clone()).unwrap();
        let (before, after) = body.split_once("a.txt").unwrap();
        let bytes = [before.as_bytes(), b"\xe4.txt", after.as_bytes()].concat();
        post_bytes("/", "multipart/form-data; boundary=frontier", &bytes)
    };
    both_deny(&latin(attack), &latin("one"));
    // Mojolicious and Tomcat read the parts of a part; to Tomcat an attachment's name that ends so is none.
    for inner in ["form-data; name=\"q\"", "attachment; filename=\"a\\\""] {
        for kind in ["multipart/mixed; boundary=interior", "Multipart/Related; Boundary=\"interior\""] {
            let content =
                format!("--interior\r\nContent-Disposition: {inner}\r\n\r\n{attack}\r\n--interior--");
            let head = format!("{named}\r\nContent-Type: {kind}");
            both_deny(&with(&head, &content), &with(&format!("{named}\r\n{text}"), &content));
        }
    }
    // What clients send.
    for head in [
        named.to_owned(),
        bare.to_owned(),
        bare.replace('"', ""),
        format!("{named}\r\nContent-Type: text/plain; charset=\"utf-8\""),
        format!("{named}\r\nContent-Type: multipart/related"),
        format!("Content-Length: 41\r\nContent-ID: <1@a.test>\r\n{named}\r\nContent-Type: application/pdf"),
        format!("{}\r\n{text}", named.replace("a.txt", &"ä".repeat(255))),
    ] {
        let args = denies(r#"ARGS "@contains UNION" "t:none"#);
        assert_eq!(run(&args, &with(&head, attack)).1, Verdict::Pass, "{head}");
    }
}

/// Werkzeug ends a boundary without quotes at the first letter that needs some: in one file's content
/// it found fields.
#[test]
fn a_boundary_that_needs_quotes_is_denied_without_them() {
    let attack = "' UNION SELECT name, password FROM users-- ";
    let named = "Content-Disposition: form-data; name=\"q\"";
    for mark in ['/', ':', '=', '?', ')'] {
        let boundary = |mark: char| format!("abc{mark}{}", "x".repeat(24));
        let inner = format!("--abc\r\n{named}\r\n\r\n{attack}\r\n--abc--");
        let whole = |boundary: &str| {
            let head =
                "Content-Disposition: form-data; name=\"f\"; filename=\"f.txt\"\r\nContent-Type: text/plain";
            let body = format!("--{boundary}\r\n{head}\r\n\r\n{inner}\r\n--{boundary}--\r\n");
            post(&format!("multipart/form-data; boundary={boundary}"), &body)
        };
        both_deny(&whole(&boundary(mark)), &whole(&boundary('-')));
    }
}

/// Python's frameworks take quotes and backslashes off the value of a cookie.
#[test]
fn a_cookie_in_quotes_is_seen_without_its_backslashes() {
    let with = |cookie: &str| {
        request(&format!(
            "GET / HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\nCookie: {cookie}\r\n\r\n"
        ))
    };
    let octal = |text: &str| text.bytes().map(|byte| format!("\\{byte:03o}")).collect::<String>();
    let attack = "' UNION SELECT name, password FROM users-- ";
    let cookies = denies(r#"REQUEST_COOKIES "@detectSQLi" "t:none"#);
    for attack in [format!("a=1; q=\"{}\"", octal(attack)), format!("q= \"{}\"", attack.replace('N', "\\N"))]
    {
        assert!(is_denied(&cookies, &with(&attack)), "{attack}");
        core_denies(&with(&attack), 942_100, &with(&format!("a=1; q=\"{}\"", octal("honest"))));
    }
    assert!(!is_denied(&cookies, &with("q=\"honest\"; b=\"it\\\"s\"")));
}

/// CVE-2026-21876: the charset of the last part alone was looked at.
#[test]
fn each_parts_charset_is_looked_at() {
    let charset = |name: &str, charset: &str| {
        part(
            &format!(
                "Content-Disposition: form-data; name=\"{name}\"\r\nContent-Type: text/plain; charset={charset}"
            ),
            "+ADw-script+AD4-",
        )
    };
    let honest = multipart(&[charset("a", "utf-8"), charset("b", "utf-8")]);
    core_denies(&multipart(&[charset("a", "utf-7"), charset("b", "utf-8")]), 922_110, &honest);
    core_denies(&multipart(&[charset("a", "utf-8"), charset("b", "utf-7")]), 922_110, &honest);
}

/// CVE-2022-39955: a second charset in a Content-Type that is no form's, read by some.
#[test]
fn content_types_with_two_charsets_are_denied() {
    let honest = post("application/x-www-form-urlencoded; charset=utf-8", "a=1");
    let attack = post("application/x-www-form-urlencoded; charset=utf-8; charset=utf-7", "a=1");
    core_denies(&attack, 920_530, &honest);
    core_denies(&post("application/x-www-form-urlencoded; charset=utf-7", "a=1"), 920_480, &honest);
}

/// CVE-2022-39956: a part in an encoding that the application undoes and the engine not.
#[test]
fn parts_with_a_transfer_encoding_are_denied() {
    let encoded = part(
        "Content-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64",
        "PHNjcmlwdD4=",
    );
    core_denies(&multipart(&[encoded]), 922_120, &multipart(&[field("a", "PHNjcmlwdD4=")]));
}

/// CVE-2022-39957: `Accept: …;charset=utf-7` asks for an answer that no rule can read.
#[test]
fn an_accept_header_that_asks_for_a_charset_is_denied() {
    let accept = |value: &str| {
        request(&format!(
            "GET / HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: Mozilla/5.0\r\nAccept: {value}\r\n\r\n"
        ))
    };
    core_denies(&accept("text/html;charset=utf-7"), 920_600, &accept("text/html,*/*;q=0.8"));
}

/// CVE-2022-39958: small ranges take an answer out piece by piece, past rules on answers.
#[test]
fn many_small_ranges_are_found() {
    let Some(shared) = support::shared() else { return };
    assert!(shared.is_dir());
    let set = support::core_rule_set(&Options::default(), &support::test_settings()).unwrap();
    let range = |value: &str| {
        request(&format!(
            "GET /a.txt HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: x\r\nAccept: */*\r\nRange: {value}\r\n\r\n"
        ))
    };
    let many = "bytes=1-10,11-20,21-30,31-40,41-50,51-60";
    assert!(ids(&run(&set, &range(many)).0).contains(&920_200));
    assert!(!ids(&run(&set, &range("bytes=0-1023")).0).contains(&920_200));
}

/// CVE-2023-38199: of two Content-Types the engine read one and the application the other.
#[test]
fn two_content_types_are_denied() {
    let two = |second: &str| {
        request(&format!(
            "POST / HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: x\r\nAccept: */*\r\nContent-Type: application/json\r\n{second}Content-Length: 2\r\n\r\n{{}}"
        ))
    };
    // As in Apache the fields are joined, and no list of types is an allowed type.
    core_denies(&two("Content-Type: text/plain\r\n"), 920_470, &two(""));
}

/// CVE-2021-35368: a path after the script's name switched the body's inspection off.
#[test]
fn a_path_after_the_script_changes_nothing_for_the_body() {
    let honest = post_bytes("/index.php/trailing/path", "application/x-www-form-urlencoded", b"a=hello");
    for target in ["/index.php", "/index.php/", "/index.php/trailing/path", "/index.php/x;y=z"] {
        let attack =
            post_bytes(target, "application/x-www-form-urlencoded", b"a=%3Cscript%3Ealert(1)%3C/script%3E");
        core_denies(&attack, 941_110, &honest);
    }
}

/// Whether nothing that was kept of the matches shows a value.
fn is_masked(set: &Arc<RuleSet>, body: &str) -> bool {
    let (transaction, _) = run(set, &post("application/x-www-form-urlencoded", body));
    transaction.matches().iter().all(|found| !found.log_data.contains("secret"))
}

/// CVE-2025-47947 and CVE-2025-48866: masking what matched took a time and a memory that
/// grew with the square of the arguments.
#[test]
fn masking_many_arguments_stays_linear() {
    let masks = |action: &str| {
        rules(
            &format!(
                "{HEAD}SecArgumentsLimit 2000\nSecRule ARGS \"@rx ^secret\" \"id:1,phase:2,pass,log,logdata:'%{{MATCHED_VAR}}',{action}\"\nSecRule ARGS:a100 \"@rx .\" \"id:2,phase:2,pass,log,logdata:'%{{MATCHED_VAR}}'\"\n"
            ),
            &Options::default(),
        )
    };
    let body = |count: usize| {
        (0..count).map(|number| format!("a{number}=secret{number:04}")).collect::<Vec<_>>().join("&")
    };
    let work = |set: &Arc<RuleSet>, count: usize| {
        let raw = post("application/x-www-form-urlencoded", &body(count));
        run(set, &raw).0.work_done()
    };
    for action in ["sanitiseMatched", "sanitiseMatchedBytes", "sanitiseMatchedBytes:1/4", "sanitiseArg:a1"] {
        let set = masks(action);
        assert!(work(&set, 1_000) < 20 * work(&set, 100), "{action}");
        let (transaction, verdict) =
            run(&set, &post("application/x-www-form-urlencoded", "a1=secret1&b=plain"));
        assert_eq!(verdict, Verdict::Pass);
        assert!(!transaction.matches().is_empty(), "{action}");
        assert!(transaction.matches().iter().all(|found| !found.log_data.contains("secret1")), "{action}");
        if !action.starts_with("sanitiseArg") {
            // At the limit of texts that are kept to be masked, and one past it.
            assert!(is_masked(&set, &body(100)) && is_masked(&set, &body(101)), "{action}");
        }
    }
}

/// CVE-2025-52891: an empty element of XML ended the engine.
#[test]
fn empty_elements_of_xml_are_read() {
    let set = rules(
        &format!(
            "{HEAD}SecRule REQUEST_HEADERS:Content-Type \"@contains xml\" \"id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=XML\"\nSecRule REQBODY_ERROR \"!@eq 0\" \"id:3,phase:2,deny\"\nSecRule XML:/* \"@contains attack\" \"id:1,phase:2,deny\"\n"
        ),
        &Options::default(),
    );
    for honest in ["<a></a>", "<a/>", "<a><b></b><b/></a>", "<a x=''></a>"] {
        assert_eq!(run(&set, &post("text/xml", honest)).1, Verdict::Pass, "{honest}");
    }
    for attack in ["<a><b></b>attack</a>", "<a><b/><c>attack</c></a>", "<a>"] {
        assert!(is_denied(&set, &post("text/xml", attack)), "{attack}");
    }
}

/// CVE-2019-11387: values that made expressions backtrack for minutes.
#[test]
fn values_against_backtracking_are_judged() {
    let Some(set) = core_rule_set() else { return };
    let form = |piece: &str, times: usize| {
        let value: String = piece.repeat(times).bytes().map(|byte| format!("%{byte:02x}")).collect();
        post("application/x-www-form-urlencoded", &format!("q={value}"))
    };
    for piece in ["((", "\\'\"", " or ", "a=a ", "<a ", "{{", "/*", "..%2f", "`$(", "&#0", "0x"] {
        let (short, _) = run(&set, &form(piece, 200));
        let (long, _) = run(&set, &form(piece, 4_000));
        assert!(
            long.work_done() < 40 * short.work_done(),
            "{piece}: {} and {}",
            short.work_done(),
            long.work_done()
        );
    }
    let (transaction, verdict) = run(&set, &form("<script>alert(1)</script>", 200));
    assert!(matches!(verdict, Verdict::Deny { .. }), "{:?}", ids(&transaction));
    let (transaction, verdict) = run(&set, &post("application/x-www-form-urlencoded", "q=hello+world"));
    assert_eq!(verdict, Verdict::Pass, "{:?}", ids(&transaction));
}

/// A body that no rule can read is refused or cut at its limit, as configured.
#[test]
fn a_large_body_ends_at_its_limit() {
    let limited = |action: &str| {
        rules(
            &format!(
                "{HEAD}SecRequestBodyLimit 4096\nSecRequestBodyNoFilesLimit 4096\nSecRequestBodyLimitAction {action}\nSecRule ARGS \"@streq y\" \"id:1,phase:2,deny\"\n"
            ),
            &Options::default(),
        )
    };
    let body = |length: usize| post_bytes("/", "application/x-www-form-urlencoded", &vec![b'a'; length]);
    let (reject, partial) = (limited("Reject"), limited("ProcessPartial"));
    assert_eq!(reject.settings().request_body_limit_action, LimitAction::Reject);
    assert!(is_denied(&reject, &body(4_097)));
    assert!(!is_denied(&reject, &body(4_096)));
    assert!(!is_denied(&partial, &body(100_000)));
}

/// A body is read first only where rules look at bodies of its kind: a stream has no end to wait
/// for.
#[test]
fn only_a_body_that_rules_look_at_is_asked_for() {
    const FORM: &str = "application/x-www-form-urlencoded";
    let forced = "SecAction \"id:2,phase:1,pass,nolog,ctl:forceRequestBodyVariable=On\"\nSecRule REQUEST_BODY x \"id:3,phase:2\"";
    let json = "SecAction \"id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON\"\nSecRule ARGS x \"id:3,phase:2\"";
    for (text, content_type, needed) in [
        ("SecRule ARGS x \"id:1,phase:2\"", FORM, true),
        ("SecRule ARGS_GET x \"id:1,phase:2\"", FORM, false),
        ("SecRule REQUEST_HEADERS x \"id:1,phase:1\"", FORM, false),
        ("SecRule REQBODY_ERROR 1 \"id:1,phase:2\"", FORM, true),
        ("SecRule REQUEST_BODY x \"id:1,phase:2\"", FORM, true),
        ("SecRule REQUEST_HEADERS x \"id:1,phase:2,logdata:'%{ARGS_POST.a}'\"", FORM, true),
        ("SecRule FILES x \"id:1,phase:2\"", "multipart/form-data; boundary=b", true),
        ("SecRule ARGS|REQUEST_BODY|XML:/* x \"id:1,phase:2\"", "application/grpc", false),
        ("SecRule REQUEST_BODY_LENGTH \"@gt 5\" \"id:1,phase:2\"", "application/grpc", true),
        ("SecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:1,phase:2\"", "application/grpc", true),
        ("SecRule FULL_REQUEST_LENGTH \"@gt 5\" \"id:1,phase:2\"", "application/grpc", true),
        (forced, "application/grpc", true),
        (json, "application/grpc", true),
    ] {
        let set = rules(&format!("{HEAD}{text}\n"), &Options::default());
        let raw = post(content_type, "");
        let mut transaction =
            Transaction::new(set, support::memory(), support::connection(), "f3b0c8a1d2e4", 0);
        let _ = raw.head(|head| transaction.request_headers(head, Budget::UNLIMITED));
        assert_eq!(transaction.needs_request_body(), needed, "{content_type} {text}");
    }
    let long = denies(r#"FULL_REQUEST_LENGTH "@gt 200" "t:none"#);
    assert!(is_denied(&long, &post("application/grpc", &"a".repeat(200))));
    assert!(!is_denied(&long, &post("application/grpc", "a")));
}
