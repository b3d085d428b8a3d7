//! How many connections to one endpoint are open over all cores, and who waits for one.
//!
//! A core that keeps an unused connection while another core waits gives it up: the
//! waiting one says what it wants through [`ConnectionLimiter::wanted`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::board::Board;

/// The bounds of one endpoint, over all cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections; 0: no bound.
    pub connections_max: u32,
    /// Requests that wait for a connection; one more is refused at once.
    pub waiting_max: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { connections_max: 0, waiting_max: 1024 }
    }
}

/// One endpoint's connections, counted over all cores and kept over reloads.
#[derive(Debug, Default)]
pub struct ConnectionLimiter {
    open: AtomicU32,
    waiting: AtomicU32,
    refused: AtomicU64,
    /// One connection was closed, or could be opened, while somebody waited.
    pub(crate) freed: Notify,
    /// Somebody waits.
    pub(crate) wanted: Notify,
    /// What the cores tell each other then.
    pub(crate) board: Board,
}

impl ConnectionLimiter {
    /// Connections that are open now.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Requests that were refused because too many waited.
    pub fn refused_total(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// One more connection, unless there are enough.
    pub(crate) fn enter(self: &Arc<Self>, rule: ConnectionLimits) -> Option<Entered> {
        let fits = |open: u32| (rule.connections_max == 0 || open < rule.connections_max).then_some(open + 1);
        self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).ok()?;
        Some(Entered(Arc::clone(self)))
    }

    /// One more who waits, unless there are enough.
    pub(crate) fn wait(self: &Arc<Self>, rule: ConnectionLimits) -> Option<Waiting> {
        let fits = |waiting: u32| (waiting < rule.waiting_max).then_some(waiting + 1);
        if self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Waiting(Arc::clone(self)))
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Entered(Arc<ConnectionLimiter>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        // Whoever waits has said so before it looked for a place the last time.
        if self.0.waiting() > 0 {
            self.0.freed.notify_one();
        }
    }
}

/// Somebody who waits.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<ConnectionLimiter>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_waiting_are_bounded_at_the_number_and_not_one_before() {
        let limiter = Arc::new(ConnectionLimiter::default());
        let rule = ConnectionLimits { connections_max: 2, waiting_max: 1 };
        let first = limiter.enter(rule).unwrap();
        let _second = limiter.enter(rule).unwrap();
        assert!(limiter.enter(rule).is_none());
        let waiting = limiter.wait(rule).unwrap();
        assert!(limiter.wait(rule).is_none());
        assert_eq!((limiter.open(), limiter.waiting(), limiter.refused_total()), (2, 1, 1));
        drop((first, waiting));
        assert!(limiter.enter(rule).is_some() && limiter.wait(rule).is_some());
    }

    #[test]
    fn zero_is_no_bound_for_connections_and_nobody_for_waiting() {
        let limiter = Arc::new(ConnectionLimiter::default());
        let rule = ConnectionLimits { connections_max: 0, waiting_max: 0 };
        let held: Vec<_> = (0..1000).map(|_| limiter.enter(rule).unwrap()).collect();
        assert_eq!(limiter.open(), 1000);
        assert!(limiter.wait(rule).is_none());
        drop(held);
        assert_eq!(limiter.open(), 0);
    }

    #[test]
    fn threads_never_open_more_than_the_bound() {
        let limiter = Arc::new(ConnectionLimiter::default());
        let rule = ConnectionLimits { connections_max: 3, waiting_max: 0 };
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(_entered) = limiter.enter(rule) {
                            most.fetch_max(limiter.open(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.load(Ordering::Relaxed)));
        assert_eq!(limiter.open(), 0);
    }
}
