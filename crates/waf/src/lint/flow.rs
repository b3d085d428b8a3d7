//! Rules that never run, and markers that nobody skips to.

use super::{note, warning};
use crate::{
    action::{Act, Ctl},
    rule::{Disruptive, Flow, Phase, Rule},
    ruleset::{Entry, Note, RuleSet},
};
use std::collections::HashSet;

pub(super) fn look(set: &RuleSet, notes: &mut Vec<Note>) {
    for phase in Phase::ALL {
        behind_certain_ends(set, phase, notes);
    }
    let wanted: HashSet<&str> = set
        .rules
        .iter()
        .filter_map(|rule| match &rule.flow {
            Flow::SkipAfter(name) => Some(name.as_str()),
            Flow::Next | Flow::Skip(_) => None,
        })
        .collect();
    for (name, place) in set.markers.iter().filter(|(name, _)| !wanted.contains(name.as_str())) {
        notes.push(note(place, format!("no rule skips to marker \"{name}\"")));
    }
}

/// Rules that stand behind one that always matches and leads past them.
fn behind_certain_ends(set: &RuleSet, phase: Phase, notes: &mut Vec<Note>) {
    let Some(entries) = set.phases.get(phase.index()) else { return };
    let mut position = 0;
    while let Some(entry) = entries.get(position) {
        position += 1;
        let Some(rule) = set.rules.get(entry.rule as usize) else { continue };
        if !always_matches(rule) || may_be_removed(set, entry.rule) {
            continue;
        }
        // In detection mode a deny goes on; what it would hide is then seen.
        let (end, how) = match rule.disruptive {
            Disruptive::Deny | Disruptive::Drop | Disruptive::Redirect(_) if phase != Phase::Logging => {
                (entries.len(), "refuses")
            }
            Disruptive::Allow(_) => (entries.len(), "allows"),
            _ => (entry.next as usize, "skips"),
        };
        let end = end.min(landing_within(entries, position, end));
        let Some(hidden) = entries.get(position..end).filter(|hidden| !hidden.is_empty()) else { continue };
        let first = hidden.first().and_then(|entry| set.rules.get(entry.rule as usize));
        if let Some(first) = first {
            let further = match hidden.len() - 1 {
                0 => String::new(),
                further => format!(", nor the next {further} behind it"),
            };
            let message = format!(
                "rule {} never runs{further}: rule {} at {} always matches and {how}",
                first.id, rule.id, rule.place
            );
            notes.push(warning(&first.place, message));
        }
        position = end;
    }
}

/// Where a rule before `from` may lead into `from..end`; `end` where none does.
fn landing_within(entries: &[Entry], from: usize, end: usize) -> usize {
    let before = entries.get(..from.saturating_sub(1)).unwrap_or_default();
    let landings = before.iter().map(|entry| entry.next as usize);
    landings.filter(|next| (from..end).contains(next)).min().unwrap_or(end)
}

pub(super) fn always_matches(rule: &Rule) -> bool {
    rule.links.iter().all(|link| link.test.is_none())
}

/// Whether a `ctl` may take the rule out of a transaction.
pub(super) fn may_be_removed(set: &RuleSet, rule: u32) -> bool {
    set.rules.iter().flat_map(|rule| &rule.links).flat_map(|link| &link.acts).any(|act| match act {
        Act::Ctl(Ctl::RemoveRules(meant) | Ctl::RemoveTarget(meant, _)) => {
            meant.rules.binary_search(&rule).is_ok()
        }
        Act::Ctl(Ctl::RuleEngine(_)) => true,
        _ => false,
    })
}
