//! `telemetry:`: what goes to an OpenTelemetry collector.

use std::time::Duration;

use proxy::telemetry::{ParentRule, Sampling};

use super::decoder::Decoder;
use super::node::Node;
use super::outward::{ALLOW_PRIVATE, CA, DANGER_PLAIN, HEADERS, Outward, TIMEOUT};
use super::schema::{Section, key};
use super::values::{self, Unfit};

/// What goes to an OpenTelemetry collector, by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Where to; `/v1/traces` and `/v1/metrics` are appended.
    pub endpoint: String,
    /// How far that may go.
    pub outward: Outward,
    /// What the process is, as OpenTelemetry's resource attributes.
    pub resource: Vec<(String, String)>,
    /// Traces; `None`: off.
    pub traces: Option<Traces>,
    /// How often metrics are sent; `None`: never.
    pub metrics: Option<Duration>,
}

/// What is sent of traces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traces {
    /// Which requests leave spans.
    pub sampling: Sampling,
    /// How often spans are sent.
    pub interval: Duration,
}

/// Most resource attributes.
const RESOURCE_MAX: usize = 64;

pub(super) const TELEMETRY: Section = Section {
    path: "telemetry",
    about: "What is sent to an OpenTelemetry collector, by OTLP over HTTP (protobuf). See docs/observability.md.",
    short: "the endpoint, if nothing else is set",
    keys: &[
        key(
            "endpoint",
            "URL",
            "",
            "The collector, `https://host:4318`; `/v1/traces` and `/v1/metrics` are appended.",
        ),
        HEADERS,
        ALLOW_PRIVATE,
        DANGER_PLAIN,
        CA,
        TIMEOUT,
        key(
            "resource",
            "map of attribute name to text",
            "`service.name: bastide`",
            "Resource attributes of everything that is sent: `deployment.environment.name: production`.",
        ),
        key("traces", "map or `off`", "on", "Traces."),
        key("metrics", "map or `off`", "on", "The metrics of `/metrics`."),
    ],
};

pub(super) const TRACES: Section = Section {
    path: "telemetry.traces",
    about: "Which requests leave spans. Sampling is decided once, when a request begins.",
    short: "`off`",
    keys: &[
        key(
            "ratio",
            "number from 0 to 1, or percentage",
            "10%",
            "The share of traces beginning here that are sampled. It is decided by the trace id: services with the same ratio sample the same traces.",
        ),
        key(
            "parent",
            "respect or ignore",
            "respect",
            "Whether the decision of a caller that sends `traceparent` is followed, either way, or the ratio decides for all.",
        ),
        key("refusals", "true or false", "true", "Every refused request leaves its span, sampled or not."),
        key("failures", "true or false", "true", "The same for every failed request."),
        key(
            "interval",
            "duration from 100ms to 60s",
            "5s",
            "How often spans are sent; sooner if there are many.",
        ),
    ],
};

pub(super) const METRICS: Section = Section {
    path: "telemetry.metrics",
    about: "The families of `/metrics`, with their names there.",
    short: "`off`",
    keys: &[key("interval", "duration from 1s to 1h", "60s", "How often they are sent.")],
};

impl Decoder<'_> {
    /// `telemetry:`
    pub(super) fn telemetry(&mut self, node: Option<&Node>) -> Option<Telemetry> {
        let node = node?;
        let (traces, metrics) = (Some(self.traces(None)?), Some(Duration::from_secs(60)));
        let resource = vec![("service.name".to_owned(), "bastide".to_owned())];
        let mut short = None;
        let table = if node.text().is_some() {
            short = Some(Node { at: node.at, value: super::node::Value::Map(Vec::new()) });
            self.table(short.as_ref()?, &TELEMETRY)?
        } else {
            self.table(node, &TELEMETRY)?
        };
        let outward = self.outward(&table);
        let endpoint = if short.is_some() { Some(node) } else { self.required(&table, "endpoint") };
        let endpoint = endpoint.and_then(|node| self.outward_url(node, &table, &outward))?;
        let mut telemetry = Telemetry { endpoint, outward, resource, traces, metrics };
        if let Some(node) = table.get("resource") {
            self.resource(node, &mut telemetry.resource);
        }
        if let Some(node) = table.get("traces") {
            telemetry.traces = self.traces(Some(node));
        }
        if let Some(node) = table.get("metrics") {
            telemetry.metrics = self.metrics(node);
        }
        Some(telemetry)
    }

    fn traces(&mut self, node: Option<&Node>) -> Option<Traces> {
        let mut traces = Traces { sampling: Sampling::new(0.1), interval: Duration::from_secs(5) };
        let Some(node) = node else { return Some(traces) };
        if node.text() == Some("off") {
            return None;
        }
        let table = self.table(node, &TRACES)?;
        if let Some(ratio) = table.get("ratio").and_then(|node| self.value(node, ratio)) {
            traces.sampling = Sampling::new(ratio);
        }
        let words = [("respect", ParentRule::Respect), ("ignore", ParentRule::Ignore)];
        let parent =
            table.get("parent").and_then(|node| self.word(node, "rule for callers' decisions", &words));
        traces.sampling.parent = parent.unwrap_or_default();
        let mut flag = |key| table.get(key).and_then(|node| self.boolean(node)).unwrap_or(true);
        (traces.sampling.refusals, traces.sampling.failures) = (flag("refusals"), flag("failures"));
        let interval = table.get("interval").and_then(|node| self.span(node, 100, 60_000));
        traces.interval = interval.unwrap_or(traces.interval);
        Some(traces)
    }

    fn metrics(&mut self, node: &Node) -> Option<Duration> {
        if node.text() == Some("off") {
            return None;
        }
        let table = self.table(node, &METRICS)?;
        let interval = table.get("interval").and_then(|node| self.span(node, 1_000, 3_600_000));
        Some(interval.unwrap_or(Duration::from_secs(60)))
    }

    fn resource(&mut self, node: &Node, resource: &mut Vec<(String, String)>) {
        let entries = self.named(node, "a map of attribute name to text");
        if entries.len() > RESOURCE_MAX {
            self.expected(node, &format!("at most {RESOURCE_MAX} attributes"));
        }
        for (name, value) in entries {
            if let Err(unfit) = values::name(&name.text) {
                self.fault(name.at, format!("expected {}", unfit.expected));
            }
            let Some(text) = self.value(value, values::name) else { continue };
            resource.retain(|(known, _)| *known != name.text);
            resource.push((name.text.clone(), text));
        }
    }
}

/// `0.05` or `5%`.
fn ratio(text: &str) -> Result<f64, Unfit> {
    let unfit =
        || Unfit { expected: "a number from 0 to 1 or a percentage, such as 0.05 or 5%", instead: None };
    let (number, one) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let ratio = number.parse::<f64>().map_err(|_| unfit())? / one;
    if plain && (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(unfit()) }
}
