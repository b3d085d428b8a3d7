//! Rules that can never match.

use super::{bytes::Bytes, note, warning};
use crate::{
    action::{Act, Ctl},
    rule::{Link, Phase, Rule, Test},
    ruleset::{Note, RuleSet},
    target::Target,
    variable::Variable,
};

pub(super) fn look(set: &RuleSet, notes: &mut Vec<Note>) {
    for rule in set.rules.iter() {
        if let Some(why) = rule.links.iter().find_map(|link| never(rule, link)) {
            notes.push(warning(&rule.place, format!("rule {} can never match: {why}", rule.id)));
        }
    }
    unread(set, notes, Variable::RequestBody);
    unread(set, notes, Variable::ResponseBody);
    half_seen(set, notes);
    idle_controls(set, notes);
}

/// Why a link never matches, where that can be proved.
fn never(rule: &Rule, link: &Link) -> Option<String> {
    let test = link.test.as_ref()?;
    let looked_at: Vec<&Target> = link.targets.iter().filter(|target| !is_excluded(target, link)).collect();
    if looked_at.is_empty() {
        return Some("everything that it looks at is excluded".to_owned());
    }
    if let Some(first) = looked_at.first()
        && looked_at.iter().all(|target| !target.count && available(target.variable) > rule.phase)
    {
        let (name, phase) = (first.variable.name(), available(first.variable) as u8);
        let here = rule.phase as u8;
        return Some(format!("{name} is empty before phase {phase}, and the rule runs in phase {here}"));
    }
    operator(link, test, &looked_at)
}

fn operator(link: &Link, test: &Test, looked_at: &[&Target]) -> Option<String> {
    if test.operator.always() == Some(test.negated) {
        return Some("its operator matches nothing".to_owned());
    }
    if test.argument.is_some() || test.negated {
        return None;
    }
    if let Some((order, number)) = test.operator.order()
        && looked_at.iter().all(|target| target.count)
        // The least and the largest number that there can be, and the number itself.
        && ![0, i64::MAX, number.max(0), number.saturating_add(1).max(0)]
            .iter()
            .any(|count| order.evaluate(*count, number))
    {
        return Some("a number of values is never below 0".to_owned());
    }
    if link.multi_match || looked_at.iter().any(|target| target.count) {
        return None;
    }
    let can = Bytes::after(&link.transformations);
    if test.operator.can_match(&|byte| can.holds(byte)) {
        return None;
    }
    let names: Vec<String> =
        link.transformations.iter().map(|transformation| format!("t:{}", transformation.name())).collect();
    Some(format!("its operator asks for bytes that {} never leaves", names.join(",")))
}

fn is_excluded(target: &Target, link: &Link) -> bool {
    link.exclusions.iter().any(|exclusion| exclusion.takes_all_of(target))
}

/// The first phase in which a variable can have a value.
fn available(variable: Variable) -> Phase {
    use Variable as V;
    match variable {
        _ if variable.waits_for_request_body() => Phase::RequestBody,
        V::ResponseContentLength
        | V::ResponseContentType
        | V::ResponseHeaders
        | V::ResponseHeadersNames
        | V::ResponseProtocol
        | V::ResponseStatus
        | V::StatusLine => Phase::ResponseHeaders,
        V::OutboundDataError | V::ResponseBody => Phase::ResponseBody,
        _ => Phase::RequestHeaders,
    }
}

/// The directive that has a body not read, where none of the rules has it read.
fn off(set: &RuleSet, body: Variable) -> Option<&'static str> {
    let (is_read, directive) = match body {
        Variable::ResponseBody => (set.settings.response_body_access, "SecResponseBodyAccess"),
        _ => (set.settings.request_body_access, "SecRequestBodyAccess"),
    };
    let turned_on = set.rules.iter().flat_map(|rule| &rule.links).flat_map(|link| &link.acts).any(|act| {
        matches!(
            (act, body),
            (Act::Ctl(Ctl::ResponseBodyAccess(true)), Variable::ResponseBody)
                | (Act::Ctl(Ctl::RequestBodyAccess(true)), Variable::RequestBody)
        )
    });
    (!is_read && !turned_on).then_some(directive)
}

/// Rules over a body that is never read: one note for all of them.
fn unread(set: &RuleSet, notes: &mut Vec<Note>, body: Variable) {
    let Some(directive) = off(set, body) else { return };
    let looks = |link: &Link| {
        link.test.is_some()
            && !link.targets.is_empty()
            && link.targets.iter().all(|target| target.variable == body && !target.count)
    };
    let mut blind = set.rules.iter().filter(|rule| rule.links.iter().any(looks));
    if let Some(first) = blind.next() {
        let (rules, name) = (1 + blind.count(), body.name());
        let rules = if rules == 1 { "1 rule looks".to_owned() } else { format!("{rules} rules look") };
        let message = format!(
            "{rules} at {name} and never match{}: {directive} is Off",
            if rules.starts_with("1 ") { "es" } else { "" }
        );
        notes.push(note(&first.place, message));
    }
}

/// Rules that look at what requests say, and see nothing of what their bodies say: one note for
/// all of them.
fn half_seen(set: &RuleSet, notes: &mut Vec<Note>) {
    let Some(directive) = off(set, Variable::RequestBody) else { return };
    let of_bodies = |target: &&Target| target.variable.parts().iter().any(|part| part.is_of_request_body());
    let mut found = set.rules.iter().filter(|rule| rule.phase >= Phase::RequestBody).filter_map(|rule| {
        let mut targets = rule.links.iter().flat_map(|link| &link.targets);
        targets.find(of_bodies).filter(|target| target.variable != Variable::RequestBody).map(|it| (rule, it))
    });
    if let Some((first, target)) = found.next() {
        let (rules, name) = (1 + found.count(), target.variable.name());
        let (rules, see) = match rules {
            1 => ("1 rule looks".to_owned(), "sees"),
            rules => (format!("{rules} rules look"), "see"),
        };
        let message =
            format!("{rules} at {name} and its kin and {see} nothing of bodies: {directive} is Off");
        notes.push(note(&first.place, message));
    }
}

/// `ctl`s that mean no rule.
fn idle_controls(set: &RuleSet, notes: &mut Vec<Note>) {
    for rule in set.rules.iter() {
        let idle = rule.links.iter().flat_map(|link| &link.acts).any(|act| {
            matches!(act, Act::Ctl(Ctl::RemoveRules(meant) | Ctl::RemoveTarget(meant, _)) if meant.rules.is_empty())
        });
        if idle {
            let message = format!("rule {}: a ctl:ruleRemove… of it means no rule that is loaded", rule.id);
            notes.push(note(&rule.place, message));
        }
    }
}
