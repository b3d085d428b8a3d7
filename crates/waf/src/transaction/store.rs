//! The fixed variables of a transaction: names and values as the data brought them.

use super::values::{Span, ValueId, Values};
use crate::{
    classes::Classes,
    plan::{Cell, Filter, Needles, Plan, Side, has},
    target::Selector,
    variable::{COUNT, Variable},
};
use smallvec::SmallVec;
use std::ops::Range;

/// A member of a variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) name: Span,
    pub(crate) value: ValueId,
}

/// A member as a group of rules sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The variable that the target named, `ARGS` rather than `ARGS_GET`.
    pub(crate) variable: Variable,
    pub(crate) name: Span,
    /// As it came.
    pub(crate) raw: ValueId,
    /// Through the group's chain.
    pub(crate) value: ValueId,
}

/// Not yet known.
const NONE: u32 = u32::MAX;
/// Most kinds of values that a cell tells apart; further ones are one.
const KINDS_MAX: usize = 16;

/// Values of a base cell that hold the same classes of bytes. A chain that can change
/// none of them is asked once for all.
#[derive(Debug, Clone, Copy)]
struct Kind {
    classes: Classes,
    /// Its values in [`Store::lists`].
    values: List,
    /// Where the bits of all their literals begin.
    bits: u32,
}

/// A range of one of the store's vectors.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    end: u32,
}

impl List {
    const EMPTY: Self = Self { first: 0, end: 0 };

    fn new(range: Range<usize>) -> Self {
        Self { first: narrow(range.start), end: narrow(range.end) }
    }

    fn range(self) -> Range<usize> {
        self.first as usize..self.end as usize
    }
}

/// What is known of a cell in this generation of the data.
#[derive(Debug, Clone, Copy)]
struct CellState {
    /// 0 is never.
    generation: u32,
    /// The cell that sees the same: itself or its base.
    owner: u32,
    /// The kinds of its base.
    kinds: List,
    /// Of a cell with a chain: its values of those kinds that the chain may change.
    changed: List,
    /// The classes of all its values.
    classes: Classes,
    /// Where the bits of all their literals begin.
    bits: u32,
}

impl CellState {
    const NEVER: Self =
        Self { generation: 0, owner: 0, kinds: List::EMPTY, changed: List::EMPTY, classes: 0, bits: NONE };
}

/// What is known of a group in this generation of the data.
#[derive(Debug, Clone, Copy)]
struct GroupState {
    generation: u32,
    classes: Classes,
    bits: u32,
    /// Its members in [`Store::seen`], once they are asked for.
    seen: Option<List>,
}

/// All fixed variables, and what groups of rules see of them.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) values: Values,
    members: Vec<Vec<Member>>,
    groups: Vec<GroupState>,
    cells: Vec<CellState>,
    seen: Vec<Seen>,
    kinds: Vec<Kind>,
    /// Values of kinds and of cells.
    lists: Vec<ValueId>,
    bits: Vec<u64>,
    generation: u32,
}

