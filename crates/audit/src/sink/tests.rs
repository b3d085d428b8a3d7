use model::Timestamp;
use model::event::{AccessEvent, Outcome};
use serde_json::Value;

use super::syslog::{Header, Syslog, framed, time_for_tests};
use super::*;
use crate::record::{self, tests::event};
use crate::tests::wait_until;

fn line(id: u128, outcome: Outcome) -> Vec<u8> {
    let mut line = Vec::new();
    record::append(&mut line, &AccessEvent { outcome, ..event(id) });
    assert_eq!(line.pop(), Some(b'\n'));
    line
}

fn bounds(events: usize, bytes: usize, block: bool) -> Bounds {
    Bounds { events, bytes, block }
}

#[test]
fn a_full_buffer_drops_and_counts_at_either_bound() {
    for (bounds, fit) in [(bounds(3, 1000, false), 3), (bounds(100, 25, false), 2)] {
        let buffer = Buffer::new("x", bounds);
        (0..5).for_each(|_| buffer.push(b"0123456789\n"));
        let counts = buffer.counts();
        assert_eq!((counts.pending_events, counts.dropped), (fit, 5 - fit));
        assert_eq!(counts.pending_bytes, fit * 10);
        // What is being sent counts as long as it is not settled.
        let batch = buffer.take(100, 1000);
        assert_eq!(batch.lines.len() as u64, fit);
        buffer.push(b"0123456789\n");
        assert_eq!(buffer.counts().dropped, 6 - fit);
        buffer.settle(&batch.lines, true);
        buffer.push(b"0123456789\n");
        let counts = buffer.counts();
        assert_eq!((counts.sent, counts.pending_events, counts.dropped), (fit, 1, 6 - fit));
        assert!(!buffer.is_shut());
    }
}

#[test]
fn a_blocking_buffer_shuts_requests_out_and_takes_what_was_on_its_way() {
    let buffer = Buffer::new("x", bounds(2, 1000, true));
    buffer.push(b"1\n");
    assert!(!buffer.is_shut());
    buffer.push(b"2\n");
    assert!(buffer.is_shut());
    buffer.push(b"3\n");
    assert_eq!((buffer.counts().pending_events, buffer.counts().dropped), (3, 0));
    let batch = buffer.take(2, 1000);
    assert!(buffer.is_shut());
    buffer.settle(&batch.lines, true);
    assert!(!buffer.is_shut());
}

#[test]
fn batches_end_at_either_bound_but_hold_one_line_at_least() {
    let buffer = Buffer::new("x", bounds(100, 1000, false));
    (0..6).for_each(|_| buffer.push(b"0123456789"));
    let sizes = [(4, 1000), (4, 15), (4, 5)].map(|(events, bytes)| buffer.take(events, bytes).lines.len());
    assert_eq!(sizes, [4, 1, 1]);
    assert!(buffer.take(4, 1000).lines.is_empty());
}

#[test]
fn health_follows_the_last_attempt() {
    let buffer = Buffer::new("x", bounds(1, 1, false));
    assert!(buffer.counts().healthy);
    buffer.fault(7);
    let counts = buffer.counts();
    assert_eq!((counts.healthy, counts.faults, counts.retried), (false, 1, 7));
    assert!(buffer.good() && !buffer.good());
    assert!(buffer.counts().healthy);
}

#[test]
fn every_sink_gets_every_event_and_a_full_one_harms_neither_log_nor_requests() {
    let folder = tempfile::TempDir::new().unwrap();
    let settings = crate::Settings::new(folder.path());
    let (log, mut queues) = crate::open(settings, 1, crate::tests::clock()).unwrap();
    let queue = std::rc::Rc::new(queues.pop().unwrap());
    let (wide, narrow) =
        (Buffer::new("wide", bounds(100, 1 << 20, false)), Buffer::new("narrow", bounds(2, 1 << 20, false)));
    let (wide, narrow) = (std::sync::Arc::new(wide), std::sync::Arc::new(narrow));
    log.set_sinks(vec![wide.clone(), narrow.clone()]);
    for id in 0..5 {
        queue.reserve(event(id).id, event(id).time).unwrap().commit(&event(id));
    }
    wait_until("all lines are written", || log.health().counts().written_events == 5);
    let taken = wide.take(100, 1 << 20).lines;
    let ids: Vec<String> = taken.iter().map(|line| form::see(line).unwrap().uid).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4].map(|id| event(id).id.to_string()));
    assert_eq!((narrow.counts().pending_events, narrow.counts().dropped), (2, 3));
    log.set_sinks(Vec::new());
    queue.reserve(event(6).id, event(6).time).unwrap().commit(&event(6));
    wait_until("the last line is written", || log.health().counts().written_events == 6);
    assert_eq!(narrow.counts().dropped, 3);
}

