//! The rule language: what is wrong is told with its place, nothing is loaded in part, and
//! what rules do is what the reference manual says.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use proptest::prelude::*;
use std::sync::Arc;
use support::{Files, Raw, connection, memory, rules, run, run_with};
use waf::{Budget, Cause, Options, ResponseHead, RuleSet, Transaction, Verdict};

fn load(text: &str) -> Result<RuleSet, String> {
    load_files(&[("test.conf", text)])
}

fn load_files(files: &[(&str, &str)]) -> Result<RuleSet, String> {
    let texts = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    RuleSet::load(&Files { texts }, &[files[0].0], &Options::default()).map_err(|faults| faults.to_string())
}

#[test]
fn every_fault_has_its_place_and_where_it_can_a_suggestion() {
    for (text, fault) in [
        ("SecRul ARGS x id:1", "1:1: unknown directive \"SecRul\" (did you mean \"SecRule\"?)"),
        ("\n  SecRule ARG \"@rx a\" \"id:1\"", "2:11: unknown variable \"ARG\" (did you mean \"ARGS\"?)"),
        (
            "SecRule ARGS|SCRIPT_UID \"@rx a\" \"id:1\"",
            "1:14: SCRIPT_UID is not supported: a gateway has no script file",
        ),
        (
            "SecRule &FILES_TMPNAMES \"@gt 0\" \"id:1\"",
            "1:10: FILES_TMPNAMES is not supported: no temporary files are written",
        ),
        (
            "SecRule ARGS \"@contians a\" \"id:1\"",
            "1:16: unknown operator \"contians\" (did you mean \"contains\"?)",
        ),
        ("SecRule ARGS \"@rbl a\" \"id:1\"", "1:16: @rbl is not supported"),
        (
            "SecRule ARGS \"@rx a\" \\\n  \"id:1,\\\n  t:lowercse\"",
            "3:5: unknown transformation \"lowercse\" (did you mean \"lowercase\"?)",
        ),
        ("SecRule ARGS \"@rx a\" \"id:1,dney\"", "1:28: unknown action \"dney\" (did you mean \"deny\"?)"),
        ("SecRule ARGS \"@rx a\" \"id:1,exec:x\"", "1:28: exec is not supported: rules start no programs"),
        (
            "SecAction \"id:1,ctl:ruleRemovById=1\"",
            "1:21: unknown ctl option \"ruleRemovById\" (did you mean \"ruleRemoveById\"?)",
        ),
        (
            "SecAction \"id:1,ctl:ruleEngine=Offf\"",
            "1:32: unknown engine mode \"Offf\" (did you mean \"Off\"?)",
        ),
        ("SecRule ARGS \"@rx a(?=b)\" \"id:1\"", "1:"),
        ("SecRule ARGS \"@rx a\"", "1:1: the rule has no id: add \"id:NUMBER\""),
        (
            "SecAction \"id:1,pass\"\nSecAction \"id:1,pass\"",
            "2:1: rule 1 is defined twice, first at test.conf:1:1",
        ),
        ("SecAction \"id:1,pass,chain\"", "1:1: the chain that begins here has no further SecRule"),
        (
            "SecRule ARGS a \"id:1,chain\"\nSecRule ARGS b \"deny\"",
            "2:1: \"a disruptive action\" may stand only in the first rule of a chain",
        ),
        (
            "SecAction \"id:1,msg:'%{ARGZ.a}'\"",
            "1:22: unknown variable in a macro \"ARGZ\" (did you mean \"ARGS\"?)",
        ),
        ("SecAction \"id:1,setvar:ty.a=1\"", "1:24: unknown collection \"ty\" (did you mean \"tx\"?)"),
        (
            "SecAction \"id:1,phase:6\"",
            "1:23: unknown phase \"6\"; known: 1, 2, 3, 4, 5, request, response, logging",
        ),
        ("SecAction \"id:x\"", "1:15: expected a number from 1 to 4294967295, found \"x\""),
        ("SecRule REQUEST_LINE:x a \"id:1\"", "1:22: REQUEST_LINE is a single value: it takes no selector"),
        ("SecRule XML:/a/b a \"id:1\"", "1:13: XPath \"/a/b\" is not supported"),
        ("SecRuleScript a.lua", "1:1: SecRuleScript is not supported: rules run no scripts"),
        ("SecContentInjection On", "1:1: SecContentInjection is supported only as Off"),
        ("<IfModule a>", "1:1: \"<IfModule\" is a section of Apache's configuration"),
        ("Include none.conf", "1:1: none.conf"),
        ("SecDefaultAction \"phase:1,log\"", "1:19: SecDefaultAction needs a disruptive action"),
        ("SecDefaultAction \"phase:1,block\"", "1:19: block asks for the default action"),
    ] {
        let found = load(text).expect_err(text);
        assert!(
            found.starts_with(&format!("test.conf:{fault}")),
            "{text}\n  found    {found}\n  expected {fault}"
        );
    }
}

#[test]
fn several_faults_are_told_at_once() {
    let found =
        load("SecRul A\nSecRule ARG a \"id:1,dney\"\nSecRule ARGS a \"id:2\"\nSecMarkr x").unwrap_err();
    assert_eq!(found.lines().count(), 4, "{found}");
}

#[test]
fn faults_past_the_limit_are_counted() {
    let at = "SecRul A\n".repeat(100);
    assert_eq!(load(&at).unwrap_err().lines().count(), 100);
    let past = "SecRul A\n".repeat(107);
    assert!(load(&past).unwrap_err().ends_with("\nand 7 more"));
}

