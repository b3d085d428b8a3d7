//! One core's bounded way to the exporter: a core that finds it full drops and counts,
//! and never waits.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::telemetry::span::Trace;

/// A core's end. It can be sent to its core, and stays there.
#[derive(Debug)]
pub struct TraceSender {
    ring: RefCell<Producer<Box<Trace>>>,
    counters: Arc<Counters>,
}

/// Written by the core alone, so that counting is a plain store.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    left: AtomicU64,
    dropped: AtomicU64,
}

fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl TraceSender {
    /// Leaves the spans of a finished request; drops and counts them when the exporter
    /// has not kept up.
    pub fn send(&self, trace: Box<Trace>) {
        let spans = trace.spans.len() as u64;
        match self.ring.borrow_mut().push(trace) {
            Ok(()) => add(&self.counters.left, spans),
            Err(_) => add(&self.counters.dropped, spans),
        }
    }
}

/// The exporter's end of all queues.
#[derive(Debug)]
pub struct TraceReceiver {
    rings: Vec<Consumer<Box<Trace>>>,
    collected: Collected,
}

/// What all cores have counted since the start, in spans.
#[derive(Clone, Debug)]
pub struct Collected(Vec<Arc<Counters>>);

impl Collected {
    /// Spans that were left for the exporter.
    pub fn left(&self) -> u64 {
        self.0.iter().map(|counters| counters.left.load(Ordering::Relaxed)).sum()
    }

    /// Spans that were dropped because a queue was full.
    pub fn dropped(&self) -> u64 {
        self.0.iter().map(|counters| counters.dropped.load(Ordering::Relaxed)).sum()
    }
}

impl TraceReceiver {
    /// One queue for each of `cores`, each with room for so many requests.
    pub fn new(cores: usize, traces_max: usize) -> (Self, Vec<TraceSender>) {
        let (mut rings, mut counted, mut senders) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..cores {
            let (ring, out) = RingBuffer::new(traces_max.max(1));
            let counters = Arc::new(Counters::default());
            rings.push(out);
            counted.push(Arc::clone(&counters));
            senders.push(TraceSender { ring: RefCell::new(ring), counters });
        }
        (Self { rings, collected: Collected(counted) }, senders)
    }

    /// What the cores have counted.
    pub fn collected(&self) -> Collected {
        self.collected.clone()
    }

    /// Takes up to `spans_max` spans (and the rest of the request that goes past it) out
    /// of the queues, round by round. Says whether there was more.
    pub fn drain(&mut self, into: &mut Vec<Trace>, spans_max: usize) -> bool {
        let mut spans = 0;
        loop {
            let mut found = false;
            for ring in &mut self.rings {
                if spans >= spans_max {
                    return true;
                }
                if let Ok(trace) = ring.pop() {
                    spans += trace.spans.len();
                    into.push(*trace);
                    found = true;
                }
            }
            if !found {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::context::TraceId;

    fn trace(n: u8, spans: usize) -> Box<Trace> {
        let span = crate::telemetry::otlp::tests::span(n);
        Box::new(Trace { id: TraceId([n; 16]), state: "".into(), flags: 1, spans: vec![span; spans] })
    }

    #[test]
    fn a_full_lane_drops_and_counts_at_its_limit_and_has_room_again() {
        let (mut receiver, cores) = TraceReceiver::new(2, 3);
        for n in 0..5 {
            cores[0].send(trace(n, 2));
        }
        cores[1].send(trace(9, 1));
        let counted = receiver.collected();
        assert_eq!((counted.left(), counted.dropped()), (7, 4));
        let mut found = Vec::new();
        assert!(!receiver.drain(&mut found, 100));
        assert_eq!(found.iter().map(|t| t.id.0[0]).collect::<Vec<_>>(), [0, 9, 1, 2]);
        cores[0].send(trace(5, 1));
        assert!(!receiver.drain(&mut found, 100));
        assert_eq!((found.len(), counted.dropped()), (5, 4));
    }

    #[test]
    fn a_drain_ends_at_its_bound_and_says_that_there_is_more() {
        let (mut receiver, cores) = TraceReceiver::new(1, 10);
        (0..4).for_each(|n| cores[0].send(trace(n, 3)));
        let mut found = Vec::new();
        assert!(receiver.drain(&mut found, 4));
        assert_eq!(found.len(), 2);
        assert!(!receiver.drain(&mut found, 100));
        assert_eq!(found.len(), 4);
    }
}
