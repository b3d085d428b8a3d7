//! Which requests leave spans: decided once, at the head of a request, by its trace id,
//! so that every service that decides by the same ratio decides alike.

use crate::telemetry::context::{Parent, TraceId};

/// Whose decision counts for a request that belongs to a trace already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParentRule {
    /// The caller's.
    #[default]
    Respect,
    /// Ours, by the ratio.
    Ignore,
}

/// What is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Traces whose last 56 bits are not below this are sampled; 2^56: none.
    threshold: u64,
    /// Whose decision counts.
    pub parent: ParentRule,
    /// Whether a refused request leaves its server span although it was not sampled.
    pub refusals: bool,
    /// Whether a failed one does.
    pub failures: bool,
}

/// The random part of a trace id (Trace Context level 2, §3.2.2.3.2).
const RANDOM_BITS: u32 = 56;

impl Sampling {
    /// Samples this part of all traces, from 0 to 1, and everything that was refused or
    /// has failed.
    pub fn new(ratio: f64) -> Self {
        let all = 1u64 << RANDOM_BITS;
        // Exact for 0 and 1; a float has 53 bits, which is finer than anybody asks for.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "from 0 to 2^56, both of which a float holds exactly"
        )]
        let threshold = ((1.0 - ratio.clamp(0.0, 1.0)) * all as f64) as u64;
        Self { threshold, parent: ParentRule::default(), refusals: true, failures: true }
    }

    /// Whether a request leaves spans.
    pub fn samples(&self, parent: Option<&Parent>, trace_id: TraceId) -> bool {
        match parent {
            Some(parent) if self.parent == ParentRule::Respect => parent.is_sampled(),
            _ => self.draws(trace_id),
        }
    }

    fn draws(&self, trace_id: TraceId) -> bool {
        let low = u128::from_be_bytes(trace_id.0) & ((1 << RANDOM_BITS) - 1);
        low >= u128::from(self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::context::SpanId;

    fn id(low: u64) -> TraceId {
        TraceId(((7u128 << 64) | u128::from(low)).to_be_bytes())
    }

    fn parent(flags: u8) -> Parent {
        Parent { trace_id: id(1), span_id: SpanId([1; 8]), flags }
    }

    #[test]
    fn the_ratio_is_met_at_its_ends_and_between() {
        let last = (1 << RANDOM_BITS) - 1;
        for (ratio, low, expected) in [
            (0.0, last, false),
            (1.0, 0, true),
            (0.5, last / 2, false),
            (0.5, last / 2 + 1, true),
            (2.0, 0, true),
            (-1.0, last, false),
            // What stands above the random part does not count.
            (0.5, u64::MAX << RANDOM_BITS, false),
        ] {
            assert_eq!(Sampling::new(ratio).samples(None, id(low)), expected, "{ratio} {low}");
        }
        let sampling = Sampling::new(0.1);
        let hits = (0..10_000).filter(|&n| sampling.samples(None, TraceId(spread(n)))).count();
        assert!((900..1100).contains(&hits), "{hits}");
    }

    fn spread(n: u32) -> [u8; 16] {
        let half = SpanId::nth(7, n).0;
        let mut whole = [0; 16];
        whole[..8].copy_from_slice(&half);
        whole[8..].copy_from_slice(&half);
        whole
    }

    #[test]
    fn a_callers_decision_counts_both_ways_unless_it_is_ignored() {
        let (none, all) = (Sampling::new(0.0), Sampling::new(1.0));
        assert!(none.samples(Some(&parent(1)), id(1)));
        assert!(!all.samples(Some(&parent(0)), id(1)));
        // The flag beside it is another.
        assert!(!all.samples(Some(&parent(2)), id(1)));
        let ignoring = |sampling| Sampling { parent: ParentRule::Ignore, ..sampling };
        assert!(!ignoring(none).samples(Some(&parent(1)), id(1)));
        assert!(ignoring(all).samples(Some(&parent(0)), id(1)));
    }
}
