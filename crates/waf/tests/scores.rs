//! What is kept of anomaly scores, and what somebody who watches is told.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use support::{Raw, connection, memory, rules, run};
use waf::{Budget, Options, Raise, RequestHead, Side, Step, Transaction, Verdict, Watch};

const RULES: &str = r#"
SecRuleEngine DetectionOnly
SecAction "id:1,phase:1,pass,nolog,noauditlog,setvar:tx.critical=5,setvar:tx.blocking_paranoia_level=1,setvar:tx.detection_paranoia_level=2,setvar:tx.inbound_anomaly_score_threshold=5,setvar:tx.outbound_anomaly_score_threshold=4"
SecRule ARGS "@contains attack" "id:10,phase:1,pass,log,msg:'x',setvar:tx.sqli_score=+1,setvar:tx.inbound_anomaly_score_pl1=+%{tx.critical}"
SecRule ARGS "@contains odd" "id:11,phase:1,pass,log,setvar:tx.inbound_anomaly_score_pl2=+3,setvar:tx.odd=1"
SecRule ARGS "@contains odd" "id:12,phase:1,pass,log,chain"
    SecRule ARGS "@contains attack" "setvar:tx.outbound_anomaly_score_pl1=+4"
SecRule ARGS "@contains odd" "id:13,phase:1,pass,log,skipAfter:here"
SecMarker here
SecRule TX:blocking_paranoia_level "@ge 1" "id:20,phase:1,pass,nolog,noauditlog,setvar:tx.blocking_inbound_anomaly_score=+%{tx.inbound_anomaly_score_pl1}"
SecRule TX:blocking_inbound_anomaly_score "@ge %{tx.inbound_anomaly_score_threshold}" "id:21,phase:1,deny,log,msg:'over'"
"#;

fn get(target: &str) -> Raw {
    Raw::parse(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes())
}

#[test]
fn scores_stand_by_level_with_what_raised_them() {
    let (transaction, _) = run(&rules(RULES, &Options::default()), &get("/?a=attack&b=odd&c=attack"));
    let scores = transaction.scores().unwrap();
    assert_eq!((scores.inbound, scores.inbound_levels), (10, [10, 3, 0, 0]));
    assert_eq!((scores.outbound_levels, scores.paranoia, scores.paranoia_detection), ([8, 0, 0, 0], 1, 2));
    assert_eq!((scores.threshold_inbound, scores.threshold_outbound), (5, 4));
    let of = |id| transaction.matches().iter().find(|found| found.rule == id).unwrap();
    assert_eq!(of(10).raises, [Raise { side: Side::Inbound, level: 1, amount: 5 }]);
    assert_eq!(of(11).raises, [Raise { side: Side::Inbound, level: 2, amount: 3 }]);
    assert_eq!(of(12).raises, [Raise { side: Side::Outbound, level: 1, amount: 4 }]);
    assert_eq!((of(10).does_more, of(11).does_more), (false, true));
    assert!(of(13).does_more, "it skips rules");
    assert_eq!((of(10).is_chain, of(12).is_chain), (false, true));
    assert_eq!((of(10).judges, of(21).judges), (None, Some(Side::Inbound)));
    // What is raised is what is summed.
    let sum: u32 =
        transaction.matches().iter().flat_map(|found| &found.raises).map(|raise| raise.amount).sum();
    assert_eq!(sum, 10 + 3 + 8);
}

#[test]
fn the_rule_that_judges_settles_only_where_nothing_follows() {
    let settles = |text: String| {
        let (transaction, _) = run(&rules(&text, &Options::default()), &get("/?a=attack"));
        let judge = transaction.matches().iter().find(|found| found.judges.is_some()).unwrap();
        judge.settles
    };
    assert!(!settles(RULES.to_owned()), "in phase 1 the body is not seen yet");
    let late = RULES.replace("phase:1", "phase:2");
    assert!(settles(late.clone()));
    assert!(settles(format!("{late}SecRule ARGS x \"id:30,phase:2,pass,log\"\n")));
    assert!(settles(format!("{late}SecRule ARGS x \"id:30,phase:3,deny,log\"\n")));
    assert!(!settles(format!("{late}SecRule ARGS x \"id:30,phase:2,deny,log\"\n")));
    let raise = "SecRule ARGS x \"id:30,phase:2,pass,log,setvar:tx.inbound_anomaly_score_pl4=+1\"\n";
    assert!(!settles(format!("{late}{raise}")));
}

#[test]
fn version_3_keeps_scores_under_other_names() {
    let older = RULES
        .replace("blocking_inbound_anomaly_score", "anomaly_score")
        .replace("tx.inbound_anomaly_score_pl", "tx.anomaly_score_pl")
        .replace("blocking_paranoia_level", "paranoia_level")
        .replace("detection_paranoia_level", "executing_paranoia_level");
    let (transaction, _) = run(&rules(&older, &Options::default()), &get("/?a=attack"));
    let scores = transaction.scores().unwrap();
    assert_eq!((scores.inbound, scores.inbound_levels, scores.paranoia), (5, [5, 0, 0, 0], 1));
    assert_eq!(scores.paranoia_detection, 2);
    assert!(transaction.matches().iter().any(|found| found.judges == Some(Side::Inbound)));
}

#[test]
fn rules_without_scores_have_none() {
    let text = "SecRuleEngine On\nSecRule ARGS \"@contains attack\" \"id:10,phase:1,deny,log\"";
    assert_eq!(run(&rules(text, &Options::default()), &get("/?a=attack")).0.scores(), None);
}

#[derive(Default)]
struct Told(Vec<(usize, bool)>);

impl Watch for Told {
    fn begin(&mut self, place: usize) {
        self.0.push((place, false));
    }

    fn end(&mut self, matched: bool) {
        self.0.last_mut().unwrap().1 = matched;
    }
}

#[test]
fn somebody_who_watches_is_told_of_each_rule_looked_at_and_changes_nothing() {
    let set = rules(RULES, &Options::default());
    let head = RequestHead {
        line: b"GET /?a=attack HTTP/1.1",
        method: b"GET",
        target: b"/?a=attack",
        protocol: b"HTTP/1.1",
        headers: &[(b"Host", b"a.example")],
    };
    let mut watched = Transaction::new(set.clone(), memory(), connection(), "id", 0);
    // With no budget a phase begins and does nothing yet.
    assert_eq!(watched.request_headers(&head, Budget { work_max: 0 }), Step::Yield);
    let mut told = Told::default();
    assert_eq!(watched.resume_watched(Budget::UNLIMITED, &mut told), Step::Done(Verdict::Pass));
    let ids: Vec<u64> = set.ids().collect();
    let told: Vec<(u64, bool)> = told.0.iter().map(|(place, matched)| (ids[*place], *matched)).collect();
    // Rules whose literals are nowhere are passed over, and so are those that begin alike for
    // every transaction.
    assert_eq!(told, [(10, true), (20, true), (21, true)]);
    let mut alone = Transaction::new(set, memory(), connection(), "id", 0);
    let _ = alone.request_headers(&head, Budget::UNLIMITED);
    assert_eq!(alone.matches(), watched.matches());
}
