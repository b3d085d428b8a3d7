use std::time::Duration;

use super::*;
use crate::telemetry::context::{SpanId, TraceId};
use crate::telemetry::metric::Sample;

pub(crate) fn span(n: u8) -> Span {
    Span {
        id: SpanId([n; 8]),
        parent: None,
        remote_parent: false,
        name: "GET /orders".into(),
        kind: SpanKind::Server,
        start: Timestamp::from_unix_seconds(100),
        end: Timestamp::from_unix_seconds(101),
        attributes: Vec::new(),
        events: Vec::new(),
        failed: false,
    }
}

fn resource() -> Vec<(String, String)> {
    vec![("service.name".to_owned(), "bastide".to_owned())]
}

#[test]
fn spans_are_what_the_collectors_own_types_read() {
    let event = Event {
        name: "decision",
        time: Timestamp::from_unix_seconds(101),
        attributes: vec![("policies", Value::List(vec!["a".to_owned(), "b".to_owned()]))],
    };
    let server = Span {
        parent: Some(SpanId([9; 8])),
        remote_parent: true,
        attributes: vec![("http.request.method", "GET".into()), ("http.response.status_code", 503.into())],
        events: vec![event],
        failed: true,
        ..span(1)
    };
    let client = Span { parent: Some(SpanId([1; 8])), kind: SpanKind::Client, ..span(2) };
    let trace = Trace { id: TraceId([7; 16]), state: "a=1".into(), flags: 1, spans: vec![server, client] };
    let body = traces(&resource(), "0.1.0", &[trace]);
    let read = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    let group = &read.resource_spans[0];
    assert_eq!(group.resource.as_ref().unwrap().attributes[0].key, "service.name");
    assert_eq!(group.scope_spans[0].scope.as_ref().unwrap().version, "0.1.0");
    let [server, client] = &group.scope_spans[0].spans[..] else { panic!("{read:?}") };
    assert_eq!((&server.trace_id[..], &server.span_id[..]), (&[7; 16][..], &[1; 8][..]));
    assert_eq!((&server.parent_span_id[..], server.trace_state.as_str()), (&[9; 8][..], "a=1"));
    // Sampled, and the parent is known to be remote (trace.proto, `SpanFlags`).
    assert_eq!((server.flags, client.flags), (0x301, 0x101));
    assert_eq!((server.kind, client.kind), (2, 3));
    assert_eq!(server.status.as_ref().unwrap().code, 2);
    assert_eq!(client.status, None);
    assert_eq!(server.end_time_unix_nano - server.start_time_unix_nano, 1_000_000_000);
    let value = server.attributes[1].value.as_ref().unwrap().value.as_ref().unwrap();
    assert_eq!(*value, Any::IntValue(503));
    let list = server.events[0].attributes[0].value.as_ref().unwrap().value.as_ref().unwrap();
    assert!(matches!(list, Any::ArrayValue(list) if list.values.len() == 2));
}

#[test]
fn metrics_are_cumulative_since_the_start() {
    let sample = |value| Sample { labels: vec![("route".to_owned(), "orders".to_owned())], value };
    let family = |name: &str, kind, value| Family {
        name: name.to_owned(),
        kind,
        help: "help".to_owned(),
        samples: vec![sample(value)],
    };
    let histogram =
        SampleValue::Histogram { buckets: vec![(0.5, 3), (1.0, 3), (2.0, 7)], sum: 8.5, count: 9 };
    let families = [
        family("requests_total", Kind::Counter, SampleValue::Number(5)),
        family("memory_bytes", Kind::Gauge, SampleValue::Number(6)),
        family("duration_seconds", Kind::Histogram, histogram),
        family("cpu_seconds_total", Kind::Counter, SampleValue::Duration(Duration::from_millis(1_500))),
    ];
    let (start, now) = (Timestamp::from_unix_seconds(1), Timestamp::from_unix_seconds(2));
    let body = metrics(&resource(), "0.1.0", &families, start, now);
    let read = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
    let list = &read.resource_metrics[0].scope_metrics[0].metrics;
    let names: Vec<_> = list.iter().map(|m| (m.name.as_str(), m.unit.as_str())).collect();
    let expected = [
        ("requests_total", ""),
        ("memory_bytes", "By"),
        ("duration_seconds", "s"),
        ("cpu_seconds_total", "s"),
    ];
    assert_eq!(names, expected);
    let Some(metric::Data::Sum(seconds)) = &list[3].data else { panic!("{list:?}") };
    assert_eq!(seconds.data_points[0].value, Some(number_data_point::Value::AsDouble(1.5)));
    let Some(metric::Data::Sum(sum)) = &list[0].data else { panic!("{list:?}") };
    assert_eq!((sum.is_monotonic, sum.aggregation_temporality), (true, 2));
    let point = &sum.data_points[0];
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1_000_000_000, 2_000_000_000));
    assert_eq!(point.value, Some(number_data_point::Value::AsInt(5)));
    assert_eq!(point.attributes[0].key, "route");
    let Some(metric::Data::Gauge(gauge)) = &list[1].data else { panic!("{list:?}") };
    assert_eq!(gauge.data_points[0].start_time_unix_nano, 0);
    let Some(metric::Data::Histogram(histogram)) = &list[2].data else { panic!("{list:?}") };
    let point = &histogram.data_points[0];
    assert_eq!(point.explicit_bounds, [0.5, 1.0, 2.0]);
    assert_eq!(point.bucket_counts, [3, 0, 4, 2]);
    assert_eq!((point.count, point.sum), (9, Some(8.5)));
}

#[test]
fn a_partial_success_says_what_was_not_taken() {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
    let rejected = Partial { rejected: 3, message: "too old".to_owned() };
    let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "too old".to_owned() };
    let body = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    assert_eq!(traces_answer(&body), rejected);
    let partial =
        ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "too old".to_owned() };
    let body = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    assert_eq!(metrics_answer(&body), rejected);
    for other in [&b""[..], b"{}", b"\xff\xff"] {
        assert_eq!(traces_answer(other), Partial::default());
    }
}
