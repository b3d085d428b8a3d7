//! `bastide waf`: the operator's tools, on files and on the log of a real gateway.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use bastide::demo::client::{Answer, Request, http1};
use serde_json::Value;

use crate::support::{BASTIDE, TestBed, Upstream, get_request, read, until};

/// A rule set that keeps scores as the Core Rule Set does, of two paranoia levels.
const RULES: &str = r#"
SecRequestBodyAccess On
SecAction "id:900001,phase:1,pass,nolog,noauditlog,setvar:tx.critical=5,setvar:tx.blocking_paranoia_level={{paranoia}},setvar:tx.detection_paranoia_level={{detection}},setvar:tx.inbound_anomaly_score_threshold={{threshold}},setvar:tx.outbound_anomaly_score_threshold=4"
SecRule ARGS "@contains select" "id:942100,phase:2,pass,log,severity:CRITICAL,msg:'SQL words',logdata:'%{MATCHED_VAR_NAME}: %{MATCHED_VAR}',tag:'attack-sqli',setvar:tx.inbound_anomaly_score_pl1=+%{tx.critical}"
SecRule ARGS "@contains alert(" "id:941100,phase:2,pass,log,severity:CRITICAL,msg:'A script',tag:'attack-xss',setvar:tx.inbound_anomaly_score_pl1=+%{tx.critical}"
SecRule ARGS "@contains ~" "id:920100,phase:2,pass,log,severity:NOTICE,msg:'A tilde',setvar:tx.inbound_anomaly_score_pl1=+2"
SecRule TX:detection_paranoia_level "@lt 2" "id:942011,phase:2,pass,nolog,noauditlog,skipAfter:END-LEVEL-2"
SecRule ARGS "@contains --" "id:942200,phase:2,pass,log,severity:CRITICAL,msg:'A comment',tag:'attack-sqli',setvar:tx.inbound_anomaly_score_pl2=+%{tx.critical}"
SecMarker END-LEVEL-2
SecRule ARGS:q "@streq teapot" "id:21,phase:2,deny,status:418,log,msg:'teapot'"
SecRule TX:blocking_paranoia_level "@ge 1" "id:949060,phase:2,pass,nolog,noauditlog,setvar:tx.blocking_inbound_anomaly_score=+%{tx.inbound_anomaly_score_pl1}"
SecRule TX:blocking_paranoia_level "@ge 2" "id:949061,phase:2,pass,nolog,noauditlog,setvar:tx.blocking_inbound_anomaly_score=+%{tx.inbound_anomaly_score_pl2}"
SecRule TX:blocking_inbound_anomaly_score "@ge %{tx.inbound_anomaly_score_threshold}" "id:949110,phase:2,deny,log,msg:'Score %{tx.blocking_inbound_anomaly_score}'"
"#;

fn rules(paranoia: u8, detection: u8, threshold: u32) -> String {
    let numbers =
        [("paranoia", u32::from(paranoia)), ("detection", u32::from(detection)), ("threshold", threshold)];
    numbers.iter().fold(RULES.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), &value.to_string())
    })
}

fn configuration(upstream: &Upstream, waf: &str) -> String {
    format!(
        "workers: 1\nservices:\n  here: [ http://{} ]\nroutes:\n  - name: shop\n    match: /**\n    to: here\n    \
         authenticate: none\n    allow: anyone\n{waf}",
        upstream.address
    )
}

async fn testbed(upstream: &Upstream, mode: &str, text: &str) -> TestBed {
    let waf = format!("waf: {{ rules: rules.conf, mode: {mode} }}\n");
    let mut testbed = TestBed::prepare(&configuration(upstream, &waf));
    std::fs::write(testbed.path("rules.conf"), text).unwrap();
    testbed.start_gateway().await;
    testbed
}

async fn ask_from(testbed: &TestBed, target: &str, from: [u8; 4]) -> Answer {
    let endpoint =
        bastide::demo::client::Endpoint { from: Some(IpAddr::from(from)), ..testbed.clear_endpoint() };
    http1::ask(&endpoint, &get_request(target)).await.unwrap()
}

