//! Quotas: so many slots for each holder and so many for all together, so that nobody keeps
//! the others out.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// How many slots are taken, and by whom.
#[derive(Debug)]
pub(crate) struct Quota<K> {
    each: usize,
    all: usize,
    taken: Mutex<HashMap<K, usize>>,
}

impl<K: Eq + Hash + Copy> Quota<K> {
    /// So many for each, and so many for all together.
    pub(crate) fn new(each: usize, all: usize) -> Arc<Self> {
        Arc::new(Self { each, all, taken: Mutex::default() })
    }

    /// Takes a slot; `None`: none is free.
    pub(crate) fn take(self: &Arc<Self>, who: K) -> Option<Slot<K>> {
        self.take_leaving(who, 0)
    }

    /// Takes one of those that are for everybody: so many of all are kept for whoever uses [`Self::take`].
    pub(crate) fn take_leaving(self: &Arc<Self>, who: K, kept: usize) -> Option<Slot<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (taken.values().sum::<usize>(), taken.get(&who).copied().unwrap_or(0));
        if all + kept >= self.all || own >= self.each {
            return None;
        }
        taken.insert(who, own + 1);
        Some(Slot { quota: Arc::clone(self), who })
    }
}

/// A slot, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<K: Eq + Hash> {
    quota: Arc<Quota<K>>,
    who: K,
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut taken = self.quota.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_so_many_and_leaves_room_for_others() {
        let counts = Quota::new(3, 7);
        let mut held: Vec<Slot<u32>> = (0..3).map(|_| counts.take(1000).unwrap()).collect();
        assert!(counts.take(1000).is_none());
        assert!(counts.take(1001).is_some());
        held.pop();
        held.push(counts.take(1000).unwrap());
        held.extend((1..5).map(|other| counts.take(other).unwrap()));
        assert!(counts.take(5).is_none(), "all together have a bound too");
        drop(held);
        assert!(counts.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn kept_slots_are_not_for_everybody() {
        let counts = Quota::new(4, 7);
        let mut held: Vec<Slot<u32>> = (0..4).map(|who| counts.take_leaving(who, 3).unwrap()).collect();
        assert!(counts.take_leaving(4, 3).is_none());
        held.extend((4..7).map(|who| counts.take(who).unwrap()));
        assert!(counts.take(7).is_none());
        held.truncate(3);
        assert!(counts.take_leaving(8, 3).is_some(), "those that are taken are not kept besides");
    }
}
