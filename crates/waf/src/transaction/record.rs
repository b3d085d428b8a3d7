//! What is kept of a match for the log.

use super::{Match, state::State, tx::parse_number};
use crate::{
    action::Change,
    rule::{Disruptive, Phase, Rule},
    ruleset::RuleSet,
    score::{Raise, Side},
    template::Template,
};

/// Most matches that are kept of one rule in one transaction; further ones are counted.
pub(crate) const MATCHES_PER_RULE_MAX: u32 = 8;
/// Longest message, logdata or variable name that is kept, bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 4_096;

/// Keeps a match of a rule that asks to be logged.
pub(super) fn record(state: &mut State, set: &RuleSet, rule: &Rule) {
    if !rule.log && !rule.audit {
        return;
    }
    let index = state.rule;
    let count = state.matches_of.entry(index).or_default();
    *count += 1;
    if *count > MATCHES_PER_RULE_MAX {
        state.matches_further += 1;
        return;
    }
    let metadata = &rule.metadata;
    let text = |template: &Template| {
        let mut text = Vec::new();
        state.expand(set, template, &mut text);
        readable(&text)
    };
    let mut variable = Vec::new();
    state.matched_var.write_name(&set.names, &mut variable);
    let kept = Match {
        rule: rule.id,
        phase: rule.phase as u8,
        message: metadata.message.as_ref().map(text).unwrap_or_default(),
        log_data: metadata.log_data.as_ref().map(text).unwrap_or_default(),
        severity: metadata.severity,
        tags: metadata.tags.iter().map(|(_, tag)| text(tag)).collect(),
        variable: readable(&variable),
        log: rule.log,
        audit: rule.audit && state.audit,
        disruptive: !matches!(rule.disruptive, Disruptive::Pass | Disruptive::Allow(_)),
        raises: raises(state, set, rule),
        judges: set.scores.judged_by(rule),
        settles: set.scores.judged_by(rule).is_some_and(|side| settles(set, rule, side)),
        does_more: set.scores.does_more(rule, &set.names),
        is_chain: rule.links.len() > 1,
    };
    state.matches.push(kept);
}

/// What a match of the rule added to the anomaly scores.
fn raises(state: &State, set: &RuleSet, rule: &Rule) -> Vec<Raise> {
    let amount = |change: &Change| match change {
        Change::AddNumber(number) => *number,
        Change::Add(template) => {
            let mut text = Vec::new();
            state.expand(set, template, &mut text);
            parse_number(&text)
        }
        Change::SetNumber(_) | Change::Set(_) | Change::Subtract(_) | Change::Unset => 0,
    };
    let raised = set.scores.raised_by(rule).map(|(side, level, change)| (side, level, amount(change)));
    let amounts = raised.filter_map(|(side, level, amount)| Some((side, level, u32::try_from(amount).ok()?)));
    amounts
        .filter(|(_, _, amount)| *amount > 0)
        .map(|(side, level, amount)| Raise { side, level, amount })
        .collect()
}

/// Whether nothing behind the rule could stop that side or add to its score.
fn settles(set: &RuleSet, judge: &Rule, side: Side) -> bool {
    let last = match side {
        Side::Inbound => Phase::RequestBody,
        Side::Outbound => Phase::ResponseBody,
    };
    let entries = set.phases.get(judge.phase.index()).map(Vec::as_slice).unwrap_or_default();
    let rules = entries.iter().filter_map(|entry| set.rules.get(entry.rule as usize));
    let harmless = |rule: &Rule| {
        matches!(rule.disruptive, Disruptive::Pass | Disruptive::Allow(_))
            && set.scores.raised_by(rule).next().is_none()
    };
    judge.phase == last && rules.skip_while(|rule| rule.id != judge.id).skip(1).all(harmless)
}

fn readable(bytes: &[u8]) -> String {
    let bytes = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

/// What stands in place of a masked text.
const MASK: &str = "********";

/// Masks in the kept matches what the rules asked to mask; all that was logged of values
/// where there is more to mask than is kept.
pub(super) fn mask(matches: &mut [Match], secrets: &[Vec<u8>], further: bool) {
    if further {
        for kept in matches.iter_mut() {
            kept.message = MASK.to_owned();
            kept.log_data = MASK.to_owned();
        }
        return;
    }
    for secret in secrets {
        let secret = String::from_utf8_lossy(secret);
        for kept in matches.iter_mut() {
            for text in [&mut kept.message, &mut kept.log_data] {
                if text.contains(secret.as_ref()) {
                    *text = text.replace(secret.as_ref(), MASK);
                } else if let Some(at) = cut_within(text, &secret) {
                    text.truncate(at);
                    text.push_str(MASK);
                }
            }
        }
    }
}

/// Where a secret begins of which a text holds no more, because it was cut there.
fn cut_within(text: &str, secret: &str) -> Option<usize> {
    let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let is_cut = text.len() >= TEXT_BYTES_MAX;
    let mut starts = whole.char_indices().map(|(at, _)| at).filter(|_| is_cut);
    starts.find(|at| whole.get(*at..).is_some_and(|rest| secret.starts_with(rest)))
}
