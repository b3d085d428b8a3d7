//! The figures as Markdown, and the verdict on each bound.

use super::engine::Engine;
use super::stage::{Server, Way};
use crate::bench::gateway::Spread;
use crate::bench::verdict::Judged;
use std::fmt::Write;

/// At least so many times less than ModSecurity.
const TIMES_MIN: f64 = 40.0;
const LOAD_MS_MAX: f64 = 400.0;
const LOAD_MIB_MAX: f64 = 60.0;
const SLOWEST_MS_MAX: f64 = 20.0;
const LARGE_MS_MAX: f64 = 100.0;

/// CPU per request, µs, by request and server.
#[derive(Default)]
pub(super) struct Samples([[Vec<f64>; Server::ALL.len()]; Way::ALL.len()]);

impl Samples {
    pub(super) fn push(&mut self, way: Way, server: Server, micros: f64) {
        let list = self.0.get_mut(way as usize).and_then(|list| list.get_mut(server as usize));
        if let Some(list) = list {
            list.push(micros);
        }
    }

    fn of(&self, way: Way, server: Server) -> Option<Spread> {
        let list = self.0.get(way as usize)?.get(server as usize)?;
        (!list.is_empty()).then(|| Spread::of(list.clone()))
    }
}

/// What a body of 12 MiB costs.
pub(super) struct Large {
    pub(super) limit_mib: f64,
    pub(super) grown_mib: f64,
    pub(super) ms: f64,
}

/// Everything that was measured.
pub(super) struct Figures {
    pub(super) samples: Samples,
    pub(super) engine: Engine,
    pub(super) large: Large,
}

pub(super) fn judge(figures: &Figures) -> Judged {
    let mut text = "| µs of CPU per request |".to_owned();
    for server in Server::ALL {
        let _ = write!(text, " {} |", server.title());
    }
    text.push_str("\n|---|---|---|---|---|\n");
    for way in Way::ALL {
        let _ = write!(text, "| {} |", way.title());
        for server in Server::ALL {
            match figures.samples.of(way, server) {
                Some(spread) => _ = write!(text, " {spread} |"),
                None => text.push_str(" – |"),
            }
        }
        text.push('\n');
    }
    text.push_str("\n| what | figure | bound | verdict |\n|---|---|---|---|\n");
    let mut judged = Judged { text, past: Vec::new() };
    for way in Way::ALL {
        let median = |server| figures.samples.of(way, server).map(|spread| spread.median);
        let added = |with, without| Some(median(with)? - median(without)?);
        let ours = added(Server::Bastide, Server::BastideWithout);
        let theirs = added(Server::ModSecurity, Server::NginxWithout);
        let Some((ours, theirs)) = ours.zip(theirs) else {
            judged.past.push(format!("{} (not measured)", way.title()));
            continue;
        };
        let (name, most) = (way.title(), way.micros_max());
        judged.row(
            &format!("{name}, added by the firewall"),
            &format!("{ours:.1} µs"),
            &format!("at most {most} µs"),
            ours <= most,
        );
        // What costs nothing measurable is as many times less as one likes.
        let times = theirs / ours.max(0.1);
        judged.row(
            &format!("{name}, ModSecurity's {theirs:.0} µs to it"),
            &format!("{times:.0} times"),
            &format!("at least {TIMES_MIN} times"),
            times >= TIMES_MIN,
        );
    }
    own(&mut judged, figures);
    judged
}

/// The rows of the engine alone and of the large body.
fn own(judged: &mut Judged, figures: &Figures) {
    let (engine, large) = (&figures.engine, &figures.large);
    judged.row(
        &format!("slowest of {} tests of the rule set, {}", engine.tests, engine.slowest),
        &format!("{:.1} ms", engine.slowest_ms),
        &format!("at most {SLOWEST_MS_MAX} ms"),
        engine.slowest_ms <= SLOWEST_MS_MAX,
    );
    judged.row(
        "loading the rule set",
        &format!("{:.0} ms", engine.load_ms),
        &format!("less than {LOAD_MS_MAX} ms"),
        engine.load_ms < LOAD_MS_MAX,
    );
    judged.row(
        "memory of the rule set, its expressions compiled",
        &format!("{:.0} MiB", engine.load_mib),
        &format!("less than {LOAD_MIB_MAX} MiB"),
        engine.load_mib < LOAD_MIB_MAX,
    );
    judged.row(
        "12 MiB of octet-stream, memory",
        &format!("{:.1} MiB", large.grown_mib),
        &format!("at most its limit, {:.1} MiB", large.limit_mib),
        large.grown_mib <= large.limit_mib,
    );
    judged.row(
        "12 MiB of octet-stream, time",
        &format!("{:.0} ms", large.ms),
        &format!("less than {LARGE_MS_MAX} ms"),
        large.ms < LARGE_MS_MAX,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(get: [f64; 4], slowest_ms: f64) -> Figures {
        let mut samples = Samples::default();
        for (server, micros) in Server::ALL.into_iter().zip(get) {
            samples.push(Way::Get, server, micros);
            samples.push(Way::Post, server, micros);
        }
        let slowest = "942100-1".to_owned();
        let engine = Engine { load_ms: 200.0, load_mib: 30.0, slowest_ms, slowest, tests: 3_457 };
        Figures { samples, engine, large: Large { limit_mib: 13.0, grown_mib: 1.0, ms: 20.0 } }
    }

    #[test]
    fn what_holds_is_told_from_what_does_not() {
        // Without, with, nginx without, ModSecurity.
        let well = judge(&figures([20.0, 80.0, 15.0, 2_415.0], 20.0));
        assert!(well.past.is_empty(), "{:?}", well.past);
        assert!(well.text.contains("| 60.0 µs | at most 60 µs | holds |"), "{}", well.text);
        assert!(well.text.contains("| 40 times | at least 40 times | holds |"), "{}", well.text);
        let slow = judge(&figures([20.0, 81.0, 15.0, 9_000.0], 20.1));
        assert_eq!(slow.past.len(), 2, "{:?}", slow.past);
        let near = judge(&figures([20.0, 80.0, 15.0, 2_400.0], 1.0));
        assert_eq!(near.past.len(), 2, "{:?}", near.past);
        assert!(near.past[0].contains("ModSecurity's 2385 µs"), "{:?}", near.past);
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let mut figures = figures([20.0, 80.0, 15.0, 5_000.0], 1.0);
        figures.samples = Samples::default();
        assert_eq!(judge(&figures).past.len(), 2);
    }
}
