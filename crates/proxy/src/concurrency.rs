//! How many requests may run at the same time: exact across cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A limit on how many may be inside at once. Clones count together.
#[derive(Clone, Debug)]
pub struct Concurrency {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inside: AtomicU32,
    inside_max: u32,
}

impl Concurrency {
    /// At most `inside_max` at once; 0 admits nobody.
    pub fn new(inside_max: u32) -> Self {
        Self { shared: Arc::new(Shared { inside: AtomicU32::new(0), inside_max }) }
    }

    /// A slot, or `None` when all are taken.
    #[must_use = "the slot is free again as soon as it is dropped"]
    pub fn acquire(&self) -> Option<Slot> {
        let max = self.shared.inside_max;
        self.shared
            .inside
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |inside| (inside < max).then(|| inside + 1))
            .ok()
            .map(|_| Slot { shared: self.shared.clone() })
    }

    /// How many are inside now.
    pub fn inside(&self) -> u32 {
        self.shared.inside.load(Ordering::Acquire)
    }

    /// The limit.
    pub fn inside_max(&self) -> u32 {
        self.shared.inside_max
    }
}

/// The right to be inside; dropping it is leaving.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.inside.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_up_to_the_limit_and_again_after_leaving() {
        for inside_max in [0, 1, 3] {
            let limit = Concurrency::new(inside_max);
            let mut slots: Vec<_> = (0..inside_max).map(|_| limit.acquire().unwrap()).collect();
            assert!(limit.acquire().is_none(), "one past {inside_max}");
            assert_eq!(limit.inside(), inside_max);
            if slots.pop().is_some() {
                assert!(limit.acquire().is_some(), "after one left {inside_max}");
            }
            drop(slots);
            assert_eq!(limit.inside(), 0);
        }
    }

    #[test]
    fn threads_never_exceed_the_limit_and_leave_nothing_behind() {
        let limit = Concurrency::new(3);
        let most = AtomicU32::new(0);
        let entered = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(slot) = limit.acquire() {
                            most.fetch_max(limit.inside(), Ordering::Relaxed);
                            entered.fetch_add(1, Ordering::Relaxed);
                            drop(slot);
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::Relaxed) <= 3);
        assert!(entered.load(Ordering::Relaxed) > 0);
        assert_eq!(limit.inside(), 0);
    }
}
