//! The fixed variables of a transaction: names and values as the data brought them, and
//! what chains of transformations make of them.

mod sets;

use super::{
    KeptBody,
    values::{Span, ValueId, Values},
};
use crate::{
    bits,
    classes::Classes,
    plan::{Alike, Apart, Filter, Gate, Group, Layer, Plan, Side, Variables, View, Waiting, common, only},
    target::Selector,
    variable::{COUNT, Variable},
};
use sets::Set;
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

/// A cell's members and their values, as they are when a rule begins with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    variable: Variable,
    /// Where the numbers of its members begin; NONE where it has all of the variable.
    members: u32,
    /// Where its values begin.
    first: u32,
    pub(crate) length: u32,
}

/// Not yet known.
const NONE: u32 = u32::MAX;
/// The set without values.
const EMPTY: u32 = 0;

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

impl GroupState {
    const NEVER: Self = Self { at: 0, classes: 0, bits: NONE };
}

/// All fixed variables, and what rules see of them.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) values: Values,
    members: Vec<SmallVec<[Member; 2]>>,
    /// The state of the data in which each variable was last changed.
    changes: Vec<u32>,
    /// Of each state of the data, the variables that were changed in it.
    changed: Vec<Variables>,
    /// The state of the data: counts what [`Self::changed`] tells.
    now: u32,
    groups: Vec<GroupState>,
    cells: Vec<CellState>,
    /// The groups and cells of which something is known: most rules of a set are never asked, and
    /// what is not known of theirs need not be forgotten.
    known_groups: Vec<u32>,
    known_cells: Vec<u32>,
    sets: Vec<Set>,
    /// Values of sets, and numbers of members.
    lists: Vec<u32>,
    bits: Vec<u64>,
}

/// What a plain request needs, so that it grows into place without being moved.
const SETS_AT_FIRST: usize = 64;
const LISTS_AT_FIRST: usize = 256;
const BITS_AT_FIRST: usize = 256;

impl Default for Store {
    fn default() -> Self {
        let mut members = Vec::new();
        members.resize_with(COUNT, SmallVec::new);
        Self {
            values: Values::new(),
            members,
            changes: Vec::new(),
            changed: Vec::new(),
            now: 1,
            groups: Vec::new(),
            cells: Vec::new(),
            known_groups: Vec::new(),
            known_cells: Vec::new(),
            sets: Vec::with_capacity(SETS_AT_FIRST),
            lists: Vec::with_capacity(LISTS_AT_FIRST),
            bits: Vec::with_capacity(BITS_AT_FIRST),
        }
    }
}

impl Store {
    /// For a transaction over rules of this plan; nothing is in it yet.
    pub(super) fn prepare(&mut self, plan: &Plan) {
        self.changes.resize(COUNT, 0);
        self.changed.resize(self.now as usize + 1, 0);
        // What is left of them from before is forgotten.
        self.groups.resize(plan.groups.len(), GroupState::NEVER);
        self.cells.resize(plan.cells.len(), CellState::default());
        self.sets.push(Set::of(0, 0, 0));
    }

    /// Forgets everything and keeps the memory.
    pub(super) fn clear(&mut self) {
        let Self { values, members, changes, changed, now, sets, lists, bits, .. } = self;
        let Self { groups, cells, known_groups, known_cells, .. } = self;
        values.clear();
        members.iter_mut().for_each(SmallVec::clear);
        changes.clear();
        changed.clear();
        *now = 1;
        for group in known_groups.drain(..) {
            if let Some(group) = groups.get_mut(group as usize) {
                *group = GroupState::NEVER;
            }
        }
        for cell in known_cells.drain(..) {
            if let Some(cell) = cells.get_mut(cell as usize) {
                *cell = CellState::default();
            }
        }
        sets.clear();
        lists.clear();
        bits.clear();
    }

