//! The fixed variables of a transaction: names and values as the data brought them, and
//! what chains of transformations make of them.

use super::{
    KeptBody,
    values::{Span, ValueId, Values},
};
use crate::{
    classes::Classes,
    plan::{Cell, Filter, Gate, Group, Plan, Side, View, Waiting, common, has},
    target::Selector,
    transform::Transformation,
    variable::{COUNT, Variable},
};
use smallvec::SmallVec;

/// A member of a variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) name: Span,
    pub(crate) value: ValueId,
}

/// A member as a rule sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) name: Span,
    /// As it came.
    pub(crate) raw: ValueId,
    /// Through the group's chain.
    pub(crate) value: ValueId,
}

/// Not yet known.
const NONE: u32 = u32::MAX;
/// The set without values.
const EMPTY: u32 = 0;

/// Values that are looked at together: what a selector takes of a variable, or what a
/// chain of transformations makes of that. A transformation that changes none of them
/// leaves the same set, so chains that come to the same are scanned once.
#[derive(Debug, Clone, Copy)]
struct Set {
    /// Its values in [`Store::lists`]: of a transformed set in the order of its base's.
    first: u32,
    length: u32,
    /// Of a base that does not take every member: the numbers of those that it takes, in
    /// [`Store::lists`].
    members: u32,
    /// The classes of all its values; 0 when there is none.
    classes: Classes,
    /// Where the bits of all their literals begin.
    bits: u32,
    /// Transformations that are known to change none of its values, a bit each.
    unchanged: u64,
    /// The last set that a transformation made of this one, and the one before it that was
    /// made of the same.
    made: u32,
    before: u32,
    /// What made this one.
    by: Transformation,
}

impl Set {
    const fn of(first: u32, length: u32, classes: Classes) -> Self {
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
        }
    }
}

/// What is known of a cell.
#[derive(Debug, Clone, Copy, Default)]
struct CellState {
    /// The state of the data in which it was found out; 0 is never.
    at: u32,
    set: u32,
}

/// What is known of a group.
#[derive(Debug, Clone, Copy)]
struct GroupState {
    /// The state of the data in which it was found out, or seen to hold still; 0 is never.
    at: u32,
    classes: Classes,
    bits: u32,
}

/// All fixed variables, and what rules see of them.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) values: Values,
    members: Vec<SmallVec<[Member; 1]>>,
    /// The state of the data in which each variable was last changed.
    changes: Vec<u32>,
    /// The state of the data: counts what [`Self::changed`] tells.
    now: u32,
    groups: Vec<GroupState>,
    cells: Vec<CellState>,
    sets: Vec<Set>,
    /// Values of sets, and numbers of members.
    lists: Vec<u32>,
    bits: Vec<u64>,
}

