//! Sets of values, and what transformations make of them.

use super::{EMPTY, NONE, Store, join, narrow};
use crate::{
    classes::{self, Classes, UPPER},
    plan::{Cell, Plan, Side, bound},
    transaction::values::ValueId,
    transform::Transformation,
};
use smallvec::SmallVec;

/// Values that are looked at together: what a selector takes of a variable, or what a
/// chain of transformations makes of that. A transformation that changes none of them
/// leaves the same set, so chains that come to the same are scanned once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    /// Its values in [`Store::lists`]: of a transformed set in the order of its base's. NONE
    /// where they are not made yet: `of` is known then.
    pub(super) first: u32,
    pub(super) length: u32,
    /// Of a base that does not take every member: the numbers of those that it takes, in
    /// [`Store::lists`].
    pub(super) members: u32,
    /// The classes of all its values; 0 when there is none.
    pub(super) classes: Classes,
    /// Where the bits of all their literals begin.
    pub(super) bits: u32,
    /// Transformations that are known to change none of its values, a bit each.
    pub(super) unchanged: u64,
    /// The last set that a transformation made of this one, and the one before it that was
    /// made of the same.
    pub(super) made: u32,
    pub(super) before: u32,
    /// What made this one.
    pub(super) by: Transformation,
    /// The set of which this one is the small letters: it holds the same literals.
    pub(super) of: u32,
}

impl Set {
    pub(super) const fn of(first: u32, length: u32, classes: Classes) -> Self {
        Self {
            first,
            length,
            members: NONE,
            classes,
            bits: NONE,
            unchanged: 0,
            made: NONE,
            before: NONE,
            by: Transformation::None,
            of: NONE,
        }
    }
}

impl Store {
    pub(super) fn set_at(&self, set: u32) -> Set {
        self.sets.get(set as usize).copied().unwrap_or(const { Set::of(0, 0, 0) })
    }

    /// The members that a selector takes of a variable.
    pub(super) fn base_set(&mut self, cell: &Cell) -> u32 {
        let members = self.members.get(cell.variable as usize).map_or(&[][..], SmallVec::as_slice);
        if members.is_empty() {
            return EMPTY;
        }
        let (first, all) = (self.lists.len(), cell.selector.is_all());
        if !all {
            let values = &self.values;
            let taken = (0..).zip(members).filter(|(_, it)| cell.selector.takes(values.get(it.name)));
            self.lists.extend(taken.map(|(number, _)| number));
        }
        let length = if all { members.len() } else { self.lists.len() - first };
        if length == 0 {
            return EMPTY;
        }
        let mut classes = 0;
        for at in 0..length {
            let number = if all { at } else { self.lists.get(first + at).map_or(0, |at| *at as usize) };
            let Some(member) = members.get(number) else { continue };
            classes |= self.values.classes(member.value);
            self.lists.push(member.value.number());
        }
        let values = if all { first } else { first + length };
        let members = if all { NONE } else { narrow(first) };
        self.sets.push(Set { members, ..Set::of(narrow(values), narrow(length), classes) });
        narrow(self.sets.len() - 1)
    }

    /// What a chain makes of a set.
    pub(super) fn chain_set(&mut self, plan: &Plan, base: u32, chain: u16) -> u32 {
        let path = plan.chains.get(usize::from(chain)).map_or(&[][..], |chain| &chain.path);
        path.iter().fold(base, |set, (by, may_change)| self.transformed_set(set, *by, *may_change))
    }

