//! Which rules of a phase wait for the same group: it is asked once for all of them, and
//! those that need the same are answered together.

use super::{Filter, Quick};

/// A set of bits: words that hold some, each with its number.
pub(crate) type Marks = Vec<(u32, u64)>;

/// The rules of a phase, by the group that their first links look at.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// For each group.
    waiting: Vec<Waiting>,
    /// For each bit of literals, the position of the rule that needs one of them.
    ///
    /// INVARIANT: no two rules have the same bit; `needles::Builder::add` gives each its own.
    positions: Vec<u32>,
}

/// The rules that look at a group.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Their positions in the phase.
    pub(crate) rules: Marks,
    pub(crate) alike: Vec<Alike>,
}

/// Those of them that need the same besides their literals.
#[derive(Debug)]
pub(crate) struct Alike {
    /// Of any of them.
    pub(crate) filter: Filter,
    pub(crate) rules: Marks,
    /// The bits of their literals.
    pub(crate) literals: Marks,
}

impl Gate {
    /// Of a phase whose rules are asked `quick` in this order.
    pub(crate) fn new(groups: usize, quick: impl Iterator<Item = Quick>) -> Self {
        let mut gate = Self::default();
        gate.waiting.resize_with(groups, Waiting::default);
        for (position, quick) in (0..).zip(quick) {
            let Quick::Group(group, filter) = quick else { continue };
            let Some(waiting) = gate.waiting.get_mut(group as usize) else { continue };
            mark(&mut waiting.rules, position);
            let alike = waiting.alike_to(filter);
            mark(&mut alike.rules, position);
            if let Some(bit) = filter.needle {
                mark(&mut alike.literals, bit);
                let bits = gate.positions.len().max(bit as usize + 1);
                gate.positions.resize(bits, u32::MAX);
                if let Some(known) = gate.positions.get_mut(bit as usize) {
                    *known = position;
                }
            }
        }
        gate
    }

    /// The rules that look at a group.
    pub(crate) fn waiting(&self, group: u32) -> Option<&Waiting> {
        self.waiting.get(group as usize)
    }

    /// The position of the rule whose literals have this bit.
    pub(crate) fn position(&self, bit: u32) -> Option<u32> {
        self.positions.get(bit as usize).copied()
    }
}

impl Waiting {
    fn alike_to(&mut self, filter: Filter) -> &mut Alike {
        let same = |known: &Alike| {
            (known.filter.unless, known.filter.needs) == (filter.unless, filter.needs)
                && known.filter.needle.is_some() == filter.needle.is_some()
        };
        let at = self.alike.iter().position(same).unwrap_or(self.alike.len());
        if at == self.alike.len() {
            self.alike.push(Alike { filter, rules: Marks::new(), literals: Marks::new() });
        }
        #[expect(clippy::indexing_slicing, reason = "the position was found or made just now")]
        &mut self.alike[at]
    }
}

/// Adds a bit.
fn mark(marks: &mut Marks, bit: u32) {
    let mask = 1 << (bit % 64);
    match marks.iter_mut().find(|(word, _)| *word == bit / 64) {
        Some((_, known)) => *known |= mask,
        None => marks.push((bit / 64, mask)),
    }
}

/// Each bit that is in `marks` and in `words`.
pub(crate) fn common(marks: &[(u32, u64)], words: &[u64]) -> impl Iterator<Item = u32> {
    marks.iter().flat_map(|(number, mask)| {
        let mut left = words.get(*number as usize).map_or(0, |word| word & mask);
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            left = left.checked_sub(1).map(|below| left & below)?;
            Some(number * 64 + bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(marks: &[(u32, u64)]) -> Vec<u32> {
        common(marks, &[u64::MAX; 4]).collect()
    }

    #[test]
    fn rules_are_found_by_their_group() {
        let group = |group| Quick::Group(group, Filter::default());
        let quick = [group(2), Quick::Look, group(0), group(2), Quick::Look];
        let gate = Gate::new(4, quick.into_iter());
        let positions = |group| gate.waiting(group).map(|waiting| bits(&waiting.rules));
        assert_eq!([0, 1, 2, 3].map(positions), [vec![2], vec![], vec![0, 3], vec![]].map(Some));
        assert!(positions(4).is_none() && Gate::default().waiting(0).is_none());
    }

    #[test]
    fn rules_that_need_the_same_are_answered_together() {
        let needs = |needle, needs| Quick::Group(0, Filter { needle, unless: 0, needs });
        let quick = [needs(Some(70), 0), needs(None, 0), needs(Some(3), 0), needs(Some(5), 8), Quick::Look];
        let gate = Gate::new(1, quick.into_iter());
        let waiting = gate.waiting(0).unwrap();
        assert_eq!(bits(&waiting.rules), [0, 1, 2, 3]);
        let alike = |at: usize| (bits(&waiting.alike[at].rules), bits(&waiting.alike[at].literals));
        assert_eq!(waiting.alike.len(), 3);
        assert_eq!(alike(0), (vec![0, 2], vec![70, 3]));
        assert_eq!(alike(1), (vec![1], vec![]));
        assert_eq!(alike(2), (vec![3], vec![5]));
        assert_eq!([70, 3, 5].map(|bit| gate.position(bit)), [Some(0), Some(2), Some(3)]);
    }

    #[test]
    fn common_bits_are_those_of_both() {
        let mut marks = Marks::new();
        [1, 64, 127, 130].iter().for_each(|bit| mark(&mut marks, *bit));
        assert_eq!(common(&marks, &[2, 1 << 63]).collect::<Vec<_>>(), [1, 127]);
        assert_eq!(common(&marks, &[]).count(), 0);
    }
}
