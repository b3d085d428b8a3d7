//! What becomes of an inspection that ends early, and of one that only writes down.

use super::super::testing::{firewall, inspection, slow_argument, slow_rules};
use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(2);
/// Rules of phase 5 that take many slices, and one behind them.
fn long_end() -> String {
    slow_rules(300, 5) + "SecAction \"id:999,phase:5,pass,log\"\n"
}

/// How a phase begins.
type Phase<'h> = dyn Fn(&mut Inspection) -> Poll<Result<(), Stopped>> + 'h;

async fn judged(rules: &str, target: &str) -> Inspection {
    let mut inspection = inspection(&firewall(rules), Mode::Block);
    let raw = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    inspection.request_headers(&Head::refused(raw.as_bytes())).await.unwrap();
    inspection.request_body_end().await.unwrap();
    inspection
}

fn ids(inspection: &Inspection) -> Vec<u64> {
    inspection.found().map(|found| found.rule).collect()
}

#[tokio::test]
async fn phase_5_runs_whole_where_somebody_waits_and_a_slice_where_nobody_does() {
    let long = format!("/?q={}", slow_argument(5_000));
    let mut waited = judged(&long_end(), &long).await;
    waited.end(NOW).await;
    waited.break_off(NOW);
    assert_eq!((ids(&waited), waited.is_unfinished()), (vec![999], false));
    let mut alone = judged(&long_end(), &long).await;
    alone.break_off(NOW);
    assert_eq!((ids(&alone), alone.is_unfinished()), (vec![], true));
    let mut short = judged(&long_end(), "/?q=a").await;
    short.break_off(NOW);
    assert_eq!((ids(&short), short.is_unfinished()), (vec![999], false));
}

#[tokio::test]
async fn phase_5_rests_between_slices() {
    let mut inspection = judged(&long_end(), &format!("/?q={}", slow_argument(5_000))).await;
    let mut end = Box::pin(inspection.end(NOW));
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        end.as_mut().poll(cx)
    })
    .await;
    assert!(polls > 5, "{polls}");
}

#[tokio::test]
async fn values_too_long_for_the_core_are_not_looked_at_when_nobody_waits() {
    let rule = "SecRule ARGS \"@contains abc\" \"id:1,phase:5,pass,log\"\n";
    for (bytes, found) in [(1_000, vec![1]), (100_000, vec![])] {
        let mut inspection = judged(rule, &format!("/?q={}", slow_argument(bytes))).await;
        inspection.break_off(NOW);
        assert_eq!((ids(&inspection), inspection.is_unfinished()), (found.clone(), found.is_empty()));
    }
}

#[tokio::test]
async fn what_is_masked_stays_masked_when_phase_5_is_broken_off() {
    let rules =
        "SecRule ARGS:q \"@rx (.*)\" \"id:1,phase:1,pass,log,sanitiseArg:q,logdata:'%{MATCHED_VAR}'\"\n";
    let mut inspection = judged(
        &(rules.to_owned() + &slow_rules(300, 5).replace("id:", "id:1")),
        &format!("/?q={}", slow_argument(5_000)),
    )
    .await;
    inspection.break_off(NOW);
    assert!(inspection.is_unfinished());
    assert_eq!(inspection.found().next().unwrap().log_data, "********");
}

#[tokio::test]
async fn an_answer_is_judged_a_slice_at_a_time() {
    let head = waf::ResponseHead { status: 200, protocol: b"HTTP/1.1", headers: &[] };
    for (phase, bytes, rests) in [(3, 5_000, true), (4, 5_000, true), (3, 10, false), (4, 10, false)] {
        let mut inspection = judged(&slow_rules(300, phase), &format!("/?q={}", slow_argument(bytes))).await;
        assert!(!inspection.is_unfinished());
        let mut rested = false;
        let phases: [&Phase<'_>; 2] =
            [&|inspection| inspection.response_headers(&head), &|inspection| inspection.response_body_end()];
        for begin in phases {
            if begin(&mut inspection).is_pending() {
                rested = true;
                poll_fn(|cx| inspection.poll_judge(cx)).await.unwrap();
            }
            assert!(inspection.is_unfinished());
        }
        inspection.response_judged();
        assert_eq!((rested, inspection.is_unfinished()), (rests, false), "phase {phase}, {bytes}");
    }
}

#[tokio::test]
async fn what_only_detects_is_stopped_by_nothing() {
    let rules = "SecAction \"id:1,phase:1,deny,log\"\nSecAction \"id:2,phase:1,drop,log\"\nSecAction \"id:3,phase:2,deny,log\"\n";
    let mut detects = inspection(&firewall(rules), Mode::Detect);
    detects.request_headers(&Head::refused(b"GET / HTTP/1.1\r\n\r\n")).await.unwrap();
    detects.request_body_end().await.unwrap();
    assert!(detects.pass().is_some());
    assert_eq!((ids(&detects), detects.stopped(), detects.intended()), (vec![1, 2, 3], None, Some(1)));
    let mut blocks = inspection(&firewall(rules), Mode::Block);
    assert!(blocks.request_headers(&Head::refused(b"GET / HTTP/1.1\r\n\r\n")).await.is_err());
    assert!(blocks.pass().is_none());
}