#[test]
fn includes_are_followed_so_deep_and_no_deeper() {
    let file = |number: usize| (format!("{number}.conf"), format!("Include {}.conf\n", number + 1));
    let deep = |depth: usize| {
        let mut files: Vec<_> = (0..depth).map(file).collect();
        files.push((format!("{depth}.conf"), "SecAction \"id:1,pass\"".to_owned()));
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        load_files(&files)
    };
    assert_eq!(deep(16).unwrap().statistics().rules, 1);
    assert!(deep(17).unwrap_err().contains("more than 16 deep"));
    assert!(load_files(&[("a.conf", "Include a.conf")]).is_err());
}

#[test]
fn a_chain_holds_so_many_rules_and_no_more() {
    let chain = |links: usize| {
        let middle = "SecRule ARGS a \"chain\"\n".repeat(links - 2);
        load(&format!("SecRule ARGS a \"id:1,chain\"\n{middle}SecRule ARGS a"))
    };
    assert_eq!(chain(64).unwrap().statistics().links, 64);
    assert!(chain(65).unwrap_err().contains("a chain of more than 64 rules"));
}

#[test]
fn what_changes_nothing_here_is_noted() {
    let set = load("SecAuditLog /x\nSecDataDir /y\nSecRuleRemoveById 7\nSecContentInjection Off").unwrap();
    let notes: Vec<_> = set.notes().iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].starts_with("test.conf:1:1: SecAuditLog changes nothing here"));
}

fn get(target: &str) -> Raw {
    Raw::parse(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes())
}

