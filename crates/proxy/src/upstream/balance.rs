//! Which endpoint gets a request: the cheaper of two chosen at random (power of two
//! choices), among those that are neither ejected nor said to be down by the probes.
//!
//! What it costs is [`Balance`]'s to say. With `Ewma` it is how long an answer of the
//! endpoint takes, times the requests that are open there. The time is a peak-sensitive
//! moving average of this core: a slower answer counts at once, a faster one over
//! seconds; a peak that nothing confirms fades, so that the endpoint is asked again.
//!
//! When no endpoint is well, those that were not tried yet are used all the same: a
//! service whose every endpoint stumbled should recover by itself, and refusing
//! without asking helps nobody. So the last endpoint is never really ejected.

use std::cell::Cell;

/// How the better one of two endpoints is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Less expected waiting time: latency times open requests.
    #[default]
    Ewma,
    /// Fewer open requests.
    LeastRequests,
    /// Neither: the weights alone decide.
    Random,
}

/// One endpoint, as far as the choice needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) weight: u32,
    /// Ejected, or down for the probes.
    pub(crate) unwell: bool,
    pub(crate) tried: bool,
}

/// How long answers take until their average has moved by two thirds, in milliseconds.
const DECAY_MS: f64 = 10_000.0;
/// The most that a failure counts as, in microseconds; and what an endpoint that is busy but
/// has never answered is taken for.
pub(crate) const PENALTY_US: f64 = 1_000_000.0;

/// A core's moving average of one endpoint's latency.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// 0: never measured.
    average_us: Cell<f64>,
    at_ms: Cell<u64>,
}

impl Latency {
    fn faded(&self, now_ms: u64) -> f64 {
        let age = now_ms.saturating_sub(self.at_ms.get()) as f64;
        self.average_us.get() * (-age / DECAY_MS).exp()
    }

    /// An answer took so long.
    pub(crate) fn measured(&self, took_us: f64, now_ms: u64) {
        let before = self.faded(now_ms);
        let age = now_ms.saturating_sub(self.at_ms.get()) as f64;
        // Within one tick of the clock no time passes; a sample still counts a little.
        let kept = (-(age + 50.0) / DECAY_MS).exp();
        let average = if took_us >= before { took_us } else { before * kept + took_us * (1.0 - kept) };
        self.average_us.set(average);
        self.at_ms.set(now_ms);
    }

    /// An attempt failed after so long: counts as ten times the average, or more.
    pub(crate) fn failed(&self, took_us: f64, now_ms: u64) {
        let average = self.faded(now_ms);
        let penalty = if average == 0.0 { PENALTY_US } else { (average * 10.0).min(PENALTY_US) };
        self.measured(took_us.max(penalty), now_ms);
    }

    /// What one more request costs there. The weight says how many requests at once
    /// count as one.
    pub(crate) fn cost(&self, in_flight: u32, weight: u32, now_ms: u64) -> f64 {
        let open = f64::from(in_flight) / f64::from(weight.max(1));
        if self.average_us.get() == 0.0 && in_flight > 0 {
            return (PENALTY_US + 1.0) * open;
        }
        (self.faded(now_ms) + 1.0) * (open + 1.0)
    }
}

/// Random numbers for spreading load; nothing secret depends on them.
#[derive(Debug)]
pub(crate) struct FastRandom(Cell<u64>);

