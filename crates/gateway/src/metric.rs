//! Counters: each core has its own and writes them with plain stores; a scrape sums.
//!
//! The way through it: a [`Registry`] is made once with the number of cores; each core
//! takes its [`CoreMetrics`]; names that come from the configuration (routes,
//! services, limits) become a [`Label`] at load, so that counting is an index; the
//! admin listener calls [`Registry::render`].
//!
//! INVARIANT: label values come from the configuration or from closed sets in the
//! code, never from a request, and there is a limit to each kind: past it they are
//! counted under `other`.

pub mod exposition;
pub mod families;
mod pairs;
mod places;

#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use model::event::Step;

pub use exposition::{Exposition, Kind};
pub use families::Metric;
use pairs::{Met, Pairs};
pub use pairs::{PAIRS_MAX, Reporter};
use places::Places;

/// Most routes with a count of their own.
pub const ROUTES_MAX: usize = 10_000;
/// Most services with counts of their own.
pub const SERVICES_MAX: usize = 1_000;
/// Most limits with a count of their own.
pub const LIMITS_MAX: usize = 1_000;
/// Most reasons, over all steps.
pub const REASONS_MAX: usize = 127;
/// Most classes of refused input.
pub const ADMISSIONS_MAX: usize = 127;

/// What everything past a limit is counted under.
const OTHER: &str = "other";
/// `none`: the connection ended before a status was sent.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
const STEPS: usize = Step::ALL.len();
/// Upper bounds of the duration buckets: 2^n × 62.5 µs, that is up to 65.536 s.
const BUCKETS: usize = 21;
const BUCKET_FIRST_NANOS: u64 = 62_500;

/// A configured name as an index. Stays the same over reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(u32);

/// The names of one kind. 0 is [`OTHER`].
#[derive(Debug)]
struct Names<T> {
    known: Mutex<Known<T>>,
    names_max: usize,
}

#[derive(Debug)]
struct Known<T> {
    list: Vec<T>,
    labels: HashMap<T, Label>,
}

impl<T: AsRef<str> + Borrow<str> + Clone + Eq + Hash + From<&'static str>> Names<T> {
    fn new(names_max: usize) -> Self {
        Self { known: Mutex::new(Known { list: Vec::new(), labels: HashMap::new() }), names_max }
    }

    fn lock(&self) -> MutexGuard<'_, Known<T>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn label(&self, name: &str, make: impl FnOnce() -> T) -> Label {
        let mut known = self.lock();
        if let Some(label) = known.labels.get(name) {
            return *label;
        }
        if known.list.len() >= self.names_max {
            return Label(0);
        }
        let name = make();
        known.list.push(name.clone());
        let label = Label(u32::try_from(known.list.len()).unwrap_or(0));
        known.labels.insert(name, label);
        label
    }

    /// Index and name of each, `other` first.
    fn all(&self) -> Vec<(usize, T)> {
        std::iter::once(T::from(OTHER)).chain(self.lock().list.iter().cloned()).enumerate().collect()
    }
}

