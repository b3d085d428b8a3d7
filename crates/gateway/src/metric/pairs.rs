//! Calls between services: how many, how they ended, how long they took, for each pair of caller
//! and callee.
//!
//! INVARIANT: a caller is a verified SPIFFE ID or this process' own, a callee a configured
//! service; past [`PAIRS_MAX`] pairs the rest is counted under `other`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{
    AllNames, BUCKET_FIRST_NANOS, BUCKETS, CLASSES, Exposition, Label, Names, OTHER, Places, add, bucket,
    read,
};

/// Most pairs of caller and callee with counts of their own.
pub const PAIRS_MAX: usize = 1_000;

/// Between the parts of a pair's name: in no SPIFFE ID and in no name of a service.
const BETWEEN: char = '\u{1f}';

/// Which end of a call counts it: with a proxy at both, each call is counted by both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporter {
    /// The proxy of the caller, or the gateway.
    Caller,
    /// The proxy of the callee.
    Callee,
}

impl Reporter {
    const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
        }
    }
}

/// One core's counters, by pair.
#[derive(Debug)]
pub(super) struct Pairs(Places<OnceLock<Box<PairCounts>>>);

#[derive(Debug)]
struct PairCounts {
    classes: [AtomicU64; CLASSES.len()],
    durations: [AtomicU64; BUCKETS + 1],
    nanos: AtomicU64,
}

impl Default for Pairs {
    fn default() -> Self {
        Self(Places::new(PAIRS_MAX + 1))
    }
}

impl PairCounts {
    fn new() -> Box<Self> {
        Box::new(Self {
            classes: Default::default(),
            durations: std::array::from_fn(|_| AtomicU64::new(0)),
            nanos: AtomicU64::new(0),
        })
    }
}

impl Pairs {
    /// A call has ended with this class of status.
    pub(super) fn add(&self, pair: Label, class: usize, duration: Duration) {
        let Some(counts) = self.0.get(pair.0 as usize).map(|counts| counts.get_or_init(PairCounts::new))
        else {
            return;
        };
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        add(counts.classes.get(class), 1);
        add(counts.durations.get(bucket(nanos)), 1);
        add(Some(&counts.nanos), nanos);
    }

    fn get(&self, pair: usize) -> Option<&PairCounts> {
        self.0.made(pair)?.get().map(|counts| &**counts)
    }
}

/// What a caller has called: the end that counts, the callee, the label of the pair.
type Called = Vec<(Reporter, Label, Label)>;

/// One core's copy of the labels that it has met, by caller.
#[derive(Debug, Default)]
pub(super) struct Met(RefCell<HashMap<Box<str>, Called, RandomState>>);

impl Met {
    /// The label of a pair; asks the shared list only at the first meeting.
    pub(super) fn label(
        &self,
        names: &AllNames,
        reporter: Reporter,
        caller: &str,
        (callee, service): (&str, Label),
    ) -> Label {
        let mut met = self.0.borrow_mut();
        if let Some(known) = met.get(caller) {
            let found = known.iter().find(|(end, of, _)| (*end, *of) == (reporter, service));
            if let Some((_, _, label)) = found {
                return *label;
            }
        } else if met.len() >= PAIRS_MAX {
            return Label(0);
        }
        let name = format!("{}{BETWEEN}{caller}{BETWEEN}{callee}", reporter.name());
        let label = names.pairs.label(&name, || name.clone());
        met.entry(caller.into()).or_default().push((reporter, service, label));
        label
    }
}

/// Writes the families of the pairs.
pub(super) fn families(names: &Names<String>, cores: &[&Pairs], out: &mut Exposition) {
    let pairs: Vec<(String, Vec<&PairCounts>)> = names
        .all()
        .into_iter()
        .map(|(index, name)| (name, cores.iter().filter_map(|core| core.get(index)).collect::<Vec<_>>()))
        .filter(|(_, counts)| !counts.is_empty())
        .collect();
    out.family(&super::families::MESH_REQUESTS);
    for (name, counts) in &pairs {
        for (place, class) in CLASSES.iter().enumerate() {
            let value: u64 = counts.iter().map(|counts| read(counts.classes.get(place))).sum();
            if value > 0 {
                let [reporter, caller, callee] = parts(name);
                let labels =
                    [("callee", callee), ("caller", caller), ("reporter", reporter), ("status", *class)];
                out.sample(&labels, value);
            }
        }
    }
    out.family(&super::families::MESH_DURATIONS);
    for (name, counts) in &pairs {
        let [reporter, caller, callee] = parts(name);
        out.labelled(&[("callee", callee), ("caller", caller), ("reporter", reporter)]);
        let mut total = 0;
        let mut bound_nanos = BUCKET_FIRST_NANOS;
        for place in 0..=BUCKETS {
            total += counts.iter().map(|counts| read(counts.durations.get(place))).sum::<u64>();
            let bound = (place < BUCKETS).then(|| Duration::from_nanos(bound_nanos));
            out.bucket(bound, total);
            bound_nanos = bound_nanos.saturating_mul(2);
        }
        let nanos =
            counts.iter().map(|counts| counts.nanos.load(Ordering::Relaxed)).fold(0, u64::wrapping_add);
        out.histogram_end(Duration::from_nanos(nanos), total);
    }
}

/// End, caller and callee of a pair's name.
fn parts(name: &str) -> [&str; 3] {
    let mut parts = name.split(BETWEEN);
    let mut next = || parts.next().unwrap_or(OTHER);
    [next(), next(), next()]
}
