//! The writer's rest: where nothing came for a while it sleeps, and whoever brings something wakes
//! it. A process that stands idle costs nothing; one that works wakes nobody.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Duration;

/// What the writer and the queues know of it.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    is_asleep: AtomicBool,
    /// Who sleeps.
    writer: OnceLock<Thread>,
}

impl Rest {
    /// Sleeps until somebody brings something, or for `longest`; not at all where `is_over` says
    /// that something is there already. Only the writer calls this.
    pub(crate) fn sleep(&self, longest: Duration, is_over: impl FnOnce() -> bool) {
        self.writer.get_or_init(thread::current);
        self.is_asleep.store(true, Ordering::Relaxed);
        // Either this one sees what was brought, or whoever brings it sees this one asleep: each
        // writes before the fence and reads after it.
        fence(Ordering::SeqCst);
        if !is_over() {
            thread::park_timeout(longest);
        }
        self.is_asleep.store(false, Ordering::Relaxed);
    }

    /// Something was brought.
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        // The first of several who bring something is enough.
        if self.is_asleep.load(Ordering::Relaxed)
            && self.is_asleep.swap(false, Ordering::Relaxed)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }
}
