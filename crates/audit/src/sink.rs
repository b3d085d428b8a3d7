//! Who is told each event besides the log: a bounded buffer between the writer and
//! whoever delivers, and the forms in which events are delivered.
//!
//! The way through it: the writer puts each line that it takes from the queues into every
//! [`Buffer`]; a task of the binary takes [`Batch`]es out, brings them into the sink's
//! form ([`syslog`], [`splunk`], [`elastic`]), sends them, and says what became of them.
//!
//! What it must never do: make the writer wait. A full buffer drops the event for this
//! sink and counts it, or, where the configuration says `block`, refuses
//! requests ([`Buffer::is_shut`]); the log gets the event either way.

pub mod elastic;
pub mod form;
pub mod splunk;
pub mod syslog;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How much a sink's buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Events, those that are being sent included.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Whether requests are refused while it is full, instead of events being dropped.
    pub block: bool,
}

/// One sink's buffer.
#[derive(Debug)]
pub struct Buffer {
    name: String,
    bounds: Bounds,
    lines: Mutex<Lines>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    /// Of everything that waits or is being sent.
    bytes: usize,
    events: usize,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    faults: AtomicU64,
    unwell: AtomicU64,
}

/// What a sink has counted since the start, and what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that the sink has taken.
    pub sent: u64,
    /// Events that were dropped because the buffer was full.
    pub dropped: u64,
    /// Events that the sink refused for good, and that are not sent again.
    pub failed: u64,
    /// Events that were sent once more.
    pub retried: u64,
    /// Attempts to deliver that failed.
    pub faults: u64,
    /// Events that wait or are being sent.
    pub pending_events: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Whether the last attempt succeeded.
    pub healthy: bool,
}

/// Lines that are being sent: whole, without their newlines. They count against the
/// buffer's bounds until [`Buffer::settle`].
#[derive(Debug, Default)]
pub struct Batch {
    /// The lines.
    pub lines: Vec<Vec<u8>>,
}

impl Buffer {
    /// An empty one.
    pub fn new(name: impl Into<String>, bounds: Bounds) -> Self {
        Self { name: name.into(), bounds, lines: Mutex::default(), counters: Counters::default() }
    }

    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line of the log, newline included; or drops and counts it.
    pub fn push(&self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut lines = self.lock();
        let full = lines.events >= self.bounds.events || lines.bytes + line.len() > self.bounds.bytes;
        // A sink that blocks takes what was on its way when requests were shut out.
        if full && !self.bounds.block {
            drop(lines);
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lines.bytes += line.len();
        lines.events += 1;
        lines.waiting.push_back(line.to_vec());
    }

    /// Whether requests are to be refused because of this sink.
    pub fn is_shut(&self) -> bool {
        if !self.bounds.block {
            return false;
        }
        let lines = self.lock();
        lines.events >= self.bounds.events || lines.bytes >= self.bounds.bytes
    }

    /// The next lines, at most so many and, past the first, so many bytes.
    pub fn take(&self, events_max: usize, bytes_max: usize) -> Batch {
        let mut lines = self.lock();
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while batch.lines.len() < events_max.max(1) {
            let Some(next) = lines.waiting.front() else { break };
            bytes += next.len();
            if bytes > bytes_max && !batch.lines.is_empty() {
                break;
            }
            batch.lines.extend(lines.waiting.pop_front());
        }
        batch
    }

    /// These lines are no longer this buffer's matter: the sink has taken them, or never
    /// will.
    pub fn settle(&self, lines: &[Vec<u8>], taken: bool) {
        let count = lines.len() as u64;
        let mut held = self.lock();
        held.events = held.events.saturating_sub(lines.len());
        held.bytes = held.bytes.saturating_sub(lines.iter().map(Vec::len).sum());
        drop(held);
        let counter = if taken { &self.counters.sent } else { &self.counters.failed };
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// An attempt failed, and so many events will be sent again.
    pub fn fault(&self, again: usize) {
        self.counters.faults.fetch_add(1, Ordering::Relaxed);
        self.counters.retried.fetch_add(again as u64, Ordering::Relaxed);
        self.counters.unwell.store(1, Ordering::Relaxed);
    }

    /// An attempt succeeded. Says whether the one before had failed.
    pub fn good(&self) -> bool {
        self.counters.unwell.swap(0, Ordering::Relaxed) == 1
    }

    /// What was counted, and what waits.
    pub fn counts(&self) -> Counts {
        let (events, bytes) = {
            let lines = self.lock();
            (lines.events as u64, lines.bytes as u64)
        };
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            sent: get(&self.counters.sent),
            dropped: get(&self.counters.dropped),
            failed: get(&self.counters.failed),
            retried: get(&self.counters.retried),
            faults: get(&self.counters.faults),
            pending_events: events,
            pending_bytes: bytes,
            healthy: get(&self.counters.unwell) == 0,
        }
    }
}

#[cfg(test)]
mod tests;
