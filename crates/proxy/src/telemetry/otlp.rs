//! The bodies of OTLP requests over HTTP (`application/x-protobuf`), made of the
//! collector's own message types.

use model::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    self as metrics, AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    self as trace, ResourceSpans, ScopeSpans, SpanFlags, Status, span, status,
};
use prost::Message;

use crate::telemetry::metric::{Family, Kind, Value as SampleValue};
use crate::telemetry::span::{Event, Span, SpanKind, Trace, Value};

/// The path of traces below a collector's address.
pub const TRACES_PATH: &str = "/v1/traces";
/// The path of metrics.
pub const METRICS_PATH: &str = "/v1/metrics";
/// Their `Content-Type`.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// The body of a request with these traces.
pub fn traces(resource: &[(String, String)], version: &str, traces: &[Trace]) -> Vec<u8> {
    let spans = traces.iter().flat_map(|trace| trace.spans.iter().map(|span| span_of(trace, span)));
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource_of(resource)),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope(version)),
                spans: spans.collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
    .encode_to_vec()
}

/// The body of a request with these metrics, counted since `start`.
pub fn metrics(
    resource: &[(String, String)],
    version: &str,
    families: &[Family],
    start: Timestamp,
    now: Timestamp,
) -> Vec<u8> {
    let times = (start.unix_nanos(), now.unix_nanos());
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource_of(resource)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope(version)),
                metrics: families.iter().map(|family| metric_of(family, times)).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
    .encode_to_vec()
}

/// What a collector answered besides success: how many items it did not take, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// Items that were rejected.
    pub rejected: u64,
    /// Why; empty when nothing is to be said.
    pub message: String,
}

/// Reads the answer to a request with traces. One that is no answer rejects nothing: the
/// status said success.
pub fn traces_answer(body: &[u8]) -> Partial {
    let answer = ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
    answer.map_or_else(Partial::default, |partial| Partial {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
        message: partial.error_message,
    })
}

/// Reads the answer to a request with metrics.
pub fn metrics_answer(body: &[u8]) -> Partial {
    let answer = ExportMetricsServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
    answer.map_or_else(Partial::default, |partial| Partial {
        rejected: u64::try_from(partial.rejected_data_points).unwrap_or(0),
        message: partial.error_message,
    })
}

fn resource_of(attributes: &[(String, String)]) -> Resource {
    Resource {
        attributes: attributes
            .iter()
            .map(|(key, value)| pair(key, Any::StringValue(value.clone())))
            .collect(),
        ..Resource::default()
    }
}

fn scope(version: &str) -> InstrumentationScope {
    InstrumentationScope {
        name: "bastide".to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    }
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn attributes(list: &[(&'static str, Value)]) -> Vec<KeyValue> {
    list.iter().map(|(key, value)| pair(key, any(value))).collect()
}

fn any(value: &Value) -> Any {
    let text = |text: &str| Any::StringValue(text.to_owned());
    match value {
        Value::Text(found) => text(found),
        Value::Shared(found) => text(found),
        Value::Number(number) => Any::IntValue(*number),
        Value::List(list) => {
            let values = list.iter().map(|item| AnyValue { value: Some(text(item)) }).collect();
            Any::ArrayValue(ArrayValue { values })
        }
    }
}

fn span_of(trace: &Trace, span: &Span) -> trace::Span {
    // The parent's place is known, and which it is (`HAS_IS_REMOTE`, `IS_REMOTE`).
    let known = SpanFlags::ContextHasIsRemoteMask as u32;
    let remote = if span.remote_parent { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    let kind = match span.kind {
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Client => span::SpanKind::Client,
        SpanKind::Internal => span::SpanKind::Internal,
    };
    trace::Span {
        trace_id: trace.id.0.to_vec(),
        span_id: span.id.0.to_vec(),
        trace_state: trace.state.to_string(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.0.to_vec()),
        flags: u32::from(trace.flags) | known | remote,
        name: span.name.to_string(),
        kind: kind as i32,
        start_time_unix_nano: span.start.unix_nanos(),
        end_time_unix_nano: span.end.unix_nanos(),
        attributes: attributes(&span.attributes),
        events: span.events.iter().map(event_of).collect(),
        status: span
            .failed
            .then(|| Status { code: status::StatusCode::Error as i32, message: String::new() }),
        ..trace::Span::default()
    }
}

fn event_of(event: &Event) -> span::Event {
    span::Event {
        time_unix_nano: event.time.unix_nanos(),
        name: event.name.to_owned(),
        attributes: attributes(&event.attributes),
        dropped_attributes_count: 0,
    }
}

fn metric_of(family: &Family, times: (u64, u64)) -> Metric {
    let cumulative = AggregationTemporality::Cumulative as i32;
    let data = match family.kind {
        Kind::Counter => metric::Data::Sum(Sum {
            data_points: numbers(family, times),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        // A gauge has no beginning.
        Kind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers(family, (0, times.1)) }),
        Kind::Histogram => metric::Data::Histogram(Histogram {
            data_points: histograms(family, times),
            aggregation_temporality: cumulative,
        }),
    };
    Metric {
        name: family.name.clone(),
        description: family.help.clone(),
        unit: unit(&family.name).to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// The unit, in UCUM, of a name that ends in it.
fn unit(name: &str) -> &'static str {
    let base = name.strip_suffix("_total").unwrap_or(name);
    match base.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("ratio") => "1",
        _ => "",
    }
}

fn labels(list: &[(String, String)]) -> Vec<KeyValue> {
    list.iter().map(|(key, value)| pair(key, Any::StringValue(value.clone()))).collect()
}

fn numbers(family: &Family, (start, now): (u64, u64)) -> Vec<NumberDataPoint> {
    let point = |sample: &crate::telemetry::metric::Sample| {
        let value = match sample.value {
            SampleValue::Number(number) => {
                number_data_point::Value::AsInt(i64::try_from(number).unwrap_or(i64::MAX))
            }
            SampleValue::Duration(duration) => number_data_point::Value::AsDouble(duration.as_secs_f64()),
            SampleValue::Histogram { .. } => return None,
        };
        Some(NumberDataPoint {
            attributes: labels(&sample.labels),
            start_time_unix_nano: start,
            time_unix_nano: now,
            value: Some(value),
            ..NumberDataPoint::default()
        })
    };
    family.samples.iter().filter_map(point).collect()
}

fn histograms(family: &Family, (start, now): (u64, u64)) -> Vec<HistogramDataPoint> {
    let point = |sample: &crate::telemetry::metric::Sample| {
        let SampleValue::Histogram { buckets, sum, count } = &sample.value else { return None };
        let mut below = 0;
        let mut counts: Vec<u64> = Vec::with_capacity(buckets.len() + 1);
        for (_, total) in buckets {
            counts.push(total.saturating_sub(below));
            below = *total;
        }
        counts.push(count.saturating_sub(below));
        Some(metrics::HistogramDataPoint {
            attributes: labels(&sample.labels),
            start_time_unix_nano: start,
            time_unix_nano: now,
            count: *count,
            sum: Some(*sum),
            bucket_counts: counts,
            explicit_bounds: buckets.iter().map(|(bound, _)| *bound).collect(),
            ..HistogramDataPoint::default()
        })
    };
    family.samples.iter().filter_map(point).collect()
}

#[cfg(test)]
pub(crate) mod tests;
