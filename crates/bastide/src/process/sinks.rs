//! Tells each event to whoever is configured besides the log: one task per sink, which
//! takes batches out of its buffer and sends them until they are taken.
//!
//! What it must never do: hold up the log or a request (a sink that blocks shuts
//! requests out by its buffer, not by its task), show a credential, forget an event without
//! counting it.

mod http;
mod local;
mod syslog;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit::sink::{Bounds, Buffer};
use gateway::metric::{Exposition, Metric, Registry};
use keys::SystemRandom;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::metrics;
use super::outward;
use crate::config::{Sink, SinkKind};

/// How often an idle sink looks into its buffer.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Most bytes of events that are sent at once.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The longest that a sink may ask to be left alone.
const AFTER_MAX: Duration = Duration::from_secs(300);
/// How long the end of the process, or of a sink, waits for what is left.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The sink has it.
    Taken,
    /// It is sent again.
    Later,
    /// It never will have it.
    Refused,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Of each event.
    pub(super) fates: Vec<Fate>,
    /// Why not all were taken.
    pub(super) fault: Option<String>,
    /// When to try again, if the sink said so.
    pub(super) after: Option<Duration>,
    /// Whether a smaller batch may fare better than this one, which was refused whole.
    pub(super) smaller: bool,
}

impl Delivery {
    /// All of one fate.
    pub(super) fn all(events: usize, fate: Fate, fault: Option<String>) -> Self {
        Self { fates: vec![fate; events], fault, after: None, smaller: false }
    }
}

/// What one kind of sink sends with.
enum Sender {
    Local(local::Local),
    Syslog(Box<syslog::Sender>),
    Http(Box<http::Sender>),
}

impl Sender {
    fn new(sink: &Sink) -> anyhow::Result<Self> {
        Ok(match &sink.kind {
            SinkKind::Stdout => Self::Local(local::Local::stdout()),
            SinkKind::File(path) => Self::Local(local::Local::file(path.clone())),
            SinkKind::Syslog(settings) => Self::Syslog(Box::new(syslog::Sender::new(sink, settings)?)),
            SinkKind::Splunk { .. } | SinkKind::Elastic { .. } => {
                Self::Http(Box::new(http::Sender::new(sink)?))
            }
        })
    }

    async fn deliver(&mut self, lines: &[Vec<u8>]) -> Delivery {
        match self {
            Self::Local(local) => local.deliver(lines).await,
            Self::Syslog(syslog) => syslog.deliver(lines).await,
            Self::Http(http) => http.deliver(lines).await,
        }
    }
}

/// The sinks that run.
pub(super) struct Sinks {
    running: Vec<Running>,
    /// For the metrics.
    shown: Arc<Mutex<Vec<Arc<Buffer>>>>,
    random: Arc<SystemRandom>,
}

