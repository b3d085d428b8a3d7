//! Which rules of a phase wait for the same group: it is asked once for all of them.

use super::{Filter, Quick};

/// The rules of a phase, by the group that their first links look at.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// For each group, where its rules begin in `rules`; one more at the end.
    starts: Vec<u32>,
    /// Positions in the phase, with what each needs.
    rules: Vec<(u32, Filter)>,
}

impl Gate {
    /// Of a phase whose rules are asked `quick` in this order.
    pub(crate) fn new(groups: usize, quick: impl Iterator<Item = Quick>) -> Self {
        let mut all: Vec<(u32, u32, Filter)> = Vec::new();
        for (position, quick) in (0..).zip(quick) {
            if let Quick::Group(group, filter) = quick {
                all.push((group, position, filter));
            }
        }
        all.sort_unstable_by_key(|(group, position, _)| (*group, *position));
        let before = |wanted: usize| all.partition_point(|(group, ..)| (*group as usize) < wanted);
        Self {
            starts: (0..=groups).map(|group| u32::try_from(before(group)).unwrap_or(u32::MAX)).collect(),
            rules: all.into_iter().map(|(_, position, filter)| (position, filter)).collect(),
        }
    }

    /// The rules that look at a group.
    pub(crate) fn rules(&self, group: u32) -> &[(u32, Filter)] {
        let group = group as usize;
        let range = self.starts.get(group).zip(self.starts.get(group + 1));
        let range = range.map(|(first, end)| *first as usize..*end as usize);
        range.and_then(|range| self.rules.get(range)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_by_their_group() {
        let group = |group| Quick::Group(group, Filter::default());
        let quick = [group(2), Quick::Look, group(0), group(2), Quick::Look];
        let gate = Gate::new(4, quick.into_iter());
        let positions = |group| gate.rules(group).iter().map(|(position, _)| *position).collect::<Vec<_>>();
        assert_eq!([0, 1, 2, 3].map(positions), [vec![2], vec![], vec![0, 3], vec![]]);
        assert!(positions(4).is_empty() && Gate::default().rules(0).is_empty());
    }
}
