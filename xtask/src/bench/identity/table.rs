//! The figures as Markdown, and the verdict on each bound.

use super::crowd::Crowd;
use super::job::Way;
use super::stage::Side;
use crate::bench::gateway::Spread;
use crate::bench::verdict::Judged;
use std::fmt::Write;

/// At most so long from the start to the first token.
const START_MS_MAX: f64 = 500.0;
/// The most memory that it may take with 100,000 people, MB (10⁶ bytes).
const CROWD_MB_MAX: f64 = 120.0;

/// One measurement.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    /// CPU per completed request, µs.
    pub(super) micros: f64,
    /// Completed requests per second.
    pub(super) rate: f64,
}

/// Samples by row and provider.
#[derive(Default)]
pub(super) struct Samples([[Vec<Sample>; Side::ALL.len()]; Way::ALL.len()]);

impl Samples {
    pub(super) fn push(&mut self, way: Way, side: Side, sample: Sample) {
        let list = self.0.get_mut(way as usize).and_then(|list| list.get_mut(side as usize));
        if let Some(list) = list {
            list.push(sample);
        }
    }

    fn of(&self, way: Way, side: Side, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let list = self.0.get(way as usize)?.get(side as usize)?;
        (!list.is_empty()).then(|| Spread::of(list.iter().map(of).collect()))
    }
}

/// Everything that was measured.
pub(super) struct Figures {
    pub(super) samples: Samples,
    /// Milliseconds to the first token.
    pub(super) starts: Vec<(Side, Spread)>,
    pub(super) crowd: Option<Crowd>,
}

pub(super) fn judge(figures: &Figures) -> Judged {
    let text = "| row | Bastide, µs of CPU | per second | oidc-provider, µs of CPU | per second |\n|---|---|---|---|---|\n";
    let mut judged = Judged { text: text.to_owned(), past: Vec::new() };
    for way in Way::ALL {
        let _ = write!(judged.text, "| `{}`: {} |", way.id(), way.title());
        for side in Side::ALL {
            for spread in [
                figures.samples.of(way, side, |sample| sample.micros),
                figures.samples.of(way, side, |sample| sample.rate),
            ] {
                match spread {
                    Some(spread) => _ = write!(judged.text, " {spread} |"),
                    None => judged.text.push_str(" – |"),
                }
            }
        }
        judged.text.push('\n');
    }
    judged.text.push_str("\n| what | figure | bound | verdict |\n|---|---|---|---|\n");
    for way in Way::ALL {
        ratios(&mut judged, figures, way);
    }
    for (side, spread) in &figures.starts {
        let (what, figure) = (format!("start to first token, {}", side.name()), format!("{spread} ms"));
        match side {
            Side::Bastide => {
                let bound = format!("less than {START_MS_MAX} ms");
                judged.row(&what, &figure, &bound, spread.median < START_MS_MAX);
            }
            Side::Peer => judged.reported(&what, &figure),
        }
    }
    if let Some(crowd) = &figures.crowd {
        people(&mut judged, crowd);
    }
    judged
}

/// Both ratios of a row have to reach its bound.
fn ratios(judged: &mut Judged, figures: &Figures, way: Way) {
    let median = |side, of: fn(&Sample) -> f64| figures.samples.of(way, side, of).map(|spread| spread.median);
    let times = |of: fn(&Sample) -> f64| Some((median(Side::Bastide, of)?, median(Side::Peer, of)?));
    let by_rate = times(|sample| sample.rate).map(|(ours, theirs)| ours / theirs);
    let by_cpu = times(|sample| sample.micros).map(|(ours, theirs)| theirs / ours);
    let Some((by_rate, by_cpu)) = by_rate.zip(by_cpu) else {
        judged.past.push(format!("{} (not measured)", way.id()));
        return;
    };
    let least = way.times_min();
    judged.row(
        &format!("`{}` beside oidc-provider", way.id()),
        &format!("{by_rate:.1} times by rate, {by_cpu:.1} times by CPU"),
        &format!("at least {least} times"),
        by_rate >= least && by_cpu >= least,
    );
}

fn people(judged: &mut Judged, crowd: &Crowd) {
    let people = crowd.people;
    judged.row(
        &format!("memory with {people} people, all looked at"),
        &format!("{:.1} MB", crowd.used_mb),
        &format!("less than {CROWD_MB_MAX} MB"),
        crowd.used_mb < CROWD_MB_MAX,
    );
    judged.reported(
        &format!("memory with {people} people, just started"),
        &format!("{:.1} MB", crowd.fresh_mb),
    );
    judged.row(
        &format!("start to first token with {people} people"),
        &format!("{:.0} ms", crowd.start_ms),
        &format!("less than {START_MS_MAX} ms"),
        crowd.start_ms < START_MS_MAX,
    );
    judged.reported(&format!("`bastide apply` of {people} people"), &format!("{:.0} s", crowd.apply_seconds));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(ours: Sample, start_ms: f64, used_mb: f64) -> Figures {
        let mut samples = Samples::default();
        for way in Way::ALL {
            samples.push(way, Side::Bastide, ours);
            samples.push(way, Side::Peer, Sample { micros: 800.0, rate: 1_000.0 });
        }
        Figures {
            samples,
            starts: vec![(Side::Bastide, Spread::of(vec![start_ms])), (Side::Peer, Spread::of(vec![900.0]))],
            crowd: Some(Crowd { people: 100_000, apply_seconds: 9.0, start_ms, fresh_mb: 50.0, used_mb }),
        }
    }

    #[test]
    fn each_bound_holds_at_its_limit_and_not_past_it() {
        let good = Sample { micros: 100.0, rate: 8_000.0 };
        let judged = judge(&figures(good, 499.0, 119.0));
        assert!(judged.past.is_empty(), "{:?}", judged.past);
        assert!(judged.text.contains("| 8.0 times by rate, 8.0 times by CPU | at least 8 times | holds |"));
        // Either ratio by itself is not enough.
        for slow in [Sample { micros: 101.0, ..good }, Sample { rate: 7_900.0, ..good }] {
            let past = judge(&figures(slow, 499.0, 119.0)).past;
            assert_eq!(past.len(), 2, "{past:?}");
            assert!(past[0].starts_with("`credentials`") && past[1].starts_with("`introspection`"));
        }
        let slower = Sample { micros: 100.0, rate: 3_900.0 };
        assert_eq!(judge(&figures(slower, 499.0, 119.0)).past.len(), 3);
        let late = judge(&figures(good, 500.0, 120.0)).past;
        assert_eq!(late.len(), 3, "{late:?}");
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let nothing = Figures { samples: Samples::default(), starts: Vec::new(), crowd: None };
        assert_eq!(judge(&nothing).past.len(), Way::ALL.len());
    }
}