#[test]
fn a_full_sink_that_blocks_refuses_requests_and_the_log_still_gets_what_was_on_its_way() {
    let folder = tempfile::TempDir::new().unwrap();
    let settings =
        crate::Settings { when_full: crate::WhenFull::Drop, ..crate::Settings::new(folder.path()) };
    let (log, mut queues) = crate::open(settings, 1, crate::tests::clock()).unwrap();
    let queue = std::rc::Rc::new(queues.pop().unwrap());
    let buffer = std::sync::Arc::new(Buffer::new("blocking", bounds(2, 1 << 20, true)));
    log.set_sinks(vec![buffer.clone()]);
    let slots: Vec<_> = (0..4).map(|id| queue.reserve(event(id).id, event(id).time).unwrap()).collect();
    slots.into_iter().zip(0..).for_each(|(slot, id)| slot.commit(&event(id)));
    wait_until("requests are shut out", || !queue.has_room());
    assert!(queue.reserve(event(9).id, event(9).time).is_err());
    wait_until("the log has all", || log.health().counts().written_events == 4);
    let lines = buffer.take(100, 1 << 20).lines;
    assert_eq!(lines.len(), 4);
    buffer.settle(&lines, true);
    wait_until("requests are let in", || queue.has_room());
    queue.reserve(event(9).id, event(9).time).unwrap().commit(&event(9));
}

fn header() -> Header {
    Header {
        facility: 10,
        hostname: "gate 1\n".to_owned(),
        app_name: "bastide".to_owned(),
        process: 42,
        version: "0.1.0",
    }
}

#[test]
fn a_syslog_message_has_every_part_in_its_place() {
    let mut syslog = Syslog::new(header(), 8192);
    for (number, (outcome, priority)) in
        [(Outcome::Allowed, 86), (Outcome::Denied, 85), (Outcome::Failed, 84)].into_iter().enumerate()
    {
        let line = line(7, outcome);
        let message = String::from_utf8(syslog.message(&line).unwrap()).unwrap();
        let seen = form::see(&line).unwrap();
        let time = time_for_tests(Timestamp::from_unix_nanos(seen.time_millis * 1_000_000));
        let start = format!(
            "<{priority}>1 {time} gate1 bastide 42 access [origin software=\"Bastide\" swVersion=\"0.1.0\"][meta sequenceId=\"{}\"] ",
            number + 1
        );
        let event = message.strip_prefix(&start).unwrap_or_else(|| panic!("{message}\n{start}"));
        assert_eq!(event.as_bytes(), line);
    }
    let mut frames = Vec::new();
    framed(b"<1>1 a", &mut frames);
    framed(b"<1>1 bc", &mut frames);
    assert_eq!(frames, b"6 <1>1 a7 <1>1 bc");
}

#[test]
fn times_are_those_of_known_dates() {
    for (millis, written) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
        (1_795_384_267_123, "2026-11-22T21:51:07.123Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(time_for_tests(Timestamp::from_unix_nanos(millis * 1_000_000)), written);
    }
}

/// A client chooses path, user agent and more: what it chooses must not keep its event from
/// being told.
#[test]
fn no_text_that_a_client_chose_keeps_its_event_from_a_receiver() {
    let long = |piece: &str| piece.repeat(4096 / piece.len());
    for piece in ["a", "\"", "é", "\u{1}", "\u{10ffff}"] {
        let text = long(piece);
        let mut line = Vec::new();
        let chosen = AccessEvent {
            path: text.as_str().into(),
            host: text.as_str().into(),
            user_agent: text.as_str().into(),
            reason: text.as_str().into(),
            principal: text.as_str().into(),
            ..event(7)
        };
        record::append(&mut line, &chosen);
        line.pop();
        for message_bytes_max in [480, 700, 2048, 4096, 8192] {
            let message = Syslog::new(header(), message_bytes_max).message(&line).unwrap();
            assert!(message.len() <= message_bytes_max, "{piece:?} {message_bytes_max}");
            let text = String::from_utf8(message).unwrap();
            let told: Value = serde_json::from_str(text.split_once("] ").unwrap().1).unwrap();
            let whole: Value = serde_json::from_slice(&line).unwrap();
            for pointer in
                ["/time", "/metadata/uid", "/unmapped/outcome", "/unmapped/step", "/http_response/code"]
            {
                assert_eq!(told.pointer(pointer), whole.pointer(pointer), "{piece:?} {message_bytes_max}");
            }
            assert_eq!(told["unmapped"]["cut"], true);
            if message_bytes_max >= 4096 {
                let path = told["http_request"]["url"]["path"].as_str().unwrap();
                assert!(path.len() >= 36 && chosen.path.starts_with(path), "{path}");
            }
        }
    }
}