struct Running {
    settings: Sink,
    buffer: Arc<Buffer>,
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Sinks {
    /// None yet; adds their families to the metrics.
    pub(super) fn new(registry: &Registry, random: &Arc<SystemRandom>) -> Self {
        let shown = Arc::new(Mutex::new(Vec::new()));
        add_families(registry, Arc::clone(&shown));
        Self { running: Vec::new(), shown, random: Arc::clone(random) }
    }

    /// Makes these the sinks of the log. One that is configured as before keeps its
    /// buffer; one that is no longer there sends what it has and ends.
    ///
    /// # Errors
    /// One cannot be made; then nothing has changed.
    pub(super) fn become_those(&mut self, configured: &[Sink], log: &audit::Log) -> anyhow::Result<()> {
        let is_kept = |settings: &Sink| self.running.iter().any(|running| running.settings == *settings);
        let new = configured.iter().filter(|settings| !is_kept(settings));
        let new = new
            .map(|settings| {
                let sender = Sender::new(settings);
                Ok((settings, sender.map_err(|error| error.context(format!("sink {:?}", settings.name)))?))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let started: Vec<Running> =
            new.into_iter().map(|(settings, sender)| self.start(settings, sender)).collect();
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|running| configured.contains(&running.settings));
        self.running = kept.into_iter().chain(started).collect();
        let buffers: Vec<Arc<Buffer>> =
            self.running.iter().map(|running| Arc::clone(&running.buffer)).collect();
        log.set_sinks(buffers.clone());
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = buffers;
        for running in gone {
            tokio::spawn(running.close());
        }
        Ok(())
    }

    fn start(&self, settings: &Sink, sender: Sender) -> Running {
        let bounds =
            Bounds { events: settings.buffer_events, bytes: settings.buffer_bytes, block: settings.block };
        let buffer = Arc::new(Buffer::new(settings.name.clone(), bounds));
        let (closing, ends) = watch::channel(false);
        let work = Work {
            buffer: Arc::clone(&buffer),
            batch_events: settings.batch_events,
            closing: ends,
            random: Arc::clone(&self.random),
            tries: 0,
        };
        let task = tokio::spawn(work.run(sender));
        Running { settings: settings.clone(), buffer, closing, task }
    }

    /// Sends what is left, within a bound, and ends. The log must be closed before.
    pub(super) async fn close(self) {
        let all: Vec<_> = self.running.into_iter().map(|running| tokio::spawn(running.close())).collect();
        for one in all {
            let _ = one.await;
        }
    }
}

impl Running {
    async fn close(self) {
        self.closing.send_replace(true);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(CLOSE_WITHIN, self.task).await.is_err() {
            abort.abort();
            let events = self.buffer.counts().pending_events;
            tracing::warn!(
                sink = self.buffer.name(),
                events,
                "a sink did not take its last events in time; the log has them"
            );
        }
    }
}

/// One sink's work.
struct Work {
    buffer: Arc<Buffer>,
    batch_events: usize,
    closing: watch::Receiver<bool>,
    random: Arc<SystemRandom>,
    /// Attempts that failed in a row.
    tries: u32,
}

impl Work {
    async fn run(mut self, mut sender: Sender) {
        let mut batch: Vec<Vec<u8>> = Vec::new();
        // Events at the front that are sent one by one, to find out which is refused.
        let mut singly = 0;
        let mut ending = false;
        loop {
            if batch.is_empty() {
                batch = self.buffer.take(self.batch_events, BATCH_BYTES_MAX).lines;
            }
            if batch.is_empty() {
                if ending {
                    return;
                }
                ending = outward::pause(&mut self.closing, LOOK_EVERY).await;
                continue;
            }
            let count = if singly > 0 { 1 } else { batch.len() };
            let rest = batch.split_off(count);
            let delivery = sender.deliver(&batch).await;
            singly = if delivery.smaller && count > 1 { count } else { singly.saturating_sub(1) };
            batch = if delivery.smaller && count > 1 {
                self.buffer.fault(count);
                batch
            } else {
                self.settle(batch, delivery).await
            };
            batch.extend(rest);
        }
    }

    /// Settles what is settled, waits if it must, and gives what is to be sent again.
    async fn settle(&mut self, batch: Vec<Vec<u8>>, delivery: Delivery) -> Vec<Vec<u8>> {
        let (mut taken, mut refused, mut later) = (Vec::new(), Vec::new(), Vec::new());
        for (place, line) in batch.into_iter().enumerate() {
            match delivery.fates.get(place).copied().unwrap_or(Fate::Later) {
                Fate::Taken => taken.push(line),
                Fate::Refused => refused.push(line),
                Fate::Later => later.push(line),
            }
        }
        self.buffer.settle(&taken, true);
        self.buffer.settle(&refused, false);
        let name = self.buffer.name();
        let why = delivery.fault.as_deref().unwrap_or("no reason given");
        if !refused.is_empty() {
            let events = refused.len();
            tracing::warn!(sink = name, events, "a sink refuses events for good; the log has them: {why}");
        }
        if later.is_empty() {
            self.tries = 0;
            if self.buffer.good() {
                tracing::info!(sink = name, "a sink takes events again");
            }
            return later;
        }
        self.buffer.fault(later.len());
        if self.tries == 0 {
            tracing::warn!(sink = name, events = later.len(), "events wait for a sink: {why}");
        }
        // `Retry-After: 0` is no leave to try without a pause.
        let backoff = outward::backoff(self.tries, outward::draw(&self.random));
        let wait = delivery.after.map_or(backoff, |after| after.min(AFTER_MAX).max(backoff));
        self.tries = self.tries.saturating_add(1);
        self.pause_between(wait).await;
        later
    }

    /// Waits between two tries; once it is to end, waits are short, and whoever ends
    /// it bounds them all.
    async fn pause_between(&mut self, time: Duration) {
        if outward::pause(&mut self.closing, time).await {
            tokio::time::sleep(time.min(LOOK_EVERY)).await;
        }
    }
}

fn add_families(registry: &Registry, shown: Arc<Mutex<Vec<Arc<Buffer>>>>) {
    registry.add_source(move |out: &mut Exposition| {
        let shown: Vec<_> = shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|buffer| (buffer.name().to_owned(), buffer.counts()))
            .collect();
        out.family(&metrics::SINK_EVENTS);
        for (sink, counts) in &shown {
            for (result, value) in [
                ("sent", counts.sent),
                ("retried", counts.retried),
                ("dropped", counts.dropped),
                ("failed", counts.failed),
            ] {
                out.sample(&[("sink", sink), ("result", result)], value);
            }
        }
        for (family, of) in FAMILIES {
            out.family(family);
            for (sink, counts) in &shown {
                out.sample(&[("sink", sink)], of(counts));
            }
        }
    });
}

type Read = fn(&audit::sink::Counts) -> u64;

const FAMILIES: &[(&Metric, Read)] = &[
    (&metrics::SINK_FAULTS, |counts| counts.faults),
    (&metrics::SINK_PENDING_EVENTS, |counts| counts.pending_events),
    (&metrics::SINK_PENDING_BYTES, |counts| counts.pending_bytes),
    (&metrics::SINK_HEALTHY, |counts| u64::from(counts.healthy)),
];