    /// What a transformation makes of a set: itself where it changes none of its values.
    fn transformed_set(&mut self, index: u32, by: Transformation, may_change: Classes) -> u32 {
        if self.sets.get(index as usize).is_none_or(|set| set.classes & may_change == 0) {
            return index;
        }
        let set = self.set_at(index);
        if set.unchanged >> (by as u32) & 1 == 1 {
            return index;
        }
        let mut known = set.made;
        while let Some(made) = self.sets.get(known as usize) {
            if made.by == by {
                return known;
            }
            known = made.before;
        }
        if by == Transformation::Lowercase {
            return self.small_letters(index, set);
        }
        let set = self.made(index);
        let first = self.lists.len();
        let (mut classes, mut any) = (0, false);
        for at in 0..set.length {
            let Some(before) = self.value_of(set, at) else { continue };
            let mut value = before;
            let mut held = self.values.classes(before);
            if held & may_change != 0 {
                value = self.values.apply(before, by);
                held = self.values.classes(value);
            }
            any |= value != before;
            classes |= held;
            self.lists.push(value.number());
        }
        let next = narrow(self.sets.len());
        let Some(own) = self.sets.get_mut(index as usize) else { return index };
        if !any {
            own.unchanged |= 1 << (by as u32);
            self.lists.truncate(first);
            return index;
        }
        own.made = next;
        self.sets.push(Set { before: set.made, by, ..Set::of(narrow(first), set.length, classes) });
        next
    }

    /// What `t:lowercase` makes of a set with capitals: what can be said of it is known without
    /// its values, which are made when a rule looks at one.
    fn small_letters(&mut self, index: u32, set: Set) -> u32 {
        let next = narrow(self.sets.len());
        let classes = bound(Transformation::Lowercase, set.classes).unwrap_or(classes::ALL);
        if let Some(own) = self.sets.get_mut(index as usize) {
            own.made = next;
        }
        let (by, before) = (Transformation::Lowercase, set.made);
        self.sets.push(Set { before, by, of: index, ..Set::of(NONE, set.length, classes) });
        next
    }

    /// A set whose values are made.
    pub(super) fn made(&mut self, index: u32) -> Set {
        let set = self.set_at(index);
        if set.first != NONE {
            return set;
        }
        let base = self.made(set.of);
        let first = narrow(self.lists.len());
        for at in 0..base.length {
            let Some(mut value) = self.value_of(base, at) else { continue };
            if self.values.classes(value) & UPPER != 0 {
                value = self.values.apply(value, set.by);
            }
            self.lists.push(value.number());
        }
        if let Some(own) = self.sets.get_mut(index as usize) {
            own.first = first;
        }
        Set { first, ..set }
    }

    pub(super) fn value_of(&self, set: Set, at: u32) -> Option<ValueId> {
        let number = self.lists.get((set.first + at) as usize).filter(|_| at < set.length)?;
        Some(ValueId::from_number(*number))
    }

    /// Calls `with` for each set that a cell sees: more than one where what each
    /// transformation of its chain leaves is seen too.
    pub(super) fn each_set(&mut self, plan: &Plan, index: u32, mut with: impl FnMut(&mut Self, u32)) {
        let set = self.cell_set(plan, index);
        if set == EMPTY {
            return;
        }
        with(self, set);
        let Some(cell) = plan.cells.get(index as usize).filter(|cell| cell.stages) else { return };
        let mut stage = self.cell_set(plan, cell.base);
        let path = plan.chains.get(usize::from(cell.chain)).map_or(&[][..], |chain| &chain.path);
        for (by, may_change) in path {
            if stage != set {
                with(self, stage);
            }
            stage = self.transformed_set(stage, *by, *may_change);
        }
    }

    /// Where the bits of all literals of a set's values begin.
    pub(super) fn set_bits(&mut self, plan: &Plan, side: Side, index: u32) -> u32 {
        let set = self.set_at(index);
        if set.bits != NONE {
            return set.bits;
        }
        if set.of != NONE {
            let bits = self.set_bits(plan, side, set.of);
            if let Some(own) = self.sets.get_mut(index as usize) {
                own.bits = bits;
            }
            return bits;
        }
        let Some(needles) = plan.needles.get(side as usize) else { return NONE };
        let first = self.bits.len();
        self.bits.resize(first + needles.words(), 0);
        for at in 0..set.length {
            let Some(value) = self.value_of(set, at) else { continue };
            let found = self.values.scan(needles, side, value);
            join(self.bits.get_mut(first..).unwrap_or_default(), found);
        }
        if let Some(set) = self.sets.get_mut(index as usize) {
            set.bits = narrow(first);
        }
        narrow(first)
    }
}