impl Store {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut members = Vec::new();
        members.resize_with(COUNT, SmallVec::new);
        Self {
            values: Values::new(),
            members,
            changes: vec![0; COUNT],
            now: 1,
            groups: vec![GroupState { at: 0, classes: 0, bits: NONE }; plan.groups.len()],
            cells: vec![CellState::default(); plan.cells.len()],
            sets: vec![Set::of(0, 0, 0)],
            lists: Vec::new(),
            bits: Vec::new(),
        }
    }

    /// The data changed: what is known of the variables that did is stale.
    pub(crate) fn changed(&mut self) {
        self.now += 1;
    }

    /// Adds a member.
    pub(crate) fn add(&mut self, variable: Variable, name: &[u8], value: &[u8]) {
        let name = self.values.text(name);
        let value = self.values.add(value);
        self.push(variable, Member { name, value });
    }

    /// Adds a member; without a name of its own it has that of the one before it.
    pub(crate) fn add_to(&mut self, variable: Variable, name: Option<&[u8]>, value: &[u8]) {
        let name = match (name, self.members(variable).last()) {
            (None, Some(before)) => before.name,
            (name, _) => self.values.text(name.unwrap_or_default()),
        };
        let value = self.values.add(value);
        self.push(variable, Member { name, value });
    }

    /// Adds a member called `name` and one of `names` whose value is that name.
    pub(crate) fn add_named(&mut self, variable: Variable, names: Variable, name: &[u8], value: &[u8]) {
        let name = self.values.text(name);
        let value = self.values.add(value);
        self.push(variable, Member { name, value });
        let value = self.values.slot(name);
        self.push(names, Member { name, value });
    }

    /// The same of one that is called as the one before it: what is named alike is kept, looked
    /// through and transformed once.
    pub(crate) fn add_alike(&mut self, variable: Variable, names: Variable, value: &[u8]) {
        let Some(before) = self.members(names).last().copied() else { return };
        self.values.repeat(before.name);
        let value = self.values.add(value);
        self.push(variable, Member { name: before.name, value });
        self.push(names, before);
    }

    /// Sets a variable that is a single value.
    pub(crate) fn set(&mut self, variable: Variable, value: &[u8]) {
        if let Some(members) = self.members.get_mut(variable as usize) {
            members.clear();
        }
        self.add(variable, b"", value);
    }

    /// The same with the value of another variable.
    pub(crate) fn set_same(&mut self, variable: Variable, other: Variable) {
        let Some(member) = self.members(other).first().copied() else { return };
        if let Some(members) = self.members.get_mut(variable as usize) {
            members.clear();
        }
        self.push(variable, member);
    }

    /// The same with the request's body, which is not copied.
    pub(crate) fn set_shared(&mut self, variable: Variable, body: &KeptBody) {
        if let Some(members) = self.members.get_mut(variable as usize) {
            members.clear();
        }
        let (name, value) = (Span::default(), self.values.share(body));
        self.push(variable, Member { name, value });
    }

    fn push(&mut self, variable: Variable, member: Member) {
        if let Some(members) = self.members.get_mut(variable as usize) {
            members.push(member);
        }
        if let Some(change) = self.changes.get_mut(variable as usize) {
            *change = self.now;
        }
    }

    /// The members of one stored variable.
    pub(crate) fn members(&self, variable: Variable) -> &[Member] {
        self.members.get(variable as usize).map_or(&[], SmallVec::as_slice)
    }

    /// The members that a target takes.
    pub(crate) fn select<'a>(
        &'a self,
        variable: Variable,
        selector: &'a Selector,
    ) -> impl Iterator<Item = Member> + 'a {
        let members = variable.parts().iter().flat_map(|part| self.members(*part));
        members.filter(|member| selector.takes(self.values.get(member.name))).copied()
    }

    /// Whether what was found out of a variable then still holds.
    fn holds(&self, variable: Variable, at: u32) -> bool {
        self.changes.get(variable as usize).is_some_and(|change| at > *change)
    }

    fn set_at(&self, set: u32) -> Set {
        self.sets.get(set as usize).copied().unwrap_or(const { Set::of(0, 0, 0) })
    }

    /// The set that a cell sees.
    pub(crate) fn cell_set(&mut self, plan: &Plan, index: u32) -> u32 {
        let Some(cell) = plan.cells.get(index as usize) else { return EMPTY };
        let known = self.cells.get(index as usize).copied().unwrap_or_default();
        if self.holds(cell.variable, known.at) {
            return known.set;
        }
        let set = match cell.base == index {
            true => self.base_set(cell),
            false => {
                let base = self.cell_set(plan, cell.base);
                match self.set_at(base).classes & cell.may_change {
                    0 => base,
                    _ => self.chain_set(plan, base, cell.chain),
                }
            }
        };
        if let Some(kept) = self.cells.get_mut(index as usize) {
            *kept = CellState { at: self.now, set };
        }
        set
    }

    /// The members that a selector takes of a variable.
    fn base_set(&mut self, cell: &Cell) -> u32 {
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
    fn chain_set(&mut self, plan: &Plan, base: u32, chain: u16) -> u32 {
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

    fn value_of(&self, set: Set, at: u32) -> Option<ValueId> {
        let number = self.lists.get((set.first + at) as usize).filter(|_| at < set.length)?;
        Some(ValueId::from_number(*number))
    }

    /// How many values a set has.
    pub(crate) fn length(&self, set: u32) -> u32 {
        self.set_at(set).length
    }

    /// A member of a cell that sees `set`, by its number there.
    pub(crate) fn seen(&mut self, plan: &Plan, index: u32, set: u32, at: u32) -> Option<Seen> {
        let cell = plan.cells.get(index as usize)?;
        let base = self.cell_set(plan, cell.base);
        let base = self.set_at(base);
        let number = match base.members {
            NONE => at,
            first => *self.lists.get((first + at) as usize)?,
        };
        let member = self.members(cell.variable).get(number as usize)?;
        let value = self.value_of(self.set_at(set), at)?;
        Some(Seen { name: member.name, raw: member.value, value })
    }

    /// Calls `with` for each set that a cell sees: more than one where what each
    /// transformation of its chain leaves is seen too.
    fn each_set(&mut self, plan: &Plan, index: u32, mut with: impl FnMut(&mut Self, u32)) {
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

    /// The classes of all that a view sees.
    fn view_classes(&mut self, plan: &Plan, view: &View) -> Classes {
        if self.changes.get(view.variable as usize) == Some(&0) {
            return 0;
        }
        let base = self.base_of(plan, view);
        let classes = self.sets.get(base as usize).map_or(0, |set| set.classes);
        if classes & view.may_change == 0 {
            return classes;
        }
        let mut all = 0;
        self.each_set(plan, view.cell, |store, set| all |= store.set_at(set).classes);
        all
    }

    /// The set of a view before its chain; [`EMPTY`] at once where its variable has no value.
    fn base_of(&mut self, plan: &Plan, view: &View) -> u32 {
        match (self.changes.get(view.variable as usize), self.cells.get(view.base as usize)) {
            (Some(0), _) => EMPTY,
            (Some(change), Some(known)) if known.at > *change => known.set,
            _ => self.cell_set(plan, view.base),
        }
    }

    /// The group of the same values before their transformations, where those change none.
    fn unchanged_base(&mut self, plan: &Plan, index: u32, group: &Group) -> Option<u32> {
        let changes =
            group.base == index || self.group_state(plan, group.base).classes & group.may_change != 0;
        (!changes).then_some(group.base)
    }

    /// What is known of a group, found out anew where the data changed.
    fn group_state(&mut self, plan: &Plan, index: u32) -> GroupState {
        let never = GroupState { at: 0, classes: 0, bits: NONE };
        let mut state = self.groups.get(index as usize).copied().unwrap_or(never);
        if state.at == self.now {
            return state;
        }
        let Some(group) = plan.groups.get(index as usize) else { return never };
        if state.at == 0 || !group.views.iter().all(|view| self.holds(view.variable, state.at)) {
            state = match self.unchanged_base(plan, index, group) {
                Some(base) => self.group_state(plan, base),
                None => {
                    let classes = group.views.iter().fold(0, |all, view| all | self.view_classes(plan, view));
                    GroupState { classes, ..never }
                }
            };
        }
        state.at = self.now;
        if let Some(kept) = self.groups.get_mut(index as usize) {
            *kept = state;
        }
        state
    }

    /// Whether any value of a group may pass a filter; none passes where there is none.
    pub(crate) fn group_passes(&mut self, plan: &Plan, index: u32, filter: Filter) -> bool {
        let state = self.group_state(plan, index);
        let bits = match state.bits {
            NONE if needs_bits(state.classes, filter) => self.group_bits(plan, index),
            known => known,
        };
        may_pass(state.classes, self.bits.get(bits as usize..).unwrap_or_default(), filter)
    }

    /// Calls `keep` with words of the rules that some value of a group may match.
    pub(crate) fn ask(
        &mut self,
        plan: &Plan,
        index: u32,
        (gate, waiting): (&Gate, &Waiting),
        mut keep: impl FnMut(u32, u64),
    ) {
        let GroupState { classes, mut bits, .. } = self.group_state(plan, index);
        if bits == NONE && waiting.alike.iter().any(|alike| needs_bits(classes, alike.filter)) {
            bits = self.group_bits(plan, index);
        }
        let bits = self.bits.get(bits as usize..).unwrap_or_default();
        for alike in &waiting.alike {
            if !has_needs(classes, alike.filter) {
                continue;
            }
            if bits.is_empty() || !needs_bits(classes, alike.filter) {
                alike.rules.iter().for_each(|(word, mask)| keep(*word, *mask));
                continue;
            }
            for bit in common(&alike.literals, bits) {
                if let Some(position) = gate.position(bit) {
                    keep(position / 64, 1 << (position % 64));
                }
            }
        }
    }

    /// Whether any value of a set may pass a filter.
    pub(crate) fn set_passes(&mut self, plan: &Plan, side: Side, set: u32, filter: Filter) -> bool {
        let classes = self.set_at(set).classes;
        let first = match needs_bits(classes, filter) {
            true => self.set_bits(plan, side, set),
            false => NONE,
        };
        may_pass(classes, self.bits.get(first as usize..).unwrap_or_default(), filter)
    }

    /// Whether a value may pass a filter.
    pub(crate) fn passes(&mut self, plan: &Plan, side: Side, value: ValueId, filter: Filter) -> bool {
        (filter.needs == 0 || self.values.classes(value) & filter.needs != 0)
            && filter.needle.is_none_or(|needle| {
                (filter.unless != 0 && self.values.classes(value) & filter.unless != 0)
                    || self.value_has(plan, side, value, needle)
            })
    }

    /// Where the bits of all literals of a group's values begin.
    fn group_bits(&mut self, plan: &Plan, index: u32) -> u32 {
        let Some(group @ Group { side, views, .. }) = plan.groups.get(index as usize) else { return NONE };
        if let Some(base) = self.unchanged_base(plan, index, group) {
            let known = self.group_state(plan, base).bits;
            let first = if known == NONE { self.group_bits(plan, base) } else { known };
            if let Some(state) = self.groups.get_mut(index as usize) {
                state.bits = first;
            }
            return first;
        }
        let mut all = SmallVec::<[u64; 8]>::from_elem(0, plan.words(*side));
        for view in views {
            let base = self.base_of(plan, view);
            let mut note = |store: &mut Self, set: u32| {
                let first = store.set_bits(plan, *side, set) as usize;
                join(&mut all, store.bits.get(first..).unwrap_or_default());
            };
            match self.sets.get(base as usize).map_or(0, |set| set.classes) {
                0 => {}
                classes if classes & view.may_change == 0 => note(self, base),
                _ => self.each_set(plan, view.cell, note),
            }
        }
        let first = narrow(self.bits.len());
        self.bits.extend_from_slice(&all);
        if let Some(state) = self.groups.get_mut(index as usize) {
            state.bits = first;
        }
        first
    }

    /// Where the bits of all literals of a set's values begin.
    fn set_bits(&mut self, plan: &Plan, side: Side, index: u32) -> u32 {
        let set = self.set_at(index);
        if set.bits != NONE {
            return set.bits;
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

    /// Whether one value holds a literal of this bit.
    fn value_has(&mut self, plan: &Plan, side: Side, value: ValueId, bit: u32) -> bool {
        plan.needles.get(side as usize).is_none_or(|needles| has(self.values.scan(needles, side, value), bit))
    }
}

/// Whether values of these classes hold what a filter needs.
#[inline]
fn has_needs(classes: Classes, filter: Filter) -> bool {
    // Every value has a class: without any there is no value.
    classes != 0 && (filter.needs == 0 || classes & filter.needs != 0)
}

/// Whether it depends on the literals of values of these classes if one passes a filter.
#[inline]
fn needs_bits(classes: Classes, filter: Filter) -> bool {
    filter.needle.is_some() && classes & filter.unless == 0 && has_needs(classes, filter)
}

/// Whether values of these classes with these bits may pass a filter. Where no bits are
/// known, each counts as set.
#[inline]
fn may_pass(classes: Classes, bits: &[u64], filter: Filter) -> bool {
    has_needs(classes, filter)
        && (classes & filter.unless != 0
            || filter.needle.is_none_or(|needle| bits.is_empty() || has(bits, needle)))
}

fn join(all: &mut [u64], one: &[u64]) {
    for (all, one) in all.iter_mut().zip(one) {
        *all |= one;
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(NONE)
}
