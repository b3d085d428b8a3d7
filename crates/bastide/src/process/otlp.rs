//! Sends what the cores have left to an OpenTelemetry collector: spans when there are
//! enough or their time has come, metrics at their interval. A collector that is slow or
//! gone costs spans, which are counted, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use gateway::metric::{Exposition, Registry};
use keys::SystemRandom;
use model::{Clock, Timestamp};
use proxy::fetch::FetchRules;
use proxy::telemetry::otlp::{self, Partial};
use proxy::telemetry::{Collected, Trace, TraceReceiver};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::metrics;
use super::outward::{self, post, retry_after};
use crate::config::Telemetry;

/// Requests whose spans wait on one core at most.
pub(super) const TRACES_PER_CORE_MAX: usize = 2048;
/// Spans that are sent at once.
const BATCH_SPANS_MAX: usize = 2048;
/// How often the queues of the cores are looked into.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one batch is tried; then it is dropped and counted.
const BATCH_TRIED_FOR: Duration = Duration::from_secs(60);
/// How long the end of the process waits for the last spans and metrics.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Where telemetry goes, ready for use.
pub(super) struct Destination {
    telemetry: Telemetry,
    rules: FetchRules,
}

impl Destination {
    /// Makes it of what is configured.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub(super) fn new(telemetry: &Telemetry) -> anyhow::Result<Self> {
        let rules = outward::rules(&telemetry.outward, ANSWER_BYTES_MAX).context("telemetry")?;
        Ok(Self { telemetry: telemetry.clone(), rules })
    }
}

/// What was sent, in spans and in requests.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    /// Good and failed requests with traces, then with metrics.
    requests: [AtomicU64; 4],
}

/// The exporter: its tasks, and where they send.
pub(super) struct Exporter {
    destination: watch::Sender<Option<Arc<Destination>>>,
    closing: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What both tasks need.
#[derive(Clone)]
struct Work {
    destination: watch::Receiver<Option<Arc<Destination>>>,
    closing: watch::Receiver<bool>,
    clock: Arc<dyn Clock>,
    random: Arc<SystemRandom>,
    counts: Arc<Counts>,
}

impl Exporter {
    /// Starts it, and adds its own families to the metrics.
    pub(super) fn start(
        destination: Option<Arc<Destination>>,
        traces: TraceReceiver,
        registry: &Arc<Registry>,
        clock: &Arc<dyn Clock>,
        random: &Arc<SystemRandom>,
    ) -> Self {
        let counts = Arc::new(Counts::default());
        add_families(registry, Arc::clone(&counts), traces.collected());
        let (destination, sees) = watch::channel(destination);
        let (closing, ends) = watch::channel(false);
        let work = Work {
            destination: sees,
            closing: ends,
            clock: Arc::clone(clock),
            random: Arc::clone(random),
            counts,
        };
        let tasks = vec![
            tokio::spawn(work.clone().send_traces(traces)),
            tokio::spawn(work.send_metrics(Arc::clone(registry), clock.now())),
        ];
        Self { destination, closing, tasks }
    }

    /// Sends there from now on.
    pub(super) fn redirect(&self, destination: Option<Arc<Destination>>) {
        self.destination.send_replace(destination);
    }

    /// Sends what is left, within a bound, and ends.
    pub(super) async fn close(self) {
        self.closing.send_replace(true);
        let all = async {
            for task in self.tasks {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, all).await.is_err() {
            tracing::warn!("telemetry: the collector did not take the last spans and metrics in time");
        }
    }
}

impl Work {
    fn destination(&self) -> Option<Arc<Destination>> {
        self.destination.borrow().clone()
    }

    async fn send_traces(mut self, mut traces: TraceReceiver) {
        let mut waiting: Vec<Trace> = Vec::new();
        let mut sent_at = Duration::ZERO;
        loop {
            let ending = outward::pause(&mut self.closing, LOOK_EVERY).await;
            let room = BATCH_SPANS_MAX.saturating_sub(spans(&waiting));
            let more = traces.drain(&mut waiting, room);
            let Some(destination) = self.destination() else {
                waiting.clear();
                if ending && !more {
                    return;
                }
                continue;
            };
            let now = self.clock.monotonic();
            let interval = destination.telemetry.traces.map_or(Duration::ZERO, |traces| traces.interval);
            let due = now.saturating_sub(sent_at) >= interval;
            if !waiting.is_empty() && (more || due || ending) {
                let batch = std::mem::take(&mut waiting);
                sent_at = now;
                self.send_batch(&destination, &batch).await;
            }
            if ending && !more {
                return;
            }
        }
    }

