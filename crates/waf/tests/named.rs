//! Each directive, action, `ctl` option and variable that the manual names does what it says, where
//! no other test has it: beside each stands the same without it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::sync::Arc;
use support::{Raw, connection, memory, rules, run, run_with};
use waf::{Budget, Cause, Intake, Options, ResponseHead, RuleSet, Transaction, Verdict};

const NOW_MS: i64 = 1_700_000_000_000;

fn loaded(text: &str) -> Arc<RuleSet> {
    let on = "SecRuleEngine On\nSecRequestBodyAccess On\nSecResponseBodyAccess On\n";
    rules(&format!("{on}{text}"), &Options::default())
}

fn get(target: &str, header: &str) -> Raw {
    Raw::parse(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{header}\r\n\r\n").as_bytes())
}

fn form(body: &str) -> Raw {
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let length = body.len();
    let text =
        format!("POST / HTTP/1.1\r\nHost: a.example\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}");
    Raw::parse(text.as_bytes())
}

fn ids(text: &str, raw: &Raw) -> Vec<u64> {
    run(&loaded(text), raw).0.matches().iter().map(|found| found.rule).collect()
}

#[test]
fn directives_and_variables_of_a_head_do_what_they_say() {
    for (with, rule, target, header, without_it) in [
        (
            "SecCookieFormat 1",
            "SecRule REQUEST_COOKIES:a \"@streq x\" \"id:1\"",
            "/",
            "Cookie: $Version=1; a=\"x\"",
            false,
        ),
        (
            "SecCookieFormat 1",
            "SecRule &REQUEST_COOKIES \"@eq 1\" \"id:1\"",
            "/",
            "Cookie: $Version=1; a=\"x\"",
            false,
        ),
        (
            "SecCookieV0Separator ,",
            "SecRule REQUEST_COOKIES:b \"@streq x\" \"id:1\"",
            "/",
            "Cookie: a=1,b=x",
            false,
        ),
        ("SecArgumentSeparator ;", "SecRule ARGS:b \"@streq x\" \"id:1\"", "/?a=1;b=x", "X: y", false),
        (
            "SecAction \"id:9,phase:1,pass,nolog,setsid:abc\"",
            "SecRule SESSIONID \"@streq abc\" \"id:1\"",
            "/",
            "X: y",
            false,
        ),
        (
            "SecAction \"id:9,phase:1,pass,nolog,setuid:bob\"",
            "SecRule USERID \"@streq bob\" \"id:1\"",
            "/",
            "X: y",
            false,
        ),
        ("", "SecRule REMOTE_USER \"@streq bob\" \"id:1\"", "/", "Authorization: Basic Ym9iOng=", true),
        ("", "SecRule AUTH_TYPE \"@streq Basic\" \"id:1\"", "/", "Authorization: Basic Ym9iOng=", true),
        ("", "SecRule REMOTE_USER \"@streq bob\" \"id:1\"", "/", "Authorization: Bearer Ym9iOng=", false),
    ] {
        let found = ids(&format!("{with}\n{rule}"), &get(target, header));
        let expected = !with.is_empty() || without_it;
        assert_eq!(found == [1], expected, "{with} {rule}");
        assert_eq!(ids(rule, &get(target, header)) == [1], without_it, "{rule} alone");
    }
}

#[test]
fn ctl_options_change_what_the_rest_of_the_transaction_does() {
    let rule = "SecRule ARGS:a \"@streq x\" \"id:1,phase:2,pass,msg:'m',tag:'t',chain\"\nSecRule ARGS:b \"@streq y\" \"\"";
    for (ctl, found) in [
        ("requestBodyLimit=1000", true),
        ("ruleRemoveByMsg=^m$", false),
        ("ruleRemoveByMsg=^n$", true),
        ("ruleRemoveTargetByMsg=^m$;ARGS:a", false),
        ("ruleRemoveTargetByMsg=^m$;ARGS:b", false),
        ("ruleRemoveTargetByMsg=^m$;ARGS:c", true),
        ("ruleRemoveTargetByMsg=^n$;ARGS:a", true),
        ("ruleRemoveTargetByTag=^t$;ARGS:a", false),
        ("ruleRemoveTargetByTag=^t$;ARGS:b", false),
        ("ruleRemoveTargetByTag=^u$;ARGS:b", true),
        ("ruleRemoveTargetById=1;ARGS:b", false),
    ] {
        let text = format!("SecAction \"id:9,phase:1,pass,nolog,ctl:{ctl}\"\n{rule}");
        assert_eq!(ids(&text, &form("a=x&b=y")), if found { vec![1] } else { vec![] }, "{ctl}");
    }
    let limited = |ctl: &str| {
        run(&loaded(&format!("SecAction \"id:9,phase:1,pass,nolog,ctl:{ctl}\"\n{rule}")), &form("a=x&b=y")).1
    };
    assert_eq!(
        limited("requestBodyLimit=6"),
        Verdict::Deny { status: 413, rule: 0, cause: Some(Cause::BodyTooLong) }
    );
    assert_eq!(limited("requestBodyLimit=7"), Verdict::Pass);
    for (ctl, audited) in [("auditEngine=Off", false), ("auditEngine=On", true)] {
        let text = format!("SecAction \"id:9,phase:1,pass,nolog,ctl:{ctl}\"\n{rule}");
        let (transaction, _) = run(&loaded(&text), &form("a=x&b=y"));
        assert_eq!(transaction.matches()[0].audit, audited, "{ctl}");
    }
}

/// The request and the head of an answer.
fn answered(text: &str, headers: &[(&[u8], &[u8])]) -> Transaction {
    let mut transaction = Transaction::new(loaded(text), memory(), connection(), "f3b0c8a1d2e4", NOW_MS);
    let request = get("/", "X-Secret: hidden");
    let _ = request.head(|head| transaction.request_headers(head, Budget::UNLIMITED));
    let _ = transaction.request_body_end(Budget::UNLIMITED);
    let head = ResponseHead { status: 200, protocol: b"HTTP/1.1", headers };
    let _ = transaction.response_headers(&head, Budget::UNLIMITED);
    transaction
}

#[test]
fn the_limit_of_an_answer_may_be_changed_for_one_transaction() {
    let rule =
        "SecResponseBodyLimitAction Reject\nSecRule RESPONSE_BODY \"@contains leak\" \"id:1,phase:4,deny\"\n";
    for (limit, refused) in [("6", false), ("5", true)] {
        let text = format!("{rule}SecAction \"id:9,phase:1,pass,nolog,ctl:responseBodyLimit={limit}\"");
        let mut transaction = answered(&text, &[(b"content-type", b"text/html")]);
        let taken = transaction.response_body_chunk(b"a leak");
        let over =
            Intake::Refused(Verdict::Deny { status: 500, rule: 0, cause: Some(Cause::ResponseTooLong) });
        assert_eq!(taken, if refused { over } else { Intake::More }, "{limit}");
    }
}

#[test]
fn headers_that_are_to_be_masked_are() {
    let tells = "SecAction \"id:1,phase:4,pass,log,logdata:'%{REQUEST_HEADERS.X-Secret} %{RESPONSE_HEADERS.X-Own}'\"\n";
    for (action, told) in [
        ("msg:'none'", "hidden inner"),
        ("sanitiseRequestHeader:X-Secret", "******** inner"),
        ("sanitiseResponseHeader:X-Own", "hidden ********"),
        ("sanitiseRequestHeader:X-Other", "hidden inner"),
    ] {
        let text = format!("{tells}SecAction \"id:2,phase:4,pass,nolog,{action}\"");
        let mut transaction = answered(&text, &[(b"content-type", b"text/html"), (b"x-own", b"inner")]);
        let _ = transaction.response_body_end(Budget::UNLIMITED);
        let _ = transaction.logging(NOW_MS, Budget::UNLIMITED);
        assert_eq!(transaction.matches()[0].log_data, told, "{action}");
    }
}

#[test]
fn a_collection_tells_of_itself_and_is_forgotten_after_its_timeout() {
    let opens = "SecCollectionTimeout 100\nSecAction \"id:9,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.n=+1\"\n";
    // Seconds after the first; new, changes so far, the last change, the counter now.
    for (at, is_new, updates, last, counter) in
        [(0, 1, 0, 0, 1), (60, 0, 1, 0, 2), (150, 0, 2, 60, 3), (249, 0, 3, 150, 4), (349, 1, 0, 349, 1)]
    {
        let start = NOW_MS / 1_000;
        let created = if is_new == 1 { start + at } else { start };
        for (name, value) in [
            ("is_new", is_new),
            ("update_counter", updates),
            ("create_time", created),
            ("last_update_time", start + last),
            ("timeout", 100),
            ("n", counter),
        ] {
            // Asked in a transaction of its own over a copy: each look would be a change.
            let check = format!("SecRule IP:{name} \"@eq {value}\" \"id:1,phase:1,pass,log\"");
            let copy = replayed(opens, at);
            let found =
                run_with(&loaded(&format!("{opens}{check}")), &get("/", "X: y"), &copy, NOW_MS + at * 1_000);
            assert_eq!(found.0.matches().len(), 1, "{name} {value} at {at}");
        }
    }
    let key = "SecRule IP:key \"@streq 203.0.113.9\" \"id:1,phase:1,pass,log\"";
    assert_eq!(ids(&format!("{opens}{key}"), &get("/", "X: y")), [1]);
}

/// A memory after the transactions before this second.
fn replayed(opens: &str, before: i64) -> Arc<waf::Memory> {
    let memory = memory();
    for at in [0, 60, 150, 249, 349].into_iter().filter(|at| *at < before) {
        let _ = run_with(&loaded(opens), &get("/", "X: y"), &memory, NOW_MS + at * 1_000);
    }
    memory
}
