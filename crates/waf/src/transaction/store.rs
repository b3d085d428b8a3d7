//! The fixed variables of a transaction: names and values as the data brought them.

use super::values::{Span, ValueId, Values};
use crate::{
    classes::Classes,
    plan::{Filter, Group, Plan, Side, has},
    target::Selector,
    variable::{COUNT, Variable},
};

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

#[derive(Debug, Clone, Copy, Default)]
struct GroupState {
    /// Collected from the data of this generation; 0 is never.
    generation: u32,
    first: u32,
    end: u32,
    /// Scanned in this generation.
    scanned: u32,
    bits: u32,
    /// The classes of all its values.
    classes: Classes,
    /// The group whose scan it shares, as it sees the same.
    owner: u32,
}

/// All fixed variables, and what groups of rules see of them.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) values: Values,
    members: Vec<Vec<Member>>,
    groups: Vec<GroupState>,
    seen: Vec<Seen>,
    bits: Vec<u64>,
    generation: u32,
}

impl Store {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut members = Vec::new();
        members.resize_with(COUNT, Vec::new);
        Self {
            values: Values::default(),
            members,
            groups: vec![GroupState::default(); plan.groups.len()],
            seen: Vec::new(),
            bits: Vec::new(),
            generation: 1,
        }
    }

    /// The data changed: what groups saw is stale.
    pub(crate) fn changed(&mut self) {
        self.generation += 1;
        self.seen.clear();
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
    pub(crate) fn group(&mut self, plan: &Plan, index: u32) -> std::ops::Range<usize> {
        let Some(state) = self.groups.get(index as usize).copied() else { return 0..0 };
        if state.generation == self.generation {
            return state.first as usize..state.end as usize;
        }
        let Some(group) = plan.groups.get(index as usize) else { return 0..0 };
        if group.base != index {
            let range = self.group(plan, group.base);
            let base = self.groups.get(group.base as usize).copied().unwrap_or_default();
            if base.classes & group.may_change == 0 {
                if let Some(state) = self.groups.get_mut(index as usize) {
                    *state = base;
                }
                return range;
            }
        }
        let first = self.seen.len();
        let classes = self.collect(plan, group);
        let end = self.seen.len();
        if let Some(state) = self.groups.get_mut(index as usize) {
            let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
            (state.generation, state.first, state.end) = (self.generation, narrow(first), narrow(end));
            (state.classes, state.owner) = (classes, index);
        }
        first..end
    }

    fn collect(&mut self, plan: &Plan, group: &Group) -> Classes {
        let mut classes = 0;
        for target in &group.targets {
            for part in target.variable.parts() {
                let Some(members) = self.members.get(*part as usize) else { continue };
                for member in members {
                    if !target.selector.is_all() && !target.selector.takes(self.values.get(member.name)) {
                        continue;
                    }
                    let value = self.values.transformed(&plan.chains, member.value, group.chain);
                    classes |= self.values.classes(value);
                    self.seen.push(Seen {
                        variable: target.variable,
                        name: member.name,
                        raw: member.value,
                        value,
                    });
                }
            }
        }
        classes
    }

    pub(crate) fn seen(&self, at: usize) -> Option<Seen> {
        self.seen.get(at).copied()
    }

    /// Whether any value of a group may pass a filter.
    pub(crate) fn group_passes(&mut self, plan: &Plan, index: u32, filter: Filter) -> bool {
        if filter.needs != 0 {
            self.group(plan, index);
            if self.groups.get(index as usize).is_some_and(|state| state.classes & filter.needs == 0) {
                return false;
            }
        }
        filter.needle.is_none_or(|needle| self.group_has(plan, index, needle))
    }

    /// Whether a value may pass a filter.
    pub(crate) fn passes(&mut self, plan: &Plan, side: Side, value: ValueId, filter: Filter) -> bool {
        (filter.needs == 0 || self.values.classes(value) & filter.needs != 0)
            && filter.needle.is_none_or(|needle| self.value_has(plan, side, value, needle))
    }

    /// Whether any value of a group holds a literal of this bit.
    fn group_has(&mut self, plan: &Plan, index: u32, bit: u32) -> bool {
        let range = self.group(plan, index);
        let index = self.groups.get(index as usize).map_or(index, |state| state.owner);
        let Some(state) = self.groups.get(index as usize).copied() else { return true };
        let side = plan.groups.get(index as usize).map_or(Side::Request, |group| group.side);
        let Some(needles) = plan.needles.get(side as usize) else { return true };
        let first = match state.scanned == self.generation {
            true => state.bits as usize,
            false => {
                let first = self.bits.len();
                self.bits.resize(first + needles.words(), 0);
                for at in range {
                    let Some(seen) = self.seen.get(at) else { continue };
                    let Some(bits) = self.bits.get_mut(first..) else { continue };
                    self.values.scan_into(needles, side, seen.value, bits);
                }
                if let Some(state) = self.groups.get_mut(index as usize) {
                    (state.scanned, state.bits) = (self.generation, u32::try_from(first).unwrap_or(u32::MAX));
                }
                first
            }
        };
        self.bits.get(first..).is_none_or(|bits| has(bits, bit))
    }

    /// Whether one value holds a literal of this bit.
    fn value_has(&mut self, plan: &Plan, side: Side, value: ValueId, bit: u32) -> bool {
        plan.needles.get(side as usize).is_none_or(|needles| has(self.values.scan(needles, side, value), bit))
    }
}
