//! `telemetry:` and `audit.sinks`: what goes out, and that no credential is ever shown.

use std::path::Path;
use std::time::Duration;

use proxy::telemetry::ParentRule;

use super::super::{Outline, SinkKind, Transport, load_written};
use super::{disk, environment, read_with, said_with};

const BASE: &str = "listen: [ 127.0.0.1:0 ]
services: { a: [ http://10.0.0.1 ] }
routes: [ { match: /**, to: a, allow: anyone } ]
";

fn said(more: &str) -> Vec<String> {
    said_with(&format!("{BASE}{more}\n"), &[])
}

#[test]
fn telemetry_in_its_short_and_long_forms() {
    let read = |text: &str| read_with(&format!("{BASE}{text}\n"), &[]).unwrap().telemetry.unwrap();
    let short = read("telemetry: https://otel.example.org:4318/");
    assert_eq!(short.endpoint, "https://otel.example.org:4318");
    assert_eq!(short, read("telemetry: { endpoint: \"https://otel.example.org:4318\" }"));
    assert_eq!(short.metrics, Some(Duration::from_secs(60)));
    let sampling = short.traces.unwrap().sampling;
    assert!(sampling.refusals && sampling.failures && sampling.parent == ParentRule::Respect);
    let long = read(
        "telemetry: { endpoint: https://o.example, traces: { ratio: 1, parent: ignore, refusals: false, \
         failures: false, interval: 1s }, metrics: off, resource: { service.name: edge, k8s.pod.name: a-1 } }",
    );
    let sampling = long.traces.unwrap().sampling;
    assert!(!sampling.refusals && !sampling.failures && sampling.parent == ParentRule::Ignore);
    assert_eq!((long.metrics, long.traces.unwrap().interval), (None, Duration::from_secs(1)));
    let pairs: Vec<_> = long.resource.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(pairs, [("service.name", "edge"), ("k8s.pod.name", "a-1")]);
    assert_eq!(read("telemetry: { endpoint: https://o.example, traces: off }").traces, None);
    // One percent in both spellings.
    let ratio = |text| read(&format!("telemetry: {{ endpoint: https://o, traces: {{ ratio: {text} }} }}"));
    assert_eq!(ratio("0.01"), ratio("1%"));
}

#[test]
fn what_leads_out_without_tls_is_refused_unless_it_stays_here_or_is_dangerous_in_words() {
    for (text, fault) in [
        (
            "telemetry: http://127.0.0.1:4318",
            Some("(allow_private_addresses: true, for a collector on this machine)"),
        ),
        ("telemetry: { endpoint: http://127.0.0.1:4318, allow_private_addresses: true }", None),
        ("telemetry: { endpoint: http://10.0.0.9:4318, allow_private_addresses: true }", Some("(use TLS)")),
        ("telemetry: { endpoint: http://10.0.0.9:4318, danger_plain_http: true }", Some("(use TLS)")),
        ("telemetry: { endpoint: \"http://[::1]:4318\", allow_private_addresses: true }", None),
        ("audit: { sinks: [ { syslog: udp://logs.example.org } ] }", Some("(use TLS)")),
        ("audit: { sinks: [ { syslog: tcp://127.0.0.1:601, allow_private_addresses: true } ] }", None),
        ("audit: { sinks: [ { syslog: tls://logs.example.org } ] }", None),
        ("audit: { sinks: [ { elastic: http://es.example.org:9200 } ] }", Some("(use TLS)")),
    ] {
        let said = said(text);
        let found = said.iter().find(|line| line.contains("could be read on its way"));
        match fault {
            Some(end) => assert!(found.is_some_and(|line| line.ends_with(end)), "{text}: {said:?}"),
            None => assert_eq!(said, [""; 0], "{text}"),
        }
    }
    let dangerous = "telemetry: { endpoint: http://10.0.0.9:4318, allow_private_addresses: true, danger_plain_http: true }";
    let said = said(dangerous);
    assert!(said.len() == 1 && said[0].contains("warning: danger_plain_http"), "{said:?}");
}

#[test]
fn credentials_are_shown_nowhere() {
    let text = format!(
        "{BASE}telemetry: {{ endpoint: https://o.example, headers: {{ authorization: hunter2 }} }}
audit:
  sinks:
    - {{ splunk: https://s.example, token: hunter2 }}
    - {{ elastic: https://e.example, api_key: hunter2, headers: {{ x-key: hunter2 }} }}
"
    );
    let configuration = read_with(&text, &[]).unwrap();
    let shown = format!("{configuration:?}");
    assert!(!shown.contains("hunter2") && shown.contains("(hidden)"));
    let telemetry = configuration.telemetry.unwrap();
    assert_eq!(telemetry.outward.headers[0].1.expose(), "hunter2");
    // Nor where two configurations are compared.
    let files = disk(&text, &[]);
    let (configuration, written) = load_written(Path::new("bastide.yaml"), &environment, &files).unwrap();
    let shown = serde_json::to_string(&Outline::of(&configuration, &written, "salt", &files)).unwrap();
    assert!(!shown.contains("hunter2") && shown.contains("(hidden)") && shown.contains("https://s.example"));
    // Nor in a fault about one.
    for wrong in [
        "telemetry: { endpoint: https://o.example, headers: { authorization: \"hunter2\\n\" } }",
        "audit: { sinks: [ { splunk: https://s.example, token: \" hunter2\" } ] }",
        "audit: { sinks: [ { splunk: https://s.example, token: [ hunter2 ] } ] }",
    ] {
        let said = said(wrong);
        assert!(!said.is_empty() && !said.concat().contains("hunter2"), "{said:?}");
    }
}

#[test]
fn sinks_are_one_thing_each_with_their_own_keys() {
    let sinks = |text: &str| read_with(&format!("{BASE}{text}\n"), &[]).unwrap().audit.sinks;
    let found = sinks(
        "audit: { sinks: [ { json: stdout }, { json: a.jsonl, name: file }, { syslog: unix:/dev/log }, \
         { syslog: \"tls://[2001:db8::1]\", name: far, facility: local3, block: true, buffer_events: 7 } ] }",
    );
    assert_eq!(found[0].kind, SinkKind::Stdout);
    assert_eq!(found[1].name, "file");
    let SinkKind::Syslog(local) = &found[2].kind else { panic!("{found:?}") };
    assert_eq!((&local.transport, local.facility), (&Transport::Unix("/dev/log".into()), 10));
    let SinkKind::Syslog(far) = &found[3].kind else { panic!("{found:?}") };
    assert_eq!(far.transport, Transport::Tls("2001:db8::1".to_owned(), 6514));
    assert_eq!((far.facility, found[3].block, found[3].buffer_events), (19, true, 7));
    assert_eq!((found[0].buffer_events, found[0].buffer_bytes, found[0].block), (10_000, 32 << 20, false));
    for (wrong, fault) in [
        ("{ name: x }", "a sink is exactly one thing (json, syslog, splunk, elastic)"),
        (
            "{ json: stdout, syslog: unix:/dev/log }",
            "a sink is exactly one thing (json, syslog, splunk, elastic)",
        ),
        (
            "{ json: stdout }, { json: b.jsonl }",
            "another sink is named \"json\" too (give it a name: of its own)",
        ),
        ("{ json: stdout, token: x }", "token means nothing for json"),
        ("{ splunk: https://s.example }", "audit.sinks[] needs \"token\" (token: text)"),
        (
            "{ syslog: udp:/x }",
            "expected udp://host:514, tcp://host:601, tls://host:6514 or unix:/dev/log, found \"udp:/x\"",
        ),
        (
            "{ syslog: unix:/dev/log, facility: lokal1 }",
            "unknown syslog facility \"lokal1\" (did you mean \"local1\"?)",
        ),
        (
            "{ elastic: https://e.example, index: Big }",
            "expected an index: lower-case letters, digits, dots and dashes, found \"Big\"",
        ),
        ("{ json: stdout, blok: true }", "unknown key of audit.sinks[] \"blok\" (did you mean \"block\"?)"),
        (
            "{ elastic: https://e.example, headers: { content-length: 5 } }",
            "content-length is set by what is sent",
        ),
    ] {
        let said = said(&format!("audit: {{ sinks: [ {wrong} ] }}"));
        assert!(said.iter().any(|line| line.ends_with(fault)), "{wrong}: {said:?}");
    }
}

#[test]
fn telemetry_says_what_is_wrong_with_it() {
    for (wrong, fault) in [
        ("telemetry: {}", "telemetry needs \"endpoint\" (endpoint: URL)"),
        (
            "telemetry: otel.example.org",
            "expected a URL such as https://collector.example.org:4318, found \"otel.example.org\" (write \"https://otel.example.org\")",
        ),
        (
            "telemetry: otel:4318",
            "expected a URL such as https://collector.example.org:4318, found \"otel:4318\"",
        ),
        (
            "telemetry: { endpoint: https://o, traces: { ratio: 2 } }",
            "expected a number from 0 to 1 or a percentage, such as 0.05 or 5%, found \"2\"",
        ),
        (
            "telemetry: { endpoint: https://o, traces: { ratio: nan } }",
            "expected a number from 0 to 1 or a percentage, such as 0.05 or 5%, found \"nan\"",
        ),
        (
            "telemetry: { endpoint: https://o, traces: { parent: ignor } }",
            "unknown rule for callers' decisions \"ignor\" (did you mean \"ignore\"?)",
        ),
        (
            "telemetry: { endpoint: https://o, metrics: { interval: 10ms } }",
            "expected a duration from 1000ms to 3600s, found \"10ms\"",
        ),
    ] {
        let said = said(wrong);
        assert!(said.iter().any(|line| line.ends_with(fault)), "{wrong}: {said:?}");
    }
}
