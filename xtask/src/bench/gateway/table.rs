//! The figures as Markdown, and the verdict on each bound.

use super::row::{Aim, Row};
use crate::bench::peer::Proxy;
use crate::bench::verdict::{Judged, verdict};
use std::fmt::Write;

/// One measurement.
pub(super) struct Sample {
    /// CPU, user and system, in microseconds per completed request.
    pub(super) micros: f64,
    /// Share of its core that the proxy used.
    pub(super) busy: f64,
    /// Token-cache hits, on rows with tokens.
    pub(super) hit_ratio: Option<f64>,
}

/// Samples of one row, by proxy and round.
#[derive(Default)]
pub(super) struct Samples([Vec<Sample>; Proxy::ALL.len()]);

impl Samples {
    pub(super) fn push(&mut self, proxy: Proxy, sample: Sample) {
        if let Some(list) = self.0.get_mut(proxy.index()) {
            list.push(sample);
        }
    }

    fn of(&self, proxy: Proxy) -> &[Sample] {
        self.0.get(proxy.index()).map_or(&[], Vec::as_slice)
    }

    fn micros(&self, proxy: Proxy) -> Option<Spread> {
        let values: Vec<f64> = self.of(proxy).iter().map(|sample| sample.micros).collect();
        (!values.is_empty()).then(|| Spread::of(values))
    }
}

/// Both tables of rows that were measured.
pub(super) fn judge(rows: &[&Row], samples: &[Samples]) -> Judged {
    let mut text =
        "| row | workload, µs of CPU per request | Bastide | nginx | haproxy | Envoy |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for (row, samples) in rows.iter().zip(samples) {
        let _ = write!(text, "| `{}` | {}{} |", row.id, row.title, hits(samples));
        for proxy in Proxy::ALL {
            match samples.micros(proxy) {
                Some(spread) => _ = write!(text, " {spread} |"),
                None => text.push_str(" – |"),
            }
        }
        text.push('\n');
    }
    text.push_str("\n| row | Bastide to | ratio | at most | aim | verdict |\n|---|---|---|---|---|---|\n");
    let mut past = Vec::new();
    for (row, samples) in rows.iter().zip(samples) {
        ratios(&mut text, &mut past, row, samples);
    }
    Judged { text, past }
}

fn hits(samples: &Samples) -> String {
    let hits: Vec<f64> = samples.of(Proxy::Bastide).iter().filter_map(|sample| sample.hit_ratio).collect();
    if hits.is_empty() {
        return String::new();
    }
    format!(" (token cache hits {:.1} %)", Spread::of(hits).median * 100.0)
}

/// A line for each bound, and for each peer without one.
fn ratios(text: &mut String, past: &mut Vec<String>, row: &Row, samples: &Samples) {
    let Some(ours) = samples.micros(Proxy::Bastide) else { return };
    for proxy in Proxy::ALL.into_iter().filter(|proxy| *proxy != Proxy::Bastide) {
        let Some(theirs) = samples.micros(proxy) else { continue };
        let ratio = ours.median / theirs.median;
        let name = proxy.name();
        let mut bounds = row.bounds.iter().filter(|bound| bound.against == proxy).peekable();
        if bounds.peek().is_none() {
            let _ = writeln!(text, "| `{}` | {name} | {ratio:.2} | – | – | reported |", row.id);
        }
        for bound in bounds {
            let holds = ratio <= bound.times;
            if !holds {
                let ratio = shown(ratio, bound.times);
                past.push(format!("{} ({ratio} × {name}, at most {:.2})", row.id, bound.times));
            }
            let aim = match bound.aim {
                Aim::First => "first",
                Aim::Second => "second",
            };
            let verdict = verdict(holds);
            let _ = writeln!(
                text,
                "| `{}` | {name} | {} | {:.2} | {aim} | {verdict} |",
                row.id,
                shown(ratio, bound.times),
                bound.times
            );
        }
    }
}

/// A ratio in as many digits as show on which side of its bound it is, two at least.
fn shown(ratio: f64, bound: f64) -> String {
    let is_seen = |text: &String| text.parse::<f64>().is_ok_and(|seen| (seen <= bound) == (ratio <= bound));
    let mut texts = (2..6).map(|places| format!("{ratio:.places$}"));
    texts.find(is_seen).unwrap_or_else(|| ratio.to_string())
}

/// Median and the outermost values.
pub(in crate::bench) struct Spread {
    pub(in crate::bench) median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    pub(in crate::bench) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let median = if values.len() % 2 == 1 {
            at(middle)
        } else {
            (at(middle.saturating_sub(1)) + at(middle)) / 2.0
        };
        Self { median, low: at(0), high: at(values.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Three digits say all that such a measurement knows.
        let places = if self.median < 100.0 { 1 } else { 0 };
        write!(formatter, "{:.places$} ({:.places$}–{:.places$})", self.median, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Bound, Way};
    use super::*;

    fn samples(by_proxy: &[(Proxy, &[f64])]) -> Samples {
        let mut samples = Samples::default();
        for (proxy, values) in by_proxy {
            for &micros in *values {
                samples.push(*proxy, Sample { micros, busy: 1.0, hit_ratio: None });
            }
        }
        samples
    }

    fn row(bounds: &'static [Bound]) -> Row {
        Row {
            id: "tls",
            title: "TLS",
            way: Way::TlsHttp1,
            path: "/",
            logged: false,
            peers: &[Proxy::Nginx],
            bounds,
        }
    }

    #[test]
    fn medians_are_of_the_middle() {
        assert!((Spread::of(vec![3.0, 1.0, 2.0]).median - 2.0).abs() < 1e-9);
        assert!((Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median - 2.5).abs() < 1e-9);
    }

    #[test]
    fn bounds_that_do_not_hold_are_named_each_by_itself() {
        const BOUNDS: &[Bound] = &[
            Bound { against: Proxy::Nginx, times: 0.75, aim: Aim::First },
            Bound { against: Proxy::Nginx, times: 0.70, aim: Aim::Second },
        ];
        let (bounded, free) = (row(BOUNDS), row(&[]));
        let judged_at = |ours: f64| {
            judge(
                &[&bounded, &free],
                &[
                    samples(&[(Proxy::Bastide, &[ours]), (Proxy::Nginx, &[40.0])]),
                    samples(&[(Proxy::Bastide, &[90.0]), (Proxy::Nginx, &[40.0])]),
                ],
            )
        };
        let all_hold = judged_at(28.0);
        assert!(all_hold.past.is_empty(), "{:?}", all_hold.past);
        assert!(
            all_hold.text.contains("| `tls` | nginx | 0.70 | 0.70 | second | holds |"),
            "{}",
            all_hold.text
        );
        assert!(all_hold.text.contains("| `tls` | nginx | 2.25 | – | – | reported |"), "{}", all_hold.text);
        assert_eq!(judged_at(30.0).past, ["tls (0.75 × nginx, at most 0.70)"]);
        assert_eq!(judged_at(31.0).past.len(), 2);
        // Rounded to two digits it would be at its bound.
        let hardly = judged_at(28.04);
        assert!(hardly.text.contains("| `tls` | nginx | 0.701 | 0.70 | second | **past its bound** |"));
        assert_eq!(hardly.past, ["tls (0.701 × nginx, at most 0.70)"]);
    }

    #[test]
    fn a_proxy_that_was_not_measured_has_no_figure() {
        let judged = judge(&[&row(&[])], &[samples(&[(Proxy::Bastide, &[10.0])])]);
        assert!(judged.text.contains("| 10.0 (10.0–10.0) | – | – | – |"), "{}", judged.text);
    }
}
