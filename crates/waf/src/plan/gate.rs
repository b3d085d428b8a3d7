//! Which rules of a phase wait for the same group: it is asked once for all of them, and
//! those that need the same are answered together.

use super::{Apart, Filter, Group, Quick};
use crate::classes::{self, Classes};

/// A set of bits: words that hold some, each with its number.
pub(crate) type Marks = Vec<(u32, u64)>;

/// The rules of a phase, by the group that their first links look at.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// For each group.
    waiting: Vec<Waiting>,
    /// For each group, the families of which it is the base, each within the next.
    families: Vec<Vec<Family>>,
    /// For each bit of literals, the rule that needs one of them.
    ///
    /// INVARIANT: no two rules have the same bit; `needles::Builder::add` gives each its own.
    owners: Vec<Owner>,
}

/// A rule that needs literals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    /// Its position in the phase.
    pub(crate) position: u32,
    /// What it needs besides.
    pub(crate) needs: Classes,
}

/// The rules that look at a group.
#[derive(Debug, Default, Clone)]
pub(crate) struct Waiting {
    /// Their positions in the phase.
    pub(crate) rules: Marks,
    /// Those that need no literal.
    pub(crate) free: Vec<Alike>,
    /// Those that need one, unless a value holds certain bytes.
    pub(crate) unless: Vec<Alike>,
    /// Those that cost less than to look for theirs.
    pub(crate) cheap: Vec<Alike>,
    /// The bits of all literals that are needed.
    pub(crate) literals: Marks,
    /// Values that hold none of these need not be looked through for them.
    pub(crate) wants: Classes,
    /// Values that hold none of these before the chain are matched by no rule.
    pub(crate) before: Classes,
    /// What values hold before the chain where a rule matches one; None where that is not known
    /// of every rule.
    pub(crate) apart: Option<Vec<Apart>>,
}

/// Most literals that are looked for one after the other.
const APART_MAX: usize = 4;

/// Groups that see the same values before their transformations: where no chain of theirs
/// changes one, they are asked together.
#[derive(Debug, Default, Clone)]
pub(crate) struct Family {
    /// What their chains may change.
    pub(crate) may_change: Classes,
    pub(crate) groups: Marks,
    /// The rules that look at any of them.
    pub(crate) waiting: Waiting,
}

/// Rules that need the same besides their literals.
#[derive(Debug, Clone)]
pub(crate) struct Alike {
    /// Of any of them.
    pub(crate) filter: Filter,
    pub(crate) rules: Marks,
}

impl Gate {
    /// Of a phase whose rules are asked `quick` in this order.
    pub(crate) fn new(groups: &[Group], quick: impl Iterator<Item = Quick>) -> Self {
        let mut gate = Self::default();
        gate.waiting.resize_with(groups.len(), Waiting::default);
        let mut waits: Vec<Wait> = Vec::new();
        for (position, quick) in (0..).zip(quick) {
            let Quick::Group(number, filter) = quick else { continue };
            let Some(group) = groups.get(number as usize) else { continue };
            if let Some(waiting) = gate.waiting.get_mut(number as usize) {
                waiting.add(position, filter);
            }
            waits.push(Wait {
                base: group.base,
                may_change: group.may_change,
                group: number,
                position,
                filter,
            });
            if let Some(bit) = filter.needle {
                let bits = gate.owners.len().max(bit as usize + 1);
                gate.owners.resize(bits, Owner { position: u32::MAX, needs: 0 });
                if let Some(known) = gate.owners.get_mut(bit as usize) {
                    *known = Owner { position, needs: filter.needs };
                }
            }
        }
        gate.families = families(groups.len(), waits);
        gate
    }

    /// The rules that look at a group.
    pub(crate) fn waiting(&self, group: u32) -> Option<&Waiting> {
        self.waiting.get(group as usize)
    }

    /// The largest family of this base whose chains change nothing of what holds `classes`.
    pub(crate) fn family(&self, base: u32, classes: Classes) -> Option<&Family> {
        let families = self.families.get(base as usize)?;
        families.iter().rev().find(|family| family.may_change & classes == 0)
    }