#[test]
fn a_long_event_goes_shorter_and_one_that_stays_long_not_at_all() {
    let mut long = line(7, Outcome::Denied);
    let at = long.windows(12).position(|w| w == b"\"unmapped\":{").unwrap() + 12;
    let decision = format!("\"firewall\":{{\"x\":\"{}\"}},", "y".repeat(3000));
    long.splice(at..at, decision.into_bytes());
    let whole = Syslog::new(header(), 8192).message(&long).unwrap();
    assert!(whole.len() > 3000);
    let mut syslog = Syslog::new(header(), 2048);
    let short = String::from_utf8(syslog.message(&long).unwrap()).unwrap();
    assert!(short.len() <= 2048 && !short.contains("\"firewall\""));
    let event: Value = serde_json::from_str(short.split_once("] ").unwrap().1).unwrap();
    assert_eq!(event["unmapped"]["cut"], true);
    assert_eq!(Syslog::new(header(), 200).message(&long), None);
    // A message that was not made takes no number: the receiver misses nothing.
    assert!(syslog.message(b"no event").is_none());
    let next = String::from_utf8(syslog.message(&line(8, Outcome::Allowed)).unwrap()).unwrap();
    assert!(next.contains("sequenceId=\"2\""), "{next}");
}

#[test]
fn splunk_gets_objects_with_time_and_place() {
    let lines = [line(7, Outcome::Allowed), line(8, Outcome::Denied)];
    let beside = splunk::Beside { host: "gate".to_owned(), index: Some("security".to_owned()) };
    let body = splunk::body(&lines, &beside);
    let events: Vec<Value> =
        serde_json::Deserializer::from_slice(&body).into_iter().map(Result::unwrap).collect();
    assert_eq!(events.len(), 2);
    for (event, line) in events.iter().zip(&lines) {
        let whole: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(event["event"], whole);
        let millis = event["time"].as_f64().unwrap() * 1000.0;
        assert_eq!(millis.round() as u64, whole["time"].as_u64().unwrap());
        assert_eq!((&event["host"], &event["index"]), (&"gate".into(), &"security".into()));
        assert_eq!(event["sourcetype"], "bastide:access");
    }
    let without = splunk::body(&lines[..1], &splunk::Beside::default());
    assert!(!String::from_utf8(without).unwrap().contains("\"index\""));
}

#[test]
fn splunks_answers_mean_what_its_manual_says() {
    use splunk::Verdict;
    let later = |status, body: &str| matches!(splunk::verdict(status, body.as_bytes()), Verdict::Later(_));
    assert_eq!(splunk::verdict(200, br#"{"text":"Success","code":0}"#), Verdict::Taken);
    assert_eq!(
        splunk::verdict(400, br#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#),
        Verdict::Invalid(3)
    );
    let refused = splunk::verdict(400, br#"{"text":"Incorrect index","code":7}"#);
    assert_eq!(refused, Verdict::Refused("status 400: Incorrect index".to_owned()));
    assert!(matches!(splunk::verdict(413, b""), Verdict::Refused(_)));
    assert!(later(503, r#"{"text":"Server is busy","code":9}"#));
    assert!(later(403, r#"{"text":"Invalid token","code":4}"#));
    assert!(later(429, "") && later(500, "<html>"));
}

#[test]
fn elastic_gets_an_action_and_a_document_per_event() {
    let lines = [line(7, Outcome::Allowed), line(8, Outcome::Denied)];
    let body = String::from_utf8(elastic::body(&lines, "bastide-access")).unwrap();
    assert!(body.ends_with('\n'));
    let rows: Vec<Value> = body.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows.len(), 4);
    for (pair, line) in rows.chunks(2).zip(&lines) {
        let whole: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(pair[0]["create"]["_index"], "bastide-access");
        assert_eq!(pair[0]["create"]["_id"], whole["metadata"]["uid"]);
        assert_eq!(pair[1]["@timestamp"], whole["time"]);
        assert_eq!(pair[1]["http_request"], whole["http_request"]);
    }
}

#[test]
fn elastics_answers_are_read_event_by_event() {
    use elastic::{Fate, Verdict};
    let answer = br#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":409,"error":{"type":"version_conflict_engine_exception"}}},
        {"create":{"status":429,"error":{"type":"es_rejected_execution_exception"}}},{"create":{"status":400,"error":{"type":"document_parsing_exception"}}},{"create":{"status":503}}]}"#;
    let Verdict::Each(fates, Some(why)) = elastic::verdict(200, answer, 5) else { panic!() };
    assert_eq!(fates, [Fate::Taken, Fate::Taken, Fate::Later, Fate::Refused, Fate::Later]);
    assert!(why.contains("es_rejected_execution_exception"), "{why}");
    // With `filter_path` and without an error there is nothing but that.
    assert_eq!(elastic::verdict(200, br#"{"errors":false}"#, 2), Verdict::Each(vec![Fate::Taken; 2], None));
    let Verdict::Each(fates, None) =
        elastic::verdict(200, br#"{"errors":false,"items":[{"create":{"status":201}}]}"#, 1)
    else {
        panic!()
    };
    assert_eq!(fates, [Fate::Taken]);
    for (status, body) in
        [(200, &b"<html>"[..]), (200, br#"{"errors":true,"items":[]}"#), (503, b""), (429, b""), (401, b"")]
    {
        assert!(matches!(elastic::verdict(status, body, 2), Verdict::Later(_)), "{status}");
    }
    for status in [400, 413] {
        assert!(matches!(elastic::verdict(status, b"", 2), Verdict::Refused(_)));
    }
}
