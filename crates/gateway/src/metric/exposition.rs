//! The Prometheus text format, version 0.0.4.

use std::fmt::Write;
use std::time::Duration;

/// The `Content-Type` of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows. Its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// A page of metrics that is being written. Writing to a string cannot fail, which is
/// why results are let go here.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.text, "# HELP {name} ");
        self.escaped(help, false);
        let _ = writeln!(self.text, "\n# TYPE {name} {kind}");
    }

    /// One sample: label names and values, value.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            self.escaped(text, true);
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// One cumulative bucket; `None` is the last, without a bound.
    pub fn bucket(&mut self, name: &str, bound: Option<Duration>, total: u64) {
        let _ = match bound {
            Some(bound) => writeln!(self.text, "{name}_bucket{{le=\"{}\"}} {total}", bound.as_secs_f64()),
            None => writeln!(self.text, "{name}_bucket{{le=\"+Inf\"}} {total}"),
        };
    }

    /// Sum and count of a histogram of durations.
    pub fn histogram_end(&mut self, name: &str, sum: Duration, count: u64) {
        let _ = writeln!(self.text, "{name}_sum {}\n{name}_count {count}", sum.as_secs_f64());
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
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