    /// The rule whose literals have this bit.
    pub(crate) fn owner(&self, bit: u32) -> Option<Owner> {
        self.owners.get(bit as usize).copied()
    }
}

/// A rule that waits for a group.
struct Wait {
    base: u32,
    may_change: Classes,
    group: u32,
    position: u32,
    filter: Filter,
}

/// The families of each base. The first holds the groups whose chains change what is rarest in
/// honest values alone: the classes are numbered by how common they are.
fn families(groups: usize, mut waits: Vec<Wait>) -> Vec<Vec<Family>> {
    let mut families: Vec<Vec<Family>> = Vec::new();
    families.resize_with(groups, Vec::new);
    waits.sort_by_key(|wait| wait.may_change.reverse_bits());
    for Wait { base, may_change, group, position, filter } in waits {
        let Some(of_base) = families.get_mut(base as usize) else { continue };
        let known = of_base.last().map(|last| last.may_change);
        let whole = known.unwrap_or(0) | may_change;
        if known != Some(whole) {
            let last = of_base.last().cloned().unwrap_or_default();
            of_base.push(Family { may_change: whole, ..last });
        }
        if let Some(family) = of_base.last_mut() {
            mark(&mut family.groups, group);
            family.waiting.add(position, filter);
        }
    }
    families
}

impl Waiting {
    fn add(&mut self, position: u32, filter: Filter) {
        let known = self.apart.take().or_else(|| self.rules.is_empty().then(Vec::new));
        self.apart = known.zip(filter.apart).map(|(mut known, apart)| {
            known.push(apart);
            known
        });
        self.apart = self.apart.take().filter(|known| known.len() <= APART_MAX);
        mark(&mut self.rules, position);
        self.before |= if filter.needs == 0 { classes::ALL } else { filter.before };
        let Some(bit) = filter.needle else { return add(&mut self.free, position, filter) };
        mark(&mut self.literals, bit);
        if filter.unless != 0 {
            add(&mut self.unless, position, filter);
        }
        match filter.cheap {
            true => add(&mut self.cheap, position, filter),
            false => self.wants |= if filter.needs == 0 { classes::ALL } else { filter.needs },
        }
    }
}

