//! A scrape, and how it is written in the Prometheus text format, version 0.0.4.

use std::fmt::Write;
use std::time::Duration;

pub use proxy::telemetry::Kind;
use proxy::telemetry::{Family, Sample, SampleValue};

/// The `Content-Type` of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The families of a scrape, as they come in.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<Family>,
}

impl Exposition {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let (name, help) = (name.to_owned(), help.to_owned());
        self.families.push(Family { name, kind, help, samples: Vec::new() });
    }

    /// One sample of the family that was begun last: label names and values, value.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels = labels.iter().map(|(label, text)| ((*label).to_owned(), (*text).to_owned())).collect();
        self.push(name, Sample { labels, value: SampleValue::Number(value) });
    }

    /// Begins a histogram of the family that was begun last, told apart by labels.
    pub fn labelled(&mut self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(label, text)| ((*label).to_owned(), (*text).to_owned())).collect();
        let value = SampleValue::Histogram { buckets: Vec::new(), sum: 0.0, count: 0 };
        self.push(name, Sample { labels, value });
    }

    /// One cumulative bucket; `None` is the last, without a bound.
    pub fn bucket(&mut self, name: &str, bound: Option<Duration>, total: u64) {
        // The last one is the count, which comes with the end.
        let Some(bound) = bound else { return };
        let open = self.families.last_mut().and_then(|family| family.samples.last_mut());
        match open {
            Some(Sample { value: SampleValue::Histogram { buckets, .. }, .. }) => {
                buckets.push((bound.as_secs_f64(), total));
            }
            _ => {
                let value = SampleValue::Histogram {
                    buckets: vec![(bound.as_secs_f64(), total)],
                    sum: 0.0,
                    count: 0,
                };
                self.push(name, Sample { labels: Vec::new(), value });
            }
        }
    }

    /// Sum and count of a histogram of durations.
    pub fn histogram_end(&mut self, _name: &str, total: Duration, number: u64) {
        let open = self.families.last_mut().and_then(|family| family.samples.last_mut());
        if let Some(Sample { value: SampleValue::Histogram { sum, count, .. }, .. }) = open {
            (*sum, *count) = (total.as_secs_f64(), number);
        }
    }

    fn push(&mut self, name: &str, sample: Sample) {
        if let Some(family) = self.families.last_mut() {
            debug_assert_eq!(family.name, name, "a sample belongs to the family that was begun last");
            family.samples.push(sample);
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
