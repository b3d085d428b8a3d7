//! A scrape, and how it is written in the Prometheus text format, version 0.0.4.

use std::fmt::Write;
use std::time::Duration;

pub use proxy::telemetry::Kind;
use proxy::telemetry::{Family, Sample, SampleValue};

use super::Metric;

/// The `Content-Type` of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The families of a scrape, as they come in.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<Family>,
    /// What the last one is.
    begun: Option<&'static Metric>,
}

impl Exposition {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, family: &'static Metric) {
        let (name, help) = (family.name.to_owned(), family.help.to_owned());
        self.families.push(Family { name, kind: family.kind, help, samples: Vec::new() });
        self.begun = Some(family);
    }

    /// A family with one sample, which has no labels.
    pub fn only(&mut self, family: &'static Metric, value: u64) {
        self.family(family);
        self.sample(&[], value);
    }

    /// A family with one sample, a duration, which has no labels.
    pub fn seconds(&mut self, family: &'static Metric, value: Duration) {
        self.family(family);
        self.push(&[], SampleValue::Duration(value));
    }

    /// One sample of the family that was begun last: label names and values, value.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.push(labels, SampleValue::Number(value));
    }

    /// Begins a histogram of the family that was begun last, told apart by labels.
    pub fn labelled(&mut self, labels: &[(&str, &str)]) {
        self.push(labels, SampleValue::Histogram { buckets: Vec::new(), sum: 0.0, count: 0 });
    }

    /// One cumulative bucket; `None` is the last, without a bound.
    pub fn bucket(&mut self, bound: Option<Duration>, total: u64) {
        // The last one is the count, which comes with the end.
        let Some(bound) = bound else { return };
        let open = self.families.last_mut().and_then(|family| family.samples.last_mut());
        match open {
            Some(Sample { value: SampleValue::Histogram { buckets, .. }, .. }) => {
                buckets.push((bound.as_secs_f64(), total));
            }
            _ => {
                let buckets = vec![(bound.as_secs_f64(), total)];
                self.push(&[], SampleValue::Histogram { buckets, sum: 0.0, count: 0 });
            }
        }
    }

    /// Sum and count of a histogram of durations.
    pub fn histogram_end(&mut self, total: Duration, number: u64) {
        let open = self.families.last_mut().and_then(|family| family.samples.last_mut());
        if let Some(Sample { value: SampleValue::Histogram { sum, count, .. }, .. }) = open {
            (*sum, *count) = (total.as_secs_f64(), number);
        }
    }

    fn push(&mut self, labels: &[(&str, &str)], value: SampleValue) {
        debug_assert!(
            self.begun.is_some_and(|begun| labels.iter().map(|(name, _)| name).eq(begun.labels)),
            "{labels:?} are not the labels of {:?}",
            self.begun
        );
        if let Some(family) = self.families.last_mut() {
            let labels =
                labels.iter().map(|(label, text)| ((*label).to_owned(), (*text).to_owned())).collect();
            family.samples.push(Sample { labels, value });
        }
    }

    /// The families.
    pub fn into_families(self) -> Vec<Family> {
        self.families
    }

    /// The page.
    pub fn finish(self) -> String {
        let mut page = Page::default();
        self.families.iter().for_each(|family| page.family(family));
        page.text
    }
}

/// Text that is being written. Writing to a string cannot fail, which is why results are
/// let go here.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, family: &Family) {
        let name = &family.name;
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.text, "# HELP {name} ");
        self.escaped(&family.help, false);
        let _ = writeln!(self.text, "\n# TYPE {name} {kind}");
        for sample in &family.samples {
            match &sample.value {
                SampleValue::Number(value) => {
                    self.text.push_str(name);
                    self.labels(&sample.labels);
                    let _ = writeln!(self.text, " {value}");
                }
                SampleValue::Duration(value) => {
                    self.text.push_str(name);
                    self.labels(&sample.labels);
                    let _ = writeln!(self.text, " {}", value.as_secs_f64());
                }
                SampleValue::Histogram { buckets, sum, count } => {
                    let infinite = std::iter::once(("+Inf".to_owned(), count));
                    let buckets = buckets.iter().map(|(bound, total)| (bound.to_string(), total));
                    for (bound, total) in buckets.chain(infinite) {
                        let mut labels = sample.labels.clone();
                        labels.push(("le".to_owned(), bound));
                        let _ = write!(self.text, "{name}_bucket");
                        self.labels(&labels);
                        let _ = writeln!(self.text, " {total}");
                    }
                    for (end, value) in [("sum", sum.to_string()), ("count", count.to_string())] {
                        let _ = write!(self.text, "{name}_{end}");
                        self.labels(&sample.labels);
                        let _ = writeln!(self.text, " {value}");
                    }
                }
            }
        }
    }

    fn labels(&mut self, labels: &[(String, String)]) {
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            self.escaped(text, true);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
    }

    fn escaped(&mut self, text: &str, quotes: bool) {
        for character in text.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '"' if quotes => self.text.push_str("\\\""),
                other => self.text.push(other),
            }
        }
    }
}
