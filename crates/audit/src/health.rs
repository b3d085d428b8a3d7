//! How the log fares: for `/readyz`, `/metrics` and the operator.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use model::Timestamp;

/// The state and the counters of the log. Shared by the writer, the queues and the admin listener.
#[derive(Debug, Default)]
pub struct Health {
    fault: Mutex<Option<(String, Timestamp)>>,
    pub(crate) queues: Vec<Arc<QueueCounters>>,
    pub(crate) written_events: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) write_errors: AtomicU64,
    pub(crate) rotations: AtomicU64,
    pub(crate) torn_lines: AtomicU64,
}

/// One queue's counters. All but the last are written by its core alone, so that counting is a
/// plain store.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct QueueCounters {
    pub(crate) reserved: AtomicU64,
    pub(crate) committed_events: AtomicU64,
    pub(crate) committed_bytes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    pub(crate) taken_bytes: Taken,
}

/// Bytes that the writer has taken from the queue: written by the writer alone, so apart from
/// what the core writes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Taken(pub(crate) AtomicU64);

/// Adds to a counter that only the calling thread writes.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Release);
}

/// Whether the log can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The last write succeeded.
    Good,
    /// It failed; events wait in the queues.
    Bad {
        /// What the system said about the last failed write.
        reason: String,
        /// When the first of the failed writes in a row was.
        since: Timestamp,
    },
}

/// The log's counters, since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were written to files.
    pub written_events: u64,
    /// Bytes of these events, as JSON lines.
    pub written_bytes: u64,
    /// Events that wait in queues or in the writer.
    pub pending_events: u64,
    /// Bytes of these events, as JSON lines.
    pub pending_bytes: u64,
    /// Slots that are reserved and not yet committed.
    pub reserved: u64,
    /// Reservations refused because a queue was full.
    pub refused: u64,
    /// Events dropped because a queue was full and the configuration says `drop`.
    pub dropped: u64,
    /// Slots dropped without a commit.
    pub abandoned: u64,
    /// Writes to the disk that failed, and failures to start the next file or to remove an old one.
    pub write_errors: u64,
    /// Files started after the first one of this process.
    pub rotations: u64,
    /// Incomplete lines of a killed process, found and ended at the start.
    pub torn_lines: u64,
}

impl Health {
    pub(crate) fn new(queues: Vec<Arc<QueueCounters>>) -> Self {
        Self { queues, ..Self::default() }
    }

    /// Whether the last write succeeded.
    pub fn status(&self) -> Status {
        match &*self.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Status::Good,
            Some((reason, since)) => Status::Bad { reason: reason.clone(), since: *since },
        }
    }

    /// The counters, summed over all queues.
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let sum = |of: fn(&QueueCounters) -> &AtomicU64| {
            self.queues.iter().map(|counters| get(of(counters))).sum::<u64>()
        };
        // What was written is read first: it is never more than what was committed.
        let (written_events, written_bytes) = (get(&self.written_events), get(&self.written_bytes));
        Counts {
            written_events,
            written_bytes,
            pending_events: sum(|counters| &counters.committed_events).saturating_sub(written_events),
            pending_bytes: sum(|counters| &counters.committed_bytes).saturating_sub(written_bytes),
            reserved: sum(|counters| &counters.reserved),
            refused: sum(|counters| &counters.refused),
            dropped: sum(|counters| &counters.dropped),
            abandoned: sum(|counters| &counters.abandoned),
            write_errors: get(&self.write_errors),
            rotations: get(&self.rotations),
            torn_lines: get(&self.torn_lines),
        }
    }

    pub(crate) fn good(&self) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Keeps the time of the first fault in a row.
    pub(crate) fn bad(&self, reason: String, now: Timestamp) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let since = fault.as_ref().map_or(now, |(_, since)| *since);
        *fault = Some((reason, since));
    }
}
