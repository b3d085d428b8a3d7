//! Rules against a transaction: a phase, a rule, a link, a value.

use super::{
    Watch,
    cause::Cause,
    record,
    state::{Ended, State},
    store::Seen,
    tx::Value,
};
use crate::{
    plan::{Apart, Family, LinkPlan, Quick, Side, View, holds},
    rule::{AllowScope, Disruptive, Link, Phase, Rule, Test},
    ruleset::RuleSet,
    settings::EngineMode,
    target::{Exclusion, Selector, Target},
    variable::{Stability, Variable},
};
use smallvec::SmallVec;
use std::borrow::Cow;

/// A rule's link, where it stands, and the targets that a `ctl` or an overlay took from it.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) set: &'a RuleSet,
    pub(super) rule: &'a Rule,
    pub(super) index: usize,
    pub(super) link: &'a Link,
    pub(super) number: usize,
    pub(super) removed: &'a [&'a Exclusion],
}

impl Here<'_> {
    fn is_last(&self) -> bool {
        self.number + 1 == self.rule.links.len()
    }

    fn excludes(&self, variable: Variable, name: &[u8], slot: Option<u16>) -> bool {
        let link = self.link.exclusions.iter();
        link.chain(self.removed.iter().copied()).any(|exclusion| exclusion.takes(variable, name, slot))
    }

    fn has_exclusions(&self) -> bool {
        !self.link.exclusions.is_empty() || !self.removed.is_empty()
    }
}

/// Where a value comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) variable: Variable,
    pub(super) name: &'a [u8],
    pub(super) count: bool,
}

impl State {
    /// Runs the phase at hand from where it stands; whether it came to its end.
    pub(super) fn run(&mut self, set: &RuleSet, watch: &mut impl Watch) -> bool {
        let Some(phase) = self.phase else { return true };
        let Some(entries) = set.phases.get(phase.index()) else { return true };
        loop {
            // INVARIANT: values that found no place are never taken for harmless ones, also
            // where every rule that asked for them was passed over.
            if self.store.values.overflow && self.ended == Ended::No {
                self.intervene_internal(Cause::ValuesTooMany);
                return true;
            }
            let position = self.candidates.next(self.position);
            if self.work_left == 0 && position < entries.len() {
                return false;
            }
            if let Some(jump) =
                self.course(set, phase).and_then(|course| course.jump(self.position, position))
            {
                self.remember_jump(set, entries, jump);
            }
            let Some(entry) = entries.get(position) else { return true };
            self.spend(1);
            self.position = position + 1;
            if phase == Phase::RequestHeaders
                && let Some(block) = set.opening.at(self.opened, position)
            {
                self.open(set, block);
                continue;
            }
            let index = entry.rule as usize;
            if self.is_removed(index) {
                continue;
            }
            watch.begin(index);
            let looks = self.may_match(set, phase, position, entry.quick);
            if let Quick::Slot { slot, count, .. } = entry.quick
                && looks
                && entry.jumps
                && !set.plain
                && !self.is_touched(index)
                && !set.laid.excludes_of(index)
            {
                self.remember_slot(set, index, slot, count);
                watch.end(true);
                self.position = entry.next as usize;
                continue;
            }
            let rule = looks.then(|| set.rules.get(index)).flatten();
            let matched = rule.is_some_and(|rule| self.rule(set, index, rule));
            watch.end(matched);
            if rule.is_none() {
                continue;
            }
            if matched {
                self.position = entry.next as usize;
            }
            if self.ended_phase(phase) {
                return true;
            }
        }
    }

    /// Whether a rule may match, as far as can be told without looking at it.
    fn may_match(&mut self, set: &RuleSet, phase: Phase, position: usize, quick: Quick) -> bool {
        match quick {
            Quick::Look => true,
            _ if set.plain => true,
            Quick::Group(group, _) => {
                if self.candidates.asks(group as usize) {
                    self.ask(set, phase, group);
                }
                self.candidates.has(position)
            }
            Quick::Slot { slot, .. } => quick.compares(self.tx.slot(slot)).unwrap_or(true),
        }
    }