/// Waits until the firewall's log holds so many lines, and gives its folder.
async fn logged(testbed: &TestBed, lines: usize) -> String {
    let folder = testbed.path("state/firewall");
    let count = || {
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let texts = files.filter(|file| file.path().extension().is_some_and(|e| e == "jsonl"));
        texts.map(|file| read(&file.path()).lines().count()).sum::<usize>()
    };
    until("the firewall's log", async || (count() >= lines).then_some(())).await;
    folder.to_str().unwrap().to_owned()
}

/// Runs `bastide waf …`: exit code, standard output, standard error.
fn waf(folder: &Path, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(BASTIDE)
        .arg("waf")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let (code, out, error) = waf(folder, &[arguments, &["--output", "json"]].concat(), b"");
    (code, serde_json::from_str(&out).unwrap_or_else(|fault| panic!("{fault}: {out}{error}")))
}

#[test]
fn check_tells_every_fault_with_its_place_and_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("good.conf", &rules(1, 1, 5));
    write(
        "bad.conf",
        "SecRule ARGS \"@contians a\" \"id:1\"\nSecRule ARG a \"id:2\"\nSecAction \"id:21,pass\"\n",
    );
    write("odd.conf", "SecRule ARGS \"@rx UNION\" \"id:5,phase:2,pass,t:lowercase\"\nSecMarker lonely\n");
    let (code, out, _) = waf(folder.path(), &["check", "good.conf"], b"");
    assert_eq!(code, 0, "{out}");
    for part in ["ok: 10 rules in 1 file", "by phase 1: 1, 2: 9", "0 warnings", "linear time"] {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
    let (code, out, _) = waf(folder.path(), &["check", "good.conf", "bad.conf"], b"");
    assert_eq!(code, 1, "{out}");
    for part in [
        "bad.conf:1:16: unknown operator \"contians\" (did you mean \"contains\"?)",
        "bad.conf:2:9: unknown variable \"ARG\" (did you mean \"ARGS\"?)",
        "bad.conf:3:1: rule 21 is defined twice, first at good.conf:",
        "refused: 3 faults",
    ] {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
    let (code, out, _) = waf(folder.path(), &["check", "odd.conf"], b"");
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("odd.conf:1:1: warning: rule 5 can never match"), "{out}");
    assert!(out.contains("odd.conf:2:11: note: no rule skips to marker \"lonely\""), "{out}");
    assert_eq!(waf(folder.path(), &["check", "--strict", "odd.conf"], b"").0, 1);
    assert_eq!(waf(folder.path(), &["check", "--strict", "good.conf"], b"").0, 0);
    let (code, report) = json(folder.path(), &["check", "*.conf"]);
    assert_eq!(
        (code, report["ok"].as_bool(), report["faults"].as_array().unwrap().len()),
        (1, Some(false), 3)
    );
    assert_eq!((&report["faults"][0]["line"], &report["faults"][0]["column"]), (&1.into(), &16.into()));
    let (code, report) = json(folder.path(), &["check", "odd.conf"]);
    assert_eq!((code, report["notes"][0]["severity"].as_str()), (0, Some("warning")));
    // A folder is its files; what matches nothing is a fault; nothing at all is wrong usage.
    let (code, out, _) = waf(folder.path(), &["check", "."], b"");
    assert!(code == 1 && out.contains("refused: 3 faults"), "{out}");
    let (code, out, _) = waf(folder.path(), &["check", "none*.conf"], b"");
    assert!(code == 1 && out.contains("matches no rule file"), "{out}");
    assert_eq!(waf(folder.path(), &["check"], b"").0, 2);
}

