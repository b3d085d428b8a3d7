//! One core's way to the writer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::event::AccessEvent;
use model::{RequestId, Timestamp};
use rtrb::{Consumer, Producer};

use crate::health::{QueueCounters, add};
use crate::record;
use crate::rest::Rest;
use crate::{Settings, WhenFull};

/// Size of a fresh line buffer, bytes: an ordinary event with its decision.
const LINE_BYTES_USUAL: usize = 1536;
/// A line buffer that has grown past this is not kept for the next line.
pub(crate) const LINE_BYTES_KEPT_MAX: usize = 8 * 1024;

/// One core's bounded queue. It can be sent to its core, and stays there: wrap it in
/// an [`Rc`].
#[derive(Debug)]
pub struct Queue {
    ends: RefCell<Ends>,
    counters: Arc<QueueCounters>,
    /// Bytes of lines that may wait before the queue is full.
    bytes_max: u64,
    when_full: WhenFull,
    /// Set while a sink that blocks is full.
    shut: Arc<AtomicBool>,
    rest: Arc<Rest>,
}

#[derive(Debug)]
struct Ends {
    lines: Producer<Vec<u8>>,
    spare: Consumer<Vec<u8>>,
    reserved: usize,
}

/// The queue is full: the request cannot be recorded and must not be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit queue is full")]
pub struct Full;

impl Queue {
    pub(crate) fn new(
        lines: Producer<Vec<u8>>,
        spare: Consumer<Vec<u8>>,
        counters: Arc<QueueCounters>,
        settings: &Settings,
        shut: Arc<AtomicBool>,
        rest: Arc<Rest>,
    ) -> Self {
        let ends = RefCell::new(Ends { lines, spare, reserved: 0 });
        let bytes_max = u64::try_from(settings.queue_bytes).unwrap_or(u64::MAX);
        Self { ends, counters, bytes_max, when_full: settings.when_full, shut, rest }
    }

    /// Takes a place in the queue for the event of this request. Whoever holds the
    /// slot can always commit: the place is kept even while the disk is full.
    ///
    /// # Errors
    /// All places are taken, or long lines wait in them, and the configuration says to
    /// refuse; or a sink that blocks is full.
    pub fn reserve(self: &Rc<Self>, id: RequestId, time: Timestamp) -> Result<Slot, Full> {
        if self.shut.load(Ordering::Relaxed) {
            add(&self.counters.refused, 1);
            return Err(Full);
        }
        let placed = self.free() > 0;
        if placed {
            self.ends.borrow_mut().reserved += 1;
            add(&self.counters.reserved, 1);
        } else if self.when_full == WhenFull::Refuse {
            add(&self.counters.refused, 1);
            return Err(Full);
        }
        Ok(Slot { queue: Some(self.clone()), placed, id, time })
    }

    /// Whether a place would be given now: to be asked again and again by whoever waits
    /// for one, and not counted.
    pub fn has_room(&self) -> bool {
        !self.shut.load(Ordering::Relaxed) && (self.free() > 0 || self.when_full == WhenFull::Drop)
    }

    /// Places that can still be reserved. Lines that are reserved have no length yet, so that
    /// those of requests under way come on top of the bytes that may wait.
    pub fn free(&self) -> usize {
        let committed = self.counters.committed_bytes.load(Ordering::Relaxed);
        let taken = self.counters.taken_bytes.0.load(Ordering::Acquire);
        if committed.saturating_sub(taken) >= self.bytes_max {
            return 0;
        }
        let ends = self.ends.borrow();
        ends.lines.slots().saturating_sub(ends.reserved)
    }

    fn push(&self, placed: bool, serialise: impl FnOnce(&mut Vec<u8>)) {
        if !placed {
            add(&self.counters.dropped, 1);
            return;
        }
        let mut ends = self.ends.borrow_mut();
        ends.reserved = ends.reserved.saturating_sub(1);
        let mut line = ends.spare.pop().unwrap_or_else(|_| Vec::with_capacity(LINE_BYTES_USUAL));
        line.clear();
        serialise(&mut line);
        let bytes = line.len() as u64;
        // Counted before it is pushed: the writer must never have written more than
        // was committed, and a close must see the event or the reservation.
        add(&self.counters.committed_events, 1);
        add(&self.counters.committed_bytes, bytes);
        if ends.lines.push(line).is_err() {
            // The reservation kept this place free; should it ever not be so, the
            // event is counted, not forgotten.
            add(&self.counters.dropped, 1);
        }
        add(&self.counters.reserved, 1u64.wrapping_neg());
        self.rest.wake();
    }
}

/// A reserved place in the queue. Exactly one event comes of it.
#[must_use = "a slot that is dropped without a commit writes an event that says so"]
#[derive(Debug)]
pub struct Slot {
    /// `None` once committed.
    queue: Option<Rc<Queue>>,
    placed: bool,
    id: RequestId,
    time: Timestamp,
}

impl Slot {
    /// Whether what is committed is written. Otherwise it is counted as dropped: the queue is full,
    /// and the configuration says so.
    pub fn has_place(&self) -> bool {
        self.placed
    }

    /// Hands the event to the writer. Cannot fail and does not wait.
    pub fn commit(mut self, event: &AccessEvent<'_>) {
        if let Some(queue) = self.queue.take() {
            queue.push(self.placed, |line| record::append(line, event));
        }
    }
}

impl Slot {
    /// Hands a line of another log to the writer: `write` appends a whole one with its
    /// newline. Cannot fail and does not wait.
    pub fn commit_line(mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(queue) = self.queue.take() {
            queue.push(self.placed, write);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            add(&queue.counters.abandoned, 1);
            queue.push(self.placed, |line| record::append_abandoned(line, self.id, self.time));
        }
    }
}
