//! Rules whose condition stands in an earlier rule that ends the matter.

use super::{flow, warning};
use crate::{
    rule::{Disruptive, Phase, Rule, Test},
    ruleset::{Entry, Note, RuleSet},
};
use std::collections::HashMap;

pub(super) fn look(set: &RuleSet, notes: &mut Vec<Note>) {
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Logging) {
        let Some(entries) = set.phases.get(phase.index()) else { continue };
        // Rules that end the phase when they match, by the group of what they look at.
        let mut enders: HashMap<u32, Vec<usize>> = HashMap::new();
        for (position, entry) in entries.iter().enumerate() {
            let Some(rule) = set.rules.get(entry.rule as usize) else { continue };
            let Some((group, test)) = condition(set, entry, rule) else { continue };
            let known = enders.entry(group).or_default();
            let shadow = known.iter().find(|earlier| shadows(set, entries, **earlier, position, test));
            if let Some(earlier) = shadow.and_then(|at| entries.get(*at)) {
                if let Some(earlier) = set.rules.get(earlier.rule as usize) {
                    let message = format!(
                        "rule {} never matches while rules block: rule {} at {} refuses all of it before",
                        rule.id, earlier.id, earlier.place
                    );
                    notes.push(warning(&rule.place, message));
                }
                continue;
            }
            if ends(rule) && !flow::may_be_removed(set, entry.rule) {
                known.push(position);
            }
        }
    }
}

/// What a rule of one condition looks at, when all of it is fixed, and how.
fn condition<'r>(set: &RuleSet, entry: &Entry, rule: &'r Rule) -> Option<(u32, &'r Test)> {
    let [link] = rule.links.as_slice() else { return None };
    let test = link.test.as_ref().filter(|test| test.argument.is_none())?;
    let group = set.plan.link_plan(entry.rule as usize, 0)?.group?;
    (!link.multi_match).then_some((group, test))
}

/// Whether a match of the rule ends the phase, wherever it looks.
fn ends(rule: &Rule) -> bool {
    matches!(rule.disruptive, Disruptive::Deny | Disruptive::Drop | Disruptive::Redirect(_))
        && rule.links.iter().all(|link| link.exclusions.is_empty())
}

/// Whether the rule at `earlier` has ended the phase whenever the test at `later` matches.
fn shadows(set: &RuleSet, entries: &[Entry], earlier: usize, later: usize, test: &Test) -> bool {
    let before = entries.get(earlier).and_then(|entry| set.rules.get(entry.rule as usize));
    let before = before.and_then(|rule| rule.links.first()).and_then(|link| link.test.as_ref());
    let covers = before.is_some_and(|before| match (before.negated, test.negated) {
        (false, false) => before.operator.covers(&test.operator),
        (true, true) => test.operator.covers(&before.operator),
        _ => false,
    });
    // Nobody skips the earlier rule and not the later.
    covers
        && entries
            .get(..earlier)
            .unwrap_or_default()
            .iter()
            .all(|entry| !(earlier + 1..=later).contains(&(entry.next as usize)))
}