#[test]
fn test_judges_requests_from_files_and_says_what_they_cost() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let leak = "SecResponseBodyMimeType text/html\nSecRule RESPONSE_BODY \"@contains leak\" \"id:40,phase:4,deny,log,msg:'leak'\"\n";
    write("rules.conf", &(rules(1, 2, 5) + leak));
    write("good.http", "GET /?q=hello HTTP/1.1\r\nHost: a\r\n\r\n");
    write(
        "bad.http",
        "POST /?q=select HTTP/1.1\nHost: a\nContent-Type: application/x-www-form-urlencoded\n\npassword=select-hunter2",
    );
    write("page.http", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    write(
        "page.response.http",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\na leak",
    );
    let test = |arguments: &[&str]| {
        waf(folder.path(), &[&["test", "--rules", "rules.conf"], arguments].concat(), b"")
    };

    let (code, out, error) = test(&["good.http", "bad.http"]);
    assert_eq!(code, 1, "{out}{error}");
    for part in [
        "good.http: passed",
        "bad.http: blocked with 403 by rule 949110",
        "942100 phase 2 severity 2 +5 ARGS:q: SQL words",
        "anomaly score inbound 10 of 5",
        "no Content-Length: all that follows",
        "1 of 2 blocked",
    ] {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
    assert!(!out.contains("hunter2") && out.contains("***"), "a password is shown: {out}");
    assert_eq!(test(&["good.http"]).0, 0);
    // Rules with faults judge nothing.
    write("bad.conf", "SecRule ARGS \"@contians a\" \"id:1\"\n");
    let (code, report) = json(folder.path(), &["test", "--rules", "bad.conf", "good.http"]);
    assert!(code == 3 && report["faults"].as_array().unwrap().len() == 1, "{code} {report}");
    // Every option says what it is for.
    for (arguments, blocked) in [
        (&["--mode", "detect"][..], 0),
        (&["--exclude", "942100"], 0),
        (&["--exclude", "942100:ARGS:password"], 1),
        (&["--exclude", "942100:ARGS:password", "--exclude", "942100:ARGS:q"], 0),
        (&["--exclude", "tag=attack-sqli"], 0),
    ] {
        let (code, out, error) = test(&[arguments, &["bad.http"]].concat());
        assert_eq!(code, blocked, "{arguments:?}: {out}{error}");
    }
    // An answer beside the request, or given.
    let (code, out, _) = test(&["page.http"]);
    assert_eq!(code, 0, "the rules do not look at answers: {out}");
    let (code, out, _) = test(&["page.http", "--response", "page.response.http"]);
    assert!(code == 1 && out.contains("by rule 40"), "{out}");
    // Standard input, JSON, timing.
    let arguments = ["test", "--rules", "rules.conf", "--timing", "--output", "json", "-"];
    let (code, out, error) = waf(folder.path(), &arguments, b"GET /?q=a~b HTTP/1.1\r\nHost: a\r\n\r\n");
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|fault| panic!("{fault}: {out}{error}"));
    let request = &report["requests"][0];
    assert_eq!(
        (code, request["verdict"].as_str(), &request["rules"][0]["id"]),
        (0, Some("detected"), &920_100.into())
    );
    assert_eq!(
        (&request["scores"]["inbound"], &request["scores"]["inbound_levels"][0]),
        (&2.into(), &2.into())
    );
    let timing = request["timing"]["rules"].as_array().unwrap();
    let micros: Vec<f64> = timing.iter().map(|rule| rule["micros"].as_f64().unwrap()).collect();
    assert!(micros.len() >= 3 && micros.windows(2).all(|pair| pair[0] >= pair[1]), "{timing:?}");
    assert!(micros.iter().sum::<f64>() > 0.0);
    // What cannot be read is said, and is no verdict.
    let (code, _, error) = test(&["none.http"]);
    assert!(code == 3 && error.contains("none.http"), "{error}");
    write("odd.http", "nonsense");
    assert_eq!(test(&["odd.http"]).0, 3);
    let (code, _, error) = test(&["--exclude", "x", "good.http"]);
    assert!(code == 2 && error.contains("a rule's id such as 942100"), "{error}");
}