    /// Takes out every rule of the phase that looks at a group and cannot match it; those of all
    /// groups of its base too, where no chain of theirs changes what it holds.
    fn ask(&mut self, set: &RuleSet, phase: Phase, group: u32) {
        let whole = set.gates.get(phase.index());
        let gate = self.course(set, phase).map(|course| &course.gate).or(whole);
        let (Some(gate), plan) = (gate, &set.plan) else { return };
        let before = self.store.values.bytes_read();
        let base = plan.groups.get(group as usize).map_or(group, |group| group.base);
        let classes = self.store.group_classes(plan, base);
        let whole = gate.family(base, classes);
        let holds_it = |family: &&Family| holds(&family.groups, group);
        let (group, waiting) = match (whole.filter(holds_it), gate.waiting(group)) {
            (Some(family), _) => {
                self.candidates.asked(&family.groups);
                (base, &family.waiting)
            }
            (None, Some(waiting)) => (group, waiting),
            (None, None) => return,
        };
        let candidates = &mut self.candidates;
        waiting.rules.iter().for_each(|(word, mask)| candidates.drop(*word, *mask));
        let told = |apart: &Vec<Apart>| self.store.holds_apart(plan, base, apart);
        if classes & waiting.before != 0 && waiting.apart.as_ref().is_none_or(told) {
            self.store.ask(plan, group, (gate, waiting), |word, mask| candidates.keep(word, mask));
        }
        self.spend_bytes(self.store.values.bytes_read() - before);
    }

    /// Whether what a rule did ends the phase.
    fn ended_phase(&mut self, phase: Phase) -> bool {
        if self.allow_phase || self.engine == EngineMode::Off {
            return true;
        }
        match &self.ended {
            Ended::No => false,
            Ended::Allowed(_) | Ended::Verdict(_) => phase != Phase::Logging,
        }
    }

    /// Evaluates a rule with its chain; whether all of it matched.
    fn rule(&mut self, set: &RuleSet, index: usize, rule: &Rule) -> bool {
        self.matched_vars.clear();
        for (number, link) in rule.links.iter().enumerate() {
            let mut removed = match self.is_touched(index) {
                true => self.removed_targets(set, index),
                false => Vec::new(),
            };
            if set.laid.excludes_of(index) {
                removed.extend(set.laid.exclusions_of(index));
            }
            let here = Here { set, rule, index, link, number, removed: &removed };
            if !self.link(here) {
                return false;
            }
        }
        true
    }

