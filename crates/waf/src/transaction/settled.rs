//! Rules that compare a variable which no rule changes once the opening is over: what they come
//! to is known at load, and so is what they skip. The Core Rule Set asks for its paranoia level
//! before and behind each block of rules in that way.

use super::{state::State, tx::Value};
use crate::{
    action::{Act, SetName, SetVar},
    bits,
    plan::{Gate, Quick},
    rule::{CAPTURES, Phase},
    ruleset::{Entry, RuleSet},
    template::{Part, Template},
    variable::Variable,
};

/// What is left to look at once the opening is over.
///
/// INVARIANT: nothing that runs behind the opening changes a variable by which a rule is left out;
/// where an action takes out such a rule itself, all rules of the phase are run again.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// A bit for each rule whose outcome is known.
    rules: Vec<u64>,
    courses: [Course; 5],
}

/// A phase without the rules whose outcome is known and those that they skip.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// A bit for each rule that is left.
    pub(super) rules: Vec<u64>,
    /// For each position, and the end, the last jump on the way there: its position and one.
    jumps: Vec<u32>,
    /// Of the rules that are left.
    pub(super) gate: Gate,
}

impl Course {
    /// The jump that was passed last between a position and a later one.
    pub(super) fn jump(&self, from: usize, to: usize) -> Option<usize> {
        let last = self.jumps.get(to).or(self.jumps.last())?;
        (*last as usize).checked_sub(1).filter(|jump| *jump >= from)
    }
}

impl Settled {
    /// Of a rule set whose opening is known.
    pub(crate) fn new(set: &RuleSet) -> Self {
        let holds = holds(set);
        if holds.is_empty() || set.plain {
            return Self::default();
        }
        let mut rules = vec![0_u64; set.rules.len().div_ceil(64)];
        let courses = Phase::ALL.map(|phase| {
            let entries = set.phases.get(phase.index()).map_or(&[][..], Vec::as_slice);
            let first = if phase == Phase::RequestHeaders { set.opening.end() } else { 0 };
            let outcome = |entry: &Entry| {
                let rule = entry.rule as usize;
                let changed = set.laid.excludes_of(rule) || set.laid.removes(rule);
                let outcome = outcome(&holds, entry.quick).filter(|_| !changed)?;
                bits::put(&mut rules, rule);
                Some(outcome)
            };
            course(set, entries, first, outcome)
        });
        Self { rules, courses }
    }

    /// What is left of a phase.
    fn course(&self, phase: Phase) -> Option<&Course> {
        self.courses.get(phase.index()).filter(|course| !course.rules.is_empty())
    }
}

/// The variables that rules compare and that no rule changes behind the opening, with what they
/// hold from there on.
fn holds(set: &RuleSet) -> Vec<(u16, Value)> {
    let compared = set.phases.iter().flatten().filter_map(|entry| match entry.quick {
        Quick::Slot { slot, .. } if slot >= CAPTURES => Some(slot),
        _ => None,
    });
    let mut slots: Vec<u16> = compared.collect();
    slots.sort_unstable();
    slots.dedup();
    let changes = |change: &SetVar, slot: u16| match &change.name {
        SetName::Slot(changed) => *changed == slot,
        SetName::Text(name) => change.collection == Variable::Tx && may_name(name, set.names.name(slot)),
    };
    let in_opening = set.phases.first().map_or(&[][..], Vec::as_slice);
    let in_opening: Vec<u32> =
        set.opening.positions().filter_map(|at| Some(in_opening.get(at)?.rule)).collect();
    for (index, rule) in (0..).zip(set.rules.iter()) {
        let acts = rule.links.iter().flat_map(|link| &link.acts);
        for act in acts.filter(|_| !in_opening.contains(&index)) {
            if let Act::SetVar(change) = act {
                slots.retain(|slot| !changes(change, *slot));
            }
        }
    }
    slots.into_iter().map(|slot| (slot, set.opening.leaves(set, slot))).collect()
}

/// Whether a name with macros may be expanded to this one.
fn may_name(template: &Template, name: &str) -> bool {
    let begins =
        |text: &[u8]| name.as_bytes().get(..text.len()).is_some_and(|it| it.eq_ignore_ascii_case(text));
    match template.parts.as_slice() {
        [Part::Literal(text)] => text.eq_ignore_ascii_case(name.as_bytes()),
        [Part::Literal(text), ..] => begins(text),
        _ => true,
    }
}

/// Whether a rule matches, where it compares one of these variables.
fn outcome(holds: &[(u16, Value)], quick: Quick) -> Option<bool> {
    let Quick::Slot { slot, .. } = quick else { return None };
    let (_, value) = holds.iter().find(|(known, _)| *known == slot)?;
    quick.compares(value)
}

/// What is left of a phase from `first` on.
fn course(
    set: &RuleSet,
    entries: &[Entry],
    first: usize,
    mut outcome: impl FnMut(&Entry) -> Option<bool>,
) -> Course {
    let mut rules = vec![0_u64; entries.len().div_ceil(64)];
    let mut jumps = vec![0_u32; first.min(entries.len())];
    let (mut position, mut last) = (first, 0);
    // Where rules that are left may jump to.
    let mut landings: Vec<usize> = Vec::new();
    while let Some(entry) = entries.get(position) {
        let next = entry.next as usize;
        let lands_within = || landings.iter().any(|at| (position + 1..next).contains(at));
        let after = match outcome(entry) {
            Some(false) => position + 1,
            Some(true) if entry.jumps && !lands_within() => {
                jumps.resize(position + 1, last);
                last = u32::try_from(position + 1).unwrap_or(u32::MAX);
                next.max(position + 1)
            }
            _ => {
                bits::put(&mut rules, position);
                landings.push(next);
                position + 1
            }
        };
        jumps.resize(after.min(entries.len()), last);
        position = after;
    }
    jumps.resize(entries.len() + 1, last);
    let left = |(at, entry): (usize, &Entry)| if bits::has(&rules, at) { entry.quick } else { Quick::Look };
    let quick = entries.iter().enumerate().map(left);
    let gate = Gate::new(&set.plan.groups, quick);
    Course { rules, jumps, gate }
}

impl State {
    /// Takes the shorter way through the rest of the phase, where the opening is over.
    pub(super) fn take_course(&mut self, set: &RuleSet, phase: Phase) {
        let course = set.settled.course(phase).filter(|_| set.opening.is_over(self.opened));
        let course = course.filter(|_| !self.hinders(&set.settled));
        self.on_course = course.is_some();
        if let Some(course) = course {
            self.candidates.limit(&course.rules);
        }
    }

    /// Goes back to all rules of the phase where one of those that are left out is taken out, or
    /// no longer looks at something.
    pub(super) fn keep_course(&mut self, set: &RuleSet) {
        if let Some(phase) = self.phase.filter(|_| self.on_course && self.hinders(&set.settled)) {
            self.on_course = false;
            let rules = set.phases.get(phase.index()).map_or(0, Vec::len);
            self.candidates.begin(rules, set.plan.groups.len());
        }
    }

    /// Whether an action of a rule has changed one whose outcome would be known.
    fn hinders(&self, settled: &Settled) -> bool {
        let meets = |marks: &[u64]| marks.iter().zip(&settled.rules).any(|(marks, rules)| marks & rules != 0);
        meets(&self.touched) || meets(&self.removed)
    }

    /// The course that the phase takes.
    pub(super) fn course<'s>(&self, set: &'s RuleSet, phase: Phase) -> Option<&'s Course> {
        set.settled.course(phase).filter(|_| self.on_course)
    }
}