#[tokio::test]
async fn test_takes_the_firewall_of_a_route() {
    let upstream = Upstream::start().await;
    let testbed = TestBed::prepare(
        &(configuration(&upstream, "waf: rules.conf\n").replace(
            "    allow: anyone\n",
            "    allow: anyone\n    waf: { exclusions: [ { rule: 942100, target: \"ARGS:q\" } ] }\n  - name: open\n    match: /open\n    to: here\n    authenticate: none\n    allow: anyone\n    waf: off\n",
        )),
    );
    std::fs::write(testbed.path("rules.conf"), rules(1, 1, 5)).unwrap();
    std::fs::write(testbed.path("a.http"), "GET /?q=select HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let test = |arguments: &[&str]| {
        waf(
            testbed.folder.path(),
            &[&["test", "--config", "bastide.yaml", "a.http"], arguments].concat(),
            b"",
        )
    };
    assert_eq!(test(&[]).0, 1);
    assert_eq!(test(&["--route", "shop"]).0, 0);
    let (code, _, error) = test(&["--route", "open"]);
    assert!(code == 3 && error.contains("has no firewall"), "{error}");
    let (code, _, error) = test(&["--route", "shpo"]);
    assert!(code == 3 && error.contains("did you mean \"shop\"?"), "{error}");
}

/// Targets and what of them a rule finds.
const TARGETS: &[&str] = &[
    "/?q=hello",
    "/?q=select",
    "/?q=a~b",
    "/?q=a~b&r=c~d&s=e~f",
    "/?q=select&r=alert(",
    "/?q=a--b",
    "/?q=a--b&r=c~d",
    "/?q=teapot",
    "/?q=teapot&r=select",
];

/// What a gateway under these settings answers to each target.
async fn answers(mode: &str, paranoia: u8, detection: u8, threshold: u32) -> (TestBed, String, Vec<bool>) {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, mode, &rules(paranoia, detection, threshold)).await;
    let mut blocked = Vec::new();
    for target in TARGETS {
        let answer = http1::ask(&testbed.clear_endpoint(), &get_request(target)).await.unwrap();
        blocked.push(answer.status != 200);
    }
    let log = logged(&testbed, TARGETS.len()).await;
    (testbed, log, blocked)
}

#[tokio::test]
async fn replay_of_the_same_settings_changes_nothing() {
    for (mode, detection) in [("block", 1), ("detect", 2)] {
        let (testbed, log, _) = answers(mode, 1, detection, 5).await;
        let same =
            ["replay", "--paranoia", "1", "--inbound-threshold", "5", "--outbound-threshold", "4", &log];
        let (code, report) = json(testbed.folder.path(), &same);
        assert_eq!(code, 0, "{mode}: {report:#}");
        assert_eq!(report["requests"], TARGETS.len());
        assert_eq!(
            (
                &report["newly_blocked"]["count"],
                &report["newly_passed"]["count"],
                &report["undecidable"]["count"]
            ),
            (&0.into(), &0.into(), &0.into()),
            "{mode}: {report:#}"
        );
        assert_eq!(report["still_blocked"], 5, "{mode}: {report:#}");
    }
}

