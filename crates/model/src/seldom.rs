//! What is told only so often: whoever makes it happen again and again fills no log and pushes no
//! history out. What is left out is counted, and the next that is told says how much that was.

use std::collections::HashMap;
use std::hash::Hash;

/// Sources that are told apart; what further ones do at the same time is only counted.
pub const SOURCES_MAX: usize = 4_096;

/// How often something is told (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// So many may follow each other at once …
    pub at_once: u64,
    /// … and one more in each such time, milliseconds.
    pub every_ms: u64,
}

impl Rate {
    /// The next theoretical arrival time after `tat_ms`, if something may be told now.
    fn next(self, tat_ms: u64, now_ms: u64) -> Option<u64> {
        let longest = now_ms + self.at_once * self.every_ms;
        // What lies further ahead was said by a clock that has been set back since.
        let tat_ms = if tat_ms > longest { now_ms } else { tat_ms.max(now_ms) };
        let next = tat_ms + self.every_ms;
        (next <= longest).then_some(next)
    }
}

/// What is remembered of a source.
#[derive(Debug, Default)]
struct Source {
    tat_ms: u64,
    left_out: u64,
}

/// What was told of each source `K`, of at most [`SOURCES_MAX`] at a time where nothing else is said.
#[derive(Debug)]
pub struct Seldom<K> {
    sources_max: usize,
    of_one: Rate,
    of_all: Option<Rate>,
    all_tat_ms: u64,
    known: HashMap<K, Source>,
}

impl<K: Eq + Hash> Seldom<K> {
    /// So often of each source, and of all sources together.
    pub fn new(of_one: Rate, of_all: Option<Rate>) -> Self {
        Self { sources_max: SOURCES_MAX, of_one, of_all, all_tat_ms: 0, known: HashMap::new() }
    }

    /// The same, of at most so many sources at a time.
    #[must_use]
    pub fn with_sources_max(self, sources_max: usize) -> Self {
        Self { sources_max, ..self }
    }

    /// Whether something is told of a source; then how much of the same source was not, before it.
    pub fn take(&mut self, source: K, now_ms: u64) -> Option<u64> {
        if !self.known.contains_key(&source) && self.known.len() >= self.sources_max {
            // Of whom nothing is held back any more, nothing has to be known.
            self.known.retain(|_, known| known.tat_ms > now_ms);
            if self.known.len() >= self.sources_max {
                return None;
            }
        }
        let known = self.known.entry(source).or_default();
        let of_one = self.of_one.next(known.tat_ms, now_ms);
        let of_all = self.of_all.map_or(Some(self.all_tat_ms), |rate| rate.next(self.all_tat_ms, now_ms));
        let Some((of_one, of_all)) = of_one.zip(of_all) else {
            known.left_out += 1;
            return None;
        };
        (known.tat_ms, self.all_tat_ms) = (of_one, of_all);
        Some(std::mem::take(&mut known.left_out))
    }

    /// So many of a source were not told after all.
    pub fn leave_out(&mut self, source: &K, count: u64) {
        if let Some(known) = self.known.get_mut(source) {
            known.left_out += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_sources_are_remembered_than_may_be_and_the_next_is_counted() {
        let mut sources =
            Seldom::new(Rate { at_once: 10, every_ms: 1_000 }, Some(Rate { at_once: 200, every_ms: 20 }));
        for n in 0..SOURCES_MAX {
            sources.known.insert(n, Source { tat_ms: 2_000, left_out: 0 });
        }
        let one = SOURCES_MAX;
        assert_eq!(sources.known.len(), SOURCES_MAX);
        assert_eq!(sources.take(one, 1_999), None);
        assert_eq!(sources.known.len(), SOURCES_MAX);
        // Once nothing is held back of the others, they make room.
        assert_eq!(sources.take(one, 2_000), Some(0));
        assert_eq!(sources.known.len(), 1);
    }
}
