//! What becomes of an inspection that ends early, and of one that only writes down.

use super::super::testing::{firewall, inspection, slow_argument, slow_rules};
use super::*;
use proxy::head::{FieldsBuilder, Framing};
use proxy::{Frame, ResponseHead};

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

/// A head of detect mode that goes on, and a piece of its body.
async fn observed(rules: &str, content_type: &str, piece: &'static [u8]) -> Inspection {
    let mut inspection = inspection(&firewall(rules), Mode::Detect);
    let raw = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\n\r\n");
    inspection.request_headers(&Head::refused(raw.as_bytes())).await.unwrap();
    assert!(inspection.needs_request_body());
    assert!(inspection.pass().is_some());
    inspection.observe(Some(Reading::Plain));
    inspection.observe_request(&Frame::Data(Bytes::from_static(piece)));
    inspection
}

const OBSERVING: &str = "SecRequestBodyAccess On\nSecResponseBodyAccess On\n\
    SecRule REQUEST_HEADERS:Content-Type \"@contains json\" \"id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON\"\n\
    SecRule REQBODY_ERROR \"@eq 1\" \"id:2,phase:2,deny,log\"\n\
    SecRule ARGS \"@contains attack\" \"id:3,phase:2,deny,log\"\n\
    SecRule RESPONSE_BODY \"@contains leak\" \"id:4,phase:4,deny,log\"\n";

#[tokio::test]
async fn of_a_body_that_breaks_off_is_seen_what_came_and_its_missing_end_is_no_fault() {
    let json = "application/json";
    for (piece, end, found, unfinished) in [
        (&b"{\"a\":\"attack\",\"b\":"[..], false, vec![3], true),
        (b"{\"a\":\"attack\",\"b\":", true, vec![2, 3], false),
        (b"{\"a\":\"attack\"}", true, vec![3], false),
    ] {
        let mut inspection = observed(OBSERVING, json, piece).await;
        if end {
            inspection.observe_request(&Frame::End);
        }
        inspection.end(NOW).await;
        assert_eq!((ids(&inspection), inspection.is_unfinished()), (found, unfinished));
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_requests_end_waits_for_its_phase() {
    let head = || {
        let mut fields = FieldsBuilder::default();
        fields.push(b"content-type", b"text/html").unwrap();
        ResponseHead { status: StatusCode::OK, fields: fields.finish(), framing: Framing::Close }
    };
    let chunk = |text: &'static [u8]| Frame::Data(Bytes::from_static(text));
    for (over, waits) in [(true, false), (true, true), (false, true)] {
        let mut inspection = observed(OBSERVING, "application/x-www-form-urlencoded", b"q=att").await;
        if !waits {
            inspection.observe_request(&chunk(b"ack"));
            inspection.observe_request(&Frame::End);
        }
        inspection.observe_head(&head());
        poll_fn(|cx| inspection.poll_observe(cx)).await;
        inspection.observe_answer(&chunk(b"a le"));
        if waits && over {
            inspection.observe_request(&chunk(b"ack"));
            inspection.observe_request(&Frame::End);
        }
        inspection.observe_answer(&chunk(b"ak"));
        inspection.observe_answer(&Frame::End);
        inspection.end(NOW).await;
        let found = if over { vec![3, 4] } else { vec![4] };
        assert_eq!((ids(&inspection), inspection.is_unfinished()), (found, !over), "{over} {waits}");
    }
}

#[tokio::test]
async fn what_waits_for_its_phase_is_held_within_the_engines_limits() {
    let limits = "SecRequestBodyLimit 4096\nSecRequestBodyNoFilesLimit 4096\nSecResponseBodyLimit 4096\n";
    let rules = format!("{limits}{OBSERVING}");
    let mut inspection = observed(&rules, "application/x-www-form-urlencoded", b"q=att").await;
    let fields = Fields::default();
    inspection.observe_head(&ResponseHead { status: StatusCode::OK, fields, framing: Framing::Close });
    for _ in 0..10_000 {
        inspection.observe_answer(&Frame::Data(Bytes::from_static(&[b'a'; 1_000])));
        inspection.observe_request(&Frame::Data(Bytes::from_static(&[b'a'; 1_000])));
    }
    let held = inspection.observation.as_ref().unwrap().bytes_held();
    assert!((8_192..32_768).contains(&held), "{held}");
    inspection.end(NOW).await;
    assert!(!inspection.is_unfinished(), "the rules saw as much as they want");
}

#[tokio::test]
async fn of_an_answer_that_waits_for_its_phase_all_within_the_limit_is_seen() {
    const LIMIT: usize = 128 * 1024;
    const READ: usize = 64 * 1024;
    let rules = format!("SecResponseBodyLimit {LIMIT}\n{OBSERVING}");
    // The last bytes within the limit; and past what may be held.
    for (at, found) in [(LIMIT - 4, vec![4]), (2 * LIMIT, vec![])] {
        let mut body = vec![b'a'; 3 * LIMIT];
        body[at..at + 4].copy_from_slice(b"leak");
        let mut inspection = observed(&rules, "application/x-www-form-urlencoded", b"q=att").await;
        let mut fields = FieldsBuilder::default();
        fields.push(b"content-type", b"text/html").unwrap();
        let fields = fields.finish();
        inspection.observe_head(&ResponseHead { status: StatusCode::OK, fields, framing: Framing::Close });
        // As the first read brought less, none of the others ends where what may be held does.
        let (first, rest) = body.split_at(40_000);
        for piece in std::iter::once(first).chain(rest.chunks(READ)) {
            inspection.observe_answer(&Frame::Data(Bytes::copy_from_slice(piece)));
        }
        inspection.observe_answer(&Frame::End);
        inspection.observe_request(&Frame::End);
        inspection.end(NOW).await;
        assert_eq!((ids(&inspection), inspection.is_unfinished()), (found, false), "{at}");
    }
}