/// Held against gateways that run under the other settings: what replay says of a log is
/// what they do, and what it cannot say it does not.
#[tokio::test]
async fn replay_says_what_another_gateway_does() {
    let (testbed, log, was) = answers("detect", 1, 2, 5).await;
    assert_eq!(was, vec![false; TARGETS.len()]);
    let would = answers("block", 1, 1, 5).await.2;
    for (paranoia, threshold) in [(1, 2), (2, 5), (2, 7), (1, 10)] {
        let (paranoia_text, threshold_text) = (paranoia.to_string(), threshold.to_string());
        let arguments =
            ["replay", "--paranoia", &paranoia_text, "--inbound-threshold", &threshold_text, log.as_str()];
        let (_, report) = json(testbed.folder.path(), &arguments);
        let comes = answers("block", paranoia, paranoia, threshold).await.2;
        let pairs = || would.iter().zip(&comes);
        let newly_blocked = pairs().filter(|(was, comes)| !**was && **comes).count();
        let newly_passed = pairs().filter(|(was, comes)| **was && !**comes).count();
        assert_eq!(
            (
                &report["newly_blocked"]["count"],
                &report["newly_passed"]["count"],
                &report["undecidable"]["count"]
            ),
            (&newly_blocked.into(), &newly_passed.into(), &0.into()),
            "paranoia {paranoia}, threshold {threshold}: {report:#}"
        );
    }
    // From a log of a blocking gateway at level 1 a higher level cannot be told.
    let (testbed, log, _) = answers("block", 1, 1, 5).await;
    let (code, report) = json(testbed.folder.path(), &["replay", "--paranoia", "2", &log]);
    assert_eq!(code, 1, "what cannot be told is no \"no change\": {report:#}");
    assert_eq!(report["undecidable"]["by_reason"]["level_not_run"], 4, "{report:#}");
    // Nor what stands behind a rule that stopped a request.
    let (_, report) = json(testbed.folder.path(), &["replay", "--exclude", "21", &log]);
    assert_eq!(report["undecidable"]["by_reason"]["cut_short"], 1, "{report:#}");
    let behind = format!("{}SecRule ARGS:z \"@streq z\" \"id:22,phase:2,deny,log\"\n", rules(1, 1, 5));
    let upstream = Upstream::start().await;
    let followed = self::testbed(&upstream, "block", &behind).await;
    ask_from(&followed, "/?q=select", [127, 0, 0, 1]).await;
    let followed_log = logged(&followed, 1).await;
    let (_, report) = json(followed.folder.path(), &["replay", "--exclude", "942100", &followed_log]);
    assert_eq!(report["undecidable"]["by_reason"]["cut_short"], 1, "a rule behind the score: {report:#}");
    let (code, out, _) = waf(testbed.folder.path(), &["replay", "--exclude", "942100:ARGS:q", &log], b"");
    assert!(code == 1 && out.contains("newly let through: 1 (of 1 nobody has seen the answer"), "{out}");
    let elsewhere = tempfile::tempdir().unwrap();
    let (code, _, error) = waf(elsewhere.path(), &["replay", &log], b"");
    assert!(code == 3 && error.contains("choose what to compare with"), "{error}");
    let (code, _, error) = waf(testbed.folder.path(), &["replay", "--paranoia", "1", "bastide.yaml"], b"");
    assert!(code == 3 && error.contains("not a firewall log"), "{error}");
}

#[tokio::test]
async fn replay_against_a_configuration_goes_by_route() {
    let (testbed, log, _) = answers("block", 1, 1, 5).await;
    let config = |waf: &str| {
        let text = read(&testbed.path("bastide.yaml"));
        let (rest, _) = text.split_once("waf: {").unwrap();
        std::fs::write(testbed.path("new.yaml"), format!("{rest}{waf}")).unwrap();
    };
    config("waf: { rules: rules.conf }\n");
    let replay = || json(testbed.folder.path(), &["replay", "--config", "new.yaml", &log]);
    let (code, report) = replay();
    assert_eq!((code, &report["undecidable"]["count"]), (0, &0.into()), "{report:#}");
    // Other thresholds in the rule files themselves are seen.
    std::fs::write(testbed.path("milder.conf"), rules(1, 1, 6)).unwrap();
    config("waf: { rules: milder.conf }\n");
    let (code, report) = replay();
    assert_eq!((code, &report["newly_passed"]["count"]), (1, &1.into()), "{report:#}");
    config("waf: off\n");
    assert_eq!(replay().1["newly_passed"]["count"], 5);
    config("waf: { rules: rules.conf, exclusions: [ { rule: 942100 } ] }\n");
    let report = replay().1;
    assert_eq!(report["newly_passed"]["count"], 1, "{report:#}");
    // The log that the configuration names is the default.
    let (code, report) = json(testbed.folder.path(), &["replay", "--config", "bastide.yaml"]);
    assert_eq!((code, &report["requests"]), (0, &TARGETS.len().into()), "{report:#}");
}