    fn removed_targets<'a>(&self, set: &'a RuleSet, index: usize) -> Vec<&'a Exclusion> {
        let wanted = u32::try_from(index).unwrap_or(u32::MAX);
        self.removals
            .iter()
            .filter_map(|at| at.find(set))
            .filter(|(selection, _)| selection.rules.binary_search(&wanted).is_ok())
            .map(|(_, exclusion)| exclusion)
            .collect()
    }

    pub(super) fn link(&mut self, here: Here<'_>) -> bool {
        self.argument_holds = false;
        let Some(test) = &here.link.test else {
            let before = std::mem::take(&mut self.scratch);
            self.matched(here, None);
            self.scratch = before;
            return true;
        };
        let plan = here.set.plan.link_plan(here.index, here.number);
        match plan {
            Some(plan @ LinkPlan { group: Some(group), .. }) if !here.set.plain => {
                self.grouped(here, test, group, plan)
            }
            Some(plan) => self.direct(here, test, plan),
            None => false,
        }
    }

    /// All targets are fixed: what they hold is known once for all rules.
    fn grouped(&mut self, here: Here<'_>, test: &Test, group: u32, link: LinkPlan) -> bool {
        let plan = &here.set.plan;
        if !self.store.group_passes(plan, group, link.filter) {
            return false;
        }
        let side = Side::of(here.rule.phase);
        let mut any = false;
        for View { named, cell, variable, .. } in
            plan.groups.get(group as usize).map_or(&[][..], |group| &group.views)
        {
            if self.store.members(*variable).is_empty() {
                continue;
            }
            let set = self.store.cell_set(plan, *cell);
            if !link.multi_match && !self.store.set_passes(plan, side, set, link.filter) {
                continue;
            }
            let Some(look) = self.store.look(plan, *cell, set) else { continue };
            for at in 0..look.length {
                let Some(seen) = self.store.seen(look, at) else { continue };
                if here.has_exclusions() && here.excludes(*named, self.store.values.get(seen.name), None) {
                    continue;
                }
                any |= match link.multi_match {
                    true => self.stages(here, test, *named, seen, link),
                    false => self.seen_value(here, test, *named, seen, link),
                };
                if self.is_stopped() {
                    return any;
                }
            }
        }
        any
    }

    /// With `multiMatch`: the value as it came, and after each transformation that changed it.
    fn stages(
        &mut self,
        here: Here<'_>,
        test: &Test,
        variable: Variable,
        seen: Seen,
        link: LinkPlan,
    ) -> bool {
        let chains = &here.set.plan.chains;
        let mut nodes = SmallVec::<[u16; 8]>::new();
        let mut node = link.chain;
        while node != 0 && self.store.values.may_change(chains, seen.raw, link.chain) {
            nodes.push(node);
            node = chains.get(usize::from(node)).map_or(0, |chain| chain.parent);
        }
        let mut any = self.seen_value(here, test, variable, Seen { value: seen.raw, ..seen }, link);
        let mut before = seen.raw;
        for node in nodes.into_iter().rev() {
            let value = self.store.values.transformed(chains, seen.raw, node);
            if value != before && !self.is_stopped() {
                any |= self.seen_value(here, test, variable, Seen { value, ..seen }, link);
            }
            before = value;
        }
        any
    }

    fn seen_value(
        &mut self,
        here: Here<'_>,
        test: &Test,
        variable: Variable,
        seen: Seen,
        link: LinkPlan,
    ) -> bool {
        let (plan, side) = (&here.set.plan, Side::of(here.rule.phase));
        if !self.store.passes(plan, side, seen.value, link.filter) {
            return false;
        }
        let matches = match link.denied {
            Some(filter) if !self.store.passes(plan, side, seen.value, filter) => {
                self.found.clear();
                true
            }
            _ => {
                self.expand_argument(here, test);
                let expanded = test.argument.is_some().then_some(self.argument.as_slice());
                let bytes = self.store.values.value(seen.value);
                let work = bytes.len();
                let holds = test.operator.evaluate(bytes, expanded, &mut self.found);
                self.spend_bytes(work);
                self.take_work(test);
                self.take_found();
                holds != test.negated
            }
        };
        if matches {
            let (matched, values) = (&mut self.matched_var, &self.store.values);
            let origin = Origin { variable, name: values.get(seen.name), count: false };
            matched.become_of(origin, values.value(seen.value));
            self.matched(here, Some(test));
        }
        matches
    }

    /// Expands the operator's argument, once for all values until one matches: what a match
    /// does may change what the argument says.
    fn expand_argument(&mut self, here: Here<'_>, test: &Test) {
        let Some(template) = test.argument.as_ref().filter(|_| !self.argument_holds) else { return };
        let mut text = std::mem::take(&mut self.argument);
        text.clear();
        match test.operator.expands_expression() {
            true => self.expand_expression(here.set, template, &mut text),
            false => self.expand(here.set, template, &mut text),
        }
        self.argument = text;
        self.argument_holds = true;
    }

    /// Value by value, with nothing shared but (outside of plain mode) transformations.
    fn direct(&mut self, here: Here<'_>, test: &Test, plan: LinkPlan) -> bool {
        let mut any = false;
        for target in &here.link.targets {
            any |= match (target.count, target.variable.stability(), &target.selector) {
                (true, ..) => self.counted(here, test, target),
                (false, Stability::Fixed, _) => self.fixed(here, test, target, plan),
                (false, Stability::Volatile, Selector::Slot(slot)) => self.slot_value(here, test, *slot),
                (false, Stability::Volatile, _) => self.volatile(here, test, target),
            };
            if self.is_stopped() {
                break;
            }
        }
        any
    }

    fn counted(&mut self, here: Here<'_>, test: &Test, target: &Target) -> bool {
        let count = match (target.variable.stability(), &target.selector) {
            (Stability::Fixed, selector) => self.store.select(target.variable, selector).count(),
            (Stability::Volatile, Selector::Slot(slot)) => usize::from(*self.tx.slot(*slot) != Value::Unset),
            (Stability::Volatile, selector) => {
                self.volatile_members(here.set, target.variable, selector).len()
            }
        };
        if let Some((order, number)) = test.operator.order().filter(|_| here.link.transformations.is_empty())
        {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            if order.evaluate(count, number) == test.negated {
                return false;
            }
        }
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        super::tx::write_number(i64::try_from(count).unwrap_or(i64::MAX), &mut text);
        let name = match &target.selector {
            Selector::Slot(slot) => format!(":{}", here.set.names.name(*slot)),
            selector => selector.describe(),
        };
        let origin =
            Origin { variable: target.variable, name: name.trim_start_matches(':').as_bytes(), count: true };
        let matches = self.transformed_value(here, test, origin, &text);
        self.scratch = text;
        matches
    }

    fn slot_value(&mut self, here: Here<'_>, test: &Test, slot: u16) -> bool {
        let name = here.set.names.name(slot).as_bytes();
        if here.has_exclusions() && here.excludes(Variable::Tx, name, Some(slot)) {
            return false;
        }
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        let is_set = self.tx.slot(slot).write(&mut text);
        let origin = Origin { variable: Variable::Tx, name, count: false };
        let matches = is_set && self.transformed_value(here, test, origin, &text);
        self.scratch = text;
        matches
    }

    /// Variables of `TX`, as they are before any of them matches.
    fn tx_values(&mut self, here: Here<'_>, test: &Test, selector: &Selector) -> bool {
        let mut text = std::mem::take(&mut self.listed);
        text.clear();
        let mut ends = SmallVec::<[(Option<u16>, usize, usize); 16]>::new();
        self.each_tx(here.set, selector, |slot, name, value| {
            text.extend_from_slice(name);
            let name_end = text.len();
            value.write(&mut text);
            ends.push((slot, name_end, text.len()));
        });
        let (mut start, mut any) = (0, false);
        for (slot, name_end, end) in ends {
            let name = text.get(start..name_end).unwrap_or_default();
            let value = text.get(name_end..end).unwrap_or_default();
            start = end;
            if here.has_exclusions() && here.excludes(Variable::Tx, name, slot) {
                continue;
            }
            any |= self.transformed_value(
                here,
                test,
                Origin { variable: Variable::Tx, name, count: false },
                value,
            );
            if self.is_stopped() {
                break;
            }
        }
        self.listed = text;
        any
    }

    fn volatile(&mut self, here: Here<'_>, test: &Test, target: &Target) -> bool {
        if target.variable == Variable::Tx {
            return self.tx_values(here, test, &target.selector);
        }
        let mut any = false;
        for (slot, name, value) in self.volatile_members(here.set, target.variable, &target.selector) {
            if here.has_exclusions() && here.excludes(target.variable, &name, slot) {
                continue;
            }
            let origin = Origin { variable: target.variable, name: &name, count: false };
            any |= self.transformed_value(here, test, origin, &value);
            if self.is_stopped() {
                break;
            }
        }
        any
    }

    fn fixed(&mut self, here: Here<'_>, test: &Test, target: &Target, plan: LinkPlan) -> bool {
        let members: Vec<_> = self.store.select(target.variable, &target.selector).collect();
        let mut any = false;
        for member in members {
            let name = self.store.values.get(member.name).to_vec();
            if here.has_exclusions() && here.excludes(target.variable, &name, None) {
                continue;
            }
            let origin = Origin { variable: target.variable, name: &name, count: false };
            if here.set.plain || here.link.multi_match {
                let value = self.store.values.value(member.value).to_vec();
                any |= self.transformed_value(here, test, origin, &value);
            } else {
                let value = self.store.values.transformed(&here.set.plan.chains, member.value, plan.chain);
                let value = self.store.values.value(value).to_vec();
                any |= self.value(here, test, origin, &value);
            }
            if self.is_stopped() {
                break;
            }
        }
        any
    }

    /// Applies the link's transformations here and now.
    fn transformed_value(&mut self, here: Here<'_>, test: &Test, origin: Origin<'_>, raw: &[u8]) -> bool {
        let mut any = false;
        let mut value = Cow::Borrowed(raw);
        if here.link.multi_match {
            any |= self.value(here, test, origin, &value);
        }
        for transformation in &here.link.transformations {
            if here.link.multi_match {
                let after = transformation.apply(Cow::Borrowed(&value)).into_owned();
                let changed = after != *value;
                value = Cow::Owned(after);
                if changed && !self.is_stopped() {
                    any |= self.value(here, test, origin, &value);
                }
            } else {
                value = transformation.apply(value);
            }
        }
        if !here.link.multi_match {
            any |= self.value(here, test, origin, &value);
        }
        any
    }

    fn value(&mut self, here: Here<'_>, test: &Test, origin: Origin<'_>, value: &[u8]) -> bool {
        self.expand_argument(here, test);
        let expanded = test.argument.is_some().then_some(self.argument.as_slice());
        let matches = test.operator.evaluate(value, expanded, &mut self.found) != test.negated;
        self.spend_bytes(value.len());
        self.take_work(test);
        self.take_found();
        if matches {
            self.matched_var.become_of(origin, value);
            self.matched(here, Some(test));
        }
        matches
    }

    /// The value that is kept matched, or a link without a test: captures, what the link does, and
    /// at the end of the chain the record and the verdict.
    fn matched(&mut self, here: Here<'_>, test: Option<&Test>) {
        self.argument_holds = false;
        // Also of a rule that looks at nothing: what it does and logs is its own.
        self.rule = here.index;
        if let Some(test) = test {
            if here.link.capture && !test.negated {
                self.capture();
            }
            self.list_match(here);
        }
        if let Some(severity) = here.rule.metadata.severity.filter(|_| here.is_last()) {
            self.highest_severity = self.highest_severity.min(severity);
        }
        for position in 0..here.link.acts.len() {
            self.act(here, position);
        }
        if here.is_last() {
            record::record(self, here.set, here.rule);
            self.disrupt(here.set, here.rule);
        }
    }

    /// All ten captures are set anew: those of an earlier rule do not shine through.
    fn capture(&mut self) {
        for number in 0..crate::rule::CAPTURES {
            let text = self.found.get(&self.matched_var.value, usize::from(number));
            self.tx.capture(number, text);
        }
    }

    /// What an argument cost that had to be made sense of first.
    #[inline]
    fn take_work(&mut self, test: &Test) {
        if test.argument.is_some() {
            let work = self.found.take_work();
            self.spend(work);
        }
    }

    /// What an operator left besides its answer. One that could not answer is a denial.
    fn take_found(&mut self) {
        if self.found.fault().is_some() {
            self.intervene_internal(Cause::Operator);
        }
        if !self.found.place().is_empty() {
            self.geo = self.found.place().to_vec();
        }
    }

    fn disrupt(&mut self, set: &RuleSet, rule: &Rule) {
        let acts = self.engine == EngineMode::On;
        match &rule.disruptive {
            Disruptive::Pass | Disruptive::Block => {}
            Disruptive::Allow(AllowScope::Phase) => self.allow_phase = true,
            Disruptive::Allow(scope) => {
                if self.ended == Ended::No {
                    self.ended = Ended::Allowed(*scope);
                }
            }
            // Behind the answer there is nothing left to stop.
            _ if self.phase == Some(Phase::Logging) => {}
            disruptive => {
                let verdict = self.verdict(set, rule, disruptive);
                if self.intended.is_none() {
                    self.intended = Some(verdict.clone());
                }
                if acts && self.ended == Ended::No {
                    self.ended = Ended::Verdict(verdict);
                }
            }
        }
    }
}
