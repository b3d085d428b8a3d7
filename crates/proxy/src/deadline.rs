//! Timeouts without a timer per request: one tick per core looks over all waiting
//! connections. Setting a deadline is one store; nobody asks the kernel for the time.
//!
//! A deadline never fires early and at most two ticks late.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Milliseconds between two looks at the deadlines.
pub const TICK_MS: u64 = 50;

/// A core's coarse clock and the deadlines of its connections.
#[derive(Debug)]
pub struct Ticker {
    start: Instant,
    now_ms: Cell<u64>,
    watches: RefCell<Vec<Entry>>,
    free: RefCell<Vec<usize>>,
    used: Cell<usize>,
    work: Notify,
}

#[derive(Debug, Default)]
struct Entry {
    /// Milliseconds since the ticker's start; 0 means none.
    deadline_ms: u64,
    waker: Option<Waker>,
}

impl Ticker {
    /// A clock that counts from `start`, which all cores share, so that their times
    /// can be compared. Its task runs until the runtime ends.
    ///
    /// Must be called on a runtime that can spawn local tasks.
    pub fn start(start: Instant) -> Rc<Self> {
        let ticker = Rc::new(Self {
            start,
            now_ms: Cell::new(1),
            watches: RefCell::default(),
            free: RefCell::default(),
            used: Cell::new(0),
            work: Notify::new(),
        });
        ticker.read_clock();
        let weak = Rc::downgrade(&ticker);
        tokio::task::spawn_local(async move {
            while let Some(ticker) = weak.upgrade() {
                if ticker.used.get() == 0 {
                    // Nothing to time: an idle core sleeps.
                    ticker.work.notified().await;
                }
                drop(ticker);
                tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
                let Some(ticker) = weak.upgrade() else { return };
                ticker.read_clock();
                ticker.look();
            }
        });
        ticker
    }

    fn read_clock(&self) {
        let elapsed = Instant::now().saturating_duration_since(self.start);
        // Never 0: that stands for "none".
        self.now_ms.set(millis(elapsed).max(1));
    }

    /// Milliseconds since the shared start, at most one tick old while any watch exists.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// The same, read from the clock: also right on a core that sleeps.
    pub(crate) fn read_now_ms(&self) -> u64 {
        self.read_clock();
        self.now_ms.get()
    }

    /// Microseconds since the shared start, read from the clock: what latencies are
    /// measured with.
    pub(crate) fn read_now_us(&self) -> f64 {
        Instant::now().saturating_duration_since(self.start).as_secs_f64() * 1e6
    }

    /// The moment `after` from now.
    pub fn moment(&self, after: Duration) -> u64 {
        // The clock may be a tick behind; so a deadline is never early.
        self.now_ms.get().saturating_add(millis(after)).saturating_add(TICK_MS)
    }

    fn look(&self) {
        let now = self.now_ms.get();
        for entry in self.watches.borrow_mut().iter_mut() {
            if entry.deadline_ms != 0
                && entry.deadline_ms <= now
                && let Some(waker) = entry.waker.take()
            {
                waker.wake();
            }
        }
    }