#[tokio::test]
async fn exclude_proposes_for_honest_clients_and_not_for_attackers() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "block", &rules(1, 1, 5)).await;
    let mut sent = 0;
    let mut ask = async |target: &str, from: [u8; 4]| {
        sent += 1;
        ask_from(&testbed, target, from).await.status
    };
    // Four customers who write of what they select, and are otherwise served.
    for customer in 1..=4 {
        assert_eq!(ask("/?q=hello", [127, 1, customer, 1]).await, 200);
        for _ in 0..2 {
            assert_eq!(ask("/?comment=please+select+green", [127, 1, customer, 1]).await, 403);
        }
    }
    // A crowd that does nothing but attack, in a place of its own; one who is served too, and
    // whose every value is an attack twice over; one who tries rule after rule.
    for attacker in 1..=6 {
        for _ in 0..2 {
            assert_eq!(ask("/?id=1+union+select", [127, 2, attacker, 1]).await, 403);
        }
    }
    assert_eq!(ask("/?q=hello", [127, 3, 1, 1]).await, 200);
    for _ in 0..3 {
        assert_eq!(ask("/?name=alert(select", [127, 3, 1, 1]).await, 403);
    }
    let log = logged(&testbed, sent).await;

    let (code, report) = json(testbed.folder.path(), &["exclude", "--from-log", &log]);
    assert_eq!(code, 0, "{report:#}");
    let proposals = report["proposals"].as_array().unwrap();
    assert_eq!(proposals.len(), 1, "{report:#}");
    let proposal = &proposals[0];
    assert_eq!(
        (proposal["rule"].as_u64(), proposal["target"].as_str(), proposal["route"].as_str()),
        (Some(942_100), Some("ARGS:comment"), Some("shop"))
    );
    assert_eq!((&proposal["evidence"]["requests"], &proposal["evidence"]["clients"]), (&8.into(), &4.into()));
    assert_eq!(proposal["evidence"]["samples"].as_array().unwrap().len(), 3);
    assert_eq!(report["effect"]["newly_passed"]["count"], 8, "{report:#}");
    let refused = report["not_proposed"].as_array().unwrap();
    let why = |target: &str| {
        let found = refused.iter().find(|one| one["target"] == target && one["rule"] == 942_100);
        found.unwrap_or_else(|| panic!("{refused:?}"))["why"].as_str().unwrap().to_owned()
    };
    assert!(why("ARGS:id").contains("0 of the 3 clients"), "{}", why("ARGS:id"));
    assert!(why("ARGS:name").contains("0 of the 3 clients"), "{}", why("ARGS:name"));

    // A higher bar is not met.
    let (code, out, _) =
        waf(testbed.folder.path(), &["exclude", "--from-log", &log, "--min-clients", "5"], b"");
    assert!(code == 1 && out.contains("nothing to propose") && out.contains("4 of the 5 clients"), "{out}");

    // What is proposed is pasted, taken, and does what was said.
    let text = read(&testbed.path("bastide.yaml"));
    let pasted = text
        .replace("    allow: anyone\n", &format!("    allow: anyone\n{}", report["yaml"].as_str().unwrap()));
    std::fs::write(testbed.path("pasted.yaml"), &pasted).unwrap();
    let (code, out, _) = testbed.bastide(&["check", "pasted.yaml"]);
    assert_eq!(code, 0, "{out}\n{pasted}");
    std::fs::rename(testbed.path("pasted.yaml"), testbed.path("bastide.yaml")).unwrap();
    until("the exclusion", async || {
        (ask_from(&testbed, "/?comment=please+select+green", [127, 1, 1, 1]).await.status == 200)
            .then_some(())
    })
    .await;
    assert_eq!(ask_from(&testbed, "/?id=1+union+select", [127, 2, 1, 1]).await.status, 403);
    assert_eq!(ask_from(&testbed, "/?comment=alert(1)", [127, 1, 1, 1]).await.status, 403);
}

/// The folder of the Core Rule Set beside the repository, where there is one.
pub(crate) fn core_rule_set() -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/crs");
    if !folder.join("rules/REQUEST-901-INITIALIZATION.conf").is_file() {
        println!("skipped: no ../shared/crs beside the repository");
        return None;
    }
    Some(folder.canonicalize().unwrap().to_str().unwrap().to_owned())
}

