//! Which rules of the phase at hand may still match.

use crate::bits;

/// A bit for each rule of the phase, and one for each group that was asked.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    rules: Vec<u64>,
    asked: Vec<u64>,
}

impl Candidates {
    /// A phase begins: every rule may match, no group was asked.
    pub(super) fn begin(&mut self, rules: usize, groups: usize) {
        self.rules.clear();
        self.rules.resize(rules.div_ceil(64), u64::MAX);
        self.asked.clear();
        self.asked.resize(groups.div_ceil(64), 0);
    }

    /// Only these may match.
    pub(super) fn limit(&mut self, rules: &[u64]) {
        for (word, left) in self.rules.iter_mut().zip(rules) {
            *word &= left;
        }
    }

    /// The first rule at or behind `from` that may match; past the end when there is none.
    pub(super) fn next(&self, from: usize) -> usize {
        let mut skipped = u64::MAX << (from % 64);
        for (number, word) in self.rules.iter().enumerate().skip(from / 64) {
            let rest = word & skipped;
            if rest != 0 {
                return number * 64 + rest.trailing_zeros() as usize;
            }
            skipped = u64::MAX;
        }
        usize::MAX
    }

    /// Whether a rule may match.
    pub(super) fn has(&self, rule: usize) -> bool {
        bits::has(&self.rules, rule)
    }

    /// Rules cannot match: those of the mask in this word.
    pub(super) fn drop(&mut self, number: u32, mask: u64) {
        if let Some(word) = self.rules.get_mut(number as usize) {
            *word &= !mask;
        }
    }

    /// Rules may match: those of the mask in this word.
    pub(super) fn keep(&mut self, number: u32, mask: u64) {
        if let Some(word) = self.rules.get_mut(number as usize) {
            *word |= mask;
        }
    }

    /// Whether a group is asked for the first time in this phase.
    pub(super) fn asks(&mut self, group: usize) -> bool {
        let Some(word) = self.asked.get_mut(group / 64) else { return true };
        let before = *word;
        *word |= 1 << (group % 64);
        before != *word
    }

    /// Further groups were asked with it.
    pub(super) fn asked(&mut self, groups: &[(u32, u64)]) {
        for (number, mask) in groups {
            if let Some(word) = self.asked.get_mut(*number as usize) {
                *word |= mask;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_rules_are_passed_over() {
        let mut candidates = Candidates::default();
        candidates.begin(130, 70);
        assert_eq!(candidates.next(0), 0);
        (0..3).for_each(|word| candidates.drop(word, u64::MAX));
        candidates.keep(2, 3);
        assert_eq!((candidates.next(0), candidates.next(64), candidates.next(129)), (128, 128, 129));
        assert!(!candidates.has(127) && candidates.has(128));
        assert!(candidates.next(400) > 130 && candidates.next(usize::MAX) > 130);
    }

    #[test]
    fn a_group_is_asked_once_a_phase() {
        let mut candidates = Candidates::default();
        candidates.begin(1, 70);
        assert!(candidates.asks(69) && candidates.asks(0));
        assert!(!candidates.asks(69));
        candidates.asked(&[(1, 1)]);
        assert!(!candidates.asks(64) && candidates.asks(65));
        candidates.begin(1, 70);
        assert!(candidates.asks(69));
    }
}