impl FastRandom {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    /// A number below `end`, which is not 0 (xorshift64*, Vigna 2016).
    pub(crate) fn below(&self, end: usize) -> usize {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        let high = (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize;
        high.checked_rem(end).unwrap_or(0)
    }
}

/// Chooses among `count` endpoints; `None` when all have been tried.
pub(crate) fn choose(
    count: usize,
    of: impl Fn(usize) -> Candidate,
    cost: impl Fn(usize) -> f64,
    random: &FastRandom,
) -> Option<usize> {
    pick(count, &of, &cost, random, |c| !c.tried && !c.unwell)
        .or_else(|| pick(count, &of, &cost, random, |c| !c.tried))
}

fn pick(
    count: usize,
    of: &impl Fn(usize) -> Candidate,
    cost: &impl Fn(usize) -> f64,
    random: &FastRandom,
    fits: impl Fn(Candidate) -> bool,
) -> Option<usize> {
    let fitting = || (0..count).map(|index| (index, of(index))).filter(|(_, candidate)| fits(*candidate));
    let first = fitting().next()?;
    let (mut number, mut total, mut alike) = (0usize, 0usize, true);
    for (_, candidate) in fitting() {
        number += 1;
        total += candidate.weight as usize;
        alike &= candidate.weight == first.1.weight;
    }
    if number == 1 {
        return Some(first.0);
    }
    // By weight, without the one that was drawn first.
    let draw = |without: Option<(usize, u32)>| {
        let mut left = random.below(total - without.map_or(0, |(_, weight)| weight as usize));
        let mut others = fitting().filter(|(index, _)| without.is_none_or(|(first, _)| first != *index));
        others.find(|(_, candidate)| {
            let weight = candidate.weight as usize;
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        })
    };
    let (first, candidate) = draw(None)?;
    // Where weights differ the heavy one may be drawn twice: of two endpoints the light
    // one would otherwise be compared every time.
    let without = alike.then_some((first, candidate.weight));
    let second = draw(without).map_or(first, |(index, _)| index);
    Some(if cost(second) < cost(first) { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Endpoint = (f64, Candidate);

    fn endpoint(cost: u32, unwell: bool, tried: bool) -> Endpoint {
        (f64::from(cost), Candidate { weight: 1, unwell, tried })
    }

    fn chosen(list: &[Endpoint]) -> Vec<usize> {
        let random = FastRandom::new(7);
        let mut counts = vec![0; list.len()];
        for _ in 0..1000 {
            if let Some(index) = choose(list.len(), |i| list[i].1, |i| list[i].0, &random) {
                counts[index] += 1;
            }
        }
        counts
    }

    #[test]
    fn weights_share_out_what_costs_the_same() {
        let weighted = |weight| (0.0, Candidate { weight, unwell: false, tried: false });
        // The first that was drawn wins a tie: three of four.
        let counts = chosen(&[weighted(3), weighted(1)]);
        assert!((700..800).contains(&counts[0]), "{counts:?}");
        let counts = chosen(&[weighted(8), weighted(1), weighted(1)]);
        assert!(counts[0] > 750 && counts[1] > 50 && counts[2] > 50, "{counts:?}");
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_fades_when_nothing_confirms_it() {
        let (fast, slow) = (Latency::default(), Latency::default());
        fast.measured(1_000.0, 1000);
        slow.measured(1_000.0, 1000);
        assert!(slow.cost(0, 1, 1000) <= fast.cost(0, 1, 1000));
        slow.measured(100_000.0, 1000);
        assert!(slow.cost(0, 1, 1000) > 50.0 * fast.cost(0, 1, 1000));
        // One fast answer is not enough to be trusted again, a minute's silence is.
        slow.measured(1_000.0, 1000);
        assert!(slow.cost(0, 1, 1000) > 50.0 * fast.cost(0, 1, 1000));
        fast.measured(1_000.0, 61_000);
        assert!(slow.cost(0, 1, 61_000) < fast.cost(0, 1, 61_000));
    }

    #[test]
    fn open_requests_cost_and_weight_relieves() {
        let latency = Latency::default();
        assert!(latency.cost(1, 1, 0) > PENALTY_US, "busy, and never answered yet");
        assert!(latency.cost(0, 1, 0) < 2.0, "never asked");
        latency.measured(1_000.0, 0);
        assert!(latency.cost(2, 1, 0) > latency.cost(1, 1, 0));
        assert!(latency.cost(2, 10, 0) < latency.cost(1, 1, 0));
    }

    #[test]
    fn a_failure_costs_ten_times_the_average_and_at_most_the_penalty() {
        let latency = Latency::default();
        latency.failed(10.0, 0);
        assert!(latency.cost(0, 1, 0) >= PENALTY_US, "never measured");
        let latency = Latency::default();
        latency.measured(1_000.0, 0);
        latency.failed(10.0, 0);
        assert!((9_000.0..11_000.0).contains(&latency.cost(0, 1, 0)));
        (0..10).for_each(|_| latency.failed(10.0, 0));
        assert!(latency.cost(0, 1, 0) <= PENALTY_US + 1.0);
        latency.failed(5.0 * PENALTY_US, 0);
        assert!(latency.cost(0, 1, 0) > 4.0 * PENALTY_US, "a timeout counts as what it took");
    }

    #[test]
    fn the_busiest_of_three_is_never_chosen_and_the_others_share() {
        let counts =
            chosen(&[endpoint(1, false, false), endpoint(9, false, false), endpoint(1, false, false)]);
        assert_eq!(counts[1], 0, "{counts:?}");
        assert!(counts[0] > 300 && counts[2] > 300, "{counts:?}");
    }

    #[test]
    fn an_ejected_endpoint_gets_nothing_while_another_stands() {
        assert_eq!(chosen(&[endpoint(0, true, false), endpoint(50, false, false)]), [0, 1000]);
    }

    #[test]
    fn when_all_are_ejected_they_are_tried_all_the_same() {
        let counts = chosen(&[endpoint(0, true, false), endpoint(0, true, false)]);
        assert_eq!(counts.iter().sum::<usize>(), 1000);
        assert!(counts[0] > 300 && counts[1] > 300, "{counts:?}");
    }

    #[test]
    fn a_retry_goes_to_another_endpoint_and_ends_when_all_were_tried() {
        assert_eq!(chosen(&[endpoint(0, false, true), endpoint(9, true, false)]), [0, 1000]);
        assert_eq!(chosen(&[endpoint(0, false, true), endpoint(0, false, true)]), [0, 0]);
        assert_eq!(chosen(&[]), [] as [usize; 0]);
    }
}