/// The same with one more header.
fn get_with(target: &str, header: &str) -> Raw {
    Raw::parse(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{header}\r\n\r\n").as_bytes())
}

/// The ids that match, in order.
fn ids(text: &str, target: &str) -> Vec<u64> {
    let set = rules(&format!("SecRuleEngine On\n{text}"), &Options::default());
    run(&set, &get(target)).0.matches().iter().map(|found| found.rule).collect()
}

/// A transaction after the phases of its request.
fn begun(set: &Arc<RuleSet>, raw: &Raw) -> (Transaction, Verdict) {
    let mut transaction =
        Transaction::new(Arc::clone(set), memory(), connection(), "f3b0c8a1d2e4", 1_700_000_000_000);
    let _ = raw.head(|head| transaction.request_headers(head, Budget::UNLIMITED));
    if transaction.needs_request_body() {
        let _ = transaction.request_body_chunk(&raw.body);
    }
    let _ = transaction.request_body_end(Budget::UNLIMITED);
    let verdict = transaction.verdict();
    (transaction, verdict)
}

fn verdict(text: &str, target: &str) -> Verdict {
    run(&rules(&format!("SecRuleEngine On\n{text}"), &Options::default()), &get(target)).1
}

#[test]
fn rules_do_what_the_manual_says() {
    let table: &[(&str, &str, &[u64])] = &[
        // Selectors, counts, exclusions.
        (
            "SecRule ARGS:a x \"id:1\"\nSecRule ARGS:A x \"id:2\"\nSecRule ARGS:/^A$/ x \"id:3\"",
            "/?a=x",
            &[1, 2, 3],
        ),
        ("SecRule ARGS|!ARGS:a x \"id:1\"\nSecRule ARGS|!ARGS:/b/ x \"id:2\"", "/?a=x", &[2]),
        (
            "SecRule &ARGS \"@eq 2\" \"id:1\"\nSecRule &ARGS:a \"@eq 1\" \"id:2\"\nSecRule &TX:q \"@eq 0\" \"id:3\"",
            "/?a=1&b=2",
            &[1, 2, 3],
        ),
        ("SecRule ARGS_NAMES ^ab$ \"id:1\"\nSecRule QUERY_STRING ab= \"id:2\"", "/?ab=", &[1, 2]),
        // A negated operator matches each value that does not; none when there is no value.
        ("SecRule ARGS \"!@rx x\" \"id:1\"", "/?a=x", &[]),
        ("SecRule ARGS \"!@rx x\" \"id:1\"", "/?a=y", &[1]),
        ("SecRule ARGS \"!@rx x\" \"id:1\"", "/", &[]),
        // Chains: all links, and the first one's actions.
        ("SecRule ARGS:a x \"id:1,chain\"\nSecRule ARGS:b y", "/?a=x&b=y", &[1]),
        ("SecRule ARGS:a x \"id:1,chain\"\nSecRule ARGS:b y", "/?a=x&b=z", &[]),
        (
            "SecRule ARGS a \"id:1,nolog,chain\"\nSecRule MATCHED_VARS_NAMES ARGS:q \"setvar:tx.n=+1\"\nSecRule TX:n \"@eq 1\" \"id:2\"",
            "/?p=a&q=a",
            &[2],
        ),
        // Skips.
        (
            "SecAction \"id:1,nolog,skipAfter:END\"\nSecAction \"id:2\"\nSecMarker END\nSecAction \"id:3\"",
            "/",
            &[3],
        ),
        ("SecAction \"id:1,nolog,skip:1\"\nSecAction \"id:2\"\nSecAction \"id:3\"", "/", &[3]),
        ("SecAction \"id:1,nolog,skipAfter:NONE\"\nSecAction \"id:2\"", "/", &[]),
        (
            "SecAction \"id:1,phase:1,nolog,skipAfter:END\"\nSecAction \"id:2,phase:2\"\nSecMarker END",
            "/",
            &[2],
        ),
        // Variables.
        (
            "SecAction \"id:1,nolog,setvar:tx.a=5,setvar:tx.a=+3,setvar:tx.a=-10,setvar:tx.b\"\nSecRule TX:a \"@eq 0\" \"id:2\"\nSecRule TX:b \"@eq 1\" \"id:3\"",
            "/",
            &[2, 3],
        ),
        ("SecAction \"id:1,nolog,setvar:tx.a=1,setvar:!tx.a\"\nSecRule &TX:a \"@eq 0\" \"id:2\"", "/", &[2]),
        (
            "SecRule ARGS x \"id:1,nolog,setvar:'tx.n_%{MATCHED_VAR_NAME}=%{MATCHED_VAR}'\"\nSecRule TX:/^n_args:q/ \"@streq ax\" \"id:2\"",
            "/?q=ax",
            &[2],
        ),
        (
            "SecRule ARGS \"@rx (a)(b)?\" \"id:1,nolog,capture\"\nSecRule TX:1 a \"id:2\"\nSecRule &TX:2 \"@eq 0\" \"id:3\"",
            "/?q=ac",
            &[2, 3],
        ),
        ("SecRule ARGS:q \"@streq %{ARGS.p}\" \"id:1\"", "/?q=z&p=z", &[1]),
        // Transformations, and multiMatch at each step.
        ("SecRule ARGS \"@streq ab\" \"id:1,t:lowercase,t:removeWhitespace\"", "/?q=A+B", &[1]),
        (
            "SecRule ARGS \"@streq A\" \"id:1,t:lowercase,multiMatch\"\nSecRule ARGS \"@streq A\" \"id:2,t:lowercase\"",
            "/?q=A",
            &[1],
        ),
        // Changes of rules.
        ("SecRule ARGS x \"id:1\"\nSecRule ARGS x \"id:2\"\nSecRuleRemoveById 1 5-9", "/?a=x", &[2]),
        (
            "SecRule ARGS x \"id:1,tag:'t/a'\"\nSecRule ARGS x \"id:2,msg:'m n'\"\nSecRuleRemoveByTag ^t/\nSecRuleRemoveByMsg n$",
            "/?a=x",
            &[],
        ),
        ("SecRule ARGS x \"id:1\"\nSecRuleUpdateTargetById 1 !ARGS:a", "/?a=x", &[]),
        ("SecRule ARGS x \"id:1,tag:t\"\nSecRuleUpdateTargetByTag t REQUEST_URI", "/x", &[1]),
        ("SecRule ARGS x \"id:1,nolog\"\nSecRuleUpdateActionById 1 \"log,t:lowercase\"", "/?a=X", &[1]),
        // Changes of the engine.
        (
            "SecAction \"id:1,nolog,ctl:ruleRemoveById=2-3\"\nSecAction \"id:2\"\nSecAction \"id:4\"",
            "/",
            &[4],
        ),
        (
            "SecAction \"id:1,nolog,ctl:ruleRemoveByTag=^t$\"\nSecAction \"id:2,tag:t\"\nSecAction \"id:3,tag:tt\"",
            "/",
            &[3],
        ),
        ("SecAction \"id:1,nolog,ctl:ruleRemoveTargetById=2;ARGS:a\"\nSecRule ARGS x \"id:2\"", "/?a=x", &[]),
        (
            "SecAction \"id:1,nolog,ctl:ruleRemoveTargetById=2;ARGS:a\"\nSecRule ARGS x \"id:2\"",
            "/?a=x&b=x",
            &[2],
        ),
        ("SecAction \"id:1,phase:1,nolog,ctl:ruleEngine=Off\"\nSecAction \"id:2,phase:2\"", "/", &[]),
        // Comments of `allow`.
        (
            "SecAction \"id:1,phase:1,nolog,allow\"\nSecAction \"id:2,phase:2\"\nSecAction \"id:3,phase:5\"",
            "/",
            &[3],
        ),
        (
            "SecAction \"id:1,phase:1,nolog,allow:phase\"\nSecAction \"id:2,phase:1\"\nSecAction \"id:3,phase:2\"",
            "/",
            &[3],
        ),
        (
            "SecAction \"id:1,phase:1,nolog,allow:request\"\nSecAction \"id:2,phase:2\"\nSecAction \"id:3,phase:3\"",
            "/",
            &[3],
        ),
    ];
    for (text, target, expected) in table {
        assert_eq!(ids(text, target), *expected, "{text} on {target}");
    }
}

#[test]
fn disruptive_actions_stop_and_their_neighbours_pass() {
    let deny = |status| Verdict::Deny { status, rule: 1, cause: None };
    assert_eq!(verdict("SecRule ARGS x \"id:1,deny\"", "/?a=x"), deny(403));
    assert_eq!(verdict("SecRule ARGS x \"id:1,deny\"", "/?a=y"), Verdict::Pass);
    assert_eq!(verdict("SecRule ARGS x \"id:1,deny,status:418\"", "/?a=x"), deny(418));
    assert_eq!(verdict("SecRule ARGS x \"id:1,drop\"", "/?a=x"), Verdict::Drop { rule: 1 });
    assert_eq!(verdict("SecRule ARGS x \"id:1,pass\"", "/?a=x"), Verdict::Pass);
    assert_eq!(verdict("SecRule ARGS x \"id:1,block\"", "/?a=x"), Verdict::Pass);
    let default = "SecDefaultAction \"phase:2,log,deny,status:409\"\n";
    assert_eq!(verdict(&format!("{default}SecRule ARGS x \"id:1,block\""), "/?a=x"), deny(409));
    assert_eq!(verdict(&format!("{default}SecRule ARGS x \"id:1,pass\""), "/?a=x"), Verdict::Pass);
    let redirect = verdict("SecRule ARGS x \"id:1,redirect:'/no?%{ARGS.a}'\"", "/?a=x%0d%0aSet-Cookie:z");
    let location = b"/no?xSet-Cookie:z".to_vec();
    assert_eq!(redirect, Verdict::Redirect { status: 302, location, rule: 1 });
    // Nothing runs after it but the logging phase.
    assert_eq!(
        ids("SecAction \"id:1,phase:1,deny\"\nSecAction \"id:2,phase:2\"\nSecAction \"id:3,phase:5\"", "/"),
        [1, 3]
    );
}

#[test]
fn detection_only_has_no_effect_but_the_record() {
    let set = rules("SecRuleEngine DetectionOnly\nSecRule ARGS x \"id:1,deny\"", &Options::default());
    let (transaction, verdict) = run(&set, &get("/?a=x"));
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(transaction.intended(), Some(&Verdict::Deny { status: 403, rule: 1, cause: None }));
    assert_eq!(transaction.matches().len(), 1);
}

#[test]
fn an_operator_that_cannot_answer_is_a_denial() {
    let text = "SecRule ARGS:a \"@rx ^%{ARGS.p}$\" \"id:1,pass\"";
    let longer = format!("/?a=x&p={}", "y".repeat(8_192));
    assert!(matches!(
        verdict(text, &longer),
        Verdict::Deny { status: 500, rule: 0, cause: Some(Cause::Operator) }
    ));
    assert_eq!(verdict(text, "/?a=x&p=x"), Verdict::Pass);
}

#[test]
fn what_a_macro_brings_into_an_expression_is_text() {
    let text = "SecRule ARGS:csrf \"!@rx ^%{REQUEST_COOKIES.csrf}$\" \"id:1,phase:2,deny\"";
    let set = rules(&format!("SecRuleEngine On\n{text}"), &Options::default());
    for (cookie, argument, passes) in [
        ("token", "token", true),
        ("token", "other", false),
        (".*", "other", false),
        ("x|other", "other", false),
        ("a.b+c", "a.b%2bc", true),
        ("a.b", "axb", false),
        ("([", "(%5b", true),
        ("([", "x", false),
    ] {
        let request = get_with(&format!("/?csrf={argument}"), &format!("Cookie: csrf={cookie}"));
        let verdict = run(&set, &request).1;
        assert_eq!(verdict == Verdict::Pass, passes, "{cookie} {argument}");
    }
}

#[test]
fn an_expression_that_a_client_had_a_part_in_is_compiled_once_for_all_values() {
    let text = "SecRuleEngine On\nSecRule ARGS \"@rx ^%{REQUEST_HEADERS.X-Token}$\" \"id:1,phase:2,deny\"";
    let set = rules(text, &Options::default());
    let work = |token: &str, arguments: usize| {
        let target = format!("/?{}", "a=1&".repeat(arguments));
        run(&set, &get_with(&target, &format!("X-Token: {token}"))).0.work_done()
    };
    let (first, long) = ("a".repeat(50), "b".repeat(2_000));
    assert!(work(&first, 1) < work(&long, 1), "what is compiled is paid for");
    let (one, many) = (work(&long, 1), work(&long, 900));
    assert!(many < one + 2_000, "{one} {many}");
}

#[test]
fn collections_outlive_a_transaction_until_they_expire() {
    let text = "SecRuleEngine On\n\
        SecAction \"id:1,phase:1,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.hits=+1,expirevar:ip.hits=60\"\n\
        SecRule IP:hits \"@gt 2\" \"id:2,phase:1,deny,status:429\"";
    let set = rules(text, &Options::default());
    let (memory, start) = (memory(), 1_700_000_000_000);
    let at = |seconds: i64| run_with(&set, &get("/"), &memory, start + seconds * 1_000).1;
    assert_eq!([at(0), at(1)], [Verdict::Pass, Verdict::Pass]);
    assert_eq!(at(2), Verdict::Deny { status: 429, rule: 2, cause: None });
    assert_eq!(at(63), Verdict::Pass);
    assert_eq!(memory.len(), 1);
}

#[test]
fn sessions_users_and_resources_are_an_applications_own() {
    let memory = memory();
    for (opens, shared) in [
        ("setsid:a,setvar:session.hits=+1", false),
        ("setuid:a,setvar:user.hits=+1", false),
        ("setrsc:a,setvar:resource.hits=+1", false),
        ("initcol:user=b,setvar:user.hits=+1", false),
        ("initcol:ip=a,setvar:ip.hits=+1", true),
        ("initcol:global=a,setvar:global.hits=+1", true),
    ] {
        let kind = opens.rsplit_once(':').unwrap().1.split('.').next().unwrap().to_ascii_uppercase();
        let hits = |application: &str| {
            let text = format!(
                "SecRuleEngine On\n{application}SecAction \"id:1,phase:1,nolog,{opens}\"\n\
                 SecRule {kind}:hits|{kind}:key \"@rx .\" \"id:2,phase:1,pass,log,logdata:'%{{MATCHED_VAR}}'\""
            );
            let (transaction, _) =
                run_with(&rules(&text, &Options::default()), &get("/"), &memory, 1_700_000_000_000);
            transaction.matches().iter().map(|found| found.log_data.clone()).collect::<Vec<_>>()
        };
        let key = if opens.contains("=b") { "b" } else { "a" };
        assert_eq!(hits("SecWebAppId shop\n"), ["1", key], "{opens}");
        assert_eq!(hits("SecWebAppId shop\n"), ["2", key], "{opens}");
        let third = if shared { "3" } else { "1" };
        assert_eq!(hits("SecWebAppId bank\n"), [third, key], "{opens}");
        let fourth = if shared { "4" } else { "1" };
        assert_eq!(hits(""), [fourth, key], "{opens}");
    }
}

#[test]
fn work_is_sliced_and_comes_to_the_same() {
    use waf::{Budget, RequestHead, Step, Transaction};
    let text: String = (1..=50).map(|id| format!("SecRule ARGS x \"id:{id},phase:1\"\n")).collect();
    let set = rules(&format!("SecRuleEngine On\n{text}"), &Options::default());
    let mut transaction = Transaction::new(Arc::clone(&set), memory(), support::connection(), "id", 0);
    let head = RequestHead {
        line: b"GET /?a=x HTTP/1.1",
        method: b"GET",
        target: b"/?a=x",
        protocol: b"HTTP/1.1",
        headers: &[],
    };
    let mut slices = 1;
    let mut step = transaction.request_headers(&head, Budget { work_max: 10 });
    while step == Step::Yield {
        slices += 1;
        step = transaction.resume(Budget { work_max: 10 });
    }
    assert_eq!(step, Step::Done(Verdict::Pass));
    assert_eq!((transaction.matches().len(), slices), (50, 5));
}

#[test]
fn what_the_rules_ask_to_mask_is_masked() {
    let text = "SecRuleEngine On\nSecAction \"id:1,phase:1,nolog,sanitiseArg:password\"\n\
        SecRule ARGS s3cret \"id:2,logdata:'a %{MATCHED_VAR}'\"\nSecRule ARGS:q plain \"id:3,logdata:'%{MATCHED_VAR}'\"";
    let set = rules(text, &Options::default());
    let (transaction, _) = run(&set, &get("/?password=s3cret&q=plain"));
    let logged: Vec<_> = transaction.matches().iter().map(|found| found.log_data.as_str()).collect();
    assert_eq!(logged, ["a ********", "plain"]);
    // One that is longer than a logged text.
    for length in [4_000, 4_090, 4_096, 10_000] {
        let long: String = "s3cret".chars().cycle().take(length).collect();
        let (transaction, _) = run(&set, &get(&format!("/?password={long}")));
        assert_eq!(transaction.matches()[0].log_data, "a ********", "{length}");
    }
}

#[test]
fn a_rule_is_kept_with_its_first_matches_and_further_ones_are_counted() {
    let set = rules("SecRuleEngine On\nSecRule ARGS x \"id:1,setvar:tx.n=+1\"", &Options::default());
    let with = |count: usize| run(&set, &get(&format!("/?{}", "a=x&".repeat(count)))).0;
    let (at, past) = (with(8), with(9));
    assert_eq!((at.matches().len(), at.matches_further()), (8, 0));
    assert_eq!((past.matches().len(), past.matches_further()), (8, 1));
    // What it does, it does for each all the same.
    assert_eq!(past.variable("TX", Some("n")).unwrap(), b"9");
}

#[test]
fn a_logged_text_ends_at_its_limit() {
    let set =
        rules("SecRuleEngine On\nSecRule ARGS x \"id:1,logdata:'%{MATCHED_VAR}'\"", &Options::default());
    for (length, kept) in [(4_096, 4_096), (4_097, 4_096)] {
        let (transaction, _) = run(&set, &get(&format!("/?a={}", "x".repeat(length))));
        assert_eq!(transaction.matches()[0].log_data.len(), kept);
    }
}

#[test]
fn a_body_at_the_limit_is_read_and_one_byte_more_is_refused_or_cut() {
    let body = |length: usize| {
        let body = format!("a={}", "x".repeat(length - 2));
        let head = "POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        Raw::parse(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())
    };
    let text = |action: &str| {
        format!(
            "SecRuleEngine On\nSecRequestBodyAccess On\nSecRequestBodyLimit 64\nSecRequestBodyLimitAction {action}\n\
            SecRule ARGS:a \"@gt 61\" \"id:1,t:length\"\nSecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:2\""
        )
    };
    let reject = rules(&text("Reject"), &Options::default());
    assert_eq!(run(&reject, &body(64)).1, Verdict::Pass);
    assert_eq!(
        run(&reject, &body(65)).1,
        Verdict::Deny { status: 413, rule: 0, cause: Some(Cause::BodyTooLong) }
    );
    let partial = rules(&text("ProcessPartial"), &Options::default());
    let ids =
        |length| run(&partial, &body(length)).0.matches().iter().map(|found| found.rule).collect::<Vec<_>>();
    assert_eq!((ids(64), ids(65)), (vec![1], vec![1, 2]));
}

#[test]
fn a_collection_keeps_so_many_variables_of_such_a_length() {
    let limits = waf::MemoryLimits { variables_max: 2, value_bytes_max: 4, ..waf::MemoryLimits::default() };
    let memory = Arc::new(waf::Memory::new(limits));
    let text = "SecRuleEngine On\nSecAction \"id:1,phase:1,nolog,initcol:ip=a\"\n\
        SecRule ARGS:set . \"id:2,phase:1,nolog,setvar:ip.a=abcd,setvar:ip.b=abcde,setvar:ip.c=x\"\n\
        SecRule IP:a \"@streq abcd\" \"id:3,phase:1\"\nSecRule IP:b \"@streq abcd\" \"id:4,phase:1\"\n\
        SecRule &IP:c \"@eq 0\" \"id:5,phase:1\"";
    let set = rules(text, &Options::default());
    let _ = run_with(&set, &get("/?set=1"), &memory, 0);
    let ids: Vec<_> =
        run_with(&set, &get("/"), &memory, 1).0.matches().iter().map(|found| found.rule).collect();
    assert_eq!(ids, [3, 4, 5]);
}

#[test]
fn a_name_that_a_request_chose_is_kept_up_to_its_limit() {
    let memory = memory();
    let text = "SecRuleEngine On\nSecAction \"id:1,phase:1,nolog,initcol:ip=a\"\n\
        SecRule ARGS_NAMES . \"id:2,phase:1,nolog,setvar:ip.%{MATCHED_VAR}=1\"\n\
        SecRule IP:/^x/ . \"id:3,phase:1\"";
    let set = rules(text, &Options::default());
    for (length, kept) in [(513, 0), (512, 1), (513, 1)] {
        let _ = run_with(&set, &get(&format!("/?{}=1", "x".repeat(length))), &memory, 0);
        let (transaction, _) = run_with(&set, &get("/"), &memory, 1);
        assert_eq!(transaction.matches().len(), kept, "{length}");
    }
}

#[test]
fn what_is_closed_early_keeps_what_was_counted_and_masks_what_is_masked() {
    use waf::{Budget, RequestHead, Transaction};
    let text = "SecRuleEngine On\nSecAction \"id:1,phase:1,nolog,initcol:ip=a,setvar:ip.n=+1,sanitiseArg:a\"\n\
        SecRule ARGS:a s3cret \"id:2,phase:1,logdata:'%{MATCHED_VAR}'\"\n\
        SecRule IP:n \"@eq 2\" \"id:3,phase:1\"\nSecAction \"id:4,phase:5\"";
    let (set, memory) = (rules(text, &Options::default()), memory());
    let head = RequestHead {
        line: b"GET /?a=s3cret HTTP/1.1",
        method: b"GET",
        target: b"/?a=s3cret",
        protocol: b"HTTP/1.1",
        headers: &[],
    };
    let mut transaction =
        Transaction::new(Arc::clone(&set), Arc::clone(&memory), support::connection(), "id", 0);
    let _ = transaction.request_headers(&head, Budget::UNLIMITED);
    let _ = transaction.logging(0, Budget { work_max: 0 });
    transaction.close();
    let _ = transaction.resume(Budget::UNLIMITED);
    let found: Vec<_> =
        transaction.matches().iter().map(|found| (found.rule, found.log_data.as_str())).collect();
    assert_eq!(found, [(2, "********")], "rules ran behind the end");
    let (again, _) = run_with(&set, &get("/"), &memory, 1);
    assert_eq!(again.matches().iter().map(|found| found.rule).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn the_last_phase_means_to_stop_nothing() {
    for (phase, stops) in [(4, true), (5, false)] {
        let text = format!("SecRuleEngine DetectionOnly\nSecAction \"id:1,phase:{phase},deny\"");
        let (transaction, verdict) = run(&rules(&text, &Options::default()), &get("/"));
        assert_eq!((verdict, transaction.matches().len()), (Verdict::Pass, 1));
        assert_eq!(transaction.intended().is_some(), stops, "phase {phase}");
    }
}

const SAMPLE: &str = r#"SecRuleEngine On
SecDefaultAction "phase:2,log,auditlog,deny,status:403"
SecRule ARGS|!ARGS:/^x/|&TX:a|XML:/* "!@rx (?i)a[^b]*\"c" \
    "id:10,phase:2,block,capture,t:none,t:urlDecodeUni,t:lowercase,\
    msg:'it\'s %{MATCHED_VAR}',logdata:'%{TX.0}',tag:'a/b',severity:'CRITICAL',\
    setvar:'tx.score=+%{tx.critical}',chain"
    SecRule REQUEST_HEADERS:Host "@within a b" "t:none,setvar:tx.x=1"
SecAction "id:11,phase:1,nolog,pass,ctl:ruleRemoveTargetById=10;ARGS:q,skipAfter:END"
SecMarker "END"
SecRuleUpdateTargetById 10 "!REQUEST_COOKIES:/^_ga/"
SecRuleRemoveById 99
Include more.conf
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4_000 }))]

    /// Whatever the bytes, the load answers; and a set that loads has every rule of its text.
    #[test]
    fn fuzz_smoke_mutated_rule_files_load_whole_or_not_at_all(
        cut in 0..SAMPLE.len(), at in 0..SAMPLE.len(), piece in "[\"'\\\\\n,|:!&@%{}/a-c1-3]{0,4}", remove in 0..6_usize,
    ) {
        let mut bytes = SAMPLE.as_bytes()[..SAMPLE.len() - cut / 4].to_vec();
        let at = at.min(bytes.len());
        let end = (at + remove).min(bytes.len());
        bytes.splice(at..end, piece.into_bytes());
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        if let Ok(set) = load_files(&[("test.conf", &text), ("more.conf", "SecAction \"id:12,pass\"")]) {
            let heads = text.replace("\\\n", " ");
            let heads = heads.lines().map(str::trim_start).filter(|line| {
                let word = line.split([' ', '\t', '"']).next().unwrap_or_default();
                word.eq_ignore_ascii_case("SecRule") || word.eq_ignore_ascii_case("SecAction")
            });
            let removed = text.matches("SecRuleRemoveBy").count() * 3;
            let more = text.lines().filter(|line| line.trim_start().starts_with("Include")).count();
            prop_assert!(set.statistics().links + removed >= heads.count() + more.min(1) , "{text}");
        }
    }

    #[test]
    fn fuzz_smoke_any_text_is_answered(text in "(Sec(Rule|Action|Marker|DefaultAction|RuleUpdateTargetById)[ \"'A-Z@a-z0-9:,|!&%{}./=\\\\\n-]{0,60}\n?){1,4}") {
        let _ = load(&text);
    }
}

/// Whether a rule finds the leak in an answer of this type.
fn leaks(directives: &str, content_type: &str) -> bool {
    let text = format!(
        "SecRuleEngine On\nSecResponseBodyAccess On\n{directives}\n\
         SecRule RESPONSE_BODY \"@contains leak\" \"id:1,phase:4,deny\""
    );
    let set = rules(&text, &Options::default());
    let (mut transaction, _) = begun(&set, &get("/"));
    let headers = [(&b"content-type"[..], content_type.as_bytes())];
    let head = ResponseHead { status: 200, protocol: b"HTTP/1.1", headers: &headers };
    let _ = transaction.response_headers(&head, Budget::UNLIMITED);
    let _ = transaction.response_body_chunk(b"a leak");
    let _ = transaction.response_body_end(Budget::UNLIMITED);
    transaction.verdict() != Verdict::Pass
}

#[test]
fn media_types_of_answers_add_up_until_they_are_cleared() {
    let named = |name: &str| format!("SecResponseBodyMimeType {name}\n");
    let clear = "SecResponseBodyMimeTypesClear\n";
    let (html, json) = (named("text/html"), named("application/json text/xml"));
    for (directives, seen, unseen) in [
        (String::new(), &["text/html", "text/plain"][..], &["application/json"][..]),
        (html.clone(), &["text/html"], &["text/plain", "application/json"]),
        (format!("{html}{json}{html}"), &["text/html", "application/json", "text/xml"], &["text/plain"]),
        (format!("{html}{clear}{json}"), &["application/json", "text/xml"], &["text/html", "text/plain"]),
        (format!("{clear}{json}"), &["application/json"], &["text/html", "text/plain"]),
        (format!("{html}{clear}"), &[], &["text/html", "text/plain"]),
    ] {
        for (types, expected) in [(seen, true), (unseen, false)] {
            for name in types {
                assert_eq!(leaks(&directives, name), expected, "{directives:?} {name}");
            }
        }
    }
    let many = |count: usize| (0..count).map(|number| named(&format!("a/t{number}"))).collect::<String>();
    assert!(load(&many(256)).is_ok());
    assert!(load(&many(257)).unwrap_err().contains("1 to 256 media types in all"));
}

#[test]
fn an_update_of_targets_reaches_each_link_of_a_chain_unless_it_names_one() {
    let chain = "SecRule ARGS:a x \"id:1,phase:2,pass,msg:'m',tag:'t',chain\"\nSecRule ARGS|!ARGS:z y \"\"\n";
    for (update, target, found) in [
        ("", "/?a=x&b=y", true),
        ("SecRuleUpdateTargetById 1 \"!ARGS:b\"", "/?a=x&b=y", false),
        ("SecRuleUpdateTargetById 1 \"!ARGS:b\"", "/?a=x&c=y", true),
        ("SecRuleUpdateTargetById 1:0 \"!ARGS:b\"", "/?a=x&b=y", true),
        ("SecRuleUpdateTargetById 1:1 \"!ARGS:b\"", "/?a=x&b=y", false),
        ("SecRuleUpdateTargetByTag ^t$ \"!ARGS:b\"", "/?a=x&b=y", false),
        ("SecRuleUpdateTargetByMsg ^m$ \"!ARGS:b\"", "/?a=x&b=y", false),
        ("SecRuleUpdateTargetByMsg ^n$ \"!ARGS:b\"", "/?a=x&b=y", true),
        // Targets are added everywhere too.
        ("", "/xy", false),
        ("SecRuleUpdateTargetById 1 \"REQUEST_URI\"", "/xy", true),
        ("SecRuleUpdateTargetById 1:0 \"REQUEST_URI\"", "/xy", false),
        // What stands in the place of others stands only there.
        ("SecRuleUpdateTargetById 1 \"REQUEST_URI\" \"ARGS:a\"", "/x?b=y", true),
        ("SecRuleUpdateTargetById 1 \"REQUEST_URI\" \"ARGS:a\"", "/xy", false),
    ] {
        assert_eq!(
            ids(&format!("{chain}{update}\n"), target),
            if found { vec![1] } else { vec![] },
            "{update} {target}"
        );
    }
    let warned = |update: &str| {
        let set = load(&format!("{chain}{update}\n")).unwrap();
        set.notes().iter().any(|note| note.to_string().contains("names something that no rule"))
    };
    assert!(
        !warned("SecRuleUpdateTargetById 1 \"!ARGS:b\"") && warned("SecRuleUpdateTargetById 1:0 \"!ARGS:b\"")
    );
    assert!(warned("SecRuleUpdateTargetById 1 \"!REQUEST_COOKIES:b\""));
}

#[test]
fn an_action_without_a_test_is_counted_and_named_as_itself() {
    let closed = "SecRule ARGS \"@rx .\" \"id:10,phase:2,pass,log\"\n\
        SecAction \"id:11,phase:2,deny,log,msg:'closed',logdata:'%{rule.id} %{rule.msg}'\"\n";
    let set = rules(&format!("SecRuleEngine On\n{closed}"), &Options::default());
    for arguments in [0, 1, 8, 9, 100] {
        let (transaction, verdict) = run(&set, &get(&format!("/?{}", "a=1&".repeat(arguments))));
        assert_eq!(verdict, Verdict::Deny { status: 403, rule: 11, cause: None });
        let last = transaction.matches().last().unwrap();
        assert_eq!((last.rule, last.log_data.as_str()), (11, "11 closed"), "{arguments}");
        assert_eq!(transaction.matches().len(), arguments.min(8) + 1);
    }
    // Also where what the first rules come to is worked out at load.
    let opens = "SecAction \"id:1,phase:1,pass,nolog,setvar:tx.a=1\"\nSecAction \"id:2,phase:1,pass,nolog,setvar:tx.b=1\"\n";
    let told = |rule: &str| {
        let text = format!("{opens}SecRule RULE:id \"@eq {rule}\" \"id:3,phase:1,log,pass\"");
        ids(&text, "/")
    };
    assert_eq!([told("2"), told("1")], [vec![3], vec![]]);
}

#[test]
fn the_highest_severity_is_of_rules_that_matched_whole() {
    let text = "SecRule ARGS:a x \"id:1,phase:2,pass,severity:CRITICAL,chain\"\nSecRule ARGS:b y \"\"\n\
        SecRule HIGHEST_SEVERITY \"@le 2\" \"id:2,phase:2,deny\"";
    assert_eq!(verdict(text, "/?a=x&b=z"), Verdict::Pass);
    assert_eq!(verdict(text, "/?a=x&b=y"), Verdict::Deny { status: 403, rule: 2, cause: None });
}

#[test]
fn an_engine_that_a_rule_turns_off_runs_no_further_rule_of_its_phase() {
    let counts = "SecAction \"id:2,phase:PHASE,deny,log,initcol:global=g,setvar:global.hits=+1\"\nSecAction \"id:3,phase:5,pass,log\"\n";
    for phase in ["1", "2", "3", "4"] {
        for (address, found) in [("203.0.113.0/24", vec![]), ("198.51.100.0/24", vec![2, 3])] {
            let text = format!(
                "SecRuleEngine On\nSecRule REMOTE_ADDR \"@ipMatch {address}\" \"id:1,phase:{phase},pass,nolog,ctl:ruleEngine=Off\"\n{}",
                counts.replace("PHASE", phase)
            );
            let memory = memory();
            let (transaction, verdict) =
                run_with(&rules(&text, &Options::default()), &get("/"), &memory, 1_700_000_000_000);
            let ids: Vec<_> = transaction.matches().iter().map(|found| found.rule).collect();
            assert_eq!(
                (memory.len(), verdict == Verdict::Pass),
                (usize::from(!found.is_empty()), found.is_empty())
            );
            assert_eq!(
                (ids, transaction.intended().is_some()),
                (found.clone(), !found.is_empty()),
                "{phase} {address}"
            );
        }
    }
}

#[test]
fn a_counter_falls_with_time_also_where_the_same_transaction_raises_it() {
    let raise = "SecAction \"id:1,phase:1,nolog,pass,initcol:ip=%{REMOTE_ADDR},setvar:ip.score=+5\"\n";
    let lower = "SecAction \"id:2,phase:5,nolog,pass,deprecatevar:ip.score=60/300\"\n";
    let check = "SecRule IP:score \"@gt 5\" \"id:3,phase:2,deny\"\n";
    let calls = |text: &str, seconds: &[i64]| {
        let set = rules(&format!("SecRuleEngine On\n{text}"), &Options::default());
        let memory = memory();
        let denied =
            |at: &i64| run_with(&set, &get("/"), &memory, 1_700_000_000_000 + at * 1_000).1 != Verdict::Pass;
        seconds.iter().map(denied).collect::<Vec<_>>()
    };
    let every = [0, 600, 1_200, 1_800];
    // What is left of it at the end of each is 0.
    let over = "SecRule IP:score \"@gt 0\" \"id:3,phase:5,pass,setvar:ip.over=1\"\n\
        SecRule IP:over \"@eq 1\" \"id:4,phase:2,deny\"\n";
    assert_eq!(calls(&format!("{raise}{lower}{over}"), &every), [false, true, true, true]);
    let over = over.replace("@gt 0", "@gt 5");
    assert_eq!(calls(&format!("{raise}{lower}{over}"), &every), [false; 4]);
    // Without it, and too early for it, the score rises.
    assert_eq!(calls(&format!("{raise}{check}"), &every), [false, true, true, true]);
    assert_eq!(calls(&format!("{raise}{lower}{check}"), &[0, 100, 200, 290]), [false, true, true, true]);
    // A transaction that only lowers does so once, however often it says so.
    let slow = "SecAction \"id:2,phase:1,nolog,pass,initcol:ip=%{REMOTE_ADDR},deprecatevar:ip.score=1/300,deprecatevar:ip.score=1/300\"\n";
    let set = |text: &str| rules(&format!("SecRuleEngine On\n{text}"), &Options::default());
    let memory = memory();
    let _ = run_with(&set(raise), &get("/"), &memory, 1_700_000_000_000);
    for (at, left) in [(300, 4), (301, 4), (650, 3), (949, 3), (950, 2)] {
        let text = format!("{slow}SecRule IP:score \"@eq {left}\" \"id:3,phase:1,deny\"\n");
        let verdict = run_with(&set(&text), &get("/"), &memory, 1_700_000_000_000 + at * 1_000).1;
        assert_ne!(verdict, Verdict::Pass, "{at} {left}");
    }
}