/// Adds a rule to those that need the same.
fn add(all: &mut Vec<Alike>, position: u32, filter: Filter) {
    let of = |filter: Filter| (filter.unless, filter.needs);
    match all.iter_mut().find(|known| of(known.filter) == of(filter)) {
        Some(alike) => mark(&mut alike.rules, position),
        None => {
            let mut rules = Marks::new();
            mark(&mut rules, position);
            all.push(Alike { filter, rules });
        }
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

/// Whether a bit is set.
pub(crate) fn holds(marks: &[(u32, u64)], bit: u32) -> bool {
    marks.iter().any(|(word, mask)| *word == bit / 64 && mask >> (bit % 64) & 1 == 1)
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

    /// Groups with these bases, each with a chain that may change what has its own bit.
    fn groups(bases: &[u32]) -> Vec<Group> {
        let group = |(number, base): (u32, &u32)| Group {
            targets: Vec::new(),
            chain: 0,
            stages: false,
            side: super::super::Side::Request,
            base: *base,
            may_change: 1 << number,
            views: Vec::new(),
            layers: Vec::new(),
            variables: 0,
        };
        (0..).zip(bases).map(group).collect()
    }

    #[test]
    fn rules_are_found_by_their_group() {
        let group = |group| Quick::Group(group, Filter::default());
        let quick = [group(2), Quick::Look, group(0), group(2), Quick::Look];
        let gate = Gate::new(&groups(&[0, 1, 2, 3]), quick.into_iter());
        let positions = |group| gate.waiting(group).map(|waiting| bits(&waiting.rules));
        assert_eq!([0, 1, 2, 3].map(positions), [vec![2], vec![], vec![0, 3], vec![]].map(Some));
        assert!(positions(4).is_none() && Gate::default().waiting(0).is_none());
    }

    #[test]
    fn groups_of_one_base_are_families_within_each_other() {
        let group = |group, needs| Quick::Group(group, Filter { needs, ..Filter::default() });
        let quick = [group(3, 0), group(0, 8), group(1, 8), group(3, 8), group(4, 0)];
        let gate = Gate::new(&groups(&[0, 0, 2, 0, 2]), quick.into_iter());
        let family = |base, classes| {
            let family = gate.family(base, classes)?;
            Some((bits(&family.groups), bits(&family.waiting.rules), family.waiting.free.len()))
        };
        // Group 0 may change the most common class, 3 the rarest.
        assert_eq!(family(0, 1 << 4), Some((vec![0, 1, 3], vec![0, 1, 2, 3], 2)));
        assert_eq!(family(0, 1), Some((vec![1, 3], vec![0, 2, 3], 2)));
        assert_eq!(family(0, 1 << 1), Some((vec![3], vec![0, 3], 2)));
        assert_eq!(family(0, 1 << 3), None);
        // A group that no rule of the phase looks at is in none.
        assert_eq!(family(2, 0), Some((vec![4], vec![4], 1)));
        assert_eq!((family(1, 0), family(5, 0)), (None, None));
    }

    #[test]
    fn rules_that_need_the_same_are_answered_together() {
        let needs = |needle, needs| Filter { needle, needs, ..Filter::default() };
        let filters = [
            needs(Some(70), 0),
            needs(None, 0),
            needs(Some(3), 16),
            needs(None, 8),
            needs(None, 0),
            Filter { unless: 4, ..needs(Some(9), 0) },
            Filter { cheap: true, ..needs(Some(11), 2) },
        ];
        let quick = filters.into_iter().map(|filter| Quick::Group(0, filter));
        let gate = Gate::new(&groups(&[0]), quick.chain([Quick::Look]));
        let waiting = gate.waiting(0).unwrap();
        let rules = |all: &[Alike]| all.iter().map(|alike| bits(&alike.rules)).collect::<Vec<_>>();
        assert_eq!(bits(&waiting.rules), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(rules(&waiting.free), [vec![1, 4], vec![3]]);
        assert_eq!((rules(&waiting.unless), rules(&waiting.cheap)), (vec![vec![5]], vec![vec![6]]));
        assert_eq!(common(&waiting.literals, &[u64::MAX; 2]).collect::<Vec<_>>(), [70, 3, 9, 11]);
        let owners = [70, 3, 9, 11].map(|bit| gate.owner(bit).map(|owner| (owner.position, owner.needs)));
        assert_eq!(owners, [(0, 0), (2, 16), (5, 0), (6, 2)].map(Some));
        assert!(gate.owner(71).is_none());
    }

    #[test]
    fn literals_are_wanted_where_a_rule_may_match_by_one() {
        let wants = |filters: &[Filter]| {
            let quick = filters.iter().map(|filter| Quick::Group(0, *filter));
            Gate::new(&groups(&[0]), quick).waiting(0).unwrap().wants
        };
        let needs = |needle, needs| Filter { needle, needs, ..Filter::default() };
        assert_eq!(wants(&[needs(None, 0), Filter { cheap: true, ..needs(Some(1), 2) }]), 0);
        assert_eq!(wants(&[needs(Some(0), 4), needs(Some(1), 8)]), 12);
        assert_eq!(wants(&[needs(Some(0), 4), needs(Some(1), 0)]), classes::ALL);
    }

    #[test]
    fn what_is_needed_before_a_chain_is_asked_where_every_rule_needs_something() {
        let before = |filters: &[Filter]| {
            let quick = filters.iter().map(|filter| Quick::Group(0, *filter));
            Gate::new(&groups(&[0]), quick).waiting(0).unwrap().before
        };
        let needs = |needs, before| Filter { needs, before, ..Filter::default() };
        assert_eq!(before(&[needs(4, 12), needs(1, 3)]), 15);
        assert_eq!(before(&[needs(4, 12), needs(0, 0)]), classes::ALL);
    }

    #[test]
    fn common_bits_are_those_of_both() {
        let mut marks = Marks::new();
        [1, 64, 127, 130].iter().for_each(|bit| mark(&mut marks, *bit));
        assert_eq!(common(&marks, &[2, 1 << 63]).collect::<Vec<_>>(), [1, 127]);
        assert_eq!(common(&marks, &[]).count(), 0);
    }
}