type Source = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// All counters of the process.
pub struct Registry {
    cores: Vec<Arc<Counters>>,
    names: Arc<AllNames>,
    sources: Mutex<Vec<Source>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("cores", &self.cores.len()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct AllNames {
    routes: Names<String>,
    services: Names<String>,
    limits: Names<String>,
    pairs: Names<String>,
    reasons: Names<&'static str>,
    admissions: Names<&'static str>,
}

impl Registry {
    /// For `cores` data-plane threads: the registry, and what each of them counts
    /// with.
    pub fn new(cores: usize) -> (Self, Vec<CoreMetrics>) {
        let names = Arc::new(AllNames {
            routes: Names::new(ROUTES_MAX),
            services: Names::new(SERVICES_MAX),
            limits: Names::new(LIMITS_MAX),
            pairs: Names::new(PAIRS_MAX),
            reasons: Names::new(REASONS_MAX),
            admissions: Names::new(ADMISSIONS_MAX),
        });
        let cores: Vec<Arc<Counters>> = (0..cores).map(|_| Arc::new(Counters::default())).collect();
        let handles = cores
            .iter()
            .map(|counters| CoreMetrics {
                counters: counters.clone(),
                names: names.clone(),
                reasons: RefCell::default(),
                admissions: RefCell::default(),
                pairs: Met::default(),
                _one_thread: PhantomData,
            })
            .collect();
        (Self { cores, names, sources: Mutex::new(Vec::new()) }, handles)
    }

    /// The label of a route. At load, not on the way.
    pub fn route(&self, name: &str) -> Label {
        self.names.routes.label(name, || name.to_owned())
    }

    /// The label of a service. At load, not on the way.
    pub fn service(&self, name: &str) -> Label {
        self.names.services.label(name, || name.to_owned())
    }

    /// The label of a limit. At load, not on the way.
    pub fn limit(&self, name: &str) -> Label {
        self.names.limits.label(name, || name.to_owned())
    }

    /// Adds something that writes families of its own at every scrape.
    pub fn add_source(&self, source: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    /// Adds the families of the audit log.
    pub fn add_audit(&self, health: Arc<audit::Health>) {
        self.add_source(move |out| audit_families(out, &health));
    }

    /// Adds the families of the limiter.
    pub fn add_limiter(&self, limiter: Arc<proxy::rate::Limiter>) {
        self.add_source(move |out| {
            out.only(&families::LIMIT_SHARED, limiter.shared_total());
            out.only(&families::LIMIT_MEMORY, limiter.bytes() as u64);
        });
    }

    /// Everything, in the Prometheus text format 0.0.4
    /// ([`exposition::CONTENT_TYPE`]).
    pub fn render(&self) -> String {
        self.collect().finish()
    }

    /// Everything, for another format.
    pub fn families(&self) -> Vec<proxy::telemetry::Family> {
        self.collect().into_families()
    }

    fn collect(&self) -> Exposition {
        let mut out = Exposition::default();
        self.requests(&mut out);
        self.durations(&mut out);
        self.refusals(&mut out);
        self.upstreams(&mut out);
        self.tokens(&mut out);
        self.decisions(&mut out);
        out.only(&families::CUT, self.sum(|core| core.cuts.load(Ordering::Relaxed)));
        self.bodies(&mut out);
        let cores: Vec<&Pairs> = self.cores.iter().map(|core| &core.pairs).collect();
        pairs::families(&self.names.pairs, &cores, &mut out);
        for source in &*self.sources.lock().unwrap_or_else(PoisonError::into_inner) {
            source(&mut out);
        }
        out
    }

    fn sum(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.cores.iter().map(|core| of(core)).fold(0, u64::wrapping_add)
    }

    fn requests(&self, out: &mut Exposition) {
        out.family(&families::REQUESTS);
        for (route, name) in self.names.routes.all() {
            let counts: Vec<&RouteCounts> =
                self.cores.iter().filter_map(|core| core.routes.made(route)?.get()).map(|c| &**c).collect();
            if counts.is_empty() {
                continue;
            }
            for (class, class_name) in CLASSES.iter().enumerate() {
                for (step, step_name) in Step::ALL.iter().enumerate() {
                    let value = counts.iter().map(|c| read(c.get(class * STEPS + step))).sum();
                    if value > 0 {
                        let labels = [("route", &*name), ("status", class_name), ("step", step_name.name())];
                        out.sample(&labels, value);
                    }
                }
            }
        }
    }

    fn durations(&self, out: &mut Exposition) {
        out.family(&families::DURATIONS);
        let mut total = 0u64;
        let mut bound_nanos = BUCKET_FIRST_NANOS;
        for bucket in 0..BUCKETS {
            total += self.sum(|core| read(core.durations.get(bucket)));
            out.bucket(Some(Duration::from_nanos(bound_nanos)), total);
            bound_nanos *= 2;
        }
        total += self.sum(|core| read(core.durations.get(BUCKETS)));
        out.bucket(None, total);
        let nanos = self.sum(|core| core.duration_nanos.load(Ordering::Relaxed));
        out.histogram_end(Duration::from_nanos(nanos), total);
    }

    fn refusals(&self, out: &mut Exposition) {
        out.family(&families::REFUSALS);
        for (reason, name) in self.names.reasons.all() {
            for (step, step_name) in Step::ALL.iter().enumerate() {
                let value = self.sum(|core| read(core.refusals.made(step * (REASONS_MAX + 1) + reason)));
                if value > 0 {
                    out.sample(&[("step", step_name.name()), ("reason", name)], value);
                }
            }
        }
        out.family(&families::ADMISSIONS);
        for (class, name) in self.names.admissions.all() {
            let value = self.sum(|core| read(core.admissions.made(class)));
            if value > 0 {
                out.sample(&[("class", name)], value);
            }
        }
        self.by_label(out, &families::LIMIT_HITS, &self.names.limits, |core| &core.limits);
        self.by_label(out, &families::DRY_RUNS, &self.names.routes, |core| &core.dry_runs);
    }

    fn upstreams(&self, out: &mut Exposition) {
        let services = &self.names.services;
        self.by_label(out, &families::ATTEMPTS, services, |core| &core.attempts);
        self.by_label(out, &families::FAILURES, services, |core| &core.failures);
    }

    fn tokens(&self, out: &mut Exposition) {
        out.family(&families::TOKEN_CACHE);
        let hits = self.sum(|core| core.token_hits.load(Ordering::Relaxed));
        let misses = self.sum(|core| core.token_misses.load(Ordering::Relaxed));
        out.sample(&[("result", "hit")], hits);
        out.sample(&[("result", "miss")], misses);
    }

    fn decisions(&self, out: &mut Exposition) {
        out.family(&families::DECISION_CACHE);
        for (place, result) in ["hit", "miss", "bypassed"].into_iter().enumerate() {
            let count = self.sum(|core| core.decisions.get(place).map_or(0, |c| c.load(Ordering::Relaxed)));
            out.sample(&[("result", result)], count);
        }
    }

    fn bodies(&self, out: &mut Exposition) {
        out.family(&families::BODY_BYTES);
        let bytes_in = self.sum(|core| core.bytes_in.load(Ordering::Relaxed));
        let bytes_out = self.sum(|core| core.bytes_out.load(Ordering::Relaxed));
        out.sample(&[("direction", "in")], bytes_in);
        out.sample(&[("direction", "out")], bytes_out);
    }

    /// A family whose one label is a configured name.
    fn by_label(
        &self,
        out: &mut Exposition,
        family: &'static Metric,
        names: &Names<String>,
        of: impl Fn(&Counters) -> &Places<AtomicU64>,
    ) {
        out.family(family);
        let label = family.labels.first().copied().unwrap_or_default();
        for (index, name) in names.all() {
            let value = self.sum(|core| read(of(core).made(index)));
            // A configured name shows from the start, so that a rate can be taken of
            // its first event.
            if value > 0 || index > 0 {
                out.sample(&[(label, &*name)], value);
            }
        }
    }
}

fn audit_families(out: &mut Exposition, health: &audit::Health) {
    let counts = health.counts();
    let healthy = u64::from(health.status() == audit::Status::Good);
    for (family, value) in [
        (&families::AUDIT_HEALTHY, healthy),
        (&families::AUDIT_EVENTS, counts.written_events),
        (&families::AUDIT_BYTES, counts.written_bytes),
        (&families::AUDIT_PENDING, counts.pending_events),
        (&families::AUDIT_PENDING_BYTES, counts.pending_bytes),
        (&families::AUDIT_RESERVED, counts.reserved),
        (&families::AUDIT_REFUSED, counts.refused),
        (&families::AUDIT_DROPPED, counts.dropped),
        (&families::AUDIT_ABANDONED, counts.abandoned),
        (&families::AUDIT_WRITE_ERRORS, counts.write_errors),
        (&families::AUDIT_ROTATIONS, counts.rotations),
        (&families::AUDIT_TORN, counts.torn_lines),
    ] {
        out.only(family, value);
    }
}

type RouteCounts = [AtomicU64; CLASSES.len() * STEPS];

/// One core's counters: written by that core, read by scrapes.
#[derive(Debug)]
struct Counters {
    /// Made when a route gets its first request on this core.
    routes: Places<OnceLock<Box<RouteCounts>>>,
    durations: [AtomicU64; BUCKETS + 1],
    duration_nanos: AtomicU64,
    refusals: Places<AtomicU64>,
    admissions: Places<AtomicU64>,
    limits: Places<AtomicU64>,
    dry_runs: Places<AtomicU64>,
    pairs: Pairs,
    attempts: Places<AtomicU64>,
    failures: Places<AtomicU64>,
    token_hits: AtomicU64,
    token_misses: AtomicU64,
    /// Hits, misses and bypassed, in this order.
    decisions: [AtomicU64; 3],
    cuts: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            routes: Places::new(ROUTES_MAX + 1),
            durations: std::array::from_fn(|_| AtomicU64::new(0)),
            duration_nanos: AtomicU64::new(0),
            refusals: Places::new(STEPS * (REASONS_MAX + 1)),
            admissions: Places::new(ADMISSIONS_MAX + 1),
            limits: Places::new(LIMITS_MAX + 1),
            dry_runs: Places::new(ROUTES_MAX + 1),
            pairs: Pairs::default(),
            attempts: Places::new(SERVICES_MAX + 1),
            failures: Places::new(SERVICES_MAX + 1),
            token_hits: AtomicU64::new(0),
            token_misses: AtomicU64::new(0),
            decisions: Default::default(),
            cuts: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }
}

fn read(counter: Option<&AtomicU64>) -> u64 {
    counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
}

/// Adds to a counter that only the calling thread writes: a load and a store, no lock
/// prefix.
fn add(counter: Option<&AtomicU64>, by: u64) {
    if let Some(counter) = counter {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }
}

/// What one core counts with. It can be sent to its core, and not shared: that is what
/// makes plain stores right.
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<gateway::metric::CoreMetrics>();
/// ```
#[derive(Debug)]
pub struct CoreMetrics {
    counters: Arc<Counters>,
    names: Arc<AllNames>,
    /// This core's copies of the closed sets as far as they have been met.
    reasons: RefCell<Vec<(&'static str, Label)>>,
    admissions: RefCell<Vec<(&'static str, Label)>>,
    /// Its copies of the labels of pairs.
    pairs: Met,
    _one_thread: PhantomData<Cell<()>>,
}

impl CoreMetrics {
    /// A request has ended. `route` is `None` when none matched; `status` is 0 when
    /// none was sent.
    pub fn request(&self, route: Option<Label>, status: u16, step: Step, duration: Duration) {
        let route = route.map_or(0, |label| label.0 as usize);
        let class = class(status);
        let counts = self
            .counters
            .routes
            .get(route)
            .map(|counts| counts.get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU64::new(0)))));
        add(counts.and_then(|counts| counts.get(class * STEPS + step as usize)), 1);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        add(self.counters.durations.get(bucket(nanos)), 1);
        add(Some(&self.counters.duration_nanos), nanos);
    }

    /// A call between services has ended: from this caller to this service, counted at this end.
    pub fn call(
        &self,
        reporter: Reporter,
        caller: &str,
        callee: (&str, Label),
        status: u16,
        duration: Duration,
    ) {
        let pair = self.pairs.label(&self.names, reporter, caller, callee);
        self.counters.pairs.add(pair, class(status), duration);
    }

    /// A step refused a request, for a reason out of a closed set.
    pub fn refused(&self, step: Step, reason: &'static str) {
        let reason = local_label(&self.reasons, &self.names.reasons, reason);
        add(self.counters.refusals.get(step as usize * (REASONS_MAX + 1) + reason.0 as usize), 1);
    }

    /// Admission refused a head, for an input class out of its table.
    pub fn admission_refused(&self, class: &'static str) {
        let class = local_label(&self.admissions, &self.names.admissions, class);
        add(self.counters.admissions.get(class.0 as usize), 1);
    }

    /// A rate or concurrency limit refused a request.
    pub fn limit_hit(&self, limit: Label) {
        add(self.counters.limits.get(limit.0 as usize), 1);
    }

    /// Policies would have denied a request on a route where they are only tried.
    pub fn would_deny(&self, route: Label) {
        add(self.counters.dry_runs.get(route.0 as usize), 1);
    }

    /// Attempts were made to reach an upstream of this service, of which some failed.
    pub fn upstream(&self, service: Label, attempts: u64, failures: u64) {
        add(self.counters.attempts.get(service.0 as usize), attempts);
        add(self.counters.failures.get(service.0 as usize), failures);
    }

    /// How often this core's token cache had a token, and had not, since the start.
    pub fn token_cache(&self, hits: u64, misses: u64) {
        self.counters.token_hits.store(hits, Ordering::Relaxed);
        self.counters.token_misses.store(misses, Ordering::Relaxed);
    }

    /// An open exchange was ended.
    pub fn cut(&self) {
        add(Some(&self.counters.cuts), 1);
    }

    /// How often this core's decision cache was asked since the start.
    pub fn decision_cache(&self, counts: policy::CacheCounts) {
        for (counter, count) in
            self.counters.decisions.iter().zip([counts.hits, counts.misses, counts.bypassed])
        {
            counter.store(count, Ordering::Relaxed);
        }
    }

    /// Bytes of bodies of one request.
    pub fn bytes(&self, bytes_in: u64, bytes_out: u64) {
        add(Some(&self.counters.bytes_in), bytes_in);
        add(Some(&self.counters.bytes_out), bytes_out);
    }
}

/// The place of a status in [`CLASSES`].
fn class(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status / 100),
        _ => 0,
    }
}

/// The label of a static name; asks the shared list only at the first meeting.
fn local_label(
    local: &RefCell<Vec<(&'static str, Label)>>,
    names: &Names<&'static str>,
    name: &'static str,
) -> Label {
    let known = local.borrow().iter().find(|(known, _)| *known == name).map(|(_, label)| *label);
    known.unwrap_or_else(|| {
        let label = names.label(name, || name);
        local.borrow_mut().push((name, label));
        label
    })
}

/// The bucket of a duration: the first whose bound is not below it.
fn bucket(nanos: u64) -> usize {
    let units = nanos.div_ceil(BUCKET_FIRST_NANOS).max(1);
    (units.next_power_of_two().trailing_zeros() as usize).min(BUCKETS)
}