impl Store {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut members = Vec::new();
        members.resize_with(COUNT, Vec::new);
        Self {
            values: Values::new(),
            members,
            groups: vec![GroupState { generation: 0, classes: 0, bits: NONE, seen: None }; plan.groups.len()],
            cells: vec![CellState::NEVER; plan.cells.len()],
            seen: Vec::new(),
            kinds: Vec::new(),
            lists: Vec::new(),
            bits: Vec::new(),
            generation: 1,
        }
    }

    /// The data changed: what groups saw is stale.
    pub(crate) fn changed(&mut self) {
        self.generation += 1;
        self.seen.clear();
        self.kinds.clear();
        self.lists.clear();
        self.bits.clear();
    }

    /// Adds a member.
    pub(crate) fn add(&mut self, variable: Variable, name: &[u8], value: &[u8]) {
        let name = self.values.text(name);
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

    /// Sets a variable that is a single value.
    pub(crate) fn set(&mut self, variable: Variable, value: &[u8]) {
        if let Some(members) = self.members.get_mut(variable as usize) {
            members.clear();
        }
        self.add(variable, b"", value);
    }

    fn push(&mut self, variable: Variable, member: Member) {
        if let Some(members) = self.members.get_mut(variable as usize) {
            members.push(member);
        }
    }

    /// The members of one stored variable.
    pub(crate) fn members(&self, variable: Variable) -> &[Member] {
        self.members.get(variable as usize).map_or(&[], Vec::as_slice)
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

    /// What a group sees: a range of [`Self::seen`].
    pub(crate) fn group(&mut self, plan: &Plan, index: u32) -> Range<usize> {
        if let Some(list) = self.group_state(plan, index).seen {
            return list.range();
        }
        let Some(group) = plan.groups.get(index as usize) else { return 0..0 };
        let first = self.seen.len();
        for target in &group.targets {
            for part in target.variable.parts() {
                let Some(members) = self.members.get(*part as usize) else { continue };
                for member in members {
                    if !target.selector.is_all() && !target.selector.takes(self.values.get(member.name)) {
                        continue;
                    }
                    self.seen.push(Seen {
                        variable: target.variable,
                        name: member.name,
                        raw: member.value,
                        value: self.values.transformed(&plan.chains, member.value, group.chain),
                    });
                }
            }
        }
        let list = first..self.seen.len();
        if let Some(state) = self.groups.get_mut(index as usize) {
            state.seen = Some(List::new(list.clone()));
        }
        list
    }

    /// What is known of a group, found out anew where the data changed.
    fn group_state(&mut self, plan: &Plan, index: u32) -> GroupState {
        let known = self.groups.get(index as usize).copied();
        if let Some(state) = known.filter(|state| state.generation == self.generation) {
            return state;
        }
        let cells = plan.groups.get(index as usize).map_or(&[][..], |group| &group.cells);
        let classes = cells.iter().fold(0, |all, cell| all | self.cell(plan, *cell).classes);
        let state = GroupState { generation: self.generation, classes, bits: NONE, seen: None };
        if let Some(kept) = self.groups.get_mut(index as usize) {
            *kept = state;
        }
        state
    }

    /// What is known of a cell, found out anew where the data changed.
    #[inline]
    fn cell(&mut self, plan: &Plan, index: u32) -> CellState {
        match self.cells.get(index as usize) {
            Some(state) if state.generation == self.generation => *state,
            Some(state) => self.cell_anew(plan, index, *state),
            None => CellState::NEVER,
        }
    }

    fn cell_anew(&mut self, plan: &Plan, index: u32, state: CellState) -> CellState {
        let Some(cell) = plan.cells.get(index as usize) else { return state };
        let state = match cell.base == index {
            true => self.base_cell(cell, index),
            false => {
                let base = self.cell(plan, cell.base);
                match base.classes & cell.may_change {
                    0 => base,
                    _ => self.chain_cell(plan, cell, index, base),
                }
            }
        };
        if let Some(kept) = self.cells.get_mut(index as usize) {
            *kept = state;
        }
        state
    }

    /// The members that a selector takes of a variable, by their kinds.
    fn base_cell(&mut self, cell: &Cell, index: u32) -> CellState {
        let kinds = self.kinds.len();
        let mut all = 0;
        let mut taken = SmallVec::<[(ValueId, u8); 64]>::new();
        for member in self.members.get(cell.variable as usize).map_or(&[][..], Vec::as_slice) {
            if !cell.selector.is_all() && !cell.selector.takes(self.values.get(member.name)) {
                continue;
            }
            let classes = self.values.classes(member.value);
            all |= classes;
            taken.push((member.value, kind(&mut self.kinds, kinds, classes)));
        }
        for (number, kind) in (0..).zip(self.kinds.get_mut(kinds..).unwrap_or_default()) {
            let first = self.lists.len();
            self.lists.extend(taken.iter().filter(|(_, kind)| *kind == number).map(|(value, _)| *value));
            kind.values = List::new(first..self.lists.len());
        }
        CellState {
            generation: self.generation,
            owner: index,
            kinds: List::new(kinds..self.kinds.len()),
            changed: List::EMPTY,
            classes: all,
            bits: NONE,
        }
    }

    /// A cell whose chain can change some of its base's values.
    fn chain_cell(&mut self, plan: &Plan, cell: &Cell, index: u32, base: CellState) -> CellState {
        let first = self.lists.len();
        let mut all = 0;
        for kind in self.kinds.get(base.kinds.range()).unwrap_or_default() {
            if kind.classes & cell.may_change == 0 {
                all |= kind.classes;
                continue;
            }
            for at in kind.values.range() {
                let Some(raw) = self.lists.get(at).copied() else { continue };
                let mut node = cell.chain;
                loop {
                    let value = self.values.transformed(&plan.chains, raw, node);
                    all |= self.values.classes(value);
                    self.lists.push(value);
                    if !cell.stages || node == 0 {
                        break;
                    }
                    node = plan.chains.get(usize::from(node)).map_or(0, |chain| chain.parent);
                }
            }
        }
        CellState {
            generation: self.generation,
            owner: index,
            kinds: base.kinds,
            changed: List::new(first..self.lists.len()),
            classes: all,
            bits: NONE,
        }
    }

    pub(crate) fn seen(&self, at: usize) -> Option<Seen> {
        self.seen.get(at).copied()
    }

    /// Whether any value of a group may pass a filter; none passes where there is none.
    pub(crate) fn group_passes(&mut self, plan: &Plan, index: u32, filter: Filter) -> bool {
        let state = self.group_state(plan, index);
        // Every value has a class: without any there is no value.
        if state.classes == 0 || (filter.needs != 0 && state.classes & filter.needs == 0) {
            return false;
        }
        let Some(needle) = filter.needle.filter(|_| state.classes & filter.unless == 0) else { return true };
        let first = match state.bits {
            NONE => self.group_bits(plan, index),
            known => known,
        };
        self.bits.get(first as usize..).is_none_or(|bits| has(bits, needle))
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
        let mut all = SmallVec::<[u64; 8]>::new();
        for cell in plan.groups.get(index as usize).map_or(&[][..], |group| &group.cells) {
            let first = self.cell_bits(plan, *cell) as usize;
            if all.is_empty() {
                all.resize(self.words(plan, *cell), 0);
            }
            join(&mut all, self.bits.get(first..).unwrap_or_default());
        }
        let first = narrow(self.bits.len());
        self.bits.extend_from_slice(&all);
        if let Some(state) = self.groups.get_mut(index as usize) {
            state.bits = first;
        }
        first
    }

    fn words(&self, plan: &Plan, cell: u32) -> usize {
        let side = plan.cells.get(cell as usize).map_or(Side::Request, |cell| cell.side);
        plan.needles.get(side as usize).map_or(0, Needles::words)
    }

    /// Where the bits of all literals of a cell's values begin.
    fn cell_bits(&mut self, plan: &Plan, index: u32) -> u32 {
        let mut state = self.cell(plan, index);
        let index = state.owner;
        if let Some(own) = self.cells.get(index as usize) {
            state = *own;
        }
        if state.bits != NONE {
            return state.bits;
        }
        let Some(cell) = plan.cells.get(index as usize) else { return NONE };
        let Some(needles) = plan.needles.get(cell.side as usize) else { return NONE };
        match cell.base == index {
            true => self.kind_bits(needles, cell.side, state),
            false => drop(self.cell_bits(plan, cell.base)),
        }
        let mut all = SmallVec::<[u64; 8]>::from_elem(0, needles.words());
        for kind in self.kinds.get(state.kinds.range()).unwrap_or_default() {
            if kind.classes & cell.may_change == 0 {
                join(&mut all, self.bits.get(kind.bits as usize..).unwrap_or_default());
            }
        }
        for value in self.lists.get(state.changed.range()).unwrap_or_default() {
            join(&mut all, self.values.scan(needles, cell.side, *value));
        }
        let first = narrow(self.bits.len());
        self.bits.extend_from_slice(&all);
        if let Some(state) = self.cells.get_mut(index as usize) {
            state.bits = first;
        }
        first
    }

    /// Scans the values of a base cell, each into the bits of its kind.
    fn kind_bits(&mut self, needles: &Needles, side: Side, state: CellState) {
        let words = needles.words();
        for kind in self.kinds.get_mut(state.kinds.range()).unwrap_or_default() {
            let first = self.bits.len();
            kind.bits = narrow(first);
            self.bits.resize(first + words, 0);
            let Some(bits) = self.bits.get_mut(first..) else { continue };
            for value in self.lists.get(kind.values.range()).unwrap_or_default() {
                join(bits, self.values.scan(needles, side, *value));
            }
        }
    }

    /// Whether one value holds a literal of this bit.
    fn value_has(&mut self, plan: &Plan, side: Side, value: ValueId, bit: u32) -> bool {
        plan.needles.get(side as usize).is_none_or(|needles| has(self.values.scan(needles, side, value), bit))
    }
}

/// The place of the kind with these classes behind `first`.
fn kind(kinds: &mut Vec<Kind>, first: usize, classes: Classes) -> u8 {
    let known = kinds.get(first..).unwrap_or_default();
    let place = match known.iter().position(|kind| kind.classes == classes) {
        Some(place) => place,
        None if known.len() < KINDS_MAX => {
            kinds.push(Kind { classes, values: List::EMPTY, bits: NONE });
            kinds.len() - 1 - first
        }
        None => {
            // The last one is of all that found no place.
            if let Some(last) = kinds.last_mut() {
                last.classes |= classes;
            }
            KINDS_MAX - 1
        }
    };
    u8::try_from(place).unwrap_or(u8::MAX)
}

fn join(all: &mut [u64], one: &[u64]) {
    for (all, one) in all.iter_mut().zip(one) {
        *all |= one;
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(NONE)
}