    /// Bytes of memory that are kept, about.
    pub(super) fn room_bytes(&self) -> usize {
        let members = self.members.iter().map(|members| members.capacity() * size_of::<Member>());
        self.values.room_bytes()
            + members.sum::<usize>()
            + self.groups.capacity() * size_of::<GroupState>()
            + self.cells.capacity() * size_of::<CellState>()
            + (self.known_groups.capacity() + self.known_cells.capacity()) * size_of::<u32>()
            + self.sets.capacity() * size_of::<Set>()
            + self.lists.capacity() * size_of::<u32>()
            + self.bits.capacity() * size_of::<u64>()
    }

    /// The data changed: what is known of the variables that did is stale.
    pub(crate) fn changed(&mut self) {
        self.now += 1;
        self.changed.resize(self.now as usize + 1, 0);
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
        if let Some(changed) = self.changed.get_mut(self.now as usize) {
            *changed |= only(variable);
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
        if known.at == 0 {
            self.known_cells.push(index);
        }
        set
    }

    /// What is needed to go through a cell that sees `set`.
    pub(crate) fn look(&mut self, plan: &Plan, index: u32, set: u32) -> Option<Look> {
        let cell = plan.cells.get(index as usize)?;
        let base = self.cell_set(plan, cell.base);
        let members = self.sets.get(base as usize)?.members;
        let Set { first, length, .. } = self.made(set);
        Some(Look { variable: cell.variable, members, first, length })
    }

    /// A member of a cell, by its number there.
    pub(crate) fn seen(&self, look: Look, at: u32) -> Option<Seen> {
        let number = match look.members {
            NONE => at,
            first => *self.lists.get((first + at) as usize)?,
        };
        let member = *self.members(look.variable).get(number as usize)?;
        let value = ValueId::from_number(*self.lists.get((look.first + at) as usize)?);
        Some(Seen { name: member.name, raw: member.value, value })
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
        let mut state = self.groups.get(index as usize).copied().unwrap_or(GroupState::NEVER);
        if state.at == self.now {
            return state;
        }
        let Some(group) = plan.groups.get(index as usize) else { return GroupState::NEVER };
        if state.at == 0 {
            self.known_groups.push(index);
        }
        if state.at == 0 || self.changed_since(state.at) & group.variables != 0 {
            state = match self.unchanged_base(plan, index, group) {
                Some(base) => self.group_state(plan, base),
                None => GroupState { classes: self.all_classes(plan, group), ..GroupState::NEVER },
            };
        }
        state.at = self.now;
        if let Some(kept) = self.groups.get_mut(index as usize) {
            *kept = state;
        }
        state
    }

    /// The variables that were changed in a state of the data or behind it.
    fn changed_since(&self, at: u32) -> Variables {
        self.changed.get(at as usize..).unwrap_or_default().iter().fold(0, |all, one| all | one)
    }

    /// The classes of all that a group sees.
    fn all_classes(&mut self, plan: &Plan, group: &Group) -> Classes {
        let mut classes = 0;
        for Layer { views, rest } in &group.layers {
            for view in views.iter().filter_map(|at| group.views.get(*at)) {
                classes |= self.view_classes(plan, view);
            }
            if let Some(rest) = *rest {
                let known = self.group_state(plan, rest).classes;
                if known & group.may_change == 0 {
                    return classes | known;
                }
            }
        }
        classes
    }

    /// What the values of a group hold.
    pub(crate) fn group_classes(&mut self, plan: &Plan, index: u32) -> Classes {
        self.group_state(plan, index).classes
    }

    /// Whether any value of a group may pass a filter; none passes where there is none.
    pub(crate) fn group_passes(&mut self, plan: &Plan, index: u32, filter: Filter) -> bool {
        let state = self.group_state(plan, index);
        let bits = match state.bits {
            NONE if needs_bits(state.classes, filter) && !filter.cheap => self.group_bits(plan, index),
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
        let mut keep_all = |alike: &Alike| {
            if has_needs(classes, alike.filter) {
                alike.rules.iter().for_each(|(word, mask)| keep(*word, *mask));
            }
        };
        waiting.free.iter().for_each(&mut keep_all);
        if waiting.literals.is_empty() || classes == 0 {
            return;
        }
        waiting.unless.iter().filter(|alike| classes & alike.filter.unless != 0).for_each(&mut keep_all);
        let wanted = classes & waiting.wants != 0;
        if bits == NONE && wanted {
            bits = self.group_bits(plan, index);
        }
        let Some(bits) = self.bits.get(bits as usize..) else {
            if wanted {
                // They should be known: then nothing is ruled out.
                return waiting.rules.iter().for_each(|(word, mask)| keep(*word, *mask));
            }
            // Whoever else needs a literal needs besides what no value holds.
            return waiting.cheap.iter().for_each(keep_all);
        };
        for bit in common(&waiting.literals, bits) {
            let Some(owner) = gate.owner(bit) else { continue };
            if owner.needs == 0 || classes & owner.needs != 0 {
                keep(owner.position / 64, 1 << (owner.position % 64));
            }
        }
    }

    /// Whether any value that a group may look at holds one of these.
    pub(crate) fn holds_apart(&mut self, plan: &Plan, group: u32, all: &[Apart]) -> bool {
        let views = plan.groups.get(group as usize).map_or(&[][..], |group| &group.views);
        let mut members = views.iter().flat_map(|view| self.members.get(view.variable as usize)).flatten();
        let (mut read, values) = (0, &self.values);
        let found = members.any(|member| {
            let value = values.value(member.value);
            read += value.len();
            all.iter().any(|apart| apart.is_in(value))
        });
        self.values.note_read(read);
        found
    }

    /// Whether any value of a set may pass a filter.
    pub(crate) fn set_passes(&mut self, plan: &Plan, side: Side, set: u32, filter: Filter) -> bool {
        let Set { classes, bits, .. } = self.set_at(set);
        let first = match needs_bits(classes, filter) && !(filter.cheap && bits == NONE) {
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
                    || (filter.cheap && !self.values.is_scanned(side, value))
                    || self.value_has(plan, side, value, needle)
            })
    }

    /// The same, and they are found out only where they are not known.
    fn known_bits(&mut self, plan: &Plan, index: u32) -> u32 {
        match self.group_state(plan, index).bits {
            NONE => self.group_bits(plan, index),
            known => known,
        }
    }

    /// Where the bits of all literals of a group's values begin.
    fn group_bits(&mut self, plan: &Plan, index: u32) -> u32 {
        let Some(group @ Group { side, views, layers, .. }) = plan.groups.get(index as usize) else {
            return NONE;
        };
        if let Some(base) = self.unchanged_base(plan, index, group) {
            let first = self.known_bits(plan, base);
            if let Some(state) = self.groups.get_mut(index as usize) {
                state.bits = first;
            }
            return first;
        }
        let mut all = SmallVec::<[u64; 8]>::from_elem(0, plan.words(*side));
        for Layer { views: own, rest } in layers {
            for view in own.iter().filter_map(|at| views.get(*at)) {
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
            let Some(rest) = *rest else { continue };
            let known = self.group_state(plan, rest);
            if known.classes & group.may_change == 0 {
                if known.classes != 0 {
                    let first = self.known_bits(plan, rest);
                    join(&mut all, self.bits.get(first as usize..).unwrap_or_default());
                }
                break;
            }
        }
        let first = narrow(self.bits.len());
        self.bits.extend_from_slice(&all);
        if let Some(state) = self.groups.get_mut(index as usize) {
            state.bits = first;
        }
        first
    }

    /// Whether one value holds a literal of this bit.
    fn value_has(&mut self, plan: &Plan, side: Side, value: ValueId, bit: u32) -> bool {
        plan.needles
            .get(side as usize)
            .is_none_or(|needles| bits::has(self.values.scan(needles, side, value), bit as usize))
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
            || filter.needle.is_none_or(|needle| bits.is_empty() || bits::has(bits, needle as usize)))
}

fn join(all: &mut [u64], one: &[u64]) {
    for (all, one) in all.iter_mut().zip(one) {
        *all |= one;
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(NONE)
}