    /// Wakes every waiting connection, so that it sees a state that changed (drain).
    pub fn wake_all(&self) {
        for entry in self.watches.borrow_mut().iter_mut() {
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

/// One deadline at a time, for whoever polls it.
#[derive(Debug)]
pub struct Watch {
    ticker: Rc<Ticker>,
    index: usize,
}

impl Watch {
    /// A watch without a deadline.
    pub fn new(ticker: &Rc<Ticker>) -> Self {
        let index = ticker.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut watches = ticker.watches.borrow_mut();
            watches.push(Entry::default());
            watches.len() - 1
        });
        let used = ticker.used.get();
        ticker.used.set(used + 1);
        if used == 0 {
            // The tick was asleep and the clock is old.
            ticker.read_clock();
            ticker.work.notify_one();
        }
        Self { ticker: Rc::clone(ticker), index }
    }

    /// The core's ticker, which ends the wait and has the time of its last tick.
    pub fn ticker(&self) -> &Rc<Ticker> {
        &self.ticker
    }

    /// Sets the deadline to a moment of [`Ticker::moment`]; 0 means none.
    pub fn set(&self, moment_ms: u64) {
        if let Some(entry) = self.ticker.watches.borrow_mut().get_mut(self.index) {
            entry.deadline_ms = moment_ms;
        }
    }

    /// Sets the deadline to `after` from now.
    pub fn set_after(&self, after: Duration) {
        self.set(self.ticker.moment(after));
    }

    /// Ready when the deadline has passed; wakes the task then, and on
    /// [`Ticker::wake_all`].
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut watches = self.ticker.watches.borrow_mut();
        let Some(entry) = watches.get_mut(self.index) else { return Poll::Pending };
        if entry.deadline_ms != 0 && entry.deadline_ms <= self.ticker.now_ms.get() {
            return Poll::Ready(());
        }
        match &entry.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => entry.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(entry) = self.ticker.watches.borrow_mut().get_mut(self.index) {
            *entry = Entry::default();
        }
        self.ticker.free.borrow_mut().push(self.index);
        self.ticker.used.set(self.ticker.used.get().saturating_sub(1));
    }
}

/// The earlier of two moments, of which 0 means none.
pub(crate) fn earlier(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, other) | (other, 0) => other,
        (a, b) => a.min(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn a_deadline_fires_after_its_time_and_not_before() {
        local(async {
            let start = Instant::now();
            let ticker = Ticker::start(start);
            let watch = Watch::new(&ticker);
            watch.set_after(Duration::from_millis(200));
            std::future::poll_fn(|cx| watch.poll(cx)).await;
            let late = start.elapsed();
            assert!(late >= Duration::from_millis(200), "{late:?}");
            assert!(late <= Duration::from_millis(200 + 3 * TICK_MS), "{late:?}");
        });
    }

    /// What every limit on time comes down to.
    #[test]
    fn a_deadline_is_ready_at_its_millisecond_and_not_the_one_before() {
        local(async {
            let ticker = Ticker::start(Instant::now());
            let watch = Watch::new(&ticker);
            let ready = |now| {
                ticker.now_ms.set(now);
                watch.poll(&Context::from_waker(Waker::noop())).is_ready()
            };
            for limit in [Duration::from_millis(10), Duration::from_secs(75), Duration::from_secs(86_400)] {
                ticker.now_ms.set(1_000);
                watch.set_after(limit);
                let end = 1_000 + millis(limit) + TICK_MS;
                assert_eq!([end - 1, end, end + 1].map(ready), [false, true, true], "{limit:?}");
            }
            watch.set(0);
            assert!(!ready(u64::MAX));
        });
    }

    #[test]
    fn a_watch_without_a_deadline_never_fires_and_its_place_is_used_again() {
        local(async {
            let ticker = Ticker::start(Instant::now());
            for _ in 0..100 {
                let watch = Watch::new(&ticker);
                watch.set_after(Duration::from_millis(1));
            }
            assert_eq!(ticker.watches.borrow().len(), 1);
            let watch = Watch::new(&ticker);
            let fired =
                tokio::time::timeout(Duration::from_secs(10), std::future::poll_fn(|cx| watch.poll(cx)))
                    .await;
            assert!(fired.is_err());
        });
    }

    #[test]
    fn a_core_that_slept_reads_its_clock_before_it_sets_a_deadline() {
        local(async {
            let start = Instant::now();
            let ticker = Ticker::start(start);
            tokio::time::sleep(Duration::from_secs(3600)).await;
            let watch = Watch::new(&ticker);
            watch.set_after(Duration::from_millis(100));
            let before = Instant::now();
            std::future::poll_fn(|cx| watch.poll(cx)).await;
            assert!(before.elapsed() >= Duration::from_millis(100));
        });
    }
}