    /// Sends one batch, more than once when the collector asks for that (OTLP
    /// specification, "OTLP/HTTP response", "retryable response codes").
    async fn send_batch(&mut self, destination: &Destination, batch: &[Trace]) {
        let number = spans(batch) as u64;
        let body = otlp::traces(&destination.telemetry.resource, env!("CARGO_PKG_VERSION"), batch);
        let begun = self.clock.monotonic();
        let mut tries = 0;
        loop {
            let failed = match send(destination, otlp::TRACES_PATH, &body).await {
                Ok(answer) => {
                    let partial = otlp::traces_answer(&answer);
                    say_partial("spans", &partial);
                    let rejected = partial.rejected.min(number);
                    add(&self.counts.rejected, rejected);
                    add(&self.counts.sent, number - rejected);
                    return self.count(0);
                }
                Err(failed) => failed,
            };
            self.count(1);
            let over = self.clock.monotonic().saturating_sub(begun) >= BATCH_TRIED_FOR;
            let closing = *self.closing.borrow();
            if !failed.again || over || closing {
                tracing::warn!(spans = number, "telemetry: spans are lost: {}", failed.why);
                return add(&self.counts.failed, number);
            }
            if tries == 0 {
                tracing::warn!("telemetry: spans wait: {}", failed.why);
            }
            let backoff = outward::backoff(tries, outward::draw(&self.random));
            let wait = failed.after.unwrap_or_default().max(backoff);
            tries += 1;
            outward::pause(&mut self.closing, wait.min(BATCH_TRIED_FOR)).await;
        }
    }

    async fn send_metrics(mut self, registry: Arc<Registry>, start: Timestamp) {
        let mut sent_at = self.clock.monotonic();
        let mut well = true;
        loop {
            let ending = outward::pause(&mut self.closing, LOOK_EVERY).await;
            let destination = self.destination();
            let interval = destination.as_ref().and_then(|destination| destination.telemetry.metrics);
            let now = self.clock.monotonic();
            if let (Some(destination), Some(interval)) = (&destination, interval)
                && (ending || now.saturating_sub(sent_at) >= interval)
            {
                sent_at = now;
                let families = registry.families();
                let resource = &destination.telemetry.resource;
                let version = env!("CARGO_PKG_VERSION");
                let body = otlp::metrics(resource, version, &families, start, self.clock.now());
                // What is sent next holds all that this one held: nothing is tried again.
                match send(destination, otlp::METRICS_PATH, &body).await {
                    Ok(answer) => {
                        say_partial("data points", &otlp::metrics_answer(&answer));
                        self.count(2);
                        well = true;
                    }
                    Err(failed) => {
                        self.count(3);
                        if std::mem::take(&mut well) {
                            tracing::warn!("telemetry: metrics were not sent: {}", failed.why);
                        }
                    }
                }
            }
            if ending {
                return;
            }
        }
    }

    fn count(&self, place: usize) {
        if let Some(counter) = self.counts.requests.get(place) {
            add(counter, 1);
        }
    }
}

fn spans(traces: &[Trace]) -> usize {
    traces.iter().map(|trace| trace.spans.len()).sum()
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Why something was not sent.
struct Failed {
    why: String,
    /// Whether sending it again can help.
    again: bool,
    /// When, if the collector said so.
    after: Option<Duration>,
}

async fn send(destination: &Destination, path: &str, body: &[u8]) -> Result<Vec<u8>, Failed> {
    let url = format!("{}{path}", destination.telemetry.endpoint);
    let outward = &destination.telemetry.outward;
    match post(&url, (otlp::CONTENT_TYPE, body), outward, None, &destination.rules).await {
        Ok(answer) if answer.status.is_success() => Ok(answer.body.to_vec()),
        Ok(answer) => Err(Failed {
            why: format!("{url} answered with status {}", answer.status),
            again: matches!(answer.status.as_u16(), 429 | 502 | 503 | 504),
            after: retry_after(&answer),
        }),
        Err(error) => Err(Failed { why: error.to_string(), again: true, after: None }),
    }
}

fn say_partial(what: &str, partial: &Partial) {
    if partial.rejected > 0 || !partial.message.is_empty() {
        let (rejected, message) = (partial.rejected, &partial.message);
        tracing::warn!(rejected, "telemetry: the collector did not take all {what}: {message:?}");
    }
}

fn add_families(registry: &Registry, counts: Arc<Counts>, collected: Collected) {
    registry.add_source(move |out: &mut Exposition| {
        out.family(&metrics::SPANS);
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (result, value) in [
            ("sent", get(&counts.sent)),
            ("rejected", get(&counts.rejected)),
            ("failed", get(&counts.failed)),
            ("dropped", collected.dropped()),
        ] {
            out.sample(&[("result", result)], value);
        }
        out.family(&metrics::TELEMETRY_REQUESTS);
        let [traces_good, traces_failed, metrics_good, metrics_failed] = &counts.requests;
        for (signal, result, counter) in [
            ("traces", "good", traces_good),
            ("traces", "failed", traces_failed),
            ("metrics", "good", metrics_good),
            ("metrics", "failed", metrics_failed),
        ] {
            out.sample(&[("signal", signal), ("result", result)], get(counter));
        }
    });
}