#[test]
fn the_core_rule_set_is_checked_and_tested() {
    let Some(crs) = core_rule_set() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (code, report) = json(folder.path(), &["check", "--strict", &crs]);
    assert_eq!((code, report["faults"].as_array().unwrap().len()), (0, 0), "{report:#}");
    assert!(report["summary"]["by_paranoia_level"]["4"].as_u64().unwrap() > 0, "{report:#}");
    let request = b"GET /?q=1%27%20OR%20%271%27=%271 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n";
    let test = |more: &[&str]| {
        let arguments = [&["test", "--rules", &crs, "--output", "json", "-"], more].concat();
        let (code, out, _) = waf(folder.path(), &arguments, request);
        (code, serde_json::from_str::<Value>(&out).unwrap())
    };
    let (code, report) = test(&[]);
    assert_eq!((code, &report["requests"][0]["rule"]), (1, &949_110.into()), "{report:#}");
    let (code, report) = test(&["--inbound-threshold", "100"]);
    assert_eq!((code, &report["requests"][0]["verdict"]), (0, &"detected".into()), "{report:#}");
    let levels = |report: &Value| report["requests"][0]["scores"]["inbound_levels"].clone();
    let (_, higher) = test(&["--paranoia", "3", "--inbound-threshold", "1000"]);
    assert_eq!(levels(&report)[1], 0);
    assert!(levels(&higher)[1].as_u64().unwrap() > 0, "{higher:#}");
}

/// With the real rules: a log at paranoia level 1 that ran level 3, held against gateways at
/// levels 2 and 3 and other thresholds.
#[tokio::test]
async fn replay_of_the_core_rule_set_says_what_another_gateway_does() {
    let Some(crs) = core_rule_set() else { return };
    let upstream = Upstream::start().await;
    let targets = [
        "/?q=hello",
        "/?q=1%27+OR+%271%27=%271",
        "/?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "/?f=../../etc/passwd",
        "/?q=select+a+table+from+the+union",
        "/?q=O%27Brien",
        "/?q=a;b|c",
        "/?q=%E2%82%AC",
        "/?x=$(id)",
        "/?q=100%25",
        "/?q=a%00b",
        "/?q=;;;;;;;;",
    ];
    let run = async |settings: &str| {
        let waf = format!("waf: {{ rules: {crs:?}, {settings} }}\n");
        let testbed = TestBed::start(&configuration(&upstream, &waf)).await;
        let mut blocked = Vec::new();
        for target in targets {
            let request =
                Request::new("GET", "shop.example", target).field("user-agent", "x").field("accept", "*/*");
            blocked.push(http1::ask(&testbed.clear_endpoint(), &request).await.unwrap().status != 200);
        }
        let log = logged(&testbed, targets.len()).await;
        (testbed, log, blocked)
    };
    let (testbed, log, _) = run("mode: detect, paranoia: 1, paranoia_detection: 3").await;
    let would = run("mode: block, paranoia: 1").await.2;
    assert!(would.iter().any(|blocked| *blocked) && !would[0]);
    for (paranoia, threshold) in [("1", "5"), ("1", "15"), ("2", "5"), ("3", "8")] {
        let comes =
            run(&format!("mode: block, paranoia: {paranoia}, thresholds: {{ inbound: {threshold} }}"))
                .await
                .2;
        let arguments = ["replay", "--paranoia", paranoia, "--inbound-threshold", threshold, log.as_str()];
        let (_, report) = json(testbed.folder.path(), &arguments);
        let pairs = || would.iter().zip(&comes);
        let newly_blocked = pairs().filter(|(was, comes)| !**was && **comes).count();
        let newly_passed = pairs().filter(|(was, comes)| **was && !**comes).count();
        assert_eq!(
            (
                &report["newly_blocked"]["count"],
                &report["newly_passed"]["count"],
                &report["undecidable"]["count"]
            ),
            (&newly_blocked.into(), &newly_passed.into(), &0.into()),
            "paranoia {paranoia}, threshold {threshold}: {report:#}"
        );
    }
}
